"""One association's protocol and channel, and the deadlines, on an event loop.

`port` sends and receives messages.
"""

from __future__ import annotations

import asyncio
import contextlib
from abc import abstractmethod
from collections import deque
from collections.abc import Callable
from typing import Any, Self

from dicomwire.aio.channel import Channel
from dicomwire.aio.opening import open_channel
from dicomwire.data.new_files import Buffer
from dicomwire.errors import AssociationFailure, AssociationTimeout, ConnectionLost
from dicomwire.protocol.events import Event
from dicomwire.protocol.states import Role, State
from dicomwire.session.engine_association import EngineAssociation
from dicomwire.session.intake import LocalAbort
from dicomwire.session.operation import Operation
from dicomwire.session.sending import SendingEngine
from dicomwire.settings import Settings
from dicomwire.tls import tls_failure


class Link(SendingEngine):
    """The engine of an association on the asyncio face.

    During negotiation, `session.lifecycle` takes one event after the other by `receive_event`. From
    `begin_serving` on, received bytes are processed at once.
    """

    def __init__(self, association: EngineAssociation, role: Role, settings: Settings) -> None:
        super().__init__(association, role, settings)
        self.loop = asyncio.get_running_loop()
        self._channel: Channel | None = None
        # Received bytes that `receive_event` has not processed; None from `begin_serving` on.
        self._unprocessed: deque[bytes] | None = deque()
        self._was_lost = False
        self._lost_by: ConnectionLost | None = None  # None if the peer closed the connection
        self._waiters: set[asyncio.Future[None]] = set()
        self._last_active = self.loop.time()
        self._timer: asyncio.TimerHandle | None = None
        self._response_deadline: float | None = None
        self._write_deadline: float | None = None
        self._unsent = 0  # unsent bytes when the write deadline was set
        self._is_full = False  # too many messages wait, so reading pauses
        self._has_rest = False  # the protocol keeps received bytes, since reading is paused
        self._expecting: Operation | None = None  # a task awaits its usual response
        self._inner_waits = 0  # waits for responses that began while a request is served

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, asyncio.CancelledError):
            self.abort()

    # --- The connection ---

    async def connect(self) -> None:
        """Open the connection to `target`."""
        assert self.target is not None
        channel = await open_channel(self.target, self.settings)
        self.open(channel, self.target.peer)

    def open(self, channel: Channel, peer: str) -> None:
        """Take over a connection."""
        if self.is_over:  # aborted while it was being connected
            channel.close_now()
            raise self._ended_failure()
        self.local, self.remote, self.peer = channel.local, channel.remote, peer
        self._channel = channel
        self._last_active = self.loop.time()
        channel.listen(self)

    def received(self, data: memoryview) -> None:
        """Process received bytes, or keep them for `receive_event` (Listener)."""
        self._received += len(data)
        if self._unprocessed is None:
            if self._expecting is None or not self._is_as_expected(data):
                self._act_on(data)
        else:
            self._unprocessed.append(bytes(data))
            if self._channel is not None:
                self._channel.pause_reading()
            self._wake_all()

    @abstractmethod
    def _is_as_expected(self, data: memoryview) -> bool:
        """Return whether they are the response that `_expecting` expects; if so, wake its task."""

    def lost(self, error: OSError | None) -> None:
        """Note that the connection is over (Listener)."""
        self._was_lost = True
        if error is not None:
            self._lost_by = tls_failure(error, self.peer)
        if self._unprocessed is None:
            self._act_on_loss()
        else:
            self._wake_all()

    def writable(self) -> None:
        """Wake the senders: all written bytes were sent (Listener)."""
        self._write_deadline = None
        self._wake_all()

    def close(self) -> None:
        """Close the connection, at once or after the peer has (Sta13)."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        channel, self._channel = self._channel, None
        self._batch.clear()
        self.discard_received()
        if channel is None:
            return
        if self.protocol.state is State.AWAITING_CLOSE:
            channel.close_after_peer(self.settings.close_timeout)
        else:
            channel.close_now()

    def flush_now(self) -> None:
        """Send the bytes that the protocol has ready, without waiting."""
        data = self.protocol.data_to_send()
        if data:
            self.write(data)

    def send_at_once(self, data: bytes) -> None:
        """Send the first bytes of a connection."""
        self.write(data)

    def write(self, data: Buffer) -> None:
        if self._channel is not None:
            self._channel.write(data)
            self._report_sent(data)

    async def _until_written(self) -> None:
        """Wait until all written bytes were sent; `writable` wakes this."""
        while self._channel is not None and self._channel.is_full:
            if self._write_deadline is None:
                self._restart_write_deadline(self._channel)
            await self._sleep()
        self.check()

    def _restart_write_deadline(self, channel: Channel) -> None:
        self._unsent = channel.unsent
        timeout = self.settings.write_timeout
        self._write_deadline = None if timeout is None else self.loop.time() + timeout
        self._arm()

    async def _sleep(self) -> None:
        """Wait until `_wake_all` is called; the caller then checks its condition again."""
        waiter = self.loop.create_future()
        self._waiters.add(waiter)
        try:
            await waiter
        finally:
            self._waiters.discard(waiter)

    def _wake_all(self) -> None:
        """Wake every waiter to check its condition again."""
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)

    # --- Received bytes and events ---

    async def receive_event(self, timeout: float | None, stage: str) -> Event:
        """Return the protocol's next event, within `timeout` seconds."""
        try:
            async with asyncio.timeout(timeout):
                return await self._next_event(stage)
        except TimeoutError:
            raise self._no_answer(stage) from None

    async def _next_event(self, stage: str) -> Event:
        assert self._unprocessed is not None
        while True:
            event = self.protocol.next_event()
            if event is not None:
                return event
            self.check()
            if self.protocol.is_over:  # closed in a state without an event for it
                raise self.closed_by_peer(stage)
            await self.flushed()
            if self._unprocessed:
                self.feed(self._unprocessed.popleft())
            elif self._lost_by is not None:
                raise self._lost_by
            elif self._was_lost:
                self.protocol.connection_lost()
            else:
                if self._channel is not None:
                    self._channel.resume_reading()
                await self._sleep()

    def begin_serving(self) -> None:
        """Process received bytes at once from now on."""
        unheard, self._unprocessed = self._unprocessed, None
        self._act_on(b"")
        for data in unheard or ():
            self._act_on(data)
        if self._was_lost:
            self._act_on_loss()
        elif self._channel is not None:
            self._channel.resume_reading()
        self._restart_idle_deadline()

    def _act_on(self, data: memoryview | bytes) -> None:
        self._has_rest = False
        try:
            if data:
                self.feed(data)
            while (event := self.protocol.next_event()) is not None:
                self.take(event)
                if self._is_full:
                    self.protocol.keep_data()
                    self._has_rest = True
                    break
            if self._batch:
                self._write_batch()
            self.flush_now()
        except AssociationFailure as failure:
            self.fail(failure)
        except BaseException as error:
            self.crash(error)
            if not isinstance(error, Exception):
                raise  # a handler called sys.exit, which must end the loop
        if self._has_progressed():
            self._last_active = self.loop.time()

    def _act_on_loss(self) -> None:
        if self.is_ended:
            return
        self.fail(self._lost_by or self.closed_by_peer(self.stage))

    def look(self) -> None:
        """Nothing: received bytes are processed at once."""

    async def until_ended(self, timeout: float | None, stage: str) -> None:
        """Wait until the association is over."""
        try:
            async with asyncio.timeout(timeout):
                while not self.is_ended:
                    await self._sleep()
        except TimeoutError:
            raise self._no_answer(stage) from None

    # --- Deadlines ---

    def deadline_changed(self) -> None:
        """Compute the deadlines again, since the settings have changed."""
        if self._unprocessed is None:
            self._restart_idle_deadline()

    def call_soon(self, call: Callable[[], object]) -> None:
        """Have the event loop call `call`; from any thread, at any moment."""
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self.loop.call_soon_threadsafe(call)

    def _restart_idle_deadline(self) -> None:
        self._last_active = self.loop.time()
        self._arm()

    def _restart_response_deadline(self) -> None:
        timeout = self.settings.dimse_timeout
        self._response_deadline = None if timeout is None else self.loop.time() + timeout

    def _arm(self) -> None:
        """Set the timer to the first deadline. When it fires, a deadline may have moved later."""
        idle = self.settings.network_timeout
        deadlines = [
            deadline
            for deadline in (
                None if idle is None else self._last_active + idle,
                self._response_deadline if self._response_is_due else None,
                self._write_deadline,
            )
            if deadline is not None
        ]
        if not deadlines or self.is_ended:
            return
        when = min(deadlines)
        if self._timer is not None:
            if self._timer.when() <= when:
                return
            self._timer.cancel()
        self._timer = self.loop.call_at(when, self._check_deadlines)

    def _check_deadlines(self) -> None:
        self._timer = None
        now = self.loop.time()
        channel, settings = self._channel, self.settings
        if self._write_deadline is not None and self._write_deadline <= now and channel is not None:
            if channel.unsent >= self._unsent:
                text = f"nothing could be sent for {settings.write_timeout} s"
                self.fail(AssociationTimeout(text, stage="write", peer=self.peer))
                return
            self._restart_write_deadline(channel)
        deadline = self._response_deadline
        if deadline is not None and deadline <= now and self._response_is_due:
            self.fail(self._no_answer("response"))
            return
        idle = settings.network_timeout
        if idle is not None and self._last_active + idle <= now:
            self._last_active = now
            if not self._is_in_use:
                self._end_as_idle(idle)
        self._arm()

    @property
    def _is_in_use(self) -> bool:
        """Whether the network timeout does not apply, though no message arrives."""
        # A release has its own deadline, the ACSE timeout.
        is_releasing = self.stage == "release" and self.settings.acse_timeout is not None
        # What was written and not sent yet has the write timeout.
        is_sending = self._channel is not None and self._channel.is_full
        return self._served is not None or is_releasing or is_sending or self._held > 0

    @property
    def _response_is_due(self) -> bool:
        """Whether the response deadline applies.

        Not while we serve a request: the peer may wait for our response first. But it does if the
        handler of that request awaits a response itself.
        """
        return self._served is None or self._inner_waits > 0

    # --- The end ---

    def abort(self) -> None:
        """Abort the association: at once on the loop's thread, from others by a callback."""
        if self.is_ended:
            return
        try:
            here = asyncio.get_running_loop() is self.loop
        except RuntimeError:
            here = False
        if here:
            self._abort_now()
        else:
            self._abort_wanted = True
            self.loop.call_soon_threadsafe(self._abort_now)

    def end(self) -> None:
        """Note that the association is over, and wake all that wait for its end."""
        super().end()
        self._wake_all()

    def crash(self, error: BaseException) -> None:
        """End the association because of an internal error; a cancellation is raised again."""
        if isinstance(error, asyncio.CancelledError):
            self.fail(LocalAbort("cancelled by the program", self.peer, self.stage))
            raise error
        super().crash(error)
