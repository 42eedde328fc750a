"""Objects whose metadata and large values arrive in parts of their own (PS3.18 Section 10.5.2).

The values wait in files of the spool. At the end of the request, each object is encoded in Explicit
VR Little Endian, and its values are copied to their places.
"""

from __future__ import annotations

import contextlib
import logging
import os
import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset
from pydicom.filewriter import dcmwrite
from pydicom.tag import Tag

from dicomwire.data.codec import DatasetError
from dicomwire.data.sinks import SinkFull
from dicomwire.node.objects.spool import Spool, SpoolSink
from dicomwire.node.statuses import CANNOT_UNDERSTAND, OUT_OF_RESOURCES
from dicomwire.node.web.incoming import Batches, Content
from dicomwire.node.web.native_model import model_in
from dicomwire.web.json_model import ArrayReader, dataset_of
from dicomwire.web.multipart import Malformed, MediaType, media_type

LOGGER = logging.getLogger("dicomwire.node")

JSON = "application/dicom+json"
XML = "application/dicom+xml"
UNKNOWN_SYNTAX = 0xC122
"""Referenced Transfer Syntax not supported (PS3.18 Table I.2-2)."""
EXPLICIT = "1.2.840.10008.1.2.1"
_BYTES = "application/octet-stream"
_SYNTAXES = {"image/jpeg": "1.2.840.10008.1.2.4.50", "image/dicom-rle": "1.2.840.10008.1.2.5"}
"""The transfer syntax of compressed frames whose media type has no parameter for it."""
_MOST_METADATA = 16 * 1024 * 1024
"""The most bytes of metadata in a request, which are in memory: of a thousand objects."""
_PIECE = 1024 * 1024
_SHORT_VRS = frozenset(["DS", "FD", "FL", "IS", "LT", "SL", "SS", "ST", "UL", "US"])
"""VRs of values of up to 64 KiB that may be in parts of their own (PS3.18 Section 10.4.1.1.2)."""
_TEXT_VRS = frozenset(["UC", "UR", "UT"])
_TOKEN_SIZE = 32
_ITEM = struct.Struct("<HHL")
_UNDEFINED = 0xFFFFFFFF
_PIXEL_DATA = 0x7FE00010


@dataclass
class _Value:
    """A large value, in a file of the spool."""

    path: Path
    kind: MediaType
    failure: OSError | None = None
    """Why it could not be received."""

    def size(self) -> int:
        """Return its number of bytes; raise `failure` if it could not be received."""
        if self.failure is not None:
            raise self.failure
        return self.path.stat().st_size


class _Unfit(Exception):
    """An object that cannot be assembled; with the status for it."""

    def __init__(self, text: str, status: int = CANNOT_UNDERSTAND) -> None:
        super().__init__(text)
        self.status = status


class Assembly:
    """Takes metadata and large values; see `incoming.Contents`.

    Parameters
    ----------
    kind : str
        The media type of the metadata: JSON or XML.
    most : int or None
        The most bytes of a value.
    """

    def __init__(self, kind: str, spool: Spool, batches: Batches, most: int | None) -> None:
        self._kind = kind
        self._spool = spool
        self._batches = batches
        self._most = most
        self._metadata: list[bytes] = []
        self._room = _MOST_METADATA
        self._values: dict[str, list[_Value]] = {}
        self._files: list[Path] = []

    def begin(self, headers: Mapping[str, str]) -> Content:
        """Take a part: metadata, or a value with its URL in Content-Location."""
        kind = media_type(headers.get("content-type", _BYTES))
        location = headers.get("content-location")
        if kind.name == self._kind and location is None:
            return _Metadata(self)
        if location is None:
            raise Malformed("a part has no Content-Location, and is no metadata")
        value = _Value(self._spool.make_file(), kind)
        self._files.append(value.path)
        self._values.setdefault(_value_of(location), []).append(value)
        return _ValueFile(value, self._most)

    def reserve(self, count: int) -> None:
        """Note that so many more bytes of metadata are in memory."""
        self._room -= count
        if self._room < 0:
            raise Malformed(f"there are more than {_MOST_METADATA} bytes of metadata")

    def add(self, metadata: bytes) -> None:
        """Take the metadata of one object or more."""
        self._metadata.append(metadata)

    def finish(self) -> None:
        """Assemble and store the objects."""
        for model in self._models():
            self._store(model)

    def discard(self) -> None:
        """Remove the files of values."""
        for path in self._files:
            with contextlib.suppress(OSError):
                path.unlink()
        self._files = []

    def _models(self) -> Iterator[dict[str, Any]]:
        for metadata in self._metadata:
            if self._kind == XML:
                yield model_in(metadata)
                continue
            reader = ArrayReader()
            for item in (*reader.feed(metadata), *reader.finish()):
                if not isinstance(item, dict):
                    raise Malformed("the metadata are no array of objects")
                yield item

    def _store(self, model: dict[str, Any]) -> None:
        sink = self._spool.sink()
        uids = _text_in(model, "00080016"), _text_in(model, "00080018")
        try:
            syntax = _Encoding(model, self._values).write(sink)
            self._batches.add(sink.finish(), *uids, syntax)
        except (_Unfit, Malformed, DatasetError) as error:
            LOGGER.warning("An object of a request is refused: %s", error)
            self._batches.fail(getattr(error, "status", CANNOT_UNDERSTAND), *uids)
        except OSError as error:
            LOGGER.error("An object of a request cannot be received: %s", error)
            too_large = isinstance(error, SinkFull)
            self._batches.fail(OUT_OF_RESOURCES, *uids, is_too_large=too_large)
        finally:
            sink.discard()


def _value_of(location: str) -> str:
    """Return the URL of a value, or of one frame of it."""
    return location.partition("/frames/")[0]


def _text_in(model: Mapping[str, Any], tag: str) -> str:
    values = (model.get(tag) or {}).get("Value") if isinstance(model.get(tag), dict) else None
    return str(values[0]) if isinstance(values, list) and values else ""


class _Metadata:
    """Takes a part with metadata."""

    def __init__(self, assembly: Assembly) -> None:
        self._assembly = assembly
        self._data = bytearray()

    def write(self, data: memoryview) -> None:
        """Take the next bytes."""
        self._assembly.reserve(len(data))
        self._data += data

    def finish(self) -> None:
        """Hand the metadata over."""
        self._assembly.add(bytes(self._data))

    def discard(self) -> None:
        """Do nothing: nothing is kept outside of memory."""


class _ValueFile:
    """Takes a part with a value. A failure concerns the objects that the value is for."""

    def __init__(self, value: _Value, most: int | None) -> None:
        self._file: BinaryIO | None = value.path.open("wb")
        self._value = value
        self._most = most

    def write(self, data: memoryview) -> None:
        """Take the next bytes; drop those of a value that is too large, or cannot be written."""
        if self._file is None:
            return
        try:
            self._file.write(data)
            if self._most is not None and self._file.tell() > self._most:
                raise SinkFull(self._most)
        except OSError as error:
            self._value.failure = error
            self.discard()
            self._value.path.unlink(missing_ok=True)

    def finish(self) -> None:
        """Close the file."""
        self.discard()

    def discard(self) -> None:
        """Close the file, which `Assembly.discard` removes."""
        if self._file is not None:
            file, self._file = self._file, None
            with contextlib.suppress(OSError):
                file.close()


class _Encoding:
    """Encodes one object: with tokens where its large values are, which these replace.

    Sequences that contain large values have undefined length, so that only the length of the value
    itself depends on it.
    """

    def __init__(self, model: dict[str, Any], values: Mapping[str, list[_Value]]) -> None:
        self._values = values
        self._at: dict[bytes, Callable[[SpoolSink], None]] = {}
        self._syntax = EXPLICIT
        self._dataset = dataset_of(model)
        self._place(self._dataset, model)
        for meta in [tag for tag in self._dataset.keys() if tag.group == 2]:  # noqa: SIM118
            del self._dataset[meta]
        if any(not text.isascii() for text in _texts(model)):
            self._dataset.SpecificCharacterSet = "ISO_IR 192"

    def write(self, sink: SpoolSink) -> str:
        """Write the dataset; return its transfer syntax."""
        buffer = BytesIO()
        try:
            dcmwrite(buffer, self._dataset, implicit_vr=False, little_endian=True)
        except Exception as error:  # a value of the wrong type can raise anything in pydicom
            raise _Unfit(f"the metadata cannot be encoded: {type(error).__name__}") from None
        data = buffer.getvalue()
        begin = 0
        for at, token in sorted((data.index(token), token) for token in self._at):
            sink.write([memoryview(data)[begin : at - 4]])
            self._at[token](sink)
            begin = at + _TOKEN_SIZE
        sink.write([memoryview(data)[begin:]])
        return self._syntax

    def _place(self, ds: Dataset, model: Mapping[str, Any]) -> bool:
        """Put tokens into a dataset; return whether there are any."""
        has_any = False
        for name, element in model.items():
            tag = Tag(name)
            if "BulkDataURI" in element:
                has_any = self._place_value(ds, tag, element) or has_any
            elif element.get("vr") == "SQ":
                items = element.get("Value") or []
                for item, part in zip(ds[tag].value, items, strict=True):
                    if self._place(item, part):
                        ds[tag].is_undefined_length = True
                        item.is_undefined_length_sequence_item = True
                        has_any = True
        return has_any

    def _place_value(self, ds: Dataset, tag: Any, element: Mapping[str, Any]) -> bool:
        vr = str(element.get("vr"))
        values = self._values.get(str(element["BulkDataURI"]))
        if not values:
            raise _Unfit("a value that the metadata refer to is missing")
        if vr in _SHORT_VRS:
            if values[0].size() > 0xFFFE or len(values) > 1:
                raise _Unfit("a value is too large for its VR")
            data = values[0].path.read_bytes()
            ds[tag] = RawDataElement(tag, vr, len(data), data, 0, False, True)
            return False
        token = os.urandom(_TOKEN_SIZE // 2).hex().encode()
        kind = values[0].kind
        if tag == _PIXEL_DATA and kind.name != _BYTES:
            self._syntax = _syntax_of(kind)
            ds[tag] = DataElement(tag, "OB", token)
            self._at[token] = _Frames(values)
        else:
            if len(values) > 1:
                raise _Unfit("several parts have the same Content-Location")
            ds[tag] = DataElement(tag, vr, token.decode() if vr in _TEXT_VRS else token)
            self._at[token] = _Plain(values[0], b" " if vr in _TEXT_VRS else b"\0")
        return True


def _texts(value: Any) -> Iterator[str]:
    """Yield all texts of a model."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _texts(each)


def _syntax_of(kind: MediaType) -> str:
    syntax = kind.parameters.get("transfer-syntax", _SYNTAXES.get(kind.name, ""))
    if not syntax:
        raise _Unfit("compressed frames have no transfer syntax", UNKNOWN_SYNTAX)
    return syntax


class _Plain:
    """Writes a value, after its length."""

    def __init__(self, value: _Value, padding: bytes) -> None:
        self._value = value
        self._padding = padding

    def __call__(self, sink: SpoolSink) -> None:
        size = self._value.size()
        if size >= _UNDEFINED - 1:
            raise _Unfit("a value is too large for an element")
        sink.write([memoryview(struct.pack("<L", size + size % 2))])
        _copy(self._value.path, sink)
        if size % 2:
            sink.write([memoryview(self._padding)])


class _Frames:
    """Writes compressed frames, each as one fragment, without offsets (PS3.5 Section A.4)."""

    def __init__(self, values: list[_Value]) -> None:
        self._values = values

    def __call__(self, sink: SpoolSink) -> None:
        head = struct.pack("<L", _UNDEFINED) + _ITEM.pack(0xFFFE, 0xE000, 0)
        sink.write([memoryview(head)])
        for value in self._values:
            size = value.size()
            if size >= _UNDEFINED - 1:
                raise _Unfit("a frame is too large for a fragment")
            sink.write([memoryview(_ITEM.pack(0xFFFE, 0xE000, size + size % 2))])
            _copy(value.path, sink)
            sink.write([memoryview(b"\0"[: size % 2])])
        sink.write([memoryview(_ITEM.pack(0xFFFE, 0xE0DD, 0))])


def _copy(path: Path, sink: SpoolSink) -> None:
    buffer = memoryview(bytearray(_PIECE))
    with path.open("rb", buffering=0) as file:
        while count := file.readinto(buffer):
            sink.write([buffer[:count]])
