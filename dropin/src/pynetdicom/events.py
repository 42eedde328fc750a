"""`evt`: the events and their handlers, which are dicomwire's.

It adds requests and primitives of the classes of pynetdicom, and context variables.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextvars import Context, copy_context
from typing import Any

from dicomwire.data.payloads import Payload
from dicomwire.events import *
from dicomwire.events import (
    Event as _Event,
    EventHandlerType,
    EventType,
    Handler,
    InterventionEvent,
)
from pynetdicom import _config, dimse_primitives, pdu_primitives


class Event(_Event):
    """The argument of a handler; see `dicomwire.events.Event`."""

    @property
    def request(self) -> Any:
        """C- and N-service events: the request, such as a `dimse_primitives.C_STORE`."""
        request = dimse_primitives.primitive_of(self._given("request"), self.payload)
        self.__dict__["request"] = request
        return request

    @property
    def payload(self) -> Payload | None:
        """C- and N-service events: the dataset as it was received; None if there was none."""
        payload: Payload | None = self.__dict__.get("payload")
        return payload or getattr(self.__dict__.get("request"), "payload", None)

    @property
    def primitive(self) -> Any:
        """EVT_ACSE_RECV, EVT_ACSE_SENT: the primitive, such as a `pdu_primitives.A_ASSOCIATE`."""
        primitive = pdu_primitives.primitive_of(self._given("primitive"))
        self.__dict__["primitive"] = primitive
        return primitive

    def _given(self, name: str) -> Any:
        try:
            return self.__dict__[name]
        except KeyError:
            raise AttributeError(f"{self.event.name} has no {name}") from None


class BoundHandlers(Handlers):
    """The handlers of one server or association."""

    event_class = Event

    def __init__(
        self,
        bindings: Iterable[EventHandlerType] | None = None,
        log_handlers: Iterable[tuple[NotificationEvent, Handler]] = (),
    ) -> None:
        self._context = copy_context() if _config.PASS_CONTEXTVARS else None
        super().__init__(bindings, log_handlers)

    def copy(self) -> BoundHandlers:
        other = super().copy()
        assert isinstance(other, BoundHandlers)
        other._context = self._context
        return other

    def notify(
        self, assoc: Any, event: NotificationEvent, attrs: dict[str, Any] | None = None
    ) -> None:
        _run(self._context, super().notify, assoc, event, attrs)

    def intervene(
        self, assoc: Any, event: InterventionEvent, attrs: dict[str, Any] | None = None
    ) -> Any:
        answer = _run(self._context, super().intervene, assoc, event, attrs)
        if self._context is not None and isinstance(answer, Iterator):
            return _Results(answer, self._context.copy())
        return answer


class _Results:
    """The results of a generator, which runs in the same context for each of them."""

    def __init__(self, results: Iterator[Any], context: Context) -> None:
        self._results = results
        self._context = context

    def __iter__(self) -> _Results:
        return self

    def __next__(self) -> Any:
        return self._context.run(next, self._results)

    def close(self) -> None:
        if hasattr(self._results, "close"):
            self._context.run(self._results.close)


def _run(context: Context | None, call: Callable[..., Any], *args: Any) -> Any:
    # A context is entered once at a time, and handlers may cause events of their own.
    return call(*args) if context is None else context.copy().run(call, *args)


def trigger(assoc: Any, event: EventType, attrs: dict[str, Any] | None = None) -> Any:
    """Raise `event` on `assoc`, as the library does; see `dicomwire.events.trigger`."""
    if isinstance(event, InterventionEvent):
        return assoc.handlers.intervene(assoc, event, attrs)
    return assoc.handlers.notify(assoc, event, attrs)
