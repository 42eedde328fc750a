"""The application entity of both faces: title, contexts, settings, associations and servers.

Each face requests associations and starts servers in its own way.
"""

from __future__ import annotations

import logging
import ssl
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import cached_property
from math import inf
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeAlias, TypeVar

from dicomwire.data.budgets import Budget
from dicomwire.errors import LocalProtocolError
from dicomwire.events import EventHandlerType, EventType, Handlers
from dicomwire.logs import DEFAULT_LOG_HANDLERS
from dicomwire.protocol.context import PresentationContext
from dicomwire.protocol.items import (
    DEFAULT_MAX_LENGTH,
    AsynchronousOperationsWindowNegotiation,
    UserItem,
)
from dicomwire.public_names import PublicNames
from dicomwire.registry.implementation import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from dicomwire.registry.uids import is_valid, looked_up, quick_uid
from dicomwire.session.admission import LocalCounts, Peer
from dicomwire.session.contexts import (
    bare_copy,
    build_context,
    check_contexts,
    check_count,
    merged,
    numbered,
    without,
)
from dicomwire.session.ends import LONGEST, MODE_REQUESTOR, ServiceUser
from dicomwire.session.target import Target
from dicomwire.settings import Settings, Timeout
from dicomwire.utils import set_ae, set_title, set_uid

if TYPE_CHECKING:
    from pydicom.uid import UID

LOGGER = logging.getLogger(__name__)


class Member(Protocol):
    """An association as its entity sees it."""

    server: Any

    def update_settings(self, **changes: Any) -> None:
        """Change settings of this association alone."""

    def bind(self, event: EventType, handler: Callable[..., Any], args: Any = None) -> None:
        """Bind `handler` to `event`."""

    def unbind(self, event: EventType, handler: Callable[..., Any]) -> None:
        """Undo the binding of `handler` to `event`."""


class Counting(Protocol):
    """The count of associations: of this process, or of all worker processes together."""

    def admit(self, association: Any, peer: Peer) -> str | None:
        """Count an association and return None, or return why it cannot be accepted."""

    def dismiss(self, association: Any) -> None:
        """Stop counting an association that is over."""


A = TypeVar("A", bound=Member)
Requested = TypeVar("Requested")
"""What `associate` returns: an association, or something to await for it."""

Syntaxes: TypeAlias = str | Iterable[str] | None

DEFAULT_TITLE = "DICOMWIRE"

DEFAULTS = Settings()

_MAY_BE_0 = ("acse_timeout", "dimse_timeout", "network_timeout")
_LARGEST_WINDOW = 0xFFFF
"""Asynchronous operations at most: the field has 16 bits. (0 in it means any number.)"""


class Entity(PublicNames, ABC, Generic[A, Requested]):
    """An application entity on either face: title, contexts, settings and associations.

    Parameters
    ----------
    ae_title : str
        Its AE title, 1 to 16 ASCII characters.
    settings : Settings, optional
        Limits, deadlines and switches for future associations and servers.
    """

    association_class: Callable[..., A]
    """The class of its associations, for subclasses to extend."""
    library_names = """
        admit forget forget_parent forget_server introduce memory set_timeout spool terms
        use_counts"""
    default_settings: Settings = DEFAULTS
    """A timeout that is set to an invalid value gets its value from here."""
    handlers_class: type[Handlers] = Handlers
    """The class that holds the handlers of associations and servers, for subclasses to extend."""

    def __init__(self, ae_title: str = DEFAULT_TITLE, settings: Settings = DEFAULTS) -> None:
        self._title = set_title(ae_title, "ae_title")
        self._settings = settings
        self._class_uid = quick_uid(IMPLEMENTATION_CLASS_UID)
        self._version_name: str | None = IMPLEMENTATION_VERSION_NAME
        self._maximum_pdu_size = DEFAULT_MAX_LENGTH
        self._require_called_aet = False
        self._require_calling_aet: list[str] = []
        self._requested: list[PresentationContext] = []
        self._supported: list[PresentationContext] = []
        # Guards the associations, the servers and the counts, which any thread may change. That of
        # a worker's end is taken under it; `threaded.link` has the order of the locks.
        self._lock = threading.Lock()
        self._associations: dict[A, None] = {}  # the oldest first
        self._servers: list[Any] = []
        self._counts: Counting = self._local_counts()
        self.memory = Budget(settings.memory_budget)
        self.spool = Budget(settings.spool_budget)

    # -- title and implementation ---------------------------------------------------------------

    @property
    def ae_title(self) -> str:
        """The AE title, 1 to 16 ASCII characters, not all spaces (PS3.5, VR AE)."""
        return self._title

    @ae_title.setter
    def ae_title(self, value: str) -> None:
        self._title = set_title(value, "ae_title")

    @property
    def implementation_class_uid(self) -> UID:
        """The UID that identifies the software (PS3.7 Annex D.3.3.2)."""
        return self._class_uid

    @implementation_class_uid.setter
    def implementation_class_uid(self, value: str | bytes | UID) -> None:
        uid = set_uid(value, "implementation_class_uid", allow_empty=False, allow_none=False)
        if uid is None or not is_valid(uid):
            raise ValueError(f"implementation_class_uid does not conform to PS3.5: {value!r}")
        self._class_uid = uid

    @property
    def implementation_version_name(self) -> str | None:
        """The version of the software, in up to 16 characters; None to send none."""
        return self._version_name

    @implementation_version_name.setter
    def implementation_version_name(self, value: str | None) -> None:
        self._version_name = set_ae(value, "implementation_version_name", allow_empty=False)

    # -- limits, deadlines, switches ------------------------------------------------------------

    @property
    def settings(self) -> Settings:
        """Limits, deadlines and switches; new ones apply to future associations and servers.

        The property of a single timeout changes it in present associations too.
        """
        return self._settings

    @settings.setter
    def settings(self, value: Settings) -> None:
        if not isinstance(value, Settings):
            raise TypeError(f"settings is a Settings, not {type(value).__name__}")
        self._settings = value
        self.memory.ceiling = value.memory_budget
        self.spool.ceiling = value.spool_budget

    acse_timeout = Timeout()
    """Seconds to wait for the answer to an association or release request; also ARTIM; 30."""
    connection_timeout = Timeout()
    """Seconds to wait for the TCP connection; 30. With None the operating system decides."""
    dimse_timeout = Timeout()
    """Seconds to wait for each DIMSE message; 30."""
    network_timeout = Timeout()
    """Seconds without a message after which an association ends; 60."""

    def set_timeout(self, name: str, value: float | None) -> None:
        """Set a timeout here and in all associations; an invalid value resets it, and is logged."""
        is_valid = value is None or (
            isinstance(value, (int, float)) and (value > 0 or (name in _MAY_BE_0 and value == 0))
        )
        if not is_valid:
            default = getattr(self.default_settings, name)
            LOGGER.warning("%s: %r is no number of seconds, reset to %s", name, value, default)
            value = default
        elif value == inf:
            value = None  # waits forever too; deadlines cannot be computed with infinity
        change: dict[str, Any] = {name: value}
        self._settings = replace(self._settings, **change)
        for assoc in self.active_associations:
            assoc.update_settings(**change)

    @property
    def maximum_associations(self) -> int:
        """How many associations its servers accept at a time; an invalid number sets 1."""
        return self._settings.maximum_associations

    @maximum_associations.setter
    def maximum_associations(self, value: int) -> None:
        if not isinstance(value, int) or value < 1:
            LOGGER.warning("maximum_associations: %r is not 1 or more, set to 1", value)
            value = 1
        self._settings = replace(self._settings, maximum_associations=value)

    @property
    def maximum_pdu_size(self) -> int:
        """The longest P-DATA-TF that we accept, in bytes; 0 for no maximum; 16382.

        A number that does not fit into the field of 32 bits is ignored, with a warning.
        """
        return self._maximum_pdu_size

    @maximum_pdu_size.setter
    def maximum_pdu_size(self, value: int) -> None:
        if not isinstance(value, int):
            raise TypeError(f"maximum_pdu_size is an int, not {type(value).__name__}")
        if 0 <= value <= LONGEST:
            self._maximum_pdu_size = value
        else:
            LOGGER.warning("maximum_pdu_size: %d is not 0 to %d, ignored", value, LONGEST)

    # -- required titles ------------------------------------------------------------------------

    @property
    def require_called_aet(self) -> bool:
        """Whether the called AE title of a request must be the title of this AE."""
        return self._require_called_aet

    @require_called_aet.setter
    def require_called_aet(self, value: bool) -> None:
        self._require_called_aet = bool(value)

    @property
    def require_calling_aet(self) -> list[str]:
        """The allowed calling AE titles; empty for any."""
        return self._require_calling_aet

    @require_calling_aet.setter
    def require_calling_aet(self, titles: Iterable[str]) -> None:
        if isinstance(titles, (str, bytes)):
            raise TypeError("require_calling_aet is a list of titles, not one")
        self._require_calling_aet = [set_title(title, "require_calling_aet") for title in titles]

    def _served_title(self, ae_title: str | None) -> str:
        return set_title(ae_title, "ae_title") if ae_title is not None else self._title

    # -- presentation contexts ------------------------------------------------------------------

    @property
    def requested_contexts(self) -> list[PresentationContext]:
        """The contexts that associations propose: in this order, at most 128, duplicates kept.

        Setting adds copies without roles to the present ones; an empty list or None clears them.
        """
        return self._requested

    @requested_contexts.setter
    def requested_contexts(self, contexts: Iterable[PresentationContext] | None) -> None:
        copies = [bare_copy(context) for context in check_contexts(contexts)]
        check_count([*self._requested, *copies])
        if copies:
            self._requested += copies
        else:
            self._requested.clear()

    def add_requested_context(self, abstract_syntax: str, transfer_syntax: Syntaxes = None) -> None:
        """Add a context to request.

        Parameters
        ----------
        abstract_syntax : str or UID
        transfer_syntax : str, UID or several of them, optional
            The uncompressed transfer syntaxes by default.

        Raises
        ------
        ValueError
            When there are 128 already.
        """
        context = _build(abstract_syntax, transfer_syntax)
        check_count([*self._requested, context])
        self._requested.append(context)

    def remove_requested_context(
        self, abstract_syntax: str, transfer_syntax: Syntaxes = None
    ) -> None:
        """Remove a context, or transfer syntaxes of it (and it, when it has none left)."""
        self._requested[:] = without(self._requested, abstract_syntax, transfer_syntax)

    @property
    def supported_contexts(self) -> list[PresentationContext]:
        """The contexts that servers support: one for each abstract syntax, sorted by UID.

        Setting adds copies without roles to the present ones; an empty list or None clears them.
        """
        return list(self._supported)

    @supported_contexts.setter
    def supported_contexts(self, contexts: Iterable[PresentationContext] | None) -> None:
        copies = [bare_copy(context) for context in check_contexts(contexts)]
        self._supported = merged(self._supported, copies) if copies else []

    def add_supported_context(
        self,
        abstract_syntax: str,
        transfer_syntax: Syntaxes = None,
        scu_role: bool | None = None,
        scp_role: bool | None = None,
    ) -> None:
        """Add a context to support; the transfer syntaxes join those of its abstract syntax.

        Parameters
        ----------
        abstract_syntax : str or UID
        transfer_syntax : str, UID or several of them, optional
            The uncompressed transfer syntaxes by default.
        scu_role, scp_role : bool, optional
            Which roles a requestor may take if it asks for them. With both None, roles are not
            negotiated, and the requestor is the SCU. They replace the roles of an earlier call.
        """
        context = _build(abstract_syntax, transfer_syntax)
        context.scu_role, context.scp_role = scu_role, scp_role
        self._supported = merged(self._supported, [context])

    def remove_supported_context(
        self, abstract_syntax: str, transfer_syntax: Syntaxes = None
    ) -> None:
        """Remove a context, or transfer syntaxes of it (and it, when it has none left)."""
        self._supported = without(self._supported, abstract_syntax, transfer_syntax)

    # -- associations -----------------------------------------------------------------------------

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

    def _propose(
        self,
        association: Any,
        contexts: list[PresentationContext],
        max_pdu: int,
        ext_neg: Sequence[UserItem] | None,
        window: int = 1,
    ) -> None:
        """Put our proposals into the requestor end of a new association, and register it."""
        requestor: ServiceUser = association.requestor
        longest = max_pdu if 0 <= max_pdu <= LONGEST else DEFAULT_MAX_LENGTH
        requestor.introduce(self._title, longest, self._class_uid, self._version_name)
        requestor.requested_contexts = contexts
        for item in ext_neg or ():
            requestor.add_negotiation_item(item)
        if not 1 <= window <= _LARGEST_WINDOW:
            raise ValueError(f"window is 1 to {_LARGEST_WINDOW}, not {window}")
        if window > 1:
            requestor.add_negotiation_item(AsynchronousOperationsWindowNegotiation(window, 1))
        with self._lock:
            self._associations[association] = None

    def _proposed(self, contexts: list[PresentationContext] | None) -> list[PresentationContext]:
        """Return the contexts to propose, with their ids."""
        proposed = numbered(contexts if contexts is not None else self._requested)
        if not proposed:
            raise LocalProtocolError("there is no presentation context to request")
        return proposed

    def _to_support(self, contexts: list[PresentationContext] | None) -> list[PresentationContext]:
        """Return the contexts that a server supports."""
        supported = merged(
            [], check_contexts(contexts if contexts is not None else self._supported)
        )
        if not supported and not self.settings.unrestricted_storage:
            raise ValueError("there is no supported presentation context")
        for context in supported:
            if (context.scu_role is None) != (context.scp_role is None):
                raise ValueError(
                    f"{context.abstract_syntax}: give both scu_role and scp_role, or neither"
                )
        return supported

    @property
    def active_associations(self) -> list[A]:
        """The associations of this AE that are not over, as requestor and as acceptor."""
        with self._lock:
            return list(self._associations)

    def admit(self, association: A, host: str, title: str) -> str | None:
        """Count an association and return None, or return why it is rejected (for servers).

        Parameters
        ----------
        host, title : str
            The numeric address of the peer, and its AE title.
        """
        with self._lock:
            objection = self._counts.admit(association, Peer.of(host, title))
            if objection is None:
                self._associations[association] = None
            return objection

    def forget(self, association: A) -> None:
        """Remove an association that is over (for associations)."""
        with self._lock:
            if association in self._associations:
                del self._associations[association]
                self._counts.dismiss(association)

    def forget_server(self, server: Any) -> None:
        """Remove a server that was shut down (for servers)."""
        with self._lock:
            if server in self._servers:
                self._servers.remove(server)

    def forget_parent(self) -> None:
        """Forget the associations and servers of the parent process, after a fork."""
        self._lock = threading.Lock()
        self._associations.clear()
        self._servers.clear()
        self._counts = self._local_counts()
        self.memory = Budget(self._settings.memory_budget)
        self.spool = Budget(self._settings.spool_budget)

    def _local_counts(self) -> LocalCounts:
        return LocalCounts(lambda: self._settings)

    def use_counts(self, counts: Counting) -> None:
        """Count associations together with other processes (for worker processes)."""
        self._counts = counts

    @property
    def terms(self) -> tuple[object, ...]:
        """On what the answer to an association request depends, in the AE (for servers)."""
        return (
            self._settings,
            self._class_uid,
            self._version_name,
            self._maximum_pdu_size,
            self._require_called_aet,
        )

    def introduce(self, acceptor: ServiceUser, title: str) -> None:
        """Put the title and our implementation into our end of an association (for servers)."""
        longest = self._maximum_pdu_size
        acceptor.introduce(title, longest, self._class_uid, self._version_name)

    @cached_property
    def _log_handlers(self) -> Handlers:
        """Handlers that only log; they are copied, and never changed themselves."""
        return self.handlers_class(None, DEFAULT_LOG_HANDLERS)

    def _handlers(self, bindings: Sequence[EventHandlerType] | None) -> Handlers:
        handlers = self._log_handlers.copy() if self.settings.log_pdus else self.handlers_class()
        for binding in bindings or ():
            handlers.bind(*binding)
        return handlers

    def __repr__(self) -> str:
        return (
            f"<AE {self._title}: {len(self._requested)} contexts to request, "
            f"{len(self._supported)} to support, {len(self.active_associations)} associations>"
        )

    def __str__(self) -> str:
        settings = self._settings
        calling = ", ".join(self._require_calling_aet)
        lines = [
            f"Application entity {self._title}",
            "",
            *_listed("Requested presentation contexts", self._requested),
            *_listed("Supported presentation contexts", self._supported),
            f"  ACSE timeout: {_seconds(settings.acse_timeout)}",
            f"  DIMSE timeout: {_seconds(settings.dimse_timeout)}",
            f"  Network timeout: {_seconds(settings.network_timeout)}",
            f"  Connection timeout: {_seconds(settings.connection_timeout)}",
            "",
            f"  Calling AE titles: {calling or 'any'}",
            f"  Called AE title: {self._title if self._require_called_aet else 'any'}",
            "",
            f"  Associations: {len(self.active_associations)}/{settings.maximum_associations}",
            "",
        ]
        return "\n".join(lines)


def _build(abstract_syntax: str, transfer_syntax: Syntaxes) -> PresentationContext:
    if transfer_syntax is None or isinstance(transfer_syntax, str):
        return build_context(abstract_syntax, transfer_syntax)
    return build_context(abstract_syntax, list(transfer_syntax))


def _seconds(timeout: float | None) -> str:
    return "none" if timeout is None else f"{timeout} s"


def _listed(heading: str, contexts: list[PresentationContext]) -> list[str]:
    lines = [f"  {heading}:"]
    for context in contexts:
        lines.append(f"    {looked_up(context.abstract_syntax).name}")
        lines += [f"      {looked_up(syntax).name}" for syntax in context.transfer_syntax]
    if not contexts:
        lines.append("    none")
    return [*lines, ""]
