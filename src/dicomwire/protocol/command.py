"""Command sets: the class `Message`, and its encoding and decoding (PS3.7 Section 6.3).

Other modules handle the dataset of a message and its meaning.
"""

from __future__ import annotations

import logging
import re
import struct
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache, partial
from operator import attrgetter
from typing import TYPE_CHECKING, Any, NamedTuple

from dicomwire.errors import AbortReason, AbortSource, RemoteProtocolError
from dicomwire.protocol.context import UID_LENGTH, MaybeNone, quick_uid

if TYPE_CHECKING:
    from pydicom.dataset import Dataset
    from pydicom.tag import BaseTag
    from pydicom.uid import UID

LOGGER = logging.getLogger(__name__)


class Command(IntEnum):
    """Values of Command Field (0000,0100) (PS3.7 Annex E.1)."""

    C_STORE_RQ = 0x0001
    C_STORE_RSP = 0x8001
    C_GET_RQ = 0x0010
    C_GET_RSP = 0x8010
    C_FIND_RQ = 0x0020
    C_FIND_RSP = 0x8020
    C_MOVE_RQ = 0x0021
    C_MOVE_RSP = 0x8021
    C_ECHO_RQ = 0x0030
    C_ECHO_RSP = 0x8030
    N_EVENT_REPORT_RQ = 0x0100
    N_EVENT_REPORT_RSP = 0x8100
    N_GET_RQ = 0x0110
    N_GET_RSP = 0x8110
    N_SET_RQ = 0x0120
    N_SET_RSP = 0x8120
    N_ACTION_RQ = 0x0130
    N_ACTION_RSP = 0x8130
    N_CREATE_RQ = 0x0140
    N_CREATE_RSP = 0x8140
    N_DELETE_RQ = 0x0150
    N_DELETE_RSP = 0x8150
    C_CANCEL_RQ = 0x0FFF


RESPONSE_BIT = 0x8000
"""The bit that is set in the Command Field of a response (PS3.7 Annex E.1)."""


@dataclass(slots=True, repr=False)
class Message:
    """A command set: its attributes are the keywords of PS3.7 Annex E; None for an absent element.

    Attributes
    ----------
    command : Command
        Command Field: the kind of message.
    has_dataset : bool
        Whether a dataset follows; it is encoded as Command Data Set Type.
    unusable : tuple of str
        In a received message, the keywords of required elements that are missing and of elements
        whose value cannot be read. Their attributes are None.
    """

    command: Command
    MessageID: int | MaybeNone = None
    MessageIDBeingRespondedTo: int | MaybeNone = None
    AffectedSOPClassUID: UID | MaybeNone = None
    RequestedSOPClassUID: UID | MaybeNone = None
    AffectedSOPInstanceUID: UID | MaybeNone = None
    RequestedSOPInstanceUID: UID | MaybeNone = None
    Priority: int | None = None
    Status: int | None = None
    MoveDestination: str | MaybeNone = None
    MoveOriginatorApplicationEntityTitle: str | None = None
    MoveOriginatorMessageID: int | None = None
    OffendingElement: list[BaseTag] | None = None
    ErrorComment: str | None = None
    ErrorID: int | None = None
    AttributeIdentifierList: list[BaseTag] | None = None
    NumberOfRemainingSuboperations: int | None = None
    NumberOfCompletedSuboperations: int | None = None
    NumberOfFailedSuboperations: int | None = None
    NumberOfWarningSuboperations: int | None = None
    EventTypeID: int | MaybeNone = None
    ActionTypeID: int | MaybeNone = None
    has_dataset: bool = False
    unusable: tuple[str, ...] = ()

    def __repr__(self) -> str:
        carried = CARRIED[self.command]
        values = ((each, getattr(self, each)) for each in (*carried.required, *carried.optional))
        shown = [f"{each}={_shown(each, value)}" for each, value in values if value is not None]
        dataset = ", with a dataset" if self.has_dataset else ""
        return f"<{self.name} {', '.join(shown)}{dataset}>"

    @property
    def is_response(self) -> bool:
        """Whether this message is a response."""
        return bool(self.command & RESPONSE_BIT)

    @property
    def command_set(self) -> Dataset:
        """The elements of the message, without group length, as a new Dataset.

        Changes to the Dataset do not change the message.
        """
        from pydicom.dataelem import DataElement
        from pydicom.dataset import Dataset

        dataset = Dataset()
        for keyword, (number, vr) in ELEMENTS.items():
            value: Any = getattr(self, _ATTRIBUTES.get(keyword, keyword))
            if keyword == "CommandField":
                value = int(value)
            elif keyword == "CommandDataSetType":
                value = _WITH_DATASET if value else _NO_DATASET
            if value is not None:
                dataset[number] = DataElement(number, vr, value, already_converted=True)
        return dataset

    @property
    def name(self) -> str:
        """The name of the message in the standard, such as "C-STORE-RQ"."""
        return _name(self.command)


def _shown(keyword: str, value: Any) -> str:
    if keyword == "Status":
        return f"0x{value:04X}"
    return f"{value:d}" if isinstance(value, int) else ascii(value)


# --- The rules, as data ---------------------------------------------------------------------


class Element(NamedTuple):
    """An entry of the command dictionary (PS3.7 Table E.1-1); the group is 0000."""

    number: int
    vr: str


ELEMENTS: dict[str, Element] = {
    "AffectedSOPClassUID": Element(0x0002, "UI"),
    "RequestedSOPClassUID": Element(0x0003, "UI"),
    "CommandField": Element(0x0100, "US"),
    "MessageID": Element(0x0110, "US"),
    "MessageIDBeingRespondedTo": Element(0x0120, "US"),
    "MoveDestination": Element(0x0600, "AE"),
    "Priority": Element(0x0700, "US"),
    "CommandDataSetType": Element(0x0800, "US"),
    "Status": Element(0x0900, "US"),
    "OffendingElement": Element(0x0901, "AT"),
    "ErrorComment": Element(0x0902, "LO"),
    "ErrorID": Element(0x0903, "US"),
    "AffectedSOPInstanceUID": Element(0x1000, "UI"),
    "RequestedSOPInstanceUID": Element(0x1001, "UI"),
    "EventTypeID": Element(0x1002, "US"),
    "AttributeIdentifierList": Element(0x1005, "AT"),
    "ActionTypeID": Element(0x1008, "US"),
    "NumberOfRemainingSuboperations": Element(0x1020, "US"),
    "NumberOfCompletedSuboperations": Element(0x1021, "US"),
    "NumberOfFailedSuboperations": Element(0x1022, "US"),
    "NumberOfWarningSuboperations": Element(0x1023, "US"),
    "MoveOriginatorApplicationEntityTitle": Element(0x1030, "AE"),
    "MoveOriginatorMessageID": Element(0x1031, "US"),
}


class Carried(NamedTuple):
    """The keywords of the elements that a message must have and may have."""

    required: tuple[str, ...]
    optional: tuple[str, ...]


def _request(required: str, optional: str = "") -> Carried:
    return Carried(("MessageID", *required.split()), tuple(optional.split()))


def _response(optional: str) -> Carried:
    # A response may have an Error Comment and an Error ID with any status (PS3.7 Annex C).
    return Carried(
        ("MessageIDBeingRespondedTo", "Status"), (*optional.split(), "ErrorComment", "ErrorID")
    )


_SUBOPERATIONS = (
    "NumberOfRemainingSuboperations NumberOfCompletedSuboperations "
    "NumberOfFailedSuboperations NumberOfWarningSuboperations"
)

# PS3.7 Sections 9.3 and 10.3. All messages also have Command Field and Command Data Set Type.
CARRIED: dict[Command, Carried] = {
    Command.C_STORE_RQ: _request(
        "AffectedSOPClassUID AffectedSOPInstanceUID Priority",
        "MoveOriginatorApplicationEntityTitle MoveOriginatorMessageID",
    ),
    Command.C_STORE_RSP: _response("AffectedSOPClassUID AffectedSOPInstanceUID OffendingElement"),
    Command.C_GET_RQ: _request("AffectedSOPClassUID Priority"),
    Command.C_GET_RSP: _response(f"AffectedSOPClassUID OffendingElement {_SUBOPERATIONS}"),
    Command.C_FIND_RQ: _request("AffectedSOPClassUID Priority"),
    Command.C_FIND_RSP: _response("AffectedSOPClassUID OffendingElement"),
    Command.C_MOVE_RQ: _request("AffectedSOPClassUID Priority MoveDestination"),
    Command.C_MOVE_RSP: _response(f"AffectedSOPClassUID OffendingElement {_SUBOPERATIONS}"),
    Command.C_ECHO_RQ: _request("AffectedSOPClassUID"),
    Command.C_ECHO_RSP: _response("AffectedSOPClassUID"),
    Command.N_EVENT_REPORT_RQ: _request("AffectedSOPClassUID AffectedSOPInstanceUID EventTypeID"),
    Command.N_EVENT_REPORT_RSP: _response("AffectedSOPClassUID AffectedSOPInstanceUID EventTypeID"),
    Command.N_GET_RQ: _request(
        "RequestedSOPClassUID RequestedSOPInstanceUID", "AttributeIdentifierList"
    ),
    Command.N_GET_RSP: _response(
        "AffectedSOPClassUID AffectedSOPInstanceUID AttributeIdentifierList"
    ),
    Command.N_SET_RQ: _request("RequestedSOPClassUID RequestedSOPInstanceUID"),
    Command.N_SET_RSP: _response(
        "AffectedSOPClassUID AffectedSOPInstanceUID AttributeIdentifierList"
    ),
    Command.N_ACTION_RQ: _request("RequestedSOPClassUID RequestedSOPInstanceUID ActionTypeID"),
    Command.N_ACTION_RSP: _response(
        "AffectedSOPClassUID AffectedSOPInstanceUID AttributeIdentifierList ActionTypeID"
    ),
    Command.N_CREATE_RQ: _request("AffectedSOPClassUID", "AffectedSOPInstanceUID"),
    Command.N_CREATE_RSP: _response(
        "AffectedSOPClassUID AffectedSOPInstanceUID AttributeIdentifierList"
    ),
    Command.N_DELETE_RQ: _request("RequestedSOPClassUID RequestedSOPInstanceUID"),
    Command.N_DELETE_RSP: _response("AffectedSOPClassUID AffectedSOPInstanceUID"),
    Command.C_CANCEL_RQ: Carried(("MessageIDBeingRespondedTo",), ()),
}

# An encoded element has a tag, a length and a value (PS3.7 Section 6.3.1). The tag is read as one
# little-endian number, with the group (always 0000) in its low half.
_HEADER = struct.Struct("<II")
_AT = struct.Struct("<HH")
_US_ELEMENT = struct.Struct("<IIH")
_UL_ELEMENT = struct.Struct("<III")
_GROUP_MASK = 0xFFFF

_NO_DATASET = 0x0101
_WITH_DATASET = 0x0001  # any value but 0101H means that a dataset follows

_PRIORITY_MEDIUM, _PRIORITY_HIGH, _PRIORITY_LOW = 0, 1, 2
_PRIORITIES = (_PRIORITY_MEDIUM, _PRIORITY_HIGH, _PRIORITY_LOW)

_AE_LENGTH = 16
_LO_LENGTH = 64


def _key(keyword: str) -> int:
    return ELEMENTS[keyword].number << 16


def _is_plain(text: str) -> bool:
    """Return whether `text` can be one value of VR UI or AE: printable ASCII without backslash."""
    return text.isascii() and text.isprintable() and "\\" not in text


# --- Sending --------------------------------------------------------------------------------


def encode_command(message: Message) -> bytes:
    """Return `message` as a command set in implicit VR little endian, with its group length.

    It encodes only the elements that the message must or may have (`CARRIED`).

    Raises
    ------
    ValueError
        If a required attribute is None or a value does not fit its element.
    """
    plan = _ENCODING[message.command]
    parts = []
    for value, (keyword, encode, required) in zip(plan.values(message), plan.elements, strict=True):
        if value is not None:
            try:
                parts.append(encode(value))
            except struct.error:
                vr = ELEMENTS[keyword].vr
                raise ValueError(f"{keyword} has VR {vr} and cannot be {value!r}") from None
        elif required:
            raise ValueError(f"A {message.name} needs {keyword}")
    body = b"".join(parts)
    return _UL_ELEMENT.pack(0, 4, len(body)) + body


def _element(keyword: str, value: bytes, padding: bytes) -> bytes:
    if len(value) % 2:
        value += padding
    return _HEADER.pack(_key(keyword), len(value)) + value


def is_sendable_uid(value: str) -> bool:
    """Return whether an element of VR UI can hold `value`, even if it is not a valid UID."""
    return 0 < len(value) <= UID_LENGTH and _is_plain(value)


def _encode_ui(keyword: str, value: str) -> bytes:
    if not is_sendable_uid(value):
        raise ValueError(f"{keyword} must be 1 to {UID_LENGTH} ASCII characters, not {value!r}")
    return _element(keyword, value.encode("ascii"), b"\0")


def _encode_ae(keyword: str, value: str) -> bytes:
    title = value.strip(" ")
    if not (0 < len(title) <= _AE_LENGTH and _is_plain(title)):
        raise ValueError(f"{keyword} must be 1 to {_AE_LENGTH} ASCII characters, not {value!r}")
    return _element(keyword, title.encode("ascii"), b" ")


_CONTROLS = re.compile(r"[\x00-\x1f\x7f]+")


def _encode_lo(keyword: str, value: str) -> bytes:
    # People read the comment: a shortened or changed comment is better than an error. A backslash
    # would split it into two values (PS3.5 Section 6.2).
    plain = _CONTROLS.sub(" ", value).replace("\\", "?").encode("ascii", "replace")
    return _element(keyword, plain[:_LO_LENGTH], b" ")


def _encode_at(keyword: str, tags: list[BaseTag]) -> bytes:
    return _element(keyword, b"".join([_AT.pack(tag >> 16, tag & 0xFFFF) for tag in tags]), b"")


def _encode_priority(keyword: str, value: int) -> bytes:
    if value not in _PRIORITIES:
        raise ValueError(f"{keyword} must be 0 (medium), 1 (high) or 2 (low), not {value!r}")
    return _US_ELEMENT.pack(_key(keyword), 2, value)


_ENCODERS: dict[str, Callable[[str, Any], bytes]] = {
    "UI": _encode_ui,
    "AE": _encode_ae,
    "LO": _encode_lo,
    "AT": _encode_at,
}


def _encoder(keyword: str) -> Callable[[Any], bytes]:
    """Return the function that encodes a value of `keyword` as an element."""
    number_element = partial(_US_ELEMENT.pack, _key(keyword), 2)
    if keyword == "CommandDataSetType":
        return (number_element(_NO_DATASET), number_element(_WITH_DATASET)).__getitem__
    if keyword == "Priority":
        return partial(_encode_priority, keyword)
    vr = ELEMENTS[keyword].vr
    if vr == "US":
        return number_element
    encode = partial(_ENCODERS[vr], keyword)
    # Cached for SOP Class UIDs, which repeat in every message; instance UIDs hardly ever repeat.
    return lru_cache(256)(encode) if keyword.endswith("SOPClassUID") else encode


class _Encoding(NamedTuple):
    """The encoding of one command: a getter of the message's values, and its elements in order."""

    values: Callable[[Message], tuple[Any, ...]]
    elements: tuple[tuple[str, Callable[[Any], bytes], bool], ...]


_ATTRIBUTES = {"CommandField": "command", "CommandDataSetType": "has_dataset"}


def _encoding(carried: Carried) -> _Encoding:
    required = {"CommandField", "CommandDataSetType", *carried.required}
    keywords = sorted(required.union(carried.optional), key=_key)
    return _Encoding(
        attrgetter(*(_ATTRIBUTES.get(keyword, keyword) for keyword in keywords)),
        tuple((keyword, _ENCODER_OF[keyword], keyword in required) for keyword in keywords),
    )


_ENCODER_OF = {keyword: _encoder(keyword) for keyword in ELEMENTS}
_ENCODING = {command: _encoding(carried) for command, carried in CARRIED.items()}


# --- Receiving ------------------------------------------------------------------------------
#
# These deviations from the standard are accepted:
#
# * Command Group Length is wrong, has another size, or is missing: it is ignored.
# * Elements are out of order or repeated: the last value counts.
# * Elements belong to another group than 0000: they are skipped, with a warning.
# * Elements of group 0000 are retired, unknown or not allowed in this message: those that
#   `Message` has an attribute for are kept, the others skipped.
# * A value has an odd length or the wrong padding: NUL and space are stripped from UI, AE and LO.
# * An element is empty: it counts as absent.
# * Priority is absent or not valid: it counts as medium.
# * AE and LO contain bytes that are not ASCII: these become backslash escapes.
# * LO is too long, or contains a backslash: it is kept, since only people read it.
# * The AE title of a Move Originator is too long, or contains a backslash: it is shortened.
# * A UID breaks the rules for its components: some peers use such UIDs, so it is `unusable` only
#   if it could not be sent on.
# * Another value cannot be read: it counts as absent, with a warning.
# * A request lacks a required element: the element is `unusable`, with a warning.
#
# A command set is refused if it lacks the Command Field, the message ID or Command Data Set Type:
# without them we could not tell what the following bytes are.

_INDISPENSABLE = ("MessageID", "MessageIDBeingRespondedTo", "Status")


def decode_command(view: bytes | memoryview) -> Message:
    """Return the message in `view`, a complete command set.

    Raises
    ------
    RemoteProtocolError
        If it cannot be parsed, or lacks an element that every message of its kind needs.
    """
    data = bytes(view)
    end = len(data)
    position = 0
    values: dict[str, Any] = {}
    faults: dict[str, str] = {}
    foreign = None
    while position < end:
        try:
            key, length = _HEADER.unpack_from(data, position)
        except struct.error:
            raise _fault(f"Command set ends within an element: {end - position} bytes") from None
        start = position + 8
        position = start + length
        if position > end:
            raise _fault(f"{_describe(key)}: {length} bytes claimed, {end - start} present")
        if known := _DECODER_OF.get(key):
            if length:
                keyword, decode = known
                try:
                    values[keyword] = decode(data[start:position])
                except ValueError as error:
                    values.pop(keyword, None)
                    faults[keyword] = f"{keyword} {error}"
        elif key & _GROUP_MASK:
            foreign = key
    message = _message(values, faults)
    if foreign is not None:
        LOGGER.warning(
            "%s: elements outside group 0000 are skipped, such as (%04X,%04X)",
            message.name,
            foreign & _GROUP_MASK,
            foreign >> 16,
        )
    return message


def _message(values: dict[str, Any], faults: dict[str, str]) -> Message:
    """Return the message with these `values`; `faults` has a text for each unreadable element."""
    field = values.pop("CommandField", None)
    if field is None:
        raise _fault(faults.get("CommandField", "Command set without CommandField"))
    decoding = _DECODING.get(field)
    if decoding is None:
        raise _fault(f"CommandField {field:04X}H is no DIMSE message")
    dataset_type = values.pop("CommandDataSetType", None)
    if dataset_type is None:
        raise _fault(faults.get("CommandDataSetType", "Command set without CommandDataSetType"))
    command, required, carried = decoding
    for keyword in required:
        if values.get(keyword) is None:
            if keyword == "Priority":
                values[keyword] = _PRIORITY_MEDIUM
                continue
            fault = faults.setdefault(keyword, f"{_name(command)} without {keyword}")
            if keyword in _INDISPENSABLE:
                raise _fault(fault)
    message = Message(command, has_dataset=dataset_type != _NO_DATASET, **values)
    if faults:
        message.unusable = tuple(
            keyword for keyword in faults if keyword in carried and values.get(keyword) is None
        )
        LOGGER.warning("%s: %s", message.name, "; ".join(faults.values()))
    return message


def _name(command: Command) -> str:
    return command.name.replace("_", "-")


def _fault(text: str) -> RemoteProtocolError:
    return RemoteProtocolError(text, AbortReason.NOT_SPECIFIED, AbortSource.SERVICE_USER)


def _describe(key: int) -> str:
    return f"Command element ({key & _GROUP_MASK:04X},{key >> 16:04X})"


def _decode_us(raw: bytes) -> int:
    if len(raw) != 2:
        raise ValueError(f"is {len(raw)} bytes long, and should be 2")
    return raw[0] | raw[1] << 8


def _decode_priority(raw: bytes) -> int:
    value = _decode_us(raw)
    return value if value in _PRIORITIES else _PRIORITY_MEDIUM


def _decode_ui(raw: bytes) -> UID | None:
    # The length includes the padding: these bytes are keys of a cache, so they must stay short.
    text = raw.strip(b"\0 ").decode("ascii", "backslashreplace")
    if len(raw) > UID_LENGTH or not _is_plain(text):
        raise ValueError(f"is not one UID of at most {UID_LENGTH} characters")
    return quick_uid(text) if text else None


def _decode_ae(raw: bytes) -> str | None:
    title = raw.strip(b"\0 ")
    if len(title) > _AE_LENGTH or b"\\" in title:
        raise ValueError(f"is not one AE title of at most {_AE_LENGTH} characters")
    return title.decode("ascii", "backslashreplace") or None


def _decode_originator(raw: bytes) -> str | None:
    # We do not act on this title: a shortened one is better than a refused object.
    return _decode_ae(raw.strip(b"\0 ").partition(b"\\")[0][:_AE_LENGTH])


def _decode_lo(raw: bytes) -> str | None:
    return raw.strip(b"\0 ").decode("ascii", "backslashreplace") or None


def _decode_at(raw: bytes) -> list[BaseTag]:
    if len(raw) % 4:
        raise ValueError(f"is {len(raw)} bytes long, and should be a multiple of 4")
    from pydicom.tag import BaseTag

    return [BaseTag(group << 16 | element) for group, element in _AT.iter_unpack(raw)]


_DECODERS: dict[str, Callable[[bytes], Any]] = {
    "US": _decode_us,
    "UI": _decode_ui,
    "AE": _decode_ae,
    "LO": _decode_lo,
    "AT": _decode_at,
}
_OWN_DECODERS: dict[str, Callable[[bytes], Any]] = {
    "Priority": _decode_priority,
    "MoveOriginatorApplicationEntityTitle": _decode_originator,
}


def _decoder(keyword: str) -> Callable[[bytes], Any]:
    """Return the function that decodes the value of `keyword`; it raises ValueError on a fault."""
    decode = _OWN_DECODERS.get(keyword) or _DECODERS[ELEMENTS[keyword].vr]
    return lru_cache(256)(decode) if keyword.endswith("SOPClassUID") else decode


_DECODER_OF = {_key(keyword): (keyword, _decoder(keyword)) for keyword in ELEMENTS}
# Keyed by plain numbers, so that one look-up both finds a command and detects an unknown one.
_DECODING = {
    int(command): (command, carried.required, frozenset(carried.required + carried.optional))
    for command, carried in CARRIED.items()
}
