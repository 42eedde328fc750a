"""The port that blocks: messages of one association taken in and sent, for services to use.

Taking turns and the socket are in `link`; what a message means is decided in `services`.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pydicom.dataset import Dataset

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
from dicomwire.payloads import BytesSource, DiscardSink, Sink, SinkFull, Source
from dicomwire.protocol.command import RESPONSE_BIT, Command, Message
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
from dicomwire.protocol.limits import MIB
from dicomwire.protocol.states import Role, State
from dicomwire.services import scp, scu
from dicomwire.services.port import END, Incoming, Storer, run_blocking
from dicomwire.settings import Settings
from dicomwire.status import STATUS_WARNING, code_to_category
from dicomwire.threaded.connection import deadline_after, give_buffer, take_buffer
from dicomwire.threaded.link import Link, LocalAbort
from dicomwire.uids import Service, SOPClass

if TYPE_CHECKING:
    from dicomwire.threaded.lifecycle import Lifecycle

OUT_OF_RESOURCES = 0xA700
BACKLOG = 1024
"""Requests that may wait to be served while a program's own call has the turn."""
BACKLOG_BYTES = 64 * MIB
"""What the datasets of those may take, in memory or on disk, unless there is but one."""


_QUICK = 0.0005
_MANY = 16
"""After so many results that took a handler less than `_QUICK` seconds each, matches are sent
together with those that follow, which are thought to be as quick."""


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
        self._served: Message | None = None  # the request whose handler runs
        self._quick_results = 0  # how many came quickly of late from that handler
        self._exchanges: dict[tuple[int, int | None], Exchange] = {}
        self._cancelled: set[int | None] = set()
        self._heard = False  # a message that puts off the deadline of what is waited for
        self._sending = threading.RLock()  # held from the begin of a message to its end

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
            self._cancelled.discard(incoming.message.MessageID)

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
            status = getattr(error, "status", OUT_OF_RESOURCES)
            self._refuse(incoming, f"cannot be kept: {error}", status)

    def _take_data(self, event: DataReceived) -> None:
        incoming = self._incoming
        assert incoming is not None
        try:
            self._sink.write(event.chunks)
            if event.complete:
                incoming.payload = self._sink.finish()
        except SinkFull as error:
            if incoming.message.command is not Command.C_STORE_RQ:
                raise self._unbearable(f"{incoming.message.name}: {error}") from None
            self._refuse(incoming, str(error))
        except OSError as error:
            self._refuse(incoming, f"cannot be kept: {error}")
        if event.complete:
            self._incoming = None
            if incoming.refusal is not None:
                incoming.payload = None
            self._dispatch(incoming)

    def _refuse(self, incoming: Incoming, reason: str, status: int = OUT_OF_RESOURCES) -> None:
        """Let the dataset of `incoming` pass by, to answer it with a failure."""
        LOGGER.error("The dataset of %s from %s %s", incoming.message.name, self.peer, reason)
        incoming.refusal = status
        self._sink.discard()
        self._sink = DiscardSink()

    def _dispatch(self, incoming: Incoming) -> None:
        message = incoming.message
        self._heard = message.is_response or _may_ask(incoming)
        if self.handlers.bound(EVT_DIMSE_RECV):
            self._notify_message(EVT_DIMSE_RECV, incoming.context.context_id, message)
        if message.command is Command.C_CANCEL_RQ:
            self._cancel(message.MessageIDBeingRespondedTo)
        elif message.is_request:
            if self.protocol.state is not State.ESTABLISHED:
                LOGGER.warning("%s received after the release was requested", message.name)
            else:
                self._requests.append(incoming)
                if len(self._requests) > 1 and self._is_swamped:
                    raise self._unbearable("too many requests are waiting to be served")
        else:
            self._dispatch_response(incoming)

    @property
    def _is_swamped(self) -> bool:
        """Whether more requests wait than should."""
        waiting = [each.payload for each in self._requests if each.payload is not None]
        return len(self._requests) > BACKLOG or sum(each.size for each in waiting) > BACKLOG_BYTES

    def _unbearable(self, text: str) -> AssociationAborted:
        """Return that the peer does what we end an association for."""
        return AssociationAborted(
            text,
            source=AbortSource.SERVICE_USER,
            reason=AbortReason.NOT_SPECIFIED,
            by_peer=False,
            stage=self.stage,
            peer=self.peer,
        )

    def _cancel(self, message_id: int | None) -> None:
        """Note that the peer cancels an operation, unless that is over or was never asked for."""
        requests = [incoming.message for incoming in self._requests]
        if self._served is not None:
            requests.append(self._served)
        if any(request.MessageID == message_id for request in requests):
            self._cancelled.add(message_id)

    def _dispatch_response(self, incoming: Incoming) -> None:
        response = incoming.message
        key = (response.command, response.MessageIDBeingRespondedTo)
        exchange = self._exchanges.get(key)
        if exchange is None:
            raise self._unbearable(f"unexpected {response.name}")
        if exchange.add(incoming):
            del self._exchanges[key]

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
        protocol = self.protocol
        packed = protocol.pack(context_id, message)
        more = self._quick_results > _MANY and _is_match(message)
        if type(source) is BytesSource:
            data = protocol.pack_small_data(context_id, source.view)
            if data is not None:
                packed += data
                source = None
        try:
            with self._sending:
                if source is None:
                    view = memoryview(packed)
                    protocol.check_data(view)
                    self._write(view, more)
                else:
                    self._send_dataset(context_id, packed, source)
        except LocalProtocolError:
            raise self._ended_failure() from None

    def send_between(self, context_id: int, message: Message) -> None:
        """Send a message without a dataset while another thread has the turn, and waits perhaps.

        Whether it could be sent that thread will see. No step of the state machine is made:
        it is the same before and after.
        """
        if self.handlers.bound(EVT_DIMSE_SENT):
            self._notify_message(EVT_DIMSE_SENT, context_id, message)
        with self._sending:
            self.write_between(self.protocol.pack(context_id, message))

    async def request(
        self, context_id: int, message: Message, source: Source | None = None
    ) -> Exchange:
        """Send a request; where one alike is still being answered, once that is over."""
        key = (message.command | RESPONSE_BIT, message.MessageID)
        deadline = deadline_after(self.settings.dimse_timeout)
        while (other := self._exchanges.get(key)) is not None and not other.is_over:
            deadline = self._take_in(deadline)
        exchange = self._exchanges[key] = Exchange(self, message)
        try:
            await self.send(context_id, message, source)
        except Exception:  # and not KeyboardInterrupt: the request may be on its way
            self._exchanges.pop(key, None)
            raise
        return exchange

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
        except (AssociationFailure, LocalProtocolError):
            raise
        except BaseException as error:  # of the file, or KeyboardInterrupt
            # Part of the message may have been sent, and nothing else can follow that.
            text = f"a dataset was sent in part: {str(error) or type(error).__name__}"
            self.fail(LocalAbort(text, self.peer))
            raise
        finally:
            give_buffer(buffer)

    def wait_for_response(self, exchange: Exchange) -> None:
        """Wait until there is a response to take."""
        deadline = deadline_after(self.settings.dimse_timeout)
        while not exchange.has_response:
            deadline = self._take_in(deadline)

    def _take_in(self, deadline: float | None) -> float | None:
        """Wait for one thing to come in and take it, or serve what has come: C-GET needs that.

        Return until when to wait for the next. The DIMSE timeout is for each message: what comes
        begins it anew, but no part of one, and no request that the peer has no role to make.
        """
        self._heard = False
        # Handlers of one association never run at the same time; else nothing need wait for us.
        if self._requests and self._served is None:
            self._heard = _may_ask(self._requests[0])
            self._serve_next()
        else:
            self.take(self.next_event(deadline, "response"))
        if self.ended.is_set():
            raise self._ended_failure()
        return deadline_after(self.settings.dimse_timeout) if self._heard else deadline

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
        begun = time.perf_counter()
        result = next(results, END)
        quick = time.perf_counter() - begun < _QUICK
        self._quick_results = self._quick_results + 1 if quick else 0
        return result

    async def close_results(self, results: Any) -> None:
        """End the handler that is behind `results`."""
        close = getattr(results, "close", None)
        if close is not None:
            close()

    def cancel_waits(self, message_id: int) -> bool:
        """Return whether C-CANCEL came and the handler has not looked."""
        self.look()
        return message_id in self._cancelled

    def own_storer(self, reduce: Callable[[Dataset], Dataset] | None = None) -> Storer:
        """Return what sends objects on this association."""
        return self._association.own_storer(reduce)

    async def storer_to(self, title: str, host: str, port: int, options: dict[str, Any]) -> Storer:
        """Return what sends objects to another AE."""
        return self._association.storer_to(title, host, port, options)

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


def _may_ask(incoming: Incoming) -> bool:
    """Return whether the peer has the role to make a request; SCPs make event reports alone."""
    return bool(incoming.context.as_scp) or incoming.message.command is Command.N_EVENT_REPORT_RQ


class Exchange:
    """A request of ours, and the responses to it that have come and not been taken.

    Attributes
    ----------
    is_over : bool
        Whether the last response has come.
    """

    __slots__ = ("_port", "_request", "_responses", "_wanted", "is_over")

    def __init__(self, port: ThreadedPort, request: Message) -> None:
        self._port = port
        self._request = request
        self._responses: deque[Incoming] = deque()
        self._wanted = True
        self.is_over = False

    def add(self, incoming: Incoming) -> bool:
        """Take a response that came in; return whether none can come after it.

        A warning is the last one of a C-FIND, and yet there are providers that go on.
        """
        response = incoming.message
        is_last = scu.is_last(self._request, response)
        if self.is_over:
            LOGGER.warning("%s after the last one is ignored", response.name)
        else:
            self.is_over = is_last
            if self._wanted:
                self._responses.append(incoming)
        return is_last and not (
            response.command is Command.C_FIND_RSP
            and code_to_category(response.Status or 0) == STATUS_WARNING
        )

    @property
    def has_response(self) -> bool:
        """Whether there is a response to take."""
        return bool(self._responses)

    def take(self) -> Incoming:
        """Return a response that has come."""
        return self._responses.popleft()

    async def response(self) -> Incoming:
        """Return the next response, within the DIMSE timeout."""
        if not self._responses:
            self._port.wait_for_response(self)
        return self._responses.popleft()

    def abandon(self) -> None:
        """Let all responses pass by that have not been taken."""
        self._wanted = False
        self._responses.clear()
