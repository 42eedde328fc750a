"""Facts about encoded datasets that need no pydicom: transfer syntaxes, VRs, and their error.

`scanner` and `codec` make datasets; they are imported only when a dataset is made.
"""

from __future__ import annotations

from dicomwire.errors import DicomwireError
from dicomwire.protocol.limits import MIB
from dicomwire.registry.uids import (
    DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
    EXPLICIT_VR_BIG_ENDIAN,
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
)

INFLATE_CEILING = 1024 * MIB
"""The most bytes that a deflated dataset may inflate to, unless the caller says otherwise."""

LONG_VRS = frozenset(("OB", "OD", "OF", "OL", "OV", "OW", "SQ", "SV", "UC", "UN", "UR", "UT", "UV"))
"""The VRs with a length field of four bytes in explicit VR (PS3.5 Table 7.1-1)."""
SHORT_VRS = frozenset(
    (
        *("AE", "AS", "AT", "CS", "DA", "DS", "DT", "FD", "FL", "IS", "LO"),
        *("LT", "PN", "SH", "SL", "SS", "ST", "TM", "UI", "UL", "US"),
    )
)
"""The VRs with a length field of two bytes in explicit VR (PS3.5 Table 7.1-2)."""

_ENCODINGS = {
    IMPLICIT_VR_LITTLE_ENDIAN: (True, True, False),
    DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN: (False, True, True),
    EXPLICIT_VR_BIG_ENDIAN: (False, False, False),
    "1.2.840.10008.1.2.4.95": (False, True, True),  # JPIP Referenced Deflate
    "1.2.840.10008.1.2.4.205": (False, True, True),  # JPIP HTJ2K Referenced Deflate
}
"""(implicit VR, little endian, deflated) of the transfer syntaxes that PS3.5 Section A.4 does not
cover; all others are in explicit VR little endian."""

_UNCOMPRESSED = frozenset(
    {
        IMPLICIT_VR_LITTLE_ENDIAN,
        EXPLICIT_VR_LITTLE_ENDIAN,
        DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
        EXPLICIT_VR_BIG_ENDIAN,
    }
)


class DatasetError(DicomwireError, ValueError):
    """A dataset cannot be encoded, or received data are not a valid dataset.

    The text contains no values of the dataset; the text of `__cause__` may.
    """


def is_uncompressed(transfer_syntax: str) -> bool:
    """Return whether pixel data is native; such transfer syntaxes are convertible to each other."""
    return transfer_syntax in _UNCOMPRESSED


def encoding_of(transfer_syntax: str) -> tuple[bool, bool, bool]:
    """Return (implicit VR, little endian, deflated) of a transfer syntax (PS3.5 Annex A).

    A private transfer syntax counts as explicit VR little endian, unless pydicom's
    `UID.set_private_encoding` has set another encoding.
    """
    known = _ENCODINGS.get(transfer_syntax)
    if known is not None:
        return known
    implicit, little = getattr(transfer_syntax, "_PRIVATE_TS_ENCODING", (False, True))
    return implicit, little, False
