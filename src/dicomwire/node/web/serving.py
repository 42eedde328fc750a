"""Serves HTTP on a thread of the node's own process, with uvicorn's protocol and our limits.

uvicorn's `Server` is not used: it looks ten times a second whether it is to stop, and a connection
that sends nothing may stay open for ever.
"""

from __future__ import annotations

import asyncio
import logging
import math
import socket
import ssl
import threading
import time
from collections.abc import Callable, Sequence
from email.utils import formatdate
from ipaddress import ip_address
from typing import Any, Self

import h11
from starlette.types import ASGIApp
from uvicorn import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.utils import get_remote_addr

from dicomwire.logs import counted
from dicomwire.node.access import http_tls
from dicomwire.node.archive import Archive
from dicomwire.node.configuration import Configuration
from dicomwire.node.counts import Counts
from dicomwire.node.operations import Operations, Peer
from dicomwire.node.pixels.renderers import Renderers
from dicomwire.node.users import file_of
from dicomwire.node.web.app import application
from dicomwire.node.web.endpoints import Site
from dicomwire.node.web.threads import Threads

LOGGER = logging.getLogger("dicomwire.node")

_LONGEST_HEAD = 32 * 1024
"""In bytes: a query with a few hundred UIDs fits."""
_LONGEST_WAIT = 3600.0
"""Seconds, in place of "for ever"."""
_BACKLOG = 128
_FULL = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nRetry-After: 5\r\n"
    b"Connection: close\r\n\r\n"
)


class CannotListen(Exception):
    """The node cannot listen for HTTP; the text says why."""


class WebServer:
    """Serves the application of a node. As a context manager, it frees its address at the end.

    Parameters
    ----------
    archive : Archive
    configuration : Configuration

    Raises
    ------
    CannotListen
        When the address is in use, is not of this machine, or may not be used.
    TLSConfigurationError
        When the certificate cannot be used.
    """

    def __init__(
        self,
        archive: Archive,
        configuration: Configuration,
        address: tuple[str, int],
        associations: Callable[[], tuple[int, Sequence[Peer]]],
        counts: Counts,
    ) -> None:
        self._tls = http_tls(configuration)
        self._socket = _listening(configuration)
        self._address: tuple[str, int] = self._socket.getsockname()[:2]
        self._threads = Threads(configuration.http_threads)
        self._renderers = Renderers()
        self._operations = Operations(archive, associations)
        site = Site(
            *(archive, configuration, self._threads, self._renderers, self._operations, address),
            counts=counts,
        )
        app = application(site)
        self._state = _State(configuration)
        self._config = _config(app, configuration)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="http")

    def __enter__(self) -> Self:
        self._operations.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._operations.__exit__()
        self._socket.close()
        self._renderers.close()  # before the threads are waited for, which may wait for a picture
        self._threads.close()
        self._loop.close()

    @property
    def address(self) -> tuple[str, int]:
        """Host and port that it listens on; for port 0, the port that the system chose."""
        return self._address

    def start(self) -> None:
        """Serve, until `stop`."""
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result()

    def stopping(self) -> None:
        """Accept no more connections, and let open ones end after their present request."""
        self._loop.call_soon_threadsafe(self._close)

    def stop(self, timeout: float) -> None:
        """Wait for the requests that are being answered, `timeout` seconds at most, and stop."""
        asyncio.run_coroutine_threadsafe(self._end(timeout), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    # --- On the event loop ---

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())

    async def _listen(self) -> None:
        self._server = await self._loop.create_server(
            self._protocol, sock=self._socket, backlog=_BACKLOG
        )

    def _protocol(self) -> asyncio.Protocol:
        """Return what serves a new connection."""
        connection = Connection(self._config, self._state)
        return Handshake(self._tls, connection, self._state) if self._tls else connection

    def _close(self) -> None:
        self._server.close()
        for handshake in self._state.handshakes:
            handshake.transport.abort()
        for connection in list(self._state.connections):
            connection.shutdown()

    async def _end(self, timeout: float) -> None:
        self._close()
        state = self._state
        try:
            async with asyncio.timeout(timeout):
                while state.connections:
                    await state.one_closed()
        except TimeoutError:
            LOGGER.warning("Closing %s of HTTP", counted(len(state.connections), "connection"))
        for connection in list(state.connections):
            connection.transport.abort()
        for task in state.tasks:
            task.cancel()
        await asyncio.gather(*state.tasks, return_exceptions=True)


class _State:
    """What all connections share; it has the attributes of uvicorn's `ServerState`."""

    def __init__(self, configuration: Configuration) -> None:
        self.most = configuration.http_connections
        # Of one address, as for associations; a proxy has the connections of all clients.
        share = -(-3 * self.most // 4)
        self.most_of_address = self.most if configuration.http_proxies else share
        self.head_timeout = min(configuration.acse_timeout, _LONGEST_WAIT)
        self.idle_timeout = min(configuration.network_timeout, _LONGEST_WAIT)
        self.check_after = min(self.head_timeout, self.idle_timeout)
        self.total_requests = 0
        self.connections: set[Any] = set()
        self.handshakes: set[Handshake] = set()
        self.tasks: set[asyncio.Task[None]] = set()
        self._closed: asyncio.Future[None] | None = None

    def reason_to_refuse(self, client: tuple[str, int] | None) -> str:
        """Return why there are too many connections with the newest, of a client; "" if not."""
        held = [each.client for each in (*self.connections, *self.handshakes)]
        if len(held) > self.most:
            return str(self.most)
        address = client[0] if client else ""
        same = sum(each is not None and each[0] == address for each in held)
        return f"{self.most_of_address} from {address}" if same > self.most_of_address else ""

    @property
    def default_headers(self) -> list[tuple[bytes, bytes]]:
        """The header fields of all responses."""
        return [(b"date", formatdate(time.time(), usegmt=True).encode())]

    async def one_closed(self) -> None:
        """Wait until a connection is closed: `note_closed` wakes it."""
        self._closed = asyncio.get_running_loop().create_future()
        await self._closed

    def note_closed(self) -> None:
        """Wake `one_closed`."""
        if self._closed is not None and not self._closed.done():
            self._closed.set_result(None)


class Handshake(asyncio.Protocol):
    """A connection until TLS is established; it counts as one of HTTP from its first moment.

    asyncio's own server would tell of it only after the handshake, so that a peer could hold any
    number of connections for `acse_timeout`, in which the handshake must end.
    """

    def __init__(self, tls: ssl.SSLContext, connection: Connection, state: _State) -> None:
        self._tls = tls
        self._connection = connection
        self._state = state
        self._early: list[bytes] = []
        """What arrives with the end of the handshake, before `_establish` goes on."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin the handshake, or refuse if there are too many connections."""
        self.transport = transport
        self.client = get_remote_addr(transport)
        state = self._state
        state.handshakes.add(self)
        if reason := state.reason_to_refuse(self.client):
            state.handshakes.discard(self)
            LOGGER.warning("A connection of HTTP is refused: there are %s", reason)
            transport.abort()
            return
        transport.pause_reading()  # until the handshake reads
        task = asyncio.get_running_loop().create_task(self._establish())
        state.tasks.add(task)
        task.add_done_callback(state.tasks.discard)

    def data_received(self, data: bytes) -> None:
        """Keep received bytes for the connection."""
        self._early.append(data)

    async def _establish(self) -> None:
        try:
            secured = await asyncio.get_running_loop().start_tls(
                self.transport,
                self,
                self._tls,
                server_side=True,
                ssl_handshake_timeout=self._state.head_timeout,
            )
        except OSError as error:  # also those of TLS
            LOGGER.debug("A handshake of HTTP has failed: %s", error)
            return
        finally:
            self._state.handshakes.discard(self)
        if secured is None or secured.is_closing():
            return
        secured.set_protocol(self._connection)
        self._connection.connection_made(secured)
        for data in self._early:
            self._connection.data_received(data)


class Connection(H11Protocol):
    """A connection that is closed if its peer is too slow.

    The head of a request must arrive within `acse_timeout` from its first byte. A body must
    proceed, and a response must be taken, within `network_timeout` at any time. One timer per
    connection looks at this once in the shorter of both times, so that no byte sets a timer.
    """

    def __init__(self, config: Config, state: _State) -> None:
        super().__init__(config, state, {})  # type: ignore[arg-type]
        self.logger = LOGGER  # uvicorn's own would write to the terminal
        self.access_log = False
        self._state = state
        self._since = 0.0  # when the peer has last done what it owes
        self._unwritten = 0  # bytes that it had not taken then
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin, or refuse if there are too many connections."""
        super().connection_made(transport)
        if reason := self._state.reason_to_refuse(self.client):
            LOGGER.warning("A connection of HTTP is refused: there are %s", reason)
            transport.write(_FULL)
            transport.close()
            return
        self._since = self.loop.time()
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        super().connection_lost(exc)
        if self._timer is not None:
            self._timer.cancel()
        self._state.note_closed()

    def data_received(self, data: bytes) -> None:
        """Process received bytes."""
        if self.conn.their_state is not h11.IDLE or self.timeout_keep_alive_task is not None:
            self._since = self.loop.time()  # a head has to be complete in time, as a whole
        super().data_received(data)

    def on_response_complete(self) -> None:
        """Wait for the next request, within uvicorn's time for keeping a connection alive."""
        super().on_response_complete()
        self._since = self.loop.time()

    def resume_writing(self) -> None:
        """Continue to write: the peer has taken most of the response."""
        super().resume_writing()
        self._unwritten = -1

    def shutdown(self) -> None:
        """Close when the present request is answered."""
        try:
            super().shutdown()
        except h11.LocalProtocolError:  # it is being closed because of an invalid request
            self.transport.abort()

    def _should_upgrade(self) -> bool:
        return False  # a server may ignore it (RFC 9110 Section 7.8)

    def _watch(self) -> None:
        self._timer = self.loop.call_later(self._state.check_after, self._check)

    def _check(self) -> None:
        now, state = self.loop.time(), self._state
        unwritten = self.transport.get_write_buffer_size()
        is_head = self.conn.their_state is h11.IDLE and not self.timeout_keep_alive_task
        owes_body = self.conn.their_state is h11.SEND_BODY and not self.flow.read_paused
        is_stuck = unwritten > 0 and unwritten == self._unwritten
        self._unwritten = unwritten
        if not (is_head or owes_body or is_stuck):
            self._since = now  # it is our turn
        timeout = state.head_timeout if is_head else state.idle_timeout
        if now >= self._since + timeout:
            LOGGER.warning("A connection of HTTP is closed: its peer is too slow")
            self.transport.abort()
        else:
            self._watch()


def _config(app: ASGIApp, configuration: Configuration) -> Config:
    config = Config(
        app,
        interface="asgi3",
        lifespan="off",
        ws="none",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        h11_max_incomplete_event_size=_LONGEST_HEAD,
        timeout_keep_alive=math.ceil(min(configuration.network_timeout, _LONGEST_WAIT)),
    )
    config.load()
    return config


def _listening(configuration: Configuration) -> socket.socket:
    """Return the socket to listen on."""
    host, port = configuration.http_address, configuration.http
    if not _is_loopback(host):
        if not configuration.tls.cert:
            text = "HTTP at %r is not encrypted: others can read passwords and images on their way"
            LOGGER.warning(text, host)
        if not file_of(configuration).exists():
            text = "HTTP at %r is for this machine only, until there are users (node users add)"
            LOGGER.warning(text, host)
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        text = f"HTTP cannot listen on {host}, port {port}: {reason}"
        raise CannotListen(text) from None


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return host == "localhost"
