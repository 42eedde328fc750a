"""Brings files and index into step, makes the index anew, and verifies both.

What comes from the network never passes here.
"""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import islice
from pathlib import Path
from typing import BinaryIO, NamedTuple

from dicomwire.logs import escaped
from dicomwire.node.configuration import Duplicates
from dicomwire.node.heads import Origin, digest_of, read_head
from dicomwire.node.index import Index, IndexReader, Placed, Stored, Writer, iso, logs_of
from dicomwire.node.ingest import Entry, Truncated
from dicomwire.node.storage import Files, Storage, sync_folder

LOGGER = logging.getLogger("dicomwire")

INDEX = "index.sqlite"
"""The name of the index in a node's folder."""
_BEGIN = 64 * 1024
_PORTION = 1000
"""How many files are indexed in one transaction."""
_PORTION_BYTES = 8 * 1024 * 1024
"""So many bytes of their datasets are kept until then; usual objects have a thousand each."""

_NO_FILES = (
    "the index has objects, and there is not one file: is their file system mounted? "
    "If they are meant to be gone, make the index again (reindex)"
)

Progress = Callable[[int], None]
"""Is told how many files have been done so far."""


@dataclass(slots=True)
class Reconciled:
    """What was out of step."""

    indexed: int = 0
    """Files that the index did not know."""
    dropped: int = 0
    """Objects in the index without a file."""
    removed: int = 0
    """Files of objects that are there in another file."""
    unreadable: int = 0
    """Files that are no whole DICOM object, or damaged: they stay where they are, not found."""


def _no_progress(done: int) -> None:
    """Nobody looks."""


def reconcile(
    storage: Storage,
    index: Index,
    duplicates: Duplicates = Duplicates.KEEP_FIRST,
    progress: Progress = _no_progress,
) -> Reconciled:
    """Bring the index into step with the files.

    The names of all files are compared with those in the index, which takes a second for 100,000.
    Only files that the index does not know are looked into: after a crash the few that were given
    their place and not yet listed. They need not have been acknowledged, but they are whole, since
    they were synced before they were placed; their length is compared with what their head says,
    their bytes are not (see `check`). Nor is the content of files that the index knows.

    Raises
    ------
    IndexFailure, OSError
        When they cannot be; also where all files are gone, since they may come back.
    """
    if next(storage.files(), None) is None and index.last_id():
        raise OSError(errno.ENOENT, _NO_FILES)
    found = Reconciled()
    unknown = 0
    lost: list[Stored] = []
    for file, stored in _differences(storage, index):
        unknown += file is not None
        if stored is not None:
            LOGGER.error("%s is missing: its object is dropped from the index", stored.file)
            lost.append(stored)
    # These go first: a file that was moved is not to be taken for a second copy of itself.
    if lost:
        found.dropped = len(lost)
        with index.writing() as writer:
            writer.remove([stored.id for stored in lost])
            writer.prune()
    if unknown:
        last_id = index.last_id()
        files = (file for file, _ in _differences(storage, index) if file is not None)
        done = 0
        while (portion := _read_some(storage, files, found)).files:
            _index_portion(storage, index, duplicates, portion.objects, last_id, found)
            done += portion.files
            progress(done)
        LOGGER.warning(
            "%d files were not in the index: %d are now, %d were superfluous, %d are unreadable",
            done,
            found.indexed,
            found.removed,
            found.unreadable,
        )
    return found


def _differences(files: Files, index: Index) -> Iterator[tuple[str | None, Stored | None]]:
    """Iterate over files without an instance, and over instances without a file."""
    return (pair for pair in _side_by_side(files, index) if None in pair)


def _side_by_side(files: Files, index: IndexReader) -> Iterator[tuple[str | None, Stored | None]]:
    """Iterate over all files and instances in the order of names; None is for what is missing."""
    names, rows = files.files(), index.stored()
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
    """What is indexed in one transaction."""

    files: int
    """How many files were read for it."""
    objects: list[Placed]


def _read_some(storage: Storage, files: Iterator[str], found: Reconciled) -> _Portion:
    """Return the objects of the next files, as many as one transaction is for."""
    objects: list[Placed] = []
    done, room = 0, _PORTION_BYTES
    for file in islice(files, _PORTION):
        done += 1
        try:
            objects.append(_read(storage, file))
        except (OSError, ValueError) as error:
            found.unreadable += 1
            LOGGER.error("%s cannot be indexed: %s", escaped(file), escaped(str(error)))
            continue
        room -= objects[-1].entry.size
        if room < 0:
            break
    return _Portion(done, objects)


def _index_portion(
    storage: Storage,
    index: Index,
    duplicates: Duplicates,
    objects: Sequence[Placed],
    last_id: int,
    found: Reconciled,
) -> None:
    """Put objects into the index in one transaction; remove files of those that are there."""
    with index.writing() as writer:
        superfluous, left_out = _place(storage, writer, objects, duplicates, last_id)
    storage.withdraw(superfluous)
    found.indexed += sum(placed.file not in superfluous | left_out for placed in objects)
    found.removed += len(superfluous)
    found.unreadable += len(left_out)


def _read(storage: Storage, file: str) -> Placed:
    """Return what the index keeps of a file, from its head if that is ours."""
    with storage.open_path(file).open("rb") as opened:
        status = os.fstat(opened.fileno())
        origin, offset, seal = read_head(opened.read(_BEGIN), status.st_size)
        entry = _entry(opened, offset, origin, status.st_size)
        if seal is not None:
            return Placed(entry, file, status.st_size, seal.digest.hex(), seal.received)
        digest = digest_of(opened, offset, origin.transfer_syntax_uid)
    return Placed(entry, file, status.st_size, digest.hex(), status.st_mtime_ns // 1000)


def _entry(file: BinaryIO, offset: int, origin: Origin, size: int) -> Entry:
    """Return what there is to index of a dataset, of which no more is read than that takes."""
    length = _BEGIN
    while True:
        file.seek(offset)
        is_whole = offset + length >= size
        try:
            return Entry(origin, memoryview(file.read(length)), is_whole)
        except Truncated:
            if is_whole:
                raise
        length *= 16


def _place(
    files: Files,
    writer: Writer,
    objects: Sequence[Placed],
    duplicates: Duplicates,
    last_id: int,
) -> tuple[set[str], set[str]]:
    """Put objects into the index; return the files that are superfluous, and those left out.

    The former are second copies of the same bytes, and what a crash left of a replacement. What the
    index had before, up to `last_id`, is what was acknowledged last, and stays; of files that it
    did not know, as when it is made anew, the one received last does. No other file is
    superfluous: where files differ and none is to replace the other, both stay. Nothing is if what
    is to stay instead is damaged, for which it is read.
    """
    superfluous: set[str] = set()
    left_out: set[str] = set()
    fresh: dict[str, Placed] = {}
    known = writer.find([placed.entry.instance_uid for placed in objects])
    for placed in objects:
        uid = placed.entry.instance_uid
        if uid in fresh:
            writer.add(list(fresh.values()))
            known.update(writer.find(list(fresh)))  # another of them may come again, too
            fresh.clear()
        copies = known.get(uid, [])
        rivals = copies
        if duplicates is not Duplicates.REPLACE:
            rivals = [copy for copy in copies if copy.digest == placed.digest]
        if not rivals:
            fresh[uid] = placed._replace(copy=1 + max((copy.copy for copy in copies), default=-1))
            continue
        is_newer = all(_is_replaced(copy, placed, last_id) for copy in rivals)
        if not is_newer and all(_is_intact(files, copy) for copy in rivals):
            superfluous.add(placed.file)
            continue
        is_same = all(copy.digest == placed.digest for copy in rivals)
        if not (is_newer or is_same) or not _is_intact(files, placed):
            LOGGER.error("%s is not indexed: of two files one is damaged", escaped(placed.file))
            left_out.add(placed.file)
            continue
        if is_newer:
            superfluous.update(copy.file for copy in rivals)
        else:
            LOGGER.error("%s takes the place of a damaged file", escaped(placed.file))
        writer.remove([copy.id for copy in rivals])
        known[uid] = [copy for copy in copies if copy not in rivals]
        number = min(copy.copy for copy in rivals)
        fresh[uid] = placed._replace(copy=number, replaces=True)
    writer.add(list(fresh.values()))
    writer.prune()
    return superfluous, left_out


def _is_replaced(copy: Stored, placed: Placed, last_id: int) -> bool:
    is_later = copy.id > last_id and copy.received < iso(placed.received)
    return is_later and copy.digest != placed.digest


def _is_intact(files: Files, copy: Stored | Placed) -> bool:
    """Return whether a file has the bytes that it should have, by reading them all."""
    try:
        with files.open_path(copy.file).open("rb") as opened:
            size = os.fstat(opened.fileno()).st_size
            origin, offset, _ = read_head(opened.read(_BEGIN), size)
            return digest_of(opened, offset, origin.transfer_syntax_uid).hex() == copy.digest
    except (OSError, ValueError):
        return False


def reindex(
    folder: str | os.PathLike[str],
    progress: Progress = _no_progress,
    duplicates: Duplicates = Duplicates.KEEP_FIRST,
) -> Reconciled:
    """Make the index of a node that is not running anew, from its files.

    The old index, whatever it is, stays until the new one is complete. What cannot be told from
    the files is which of several copies was first, and whose patient and study attributes count
    where objects of one study disagree.

    Raises
    ------
    StorageInUse
        When the node is running.
    """
    with Storage(folder) as storage:
        path = storage.folder / INDEX
        new = path.with_name(f"{INDEX}.new")
        for old in (new, *logs_of(new)):
            old.unlink(missing_ok=True)
        with Index(new) as index:
            found = reconcile(storage, index, duplicates, progress)
        # Closing it has left one file. What is beside the old one must not be taken for its log.
        for log in logs_of(path):
            log.unlink(missing_ok=True)
        os.replace(new, path)
        sync_folder(str(storage.folder))
    return found


class Problem(StrEnum):
    """What can be wrong with an object."""

    MISSING = "missing"
    """It is in the index, and its file is not there."""
    UNKNOWN = "unknown"
    """Its file is there, and not in the index."""
    DAMAGED = "damaged"
    """Its file is not what was stored."""


class Finding(NamedTuple):
    """Something wrong."""

    problem: Problem
    file: str
    text: str


def check(folder: str | os.PathLike[str], progress: Progress = _no_progress) -> Iterator[Finding]:
    """Verify a node: every file against the index, and every byte against its digest.

    Nothing is changed. The node may be running: objects that come and go meanwhile are no finding.

    Raises
    ------
    FileNotFoundError
        When there is no index.
    IndexFailure
        When it cannot be read, or is of another version.
    """
    path = Path(folder).absolute() / INDEX
    if not path.exists():
        raise FileNotFoundError(f"there is no index {path}")
    with IndexReader(path) as index:
        files = Files(folder)
        for done, (file, stored) in enumerate(_side_by_side(files, index), 1):
            if stored is None:
                assert file is not None
                finding = _unknown(files, index, file)
            else:
                finding = _verify(files, index, stored)
            if finding is not None:
                yield finding
            progress(done)


def _unknown(files: Files, index: IndexReader, file: str) -> Finding | None:
    try:
        with files.open_path(file).open("rb") as opened:
            size = os.fstat(opened.fileno()).st_size
            origin, _, _ = read_head(opened.read(_BEGIN), size)
    except FileNotFoundError:
        return None  # it went meanwhile
    except (OSError, ValueError) as error:
        return Finding(Problem.DAMAGED, file, f"not in the index, and {error}")
    uid = origin.sop_instance_uid
    if any(stored.file == file for stored in index.find([uid]).get(uid, [])):
        return None  # it came meanwhile
    return Finding(Problem.UNKNOWN, file, "not in the index")


def _verify(files: Files, index: IndexReader, stored: Stored) -> Finding | None:
    uid = stored.sop_instance_uid
    try:
        with files.open_path(stored.file).open("rb") as opened:
            size = os.fstat(opened.fileno()).st_size
            origin, offset, _ = read_head(opened.read(_BEGIN), size)
            digest = digest_of(opened, offset, origin.transfer_syntax_uid).hex()
    except FileNotFoundError:
        if stored not in index.find([uid]).get(uid, []):
            return None  # it was replaced meanwhile
        return Finding(Problem.MISSING, stored.file, "the file is not there")
    except (OSError, ValueError) as error:
        return Finding(Problem.DAMAGED, stored.file, str(error))
    if origin.sop_instance_uid != uid:
        return Finding(Problem.DAMAGED, stored.file, "it is another object")
    if digest != stored.digest:
        return Finding(Problem.DAMAGED, stored.file, "its digest is not that in the index")
    return None
