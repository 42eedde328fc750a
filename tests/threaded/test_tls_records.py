"""How a connection reads TLS records, from a peer that sends exactly those of the test."""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import Iterator
from typing import Any

import pytest

from dicomwire.errors import TLSFailure
from dicomwire.threaded.connection import Connection
from dicomwire.tls import client_context, server_context

FULL = 16 * 1024
"""Bytes in a full record (RFC 8446 Section 5.1)."""


class Peer:
    """The other end: encrypts in memory, and sends when it is told to."""

    def __init__(self, context: ssl.SSLContext, sock: socket.socket) -> None:
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname="127.0.0.1")
        self.socket = sock

    def shake_hands(self, other: ssl.SSLSocket) -> None:
        """Complete the handshake of both ends."""
        for _ in range(3):
            with contextlib.suppress(ssl.SSLWantReadError):
                self._tls.do_handshake()
            self.socket.sendall(self._outgoing.read())
            with contextlib.suppress(ssl.SSLWantReadError):
                other.do_handshake()
            with contextlib.suppress(BlockingIOError):
                self._incoming.write(self.socket.recv(65536))

    def records(self, *contents: bytes) -> bytes:
        """Return one encrypted record for each content."""
        for each in contents:
            assert self._tls.write(each) == len(each)
        return self._outgoing.read()

    def send(self, *contents: bytes) -> None:
        """Send one record for each content."""
        self.socket.sendall(self.records(*contents))

    def close_notify(self) -> None:
        """Say that no more data follows."""
        with contextlib.suppress(ssl.SSLWantReadError):
            self._tls.unwrap()
        self.socket.sendall(self._outgoing.read())


@pytest.fixture(params=["TLSv1_2", "TLSv1_3"])
def ends(certificates: Any, request: Any) -> Iterator[tuple[Connection, Peer]]:
    """A connection of the library, and its peer."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        theirs.setblocking(False)
        context = client_context(ca=certificates.ca)
        context.maximum_version = ssl.TLSVersion[request.param]
        peer = Peer(context, theirs)
        secured = server_context(*certificates.server).wrap_socket(
            ours, server_side=True, do_handshake_on_connect=False
        )
        with secured:
            peer.shake_hands(secured)
            yield Connection(secured, ("192.0.2.1", 11112)), peer


def test_full_records_are_read_together_with_short_ones_between(
    ends: tuple[Connection, Peer],
) -> None:
    connection, peer = ends
    contents = [b"a" * FULL, b"b" * 100, b"c" * 12, b"d" * FULL, b"e" * 7]
    peer.send(*contents)
    buffer = bytearray(3 * FULL)
    whole = b"".join(contents)
    assert connection.read(buffer) == len(whole)
    assert buffer[: len(whole)] == whole
    assert connection.read(buffer) is None


def test_headers_are_read_together_with_what_follows_them(ends: tuple[Connection, Peer]) -> None:
    connection, peer = ends
    buffer = bytearray(3 * FULL)
    peer.send(b"a" * 12, b"b" * 100, b"c" * 100)
    assert connection.read(buffer) == 112
    assert connection.read(buffer) == 100  # nothing follows a short record as a rule
    peer.send(b"a" * 12, b"b" * FULL, b"c" * 100)
    assert connection.read(buffer) == 12 + FULL + 100
    peer.send(b"a" * 12)
    assert connection.read(buffer) == 12
    assert connection.read(buffer) is None


def test_what_does_not_fit_in_the_buffer_stays_readable(ends: tuple[Connection, Peer]) -> None:
    connection, peer = ends
    peer.send(b"a" * FULL, b"b" * FULL)
    buffer = bytearray(FULL + 100)
    assert connection.read(buffer) == FULL + 100
    assert connection.pending()
    assert connection.wait_readable(0)  # though the socket itself has nothing left
    assert connection.read(buffer) == FULL - 100
    assert not connection.pending()


def test_part_of_a_record_waits_for_its_rest(ends: tuple[Connection, Peer]) -> None:
    connection, peer = ends
    records = peer.records(b"a" * FULL, b"b" * FULL)
    peer.socket.sendall(records[:-1])
    buffer = bytearray(3 * FULL)
    assert connection.read(buffer) == FULL
    assert connection.read(buffer) is None
    assert not connection.wait_readable(0)
    peer.socket.sendall(records[-1:])
    assert connection.wait_readable(0)
    assert connection.read(buffer) == FULL
    assert buffer[:FULL] == b"b" * FULL


@pytest.mark.parametrize("notified", [True, False], ids=["close_notify", "none"])
def test_the_end_comes_after_the_data_before_it(
    ends: tuple[Connection, Peer], notified: bool
) -> None:
    connection, peer = ends
    peer.send(b"a" * FULL)
    if notified:
        peer.close_notify()
    peer.socket.shutdown(socket.SHUT_WR)
    buffer = bytearray(3 * FULL)
    assert connection.read(buffer) == FULL
    assert [connection.read(buffer), connection.read(buffer)] == [0, 0]


def test_a_corrupt_record_fails_after_the_data_before_it(ends: tuple[Connection, Peer]) -> None:
    connection, peer = ends
    good, bad = peer.records(b"a" * FULL), bytearray(peer.records(b"b" * FULL))
    bad[-1] ^= 1
    peer.socket.sendall(good + bad)
    buffer = bytearray(3 * FULL)
    assert connection.read(buffer) == FULL
    assert connection.wait_readable(0)
    with pytest.raises(TLSFailure, match=r"bad record mac|decryption failed"):
        connection.read(buffer)
