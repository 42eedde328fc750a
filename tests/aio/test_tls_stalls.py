"""TLS handshakes of the asyncio face that stall, by a fake clock."""

from __future__ import annotations

import asyncio
import logging
import ssl
from typing import Any

import pytest
from clock_loop import FakeTransport, on_a_clock, the_loop

from dicomwire import AssociationTimeout, Settings, aio, build_context
from dicomwire.sop_class import Verification
from dicomwire.tls import client_context, server_context

HELLO = bytes.fromhex("16030102 00010001 fc")
"""How a handshake begins, in nine bytes."""


class TLSClient:
    """The other end of a transport, up to its handshake."""

    def __init__(self, context: ssl.SSLContext, transport: FakeTransport) -> None:
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._in, self._out, server_hostname="127.0.0.1")
        self._transport = transport
        self._read = 0

    def go_on(self) -> bool:
        """Go on with the handshake; true when it is complete."""
        self._in.write(bytes(self._transport.outgoing[self._read :]))
        self._read = len(self._transport.outgoing)
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            return False
        finally:
            if self._out.pending:
                self._transport.arrive(self._out.read())
        return True


async def settled() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


@pytest.mark.parametrize("drips", [False, True])
def test_a_client_that_does_not_complete_its_handshake(
    certificates: Any, drips: bool, caplog: Any
) -> None:
    caplog.set_level(logging.INFO, "dicomwire")

    @on_a_clock
    async def whole() -> None:
        ae = aio.AE("SCP", Settings(tls_timeout=10))
        ae.add_supported_context(Verification)
        tls = server_context(*certificates.server)
        async with ae.start_server(("127.0.0.1", 0), ssl_context=tls) as server:
            transport = FakeTransport(the_loop())
            server.add_connection(transport, ("192.0.2.3", 40_000))
            for byte in HELLO:
                await asyncio.sleep(1)
                if drips:
                    transport.arrive(bytes([byte]))
            assert not transport.closed
            await asyncio.sleep(1)
            await settled()
            assert transport.closed
            assert server._connections == 0

    whole()
    assert "no TLS handshake" in caplog.text


def test_the_request_after_the_handshake_has_a_deadline_of_its_own(certificates: Any) -> None:
    @on_a_clock
    async def whole() -> None:
        ae = aio.AE("SCP", Settings(tls_timeout=10, acse_timeout=30))
        ae.add_supported_context(Verification)
        tls = server_context(*certificates.server)
        async with ae.start_server(("127.0.0.1", 0), ssl_context=tls) as server:
            transport = FakeTransport(the_loop())
            server.add_connection(transport, ("192.0.2.3", 40_000))
            await asyncio.sleep(9)
            client = TLSClient(client_context(ca=certificates.ca), transport)
            while not client.go_on():
                await settled()
            await settled()
            await asyncio.sleep(29)
            assert not transport.closed
            await asyncio.sleep(1)
            await settled()
            assert transport.closed

    whole()


def test_a_server_that_does_not_answer_the_handshake(certificates: Any) -> None:
    @on_a_clock
    async def whole() -> None:
        loop = the_loop()
        transport = FakeTransport(loop)
        loop.next_transport = lambda: transport
        ae = aio.AE(settings=Settings(tls_timeout=10))
        began = loop.now
        with pytest.raises(AssociationTimeout) as raised:
            await ae.associate(
                "192.0.2.1",
                104,
                [build_context(Verification)],
                tls_args=(client_context(ca=certificates.ca), "127.0.0.1"),
            )
        assert raised.value.stage == "tls"
        assert loop.now == began + 10
        assert transport.closed
        await settled()

    whole()
