"""Calls of the system for files and folders."""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path


class StorageInUse(OSError):
    """Another process uses the node's folder."""


class StoreFailure(OSError):
    """A store of objects cannot be used; the text says why in one line, without credentials."""


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


def sync_folder(folder: str) -> None:
    """Sync the names in a folder to the disk; Windows does that by itself."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def lock(path: str) -> int:
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
