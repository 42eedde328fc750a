"""The listening socket of servers on both faces, and the limit of their connections.

Each face accepts connections in its own way.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from socket import socket as Socket
from typing import Any

from dicomwire.protocol.limits import Limits
from dicomwire.protocol.pdu import PDUType
from dicomwire.session.buffers import RECEIVE_BUFFER
from dicomwire.settings import Settings

try:
    import resource
except ImportError:  # no such limits on Windows
    resource = None  # type: ignore[assignment]

BACKLOG = 1024
"""Connections that the system queues for `accept`: a burst of so many loses none."""
_SPARE_FILES = 128
"""File descriptors that connections leave for the rest of the program."""
_HEADER = 6
_KINDS = frozenset(PDUType)
_ASSOCIATE = (PDUType.ASSOCIATE_RQ, PDUType.ASSOCIATE_AC)


class ListeningSocket(Socket):
    """A listening socket that calls `before_close` first when the library or program closes it.

    Attributes
    ----------
    before_close : callable or None
        Removes the socket from the watcher or the event loop.
    """

    before_close: Callable[[], object] | None = None
    # `accept` looks at these two. The properties that they replace make an enum each time.
    family: socket.AddressFamily = socket.AF_INET
    type = socket.SOCK_STREAM

    def __init__(self, family: socket.AddressFamily) -> None:
        super().__init__(family, socket.SOCK_STREAM)
        self.family = family

    def close(self) -> None:
        """Close the socket."""
        leave, self.before_close = self.before_close, None
        if leave is not None:
            leave()
        super().close()


def tune(sock: Socket) -> None:
    """Set the options of our TCP sockets."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)


def listen(address: tuple[Any, ...]) -> ListeningSocket:
    """Return a socket that listens on `address`: (host, port), or four values for IPv6."""
    host = str(address[0])
    family = socket.AF_INET6 if len(address) == 4 or ":" in host else socket.AF_INET
    sock = ListeningSocket(family)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        tune(sock)  # accepted sockets inherit it
        sock.setblocking(False)
        sock.bind(address)
        sock.listen(BACKLOG)
    except BaseException:
        sock.close()
        raise
    return sock


def connection_ceiling(settings: Settings) -> int:
    """Return how many connections to allow: as set, or fewer if the process may open few files."""
    if resource is None:
        return settings.maximum_connections
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if files == resource.RLIM_INFINITY:
        return settings.maximum_connections
    return max(1, min(settings.maximum_connections, files - _SPARE_FILES, files * 3 // 4))


def peer_name(address: Any) -> str:
    """Return the address of a peer as "host:port"; empty when there is none."""
    if isinstance(address, tuple):
        return f"{address[0]}:{address[1]}"
    return str(address)


def is_answerable(received: bytes | bytearray, limits: Limits) -> bool:
    """Whether the first bytes of a connection can be answered without waiting for more.

    They can if they are a whole PDU, or a header that alone makes the PDU invalid.
    """
    if len(received) < _HEADER:
        return False
    kind, length = received[0], int.from_bytes(received[2:6], "big")
    if kind == PDUType.P_DATA_TF or kind not in _KINDS:
        return True
    ceiling = limits.associate_pdu if kind in _ASSOCIATE else limits.control_pdu
    return length > ceiling or len(received) >= _HEADER + length
