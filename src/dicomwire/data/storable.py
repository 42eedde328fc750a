"""Objects that C-STORE can send: finds their UIDs, their transfer syntax and their bytes.

Only this module decides these; all modules that send objects or look for them in files use it.
"""

from __future__ import annotations

import io
import logging
import os
import re
import struct
import zlib
from collections.abc import Callable, Sequence
from contextlib import closing
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple, TypeAlias

from dicomwire.data.encodings import LONG_VRS, SHORT_VRS, encoding_of
from dicomwire.data.file_head import file_meta_values
from dicomwire.data.sources import Data, FileSource, Source
from dicomwire.data.streams import OpenFileSource, Stream
from dicomwire.protocol.limits import KIB, MIB
from dicomwire.registry import uids
from dicomwire.registry.uids import (
    EXPLICIT_VR_BIG_ENDIAN,
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
    looked_up,
    quick_uid,
)

if TYPE_CHECKING:
    from pydicom.dataset import Dataset
    from pydicom.uid import UID

LOGGER = logging.getLogger("dicomwire")

Storable: TypeAlias = (
    "str | os.PathLike[str] | Dataset | Stream | bytes | bytearray | memoryview | BinaryIO"
)
"""An object for C-STORE: the path of a DICOM file, a DICOM file in memory or open, a dataset, or a
stream."""

_PATHS = (str, Path)  # a constant, because isinstance would build a union for each object


class Opened:
    """An object that can be sent; call `close` after use.

    Attributes
    ----------
    sop_class_uid, sop_instance_uid : str
        The UIDs in the dataset, or in the file meta information if the dataset has none.
    transfer_syntax_uid : str
        The transfer syntax of the encoded object.
    is_convertible : bool
        Whether it can be converted to other transfer syntaxes.
    is_asynchronous : bool
        Whether its bytes have to be awaited.
    differing : sequence of str
        The UIDs in which the file meta information contradicts the dataset.
    is_small_file : bool
        Whether it was a file that has been read completely and closed.
    """

    is_convertible = True
    is_asynchronous = False
    is_small_file = False
    differing: Sequence[str] = ()

    def __init__(self, sop_class_uid: str, sop_instance_uid: str, transfer_syntax_uid: str) -> None:
        self.sop_class_uid = sop_class_uid
        self.sop_instance_uid = sop_instance_uid
        self.transfer_syntax_uid = transfer_syntax_uid

    def encoded_in(self, transfer_syntax: str) -> Data:
        """Return the dataset, encoded in `transfer_syntax`.

        Raises
        ------
        DatasetError
            If the dataset cannot be converted.
        """
        raise NotImplementedError

    def decoded(self) -> Dataset:
        """Return the dataset, with `file_meta`.

        Raises
        ------
        DatasetError
            If it cannot be decoded.
        """
        raise NotImplementedError

    def close(self) -> None:
        """Close the file, if one was opened for the object."""


def open_storable(value: Storable | Opened) -> Opened:
    """Open an object for sending.

    Only the beginning of a file is read, nearly always in one read.

    Raises
    ------
    TypeError
        If `value` has a type that cannot be sent.
    OSError
        If the file cannot be read.
    FileFormatError
        If the file is not a DICOM file.
    AttributeError
        If a dataset lacks a required UID.
    """
    if isinstance(value, _PATHS):
        return _open_path(value)
    if isinstance(value, Opened):
        return value
    if isinstance(value, bytes | bytearray | memoryview):
        view = memoryview(value)
        beginning = io.BytesIO(view[:_MOST])
        opened = _read_head("file", beginning.read(_READ_AT_ONCE), beginning.read)
        opened.data = view[opened.offset :]
        return opened
    if isinstance(value, Stream):
        return _Streamed(value)
    if isinstance(value, os.PathLike):
        return _open_path(value)
    from pydicom.dataset import Dataset

    if isinstance(value, Dataset):
        return _Decoded(value)
    if hasattr(value, "read"):
        value.seek(0)
        data = _read(value.read, _READ_AT_ONCE)
        opened = _read_head(getattr(value, "name", "file"), data, value.read)
        opened.data = OpenFileSource(value, opened.offset)
        return opened
    raise TypeError(
        f"{type(value).__name__} cannot be sent: "
        "give a path, a Dataset, a file that is in memory or open, or a Stream"
    )


def _open_path(path: str | os.PathLike[str]) -> Opened:
    descriptor = os.open(path, _READING)
    try:
        read = partial(os.read, descriptor)
        data = _read(read, _READ_AT_ONCE)
        opened = _parse_as_before(data) or _read_head(path, data, read)
        if len(data) == _READ_AT_ONCE:
            file = io.FileIO(descriptor)
            descriptor = -1  # `file` closes it
            opened.data = FileSource(path, opened.offset, file)
            return opened
        opened.data = memoryview(data)[opened.offset :]
        opened.is_small_file = True
        return opened
    except OSError as error:
        error.filename = error.filename or path
        raise
    finally:
        # A small file is in `data` completely: it is closed now, since there may be many of them.
        if descriptor >= 0:
            os.close(descriptor)


def instance_uid_of(value: Any) -> str:
    """Return the SOP Instance UID of an object to send; empty if it cannot be found."""
    if not isinstance(value, _PATHS):
        from pydicom.dataset import Dataset

        if isinstance(value, Dataset):
            return str(value.get("SOPInstanceUID") or "")
    try:
        with closing(open_storable(value)) as opened:
            return opened.sop_instance_uid
    except (OSError, TypeError, ValueError):
        return ""


# --- The kinds of objects ---------------------------------------------------------------------


class _Encoded(Opened):
    """A DICOM file; its bytes are sent unchanged if the context has its transfer syntax.

    Attributes
    ----------
    offset : int
        The position of the dataset in the file.
    data : memoryview or Source
        The dataset; set when the file is opened.
    """

    data: memoryview | Source

    def __init__(
        self,
        sop_class_uid: str,
        sop_instance_uid: str,
        transfer_syntax_uid: str,
        offset: int,
        differing: Sequence[str],
    ) -> None:
        # Like `Opened.__init__`, but saves one call for each of thousands of files.
        self.sop_class_uid = sop_class_uid
        self.sop_instance_uid = sop_instance_uid
        self.transfer_syntax_uid = transfer_syntax_uid
        self.offset = offset
        self.differing = differing

    def encoded_in(self, transfer_syntax: str) -> Data:
        if transfer_syntax == self.transfer_syntax_uid:
            return self.data
        from dicomwire.data.codec import encode_dataset

        with closing(self):
            return encode_dataset(self.decoded(), transfer_syntax)

    def decoded(self) -> Dataset:
        from dicomwire.data.file_meta import decode_object

        if isinstance(self.data, memoryview):
            data = bytearray(self.data)
        else:
            data = bytearray(self.data.length)
            self.data.readinto([memoryview(data)])
        uids = self.sop_class_uid, self.sop_instance_uid, self.transfer_syntax_uid
        return decode_object(data, *uids)

    def close(self) -> None:
        if not isinstance(self.data, memoryview):
            self.data.close()


class _Decoded(Opened):
    """A pydicom Dataset of the program."""

    def __init__(self, ds: Dataset) -> None:
        for keyword in ("SOPClassUID", "SOPInstanceUID"):
            if not ds.get(keyword):
                raise AttributeError(f"the dataset has no {keyword}")
        super().__init__(ds.SOPClassUID, ds.SOPInstanceUID, _syntax_of(ds))
        self.dataset = ds

    def encoded_in(self, transfer_syntax: str) -> Data:
        from dicomwire.data.codec import encode_dataset

        return encode_dataset(self.dataset, transfer_syntax)

    def decoded(self) -> Dataset:
        return self.dataset


class _Streamed(Opened):
    """A dataset that the program supplies in chunks; they are sent unchanged."""

    is_convertible = False

    def __init__(self, stream: Stream) -> None:
        super().__init__(stream.sop_class_uid, stream.sop_instance_uid, stream.transfer_syntax_uid)
        self.is_asynchronous = stream.is_asynchronous
        self._stream = stream

    def encoded_in(self, transfer_syntax: str) -> Any:
        return self._stream.open()

    def decoded(self) -> Dataset:
        raise ValueError("a stream is not decoded")


def _syntax_of(ds: Dataset) -> str:
    """Return the transfer syntax of `ds`: that of its `file_meta`, unless its encoding differs."""
    try:
        syntax: str = ds.file_meta.TransferSyntaxUID
    except AttributeError:
        raise AttributeError("the dataset has no file_meta.TransferSyntaxUID") from None
    encoding = ds.original_encoding
    implicit, little, _ = encoding_of(syntax)
    if None in encoding or encoding == (implicit, little):
        return syntax
    actual = {(True, True): IMPLICIT_VR_LITTLE_ENDIAN, (False, False): EXPLICIT_VR_BIG_ENDIAN}.get(
        encoding  # type: ignore[arg-type]
    )
    if actual is None:
        raise AttributeError(f"the dataset is not encoded as its file_meta says ({syntax})")
    LOGGER.warning(
        "The dataset is not encoded as its file_meta says, but in %s", looked_up(actual).name
    )
    return actual


# --- The beginning of a file ------------------------------------------------------------------

_READ_AT_ONCE = 16 * KIB
"""Enough for the UIDs of nearly all files, and for a small object completely. Of a larger object,
these bytes are read a second time when it is sent."""
_MOST = MIB
"""The most bytes that are read of a file to find its UIDs."""
_PREFIX = b"DICM"
_PREAMBLE_LENGTH = 128
_USUAL_BEGIN = _PREAMBLE_LENGTH + len(_PREFIX)
_META_LENGTH_SIZE = 12
"""Bytes of (0002,0000), the first element of the file meta information."""
_READING = os.O_RDONLY | getattr(os, "O_BINARY", 0)  # systems that change line ends have the latter
_PADDING = b"\0 "
_UNDEFINED = 0xFFFFFFFF
_SOP_CLASS, _SOP_INSTANCE = 0x0016, 0x0018
_ITEMS, _SEQUENCE_END = 0xFFFE, 0xE0DD
_is_uid = re.compile(rb"[0-9.]{1,64}").fullmatch
_LONG = frozenset(vr.encode() for vr in LONG_VRS)
_SHORT = frozenset(vr.encode() for vr in SHORT_VRS)
_FIELDS = {
    True: (struct.Struct("<HH2sH").unpack_from, struct.Struct("<I").unpack_from),
    False: (struct.Struct(">HH2sH").unpack_from, struct.Struct(">I").unpack_from),
}
"""By "is little endian", the readers of: group, element, VR and short length; a long length."""
_TOLD_APART = ("", IMPLICIT_VR_LITTLE_ENDIAN, EXPLICIT_VR_LITTLE_ENDIAN)
"""Declared transfer syntaxes for which the first element of the dataset decides between implicit
and explicit VR."""


class _Unreadable(Exception):
    """The reason why a file is not a DICOM file; its caller adds the file name."""


def _read_head(name: Any, data: bytes, read: Callable[[int], bytes]) -> _Encoded:
    """Return an opened file, without its data.

    `data` are the first `_READ_AT_ONCE` bytes, or all if there are fewer; `read` returns the next.
    """
    try:
        opened = _parse(data, len(data) < _READ_AT_ONCE)
        if opened is None:
            opened = _parse(data + _read(read, _MOST - len(data)), True)
            assert opened is not None
        return opened
    except _Unreadable as error:
        from dicomwire.data.file_meta import FileFormatError  # its base class is pydicom's

        raise FileFormatError(f"{name}: {error}") from None


def _read(read: Callable[[int], bytes], size: int) -> bytes:
    """Read `size` bytes, or fewer at the end of the file."""
    data = read(size)
    if not isinstance(data, bytes):
        raise TypeError("a file to send must be open in binary mode")
    while 0 < len(data) < size and (more := read(size - len(data))):
        data += more
    return data


class _Layout(NamedTuple):
    """The beginning of a file, up to the SOP Instance UID of its dataset.

    Files of one series mostly differ in nothing else. The UID is twice in it: in the file meta
    information and in the dataset.
    """

    before: bytes  # from the prefix "DICM" to the UID in the file meta information
    between: bytes  # from there to the UID in the dataset
    between_at: int
    uid_at: int
    sop_class_uid: UID
    transfer_syntax_uid: str
    offset: int


_layouts: dict[bytes, _Layout] = {}
"""The last layouts, by the first element of the file meta information: the length of the rest."""
_MOST_LAYOUTS = 64  # UIDs of a series differ in their last digits, and so in one or two lengths


def _parse_as_before(data: bytes) -> _Encoded | None:
    """Return what `_parse` does, if an earlier file differs in the SOP Instance UID only."""
    layout = _layouts.get(data[_USUAL_BEGIN : _USUAL_BEGIN + _META_LENGTH_SIZE])
    if layout is None:
        return None
    before, between, between_at, uid_at, sop_class_uid, syntax, offset = layout
    first_at = _PREAMBLE_LENGTH + len(before)
    padded = data[first_at:between_at]
    if not (
        data.startswith(before, _PREAMBLE_LENGTH)
        and data.startswith(between, between_at)
        and data.startswith(padded, uid_at)
    ):
        return None
    uid = padded.strip(_PADDING)
    if not _is_uid(uid):
        return None
    instance_uid = str.__new__(uids.made_as, uid.decode("ascii"))
    return _Encoded(sop_class_uid, instance_uid, syntax, offset, ())


def _remember_layout(data: bytes, opened: _Encoded, uid_at: int, padded: bytes) -> None:
    """Remember the layout of a file whose UIDs do not differ; `padded` is its UID at `uid_at`."""
    first_at = data.find(padded, _USUAL_BEGIN, opened.offset)
    # If it occurs once in the file meta information, it is the value there.
    if first_at < 0 or first_at != data.rfind(padded, _USUAL_BEGIN, opened.offset):
        return
    between_at = first_at + len(padded)
    if len(_layouts) >= _MOST_LAYOUTS:
        _layouts.clear()
    _layouts[data[_USUAL_BEGIN : _USUAL_BEGIN + _META_LENGTH_SIZE]] = _Layout(
        data[_PREAMBLE_LENGTH:first_at],
        data[between_at:uid_at],
        between_at,
        uid_at,
        quick_uid(opened.sop_class_uid),
        opened.transfer_syntax_uid,
        opened.offset,
    )


def _parse(data: bytes, whole: bool) -> _Encoded | None:
    """Return an opened file, without its data, from the bytes at its beginning.

    The result is None if more bytes are needed and `data` is not the `whole` file.

    The prefix "DICM" and the file meta information may be missing if the dataset can be
    recognized. Where the two contradict the dataset, the dataset counts.
    """
    begin = _USUAL_BEGIN if data.startswith(_PREFIX, _PREAMBLE_LENGTH) else _after_prefix(data)
    values, offset = file_meta_values(data, begin)
    if offset + 8 > len(data) and not whole:
        return None
    if offset > len(data):
        raise _Unreadable("it ends within its file meta information")
    declared = _uid(values.get(0x0010, b"").strip(_PADDING))
    # The first element may contradict the declared transfer syntax, or stand in for it.
    syntax: str = declared
    group, vr = data[offset : offset + 2], data[offset + 4 : offset + 6]
    has_vr = vr in _SHORT or vr in _LONG
    if group == b"\x08\0" and declared in _TOLD_APART:
        syntax = EXPLICIT_VR_LITTLE_ENDIAN if has_vr else IMPLICIT_VR_LITTLE_ENDIAN
    elif not declared and group == b"\0\x08" and has_vr:
        syntax = EXPLICIT_VR_BIG_ENDIAN
    if not syntax:
        lack = "no transfer syntax" if offset else "neither a header nor a known kind of dataset"
        raise _Unreadable(f"not a DICOM file: it has {lack}")
    own = _own_uids(data, offset, syntax, whole)
    if own is None:
        return None
    sop_class, sop_instance, uid_at, uid_end = own
    said = values.get(0x0002, b"").strip(_PADDING), values.get(0x0003, b"").strip(_PADDING)
    sop_class, sop_instance = sop_class or said[0], sop_instance or said[1]
    if not sop_class or not sop_instance:
        missing = "Instance" if sop_class else "Class"
        raise _Unreadable(f"not a DICOM file: it has no SOP {missing} UID")
    differing = []
    if said[0] not in (sop_class, b""):
        differing.append("SOP Class UID")
    if said[1] not in (sop_instance, b""):
        differing.append("SOP Instance UID")
    if declared not in (syntax, ""):
        differing.append("Transfer Syntax UID")
    # Without `quick_uid`, which is a call for each of thousands of files.
    instance_uid = str.__new__(uids.made_as, sop_instance.decode("ascii", "replace"))
    opened = _Encoded(_uid(sop_class), instance_uid, syntax, offset, differing)
    if uid_at and begin == _USUAL_BEGIN and not differing:
        _remember_layout(data, opened, uid_at, data[uid_at:uid_end])
    return opened


def _after_prefix(data: bytes) -> int:
    """Return the position of the file meta information; some writers omit the bytes before it."""
    return len(_PREFIX) if data.startswith(_PREFIX) else 0


@lru_cache(256)  # for SOP class and transfer syntax UIDs: a program uses only a few
def _uid(text: bytes) -> UID:
    return quick_uid(text.decode("ascii", "replace"))


_encoding_of = lru_cache(256)(encoding_of)  # the files choose the keys


def _own_uids(
    data: bytes, position: int, syntax: str, whole: bool
) -> tuple[bytes, bytes, int, int] | None:
    """Return (0008,0016) and (0008,0018) of a dataset, empty if they are missing or not UIDs.

    The numbers are begin and end of the latter in `data`; 0 if it is missing or compressed. The
    result is None if `data` ends before them and is not the `whole` file.
    """
    implicit, little, deflated = _encoding_of(syntax)
    if deflated:
        try:
            data = zlib.decompressobj(-zlib.MAX_WBITS).decompress(data[position:], _MOST)
        except zlib.error:
            return b"", b"", 0, 0
        position = 0
    header, long = _FIELDS[little]
    sop_class = b""
    depth, end = 0, len(data)
    while position + 12 <= end:
        group, element, vr, length = header(data, position)
        if not depth and (group != 8 or element > _SOP_INSTANCE):
            return sop_class, b"", 0, 0
        position += 8
        if implicit or vr not in _SHORT:
            if implicit or vr not in _LONG:  # delimiters have no VR either
                position -= 4
            length = long(data, position)[0]
            position += 4
        if length == _UNDEFINED:
            depth += group != _ITEMS  # a sequence; its items are passed element by element
            continue
        if depth:
            depth -= group == _ITEMS and element == _SEQUENCE_END
        elif element >= _SOP_CLASS and position + length <= end:
            value = data[position : position + length].strip(_PADDING)
            if not _is_uid(value):
                value = b""
            if element == _SOP_INSTANCE:
                found_at = 0 if deflated or not value else position
                return sop_class, value, found_at, position + length
            if element == _SOP_CLASS:
                sop_class = value
        position += length
    return (sop_class, b"", 0, 0) if whole else None
