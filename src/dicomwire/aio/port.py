"""The port of the asyncio face: sends and receives the messages of one association.

Received bytes are processed at once; requests wait for one task that serves them in order.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from typing import Any, Protocol

from dicomwire.aio.handlers import PlainResults, ask
from dicomwire.aio.link import Link
from dicomwire.aio.sinks import AsyncSink
from dicomwire.data.sources import Data
from dicomwire.errors import AssociationFailure
from dicomwire.events import InterventionEvent
from dicomwire.protocol.command import Command, Message
from dicomwire.protocol.events import Event, ReleaseRequested
from dicomwire.protocol.limits import MIB
from dicomwire.protocol.states import Role
from dicomwire.services import scp
from dicomwire.services.answers import may_ask
from dicomwire.services.port import END, Incoming
from dicomwire.session.engine_association import EngineAssociation
from dicomwire.session.intake import BACKLOG, BACKLOG_BYTES, OperationKey
from dicomwire.session.operation import Operation
from dicomwire.session.sending import Begun
from dicomwire.settings import Settings

_MOST_WAITING = 32
"""Reading pauses when so many requests wait, or so many responses that no task has taken: enough
to keep a task busy, and few enough to keep in memory."""
_MOST_BYTES = 4 * MIB
"""Reading pauses too when the datasets of the waiting requests have so many bytes together."""


class AioEngineAssociation(EngineAssociation, Protocol):
    """The association that an `AioPort` belongs to."""

    def watch(self, task: asyncio.Task[None]) -> None:
        """Keep a task that serves the association until it has ended."""


class AioOperation(Operation):
    """A request that was sent; its port counts the responses that no task has taken."""

    __slots__ = ("expected", "waiter")

    _port: AioPort

    def __init__(self, port: AioPort, request: Message) -> None:
        super().__init__(port, request)
        self.waiter: asyncio.Future[None] | None = None
        self.expected: bytes | None = None
        """The usual response, until it has arrived."""

    def add(self, incoming: Incoming) -> bool:
        """Add a received response; return whether no other can follow it."""
        before = len(self.responses)
        is_last = super().add(incoming)
        if len(self.responses) > before:
            self._port.count_untaken(1, _size(incoming))
        if self.waiter is None:
            self._port.check_untaken()
        elif not self.waiter.done():
            self.waiter.set_result(None)
        return is_last

    def take(self) -> Incoming:
        """Remove and return the first response."""
        incoming = super().take()
        self._port.count_untaken(-1, -_size(incoming))
        return incoming

    def abandon(self) -> None:
        """Discard the responses in the queue, and all that arrive from now on."""
        waiting = len(self.responses)
        size = sum(map(_size, self.responses))
        super().abandon()
        self._port.count_untaken(-waiting, -size)


class AioPort(Link):
    """The association of the asyncio face, as services see it (`services.port.Port`)."""

    _association: AioEngineAssociation
    _expecting: AioOperation | None

    operation_class = AioOperation

    def __init__(self, association: AioEngineAssociation, role: Role, settings: Settings) -> None:
        super().__init__(association, role, settings)
        self._serving: asyncio.Task[None] | None = None
        # Held from the first to the last byte of a message, so that messages are not mixed.
        self._sending = asyncio.Lock()
        self._is_sink_full = False
        self._is_release_postponed = False  # the peer's release request waits in the protocol
        self._is_reading_on = False  # the loop will call `_read_on`
        self._untaken = 0  # received responses that no task has taken
        self._untaken_bytes = 0
        self._awaited = 0  # tasks that wait for a response

    def _enqueue(self, incoming: Incoming) -> None:
        service = incoming.service
        is_plain = service is not None and service[0] is scp.succeed
        if is_plain and self._may_answer(incoming) and self.succeed_at_once(incoming):
            incoming.discard()
            if self._response_deadline is not None:
                self._restart_response_deadline()
            return
        super()._enqueue(incoming)
        if self._serving is None:
            self._serving = self.loop.create_task(self._serve())
            self._association.watch(self._serving)
        self._balance()

    def _may_answer(self, incoming: Incoming) -> bool:
        """Whether to answer a request without a task, together with others of the same read.

        No other is served or waits before it, no message is being sent, the object is complete, and
        the peer has read all responses so far.
        """
        return (
            incoming.refusal is None
            and self._serving is None
            and not isinstance(incoming.payload, AsyncSink)
            and not self._sending.locked()
            and self._channel is not None
            and not self._channel.is_full
        )

    def take(self, event: Event) -> None:
        """Process an event of the protocol; a release request waits for earlier requests."""
        if isinstance(event, ReleaseRequested):
            if self._is_busy:
                self.protocol.put_back(event)
                self._is_release_postponed = True
                self._balance()
                return
            if self._batch:
                self._write_batch()
        super().take(event)

    @property
    def _is_busy(self) -> bool:
        """Whether a message is being sent, or the peer's requests are served."""
        if self._sending.locked():
            return True
        is_serving = self._served is not None or bool(self._requests)
        return is_serving and not self._inner_waits and self.stage != "release"

    def _balance(self) -> None:
        """Pause or resume reading: pause while too many messages wait, unless a task awaits one."""
        was_full = self._is_full
        if self._is_release_postponed:
            self._is_release_postponed = self._is_busy
        self._is_full = self._is_release_postponed or (
            not self._awaited and self._has_too_many(2 if was_full else 1)
        )
        if self._channel is None:
            return
        if self._is_full or self._is_sink_full:
            self._channel.pause_reading()
            return
        if was_full:
            self._last_active = self.loop.time()  # no message could arrive during the pause
        if self._has_rest:
            if not self._is_reading_on:
                self._is_reading_on = True
                self.loop.call_soon(self._read_on)
        else:
            self._channel.resume_reading()

    @property
    def _is_in_use(self) -> bool:
        """Whether the network timeout does not apply, also because reading is paused."""
        is_waited_for = self._awaited > 0 or self._sending.locked()
        return is_waited_for or self._is_full or self._is_sink_full or super()._is_in_use

    def _has_too_many(self, divisor: int) -> bool:
        """Whether too many messages wait: for `divisor` 2, half as many, so that a pause lasts."""
        requests = self._requests
        most = _MOST_WAITING // divisor
        if len(requests) >= most or self._untaken >= most:
            return True
        if len(requests) < 2:
            return False
        sizes = [each.payload.size for each in requests if each.payload is not None]
        return sum(sizes) > _MOST_BYTES // divisor

    def _read_on(self) -> None:
        """Process the bytes that the protocol kept during the pause, and resume reading."""
        self._is_reading_on = False
        if self.is_ended or self._is_full:
            return
        self._act_on(b"")
        self._balance()

    async def _serve(self) -> None:
        """Serve the waiting requests of the peer, one after the other."""
        try:
            while self._requests and not self.is_ended:
                await self._serve_next()
        except AssociationFailure as failure:
            self.fail(failure)
        except BaseException as error:  # also when a handler calls sys.exit
            self.crash(error)
        finally:
            self._serving = None

    async def _serve_next(self) -> None:
        incoming = self._requests.popleft()
        self._served = incoming
        self._balance()
        try:
            if isinstance(incoming.payload, AsyncSink):
                await incoming.payload.settle(incoming)
            await scp.serve(self, incoming)
        finally:
            self._served = None
            self._cancelled.discard(incoming.message.MessageID)
            if may_ask(incoming):
                self._last_active = self.loop.time()
            if self._response_deadline is not None:
                if may_ask(incoming):
                    self._restart_response_deadline()
                self._arm()
            if self._is_release_postponed:
                self._balance()
            self._wake_all()

    async def until_ended(self, timeout: float | None, stage: str) -> None:
        """Wait until the association is over. In a release, discard responses that no task took.

        Otherwise too many of them could pause reading, and the answer to the release be missed.
        """
        if self.stage == "release":
            for operation in self._operations.values():
                operation.abandon()
        await super().until_ended(timeout, stage)

    async def until_unused(self) -> None:
        """Wait until no task sends or awaits a response; a handler does not wait for others."""
        while (self._sending.locked() or self._awaited) and self._served is None:
            self.check()
            await self._sleep()

    async def until_quiet(self) -> None:
        """Wait until no request is served or waits, or the association is over."""
        while (self._served is not None or self._requests) and not self.is_ended:
            await self._sleep()

    def stop_serving(self) -> asyncio.Task[None] | None:
        """Cancel the task that serves requests, and return it; None if there is none."""
        task = self._serving
        if task is not None and not task.done():
            task.cancel()
        return task

    # --- Sending ---

    async def _send(
        self, context_id: int, message: Message | bytes, data: Data | Begun | None, *, more: bool
    ) -> None:
        try:
            async with self._sending:
                await self._until_written()
                await super()._send(context_id, message, data, more=more)
        finally:
            if self._is_release_postponed:
                self._balance()

    async def _until_room(self, key: OperationKey) -> None:
        with self._awaiting():
            while self.must_wait(key):
                self.check()
                await self._sleep()

    async def wait_for_response(self, operation: AioOperation) -> None:
        """Wait until there is a response to take; `AioOperation.add` wakes this, or the end."""
        await self.flushed()
        with self._awaiting():
            try:
                while not operation.responses:
                    self.check()
                    waiter = operation.waiter = self.loop.create_future()
                    self._waiters.add(waiter)
                    try:
                        await waiter
                    finally:
                        self._waiters.discard(waiter)
            finally:
                operation.waiter = None

    def is_unobserved(self, outstanding: int | None = None) -> bool:
        """Return whether usual messages may pass without the protocol now.

        Other tasks may send in the next turn of the loop, and then find the request outstanding.
        """
        return (
            super().is_unobserved(outstanding)
            and self._served is None
            and not self._is_full
            and not self._sending.locked()
            and self._channel is not None
            and not self._channel.is_full
        )

    async def exchange(self, request: Message, packed: bytes, expected: bytes) -> Operation | None:
        """Send a usual request and wait; then wake the tasks that wait for room in the window."""
        operation = await super().exchange(request, packed, expected)
        if operation is None and self._waiters:
            self._wake_all()
        return operation

    async def answers_as(self, expected: bytes, operation: AioOperation) -> bool:
        """Wait for bytes of the peer; `_is_as_expected` wakes this, a response, or the end."""
        if self._channel is not None and self._channel.is_full:
            await self._until_written()
            if operation.responses:
                return False
        waiter = operation.waiter = self.loop.create_future()
        self._waiters.add(waiter)
        operation.expected, self._expecting = expected, operation
        self._awaited += 1
        self._restart_response_deadline()
        self._arm()
        try:
            await waiter
            return operation.expected is None
        finally:
            operation.waiter = None
            # After another response, a task may have sent the next request before this one goes on.
            if self._expecting is operation:
                self._expecting = None
            self._waiters.discard(waiter)
            self._end_awaiting()

    def _is_as_expected(self, data: memoryview) -> bool:
        operation = self._expecting
        assert operation is not None
        expected = operation.expected
        assert expected is not None
        if len(data) != len(expected) or bytes(data) != expected or not self.is_unobserved():
            return False
        operation.expected = self._expecting = None
        self._last_active, self._received = self.loop.time(), 0
        self._wake_all()
        return True

    @contextlib.contextmanager
    def _awaiting(self) -> Iterator[None]:
        """During the block, apply the response deadline, and do not pause reading."""
        is_inner = self._served is not None
        self._awaited += 1
        self._inner_waits += is_inner
        self._balance()
        self._restart_response_deadline()
        self._arm()
        try:
            yield
        finally:
            self._inner_waits -= is_inner
            self._end_awaiting()

    def _end_awaiting(self) -> None:
        self._awaited -= 1
        if not self._awaited:
            self._response_deadline = None
            self._wake_all()

    def _dispatch_response(self, incoming: Incoming) -> None:
        super()._dispatch_response(incoming)
        if self._awaited:
            self._restart_response_deadline()
            self._wake_all()

    def count_untaken(self, number: int, size: int) -> None:
        """Add `number` responses of `size` bytes (or negative) to those that no task has taken."""
        self._untaken += number
        self._untaken_bytes += size
        self._balance()

    def check_untaken(self) -> None:
        """Abort if too many responses wait; reading is not paused if a task awaits another one."""
        if self._untaken > BACKLOG or (self._untaken > 1 and self._untaken_bytes > BACKLOG_BYTES):
            raise self.aborted("too many responses are waiting to be taken")

    def hold_back(self, is_full: bool) -> None:
        """Pause reading while a sink `is_full`: it is writing the bytes that it was given."""
        if self._is_sink_full and not is_full:
            self._last_active = self.loop.time()
        self._is_sink_full = is_full
        self._balance()

    # --- Handlers ---

    async def intervene(self, event: InterventionEvent, attrs: dict[str, Any]) -> Any:
        """Call the handler bound to `event`."""
        if event not in self.handlers.live:  # the default handler needs no thread
            return self.handlers.intervene(self._association, event, attrs)
        answer = await ask(self.handlers.question(self._association, event, attrs))
        self.check()
        return answer

    def iterate(self, answer: Any) -> Any:
        """Return an iterator over the result of a handler."""
        if hasattr(answer, "__aiter__"):
            return aiter(answer)
        served = self._served
        many = served is not None and served.message.command is Command.C_FIND_RQ
        return PlainResults(iter(answer), many)

    async def next_result(self, results: Any) -> Any:
        """Return the next result of a handler, or END."""
        if isinstance(results, PlainResults):
            return await results.next()
        return await anext(results, END)

    async def close_results(self, results: Any) -> None:
        """Close the generator of a handler, if it still runs."""
        if isinstance(results, PlainResults):
            await results.close()
        elif hasattr(results, "aclose"):
            await results.aclose()


def _size(incoming: Incoming) -> int:
    return 0 if incoming.payload is None else incoming.payload.size
