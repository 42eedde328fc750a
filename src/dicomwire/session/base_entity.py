"""The application entity of both faces, as it makes associations and knows its servers.

`entity` has its titles, contexts and settings; each face starts servers in its own way.
"""

from __future__ import annotations

import ssl
from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

from dicomwire.events import EventHandlerType
from dicomwire.protocol.context import PresentationContext
from dicomwire.protocol.items import DEFAULT_MAX_LENGTH, UserItem
from dicomwire.session.ends import MODE_REQUESTOR
from dicomwire.session.entity import DEFAULT_TITLE, DEFAULTS, A, Entity
from dicomwire.session.target import Target
from dicomwire.settings import Settings
from dicomwire.utils import set_title

Requested = TypeVar("Requested")
"""What `associate` returns: an association, or something to await for it."""


class BaseEntity(Entity[A], Generic[A, Requested]):
    """An application entity that requests associations, and makes those of its servers."""

    association_class: Callable[..., A]
    """The class of its associations, for subclasses to extend."""

    def __init__(self, ae_title: str = DEFAULT_TITLE, settings: Settings = DEFAULTS) -> None:
        super().__init__(ae_title, settings)
        self._servers: list[Any] = []  # guarded by `_lock`

    @abstractmethod
    def _request(self, make: Callable[[], A], target: Target, called: str) -> Requested:
        """Request an association of the AE titled `called`; `make` returns a new association."""

    def associate(
        self,
        addr: str | tuple[str, int, int],
        port: int,
        contexts: list[PresentationContext] | None = None,
        ae_title: str = "ANY-SCP",
        max_pdu: int = DEFAULT_MAX_LENGTH,
        ext_neg: Sequence[UserItem] | None = None,
        bind_address: tuple[Any, ...] | None = None,
        tls_args: tuple[ssl.SSLContext, str | None] | None = None,
        evt_handlers: Sequence[EventHandlerType] | None = None,
        window: int = 1,
    ) -> Requested:
        """Request an association (PS3.8 Section 7.1).

        Parameters
        ----------
        addr : str or tuple
            The peer's host name or address; for IPv6 also (address, flowinfo, scope id).
        port : int
            The peer's port.
        contexts : list of PresentationContext, optional
            The contexts to propose, instead of `requested_contexts`.
        ae_title : str
            The called AE title.
        max_pdu : int
            The longest P-DATA-TF that we accept, in bytes; 0 for no maximum.
        ext_neg : list, optional
            Items of extended negotiation.
        bind_address : tuple, optional
            The local (host, port) to connect from.
        tls_args : (ssl.SSLContext, str), optional
            For TLS: the context, and the name that the peer's certificate must have.
        evt_handlers : list, optional
            (event, handler) or (event, handler, args) to bind.
        window : int
            How many operations to keep outstanding, if the peer grants that many; see
            `Association.send_c_stores` and `Association.operations_window`.

        Returns
        -------
        Association, or Opening
            The threaded face waits for the answer and returns the Association, also if it was not
            established: see `is_established`, and `failure` for the reason. On the asyncio face,
            await the result, or enter it by ``async with``, for the established Association.

        Raises
        ------
        TypeError
            When `addr`, `port` or `bind_address` is not of its type.
        RuntimeError
            When there is no presentation context to propose.
        ValueError
            When there are more than 128.
        AssociationFailure
            On the asyncio face, when awaited: the association was rejected or aborted, connecting
            failed, or a deadline passed.
        """
        target = Target.of(addr, port, bind_address, tls_args)
        proposed = self._proposed(contexts)
        called = set_title(ae_title, "ae_title")

        def make() -> A:
            handlers = self._handlers(evt_handlers)
            association = self.association_class(self, MODE_REQUESTOR, handlers=handlers)
            self._propose(association, proposed, max_pdu, ext_neg, window)
            return association

        return self._request(make, target, called)

    def forget_server(self, server: Any) -> None:
        """Remove a server that was shut down (for servers)."""
        with self._lock:
            if server in self._servers:
                self._servers.remove(server)

    def forget_parent(self) -> None:
        """Forget the associations and servers of the parent process, after a fork."""
        super().forget_parent()
        self._servers.clear()
