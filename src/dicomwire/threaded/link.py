"""One association's protocol and socket, and the turn: the lock with which threads share them.

The thread that holds the turn owns the socket. While no thread holds it, the watcher
watches the socket; when data arrives, a pool thread takes the turn. While a program calls often,
watching pauses. `port` sends and receives messages.

The order of the locks
----------------------
A thread that holds one of these locks takes only locks below it:

1. `Room.lock`: few pool threads serve at the same time.
2. `Link._turn`: the protocol, the socket and all state of one association.
3. `ThreadedPort._sending`: no message begins before the one that is being sent has ended.
4. `Link._writing`: no A-ABORT is written in the midst of another PDU.
5. `_Monitor._condition`: the queues of one `send_many`.
6. `BaseServer._binding`: the handlers of a server and of its associations.
7. `BaseServer._lock`: the connections of one server that have no association yet.
8. `watcher._creation`: no two threads make the watcher.
9. `Watcher._lock`: its selector, heap and watched objects.
10. `Entity._lock`: the associations and servers of an AE.
11. No lock is taken under one of these: `Agreements._lock`, `AssociationServer._changed`,
    `Budget.lock`, `_ClientContext._lock`, `Connection._access`, `Flag._lock`, `Handlers._lock`,
    `Ledger._lock`, `ThreadPool._changed`, `WorkerEnd._lock`.

Handlers of the program run with the turn, and with `_sending` and `_writing` too if responses are
received while a message is being sent. No library code holds a lock from 5 on when it waits for
the peer, or when it calls a handler. `abort` and `send_between` do without the turn: they begin
at `_writing` and at `_sending`. A thread that waits for a `Flag` holds no lock.
"""

from __future__ import annotations

import threading
import time
from abc import abstractmethod
from collections.abc import Callable
from types import TracebackType
from typing import Self

from dicomwire.data.new_files import Buffer
from dicomwire.errors import (
    AbortReason,
    AbortSource,
    AssociationFailure,
    ConnectionLost,
)
from dicomwire.events import EVT_DATA_RECV, EVT_DATA_SENT
from dicomwire.protocol.events import CommandReceived, Event, ReleaseRequested
from dicomwire.protocol.pdu import Abort
from dicomwire.protocol.states import Role, State
from dicomwire.session.agreements import RELEASE
from dicomwire.session.buffers import give_buffer, take_buffer
from dicomwire.session.engine_association import EngineAssociation
from dicomwire.session.intake import LocalAbort
from dicomwire.session.sending import SendingEngine
from dicomwire.settings import Settings
from dicomwire.threaded import threads
from dicomwire.threaded.connection import Connection, deadline_after
from dicomwire.threaded.opening import open_connection
from dicomwire.threaded.places import Place
from dicomwire.threaded.watcher import Watched, watcher

LINGER = 0.05
"""Seconds that a pool thread waits for the next message, before the watcher watches the
socket: longer than the pause of a peer that sends one message after the other."""
_FEW = 4
"""Calls of the program that follow one another within `LINGER` seconds, until watching pauses:
to wake the watcher for the pause takes about as long as removing and adding the socket so often."""
_PAUSE = LINGER / 2
"""Seconds of a pause. It is prolonged while the association is used; so the socket is watched
again at most `LINGER` seconds after its last use."""
_SO_FEW = 1024
"""With fewer bytes since the last message, the rest was probably sent right after them."""
_ABORT_WAIT = 0.1
"""Seconds that an abort waits for another thread to finish sending a PDU: far longer than a peer
that reads lets it take. After that the abort closes the connection without an A-ABORT."""

_ABORT = Abort(AbortSource.SERVICE_USER, AbortReason.NOT_SPECIFIED).encode()


class Link(SendingEngine, Watched):
    """The engine of an association on the threaded face.

    ``with link:`` takes the turn, and may be nested. Call all methods with the turn, except
    `abort`, `without_waiting` and those that the watcher calls.

    Attributes
    ----------
    release_wanted : bool
        Whether the association is to be released when the turn ends.
    """

    def __init__(self, association: EngineAssociation, role: Role, settings: Settings) -> None:
        super().__init__(association, role, settings)
        self.release_wanted = False
        self.ended = threads.Flag()
        self._connection: Connection | None = None
        self._on_closed: Callable[[], None] = lambda: None
        # Guards everything here but what `_writing` guards.
        self._turn = threading.RLock()
        self._depth = 0  # how often the thread with the turn has entered
        self._owner: int | None = None  # the thread that has the turn
        self._place = Place()  # that of the pool thread, while it serves
        self._has_thread = False  # a pool thread waits for the socket, so the watcher does not
        # Held while a PDU is written, so that an abort by another thread does not cut into it.
        self._writing = threading.RLock()
        self._mid_write = False
        self._more_follows = False  # other messages follow the next one at once
        self._abort_sent = False
        self._buffer: bytearray | None = None
        self._has_filled_buffer = False  # whether the last read has filled the buffer
        self._has_read_ahead = False  # `_read` was called for the thread that is going to serve
        self._last_active = time.monotonic()
        self._successive = 0  # calls of the program, each within `LINGER` of the one before

    @abstractmethod
    def serve(self) -> None:
        """Serve the received requests. A failure ends the association, and is not raised."""

    # --- The turn ---

    def __enter__(self) -> Self:
        self._turn.acquire()
        self._depth += 1
        if self._depth == 1:
            self._owner = threading.get_ident()
            if self._is_watched:  # only a thread with the turn adds it, so this is no race
                watcher().remove(self)
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
            self.abort()  # another thread asked for it when it could not get the turn

    def without_waiting(self, action: Callable[[], None]) -> bool:
        """Call `action` with the turn if the turn is free; otherwise return False."""
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
        """Before the turn ends: process received events, and have the socket watched."""
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
        except BaseException as error:  # a handler called sys.exit: no thread would serve it again
            self.crash(error)
            raise
        if not self._is_paused or self._requests:
            self._have_watched()

    def _have_watched(self) -> None:
        """Have the socket watched, or the received requests served, if no thread uses them."""
        if self._is_paused:
            watcher().forget(self)
        if not self._held:
            self._drop_buffer()
        if self._has_progressed():
            now = time.monotonic()
            self._successive = self._successive + 1 if now < self._last_active + LINGER else 0
            self._last_active = now
        connection = self._connection
        if connection is None or self.is_ended or self._has_thread or self._held:
            return
        if self.protocol.state is not State.ESTABLISHED:
            return
        if self._requests or (connection.is_tls and connection.pending()):
            self.begin_serving()
        elif self._successive > _FEW:
            self._successive = 0
            watcher().pause(self, self._last_active + _PAUSE)
        else:
            timeout = self.settings.network_timeout
            watcher().add(self, None if timeout is None else self._last_active + timeout)

    def fileno(self) -> int:
        """Return the socket's file descriptor."""
        assert self._connection is not None
        return self._connection.fileno()

    def on_ready(self) -> None:
        """Complete a release; have a pool thread serve any other data that arrived."""
        if RELEASE.isdisjoint(self.handlers.live) and self._watching(self._look_for_release):
            return
        if watcher().remove(self):
            threads.submit(self._serve_until_idle)

    def _watching(self, action: Callable[[], None]) -> bool:
        """Call `action` on the watcher's thread, with the turn; return false if it is not free."""
        if not self._turn.acquire(blocking=False):
            return False
        self._depth, self._owner = 1, threading.get_ident()
        try:
            action()
        except AssociationFailure as failure:
            self.fail(failure)
        except BaseException as error:
            self.crash(error)
        finally:
            if self.is_ended:
                self._drop_buffer()
            self._depth, self._owner = 0, None
            self._turn.release()
        if self._abort_wanted and not self.is_ended:
            self.abort()  # another thread asked for it when it could not get the turn
        return True

    def _look_for_release(self) -> None:
        """Read what arrived, and complete the release that it requests (on the watcher's thread).

        No handler is bound to the events of a release, so nothing here waits for the program. The
        pool thread that serves anything else begins with the bytes that were read.
        """
        if not self._is_watched or self._connection is None:
            return  # another thread had the turn meanwhile
        if not self._connection.is_tls and self._read():
            event = self.protocol.next_event()
            if isinstance(event, ReleaseRequested):
                self.take(event)
                return
            if event is not None:
                self.protocol.put_back(event)
            self._has_read_ahead = True
        if watcher().remove(self):
            self.begin_serving()

    def on_deadline(self) -> None:
        """Have a pool thread check whether the network timeout has passed; or end a pause."""
        if watcher().remove(self):
            threads.submit(self._end_if_idle)
        elif not self._watching(self._end_pause):
            watcher().prolong(self, time.monotonic() + _PAUSE)  # another thread has the turn

    def _end_pause(self) -> None:
        """Have the socket watched, unless the program has used it since the pause began."""
        if not self._is_paused:
            return  # another thread had the turn meanwhile
        if self._has_progressed():
            self._last_active = time.monotonic()
            watcher().prolong(self, self._last_active + _PAUSE)
        else:
            self._have_watched()

    def on_gone(self) -> None:
        """Have a pool thread end the association: the program closed its socket."""
        if self._connection is not None:
            self._connection.disown()
        threads.submit(self._end_as_gone)

    def _end_as_gone(self) -> None:
        with self:
            self.fail(ConnectionLost("its socket was closed", stage=self.stage, peer=self.peer))

    def call_soon(self, call: Callable[[], object]) -> None:
        watcher().call(call)

    def _restart_idle_deadline(self) -> None:
        self._last_active = time.monotonic()

    def begin_serving(self) -> None:
        """Have a pool thread serve the association from now on."""
        self._has_thread = True
        threads.submit(self._serve_until_idle)

    def _serve_until_idle(self) -> None:
        """Serve as long as messages arrive, then have the socket watched again."""
        self._has_thread = True
        self._place.take(self.opened)
        with self:
            try:
                while self._serve_on():
                    pass
            finally:
                self._place.leave()
                self._has_thread = False

    def _serve_on(self) -> bool:
        """Serve received messages and wait for more; false if none arrive for `LINGER` seconds.

        This thread waits without the turn, so that others can take it. It releases and acquires
        the lock itself: `__exit__` and `__enter__` would add the socket to the watcher and
        remove it for each message, which takes longer than the message.
        """
        self.serve()
        connection = self._connection
        if self.is_ended or connection is None or self.release_wanted:
            return False
        if self.is_active or self._has_progressed():
            self.is_active, self._received = False, 0
            self._last_active = time.monotonic()
        else:
            self._end_if_idle()  # the watcher does not check its deadline meanwhile
            if self.is_ended:
                return False
        owner = self._owner
        self._depth, self._owner = 0, None
        self._turn.release()
        self._place.leave()
        # Data from the peer ends this wait, or an abort elsewhere, which shuts the socket down.
        try:
            return connection.linger(LINGER)
        finally:
            self._place.take(self.opened)
            self._turn.acquire()
            self._depth, self._owner = 1, owner

    def deadline_changed(self) -> None:
        """Compute the network deadline again if the socket is watched."""
        if watcher().remove(self):
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
                return  # a message arrived just now, or the program made the timeout longer
            self._end_as_idle(timeout)

    # --- The life of the connection ---

    @property
    def is_reporting(self) -> bool:
        """Whether the calling thread is in a handler that may only abort the association.

        It reports PDUs, bytes or state transitions, so that the protocol is in the middle of a
        step; or a response that arrived in the middle of a message that is being sent.
        """
        return self.reporting > 0 and self.has_turn

    async def connect(self) -> None:
        """Open the connection to `target`."""
        assert self.target is not None
        self.open(open_connection(self.target, self.settings), lambda: None)

    def open(self, connection: Connection, on_closed: Callable[[], None]) -> None:
        """Take over a connected socket; `on_closed` is called once it is closed."""
        if self.is_over:  # aborted while it was being connected
            connection.close()
            raise self._ended_failure()
        self.local, self.remote, self.peer = connection.local, connection.remote, connection.peer
        self._connection = connection
        self.opened = connection.opened
        self._on_closed = on_closed
        self._last_active = time.monotonic()

    def flush_now(self) -> None:
        """Send as many bytes of the last PDU as the socket takes without waiting."""
        data = self.protocol.data_to_send()
        if data and self._connection is not None:
            with self._writing:
                if not (self._abort_sent or self._mid_write):
                    self._connection.write_now(data)
            self._report_sent(data)

    def send_at_once(self, data: bytes) -> None:
        """Send the first bytes of a connection, which its socket takes without waiting."""
        assert self._connection is not None
        if self._connection.write_now(data) < len(data):
            raise ConnectionLost("the answer could not be sent", stage=self.stage, peer=self.peer)

    def close(self) -> None:
        """Close the socket, or have the watcher close it once the peer has (Sta13)."""
        connection = self._connection
        self._batch.clear()
        if connection is None:
            return
        if self._is_paused:
            watcher().forget(self)
        self._connection = None
        self.discard_received()
        if self.protocol.state is State.AWAITING_CLOSE and not self._abort_wanted:
            connection.close_after_peer(self.settings.close_timeout, self._on_closed, self)
        else:
            watcher().remove(self)
            connection.close()
            self._on_closed()

    async def _until_written(self) -> None:
        """Nothing: `write` has waited."""

    def write(self, data: Buffer) -> None:
        connection = self._connection
        if connection is None or self._abort_wanted:
            raise self._ended_failure()
        more, self._more_follows = self._more_follows, False
        meanwhile = self._take_meanwhile if self._operations else None
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
            # If part of the message was sent, no other message can follow it.
            self.fail(LocalAbort("interrupted while it was sent", self.peer, self.stage))
            raise
        if self._sent_pdus or EVT_DATA_SENT in self.handlers.live:
            self._report_sent(data)

    def _take_meanwhile(self) -> bool:
        """Process responses while the socket takes no more bytes.

        The peer may read no more before its responses are read. Any other message stays in the
        protocol until the current message is sent: false then, and nothing more is read.
        """
        if self.protocol.events:
            return False  # so that at most one event waits
        self._read()
        while (event := self.protocol.next_event()) is not None:
            if not _is_response(event):
                self.protocol.put_back(event)
                return False
            self.reporting += 1  # its handlers must not send a message within this one
            try:
                self.take(event)
            finally:
                self.reporting -= 1
            if self.is_ended:
                raise self._ended_failure()
        return True

    def process_postponed(self) -> None:
        """Process the events that waited until a message was sent."""
        while not self.is_ended and (event := self.protocol.next_event()) is not None:
            self.take(event)

    def _look_for_abort(self) -> None:
        """Read on after sending failed: the peer may have sent an A-ABORT with the reason."""
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
        """Read once, without waiting; false if no data was available."""
        connection = self._connection
        if connection is None:
            raise self._ended_failure()
        if self._has_read_ahead:
            self._has_read_ahead = False
            return True
        if self._buffer is None:
            self._buffer = take_buffer()
        held = self.protocol.held
        start = len(held)
        size = connection.read(memoryview(self._buffer)[start:] if start else self._buffer)
        if size is None:
            return False
        if not size:
            if self._abort_wanted:
                raise self._aborted_here()
            self.protocol.connection_lost()
            return True
        self._received += size
        self._buffer[:start] = held
        view = memoryview(self._buffer)[: start + size]
        self._has_filled_buffer = len(view) == len(self._buffer)
        if EVT_DATA_RECV in self.handlers.live:
            self.report_received(view[start:])
        self.protocol.receive_data(view, begins_with_held=True)
        return True

    def _read_on(self, until: float) -> bool:
        """Wait for more of a message, and read it; false if none arrives before `until`.

        Keeps the turn: to release and take it for each read would take as long as the read.
        """
        connection = self._connection
        if connection is None or time.monotonic() >= until:
            return False
        # After a full buffer, the headers of a PDU or a command, more has probably arrived already.
        if (self._has_filled_buffer or self._received < _SO_FEW) and self._read():
            return True
        self._place.leave()
        return connection.wait_readable(until) and self._read()

    def _drop_buffer(self) -> None:
        if self._buffer is not None:
            self.protocol.receive_data(b"")
            give_buffer(self._buffer)
            self._buffer = None

    def next_event(self, deadline: float | None, stage: str) -> Event:
        """Return the next event of the protocol; read until there is one.

        Data from the peer ends the wait, or `abort` on another thread: it shuts the socket down.
        If `deadline` passes first, AssociationTimeout is raised, named `stage`.
        """
        while True:
            event = self.protocol.next_event()
            if event is not None:
                return event
            connection = self._connection
            if connection is None:
                raise self._ended_failure()
            if self.protocol.state is not State.ESTABLISHED and self.protocol.is_over:
                raise self.closed_by_peer(stage)  # closed in a state without an event for it
            if self.protocol.out:
                self.flush()  # the answer to the peer's release request, if both asked at once
            if not connection.wait_readable(deadline):
                raise self._no_answer(stage)
            self._read()

    async def receive_event(self, timeout: float | None, stage: str) -> Event:
        """Return the protocol's next event, within `timeout` seconds; see `next_event`."""
        return self.next_event(deadline_after(timeout), stage)

    async def until_ended(self, timeout: float | None, stage: str) -> None:
        """Process events until the association is over; see `next_event`."""
        deadline = deadline_after(timeout)
        while not self.is_ended:
            self.advance(deadline, stage)

    def advance(self, deadline: float | None, stage: str) -> None:
        """Wait for one event and process it; see `next_event`."""
        self.take(self.next_event(deadline, stage))

    # --- The end ---

    def abort(self) -> None:
        """Abort the association, from any thread and at any moment."""
        if self.without_waiting(self._abort_now):
            return
        self._abort_wanted = True
        connection = self._connection
        if connection is None:
            return
        # Another thread has the turn. The peer could not read an A-ABORT in the middle of its PDU.
        # That thread releases `_writing` after the PDU.
        if self._writing.acquire(timeout=_ABORT_WAIT):
            connection.write_now(_ABORT)
            self._abort_sent = True
            self._writing.release()
        connection.interrupt()

    def end(self) -> None:
        """Note that the association is over, and wake all that wait for its end."""
        super().end()
        self.ended.set()


def _is_response(event: Event) -> bool:
    """Return whether the event is a complete response: a command without a dataset."""
    if not isinstance(event, CommandReceived):
        return False
    return event.message.is_response and not event.message.has_dataset
