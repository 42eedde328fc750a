"""The type of UIDs: `pydicom.uid.UID` in programs, `str` in command-line applications.

Importing pydicom takes longer than a C-ECHO. So the library handles UIDs as plain text, and the
modules that programs import call `use_pydicom`. Only this module looks up UIDs in pydicom's
dictionary, and imports pydicom then.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydicom.uid import UID

IMPLICIT_VR_LITTLE_ENDIAN = "1.2.840.10008.1.2"
EXPLICIT_VR_LITTLE_ENDIAN = "1.2.840.10008.1.2.1"
DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN = "1.2.840.10008.1.2.1.99"
EXPLICIT_VR_BIG_ENDIAN = "1.2.840.10008.1.2.2"

UID_LENGTH = 64
"""The most characters a UID may have (PS3.5 Section 9.1)."""

_STANDARD_ROOT = "1.2.840.10008."
_conforms = re.compile(r"(0|[1-9][0-9]*)(\.(0|[1-9][0-9]*))*").fullmatch

made_as: type[str] = str
"""The type of new UIDs. Code that runs for each message saves the call of `quick_uid` and writes
``str.__new__(uids.made_as, text)``."""


def use_pydicom() -> None:
    """Make UIDs as `pydicom.uid.UID` from now on, since a program may look at them."""
    global made_as
    from pydicom.uid import UID

    made_as = UID


def quick_uid(text: str) -> UID:
    """Return `text` as a UID without pydicom's validation, which costs time and may warn.

    Its type is `made_as`; type checkers see the type that programs get.
    """
    return str.__new__(made_as, text)  # type: ignore[return-value]


def is_valid(uid: str) -> bool:
    """Return whether `uid` conforms to PS3.5 Section 9.1."""
    return len(uid) <= UID_LENGTH and _conforms(uid) is not None


def is_private(uid: str) -> bool:
    """Return whether `uid` is not registered by the DICOM standard."""
    return not uid.startswith(_STANDARD_ROOT)


def looked_up(uid: str) -> UID:
    """Return `uid` as pydicom's UID, for its name and its kind; this imports pydicom."""
    from pydicom.uid import UID

    return str.__new__(UID, uid)
