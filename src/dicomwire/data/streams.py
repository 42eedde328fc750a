"""Datasets that are sent as they come: chunks from an iterator, and files that are open already.

Sources of files and of memory are in `sources`.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import BinaryIO

from dicomwire.data.blocking import run_blocking

Chunk = bytes | bytearray | memoryview


@dataclass(frozen=True, slots=True)
class Stream:
    """An object whose encoded dataset comes in chunks, for `send_c_store`.

    Attributes
    ----------
    sop_class_uid, sop_instance_uid : str
    transfer_syntax_uid : str
        What the dataset is encoded in; it is sent as it is, so this has to be accepted.
    chunks : iterable of bytes, or asynchronous one
        The dataset, without file meta information, in pieces of any size. Only the asyncio face
        takes asynchronous ones.
    length : int or None
        How many bytes there are in all, where that is known: it is checked.
    """

    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    chunks: Iterable[Chunk] | AsyncIterable[Chunk]
    length: int | None = None

    @property
    def is_asynchronous(self) -> bool:
        """Whether the chunks have to be awaited."""
        return isinstance(self.chunks, AsyncIterable)

    def open(self) -> ChunkSource | AsyncChunkSource:
        """Return the source of the dataset."""
        if isinstance(self.chunks, AsyncIterable):
            return AsyncChunkSource(self.chunks, self.length)
        return ChunkSource(self.chunks, self.length)


class _Chunks:
    """Fills buffers from chunks, always one chunk ahead, so that the end is known when it comes.

    Attributes
    ----------
    length : int
        How many bytes there are in all; more than there can be as long as that is not known.
    """

    def __init__(self, length: int | None) -> None:
        self.length = sys.maxsize if length is None else length
        self._declared = length
        self._chunk = memoryview(b"")
        self._done = 0
        self._ended = False

    async def fill(
        self, buffers: list[memoryview], following: Callable[[], Awaitable[Chunk | None]]
    ) -> int:
        """Fill `buffers` in their order; return the number of bytes, all but at the end."""
        before = self._done
        for buffer in buffers:
            at = 0
            while at < len(buffer) and await self._has_more(following):
                piece = self._chunk[: len(buffer) - at]
                buffer[at : at + len(piece)] = piece
                at += len(piece)
                self._done += len(piece)
                self._chunk = self._chunk[len(piece) :]
        if not await self._has_more(following):
            if self._declared is not None and self._done < self._declared:
                raise EOFError(f"a stream has {self._done} bytes, not {self._declared}")
            self.length = self._done
        elif self._done >= self.length:
            raise ValueError(f"a stream has more than the {self._declared} bytes that it says")
        return self._done - before

    async def _has_more(self, following: Callable[[], Awaitable[Chunk | None]]) -> bool:
        while not self._chunk and not self._ended:
            chunk = await following()
            if chunk is None:
                self._ended = True
            else:
                self._chunk = memoryview(chunk).cast("B")
        return bool(self._chunk)


class ChunkSource(_Chunks):
    """A source of chunks that are there when they are asked for."""

    def __init__(self, chunks: Iterable[Chunk], length: int | None) -> None:
        super().__init__(length)
        self._chunks: Iterator[Chunk] = iter(chunks)

    async def _following(self) -> Chunk | None:
        return next(self._chunks, None)

    def readinto(self, buffers: list[memoryview]) -> int:
        """Fill `buffers`; see `payloads.Source`."""
        return run_blocking(self.fill(buffers, self._following))

    def close(self) -> None:
        """Do nothing: the iterable is the caller's."""


class AsyncChunkSource(_Chunks):
    """A source of chunks that are awaited."""

    def __init__(self, chunks: AsyncIterable[Chunk], length: int | None) -> None:
        super().__init__(length)
        self._chunks: AsyncIterator[Chunk] = aiter(chunks)

    async def _following(self) -> Chunk | None:
        return await anext(self._chunks, None)

    async def readinto(self, buffers: list[memoryview]) -> int:
        """Fill `buffers`; see `payloads.Source`."""
        return await self.fill(buffers, self._following)

    def close(self) -> None:
        """Do nothing: the iterable is the caller's."""


class OpenFileSource:
    """The rest of a file that somebody has open, from `offset` on.

    Raises
    ------
    OSError
        When one cannot seek in it.
    """

    def __init__(self, file: BinaryIO, offset: int) -> None:
        self._file = file
        self.length = file.seek(0, 2) - offset
        file.seek(offset)

    def readinto(self, buffers: list[memoryview]) -> int:
        """Fill `buffers`; see `payloads.Source`."""
        done = 0
        for buffer in buffers:
            data = self._file.read(len(buffer))
            buffer[: len(data)] = data
            done += len(data)
            if len(data) < len(buffer):
                break
        return done

    def close(self) -> None:
        """Do nothing: the file is the caller's."""
