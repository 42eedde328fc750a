"""Writes the bodies of STOW-RS requests; reads the result for each object (PS3.18 10.5)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

from dicomwire.data.file_head import file_head
from dicomwire.data.new_files import Buffer
from dicomwire.data.sources import Data, Source
from dicomwire.data.storable import Storable, open_storable
from dicomwire.data.streams import Stream
from dicomwire.web.multipart import END_OF_CONTENT, message_end, new_boundary, part_head
from dicomwire.web.requests import JSON, Request, resource

_DICOM = "application/dicom"
MOST_OBJECTS = 100
"""The most objects of a request: enough that the time of a request is little for each of them."""
MOST_BYTES = 64 * 1024 * 1024
"""The most bytes of a request of several objects. Servers have limits, and a failure concerns all
objects of a request."""
_PIECE = 128 * 1024
"""Bytes that are written to the connection at a time."""


@dataclass(frozen=True, slots=True)
class Stored:
    """The result for one object.

    Attributes
    ----------
    item : object
        The object as it was given.
    sop_instance_uid : str
        Empty if it could not be read.
    status : int or None
        0 for success; otherwise the warning or the reason of the failure that the server states
        (PS3.18 Tables I.2-2 and I.2-3). None if it states none.
    failure : Exception or None
        Why there is no status: the object cannot be read, or the request failed.
    retrieve_url : str
        Where the object can be retrieved, if the server says it.
    """

    item: Any
    sop_instance_uid: str = ""
    status: int | None = None
    failure: Exception | None = None
    retrieve_url: str = ""
    is_stored: bool = False
    """Whether the server has stored the object, perhaps with a warning."""


class Planned(NamedTuple):
    """An object of a request."""

    item: Storable
    sop_instance_uid: str
    head: bytes
    """The bytes before its dataset."""
    data: Buffer | None
    """Its dataset if that is in memory; otherwise the item is opened again to be sent."""
    length: int | None
    """The bytes of its part; None if that is not known."""


class Upload(NamedTuple):
    """The objects of one request."""

    objects: list[Planned]
    boundary: str

    @property
    def length(self) -> int | None:
        """The bytes of its body; None if that is not known."""
        total = len(message_end(self.boundary))
        for each in self.objects:
            if each.length is None:
                return None
            total += each.length
        return total

    def request(self, study: str) -> Request:
        """Return the request that stores the objects."""
        return Request(
            "POST",
            resource(study) or "/studies",
            headers={
                "Accept": JSON,
                "Content-Type": f'multipart/related; type="{_DICOM}"; boundary={self.boundary}',
            },
            body=partial(_joined, self._pieces),
            length=self.length,
            is_repeatable=False,
            has_stream=any(isinstance(each.item, Stream) for each in self.objects),
        )

    def _pieces(self) -> Iterator[bytes | memoryview]:
        for each in self.objects:
            yield each.head
            if each.data is not None:
                yield from _pieces_of(each.data)
            else:
                with closing(open_storable(each.item)) as opened:
                    yield from _pieces_of(opened.encoded_in(opened.transfer_syntax_uid))
            yield END_OF_CONTENT
        yield message_end(self.boundary)


def _pieces_of(data: Data) -> Iterator[bytes | memoryview]:
    if isinstance(data, bytes | bytearray | memoryview):
        view = memoryview(data)
        for at in range(0, len(view), _PIECE):
            yield view[at : at + _PIECE]
        return
    source: Source = data
    buffer = memoryview(bytearray(_PIECE))
    while count := source.readinto([buffer]):
        yield bytes(buffer[:count])
        if count < _PIECE:
            return


def _joined(pieces: Callable[[], Iterator[bytes | memoryview]]) -> Iterator[bytes]:
    """Yield the pieces, with small ones joined, since httpx writes each in a call of its own."""
    waiting: list[bytes | memoryview] = []
    size = 0
    for piece in pieces():
        waiting.append(piece)
        size += len(piece)
        if size >= _PIECE:
            yield b"".join(waiting)
            waiting.clear()
            size = 0
    if waiting:
        yield b"".join(waiting)


def uploads(
    items: Iterable[Storable], most_objects: int, most_bytes: int
) -> Iterator[Upload | Stored]:
    """Yield the requests for objects, and a result for each object that cannot be sent."""
    boundary = new_boundary()
    upload, size = Upload([], boundary), 0
    for item in items:
        try:
            planned = _planned(item, boundary)
        except (OSError, ValueError, TypeError, AttributeError) as error:
            yield Stored(item, failure=error)
            continue
        length = most_bytes if planned.length is None else planned.length
        if upload.objects and (size + length > most_bytes or len(upload.objects) >= most_objects):
            yield upload
            upload, size = Upload([], boundary), 0
        upload.objects.append(planned)
        size += length
    if upload.objects:
        yield upload


def _planned(item: Storable, boundary: str) -> Planned:
    with closing(open_storable(item)) as opened:
        uids = opened.sop_class_uid, opened.sop_instance_uid, opened.transfer_syntax_uid
        head = part_head(boundary, {"Content-Type": _DICOM}) + file_head(*uids)
        data, size = None, None
        if isinstance(item, Stream):
            if item.is_asynchronous:
                raise TypeError("the chunks of a stream for HTTP cannot be asynchronous")
            size = item.length
        else:
            encoded = opened.encoded_in(opened.transfer_syntax_uid)
            if isinstance(encoded, bytes | bytearray | memoryview):
                data, size = encoded, len(encoded)
            else:
                size = encoded.length
        length = None if size is None else len(head) + size + len(END_OF_CONTENT)
        return Planned(item, opened.sop_instance_uid, head, data, length)


# --- Responses --------------------------------------------------------------------------------

_REFERENCED, _FAILED, _OTHERS = "00081199", "00081198", "0008119A"
_UID, _URL, _WARNING, _REASON = "00081155", "00081190", "00081196", "00081197"


def results(upload: Upload, module: Mapping[str, Any] | None, failure: Exception) -> list[Stored]:
    """Return the results for the objects of a request, in their order.

    Parameters
    ----------
    module : mapping or None
        The Store Instances Response Module of the response, in the DICOM JSON Model; None if it
        has none.
    failure : Exception
        For objects about which the module says nothing.
    """
    if module is None:
        return [_failed(each, failure) for each in upload.objects]
    stored = _by_uid(module, _REFERENCED)
    failed = _by_uid(module, _FAILED)
    others = _items(module, _OTHERS)
    found = []
    for each in upload.objects:
        uid = each.sop_instance_uid
        if items := stored.get(uid):
            item = items.pop(0)
            warning = _number(item, _WARNING)
            found.append(Stored(each.item, uid, warning or 0, None, _first(item, _URL), True))
        elif items := failed.get(uid):
            found.append(Stored(each.item, uid, _number(items.pop(0), _REASON), None))
        elif others:
            found.append(Stored(each.item, uid, _number(others.pop(0), _REASON), None))
        else:
            found.append(_failed(each, failure))
    return found


def _failed(planned: Planned, failure: Exception) -> Stored:
    return Stored(planned.item, planned.sop_instance_uid, failure=failure)


def _by_uid(module: Mapping[str, Any], tag: str) -> dict[str, list[Mapping[str, Any]]]:
    found: dict[str, list[Mapping[str, Any]]] = {}
    for item in _items(module, tag):
        found.setdefault(_first(item, _UID), []).append(item)
    return found


def _items(module: Mapping[str, Any], tag: str) -> list[Mapping[str, Any]]:
    return [item for item in _values(module, tag) if isinstance(item, dict)]


def _values(item: Mapping[str, Any], tag: str) -> list[Any]:
    element = item.get(tag)
    values = element.get("Value") if isinstance(element, dict) else None
    return values if isinstance(values, list) else []


def _first(item: Mapping[str, Any], tag: str) -> str:
    values = _values(item, tag)
    return str(values[0]) if values else ""


def _number(item: Mapping[str, Any], tag: str) -> int | None:
    values = _values(item, tag)
    return values[0] if values and isinstance(values[0], int) else None
