"""The target of a requestor's connection: the peer's address, the local address, and TLS.

Each face opens connections in its own way.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Target:
    """The address to connect to, the local address, and TLS.

    Attributes
    ----------
    address : tuple
        (host, port), or for IPv6 also (host, port, flowinfo, scope id).
    bind_address : tuple or None
        The local address to connect from.
    tls : tuple of ssl.SSLContext and str, or None
        The context, and the name that the peer's certificate must have (empty: the host).
    """

    address: tuple[Any, ...]
    bind_address: tuple[Any, ...] | None = None
    tls: tuple[ssl.SSLContext, str | None] | None = None

    @classmethod
    def of(
        cls,
        addr: Any,
        port: Any,
        bind_address: Any = None,
        tls: tuple[ssl.SSLContext, str | None] | None = None,
    ) -> Target:
        """Return the target from arguments of `AE.associate`; TypeError if a type is wrong."""
        return cls(_address(addr, port), _bind_address(bind_address), tls)

    @property
    def peer(self) -> str:
        """The peer as "host:port"."""
        return f"{self.address[0]}:{self.address[1]}"


def _address(addr: Any, port: Any) -> tuple[Any, ...]:
    if not isinstance(port, int):
        raise TypeError(f"port is an int, not {type(port).__name__}")
    if isinstance(addr, str):
        return addr, port
    if isinstance(addr, tuple) and len(addr) == 3 and isinstance(addr[0], str):
        return addr[0], port, *addr[1:]
    raise TypeError(f"addr is a str, or (address, flowinfo, scope id) for IPv6: {addr!r}")


def _bind_address(address: Any) -> tuple[Any, ...] | None:
    if address is None or (isinstance(address, tuple) and len(address) in (2, 4)):
        return address
    raise TypeError(f"bind_address is a tuple (host, port): {address!r}")
