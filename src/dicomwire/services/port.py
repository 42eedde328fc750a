"""The port: all that a service needs from the face that runs it.

A service awaits what may take time. The threaded face's port blocks instead of suspending, so its
coroutines run to their end in one step (`run_blocking`); the asyncio face awaits them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

from pydicom.dataset import Dataset

from dicomwire.data.payloads import Payload
from dicomwire.data.sources import Source
from dicomwire.events import EventType, InterventionEvent
from dicomwire.logs import LOGGER
from dicomwire.protocol.command import Message
from dicomwire.protocol.context import PresentationContext
from dicomwire.registry.services import Service, SOPClass

Server: TypeAlias = "Callable[[Port, Incoming, SOPClass], Awaitable[None]]"
"""What serves one kind of request."""

END = object()
"""What `Port.next_result` returns when the handler has no more."""


ServedBy: TypeAlias = "tuple[Server, SOPClass]"
"""What serves a request, and the SOP class of its presentation context."""


@dataclass(slots=True)
class Incoming:
    """A message that was received whole.

    Attributes
    ----------
    context : PresentationContext
        The accepted context that it came on.
    message : Message
    payload : Payload or None
        Its dataset; None where it has none, or the dataset was not kept.
    refusal : int, Dataset or None
        The status that a request is refused with: because of what it asks for, or because its
        dataset could not be kept (disk full, above a ceiling).
    service : (Server, SOPClass) or None
        What serves a request that is not refused, and the SOP class of its context.
    """

    context: PresentationContext
    message: Message
    payload: Payload | None = None
    refusal: int | Dataset | None = None
    service: ServedBy | None = None

    def discard(self) -> None:
        """Remove temporary files. What a payload of the program's own raises is only logged."""
        if self.payload is not None:
            try:
                self.payload.discard()
            except Exception:
                LOGGER.exception("A payload cannot be discarded")


class Exchange(Protocol):
    """A request that was sent, and the responses to it."""

    async def response(self) -> Incoming:
        """Return the next response, within the DIMSE timeout; serve what must not wait for it."""

    @property
    def has_response(self) -> bool:
        """Whether there is a response to take."""

    def take(self) -> Incoming:
        """Return a response that has come."""

    def abandon(self) -> None:
        """Let all responses pass by that have not been taken."""


class Storer(Protocol):
    """Sends objects for a retrieval."""

    async def store(self, value: Any, message_id: int, request: Message) -> tuple[str, int | None]:
        """Send a dataset or a file; return its SOP Instance UID and the status of the response.

        The status is None, and the log says why, for what could not be sent: a fault of that
        object, or of the association that it was to go on. The end of the association that the
        retrieval is served on is raised as AssociationFailure.
        """

    async def close(self) -> None:
        """Release what was opened for it."""


class Port(Protocol):
    """One association, as its services see it."""

    async def send(self, context_id: int, message: Message, source: Source | None = None) -> None:
        """Send `message` and, where there is one, the dataset from `source`."""

    async def request(
        self,
        context_id: int,
        message: Message,
        source: Source | None = None,
        *,
        join: Any = None,
        more: bool = False,
    ) -> Exchange:
        """Send a request; where one alike is still being answered, once that is over.

        Parameters
        ----------
        join : Exchange, optional
            What an earlier request of one response returned: those of both come by it.
        more : bool
            Whether others are to follow at once. It may wait to leave with them, until there is
            something else to send, `flushed` is called, or a response is waited for.
        """

    async def flushed(self) -> None:
        """Send what waits to be sent."""

    async def intervene(self, event: InterventionEvent, attrs: dict[str, Any]) -> Any:
        """Ask the handler bound to `event` and return its answer; what it raises comes through.

        AssociationFailure is raised when the association has ended meanwhile.
        """

    def bound(self, event: EventType) -> bool:
        """Return whether the program bound a handler to `event`."""

    def service_of(self, sop_class: SOPClass) -> Service:
        """Return the service that serves `sop_class` here: extended negotiation may redirect."""

    # What handlers yield

    def iterate(self, answer: Any) -> Any:
        """Return an iterator over what a handler answered; TypeError if it is not iterable."""

    async def next_result(self, results: Any) -> Any:
        """Return the next result of a handler, or END; what the handler raises comes through."""

    async def close_results(self, results: Any) -> None:
        """End the handler that is behind `results`, if it still runs."""

    def cancel_waits(self, message_id: int) -> bool:
        """Return whether C-CANCEL came and the handler has not looked; takes in what has come."""

    # Where retrieved objects go

    def own_storer(self, reduce: Callable[[Dataset], Dataset] | None = None) -> Storer:
        """Return what sends objects on this association (C-GET), or what `reduce` makes of them."""

    async def storer_to(self, title: str, host: str, port: int, options: dict[str, Any]) -> Storer:
        """Return what sends objects to another AE (C-MOVE).

        Raises
        ------
        AssociationFailure
            When that AE cannot be associated with.
        """

    @property
    def is_over(self) -> bool:
        """Whether the association has ended, so that nothing can be sent any more."""

    @property
    def keeps_stored(self) -> bool:
        """Whether what is received by C-STORE is filed without a handler's help."""

    def abort(self) -> None:
        """Abort the association."""
