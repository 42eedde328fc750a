"""The floor: C-STORE and C-ECHO in plain CPython, doing nothing but what these need.

    floor.py scp PORT PDU FOLDER
    floor.py scu PORT PDU FOLDER [WINDOW]
    floor.py scu-tls PORT PDU FOLDER CERTIFICATES    a folder with cert.pem and key.pem
    floor.py echo PORT PDU COUNT

It knows one SOP class and one transfer syntax, believes its peer, has no deadline and no log. The
same CPython interprets it and the library: what is between them is what the library costs.
"""

from __future__ import annotations

import os
import socket
import struct
import sys
from collections.abc import Iterator
from pathlib import Path

HOST = "127.0.0.1"
CT = b"1.2.840.10008.5.1.4.1.1.2"
SYNTAX = b"1.2.840.10008.1.2.1"
VERIFICATION = b"1.2.840.10008.1.1"
IMPLICIT = b"1.2.840.10008.1.2"
CONTEXT_NAME = b"1.2.840.10008.3.1.1.1"
IMPLEMENTATION = b"1.2.3.4"
RELEASE_RQ, RELEASE_RP = b"\5\0\0\0\0\4\0\0\0\0", b"\6\0\0\0\0\4\0\0\0\0"

PDU = struct.Struct(">BxI")
PDV = struct.Struct(">IBB")
BOTH = struct.Struct(">BxIIBB")
ELEMENT = struct.Struct("<II")
NUMBER = struct.Struct("<IIH")
META = struct.Struct("<HH2sH")

BUFFER = 1 << 20
"""Bytes that are read at once, and that a socket buffers: a large object is always under way."""
CHUNK = 256 * 1024
"""Bytes that are read and encrypted at once."""
HEAD = 4096
"""Room in front of a file's bytes for the command and the PDU headers."""
BATCH = 200_000
"""Bytes of small objects that leave with one call where a window allows that."""


def item(kind: int, value: bytes) -> bytes:
    return struct.pack(">BxH", kind, len(value)) + value


CT_CONTEXT = item(0x30, CT) + item(0x40, SYNTAX)


def user_information(pdu: int, window: int) -> bytes:
    items = item(0x51, struct.pack(">I", pdu)) + item(0x52, IMPLEMENTATION)
    if window > 1:
        items += item(0x53, struct.pack(">HH", window, 1))
    return item(0x50, items)


def exactly(sock: socket.socket, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        piece = sock.recv(size - len(data))
        if not piece:
            raise EOFError
        data += piece
    return bytes(data)


def tune(sock: socket.socket) -> None:
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)


def padded(uid: bytes) -> bytes:
    return uid + b"\0" * (len(uid) % 2)


def element(tag: int, value: bytes) -> bytes:
    return ELEMENT.pack(tag << 16, len(value)) + value


def number(tag: int, value: int) -> bytes:
    return NUMBER.pack(tag << 16, 2, value)


def command(*elements: bytes) -> bytes:
    body = b"".join(elements)
    return element(0, struct.pack("<I", len(body))) + body


# --- The client ---------------------------------------------------------------------------------


def store_request(message_id: int, uid: bytes) -> bytes:
    request = command(
        element(0x0002, padded(CT)),
        *(number(0x0100, 1), number(0x0110, message_id), number(0x0700, 0), number(0x0800, 1)),
        element(0x1000, uid),
    )
    return BOTH.pack(4, len(request) + 6, len(request) + 2, 1, 3) + request


class Sender:
    """Sends the files of a folder, up to `window` of them ahead of their responses."""

    def __init__(self, sock: socket.socket, longest: int, window: int) -> None:
        self._sock = sock
        self._fragment = (longest - 6) & ~1
        self._window = window
        self._outstanding = 0
        self._buffer = bytearray(HEAD + BUFFER)
        self._view = memoryview(self._buffer)
        self._waiting: list[bytes] = []
        self._waiting_size = 0
        self._answers = bytearray()

    def run(self, paths: list[str]) -> None:
        for index, path in enumerate(paths):
            if self._outstanding >= self._window:
                self._flush()
                self._take_answers(self._window // 2)
            self._send(path, index % 65535 + 1)
            self._outstanding += 1
            if self._window == 1:
                self._take_answers(0)
        self._flush()
        self._take_answers(0)

    def _send(self, path: str, message_id: int) -> None:
        buffer, view = self._buffer, self._view
        file = os.open(path, os.O_RDONLY)
        got = os.readv(file, [view[HEAD:]])
        offset = 144 + int.from_bytes(buffer[HEAD + 140 : HEAD + 144], "little")
        uid = instance_uid(bytes(view[HEAD + 144 : HEAD + offset]))
        head = store_request(message_id, uid)
        size = got - offset
        if size <= self._fragment and got < BUFFER:
            head += BOTH.pack(4, size + 6, size + 2, 1, 2)
            self._send_small(head, HEAD + offset, HEAD + got)
        else:
            self._flush()
            self._send_large(file, head, HEAD + offset, HEAD + got, offset)
        os.close(file)

    def _send_small(self, head: bytes, start: int, end: int) -> None:
        if self._window == 1:
            self._buffer[start - len(head) : start] = head
            self._sock.sendall(self._view[start - len(head) : end])
            return
        self._waiting += (head, bytes(self._view[start:end]))
        self._waiting_size += end - start
        if self._waiting_size > BATCH:
            self._flush()

    def _flush(self) -> None:
        if self._waiting:
            self._sock.sendall(b"".join(self._waiting))
            self._waiting.clear()
            self._waiting_size = 0

    def _send_large(self, file: int, head: bytes, start: int, end: int, offset: int) -> None:
        left = os.fstat(file).st_size - offset
        in_pdu = 0
        parts: list[bytes | memoryview] = [head]
        while True:
            while start < end:
                if not in_pdu:
                    in_pdu = min(left, self._fragment)
                    control = 2 if in_pdu == left else 0
                    parts.append(BOTH.pack(4, in_pdu + 6, in_pdu + 2, 1, control))
                size = min(end - start, in_pdu)
                parts.append(self._view[start : start + size])
                start += size
                in_pdu -= size
                left -= size
            send_parts(self._sock, parts)
            if not left:
                return
            start, parts = HEAD, []
            end = HEAD + os.readv(file, [self._view[HEAD:]])

    def _take_answers(self, at_most: int) -> None:
        """Wait until no more than `at_most` responses are missing."""
        answers = self._answers
        while self._outstanding > at_most:
            answers += self._sock.recv(65536)
            while len(answers) >= 6 and len(answers) >= 6 + (size := PDU.unpack_from(answers)[1]):
                del answers[: 6 + size]
                self._outstanding -= 1


def send_parts(sock: socket.socket, parts: list[bytes | memoryview]) -> None:
    while parts:
        sent = sock.sendmsg(parts[:1024])
        while parts and sent >= len(parts[0]):
            sent -= len(parts.pop(0))
        if sent:
            parts[0] = memoryview(parts[0])[sent:]


def instance_uid(meta: bytes) -> bytes:
    at = 0
    while True:
        _, number_, vr, size = META.unpack_from(meta, at)
        at += 8
        if vr == b"OB":
            at += 4 + int.from_bytes(meta[at : at + 4], "little")
            continue
        if number_ == 3:
            return meta[at : at + size]
        at += size


def connect(port: int) -> socket.socket:
    sock = socket.create_connection((HOST, port))
    tune(sock)
    return sock


def associate(sock: socket.socket, pdu: int, context: bytes, window: int = 1) -> int:
    """Request an association, and return the longest PDU that the peer accepts."""
    request = struct.pack(">HH", 1, 0) + b"ANY-SCP".ljust(16) + b"FLOOR".ljust(16) + bytes(32)
    request += (
        item(0x10, CONTEXT_NAME) + item(0x20, b"\1\0\0\0" + context) + user_information(pdu, window)
    )
    sock.sendall(PDU.pack(1, len(request)) + request)
    answer = exactly(sock, PDU.unpack(exactly(sock, 6))[1])
    longest = int.from_bytes(answer[answer.rfind(b"\x51\0\0\4") + 4 :][:4], "big")
    return longest or pdu


def release(sock: socket.socket) -> None:
    sock.sendall(RELEASE_RQ)
    exactly(sock, len(RELEASE_RP))


def take_answer(sock: socket.socket) -> None:
    answer = sock.recv(65536)
    while len(answer) < 6 or len(answer) < 6 + PDU.unpack_from(answer)[1]:
        answer += sock.recv(65536)


def send(port: int, pdu: int, folder: Path, window: int) -> None:
    sock = connect(port)
    longest = associate(sock, pdu, CT_CONTEXT, window)
    Sender(sock, longest, window).run([str(path) for path in sorted(folder.iterdir())])
    release(sock)


def echo(port: int, pdu: int, count: int) -> None:
    sock = connect(port)
    associate(sock, pdu, item(0x30, VERIFICATION) + item(0x40, IMPLICIT))
    for index in range(count):
        request = command(
            element(0x0002, padded(VERIFICATION)),
            *(number(0x0100, 0x30), number(0x0110, index % 65535 + 1), number(0x0800, 0x0101)),
        )
        sock.sendall(BOTH.pack(4, len(request) + 6, len(request) + 2, 1, 3) + request)
        take_answer(sock)
    release(sock)


# --- The client, with TLS ----------------------------------------------------------------------


class TLSSender:
    """Sends files; headers and data are in one buffer, since TLS takes no list of buffers."""

    def __init__(self, sock: socket.socket, longest: int) -> None:
        self._sock = sock
        self._fragment = (longest - 6) & ~1
        self._buffer = bytearray(CHUNK)
        self._view = memoryview(self._buffer)

    def send(self, path: str, message_id: int) -> None:
        file = os.open(path, os.O_RDONLY)
        beginning = os.pread(file, HEAD, 0)
        offset = 144 + int.from_bytes(beginning[140:144], "little")
        head = store_request(message_id, instance_uid(beginning[144:offset]))
        self._buffer[: len(head)] = head
        os.lseek(file, offset, os.SEEK_SET)
        self._send_dataset(file, len(head), os.fstat(file).st_size - offset)
        os.close(file)
        take_answer(self._sock)

    def _send_dataset(self, file: int, end: int, left: int) -> None:
        """Send what the buffer has up to `end`, and `left` bytes of the file."""
        in_pdu = 0
        while left:
            gaps = []
            while left and end + BOTH.size < CHUNK:
                if not in_pdu:
                    in_pdu = min(left, self._fragment)
                    control = 2 if in_pdu == left else 0
                    BOTH.pack_into(self._buffer, end, 4, in_pdu + 6, in_pdu + 2, 1, control)
                    end += BOTH.size
                size = min(CHUNK - end, in_pdu)
                gaps.append(self._view[end : end + size])
                end += size
                in_pdu -= size
                left -= size
            os.readv(file, gaps)
            self._sock.sendall(self._view[:end])
            end = 0


def send_encrypted(port: int, pdu: int, folder: Path, certificates: Path) -> None:
    import ssl  # takes a while

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.load_cert_chain(certificates / "cert.pem", certificates / "key.pem")
    with context.wrap_socket(connect(port)) as sock:
        sender = TLSSender(sock, associate(sock, pdu, CT_CONTEXT))
        for index, path in enumerate(sorted(folder.iterdir())):
            sender.send(str(path), index % 65535 + 1)
        release(sock)


# --- The server ---------------------------------------------------------------------------------


class Receiver:
    """Files what comes on one association."""

    def __init__(self, sock: socket.socket, folder: Path) -> None:
        self._sock = sock
        self._folder = folder
        self._buffer = bytearray(BUFFER)
        self._view = memoryview(self._buffer)
        self._pdu_left = self._pdv_left = self._control = self._context = 0
        self._command = b""
        self._file = -1
        self._pieces: list[bytes | memoryview] = []
        self._answers: list[bytes] = []

    def run(self) -> None:
        have = 0
        while True:
            if self._answers:
                self._sock.sendall(b"".join(self._answers))
                self._answers.clear()
            got = self._sock.recv_into(self._view[have:])
            if not got:
                return
            have += got
            at = self._take(have)
            if at < 0:
                self._sock.sendall(RELEASE_RP)
                return
            self._buffer[: have - at] = self._buffer[at:have]
            have -= at

    def _take(self, end: int) -> int:
        """Act on the received bytes; return up to where, or -1 when the peer releases."""
        at = 0
        while True:
            if not self._pdv_left:
                if not self._pdu_left:
                    if end - at >= 10 and self._buffer[at] == 5:
                        return -1
                    if end - at < 12:
                        break
                    self._pdu_left = PDU.unpack_from(self._buffer, at)[1]
                    at += 6
                elif end - at < 6:
                    break
                size, self._context, self._control = PDV.unpack_from(self._buffer, at)
                at += 6
                self._pdv_left = size - 2
                self._pdu_left -= size + 4
            size = min(end - at, self._pdv_left)
            data = self._view[at : at + size]
            at += size
            self._pdv_left -= size
            self._take_piece(data)
            if self._pdv_left:
                break
            if self._control & 2:
                self._end_of_command() if self._control & 1 else self._end_of_dataset()
        if self._pieces and not self._control & 1:
            os.writev(self._file, self._pieces)
            self._pieces.clear()
        return at

    def _take_piece(self, data: memoryview) -> None:
        if self._control & 1:
            self._command += data
        elif data:
            self._pieces.append(data)

    def _end_of_command(self) -> None:
        values = {}
        at = 12
        while at < len(self._command):
            tag, size = ELEMENT.unpack_from(self._command, at)
            values[tag >> 16] = self._command[at + 8 : at + 8 + size]
            at += 8 + size
        self._command = b""
        uid = values.get(0x1000)
        answer = [
            element(0x0002, values[0x0002]),
            number(0x0100, 0x8000 | values[0x0100][0]),
            element(0x0120, values[0x0110]),
            *(number(0x0800, 0x0101), number(0x0900, 0)),
        ]
        if uid is None:  # a C-ECHO
            self._answer_with(command(*answer))
            return
        self._answer = command(*answer, element(0x1000, uid))
        self._name = f"{self._folder}/CT.{uid.strip(bytes(1)).decode()}"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
        self._file = os.open(self._name + ".part", flags, 0o666)
        meta = b"\2\0\1\0OB\0\0\2\0\0\0\0\1" + b"".join(
            META.pack(2, number_, b"UI", len(value)) + value
            for number_, value in (
                (2, values[0x0002]),
                (3, uid),
                (0x10, padded(SYNTAX)),
                (0x12, padded(IMPLEMENTATION)),
            )
        )
        length = META.pack(2, 0, b"UL", 4) + struct.pack("<I", len(meta))
        self._pieces.append(bytes(128) + b"DICM" + length + meta)

    def _end_of_dataset(self) -> None:
        if self._pieces:
            os.writev(self._file, self._pieces)
            self._pieces.clear()
        os.close(self._file)
        os.rename(self._name + ".part", self._name)
        self._answer_with(self._answer)

    def _answer_with(self, response: bytes) -> None:
        size = len(response)
        self._answers.append(BOTH.pack(4, size + 6, size + 2, self._context, 3) + response)


def contexts(request: bytes) -> Iterator[bytes]:
    at = 68
    while at < len(request):
        kind, size = struct.unpack_from(">BxH", request, at)
        if kind == 0x20:
            value = request[at + 4 : at + 4 + size]
            syntax = SYNTAX if item(0x40, SYNTAX) in value else IMPLICIT
            result = 0 if item(0x40, syntax) in value else 4
            yield item(0x21, bytes((value[0], 0, result, 0)) + item(0x40, syntax))
        at += 4 + size


def serve(port: int, pdu: int, folder: Path) -> None:
    listener = socket.create_server((HOST, port))
    while True:
        sock, _ = listener.accept()
        tune(sock)
        try:
            request = exactly(sock, PDU.unpack(exactly(sock, 6))[1])
            answer = b"\0\1\0\0" + request[4:68] + item(0x10, CONTEXT_NAME)
            answer += b"".join(contexts(request)) + user_information(pdu, 64)
            sock.sendall(PDU.pack(2, len(answer)) + answer)
            Receiver(sock, folder).run()
        except (EOFError, ConnectionError):
            pass
        sock.close()


if __name__ == "__main__":
    end, port_, pdu_, argument, *more = sys.argv[1:]
    if end == "scp":
        serve(int(port_), int(pdu_), Path(argument))
    elif end == "echo":
        echo(int(port_), int(pdu_), int(argument))
    elif end == "scu-tls":
        send_encrypted(int(port_), int(pdu_), Path(argument), Path(more[0]))
    else:
        send(int(port_), int(pdu_), Path(argument), int(more[0]) if more else 1)
