"""The port that blocks: messages of one association taken in and sent, for services to use.

Taking turns and the socket are in `link`; what a message means is decided in `services`.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from dicomwire.errors import (
    AbortReason,
    AbortSource,
    AssociationAborted,
    AssociationFailure,
    ConnectionLost,
    LocalProtocolError,
)
from dicomwire.events import EVT_DIMSE_RECV, EVT_DIMSE_SENT, EventType, InterventionEvent
from dicomwire.logs import LOGGER
from dicomwire.payloads import DiscardSink, Sink, SinkFull, Source
from dicomwire.protocol.command import Command, Message
from dicomwire.protocol.context import PresentationContext
from dicomwire.protocol.events import (
    CommandReceived,
    ConnectionClosed,
    DataReceived,
    Event,
    PeerAborted,
    ProtocolViolated,
    ReleaseConfirmed,
    ReleaseRequested,
)
from dicomwire.protocol.states import Role, State
from dicomwire.services import scp
from dicomwire.services.port import END, Incoming, Storer, run_blocking
from dicomwire.settings import Settings
from dicomwire.status import STATUS_PENDING, code_to_category
from dicomwire.threaded.connection import deadline_after, give_buffer, take_buffer
from dicomwire.threaded.link import Link, LocalAbort
from dicomwire.uids import Service, SOPClass

if TYPE_CHECKING:
    from dicomwire.threaded.lifecycle import Lifecycle

OUT_OF_RESOURCES = 0xA700
BACKLOG = 1024
"""Requests that may wait to be served while a program's own call has the turn."""
_MOST_CANCELS = 10
_URGENT = (Command.C_STORE_RQ, Command.N_EVENT_REPORT_RQ)


class ThreadedPort(Link):
    """What services see of an association of the threaded face (`services.port.Port`).

    Attributes
    ----------
    contexts : dict[int, PresentationContext]
        The accepted contexts by id.
    """

    def __init__(self, association: Lifecycle, role: Role, settings: Settings) -> None:
        super().__init__(association, role, settings)
        self.contexts: dict[int, PresentationContext] = {}
        self._incoming: Incoming | None = None  # whose dataset is coming in
        self._sink: Sink = DiscardSink()
        self._requests: deque[Incoming] = deque()
        self._serving = False
        self._awaited: dict[int, deque[Incoming]] = {}
        self._drained: set[int] = set()  # operations whose responses nobody wants any more
        self._cancelled: set[int] = set()

    @property
    def keeps_stored(self) -> bool:
        """Whether received objects are filed without a handler's help."""
        return self._association.files_stored

    # --- What comes in ---

    @property
    def has_requests(self) -> bool:
        """Whether there are requests that wait to be served."""
        return bool(self._requests)

    def let_go(self) -> None:
        """Give up what was received in part, and what nobody is going to serve."""
        if self._incoming is not None:
            self._incoming = None
            self._sink.discard()
        while self._requests:
            payload = self._requests.popleft().payload
            if payload is not None:
                payload.discard()

    def serve(self) -> None:
        """Serve all that has come in; failures end the association, and are not raised."""
        try:
            self._read()
            while not self.ended.is_set():
                if self._requests:
                    self._serve_next()
                    continue
                event = self.protocol.next_event()
                if event is None:
                    return
                self.take(event)
        except AssociationFailure as failure:
            self.fail(failure)
        except Exception as error:
            self.crash(error)

    def _serve_next(self) -> None:
        serving, self._serving = self._serving, True
        try:
            run_blocking(scp.serve(self, self._requests.popleft()))
        finally:
            self._serving = serving

    def take(self, event: Event) -> None:
        """Act on an event of the protocol, unless a handler ended the association over it."""
        if self.ended.is_set():
            return
        if isinstance(event, DataReceived):
            self._take_data(event)
        elif isinstance(event, CommandReceived):
            self._take_command(event)
        elif isinstance(event, ReleaseRequested):
            self._association.on_release_requested()
        elif isinstance(event, ReleaseConfirmed):
            self._association.on_release_confirmed()
        elif isinstance(event, PeerAborted):
            self._association.on_peer_abort(event.pdu)
        elif isinstance(event, ProtocolViolated):
            error = event.error
            self._association.on_violation(
                AssociationAborted(
                    f"the peer broke the protocol: {error}",
                    source=error.source,
                    reason=error.reason,
                    by_peer=False,
                    stage=self.stage,
                    peer=self.peer,
                )
            )
        elif isinstance(event, ConnectionClosed):
            if self._abort_wanted:
                self._association.on_local_abort(self._aborted_here())
            else:
                text = "the peer closed the connection"
                self._association.on_lost(ConnectionLost(text, stage=self.stage, peer=self.peer))

    def _take_command(self, event: CommandReceived) -> None:
        message = event.message
        incoming = Incoming(self.contexts[event.context_id], message)
        if not message.has_dataset:
            self._dispatch(incoming)
            return
        self._incoming = incoming
        try:
            self._sink = self._association.open_sink(incoming)
        except OSError as error:
            self._refuse(incoming, f"cannot be kept: {error}")

    def _take_data(self, event: DataReceived) -> None:
        incoming = self._incoming
        assert incoming is not None
        try:
            self._sink.write(event.chunks)
            if event.complete:
                incoming.payload = self._sink.finish()
        except SinkFull as error:
            if incoming.message.command is not Command.C_STORE_RQ:
                raise AssociationAborted(
                    f"{incoming.message.name}: {error}",
                    source=AbortSource.SERVICE_USER,
                    reason=AbortReason.NOT_SPECIFIED,
                    by_peer=False,
                    peer=self.peer,
                ) from None
            self._refuse(incoming, str(error))
        except OSError as error:
            self._refuse(incoming, f"cannot be kept: {error}")
        if event.complete:
            self._incoming = None
            if incoming.refusal is not None:
                incoming.payload = None
            self._dispatch(incoming)

    def _refuse(self, incoming: Incoming, reason: str) -> None:
        """Let the dataset of `incoming` pass by, to answer it with a failure."""
        LOGGER.error("The dataset of %s from %s %s", incoming.message.name, self.peer, reason)
        incoming.refusal = OUT_OF_RESOURCES
        self._sink.discard()
        self._sink = DiscardSink()

    def _dispatch(self, incoming: Incoming) -> None:
        message = incoming.message
        if self.handlers.bound(EVT_DIMSE_RECV):
            self._notify_message(EVT_DIMSE_RECV, incoming.context.context_id, message)
        if message.command is Command.C_CANCEL_RQ:
            assert message.MessageIDBeingRespondedTo is not None
            if len(self._cancelled) < _MOST_CANCELS:
                self._cancelled.add(message.MessageIDBeingRespondedTo)
        elif message.is_request:
            if self.protocol.state is not State.ESTABLISHED:
                LOGGER.warning("%s received after the release was requested", message.name)
            elif len(self._requests) < BACKLOG:
                self._requests.append(incoming)
            else:
                raise LocalAbort(f"{BACKLOG} requests are waiting to be served", self.peer)
        else:
            self._dispatch_response(incoming)

    def _dispatch_response(self, incoming: Incoming) -> None:
        message_id = incoming.message.MessageIDBeingRespondedTo or 0
        awaited = self._awaited.get(message_id)
        if awaited is not None:
            awaited.append(incoming)
            return
        _discard(incoming)
        if message_id not in self._drained:
            raise LocalAbort(f"unexpected {incoming.message.name}", self.peer)
        if _is_final(incoming):
            self._drained.discard(message_id)

    def _notify_message(self, event: EventType, context_id: int | None, message: Message) -> None:
        self.handlers.notify(
            self._association,
            event,  # type: ignore[arg-type]  # it is one of the notifications
            {"message": message, "context_id": context_id},
        )

    # --- services.port.Port ---

    async def send(self, context_id: int, message: Message, source: Source | None = None) -> None:
        """Send `message` and its dataset."""
        self.check()
        self.flush()  # the answer to the association request, while its handlers are told
        if self.handlers.bound(EVT_DIMSE_SENT):
            self._notify_message(EVT_DIMSE_SENT, context_id, message)
        if message.is_request and message.MessageID is not None:
            self._await(message.MessageID)
        protocol = self.protocol
        packed = protocol.pack(context_id, message)
        try:
            if source is None:
                view = memoryview(packed)
                protocol.check_data(view)
                self._write(view)
            else:
                self._send_dataset(context_id, packed, source)
        except LocalProtocolError:
            raise self._ended_failure() from None

    def _await(self, message_id: int) -> None:
        """Expect responses to `message_id`, once those to its last use have all come."""
        deadline = deadline_after(self.settings.dimse_timeout)
        while message_id in self._drained:
            self.pump(deadline, "response")
        self._awaited.setdefault(message_id, deque())

    def _send_dataset(self, context_id: int, packed: bytes, source: Source) -> None:
        """Send a command and its dataset, read from `source` as they leave."""
        buffer = take_buffer()
        try:
            packer = self.protocol.packer(memoryview(buffer), context_id, packed)
            left = source.length
            while True:
                gaps = packer.gaps(left)
                filled = source.readinto(gaps) if gaps else 0
                left -= filled
                view = packer.seal(filled, left == 0)
                self.protocol.check_data(view)
                self._write(view)
                if not left:
                    return
        except (OSError, EOFError) as error:
            # Part of the message may have been sent, and nothing else can follow that.
            self.fail(LocalAbort(f"the dataset cannot be read: {error}", self.peer))
            raise
        finally:
            give_buffer(buffer)

    async def response(self, message_id: int) -> Incoming:
        """Return the next response to `message_id`."""
        awaited = self._awaited.setdefault(message_id, deque())
        deadline = deadline_after(self.settings.dimse_timeout)
        while not awaited:
            if self._requests and self._serve_urgent():
                deadline = deadline_after(self.settings.dimse_timeout)
            else:
                self.pump(deadline, "response")
        return awaited.popleft()

    def _serve_urgent(self) -> bool:
        """Serve what cannot wait for our own operation: its stores (C-GET), and event reports.

        Not while a handler runs: those of one association never run at the same time.
        """
        if self._serving or self._requests[0].message.command not in _URGENT:
            return False
        self._serve_next()
        if self.ended.is_set():
            raise self._ended_failure()
        return True

    def forget(self, request: Message, drain: bool = False) -> None:
        """Take no further response to `request`; `drain` those that are still to come."""
        message_id = request.MessageID or 0
        awaited = self._awaited.pop(message_id, ())
        for incoming in awaited:
            _discard(incoming)
        if drain and not any(map(_is_final, awaited)):
            self._drained.add(message_id)

    async def intervene(self, event: InterventionEvent, attrs: dict[str, Any]) -> Any:
        """Call the handler bound to `event`."""
        answer = self.handlers.intervene(self._association, event, attrs)
        self.check()
        return answer

    def bound(self, event: EventType) -> bool:
        """Return whether a handler is bound to `event`."""
        return self.handlers.bound(event)

    def service_of(self, sop_class: SOPClass) -> Service:
        """Return the service that serves `sop_class` on this association."""
        return self._association.service_of(sop_class)

    def iterate(self, answer: Any) -> Any:
        """Return an iterator over what a handler answered."""
        return iter(answer)

    async def next_result(self, results: Any) -> Any:
        """Return the next result of a handler, or END."""
        return next(results, END)

    async def close_results(self, results: Any) -> None:
        """End the handler that is behind `results`."""
        close = getattr(results, "close", None)
        if close is not None:
            close()

    def cancel_waits(self, message_id: int) -> bool:
        """Return whether C-CANCEL came and the handler has not looked."""
        self.look()
        return message_id in self._cancelled

    def clear_cancel(self, message_id: int) -> None:
        """Forget a C-CANCEL that meant an operation that has ended, or is to begin."""
        self._cancelled.discard(message_id)

    def own_storer(self) -> Storer:
        """Return what sends objects on this association."""
        return self._association.own_storer()

    async def storer_to(self, title: str, host: str, port: int, options: dict[str, Any]) -> Storer:
        """Return what sends objects to another AE."""
        return self._association.storer_to(title, host, port, options)

    def is_cancelled(self, message_id: int) -> bool:
        """Return, once, whether the peer cancelled the operation `message_id`."""
        self.look()
        if message_id in self._cancelled:
            self._cancelled.discard(message_id)
            return True
        return False


def _is_final(incoming: Incoming) -> bool:
    return code_to_category(incoming.message.Status or 0) != STATUS_PENDING


def _discard(incoming: Incoming) -> None:
    if incoming.payload is not None:
        incoming.payload.discard()
