"""What servers of both faces are: whom they serve, with what, and the handlers of their events.

How connections are taken is each face's own.
"""

from __future__ import annotations

import ssl
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, Generic

from dicomwire.entity import A
from dicomwire.events import Binding, EventType, Handlers
from dicomwire.protocol.context import PresentationContext
from dicomwire.services.acse import Policy
from dicomwire.services.association import ReceiveTo

if TYPE_CHECKING:
    from dicomwire.entity import Entity


class BaseServer(ABC, Generic[A]):
    """A server that accepts associations for an AE, on either face."""

    def __init__(
        self,
        ae: Entity[A],
        ae_title: str,
        contexts: list[PresentationContext],
        ssl_context: ssl.SSLContext | None,
        evt_handlers: Handlers | None,
        receive_to: ReceiveTo | None,
    ) -> None:
        self.ae: Any = ae
        self.ae_title = ae_title
        self.contexts = contexts
        self.ssl_context = ssl_context
        self.receive_to = receive_to
        self.handlers = evt_handlers or Handlers()

    @property
    @abstractmethod
    def is_closing(self) -> bool:
        """Whether no more associations are accepted."""

    @property
    def active_associations(self) -> list[A]:
        """The associations that this server accepted and that are not over."""
        return [each for each in self.ae.active_associations if each.server is self]

    def bind(self, event: EventType, handler: Any, args: Any = None) -> None:
        """Bind `handler` to `event`, for the associations there are and those to come."""
        self.handlers.bind(event, handler, args)
        for association in self.active_associations:
            association.bind(event, handler, args)

    def unbind(self, event: EventType, handler: Any) -> None:
        """Undo the binding of `handler` to `event`, everywhere."""
        self.handlers.unbind(event, handler)
        for association in self.active_associations:
            association.unbind(event, handler)

    def get_handlers(self, event: EventType) -> list[Binding] | Binding:
        """Return what is bound to `event`."""
        return self.handlers.get_handlers(event)

    def get_events(self) -> list[EventType]:
        """Return the events that have a handler, sorted by name."""
        return self.handlers.get_events()

    def policy(self, association: A) -> Policy:
        """Return whom the server takes, and how."""
        ae = self.ae
        return Policy(
            called_ae_title=self.ae_title.strip() if ae.require_called_aet else None,
            calling_ae_titles=tuple(title.strip() for title in ae.require_calling_aet),
            unrestricted_storage=ae.settings.unrestricted_storage,
            take_slot=lambda: not self.is_closing and ae.take_slot(association),
            operations_window=ae.settings.operations_window,
        )
