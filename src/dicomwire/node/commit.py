"""Group commit: stores the objects of many associations in batches, durable and indexed.

`objects` has the files and `index` the database; this module decides in which order, and which
threads wait for which.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import threading
from collections.abc import Callable, Sequence
from time import perf_counter

from sqlalchemy.exc import OperationalError

from dicomwire.data.codec import DatasetError
from dicomwire.data.payloads import Payload
from dicomwire.logs import counted, escaped
from dicomwire.node.batches import (
    FAILED,
    OF_OTHER_PATIENT,
    OUTSIDE,
    STORED,
    Arrived,
    Doubtful,
    Group,
    Plan,
    Waiters,
)
from dicomwire.node.carrying import StoreTasks
from dicomwire.node.configuration import Duplicates
from dicomwire.node.content import Comparison, compare, dataset_in
from dicomwire.node.converters import Converters
from dicomwire.node.elements import Unreadable
from dicomwire.node.failures import log_unexpected
from dicomwire.node.files import StoreFailure
from dicomwire.node.heads import Origin
from dicomwire.node.index.database import IndexFailure, InDoubt, reason_of
from dicomwire.node.index.writer import Conflict, Index, Writer
from dicomwire.node.ingest import Entry, Truncated, Unacceptable
from dicomwire.node.journal import Journal
from dicomwire.node.keys import Level
from dicomwire.node.maintenance import is_made, make_index, reconcile, refuse_if_empty
from dicomwire.node.objects.port import Objects
from dicomwire.node.objects.spool import Spooled
from dicomwire.node.routing import Routing
from dicomwire.node.statuses import CANNOT_UNDERSTAND, OUT_OF_RESOURCES
from dicomwire.node.tasks.queue import NewTask
from dicomwire.node.transcode import CannotTranscode

LOGGER = logging.getLogger("dicomwire")

_MOST_CONFLICTS = 10
"""How often a batch is repeated: each time, another process has stored something meanwhile."""


def _entry(origin: Origin, spooled: Spooled) -> Entry:
    """Return the index entry of an object, from the beginning of its dataset if that suffices."""
    begin = spooled.begin
    if len(begin) < spooled.size:
        with contextlib.suppress(Truncated):
            return Entry(origin, begin, is_whole=False)
        begin = spooled.view()
    return Entry(origin, begin)


def _named(waiting: Arrived) -> tuple[str, str]:
    """Return UID and sender of an object, for the log."""
    return waiting.uid, escaped(waiting.entry.origin.source_ae)


class Committer:
    """Stores the objects of all associations, in batches.

    The thread of the first object leads: it commits all objects that are waiting, its own
    included, and then makes the thread of an object that arrived meanwhile the leader. So with
    one association no thread waits for another, and with many one sync serves many objects. A
    thread that has several objects at a time stores them in one batch (`store_all`).

    A thread holds at most one of `_lock` and `commit_lock` at a time. The index takes its own
    lock while `commit_lock` is held.

    Parameters
    ----------
    objects, index
        Both of the same node; they are reconciled at once.
    converters : Converters
        To compare pixels in different transfer syntaxes.
    duplicates : Duplicates
        What to do with different data that has the UID of a stored object.
    is_reconciled : bool
        Whether another process of the node has made objects and index agree.
    tasks : StoreTasks, optional
        They upload and remove objects later; without them, objects are removed at once.
    routing : Routing, optional
        Says which tasks an object causes.
    journal : Journal, optional
        That of the objects, if no other process answers queries with this index: then an object is
        acknowledged as soon as the journal has it, and the index while the peer goes on.

    Raises
    ------
    IndexFailure, OSError
        When the files and the index cannot be reconciled.
    """

    def __init__(
        self,
        objects: Objects,
        index: Index,
        converters: Converters,
        duplicates: Duplicates = Duplicates.KEEP_FIRST,
        is_reconciled: bool = False,
        tasks: StoreTasks | None = None,
        routing: Routing | None = None,
        journal: Journal | None = None,
    ) -> None:
        self._tasks = tasks
        self._routing = routing
        self._journal = journal
        self._objects = objects
        self._index = index
        self._converters = converters
        self._duplicates = duplicates
        self._queue: list[Group] = []
        self._has_leader = False
        self._lock = threading.Lock()  # guards _queue and _has_leader
        self.commit_lock = threading.Lock()
        """Guards the commit of a batch, `_in_doubt`, `_is_reconciled` and `_is_closed`."""
        self._in_doubt: list[Doubtful] = []
        self._is_reconciled = is_reconciled
        self._is_closed = False
        self.on_batch: Callable[[float, float], object] = lambda objects, index: None
        """Called with the seconds that the objects and the index of a batch have taken."""
        self.recover()

    def recover(self) -> None:
        """Make the index again from the files if it was deleted."""
        with self.commit_lock:
            self._ensure_index()

    def close(self) -> None:
        """Wait for the batch that is being committed; refuse all later objects."""
        with self.commit_lock:
            self._is_closed = True

    def store(
        self,
        spooled: Payload | None,
        origin: Origin,
        respond: Callable[[], object] | None = None,
    ) -> int:
        """Store an object; return the status of the response.

        For a status of success or warning, the object is durable and indexed by then; or it is in
        the journal, which is redone before anything else is stored.

        Parameters
        ----------
        spooled : Payload
            From `Spool.sink`. The caller discards it, whatever the status is.
        origin : Origin
            UIDs and sender, from the request.
        respond : callable, optional
            Sends the response 0x0000, without waiting. Called if that is the status as soon as the
            object is durable, and whoever reads the index then waits until it is indexed, too.
        """
        try:
            return self.store_all([self.read(spooled, origin)], respond)[0]
        except Unacceptable as error:
            return error.status

    def read(self, spooled: Payload | None, origin: Origin) -> Arrived:
        """Read the index entry of an object; nothing is stored yet.

        Raises
        ------
        Unacceptable
            With the status of the response; the log has the reason.
        """
        try:
            if not isinstance(spooled, Spooled):
                raise Unacceptable("the request has no dataset", CANNOT_UNDERSTAND)
            entry = _entry(origin, spooled)
            # Decode the values here: each thread decodes its own object, in parallel with others,
            # and an error concerns that object alone and not the batch.
            is_known = origin.studies is None and self._index.knows(entry)
            for level in [Level.IMAGE] if is_known else Level:
                entry.row(level)
        except Unacceptable as error:
            LOGGER.warning("An object is refused: %s", error)
            raise
        except OSError as error:
            LOGGER.error("An object cannot be read: %s", error.strerror or error)
            raise Unacceptable("the object cannot be read", OUT_OF_RESOURCES) from None
        arrived = Arrived(spooled, entry)
        if self._routing is not None and self._routing.has_rules:
            arrived.tasks = self._routing.tasks_of(entry, arrived.digest)
        return arrived

    def store_all(
        self, objects: Sequence[Arrived], respond: Callable[[], object] | None = None
    ) -> list[int]:
        """Store objects in one batch; return the status of each, as `store` does."""
        undecided: list[Arrived] = []
        for each in objects:
            try:
                self._objects.keep(each.spooled, each.entry.origin)
                undecided.append(each)
            except OSError as error:
                LOGGER.error("An object cannot be written: %s", error.strerror or error)
                each.outcome = FAILED
        while undecided:
            self._wait_or_lead(undecided, respond)
            # Compare outside of the commit, since other threads wait for that.
            again: list[Arrived] = []
            for each in undecided:
                if each.outcome.status is None and self._compared(each):
                    again.append(each)
            undecided = again
        statuses: list[int] = []
        for each in objects:
            status = each.outcome.status
            statuses.append(OUT_OF_RESOURCES if status is None else status)
        return statuses

    def _compared(self, arrived: Arrived) -> bool:
        """Compare an object with stored ones; return whether that succeeds."""
        try:
            self._compare(arrived)
        except OSError as error:
            LOGGER.error("An object cannot be compared: %s", error.strerror or error)
            arrived.outcome = FAILED
            return False
        return True

    def _compare(self, waiting: Arrived) -> None:
        """Compare an object with stored ones; note which of them have the same content."""
        for stored in waiting.to_compare:
            # If the file is gone, the object was replaced meanwhile, or `Plan._present` will drop
            # it from the next batch.
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                is_same = self._is_same(waiting, stored.file)
                (waiting.equals if is_same else waiting.others).add(stored.digest)
        waiting.to_compare = []

    def _is_same(self, waiting: Arrived, name: str) -> bool:
        """Return whether an object and a stored one have the same content; False if unknown."""
        origin = waiting.entry.origin
        try:
            with waiting.spooled.open() as received, self._objects.open(name) as stored:
                syntax = origin.transfer_syntax_uid
                found = compare(received, syntax, *dataset_in(stored))
            if found is Comparison.BY_PIXELS:
                digest = self._converters.pixel_digest
                received_path = waiting.spooled.dicom_file(origin.file_head())
                with self._objects.local(name) as stored_path:
                    return digest(received_path) == digest(stored_path)
        except (DatasetError, Unreadable, CannotTranscode) as error:
            text = "%s from %s cannot be compared with the stored object of this UID: %s"
            LOGGER.warning(text, *_named(waiting), error)
            return False
        return found is Comparison.SAME

    def _wait_or_lead(
        self, objects: Sequence[Arrived], respond: Callable[[], object] | None
    ) -> None:
        """Return when the outcome of `objects` is final: this thread, or another, has led them."""
        groups: list[Group] = []
        mine: Group | None = None
        own = objects
        with self._lock:
            # Without a leader, nobody waits: the one before has left no group behind.
            if self._has_leader:
                mine = Group(objects)
                self._queue.append(mine)
            self._has_leader = True
        if mine is not None:
            mine.wake.acquire()  # a leader releases it: `mine` is done, or this thread is to lead
            if mine.is_done:
                return
            with self._lock:
                groups, self._queue = self._queue, []
            objects = [each for group in groups for each in group.objects]
            groups.remove(mine)
        waiters = Waiters(groups, own, respond)
        try:
            self._commit(objects, waiters)
        finally:
            with self._lock:
                leader = self._queue[0] if self._queue else None
                self._has_leader = leader is not None
            if leader is not None:
                leader.wake.release()
            waiters.wake()

    def _commit(self, batch: Sequence[Arrived], waiters: Waiters) -> None:
        """Store the objects of `batch`, and set the outcome of each."""
        succeeded = is_unforeseen = False
        try:
            with self.commit_lock:
                if not self._is_closed:
                    self._ensure_index()
                    self._store_repeatedly(batch, waiters)
                    succeeded = True
        except (OSError, IndexFailure) as error:
            LOGGER.error("Not stored: %s: %s", counted(len(batch), "object"), reason_of(error))
            is_unforeseen = not isinstance(error, OSError | OperationalError | InDoubt)
        except Exception as error:
            log_unexpected(LOGGER, error, "Not stored: %s", counted(len(batch), "object"))
            is_unforeseen = True
        finally:
            for waiting in batch:
                if not succeeded:
                    waiting.outcome = FAILED
                if waiting.outcome.remark:
                    LOGGER.warning(waiting.outcome.remark, *_named(waiting))
        if is_unforeseen and len(batch) > 1:
            # One object probably caused it: store each alone, so that the others succeed.
            for waiting in batch:
                self._commit([waiting], Waiters((), (), None))

    def _ensure_index(self) -> None:
        if self._index.is_lost:
            LOGGER.error("The index was deleted or replaced; making it again from the files")
            self._is_reconciled = False
            self._index.reopen()
        if not self._is_reconciled:
            has_all = is_made(self._index)
            try:
                refuse_if_empty(self._objects, self._index)
                if not has_all:
                    make_index(self._objects, self._index, self._duplicates)
                elif part := self._objects.unsure():
                    reconcile(part, self._index, self._duplicates, store=self._objects)
            except StoreFailure as error:
                if not (self._objects.can_wait and has_all):
                    raise
                LOGGER.error("The store of objects cannot be used now: %s", error)
            self._is_reconciled = True
            self._in_doubt.clear()
        while self._in_doubt:
            self._settle(self._in_doubt[-1])
            self._in_doubt.pop()

    def _settle(self, doubt: Doubtful) -> None:
        """Remove the objects of an interrupted batch that are not in the index."""
        # The server may still be committing the batch: being alone means waiting for its end.
        with self._index.writing(is_alone=True) as writer:
            found = writer.find(doubt.uids)
        known = {stored.file for copies in found.values() for stored in copies}
        self._objects.withdraw([name for name in doubt.names if name not in known])

    def _store_repeatedly(self, batch: Sequence[Arrived], waiters: Waiters) -> None:
        """Store a batch; repeat that if another process was first with what it needs."""
        for _ in range(_MOST_CONFLICTS):
            try:
                self._store_all(batch, waiters)
                return
            except Conflict as error:
                LOGGER.debug("A batch is repeated: %s", error)
        self._store_all(batch, waiters)

    def _store_all(self, batch: Sequence[Arrived], waiters: Waiters) -> None:
        """Publish all files, and add all to the index; both are durable when this returns.

        The index is told first what to add: so the server of a database works on it while this
        process waits for the disk. Nobody sees it before the files are durable.

        With a journal, the waiters are told as soon as that has the batch. Then it must not fail
        any more: if it cannot be completed now, the journal is redone before anything else is
        stored.
        """
        plan = Plan(self._objects, self._duplicates)
        begin = perf_counter()
        try:
            with self._index.writing(is_journaled=self._objects.is_journaled) as writer:
                self._decide(writer, batch, plan)
                tasks: Sequence[NewTask] = ()
                if self._routing is not None and plan.tasks:
                    tasks = self._routing.of_batch(plan.tasks)
                noted = plan.noted(writer.number(), tasks)
                plan.names = self._objects.new_names(plan.published)
                self._add(writer, plan, tasks)
                begin_of_objects = perf_counter()
                self._objects.put(plan.published, plan.names, noted)
                if self._journal is not None and waiters.are_there:
                    self._index.hold_readers()
                    waiters.tell()
                self._objects.finish(plan.published, plan.names)
                took = perf_counter() - begin_of_objects
        except InDoubt:
            uids = [waiting.uid for waiting in batch]
            self._in_doubt.append(Doubtful(uids, [*plan.names, *plan.files_to_remove()]))
            raise
        except BaseException as error:
            if self._journal is not None and waiters.are_told:
                LOGGER.error("Acknowledged objects will be indexed later: %s", reason_of(error))
                self._journal.fail(OSError(errno.EIO, reason_of(error)))
                return
            if plan.names:
                self._objects.take_back(plan.published, plan.names)
            raise
        self.on_batch(took, perf_counter() - begin - took)
        for name in plan.missing:
            LOGGER.error("The file %s was missing; its object is stored again", name)
        # Not earlier: until the new file is durable, the acknowledged object is the old one.
        if plan.superseded and self._tasks_of_files is None:
            self._objects.withdraw(plan.files_to_remove())

    @property
    def _tasks_of_files(self) -> StoreTasks | None:
        """What uploads and removes objects. The journal has no tasks of these kinds, since they
        would need the names of the files."""
        return None if self._objects.is_journaled else self._tasks

    def _decide(self, writer: Writer, batch: Sequence[Arrived], plan: Plan) -> None:
        """Decide the outcome of each object."""
        plan.know(*writer.known([waiting.uid for waiting in batch]))
        for waiting in batch:
            waiting.outcome = STORED
            studies = waiting.entry.origin.studies
            if studies is None or studies.may_store(writer.connection, waiting.entry):
                plan.add(waiting)
            else:
                waiting.outcome = OUTSIDE
        plan.end()

    def _add(self, writer: Writer, plan: Plan, tasks: Sequence[NewTask]) -> None:
        """Add what will be in the store to the index, and remove there what it supersedes."""
        if plan.superseded:
            writer.lock([waiting.entry for waiting in plan.accepted])
            writer.remove([stored.id for stored in plan.superseded])
        placed = plan.placed()
        others = writer.add(placed)
        if others:
            entries = {other.entry for other in others}
            for waiting in plan.accepted:
                if waiting.entry in entries:
                    waiting.outcome = OF_OTHER_PATIENT
        if self._tasks_of_files is not None:
            self._tasks_of_files.add(writer, placed, plan.files_to_remove())
        if self._routing is not None and tasks:
            self._routing.add(writer, tasks)
        if plan.superseded:
            writer.prune()
