"""HTTPS: with the certificate and the profile of DICOM, without certificates of clients."""

from __future__ import annotations

import logging
import socket
import ssl
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import httpx
import pytest
from backends import configuration_of
from web_client import address_of, received

from certificates import Certificates
from dicomwire.errors import TLSConfigurationError
from dicomwire.node import users as users_module
from dicomwire.node.configuration import TLS
from dicomwire.node.server import Node
from dicomwire.node.users import UserRight, Users
from dicomwire.tls import Profile

PASSWORD = "correct horse"


@pytest.fixture(scope="module")
def node(certificates: Certificates, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    folder = tmp_path_factory.mktemp("node")
    certificate, key = map(str, certificates.server)
    tls = TLS(certificate, key, ca=str(certificates.ca), profile=Profile.BCP195)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(users_module, "_COST", 2)
        Users(folder / "users.json").add("jane", (UserRight.SEE,), (), PASSWORD)
        configuration = configuration_of(folder, http=0, tls=tls, acse_timeout=0.5)
        with Node(configuration) as node:
            yield node


def context(certificates: Certificates) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(certificates.ca))


@pytest.fixture
def client(node: Node, certificates: Certificates) -> Iterator[httpx.Client]:
    host, port = address_of(node)
    url = f"https://{host}:{port}"
    with httpx.Client(base_url=url, verify=context(certificates), trust_env=False) as client:
        yield client


def test_a_user_logs_in_over_tls(client: httpx.Client) -> None:
    assert client.get("/dicom-web/studies").status_code == 401
    form = {"name": "jane", "password": PASSWORD}
    response = client.post("/login", data=form, headers={"origin": str(client.base_url)})
    assert response.status_code == 303
    assert "; secure" in response.headers["set-cookie"].lower()
    assert client.get("/dicom-web/studies").status_code in (200, 204)
    assert client.post("/logout").status_code == 303
    assert client.get("/dicom-web/studies").status_code == 401


def test_old_versions_of_tls_are_refused(node: Node, certificates: Certificates) -> None:
    old = context(certificates)
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    old.set_ciphers("AES128-SHA")
    with (
        socket.create_connection(address_of(node), 10) as connection,
        pytest.raises(ssl.SSLError),
    ):
        old.wrap_socket(connection, server_hostname="localhost")


@pytest.mark.parametrize(
    "sent", [b"", b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\xff\xff"], ids=repr
)
def test_what_is_no_handshake_is_closed(
    node: Node, client: httpx.Client, sent: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    with socket.create_connection(address_of(node), 10) as connection:
        connection.sendall(sent)
        received(connection)
    assert client.get("/health").status_code == 200
    assert not [each for each in caplog.records if each.levelno >= logging.ERROR]


def test_handshakes_count_as_connections(
    certificates: Certificates, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    certificate, key = map(str, certificates.server)
    tls = TLS(certificate, key, ca=str(certificates.ca), profile=Profile.BCP195)
    configuration = configuration_of(
        port=0, http=0, folder=tmp_path, tls=tls, http_connections=4, acse_timeout=60
    )
    with Node(configuration) as node, ExitStack() as opened:
        address = address_of(node)
        held = [opened.enter_context(socket.create_connection(address, 10)) for _ in range(3)]
        with socket.create_connection(address, 10) as refused, suppress(ConnectionResetError):
            assert refused.recv(1) == b""
        assert "refused: there are 3 from 127.0.0.1" in caplog.text
        secured = context(certificates).wrap_socket(held.pop(), server_hostname="127.0.0.1")
        with secured:
            secured.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert secured.recv(4096).startswith(b"HTTP/1.1 200")


def test_a_certificate_that_cannot_be_used_is_an_error(tmp_path: Path) -> None:
    missing = TLS(str(tmp_path / "none.pem"))
    with pytest.raises(TLSConfigurationError):
        Node(configuration_of(tmp_path, http=0, tls=missing)).start()
