"""The server of both faces: its AE, title, contexts, policy and handlers.

Each face accepts connections in its own way.
"""

from __future__ import annotations

import ssl
import threading
from typing import Any, Generic, TypeVar
from weakref import WeakSet

from dicomwire.events import Binding, EventType, Handlers
from dicomwire.logs import LOGGER
from dicomwire.protocol.context import PresentationContext
from dicomwire.public_names import PublicNames
from dicomwire.session.acceptance import Policy
from dicomwire.session.admission import (
    MAKING_ROOM,
    TOO_MUCH_MEMORY,
    C,
    FairQueue,
    NewConnections,
)
from dicomwire.session.agreements import BEGINNING, Agreement, Agreements
from dicomwire.session.base import ReceiveTo
from dicomwire.session.ends import MODE_ACCEPTOR, AddressInformation
from dicomwire.session.entity import A, Entity
from dicomwire.session.listening import connection_ceiling, peer_name

W = TypeVar("W")
"""What waits until a request can be negotiated."""


class BaseServer(PublicNames, Generic[A, C, W]):
    """A server that accepts associations for an AE, on either face."""

    library_names = """
        accept accept_last add_connection agreed connection_closed deadline_of finish has_room hold
        is_closing negotiate new_acceptor new_association open pause policy remembers remove run
        start_listening stop_listening submit supported wait_for watch"""

    remembers = True
    """Whether a request may be answered as an earlier equal one, without negotiating it again."""

    def __init__(
        self,
        ae: Entity[A, Any],
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
        # Guards the connections and the requests that wait. On the threaded face, it is taken
        # before the watcher's lock, see `threaded.link`.
        self._lock = threading.Lock()
        self._address: tuple[Any, ...] = ()
        self._is_closing = False
        self._connections = 0
        self._ceiling = connection_ceiling(ae.settings)
        self._new_connections: NewConnections[C] = NewConnections()
        self._waiting: FairQueue[W] = FairQueue()
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
    def is_closing(self) -> bool:
        """Whether no more associations are accepted."""
        return self._is_closing

    @property
    def server_address(self) -> tuple[Any, ...]:
        """The address that the server listens on, with the actual port if 0 was requested."""
        return self._address

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

    # --- Connections without an association ---

    def has_room(self, host: str, peer: str) -> bool:
        """Count one more connection; if there are too many, drop the oldest of `host`, or of all.

        Returns false if no connection can be dropped, and the new one must be closed.
        """
        with self._lock:
            most = self.ae.settings.connections_per_address
            other = self._new_connections.in_the_way(host, most)
            is_crowded = self._waiting.is_crowded(host)
        if other is not None:
            other.drop(MAKING_ROOM)
        if is_crowded or (self._connections >= self._ceiling and not self._make_room()):
            reason = "too many from its address wait" if is_crowded else "too many are open"
            LOGGER.warning("A connection from %s is refused: %s", peer, reason)
            return False
        with self._lock:
            self._connections += 1
        return True

    def _make_room(self) -> bool:
        """Drop the oldest connection without an association; false if there is none."""
        with self._lock:
            oldest = self._new_connections.oldest()
        if oldest is None:
            return False
        oldest.drop(MAKING_ROOM)
        return True

    def hold(self, size: int) -> None:
        """Count `size` more bytes of incomplete requests; above the limit, drop the longest."""
        with self._lock:
            longest = self._new_connections.count(size)
        if longest is not None:
            longest.drop(TOO_MUCH_MEMORY)

    def remove(self, connection: C) -> bool:
        """Remove `connection` from those that wait; false if it was removed before."""
        with self._lock:
            return self._new_connections.remove(connection)

    def connection_closed(self) -> None:
        """Stop counting a connection that was closed."""
        with self._lock:
            self._connections -= 1

    # --- Association requests ---

    def agreed(self, host: str, received: bytes) -> A | None:
        """Return an association whose request is answered as an earlier equal one.

        None if the request has to be negotiated, or there is no room for an association.
        """
        agreement = self._agreements.find(received, self._terms())
        if agreement is None or not (self.remembers and BEGINNING.isdisjoint(self.handlers.live)):
            return None
        if self._has_shown_contexts or self.is_closing:
            return None
        association = self.new_acceptor(agreement)
        title = agreement.request.calling_ae_title
        return association if self.ae.admit(association, host, title) is None else None

    def policy(self, association: Any, host: str, received: bytes) -> Policy:
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

    def _terms(self) -> object:
        """Return what decides the answer to a request, besides handlers and contexts."""
        ae = self.ae
        calling = tuple(ae.require_calling_aet) if ae.require_calling_aet else ()
        return self.ae_title, ae.terms, calling
