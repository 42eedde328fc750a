"""The port: the interface between a service and the face that runs it.

A service awaits everything that may take time. The port of the threaded face blocks and never
suspends, so a coroutine runs to its end in one step (`run_blocking`). The asyncio face awaits it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from dicomwire.data.payloads import Payload
from dicomwire.data.sources import Data
from dicomwire.events import EventType, InterventionEvent
from dicomwire.logs import LOGGER, Between
from dicomwire.protocol.command import Message
from dicomwire.protocol.context import PresentationContext
from dicomwire.registry.services import Service, SOPClass

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

Server: TypeAlias = "Callable[[Port, Incoming, SOPClass], Awaitable[None]]"
"""The function that serves one kind of request."""

END = object()
"""Returned by `Port.next_result` when the handler has no more results."""


ServedBy: TypeAlias = "tuple[Server, SOPClass]"
"""The function that serves a request, and the SOP class of its presentation context."""


@dataclass(slots=True)
class Incoming:
    """A completely received message.

    Attributes
    ----------
    context : PresentationContext
        The accepted context on which it was sent.
    message : Message
    payload : Payload or None
        Its dataset; None if it has none, or the dataset was not kept.
    refusal : int, Dataset or None
        The status with which a request is refused, because it cannot be served or because its
        dataset could not be kept (disk full, above a ceiling).
    reason : str
        Why the library refuses it: the comment of the response. The log has it already.
    service : (Server, SOPClass) or None
        For a request that is not refused: the function that serves it, and the SOP class of its
        context.
    is_answered : bool
        Whether the handler has had the response sent; see `Association.respond_early`.
    """

    context: PresentationContext
    message: Message
    payload: Payload | None = None
    refusal: int | Dataset | None = None
    reason: str = ""
    service: ServedBy | None = None
    is_answered: bool = False

    def discard(self) -> None:
        """Remove temporary files; log an exception, which a payload of the program may raise."""
        if self.payload is not None:
            try:
                self.payload.discard()
            except Exception:
                LOGGER.exception("A payload cannot be discarded")


class Storer(Protocol):
    """Sends objects for a retrieval."""

    async def store(self, value: Any, message_id: int, request: Message) -> tuple[str, int | None]:
        """Send a dataset or a file; return its SOP Instance UID and the status of the response.

        If the object could not be sent, the status is None and the log has the reason: an error of
        the object, or of the association that sends it. AssociationFailure means the end of the
        association on which the retrieval was requested.
        """

    async def close(self) -> None:
        """Release the association that was opened for sending, if there is one."""


class Port(Protocol):
    """One association, as its services see it."""

    async def send(self, context_id: int, message: Message, data: Data | None = None) -> None:
        """Send `message`, with the dataset `data` if there is one."""

    async def succeed(self, incoming: Incoming) -> None:
        """Answer a C-STORE or C-ECHO with the status 0x0000, and log that, as `respond` does."""

    async def intervene(self, event: InterventionEvent, attrs: dict[str, Any]) -> Any:
        """Call the handler bound to `event` and return its result; its exceptions are raised.

        AssociationFailure is raised if the association has ended meanwhile.
        """

    def bound(self, event: EventType) -> bool:
        """Return whether the program bound a handler to `event`."""

    def service_of(self, sop_class: SOPClass) -> Service:
        """Return the service that serves `sop_class` here: extended negotiation may redirect."""

    @property
    def between(self) -> Between:
        """The association, for the log."""

    # The results of handlers

    def iterate(self, answer: Any) -> Any:
        """Return an iterator over the result of a handler; TypeError if it is not iterable."""

    async def next_result(self, results: Any) -> Any:
        """Return the next result of a handler, or END; exceptions of the handler are raised."""

    async def close_results(self, results: Any) -> None:
        """Close the generator of a handler, if it still runs."""

    def cancel_waits(self, message_id: int) -> bool:
        """Return whether a C-CANCEL has arrived and the handler has not looked at `is_cancelled`.

        Reads what has arrived first, without waiting.
        """

    # The storers of retrieved objects

    def own_storer(self, reduce: Callable[[Dataset], Dataset] | None = None) -> Storer:
        """Return a storer that sends objects, reduced by `reduce`, on this association (C-GET)."""

    async def storer_to(self, title: str, host: str, port: int, options: dict[str, Any]) -> Storer:
        """Return a storer that sends objects to another AE (C-MOVE).

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
        """Whether the library writes objects received by C-STORE to files."""
