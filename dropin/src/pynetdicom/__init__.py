"""dicomwire under the import name of pynetdicom, for programs that were written for that."""

from __future__ import annotations

from dicomwire import *
from dicomwire import UID as UID
from dicomwire import UID_dictionary as UID_dictionary
from dicomwire.implementation import (
    IMPLEMENTATION_CLASS_UID as PYNETDICOM_IMPLEMENTATION_UID,
)
from dicomwire.implementation import (
    IMPLEMENTATION_VERSION_NAME as PYNETDICOM_IMPLEMENTATION_VERSION,
)
from dicomwire.implementation import UID_PREFIX as PYNETDICOM_UID_PREFIX
from pynetdicom import events as evt
from pynetdicom._logger import adopt_library, debug_logger
from pynetdicom._version import __version__
from pynetdicom.ae import ApplicationEntity as AE
from pynetdicom.association import Association
from pynetdicom.presentation import build_context, build_role
from pynetdicom.sop_class import register_uid

adopt_library()
