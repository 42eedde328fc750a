"""Makes usual C-STORE and C-ECHO requests, and the bytes of the responses that report success.

This is an optimisation of `dimse`, which encodes and decodes every message: the bytes are the same.
The receiver of a response compares it, and leaves any other response to `AssociationProtocol`.
"""

from __future__ import annotations

import struct
from dataclasses import replace
from typing import TypeAlias

from dicomwire.protocol.command import Message
from dicomwire.protocol.context import quick_uid
from dicomwire.protocol.dimse import OVERHEAD, pack_command, pack_small_data
from dicomwire.protocol.usual import (
    ANSWERS,
    UID_LENGTH_AT,
    encode_uid,
    encode_usual,
    start_size,
)

_MESSAGE_ID = struct.Struct("<H")
_LARGEST_ID = 0xFFFF
SUCCESS = 0x0000
"""The status of the response."""

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
        response = success_of(request)
        asking, answering = self._around_id(request, size), self._around_id(response, size)
        return None if asking is None or answering is None else (asking, answering)

    def _around_id(self, message: Message, size: int) -> _Around | None:
        command = encode_usual(message)
        if command is None:
            return None
        packed = pack_command(self._context_id, message, self._maximum_length)
        if len(packed) != OVERHEAD + len(command):
            return None  # in several PDUs
        at = OVERHEAD + start_size(command[UID_LENGTH_AT])
        return packed[:at], packed[at + _MESSAGE_ID.size : len(packed) - size]


def success_of(request: Message) -> Message:
    """Return the response to a C-STORE-RQ or C-ECHO-RQ that reports success."""
    return Message(
        ANSWERS[request.command],
        MessageIDBeingRespondedTo=request.MessageID,
        AffectedSOPClassUID=request.AffectedSOPClassUID,
        AffectedSOPInstanceUID=request.AffectedSOPInstanceUID,
        Status=SUCCESS,
    )
