"""Opens the requestor's connection: TCP, and TLS over it, each with its own deadline.

This module knows no DICOM.
"""

from __future__ import annotations

import asyncio
import os

from dicomwire.aio.channel import Channel
from dicomwire.errors import AssociationTimeout, ConnectionLost
from dicomwire.session.target import Target
from dicomwire.settings import Settings
from dicomwire.tls import tls_failure


async def open_channel(target: Target, settings: Settings) -> Channel:
    """Return the open connection.

    Raises
    ------
    ConnectionLost
        With stage "connect" and the reason, or as a TLSFailure.
    AssociationTimeout
        When the deadline of the stage passes.
    """
    channel = await _connect(target, settings.connection_timeout)
    if target.tls is None:
        return channel
    context, name = target.tls
    shaken_hands: asyncio.Future[OSError | None] = asyncio.get_running_loop().create_future()

    def done(error: OSError | None) -> None:
        if not shaken_hands.done():  # cancelled, or out of time
            shaken_hands.set_result(error)

    try:
        channel.start_tls(context, done, name or str(target.address[0]))
        async with asyncio.timeout(settings.tls_timeout):
            error = await shaken_hands
    except TimeoutError:
        channel.close_now()
        text = "no TLS handshake in time"
        raise AssociationTimeout(text, stage="tls", peer=target.peer) from None
    except BaseException:
        channel.close_now()
        raise
    if error is not None:
        raise tls_failure(error, target.peer)
    return channel


async def _connect(target: Target, timeout: float | None) -> Channel:
    loop = asyncio.get_running_loop()
    host, port, *rest = target.address
    if rest and rest[1]:
        host = f"{host}%{rest[1]}"
    local = target.bind_address[:2] if target.bind_address else None
    scope = asyncio.timeout(timeout)
    try:
        async with scope:
            _, channel = await loop.create_connection(Channel, host, port, local_addr=local)
    except UnicodeError:
        reason = "this is no host name"
    except OverflowError as error:
        reason = str(error)
    except OSError as error:
        if scope.expired():
            text = f"no connection in {timeout} s"
            raise AssociationTimeout(text, stage="connect", peer=target.peer) from None
        number = error.errno or 0  # those of getaddrinfo are negative
        reason = os.strerror(number) if number > 0 else error.strerror or str(error)
    else:
        return channel
    raise ConnectionLost(f"cannot connect: {reason}", stage="connect", peer=target.peer)
