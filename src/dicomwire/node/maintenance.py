"""Reconciles the index with the files, makes it again, and verifies both.

Received objects do not pass through here.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from itertools import islice
from typing import NamedTuple

from sqlalchemy import delete

from dicomwire.logs import counted, escaped
from dicomwire.node.carrying import names_to_remove
from dicomwire.node.configuration import Duplicates
from dicomwire.node.files import StoreFailure, sync_folder
from dicomwire.node.heads import digest_of, read_head
from dicomwire.node.index.copying import keep_rows
from dicomwire.node.index.database import IndexFailure, reason_of
from dicomwire.node.index.opening import open_database, open_existing
from dicomwire.node.index.reader import Described, IndexReader, Stored
from dicomwire.node.index.schema import task
from dicomwire.node.index.sqlite import Sqlite, lock_of, logs_of
from dicomwire.node.index.writer import Index, Placed, Writer, iso
from dicomwire.node.objects.folder import FolderObjects
from dicomwire.node.objects.opening import folder_within
from dicomwire.node.objects.port import Objects
from dicomwire.node.objects.spool import Spool
from dicomwire.node.reading import BEGIN, digest_in, read_object, size_of
from dicomwire.node.replay import replay
from dicomwire.node.tasks.queue import NewTask, add_tasks, listed

LOGGER = logging.getLogger("dicomwire")

_PORTION = 1000
"""The most files to index in one transaction."""
_PORTION_BYTES = 8 * 1024 * 1024
"""The most bytes of values to hold in memory for one transaction; usual objects have a thousand
each."""

_NO_FILES = (
    "the index has objects, but there is no file of any: is this the right place, and mounted? "
    "If they were removed on purpose, make the index again (reindex)"
)

Progress = Callable[[int], None]
"""Called with the number of files done so far."""


@dataclass(slots=True)
class Reconciled:
    """The differences between files and index that were found, as numbers of files or objects."""

    indexed: int = 0
    """Files that were not in the index, and were added."""
    dropped: int = 0
    """Objects without a file, which were removed from the index."""
    removed: int = 0
    """Superfluous files, whose objects have another file."""
    unreadable: int = 0
    """Files that are incomplete, damaged or not DICOM: they stay, but are not indexed."""


def _no_progress(done: int) -> None:
    """Report nothing."""


def reconcile(
    objects: Objects,
    index: Index,
    duplicates: Duplicates = Duplicates.KEEP_FIRST,
    progress: Progress = _no_progress,
    store: Objects | None = None,
) -> Reconciled:
    """Make the index agree with the files.

    The names of all files are compared with those in the index, which takes a second for 100,000.
    Only files that are not in the index are read: after a crash, the few that were published but
    not yet indexed. They may not have been acknowledged, but they are complete, since they were
    synced before they were published. Their length is compared with that in their head. No
    digests are compared (see `check`), and files that are in the index are not opened.

    Parameters
    ----------
    store : Objects, optional
        The whole store, if `objects` are a part of it.

    Raises
    ------
    IndexFailure, OSError
        When files or index cannot be read or written; also when the index has objects and there
        is no file at all, since their file system may not be mounted.
    """
    refuse_if_empty(objects, index)
    found = Reconciled()
    unknown = 0
    lost: list[Stored] = []
    for file, stored in _differences(objects, index):
        unknown += file is not None
        if stored is not None:
            lost.append(stored)
    # Remove these first, so that a file that was moved does not count as a second copy of itself.
    if lost:
        found.dropped = _drop(objects, index, lost)
    if unknown:
        last_id = index.last_id()
        done = 0
        new = (file for file, _ in _differences(objects, index) if file is not None)
        with contextlib.closing(new) as files:  # it has a connection of the index
            while (portion := _read_some(objects, files, found)).files:
                parts = objects, store or objects
                _index_portion(*parts, index, duplicates, portion.placed, last_id, found)
                done += portion.files
                progress(done)
        LOGGER.warning(
            "%s not in the index: %d added, %d superfluous and removed, %d unreadable",
            counted(done, "file"),
            found.indexed,
            found.removed,
            found.unreadable,
        )
    return found


_MAKING = "index"
"""The kind of a task that no process runs: the index has it until all objects are in the index."""


def is_made(index: IndexReader) -> bool:
    """Return whether an index is neither new nor unfinished: it had all objects of the store."""
    return index.last_id() > 0 and not any(listed(index, _MAKING))


def make_index(objects: Objects, index: Index, duplicates: Duplicates) -> None:
    """Add all objects of a store to its new index; see `reconcile`.

    If the process dies before the end, `is_made` returns False, so that the next start does it.
    """
    with index.writing() as writer:
        new = NewTask(_MAKING, {}, delay=math.inf, is_only=True)
        add_tasks(writer, [new], time.time())
    reconcile(objects, index, duplicates)
    with index.writing() as writer:
        writer.connection.execute(delete(task).where(task.c.kind == _MAKING))


def refuse_if_empty(objects: Objects, index: IndexReader) -> None:
    """Raise OSError if the index has objects of a store that is empty: is it the right one?"""
    newest = index.stored_after(index.last_id() - 1, 1)
    if any(objects.owns(each.file) and objects.exists(each.file) for each in newest):
        return  # to list a bucket would take a hundred times as long
    if not _is_empty(objects) or next(_owned(objects, index), None) is None:
        return
    if _is_empty(objects):  # another node may have stored the first object meanwhile
        raise OSError(errno.ENOENT, _NO_FILES)


def _is_empty(objects: Objects) -> bool:
    return next(objects.names(), None) is None


def _owned(objects: Objects, index: IndexReader) -> Iterator[Stored]:
    """Return an iterator over the instances in the index that a store has, or should have."""
    return (stored for stored in index.stored() if objects.owns(stored.file))


def _differences(objects: Objects, index: Index) -> Iterator[tuple[str | None, Stored | None]]:
    """Yield files without an instance, and instances without a file."""
    return (pair for pair in _side_by_side(objects, index) if None in pair)


def _side_by_side(
    objects: Objects, index: IndexReader
) -> Iterator[tuple[str | None, Stored | None]]:
    """Yield each file with its instance, in the order of names; None for one that is missing."""
    leaving = names_to_remove(index)
    names = (name for name in objects.names() if name not in leaving)
    rows = _owned(objects, index)
    file, stored = next(names, None), next(rows, None)
    while file is not None or stored is not None:
        if stored is None or (file is not None and file < stored.file):
            yield file, None
            file = next(names, None)
        elif file is None or stored.file < file:
            yield None, stored
            stored = next(rows, None)
        else:
            yield file, stored
            file, stored = next(names, None), next(rows, None)


class _Portion(NamedTuple):
    """The objects to index in one transaction."""

    files: int
    """The number of files that were read for it."""
    placed: list[Placed]


def _read_some(objects: Objects, files: Iterator[str], found: Reconciled) -> _Portion:
    """Return the objects of the next files, for one transaction."""
    placed: list[Placed] = []
    done, room = 0, _PORTION_BYTES
    for file in islice(files, _PORTION):
        done += 1
        try:
            placed.append(read_object(objects, file))
        except StoreFailure:
            raise
        except (OSError, ValueError) as error:
            found.unreadable += 1
            LOGGER.error("%s cannot be indexed: %s", escaped(file), escaped(str(error)))
            continue
        room -= placed[-1].entry.size
        if room < 0:
            break
    return _Portion(done, placed)


def _index_portion(
    objects: Objects,
    store: Objects,
    index: Index,
    duplicates: Duplicates,
    portion: Sequence[Placed],
    last_id: int,
    found: Reconciled,
) -> None:
    """Add objects to the index in one transaction; then remove superfluous files.

    Another process may have been between `put` and its commit. Being alone means that it has
    finished: its files are in the index now, or gone. Files of rejected instances are superfluous:
    they came after that, and a crash was before the refusal.
    """
    with index.writing(is_alone=True) as writer:
        known, rejected = writer.known([placed.entry.instance_uid for placed in portion])
        indexed = {stored.file for copies in known.values() for stored in copies}
        portion = [
            placed
            for placed in portion
            if placed.file not in indexed and objects.exists(placed.file)
        ]
        refused = {each.file for each in portion if each.entry.instance_uid in rejected}
        wanted = [placed for placed in portion if placed.file not in refused]
        placing = _Placing(store, writer, duplicates, last_id)
        placing.place(wanted)
        superfluous = placing.superfluous | refused
    store.withdraw(superfluous)
    not_indexed = superfluous | placing.left_out
    found.indexed += sum(placed.file not in not_indexed for placed in portion)
    found.removed += len(superfluous)
    found.unreadable += len(placing.left_out)


def _drop(objects: Objects, index: Index, lost: Sequence[Stored]) -> int:
    """Remove objects without a file from the index; return how many."""
    with index.writing(is_alone=True) as writer:
        found = writer.find([stored.sop_instance_uid for stored in lost])
        known = {stored for copies in found.values() for stored in copies}
        # Another process may have replaced it, or stored it while the files were listed.
        lost = [each for each in lost if each in known and not objects.exists(each.file)]
        for stored in lost:
            LOGGER.error("%s is missing: its object is removed from the index", stored.file)
        writer.remove([stored.id for stored in lost])
        writer.prune()
    return len(lost)


class _Placing:
    """Adds objects to the index in one transaction, and finds the files that are superfluous.

    Two kinds of files are superfluous: second copies of the same bytes, and, with the policy
    "replace", the older one of two files, which a crash left behind. An object that was in the
    index before, up to `last_id`, was acknowledged last, and its file stays. Of files that were
    not in the index, as when it is made again, the one received last stays. Other files with the
    same UID all stay, as copies. Before a file counts as superfluous, the file that stays is read
    and verified.

    Attributes
    ----------
    superfluous, left_out : set of str
        The files that are superfluous, and those that are not indexed since one is damaged.
    """

    def __init__(
        self, objects: Objects, writer: Writer, duplicates: Duplicates, last_id: int
    ) -> None:
        self._objects = objects
        self._writer = writer
        self._duplicates = duplicates
        self._last_id = last_id
        self._known: dict[str, list[Stored]] = {}
        self._fresh: dict[str, Placed] = {}  # the objects to add, by UID
        self.superfluous: set[str] = set()
        self.left_out: set[str] = set()

    def place(self, portion: Sequence[Placed]) -> None:
        """Add objects, which may have the same UIDs."""
        self._known = self._writer.find([placed.entry.instance_uid for placed in portion])
        for placed in portion:
            if placed.entry.instance_uid in self._fresh:
                self._writer.add(list(self._fresh.values()))
                # Others of them may occur again, too.
                self._known.update(self._writer.find(list(self._fresh)))
                self._fresh.clear()
            self._place(placed)
        self._writer.add(list(self._fresh.values()))
        self._writer.prune()

    def _place(self, placed: Placed) -> None:
        """Add an object beside its copies or in their place, unless they stay alone."""
        uid = placed.entry.instance_uid
        copies = self._known.get(uid, [])
        conflicting = copies
        if self._duplicates is not Duplicates.REPLACE:
            conflicting = [copy for copy in copies if copy.digest == placed.digest]
        if not conflicting:
            number = 1 + max((copy.copy for copy in copies), default=-1)
            self._fresh[uid] = placed._replace(copy=number)
            return
        is_newer = all(_is_replaced(copy, placed, self._last_id) for copy in conflicting)
        if not is_newer and all(_is_intact(self._objects, copy) for copy in conflicting):
            self.superfluous.add(placed.file)
            return
        is_same = all(copy.digest == placed.digest for copy in conflicting)
        if not (is_newer or is_same) or not _is_intact(self._objects, placed):
            text = "%s is not indexed: it or another file of its object is damaged"
            LOGGER.error(text, escaped(placed.file))
            self.left_out.add(placed.file)
            return
        if is_newer:
            self.superfluous.update(copy.file for copy in conflicting)
        else:
            LOGGER.error("%s replaces a damaged file of the same object", escaped(placed.file))
        self._replace(placed, conflicting)

    def _replace(self, placed: Placed, replaced: Sequence[Stored]) -> None:
        """Add an object in the place of others with its UID."""
        uid = placed.entry.instance_uid
        self._writer.remove([copy.id for copy in replaced])
        self._known[uid] = [copy for copy in self._known[uid] if copy not in replaced]
        number = min(copy.copy for copy in replaced)
        self._fresh[uid] = placed._replace(copy=number, replaces=True)


def _is_replaced(copy: Stored, placed: Placed, last_id: int) -> bool:
    is_later = copy.id > last_id and copy.received < iso(placed.received)
    return is_later and copy.digest != placed.digest


def _is_intact(objects: Objects, copy: Stored | Placed) -> bool:
    """Return whether the digest of a file's dataset is correct; this reads the whole file."""
    try:
        with objects.open(copy.file) as opened:
            return digest_in(opened).hex() == copy.digest
    except StoreFailure:
        raise
    except (OSError, ValueError):
        return False


def reindex(
    folder: str | os.PathLike[str],
    progress: Progress = _no_progress,
    duplicates: Duplicates = Duplicates.KEEP_FIRST,
    index: str = "",
    objects: Objects | None = None,
) -> Reconciled:
    """Make the index of a stopped node again from its files.

    The old index stays, whatever its state, until the new one is complete. Two things cannot be
    read from the files: which of several copies was the first, and, if the objects of a study have
    different patient and study attributes, which of them applied.

    Parameters
    ----------
    index : str
        The key of the configuration.
    objects : Objects
        The store of its objects; by default those in the folder.

    Raises
    ------
    StorageInUse
        When the node is running.
    """
    objects = objects or FolderObjects(folder)
    with Spool(folder, exclusive=True) as spool:
        replay(folder_within(objects))
        database = open_database(index, spool.folder)
        if isinstance(database, Sqlite):
            with _replaced(database) as new, Index(new) as empty:
                _keep_rows(database, empty)
                return reconcile(objects, empty, duplicates, progress)
        with Index(database) as opened, opened.made_anew() as empty:
            return reconcile(objects, empty, duplicates, progress)


def _keep_rows(old: Sqlite, new: Index) -> None:
    """Copy what no file has from an index that may be damaged, or missing, to a new one."""
    if not old.path.exists():
        return
    try:
        with IndexReader(old) as index:
            keep_rows(index, new)
    except IndexFailure as error:
        LOGGER.warning(
            "No tasks, protections and rejections are taken over from the old index: %s",
            reason_of(error),
        )


@contextmanager
def _replaced(database: Sqlite) -> Iterator[Sqlite]:
    """Yield a new database, which takes the place of another one at the end of the block."""
    path = database.path
    new = path.with_name(f"{path.name}.new")
    for old in (new, *logs_of(new)):
        old.unlink(missing_ok=True)
    yield Sqlite(new)
    # The new index, now closed, is a single file. SQLite would apply the logs of the old one to it.
    for log in (*logs_of(path), lock_of(new)):
        log.unlink(missing_ok=True)
    os.replace(new, path)
    sync_folder(str(path.parent))


class Problem(StrEnum):
    """A kind of problem with an object."""

    MISSING = "missing"
    """It is in the index, but its file is missing."""
    UNKNOWN = "unknown"
    """Its file is not in the index."""
    DAMAGED = "damaged"
    """The content of its file is not what was stored."""


class Finding(NamedTuple):
    """A problem that `check` has found."""

    problem: Problem
    file: str
    text: str
    object: Described | None = None
    """Whose object it is, by the index; None if the index does not have it."""


def check(
    folder: str | os.PathLike[str],
    progress: Progress = _no_progress,
    index: str = "",
    objects: Objects | None = None,
) -> Iterator[Finding]:
    """Verify a node: compare all files with the index, and all datasets with their digests.

    Nothing is changed. The node may be running: objects that are stored or replaced meanwhile are
    no findings.

    Parameters
    ----------
    index : str
        The key of the configuration.
    objects : Objects
        The store of its objects; by default those in the folder.

    Raises
    ------
    FileNotFoundError
        When there is no index.
    IndexFailure
        When it cannot be read, or another version of the program made it.
    """
    with IndexReader(open_existing(index, folder)) as opened:
        objects = objects or FolderObjects(folder)
        for done, (file, stored) in enumerate(_side_by_side(objects, opened), 1):
            if stored is None:
                assert file is not None
                finding = _unknown(objects, opened, file)
            else:
                finding = _verify(objects, opened, stored)
                if finding is not None:
                    finding = finding._replace(object=opened.described(stored.id))
            if finding is not None:
                yield finding
            progress(done)


def _unknown(objects: Objects, index: IndexReader, file: str) -> Finding | None:
    try:
        with objects.open(file) as opened:
            size = size_of(opened)
            origin, _, _ = read_head(opened.read(BEGIN), size)
    except FileNotFoundError:
        return None  # it was removed meanwhile
    except StoreFailure:
        raise
    except (OSError, ValueError) as error:
        return Finding(Problem.DAMAGED, file, f"it is not in the index, and {error}")
    uid = origin.sop_instance_uid
    if any(stored.file == file for stored in index.find([uid]).get(uid, [])):
        return None  # it was indexed meanwhile
    if file in names_to_remove(index):
        return None  # it was moved or replaced meanwhile
    return Finding(Problem.UNKNOWN, file, "it is not in the index")


def _verify(objects: Objects, index: IndexReader, stored: Stored) -> Finding | None:
    uid = stored.sop_instance_uid
    try:
        with objects.open(stored.file) as opened:
            size = size_of(opened)
            origin, offset, _ = read_head(opened.read(BEGIN), size)
            digest = digest_of(opened, offset, origin.transfer_syntax_uid).hex()
    except FileNotFoundError:
        if stored not in index.find([uid]).get(uid, []):
            return None  # it was replaced meanwhile
        return Finding(Problem.MISSING, stored.file, "it is in the index, but does not exist")
    except StoreFailure:
        raise
    except (OSError, ValueError) as error:
        return Finding(Problem.DAMAGED, stored.file, str(error))
    if origin.sop_instance_uid != uid:
        return Finding(Problem.DAMAGED, stored.file, "it contains another object")
    if digest != stored.digest:
        return Finding(Problem.DAMAGED, stored.file, "its digest differs from that in the index")
    return None
