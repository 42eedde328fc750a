"""Sources for datasets that the program supplies: chunks from an iterator, and open files.

`sources` has those for files by path and for memory.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterable, Iterable
from dataclasses import dataclass
from typing import Any, BinaryIO

from dicomwire.data.blocking import run_blocking

Chunk = bytes | bytearray | memoryview


@dataclass(frozen=True, slots=True)
class Stream:
    """An object for `send_c_store` whose encoded dataset the program supplies in chunks.

    Attributes
    ----------
    sop_class_uid, sop_instance_uid : str
    transfer_syntax_uid : str
        The transfer syntax of the dataset. The dataset is sent unchanged, so that the peer must
        have accepted this transfer syntax.
    chunks : iterable or asynchronous iterable of bytes
        The dataset, without file meta information, in pieces of any size. Only the asyncio face
        takes asynchronous iterables.
    length : int or None
        The number of bytes of the dataset; it is checked. None if it is not known.
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

    def open(self) -> ChunkSource:
        """Return the source of the dataset."""
        return ChunkSource(self.chunks, self.length)


class ChunkSource:
    """A source of chunks from an iterable or an asynchronous iterable.

    It reads one chunk ahead, so that it knows with the last byte that no more bytes follow.

    Attributes
    ----------
    length : int
        The number of bytes of the dataset; `sys.maxsize` until it is known.
    """

    def __init__(self, chunks: Iterable[Chunk] | AsyncIterable[Chunk], length: int | None) -> None:
        self.length = sys.maxsize if length is None else length
        self._declared = length
        self._is_async = isinstance(chunks, AsyncIterable)
        self._chunks: Any = aiter(chunks) if isinstance(chunks, AsyncIterable) else iter(chunks)
        self._chunk = memoryview(b"")
        self._done = 0
        self._ended = False

    def readinto(self, buffers: list[memoryview]) -> Any:
        """Fill `buffers`; see `payloads.Source`. Asynchronous chunks make the result awaitable."""
        filling = self._fill(buffers)
        return filling if self._is_async else run_blocking(filling)

    async def _fill(self, buffers: list[memoryview]) -> int:
        before = self._done
        for buffer in buffers:
            at = 0
            while at < len(buffer) and await self._has_more():
                piece = self._chunk[: len(buffer) - at]
                buffer[at : at + len(piece)] = piece
                at += len(piece)
                self._done += len(piece)
                self._chunk = self._chunk[len(piece) :]
        if not await self._has_more():
            if self._declared is not None and self._done < self._declared:
                raise EOFError(f"a stream has {self._done} bytes, not {self._declared}")
            self.length = self._done
        elif self._done >= self.length:
            raise ValueError(f"a stream has more bytes than its length of {self._declared}")
        return self._done - before

    async def _has_more(self) -> bool:
        while not self._chunk and not self._ended:
            chunks = self._chunks
            chunk = await anext(chunks, None) if self._is_async else next(chunks, None)
            if chunk is None:
                self._ended = True
            else:
                self._chunk = memoryview(chunk).cast("B")
        return bool(self._chunk)

    def close(self) -> None:
        """Do nothing: the iterable is the caller's."""


class OpenFileSource:
    """A source of the bytes from `offset` on of a file that the caller has opened.

    Raises
    ------
    OSError
        If the file cannot seek.
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
