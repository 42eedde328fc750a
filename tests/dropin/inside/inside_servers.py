"""Servers whose connections are given their associations by a handler of the program's own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from pynetdicom import AE, Association, evt
from pynetdicom.sop_class import Verification
from pynetdicom.transport import AssociationServer, RequestHandler, ThreadedAssociationServer


class Watching(RequestHandler):
    """Notes what it is asked, and gives its associations a timeout."""

    told: list[Any]

    def setup(self) -> None:
        self.told = self.server.told
        self.told.append("setup")

    def handle(self) -> None:
        self.told.append((self.client_address[0], self.local.port, self.remote.is_ipv4, self.ae))
        super().handle()

    def finish(self) -> None:
        self.told.append("finish")

    def _create_association(self) -> Association:
        association = super()._create_association()
        association.dimse_timeout = 7
        return association


class Refusing(RequestHandler):
    def handle(self) -> None:
        pass


class Failing(RequestHandler):
    def handle(self) -> None:
        super().handle()
        raise ValueError("on purpose")


@pytest.fixture
def ae() -> Iterator[AE]:
    entity = AE()
    entity.add_supported_context(Verification)
    entity.add_requested_context(Verification)
    yield entity
    entity.shutdown()


@pytest.mark.parametrize("kind", [None, AssociationServer, ThreadedAssociationServer])
@pytest.mark.parametrize("handlers", [[], [(evt.EVT_CONN_OPEN, lambda event: None)]])
def test_a_request_handler_of_ones_own(ae: AE, kind: Any, handlers: list[Any]) -> None:
    server = ae.make_server(
        ("127.0.0.1", 0), evt_handlers=handlers, server_class=kind, request_handler=Watching
    )
    server.told = []
    port = server.server_address[1]
    assoc = ae.associate("127.0.0.1", port)
    assert assoc.send_c_echo().Status == 0x0000
    (acceptor,) = server.active_associations
    assert acceptor.dimse_timeout == 7
    assert server.told == ["setup", ("127.0.0.1", port, True, ae), "finish"]
    assoc.release()


@pytest.mark.parametrize("handler", [Refusing, Failing])
@pytest.mark.parametrize("handlers", [[], [(evt.EVT_CONN_OPEN, lambda event: None)]])
def test_a_request_handler_that_makes_no_association(
    ae: AE, handler: Any, handlers: list[Any]
) -> None:
    server = ae.make_server(("127.0.0.1", 0), evt_handlers=handlers, request_handler=handler)
    for _ in range(3):
        assoc = ae.associate("127.0.0.1", server.server_address[1])
        assert (assoc.is_aborted, assoc.is_rejected) == (True, False)
    assert server.active_associations == []
