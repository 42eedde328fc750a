"""One end of an association: the values that it proposes, and those in the PDU that it sent.

This module holds the values; `acceptance` negotiates.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Protocol, Self, TypeVar

from dicomwire.errors import LocalProtocolError
from dicomwire.protocol.context import PresentationContext
from dicomwire.protocol.items import (
    DEFAULT_MAX_LENGTH,
    AsynchronousOperationsWindowNegotiation,
    ImplementationClassUIDNotification,
    ImplementationVersionNameNotification,
    MaximumLengthNotification,
    SCP_SCU_RoleSelectionNegotiation,
    SOPClassCommonExtendedNegotiation,
    SOPClassExtendedNegotiation,
    UserIdentityNegotiation,
    UserItem,
)
from dicomwire.protocol.pdu import AssociateAC, AssociateRJ, AssociateRQ
from dicomwire.registry.implementation import IMPLEMENTATION_CLASS_UID
from dicomwire.registry.uids import quick_uid
from dicomwire.session.contexts import check_contexts
from dicomwire.utils import set_ae, set_title, set_uid

if TYPE_CHECKING:
    from pydicom.uid import UID

MODE_REQUESTOR = "requestor"
MODE_ACCEPTOR = "acceptor"

LONGEST = 0xFFFF_FFFF
"""The greatest maximum length; the field has 32 bits (PS3.8 Annex D.1.1)."""

Item = TypeVar("Item", bound=UserItem)

_BASIC = (
    MaximumLengthNotification,
    ImplementationClassUIDNotification,
    ImplementationVersionNameNotification,
)
_FROM_BOTH = (
    AsynchronousOperationsWindowNegotiation,
    SCP_SCU_RoleSelectionNegotiation,
    SOPClassExtendedNegotiation,
    UserIdentityNegotiation,
)
_EXTENDED = {
    MODE_REQUESTOR: (*_FROM_BOTH, SOPClassCommonExtendedNegotiation),
    MODE_ACCEPTOR: _FROM_BOTH,
}


@dataclass(frozen=True, slots=True)
class AddressInformation:
    """The numeric address and the port of one end; `flowinfo` and `scope_id` are for IPv6."""

    address: str
    port: int
    flowinfo: int = 0
    scope_id: int = 0

    @classmethod
    def from_tuple(cls, address_info: tuple[Any, ...]) -> Self:
        """Return the address from a socket's: (host, port), or the four values of IPv6."""
        return cls(*address_info)

    @classmethod
    def from_addr_port(cls, addr: str | tuple[str, int, int], port: int) -> Self:
        """Return the address for `AE.associate`, where `addr` may be (host, flow, scope)."""
        if isinstance(addr, str):
            return cls(addr, port)
        host, flowinfo, scope_id = addr
        return cls(host, port, flowinfo, scope_id)

    @property
    def is_ipv4(self) -> bool:
        """Whether the address is an IPv4 one."""
        return not self.is_ipv6

    @property
    def is_ipv6(self) -> bool:
        """Whether the address is an IPv6 one."""
        return ":" in self.address

    @property
    def as_tuple(self) -> tuple[str, int] | tuple[str, int, int, int]:
        """The address as a tuple for sockets."""
        if self.is_ipv6:
            return self.address, self.port, self.flowinfo, self.scope_id
        return self.address, self.port


class HasAddresses(Protocol):
    """The association as its `ServiceUser`s see it."""

    @property
    def mode(self) -> str:
        """Which end is ours: "requestor" or "acceptor"."""

    def address_of(self, mode: str) -> Any:
        """Return the address of an end as sockets have it; empty before the connection is open."""


class ServiceUser:
    """The requestor or the acceptor of an association (PS3.7 Annex D.3).

    One of the two ends is ours, and the AE sets its values before negotiation. From then on, both
    ends have the values of the PDUs (`primitive`), which cannot be changed.

    Attributes
    ----------
    assoc : Association
    """

    def __init__(self, assoc: HasAddresses, mode: str) -> None:
        if mode not in _EXTENDED:
            raise ValueError(f"mode is '{MODE_REQUESTOR}' or '{MODE_ACCEPTOR}', not {mode!r}")
        self.assoc = assoc
        self._primitive: AssociateRQ | AssociateAC | AssociateRJ | None = None
        self._remembered: AssociateRQ | AssociateAC | None = None  # the primitive, to be copied
        self._mode = mode
        self._ae_title = ""
        self._maximum_length = DEFAULT_MAX_LENGTH
        self._class_uid: UID | None = quick_uid(IMPLEMENTATION_CLASS_UID)
        self._version_name: str | None = None
        self._extended: dict[object, UserItem] = {}
        self._contexts: list[PresentationContext] = []
        self._accepted_common: dict[UID, tuple[UID, list[UID]]] = {}

    @property
    def primitive(self) -> AssociateRQ | AssociateAC | AssociateRJ | None:
        """The PDU that this end sent; None before that."""
        if self._primitive is None and self._remembered is not None:
            self._primitive = self._remembered.copied()
        return self._primitive

    @primitive.setter
    def primitive(self, pdu: AssociateRQ | AssociateAC | AssociateRJ | None) -> None:
        self._primitive = pdu

    def adopt(
        self,
        pdu: AssociateRQ | AssociateAC,
        ae_title: str = "",
        contexts: list[PresentationContext] | None = None,
    ) -> None:
        """Take the values of `pdu`, which others may adopt too: it is copied if it is looked at.

        An acceptor also takes its title, and the contexts that it supports.
        """
        self._remembered = pdu
        self._ae_title = ae_title
        self._contexts = contexts or []

    @property
    def _pdu(self) -> AssociateRQ | AssociateAC | AssociateRJ | None:
        """The PDU that this end sent, to be read only."""
        return self._primitive or self._remembered

    def introduce(
        self, ae_title: str, maximum_length: int, class_uid: UID, version_name: str | None
    ) -> None:
        """Set values that our AE has checked, before the negotiation."""
        self._ae_title, self._maximum_length = ae_title, maximum_length
        self._class_uid, self._version_name = class_uid, version_name

    # -- title and address ----------------------------------------------------------------------

    @property
    def mode(self) -> str:
        """Either "requestor" or "acceptor"."""
        return self._mode

    @property
    def is_requestor(self) -> bool:
        """Whether this end requests the association."""
        return self._mode == MODE_REQUESTOR

    @property
    def is_acceptor(self) -> bool:
        """Whether this end accepts the association."""
        return self._mode == MODE_ACCEPTOR

    @property
    def _is_ours(self) -> bool:
        return self.assoc.mode == self._mode

    @property
    def writeable(self) -> bool:
        """Whether values can still be set: negotiation has not begun."""
        return self._pdu is None

    def _check_writeable(self, name: str) -> None:
        if not self.writeable:
            raise LocalProtocolError(f"{name} cannot be changed after negotiation has begun")

    @property
    def ae_title(self) -> str:
        """The AE title, which can be set at any time; that of the peer may be empty.

        An acceptor's is the called AE title: its answer has no title (PS3.8 Table 9-17).
        """
        if not self._ae_title and isinstance(self._pdu, AssociateRQ):
            return self._pdu.calling_ae_title
        return self._ae_title

    @ae_title.setter
    def ae_title(self, value: str) -> None:
        self._ae_title = set_title(value, "ae_title")

    @property
    def address_info(self) -> AddressInformation | None:
        """The numeric address and port; None before the connection is open."""
        address = self.assoc.address_of(self._mode)
        is_numeric = isinstance(address, tuple) and len(address) in (2, 4)
        return AddressInformation(*address) if is_numeric else None

    @property
    def address(self) -> str:
        """The numeric address; ValueError while it is not known."""
        return self._known_address().address

    @property
    def port(self) -> int:
        """The port; ValueError while it is not known."""
        return self._known_address().port

    def _known_address(self) -> AddressInformation:
        known = self.address_info
        if known is None:
            raise ValueError(f"the address of the {self._mode} is not known")
        return known

    @property
    def info(self) -> dict[str, Any]:
        """Keys: ae_title, address, port, mode, and after negotiation pdv_size."""
        known = self.address_info
        info: dict[str, Any] = {
            "ae_title": self.ae_title,
            "address": known.address if known else None,
            "port": known.port if known else None,
            "mode": self._mode,
        }
        if not self.writeable:
            info["pdv_size"] = self.maximum_length
        return info

    # -- presentation contexts ------------------------------------------------------------------

    def get_contexts(self, cx_type: str) -> list[PresentationContext]:
        """Return presentation contexts of one kind.

        Parameters
        ----------
        cx_type : str
            "requested" for a requestor or "supported" for an acceptor, at our own end only;
            "pcdl" (definition list) for the contexts in the request, or "pcdrl" (definition
            result list) for those in the answer.

        Raises
        ------
        ValueError
            When this end has no contexts of that kind now.
        """
        own, sent = ("requested", "pcdl") if self.is_requestor else ("supported", "pcdrl")
        if cx_type == own and self._is_ours:
            return list(self._contexts)
        if cx_type == sent and self.primitive is not None:
            if isinstance(self.primitive, AssociateRJ):
                return []
            return list(self.primitive.presentation_contexts)
        raise ValueError(f"the {self._mode} has no '{cx_type}' presentation contexts now")

    @property
    def requested_contexts(self) -> list[PresentationContext]:
        """The contexts that the requestor proposes; if it is the peer, those in its request."""
        return self.get_contexts("requested" if self._is_ours else "pcdl")

    @requested_contexts.setter
    def requested_contexts(self, contexts: list[PresentationContext]) -> None:
        if not self.is_requestor:
            raise AttributeError("only the requestor has requested_contexts")
        self._set_contexts("requested_contexts", contexts)

    @property
    def supported_contexts(self) -> list[PresentationContext]:
        """The contexts that the acceptor supports; if it is the peer, those in its answer."""
        return self.get_contexts("supported" if self._is_ours else "pcdrl")

    @supported_contexts.setter
    def supported_contexts(self, contexts: list[PresentationContext]) -> None:
        if not self.is_acceptor:
            raise AttributeError("only the acceptor has supported_contexts")
        self._set_contexts("supported_contexts", contexts)

    def _set_contexts(self, name: str, contexts: list[PresentationContext]) -> None:
        self._check_writeable(name)
        if not self._is_ours:
            raise ValueError(f"{name} of the peer cannot be set")
        self._contexts = check_contexts(contexts)

    # -- user information -----------------------------------------------------------------------

    @property
    def user_information(self) -> list[UserItem]:
        """The user information items in the A-ASSOCIATE PDU of this end, or for it."""
        return list(self._items(self.primitive))

    def _items(self, pdu: AssociateRQ | AssociateAC | AssociateRJ | None) -> list[UserItem]:
        if isinstance(pdu, AssociateRJ):
            return []
        if pdu is not None:
            return pdu.user_information
        items = [MaximumLengthNotification(self._maximum_length), *self._extended.values()]
        if self._class_uid is not None:
            items.append(ImplementationClassUIDNotification(self._class_uid))
        if self._version_name is not None:
            items.append(ImplementationVersionNameNotification(self._version_name))
        return sorted(items, key=attrgetter("_type"))

    def _all(self, kind: type[Item]) -> list[Item]:
        return [item for item in self.user_information if isinstance(item, kind)]

    def _first(self, kind: type[Item]) -> Item | None:
        for item in self._items(self._pdu):  # without a copy, since only its values are used
            if isinstance(item, kind):
                return item
        return None

    @property
    def maximum_length(self) -> int | None:
        """The longest P-DATA-TF that this end accepts, in bytes; 0 for no maximum."""
        item = self._first(MaximumLengthNotification)
        return item.maximum_length_received if item else None

    @maximum_length.setter
    def maximum_length(self, value: int) -> None:
        self._check_writeable("maximum_length")
        if not isinstance(value, int):
            raise TypeError(f"maximum_length is an int, not {type(value).__name__}")
        if not 0 <= value <= LONGEST:
            raise ValueError(f"maximum_length is 0 to {LONGEST}, not {value}")
        self._maximum_length = value

    @property
    def implementation_class_uid(self) -> UID | None:
        """The UID of the software at this end; None if it sends none."""
        item = self._first(ImplementationClassUIDNotification)
        return item.implementation_class_uid if item else None

    @implementation_class_uid.setter
    def implementation_class_uid(self, value: str | bytes | UID | None) -> None:
        self._check_writeable("implementation_class_uid")
        self._class_uid = set_uid(value, "implementation_class_uid", allow_empty=False)

    @property
    def implementation_version_name(self) -> str | None:
        """The version of the software at this end; None if it sends none."""
        item = self._first(ImplementationVersionNameNotification)
        return item.implementation_version_name if item else None

    @implementation_version_name.setter
    def implementation_version_name(self, value: str | None) -> None:
        self._check_writeable("implementation_version_name")
        self._version_name = set_ae(value, "implementation_version_name", allow_empty=False)

    # -- extended negotiation -------------------------------------------------------------------

    def add_negotiation_item(self, item: UserItem) -> None:
        """Add an item of extended negotiation (PS3.7 Annex D.3.3).

        It replaces an item of the same kind (and SOP class, if the kind has one), since a PDU
        must not have two of them.

        Raises
        ------
        TypeError
            When it is not an item that this end may send.
        RuntimeError
            After negotiation has begun.
        """
        self._check_item(item)
        key = _identity(item)
        self._extended.pop(key, None)  # so that the new item is the last
        self._extended[key] = item

    def remove_negotiation_item(self, item: UserItem) -> None:
        """Remove the item that equals `item`, if there is one; errors as for adding."""
        self._check_item(item)
        key = _identity(item)
        if self._extended.get(key) == item:
            del self._extended[key]

    def reset_negotiation_items(self) -> None:
        """Remove all items of extended negotiation."""
        self._check_writeable("extended negotiation")
        self._extended = {}

    def _check_item(self, item: UserItem) -> None:
        self._check_writeable("extended negotiation")
        if not isinstance(item, _EXTENDED[self._mode]):
            text = f"{type(item).__name__} is no item of extended negotiation of the {self._mode}"
            raise TypeError(text)

    @property
    def extended_negotiation(self) -> list[UserItem]:
        """The items of extended negotiation."""
        return [item for item in self.user_information if not isinstance(item, _BASIC)]

    @property
    def asynchronous_operations(self) -> tuple[int, int]:
        """How many operations may be invoked and performed at a time, (1, 1) by default."""
        item = self._first(AsynchronousOperationsWindowNegotiation)
        if item is None:
            return 1, 1
        return item.maximum_number_operations_invoked, item.maximum_number_operations_performed

    @property
    def role_selection(self) -> dict[UID, SCP_SCU_RoleSelectionNegotiation]:
        """The role selection items by SOP class UID."""
        return _by_class(self._all(SCP_SCU_RoleSelectionNegotiation))

    @property
    def sop_class_extended(self) -> dict[UID, bytes]:
        """The application information of SOP class extended negotiation by SOP class UID."""
        items = _by_class(self._all(SOPClassExtendedNegotiation))
        return {
            uid: item.service_class_application_information
            for uid, item in items.items()
            if item.service_class_application_information is not None
        }

    @property
    def sop_class_common_extended(self) -> dict[UID, SOPClassCommonExtendedNegotiation]:
        """The common extended negotiation items by SOP class UID; an acceptor has none."""
        return _by_class(self._all(SOPClassCommonExtendedNegotiation))

    @property
    def accepted_common_extended(self) -> dict[UID, tuple[UID, list[UID]]]:
        """The items of common extended negotiation that the acceptor accepted; no PDU has them.

        By SOP class UID: the service class UID and the related general SOP class UIDs.
        RuntimeError for the requestor.
        """
        if not self.is_acceptor:
            raise LocalProtocolError("only the acceptor has accepted_common_extended")
        return dict(self._accepted_common)

    def accept_common_extended(
        self, items: Mapping[UID, SOPClassCommonExtendedNegotiation]
    ) -> None:
        """Set the accepted `items` by SOP class UID (called by the association)."""
        self._accepted_common = {
            uid: (item.service_class_uid, item.related_general_sop_class_identification)
            for uid, item in items.items()
            if item.service_class_uid is not None
        }

    @property
    def user_identity(self) -> UserIdentityNegotiation | None:
        """The user identity that the requestor sends; for the acceptor, its server response."""
        return next(iter(self._all(UserIdentityNegotiation)), None)


_ClassItem = TypeVar(
    "_ClassItem",
    SCP_SCU_RoleSelectionNegotiation,
    SOPClassExtendedNegotiation,
    SOPClassCommonExtendedNegotiation,
)


def _by_class(items: list[_ClassItem]) -> dict[UID, _ClassItem]:
    return {item.sop_class_uid: item for item in items if item.sop_class_uid is not None}


def _identity(item: UserItem) -> tuple[int, UID | None]:
    return item._type, getattr(item, "sop_class_uid", None)
