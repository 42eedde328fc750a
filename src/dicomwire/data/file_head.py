"""Encodes and reads the file meta information of DICOM files without pydicom (PS3.10 Section 7.1).

`file_meta` has the functions that return it as a dataset.
"""

from __future__ import annotations

import struct
from functools import lru_cache

from dicomwire.data.encodings import LONG_VRS, SHORT_VRS
from dicomwire.registry.implementation import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME

PREAMBLE = bytes(128) + b"DICM"
_META_LENGTH = struct.Struct("<HH2sHI")
_META_ELEMENT = struct.Struct("<HH2sH")
_META_VERSION = b"\2\0\1\0OB\0\0\2\0\0\0\0\1"
_OUR_UID = IMPLEMENTATION_CLASS_UID.encode("ascii")
_LONG_VRS = frozenset(vr.encode() for vr in LONG_VRS)
_SHORT_VRS = frozenset(vr.encode() for vr in SHORT_VRS)


def file_head(
    sop_class_uid: str, sop_instance_uid: str, transfer_syntax: str, source_ae: str = ""
) -> bytes:
    """Return all bytes of a DICOM file before its dataset (PS3.10 Section 7.1).

    The preamble is all zeros.

    Parameters
    ----------
    source_ae : str
        The value of (0002,0016): the AE title of the sender of the dataset.
    """
    uid = sop_instance_uid.encode("ascii")
    if len(uid) % 2:
        uid += b"\0"
    start, end = _around_instance(sop_class_uid, len(uid), transfer_syntax, source_ae)
    return b"%b%b%b" % (start, uid, end)


@lru_cache(maxsize=256)  # more than there are combinations in use; a peer chooses some of them
def _around_instance(
    sop_class_uid: str, uid_length: int, transfer_syntax: str, source_ae: str
) -> tuple[bytes, bytes]:
    """Return the bytes before and after the value of (0002,0003), which has `uid_length` bytes."""
    sop_class = _META_VERSION + _element(0x0002, b"UI", sop_class_uid.encode("ascii"), b"\0")
    header = _META_ELEMENT.pack(2, 0x0003, b"UI", uid_length)
    end = b"".join(
        (
            _element(0x0010, b"UI", transfer_syntax.encode("ascii"), b"\0"),
            _element(0x0012, b"UI", IMPLEMENTATION_CLASS_UID.encode("ascii"), b"\0"),
            _element(0x0013, b"SH", IMPLEMENTATION_VERSION_NAME.encode("ascii"), b" "),
            _element(0x0016, b"AE", source_ae.encode("ascii", "replace"), b" ")
            if source_ae
            else b"",
        )
    )
    length = len(sop_class) + len(header) + uid_length + len(end)
    group = _META_LENGTH.pack(2, 0, b"UL", 4, length)
    return b"".join((PREAMBLE, group, sop_class, header)), end


def _element(element: int, vr: bytes, value: bytes, padding: bytes) -> bytes:
    if len(value) % 2:
        value += padding
    return _META_ELEMENT.pack(2, element, vr, len(value)) + value


def file_meta_values(data: bytes, position: int) -> tuple[dict[int, bytes], int]:
    """Return the values of group 0002, which begins at `position`, and the position of its end.

    If fewer than 8 bytes of `data` follow that end, the group may continue after `data`.

    Some files have a wrong group length or a group in implicit VR, so the end is found element by
    element. Only in files that we wrote the group length is used: it is right, and a dataset may
    begin with group 0002 too. The first of several elements with the same tag counts.
    """
    end = len(data)
    values: dict[int, bytes] = {}
    claimed_end = own_end = -1
    while position + 8 <= end and position != own_end:
        group, element, vr, length = _META_ELEMENT.unpack_from(data, position)
        if group != 2:
            break
        position += 8
        if vr in _LONG_VRS:
            length = int.from_bytes(data[position : position + 4], "little")
            position += 4
        elif vr not in _SHORT_VRS:
            length = int.from_bytes(data[position - 4 : position], "little")
        value = values.setdefault(element, data[position : position + length])
        position += length
        if element == 0x0000:
            claimed_end = position + int.from_bytes(value, "little")
        elif element == 0x0012 and value.rstrip(b"\0") == _OUR_UID:
            own_end = claimed_end
    return values, position
