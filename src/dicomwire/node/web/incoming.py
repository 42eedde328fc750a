"""The objects of a STOW-RS request: receives them into the spool, and stores them in batches.

No HTTP is here. `storing` reads the request, and `stored` makes the response.
"""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Callable, Mapping
from typing import NamedTuple, Protocol

from dicomwire.data.file_meta import FileFormatError, FileHead, HeadReader
from dicomwire.data.payloads import Payload
from dicomwire.data.sinks import SinkFull
from dicomwire.logs import counted
from dicomwire.node.batches import Arrived
from dicomwire.node.commit import Committer
from dicomwire.node.heads import Origin
from dicomwire.node.ingest import Unacceptable
from dicomwire.node.objects.spool import Spool
from dicomwire.node.statuses import CANNOT_UNDERSTAND, COERCED, MISMATCH, OUT_OF_RESOURCES, SUCCESS
from dicomwire.web.multipart import End, Malformed, Parser, Part, media_type

LOGGER = logging.getLogger("dicomwire.node")

DICOM = "application/dicom"
_is_uid = re.compile(r"[0-9.]{1,64}").fullmatch
_MOST_IN_BATCH = 64
"""Objects that are stored together: one sync for so many takes little of the time of each."""
_MOST_BYTES = 1024 * 1024
"""Bytes of memory of such objects, for each request. Of a large object, only the beginning is in
memory."""

MakeOrigin = Callable[[str, str, str], Origin]
"""Returns the origin of an object by its UIDs: SOP Class, SOP Instance and transfer syntax."""


class Result(NamedTuple):
    """What became of one object."""

    status: int
    """As that of a C-STORE response."""
    sop_class_uid: str = ""
    sop_instance_uid: str = ""
    """Both are empty if they could not be read."""
    study_uid: str = ""
    series_uid: str = ""
    is_too_large: bool = False
    """Whether it has more bytes than the archive takes of an object."""

    @property
    def is_stored(self) -> bool:
        """Whether the archive has it, perhaps with a warning."""
        return self.status in (SUCCESS, COERCED)


class Batches:
    """Stores objects in batches, and notes the results.

    Parameters
    ----------
    committer : Committer
    study : str
        The Study Instance UID that all objects shall have; "" if they may have any.
    origin : MakeOrigin

    Attributes
    ----------
    results : list of Result
    """

    def __init__(self, committer: Committer, study: str, origin: MakeOrigin) -> None:
        self.results: list[Result] = []
        self._committer = committer
        self._study = study
        self._origin = origin
        self._arrived: list[Arrived] = []
        self._bytes = 0

    def add(self, payload: Payload, sop_class: str, sop_instance: str, syntax: str) -> None:
        """Store a received dataset, now or with the next ones. It is discarded in any case."""
        try:
            arrived = self._committer.read(payload, self._origin(sop_class, sop_instance, syntax))
            if self._study and arrived.entry.study_uid != self._study:
                LOGGER.warning("An object is refused: it is of another study than the request")
                raise Unacceptable("the object is of another study than the request", MISMATCH)
        except Unacceptable as error:
            payload.discard()
            self.fail(error.status, sop_class, sop_instance)
            return
        self._arrived.append(arrived)
        self._bytes += len(arrived.spooled.begin)
        if len(self._arrived) >= _MOST_IN_BATCH or self._bytes >= _MOST_BYTES:
            self.flush()

    def fail(
        self, status: int, sop_class: str = "", sop_instance: str = "", is_too_large: bool = False
    ) -> None:
        """Note that an object is not stored. Text that is no UID is not sent back."""
        if not (_is_uid(sop_class) and _is_uid(sop_instance)):
            sop_class = sop_instance = ""
        self.results.append(Result(status, sop_class, sop_instance, is_too_large=is_too_large))

    def flush(self) -> None:
        """Store the objects that wait."""
        arrived, self._arrived, self._bytes = self._arrived, [], 0
        try:
            statuses = self._committer.store_all(arrived) if arrived else []
        finally:
            for each in arrived:
                each.spooled.discard()
        for each, status in zip(arrived, statuses, strict=True):
            entry = each.entry
            class_uid, uid = entry.origin.sop_class_uid, entry.instance_uid
            self.results.append(Result(status, class_uid, uid, entry.study_uid, entry.series_uid))

    def discard(self) -> None:
        """Drop the objects that wait."""
        arrived, self._arrived = self._arrived, []
        for each in arrived:
            each.spooled.discard()


class Content(Protocol):
    """Takes the content of one part."""

    def write(self, data: memoryview) -> None:
        """Take the next bytes."""

    def finish(self) -> None:
        """Note that the part is complete."""

    def discard(self) -> None:
        """Drop what has been taken, unless it is finished."""


class Contents(Protocol):
    """Takes the parts of one kind of request."""

    def begin(self, headers: Mapping[str, str]) -> Content:
        """Return what takes the content of a part.

        Raises
        ------
        Malformed
            If no such part can be in the request.
        """

    def finish(self) -> None:
        """Note that all parts are complete."""

    def discard(self) -> None:
        """Drop what is left of them."""


class Files:
    """Takes DICOM files, one in each part."""

    def __init__(self, spool: Spool, batches: Batches) -> None:
        self._spool = spool
        self._batches = batches

    def begin(self, headers: Mapping[str, str]) -> Content:
        """Take a file; see `Contents`."""
        kind = headers.get("content-type", DICOM)
        if media_type(kind).name != DICOM:
            LOGGER.warning("A part of a request is refused: it is not %s", DICOM)
            self._batches.fail(CANNOT_UNDERSTAND)
            return Ignored()
        return _File(self._spool, self._batches)

    def finish(self) -> None:
        """Do nothing: each file is stored by itself."""

    def discard(self) -> None:
        """Do nothing."""


class Ignored:
    """Takes a part that cannot be stored, and drops it; see `Content`."""

    def write(self, data: memoryview) -> None:
        """Do nothing."""

    def finish(self) -> None:
        """Do nothing."""

    def discard(self) -> None:
        """Do nothing."""


class _File:
    """Takes one DICOM file (PS3.10 Section 7)."""

    def __init__(self, spool: Spool, batches: Batches) -> None:
        self._batches = batches
        self._reader = HeadReader()
        self._sink = spool.sink()
        self._head: FileHead | None = None
        self._failure: OSError | FileFormatError | None = None

    def write(self, data: memoryview) -> None:
        """Take the next bytes; after a failure, drop them."""
        if self._failure is not None:
            return
        try:
            if self._head is not None:
                self._sink.write([data])
            elif (found := self._reader.feed(data)) is not None:
                self._take(*found)
        except (OSError, FileFormatError) as error:
            self._fail(error)

    def finish(self) -> None:
        """Store the object, or note why that is impossible."""
        try:
            if self._head is None and self._failure is None:
                self._take(*self._reader.finish())
        except (OSError, FileFormatError) as error:
            self._fail(error)
        uids = ("", "") if self._head is None else self._head[:2]
        if isinstance(self._failure, FileFormatError):
            self._batches.fail(CANNOT_UNDERSTAND)
        elif self._failure is not None:
            is_too_large = isinstance(self._failure, SinkFull)
            self._batches.fail(OUT_OF_RESOURCES, *uids, is_too_large=is_too_large)
        elif self._head is not None:
            self._batches.add(self._sink.finish(), *self._head[:3])

    def discard(self) -> None:
        """Remove what was received."""
        self._sink.discard()

    def _take(self, head: FileHead, begin: memoryview) -> None:
        self._head = head
        self._sink.write([begin])

    def _fail(self, error: OSError | FileFormatError) -> None:
        self._sink.discard()
        self._failure = error
        LOGGER.warning("A part of a request is refused: %s", error)


class Incoming:
    """Receives a request, and stores its objects.

    Parameters
    ----------
    parser : Parser
    batches : Batches
    contents : Contents
    """

    def __init__(self, parser: Parser, batches: Batches, contents: Contents) -> None:
        self._parser = parser
        self._batches = batches
        self._contents = contents
        self._part: Content | None = None
        self._lock = threading.Lock()
        """Guards all of it. If a request breaks off, `discard` waits here until `feed` returns."""

    def feed(self, data: bytes) -> None:
        """Take the next bytes of the request; this may store objects.

        Raises
        ------
        Malformed
        """
        with self._lock:
            for event in self._parser.feed(data):
                if isinstance(event, Part):
                    self._part = self._contents.begin(event.headers)
                elif isinstance(event, memoryview):
                    assert self._part is not None
                    self._part.write(event)
                elif event is End.PART:
                    part, self._part = self._part, None
                    assert part is not None
                    part.finish()

    def finish(self) -> list[Result]:
        """Store the objects that are left, and return the results of all.

        Raises
        ------
        Malformed
        """
        with self._lock:
            self._parser.finish()
            self._contents.finish()
            self._batches.flush()
            return self._batches.results

    def finish_after(self, fault: Malformed) -> list[Result]:
        """Store the objects that are complete in a malformed request; return their results.

        Raises
        ------
        Malformed
            `fault`, if there is none.
        """
        with self._lock:
            self._batches.flush()
            if not self._batches.results:
                raise fault
            objects = counted(len(self._batches.results), "object")
            LOGGER.warning("A request breaks off after %s", objects)
            self._batches.fail(CANNOT_UNDERSTAND)
            return self._batches.results

    def discard(self) -> None:
        """Drop what is not stored."""
        with self._lock:
            if self._part is not None:
                self._part.discard()
            self._contents.discard()
            self._batches.discard()
