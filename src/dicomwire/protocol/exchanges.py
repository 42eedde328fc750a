"""Makes usual C-STORE and C-ECHO requests, and the bytes of the responses that report success.

This is an optimisation of `dimse`, which encodes and decodes every message: the bytes are the same.
The receiver of a response compares it, and leaves any other response to `AssociationProtocol`.
"""

from __future__ import annotations

import struct
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, TypeAlias

from dicomwire.protocol.command import Command, Message
from dicomwire.protocol.context import quick_uid
from dicomwire.protocol.dimse import OVERHEAD, pack_command, pack_small_data
from dicomwire.protocol.usual import UID_LENGTH_AT, encode_uid, encode_usual, start_size

if TYPE_CHECKING:
    from pydicom.uid import UID

_MESSAGE_ID = struct.Struct("<H")
_LARGEST_ID = 0xFFFF
SUCCESS = 0x0000
"""The status of the response."""
_ANSWERS = {
    Command.C_STORE_RQ: Command.C_STORE_RSP,
    Command.C_ECHO_RQ: Command.C_ECHO_RSP,
}
"""The requests whose response needs no more than a status, with the command of the response."""

_Around: TypeAlias = tuple[bytes, bytes]
"""The bytes of a command set before and after its message ID, up to the SOP Instance UID."""


class Exchanges:
    """Requests of one kind on one presentation context, which differ in ID, UID and dataset only.

    Parameters
    ----------
    request : Message
        A C-STORE-RQ or C-ECHO-RQ; its ID and SOP Instance UID do not count.
    maximum_length : int
        The longest PDU that the peer accepts (0: no maximum).
    """

    __slots__ = ("_around", "_context_id", "_maximum_length", "_request")

    def __init__(self, context_id: int, request: Message, maximum_length: int) -> None:
        self._context_id = context_id
        self._maximum_length = maximum_length
        self._request = request
        # Of request and response, by the length of the SOP Instance UID; None if not usual.
        self._around: dict[int, tuple[_Around, _Around] | None] = {}

    def of(self, message_id: int, uid: str = "") -> tuple[bytes, bytes] | None:
        """Return a request with the SOP Instance UID `uid`, and its response, as P-DATA-TF PDUs.

        The result is None if they do not have the usual layout. A C-ECHO has no UID.
        """
        padded = encode_uid(uid) if uid else b""
        size = len(padded)
        if (uid and not size) or not 0 <= message_id <= _LARGEST_ID:
            return None
        try:
            around = self._around[size]
        except KeyError:
            around = self._around[size] = self._made_for(size)
        if around is None:
            return None
        (asked, asking), (answered, answering) = around
        number = _MESSAGE_ID.pack(message_id)
        return (
            b"%b%b%b%b" % (asked, number, asking, padded),
            b"%b%b%b%b" % (answered, number, answering, padded),
        )

    def with_dataset(
        self, message_id: int, uid: str, data: bytes | bytearray | memoryview
    ) -> tuple[bytes, bytes] | None:
        """Return the same, with a dataset in the request; None also if that needs several PDUs."""
        exchange = self.of(message_id, uid)
        packed = pack_small_data(self._context_id, data, self._maximum_length)
        if exchange is None or packed is None:
            return None
        return exchange[0] + packed, exchange[1]

    def _made_for(self, size: int) -> tuple[_Around, _Around] | None:
        uid = quick_uid("1" * size) if size else None
        request = replace(self._request, MessageID=0, AffectedSOPInstanceUID=uid)
        asking = _around_id(self._context_id, request, size, self._maximum_length)
        answering = _around_id(self._context_id, success_of(request), size, self._maximum_length)
        return None if asking is None or answering is None else (asking, answering)


def _around_id(
    context_id: int, message: Message, uid_length: int, maximum_length: int
) -> _Around | None:
    """Return the bytes around the message ID of a usual message; None for any other."""
    command = encode_usual(message)
    if command is None:
        return None
    packed = pack_command(context_id, message, maximum_length)
    if len(packed) != OVERHEAD + len(command):
        return None  # in several PDUs
    at = OVERHEAD + start_size(command[UID_LENGTH_AT])
    return packed[:at], packed[at + _MESSAGE_ID.size : len(packed) - uid_length]


def pack_success(context_id: int, request: Message, maximum_length: int) -> bytes | None:
    """Return the P-DATA-TF PDU that answers a C-STORE or C-ECHO with the status 0x0000.

    It is that of `pack_command` for `success_of`. None if it is not usual.
    """
    number, uid = request.MessageID, encode_uid(request.AffectedSOPInstanceUID)
    around = _around_success(
        context_id, request.command, request.AffectedSOPClassUID, len(uid), maximum_length
    )
    if around is None or number is None:
        return None
    return b"%b%b%b%b" % (around[0], number.to_bytes(2, "little"), around[1], uid)


@lru_cache(256)  # more than the SOP classes of a peer; bounded, because the peer chooses the keys
def _around_success(
    context_id: int, command: Command, class_uid: UID | None, uid_length: int, maximum_length: int
) -> _Around | None:
    if command not in _ANSWERS or (command is Command.C_STORE_RQ) != (uid_length > 0):
        return None
    uid = quick_uid("1" * uid_length)
    request = Message(
        command, MessageID=0, AffectedSOPClassUID=class_uid, AffectedSOPInstanceUID=uid or None
    )
    return _around_id(context_id, success_of(request), uid_length, maximum_length)


def success_of(request: Message) -> Message:
    """Return the response to a C-STORE-RQ or C-ECHO-RQ that reports success."""
    return Message(
        _ANSWERS[request.command],
        MessageIDBeingRespondedTo=request.MessageID,
        AffectedSOPClassUID=request.AffectedSOPClassUID,
        AffectedSOPInstanceUID=request.AffectedSOPInstanceUID,
        Status=SUCCESS,
    )
