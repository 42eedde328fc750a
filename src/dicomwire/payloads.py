"""Where the bytes of a dataset come from when it is sent, and where they go when it is received.

Nothing here knows of a socket or of what the bytes mean. File names are made here or given by the
program, never by a peer.
"""

from __future__ import annotations

import errno
import io
import mmap
import os
import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO, Protocol

from dicomwire.budgets import BudgetSpent, Share, give, take
from dicomwire.errors import DicomwireError
from dicomwire.newfiles import Buffer, NewFile, new_token, spool_file, transfer, unlink


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


# --- Sources ----------------------------------------------------------------------------------


class Source(Protocol):
    """The bytes of a dataset that is to be sent."""

    length: int
    """How many bytes there are in all."""

    def readinto(self, buffers: list[memoryview]) -> int:
        """Fill `buffers` in their order; return the number of bytes, all but at the end.

        Raises
        ------
        OSError, EOFError
            When `length` bytes cannot be had after all.
        """

    def close(self) -> None:
        """Let go of what is open."""


class BytesSource:
    """A dataset in memory."""

    __slots__ = ("_position", "length", "view")

    def __init__(self, data: Buffer) -> None:
        self.view = memoryview(data)
        self._position = 0
        self.length = len(self.view)

    def readinto(self, buffers: list[memoryview]) -> int:
        """Fill `buffers`; see `Source`."""
        start = self._position
        for buffer in buffers:
            part = self.view[self._position : self._position + len(buffer)]
            buffer[: len(part)] = part
            self._position += len(part)
        return self._position - start

    def close(self) -> None:
        """Do nothing: nothing is open."""


class FileSource:
    """A file from `offset` (bytes) to the end that it has when it is opened.

    Raises
    ------
    OSError
        When it cannot be opened.
    EOFError
        When it ends before `offset`.
    """

    __slots__ = ("_file", "_position", "_remaining", "length")

    def __init__(self, path: str | os.PathLike[str], offset: int = 0) -> None:
        self._begin(io.FileIO(path), offset)

    @classmethod
    def of(cls, file: io.FileIO, offset: int) -> FileSource:
        """Return a source of a file that is open already, which `close` closes."""
        source = cls.__new__(cls)
        source._begin(file, offset)
        return source

    def _begin(self, file: io.FileIO, offset: int) -> None:
        self._file = file
        self._position = offset
        self.length = self._remaining = os.fstat(file.fileno()).st_size - offset
        if self.length < 0:
            file.close()
            raise EOFError(f"{file.name!r} ends before byte {offset}")

    def readinto(self, buffers: list[memoryview]) -> int:
        """Fill `buffers`; see `Source`."""
        asked = sum(map(len, buffers))
        if asked > self._remaining:
            asked = self._remaining
            buffers = _first(buffers, asked)
        done = transfer(self._read, buffers)
        self._remaining -= done
        if done < asked:
            raise EOFError(f"{self._file.name!r} became shorter while it was read")
        return done

    def _read(self, buffers: Sequence[Buffer]) -> int:
        if hasattr(os, "preadv"):
            count = os.preadv(self._file.fileno(), buffers, self._position)
        else:
            self._file.seek(self._position)
            count = self._file.readinto(buffers[0])
        self._position += count
        return count

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _first(buffers: list[memoryview], count: int) -> list[memoryview]:
    """Return the first `count` bytes of `buffers`."""
    kept = []
    for buffer in buffers:
        kept.append(buffer[:count])
        count -= len(kept[-1])
    return kept


# --- Payloads ---------------------------------------------------------------------------------


class Payload(ABC):
    """A dataset as it was received.

    Attributes
    ----------
    size : int
        How many bytes it has.
    path : Path or None
        The file it is in; None for memory.
    offset : int
        Where in that file it begins; not 0 where that is a DICOM file.
    """

    __slots__ = ("_dicom_file", "_directory", "size")

    offset = 0

    def __init__(self, size: int, directory: str | None) -> None:
        self.size = size
        self._directory = directory
        self._dicom_file: str | None = None

    @property
    @abstractmethod
    def path(self) -> Path | None:
        """The file that the dataset is in; None for memory."""

    @abstractmethod
    def view(self) -> memoryview:
        """Return the bytes; those of a file are mapped, not read."""

    @abstractmethod
    def open(self) -> BinaryIO:
        """Return a file that is positioned at the dataset."""

    def getvalue(self) -> bytes:
        """Return the bytes."""
        return self.view().tobytes()

    def dicom_file(self, head: bytes) -> Path:
        """Return a DICOM file of the dataset; `head` is what to begin one with if there is none.

        One that is made here goes with `discard`.
        """
        path = self.path
        if self.offset and path is not None:
            return path
        if self._dicom_file is None:
            file = spool_file(self._directory)
            try:
                file.write([head, self.view()])
            except BaseException:
                file.remove()
                raise
            file.close()
            self._dicom_file = file.path
        return Path(self._dicom_file)

    def discard(self) -> None:
        """Remove temporary files. It never raises, and what is in memory stays."""
        if self._dicom_file is not None:
            unlink(self._dicom_file)
            self._dicom_file = None


class MemoryPayload(Payload):
    """A dataset in memory; `share` has it until it is discarded."""

    __slots__ = ("_data", "_share")

    path = None

    def __init__(
        self, data: bytearray, directory: str | None = None, share: Share | None = None
    ) -> None:
        super().__init__(len(data), directory)
        self._data = data
        self._share = share

    def view(self) -> memoryview:
        """Return the bytes."""
        return memoryview(self._data).toreadonly()

    def open(self) -> BinaryIO:
        """Return the bytes as a file."""
        return io.BytesIO(self._data)

    def discard(self) -> None:
        """Remove temporary files. What is in memory stays for who keeps it."""
        super().discard()
        give(self._share, self.size)
        self._share = None


class FilePayload(Payload):
    """A dataset in a file, which goes with `discard` if it is temporary.

    `share` has it until then.
    """

    __slots__ = ("_is_temporary", "_path", "_share", "_view", "offset")

    def __init__(
        self,
        path: str,
        offset: int,
        size: int,
        is_temporary: bool = False,
        directory: str | None = None,
        share: Share | None = None,
    ) -> None:
        super().__init__(size, directory)
        self._share = share
        self.offset = offset
        self._path = path
        self._is_temporary = is_temporary
        self._view: memoryview | None = None

    @property
    def path(self) -> Path:
        """The file."""
        return Path(self._path)

    def view(self) -> memoryview:
        """Return the bytes, mapped: the file must not be made shorter while they are in use."""
        if self._view is None:
            if not self.size:
                return memoryview(b"")
            with io.FileIO(self._path) as file:
                mapped = mmap.mmap(file.fileno(), self.offset + self.size, access=mmap.ACCESS_READ)
            self._view = memoryview(mapped)[self.offset :]
        return self._view

    def open(self) -> BinaryIO:
        """Return the file, positioned at the dataset."""
        file = self.path.open("rb")
        file.seek(self.offset)
        return file

    def discard(self) -> None:
        """Remove temporary files."""
        super().discard()
        self._view = None
        if self._is_temporary:
            unlink(self._path)
        give(self._share, self.size)
        self._share = None


# --- Sinks ------------------------------------------------------------------------------------


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
            if size <= self._threshold and take(self._share, added):
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
        folder = os.path.join(directory, "")
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
