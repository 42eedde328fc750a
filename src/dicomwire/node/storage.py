"""The node's files: spooled as they come, made durable, then given their place in a folder.

What an object is and where it is listed is not known here; no name is made of a peer's text.
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

from dicomwire.data.payloads import Payload
from dicomwire.data.sinks import SinkFull
from dicomwire.leftovers import ABANDONED_AFTER, remove_leftovers
from dicomwire.node.heads import HEAD_SIZE, Seal, sealed_head
from dicomwire.node.heads import Origin as Origin

SPOOL = "spool"
OBJECTS = "objects"
KEPT_IN_MEMORY = 64 * 1024
"""A dataset gets its file when it has more bytes than this, or else when it is complete."""
FILES_PER_FOLDER = 1000
"""How many files a folder gets before the next one is begun.

Objects that are committed together go to one folder, which costs one sync. (Folders chosen by the
name of each file cost one sync per object: with eight at a time that is twice the time.)
"""

_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
_MOST_BUFFERS = 1024
_is_spooled = re.compile(r"[0-9a-f]{32}\.(part|dcm)|dicomwire-[0-9a-f]{32}\.dcm").fullmatch
"""Whether a name is that of a file in the spool: being received, taken back from its place, or made
for a program that asked for a file."""


class StorageInUse(OSError):
    """Another process has the node's folder."""


class Spooled(Payload):
    """A received dataset that has no place yet: in memory, or in a file of the spool."""

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
        """The file in the spool, which is a DICOM file once it is sealed."""
        return Path(self._file) if self._file is not None else None

    @property
    def file_size(self) -> int:
        """How many bytes its file has."""
        return HEAD_SIZE + self.size

    @property
    def begin(self) -> memoryview:
        """The first bytes, which are in memory: `KEPT_IN_MEMORY` of them, or all."""
        return memoryview(self._data).toreadonly()

    def view(self) -> memoryview:
        """Return the bytes; those of a file are mapped, and stay so while the view is in use."""
        if len(self._data) == self.size or self._file is None:
            return self.begin
        with open(self._file, "rb") as file:
            return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))[HEAD_SIZE:]

    def open(self) -> BinaryIO:
        """Return a file that is positioned at the dataset."""
        path = self.path
        if path is None or len(self._data) == self.size:
            return BytesIO(self._data)
        file = path.open("rb")
        file.seek(HEAD_SIZE)
        return file

    def digest(self, transfer_syntax_uid: str) -> bytes:
        """Return SHA-256 of the dataset and the syntax: the same bytes may mean two things."""
        whole = self._hash.copy()
        whole.update(transfer_syntax_uid.encode())
        digest: bytes = whole.digest()
        return digest

    def seal(self, origin: Origin) -> None:
        """Make a DICOM file of it, and have it on the disk when this returns.

        Each association's thread does so for its own object, so that those of many overlap (the
        file system gathers their syncs) and nobody waits for another's large one.
        """
        self.received = time.time_ns() // 1000
        head = sealed_head(
            origin, Seal(self.digest(origin.transfer_syntax_uid), self.size, self.received)
        )
        if self._descriptor < 0:
            assert self._directory is not None
            self._file, self._descriptor = _create(self._directory)
            _write(self._descriptor, [head, self._data])
        else:
            os.lseek(self._descriptor, 0, os.SEEK_SET)
            _write(self._descriptor, [head])
        _sync_data(self._descriptor)
        descriptor, self._descriptor = self._descriptor, -1
        os.close(descriptor)

    def move(self, target: str) -> None:
        """Rename the file, which is sealed, to `target`: from now on it stays."""
        assert self._file is not None
        os.rename(self._file, target)
        self._file = None

    def move_back(self, placed: str) -> None:
        """Undo `move`. It never raises: what stays is found at the next start."""
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
    """Takes a dataset into the spool, and its digest as it comes; see `sinks.Sink`."""

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
        """Take the next bytes."""
        for chunk in chunks:
            self._size += len(chunk)
            self._hash.update(chunk)
        if self._ceiling is not None and self._size > self._ceiling:
            raise SinkFull(self._ceiling)
        if self._descriptor >= 0:
            _write(self._descriptor, chunks)
        elif self._size <= KEPT_IN_MEMORY:
            for chunk in chunks:
                self._data += chunk
        else:
            # The head is written when all is known. Until then nobody takes this for a DICOM file.
            self._file, self._descriptor = _create(self._spool)
            _write(self._descriptor, [bytes(HEAD_SIZE), self._data, *chunks])
            for chunk in chunks:
                self._data += chunk[: KEPT_IN_MEMORY - len(self._data)]

    def finish(self) -> Spooled:
        """Return the dataset, which owns its file from now on."""
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
    """The objects in a node's folder, for whoever reads them."""

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder).absolute()
        self._root = os.path.join(self.folder, "")

    def open_path(self, file: str) -> Path:
        """Return where `file`, as the index names it, is."""
        return Path(self._root + file)

    def files(self) -> Iterator[str]:
        """Iterate over the names of all files, sorted, folder by folder."""
        for first in _names(self._root + OBJECTS, "/"):
            for second in _names(f"{self._root}{OBJECTS}/{first}", "/"):
                folder = f"{OBJECTS}/{first}/{second}"
                for name in _names(self._root + folder, ""):
                    if name.endswith(".dcm"):
                        yield f"{folder}/{name}"


class Storage(Files):
    """The folder of a node, which one process has at a time.

    Parameters
    ----------
    folder : Path
        Made if it is not there. Files that an earlier process left in the spool are removed.
    ceiling : int or None
        The most bytes of a dataset; a larger one is answered with 0xA700.

    Raises
    ------
    StorageInUse
        When another process has it.
    OSError
        When it cannot be made or written to.
    """

    def __init__(self, folder: str | os.PathLike[str], ceiling: int | None = None) -> None:
        super().__init__(folder)
        self._spool = self._root + SPOOL
        self._ceiling = ceiling
        self._current = ""
        self._room = 0
        self.folder.mkdir(0o700, parents=True, exist_ok=True)  # what is in it is patients' data
        self._lock = _lock(self._root + "lock")
        try:
            os.makedirs(self._spool, exist_ok=True)
            os.makedirs(self._root + OBJECTS, exist_ok=True)
            sync_folder(self._root)
            sync_folder(os.path.dirname(self.folder))
            # Behind a link may be a folder that others write to; this one nobody else has.
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
        """Let other processes have the folder."""
        lock, self._lock = self._lock, -1
        if lock >= 0:
            os.close(lock)

    def sink(self, request: object = None) -> SpoolSink:
        """Return where the dataset of a C-STORE request is to go; for `receive_to`."""
        return SpoolSink(self._spool, self._ceiling)

    def make_file(self) -> Path:
        """Return a new, empty file of the spool, which the caller removes."""
        path, descriptor = _create(self._spool)
        os.close(descriptor)
        return Path(path)

    def publish(self, objects: Sequence[Spooled]) -> list[str]:
        """Give sealed files their place, durably; return their names as the index has them.

        One caller at a time. The cheapest safe order: each file was synced before its rename, so
        that what is in a folder is whole, also after a power failure; all go to one folder, which
        is synced once. (Renaming before the sync would save some 80 µs of 400 on ext4, where both
        then go with one commit of the journal, but a power failure could leave half a file.)

        Raises
        ------
        OSError
            When it fails for any; then none has a place.
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
        """Undo `publish`, as far as it got; the files are in the spool again."""
        for spooled, name in zip(objects, names, strict=False):
            spooled.move_back(self._root + name)

    def _place(self, spooled: Spooled) -> str:
        name = f"{self._folder()}/{os.urandom(16).hex()}.dcm"
        try:
            spooled.move(self._root + name)
        except FileNotFoundError:
            if os.path.isdir(self._root + self._current):
                raise
            self._room = 0  # somebody removed the folder
            name = f"{self._folder()}/{os.urandom(16).hex()}.dcm"
            spooled.move(self._root + name)
        self._room -= 1
        return name

    def _folder(self) -> str:
        """Return the folder that files go to now, of which there is durably one."""
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
        """Remove published files. It never raises: what stays is found at the next start."""
        for name in names:
            remove(self._root + name)


def _names(folder: str, then: str) -> list[str]:
    """Return the names in a folder, sorted as the paths that have `then` after them are."""
    try:
        return sorted(os.listdir(folder), key=lambda name: name + then)
    except (NotADirectoryError, FileNotFoundError):
        return []


# --- What the system does ---------------------------------------------------------------------


def is_missing(path: Path) -> bool:
    """Return whether there is no such file; OSError if that cannot be told."""
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
        os.makedirs(spool, exist_ok=True)  # somebody removed it
        return path, os.open(path, _NEW_FILE, 0o600)


def _write(descriptor: int, buffers: Sequence[bytes | bytearray | memoryview]) -> None:
    """Write all of `buffers`, of which a writev may take less than it is given."""
    if hasattr(os, "writev") and len(buffers) <= _MOST_BUFFERS:
        done = os.writev(descriptor, buffers)
    else:
        done = 0
    for buffer in buffers:
        if done >= len(buffer):
            done -= len(buffer)
            continue
        rest = memoryview(buffer)[done:]
        done = 0
        while rest:
            count = os.write(descriptor, rest)
            if not count:
                raise OSError(errno.EIO, "nothing could be written")
            rest = rest[count:]


_sync_data = getattr(os, "fdatasync", os.fsync)


def sync_folder(folder: str) -> None:
    """Have the names in a folder on the disk; Windows does that by itself."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _lock(path: str) -> int:
    """Return a file that is locked until it is closed, by the death of the process as well."""
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
