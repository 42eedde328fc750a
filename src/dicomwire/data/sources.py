"""Sources supply the bytes of a dataset while it is being sent: from memory or from a file.

`storable` finds the dataset in a file.
"""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from typing import Protocol, TypeAlias

from dicomwire.data.new_files import Buffer, transfer


class Source(Protocol):
    """The bytes of a dataset to send."""

    length: int
    """The number of bytes of the dataset."""

    def readinto(self, buffers: list[memoryview]) -> int:
        """Fill `buffers` in order; return the number of bytes, fewer only at the end.

        Raises
        ------
        OSError, EOFError
            If fewer than `length` bytes can be read.
        """

    def close(self) -> None:
        """Close the file of the source, if it has one."""


Data: TypeAlias = Buffer | Source
"""A dataset to send: its bytes in memory, or their source."""


class BytesSource:
    """A dataset in memory, which is sent in pieces."""

    __slots__ = ("_position", "_view", "length")

    def __init__(self, data: Buffer) -> None:
        self._view = memoryview(data)
        self._position = 0
        self.length = len(self._view)

    def readinto(self, buffers: list[memoryview]) -> int:
        """Fill `buffers`; see `Source`."""
        start = self._position
        for buffer in buffers:
            part = self._view[self._position : self._position + len(buffer)]
            buffer[: len(part)] = part
            self._position += len(part)
        return self._position - start

    def close(self) -> None:
        """Do nothing: nothing is open."""


class FileSource:
    """The bytes of a file from `offset` to its end at the time when it is opened.

    `close` closes the `file`, also if it was open before.

    Raises
    ------
    OSError
        If the file cannot be opened.
    EOFError
        If it ends before `offset`.
    """

    __slots__ = ("_file", "_path", "_position", "_remaining", "length")

    def __init__(
        self, path: str | os.PathLike[str], offset: int = 0, file: io.FileIO | None = None
    ) -> None:
        self._file = file = file or io.FileIO(path)
        self._path = path
        self._position = offset
        self.length = self._remaining = os.fstat(file.fileno()).st_size - offset
        if self.length < 0:
            file.close()
            raise EOFError(f"{path!r} ends before byte {offset}")

    def readinto(self, buffers: list[memoryview]) -> int:
        """Fill `buffers`; see `Source`."""
        asked = sum(map(len, buffers))
        if asked > self._remaining:
            asked = self._remaining
            buffers = _first(buffers, asked)
        done = transfer(self._read, buffers)
        self._remaining -= done
        if done < asked:
            raise EOFError(f"{self._path!r} became shorter while it was read")
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
