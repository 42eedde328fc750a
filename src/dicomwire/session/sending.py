"""Sends the messages of an association, on either face: packs them, and reads their datasets.

Each face writes bytes and waits in its own way. `requests` chooses contexts and opens objects.
"""

from __future__ import annotations

import inspect
import logging
from abc import abstractmethod
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, Self

from dicomwire import events as evt
from dicomwire.data.new_files import Buffer
from dicomwire.data.sources import BytesSource, Data, Source
from dicomwire.errors import AssociationFailure, LocalProtocolError
from dicomwire.logs import LOGGER
from dicomwire.protocol.command import RESPONSE_BIT, Message
from dicomwire.protocol.dimse import pack_command, pack_small_data
from dicomwire.protocol.exchanges import pack_success
from dicomwire.protocol.states import Role, State
from dicomwire.services import scu
from dicomwire.services.answers import SUCCESS, answer, respond
from dicomwire.services.port import Incoming
from dicomwire.session.buffers import BUFFER_SIZE, give_buffer, take_buffer
from dicomwire.session.engine_association import EngineAssociation
from dicomwire.session.intake import Engine, LocalAbort, OperationKey
from dicomwire.session.operation import Operation
from dicomwire.settings import Settings

_OF_MESSAGES: frozenset[evt.EventType] = frozenset(
    (
        *(evt.EVT_DIMSE_SENT, evt.EVT_DIMSE_RECV, evt.EVT_PDU_SENT, evt.EVT_PDU_RECV),
        *(evt.EVT_DATA_SENT, evt.EVT_DATA_RECV, evt.EVT_FSM_TRANSITION),
    )
)
"""The events that tell of each message, PDU or read. Dumps are handlers of these, too."""
_MANY_RESPONSES = {command | RESPONSE_BIT for command in scu.OF_MANY_RESPONSES}


class Begun:
    """A message with a large dataset, in the buffer from which it is sent.

    Attributes
    ----------
    filled : int or None
        The bytes of the dataset that have been read into the buffer; None if it is empty.
    """

    __slots__ = ("buffer", "filled", "packer", "source")

    def __init__(
        self, sender: SendingEngine, context_id: int, packed: bytes, source: Source
    ) -> None:
        self.source = source
        self.buffer = take_buffer()
        self.packer = sender.protocol.packer(memoryview(self.buffer), context_id, packed)
        self.filled: Any = None  # or an awaitable of it

    @property
    def length(self) -> int:
        """The number of bytes of the dataset."""
        return self.source.length


class SendingEngine(Engine):
    """The engine of an association, with the messages that it sends.

    ``with sender:`` is for a request and its responses. On the threaded face, the block has the
    turn; on the asyncio face, cancelling the task in the block aborts the association.
    """

    operation_class: type[Operation] = Operation
    """The class of the operations of the face."""
    response_deadline: float | None = None
    """When a response must be there, from the last `receive` on."""
    compares_responses = False
    """Whether the face has `receive` and `leave`, and the turn keeps other messages away."""
    collects_responses = False
    """Whether the face flushes when it has served the requests that have arrived."""

    def __init__(self, association: EngineAssociation, role: Role, settings: Settings) -> None:
        super().__init__(association, role, settings)
        self._batch = bytearray()  # complete messages that are written together
        # A copy of `EngineAssociation.own_window`, from its first use on.
        self._own_window: int | None = None

    # --- Implemented by each face ---

    @abstractmethod
    def __enter__(self) -> Self:
        """Begin a request."""

    @abstractmethod
    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End a request."""

    @abstractmethod
    def write(self, data: Buffer) -> None:
        """Write bytes to the connection. They must not change before `_until_written` returns."""

    @abstractmethod
    async def _until_written(self) -> None:
        """Wait until all written bytes were sent."""

    @abstractmethod
    async def _until_room(self, key: OperationKey) -> None:
        """Wait until `must_wait` is false for a request whose responses have `key`."""

    @abstractmethod
    async def wait_for_response(self, operation: Any) -> None:
        """Wait until `operation` has a response, within the DIMSE timeout."""

    @abstractmethod
    async def answers_as(self, expected: bytes, operation: Any) -> bool:
        """Wait for bytes of the peer; return whether they are `expected`, and nothing more.

        The protocol has all others, and `wait_for_response` waits on for the response.
        """

    @abstractmethod
    def call_soon(self, call: Callable[[], object]) -> None:
        """Have `call` called soon. Takes no lock of ours, so that `__del__` may use it."""

    @abstractmethod
    def _restart_idle_deadline(self) -> None:
        """Compute the network deadline from now on."""

    def process_postponed(self) -> None:
        """Process the events that waited until a message was sent."""

    # --- The network timeout while a program takes results ---

    def hold(self) -> None:
        """Suspend the network timeout while the program takes results one by one."""
        self._held += 1

    def unhold(self) -> None:
        """Undo one `hold`: the program has taken the results. The network timeout starts anew."""
        self._held -= 1
        self._restart_idle_deadline()

    # --- services.port.Port ---

    async def send(self, context_id: int, message: Message, data: Data | None = None) -> None:
        """Send `message` and its dataset."""
        await self._send(context_id, message, data, more=False)

    async def succeed(self, incoming: Incoming) -> None:
        """Answer a C-STORE or C-ECHO with the status 0x0000, and log that, as `respond` does.

        No `Message` is made of the response, unless somebody looks at it.
        """
        packed = self._packed_success(incoming)
        if packed is None:
            await respond(self, incoming, answer(incoming.message, SUCCESS))
        elif not (
            self.is_ended
            or self._abort_wanted
            or (self.collects_responses and self._collect(packed))
        ):
            await self._send(incoming.context.context_id, packed, None, more=False)

    def succeed_at_once(self, incoming: Incoming) -> bool:
        """Do the same, if the response can be sent together with others; return whether it can."""
        packed = self._packed_success(incoming)
        return packed is not None and self._collect(packed)

    def _packed_success(self, incoming: Incoming) -> bytes | None:
        """Return the response with the status 0x0000; None if it is unusual, or looked at."""
        if evt.EVT_DIMSE_SENT in self.handlers.live or LOGGER.isEnabledFor(logging.INFO):
            return None
        context_id = incoming.context.context_id
        return pack_success(context_id, incoming.message, self.protocol.maximum_length)

    def _collect(self, packed: bytes) -> bool:
        """Put a response to those that are sent together; return whether that is possible."""
        protocol = self.protocol
        if (
            protocol.state is not State.ESTABLISHED
            or protocol.observer is not None
            or len(self._batch) >= BUFFER_SIZE
        ):
            return False
        self._batch += packed
        return True

    async def flushed(self) -> None:
        """Send the bytes that the protocol has ready, and the messages that wait."""
        self.flush()
        await self._until_written()

    async def request(
        self,
        context_id: int,
        message: Message,
        data: Data | Begun | None = None,
        *,
        join: Any = None,
        more: bool = False,
    ) -> Operation:
        """Send a request, once no similar one is outstanding and the window has room."""
        key = (message.command | RESPONSE_BIT, message.MessageID)
        if self._operations and self.must_wait(key):
            await self._until_room(key)
        operation: Operation = self.operation_class(self, message) if join is None else join.join()
        await self._begin(key, operation, self._send(context_id, message, data, more=more))
        return operation

    async def _begin(
        self, key: OperationKey, operation: Operation, sending: Awaitable[None]
    ) -> None:
        """Send a request of `operation`, whose responses have `key`."""
        self._operations[key] = operation
        try:
            await sending
        except BaseException as error:
            # After a KeyboardInterrupt, the request may be on its way: its response is expected.
            is_sent = isinstance(error, KeyboardInterrupt)
            if not is_sent and self._operations.pop(key, None) is not None:
                operation.withdraw()
            raise
        if self.protocol.events:
            self.process_postponed()
            self.check()

    def must_wait(self, key: OperationKey) -> bool:
        """Whether a request must wait: one like it is outstanding, or the window is full."""
        other = self._operations.get(key)
        return (other is not None and not other.is_over) or self._window_is_full

    @property
    def _window_is_full(self) -> bool:
        """Whether as many requests are outstanding as were negotiated (PS3.7 Annex D.3.3.3).

        Operations with many responses do not count: the program may send a request between two
        of them, and would wait for itself. Within a handler the window is never full: the
        responses may be waiting for the handler to end.
        """
        if not self._operations or self._served is not None:
            return False
        if self._own_window is None:  # it was negotiated before the first request
            self._own_window = self._association.own_window
        window = self._own_window
        if not window or len(self._operations) < window:
            return False
        outstanding = sum(command not in _MANY_RESPONSES for command, _ in self._operations)
        return outstanding >= window

    # --- Usual requests and responses, which do not become messages ---

    def is_unobserved(self, outstanding: int | None = None) -> bool:
        """Return whether usual messages may pass without the protocol: nobody sees them.

        No request waits, and none is outstanding but the `outstanding` ones of the caller. With the
        turn, that can change only by what is received, or by a call of the program.
        """
        return (
            (outstanding is None or len(self._operations) == outstanding)
            and self.protocol.is_at_rest
            and not (self._requests or self._abort_wanted or self.is_ended)
            and _OF_MESSAGES.isdisjoint(self.handlers.live)
        )

    async def request_packed(
        self,
        key: OperationKey,
        operation: Operation,
        context_id: int,
        packed: bytes,
        source: Source | Begun | None,
        more: bool,
    ) -> None:
        """Send one more request for `operation`, which is packed, with its dataset from `source`.

        Only while `is_unobserved`, and if the window has room.
        """
        sending = self._send_packed(context_id, packed, source, more=more)
        await self._begin(key, operation.join(), sending)

    def collect_usual(self, key: OperationKey, operation: Operation, packed: bytes) -> bool:
        """Have `flushed` send one more request for `operation`; return false if it does not fit.

        Only while `is_unobserved`, and if the window has room.
        """
        if len(self._batch) + len(packed) > BUFFER_SIZE:
            return False
        self._operations[key] = operation.join()
        self._batch += packed
        return True

    def begin_usual(self) -> bool:
        """Take the turn for a usual request; return whether it may pass without the protocol."""
        return False

    def receive_usual(self, expected: bytes) -> bool:
        """Wait for the response; return whether it is `expected`. Any other is left to `leave`."""
        raise NotImplementedError

    def end_usual(self) -> None:
        """Give the turn back."""
        raise NotImplementedError

    def receive(self) -> tuple[bytearray, int]:
        """Wait for data within the DIMSE timeout; return the buffer, and how many bytes it holds.

        The protocol has not seen these bytes; `leave` gives it those that the caller does not use.
        0 if there are none for the caller: the protocol has them, or the end of the connection.
        """
        raise NotImplementedError

    def leave(self, at: int, size: int) -> None:
        """Give the protocol the bytes of the buffer from `at` to `size`."""
        raise NotImplementedError

    async def exchange(self, request: Message, packed: bytes, expected: bytes) -> Operation | None:
        """Send a usual request and wait; None if the response is `expected`, else the operation.

        Only while `is_unobserved`, and if no other request is outstanding.
        """
        operation = self.operation_class(self, request)
        key = (request.command | RESPONSE_BIT, request.MessageID)
        self._operations[key] = operation
        self.write(packed)
        if not await self.answers_as(expected, operation):
            return operation
        del self._operations[key]
        return None

    def expect(self, key: OperationKey, operation: Operation) -> None:
        """Note that one more response of `operation` is expected."""
        self._operations[key] = operation.join()

    def answered(self, key: OperationKey, operation: Operation) -> None:
        """Note that a response of `operation` has arrived, without putting it into its queue."""
        del self._operations[key]
        operation.withdraw()
        self.is_active = True

    # --- One message ---

    async def _send(
        self, context_id: int, message: Message | bytes, data: Data | Begun | None, *, more: bool
    ) -> None:
        """Send a message, which may be packed. With `more`, it may wait for later ones."""
        if self.is_ended or self._abort_wanted:
            raise self._ended_failure()
        protocol = self.protocol
        if protocol.out or (self._batch and not more):
            self.flush()  # such as A-ASSOCIATE-AC, if a handler of EVT_ESTABLISHED sends a message
        if isinstance(message, bytes):
            packed = message
        else:
            if evt.EVT_DIMSE_SENT in self.handlers.live:
                self._notify_message(evt.EVT_DIMSE_SENT, context_id, message)
            packed = pack_command(context_id, message, protocol.maximum_length)
        source: Source | Begun | None = None
        if isinstance(data, Buffer):
            small = pack_small_data(context_id, data, protocol.maximum_length)
            if small is None:
                source = BytesSource(data)
            else:
                packed += small
        else:
            source = data
        await self._send_packed(context_id, packed, source, more=more)

    async def _send_packed(
        self, context_id: int, packed: bytes, source: Source | Begun | None, *, more: bool
    ) -> None:
        """Send a message that is packed, with its dataset from `source` if it is large."""
        protocol = self.protocol
        try:
            if source is not None:
                if self._batch:
                    self.flush()
                await self._send_dataset(context_id, packed, source)
                return
            if protocol.state is not State.ESTABLISHED or protocol.observer is not None:
                protocol.check_data(packed)
            if not more:
                self.write(packed)
                return
            if self._batch and len(self._batch) + len(packed) > BUFFER_SIZE:
                self.flush()
            self._batch += packed
        except LocalProtocolError:  # the state does not allow data: the peer ends the association
            self.process_postponed()
            raise self._ended_failure() from None

    def flush(self) -> None:
        """Write the messages that wait, and the bytes that the protocol has ready."""
        if self._batch:
            self._write_batch()
        data = self.protocol.data_to_send()
        if data:
            self.write(data)

    def _write_batch(self) -> None:
        """Write the messages that wait to be written together."""
        batch, self._batch = self._batch, bytearray()
        self.write(batch)

    def read_ahead(self, context_id: int, packed: bytes, source: Source) -> Begun:
        """Read the first bytes of a dataset before its message is sent; OSError or EOFError.

        Give the result to `request` in place of the dataset, with the message that is `packed`.
        """
        begun = Begun(self, context_id, packed, source)
        begun.filled = source.readinto(begun.packer.gaps(source.length))
        return begun

    async def _send_dataset(self, context_id: int, packed: bytes, source: Source | Begun) -> None:
        """Send a command and its dataset, which is read from `source` piece by piece."""
        begun = source if isinstance(source, Begun) else Begun(self, context_id, packed, source)
        source, filled = begun.source, begun.filled
        has_begun = False
        try:
            sent = 0
            while True:
                if filled is None:
                    gaps = begun.packer.gaps(source.length - sent)
                    filled = source.readinto(gaps) if gaps else 0
                    if inspect.isawaitable(filled):
                        filled = await filled
                        self.check()
                sent += filled
                is_last = sent == source.length  # a stream knows its length only at its end
                view = begun.packer.seal(filled, is_last)
                filled = None
                self.protocol.check_data(view)
                has_begun = True
                self.write(view)
                await self._until_written()
                if is_last:
                    break
        except (AssociationFailure, LocalProtocolError):
            raise
        except BaseException as error:  # of the source, or sending is cancelled
            # If part of the message was sent, no other message can follow it.
            if has_begun:
                text = f"a dataset was sent in part: {str(error) or type(error).__name__}"
                self.fail(LocalAbort(text, self.peer))
            raise
        # Not after a failure: the event loop may still be sending bytes from this buffer.
        give_buffer(begun.buffer)
