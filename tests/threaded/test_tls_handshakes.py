"""TLS handshakes at a server that stall, fail or take their time, by a clock of the test's."""

from __future__ import annotations

import logging
import ssl
from types import SimpleNamespace
from typing import Any

import pytest
from simulation import FakeSocket, World

from dicomwire import AE, Settings, evt
from dicomwire.sop_class import Verification
from dicomwire.threaded import server as server_module
from raw_peer import request_pdu

HELLO = b"hello"
"""What the fake handshake needs of the client."""


class FakeTLSSocket(FakeSocket):
    """A socket whose handshake is over when `HELLO` has arrived, and our answer was sent."""

    fails = False
    read = 0

    def do_handshake(self) -> None:
        self._world.step("handshake")
        if self.fails:
            raise ssl.SSLError(1, "no shared cipher")
        missing = len(HELLO) - self.read
        self.read += len(self.incoming[:missing])
        del self.incoming[:missing]
        if self.read < len(HELLO):
            raise ssl.SSLWantReadError
        if self.room == 0:
            raise ssl.SSLWantWriteError


def wrap_socket(sock: FakeSocket, **options: Any) -> FakeSocket:
    assert options == {"server_side": True, "do_handshake_on_connect": False}
    sock.__class__ = FakeTLSSocket
    return sock


@pytest.fixture
def served(world: World, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A server with TLS."""
    names = ("SSLError", "SSLWantReadError", "SSLWantWriteError", "SSLContext")
    errors = {name: getattr(ssl, name) for name in names}
    monkeypatch.setattr(server_module, "ssl", SimpleNamespace(SSLSocket=FakeTLSSocket, **errors))
    ae = AE("SCP", Settings(tls_timeout=10, acse_timeout=30))
    ae.add_supported_context(Verification)
    context: Any = SimpleNamespace(wrap_socket=wrap_socket)
    return ae.start_server(("192.0.2.1", 0), block=False, ssl_context=context)


def connect(world: World, served: Any) -> FakeTLSSocket:
    sock = world.connect(served)
    world.run()
    assert isinstance(sock, FakeTLSSocket)
    return sock


def test_a_silent_client_is_dropped_at_its_deadline(world: World, served: Any, caplog: Any) -> None:
    caplog.set_level(logging.INFO, "dicomwire")
    sock = connect(world, served)
    world.pass_time(9)
    assert sock.is_open
    world.pass_time(1)
    assert not sock.is_open
    assert served._connections == 0
    assert "no TLS handshake" in caplog.text


def test_a_drip_does_not_put_the_deadline_off(world: World, served: Any) -> None:
    sock = connect(world, served)
    for byte in b"hell":
        sock.arrive(bytes([byte]))
        world.pass_time(3)
    assert not sock.is_open


def test_a_silent_client_delays_nobody(world: World, served: Any) -> None:
    silent = [connect(world, served) for _ in range(50)]
    sock = connect(world, served)
    sock.arrive(HELLO + request_pdu().encode())
    world.run()
    assert sock.outgoing[:1] == b"\2"
    assert all(each.is_open for each in silent)


def test_the_request_has_a_deadline_of_its_own(world: World, served: Any) -> None:
    sock = connect(world, served)
    world.pass_time(9)
    sock.arrive(HELLO)
    world.run()
    world.pass_time(29)
    assert sock.is_open
    world.pass_time(1)
    assert not sock.is_open


def test_a_handshake_that_cannot_send(world: World, served: Any) -> None:
    sock = connect(world, served)
    sock.room = 0
    sock.arrive(HELLO)
    world.run()
    assert len(world.steps) < 100  # it waits until it can, and does not try all the time
    sock.room = None
    sock.arrive(request_pdu().encode())
    world.run()
    assert sock.outgoing[:1] == b"\2"


def test_a_handshake_that_fails(world: World, served: Any, caplog: Any) -> None:
    sock = connect(world, served)
    sock.fails = True
    sock.arrive(b"x")
    world.run()
    assert not sock.is_open
    assert served._connections == 0
    assert "TLS" in caplog.text


@pytest.mark.parametrize("after", [b"", HELLO], ids=["in the handshake", "after it"])
def test_a_client_that_goes(world: World, served: Any, after: bytes) -> None:
    sock = connect(world, served)
    sock.arrive(after)
    world.run()
    sock.was_reset = sock.has_ended = True
    sock.fails = not after
    world.run()
    assert not sock.is_open
    assert world.selector.owners == [served._listener]


def test_a_server_that_is_shut_down_in_a_handshake(world: World, served: Any) -> None:
    log: list[evt.Event] = []
    served.bind(evt.EVT_CONN_CLOSE, log.append)
    sock = connect(world, served)
    served.shutdown()
    world.run()
    assert not sock.is_open
    assert len(log) == 1
    assert world.selector.owners == []
