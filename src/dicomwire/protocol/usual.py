"""Encodes and decodes the usual C-STORE, C-ECHO and C-FIND messages by their fixed layout.

This is an optimisation of `command`, which handles every message: the results are the same, and
any unusual message is left to it. Most messages of an association differ only in two numbers and
one UID.
"""

from __future__ import annotations

import re
import struct
from functools import lru_cache
from typing import TYPE_CHECKING

from dicomwire.protocol.command import Command, Message
from dicomwire.protocol.context import UID_LENGTH, quick_uid
from dicomwire.registry import uids

if TYPE_CHECKING:
    from pydicom.uid import UID

# The elements of a usual command set, in the order of their tags (PS3.7 Section 9.3): group length,
# Affected SOP Class UID, Command Field, the message ID, Priority (requests), Command Data Set Type,
# Status (responses), Affected SOP Instance UID (C-STORE). An element's header is its tag and the
# length of its value. The bytes between group length and message ID are the prefix, which is the
# same in thousands of messages.
_GROUP_LENGTH = b"\0\0\0\0\4\0\0\0"
_CLASS_UID = b"\0\0\2\0"
_COMMAND_FIELD = b"\0\0\0\1\2\0\0\0"
_MESSAGE_ID = b"\0\0\x10\1\2\0\0\0"
_RESPONDED_TO = b"\0\0\x20\1\2\0\0\0"
_PRIORITY = b"\0\0\0\7\2\0\0\0"
_DATASET_TYPE = b"\0\0\0\x08\2\0\0\0"
_STATUS = b"\0\0\0\x09\2\0\0\0"
_INSTANCE_UID = b"\0\0\0\x10"

_STORE = struct.Struct("<H8sH8sH4sI")
"""The part of a C-STORE message between the prefix and the SOP Instance UID."""
_STORE_FIELDS = struct.Struct("<8sH8sH4sI")
"""The same without the message ID."""
_STORE_SIZE = _STORE.size
_ECHO_REQUEST = struct.Struct("<H8sH")
_RESPONSE = struct.Struct("<H8sH8sH")
_LENGTH = struct.Struct("<I")
_FIELD = struct.Struct("<H")

_PREFIX_START = 12
"""Where the prefix begins: after the group length."""
_PREFIX_SIZE = 26
"""Bytes of the prefix without the UID: three headers of 8 bytes, and the value of Command Field."""
UID_LENGTH_AT = 16
"""Where a usual command set has the length of its SOP Class UID, which is below 256."""

_NO_DATASET = 0x0101
_WITH_DATASET = 0x0001

_ID_HEADERS = {
    Command.C_STORE_RQ: _MESSAGE_ID,
    Command.C_ECHO_RQ: _MESSAGE_ID,
    Command.C_STORE_RSP: _RESPONDED_TO,
    Command.C_ECHO_RSP: _RESPONDED_TO,
    Command.C_FIND_RSP: _RESPONDED_TO,
}
"""The commands that have a fixed layout, with the header of their message ID."""
_COMMANDS = {int(command): command for command in _ID_HEADERS}

_padded_uid = re.compile(rb"([0-9.]+)\0?").fullmatch
_is_plain_uid = re.compile(r"[0-9.]{1,64}", re.ASCII).fullmatch
"""Whether a UID has only digits and dots, and at most 64 of them."""


@lru_cache(256)  # more than the SOP classes of a peer; bounded, because the peer chooses the keys
def _decode_prefix(prefix: bytes) -> tuple[Command, UID] | None:
    """Return the command and the SOP class in `prefix`; None if its layout is not usual."""
    size = len(prefix) - _PREFIX_SIZE
    uid = _padded_uid(prefix, 8, 8 + size)
    command = _COMMANDS.get(_FIELD.unpack_from(prefix, 16 + size)[0]) if uid else None
    if uid is None or command is None or size > UID_LENGTH:
        return None
    if prefix != _encode_prefix(command, prefix[8 : 8 + size]):
        return None
    return command, quick_uid(uid[1].decode("ascii"))


def _encode_prefix(command: Command, padded_uid: bytes) -> bytes:
    return b"%b%b%b%b%b%b" % (
        _CLASS_UID,
        _LENGTH.pack(len(padded_uid)),
        padded_uid,
        _COMMAND_FIELD,
        _FIELD.pack(command),
        _ID_HEADERS[command],
    )


def start_size(uid_length: int) -> int:
    """Return how many bytes of a usual command set come before its message ID."""
    return _PREFIX_START + _PREFIX_SIZE + uid_length


def decode_start(data: bytes) -> tuple[Command, UID] | None:
    """Return the command and the SOP class of a command set, from the bytes before its message ID.

    None if the layout is not usual.
    """
    return _decode_prefix(data[_PREFIX_START:]) if data.startswith(_GROUP_LENGTH) else None


def decode_rest(command: Command, class_uid: UID, data: bytes) -> Message | None:
    """Return the message whose bytes from the message ID on are `data`; None if not usual."""
    size = len(data)
    if command is Command.C_STORE_RQ or command is Command.C_STORE_RSP:
        fields = _decode_fields(command, data[2:_STORE_SIZE])
        padded = _padded_uid(data, _STORE_SIZE)
        if fields is None or padded is None:
            return None
        value, has_dataset, length = fields
        if length != size - _STORE_SIZE:
            return None
        number = data[0] | data[1] << 8
        uid: UID = str.__new__(uids.made_as, padded[1].decode("ascii"))  # type: ignore[assignment]
        if command is Command.C_STORE_RQ:
            return Message(
                command, number, None, class_uid, None, uid, None, value, has_dataset=has_dataset
            )
        return Message(
            command, None, number, class_uid, None, uid, Status=value, has_dataset=has_dataset
        )
    if command is Command.C_ECHO_RQ:
        if size != _ECHO_REQUEST.size:
            return None
        number, header, dataset_type = _ECHO_REQUEST.unpack(data)
        if header != _DATASET_TYPE:
            return None
        return Message(command, number, None, class_uid, has_dataset=dataset_type != _NO_DATASET)
    if size != _RESPONSE.size:
        return None
    number, header, dataset_type, status_header, status = _RESPONSE.unpack(data)
    if header != _DATASET_TYPE or status_header != _STATUS:
        return None
    has_dataset = dataset_type != _NO_DATASET
    return Message(command, None, number, class_uid, Status=status, has_dataset=has_dataset)


@lru_cache(256)  # as for _decode_prefix
def _decode_fields(command: Command, data: bytes) -> tuple[int, bool, int] | None:
    """Return what a C-STORE message has between its message ID and its SOP Instance UID.

    That is the priority or the status, whether a dataset follows, and the length of the UID; None
    if the layout is not usual.
    """
    if len(data) != _STORE_FIELDS.size:
        return None
    first_header, first, second_header, second, uid_tag, length = _STORE_FIELDS.unpack(data)
    if uid_tag != _INSTANCE_UID or length > UID_LENGTH:
        return None
    if command is Command.C_STORE_RQ:
        if first_header != _PRIORITY or second_header != _DATASET_TYPE or first > 2:
            return None
        return first, second != _NO_DATASET, length
    if first_header != _DATASET_TYPE or second_header != _STATUS:
        return None
    return second, first != _NO_DATASET, length


@lru_cache(256)  # as for _decode_prefix
def _prefix(command: Command, class_uid: str) -> bytes | None:
    """Return the prefix of a command set; None if the command or the UID is not usual."""
    if command not in _ID_HEADERS or not _is_plain_uid(class_uid):
        return None
    padded = class_uid.encode("ascii") + b"\0" * (len(class_uid) % 2)
    return _encode_prefix(command, padded)


def encode_usual(message: Message) -> bytes | None:
    """Return `message` as a command set; None if it does not have a usual layout."""
    command, class_uid = message.command, message.AffectedSOPClassUID
    prefix = _prefix(command, class_uid) if class_uid else None
    if prefix is None:
        return None
    dataset_type = _WITH_DATASET if message.has_dataset else _NO_DATASET
    uid = b""
    if command is Command.C_STORE_RQ or command is Command.C_STORE_RSP:
        uid = encode_uid(message.AffectedSOPInstanceUID)
        if not uid:
            return None
    try:
        if command is Command.C_STORE_RQ:
            priority = message.Priority
            if (
                priority not in (0, 1, 2)
                or message.MoveOriginatorApplicationEntityTitle is not None
                or message.MoveOriginatorMessageID is not None
            ):
                return None
            rest = _STORE.pack(
                *(message.MessageID, _PRIORITY, priority, _DATASET_TYPE, dataset_type),
                *(_INSTANCE_UID, len(uid)),
            )
        elif command is Command.C_ECHO_RQ:
            rest = _ECHO_REQUEST.pack(message.MessageID, _DATASET_TYPE, dataset_type)
        elif message.ErrorComment or message.ErrorID is not None or message.OffendingElement:
            return None
        else:
            number, status = message.MessageIDBeingRespondedTo, message.Status
            if uid:
                rest = _STORE.pack(
                    *(number, _DATASET_TYPE, dataset_type, _STATUS, status),
                    *(_INSTANCE_UID, len(uid)),
                )
            else:
                rest = _RESPONSE.pack(number, _DATASET_TYPE, dataset_type, _STATUS, status)
    except struct.error:  # a number is missing or too large; `command` raises the right error
        return None
    length = _LENGTH.pack(len(prefix) + len(rest) + len(uid))
    return b"%b%b%b%b%b" % (_GROUP_LENGTH, length, prefix, rest, uid)


def encode_uid(uid: str | None) -> bytes:
    """Return a SOP Instance UID with its padding; empty if it is not usual."""
    if not uid or not _is_plain_uid(uid):
        return b""
    return uid.encode("ascii") + b"\0" * (len(uid) % 2)
