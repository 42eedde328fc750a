"""Replays the journal after a crash: then files and index have all acknowledged objects.

It can be repeated: at the end, each file that the index has is whole, and of the others named in
the journal there is none, or `reconcile` decides about it.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Container, Iterator, Sequence
from typing import NamedTuple

from dicomwire.node.index.reader import Stored
from dicomwire.node.index.writer import Index, Writer
from dicomwire.node.journal import JOURNAL, JournalPart, Record, Slot, abandoned, scanning
from dicomwire.node.objects.folder import FolderObjects
from dicomwire.node.reading import read_object
from dicomwire.node.tasks.queue import NewTask, add_tasks

LOGGER = logging.getLogger("dicomwire")

_PORTION = 500
"""The objects of one transaction, more or less, so that other processes can write in between."""


class _Noted(NamedTuple):
    """A record, and the part of the journal that has it."""

    record: Record
    part: JournalPart

    @property
    def number(self) -> int:
        return self.record.batch.number


def replay(objects: FolderObjects, index: Index | None = None) -> None:
    """Redo the journals of processes that have ended, and remove them.

    Without an index, only the files are written, so that one can be made from them.

    Raises
    ------
    OSError, IndexFailure
        When it cannot be completed; the next start tries again.
    """
    journals = f"{objects.folder}/{JOURNAL}"
    if os.path.isdir(journals):
        with scanning(journals), abandoned(journals) as parts:
            redo(parts, objects, index)


def redo(parts: Sequence[JournalPart], objects: FolderObjects, index: Index | None) -> None:
    """Redo all records of `parts`, and make files and index durable."""
    noted = [_Noted(record, part) for part in parts for record in part.records()]
    if not noted:
        return
    LOGGER.warning("Replaying %d batches of objects from the journal", len(noted))
    noted.sort(key=lambda each: each.number)
    removed = {name for each in noted for name in each.record.batch.removed}
    if index is None:
        _restore(noted, objects, removed)
    else:
        _redo(noted, objects, index, removed)
        index.sync()
    objects.sync(name for each in noted for name in each.record.names)


def _restore(noted: Sequence[_Noted], objects: FolderObjects, removed: Container[str]) -> None:
    """Write the files whose content is in the journal, except those that were removed later."""
    for record, part in noted:
        for name, (offset, length) in zip(record.names, record.extents, strict=True):
            if length and name not in removed:
                objects.restore(name, part.read(offset, length))


def _redo(
    noted: Sequence[_Noted], objects: FolderObjects, index: Index, removed: Container[str]
) -> None:
    """Redo records, in the order of their numbers."""
    with index.writing() as writer:
        last = writer.last
    lost = [each for each in noted if last is not None and each.number > last]
    contained = noted[: len(noted) - len(lost)]
    for portion in _portions(contained):
        with index.writing() as writer:
            for each in portion:
                _redo_files(each, objects, writer)
    if lost and lost[0].number - 1 != last:
        # The batches between are in no journal: they were in an index that was lost, or that this
        # one is an old copy of. `reconcile` adds all that it does not have.
        _restore(lost, objects, removed)
        return
    for portion in _portions(lost):
        with index.writing() as writer:
            for each in portion:
                _redo_all(each, objects, writer, removed)
            writer.prune()


def _portions(noted: Sequence[_Noted]) -> Iterator[Sequence[_Noted]]:
    start = count = 0
    for end, each in enumerate(noted, 1):
        count += len(each.record.names)
        if count >= _PORTION or end == len(noted):
            yield noted[start:end]
            start, count = end, 0


def _redo_files(noted: _Noted, objects: FolderObjects, writer: Writer) -> None:
    """Replay the files of a batch that the index has; an object that it lacks was removed later."""
    record, part = noted
    known = writer.find([slot.uid for slot in record.batch.slots])
    indexed = {stored.file for copies in known.values() for stored in copies}
    for name, (offset, length) in zip(record.names, record.extents, strict=True):
        if name not in indexed:
            objects.withdraw([name])
        elif length:
            objects.restore(name, part.read(offset, length))
    objects.withdraw(name for name in record.batch.removed if name not in indexed)


def _redo_all(
    noted: _Noted, objects: FolderObjects, writer: Writer, removed: Container[str]
) -> None:
    """Redo a record that the index does not have."""
    record = noted.record
    known = writer.find([slot.uid for slot in record.batch.slots])
    copies = [stored for some in known.values() for stored in some]
    replaced = [stored for stored in copies if stored.file in record.batch.removed]
    if replaced:
        writer.remove([stored.id for stored in replaced])
    objects.withdraw(record.batch.removed)
    _restore([noted], objects, removed)
    for slot, name in zip(record.batch.slots, record.names, strict=True):
        if name in removed:
            objects.withdraw([name])
        else:
            others = [each for each in known.get(slot.uid, ()) if each not in replaced]
            _add(slot, name, others, objects, writer)
    add_tasks(writer, [NewTask(*each) for each in record.batch.tasks], time.time())


def _add(
    slot: Slot, name: str, copies: Sequence[Stored], objects: FolderObjects, writer: Writer
) -> None:
    """Add an object to the index, unless it is there or there is a conflict.

    `reconcile` decides about a conflict, as about all files that are not in the index.
    """
    try:
        placed = read_object(objects, name)
    except FileNotFoundError:
        return  # a large object; its batch failed, and it was taken back
    taken = [stored for stored in copies if stored.copy == slot.copy]
    if not taken and all(stored.digest != placed.digest for stored in copies):
        writer.add([placed._replace(copy=slot.copy, replaces=slot.replaces)])
