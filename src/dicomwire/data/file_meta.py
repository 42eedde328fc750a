"""Reads and writes the file meta information of a DICOM file (PS3.10 Section 7.1)."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO, NamedTuple

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.errors import InvalidDicomError
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_file_meta_info
from pydicom.uid import UID

from dicomwire.data.codec import decode, decode_for
from dicomwire.data.encodings import DatasetError as DatasetError
from dicomwire.data.file_head import PREAMBLE, file_meta_values
from dicomwire.data.file_head import file_head as file_head
from dicomwire.protocol.context import quick_uid
from dicomwire.protocol.limits import KIB, MIB
from dicomwire.registry.implementation import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME


class FileFormatError(DatasetError, InvalidDicomError):
    """A file is not in the DICOM File Format (PS3.10 Section 7)."""


_READ_AT_ONCE = 4 * KIB
_MAX_META = MIB


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


def decode_object(
    data: bytearray, sop_class_uid: str, sop_instance_uid: str, transfer_syntax: str
) -> Dataset:
    """Return the dataset in `data`, with `file_meta`; DatasetError if it cannot be decoded."""
    ds = decode_for(data, transfer_syntax)
    ds.file_meta = create_file_meta(
        sop_class_uid=sop_class_uid,
        sop_instance_uid=sop_instance_uid,
        transfer_syntax=transfer_syntax,
    )
    return ds


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
    reader = HeadReader(f"{getattr(source, 'name', 'file')}: ")
    while data := source.read(_READ_AT_ONCE):
        if (found := reader.feed(data)) is not None:
            return found[0]
    return reader.finish()[0]


class HeadReader:
    """Finds the dataset of a DICOM file that arrives in pieces.

    Parameters
    ----------
    name : str
        The name of the file, with which error texts begin.
    """

    def __init__(self, name: str = "") -> None:
        self._name = name
        self._data = bytearray()
        self._enough = 0  # it is parsed again when it has twice as many bytes: not for each piece

    def feed(self, data: bytes | memoryview) -> tuple[FileHead, memoryview] | None:
        """Return the UIDs, and the first bytes of the dataset; None if more bytes are needed.

        It raises what `parse_file_meta` raises.
        """
        if not self._data:
            head = _parse_head(bytes(data[:KIB]), False, self._name)  # enough for nearly all files
            if head is not None:
                return head, memoryview(data)[head.offset :]
        self._data += data
        if len(self._data) < self._enough:
            return None
        head = _parse_head(bytes(memoryview(self._data)[:_MAX_META]), False, self._name)
        if head is None:
            if len(self._data) >= _MAX_META:
                text = f"{self._name}more than {_MAX_META} bytes of file meta information"
                raise FileFormatError(text)
            self._enough = 2 * len(self._data)
            return None
        return head, memoryview(self._data)[head.offset :]

    def finish(self) -> tuple[FileHead, memoryview]:
        """Return the same when there are no more bytes; FileFormatError if they do not suffice."""
        head = _parse_head(bytes(self._data), True, self._name)
        assert head is not None
        return head, memoryview(self._data)[head.offset :]


def _parse_head(data: bytes, whole: bool, name: str) -> FileHead | None:
    """Return the head in `data`; None if it is incomplete and `data` is not the `whole` file."""
    position, end = len(PREAMBLE), len(data)
    if not data.startswith(b"DICM", 128):
        if end < position and not whole:
            return None
        raise FileFormatError(f"{name}not a DICOM file: 'DICM' is missing at byte 128")
    values, offset = file_meta_values(data, position)
    if offset + 8 > end and not whole:
        return None
    if offset > end:
        raise FileFormatError(f"{name}ends within its file meta information")
    return _head(values, offset, name)


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
        file.seek(len(PREAMBLE))
        meta = decode(file.read(offset - len(PREAMBLE)), False, True)
    return FileMetaDataset(meta), offset
