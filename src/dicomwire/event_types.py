"""The kinds of events, and the results of their handlers, for type checkers.

`events` has the events themselves, and calls the handlers.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, Awaitable, Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Self, TypeAlias, TypeVar

if TYPE_CHECKING:
    from pydicom.dataset import Dataset


class EventType(NamedTuple):
    """The kind of an event: one of the `evt.EVT_…`."""

    name: str
    description: str
    is_intervention: bool
    is_notification: bool

    def __str__(self) -> str:
        return self.name


class NotificationEvent(EventType):
    """Reports something that happened; any number of handlers may be bound."""

    __slots__ = ()

    def __new__(
        cls,
        name: str,
        description: str,
        is_intervention: bool = False,
        is_notification: bool = True,
    ) -> Self:
        """Return the event; it is no intervention."""
        return super().__new__(cls, name, description, is_intervention, is_notification)


class InterventionEvent(EventType):
    """Asks for an answer; exactly one handler is called."""

    __slots__ = ()

    def __new__(
        cls,
        name: str,
        description: str,
        is_intervention: bool = True,
        is_notification: bool = False,
    ) -> Self:
        """Return the event; it is no notification."""
        return super().__new__(cls, name, description, is_intervention, is_notification)


# One class for each kind of result that handlers of interventions return. On the asyncio face,
# handlers may also be coroutine functions and asynchronous generators.


class StatusEvent(InterventionEvent):
    """Its handler returns the status of the response, an int or a Dataset with Status."""

    __slots__ = ()


class MatchesEvent(InterventionEvent):
    """Its handler yields pairs of a status and an Identifier, or None in its place."""

    __slots__ = ()


class ObjectsEvent(InterventionEvent):
    """Its handler yields how many objects there are, and then the objects, each with a status.

    For C-MOVE it first yields the address of the destination.
    """

    __slots__ = ()


class ReplyEvent(InterventionEvent):
    """Its handler returns the status and the dataset of the response; None for no dataset."""

    __slots__ = ()


class IdentityEvent(InterventionEvent):
    """Its handler returns whether the user is accepted, and the server response or None."""

    __slots__ = ()


class WindowEvent(InterventionEvent):
    """Its handler returns the operations that may be invoked and performed at a time."""

    __slots__ = ()


class NegotiationEvent(InterventionEvent):
    """Its handler returns the items of the answer by SOP class UID."""

    __slots__ = ()


Handler: TypeAlias = Callable[..., Any]
HandlerArgs: TypeAlias = Sequence[Any] | None
Binding: TypeAlias = tuple[Handler, HandlerArgs]

Status: TypeAlias = "int | Dataset"
Pair: TypeAlias = "tuple[Status, Dataset | None]"
Match: TypeAlias = "tuple[Status, Dataset | bytes | None]"

E = TypeVar("E", bound=EventType)
R = TypeVar("R")

_Handled: TypeAlias = tuple[E, Callable[..., R | Awaitable[R]], *tuple[HandlerArgs, ...]]
_Yielded: TypeAlias = tuple[
    E, Callable[..., Iterable[R] | AsyncIterable[R]], *tuple[HandlerArgs, ...]
]

EventHandlerType: TypeAlias = (
    _Handled[NotificationEvent, object]
    | _Handled[StatusEvent, "Status"]
    | _Yielded[MatchesEvent, "Match"]
    | _Yielded[ObjectsEvent, Any]
    | _Handled[ReplyEvent, "Pair"]
    | _Handled[IdentityEvent, tuple[bool, bytes | None]]
    | _Handled[WindowEvent, tuple[int, int]]
    | _Handled[NegotiationEvent, Mapping[Any, Any]]
)
"""(event, handler) or (event, handler, args), with a handler that returns what the event asks for.

Annotate a list of handlers for several kinds of events with `list[evt.EventHandlerType]`.
"""
