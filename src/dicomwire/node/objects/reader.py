"""Reads an object of a bucket like a file, by ranges of its bytes.

`bucket` makes the requests.
"""

from __future__ import annotations

import io
import os
import re
from collections.abc import Callable
from typing import Any

FIRST = 64 * 1024
"""In bytes, the first range: the head of an object and, nearly always, all keys of the index."""
_GROWTH = 4
"""Each range of a file that is read on is so many times as long as the one before: an object of
4 MB takes four requests."""
LONGEST = 4 * 2**20
"""In bytes, the longest range, and so the memory of a reader. At 30 ms for a request it takes a
quarter of the time of a line of 400 Mbit/s."""

is_key = re.compile(r"[0-9a-f]{2}/[0-9a-f]{30}\.dcm").fullmatch
"""Returns a match for the names of objects in a bucket."""

Fetch = Callable[[int, int], tuple[memoryview, int]]
"""Returns the bytes from one offset up to another, fewer at the end, and the size of the object."""


class RangeReader(io.RawIOBase):
    """An object of a bucket, open for reading.

    Parameters
    ----------
    fetch : callable
        Requests a range.
    offset : int
        Where reading begins.
    first : int
        How many bytes to request first.

    Raises
    ------
    FileNotFoundError
        When there is no such object. An object that is removed later raises it from `read`.
    OSError
        From here and from `read`, when the object cannot be read.
    """

    def __init__(self, fetch: Fetch, offset: int = 0, first: int = FIRST) -> None:
        super().__init__()
        self._fetch = fetch
        self._length = min(max(first, FIRST), LONGEST)
        self._position = self._start = offset
        self._data, self.size = fetch(offset, offset + self._length)

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def tell(self) -> int:
        """Return the position of the next byte."""
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        """Change the position; only the next `read` requests something."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self.size}[whence]
        self._position = max(base + offset, 0)
        return self._position

    def readinto(self, buffer: Any, /) -> int:
        """Fill `buffer`; return the number of bytes, fewer only at the end of the object."""
        target = memoryview(buffer).cast("B")
        done = 0
        while done < len(target) and self._position < self.size:
            at = self._position - self._start
            if not 0 <= at < len(self._data):
                self._request(len(target) - done)
                at = 0
            piece = self._data[at : at + len(target) - done]
            target[done : done + len(piece)] = piece
            self._position += len(piece)
            done += len(piece)
        return done

    def _request(self, wanted: int) -> None:
        """Request the range at the position: a longer one if the reader is reading on."""
        is_next = self._position == self._start + len(self._data)
        self._length = min(self._length * _GROWTH, LONGEST) if is_next else FIRST
        length = min(max(self._length, wanted), LONGEST)
        self._data = memoryview(b"")  # frees the old range before the new one arrives
        self._start = self._position
        data, size = self._fetch(self._start, min(self._start + length, self.size))
        if size != self.size or not data:
            raise OSError("the object changed while it was read")
        self._data = data
