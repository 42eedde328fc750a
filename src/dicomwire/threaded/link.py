"""One association's protocol and socket, and the taking of turns with it between threads.

Who holds the turn owns the socket. When nobody does, the association waits in the lobby, and a
worker takes the turn when something comes. What the messages are is for the `port` on top.
"""

from __future__ import annotations

import contextlib
import threading
import time
from abc import abstractmethod
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from dicomwire.errors import (
    AbortReason,
    AbortSource,
    AssociationFailure,
    AssociationTimeout,
    ConnectionLost,
)
from dicomwire.events import EVT_DATA_RECV, EVT_DATA_SENT, EVT_PDU_SENT
from dicomwire.protocol.dimse import unpack_pdus
from dicomwire.protocol.events import CommandReceived, Event
from dicomwire.protocol.pdu import Abort
from dicomwire.protocol.states import Role, State
from dicomwire.session.buffers import give_buffer, take_buffer
from dicomwire.session.intake import Engine, LocalAbort
from dicomwire.session.owner import Owner
from dicomwire.settings import Settings
from dicomwire.threaded import threads
from dicomwire.threaded.connection import Connection, deadline_after
from dicomwire.threaded.lobby import Guest, lobby
from dicomwire.threaded.opening import open_connection

LINGER = 0.05
"""Seconds that a worker waits for the next message before the association goes to the lobby."""
_PATIENCE = 0.1
"""Seconds that an abort waits for another thread to be through with sending a PDU."""

_ABORT = Abort(AbortSource.SERVICE_USER, AbortReason.NOT_SPECIFIED).encode()


class Link(Engine, Guest):
    """The engine under an association.

    ``with link:`` takes the turn, and may be nested. All methods but `abort` want the turn.

    Attributes
    ----------
    release_wanted : bool
        Whether the association is to be released when the turn ends.
    """

    def __init__(self, association: Owner, role: Role, settings: Settings) -> None:
        super().__init__(association, role, settings)
        self.release_wanted = False
        self.ended: threading.Event = threading.Event()
        self._connection: Connection | None = None
        self._on_closed: Callable[[], None] = lambda: None
        self._turn = threading.RLock()
        self._depth = 0
        self._owner: int | None = None
        self._attended = False  # a worker looks after the socket
        self._writing = threading.RLock()
        self._mid_write = False
        self._abort_sent = False
        self._buffer: bytearray | None = None
        self._last_active = time.monotonic()

    @abstractmethod
    def serve(self) -> None:
        """Serve all that has come in; failures end the association, and are not raised."""

    # --- The turn ---

    def __enter__(self) -> Self:
        self._turn.acquire()
        self._depth += 1
        if self._depth == 1:
            self._owner = threading.get_ident()
            if self._inside:  # nobody but who has the turn lets it in
                lobby().leave(self)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if self._depth == 1:
                self._settle()
        finally:
            self._depth -= 1
            if not self._depth:
                self._owner = None
            self._turn.release()
        if self._abort_wanted and not self.is_ended:
            self.abort()  # that was asked for while this thread was about to leave

    def without_waiting(self, action: Callable[[], None]) -> bool:
        """Do `action` with the turn, if it can be had at once; else return False."""
        if not self._turn.acquire(blocking=False):
            return False
        try:
            with self:
                action()
        finally:
            self._turn.release()
        return True

    @property
    def has_turn(self) -> bool:
        """Whether the calling thread has the turn."""
        return self._owner == threading.get_ident()

    def _settle(self) -> None:
        """Leave the association where it will be looked after, now that nobody holds the turn."""
        if self._connection is None or self.is_ended:
            self._drop_buffer()
            return
        try:
            while not self.is_ended and (event := self.protocol.next_event()) is not None:
                self.take(event)
            if self.release_wanted:
                self._association.release_soon()
        except AssociationFailure as failure:
            self.fail(failure)
        except BaseException as error:  # a handler called sys.exit: nobody would look after it
            self.crash(error)
            raise
        self._drop_buffer()
        if self._has_progressed():
            self._last_active = time.monotonic()
        if self.is_ended or self._attended or self._held:
            return
        if self.protocol.state is not State.ESTABLISHED:
            return
        if self.has_requests or self._connection.pending():
            self.attend()
            return
        timeout = self.settings.network_timeout
        lobby().enter(self, None if timeout is None else self._last_active + timeout)

    def fileno(self) -> int:
        """Return the socket's file descriptor."""
        assert self._connection is not None
        return self._connection.fileno()

    def on_ready(self) -> None:
        """Have what came served by a worker."""
        if lobby().leave(self):
            threads.submit(self._attend)

    def on_deadline(self) -> None:
        """Have the association ended by a worker, since nothing came for too long."""
        if lobby().leave(self):
            threads.submit(self._end_if_idle)

    def on_gone(self) -> None:
        """Have the association ended by a worker, since the program closed its socket."""
        if self._connection is not None:
            self._connection.disown()
        threads.submit(self._end_as_gone)

    def _end_as_gone(self) -> None:
        with self:
            self.fail(ConnectionLost("its socket was closed", stage=self.stage, peer=self.peer))

    def hold(self) -> None:
        """Keep the association out of the lobby: its program is reading responses."""
        self._held += 1

    def unhold(self) -> None:
        """Undo one `hold`: the program is done with the results, and idleness begins."""
        self._held -= 1
        self._last_active = time.monotonic()

    def attend(self) -> None:
        """Have a worker look after the association from now on."""
        self._attended = True
        threads.submit(self._attend)

    def _attend(self) -> None:
        """Serve as long as messages keep coming, then hand the association to the lobby."""
        self._attended = True
        with self:
            try:
                while self._serve_on():
                    pass
            finally:
                self._attended = False

    def _serve_on(self) -> bool:
        """Serve what has come, and wait for more; false if nothing comes for `LINGER` seconds.

        Another thread may take the turn while this one waits. For each message the turn is given
        up and taken again without leaving the association in order for the lobby, which would
        cost more than the message: this thread is still there to look after it.
        """
        self.serve()
        connection = self._connection
        if self.is_ended or connection is None or self.release_wanted:
            return False
        if self._has_progressed():
            self._last_active = time.monotonic()
        else:
            self._end_if_idle()  # the lobby, which looks for that, does not have it
            if self.is_ended:
                return False
        owner = self._owner
        self._depth, self._owner = 0, None
        self._turn.release()
        # An abort by another thread shuts the socket down, which ends this wait.
        is_readable = connection.linger(LINGER)
        self._turn.acquire()
        self._depth, self._owner = 1, owner
        return is_readable

    def deadline_changed(self) -> None:
        """Count the network timeout anew if the association is waiting in the lobby."""
        if lobby().leave(self):
            with self:
                pass

    def _end_if_idle(self) -> None:
        with self:
            if self.is_ended or self._held:
                return
            if self._has_progressed():
                self._last_active = time.monotonic()
            timeout = self.settings.network_timeout
            if timeout is None or self._last_active + timeout > time.monotonic():
                return  # something came just now, or the program put the deadline off
            self._association.on_network_timeout(
                AssociationTimeout(
                    f"{'next to ' if self._received else ''}nothing for {timeout} s",
                    stage="idle",
                    peer=self.peer,
                )
            )

    # --- The life of the connection ---

    @property
    def is_reporting(self) -> bool:
        """Whether the calling thread is in a handler of what passes on the wire.

        The protocol is in the midst of something then, and can do nothing else but abort.
        """
        return self._reporting > 0 and self.has_turn

    async def connect(self) -> tuple[Any, Any]:
        """Open the connection to `target`; return the addresses of its two ends."""
        assert self.target is not None
        connection = open_connection(self.target, self.settings)
        self.open(connection, lambda: None)
        return connection.local, connection.remote

    def open(self, connection: Connection, on_closed: Callable[[], None]) -> None:
        """Take over a connected socket; `on_closed` is called once it is closed."""
        if self.is_over:  # aborted while it was being connected
            connection.close()
            raise self._ended_failure()
        self.peer = connection.peer
        self._connection = connection
        self._on_closed = on_closed
        self._last_active = time.monotonic()

    def flush(self) -> None:
        """Send what the protocol has to say."""
        data = self.protocol.data_to_send()
        if data:
            self._write(data)

    async def flushed(self) -> None:
        """Send what the protocol has to say."""
        self.flush()

    def flush_now(self) -> None:
        """Send what the protocol has to say as far as that needs no waiting; for farewells."""
        data = self.protocol.data_to_send()
        if data and self._connection is not None:
            with self._writing:
                if not (self._abort_sent or self._mid_write):
                    self._connection.write_now(data)
            self._tell_sent(data)

    def close(self) -> None:
        """Give the socket up: close it, or let it wait for the peer to close (Sta13)."""
        connection = self._connection
        if connection is None:
            return
        self._connection = None
        self.let_go()
        if self.protocol.state is State.AWAITING_CLOSE and not self._abort_wanted:
            connection.close_after_peer(self.settings.close_timeout, self._on_closed)
        else:
            connection.close()
            self._on_closed()

    def _write(self, data: bytes | bytearray | memoryview, more: bool = False) -> None:
        connection = self._connection
        if connection is None or self._abort_wanted:
            raise self._ended_failure()
        meanwhile = self._take_meanwhile if self._exchanges else None
        try:
            with self._writing:
                self._mid_write = True
                try:
                    connection.write(data, self.settings.write_timeout, more, meanwhile)
                finally:
                    self._mid_write = False
        except ConnectionLost:
            self._look_for_abort()
            raise
        except KeyboardInterrupt:
            # Part of the message may have been sent, and nothing else can follow that.
            self.fail(LocalAbort("interrupted while it was sent", self.peer, self.stage))
            raise
        if self._sent_pdus or EVT_DATA_SENT in self.handlers.live:
            self._tell_sent(data)

    def _take_meanwhile(self) -> bool:
        """Take responses while nothing can be sent: the peer may not read on until they are read.

        All else has to wait until what is being sent has been. Returns whether nothing has to.
        """
        if self.protocol.has_events:
            return False  # so that no more is read than one event that waits
        self._read()
        while (event := self.protocol.next_event()) is not None:
            if not _is_response(event):
                self.protocol.put_back(event)
                return False
            self.take(event)
            if self.is_ended:
                raise self._ended_failure()
        return True

    def take_put_back(self) -> None:
        """Take what had to wait until something was sent."""
        while not self.is_ended and (event := self.protocol.next_event()) is not None:
            self.take(event)

    def write_between(self, data: bytes) -> None:
        """Send whole PDUs of data while another thread has the turn, if that is possible."""
        connection = self._connection
        if connection is None or self.is_over:
            return
        with contextlib.suppress(AssociationFailure), self._writing:
            connection.write(data, self.settings.write_timeout)
        if EVT_DATA_SENT in self.handlers.live:
            self.handlers.notify(self._association, EVT_DATA_SENT, {"data": data})
        if EVT_PDU_SENT in self.handlers.live:
            for pdu in unpack_pdus(memoryview(data)):
                self.handlers.notify(self._association, EVT_PDU_SENT, {"pdu": pdu})

    def _look_for_abort(self) -> None:
        """Read on after sending failed: the peer may have said why it is gone."""
        while True:
            event = self.protocol.next_event()
            if event is not None:
                self.take(event)
                self.drop_requests()  # they cannot be answered, and may be many
                if self.is_ended:
                    raise self._ended_failure()
            elif self.protocol.is_over or not self._read():
                return

    def _read(self) -> bool:
        """Read once, without waiting; false if nothing was there."""
        connection = self._connection
        if connection is None:
            raise self._ended_failure()
        if self._buffer is None:
            self._buffer = take_buffer()
        size = connection.read(self._buffer)
        if size is None:
            return False
        if not size:
            if self._abort_wanted:
                raise self._aborted_here()
            self.protocol.connection_lost()
            return True
        self._received += size
        view = memoryview(self._buffer)[:size]
        if EVT_DATA_RECV in self.handlers.live:
            self.tell_received(view)
        self.protocol.receive_data(view)
        return True

    def _read_on(self, until: float) -> bool:
        """Read the rest of a message as it comes; false once that takes longer than `until`.

        To give the turn up and take it again for each piece would cost as much as reading it.
        """
        connection = self._connection
        if connection is None or time.monotonic() >= until:
            return False
        return connection.wait_readable(until) and self._read()

    def _drop_buffer(self) -> None:
        if self._buffer is not None:
            self.protocol.receive_data(b"")
            give_buffer(self._buffer)
            self._buffer = None

    def next_event(self, deadline: float | None, stage: str) -> Event:
        """Return the next event of the protocol, reading as long as it takes.

        Raises
        ------
        AssociationTimeout
            Named `stage`, when `deadline` passes first.
        """
        while True:
            event = self.protocol.next_event()
            if event is not None:
                return event
            connection = self._connection
            if connection is None:
                raise self._ended_failure()
            if self.protocol.state is not State.ESTABLISHED and self.protocol.is_over:
                raise self.closed_by_peer(stage)  # where the protocol has no event for that
            if self.protocol.out:
                self.flush()  # a release that met the peer's has to be answered
            if not connection.wait_readable(deadline):
                raise AssociationTimeout("no answer in time", stage=stage, peer=self.peer)
            self._read()

    async def hear(self, timeout: float | None, stage: str) -> Event:
        """Return the protocol's next event, within `timeout` seconds; see `next_event`."""
        return self.next_event(deadline_after(timeout), stage)

    async def until_ended(self, timeout: float | None, stage: str) -> None:
        """Take in what comes until the association is over; see `next_event`."""
        deadline = deadline_after(timeout)
        while not self.is_ended:
            self.advance(deadline, stage)

    def advance(self, deadline: float | None, stage: str) -> None:
        """Wait for one thing to come in, and take it; see `next_event`."""
        self.take(self.next_event(deadline, stage))

    def look(self) -> None:
        """Take in what has come, without waiting; an end of the association is not raised."""
        try:
            while not self.is_over:
                event = self.protocol.next_event()
                if event is not None:
                    self.take(event)
                elif self._has_enough or not self._read():
                    return
        except AssociationFailure as failure:
            self.fail(failure)

    @property
    def _has_enough(self) -> bool:
        """Whether no more is to be read ahead: whoever was granted a window may send any amount."""
        return bool(self._requests) and self._association.operations_window > 1

    # --- The end ---

    def abort(self) -> None:
        """Abort the association, from any thread and at any moment."""
        if self.without_waiting(self._abort_now):
            return
        self._abort_wanted = True
        connection = self._connection
        if connection is None:
            return
        # Another thread has the turn. An A-ABORT in the middle of its PDU would be noise.
        if self._writing.acquire(timeout=_PATIENCE):
            connection.write_now(_ABORT)
            self._abort_sent = True
            self._writing.release()
        connection.interrupt()

    def _abort_now(self) -> None:
        if not self.is_ended:
            self._association.on_local_abort(self._aborted_here())


def _is_response(event: Event) -> bool:
    """Return whether it is a response that nothing belongs to any more."""
    if not isinstance(event, CommandReceived):
        return False
    return event.message.is_response and not event.message.has_dataset
