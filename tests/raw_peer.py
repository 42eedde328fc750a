"""A peer that says whatever the test wants, in whatever order, and goes away when it likes.

It uses the library's codec for bytes, and nothing of what decides about them.
"""

from __future__ import annotations

import socket
import struct

from pydicom.config import IGNORE
from pydicom.uid import UID

from dicomwire.protocol.command import Command, Message, decode_command, encode_command
from dicomwire.protocol.context import PresentationContext
from dicomwire.protocol.items import (
    ImplementationClassUIDNotification,
    MaximumLengthNotification,
)
from dicomwire.protocol.limits import Limits
from dicomwire.protocol.pdu import PDU, AssociateAC, AssociateRQ, PDataTF, decode_pdu
from dicomwire.protocol.pdu import PDUType as Type

WAIT = 10.0
"""Seconds after which a test that waits has failed."""
VERIFICATION = "1.2.840.10008.1.1"
CT = "1.2.840.10008.5.1.4.1.1.2"
IMPLICIT = "1.2.840.10008.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"


def context(number: int, abstract: str, *syntaxes: str, result: int | None = None):
    made = PresentationContext()
    made.context_id = number
    if abstract:
        made.abstract_syntax = abstract
    made.transfer_syntax = list(syntaxes or (IMPLICIT,))
    made.result = result
    return made


def request_pdu(*contexts: PresentationContext, **changes) -> AssociateRQ:
    """Return an association request that any server would take."""
    values = {
        "called_ae_title": "ANY-SCP",
        "calling_ae_title": "RAW",
        "presentation_contexts": list(contexts or (context(1, VERIFICATION),)),
        "user_information": [
            MaximumLengthNotification(16382),
            ImplementationClassUIDNotification("1.2.3"),
        ],
    }
    return AssociateRQ(**(values | changes))


def accept_pdu(request: AssociateRQ, **changes) -> AssociateAC:
    """Return the answer that accepts everything, with the first transfer syntax of each."""
    values = {
        "called_ae_title": request.called_ae_title,
        "calling_ae_title": request.calling_ae_title,
        "presentation_contexts": [
            context(each.context_id, "", each.transfer_syntax[0], result=0)
            for each in request.presentation_contexts
        ],
        "user_information": [
            MaximumLengthNotification(16382),
            ImplementationClassUIDNotification("1.2.3"),
        ],
    }
    return AssociateAC(**(values | changes))


def store_request(
    uid: str = "1.2.3", number: int = 1, *, sop_class: str = CT, **more: object
) -> Message:
    """Return a C-STORE-RQ for an object with this SOP Instance UID; `number` is its message ID."""
    values = {"Priority": 2, "has_dataset": True, **more}
    return Message(
        Command.C_STORE_RQ, number, None, UID(sop_class), None, UID(uid, IGNORE), **values
    )


def message_pdu(context_id: int, message: Message, dataset: bytes | None = None) -> bytes:
    """Return the PDUs of a message, the command set and the dataset each in one."""
    packed = PDataTF([(context_id, 3, encode_command(message))]).encode()
    if dataset is not None:
        packed += PDataTF([(context_id, 2, dataset)]).encode()
    return packed


class RawPeer:
    """One end of a connection."""

    def __init__(self, sock: socket.socket) -> None:
        sock.settimeout(WAIT)
        # What is said last must not wait for an acknowledgement, or closing may throw it away.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket = sock

    @classmethod
    def connect(cls, port: int, host: str = "127.0.0.1") -> RawPeer:
        return cls(socket.create_connection((host, port), timeout=WAIT))

    def __enter__(self) -> RawPeer:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, *what: PDU | bytes) -> None:
        self.socket.sendall(b"".join(x if isinstance(x, bytes) else x.encode() for x in what))

    def send_message(self, message: Message, dataset: bytes | None = None, on: int = 1) -> None:
        self.send(message_pdu(on, message, dataset))

    def receive_bytes(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            more = self.socket.recv(size - len(data))
            if not more:
                raise EOFError(f"the connection was closed after {len(data)} of {size} bytes")
            data += more
        return data

    def receive(self) -> PDU:
        """Return the next PDU."""
        kind, length = struct.unpack(">BxI", self.receive_bytes(6))
        body = self.receive_bytes(length)
        return decode_pdu(Type(kind), memoryview(body), Limits())

    def receive_message(self) -> tuple[Message, bytes]:
        """Return the next message and its dataset; skips nothing."""
        command, dataset = b"", b""
        message = None
        while True:
            pdu = self.receive()
            assert isinstance(pdu, PDataTF), pdu
            for _, control, data in pdu.values:
                if control & 1:
                    command += data
                    if control & 2:
                        message = decode_command(memoryview(command))
                else:
                    dataset += data
                if control & 2 and message and not (control & 1 and message.has_dataset):
                    return message, dataset

    def at_end(self) -> bool:
        """Wait for the end of the connection; true when it came without anything before it."""
        try:
            return self.socket.recv(1) == b""
        except ConnectionResetError:
            return True

    def associate(self, *contexts: PresentationContext, **changes) -> PDU:
        """Ask for an association, and return the answer."""
        self.send(request_pdu(*contexts, **changes))
        return self.receive()

    def accept(self, **changes) -> AssociateRQ:
        """Take the request that comes, accept all of it, and return it."""
        request = self.receive()
        assert isinstance(request, AssociateRQ)
        self.send(accept_pdu(request, **changes))
        return request

    def close(self) -> None:
        """Close the connection in an orderly way."""
        self.socket.close()

    def reset(self) -> None:
        """Close the connection as a crash does, with a reset."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()


class RawServer:
    """A listening socket, whose connections are the test's to handle."""

    def __init__(self) -> None:
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.socket.settimeout(WAIT)
        self.port = self.socket.getsockname()[1]

    def __enter__(self) -> RawServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def take(self) -> RawPeer:
        return RawPeer(self.socket.accept()[0])
