"""The journal: what was acknowledged, until files and index are durable by themselves.

A record has the objects of one batch, and one sync makes it durable. Files and index are then
written without any. A checkpoint makes them durable, and frees the part of the journal that they
were written from. After a crash, `replay` does again what the journal says.

A journal has two parts, each a file. Records are added to one of them while a checkpoint frees the
other. A part is overwritten from its beginning when it is used again: to sync bytes of a file that
does not grow takes a file system half of the time. Each use has another number, the generation, by
which a record is told from those of earlier uses.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import struct
import threading
import time
import zlib
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from dicomwire.data.new_files import Buffer, write_all
from dicomwire.node.files import StorageInUse, lock, making_apart, remove, sync_folder

JOURNAL = "journal"
"""The name of the folder of journals in a node's folder. Each process has a journal in it."""
FULL = 16 * 1024 * 1024
"""The bytes from which on a part is due for a checkpoint: some three thousand small objects, whose
files and index entries a disk takes about a second to write."""
MOST = 4 * FULL
"""The most bytes of a part, but for its last record. A batch that finds both parts in use and this
one full waits for the checkpoint, which thus limits the rate to that of the disk."""
PATIENCE = 30.0
"""Seconds that a batch waits for a checkpoint before it fails; no disk in order takes as long."""

_ZEROS = bytes(1024 * 1024)
"""A part grows by so many bytes at a time, so that most records leave its size as it is."""
_MARK = b"DWJRNL1\n"
_HEADER = struct.Struct("<8sIIQQQ")
"""The header of a record: mark, CRC-32 of all that follows, length of the notes, length of notes
and files together, generation, and number of the batch."""
_CHECKED = 12
"""The offset in the header from which on the CRC applies."""
FIRST, SECOND = "-0.log", "-1.log"
"""How the names of the two parts end. The lock is on the first one."""
_PIECE = 1024 * 1024
"""How many bytes are read at a time to verify a record."""
_READ_AND_WRITE = os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0)
_sync_data = getattr(os, "fdatasync", os.fsync)
_encode = json.JSONEncoder(check_circular=False).encode


class Slot(NamedTuple):
    """Where the index has an object of a batch."""

    uid: str
    """Its SOP Instance UID."""
    copy: int
    replaces: bool
    """Both as in `Placed`."""


class Batch(NamedTuple):
    """What the index does with the objects of a batch; the store of objects only notes it."""

    number: int
    """See `Writer.number`; 0 if the transaction will be durable by itself."""
    slots: Sequence[Slot]
    removed: Sequence[str]
    """The names of the files whose objects the batch removes from the index."""
    tasks: Sequence[Sequence[Any]] = ()
    """What is to be done with the objects later: the values of `NewTask`, as JSON has them."""


class Record(NamedTuple):
    """A batch in a journal."""

    batch: Batch
    names: Sequence[str]
    """The names of its files."""
    extents: Sequence[tuple[int, int]]
    """Offset and length of each file in the part. The length is 0 if the journal does not have the
    content, since the file was durable before the record was."""


def _notes(batch: Batch, names: Sequence[str], lengths: list[int]) -> bytes:
    """Return what a record says of its batch, as JSON.

    Names and UIDs have no characters that JSON escapes; the encoder would take four times as long.
    """
    files = '"' + '", "'.join(names) + '"' if names else ""
    slots = [
        f'["{uid}", {copy}, {"true" if replaces else "false"}]'
        for uid, copy, replaces in batch.slots
    ]
    rest = "[], []"
    if batch.removed or batch.tasks:
        rest = f"{_encode(batch.removed)}, {_encode(batch.tasks)}"
    return f"[[{files}], {lengths}, [{', '.join(slots)}], {rest}]".encode()


class JournalPart:
    """One of the two files of a journal; only one thread at a time may use it.

    Attributes
    ----------
    path : str
    generation : int
        Must be another one whenever it is used from its beginning.
    end : int
        Where the next record begins.
    began : float
        When its first record was written (`time.monotonic`).
    """

    def __init__(self, path: str, descriptor: int) -> None:
        self.path = path
        self.generation = self.end = 0
        self.began = 0.0
        self._descriptor = descriptor
        self._size = os.fstat(descriptor).st_size

    def write(self, batch: Batch, names: Sequence[str], files: Sequence[Sequence[Buffer]]) -> None:
        """Write a record at `end`, and move `end` behind it. `sync` makes it durable.

        `files` has the content of each file in pieces; none for a file that is durable already.
        """
        pieces: list[Buffer] = []
        lengths: list[int] = []
        for file in files:
            pieces += file
            lengths.append(sum(map(len, file)))
        notes = _notes(batch, names, lengths)
        length = len(notes) + sum(lengths)
        values = len(notes), length, self.generation, batch.number
        checked = _HEADER.pack(_MARK, 0, *values)[_CHECKED:] + notes
        crc = zlib.crc32(checked)
        for piece in pieces:
            crc = zlib.crc32(piece, crc)
        if not self.end:
            self.began = time.monotonic()
        end = self.end + _HEADER.size + length
        while self._size < end:
            self._write_at(self._size, [_ZEROS])
            self._size += len(_ZEROS)
        self._write_at(self.end, [_MARK + crc.to_bytes(4, "little") + checked, *pieces])
        self.end = end

    def sync(self) -> None:
        """Make the records durable."""
        _sync_data(self._descriptor)

    def cut(self, offset: int = 0) -> None:
        """Make the record at `offset` invalid, durably, and thereby all after it."""
        self._write_at(offset, [bytes(_HEADER.size)])
        _sync_data(self._descriptor)
        self.end = offset

    def records(self) -> Iterator[Record]:
        """Yield all records; the first one that is not whole ends them."""
        offset = generation = 0
        while True:
            header = self.read(offset, _HEADER.size)
            if len(header) < _HEADER.size:
                return
            mark, crc, notes, length, found, number = _HEADER.unpack(header)
            offset += _HEADER.size
            if mark != _MARK or (offset > _HEADER.size and found != generation):
                return
            if notes > length or crc != self._crc(header[_CHECKED:], offset, length):
                return
            generation = found
            names, lengths, slots, *rest = json.loads(self.read(offset, notes))
            extents, start = [], offset + notes
            for size in lengths:
                extents.append((start, size))
                start += size
            # Records of an earlier version of the program have no tasks.
            yield Record(Batch(number, [Slot(*each) for each in slots], *rest), names, extents)
            offset += length

    def read(self, offset: int, length: int) -> bytes:
        """Return bytes of the part; fewer if it ends before."""
        os.lseek(self._descriptor, offset, os.SEEK_SET)
        pieces = []
        while length and (piece := os.read(self._descriptor, length)):
            pieces.append(piece)
            length -= len(piece)
        return b"".join(pieces)

    def _write_at(self, offset: int, pieces: Sequence[Buffer]) -> None:
        os.lseek(self._descriptor, offset, os.SEEK_SET)
        write_all(self._descriptor, pieces)

    def _crc(self, header: bytes, offset: int, length: int) -> int | None:
        """Return the CRC of a record; None if the part ends before it."""
        crc = zlib.crc32(header)
        while length:
            piece = self.read(offset, min(length, _PIECE))
            if not piece:
                return None
            crc = zlib.crc32(piece, crc)
            offset += len(piece)
            length -= len(piece)
        return crc

    def close(self) -> None:
        """Close the file; the first part of a journal releases the lock thereby."""
        os.close(self._descriptor)


class Journal:
    """The journal of this process.

    Only one thread may add records at a time. Another one makes checkpoints: it waits with
    `wait`, calls `retire` while no batch is under way, makes durable what was written from the
    retired parts, and calls `free`.

    Parameters
    ----------
    folder : str
        The node's folder.

    Attributes
    ----------
    failure : OSError or None
        Why no record can be added, if that is so. It ends with the next checkpoint.

    Raises
    ------
    OSError
        When its files cannot be made.
    """

    def __init__(self, folder: str) -> None:
        self._folder = f"{folder}/{JOURNAL}"
        self._lock = threading.Lock()  # guards the attributes below
        self._changed = threading.Condition(self._lock)
        """`append` notifies it when a checkpoint will be due, or is, and `free` when it is done;
        each may wait for the other."""
        self.failure: OSError | None = None
        self._retired: list[JournalPart] = []
        self._is_closing = False
        self._generation = time.time_ns()
        if not os.path.isdir(self._folder):
            # The log of SQLite becomes longer with each batch, and is a file in `folder`.
            with making_apart(folder):
                os.makedirs(self._folder, mode=0o700, exist_ok=True)
        sync_folder(folder)
        self._open()

    def _open(self) -> None:
        """Make the files, under a name that no other journal had."""
        path = f"{self._folder}/{os.urandom(16).hex()}"
        with scanning(self._folder):  # until it is locked, it looks like that of a dead process
            first = JournalPart(path + FIRST, lock(path + FIRST))
        try:
            second = JournalPart(path + SECOND, os.open(path + SECOND, _READ_AND_WRITE, 0o600))
            sync_folder(self._folder)
        except BaseException:
            first.close()
            raise
        self._parts = [first, second]
        self._free = [second]
        self._use(first)

    def _use(self, part: JournalPart) -> None:
        self._generation += 1
        part.generation = self._generation
        self._current = part

    # --- For the thread that adds records ---

    def append(self, batch: Batch, names: Sequence[str], files: Sequence[Sequence[Buffer]]) -> None:
        """Add a record; it is durable when this returns. See `JournalPart.write`.

        Raises
        ------
        OSError
            When that fails; then it does not count.
        """
        with self._lock:
            if self.failure is not None:
                raise OSError(errno.EIO, f"the journal has failed: {self.failure.strerror}")
            if self._current.end >= FULL:
                self._make_room()
        part = self._current
        self._last = part.end
        part.write(batch, names, files)  # if it fails, the record is not whole: it does not count
        try:
            part.sync()
        except OSError as error:
            # The system may have dropped what it could not write, and a second sync would not
            # tell. So these files get no more records.
            self._fail(error)
            raise
        if not self._last:
            with self._changed:
                self._changed.notify_all()

    def take_back(self) -> None:
        """Make the last record not count, since its batch has failed. It never raises."""
        if self.failure is None:
            try:
                self._current.cut(self._last)
            except OSError as error:
                self._fail(error)

    def _fail(self, error: OSError) -> None:
        with contextlib.suppress(OSError):
            self._current.cut(self._last)
        self.fail(error)

    def _make_room(self) -> None:
        """Retire the current part, which is full. If the other is not free, it is used on, or, if
        that has lasted for too long, the checkpoint is waited for."""
        if not self._free and self._current.end >= MOST:
            self._changed.wait_for(lambda: self._free or self.failure, PATIENCE)
            if not self._free:
                raise OSError(errno.EBUSY, "the disk is too slow: the journal is full")
        if self._free:
            self._retire()

    def _retire(self) -> None:
        self._retired.append(self._current)
        self._use(self._free.pop())
        self._changed.notify_all()

    # --- For the thread that makes checkpoints ---

    def wait(self, interval: float) -> bool:
        """Wait until a checkpoint is due; return whether to go on, and not to end.

        It is due when a part is full, when the oldest record is `interval` seconds old, when
        the journal has failed, or when it is closing.
        """
        with self._changed:
            while not (self._retired or self.failure or self._is_closing):
                end = self._current.began + interval if self._current.end else None
                left = end - time.monotonic() if end is not None else None
                if left is not None and left <= 0:
                    break
                self._changed.wait(left)
            return not self._is_closing

    def retired(self) -> list[JournalPart]:
        """Return the parts that are to be freed by the next checkpoint; none after a failure."""
        with self._changed:
            return [] if self.failure is not None else list(self._retired)

    def retire(self) -> list[JournalPart]:
        """Retire the current part, or all after a failure; no batch may be under way.

        Returns all parts that are to be freed by the next checkpoint.
        """
        with self._changed:
            if self.failure is not None:
                return list(self._parts)
            if self._current.end and self._free:
                self._retire()
            return list(self._retired)

    def free(self, parts: Sequence[JournalPart]) -> None:
        """Use retired parts again: what was written from them is durable.

        Raises
        ------
        OSError
            When they cannot be cut, or new ones be made in place of those that have failed.
        """
        is_renewed = self.failure is not None and len(parts) == len(self._parts)
        if is_renewed:
            old = self._parts
            self._open()
            _remove(old)
        else:
            for part in parts:
                part.cut()
        with self._changed:
            self._retired = [part for part in self._retired if part not in parts]
            if is_renewed:
                self.failure = None
            else:
                self._free += parts
            self._changed.notify_all()

    def fail(self, error: OSError) -> None:
        """Refuse further records until a checkpoint succeeds."""
        with self._changed:
            self.failure = error
            self._changed.notify_all()

    def end(self) -> None:
        """Let `wait` return False from now on."""
        with self._changed:
            self._is_closing = True
            self._changed.notify_all()

    def close(self) -> None:
        """Remove the files, unless there are records that no checkpoint has made superfluous."""
        if self.failure is None and not any(part.end for part in self._parts):
            _remove(self._parts)
        else:
            for part in self._parts:
                part.close()


def _remove(parts: Sequence[JournalPart]) -> None:
    """Remove the files of a journal, that with the lock last."""
    for part in reversed(parts):
        remove(part.path)
        part.close()
        remove(part.path)  # Windows removes no open file


@contextlib.contextmanager
def scanning(folder: str) -> Iterator[None]:
    """Hold the lock under which a journal is made, and those of dead processes are replayed.

    Another process that starts waits for it. So it finds their objects stored.
    """
    descriptor = lock(f"{folder}/lock", wait=True)
    try:
        yield
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def abandoned(folder: str) -> Iterator[list[JournalPart]]:
    """Yield the parts of all journals whose processes have ended; the caller holds `scanning`.

    Their files are removed at the end of the block, unless it raises: then the next start replays
    them.
    """
    journals: list[list[JournalPart]] = []
    names = set(os.listdir(folder))
    try:
        for name in sorted(names):
            path, ending = f"{folder}/{name[: -len(FIRST)]}", name[-len(FIRST) :]
            if ending == SECOND and name[: -len(FIRST)] + FIRST not in names:
                remove(path + SECOND)  # the first one was removed before, and all is durable
            elif ending == FIRST:
                with contextlib.suppress(StorageInUse):
                    journals.append([JournalPart(path + FIRST, lock(path + FIRST))])
                    second = os.open(path + SECOND, _READ_AND_WRITE, 0o600)
                    journals[-1].append(JournalPart(path + SECOND, second))
        yield [part for journal in journals for part in journal]
    except BaseException:
        for part in (part for journal in journals for part in journal):
            part.close()
        raise
    for journal in journals:
        _remove(journal)
