"""Group commit: objects of many associations become durable together, and findable, or fail.

How files and index are written is in `storage` and `index`; here is in which order, and who waits.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple

from sqlalchemy.exc import OperationalError

from dicomwire.data.codec import DatasetError
from dicomwire.data.file_meta import parse_file_meta
from dicomwire.data.payloads import Payload
from dicomwire.logs import escaped
from dicomwire.node.configuration import Duplicates
from dicomwire.node.content import Comparison, Unreadable, compare
from dicomwire.node.converters import Converters
from dicomwire.node.heads import Origin
from dicomwire.node.index import Index, IndexFailure, Placed, Stored
from dicomwire.node.ingest import CANNOT_UNDERSTAND, Entry, Truncated, Unacceptable, origin_uid
from dicomwire.node.keys import Level
from dicomwire.node.maintenance import reconcile
from dicomwire.node.storage import Spooled, Storage, is_missing
from dicomwire.node.transcode import CannotTranscode

LOGGER = logging.getLogger("dicomwire")

SUCCESS = 0x0000
COERCED = 0xB000
"""Warning: Coercion of Data Elements (PS3.4 Table B.2-1): it is found by another Patient ID."""
OUT_OF_RESOURCES = 0xA700
"""Refused: Out of Resources (PS3.4 Table B.2-1): nothing was kept, and trying again may help."""
DUPLICATE = 0x0111
"""Duplicate SOP Instance (PS3.7 Annex C).

PS3.4 Section B.2.3 has no code of its own for this, and refers to PS3.7 for the general ones.
"""


class _Outcome(NamedTuple):
    """What becomes of an object."""

    status: int | None
    """What to answer; None if that is not decided."""
    remark: str = ""
    """For the log, with places for the UID of the object and the title of its sender."""


_STORED = _Outcome(SUCCESS)
_COERCED = _Outcome(
    COERCED,
    "%s from %s has another Patient ID than its study: it is found by that of the study",
)
_REFUSED = _Outcome(DUPLICATE, "%s from %s is refused: another object of this UID is there")
_IGNORED = _Outcome(SUCCESS, "%s from %s is ignored: another object of this UID is there")
_FAILED = _Outcome(OUT_OF_RESOURCES)
_UNDECIDED = _Outcome(None)
_OF_KEPT_FIRST = {Duplicates.KEEP_FIRST: _REFUSED, Duplicates.IGNORE: _IGNORED}
"""What becomes of other content by the policies that keep what is there alone."""


class _Waiting:
    """An object on the disk that waits for its place, with the thread that brought it."""

    __slots__ = (
        "baton",
        "digest",
        "entry",
        "equals",
        "is_done",
        "others",
        "outcome",
        "rivals",
        "spooled",
        "uid",
    )

    def __init__(self, spooled: Spooled, entry: Entry) -> None:
        self.spooled = spooled
        self.entry = entry
        self.uid = entry.instance_uid
        self.digest = spooled.digest(entry.origin.transfer_syntax_uid).hex()
        self.outcome = _STORED
        """What becomes of it if the batch succeeds; once it is done, what became of it."""
        self.is_done = False
        self.equals = {self.digest}
        """The digests of datasets that are known to have its content, however they are encoded."""
        self.others: set[str] = set()
        """The digests of those that are known to have other content."""
        self.rivals: list[Stored] = []
        """What it has to be compared with before its outcome can be decided."""
        self.baton = threading.Lock()
        self.baton.acquire()


class _Plan:
    """What is to be done for the objects of one batch."""

    __slots__ = ("_copies", "_duplicates", "_storage", "accepted", "superseded")

    def __init__(
        self, storage: Storage, duplicates: Duplicates, known: dict[str, list[Stored]]
    ) -> None:
        self._storage = storage
        self._duplicates = duplicates
        self.accepted: dict[_Waiting, int] = {}
        """To be put in place, with the number of the copy."""
        self.superseded: list[Stored] = []
        """To be removed, once those are durable."""
        self._copies: dict[str, list[Stored | _Waiting]] = {
            uid: self._present(copies) for uid, copies in known.items()
        }

    def _present(self, copies: list[Stored]) -> list[Stored | _Waiting]:
        """Return those whose file is there: nothing is like, or before, what has been lost."""
        present: list[Stored | _Waiting] = []
        for stored in copies:
            if is_missing(self._storage.open_path(stored.file)):
                LOGGER.error("The file %s is missing; its object is stored again", stored.file)
                self.superseded.append(stored)
            else:
                present.append(stored)
        return present

    def add(self, waiting: _Waiting) -> None:
        """Decide what becomes of an object, also in the light of those before it in the batch."""
        copies = self._copies.setdefault(waiting.uid, [])
        if any(copy.digest in waiting.equals for copy in copies):
            return  # it is there
        unknown = [copy for copy in copies if copy.digest not in waiting.others]
        if unknown:
            # Those of this batch are in the index when it comes again.
            waiting.rivals = [copy for copy in unknown if isinstance(copy, Stored)]
            waiting.outcome = _UNDECIDED
            return
        number = 0
        if copies and self._duplicates in _OF_KEPT_FIRST:
            waiting.outcome = _OF_KEPT_FIRST[self._duplicates]
            return
        if self._duplicates is Duplicates.REPLACE:
            for copy in copies:
                if isinstance(copy, Stored):
                    self.superseded.append(copy)
                else:
                    del self.accepted[copy]
            copies.clear()
        elif copies:
            number = 1 + max(
                copy.copy if isinstance(copy, Stored) else self.accepted[copy] for copy in copies
            )
        copies.append(waiting)
        self.accepted[waiting] = number


def _entry(origin: Origin, spooled: Spooled) -> Entry:
    """Return what there is to index, from the begin of the dataset where that will do."""
    if len(spooled.begin) < spooled.size:
        with contextlib.suppress(Truncated):
            return Entry(origin, spooled.begin, is_whole=False)
    return Entry(origin, spooled.view())


def _dataset_in(file: BinaryIO) -> tuple[BinaryIO, str]:
    """Return a DICOM file, positioned at its dataset, and its transfer syntax."""
    file.seek(0)
    head = parse_file_meta(file)
    file.seek(head.offset)
    return file, head.transfer_syntax_uid


def _named(waiting: _Waiting) -> tuple[str, str]:
    """Return what the log says of an object: its UID, and who sent it."""
    return waiting.uid, escaped(waiting.entry.origin.source_ae)


class Committer:
    """Stores what the handlers of all associations bring, in batches.

    The thread of the first object to come leads: it commits all that wait by then, its own among
    them, and passes the lead on to one of those that came meanwhile. With one association there is
    no other thread to hand to and wait for; with many, nobody waits for a sync of his own.

    Parameters
    ----------
    storage, index
        Of one folder; they are reconciled at once.
    converters : Converters
        To compare pixels in different transfer syntaxes.
    duplicates : Duplicates
        What becomes of an object whose UID is there already, with other contents.

    Raises
    ------
    IndexFailure, OSError
        When they cannot be reconciled.
    """

    def __init__(
        self,
        storage: Storage,
        index: Index,
        converters: Converters,
        duplicates: Duplicates = Duplicates.KEEP_FIRST,
    ) -> None:
        self._storage = storage
        self._index = index
        self._converters = converters
        self._duplicates = duplicates
        self._queue: list[_Waiting] = []
        self._is_led = False
        self._lock = threading.Lock()  # for the two above
        self._committing = threading.Lock()
        self._is_reconciled = False
        self._is_closed = False
        self.recover()

    def recover(self) -> None:
        """See that the index is there, and make it anew from the files if it was deleted."""
        with self._committing:
            self._see_to_index()

    def close(self) -> None:
        """Store nothing any more; what is being stored is when this returns."""
        with self._committing:
            self._is_closed = True

    def store(self, spooled: Payload | None, origin: Origin) -> int:
        """Store an object; return the status of it when it is durable and findable, or refused.

        Parameters
        ----------
        spooled : Payload
            From `Storage.sink`, and the caller's to discard, whatever becomes of it.
        origin : Origin
            What the request says of it.
        """
        if not isinstance(spooled, Spooled):
            return CANNOT_UNDERSTAND  # no dataset came
        try:
            origin = origin._replace(
                sop_class_uid=origin_uid(origin.sop_class_uid),
                sop_instance_uid=origin_uid(origin.sop_instance_uid),
            )
            entry = _entry(origin, spooled)
            # Here each thread does that for itself, and what it trips over is its own.
            for level in [Level.IMAGE] if self._index.knows(entry) else Level:
                entry.row(level)
            spooled.seal(origin)
        except Unacceptable as error:
            LOGGER.warning("An object is refused: %s", error)
            return error.status
        except OSError as error:
            LOGGER.error("An object cannot be written: %s", error.strerror or error)
            return OUT_OF_RESOURCES
        waiting = _Waiting(spooled, entry)
        self._wait_or_lead(waiting)
        while waiting.outcome.status is None:
            # Here, and not while the batch is committed, for which others wait.
            try:
                self._compare(waiting)
            except OSError as error:
                LOGGER.error("An object cannot be compared: %s", error.strerror or error)
                return OUT_OF_RESOURCES
            self._wait_or_lead(waiting)
        return waiting.outcome.status

    def _compare(self, waiting: _Waiting) -> None:
        """Find out which of its rivals have the content of an object."""
        path = waiting.spooled.path
        assert path is not None
        with path.open("rb") as received:
            for rival in waiting.rivals:
                with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                    # A file that is gone was replaced meanwhile, or is missing in the next batch.
                    with self._storage.open_path(rival.file).open("rb") as stored:
                        is_same = self._is_same(waiting, received, stored)
                    (waiting.equals if is_same else waiting.others).add(rival.digest)
        waiting.rivals = []
        waiting.is_done = False

    def _is_same(self, waiting: _Waiting, received: BinaryIO, stored: BinaryIO) -> bool:
        """Return whether two files have objects of the same content.

        What cannot be compared has not.
        """
        try:
            found = compare(*_dataset_in(received), *_dataset_in(stored))
            if found is Comparison.BY_PIXELS:
                digest = self._converters.pixel_digest
                return digest(Path(received.name)) == digest(Path(stored.name))
        except (DatasetError, Unreadable, CannotTranscode) as error:
            text = "%s from %s cannot be compared with another object of this UID: %s"
            LOGGER.warning(text, *_named(waiting), error)
            return False
        return found is Comparison.SAME

    def _wait_or_lead(self, mine: _Waiting) -> None:
        with self._lock:
            self._queue.append(mine)
            follows, self._is_led = self._is_led, True
        if follows:
            mine.baton.acquire()  # to be had when it is done, or when this thread is to lead
            if mine.is_done:
                return
        with self._lock:
            batch, self._queue = self._queue, []
        try:
            self._commit(batch)
        finally:
            with self._lock:
                leader = self._queue[0] if self._queue else None
                self._is_led = leader is not None
            if leader is not None:
                leader.baton.release()
            for waiting in batch:
                if waiting is not mine:
                    waiting.baton.release()

    def _commit(self, batch: Sequence[_Waiting]) -> None:
        """Give every object of `batch` its outcome."""
        succeeded = is_unforeseen = False
        for waiting in batch:
            waiting.outcome = _STORED
        try:
            with self._committing:
                if not self._is_closed:
                    self._see_to_index()
                    self._store_all(batch)
                    succeeded = True
        except (OSError, IndexFailure) as error:
            cause = getattr(error, "orig", None) or error
            LOGGER.error("%d objects cannot be stored: %s", len(batch), cause)
            is_unforeseen = not isinstance(error, OSError | OperationalError)
        except Exception:
            LOGGER.exception("%d objects cannot be stored", len(batch))
            is_unforeseen = True
        finally:
            for waiting in batch:
                if not succeeded:
                    waiting.outcome = _FAILED
                waiting.is_done = True
                if waiting.outcome.remark:
                    LOGGER.warning(waiting.outcome.remark, *_named(waiting))
        if is_unforeseen and len(batch) > 1:  # it is due to one of them
            for waiting in batch:
                self._commit([waiting])

    def _see_to_index(self) -> None:
        if self._index.is_lost:
            LOGGER.error("The index was deleted or replaced: it is made anew from the files")
            self._is_reconciled = False
            self._index.reopen()
        if not self._is_reconciled:
            reconcile(self._storage, self._index, self._duplicates)
            self._is_reconciled = True

    def _store_all(self, batch: Sequence[_Waiting]) -> None:
        """Put all files in place, then all into the index; both are durable when this returns."""
        published: list[Spooled] = []
        names: list[str] = []
        try:
            with self._index.writing() as writer:
                known = writer.find([waiting.uid for waiting in batch])
                plan = _Plan(self._storage, self._duplicates, known)
                for waiting in batch:
                    plan.add(waiting)
                published = [waiting.spooled for waiting in plan.accepted]
                names = self._storage.publish(published)
                replaces = bool(plan.superseded)
                if replaces:
                    writer.remove([stored.id for stored in plan.superseded])
                replaced = {stored.sop_instance_uid for stored in plan.superseded}
                placed = {
                    Placed(
                        waiting.entry,
                        name,
                        waiting.spooled.file_size,
                        waiting.digest,
                        waiting.spooled.received,
                        number,
                        waiting.uid in replaced,
                    ): waiting
                    for (waiting, number), name in zip(plan.accepted.items(), names, strict=True)
                }
                for other in writer.add(list(placed)):
                    placed[other].outcome = _COERCED
                if replaces:
                    writer.prune()
        except BaseException:
            self._storage.take_back(published, names)
            raise
        # Only now: until the new file is durable, the old one is what was acknowledged.
        self._storage.withdraw([stored.file for stored in plan.superseded])
