"""Calls of the system for files and folders."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import re
import struct
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Self
from weakref import WeakSet

fcntl: ModuleType | None
try:
    import fcntl
except ImportError:  # Windows
    fcntl = None


class StorageInUse(OSError):
    """Another process uses the node's folder."""


class StoreFailure(OSError):
    """A store of objects cannot be used; the text says why in one line, without credentials."""


class Damaged(OSError):
    """The content of an object differs from what was stored."""


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


def sync_file(path: str) -> None:
    """Sync a file to the disk."""
    descriptor = os.open(path, os.O_RDWR | getattr(os, "O_BINARY", 0))
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_folder(folder: str) -> None:
    """Sync the names in a folder to the disk; Windows does that by itself."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


_LONG = struct.calcsize("l") << 16
_GET_FLAGS, _SET_FLAGS = 0x80006601 | _LONG, 0x40006602 | _LONG
"""FS_IOC_GETFLAGS and FS_IOC_SETFLAGS."""
_flags = struct.Struct("I")
_TOP = 0x20000
"""FS_TOPDIR_FL: what is in one folder below has nothing to do with what is in another."""


@contextlib.contextmanager
def making_apart(folder: str) -> Iterator[None]:
    """Have ext4 keep the folders that the block makes in `folder` apart from the files in it.

    For a file, `fdatasync` also writes the block that has its inode, and those of the files made
    before and after it. If one of them has become longer, this is another wait for the disk. Other
    file systems do not take this hint.
    """
    with contextlib.ExitStack() as hint:
        if fcntl is not None and sys.platform == "linux":
            with contextlib.suppress(OSError):
                descriptor = os.open(folder, os.O_RDONLY)
                hint.callback(os.close, descriptor)
                flags = fcntl.ioctl(descriptor, _GET_FLAGS, bytes(_flags.size))
                changed = _flags.pack(_flags.unpack(flags)[0] | _TOP)
                fcntl.ioctl(descriptor, _SET_FLAGS, changed)
                hint.callback(fcntl.ioctl, descriptor, _SET_FLAGS, flags)
        yield


def lock(path: str, *, shared: bool = False, wait: bool = False) -> int:
    """Lock a file, which is made if it is missing; return its descriptor.

    Closing the descriptor and its copies releases the lock, and so does the end of the processes
    that have them.

    Parameters
    ----------
    shared : bool
        Whether others may have shared locks at the same time. (Windows has none. There are no
        worker processes either, so that one process is all that uses a folder.)
    wait : bool
        Whether to wait for others, instead of raising StorageInUse.

    Raises
    ------
    StorageInUse
        When another process has locked it.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        if fcntl is None:
            import msvcrt

            mode = msvcrt.LK_LOCK if wait else msvcrt.LK_NBLCK  # type: ignore[attr-defined]
            msvcrt.locking(descriptor, mode, 1)  # type: ignore[attr-defined]
        else:
            mode = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
            fcntl.flock(descriptor, mode if wait else mode | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
            raise
        raise StorageInUse(f"another process uses {os.path.dirname(path)}") from None
    return descriptor


class FileLock:
    """A lock on a file that this process alone holds: a fork does not share it. See `lock`."""

    def __init__(self, path: str, *, shared: bool = False, wait: bool = False) -> None:
        self._file = lock(path, shared=shared, wait=wait)
        _locks.add(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Release the lock."""
        file, self._file = self._file, -1
        if file >= 0:
            os.close(file)


class ProcessLock:
    """A file that is locked in `with` blocks, by one process after the other.

    One that waits is woken at once; the system releases the lock of one that dies. It may be
    locked only once at a time. Windows has no other processes of a node, and so no lock.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._file = -1

    def __enter__(self) -> None:
        if self._file < 0:
            self._file = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
            _locks.add(self)
        if fcntl is not None:
            fcntl.flock(self._file, fcntl.LOCK_EX)

    def __exit__(self, *_: object) -> None:
        if fcntl is not None:
            fcntl.flock(self._file, fcntl.LOCK_UN)

    def close(self) -> None:
        """Close the file, which is opened again for the next block."""
        file, self._file = self._file, -1
        if file >= 0:
            os.close(file)

    __del__ = close


_locks: WeakSet[FileLock | ProcessLock] = WeakSet()


def _close_copies() -> None:
    """Close the copies of locked files in a fork, which would keep the locks of a dead parent."""
    for each in _locks:
        each.close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_copies)


def _find_syncfs() -> Callable[[int], int] | None:
    """Return syncfs of the C library if it tells of write errors, as since Linux 5.8."""
    if not sys.platform.startswith("linux"):
        return None
    version = tuple(map(int, re.findall(r"\d+", os.uname().release)[:2]))
    function: Callable[[int], int] | None
    function = getattr(ctypes.CDLL(None, use_errno=True), "syncfs", None)
    return function if version >= (5, 8) else None


_syncfs = _find_syncfs()
CAN_SYNC_FILE_SYSTEM = _syncfs is not None


def sync_file_system(descriptor: int) -> None:
    """Sync all files of the file system that has an open file.

    Raises
    ------
    OSError
        When something that was written since the file was opened could not be synced.
    """
    assert _syncfs is not None
    if _syncfs(descriptor):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
