"""dicomwire under the import name of pynetdicom, for programs that were written for that."""

from __future__ import annotations

from dicomwire import (
    UID as UID,
    UID_dictionary as UID_dictionary,
    implementation as _implementation,
)
from pynetdicom import events as evt
from pynetdicom._globals import (
    ALL_TRANSFER_SYNTAXES as ALL_TRANSFER_SYNTAXES,
    DEFAULT_TRANSFER_SYNTAXES as DEFAULT_TRANSFER_SYNTAXES,
)
from pynetdicom._logger import adopt_library, debug_logger as debug_logger
from pynetdicom._other import warn_of_another
from pynetdicom._version import __version__ as __version__
from pynetdicom.ae import ApplicationEntity as _ApplicationEntity
from pynetdicom.association import Association as Association
from pynetdicom.presentation import *
from pynetdicom.sop_class import register_uid as register_uid

# Assigned, since an import under another name exports nothing for checkers of types.
AE = _ApplicationEntity
PYNETDICOM_IMPLEMENTATION_UID = _implementation.IMPLEMENTATION_CLASS_UID
PYNETDICOM_IMPLEMENTATION_VERSION = _implementation.IMPLEMENTATION_VERSION_NAME
PYNETDICOM_UID_PREFIX = _implementation.UID_PREFIX

adopt_library()
warn_of_another()
