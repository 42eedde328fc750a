"""Sinks whose `write` is awaited, fed from a connection that does not wait for them.

The other sinks are in `data.sinks`.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from typing import Any

from dicomwire.data.payloads import MemoryPayload, Payload
from dicomwire.data.sinks import Sink
from dicomwire.logs import LOGGER
from dicomwire.services.port import Incoming
from dicomwire.session.keeping import refusal_by


class AsyncSink(Payload):
    """Hands what comes to a sink that is awaited, in order; its own payload until that is through.

    Parameters
    ----------
    sink : sink
        With coroutine functions `write` and, it may be, `finish` and `discard`.
    hold_back : callable
        Called with whether so much waits that no more should be read.
    peer : str
        Where the dataset comes from, for the log.
    """

    __slots__ = ("_error", "_gone", "_hold_back", "_payload", "_peer", "_sink", "_task", "_waiting")

    path = None

    def __init__(self, sink: Any, hold_back: Callable[[bool], None], peer: str) -> None:
        super().__init__(0, None)
        self._sink = sink
        self._hold_back = hold_back
        self._peer = peer
        self._waiting: list[bytes] = []
        self._task: asyncio.Task[None] | None = None
        self._error: Exception | None = None
        self._payload: Payload | None = None
        self._gone = False

    # Sink

    def write(self, chunks: list[memoryview]) -> None:
        """Take the next bytes, to be written when the sink has taken those before."""
        if self._error is not None:
            raise self._error
        self._waiting += [bytes(chunk) for chunk in chunks]
        self.size += sum(map(len, chunks))
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._write())
        self._hold_back(True)

    async def _write(self) -> None:
        try:
            while self._waiting and not self._gone:
                chunks, self._waiting = self._waiting, []
                await self._sink.write([memoryview(chunk) for chunk in chunks])
        except Exception as error:
            self._error = error
            self._waiting.clear()
        finally:
            self._hold_back(False)

    def finish(self) -> Payload:
        """Return what `settle` makes the payload of."""
        return self

    def discard(self) -> None:
        """Have all let go of that was written, or of the payload that it became."""
        if self._payload is not None:
            self._payload.discard()
        elif not self._gone:
            self._gone = True
            task = self._task
            self._task = asyncio.get_running_loop().create_task(self._let_go(task))

    async def _let_go(self, writing: asyncio.Task[None] | None) -> None:
        try:
            if writing is not None:
                await asyncio.wait([writing])
        finally:  # also when the loop is about to end, and cancels this
            try:
                await _result(self._sink.discard())
            except Exception:
                LOGGER.exception("A sink cannot be discarded")

    # Payload

    async def settle(self, incoming: Incoming) -> None:
        """Wait until all is written; put the sink's payload, or the refusal, into `incoming`."""
        try:
            if self._task is not None:
                await asyncio.wait([self._task])
            if self._error is not None:
                raise self._error
            self._payload = incoming.payload = await _result(self._sink.finish())
        except Exception as error:
            incoming.refusal = refusal_by(error, self._peer)
            incoming.payload = None
            self.discard()
        except asyncio.CancelledError:
            self.discard()
            raise

    def view(self) -> memoryview:
        """Return nothing: the bytes are the sink's."""
        return memoryview(b"")

    def open(self) -> Any:
        """Return an empty file: the bytes are the sink's."""
        return MemoryPayload(bytearray()).open()


async def _result(answer: Any) -> Any:
    return await answer if inspect.isawaitable(answer) else answer


def fed(sink: Sink, hold_back: Callable[[bool], None], peer: str) -> Sink:
    """Return `sink`, or what feeds it where its `write` is to be awaited."""
    if inspect.iscoroutinefunction(getattr(sink, "write", None)):
        return AsyncSink(sink, hold_back, peer)
    return sink
