"""Opens the requestor's connection: TCP, and TLS over it, each with its own deadline.

This module knows no DICOM.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import time

from dicomwire.errors import AssociationTimeout, ConnectionLost
from dicomwire.session.listening import tune
from dicomwire.session.target import Target
from dicomwire.settings import Settings
from dicomwire.threaded.connection import Connection, deadline_after, wait_for
from dicomwire.tls import tls_failure


def open_connection(target: Target, settings: Settings) -> Connection:
    """Return the open connection.

    Raises
    ------
    ConnectionLost
        With stage "connect" and the reason, or as a TLSFailure.
    AssociationTimeout
        When the deadline of the stage passes.
    """
    peer = f"{target.address[0]}:{target.address[1]}"
    sock = _connect(target, settings.connection_timeout, peer)
    if target.tls is None:
        return Connection(sock)
    context, name = target.tls
    sock.setblocking(False)
    try:
        remote = sock.getpeername()  # now, since it fails after the peer has closed
        secured = context.wrap_socket(
            sock, server_hostname=name or str(target.address[0]), do_handshake_on_connect=False
        )
        _handshake(secured, deadline_after(settings.tls_timeout), peer)
    except OSError as error:  # ssl.SSLError is one
        sock.close()
        raise tls_failure(error, peer) from None
    return Connection(secured, remote)


def _connect(target: Target, timeout: float | None, peer: str) -> socket.socket:
    """Connect to the first address of the host that accepts the connection."""
    deadline = deadline_after(timeout)
    failed: OSError = OSError("the name has no address")
    host, port = target.address[:2]
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        for family, kind, protocol, _, address in found:
            full = address if len(target.address) == 2 else (*address[:2], *target.address[2:])
            sock = socket.socket(family, kind, protocol)
            try:
                tune(sock)
                if target.bind_address is not None:
                    sock.bind(target.bind_address)
                if deadline is not None:
                    sock.settimeout(max(deadline - time.monotonic(), 0.001))
                sock.connect(full)
            except OSError as error:
                sock.close()
                failed = error
            except BaseException:
                sock.close()
                raise
            else:
                return sock
    except OSError as error:
        failed = error
    except UnicodeError:  # raised for a text that cannot be a host name
        failed = OSError("this is no host name")
    if isinstance(failed, TimeoutError) and deadline is not None:
        raise AssociationTimeout(
            f"no connection in {timeout} s", stage="connect", peer=peer
        ) from None
    raise ConnectionLost(
        f"cannot connect: {failed.strerror or failed}", stage="connect", peer=peer
    ) from None


def _handshake(sock: ssl.SSLSocket, deadline: float | None, peer: str) -> None:
    while True:
        try:
            sock.do_handshake()
        except ssl.SSLWantReadError:
            in_time = wait_for(sock, deadline)
        except ssl.SSLWantWriteError:
            in_time = wait_for(sock, deadline, read=False, write=True)
        except OSError:
            sock.close()
            raise
        else:
            return
        if not in_time:
            with contextlib.suppress(OSError):
                sock.close()
            raise AssociationTimeout("no TLS handshake in time", stage="tls", peer=peer)
