"""The DIMSE messages by the classes that programs of pynetdicom know.

Each is a `Message` of dicomwire that has the encoded dataset at hand, too.
"""

from __future__ import annotations

from io import BytesIO
from typing import Any, ClassVar, Self, TypeAlias

from dicomwire.data.payloads import MemoryPayload, Payload
from dicomwire.dimse_primitives import Command, Message
from dicomwire.protocol.command import CARRIED
from pynetdicom import _checks
from pynetdicom._checks import Check, Checked, as_received
from pynetdicom._globals import OptionalUIDType as OptionalUIDType

_RESPONSE_BIT = 0x8000
_PRIORITY_LOW = 2
_KEYWORDS = [name for name in Message.__slots__ if name != "command"]


_NUMBERS = {"Status", "EventTypeID", "ActionTypeID"}
_MESSAGE_IDS = {"MessageID", "MessageIDBeingRespondedTo", "MoveOriginatorMessageID"}
_CHECKS: dict[str, Check] = {
    **dict.fromkeys(_NUMBERS, _checks.or_none(_checks.instance_of(int))),
    **dict.fromkeys(_MESSAGE_IDS, _checks.or_none(_checks.number(0, 0xFFFF))),
    **{
        keyword: _checks.or_none(_checks.number())
        for keyword in _KEYWORDS
        if keyword.startswith("NumberOf")
    },
    **{keyword: _checks.uid_unless_empty for keyword in _KEYWORDS if keyword.endswith("UID")},
    "Priority": _checks.one_of(None, 0, 1, 2),
    "MoveDestination": _checks.filled_title_or_bytes,
    "MoveOriginatorApplicationEntityTitle": _checks.title_or_bytes,
    "AttributeIdentifierList": _checks.tags,
}


class Encoded:
    """An encoded dataset: a BytesIO that is made when it is asked for, or None."""

    def __set_name__(self, owner: type[DIMSEPrimitive], name: str) -> None:
        self._name = name

    def __get__(self, primitive: DIMSEPrimitive, owner: Any = None) -> Any:
        if primitive is None:
            return self
        encoded = primitive.encoded.get(self._name)
        if isinstance(encoded, Payload):
            encoded = primitive.encoded[self._name] = BytesIO(encoded.getvalue())
        return encoded

    def __set__(self, primitive: DIMSEPrimitive, value: BytesIO | None) -> None:
        if not isinstance(value, BytesIO | None):
            raise TypeError(f"{self._name} is a BytesIO or None, not {type(value).__name__}")
        primitive.encoded[self._name] = value


class DIMSEPrimitive(Checked, Message):
    """The request and the response of one DIMSE service."""

    __slots__ = ("encoded",)

    CHECKS = _CHECKS

    REQUEST_KEYWORDS: ClassVar[tuple[str, ...]] = ()
    RESPONSE_KEYWORDS: ClassVar[tuple[str, ...]] = ()
    STATUS_OPTIONAL_KEYWORDS: ClassVar[tuple[str, ...]] = ()
    _request: ClassVar[Command]
    _sent: ClassVar[str]

    def __init_subclass__(cls, request: Command, sent: str = "", is_required: bool = False) -> None:
        """Take what the service has: its request, and the name of the dataset in that."""
        needed = CARRIED[request].required
        cls.REQUEST_KEYWORDS = (*needed, sent) if is_required else needed
        if request is not Command.C_CANCEL_RQ:
            response = CARRIED[Command(request | _RESPONSE_BIT)]
            cls.RESPONSE_KEYWORDS = response.required
            cls.STATUS_OPTIONAL_KEYWORDS = response.optional
        cls._request, cls._sent = request, sent
        _CLASSES[request] = cls

    def __init__(self) -> None:
        super().__init__(self._request)
        self.encoded: dict[str, BytesIO | Payload | None] = {}
        if "Priority" in self.REQUEST_KEYWORDS:
            self.Priority = _PRIORITY_LOW

    @classmethod
    def of(cls, request: Message, payload: Payload | None) -> Self:
        """Return the primitive of a request and its dataset."""
        values = {name: getattr(request, name) for name in Message.__slots__}
        encoded = {} if payload is None else {cls._sent: payload}
        primitive: Self = as_received(cls, {**values, "encoded": encoded})
        return primitive

    @property
    def payload(self) -> Payload | None:
        """The dataset of the request, if there is one."""
        encoded = self.encoded.get(self._sent)
        if isinstance(encoded, BytesIO):
            return MemoryPayload(bytearray(encoded.getvalue()))
        return encoded

    @property
    def msg_type(self) -> str:
        """The name of the service, such as "C-STORE"."""
        return type(self).__name__.replace("_", "-")

    @property
    def is_valid_request(self) -> bool:
        """Whether all is there that a request needs."""
        return self._has(self.REQUEST_KEYWORDS)

    @property
    def is_valid_response(self) -> bool:
        """Whether all is there that a response needs."""
        return self._has(self.RESPONSE_KEYWORDS)

    def _has(self, keywords: tuple[str, ...]) -> bool:
        return all(getattr(self, keyword) is not None for keyword in keywords)


_CLASSES: dict[Command, type[DIMSEPrimitive]] = {}


class C_CANCEL(DIMSEPrimitive, request=Command.C_CANCEL_RQ):
    """C-CANCEL (PS3.7 Section 9.3.2.3)."""


class C_ECHO(DIMSEPrimitive, request=Command.C_ECHO_RQ):
    """C-ECHO (PS3.7 Section 9.1.5)."""


class C_STORE(DIMSEPrimitive, request=Command.C_STORE_RQ, sent="DataSet", is_required=True):
    """C-STORE (PS3.7 Section 9.1.1)."""

    DataSet = Encoded()


class C_FIND(DIMSEPrimitive, request=Command.C_FIND_RQ, sent="Identifier", is_required=True):
    """C-FIND (PS3.7 Section 9.1.2)."""

    Identifier = Encoded()


class C_GET(DIMSEPrimitive, request=Command.C_GET_RQ, sent="Identifier", is_required=True):
    """C-GET (PS3.7 Section 9.1.3)."""

    Identifier = Encoded()


class C_MOVE(DIMSEPrimitive, request=Command.C_MOVE_RQ, sent="Identifier", is_required=True):
    """C-MOVE (PS3.7 Section 9.1.4)."""

    Identifier = Encoded()


class N_EVENT_REPORT(DIMSEPrimitive, request=Command.N_EVENT_REPORT_RQ, sent="EventInformation"):
    """N-EVENT-REPORT (PS3.7 Section 10.1.1)."""

    EventInformation = Encoded()
    EventReply = Encoded()


class N_GET(DIMSEPrimitive, request=Command.N_GET_RQ):
    """N-GET (PS3.7 Section 10.1.2)."""

    AttributeList = Encoded()


class N_SET(DIMSEPrimitive, request=Command.N_SET_RQ, sent="ModificationList", is_required=True):
    """N-SET (PS3.7 Section 10.1.3)."""

    ModificationList = Encoded()
    AttributeList = Encoded()


class N_ACTION(DIMSEPrimitive, request=Command.N_ACTION_RQ, sent="ActionInformation"):
    """N-ACTION (PS3.7 Section 10.1.4)."""

    ActionInformation = Encoded()
    ActionReply = Encoded()


class N_CREATE(DIMSEPrimitive, request=Command.N_CREATE_RQ, sent="AttributeList"):
    """N-CREATE (PS3.7 Section 10.1.5)."""

    AttributeList = Encoded()


class N_DELETE(DIMSEPrimitive, request=Command.N_DELETE_RQ):
    """N-DELETE (PS3.7 Section 10.1.6)."""


DimseServiceType: TypeAlias = DIMSEPrimitive
DimsePrimitiveType: TypeAlias = DIMSEPrimitive


def primitive_of(request: Message, payload: Payload | None) -> Message:
    """Return `request` as the class of its service."""
    if isinstance(request, DIMSEPrimitive):
        return request
    return _CLASSES[request.command].of(request, payload)
