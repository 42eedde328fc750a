"""The port that awaits: messages of one association taken in and sent on an event loop.

Received bytes are acted on as they come; requests wait for one task that serves them in order.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
from collections.abc import Callable, Iterator
from typing import Any, Protocol

from pydicom.dataset import Dataset

from dicomwire.aio.handlers import PlainResults, ask
from dicomwire.aio.link import Link
from dicomwire.aio.sinks import AsyncSink
from dicomwire.data.sources import BytesSource, Source
from dicomwire.errors import (
    AssociationFailure,
    LocalProtocolError,
)
from dicomwire.events import EVT_DIMSE_SENT, InterventionEvent
from dicomwire.protocol.command import RESPONSE_BIT, Command, Message
from dicomwire.protocol.events import Event, ReleaseRequested
from dicomwire.protocol.limits import MIB
from dicomwire.protocol.states import Role
from dicomwire.services import scp
from dicomwire.services.answers import may_ask
from dicomwire.services.port import END, Incoming, Storer
from dicomwire.session.buffers import BUFFER_SIZE, give_buffer, take_buffer
from dicomwire.session.intake import BACKLOG, BACKLOG_BYTES, LocalAbort
from dicomwire.session.owner import Owner
from dicomwire.session.pending import Pending
from dicomwire.settings import Settings

_MOST_WAITING = 32
"""Requests, or responses that nobody has taken, with which no more is read for the time being."""
_MOST_BYTES = 4 * MIB
"""What the datasets of such requests may have, likewise."""


class Watcher(Owner, Protocol):
    """The association that an `AioPort` belongs to."""

    def watch(self, task: asyncio.Task[None]) -> None:
        """Keep a task that serves the association until it has ended."""


class AioPort(Link):
    """What services see of an association of the asyncio face (`services.port.Port`)."""

    _association: Watcher

    def __init__(self, association: Watcher, role: Role, settings: Settings) -> None:
        super().__init__(association, role, settings)
        self._serving: asyncio.Task[None] | None = None
        self._sending = asyncio.Lock()  # held from the begin of a message to its end
        self._is_sink_full = False
        self._is_release_put_off = False  # by a message that is being sent
        self._is_reading_on = False  # as soon as the loop comes to it
        self._untaken = 0  # responses that have come and not been taken
        self._untaken_bytes = 0
        self._awaited = 0  # how many wait for a response

    def _enqueue(self, incoming: Incoming) -> None:
        super()._enqueue(incoming)
        if self._serving is None:
            self._serving = self.loop.create_task(self._serve())
            self._association.watch(self._serving)
        self._balance()

    def take(self, event: Event) -> None:
        """Act on an event of the protocol; a release waits for what came before it."""
        if isinstance(event, ReleaseRequested) and self._is_busy:
            self.protocol.put_back(event)
            self._is_release_put_off = True
            self._balance()
        else:
            super().take(event)

    @property
    def _is_busy(self) -> bool:
        """Whether a message is being sent, or the peer's requests are served."""
        if self._sending.locked():
            return True
        is_serving = self._served is not None or bool(self._requests)
        return is_serving and not self._inner_waits and self.stage != "release"

    def _balance(self) -> None:
        """Read on or not, so that no more comes than can be used; what is awaited has to come."""
        was_full = self._is_full
        if self._is_release_put_off:
            self._is_release_put_off = self._is_busy
        self._is_full = self._is_release_put_off or (
            not self._awaited and self._has_too_many(2 if was_full else 1)
        )
        if self._channel is None:
            return
        if self._is_full or self._is_sink_full:
            self._channel.pause_reading()
            return
        if was_full:
            self._last_active = self.loop.time()  # the peer could do nothing before
        if self._has_rest:
            if not self._is_reading_on:
                self._is_reading_on = True
                self.loop.call_soon(self._read_on)
        else:
            self._channel.resume_reading()

    @property
    def _is_in_use(self) -> bool:
        """Whether the association is not idle, though nothing comes, or we do not read it."""
        is_waited_for = self._awaited > 0 or self._sending.locked()
        return is_waited_for or self._is_full or self._is_sink_full or super()._is_in_use

    def _has_too_many(self, divisor: int) -> bool:
        """Whether more waits than should; less than that by a divisor, once it did."""
        requests = self._requests
        most = _MOST_WAITING // divisor
        if len(requests) >= most or self._untaken >= most:
            return True
        if len(requests) < 2:
            return False
        sizes = [each.payload.size for each in requests if each.payload is not None]
        return sum(sizes) > _MOST_BYTES // divisor

    def _read_on(self) -> None:
        """Act on what had to wait, and on what comes."""
        self._is_reading_on = False
        if self.is_ended or self._is_full:
            return
        self._act_on(b"")
        self._balance()

    async def _serve(self) -> None:
        """Serve the requests of the peer that wait, one after the other."""
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
        self._served = incoming.message
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
                    self._put_off_response()
                self._arm()
            if self._is_release_put_off:
                self._balance()
            self._wake_all()

    async def until_ended(self, timeout: float | None, stage: str) -> None:
        """Wait until the association is over; what nobody has taken must not be in the way."""
        if self.stage == "release":
            for exchange in self._exchanges.values():
                exchange.abandon()
        await super().until_ended(timeout, stage)

    async def until_unused(self) -> None:
        """Wait until no other task sends or awaits a response, or a handler wants to go on."""
        while (self._sending.locked() or self._awaited) and self._served is None:
            self.check()
            await self._sleep()

    async def until_quiet(self) -> None:
        """Wait until no request is being served or waits for it, or the association is over."""
        while (self._served is not None or self._requests) and not self.is_ended:
            await self._sleep()

    def stop_serving(self) -> asyncio.Task[None] | None:
        """Cancel what is being served, for who cannot wait any longer; return its task."""
        task = self._serving
        if task is not None and not task.done():
            task.cancel()
        return task

    # --- services.port.Port ---

    async def send(self, context_id: int, message: Message, source: Source | None = None) -> None:
        """Send `message` and its dataset."""
        await self._send(context_id, message, source, together=False)

    async def _send(
        self, context_id: int, message: Message, source: Source | None, together: bool
    ) -> None:
        """Send a message, or keep it to be sent `together` with others."""
        try:
            await self._send_in_turn(context_id, message, source, together)
        finally:
            if self._is_release_put_off:
                self._balance()

    async def _send_in_turn(
        self, context_id: int, message: Message, source: Source | None, together: bool
    ) -> None:
        protocol = self.protocol
        async with self._sending:
            if self._channel is not None and self._channel.is_full:
                await self._drained()
            self.check()
            if self._batch and not together:
                self._flush_batch()
            if EVT_DIMSE_SENT in self.handlers.live:
                self._notify_message(EVT_DIMSE_SENT, context_id, message)
            packed = protocol.pack(context_id, message)
            if type(source) is BytesSource:
                data = protocol.pack_small_data(context_id, source.view)
                if data is not None:
                    packed += data
                    source = None
            try:
                if source is None:
                    protocol.check_data(packed)
                    if not together:
                        self._write(packed)
                        return
                    if self._batch and len(self._batch) + len(packed) > BUFFER_SIZE:
                        self._flush_batch()
                    self._batch += packed
                else:
                    self._flush_batch()
                    await self._send_dataset(context_id, packed, source)
            except LocalProtocolError:
                raise self._ended_failure() from None

    async def _send_dataset(self, context_id: int, packed: bytes, source: Source) -> None:
        """Send a command and its dataset, read from `source` as they leave."""
        buffer = take_buffer()
        has_begun = False
        try:
            packer = self.protocol.packer(memoryview(buffer), context_id, packed)
            sent = 0
            while True:
                gaps = packer.gaps(source.length - sent)
                filled: Any = source.readinto(gaps) if gaps else 0
                if inspect.isawaitable(filled):
                    filled = await filled
                    self.check()
                sent += filled
                is_last = sent == source.length  # of streams that is known now, and not before
                view = packer.seal(filled, is_last)
                self.protocol.check_data(view)
                has_begun = True
                self._write(view)
                if self._channel is None or self._channel.is_full:
                    await self._drained()
                if is_last:
                    break
        except (AssociationFailure, LocalProtocolError):
            raise
        except BaseException as error:  # of the source, or the task is cancelled
            # Part of the message may have been sent, and nothing else can follow that.
            if has_begun:
                text = f"a dataset was sent in part: {str(error) or type(error).__name__}"
                self.fail(LocalAbort(text, self.peer))
            raise
        # Only here: what has not left of an association that ended is still read from there.
        give_buffer(buffer)

    async def request(
        self,
        context_id: int,
        message: Message,
        source: Source | None = None,
        *,
        join: Exchange | None = None,
        more: bool = False,
    ) -> Exchange:
        """Send a request, once none alike is being answered and there is room for one more."""
        key = (message.command | RESPONSE_BIT, message.MessageID)
        if self.must_wait(key):
            with self._awaiting():
                while self.must_wait(key):
                    self.check()
                    await self._sleep()
        exchange = Exchange(self, message) if join is None else join.join()
        self._exchanges[key] = exchange
        try:
            await self._send(context_id, message, source, together=more)
        except BaseException:
            if self._exchanges.pop(key, None) is not None:
                exchange.part()
            raise
        return exchange

    async def await_response(self, exchange: Exchange) -> None:
        """Wait until there is a response to take."""
        await self.flushed()
        with self._awaiting():
            try:
                while not exchange.has_response:
                    self.check()
                    waiter = exchange.waiter = self.loop.create_future()
                    self._waiters.add(waiter)
                    try:
                        await waiter
                    finally:
                        self._waiters.discard(waiter)
            finally:
                exchange.waiter = None

    @contextlib.contextmanager
    def _awaiting(self) -> Iterator[None]:
        """Have the deadline for responses count, and read on."""
        is_inner = self._served is not None
        self._awaited += 1
        self._inner_waits += is_inner
        self._balance()
        self._put_off_response()
        self._arm()
        try:
            yield
        finally:
            self._awaited -= 1
            self._inner_waits -= is_inner
            if not self._awaited:
                self._response_deadline = None
                self._wake_all()

    def _dispatch_response(self, incoming: Incoming) -> None:
        super()._dispatch_response(incoming)
        if self._awaited:
            self._put_off_response()
            self._wake_all()

    def count_untaken(self, number: int, size: int) -> None:
        """Note that `number` more (or fewer) responses of `size` have come and not been taken."""
        self._untaken += number
        self._untaken_bytes += size
        self._balance()

    def check_untaken(self) -> None:
        """Raise where more responses wait than should, which is so if others are awaited."""
        if self._untaken > BACKLOG or (self._untaken > 1 and self._untaken_bytes > BACKLOG_BYTES):
            raise self._unbearable("too many responses are waiting to be taken")

    def hold_back(self, is_full: bool) -> None:
        """Note whether a sink has been given as much as it should have at a time."""
        if self._is_sink_full and not is_full:
            self._last_active = self.loop.time()
        self._is_sink_full = is_full
        self._balance()

    async def intervene(self, event: InterventionEvent, attrs: dict[str, Any]) -> Any:
        """Call the handler bound to `event`."""
        if event not in self.handlers.live:  # the default one: no thread is needed for that
            return self.handlers.intervene(self._association, event, attrs)
        answer = await ask(self.handlers.question(self._association, event, attrs))
        self.check()
        return answer

    def iterate(self, answer: Any) -> Any:
        """Return an iterator over what a handler answered."""
        if hasattr(answer, "__aiter__"):
            return aiter(answer)
        served = self._served
        many = served is not None and served.command is Command.C_FIND_RQ
        return PlainResults(iter(answer), many)

    async def next_result(self, results: Any) -> Any:
        """Return the next result of a handler, or END."""
        if isinstance(results, PlainResults):
            return await results.next()
        return await anext(results, END)

    async def close_results(self, results: Any) -> None:
        """End the handler that is behind `results`."""
        if isinstance(results, PlainResults):
            await results.close()
        elif hasattr(results, "aclose"):
            await results.aclose()

    def cancel_waits(self, message_id: int) -> bool:
        """Return whether C-CANCEL came and the handler has not looked."""
        return message_id in self._cancelled

    def is_cancelled(self, message_id: int) -> bool:
        """Return, once, whether the peer cancelled the operation `message_id`."""
        if message_id in self._cancelled:
            self._cancelled.discard(message_id)
            return True
        return False

    def own_storer(self, reduce: Callable[[Dataset], Dataset] | None = None) -> Storer:
        """Return what sends objects on this association."""
        return self._association.own_storer(reduce)

    async def storer_to(self, title: str, host: str, port: int, options: dict[str, Any]) -> Storer:
        """Return what sends objects to another AE."""
        return await self._association.storer_to(title, host, port, options)


class Exchange(Pending):
    """A request that was sent, and the responses to it."""

    __slots__ = ("_port", "waiter")

    def __init__(self, port: AioPort, request: Message) -> None:
        super().__init__(request)
        self._port = port
        self.waiter: asyncio.Future[None] | None = None

    def add(self, incoming: Incoming) -> bool:
        """Take a response that came in; return whether none can come after it."""
        before = len(self.responses)
        is_last = super().add(incoming)
        if len(self.responses) > before:
            self._port.count_untaken(1, _size(incoming))
        if self.waiter is None:
            self._port.check_untaken()
        elif not self.waiter.done():
            self.waiter.set_result(None)
        return is_last

    async def response(self) -> Incoming:
        """Return the next response, within the DIMSE timeout."""
        if not self.responses:
            await self._port.await_response(self)
        return self.take()

    def take(self) -> Incoming:
        """Return a response that has come."""
        incoming = super().take()
        self._port.count_untaken(-1, -_size(incoming))
        return incoming

    def abandon(self) -> None:
        """Let all responses pass by that have not been taken."""
        waiting = len(self.responses)
        size = sum(map(_size, self.responses))
        super().abandon()
        self._port.count_untaken(-waiting, -size)


def _size(incoming: Incoming) -> int:
    return 0 if incoming.payload is None else incoming.payload.size
