"""The port of the threaded face, which blocks: sends and receives messages of one association.

`link` has the turn and the socket; `services` act on the messages.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from dicomwire.data.blocking import run_blocking
from dicomwire.data.sources import BytesSource, Source
from dicomwire.errors import AssociationFailure, LocalProtocolError
from dicomwire.events import EVT_DIMSE_SENT, InterventionEvent
from dicomwire.protocol.command import RESPONSE_BIT, Command, Message
from dicomwire.protocol.dimse import pack_command, pack_small_data
from dicomwire.protocol.states import Role
from dicomwire.services import scp
from dicomwire.services.answers import may_ask
from dicomwire.services.port import END, Incoming, Storer
from dicomwire.session.buffers import BUFFER_SIZE, SENDING_SIZE, give_buffer, take_buffer
from dicomwire.session.intake import Key, LocalAbort
from dicomwire.session.operation import BaseOperation
from dicomwire.session.owner import Owner
from dicomwire.settings import Settings
from dicomwire.threaded.connection import deadline_after
from dicomwire.threaded.link import LINGER, Link

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

_QUICK = 0.0005
_MANY = 16
"""After so many results in a row that took a handler less than `_QUICK` seconds each, several
matches are sent together, since the next ones probably take as little time."""


class ThreadedPort(Link):
    """The association of the threaded face, as services see it (`services.port.Port`)."""

    def __init__(self, association: Owner, role: Role, settings: Settings) -> None:
        super().__init__(association, role, settings)
        self._quick_results = 0  # the handler's last results in a row that took little time
        # Held from the first to the last byte of a message, so that messages are not mixed. Taken
        # after the turn; `threaded.link` has the order.
        self._sending = threading.RLock()
        self._batch = bytearray()  # small messages that are sent together

    def serve(self) -> None:
        """Serve the received requests. A failure ends the association, and is not raised."""
        try:
            self._read()
            until = time.monotonic() + LINGER
            next_event = self.protocol.next_event
            while not self.is_ended:
                if self._requests:
                    self._serve_next()
                    continue
                event = next_event()
                if event is not None:
                    self.take(event)
                elif not (self.protocol.mid_message and self._read_on(until)):
                    return
        except AssociationFailure as failure:
            self.fail(failure)
        except BaseException as error:  # also when a handler calls sys.exit
            self.crash(error)

    def _serve_next(self) -> None:
        incoming = self._requests.popleft()
        self._served = incoming.message
        self._quick_results = 0
        try:
            run_blocking(scp.serve(self, incoming))
        finally:
            self._served = None
            # The network timeout starts anew after a request was served.
            self.is_active |= incoming.service is not None or may_ask(incoming)
            self._cancelled.discard(incoming.message.MessageID)

    # --- services.port.Port ---

    async def send(self, context_id: int, message: Message, source: Source | None = None) -> None:
        """Send `message` and its dataset."""
        self._send(context_id, message, source, together=False)

    async def flushed(self) -> None:
        """Send the bytes that the protocol has ready, and the messages that wait."""
        if self._batch or self.protocol.out:
            self.flush()

    def flush(self) -> None:
        """Send the bytes that the protocol has ready, and the messages that wait."""
        if self._batch:
            batch, self._batch = self._batch, bytearray()
            with self._sending:
                self._write(batch)
        super().flush()

    def close(self) -> None:
        """Discard the messages that wait, and close the socket."""
        self._batch.clear()
        super().close()

    def _send(
        self, context_id: int, message: Message, source: Source | None, together: bool
    ) -> None:
        """Send a message, or keep it to send it `together` with later ones."""
        if self.is_ended or self._abort_wanted:
            raise self._ended_failure()
        if self.protocol.out or (self._batch and not together):
            self.flush()  # such as A-ASSOCIATE-AC, if a handler of EVT_ESTABLISHED sends a message
        if EVT_DIMSE_SENT in self.handlers.live:
            self._notify_message(EVT_DIMSE_SENT, context_id, message)
        protocol = self.protocol
        packed = pack_command(context_id, message, protocol.maximum_length)
        more = self._quick_results > _MANY and _is_match(message)
        if type(source) is BytesSource:
            data = pack_small_data(context_id, source.view, protocol.maximum_length)
            if data is not None:
                packed += data
                source = None
        try:
            with self._sending:
                if source is None:
                    protocol.check_data(packed)
                    if not together:
                        self._write(packed, more)
                        return
                    if self._batch and len(self._batch) + len(packed) > BUFFER_SIZE:
                        self.flush()
                    self._batch += packed
                else:
                    if self._batch:
                        self.flush()
                    self._send_dataset(context_id, packed, source)
        except LocalProtocolError:
            self.process_postponed()
            raise self._ended_failure() from None

    def send_between(self, context_id: int, message: Message) -> None:
        """Send a message without a dataset while another thread has the turn.

        That thread notices if sending fails. Sending data does not change the state of the
        protocol, so the turn is not necessary.
        """
        if EVT_DIMSE_SENT in self.handlers.live:
            self._notify_message(EVT_DIMSE_SENT, context_id, message)
        data = self.protocol.pack(context_id, message)
        with self._sending:
            is_tried = self.write_between(data)
        # Handlers may send something themselves, and would then wait for the turn under a lock
        # that comes after it.
        if is_tried:
            self.report_sent_between(data)

    async def request(
        self,
        context_id: int,
        message: Message,
        source: Source | None = None,
        *,
        join: Operation | None = None,
        more: bool = False,
    ) -> Operation:
        """Send a request, once no similar one is outstanding and the window has room."""
        key = (message.command | RESPONSE_BIT, message.MessageID)
        if self._operations and self.must_wait(key):
            self._wait_for_room(key)
        operation = Operation(self, message) if join is None else join.join()
        self._operations[key] = operation
        try:
            self._send(context_id, message, source, together=more)
        except Exception:  # and not KeyboardInterrupt: the request may be on its way
            if self._operations.pop(key, None) is not None:
                operation.part()
            raise
        if self.protocol.events:
            self.process_postponed()
            self.check()
        return operation

    def _send_dataset(self, context_id: int, packed: bytes, source: Source) -> None:
        """Send a command and its dataset, which is read from `source` piece by piece."""
        buffer = take_buffer(SENDING_SIZE if source.length > BUFFER_SIZE else BUFFER_SIZE)
        has_begun = False
        try:
            packer = self.protocol.packer(memoryview(buffer), context_id, packed)
            sent = 0
            while True:
                gaps = packer.gaps(source.length - sent)
                filled = source.readinto(gaps) if gaps else 0
                sent += filled
                is_last = sent == source.length  # a stream knows its length only at its end
                view = packer.seal(filled, is_last)
                self.protocol.check_data(view)
                has_begun = True
                self._write(view)
                if is_last:
                    return
        except (AssociationFailure, LocalProtocolError):
            raise
        except BaseException as error:  # of the file, or KeyboardInterrupt
            # If part of the message was sent, no other message can follow it.
            if has_begun:
                text = f"a dataset was sent in part: {str(error) or type(error).__name__}"
                self.fail(LocalAbort(text, self.peer))
            raise
        finally:
            give_buffer(buffer)

    def _wait_for_room(self, key: Key) -> None:
        """Wait until a request whose responses have `key` may be sent."""
        deadline = deadline_after(self.settings.dimse_timeout)
        while self.must_wait(key):
            if self._take_in(deadline):
                deadline = deadline_after(self.settings.dimse_timeout)

    def wait_for_response(self, operation: Operation) -> None:
        """Wait for a response, since the queue of `operation` is empty."""
        deadline = deadline_after(self.settings.dimse_timeout)
        while True:
            heard = self._take_in(deadline)
            if operation.responses:
                return
            if heard:
                deadline = deadline_after(self.settings.dimse_timeout)

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
        else:
            self.take(self.next_event(deadline, "response"))
        if self.is_ended:
            raise self._ended_failure()
        return self._restarts_deadline

    async def intervene(self, event: InterventionEvent, attrs: dict[str, Any]) -> Any:
        """Call the handler bound to `event`."""
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

    def cancel_waits(self, message_id: int) -> bool:
        """Return whether a C-CANCEL has arrived and the handler has not looked."""
        self.look()
        return message_id in self._cancelled

    def own_storer(self, reduce: Callable[[Dataset], Dataset] | None = None) -> Storer:
        """Return a storer that sends objects on this association."""
        return self._association.own_storer(reduce)

    async def storer_to(self, title: str, host: str, port: int, options: dict[str, Any]) -> Storer:
        """Return a storer that sends objects to another AE."""
        return await self._association.storer_to(title, host, port, options)

    def is_cancelled(self, message_id: int) -> bool:
        """Return, once, whether the peer cancelled the operation `message_id`."""
        if self.has_turn:
            self.look()
        if message_id in self._cancelled:
            self._cancelled.discard(message_id)
            return True
        return False


def _is_match(message: Message) -> bool:
    return message.command is Command.C_FIND_RSP and message.has_dataset


class Operation(BaseOperation):
    """A request that was sent, and the responses to it."""

    __slots__ = ("_port",)

    def __init__(self, port: ThreadedPort, request: Message) -> None:
        super().__init__(request)
        self._port = port

    async def response(self) -> Incoming:
        """Return the next response, within the DIMSE timeout."""
        if not self.responses:
            self._port.wait_for_response(self)
        return self.responses.popleft()
