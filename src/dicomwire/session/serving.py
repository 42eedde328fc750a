"""The server of both faces: its AE, title, contexts, policy and handlers.

Each face accepts connections in its own way.
"""

from __future__ import annotations

import ssl
import threading
from abc import ABC, abstractmethod
from typing import Any, Generic
from weakref import WeakSet

from dicomwire.events import Binding, EventType, Handlers
from dicomwire.listing import Listed
from dicomwire.protocol.context import PresentationContext
from dicomwire.session.acceptance import Policy
from dicomwire.session.agreements import BEGINNING, Agreement, Agreements
from dicomwire.session.base import ReceiveTo
from dicomwire.session.ends import MODE_ACCEPTOR, AddressInformation
from dicomwire.session.entity import A, Entity
from dicomwire.session.listening import peer_name


class BaseServer(Listed, ABC, Generic[A]):
    """A server that accepts associations for an AE, on either face."""

    library_names = """
        accept add_connection admit agreement connection_closed hold is_closing negotiate
        new_acceptor new_association open pause policy remembers remove run start_listening
        stop_listening submit supported watch"""

    remembers = True
    """Whether a request may be answered as an earlier equal one, without negotiating it again."""

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
        self.supported = contexts  # for the library, which does not change it
        self.ssl_context = ssl_context
        self.receive_to = receive_to
        self.handlers = evt_handlers or Handlers()
        self._made: WeakSet[A] = WeakSet()  # also associations in negotiation
        # Guards `_made` together with `handlers`, so that no association misses a binding.
        # `threaded.link` has the order of the locks.
        self._binding = threading.Lock()
        self._agreements = Agreements()
        self._has_shown_contexts = False  # the program has the list, and may change it

    def __repr__(self) -> str:
        state = "closed" if self.is_closing else f"{len(self.active_associations)} associations"
        return (
            f"<{type(self).__name__} {self.ae_title} on {peer_name(self.server_address)}, {state}>"
        )

    @property
    def contexts(self) -> list[PresentationContext]:
        """The supported contexts."""
        self._has_shown_contexts = True
        return self.supported

    @contexts.setter
    def contexts(self, contexts: list[PresentationContext]) -> None:
        self.supported = contexts
        self._has_shown_contexts = True

    @property
    @abstractmethod
    def is_closing(self) -> bool:
        """Whether no more associations are accepted."""

    @property
    @abstractmethod
    def server_address(self) -> tuple[Any, ...]:
        """The address that the server listens on."""

    @property
    def address_info(self) -> AddressInformation:
        """The address that the server listens on, with names for its parts."""
        return AddressInformation.from_tuple(self.server_address)

    @property
    def active_associations(self) -> list[A]:
        """The associations that this server accepted and that are not over."""
        return [each for each in self.ae.active_associations if each.server is self]

    def bind(self, event: EventType, handler: Any, args: Any = None) -> None:
        """Bind `handler` to `event`, for present and future associations."""
        with self._binding:
            self.handlers.bind(event, handler, args)
            for association in self._made:
                association.bind(event, handler, args)

    def unbind(self, event: EventType, handler: Any) -> None:
        """Undo the binding of `handler` to `event`, for present and future associations."""
        with self._binding:
            self.handlers.unbind(event, handler)
            for association in self._made:
                association.unbind(event, handler)

    def new_acceptor(self, agreement: Agreement | None = None) -> A:
        """Return an association for an accepted connection, with copies of the server's handlers.

        With the `agreement` on its request, if that is known already.
        """
        ae = self.ae
        with self._binding:
            handlers = self.handlers.copy()
            association: Any = ae.association_class(
                ae, MODE_ACCEPTOR, handlers=handlers, server=self, agreement=agreement
            )
            self._made.add(association)
        if agreement is None:
            ae.introduce(association.acceptor, self.ae_title)
            association.acceptor.supported_contexts = self.supported
        made: A = association
        return made

    def get_handlers(self, event: EventType) -> list[Binding] | Binding:
        """Return the handlers that are bound to `event`."""
        return self.handlers.get_handlers(event)

    def get_events(self) -> list[EventType]:
        """Return the events that have a handler, sorted by name."""
        return self.handlers.get_events()

    def policy(self, association: A, host: str, received: bytes) -> Policy:
        """Return which association requests the server accepts, and on which terms.

        Parameters
        ----------
        host : str
            The address of the peer.
        received : bytes
            The request.
        """

        def admit() -> str | None:
            if self.is_closing:
                return "the server closes"
            objection: str | None = ae.admit(association, host, association.requestor.ae_title)
            return objection

        ae = self.ae
        terms = self._terms()
        return Policy(
            called_ae_title=self.ae_title.strip() if ae.require_called_aet else None,
            calling_ae_titles=tuple(title.strip() for title in ae.require_calling_aet),
            unrestricted_storage=ae.settings.unrestricted_storage,
            admit=admit,
            operations_window=ae.settings.operations_window,
            remember=lambda agreement: self._agreements.keep(received, terms, agreement),
        )

    def agreement(self, received: bytes) -> Agreement | None:
        """Return how an equal request was accepted before; None if it has to be negotiated."""
        agreement = self._agreements.find(received, self._terms())
        if agreement is None or not (self.remembers and BEGINNING.isdisjoint(self.handlers.live)):
            return None
        return None if self._has_shown_contexts or self.is_closing else agreement

    def _terms(self) -> object:
        """Return all on which the answer to a request depends besides handlers and contexts."""
        ae = self.ae
        calling = tuple(ae.require_calling_aet) if ae.require_calling_aet else ()
        return self.ae_title, ae.terms, calling
