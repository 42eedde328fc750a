"""The spool: objects that are being received, in memory or in files of this process.

File names are random; they contain no text of a peer.
"""

from __future__ import annotations

import contextlib
import hashlib
import mmap
import os
import re
import time
from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

from dicomwire.data.new_files import write_all
from dicomwire.data.payloads import Payload
from dicomwire.data.sinks import SinkFull
from dicomwire.leftovers import ABANDONED_AFTER, remove_leftovers
from dicomwire.node.files import FileLock, remove, sync_folder
from dicomwire.node.heads import HEAD_SIZE, Origin, Seal, sealed_head
from dicomwire.node.objects.room import Room

KEPT_IN_MEMORY = 128 * 1024
"""In bytes. A longer dataset is written to a file while it is received. Others stay in memory until
they are stored: the journal takes them, and so they need no sync of their own."""
SPOOL = "spool"
_LOCK = "lock"
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
_is_spooled = re.compile(r"[0-9a-f]{32}\.(part|dcm)|dicomwire-[0-9a-f]{32}\.dcm").fullmatch
"""Whether a name is one that the node uses in the spool: for a file being received (part), one
moved back after a failure (dcm), or one that the library made for a handler (dicomwire-)."""
_is_note = re.compile(r"[0-9a-f]{32}\.note").fullmatch
_is_folder = re.compile(r"[0-9a-f]{16}").fullmatch
"""Whether a name in the spool is that of the folder of a process."""


class Spooled(Payload):
    """A received dataset that is not published yet: in memory, or in a file of the spool."""

    __slots__ = (
        "_data",
        "_descriptor",
        "_digests",
        "_file",
        "_hash",
        "_is_given",
        "_note",
        "_sealed_head",
        "_withdraw",
        "name",
        "received",
    )

    offset = HEAD_SIZE

    def __init__(
        self, size: int, data: bytearray, spool: str, file: str | None, descriptor: int, sha: Any
    ) -> None:
        # As in `Payload.__init__`, without a call of it for each object.
        self.size = size
        self._directory = spool
        self._share = None
        self._dicom_file = None
        self._data = data
        self._file = file
        self._descriptor = descriptor
        self._hash = sha
        self._digests: dict[str, bytes] = {}
        self._sealed_head = b""
        self.received = 0
        self.name = ""
        """The name under which a store outside of the spool has it, if one has."""
        self._withdraw: Callable[[], None] | None = None
        self._note: Path | None = None
        self._is_given = False

    @property
    def path(self) -> Path | None:
        """The file in the spool, if there is one; it is a valid DICOM file once it is sealed."""
        return Path(self._file) if self._file is not None else None

    @property
    def content(self) -> Sequence[bytes | bytearray]:
        """All bytes of the sealed DICOM file, in pieces; none if they are not in memory."""
        return (self._sealed_head, self._data) if len(self._data) == self.size else ()

    @property
    def file_size(self) -> int:
        """The size of its file in bytes."""
        return HEAD_SIZE + self.size

    @property
    def begin(self) -> memoryview:
        """The first bytes, up to `KEPT_IN_MEMORY`, which stay in memory."""
        return memoryview(self._data).toreadonly()

    def view(self) -> memoryview:
        """Return all bytes. A file is mapped to memory for as long as the view is in use."""
        if len(self._data) == self.size or self._file is None:
            return self.begin
        with open(self._file, "rb") as file:
            return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))[HEAD_SIZE:]

    def open(self) -> BinaryIO:
        """Return an open file, positioned at the dataset."""
        path = self.path
        if path is None or len(self._data) == self.size:
            return BytesIO(self._data)
        file = path.open("rb")
        file.seek(HEAD_SIZE)
        return file

    def digest(self, transfer_syntax_uid: str) -> bytes:
        """Return SHA-256 of the dataset followed by the UID of its transfer syntax."""
        digest = self._digests.get(transfer_syntax_uid)
        if digest is None:
            whole = self._hash.copy()
            whole.update(transfer_syntax_uid.encode())
            digest = self._digests[transfer_syntax_uid] = whole.digest()
        return digest

    def seal(self, origin: Origin) -> None:
        """Complete its DICOM file. A file in the spool is synced to the disk when this returns.

        Each association's thread does this for its own object. So the syncs of several objects
        overlap, which the file system combines, and no thread waits for a large object of another.
        """
        self._sealed_head = self._head(origin)
        if self._descriptor < 0:
            return
        self._complete(self._sealed_head)
        _sync_data(self._descriptor)
        descriptor, self._descriptor = self._descriptor, -1
        os.close(descriptor)

    def whole(self, origin: Origin) -> Path | list[bytes | bytearray]:
        """Return its DICOM file, which is not synced: a file in the spool, or bytes in memory."""
        head = self._head(origin)
        if self._file is None:
            return [head, self._data]
        self._complete(head)
        descriptor, self._descriptor = self._descriptor, -1
        os.close(descriptor)
        return Path(self._file)

    def _head(self, origin: Origin) -> bytes:
        self.received = time.time_ns() // 1000
        seal = Seal(self.digest(origin.transfer_syntax_uid), self.size, self.received)
        return sealed_head(origin, seal)

    def _complete(self, head: bytes) -> None:
        os.lseek(self._descriptor, 0, os.SEEK_SET)
        write_all(self._descriptor, [head])

    def lend(self, name: str, withdraw: Callable[[], None], note: Path | None = None) -> None:
        """Note that a store has it under `name`; `discard` withdraws it, unless it is given.

        `note` is that of the spool; if the object is given, `discard` removes it.
        """
        self.name = name
        self._withdraw = withdraw
        self._note = note

    def give(self) -> None:
        """Leave it to the store that has it."""
        self._is_given = True

    def take_back(self) -> None:
        """Undo `give`."""
        self._is_given = False

    def move(self, target: str) -> None:
        """Rename the sealed file to `target`; from then on, `discard` leaves it alone."""
        assert self._file is not None
        os.rename(self._file, target)
        self._file = None

    def move_back(self, placed: str) -> None:
        """Undo `move`. It never raises: the next start finds a file that could not be moved."""
        if self._file is not None:
            return  # it was not moved
        file = f"{self._directory}/{os.path.basename(placed)}"
        try:
            os.rename(placed, file)
            self._file = file
        except OSError:
            remove(placed)

    def discard(self) -> None:
        """Remove the file if it is in the spool, and what a store was lent. It never raises."""
        if self._dicom_file is not None:
            super().discard()
        if self._withdraw is not None:
            withdraw, self._withdraw = self._withdraw, None
            if not self._is_given:
                withdraw()
            elif self._note is not None:
                remove(str(self._note))
        if self._descriptor >= 0:
            descriptor, self._descriptor = self._descriptor, -1
            with contextlib.suppress(OSError):
                os.close(descriptor)
        if self._file is not None:
            file, self._file = self._file, None
            remove(file)


class SpoolSink:
    """Receives a dataset into the spool, and computes its digest meanwhile; see `sinks.Sink`."""

    __slots__ = ("_ceiling", "_data", "_descriptor", "_file", "_hash", "_room", "_size", "_spool")

    def __init__(self, spool: str, ceiling: int | None, room: Room) -> None:
        self._spool = spool
        self._room = room
        self._ceiling = ceiling
        self._data = bytearray()
        self._size = 0
        self._hash = hashlib.sha256()
        self._file: str | None = None
        self._descriptor = -1

    def write(self, chunks: list[memoryview]) -> None:
        """Write the next bytes."""
        self._room.check()
        for chunk in chunks:
            self._size += len(chunk)
            self._hash.update(chunk)
        if self._ceiling is not None and self._size > self._ceiling:
            raise SinkFull(self._ceiling)
        if self._descriptor >= 0:
            write_all(self._descriptor, chunks)
        elif self._size <= KEPT_IN_MEMORY:
            for chunk in chunks:
                self._data += chunk
        else:
            # `seal` writes the head, when its values are known. Until then it is zeros, so that
            # the file is not a DICOM file.
            self._file, self._descriptor = _new_file(self._spool)
            write_all(self._descriptor, [bytes(HEAD_SIZE), self._data, *chunks])
            for chunk in chunks:
                self._data += chunk[: KEPT_IN_MEMORY - len(self._data)]

    def finish(self) -> Spooled:
        """Return the dataset, which owns the file from then on."""
        descriptor, self._descriptor = self._descriptor, -1
        return Spooled(self._size, self._data, self._spool, self._file, descriptor, self._hash)

    def discard(self) -> None:
        """Remove the file, unless the dataset is finished."""
        if self._descriptor >= 0 and self._file is not None:
            with contextlib.suppress(OSError):
                os.close(self._descriptor)
            self._descriptor = -1
            remove(self._file)
        self._data = bytearray()


class Spool:
    """The spool of a process that uses a node's folder.

    Each process has a folder of its own in the spool, and locks it. So any process can remove
    what one that died has left.

    Parameters
    ----------
    folder : Path
        The node's folder, made if it is missing.
    ceiling : int or None
        The most bytes of a dataset; larger ones are answered with 0xA700.
    exclusive : bool
        Whether no other process may use the node's folder at the same time.
    room : Room, optional
        Refuses objects when the disk is nearly full.

    Raises
    ------
    StorageInUse
        When another process uses the node's folder, and one of the two exclusively.
    OSError
        When it cannot be made or written to.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        ceiling: int | None = None,
        exclusive: bool = False,
        room: Room | None = None,
    ) -> None:
        self.folder = Path(folder).absolute()
        self._ceiling = ceiling
        self._room = room or Room([], 0)
        _make_folder(self.folder)
        with contextlib.ExitStack() as opened:
            folder_lock = FileLock(os.path.join(self.folder, _LOCK), shared=not exclusive)
            opened.enter_context(folder_lock)
            spool = os.path.join(self.folder, SPOOL)
            os.makedirs(spool, exist_ok=True)
            sync_folder(os.path.join(self.folder, ""))
            sync_folder(os.path.dirname(self.folder))
            # A start waits for another, which takes no longer than to remove what is left. So
            # none sees a folder that has been made but is not locked yet.
            with FileLock(os.path.join(spool, _LOCK), wait=True):
                self._path = os.path.join(spool, os.urandom(8).hex())
                os.mkdir(self._path, 0o700)
                opened.callback(_remove_folder, self._path)
                opened.enter_context(FileLock(os.path.join(self._path, _LOCK)))
                _remove_leftovers(spool, self._path)
            self.notes = [Path(self._path, name) for name in os.listdir(self._path)]
            self.notes = [note for note in self.notes if _is_note(note.name)]
            """Those of processes that have ended; see `note`."""
            self.begin_upload: Callable[[], Path] = lambda: self.note(os.urandom(16).hex())
            """Returns the `note` of a new upload; `uploads` tells other nodes of it, too."""
            self._open = opened.pop_all()

    def __enter__(self) -> Spool:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Remove the spool, and allow others to use the folder exclusively."""
        self._open.close()

    def sink(self, request: object = None) -> SpoolSink:
        """Return the sink for the dataset of a C-STORE request; for `receive_to`."""
        return SpoolSink(self._path, self._ceiling, self._room)

    def note(self, digits: str) -> Path:
        """Note that the store may have an object of these 32 hex digits, and the index not yet.

        The caller removes the file when this is no longer so. A process that dies leaves it to the
        next one that opens the spool; `carrying.settle` then removes such an object.
        """
        note = Path(self._path, f"{digits}.note")
        note.touch(0o600)
        return note

    def has_note(self, digits: str) -> bool:
        """Return whether there is a note of these digits, made by this process."""
        return os.path.exists(os.path.join(self._path, f"{digits}.note"))

    def make_file(self) -> Path:
        """Make an empty file in the spool, and return its path; the caller removes it."""
        path, descriptor = _new_file(self._path)
        os.close(descriptor)
        return Path(path)


def lock_node(folder: Path) -> FileLock:
    """Keep other nodes, but not other processes of this one, from the folder; make it if needed.

    Raises
    ------
    StorageInUse
        When another node runs in it.
    """
    _make_folder(folder)
    return FileLock(os.path.join(folder.absolute(), "node.lock"))


def size_of(folder: Path) -> dict[str, int]:
    """Return the number of files in and below a folder, and their bytes, without locks."""
    sizes = []
    for place, _, names in os.walk(folder):
        for name in names:
            if name != _LOCK:
                with contextlib.suppress(OSError):  # it was removed meanwhile
                    sizes.append(os.stat(os.path.join(place, name)).st_size)
    return {"files": len(sizes), "bytes": sum(sizes)}


def _make_folder(folder: Path) -> None:
    folder.mkdir(0o700, parents=True, exist_ok=True)  # others must not read patient data


def _remove_leftovers(spool: str, mine: str) -> None:
    """Remove what processes that have ended have left in the spool; move their notes to `mine`."""
    # Files beside the folders are of an older version of the program, which locked the node's
    # folder. If the spool is a link, others may use the folder that it points to: keep recent ones.
    remove_leftovers(spool, _is_spooled, ABANDONED_AFTER if os.path.islink(spool) else 0.0)
    for name in filter(_is_folder, os.listdir(spool)):
        folder = os.path.join(spool, name)
        with (
            contextlib.suppress(OSError),
            FileLock(os.path.join(folder, _LOCK)),
        ):  # StorageInUse: it lives
            for note in filter(_is_note, os.listdir(folder)):
                os.rename(os.path.join(folder, note), os.path.join(mine, note))
            _remove_folder(folder)


def _remove_folder(folder: str) -> None:
    """Remove the spool of a process that has ended, but not its notes, nor files of others.

    It never raises.
    """
    remove_leftovers(folder, _is_spooled, 0.0)
    remove(os.path.join(folder, _LOCK))
    with contextlib.suppress(OSError):
        os.rmdir(folder)


def _new_file(spool: str) -> tuple[str, int]:
    """Make an empty file in the spool; return its path and descriptor."""
    path = f"{spool}/{os.urandom(16).hex()}.part"
    try:
        return path, os.open(path, _NEW_FILE, 0o600)
    except FileNotFoundError:
        os.makedirs(spool, exist_ok=True)  # it was removed while the node runs
        return path, os.open(path, _NEW_FILE, 0o600)


_sync_data = getattr(os, "fdatasync", os.fsync)
