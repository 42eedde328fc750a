"""Associate and release, as fast as the server lets one client: bytes that never change.

    knock.py PORT COUNT

Prints the seconds that it took.
"""

import socket
import struct
import sys
from time import perf_counter
from typing import BinaryIO

HOST = "127.0.0.1"


def item(kind: int, value: bytes) -> bytes:
    return struct.pack(">BxH", kind, len(value)) + value


def pdu(kind: int, body: bytes) -> bytes:
    return struct.pack(">BxL", kind, len(body)) + body


CONTEXT = b"\x01\x00\x00\x00" + item(0x30, b"1.2.840.10008.1.1") + item(0x40, b"1.2.840.10008.1.2")
USER_INFORMATION = item(0x51, struct.pack(">L", 16384)) + item(0x52, b"1.2.826.0.1.3680043.8.498.1")
ASSOCIATE_RQ = pdu(
    0x01,
    struct.pack(">H2x16s16s32x", 1, b"ANY-SCP".ljust(16), b"KNOCK".ljust(16))
    + item(0x10, b"1.2.840.10008.3.1.1.1")
    + item(0x20, CONTEXT)
    + item(0x50, USER_INFORMATION),
)
RELEASE_RQ = pdu(0x05, bytes(4))
ASSOCIATE_AC, RELEASE_RP = 0x02, 0x06


def expect(stream: BinaryIO, kind: int) -> None:
    header = stream.read(6)
    if len(header) < 6 or header[0] != kind:
        sys.exit(f"expected a PDU of type {kind}, got {header!r}")
    stream.read(struct.unpack_from(">L", header, 2)[0])


def knock(port: int) -> None:
    with socket.create_connection((HOST, port)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with connection.makefile("rb") as stream:
            connection.sendall(ASSOCIATE_RQ)
            expect(stream, ASSOCIATE_AC)
            connection.sendall(RELEASE_RQ)
            expect(stream, RELEASE_RP)


if __name__ == "__main__":
    port, count = map(int, sys.argv[1:])
    start = perf_counter()
    for _ in range(count):
        knock(port)
    print(perf_counter() - start)
