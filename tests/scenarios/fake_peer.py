"""A peer without a socket, for tests that bring the bytes across themselves."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Protocol

from dicomwire.protocol.command import Command, Message, decode_command, encode_command
from dicomwire.protocol.limits import Limits
from dicomwire.protocol.pdu import (
    PDU,
    Abort,
    AssociateRQ,
    PDataTF,
    PDUType,
    ReleaseRP,
    ReleaseRQ,
    decode_pdu,
)
from raw_peer import accept_pdu


class OurEnd(Protocol):
    """Our end of the connection, as the peer has to do with it.

    Attributes
    ----------
    outgoing : bytearray
        All bytes that were sent.
    sent : callable
        Called after each sending.
    """

    outgoing: bytearray
    sent: Callable[[], None]

    def arrive(self, data: bytes) -> None:
        """Have bytes of the peer arrive."""

    def end(self) -> None:
        """Have the peer close the connection."""


def pdus_of(data: bytes | bytearray) -> tuple[list[PDU], bytes]:
    """Return the PDUs in `data`, and the rest that is not a whole one."""
    found, at = [], 0
    while at + 6 <= len(data):
        kind, length = struct.unpack_from(">BxI", data, at)
        if at + 6 + length > len(data):
            break
        body = memoryview(bytes(data[at + 6 : at + 6 + length]))
        found.append(decode_pdu(PDUType(kind), body, Limits()))
        at += 6 + length
    return found, bytes(data[at:])


class Acceptor:
    """A peer that accepts everything, and answers each request with success as it is complete."""

    def __init__(self, sock: OurEnd) -> None:
        self.socket = sock
        self._parsed = 0
        self._command: Message | None = None
        self._pieces = b""
        self.is_silent = False
        sock.sent = self._receive

    def _receive(self) -> None:
        data = self.socket.outgoing[self._parsed :]
        pdus, rest = pdus_of(data)
        self._parsed += len(data) - len(rest)
        for pdu in pdus:
            if not self.is_silent:
                self._answer(pdu)

    def _answer(self, pdu: PDU) -> None:
        if isinstance(pdu, AssociateRQ):
            self.say(accept_pdu(pdu))
        elif isinstance(pdu, ReleaseRQ):
            self.say(ReleaseRP())
            self.socket.end()
        elif isinstance(pdu, Abort):
            self.socket.end()
        elif isinstance(pdu, PDataTF):
            for context_id, control, data in pdu.values:
                self._take(context_id, control, bytes(data))

    def _take(self, context_id: int, control: int, data: bytes) -> None:
        if control & 1:
            self._pieces += data
            if control & 2:
                self._command, self._pieces = decode_command(self._pieces), b""
        if control & 2 and self._command and not (control & 1 and self._command.has_dataset):
            command, self._command = self._command, None
            if not command.is_response:
                self._respond(context_id, command)

    def _respond(self, context_id: int, request: Message) -> None:
        self.say(PDataTF([(context_id, 3, encode_command(answer_to(request)))]))

    def say(self, pdu: PDU) -> None:
        self.socket.arrive(pdu.encode())


def answer_to(request: Message, status: int = 0) -> Message:
    """Return the response to a request."""
    return Message(
        Command(request.command | 0x8000),
        MessageIDBeingRespondedTo=request.MessageID,
        AffectedSOPClassUID=request.AffectedSOPClassUID,
        Status=status,
    )
