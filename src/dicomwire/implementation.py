"""The identity of this implementation in associations and in files, for programs.

`registry.implementation` defines it, without pydicom.
"""

from __future__ import annotations

from pydicom.uid import UID

from dicomwire.registry import implementation as _text
from dicomwire.registry.implementation import (
    IMPLEMENTATION_VERSION_NAME as IMPLEMENTATION_VERSION_NAME,
)
from dicomwire.registry.implementation import UID_PREFIX as UID_PREFIX

IMPLEMENTATION_CLASS_UID = UID(_text.IMPLEMENTATION_CLASS_UID)
