"""The items of extended negotiation and the primitives of associations, checked when assigned.

dicomwire has a PDU for each primitive; here they get the names that PS3.8 Section 7 has for them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, Self

from pydicom.uid import UID

from dicomwire import pdu_primitives as _pdus
from dicomwire.pdu_primitives import *
from dicomwire.presentation import PresentationContext
from dicomwire.session.ends import AddressInformation
from pynetdicom import _checks
from pynetdicom._checks import Check, Checked, as_received
from pynetdicom._globals import OptionalUIDType as OptionalUIDType
from pynetdicom.utils import set_ae

_ABORT_BY_USER = 0


class _Kind(type):
    """The class of the items, which lets those that dicomwire decoded be instances of them."""

    library: Any

    def __instancecheck__(cls, instance: Any) -> bool:
        return isinstance(instance, cls.library)


class ServiceParameter(Checked, metaclass=_Kind):
    """The class of all items, for `isinstance`."""

    __slots__ = ()

    library: ClassVar[Any] = UserItem
    """The class of these items in dicomwire."""

    encode: Callable[[], bytes]

    def from_primitive(self) -> Self:
        """Return the item as it is sent, which is this one: see its `encode`.

        ValueError where a value is missing.
        """
        self.encode()
        return self

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, type(self)):
            return NotImplemented
        return all(getattr(self, each) == getattr(other, each) for each in self.library.__slots__)

    __hash__ = None


class MaximumLengthNotification(ServiceParameter, _pdus.MaximumLengthNotification):
    """See `dicomwire.pdu_primitives`."""

    __slots__ = ()
    library = _pdus.MaximumLengthNotification
    CHECKS = {"maximum_length_received": _checks.number()}


class ImplementationClassUIDNotification(
    ServiceParameter, _pdus.ImplementationClassUIDNotification
):
    """See `dicomwire.pdu_primitives`."""

    __slots__ = ()
    library = _pdus.ImplementationClassUIDNotification
    CHECKS = {"implementation_class_uid": _checks.uid}


class ImplementationVersionNameNotification(
    ServiceParameter, _pdus.ImplementationVersionNameNotification
):
    """See `dicomwire.pdu_primitives`."""

    __slots__ = ()
    library = _pdus.ImplementationVersionNameNotification
    CHECKS = {"implementation_version_name": set_ae}


class AsynchronousOperationsWindowNegotiation(
    ServiceParameter, _pdus.AsynchronousOperationsWindowNegotiation
):
    """See `dicomwire.pdu_primitives`."""

    __slots__ = ()
    library = _pdus.AsynchronousOperationsWindowNegotiation
    CHECKS = {
        "maximum_number_operations_invoked": _checks.number(),
        "maximum_number_operations_performed": _checks.number(),
    }


class SCP_SCU_RoleSelectionNegotiation(ServiceParameter, _pdus.SCP_SCU_RoleSelectionNegotiation):
    """See `dicomwire.pdu_primitives`."""

    __slots__ = ()
    library = _pdus.SCP_SCU_RoleSelectionNegotiation
    CHECKS = {
        "sop_class_uid": _checks.uid,
        "scu_role": _checks.optional_flag,
        "scp_role": _checks.optional_flag,
    }

    def from_primitive(self) -> Self:
        """Return the item as it is sent; ValueError where it proposes no role."""
        if not (self.scu_role or self.scp_role):
            raise ValueError(f"neither SCU nor SCP role for {self.sop_class_uid}")
        return super().from_primitive()


class SOPClassExtendedNegotiation(ServiceParameter, _pdus.SOPClassExtendedNegotiation):
    """See `dicomwire.pdu_primitives`."""

    __slots__ = ()
    library = _pdus.SOPClassExtendedNegotiation
    CHECKS = {
        "sop_class_uid": _checks.uid,
        "service_class_application_information": _checks.optional_bytes,
    }


class SOPClassCommonExtendedNegotiation(ServiceParameter, _pdus.SOPClassCommonExtendedNegotiation):
    """See `dicomwire.pdu_primitives`."""

    __slots__ = ()
    library = _pdus.SOPClassCommonExtendedNegotiation
    CHECKS = {
        "sop_class_uid": _checks.uid,
        "service_class_uid": _checks.uid,
        "related_general_sop_class_identification": _checks.list_of(_checks.uid),
    }


class UserIdentityNegotiation(ServiceParameter, _pdus.UserIdentityNegotiation):
    """See `dicomwire.pdu_primitives`."""

    __slots__ = ()
    library = _pdus.UserIdentityNegotiation
    CHECKS = {
        "user_identity_type": _checks.or_none(_checks.number(1, 5)),
        "positive_response_requested": _checks.flag,
        "primary_field": _checks.optional_bytes,
        "secondary_field": _checks.optional_bytes,
        "server_response": _checks.optional_bytes,
    }


class A_ASSOCIATE(Checked):
    """The A-ASSOCIATE primitive (PS3.8 Section 7.1): a request, an acceptance or a rejection."""

    CHECKS: ClassVar[Mapping[str, Check]] = {
        "mode": _checks.read_only,
        "session_requirements": _checks.read_only,
        "presentation_requirements": _checks.read_only,
        "result_str": _checks.read_only,
        "source_str": _checks.read_only,
        "reason_str": _checks.read_only,
        "application_context_name": _checks.uid,
        "calling_ae_title": _checks.title,
        "called_ae_title": _checks.title,
        "calling_presentation_address": _checks.optional_address,
        "called_presentation_address": _checks.optional_address,
        "result": _checks.one_of(None, 0, 1, 2),
        "result_source": _checks.one_of(None, 1, 2, 3),
        "diagnostic": _checks.one_of(None, 1, 2, 3, 7),
        "user_information": _checks.list_of(_checks.instance_of(ServiceParameter)),
        "presentation_context_definition_list": _checks.contexts,
        "presentation_context_definition_results_list": _checks.contexts,
    }

    mode = "normal"
    session_requirements = ""
    presentation_requirements = "Presentation Kernel"

    application_context_name: UID | None = None
    calling_ae_title = "DEFAULT"
    called_ae_title = "DEFAULT"
    calling_presentation_address: AddressInformation | None = None
    called_presentation_address: AddressInformation | None = None

    result: int | None = None
    result_source: int | None = None
    diagnostic: int | None = None
    result_str = source_str = reason_str = "(no value available)"

    def __init__(self) -> None:
        self.user_information: list[UserItem] = []
        self.presentation_context_definition_list: list[PresentationContext] = []
        self.presentation_context_definition_results_list: list[PresentationContext] = []

    @property
    def responding_ae_title(self) -> str:
        """The title that the acceptor was called by: its answer names none."""
        return self.called_ae_title

    @property
    def responding_presentation_address(self) -> AddressInformation | None:
        """The address that the acceptor was called at."""
        return self.called_presentation_address

    @property
    def maximum_length_received(self) -> int | None:
        """The longest P-DATA-TF that the sender takes; None where it does not say."""
        item = self._item(MaximumLengthNotification)
        return item.maximum_length_received if item else None

    @maximum_length_received.setter
    def maximum_length_received(self, value: int) -> None:
        self._put(MaximumLengthNotification(value))

    @property
    def implementation_class_uid(self) -> UID | None:
        """Which software the sender is; None where it does not say."""
        item = self._item(ImplementationClassUIDNotification)
        return item.implementation_class_uid if item else None

    @implementation_class_uid.setter
    def implementation_class_uid(self, value: UID) -> None:
        self._put(ImplementationClassUIDNotification(value))

    def _item(self, kind: type[Any]) -> Any:
        return next((each for each in self.user_information if isinstance(each, kind)), None)

    def _put(self, item: UserItem) -> None:
        others = [each for each in self.user_information if not isinstance(each, type(item))]
        self.user_information = [*others, item]


class _Request(AssociateRQ, A_ASSOCIATE):
    @property
    def presentation_context_definition_list(self) -> list[PresentationContext]:
        return self.presentation_contexts

    presentation_context_definition_results_list: ClassVar[list[PresentationContext]] = []


class _Acceptance(AssociateAC, A_ASSOCIATE):
    result = 0
    result_str = "Accepted"

    @property
    def presentation_context_definition_results_list(self) -> list[PresentationContext]:
        return self.presentation_contexts

    presentation_context_definition_list: ClassVar[list[PresentationContext]] = []


class _Rejection(AssociateRJ, A_ASSOCIATE):
    user_information: ClassVar[list[UserItem]] = []
    presentation_context_definition_list: ClassVar[list[PresentationContext]] = []
    presentation_context_definition_results_list: ClassVar[list[PresentationContext]] = []

    @property
    def result_source(self) -> int:
        return self.source


@dataclass
class A_RELEASE(Checked):
    """The A-RELEASE primitive (PS3.8 Section 7.2): a request, or "affirmative"."""

    CHECKS: ClassVar[Mapping[str, Check]] = {
        "result": _checks.one_of(None, "affirmative"),
        "reason": _checks.read_only,
    }

    result: str | None = None
    reason: ClassVar[str] = "normal"


@dataclass
class A_ABORT(Checked):
    """The A-ABORT primitive (PS3.8 Section 7.3): the service user at one end aborts."""

    CHECKS: ClassVar[Mapping[str, Check]] = {"abort_source": _checks.one_of(None, 0, 1, 2)}

    abort_source: int | None = None


@dataclass
class A_P_ABORT(Checked):
    """The A-P-ABORT primitive (PS3.8 Section 7.4): the Upper Layer aborts."""

    CHECKS: ClassVar[Mapping[str, Check]] = {
        "provider_reason": _checks.one_of(None, 0, 1, 2, 4, 5, 6)
    }

    provider_reason: int | None = None


@dataclass
class P_DATA(Checked):
    """The P-DATA primitive (PS3.8 Section 7.6); no event has one."""

    CHECKS: ClassVar[Mapping[str, Check]] = {
        "presentation_data_value_list": _checks.list_of(_checks.fragment)
    }

    presentation_data_value_list: list[tuple[int, bytes]] = field(default_factory=list)


def primitive_of(pdu: Any) -> Any:
    """Return `pdu` as a primitive; an A-ASSOCIATE is still a PDU, too."""
    match pdu:
        case A_ASSOCIATE():
            return pdu
        case AssociateRQ():
            return _same(_Request, pdu)
        case AssociateAC():
            return _same(_Acceptance, pdu)
        case AssociateRJ():
            return _same(_Rejection, pdu)
        case ReleaseRQ():
            return A_RELEASE()
        case ReleaseRP():
            return A_RELEASE("affirmative")
        case Abort(source, _) if source == _ABORT_BY_USER:
            return as_received(A_ABORT, {"abort_source": source})
        case Abort(_, reason):
            return as_received(A_P_ABORT, {"provider_reason": reason})
    return pdu


def _same(kind: type[Any], pdu: Any) -> Any:
    return as_received(kind, {each.name: getattr(pdu, each.name) for each in fields(pdu)})
