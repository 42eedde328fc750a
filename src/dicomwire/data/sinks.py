"""Sinks take a dataset while it is being received: memory, a temporary file, or a DICOM file.

Other modules choose the sink for a message.
"""

from __future__ import annotations

import errno
import os
from typing import Protocol

from dicomwire.data.budgets import BudgetSpent, Share, give, take
from dicomwire.data.new_files import NewFile, new_token, spool_file
from dicomwire.data.payloads import FilePayload, MemoryPayload, Payload
from dicomwire.errors import DicomwireError


class SinkRefused(DicomwireError, OSError):
    """There is no sink for a dataset; `status` is the status of the response."""

    def __init__(self, text: str, status: int) -> None:
        super().__init__(text)
        self.status = status


class SinkFull(DicomwireError, OSError):
    """A dataset is larger than its sink ever takes."""

    status = 0xA700
    """Refused: Out of Resources (PS3.4 Table B.2-1)."""

    def __init__(self, ceiling: int) -> None:
        super().__init__(errno.EFBIG, f"the dataset has more than {ceiling} bytes")


class Sink(Protocol):
    """Takes the dataset of one message.

    At the end call `finish` or `discard`; `discard` after `finish` does nothing.

    Raises
    ------
    OSError
        From `write` and `finish`, if the dataset cannot be kept: `SinkFull`, or an error of the
        file system.
    """

    def write(self, chunks: list[memoryview]) -> None:
        """Take the next bytes; `chunks` may be reused after the call."""

    def finish(self) -> Payload:
        """Return the complete dataset."""

    def discard(self) -> None:
        """Drop the bytes written so far. It never raises."""


class DiscardSink:
    """Drops a dataset of up to `ceiling` bytes (None: of any size)."""

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

    `write` raises BudgetSpent if `share` has no room for it.
    """

    __slots__ = ("_ceiling", "_data", "_share")

    def __init__(self, ceiling: int | None, share: Share | None = None) -> None:
        self._ceiling = ceiling
        self._share = share
        # One array: a peer may send pieces of one byte, and a list of them would take far more.
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
        share, self._share = self._share, None  # the payload counts in the share from now on
        return MemoryPayload(self._data, None, share)

    def discard(self) -> None:
        """Free the memory."""
        give(self._share, len(self._data))
        self._share = None
        self._data = bytearray()


class SpoolSink:
    """Keeps a dataset in memory up to `threshold` bytes, a larger one in a temporary file.

    A dataset also goes to a file if `memory` has no room for it. `write` raises BudgetSpent if
    `files` has no room either.

    Parameters
    ----------
    ceiling : int or None
        The most bytes taken.
    directory : str or None
        The folder of the temporary file; None for the system's.
    head : bytes
        The beginning of the file, which makes it a DICOM file.
    memory, files : Share or None
        They count the bytes in memory and in the file.
    """

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
        self._share = memory  # the share that counts the bytes now
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
        file, self._file = self._file, None  # the payload owns file and share from now on
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
    """Writes a DICOM file under a hidden temporary name and renames it when it is complete.

    Parameters
    ----------
    directory : str or Path
        The folder of the file; it must exist.
    name : str or None
        The name of the file; None for a unique name of random digits.
    head : bytes
        The bytes before the dataset; see `datasets.file_head`.
    ceiling : int or None
        The most bytes taken.
    exclusive : bool
        True keeps an existing file of the same name (`finish` raises FileExistsError), False
        replaces it.

    Raises
    ------
    ValueError
        If `name` is not a plain file name.
    OSError
        If the file cannot be created in `directory`.
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
        if folder[-1:] != os.sep:
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
            chunks = [memoryview(self._pending), *chunks]
            self._pending = b""
        self._file.write(chunks)

    def finish(self) -> Payload:
        """Rename the file to its final name, and return the dataset in it.

        The file is not temporary: `discard` of the payload leaves it.
        """
        if self._pending:  # the dataset was empty
            self.write([])
        self._file.publish(self._target, self._exclusive)
        return FilePayload(self._target, len(self._head), self._size)

    def discard(self) -> None:
        """Remove the file, unless `finish` has renamed it."""
        self._file.remove()


_HAS_DRIVES = os.name == "nt"
"""Whether "c:name" is on another drive, and "name:x" a stream of the file "name"."""


def plain_name(name: str) -> str:
    """Return `name` if it names a file in the folder itself and nowhere else.

    Raises
    ------
    ValueError
        If it is empty, "." or "..", or contains a path separator of any system or a NUL.
    """
    if (
        name in ("", ".", "..")
        or "/" in name
        or "\\" in name
        or "\0" in name
        or (_HAS_DRIVES and ":" in name)
    ):
        raise ValueError(f"not a plain file name: {name!r}")
    return name


def _grown(size: int, chunks: list[memoryview], ceiling: int | None) -> int:
    size += sum(map(len, chunks))
    if ceiling is not None and size > ceiling:
        raise SinkFull(ceiling)
    return size
