"""Where a dataset goes while it comes in: memory, a temporary file, or a DICOM file.

Which of them a message gets is not decided here.
"""

from __future__ import annotations

import errno
import os
import re
from typing import Protocol

from dicomwire.data.budgets import BudgetSpent, Share, give, take
from dicomwire.data.new_files import NewFile, new_token, spool_file
from dicomwire.data.payloads import FilePayload, MemoryPayload, Payload
from dicomwire.errors import DicomwireError


class SinkRefused(DicomwireError, OSError):
    """There is no sink for a dataset; `status` is what to answer."""

    def __init__(self, text: str, status: int) -> None:
        super().__init__(text)
        self.status = status


class SinkFull(DicomwireError, OSError):
    """A dataset is larger than its sink may take, whatever room there is."""

    status = 0xA700
    """Refused: Out of Resources (PS3.4 Table B.2-1)."""

    def __init__(self, ceiling: int) -> None:
        super().__init__(errno.EFBIG, f"the dataset has more than {ceiling} bytes")


class Sink(Protocol):
    """Takes the dataset of one message. In the end call `finish`, or `discard`, which may follow.

    Raises
    ------
    OSError
        From `write` and `finish`, when it cannot be kept: `SinkFull`, or the file system's.
    """

    def write(self, chunks: list[memoryview]) -> None:
        """Take the next bytes; nothing of `chunks` is kept after the call."""

    def finish(self) -> Payload:
        """Return the dataset, which is complete."""

    def discard(self) -> None:
        """Let go of all that was written. It never raises."""


class DiscardSink:
    """Keeps nothing of a dataset of up to `ceiling` bytes (None: of any size)."""

    __slots__ = ("_ceiling", "_size")

    def __init__(self, ceiling: int | None = None) -> None:
        self._ceiling = ceiling
        self._size = 0

    def write(self, chunks: list[memoryview]) -> None:
        """Count `chunks`, if there is a ceiling."""
        if self._ceiling is not None:
            self._size = _grown(self._size, chunks, self._ceiling)

    def finish(self) -> Payload:
        """Return a payload without bytes."""
        return MemoryPayload(bytearray())

    def discard(self) -> None:
        """Do nothing."""


class MemorySink:
    """Keeps a dataset of up to `ceiling` bytes in memory (None: of any size).

    `write` raises BudgetSpent where `share` has no room for it.
    """

    __slots__ = ("_ceiling", "_data", "_share")

    def __init__(self, ceiling: int | None, share: Share | None = None) -> None:
        self._ceiling = ceiling
        self._share = share
        # One array, since pieces kept as they come may be of one byte each.
        self._data = bytearray()

    def write(self, chunks: list[memoryview]) -> None:
        """Copy `chunks`."""
        size = len(self._data)
        if not take(self._share, _grown(size, chunks, self._ceiling) - size):
            raise BudgetSpent
        for chunk in chunks:
            self._data += chunk

    def finish(self) -> Payload:
        """Return the dataset."""
        share, self._share = self._share, None  # from now on it is the payload's
        return MemoryPayload(self._data, None, share)

    def discard(self) -> None:
        """Let go of the memory."""
        give(self._share, len(self._data))
        self._share = None
        self._data = bytearray()


class SpoolSink:
    """Keeps a dataset in memory up to `threshold` bytes, a larger one in a temporary file.

    What `memory` has no room for goes to a file, too. `write` raises BudgetSpent where `files` has
    none either.

    Parameters
    ----------
    ceiling : int or None
        The most bytes taken.
    directory : str or None
        For the temporary file; None for the system's.
    head : bytes
        What the file is to begin with, so that it is a DICOM file.
    memory, files : Share or None
        For what is in memory and in the file.
    """

    __slots__ = (
        "_ceiling",
        "_data",
        "_directory",
        "_file",
        "_files",
        "_head",
        "_share",
        "_size",
        "_threshold",
    )

    def __init__(
        self,
        threshold: int,
        ceiling: int | None = None,
        directory: str | os.PathLike[str] | None = None,
        head: bytes = b"",
        memory: Share | None = None,
        files: Share | None = None,
    ) -> None:
        self._threshold = threshold
        self._ceiling = ceiling
        self._share = memory  # that has what there is
        self._files = files
        self._directory = None if directory is None else os.fspath(directory)
        self._head = head
        self._data = bytearray()  # as in MemorySink
        self._size = 0
        self._file: NewFile | None = None

    def write(self, chunks: list[memoryview]) -> None:
        """Copy `chunks` or write them to the file."""
        size = _grown(self._size, chunks, self._ceiling)
        added = size - self._size
        if self._file is None:
            share = self._share
            if size <= self._threshold and (share is None or share.take(added)):
                self._size = size
                for chunk in chunks:
                    self._data += chunk
                return
            if not take(self._files, self._size):
                raise BudgetSpent
            give(self._share, self._size)
            self._share = self._files
            self._file = spool_file(self._directory)
            self._file.write([self._head, self._data])
            self._data = bytearray()
        if not take(self._share, added):
            raise BudgetSpent
        self._size = size
        self._file.write(chunks)

    def finish(self) -> Payload:
        """Return the dataset."""
        if self._file is not None:
            self._file.close()
        file, self._file = self._file, None  # from now on all is the payload's
        share, self._share = self._share, None
        if file is None:
            return MemoryPayload(self._data, self._directory, share)
        return FilePayload(file.path, len(self._head), self._size, True, self._directory, share)

    def discard(self) -> None:
        """Remove the file."""
        self._data = bytearray()
        if self._file is not None:
            self._file.remove()
        give(self._share, self._size)
        self._share = None


class FileSink:
    """Writes a DICOM file under a hidden temporary name, renamed when it is complete.

    Parameters
    ----------
    directory : str or Path
        Where the file is to be; it must exist.
    name : str or None
        The name of the file; None for one made of random digits, which no other file has.
    head : bytes
        What the file begins with; see `datasets.file_head`.
    ceiling : int or None
        The most bytes taken.
    exclusive : bool
        True leaves a file of the same name alone (`finish` raises FileExistsError), False
        replaces it.

    Raises
    ------
    ValueError
        When `name` is not a plain file name.
    OSError
        When no file can be made in `directory`.
    """

    __slots__ = ("_ceiling", "_exclusive", "_file", "_head", "_pending", "_size", "_target")

    def __init__(
        self,
        directory: str | os.PathLike[str],
        name: str | None = None,
        head: bytes = b"",
        ceiling: int | None = None,
        *,
        exclusive: bool = False,
    ) -> None:
        token = new_token()
        folder = os.fspath(directory)
        if not folder.endswith(os.sep):
            folder += os.sep
        self._target = folder + (f"{token}.dcm" if name is None else plain_name(name))
        self._ceiling = ceiling
        self._exclusive = exclusive
        self._head = self._pending = head
        self._size = 0
        self._file = NewFile(f"{folder}.{token}.part", 0o666)

    def write(self, chunks: list[memoryview]) -> None:
        """Write `chunks` to the file."""
        self._size = _grown(self._size, chunks, self._ceiling)
        if self._pending:
            self._file.write([self._pending, *chunks])
            self._pending = b""
        else:
            self._file.write(chunks)

    def finish(self) -> Payload:
        """Give the file its name, and return the dataset in it, which is there to stay."""
        if self._pending:  # there was no dataset
            self.write([])
        self._file.publish(self._target, self._exclusive)
        return FilePayload(self._target, len(self._head), self._size)

    def discard(self) -> None:
        """Remove the file, unless it is finished."""
        self._file.remove()


# The colon is for Windows, where "c:name" is on another drive, and "name:x" no file of its own.
_SEPARATOR = re.compile(r"[/\\\0]" if os.name != "nt" else r"[/\\\0:]").search


def plain_name(name: str) -> str:
    """Return `name` if it can only be that of a file in the directory it is used in.

    Raises
    ------
    ValueError
        When it is empty, "." or "..", or has a separator of any system or a NUL in it.
    """
    if name in ("", ".", "..") or _SEPARATOR(name):
        raise ValueError(f"not a plain file name: {name!r}")
    return name


def _grown(size: int, chunks: list[memoryview], ceiling: int | None) -> int:
    size += sum(map(len, chunks))
    if ceiling is not None and size > ceiling:
        raise SinkFull(ceiling)
    return size
