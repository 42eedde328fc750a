"""`evt`: the events of an association, and the handlers that programs bind to them.

The faces raise the events; the services use the answers of handlers.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic

from dicomwire.data.file_head import file_head
from dicomwire.event_types import Binding as Binding
from dicomwire.event_types import EventHandlerType as EventHandlerType
from dicomwire.event_types import EventType as EventType
from dicomwire.event_types import Handler as Handler
from dicomwire.event_types import HandlerArgs as HandlerArgs
from dicomwire.event_types import (
    IdentityEvent,
    MatchesEvent,
    NegotiationEvent,
    ObjectsEvent,
    ReplyEvent,
    StatusEvent,
    WindowEvent,
)
from dicomwire.event_types import InterventionEvent as InterventionEvent
from dicomwire.event_types import NotificationEvent as NotificationEvent
from dicomwire.protocol.command import Command, Message
from dicomwire.protocol.context import PresentationContextTuple
from dicomwire.public_names import PublicNames
from dicomwire.settings import Settings

if TYPE_CHECKING:
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.tag import BaseTag
    from pydicom.uid import UID
    from typing_extensions import TypeVar

    from dicomwire.data.payloads import Payload

    A = TypeVar("A", default=Any)
else:  # defaults of type variables are for type checkers; Python has them from 3.13 on
    from typing import TypeVar

    A = TypeVar("A")

_LOGGER = logging.getLogger("dicomwire")


EVT_ABORTED = NotificationEvent("EVT_ABORTED", "Either side aborted the association")
EVT_ACCEPTED = NotificationEvent("EVT_ACCEPTED", "The association request was accepted")
EVT_ACSE_RECV = NotificationEvent("EVT_ACSE_RECV", "An association service primitive was received")
EVT_ACSE_SENT = NotificationEvent("EVT_ACSE_SENT", "An association service primitive was sent")
EVT_CONN_CLOSE = NotificationEvent("EVT_CONN_CLOSE", "The transport connection closed")
EVT_CONN_OPEN = NotificationEvent("EVT_CONN_OPEN", "The transport connection opened")
EVT_DATA_RECV = NotificationEvent("EVT_DATA_RECV", "The bytes of a PDU were received")
EVT_DATA_SENT = NotificationEvent("EVT_DATA_SENT", "The bytes of a PDU were sent")
EVT_DIMSE_RECV = NotificationEvent("EVT_DIMSE_RECV", "A DIMSE message was received")
EVT_DIMSE_SENT = NotificationEvent("EVT_DIMSE_SENT", "A DIMSE message was sent")
EVT_ESTABLISHED = NotificationEvent("EVT_ESTABLISHED", "The association is ready for messages")
EVT_FSM_TRANSITION = NotificationEvent("EVT_FSM_TRANSITION", "The state machine changed its state")
EVT_PDU_RECV = NotificationEvent("EVT_PDU_RECV", "A PDU was received and decoded")
EVT_PDU_SENT = NotificationEvent("EVT_PDU_SENT", "A PDU was encoded and sent")
EVT_REJECTED = NotificationEvent("EVT_REJECTED", "The association request was rejected")
EVT_RELEASED = NotificationEvent("EVT_RELEASED", "The association was released")
EVT_REQUESTED = NotificationEvent("EVT_REQUESTED", "An association was requested")

EVT_ASYNC_OPS = WindowEvent(
    "EVT_ASYNC_OPS", "The requestor proposes an asynchronous operations window"
)
EVT_C_ECHO = StatusEvent("EVT_C_ECHO", "A C-ECHO request needs a response")
EVT_C_FIND = MatchesEvent("EVT_C_FIND", "A C-FIND request needs responses")
EVT_C_GET = ObjectsEvent("EVT_C_GET", "A C-GET request needs responses")
EVT_C_MOVE = ObjectsEvent("EVT_C_MOVE", "A C-MOVE request needs responses")
EVT_C_STORE = StatusEvent("EVT_C_STORE", "A C-STORE request needs a response")
EVT_N_ACTION = ReplyEvent("EVT_N_ACTION", "An N-ACTION request needs a response")
EVT_N_CREATE = ReplyEvent("EVT_N_CREATE", "An N-CREATE request needs a response")
EVT_N_DELETE = StatusEvent("EVT_N_DELETE", "An N-DELETE request needs a response")
EVT_N_EVENT_REPORT = ReplyEvent("EVT_N_EVENT_REPORT", "An N-EVENT-REPORT request needs a response")
EVT_N_GET = ReplyEvent("EVT_N_GET", "An N-GET request needs a response")
EVT_N_SET = ReplyEvent("EVT_N_SET", "An N-SET request needs a response")
EVT_SOP_COMMON = NegotiationEvent(
    "EVT_SOP_COMMON", "The requestor proposes SOP class common extended negotiation"
)
EVT_SOP_EXTENDED = NegotiationEvent(
    "EVT_SOP_EXTENDED", "The requestor proposes SOP class extended negotiation"
)
EVT_USER_ID = IdentityEvent("EVT_USER_ID", "The requestor proposes a user identity to verify")

_DEFAULTS = Settings()
_QUERIES = (Command.C_FIND_RQ, Command.C_GET_RQ, Command.C_MOVE_RQ)


class Event(PublicNames, Generic[A]):
    """The argument of a handler: the kind of event, its association and its data.

    Annotate it with `evt.Event`, or with `evt.Event[Association]` if the type checker shall know
    the association, of `dicomwire` or of `dicomwire.aio`.

    Every event has `assoc`, `event` and `timestamp`. The documentation of each other attribute
    says which events have it; for other events, reading it raises AttributeError.

    Parameters
    ----------
    assoc : Association
        The association, of the threaded or the asyncio face.
    event : NotificationEvent or InterventionEvent
    attrs : dict of str to Any, optional
        Attributes of this event, by name.

    Raises
    ------
    AttributeError
        If `attrs` has the name of an attribute that every Event has.
    """

    assoc: A
    """The association of the event."""
    event: EventType
    """The kind of event."""
    timestamp: datetime
    """When it happened: local time, without a time zone."""

    request: Message
    """C- and N-service events: the command set of the request."""
    context: PresentationContextTuple
    """C- and N-service events: the presentation context of the request."""
    payload: Payload | None = None
    """C- and N-service events: the dataset as it was received; None if there was none."""
    message: Message
    """EVT_DIMSE_RECV, EVT_DIMSE_SENT: the command set of the message."""
    context_id: int
    """EVT_DIMSE_RECV, EVT_DIMSE_SENT: the number of the message's presentation context."""
    pdu: Any
    """EVT_PDU_RECV, EVT_PDU_SENT: the PDU, one of the classes of `dicomwire.protocol.pdu`."""
    primitive: Any
    """EVT_ACSE_RECV, EVT_ACSE_SENT: the association service primitive, which is the PDU."""
    data: bytes
    """EVT_DATA_RECV, EVT_DATA_SENT: the bytes on the wire."""
    address: tuple[Any, ...]
    """EVT_CONN_OPEN, EVT_CONN_CLOSE: the peer's (host, port); four values for IPv6."""
    current_state: str
    """EVT_FSM_TRANSITION: the state before, as PS3.8 Table 9-10 names it ("Sta6")."""
    fsm_event: str
    """EVT_FSM_TRANSITION: the event of the state machine ("Evt10")."""
    action: str
    """EVT_FSM_TRANSITION: the action of the state machine ("DT-2")."""
    next_state: str
    """EVT_FSM_TRANSITION: the state after."""
    nr_invoked: int
    """EVT_ASYNC_OPS: the operations that the requestor would invoke at a time (0: no limit)."""
    nr_performed: int
    """EVT_ASYNC_OPS: the operations that it would perform at a time (0: no limit)."""
    user_id_type: int
    """EVT_USER_ID: the User-Identity-Type, 1 to 5 (PS3.7 Annex D.3.3.7.1)."""
    primary_field: bytes
    """EVT_USER_ID: the user name, ticket, assertion or token."""
    secondary_field: bytes | None
    """EVT_USER_ID: the passcode, for a type that has one."""
    app_info: dict[Any, bytes]
    """EVT_SOP_EXTENDED: the service class application information by SOP class UID."""
    items: dict[Any, Any]
    """EVT_SOP_COMMON: the common extended negotiation items by SOP class UID."""

    _dataset: Dataset | None = None

    def __init__(self, assoc: A, event: EventType, attrs: dict[str, Any] | None = None) -> None:
        self.assoc = assoc
        self.event = event
        self.timestamp = datetime.now()
        if attrs:
            if not _RESERVED.isdisjoint(attrs):
                taken = ", ".join(sorted(_RESERVED.intersection(attrs)))
                raise AttributeError(f"every Event sets {taken} itself")
            self.__dict__.update(attrs)

    def __repr__(self) -> str:
        request = self.__dict__.get("request")
        about = f": {request!r}" if request is not None else ""
        return f"<{self.event.name} of {self.assoc!r}{about}>"

    def _asked(self, parameter: str, *commands: Command) -> Message:
        """Return the request, which has `parameter` if it is one of `commands`."""
        request: Message | None = self.__dict__.get("request")
        if request is None or request.command not in commands:
            raise AttributeError(f"{self.event.name} has no {parameter}")
        return request

    def _decoded(self) -> Dataset:
        if self._dataset is None:
            payload = self.payload
            if payload is None or not payload.size:
                from pydicom.dataset import Dataset

                self._dataset = Dataset()
            else:
                from dicomwire.data import codec

                # Programs test their handlers with events that have no association.
                settings = getattr(self.assoc, "settings", None) or _DEFAULTS
                syntax, limits = self.context.transfer_syntax, settings.limits
                if self.request.command is Command.C_STORE_RQ:
                    ceiling = settings.inflate_ceiling
                    self._dataset = codec.decode_for(payload, syntax, ceiling, limits)
                else:
                    self._dataset = codec.decode_message(payload, syntax, limits)
        return self._dataset

    def _stored(self) -> tuple[UID, UID]:
        """Return the SOP class and instance UIDs of a C-STORE request, which always has both."""
        request = self._asked("Data Set", Command.C_STORE_RQ)
        assert request.AffectedSOPClassUID is not None
        assert request.AffectedSOPInstanceUID is not None
        return request.AffectedSOPClassUID, request.AffectedSOPInstanceUID

    def _file_head(self) -> bytes:
        """Return the bytes before the dataset in a DICOM file of a C-STORE request."""
        return file_head(*self._stored(), self.context.transfer_syntax)

    @property
    def message_id(self) -> int:
        """Any request: its Message ID."""
        request: Message | None = self.__dict__.get("request")
        if request is None or request.MessageID is None:
            raise AttributeError(f"{self.event.name} has no Message ID")
        return request.MessageID

    @property
    def is_cancelled(self) -> bool:
        """C-FIND, C-GET, C-MOVE: whether the peer sent C-CANCEL since this was last read.

        Reading it checks for received messages without waiting. It is True once for each
        C-CANCEL, and always False for a request that cannot be cancelled.
        """
        request: Message | None = self.__dict__.get("request")
        if request is None:
            return False
        association: Any = self.assoc
        return bool(association.is_cancelled(request.MessageID))

    @property
    def peer_gone(self) -> bool:
        """Whether the peer has aborted or the connection is lost, so that a response is useless.

        Reading it checks for received messages without waiting.
        """
        association: Any = self.assoc
        return bool(association.peer_gone)

    # C-STORE

    @property
    def dataset(self) -> Dataset:
        """C-STORE: the dataset, decoded when first asked for; empty if none was sent."""
        self._asked("Data Set", Command.C_STORE_RQ)
        return self._decoded()

    @property
    def dataset_path(self) -> Path:
        """C-STORE: a DICOM file of the dataset; it exists at least until the handler returns.

        If the dataset was not received into a file, reading this writes a temporary one.
        """
        payload = self.payload
        if payload is None:
            raise AttributeError(f"{self.event.name} has no Data Set")
        return payload.dicom_file(self._file_head())

    @property
    def file_meta(self) -> FileMetaDataset:
        """C-STORE: file meta information for the dataset (PS3.10 Section 7.1), new each time.

        Its group length is 0; pydicom corrects it when it writes a file.
        """
        from dicomwire.data.file_meta import create_file_meta

        sop_class_uid, sop_instance_uid = self._stored()
        return create_file_meta(
            sop_class_uid=sop_class_uid,
            sop_instance_uid=sop_instance_uid,
            transfer_syntax=self.context.transfer_syntax,
        )

    def encoded_dataset(self, include_meta: bool = True) -> bytes:
        """C-STORE: return the dataset as it was received, without decoding it.

        Parameters
        ----------
        include_meta : bool, optional
            Return a whole DICOM file (default): a zeroed preamble, its prefix and file meta
            information before the dataset.
        """
        head = self._file_head()
        payload = self.payload
        if not include_meta:
            return payload.getvalue() if payload is not None else b""
        return b"".join((head, payload.view())) if payload is not None else head

    # C-FIND, C-GET, C-MOVE

    @property
    def identifier(self) -> Dataset:
        """C-FIND, C-GET, C-MOVE: the Identifier, decoded when first asked for."""
        self._asked("Identifier", *_QUERIES)
        return self._decoded()

    @property
    def move_destination(self) -> str:
        """C-MOVE: the AE title that the objects are sent to."""
        return self._asked("Move Destination", Command.C_MOVE_RQ).MoveDestination

    # N-services

    @property
    def attribute_identifiers(self) -> list[BaseTag]:
        """N-GET: the requested tags; empty for all of them."""
        request = self._asked("Attribute Identifier List", Command.N_GET_RQ)
        return request.AttributeIdentifierList or []

    @property
    def attribute_list(self) -> Dataset:
        """N-CREATE: the Attribute List, decoded when first asked for; empty if none was sent."""
        self._asked("Attribute List", Command.N_CREATE_RQ)
        return self._decoded()

    @property
    def modification_list(self) -> Dataset:
        """N-SET: the Modification List, decoded when first asked for."""
        self._asked("Modification List", Command.N_SET_RQ)
        return self._decoded()

    @property
    def action_type(self) -> int:
        """N-ACTION: the Action Type ID."""
        return self._asked("Action Type ID", Command.N_ACTION_RQ).ActionTypeID

    @property
    def action_information(self) -> Dataset:
        """N-ACTION: the Action Information, decoded when first asked for; empty if none."""
        self._asked("Action Information", Command.N_ACTION_RQ)
        return self._decoded()

    @property
    def event_type(self) -> int:
        """N-EVENT-REPORT: the Event Type ID."""
        return self._asked("Event Type ID", Command.N_EVENT_REPORT_RQ).EventTypeID

    @property
    def event_information(self) -> Dataset:
        """N-EVENT-REPORT: the Event Information, decoded when first asked for; empty if none."""
        self._asked("Event Information", Command.N_EVENT_REPORT_RQ)
        return self._decoded()


_RESERVED = (frozenset(dir(Event)) | {"assoc", "event", "timestamp"}) - {"payload"}


# --- Default handlers -------------------------------------------------------------------------


class NoHandler(NotImplementedError):
    """The program has bound no handler to an event that needs an answer."""


def _not_implemented(event: Event) -> Any:
    raise NoHandler(f"no handler is bound to evt.{event.event.name}")


def _succeed(event: Event) -> int:
    return 0x0000


def _negotiate_nothing(event: Event) -> dict[Any, Any]:
    return {}


_INTERVENTIONS = {each for each in vars().values() if isinstance(each, InterventionEvent)}
_DEFAULT_ANSWERS: dict[InterventionEvent, Callable[[Event], Any]] = {
    EVT_C_ECHO: _succeed,
    EVT_SOP_COMMON: _negotiate_nothing,
    EVT_SOP_EXTENDED: _negotiate_nothing,
}
"""The events that are answered although the program has bound no handler."""


def get_default_handler(event: InterventionEvent) -> Callable[[Event], Any]:
    """Return the handler that answers `event` if the program has bound none.

    Most raise NoHandler, which is a NotImplementedError: the services turn that into a failure
    status, and the negotiation of user identity and asynchronous operations into no reply.
    """
    return _DEFAULT_ANSWERS.get(event, _not_implemented)


# --- Binding and dispatch ---------------------------------------------------------------------


class Handlers:
    """The handlers of one server or association, by event.

    It is safe to use from any thread: a change replaces the table, and a dispatch that has begun
    continues with the handlers of the old table.

    Log handlers are bound, listed and unbound like any other, but they are called only while the
    "dicomwire" logger is enabled for DEBUG. `arm` checks that level, so that it is not checked for
    each event.

    Parameters
    ----------
    bindings : iterable of (event, handler) or (event, handler, args), optional
        `handler` is called with the Event, followed by `args` if there are any.
    log_handlers : iterable of (event, handler), optional
        Handlers that only log at DEBUG level.

    Attributes
    ----------
    live : dict
        The handlers to call, by event. It is looked up for every message.
    """

    __slots__ = ("_all", "_lock", "_log_handlers", "_quiet", "live")

    event_class: type[Event] = Event
    """The class of the events that handlers receive; subclasses may extend it."""

    def __init__(
        self,
        bindings: Iterable[EventHandlerType] | None = None,
        log_handlers: Iterable[tuple[NotificationEvent, Handler]] = (),
    ) -> None:
        # Guards `_all`, `_quiet` and `live` against two changes at once; readers need no lock,
        # since tables are replaced and never changed. No lock of ours is taken while it is held.
        self._lock = threading.Lock()
        log_handlers = tuple(log_handlers)
        self._log_handlers = tuple(handler for _, handler in log_handlers)
        # All bindings; the bindings without log handlers; the one of the two that is in use.
        self._all: dict[EventType, tuple[Binding, ...]] = {}
        self._quiet = self.live = self._all
        for binding in (*log_handlers, *(bindings or ())):
            self.bind(*binding)

    def copy(self) -> Handlers:
        """Return a copy with the same bindings, for an association of a server."""
        other = type(self).__new__(type(self))
        other._lock, other._log_handlers = threading.Lock(), self._log_handlers
        other._all, other._quiet = self._all, self._quiet
        other._choose()
        return other

    def bind(self, event: EventType, handler: Handler, args: HandlerArgs = None) -> None:
        """Bind `handler` to `event`; it replaces the present handler of an intervention event.

        Raises
        ------
        TypeError
            If `event` is no event, `handler` cannot be called, or `args` is no list or tuple.
        """
        _check(event)
        if not callable(handler):
            raise TypeError(f"a handler must be callable, not {handler!r}")
        if not isinstance(args, list | tuple | None):
            raise TypeError(f"a handler's args must be a list, not {type(args).__name__}")
        binding = (handler, args)
        with self._lock:
            before = () if event.is_intervention else self._all.get(event, ())
            if binding not in before:
                self._put({**self._all, event: (*before, binding)})

    def unbind(self, event: EventType, handler: Handler) -> None:
        """Remove the binding of `handler` to `event`, if there is one."""
        _check(event)
        with self._lock:
            rest = tuple(each for each in self._all.get(event, ()) if each[0] != handler)
            table = {**self._all, event: rest}
            if not rest:
                del table[event]
            self._put(table)

    def get_handlers(self, event: EventType) -> list[Binding] | Binding:
        """Return the bindings of `event`.

        Returns
        -------
        list of (handler, args or None), or (handler, args or None)
            All handlers of a notification event; the one handler of an intervention event.
        """
        _check(event)
        bound = self._all.get(event, ())
        if not isinstance(event, InterventionEvent):
            return list(bound)
        return bound[0] if bound else (get_default_handler(event), None)

    def get_events(self) -> list[EventType]:
        """Return the events that have a handler, sorted by name."""
        return sorted({*self._all, *_INTERVENTIONS}, key=lambda event: event.name)

    def arm(self) -> None:
        """Enable or disable the log handlers according to the logger's present level.

        Call it once when messages begin to be served: it costs more than the look-up of an event.
        """
        with self._lock:
            self._choose()

    def bound(self, event: EventType) -> bool:
        """Return whether `event` has a handler other than the default one."""
        return event in self.live

    def notify(
        self, assoc: Any, event: NotificationEvent, attrs: dict[str, Any] | None = None
    ) -> None:
        """Call the handlers of `event`, if there are any, and log their exceptions."""
        bound = self.live.get(event)
        if bound is not None:
            _tell(bound, self.event_class(assoc, event, attrs))

    def intervene(
        self, assoc: Any, event: InterventionEvent, attrs: dict[str, Any] | None = None
    ) -> Any:
        """Call the handler of `event` and return its answer; its exceptions reach the caller."""
        bound = self.live.get(event)
        handler, args = bound[0] if bound else (get_default_handler(event), None)
        return handler(self.event_class(assoc, event, attrs), *(args or ()))

    def question(
        self, assoc: Any, event: InterventionEvent, attrs: dict[str, Any] | None = None
    ) -> partial[Any]:
        """Return the call that `intervene` would make, for a face that makes it elsewhere."""
        bound = self.live.get(event)
        handler, args = bound[0] if bound else (get_default_handler(event), None)
        return partial(handler, self.event_class(assoc, event, attrs), *(args or ()))

    def _put(self, table: dict[EventType, tuple[Binding, ...]]) -> None:
        self._all = table
        self._quiet = {
            event: kept
            for event, bound in table.items()
            if (kept := tuple(each for each in bound if each[0] not in self._log_handlers))
        }
        self._choose()

    def _choose(self) -> None:
        self.live = self._all if _LOGGER.isEnabledFor(logging.DEBUG) else self._quiet


def _check(event: EventType) -> None:
    if not isinstance(event, NotificationEvent | InterventionEvent):
        raise TypeError(f"{event!r} is not one of the evt.EVT_ events")


def _tell(bound: Iterable[Binding], event: Event) -> None:
    for handler, args in bound:
        try:
            handler(event, *(args or ()))
        except Exception:
            log_failed_handler(event.event, handler)


def log_failed_handler(event: EventType, handler: Handler) -> None:
    """Log the exception of a handler of `event`; call it in the `except` block."""
    name = getattr(handler, "__name__", repr(handler))
    _LOGGER.exception("A handler of evt.%s failed: %s", event.name, name)


def trigger(assoc: Any, event: EventType, attrs: dict[str, Any] | None = None) -> Any:
    """Raise `event` on `assoc`, as the library does: call the handlers that are bound to it.

    Returns
    -------
    Any
        The answer of the handler of an intervention event, whose exceptions reach the caller;
        None for a notification event.
    """
    raised = Event(assoc, event, attrs)
    bound = assoc.get_handlers(event)
    if event.is_notification:
        _tell(bound, raised)
        return None
    handler, args = bound
    return handler(raised, *(args or ()))
