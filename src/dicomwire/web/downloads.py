"""Reads the parts of WADO-RS responses: objects, frames and bulk data (PS3.18 Section 10.4).

Objects go into files or memory. `operations` reads the bytes of the responses.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pydicom.dataset import Dataset

from dicomwire.data.file_head import file_head
from dicomwire.data.file_meta import FileFormatError, FileHead, HeadReader, decode_object
from dicomwire.data.payloads import Payload
from dicomwire.data.sinks import FileSink, MemorySink, Sink
from dicomwire.web.multipart import End, Event, Malformed, MediaType, Part, media_type

_is_uid = re.compile(r"[0-9][0-9.]{0,63}").fullmatch
_DICOM, _BYTES = "application/dicom", "application/octet-stream"

LARGEST_IN_MEMORY = 2 * 1024 * 1024 * 1024
"""The most bytes of a part that is kept in memory: a frame, a value, or an object to be decoded."""

Name = Callable[[FileHead], str]
"""Returns the name of the file of an object, without a folder."""


@dataclass(frozen=True, slots=True)
class Retrieved:
    """An object that was retrieved into a file."""

    path: Path
    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    size: int
    """The bytes of its dataset."""


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame, or another value, in memory."""

    data: bytes
    media_type: str
    transfer_syntax_uid: str
    """Empty if the server does not state it."""


class Objects:
    """Takes the parts of a response with objects.

    Parameters
    ----------
    sink : callable
        Returns the sink of an object, by the UIDs in its file meta information.
    """

    def __init__(self, sink: Callable[[FileHead], Sink]) -> None:
        self._sink_for = sink
        self._reader = HeadReader()
        self._begun: tuple[FileHead, Sink] | None = None

    def take(self, event: Event) -> tuple[FileHead, Payload] | None:
        """Take an event of the response; return an object when it is complete.

        Raises
        ------
        Malformed
            If a part is no object.
        OSError
            If it cannot be kept.
        """
        try:
            if isinstance(event, Part):
                if media_type(event.headers.get("content-type", _DICOM)).name != _DICOM:
                    raise Malformed("a part of the response is no DICOM object")
                self._reader = HeadReader()
            elif isinstance(event, memoryview):
                self._write(event)
            elif event is End.PART:
                return self._finish()
        except FileFormatError as error:
            raise Malformed(f"a part of the response is no DICOM file: {error}") from None
        return None

    def discard(self) -> None:
        """Drop an object that is not complete."""
        if self._begun is not None:
            self._begun[1].discard()

    def _write(self, data: memoryview) -> None:
        if self._begun is not None:
            self._begun[1].write([data])
        elif (found := self._reader.feed(data)) is not None:
            self._begin(*found)

    def _begin(self, head: FileHead, begin: memoryview) -> None:
        self._begun = head, self._sink_for(head)
        self._begun[1].write([begin])

    def _finish(self) -> tuple[FileHead, Payload]:
        if self._begun is None:
            self._begin(*self._reader.finish())
        assert self._begun is not None
        head, sink = self._begun
        payload = sink.finish()
        self._begun = None
        return head, payload


class Values:
    """Takes the parts of a response with frames or other values, each in memory."""

    def __init__(self) -> None:
        self._kind: MediaType | None = None
        self._data = bytearray()

    def take(self, event: Event) -> Frame | None:
        """Take an event of the response; return a value when it is complete.

        Raises
        ------
        Malformed
            If it is too large for memory.
        """
        if isinstance(event, Part):
            self._kind = media_type(event.headers.get("content-type", _BYTES))
        elif isinstance(event, memoryview):
            self._data += event
            if len(self._data) > LARGEST_IN_MEMORY:
                raise Malformed("a value of the response is too large for memory")
        elif event is End.PART:
            assert self._kind is not None
            data, self._data = self._data, bytearray()
            syntax = self._kind.parameters.get("transfer-syntax", "")
            return Frame(bytes(data), self._kind.name, syntax)
        return None


def file_sink(folder: str | os.PathLike[str], name: Name | None) -> Callable[[FileHead], Sink]:
    """Return a function that creates the file of an object; it replaces a file of the same name."""

    def sink(head: FileHead) -> Sink:
        file = _safe_name(head) if name is None else name(head)
        return FileSink(folder, file, file_head(*head[:3]))

    return sink


def memory_sink(head: FileHead) -> Sink:
    """Return a sink that keeps an object in memory."""
    return MemorySink(LARGEST_IN_MEMORY)


def _safe_name(head: FileHead) -> str:
    """Return the SOP Instance UID as the name of a file; its digest if it is none."""
    uid = str(head.sop_instance_uid)
    if not _is_uid(uid):
        uid = hashlib.sha256(uid.encode("utf-8", "surrogatepass")).hexdigest()[:32]
    return f"{uid}.dcm"


def dataset_in(head: FileHead, payload: Payload) -> Dataset:
    """Return the dataset of an object in memory; DatasetError if it cannot be decoded."""
    return decode_object(bytearray(payload.view()), *head[:3])
