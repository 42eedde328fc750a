"""The node's files: received into the spool, made durable, then moved to the folder of objects.

This module does not use the index. File names are random; they contain no text of a peer.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import mmap
import os
import re
import time
from collections.abc import Iterable, Iterator, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

from dicomwire.data.new_files import write_all
from dicomwire.data.payloads import Payload
from dicomwire.data.sinks import SinkFull
from dicomwire.leftovers import ABANDONED_AFTER, remove_leftovers
from dicomwire.node.heads import HEAD_SIZE, Seal, sealed_head
from dicomwire.node.heads import Origin as Origin

SPOOL = "spool"
OBJECTS = "objects"
KEPT_IN_MEMORY = 64 * 1024
"""In bytes. A longer dataset is written to its file while it is received, others when complete."""
FILES_PER_FOLDER = 1000
"""The number of files in a folder before the next one is begun.

The objects of a batch go to one folder, which takes one sync. (If the name of each file chose the
folder, each object would take one: with eight objects at a time, that doubles the time.)
"""

_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
_is_spooled = re.compile(r"[0-9a-f]{32}\.(part|dcm)|dicomwire-[0-9a-f]{32}\.dcm").fullmatch
"""Whether a name is one that the node uses in the spool: for a file being received (part), one
moved back after a failure (dcm), or one that the library made for a handler (dicomwire-)."""


class StorageInUse(OSError):
    """Another process uses the node's folder."""


class Spooled(Payload):
    """A received dataset that is not published yet: in memory, or in a file of the spool."""

    __slots__ = ("_data", "_descriptor", "_file", "_hash", "received")

    offset = HEAD_SIZE

    def __init__(
        self, size: int, data: bytearray, spool: str, file: str | None, descriptor: int, sha: Any
    ) -> None:
        super().__init__(size, spool)
        self._data = data
        self._file = file
        self._descriptor = descriptor
        self._hash = sha
        self.received = 0

    @property
    def path(self) -> Path | None:
        """The file in the spool; it is a valid DICOM file once it is sealed."""
        return Path(self._file) if self._file is not None else None

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
        whole = self._hash.copy()
        whole.update(transfer_syntax_uid.encode())
        digest: bytes = whole.digest()
        return digest

    def seal(self, origin: Origin) -> None:
        """Complete its DICOM file; it is synced to the disk when this returns.

        Each association's thread does this for its own object. So the syncs of several objects
        overlap, which the file system combines, and no thread waits for a large object of another.
        """
        self.received = time.time_ns() // 1000
        head = sealed_head(
            origin, Seal(self.digest(origin.transfer_syntax_uid), self.size, self.received)
        )
        if self._descriptor < 0:
            assert self._directory is not None
            self._file, self._descriptor = _create(self._directory)
            write_all(self._descriptor, [head, self._data])
        else:
            os.lseek(self._descriptor, 0, os.SEEK_SET)
            write_all(self._descriptor, [head])
        _sync_data(self._descriptor)
        descriptor, self._descriptor = self._descriptor, -1
        os.close(descriptor)

    def move(self, target: str) -> None:
        """Rename the sealed file to `target`; from then on, `discard` leaves it alone."""
        assert self._file is not None
        os.rename(self._file, target)
        self._file = None

    def move_back(self, placed: str) -> None:
        """Undo `move`. It never raises: the next start finds a file that could not be moved."""
        file = f"{self._directory}/{os.path.basename(placed)}"
        try:
            os.rename(placed, file)
            self._file = file
        except OSError:
            remove(placed)

    def discard(self) -> None:
        """Remove the file if it is in the spool. It never raises."""
        super().discard()
        if self._descriptor >= 0:
            descriptor, self._descriptor = self._descriptor, -1
            with contextlib.suppress(OSError):
                os.close(descriptor)
        if self._file is not None:
            file, self._file = self._file, None
            remove(file)


class SpoolSink:
    """Receives a dataset into the spool, and computes its digest meanwhile; see `sinks.Sink`."""

    __slots__ = ("_ceiling", "_data", "_descriptor", "_file", "_hash", "_size", "_spool")

    def __init__(self, spool: str, ceiling: int | None) -> None:
        self._spool = spool
        self._ceiling = ceiling
        self._data = bytearray()
        self._size = 0
        self._hash = hashlib.sha256()
        self._file: str | None = None
        self._descriptor = -1

    def write(self, chunks: list[memoryview]) -> None:
        """Write the next bytes."""
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
            self._file, self._descriptor = _create(self._spool)
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


class Files:
    """Read access to the objects in a node's folder."""

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder).absolute()
        self._root = os.path.join(self.folder, "")

    def open_path(self, file: str) -> Path:
        """Return the path of `file`, a name as in the index."""
        return Path(self._root + file)

    def files(self) -> Iterator[str]:
        """Yield the names of all files, sorted; only the names of one folder are in memory."""
        for first in _names(self._root + OBJECTS, "/"):
            for second in _names(f"{self._root}{OBJECTS}/{first}", "/"):
                folder = f"{OBJECTS}/{first}/{second}"
                for name in _names(self._root + folder, ""):
                    if name.endswith(".dcm"):
                        yield f"{folder}/{name}"


class Storage(Files):
    """The folder of a node; only one process may use it at a time.

    Parameters
    ----------
    folder : Path
        Made if it is missing. Files that an earlier process left in the spool are removed.
    ceiling : int or None
        The most bytes of a dataset; larger ones are answered with 0xA700.

    Raises
    ------
    StorageInUse
        When another process uses it.
    OSError
        When it cannot be made or written to.
    """

    def __init__(self, folder: str | os.PathLike[str], ceiling: int | None = None) -> None:
        super().__init__(folder)
        self._spool = self._root + SPOOL
        self._ceiling = ceiling
        self._current = ""
        self._room = 0
        self.folder.mkdir(0o700, parents=True, exist_ok=True)  # others must not read patient data
        self._lock = _lock(self._root + "lock")
        try:
            os.makedirs(self._spool, exist_ok=True)
            os.makedirs(self._root + OBJECTS, exist_ok=True)
            sync_folder(self._root)
            sync_folder(os.path.dirname(self.folder))
            # If the spool is a link, other programs may use the folder it points to: keep their
            # recent files. Otherwise, the lock guarantees that all files are left over.
            age = ABANDONED_AFTER if os.path.islink(self._spool) else 0.0
            remove_leftovers(self._spool, _is_spooled, age)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Storage:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Allow other processes to use the folder."""
        lock, self._lock = self._lock, -1
        if lock >= 0:
            os.close(lock)

    def sink(self, request: object = None) -> SpoolSink:
        """Return the sink for the dataset of a C-STORE request; for `receive_to`."""
        return SpoolSink(self._spool, self._ceiling)

    def make_file(self) -> Path:
        """Make an empty file in the spool, and return its path; the caller removes it."""
        path, descriptor = _create(self._spool)
        os.close(descriptor)
        return Path(path)

    def publish(self, objects: Sequence[Spooled]) -> list[str]:
        """Move sealed files to the folder of objects, durably; return their names for the index.

        Only one thread may call this at a time. `seal` has synced each file before this renames
        it, so that each published file is complete, also after a power failure. All files go to
        one folder, which is synced once. (To rename before the sync would save some 80 µs of 400
        on ext4, where one commit of the journal then covers both, but a power failure could leave
        an incomplete file.)

        Raises
        ------
        OSError
            When it fails for one of them; then none is published.
        """
        names: list[str] = []
        try:
            for spooled in objects:
                names.append(self._place(spooled))
            for folder in {name.rpartition("/")[0] for name in names}:
                sync_folder(self._root + folder)
        except BaseException:
            self.take_back(objects, names)
            raise
        return names

    def take_back(self, objects: Sequence[Spooled], names: Sequence[str]) -> None:
        """Undo `publish`, also if it stopped half-way: move the files back to the spool."""
        for spooled, name in zip(objects, names, strict=False):
            spooled.move_back(self._root + name)

    def _place(self, spooled: Spooled) -> str:
        name = f"{self._folder()}/{os.urandom(16).hex()}.dcm"
        try:
            spooled.move(self._root + name)
        except FileNotFoundError:
            if os.path.isdir(self._root + self._current):
                raise
            self._room = 0  # the folder was removed
            name = f"{self._folder()}/{os.urandom(16).hex()}.dcm"
            spooled.move(self._root + name)
        self._room -= 1
        return name

    def _folder(self) -> str:
        """Return the current folder for new files; make a new one, durably, if it is full."""
        if not self._room:
            digits = os.urandom(2).hex()
            parent = f"{OBJECTS}/{digits[:2]}"
            current = f"{parent}/{digits[2:]}"
            os.makedirs(self._root + current, exist_ok=True)
            sync_folder(self._root + parent)
            sync_folder(self._root + OBJECTS)
            self._current, self._room = current, FILES_PER_FOLDER
        return self._current

    def withdraw(self, names: Iterable[str]) -> None:
        """Remove published files. It never raises: the next start finds those that remain."""
        for name in names:
            remove(self._root + name)


def _names(folder: str, then: str) -> list[str]:
    """Return the names in a folder, in the order of the paths that they and `then` begin."""
    try:
        return sorted(os.listdir(folder), key=lambda name: name + then)
    except (NotADirectoryError, FileNotFoundError):
        return []


# --- Calls of the system ----------------------------------------------------------------------


def is_missing(path: Path) -> bool:
    """Return whether a file does not exist; OSError if that cannot be determined."""
    try:
        os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return True
    return False


def remove(path: str) -> None:
    """Remove a file if there is one. It never raises."""
    with contextlib.suppress(OSError):
        os.unlink(path)


def _create(spool: str) -> tuple[str, int]:
    path = f"{spool}/{os.urandom(16).hex()}.part"
    try:
        return path, os.open(path, _NEW_FILE, 0o600)
    except FileNotFoundError:
        os.makedirs(spool, exist_ok=True)  # it was removed while the node runs
        return path, os.open(path, _NEW_FILE, 0o600)


_sync_data = getattr(os, "fdatasync", os.fsync)


def sync_folder(folder: str) -> None:
    """Sync the names in a folder to the disk; Windows does that by itself."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _lock(path: str) -> int:
    """Lock a file; return its descriptor.

    Closing the descriptor releases the lock, and so does the end of the process.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        if os.name == "nt":
            import msvcrt

            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
        else:
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
            raise
        raise StorageInUse(f"another process uses {os.path.dirname(path)}") from None
    return descriptor
