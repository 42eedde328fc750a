"""Send the files of a folder over many associations at once, for as little as that can cost.

    feed.py PORT PDU FOLDER ASSOCIATIONS

A server of many associations is to be measured, and not who sends: so there is one process, files
go from the page cache to the socket by `sendfile`, and what has to be known of them is found out
before. Like any C-STORE SCU it waits for each answer before it sends the next object on that
association.

Prints the seconds from the first object to the last answer; all associations were there before.
Fails unless every answer was success.
"""

from __future__ import annotations

import os
import selectors
import socket
import struct
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

from pydicom.uid import UID

from dicomwire import build_context
from dicomwire.data.file_meta import parse_file_meta
from dicomwire.protocol.command import Command, Message, decode_command, encode_command
from dicomwire.protocol.items import (
    ImplementationClassUIDNotification,
    MaximumLengthNotification,
)
from dicomwire.protocol.pdu import (
    PDU,
    AssociateAC,
    AssociateRQ,
    ReleaseRP,
    ReleaseRQ,
    decode_pdu,
)

HOST = "127.0.0.1"
CT = "1.2.840.10008.5.1.4.1.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"
PDU_HEADER = struct.Struct(">BxL")
PDV_HEADER = struct.Struct(">LBB")  # its length, the context, what it is a part of
OVERHEAD = PDV_HEADER.size
LAST, COMMAND = 2, 1
MORE = getattr(socket, "MSG_MORE", 0)
READ, WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE


def receive(sock: socket.socket) -> PDU:
    """Return the next PDU; the socket is blocking."""
    kind, size = PDU_HEADER.unpack(receive_bytes(sock, PDU_HEADER.size))
    return decode_pdu(kind, receive_bytes(sock, size))


def receive_bytes(sock: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = sock.recv(size - len(data))
        if not more:
            sys.exit(f"the server hung up after {data!r}")
        data += more
    return data


@dataclass(frozen=True, slots=True)
class Object:
    """A file to send: the PDU that announces it, and where its dataset begins and ends."""

    path: Path
    command: bytes
    offset: int
    end: int

    @classmethod
    def of(cls, path: Path) -> Object:
        with path.open("rb") as file:
            head = parse_file_meta(file.read(4096))
        command = encode_command(
            Message(
                Command.C_STORE_RQ,
                MessageID=1,
                AffectedSOPClassUID=head.sop_class_uid,
                AffectedSOPInstanceUID=head.sop_instance_uid,
                Priority=2,
                has_dataset=True,
            )
        )
        announced = _headers(len(command), COMMAND | LAST) + command
        return cls(path, announced, head.offset, path.stat().st_size)


class Association:
    """One association, and the steps of sending over it."""

    def __init__(self, port: int, pdu: int) -> None:
        self.socket = socket.create_connection((HOST, port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        context = build_context(CT, EXPLICIT)
        context.context_id = 1
        request = AssociateRQ(
            called_ae_title="ANY-SCP",
            calling_ae_title="FEED",
            presentation_contexts=[context],
            user_information=[
                MaximumLengthNotification(pdu),
                ImplementationClassUIDNotification(UID("1.2.3")),
            ],
        )
        self.socket.sendall(request.encode())
        accepted = receive(self.socket)
        if not isinstance(accepted, AssociateAC) or accepted.presentation_contexts[0].result:
            sys.exit(f"not accepted: {accepted}")
        theirs = next(
            item.maximum_length_received
            for item in accepted.user_information
            if isinstance(item, MaximumLengthNotification)
        )
        self._piece = min(pdu, theirs or pdu) - OVERHEAD
        self.stored = 0

    def send(self, objects: list[Object]) -> Iterator[int]:
        """Send objects, and yield what to wait for whenever nothing can be done at once."""
        self.socket.setblocking(False)
        for each in objects:
            file = os.open(each.path, os.O_RDONLY)
            yield from self._write(each.command)
            yield from self._send_data(file, each.offset, each.end)
            os.close(file)
            yield from self._hear()

    def _send_data(self, file: int, position: int, end: int) -> Iterator[int]:
        socket = self.socket.fileno()
        while position < end:
            size = min(self._piece, end - position)
            until = position + size
            yield from self._write(_headers(size, LAST if until == end else 0))
            while position < until:
                try:
                    position += os.sendfile(socket, file, position, until - position)
                except BlockingIOError:
                    yield WRITE

    def _write(self, data: bytes) -> Iterator[int]:
        while data:
            try:
                data = data[self.socket.send(data, MORE) :]
            except BlockingIOError:
                yield WRITE

    def _hear(self) -> Iterator[int]:
        """Take the answer, which is one small PDU."""
        answer = b""
        while len(answer) < PDU_HEADER.size or len(answer) < PDU_HEADER.size + _length(answer):
            try:
                more = self.socket.recv(4096)
            except BlockingIOError:
                yield READ
                continue
            if not more:
                sys.exit("the server hung up")
            answer += more
        message = decode_command(answer[PDU_HEADER.size + OVERHEAD :])
        if message.Status != 0x0000:
            sys.exit(f"answered with {message}")
        self.stored += 1

    def release(self) -> None:
        self.socket.setblocking(True)
        self.socket.sendall(ReleaseRQ().encode())
        if not isinstance(receive(self.socket), ReleaseRP):
            sys.exit("the release was not answered")
        self.socket.close()


def _headers(size: int, control: int) -> bytes:
    return PDU_HEADER.pack(4, size + OVERHEAD) + PDV_HEADER.pack(size + 2, 1, control)


def _length(pdu: bytes) -> int:
    length: int = PDU_HEADER.unpack_from(pdu)[1]
    return length


def feed(associations: list[Association], objects: list[Object]) -> None:
    """Send every object over one of the associations."""
    selector = selectors.DefaultSelector()
    for number, association in enumerate(associations):
        sending = association.send(objects[number :: len(associations)])
        waits_for = next(sending, None)
        if waits_for is not None:
            selector.register(association.socket, waits_for, sending)
    while selector.get_map():
        for key, _ in selector.select():
            waits_for = next(key.data, None)
            if waits_for is None:
                selector.unregister(key.fileobj)
            elif waits_for != key.events:
                selector.modify(key.fileobj, waits_for, key.data)


if __name__ == "__main__":
    port, pdu, count = int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[4])
    objects = [Object.of(path) for path in sorted(Path(sys.argv[3]).iterdir())]
    associations = [Association(port, pdu) for _ in range(count)]
    began = perf_counter()
    feed(associations, objects)
    seconds = perf_counter() - began
    stored = sum(association.stored for association in associations)
    if stored != len(objects):
        sys.exit(f"{stored} of {len(objects)} were answered")
    for association in associations:
        association.release()
    print(seconds)
