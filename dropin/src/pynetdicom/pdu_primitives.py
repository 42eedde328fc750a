"""The items of extended negotiation, which are dicomwire's, and the primitives of associations.

dicomwire has a PDU for each primitive; here they get the names that PS3.8 Section 7 has for them.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any, ClassVar

from pydicom.uid import UID

from dicomwire.pdu_primitives import *
from dicomwire.presentation import PresentationContext
from dicomwire.service_user import AddressInformation
from pynetdicom._globals import OptionalUIDType as OptionalUIDType

ServiceParameter = UserItem
"""What `isinstance` knows any item by."""

_ABORT_BY_USER = 0


class A_ASSOCIATE:
    """The A-ASSOCIATE primitive (PS3.8 Section 7.1): a request, an acceptance or a rejection."""

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
class A_RELEASE:
    """The A-RELEASE primitive (PS3.8 Section 7.2): a request, or "affirmative"."""

    result: str | None = None
    reason: ClassVar[str] = "normal"


@dataclass
class A_ABORT:
    """The A-ABORT primitive (PS3.8 Section 7.3): the service user at one end aborts."""

    abort_source: int | None = None


@dataclass
class A_P_ABORT:
    """The A-P-ABORT primitive (PS3.8 Section 7.4): the Upper Layer aborts."""

    provider_reason: int | None = None


@dataclass
class P_DATA:
    """The P-DATA primitive (PS3.8 Section 7.6); no event has one."""

    presentation_data_value_list: list[tuple[int, bytes]] = field(default_factory=list)


def primitive_of(pdu: Any) -> Any:
    """Return `pdu` as a primitive; those of associations go on being PDUs as well."""
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
        case Abort(source, reason):
            return A_ABORT(source) if source == _ABORT_BY_USER else A_P_ABORT(reason)
    return pdu


def _same(kind: type[Any], pdu: Any) -> Any:
    return kind(**{each.name: getattr(pdu, each.name) for each in fields(pdu)})
