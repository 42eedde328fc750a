"""Reads and writes the file meta information of a DICOM file (PS3.10 Section 7.1)."""

from __future__ import annotations

import struct
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO, NamedTuple

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.errors import InvalidDicomError
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_file_meta_info
from pydicom.uid import UID

from dicomwire.data.codec import decode
from dicomwire.data.scanner import LONG_VRS, SHORT_VRS
from dicomwire.data.scanner import DatasetError as DatasetError
from dicomwire.implementation import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from dicomwire.protocol.context import quick_uid
from dicomwire.protocol.limits import KIB, MIB


class FileFormatError(DatasetError, InvalidDicomError):
    """A file is not in the DICOM File Format (PS3.10 Section 7)."""


_PREAMBLE = bytes(128) + b"DICM"
_META_LENGTH = struct.Struct("<HH2sHI")
_META_ELEMENT = struct.Struct("<HH2sH")
_META_VERSION = b"\2\0\1\0OB\0\0\2\0\0\0\0\1"
_READ_AT_ONCE = 4 * KIB
_MAX_META = MIB
_OUR_UID = IMPLEMENTATION_CLASS_UID.encode("ascii")
_LONG_VRS = frozenset(vr.encode() for vr in LONG_VRS)
_SHORT_VRS = frozenset(vr.encode() for vr in SHORT_VRS)


class FileHead(NamedTuple):
    """The UIDs in the file meta information of a DICOM file, and the position of the dataset."""

    sop_class_uid: UID
    sop_instance_uid: UID
    transfer_syntax_uid: UID
    offset: int


def create_file_meta(
    *,
    sop_class_uid: str,
    sop_instance_uid: str,
    transfer_syntax: str,
    implementation_uid: str = IMPLEMENTATION_CLASS_UID,
    implementation_version: str = IMPLEMENTATION_VERSION_NAME,
) -> FileMetaDataset:
    """Return file meta information (PS3.10 Section 7.1) as a dataset.

    Its group length is 0; pydicom corrects it when it writes a file.
    """
    meta = FileMetaDataset()
    meta.FileMetaInformationGroupLength = 0
    meta.FileMetaInformationVersion = b"\0\1"
    meta.MediaStorageSOPClassUID = quick_uid(sop_class_uid)
    meta.MediaStorageSOPInstanceUID = quick_uid(sop_instance_uid)
    meta.TransferSyntaxUID = quick_uid(transfer_syntax)
    meta.ImplementationClassUID = quick_uid(implementation_uid)
    meta.ImplementationVersionName = implementation_version
    return meta


def encode_file_meta(file_meta: FileMetaDataset) -> bytes:
    """Return file meta information encoded, with its group length, if it has one, corrected."""
    buffer = DicomBytesIO()
    try:
        write_file_meta_info(buffer, file_meta, enforce_standard=False)
    except Exception as error:  # a value of the wrong type can raise anything in pydicom
        raise DatasetError(
            f"cannot encode the file meta information: {type(error).__name__}"
        ) from error
    return buffer.getvalue()


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
    meta = b"".join(
        (
            _sop_class(sop_class_uid),
            _element(0x0003, b"UI", sop_instance_uid.encode("ascii"), b"\0"),
            _meta_end(transfer_syntax, source_ae),
        )
    )
    return _PREAMBLE + _META_LENGTH.pack(2, 0, b"UL", 4, len(meta)) + meta


def _element(element: int, vr: bytes, value: bytes, padding: bytes) -> bytes:
    if len(value) % 2:
        value += padding
    return _META_ELEMENT.pack(2, element, vr, len(value)) + value


@lru_cache(maxsize=256)
def _sop_class(uid: str) -> bytes:
    return _META_VERSION + _element(0x0002, b"UI", uid.encode("ascii"), b"\0")


@lru_cache(maxsize=256)
def _meta_end(transfer_syntax: str, source_ae: str) -> bytes:
    parts = [
        _element(0x0010, b"UI", transfer_syntax.encode("ascii"), b"\0"),
        _element(0x0012, b"UI", IMPLEMENTATION_CLASS_UID.encode("ascii"), b"\0"),
        _element(0x0013, b"SH", IMPLEMENTATION_VERSION_NAME.encode("ascii"), b" "),
    ]
    if source_ae:
        parts.append(_element(0x0016, b"AE", source_ae.encode("ascii", "replace"), b" "))
    return b"".join(parts)


def parse_file_meta(source: bytes | bytearray | memoryview | BinaryIO) -> FileHead:
    """Return the UIDs in the file meta information; read no more of a file than necessary.

    Parameters
    ----------
    source
        The beginning of a DICOM file, or an open file at its beginning.

    Raises
    ------
    FileFormatError
        If it is not a DICOM file, or one of the three UIDs is missing; the text names the file.
    """
    if isinstance(source, bytes | bytearray | memoryview):
        head = _parse_head(bytes(memoryview(source)[:_MAX_META]), True, "")
        assert head is not None
        return head
    name = f"{getattr(source, 'name', 'file')}: "
    data = source.read(_READ_AT_ONCE)
    whole = False
    while True:
        head = _parse_head(data, whole, name)
        if head is not None:
            return head
        if len(data) >= _MAX_META:
            raise FileFormatError(f"{name}more than {len(data)} bytes of file meta information")
        more = source.read(len(data) or _READ_AT_ONCE)
        whole = not more
        data += more


def _parse_head(data: bytes, whole: bool, name: str) -> FileHead | None:
    """Return the head in `data`; None if it is incomplete and `data` is not the `whole` file."""
    position, end = len(_PREAMBLE), len(data)
    if not data.startswith(b"DICM", 128):
        if end < position and not whole:
            return None
        raise FileFormatError(f"{name}no DICOM file, 'DICM' is missing at byte 128")
    values, offset = file_meta_values(data, position)
    if offset + 8 > end and not whole:
        return None
    if offset > end:
        raise FileFormatError(f"{name}ends within its file meta information")
    return _head(values, offset, name)


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


def _head(values: dict[int, bytes], offset: int, name: str) -> FileHead:
    try:
        return FileHead(
            quick_uid(values[0x0002].rstrip(b"\0 ").decode("ascii")),
            quick_uid(values[0x0003].rstrip(b"\0 ").decode("ascii")),
            quick_uid(values[0x0010].rstrip(b"\0 ").decode("ascii")),
            offset,
        )
    except KeyError as error:
        text = f"{name}(0002,{error.args[0]:04X}) is missing from the file meta information"
        raise FileFormatError(text) from None
    except UnicodeDecodeError:
        text = f"{name}a UID in the file meta information is not ASCII"
        raise FileFormatError(text) from None


def split_dataset(path: Path) -> tuple[Dataset, int]:
    """Return the file meta information of a DICOM file, and the position of its dataset."""
    with path.open("rb") as file:
        offset = parse_file_meta(file).offset
        file.seek(len(_PREAMBLE))
        meta = decode(file.read(offset - len(_PREAMBLE)), False, True)
    return FileMetaDataset(meta), offset
