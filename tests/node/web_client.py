"""A node that serves HTTP, and a client of it: what tests of DICOMweb share."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import httpx
from running_node import running

from dicomwire.node.server import Node

_NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""For clients that use none, and would otherwise read all authorities of the machine."""


class Serving(NamedTuple):
    """A node that serves HTTP, and a client whose paths begin at its root."""

    node: Node
    client: httpx.Client


@contextmanager
def serving(folder: Path, **keys: Any) -> Iterator[Serving]:
    """Run a node on free ports; `keys` are those of its configuration."""
    with running(folder, http=0, **keys) as node, client_of(node) as client:
        yield Serving(node, client)


@contextmanager
def client_of(node: Node) -> Iterator[httpx.Client]:
    """Return a client for a node."""
    host, port = address_of(node)
    # Without the proxies of the environment.
    url = f"http://{host}:{port}"
    with httpx.Client(base_url=url, verify=_NO_TLS, trust_env=False, timeout=60) as client:
        yield client


def address_of(node: Node) -> tuple[str, int]:
    """Return where a node listens for HTTP."""
    assert node.http_address is not None
    return node.http_address


@contextmanager
def connected(node: Node) -> Iterator[socket.socket]:
    """Return a connection, for what no client sends."""
    with socket.create_connection(address_of(node), timeout=10) as connection:
        yield connection


def received(connection: socket.socket) -> bytes:
    """Return what arrives until the other end closes the connection."""
    found = b""
    try:
        while data := connection.recv(65536):
            found += data
    except ConnectionResetError:
        pass
    return found
