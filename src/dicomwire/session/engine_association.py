"""The association as its `Engine` sees it.

`session.lifecycle` and its subclasses implement this.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from dicomwire.data.sinks import Sink
from dicomwire.errors import AssociationFailure
from dicomwire.events import Handlers
from dicomwire.logs import Between
from dicomwire.protocol.command import Message
from dicomwire.protocol.context import PresentationContext
from dicomwire.protocol.events import Event
from dicomwire.registry.services import Service, SOPClass
from dicomwire.services.port import Incoming, Storer

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

Refuse: TypeAlias = "Callable[[Message], int | Dataset | None]"
"""Returns the failure status for the command set of a request; None to serve the request."""


class EngineAssociation(Protocol):
    """The association that an `Engine` belongs to, with the members that the engine uses."""

    handlers: Handlers
    refuse: Refuse | None

    @property
    def between(self) -> Between:
        """The association, for the log."""

    @property
    def operations_window(self) -> int:
        """How many operations the requestor may have outstanding; 0 is any number."""

    @property
    def own_window(self) -> int:
        """How many operations we may have outstanding; 0 is any number."""

    def contexts_by_id(self) -> dict[int, PresentationContext]:
        """Return the accepted presentation contexts by id."""

    @property
    def files_stored(self) -> bool:
        """Whether the library writes objects received by C-STORE to files."""

    def open_sink(self, incoming: Incoming) -> Sink:
        """Return the sink for the dataset of a message."""

    def service_of(self, sop_class: SOPClass) -> Service:
        """Return the service that serves `sop_class` on this association."""

    def own_storer(self, reduce: Callable[[Dataset], Dataset] | None = None) -> Storer:
        """Return the storer that sends objects on this association."""

    async def storer_to(self, title: str, host: str, port: int, options: dict[str, Any]) -> Storer:
        """Return a storer that sends objects to another AE."""

    def release_soon(self) -> None:
        """Start releasing the association, and do not wait for the end."""

    def on_event(self, event: Event) -> None:
        """Act on the peer's release or abort, on its consent to our release, or on a violation."""

    def on_lost(self, failure: AssociationFailure) -> None:
        """Note that the connection is lost."""

    def on_local_abort(self, failure: AssociationFailure) -> None:
        """End the association from our side."""

    def on_network_timeout(self, failure: AssociationFailure) -> None:
        """End the association, since no message arrived within the network timeout."""
