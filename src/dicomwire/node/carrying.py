"""Carries objects from one place to another while the node serves, and removes what is left.

`objects.places` says where an object is. A copy is complete before the index names it, and the old
one stays for a while after that, so that an object can be read at any moment.
"""

from __future__ import annotations

import hashlib
import logging
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

from sqlalchemy import or_, select

from dicomwire.data.file_meta import FileFormatError, parse_file_meta
from dicomwire.logs import counted
from dicomwire.node.files import Damaged, remove
from dicomwire.node.index.database import IndexFailure, reason_of
from dicomwire.node.index.reader import IndexReader, Stored
from dicomwire.node.index.schema import task
from dicomwire.node.index.writer import Index, Placed, Writer
from dicomwire.node.objects.places import BUCKET, SPOOLED, Places
from dicomwire.node.objects.port import Objects
from dicomwire.node.objects.spool import Spool
from dicomwire.node.query import Found
from dicomwire.node.reading import digest_in
from dicomwire.node.tasks.queue import NewTask, Queue, Task, listed
from dicomwire.node.tasks.threads import Kind, Succeeded
from dicomwire.node.uploads import BEGUN, Uploads

LOGGER = logging.getLogger("dicomwire")

DELETE = "delete"
UPLOAD = "upload"
LEFTOVER = "leftover"
"""The kind of a task that looks for what a process was uploading when it died."""
GRACE = 60.0
"""Seconds for which the old copy of an object stays: a retrieval that has just read its name opens
it within that time. (Later, a retrieval reads the name again.)"""
_GATHER = 0.5
"""Seconds until an acknowledged object is uploaded, so that several share the transactions."""
_AT_A_TIME = 8
"""Objects that are copied at the same time: most of it is waiting for the store."""
_PORTION = 64
"""Objects whose rows change in one transaction."""

_digits_in = re.compile(r"([0-9a-f]{32}|[0-9a-f]{2}/[0-9a-f]{30})\.dcm$").search


class Carrier:
    """Copies objects to the place where they are to be.

    Parameters
    ----------
    places : Places
    index : Index
    queue : Queue
        For the tasks that remove what is left.
    spool : Spool
        For notes of the copies that the index does not have yet.
    reads_back : bool
        Whether to read each copy and compare its digest, before the index names it.
    """

    def __init__(
        self,
        places: Places,
        index: Index,
        queue: Queue,
        spool: Spool,
        reads_back: bool = False,
    ) -> None:
        self._places = places
        self._index = index
        self._queue = queue
        self._spool = spool
        self._reads_back = reads_back

    def carry(self, objects: Sequence[Stored]) -> dict[Stored, OSError]:
        """Carry objects; return those that failed, with the reasons."""
        failed: dict[Stored, OSError] = {}
        copied: list[tuple[Stored, str]] = []
        notes = {each: self._spool.note(digits_of(each.file)) for each in objects}
        with ThreadPoolExecutor(_AT_A_TIME) as pool:
            for stored, result in zip(objects, pool.map(self._copy, objects), strict=True):
                if isinstance(result, OSError):
                    failed[stored] = result
                else:
                    copied.append((stored, result))
        if copied:
            with self._index.writing() as writer:
                in_use = writer.move(copied)
                self._queue.add(writer, removals(stored.file for stored, _ in copied))
                # Nobody needs the copy of an object that was replaced meanwhile.
                self._queue.add(writer, removals(name for _, name in copied if name not in in_use))
            for stored, _ in copied:
                remove(str(notes[stored]))
        return failed

    def _copy(self, stored: Stored) -> str | OSError:
        """Copy an object to its place; return its new name, or why that failed."""
        try:
            with self._places.local(stored.file) as path:
                name = self._places.copy(path, digits_of(stored.file))
            if self._reads_back:
                with self._places.open(name) as copy:
                    if digest_in(copy).hex() != stored.digest:
                        raise Damaged("it is damaged, or was damaged while it was copied")
        except ValueError as error:
            return Damaged(f"its copy is damaged: {error}")
        except OSError as error:
            return error
        return name


def digits_of(name: str) -> str:
    """Return 32 hex digits for a copy of an object, always the same ones for a name."""
    found = _digits_in(name)
    if found is None:  # an operator named the file
        return hashlib.sha256(name.encode()).hexdigest()[:32]
    return found[1].replace("/", "")


def name_of_moved(index: IndexReader, found: Found) -> str | None:
    """Return the present name of an object that is no longer under the one that was found."""
    try:
        copies = index.find([found.sop_instance_uid]).get(found.sop_instance_uid, [])
    except IndexFailure as error:
        raise OSError(f"the index cannot be read: {reason_of(error)}") from None
    digits = digits_of(found.name)
    names = [stored.file for stored in copies if digits_of(stored.file) == digits]
    return names[0] if names and names != [found.name] else None


# --- After a crash ---------------------------------------------------------------------------


def settle(objects: Objects, index: Index, queue: Queue, spool: Spool) -> None:
    """Remove what processes that have died had put into the store, and not into the index.

    Their notes in the spool say what that may be. If the store or the index cannot be used now,
    the notes stay for the next start. What is missing now may still come, since a server can go on
    with an upload whose sender has died: a task looks again.
    """
    if not spool.notes:
        return
    try:
        names = [objects.name_of(note.stem) for note in spool.notes]
        if missing := _remove_unknown(objects, index, names):
            with index.writing() as writer:
                queue.add(writer, [NewTask(LEFTOVER, {"names": missing}, delay=GRACE)])
        for note in spool.notes:
            remove(str(note))
    except (OSError, IndexFailure) as error:
        LOGGER.error("Incomplete uploads of a dead process stay for now: %s", reason_of(error))


def _remove_unknown(objects: Objects, index: Index, names: Sequence[str]) -> list[str]:
    """Remove those objects of a process that has died that are in no row; return missing ones."""
    with ThreadPoolExecutor(_AT_A_TIME) as pool:
        uids = dict(zip(names, pool.map(partial(_uid_of, objects), names), strict=True))
    present = {name: uid for name, uid in uids.items() if uid is not None}
    if present:
        # Transactions of the dead process may still be ending; to be alone means to wait for that.
        with index.writing(is_alone=True) as writer:
            found = writer.find([*present.values()])
        # By the digits: a row may still have the name of the original of a copy. Then the copy is
        # made again, perhaps now, and the row gets its name next.
        in_use = {digits_of(stored.file) for copies in found.values() for stored in copies}
        leaving = names_to_remove(index, DELETE)
        unknown = [
            name for name in present if digits_of(name) not in in_use and name not in leaving
        ]
        if unknown:
            objects.remove(unknown)
            text = "Removed %s that a process was storing when it died"
            LOGGER.warning(text, counted(len(unknown), "object"))
    return [name for name, uid in uids.items() if uid is None]


def _uid_of(objects: Objects, name: str) -> str | None:
    """Return the SOP Instance UID of an object; None if there is none, or it cannot be read."""
    try:
        with objects.open(name) as file:
            return parse_file_meta(file).sop_instance_uid
    except (FileNotFoundError, FileFormatError):
        return None


# --- Moving an archive ------------------------------------------------------------------------


@dataclass
class Moved:
    """The progress of `move_objects`: the numbers of objects."""

    seen: int = 0
    moved: int = 0
    failed: int = 0


def move_objects(
    places: Places,
    index: Index,
    queue: Queue,
    spool: Spool,
    report: Callable[[Stored, OSError], None],
) -> Iterator[Moved]:
    """Carry all objects that are not where they are to be; yield the progress.

    The old copies are removed by the tasks of a node.

    It can be ended at any time, and begun again: what is in its place is passed over.

    Parameters
    ----------
    report : callable
        Called with each object that cannot be carried, and the reason.
    """
    carrier = Carrier(places, index, queue, spool, reads_back=True)
    progress = Moved()
    last_id = 0
    while portion := index.stored_after(last_id, _PORTION):
        last_id = portion[-1].id
        progress.seen += len(portion)
        # Those on the disk of a node have a task of their own.
        objects = [
            stored
            for stored in portion
            if places.owns(stored.file)
            and places.place_of(stored.file) not in (places.home, places.first)
        ]
        if objects:
            failed = carrier.carry(objects)
            for stored, error in failed.items():
                report(stored, error)
            progress.moved += len(objects) - len(failed)
            progress.failed += len(failed)
        yield progress


# --- Tasks ------------------------------------------------------------------------------------


def removals(names: Iterator[str], delay: float = GRACE) -> list[NewTask]:
    """Return the tasks that remove objects after a delay, one for each disk and the bucket."""
    by_kind: dict[str, list[str]] = {}
    for name in names:
        by_kind.setdefault(_kind(DELETE, name), []).append(name)
    return [NewTask(kind, {"names": own}, delay=delay) for kind, own in by_kind.items()]


def _kind(kind: str, name: str) -> str:
    """Return the kind of a task for an object; only one node can do those on its disk."""
    if not name.startswith(SPOOLED):
        return kind
    return f"{kind}:{name.split(':')[1]}"


def names_to_remove(index: IndexReader, *kinds: str) -> set[str]:
    """Return the names of objects that tasks of these kinds will remove: they are in no row."""
    chosen = or_(*(task.c.kind.startswith(kind) for kind in kinds or (DELETE, LEFTOVER)))
    with index.reading() as connection:
        rows = connection.execute(select(task.c.payload).where(chosen))
        return {name for (own,) in rows for name in own["names"]}


class StoreTasks:
    """The tasks of a store of objects: what a batch leaves to do, and how to do it.

    Parameters
    ----------
    objects : Objects
    index : Index
    queue : Queue
    spool : Spool
        Of this process.
    uploads : Uploads, optional
        Those of this process, if other nodes use the index.
    """

    def __init__(
        self,
        objects: Objects,
        index: Index,
        queue: Queue,
        spool: Spool,
        uploads: Uploads | None = None,
    ) -> None:
        self._spool = spool
        self._uploads = uploads
        self._objects = objects
        self._index = index
        self._queue = queue

    def add(self, writer: Writer, placed: Sequence[Placed], superseded: Sequence[str]) -> None:
        """Add the tasks of a batch, in its transaction: uploads, and removals.

        Raises
        ------
        StoreFailure
            When another node removes the objects of the batch.
        """
        uploaded = [each.file for each in placed if each.file.startswith(BUCKET)]
        if self._uploads is not None and uploaded:
            self._uploads.verify(writer, uploaded)
        uploads = [
            NewTask(
                _kind(UPLOAD, each.file),
                {"uid": each.entry.instance_uid, "name": each.file},
                delay=_GATHER,
            )
            for each in placed
            if each.file.startswith(SPOOLED)
        ]
        self._queue.add(writer, [*uploads, *removals(iter(superseded))])

    def kinds(self) -> list[Kind]:
        """Return the kinds of tasks that this node does."""
        kinds = [
            Kind(DELETE, self._delete),
            Kind(BEGUN, self._remove_begun),
            Kind(LEFTOVER, self._remove_leftovers),
        ]
        if isinstance(self._objects, Places):
            for disk in self._objects.disks:
                upload, delete = _kind(UPLOAD, disk.prefix), _kind(DELETE, disk.prefix)
                kinds.append(Kind(upload, self._upload, batch=_PORTION, retry_for=math.inf))
                kinds.append(Kind(delete, self._delete))
        return kinds

    def recover(self) -> None:
        """Add the uploads of objects on this disk that have none, since the index was lost."""
        if not isinstance(self._objects, Places):
            return
        for disk in self._objects.disks:
            kind = _kind(UPLOAD, disk.prefix)
            known = {each.payload["name"] for each in listed(self._index, kind)}
            missing = [
                NewTask(kind, {"uid": uid, "name": name})
                for name in (disk.prefix + own for own in disk.objects.names())
                if name not in known and (uid := self._uid_of(name)) is not None
            ]
            if missing:
                with self._index.writing() as writer:
                    self._queue.add(writer, missing)

    def _uid_of(self, name: str) -> str | None:
        """Return the SOP Instance UID of an object, if the index has it under this name."""
        uid = _uid_of(self._objects, name)
        if uid is None:
            return None
        found = self._index.find([uid]).get(uid, [])
        return uid if name in {stored.file for stored in found} else None

    def _delete(self, tasks: Sequence[Task]) -> Mapping[Task, Exception]:
        return _failures(tasks, self._objects.remove)

    def _remove_leftovers(self, tasks: Sequence[Task]) -> Mapping[Task, Exception]:
        return _failures(tasks, partial(_remove_unknown, self._objects, self._index))

    def _remove_begun(self, tasks: Sequence[Task]) -> Mapping[Task, Exception]:
        """Remove what a dead node was uploading; see `settle`."""
        ended: dict[Task, Exception] = {}
        for each in tasks:
            if missing := _remove_unknown(self._objects, self._index, each.payload["names"]):
                leftover = NewTask(LEFTOVER, {"names": missing}, delay=GRACE)
                ended[each] = Succeeded([leftover])
        return ended

    def _upload(self, tasks: Sequence[Task]) -> Mapping[Task, Exception]:
        assert isinstance(self._objects, Places)
        by_name = {each.payload["name"]: each for each in tasks}
        found = self._index.find([each.payload["uid"] for each in tasks])
        # An object that is not in the index under this name was replaced, or is uploaded.
        objects = [each for copies in found.values() for each in copies if each.file in by_name]
        carrier = Carrier(self._objects, self._index, self._queue, self._spool)
        failed = carrier.carry(objects)
        return {by_name[stored.file]: error for stored, error in failed.items()}


def _failures(
    tasks: Sequence[Task], remove_all: Callable[[Sequence[str]], object]
) -> Mapping[Task, Exception]:
    """Remove the objects that each task names; return the tasks that failed, and why."""
    failed: dict[Task, Exception] = {}
    for each in tasks:
        try:
            remove_all(each.payload["names"])
        except OSError as error:
            failed[each] = error
    return failed
