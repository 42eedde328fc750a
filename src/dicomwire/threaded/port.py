"""The port of the threaded face, which blocks: serves requests, and waits for responses.

`session.sending` sends messages; `link` has the turn and the socket.
"""

from __future__ import annotations

import contextlib
import threading
import time
from typing import Any

from dicomwire.data.blocking import run_blocking
from dicomwire.data.sources import Data, Source
from dicomwire.errors import AssociationFailure
from dicomwire.events import EVT_DATA_SENT, EVT_DIMSE_SENT, EVT_PDU_SENT, InterventionEvent
from dicomwire.protocol.command import Command, Message
from dicomwire.protocol.dimse import unpack_pdus
from dicomwire.protocol.events import CommandReceived
from dicomwire.protocol.states import Role
from dicomwire.services import scp
from dicomwire.services.answers import may_ask
from dicomwire.services.port import END, Incoming
from dicomwire.session.buffers import take_buffer
from dicomwire.session.engine_association import EngineAssociation
from dicomwire.session.intake import OperationKey
from dicomwire.session.operation import Operation
from dicomwire.session.sending import Begun
from dicomwire.settings import Settings
from dicomwire.threaded.connection import deadline_after
from dicomwire.threaded.link import LINGER, Link

_QUICK = 0.0005
_MANY = 16
"""After so many results in a row that took a handler less than `_QUICK` seconds each, several
matches are sent together, since the next ones probably take as little time."""


class ThreadedPort(Link):
    """The association of the threaded face, as services see it (`services.port.Port`)."""

    compares_responses = True

    collects_responses = True

    def __init__(self, association: EngineAssociation, role: Role, settings: Settings) -> None:
        super().__init__(association, role, settings)
        self._quick_results = 0  # the handler's last results in a row that took little time
        # Held from the first to the last byte of a message that is written in pieces, so that no
        # other is written between them. Taken after the turn; `threaded.link` has the order.
        self._sending = threading.RLock()

    def serve(self) -> None:
        """Serve the received requests. A failure ends the association, and is not raised."""
        try:
            self._read()
            until = None
            next_event = self.protocol.next_event
            while not self.is_ended:
                if self._requests:
                    self._serve_next()
                    continue
                event = next_event()
                if isinstance(event, CommandReceived):
                    self._take_command(event)
                    continue
                if event is not None:
                    if self._batch:
                        self.flush()
                    self.take(event)
                    continue
                if self._batch:  # responses
                    batch, self._batch = self._batch, bytearray()
                    self.write(batch)
                if not self.protocol.mid_message:
                    return
                if until is None:
                    until = time.monotonic() + LINGER
                if not self._read_on(until):
                    return
        except AssociationFailure as failure:
            self.fail(failure)
        except BaseException as error:  # also when a handler calls sys.exit
            self.crash(error)

    def _serve_next(self) -> None:
        incoming = self._requests.popleft()
        try:
            service = incoming.service
            is_plain = service is not None and service[0] is scp.succeed
            if is_plain and incoming.refusal is None and self.succeed_at_once(incoming):
                incoming.discard()
            else:
                self._serve(incoming)
        finally:
            # The network timeout starts anew after a request was served.
            self.is_active |= incoming.service is not None or may_ask(incoming)
            self._cancelled.discard(incoming.message.MessageID)

    def _serve(self, incoming: Incoming) -> None:
        self._served = incoming
        self._quick_results = 0
        try:
            run_blocking(scp.serve(self, incoming))
        finally:
            self._served = None

    def respond_early(self) -> bool:
        """Send the response of the running handler's request; see `Association.respond_early`."""
        incoming, connection = self._served, self._connection
        if incoming is None or connection is None or connection.is_tls:
            return False
        if self._batch or not self.is_unobserved():
            return False
        packed = self._packed_success(incoming)
        if packed is None or not self._writing.acquire(blocking=False):
            return False
        try:
            sent = connection.write_now(packed)
        finally:
            self._writing.release()
        if 0 < sent < len(packed):
            connection.interrupt()  # the peer has left many responses unread; nothing can follow
        incoming.is_answered = sent > 0
        return incoming.is_answered

    # --- Sending ---

    async def send(self, context_id: int, message: Message, data: Data | None = None) -> None:
        """Send `message` and its dataset."""
        if self._quick_results > _MANY:
            self._more_follows = message.command is Command.C_FIND_RSP and message.has_dataset
        await self._send(context_id, message, data, more=False)

    async def _send_dataset(self, context_id: int, packed: bytes, source: Source | Begun) -> None:
        with self._sending:
            await super()._send_dataset(context_id, packed, source)

    def send_between(self, context_id: int, message: Message) -> None:
        """Send a message without a dataset while another thread has the turn.

        That thread notices if sending fails. Sending data does not change the state of the
        protocol, so the turn is not necessary.
        """
        if EVT_DIMSE_SENT in self.handlers.live:
            self._notify_message(EVT_DIMSE_SENT, context_id, message)
        data = self.protocol.pack(context_id, message)
        with self._sending:
            is_tried = self._write_between(data)
        # Handlers may send something themselves, and would then wait for the turn under a lock
        # that comes after it.
        if is_tried:
            self._report_sent_between(data)

    def _write_between(self, data: bytes) -> bool:
        """Send whole P-DATA-TF PDUs while another thread has the turn.

        Returns whether there was a connection to send on.
        """
        connection = self._connection
        if connection is None or self.is_over:
            return False
        with contextlib.suppress(AssociationFailure), self._writing:
            connection.write(data, self.settings.write_timeout)
        return True

    def _report_sent_between(self, data: bytes) -> None:
        """Tell of PDUs that `_write_between` has sent, without the turn."""
        if EVT_DATA_SENT in self.handlers.live:
            self.handlers.notify(self._association, EVT_DATA_SENT, {"data": data})
        if EVT_PDU_SENT in self.handlers.live:
            for pdu in unpack_pdus(memoryview(data)):
                self.handlers.notify(self._association, EVT_PDU_SENT, {"pdu": pdu})

    async def _until_room(self, key: OperationKey) -> None:
        deadline = deadline_after(self.settings.dimse_timeout)
        while self.must_wait(key):
            if self._take_in(deadline):
                deadline = deadline_after(self.settings.dimse_timeout)

    async def wait_for_response(self, operation: Operation) -> None:
        """Wait for a response, since the queue of `operation` is empty."""
        deadline = operation.deadline or deadline_after(self.settings.dimse_timeout)
        operation.deadline = None
        while True:
            restarts = self._take_in(deadline)
            if operation.responses:
                return
            if restarts:
                deadline = deadline_after(self.settings.dimse_timeout)

    async def answers_as(self, expected: bytes, operation: Operation) -> bool:
        """Wait for bytes of the peer; return whether they are `expected`."""
        if self.receive_usual(expected):
            return True
        operation.deadline = self.response_deadline
        return False

    def begin_usual(self) -> bool:
        """Take the turn, unless another thread has it, or the watcher watches the socket."""
        if not self._turn.acquire(blocking=False):
            return False
        if self._depth or self._is_watched or not self.is_unobserved(0):
            self._turn.release()
            return False
        self._depth, self._owner = 1, threading.get_ident()
        return True

    def receive_usual(self, expected: bytes) -> bool:
        """Wait for the response; return whether it is `expected`; leave another to the protocol."""
        received, size = self.receive()
        if size == len(expected) and received.startswith(expected):
            self.is_active = True
            return True
        self.leave(0, size)
        return False

    def end_usual(self) -> None:
        """Give the turn back; see `__exit__`."""
        self._depth, self._owner = 0, None
        self._turn.release()
        if self._abort_wanted and not self.is_ended:
            self.abort()  # another thread asked for it when it could not get the turn

    def receive(self) -> tuple[bytearray, int]:
        """Wait for data, since a response is expected; see `SendingEngine.receive`."""
        connection = self._connection
        if connection is None:
            raise self._ended_failure()
        self.response_deadline = deadline_after(self.settings.dimse_timeout)
        if not connection.wait_readable(self.response_deadline):
            raise self._no_answer("response")
        if self._buffer is None:
            self._buffer = take_buffer()
        return self._buffer, connection.read(self._buffer) or 0

    def leave(self, at: int, size: int) -> None:
        """Give the protocol the bytes of the buffer from `at` to `size`."""
        if at < size:
            assert self._buffer is not None
            self.protocol.receive_data(memoryview(self._buffer)[at:size])

    def _take_in(self, deadline: float | None) -> bool:
        """Serve a waiting request (C-GET needs that), or wait for one event and process it.

        Returns whether a message restarts the response deadline: not a part of a message, nor a
        request that the peer has no role for. Data from the peer ends the wait, or an abort.
        """
        if self._batch:
            self.flush()
        self._restarts_deadline = False
        # Not within a handler: two handlers of one association never run at the same time.
        if self._requests and self._served is None:
            self._restarts_deadline = may_ask(self._requests[0])
            self._serve_next()
            if self._batch:
                self.flush()
        else:
            self.take(self.next_event(deadline, "response"))
        if self.is_ended:
            raise self._ended_failure()
        return self._restarts_deadline

    def look(self) -> None:
        """Process what has arrived, without waiting. The end of the association is not raised."""
        try:
            while self.has_turn and not self.is_over:
                event = self.protocol.next_event()
                if event is not None:
                    self.take(event)
                elif self._has_enough or not self._read():
                    return
        except AssociationFailure as failure:
            self.fail(failure)

    @property
    def _has_enough(self) -> bool:
        """Whether to stop reading ahead: a peer with a window may send any number of requests."""
        return bool(self._requests) and self._association.operations_window > 1

    # --- Handlers ---

    async def intervene(self, event: InterventionEvent, attrs: dict[str, Any]) -> Any:
        """Call the handler bound to `event`; neither earlier responses nor others wait for it."""
        self._place.leave()
        if self._batch:
            self.flush()
        answer = self.handlers.intervene(self._association, event, attrs)
        if self.is_ended or self._abort_wanted:
            raise self._ended_failure()
        return answer

    def iterate(self, answer: Any) -> Any:
        """Return an iterator over the result of a handler."""
        return iter(answer)

    async def next_result(self, results: Any) -> Any:
        """Return the next result of a handler, or END."""
        begun = time.perf_counter()
        result = next(results, END)
        quick = time.perf_counter() - begun < _QUICK
        self._quick_results = self._quick_results + 1 if quick else 0
        return result

    async def close_results(self, results: Any) -> None:
        """Close the generator of a handler, if it still runs."""
        close = getattr(results, "close", None)
        if close is not None:
            close()
