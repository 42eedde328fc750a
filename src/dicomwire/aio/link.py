"""One association's protocol and channel, and the deadlines, on an event loop.

What the messages are is for the `port` on top.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any

from dicomwire.aio.channel import Channel
from dicomwire.aio.opening import open_channel
from dicomwire.errors import AssociationFailure, AssociationTimeout, ConnectionLost
from dicomwire.protocol.events import Event
from dicomwire.protocol.states import Role, State
from dicomwire.session.intake import Engine, LocalAbort
from dicomwire.session.owner import Owner
from dicomwire.settings import Settings
from dicomwire.tls import tls_failure


class Ending:
    """Is set when an association is over, and calls who waits for that."""

    __slots__ = ("_call", "_is_set")

    def __init__(self, call: Callable[[], None]) -> None:
        self._call = call
        self._is_set = False

    def is_set(self) -> bool:
        """Return whether the association is over."""
        return self._is_set

    def set(self) -> None:
        """Note that it is."""
        self._is_set = True
        self._call()


class Link(Engine):
    """The engine under an association.

    Until the association is established its PDUs are heard one by one, as `services.lifecycle` asks
    for them; from `attend` on what comes is acted on at once.
    """

    def __init__(self, association: Owner, role: Role, settings: Settings) -> None:
        super().__init__(association, role, settings)
        self.ended = Ending(self._wake_all)
        self.loop = asyncio.get_running_loop()
        self._channel: Channel | None = None
        self._unheard: deque[bytes] | None = deque()  # what came; None once it is acted on at once
        self._was_lost = False
        self._lost_by: ConnectionLost | None = None  # where the peer did not just close it
        self._waiters: set[asyncio.Future[None]] = set()
        self._batch = bytearray()  # small messages, which are sent together
        self._last_active = self.loop.time()
        self._timer: asyncio.TimerHandle | None = None
        self._response_deadline: float | None = None
        self._write_deadline: float | None = None
        self._unsent = 0  # when the write deadline was set
        self._is_full = False  # so much waits that no more is to be taken in
        self._has_rest = False  # of what has been received, for that reason
        self._inner_waits = 0  # for responses, begun while a request is served

    # --- The connection ---

    async def connect(self) -> tuple[Any, Any]:
        """Open the connection to `target`; return the addresses of its two ends."""
        assert self.target is not None
        channel = await open_channel(self.target, self.settings)
        self.open(channel, self.target.peer)
        return channel.local, channel.remote

    def open(self, channel: Channel, peer: str) -> None:
        """Take over a connection."""
        if self.is_over:  # aborted while it was being connected
            channel.close_now()
            raise self._ended_failure()
        self.peer = peer
        self._channel = channel
        self._last_active = self.loop.time()
        channel.listen(self)

    def received(self, data: memoryview) -> None:
        """Take bytes that came (Listener)."""
        self._received += len(data)
        if self._unheard is None:
            self._act_on(data)
        else:
            self._unheard.append(bytes(data))
            if self._channel is not None:
                self._channel.pause_reading()
            self._wake_all()

    def lost(self, error: OSError | None) -> None:
        """Note that the connection is over (Listener)."""
        self._was_lost = True
        if error is not None:
            self._lost_by = tls_failure(error, self.peer)
        if self._unheard is None:
            self._act_on_loss()
        else:
            self._wake_all()

    def writable(self) -> None:
        """Note that all that was written has left (Listener)."""
        self._write_deadline = None
        self._wake_all()

    def close(self) -> None:
        """Give the connection up: close it, or let it wait for the peer to close (Sta13)."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        channel, self._channel = self._channel, None
        self._batch.clear()
        self.let_go()
        if channel is None:
            return
        if self.protocol.state is State.AWAITING_CLOSE:
            channel.close_after_peer(self.settings.close_timeout)
        else:
            channel.close_now()

    def flush_now(self) -> None:
        """Send what the protocol has to say; for farewells."""
        data = self.protocol.data_to_send()
        if data:
            self._write(data)

    async def flushed(self) -> None:
        """Send what the protocol has to say, and what waited to be sent."""
        self._flush_batch()
        self.flush_now()
        await self._drained()

    def _write(self, data: bytes | bytearray | memoryview) -> None:
        if self._channel is not None:
            self._channel.write(data)
            self._tell_sent(data)

    async def _drained(self) -> None:
        """Wait until all that was written has left."""
        while self._channel is not None and self._channel.is_full:
            if self._write_deadline is None:
                self._put_off_writing(self._channel)
            await self._sleep()
        self.check()

    def _put_off_writing(self, channel: Channel) -> None:
        self._unsent = channel.unsent
        timeout = self.settings.write_timeout
        self._write_deadline = None if timeout is None else self.loop.time() + timeout
        self._arm()

    async def _sleep(self) -> None:
        """Wait until something has happened, or the association is over."""
        waiter = self.loop.create_future()
        self._waiters.add(waiter)
        try:
            await waiter
        finally:
            self._waiters.discard(waiter)

    def _wake_all(self) -> None:
        """Have all look who wait for something, whatever it is."""
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)

    def _flush_batch(self) -> None:
        """Send what was kept to be sent together."""
        if self._batch:
            batch, self._batch = self._batch, bytearray()
            self._write(batch)

    # --- What comes in ---

    async def hear(self, timeout: float | None, stage: str) -> Event:
        """Return the protocol's next event, within `timeout` seconds."""
        try:
            async with asyncio.timeout(timeout):
                return await self._next_event(stage)
        except TimeoutError:
            raise AssociationTimeout("no answer in time", stage=stage, peer=self.peer) from None

    async def _next_event(self, stage: str) -> Event:
        assert self._unheard is not None
        while True:
            event = self.protocol.next_event()
            if event is not None:
                return event
            self.check()
            if self.protocol.is_over:  # closed where the protocol has no event for that
                raise self.closed_by_peer(stage)
            await self.flushed()
            if self._unheard:
                self.feed(self._unheard.popleft())
            elif self._lost_by is not None:
                raise self._lost_by
            elif self._was_lost:
                self.protocol.connection_lost()
            else:
                if self._channel is not None:
                    self._channel.resume_reading()
                await self._sleep()

    def attend(self) -> None:
        """Act on what comes from now on, at once."""
        unheard, self._unheard = self._unheard, None
        self._act_on(b"")
        for data in unheard or ():
            self._act_on(data)
        if self._was_lost:
            self._act_on_loss()
        elif self._channel is not None:
            self._channel.resume_reading()
        self._put_off_idleness()

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
            self.flush_now()
        except AssociationFailure as failure:
            self.fail(failure)
        except BaseException as error:
            self.crash(error)
            if not isinstance(error, Exception):
                raise  # a handler called sys.exit, which is for the whole loop
        if self._has_progressed():
            self._last_active = self.loop.time()

    def _act_on_loss(self) -> None:
        if self.is_ended:
            return
        self.fail(self._lost_by or self.closed_by_peer(self.stage))

    async def until_ended(self, timeout: float | None, stage: str) -> None:
        """Wait until the association is over."""
        try:
            async with asyncio.timeout(timeout):
                while not self.is_ended:
                    await self._sleep()
        except TimeoutError:
            raise AssociationTimeout("no answer in time", stage=stage, peer=self.peer) from None

    # --- Deadlines ---

    def deadline_changed(self) -> None:
        """Count the deadlines anew, since the settings have changed."""
        if self._unheard is None:
            self._put_off_idleness()

    def _put_off_idleness(self) -> None:
        self._last_active = self.loop.time()
        self._arm()

    def _put_off_response(self) -> None:
        timeout = self.settings.dimse_timeout
        self._response_deadline = None if timeout is None else self.loop.time() + timeout

    def _arm(self) -> None:
        """Have the deadlines looked at when the first of them passes, if nothing puts them off."""
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
        self._timer = self.loop.call_at(when, self._look_at_deadlines)

    def _look_at_deadlines(self) -> None:
        self._timer = None
        now = self.loop.time()
        channel, settings = self._channel, self.settings
        if self._write_deadline is not None and self._write_deadline <= now and channel is not None:
            if channel.unsent >= self._unsent:
                text = f"nothing could be sent for {settings.write_timeout} s"
                self.fail(AssociationTimeout(text, stage="write", peer=self.peer))
                return
            self._put_off_writing(channel)
        deadline = self._response_deadline
        if deadline is not None and deadline <= now and self._response_is_due:
            self.fail(AssociationTimeout("no answer in time", stage="response", peer=self.peer))
            return
        idle = settings.network_timeout
        if idle is not None and self._last_active + idle <= now:
            self._last_active = now
            if not self._is_in_use:
                text = f"{'next to ' if self._received else ''}nothing for {idle} s"
                failure = AssociationTimeout(text, stage="idle", peer=self.peer)
                self._association.on_network_timeout(failure)
        self._arm()

    @property
    def _is_in_use(self) -> bool:
        """Whether the association is not idle, though nothing comes."""
        is_releasing = self.stage == "release" and self.settings.acse_timeout is not None
        # A release has a deadline of its own.
        return self._served is not None or is_releasing or self._held > 0

    def hold(self) -> None:
        """Take the association for in use: its program takes results one by one."""
        self._held += 1

    def unhold(self) -> None:
        """Undo one `hold`: the program is done with the results, and idleness begins."""
        self._held -= 1
        self._last_active = self.loop.time()

    @property
    def _response_is_due(self) -> bool:
        """Whether the peer can answer: it may wait for what is being served, unless that waits."""
        return self._served is None or self._inner_waits > 0

    # --- The end ---

    def abort(self) -> None:
        """Abort the association at once; on another thread than the loop's, as soon as it can."""
        if self.is_ended:
            return
        try:
            here = asyncio.get_running_loop() is self.loop
        except RuntimeError:
            here = False
        if here:
            self._association.on_local_abort(self._aborted_here())
        else:
            self._abort_wanted = True
            self.loop.call_soon_threadsafe(self._abort_as_wanted)

    def _abort_as_wanted(self) -> None:
        if not self.is_ended:
            self._association.on_local_abort(self._aborted_here())

    def crash(self, error: BaseException) -> None:
        """End the association because of an error that is ours; a cancellation goes on."""
        if isinstance(error, asyncio.CancelledError):
            self.fail(LocalAbort("cancelled by the program", self.peer, self.stage))
            raise error
        super().crash(error)
