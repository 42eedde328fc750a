"""Creates new files, writes them, and renames or removes them.

This module or the program chooses their names, never a peer.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable, Sequence
from functools import partial

Buffer = bytes | bytearray | memoryview

_MOST_BUFFERS = 1024
"""The most buffers for one readv or writev: IOV_MAX of Linux, macOS and the BSDs."""
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)


def transfer(operation: Callable[[Sequence[Buffer]], int], buffers: Sequence[Buffer]) -> int:
    """Read into or write all of `buffers` by repeated calls of `operation`, a readv or a writev.

    One call may transfer only some of the bytes. Returns the number of bytes transferred, fewer
    than all only if `operation` returned 0.
    """
    done = 0
    for start in range(0, len(buffers), _MOST_BUFFERS):
        rest = _after(buffers[start : start + _MOST_BUFFERS], 0)
        while rest:
            count = operation(rest)
            if not count:
                return done
            done += count
            rest = _after(rest, count)
    return done


def _after(buffers: Sequence[Buffer], count: int) -> Sequence[Buffer]:
    """Return `buffers` without their first `count` bytes; the first buffer left is not empty."""
    for index, buffer in enumerate(buffers):
        if count < len(buffer):
            if not count:
                return buffers[index:] if index else buffers
            return [memoryview(buffer)[count:], *buffers[index + 1 :]]
        count -= len(buffer)
    return ()


def write_all(descriptor: int, buffers: Sequence[Buffer], path: str | None = None) -> None:
    """Write all of `buffers` to an open file; an OSError names `path`."""
    if hasattr(os, "writev") and len(buffers) <= _MOST_BUFFERS:
        count = os.writev(descriptor, buffers)
        if count == sum(map(len, buffers)):
            return  # usually one call writes all of them
        buffers = _after(buffers, count)
    transfer(partial(_write_some, descriptor, path), buffers)


def _write_some(descriptor: int, path: str | None, buffers: Sequence[Buffer]) -> int:
    if hasattr(os, "writev"):
        count = os.writev(descriptor, buffers)
    else:
        count = os.write(descriptor, buffers[0])
    if not count:
        raise OSError(errno.EIO, "nothing could be written", path)
    return count


class NewFile:
    """A newly created file, open for writing."""

    __slots__ = ("_descriptor", "_is_published", "path")

    def __init__(self, path: str, mode: int) -> None:
        self._descriptor = os.open(path, _NEW_FILE, mode)
        self._is_published = False
        self.path = path

    def write(self, buffers: Sequence[Buffer]) -> None:
        """Write all of `buffers`."""
        write_all(self._descriptor, buffers, self.path)

    def sync(self) -> None:
        """Make what was written durable; the name of the file may not be yet."""
        os.fsync(self._descriptor)

    def close(self) -> None:
        """Close the file; the system may report a failed write only now, as an OSError."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def publish(self, target: str, exclusive: bool) -> None:
        """Close the file and rename it to `target`; replace an existing one unless `exclusive`."""
        self.close()
        if not exclusive:
            os.replace(self.path, target)
        else:
            _rename_exclusively(self.path, target)
        self._is_published = True

    def remove(self) -> None:
        """Close the file, and remove it unless it was published. It never raises."""
        with contextlib.suppress(OSError):
            self.close()
        if not self._is_published:
            unlink(self.path)


def _rename_exclusively(path: str, target: str) -> None:
    try:
        os.link(path, target)
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links: create `target`, then replace it
        os.close(os.open(target, _NEW_FILE, 0o666))
        os.replace(path, target)
    else:
        os.unlink(path)


def new_token() -> str:
    """Return 32 random hexadecimal digits, for a file name that is unique and cannot be guessed."""
    return os.urandom(16).hex()


def spool_file(directory: str | None) -> NewFile:
    """Return a new temporary file that only this user can read; None: in the system's folder."""
    if directory is None:
        import tempfile  # imports many modules

        directory = tempfile.gettempdir()
    return NewFile(os.path.join(directory, f"dicomwire-{new_token()}.dcm"), 0o600)


def unlink(path: str) -> None:
    """Remove a file if it exists. It never raises."""
    with contextlib.suppress(OSError):
        os.unlink(path)
