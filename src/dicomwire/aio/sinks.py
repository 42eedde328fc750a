"""An adapter for sinks whose `write` is a coroutine function; the connection does not await it.

The other sinks are in `data.sinks`.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from typing import Any

from dicomwire.data.payloads import MemoryPayload, Payload
from dicomwire.data.sinks import Sink
from dicomwire.logs import LOGGER, Between
from dicomwire.services.port import Incoming
from dicomwire.session.keeping import refuse_stored


class AsyncSink(Payload):
    """Writes received bytes, in order, to a sink of coroutine functions, in a task.

    It is also the payload of the message, until `settle` replaces it by that of the sink.

    Parameters
    ----------
    sink : sink
        With the coroutine function `write`; `finish` and `discard` may be coroutine functions too.
    hold_back : callable
        Called with true to pause reading while bytes wait, and with false to resume it.
    peer : str
        The sender of the dataset, for the log.
    """

    path = None

    def __init__(self, sink: Any, hold_back: Callable[[bool], None], between: Between) -> None:
        super().__init__(0, None)
        self._sink = sink
        self._hold_back = hold_back
        self._between = between
        self._waiting: list[bytes] = []
        self._task: asyncio.Task[None] | None = None
        self._error: Exception | None = None
        self._payload: Payload | None = None
        self._gone = False

    # Sink

    def write(self, chunks: list[memoryview]) -> None:
        """Take the next bytes; the task writes them after the earlier ones."""
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
        """Return itself; `settle` replaces it by the payload of the sink."""
        return self

    def discard(self) -> None:
        """Discard the payload of the sink, or, before there is one, the sink."""
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
        """Wait for the task that writes; put the sink's payload, or a refusal, into `incoming`."""
        try:
            if self._task is not None:
                await asyncio.wait([self._task])
            if self._error is not None:
                raise self._error
            self._payload = incoming.payload = await _result(self._sink.finish())
        except Exception as error:
            refuse_stored(incoming, error, self._between)
            incoming.payload = None
            self.discard()
        except asyncio.CancelledError:
            self.discard()
            raise

    def view(self) -> memoryview:
        """Return nothing: the sink has the bytes."""
        return memoryview(b"")

    def open(self) -> Any:
        """Return an empty file: the sink has the bytes."""
        return MemoryPayload(bytearray()).open()


async def _result(answer: Any) -> Any:
    return await answer if inspect.isawaitable(answer) else answer


def fed(sink: Sink, hold_back: Callable[[bool], None], between: Between) -> Sink:
    """Return `sink`, or an `AsyncSink` for it if its `write` is a coroutine function."""
    if inspect.iscoroutinefunction(getattr(sink, "write", None)):
        return AsyncSink(sink, hold_back, between)
    return sink
