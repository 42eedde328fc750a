"""The engine of both faces: the protocol of one association, and its received messages.

The faces add sockets, waiting and turns; the services act on the messages.
"""

from __future__ import annotations

import contextlib
from abc import abstractmethod
from collections import deque
from collections.abc import Callable, Iterator
from functools import cached_property
from typing import TYPE_CHECKING, Any

from dicomwire import events as evt
from dicomwire.data.budgets import BudgetSpent
from dicomwire.data.sinks import DiscardSink, Sink, SinkFull
from dicomwire.errors import (
    AbortReason,
    AbortSource,
    AssociationAborted,
    AssociationFailure,
    AssociationTimeout,
    ConnectionLost,
)
from dicomwire.logs import LOGGER, Between, log_refusal
from dicomwire.protocol.association import AssociationProtocol
from dicomwire.protocol.command import RESPONSE_BIT, Command, Message
from dicomwire.protocol.context import PresentationContext
from dicomwire.protocol.events import (
    CommandReceived,
    ConnectionClosed,
    DataReceived,
    Event,
)
from dicomwire.protocol.limits import MIB
from dicomwire.protocol.pdu import PDU
from dicomwire.protocol.states import Action, Role, State, Trigger
from dicomwire.registry.services import Service, SOPClass
from dicomwire.services import scp
from dicomwire.services.answers import may_ask
from dicomwire.services.normalized import PROCESSING_FAILURE
from dicomwire.services.port import Incoming, Port, ServedBy, Storer
from dicomwire.session.engine_association import EngineAssociation, Refuse
from dicomwire.session.keeping import MAY_BE_META, discard, refuse_stored, without_meta
from dicomwire.session.operation import Operation
from dicomwire.session.target import Target
from dicomwire.settings import Settings

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

_RESOURCE_LIMITATION = 0x0213
"""Resource limitation, for N-services (PS3.7 Annex C.5.20)."""
BACKLOG = 1024
"""Requests that may wait while the program uses the association for a call of its own."""
BACKLOG_BYTES = 64 * MIB
"""Bytes of the datasets of waiting requests, in memory or on disk; a single one may have more."""

_LEAST_PROGRESS = 1024
"""Bytes of an incomplete dataset that restart the idle deadline. Fewer do not: single bytes now
and then would keep an association forever."""

_MOST_SERVED = 256
"""Kinds of requests whose service is remembered: two for each of 128 contexts."""

OperationKey = tuple[int, int | None]
"""An operation: the command of its responses, and the message that they respond to."""
_NOWHERE = DiscardSink()
"""Where the dataset of a refused C-STORE goes, of any size."""


class LocalAbort(AssociationAborted):
    """Our own end of the association (A-ABORT of the service user)."""

    def __init__(self, text: str, peer: str, stage: str = "data") -> None:
        super().__init__(
            text,
            source=AbortSource.SERVICE_USER,
            reason=AbortReason.NOT_SPECIFIED,
            by_peer=False,
            stage=stage,
            peer=peer,
        )


class Engine(Port):
    """The protocol of one association, its received messages, and why it ended.

    Attributes
    ----------
    protocol : AssociationProtocol
    settings : Settings
    handlers : evt.Handlers
    failure : AssociationFailure or None
        Why the association ended, if not by an orderly release.
    stage : str
        The stage of the association: "associate", "data" or "release".
    local, remote : tuple or str
        The addresses of the two ends of the connection, as sockets have them.
    peer : str
        The peer as "host:port".
    target : Target or None
        Where a requestor connects to.
    is_active : bool
        Whether a message was received or served since the idle deadline was last restarted.
    is_ended : bool
        Whether the association is over.
    reporting : int
        How many handlers run that report bytes, PDUs and transitions.
    """

    def __init__(self, association: EngineAssociation, role: Role, settings: Settings) -> None:
        self._association = association
        self.settings = settings
        self.handlers: evt.Handlers = association.handlers
        self.protocol = AssociationProtocol(role, settings.limits, codecs=settings.codecs)
        self.target: Target | None = None
        self.failure: AssociationFailure | None = None
        self.is_ended = False
        self.stage = "associate"
        self.local: Any = ""
        self.remote: Any = ""
        self.peer = ""
        self._abort_wanted = False
        self._incoming: Incoming | None = None  # the message whose dataset is being received
        self._sink: Sink = _NOWHERE
        self._begins = False  # no byte of the dataset of a C-STORE has arrived yet
        self._requests: deque[Incoming] = deque()
        self._served_by: dict[tuple[int, Command, str | None], ServedBy] = {}
        self._served: Incoming | None = None  # the request whose handler runs
        self._operations: dict[OperationKey, Operation] = {}
        self._cancelled: set[int | None] = set()
        self._restarts_deadline = False  # whether the last message restarts the response deadline
        self._held = 0  # iterators by which the program takes results
        self._received = 0  # bytes since the idle deadline was restarted
        self.is_active = False  # whether to restart the idle deadline
        self.reporting = 0
        self._sent_pdus: list[PDU] = []

    @cached_property
    def contexts(self) -> dict[int, PresentationContext]:
        """The accepted contexts by id, made when a message first needs them."""
        return self._association.contexts_by_id()

    # --- Implemented by each face ---

    @abstractmethod
    async def connect(self) -> None:
        """Open the connection to `target`."""

    @abstractmethod
    async def receive_event(self, timeout: float | None, stage: str) -> Event:
        """Return the protocol's next event, within `timeout` seconds.

        Raises
        ------
        AssociationTimeout
            Named `stage`.
        """

    @abstractmethod
    async def flushed(self) -> None:
        """Send the bytes that the protocol has ready."""

    @abstractmethod
    async def until_ended(self, timeout: float | None, stage: str) -> None:
        """Process events until the association is over; see `receive_event` for the errors."""

    @abstractmethod
    def send_at_once(self, data: bytes) -> None:
        """Send the first bytes of a connection, which its socket takes without waiting."""

    @abstractmethod
    def flush_now(self) -> None:
        """Send as many bytes of the last PDU as the socket takes without waiting."""

    @abstractmethod
    def begin_serving(self) -> None:
        """Have the peer's requests served from now on."""

    @abstractmethod
    def close(self) -> None:
        """Close the connection, at once or after the peer has (Sta13)."""

    @abstractmethod
    def abort(self) -> None:
        """Abort the association."""

    @abstractmethod
    def look(self) -> None:
        """Process what has arrived, if nothing else does so at this moment; never wait."""

    @abstractmethod
    def deadline_changed(self) -> None:
        """Compute the deadlines again, since the settings have changed."""

    # --- Whether it is over, and why ---

    def end(self) -> None:
        """Note that the association is over; each face wakes those that wait for its end."""
        self.is_ended = True

    @property
    def is_over(self) -> bool:
        """Whether the association has ended."""
        return self.is_ended or self._abort_wanted

    def check(self) -> None:
        """Raise the failure of the association if it has ended."""
        if self.is_ended or self._abort_wanted:
            raise self._ended_failure()

    def fail(self, failure: AssociationFailure) -> None:
        """End the association because of `failure`, with an A-ABORT if the connection is open."""
        if self.is_ended:
            return
        if self._abort_wanted:
            failure = self._aborted_here()
        if isinstance(failure, ConnectionLost):
            self.protocol.connection_lost()
            self._association.on_lost(failure)
        else:
            self._association.on_local_abort(failure)

    def crash(self, error: BaseException) -> None:
        """End the association because of an internal error; call it in the `except` block."""
        LOGGER.exception("An association is aborted after an internal error")
        self.fail(LocalAbort(f"internal error: {type(error).__name__}", self.peer))

    @contextlib.contextmanager
    def ending_on_error(self) -> Iterator[None]:
        """End the association if the block raises an exception. For threads of the library."""
        try:
            yield
        except AssociationFailure as failure:
            self.fail(failure)
        except BaseException as error:  # also when a handler calls sys.exit
            self.crash(error)

    def _ended_failure(self) -> AssociationFailure:
        if self.failure is not None:
            return self.failure
        if self._abort_wanted:
            return self._aborted_here()
        return ConnectionLost("the association is over", stage=self.stage, peer=self.peer)

    def _abort_now(self) -> None:
        if not self.is_ended:
            self._association.on_local_abort(self._aborted_here())

    def _no_answer(self, stage: str) -> AssociationTimeout:
        return AssociationTimeout("no answer in time", stage=stage, peer=self.peer)

    def _end_as_idle(self, timeout: float) -> None:
        text = f"{'next to ' if self._received else ''}nothing for {timeout} s"
        failure = AssociationTimeout(text, stage="idle", peer=self.peer)
        self._association.on_network_timeout(failure)

    def _aborted_here(self) -> LocalAbort:
        return LocalAbort("aborted by the program", self.peer, self.stage)

    def closed_by_peer(self, stage: str) -> ConnectionLost:
        """Return the failure for a connection that the peer closed, with a likely reason."""
        text = "the peer closed the connection"
        if stage == "associate" and self.target is not None and self.target.tls is None:
            text += " without an answer; it may expect TLS, or the port may be wrong"
        return ConnectionLost(text, stage=stage, peer=self.peer)

    def aborted(
        self,
        text: str,
        source: int = AbortSource.SERVICE_USER,
        reason: int = AbortReason.NOT_SPECIFIED,
        *,
        by_peer: bool = False,
    ) -> AssociationAborted:
        """Return the failure of an association that the peer aborts, or we because of the peer."""
        return AssociationAborted(
            text, source=source, reason=reason, by_peer=by_peer, stage=self.stage, peer=self.peer
        )

    # --- Notifications of bytes, PDUs, transitions and messages ---

    def observe(self) -> None:
        """Have the protocol report PDUs and transitions, if a handler is bound for them."""
        self._served_by.clear()  # it may depend on the handlers
        bound = self.handlers.bound
        wanted = bound(evt.EVT_PDU_RECV) or bound(evt.EVT_PDU_SENT) or bound(evt.EVT_FSM_TRANSITION)
        self.protocol.observe(self if wanted else None)

    def pdu_received(self, pdu: PDU) -> None:
        """Notify of a received PDU (Observer)."""
        self._report(evt.EVT_PDU_RECV, {"pdu": pdu})

    def pdu_sent(self, pdu: PDU) -> None:
        """Remember a PDU; its notification follows when it has been sent (Observer)."""
        self._sent_pdus.append(pdu)

    def transition(self, state: State, trigger: Trigger, action: Action, following: State) -> None:
        """Notify of a transition of the state machine (Observer)."""
        attributes = {
            "current_state": state.value,
            "fsm_event": trigger.value,
            "action": action.value,
            "next_state": following.value,
        }
        self._report(evt.EVT_FSM_TRANSITION, attributes)

    @property
    def is_reporting(self) -> bool:
        """Whether the caller is in a handler that may only abort the association."""
        return self.reporting > 0

    def _report(self, event: evt.NotificationEvent, attributes: dict[str, Any]) -> None:
        self.reporting += 1
        try:
            self.handlers.notify(self._association, event, attributes)
        finally:
            self.reporting -= 1

    def _report_sent(self, data: bytes | bytearray | memoryview) -> None:
        if evt.EVT_DATA_SENT in self.handlers.live:
            self._report(evt.EVT_DATA_SENT, {"data": bytes(data)})
        if self._sent_pdus:
            sent, self._sent_pdus = self._sent_pdus, []
            for pdu in sent:
                self._report(evt.EVT_PDU_SENT, {"pdu": pdu})

    def _notify_message(
        self, event: evt.EventType, context_id: int | None, message: Message
    ) -> None:
        self.handlers.notify(
            self._association,
            event,  # type: ignore[arg-type]  # it is one of the notifications
            {"message": message, "context_id": context_id},
        )

    # --- Received bytes, events and messages ---

    def feed(self, data: memoryview | bytes) -> None:
        """Give received bytes to the protocol."""
        if evt.EVT_DATA_RECV in self.handlers.live:
            self.report_received(data)
        self.protocol.receive_data(data)

    def report_received(self, data: memoryview | bytes) -> None:
        """Notify of received bytes."""
        self._report(evt.EVT_DATA_RECV, {"data": bytes(data)})

    def _has_progressed(self) -> bool:
        """Return, once, whether received data restarts the idle deadline.

        A request or a response does, or `_LEAST_PROGRESS` bytes of its dataset. A C-CANCEL, a
        request that the peer has no role for, or fewer bytes do not: with them, a peer could keep
        an association forever.
        """
        incoming = self._incoming
        if incoming is not None and self._received >= _LEAST_PROGRESS:
            self.is_active |= incoming.message.is_response or may_ask(incoming)
        if not self.is_active:
            return False
        self.is_active = False
        self._received = 0
        return True

    def discard_received(self) -> None:
        """Discard the message that was received in part, and the waiting requests."""
        if self._incoming is not None:
            self._incoming = None
            discard(self._sink)
        self.drop_requests()

    def drop_requests(self) -> None:
        """Discard the requests that wait to be served."""
        while self._requests:
            self._requests.popleft().discard()

    def take(self, event: Event) -> None:
        """Process an event of the protocol, unless the association has ended."""
        if self.is_ended:
            return
        if isinstance(event, CommandReceived):
            self._take_command(event)
        elif isinstance(event, DataReceived):
            self._take_data(event)
        elif isinstance(event, ConnectionClosed):
            if self._abort_wanted:
                self._association.on_local_abort(self._aborted_here())
            else:
                self._association.on_lost(self.closed_by_peer(self.stage))
        else:
            self._association.on_event(event)

    def _take_command(self, event: CommandReceived) -> None:
        message, data = event.message, event.data
        command = message.command
        incoming = Incoming(self.contexts[event.context_id], message)
        if command in scp.REQUESTS:
            class_uid = message.AffectedSOPClassUID or message.RequestedSOPClassUID
            key = (event.context_id, command, class_uid)
            incoming.service = None if message.unusable else self._served_by.get(key)
            if incoming.service is None:
                self._admit(key, incoming)
            if incoming.refusal is None and self._association.refuse is not None:
                incoming.refusal = refusal_of_program(self._association.refuse, message)
        if not message.has_dataset:
            self._dispatch(incoming)
            return
        self._incoming = incoming
        self._received = 0  # from here on, count bytes of the dataset
        self._begins = False
        if incoming.refusal is not None:
            is_any = command is Command.C_STORE_RQ
            self._sink = _NOWHERE if is_any else DiscardSink(self.settings.limits.identifier)
        else:
            try:
                self._sink = sink = self._association.open_sink(incoming)
            except Exception as error:
                self._sink = _NOWHERE
                self._refuse(incoming, error)
            else:
                self._begins = command is Command.C_STORE_RQ
                if self._incoming is None:  # the program's `receive_to` ended the association
                    discard(sink)
                    return
        if data is not None:
            self._take_data(data)

    def _admit(self, key: tuple[int, Command, str | None], incoming: Incoming) -> None:
        """Find the service for a request, and remember it for requests of the same kind."""
        scp.admit(self, incoming)
        if incoming.service is not None and len(self._served_by) < _MOST_SERVED:
            self._served_by[key] = incoming.service

    def _take_data(self, event: DataReceived) -> None:
        incoming = self._incoming
        assert incoming is not None
        try:
            if self._begins and event.chunks:
                self._begins = False
                if event.chunks[0][:1] in MAY_BE_META:
                    self._sink = without_meta(self._sink, incoming)
            self._sink.write(event.chunks)
            if self._incoming is None:  # the sink ended the association
                return
            if event.complete:
                # A request that arrives after our release request is not answered.
                is_late = self.protocol.state is not State.ESTABLISHED
                if is_late and not incoming.message.is_response:
                    discard(self._sink)
                elif incoming.refusal is None:
                    incoming.payload = self._sink.finish()
        except Exception as error:
            self._refuse(incoming, error)
        if event.complete:
            self._incoming = None
            self._dispatch(incoming)

    def _refuse(self, incoming: Incoming, error: Exception) -> None:
        """Refuse `incoming`, and discard the rest of its dataset: its sink raised `error`."""
        message = incoming.message
        if message.command is Command.C_STORE_RQ:
            refuse_stored(incoming, error, self.between)
        elif not message.is_response and isinstance(error, BudgetSpent):
            incoming.reason = str(error.strerror)
            log_refusal(self.between, incoming.context, message, incoming.reason)
            is_normalized = message.command >= Command.N_EVENT_REPORT_RQ
            incoming.refusal = _RESOURCE_LIMITATION if is_normalized else error.status
        elif isinstance(error, BudgetSpent | SinkFull):
            raise self.aborted(f"{message.name}: {error}") from None
        else:
            raise error
        discard(self._sink)
        self._sink = _NOWHERE

    def _dispatch(self, incoming: Incoming) -> None:
        message = incoming.message
        command = message.command
        is_response = command & RESPONSE_BIT
        if incoming.service is not None or is_response or may_ask(incoming):
            self._restarts_deadline = self.is_active = True
        else:
            self._restarts_deadline = False
        is_cancel = command is Command.C_CANCEL_RQ
        if not (is_response or is_cancel):
            # Before the handler runs: if it ends the association, this request is discarded too.
            if self.protocol.state is not State.ESTABLISHED:
                LOGGER.warning("%s received after the release was requested", message.name)
            else:
                self._enqueue(incoming)
        if evt.EVT_DIMSE_RECV in self.handlers.live:
            self._notify_message(evt.EVT_DIMSE_RECV, incoming.context.context_id, message)
        if is_cancel:
            self._cancel(message.MessageIDBeingRespondedTo)
        elif is_response:
            self._dispatch_response(incoming)

    def _enqueue(self, incoming: Incoming) -> None:
        """Append a request to those that wait to be served; abort if they are too many."""
        self._requests.append(incoming)
        if len(self._requests) > 1 and self._is_swamped:
            raise self.aborted("too many requests are waiting to be served")

    @property
    def _is_swamped(self) -> bool:
        """Whether more requests or bytes wait than are allowed."""
        waiting = [each.payload for each in self._requests if each.payload is not None]
        return len(self._requests) > BACKLOG or sum(each.size for each in waiting) > BACKLOG_BYTES

    def _cancel(self, message_id: int | None) -> None:
        """Note that the peer cancels an operation, if it is waiting or running."""
        requests = [incoming.message for incoming in self._requests]
        if self._served is not None:
            requests.append(self._served.message)
        if any(request.MessageID == message_id for request in requests):
            self._cancelled.add(message_id)

    def _dispatch_response(self, incoming: Incoming) -> None:
        response = incoming.message
        key = (response.command, response.MessageIDBeingRespondedTo)
        operation = self._operations.get(key)
        if operation is None:
            raise self.aborted(f"unexpected {response.name}")
        if operation.add(incoming):
            del self._operations[key]

    # --- services.port.Port, as far as both faces have it in common ---

    @property
    def keeps_stored(self) -> bool:
        """Whether the library writes received objects to files."""
        return self._association.files_stored

    @property
    def between(self) -> Between:
        """The association, for the log."""
        return self._association.between

    def bound(self, event: evt.EventType) -> bool:
        """Return whether a handler is bound to `event`."""
        return event in self.handlers.live

    def service_of(self, sop_class: SOPClass) -> Service:
        """Return the service that serves `sop_class` on this association."""
        return self._association.service_of(sop_class)

    def cancel_waits(self, message_id: int) -> bool:
        """Return whether a C-CANCEL has arrived and the handler has not looked."""
        self.look()
        return message_id in self._cancelled

    def is_cancelled(self, message_id: int) -> bool:
        """Return, once, whether the peer cancelled the operation `message_id`."""
        waits = self.cancel_waits(message_id)
        self._cancelled.discard(message_id)
        return waits

    def own_storer(self, reduce: Callable[[Dataset], Dataset] | None = None) -> Storer:
        """Return a storer that sends objects on this association."""
        return self._association.own_storer(reduce)

    async def storer_to(self, title: str, host: str, port: int, options: dict[str, Any]) -> Storer:
        """Return a storer that sends objects to another AE."""
        return await self._association.storer_to(title, host, port, options)


def refusal_of_program(refuse: Refuse, request: Message) -> int | Dataset | None:
    """Return the status with which the program refuses `request`; a failure if `refuse` raises."""
    try:
        return refuse(request)
    except Exception:
        LOGGER.exception("The function `refuse` of the program failed")
        return PROCESSING_FAILURE
