"""The association that an `Engine` belongs to, as that needs it.

`session.lifecycle` and what builds on it provide this.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from pydicom.dataset import Dataset

from dicomwire.data.sinks import Sink
from dicomwire.errors import (
    AssociationAborted,
    AssociationFailure,
)
from dicomwire.events import (
    Handlers,
)
from dicomwire.protocol.command import Message
from dicomwire.protocol.pdu import Abort
from dicomwire.registry.services import Service, SOPClass
from dicomwire.services.port import Incoming, Storer

Refuse = Callable[[Message], int | Dataset | None]
"""Says of the command set of a request with which status it is refused; None to serve it."""


class Owner(Protocol):
    """The association that an `Engine` belongs to, as far as that needs it."""

    handlers: Handlers
    refuse: Refuse | None

    @property
    def operations_window(self) -> int:
        """How many operations the requestor may have outstanding; 0 is any number."""

    @property
    def own_window(self) -> int:
        """How many operations we may have outstanding; 0 is any number."""

    @property
    def files_stored(self) -> bool:
        """Whether objects received by C-STORE are filed without a handler's help."""

    def open_sink(self, incoming: Incoming) -> Sink:
        """Return the sink that the dataset of a message goes to."""

    def service_of(self, sop_class: SOPClass) -> Service:
        """Return the service that serves `sop_class` on this association."""

    def own_storer(self, reduce: Callable[[Dataset], Dataset] | None = None) -> Storer:
        """Return what sends objects on this association."""

    async def storer_to(self, title: str, host: str, port: int, options: dict[str, Any]) -> Storer:
        """Return what sends objects to another AE."""

    def release_soon(self) -> None:
        """Release the association without waiting for that."""

    def on_release_requested(self) -> None:
        """Agree to the peer's release."""

    def on_release_confirmed(self) -> None:
        """Note that the peer agrees to our release."""

    def on_peer_abort(self, pdu: Abort) -> None:
        """Note that the peer aborted."""

    def on_violation(self, failure: AssociationAborted) -> None:
        """Note that the peer broke the protocol."""

    def on_lost(self, failure: AssociationFailure) -> None:
        """Note that the connection is lost."""

    def on_local_abort(self, failure: AssociationFailure) -> None:
        """End the association from our side."""

    def on_network_timeout(self, failure: AssociationFailure) -> None:
        """End an association on which nothing was received for too long."""
