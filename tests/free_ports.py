"""Ports for servers that cannot be told to take any."""

from __future__ import annotations

import random
import socket


def free_port() -> int:
    """Return a port that nobody listens on.

    The system gives it to no connection and no other server in the meantime: those get ports above
    32,767 (macOS: 49,151).
    """
    while True:
        port = random.randrange(10_000, 32_000)
        with socket.socket() as sock:
            try:
                sock.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port


def free_ports(count: int) -> list[int]:
    """Return different ports that nobody listens on."""
    ports: set[int] = set()
    while len(ports) < count:
        ports.add(free_port())
    return list(ports)
