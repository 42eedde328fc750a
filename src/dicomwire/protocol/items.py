"""User information items of an A-ASSOCIATE-RQ or -AC: classes, encoding and decoding.

Programs use the same classes for extended negotiation. Other modules act on the values.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from copy import copy
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import TYPE_CHECKING, ClassVar, Self, TypeAlias, get_args

from dicomwire.errors import RemoteProtocolError
from dicomwire.protocol.context import UID_LENGTH, as_uid, quick_uid
from dicomwire.protocol.cursor import Cursor
from dicomwire.protocol.limits import Limits

if TYPE_CHECKING:
    from pydicom.uid import UID

DEFAULT_MAX_LENGTH = 16382
DEFAULT_CODECS = ("ascii",)
"""The codecs to try for text in PDUs, for which the standard prescribes ISO 646 (ASCII)."""

TEXT_LENGTH = 16
"""The most characters an AE title or an implementation version name may have."""

USER_INFORMATION = 0x50
USER_IDENTITY_ANSWER = 0x59

_ITEM_HEADER = struct.Struct(">BxH")
_U16 = struct.Struct(">H")
_U32 = struct.Struct(">I")
_U16_PAIR = struct.Struct(">HH")


# -- shared by PDUs and items -------------------------------------------------------------------


def encode_item(item_type: int, value: bytes) -> bytes:
    """Return an item or sub-item: type, reserved byte, 16-bit length, value (PS3.8 9.3.1)."""
    if len(value) > 0xFFFF:
        raise ValueError(f"item {item_type:02X}H: {len(value)} bytes do not fit into an item")
    return _ITEM_HEADER.pack(item_type, len(value)) + value


def decode_items(view: memoryview, ceiling: int, what: str) -> Iterator[tuple[int, memoryview]]:
    """Yield type and value of each item in `view`; more than `ceiling` items are an error."""
    at, count = 0, 0
    while at < len(view):
        count += 1
        if count > ceiling:
            raise RemoteProtocolError(f"{what}: more than {ceiling} items")
        start = at + _ITEM_HEADER.size
        if start > len(view):
            raise RemoteProtocolError(f"{what}: the header of an item is incomplete")
        item_type, length = _ITEM_HEADER.unpack_from(view, at)
        at = start + length
        if at > len(view):
            raise RemoteProtocolError(
                f"{what}: an item of {length} bytes, of which {len(view) - start} are present"
            )
        yield item_type, view[start:at]


@lru_cache(1024)  # an association has few, and the next one mostly has the same
def encode_uid(value: str | bytes | UID | None, name: str) -> bytes:
    """Return the encoded UID, without padding as in all PDUs (PS3.8 Annex F)."""
    if value is None:
        raise ValueError(f"{name} is not set")
    return as_uid(value, name).encode("ascii")


def decode_uid(view: memoryview) -> UID:
    """Return the UID in `view` without padding; it may be empty or not conform to PS3.5.

    Peers send many invalid UIDs, and an unknown UID does no harm. So only length and alphabet are
    checked. A UID that fails the check becomes empty, and its item is not negotiated.
    """
    raw = bytes(view).strip(b" \0")
    if len(raw) > UID_LENGTH or not raw.isascii():
        return quick_uid("")
    return quick_uid(raw.decode("ascii"))


def encode_text(value: str, name: str) -> bytes:
    """Return the encoded AE title or version name (PS3.5 Section 6.2, VR AE), without padding."""
    if not isinstance(value, str):
        raise TypeError(f"{name} is a str, not {type(value).__name__}")
    if not value.strip(" ") or len(value) > TEXT_LENGTH:
        raise ValueError(f"{name} has 1 to {TEXT_LENGTH} characters and not only spaces: {value!r}")
    if not (value.isascii() and value.isprintable()) or "\\" in value:
        raise ValueError(f"{name} is ASCII without controls and backslash: {value!r}")
    return value.encode("ascii")


def decode_text(view: memoryview, codecs: tuple[str, ...]) -> str:
    """Return the text in `view` without padding, decoded by the first of `codecs` that succeeds.

    If none does, bytes that are not ASCII become escapes, so that no association fails because of
    a character. The text may contain control characters: escape it before you log it.
    """
    raw = bytes(view)
    for codec in codecs:
        try:
            text = raw.decode(codec)
        except UnicodeError:
            continue
        return text.strip(" \0")
    return raw.decode("ascii", "backslashreplace").strip(" \0")


def _unsigned(layout: struct.Struct, *values: int) -> bytes:
    try:
        return layout.pack(*values)
    except struct.error as error:
        raise ValueError(f"{values} do not fit: {error}") from None


def _counted(value: bytes, name: str) -> bytes:
    """Return `value` after its length in 16 bits."""
    if len(value) > 0xFFFF:
        raise ValueError(f"{name}: {len(value)} bytes, more than 65535")
    return _U16.pack(len(value)) + value


def _counted_uid(cursor: Cursor) -> UID:
    return decode_uid(cursor.take(cursor.u16()))


# -- the items ----------------------------------------------------------------------------------


class _Item:
    """A user information item."""

    __slots__ = ()

    _type: ClassVar[int]
    """The first byte of the item."""
    _value: Callable[[], bytes]
    """Returns the encoded value; ValueError if one of the attributes is missing or invalid."""

    def encode(self) -> bytes:
        """Return the item; ValueError if a value is missing or invalid."""
        return encode_item(self._type, self._value())

    def copied(self) -> Self:
        """Return a copy that shares no object that can be changed."""
        return copy(self)


@dataclass(slots=True)
class MaximumLengthNotification(_Item):
    """The longest P-DATA-TF PDU that the sender of the item accepts (PS3.8 Annex D.1.1, item 51H).

    In bytes after the PDU header; 0: no maximum.
    """

    _type = 0x51

    maximum_length_received: int = DEFAULT_MAX_LENGTH

    def _value(self) -> bytes:
        return _unsigned(_U32, self.maximum_length_received)

    @classmethod
    def _decode(cls, cursor: Cursor, codecs: tuple[str, ...]) -> Self:
        return cls(cursor.u32())


@dataclass(slots=True)
class ImplementationClassUIDNotification(_Item):
    """A UID of the sender's software (PS3.7 Annex D.3.3.2, item 52H)."""

    _type = 0x52

    implementation_class_uid: UID | None = None

    def _value(self) -> bytes:
        return encode_uid(self.implementation_class_uid, "implementation_class_uid")

    @classmethod
    def _decode(cls, cursor: Cursor, codecs: tuple[str, ...]) -> Self:
        return cls(decode_uid(cursor.rest()))


@dataclass(slots=True)
class ImplementationVersionNameNotification(_Item):
    """The version of the sender's software, up to 16 characters (PS3.7 Annex D.3.3.2, item 55H)."""

    _type = 0x55

    implementation_version_name: str | None = None

    def _value(self) -> bytes:
        name = self.implementation_version_name or ""
        return encode_text(name, "implementation_version_name")

    @classmethod
    def _decode(cls, cursor: Cursor, codecs: tuple[str, ...]) -> Self:
        return cls(decode_text(cursor.rest(), codecs))


@dataclass(slots=True)
class AsynchronousOperationsWindowNegotiation(_Item):
    """The most outstanding operations; 0: any number (PS3.7 Annex D.3.3.3, item 53H)."""

    _type = 0x53

    maximum_number_operations_invoked: int = 1
    maximum_number_operations_performed: int = 1

    def _value(self) -> bytes:
        invoked = self.maximum_number_operations_invoked
        performed = self.maximum_number_operations_performed
        return _unsigned(_U16_PAIR, invoked, performed)

    @classmethod
    def _decode(cls, cursor: Cursor, codecs: tuple[str, ...]) -> Self:
        return cls(cursor.u16(), cursor.u16())


@dataclass(slots=True)
class SCP_SCU_RoleSelectionNegotiation(_Item):
    """The roles that the requestor may take for a SOP class (PS3.7 Annex D.3.3.4, item 54H).

    A role of None is encoded as not supported.
    """

    _type = 0x54

    sop_class_uid: UID | None = None
    scu_role: bool | None = None
    scp_role: bool | None = None

    def _value(self) -> bytes:
        uid = _counted(encode_uid(self.sop_class_uid, "sop_class_uid"), "sop_class_uid")
        return uid + bytes((bool(self.scu_role), bool(self.scp_role)))

    @classmethod
    def _decode(cls, cursor: Cursor, codecs: tuple[str, ...]) -> Self:
        uid = _counted_uid(cursor)
        return cls(uid, cursor.u8() == 1, cursor.u8() == 1)


@dataclass(slots=True)
class SOPClassExtendedNegotiation(_Item):
    """Information that the SOP class defines, as bytes (PS3.7 Annex D.3.3.5, item 56H)."""

    _type = 0x56

    sop_class_uid: UID | None = None
    service_class_application_information: bytes | None = None

    def _value(self) -> bytes:
        uid = _counted(encode_uid(self.sop_class_uid, "sop_class_uid"), "sop_class_uid")
        if self.service_class_application_information is None:
            raise ValueError("service_class_application_information is not set")
        return uid + self.service_class_application_information

    @classmethod
    def _decode(cls, cursor: Cursor, codecs: tuple[str, ...]) -> Self:
        return cls(_counted_uid(cursor), bytes(cursor.rest()))


@dataclass(slots=True)
class SOPClassCommonExtendedNegotiation(_Item):
    """The service class and the related general SOP classes of a SOP class.

    PS3.7 Annex D.3.3.6, item 57H; only a requestor sends it.
    """

    _type = 0x57

    sop_class_uid: UID | None = None
    service_class_uid: UID | None = None
    related_general_sop_class_identification: list[UID] = field(default_factory=list)

    def copied(self) -> SOPClassCommonExtendedNegotiation:
        """Return a copy that shares no object that can be changed."""
        related = [*self.related_general_sop_class_identification]
        return replace(self, related_general_sop_class_identification=related)

    def _value(self) -> bytes:
        sop_class = encode_uid(self.sop_class_uid, "sop_class_uid")
        service_class = encode_uid(self.service_class_uid, "service_class_uid")
        name = "related_general_sop_class_identification"
        related = b"".join(
            _counted(encode_uid(uid, name), name)
            for uid in self.related_general_sop_class_identification
        )
        return (
            _counted(sop_class, "sop_class_uid")
            + _counted(service_class, "service_class_uid")
            + _counted(related, name)
        )

    @classmethod
    def _decode(cls, cursor: Cursor, codecs: tuple[str, ...]) -> Self:
        item = cls(_counted_uid(cursor), _counted_uid(cursor))
        related = cursor.sub(cursor.u16(), "SOP class common extended")
        while related.remaining:
            item.related_general_sop_class_identification.append(_counted_uid(related))
        cursor.rest()  # "reserved for additional fields", Table D.3-12
        return item


@dataclass(slots=True)
class UserIdentityNegotiation(_Item):
    """The identity of the requestor's user, or the acceptor's answer to it (PS3.7 Annex D.3.3.7).

    A request (item 58H) has a type: 1 user name, 2 user name and passcode, 3 Kerberos ticket,
    4 SAML assertion, 5 JSON web token. With a `server_response` it is an answer (item 59H), and
    the other attributes are ignored.
    """

    _type = 0x58

    user_identity_type: int | None = None
    positive_response_requested: bool = False
    primary_field: bytes | None = field(default=None, repr=False)
    secondary_field: bytes | None = field(default=None, repr=False)
    server_response: bytes | None = field(default=None, repr=False)

    def encode(self) -> bytes:
        """Return the item; ValueError if a value is missing or invalid."""
        if self.server_response is not None:
            response = _counted(self.server_response, "server_response")
            return encode_item(USER_IDENTITY_ANSWER, response)
        return encode_item(self._type, self._value())

    def _value(self) -> bytes:
        if self.user_identity_type not in (1, 2, 3, 4, 5):
            raise ValueError(f"user_identity_type is 1 to 5, not {self.user_identity_type}")
        if self.primary_field is None:
            raise ValueError("primary_field is not set")
        if self.user_identity_type == 2 and self.secondary_field is None:
            raise ValueError("secondary_field is not set, and user_identity_type is 2")
        return (
            bytes((self.user_identity_type, bool(self.positive_response_requested)))
            + _counted(self.primary_field, "primary_field")
            + _counted(self.secondary_field or b"", "secondary_field")
        )

    @classmethod
    def _decode(cls, cursor: Cursor, codecs: tuple[str, ...]) -> Self:
        return cls(
            cursor.u8(),  # an undefined type is kept
            cursor.u8() == 1,
            bytes(cursor.take(cursor.u16())),
            bytes(cursor.take(cursor.u16())),
        )

    @classmethod
    def _decode_answer(cls, cursor: Cursor, codecs: tuple[str, ...]) -> Self:
        return cls(server_response=bytes(cursor.take(cursor.u16())))


UserItem: TypeAlias = (
    MaximumLengthNotification
    | ImplementationClassUIDNotification
    | ImplementationVersionNameNotification
    | AsynchronousOperationsWindowNegotiation
    | SCP_SCU_RoleSelectionNegotiation
    | SOPClassExtendedNegotiation
    | SOPClassCommonExtendedNegotiation
    | UserIdentityNegotiation
)

_DECODERS: dict[int, Callable[[Cursor, tuple[str, ...]], UserItem]] = {
    **{kind._type: kind._decode for kind in get_args(UserItem)},
    USER_IDENTITY_ANSWER: UserIdentityNegotiation._decode_answer,
}


def decode_user_information(
    view: memoryview, limits: Limits, codecs: tuple[str, ...] = DEFAULT_CODECS
) -> list[UserItem]:
    """Return the sub-items of a user information item in their order (PS3.8 Annex D).

    Unknown sub-items are skipped, as PS3.8 Section 9.3.1 requires. If an item that may occur only
    once (54H, 56H, 57H: once for each SOP class) is repeated, the first one counts, so that
    appended items cannot override earlier ones.
    """
    items: dict[tuple[int, UID | None], UserItem] = {}
    for item_type, value in decode_items(view, limits.items, "user information"):
        decode = _DECODERS.get(item_type)
        if decode is None:
            continue
        body = Cursor(value, f"user information sub-item {item_type:02X}H")
        item = decode(body, codecs)
        body.check_end()
        items.setdefault((item_type, getattr(item, "sop_class_uid", None)), item)
    return list(items.values())
