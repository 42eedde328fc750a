"""The port: all that a service needs from the face that runs it.

A service awaits what may take time. The threaded face's port blocks instead of suspending, so its
coroutines run to their end in one step (`run_blocking`); the asyncio face awaits them.
"""

from __future__ import annotations

from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from dicomwire.events import EventType, InterventionEvent
from dicomwire.payloads import Payload, Source
from dicomwire.protocol.command import Message
from dicomwire.protocol.context import PresentationContext

T = TypeVar("T")


@dataclass(slots=True)
class Incoming:
    """A message that was received whole.

    Attributes
    ----------
    context : PresentationContext
        The accepted context that it came on.
    message : Message
    payload : Payload or None
        Its dataset; None where it has none, or the dataset could not be kept.
    refusal : int or None
        The status to answer with, where the dataset could not be kept (disk full, above a
        ceiling).
    """

    context: PresentationContext
    message: Message
    payload: Payload | None = None
    refusal: int | None = None


class Port(Protocol):
    """One association, as its services see it."""

    async def send(self, context_id: int, message: Message, source: Source | None = None) -> None:
        """Send `message` and, where there is one, the dataset from `source`."""

    async def response(self, message_id: int) -> Incoming:
        """Return the next response to the request `message_id`, within the DIMSE timeout."""

    async def intervene(self, event: InterventionEvent, attrs: dict[str, Any]) -> Any:
        """Ask the handler bound to `event` and return its answer; what it raises comes through."""

    def bound(self, event: EventType) -> bool:
        """Return whether the program bound a handler to `event`."""

    @property
    def is_over(self) -> bool:
        """Whether the association has ended, so that nothing can be sent any more."""

    @property
    def keeps_stored(self) -> bool:
        """Whether what is received by C-STORE is filed without a handler's help."""

    def abort(self) -> None:
        """Abort the association."""


def run_blocking(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine that never suspends, and return its result.

    Raises
    ------
    RuntimeError
        When it does suspend: a port that was to block did not.
    """
    try:
        coroutine.send(None)
    except StopIteration as stop:
        result: T = stop.value
        return result
    coroutine.close()
    raise RuntimeError("a service suspended on a port that blocks")
