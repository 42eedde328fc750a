"""Files that were not there before: written, given a name, or removed again.

Their names are made here or given by the program, never by a peer.
"""

from __future__ import annotations

import contextlib
import errno
import os
import tempfile
from collections.abc import Callable, Sequence

Buffer = bytes | bytearray | memoryview

_MOST_BUFFERS = 1024
"""How many buffers one readv or writev takes: IOV_MAX of Linux, macOS and the BSDs."""
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)


def transfer(operation: Callable[[Sequence[Buffer]], int], buffers: Sequence[Buffer]) -> int:
    """Hand all of `buffers` to a readv or a writev, which may do less than asked, or nothing.

    Returns the number of bytes done, which are all unless `operation` returned 0.
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
    """Return what is left of `buffers` after their first `count` bytes; it begins with a byte."""
    for index, buffer in enumerate(buffers):
        if count < len(buffer):
            if not count:
                return buffers[index:] if index else buffers
            return [memoryview(buffer)[count:], *buffers[index + 1 :]]
        count -= len(buffer)
    return ()


class NewFile:
    """A file that was not there before, open for writing."""

    __slots__ = ("_descriptor", "_is_published", "path")

    def __init__(self, path: str, mode: int) -> None:
        self._descriptor = os.open(path, _NEW_FILE, mode)
        self._is_published = False
        self.path = path

    def write(self, buffers: Sequence[Buffer]) -> None:
        """Write all of `buffers`."""
        if hasattr(os, "writev") and len(buffers) <= _MOST_BUFFERS:
            count = os.writev(self._descriptor, buffers)
            if count == sum(map(len, buffers)):
                return  # mostly, one call writes all of them
            buffers = _after(buffers, count)
        transfer(self._write, buffers)

    def _write(self, buffers: Sequence[Buffer]) -> int:
        if hasattr(os, "writev"):
            count = os.writev(self._descriptor, buffers)
        else:
            count = os.write(self._descriptor, buffers[0])
        if not count:
            raise OSError(errno.EIO, "nothing could be written", self.path)
        return count

    def close(self) -> None:
        """Close the file; what the system could not write comes up here at the latest."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def publish(self, target: str, exclusive: bool) -> None:
        """Close the file and rename it, over a file of that name unless `exclusive`."""
        self.close()
        if not exclusive:
            os.replace(self.path, target)
        else:
            _rename_exclusively(self.path, target)
        self._is_published = True

    def remove(self) -> None:
        """Close and remove the file, unless it was published. Never raises."""
        with contextlib.suppress(OSError):
            self.close()
        if not self._is_published:
            unlink(self.path)


def _rename_exclusively(path: str, target: str) -> None:
    try:
        os.link(path, target)
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links: take the name first
        os.close(os.open(target, _NEW_FILE, 0o666))
        os.replace(path, target)
    else:
        os.unlink(path)


def new_token() -> str:
    """Return what no other file is called by: digits nobody can guess."""
    return os.urandom(16).hex()


def spool_file(directory: str | None) -> NewFile:
    """Return a new temporary file, which nobody else may read; None is the system's folder."""
    folder = tempfile.gettempdir() if directory is None else directory
    return NewFile(os.path.join(folder, f"dicomwire-{new_token()}.dcm"), 0o600)


def unlink(path: str) -> None:
    """Remove a file, if it is there. It never raises."""
    with contextlib.suppress(OSError):
        os.unlink(path)
