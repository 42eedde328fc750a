"""Blocking work for the event loop: functions and iterators on a bounded number of threads."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any, ParamSpec, TypeVar

_P = ParamSpec("_P")
_T = TypeVar("_T")

_ENOUGH = 64 * 1024
"""In bytes: small pieces are joined to this size, since each change of threads takes as long as
making some kilobytes."""
_A_MOMENT = 0.05
"""Seconds after which pieces are sent, however small they are."""


class Threads:
    """Threads for the blocking work of requests: reading the index and objects."""

    def __init__(self, most: int) -> None:
        self._pool = ThreadPoolExecutor(most, thread_name_prefix="http")

    async def run(self, function: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        """Call a function on a thread. If the task is cancelled, it runs to its end."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._pool, lambda: function(*args, **kwargs))

    async def iterate(self, pieces: Iterable[bytes]) -> AsyncIterator[bytes]:
        """Yield the pieces of a body, which an iterator makes on a thread; small ones are joined.

        No thread is held while the peer does not take them. A generator is closed on a thread at
        the end, also if the task is cancelled.
        """
        source = _Source(pieces)
        try:
            while piece := await self.run(source.next):
                yield piece
        finally:
            self.submit(source.close)

    def submit(self, function: Callable[[], object]) -> None:
        """Have a function run on a thread. Nobody waits for it, so it must not raise."""
        self._pool.submit(function)

    def close(self) -> None:
        """Wait for the work that runs."""
        self._pool.shutdown()


class _Source:
    """An iterator of bytes that is used and closed by several threads, one after the other."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces: Iterator[bytes] = iter(pieces)
        self._lock = threading.Lock()
        """Guards the iterator: after a cancellation, `close` waits here until `next` returns."""

    def next(self) -> bytes:
        """Return the next pieces, joined; b"" at the end."""
        found: list[bytes] = []
        room, until = _ENOUGH, time.monotonic() + _A_MOMENT
        with self._lock:
            for piece in self._pieces:
                found.append(piece)
                room -= len(piece)
                if room <= 0 or (room < _ENOUGH and time.monotonic() >= until):
                    break
        return b"".join(found) if len(found) != 1 else found[0]

    def close(self) -> None:
        """Close a generator."""
        pieces: Any = self._pieces
        with self._lock:
            if hasattr(pieces, "close"):
                with closing(pieces):
                    pass
