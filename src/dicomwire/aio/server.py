"""A server of the asyncio face: accepts connections, and answers their association requests.

`association` and `port` serve the requests on an association.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import ssl
from collections.abc import Coroutine
from socket import socket as Socket
from typing import Any, Self

from dicomwire.aio.association import Association
from dicomwire.aio.channel import Channel
from dicomwire.errors import AssociationFailure, AssociationTimeout, ConnectionLost
from dicomwire.events import EVT_CONN_CLOSE, EVT_CONN_OPEN, Handlers
from dicomwire.logs import LOGGER
from dicomwire.protocol.context import PresentationContext
from dicomwire.session.base import ReceiveTo
from dicomwire.session.entity import Entity
from dicomwire.session.listening import ListeningSocket, is_answerable
from dicomwire.session.serving import BaseServer
from dicomwire.tls import tls_failure

_OUT_OF_FILES = (errno.EMFILE, errno.ENFILE)
_AT_ONCE = 64
"""Connections accepted before other tasks run. More than `_NEGOTIATED_AT_ONCE`, so that connections
wait here, where addresses take turns, and not in the system's queue, where they do not."""
_NEGOTIATED_AT_ONCE = 8
"""Association requests that begin to be answered before other tasks run."""
_PAUSE = 0.5
"""Seconds without accepting, after no file descriptor was left for a connection."""


class AssociationServer(BaseServer[Association, "NewConnection", "NewConnection"]):
    """Listens on one address and accepts associations for an AE; see `AE.start_server`.

    As an asynchronous context manager it is closed at the end of the block.

    Attributes
    ----------
    ae : AE
    ae_title : str
        The called AE title that requests must have, if the AE requires that.
    receive_to : ReceiveTo or None
        Where to write objects received by C-STORE, while they arrive.
    """

    ae: Entity[Association, Any]

    def __init__(
        self,
        ae: Entity[Association, Any],
        sock: ListeningSocket | None,
        ae_title: str,
        contexts: list[PresentationContext],
        ssl_context: ssl.SSLContext | None = None,
        evt_handlers: Handlers | None = None,
        receive_to: ReceiveTo | None = None,
    ) -> None:
        super().__init__(ae, ae_title, contexts, ssl_context, evt_handlers, receive_to)
        self._socket = sock
        if sock is not None:
            self._address = sock.getsockname()
        self._loop = asyncio.get_running_loop()
        self._accepting: asyncio.Task[None] | None = None
        self._closed = asyncio.Event()  # `close` sets it at its end, for those that wait
        self._negotiating: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[Any]] = set()  # tasks that `close` waits for

    def open(self) -> None:
        """Begin to accept connections."""
        self._accepting = self._loop.create_task(self._accept())
        if self._socket is not None:
            self._socket.before_close = self._leave_socket

    def _leave_socket(self) -> None:
        """Stop watching the socket before it closes: its number may soon belong to another file."""
        assert self._accepting is not None
        self._loop.remove_reader(self.socket)
        self._loop.call_soon_threadsafe(self._accepting.cancel)

    # --- For programs ---

    @property
    def socket(self) -> Socket:
        """The listening socket."""
        assert self._socket is not None  # only in workers, which programs cannot access
        return self._socket

    async def serve_forever(self) -> None:
        """Wait until the server is closed; close it if this wait is cancelled."""
        try:
            await self._closed.wait()
        except asyncio.CancelledError:
            await self.close()
            raise

    async def close(self, timeout: float | None = 10.0) -> None:
        """Stop listening, and end all associations.

        Requests in progress have `timeout` seconds (None: any time) to end. Then they are
        cancelled, and so are handlers whose association is over already. Connections without an
        association are closed at once.
        """
        if self._is_closing:
            await self._closed.wait()
            return
        self._is_closing = True
        assert self._accepting is not None
        self._accepting.cancel()
        for connection in list(self._new_connections):
            connection.drop("the server is closed")
        self._negotiate_some(len(self._waiting))
        associations = self.active_associations
        drains = [self._loop.create_task(each.drain()) for each in associations]
        ending = [self._accepting, *self._tasks, *drains]
        try:
            await asyncio.wait(ending, timeout=timeout)
        finally:
            for task in ending:
                task.cancel()
            await self._end_all(associations)
            await asyncio.wait(ending)

    async def _end_all(self, associations: list[Association]) -> None:
        """Cancel all handlers, also those of `associations` that are over by now."""
        self._stop_listening()  # if the task that accepts was cancelled before it began
        remaining = {*associations, *self.active_associations}
        for association in remaining:
            association.abort()
        try:
            await asyncio.gather(*(each.cancel() for each in remaining))
        finally:
            self._closed.set()
            self.ae.forget_server(self)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    # --- Connections ---

    async def _accept(self) -> None:
        try:
            while True:
                for _ in range(_AT_ONCE):
                    self.add_connection(*await self._next_connection())
                await asyncio.sleep(0)
        finally:
            self._stop_listening()

    def _stop_listening(self) -> None:
        if self._socket is not None:
            self._socket.close()

    async def _next_connection(self) -> tuple[Socket, Any]:
        is_waiting = False
        while True:
            try:
                # The loop's `sock_accept`, if cancelled, may lose an accepted connection.
                sock, address = self.socket.accept()
                sock.setblocking(False)
                return sock, address
            except BlockingIOError:
                await self._until_connection_waits()
            except OSError as error:
                if error.errno not in _OUT_OF_FILES:
                    LOGGER.error("A connection cannot be accepted: %s", error.strerror)
                    await asyncio.sleep(_PAUSE)
                elif not is_waiting:  # without descriptors, it fails without connections too
                    await self._until_connection_waits()
                    is_waiting = True
                else:
                    LOGGER.error("No file descriptors are left for new connections")
                    self._make_room()
                    await asyncio.sleep(_PAUSE)

    async def _until_connection_waits(self) -> None:
        found = asyncio.Event()
        self._loop.add_reader(self.socket, found.set)
        try:
            await found.wait()
        finally:
            if self.socket.fileno() >= 0:  # otherwise `_leave_socket` removed the reader
                self._loop.remove_reader(self.socket)

    def add_connection(self, sock: Socket, address: Any) -> bool:
        """Take a new connection; if there are too many, close the oldest without an association.

        Returns false if the new connection is closed instead.
        """
        connection = NewConnection(self, address)
        if not self.has_room(connection.host, connection.peer):
            sock.close()
            return False
        self._new_connections.add(connection)
        self.run(connection.connect(sock))
        return True

    def negotiate(self, connection: NewConnection) -> None:
        """Answer the request of `connection`, when it is the turn of its address."""
        self._waiting.put(connection.host, connection)
        if self._negotiating is None:
            self._negotiating = self._loop.create_task(self._negotiate_all())
            self.watch(self._negotiating)

    async def _negotiate_all(self) -> None:
        try:
            while len(self._waiting):
                self._negotiate_some(_NEGOTIATED_AT_ONCE)
                await asyncio.sleep(0)
        finally:
            self._negotiating = None

    def _negotiate_some(self, count: int) -> None:
        for _ in range(count):
            connection = self._waiting.take()
            if connection is not None:
                self.run(connection.negotiate())

    def run(self, work: Coroutine[Any, Any, None]) -> None:
        """Run `work` as a task that `close` waits for."""
        self.watch(self._loop.create_task(work))

    def watch(self, task: asyncio.Task[None]) -> None:
        """Wait for `task` when the server is closed."""
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


class NewConnection(Channel):
    """A connection without an association request so far (Sta2).

    Its TLS handshake and the bytes of its request are processed as they arrive, with absolute
    deadlines. Bytes that begin no request count as complete: the protocol answers them.
    """

    def __init__(self, server: AssociationServer, address: Any) -> None:
        super().__init__()
        self.host = str(address[0]) if isinstance(address, tuple) else ""
        self.remote = address
        self.received = bytearray()
        self._server = server
        self._association: Association | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self._stage = "associate"
        self._was_made = False
        self._is_here = True  # neither closed nor answered

    async def connect(self, sock: Socket) -> None:
        """Give the accepted socket to the event loop."""
        loop = asyncio.get_running_loop()
        try:
            await loop.connect_accepted_socket(lambda: self, sock)
        except BaseException as error:  # reset already, or the server is closed
            self.drop(str(error) or type(error).__name__)
            if isinstance(loop, asyncio.BaseEventLoop):
                sock.close()
            else:
                sock.detach()  # uvloop has closed the descriptor
            if not self._was_made:
                self._server.connection_closed()
            if not isinstance(error, OSError):
                raise

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to wait for a request, for a limited time."""
        super().connection_made(transport)
        self._was_made = True
        if not self._is_here:  # dropped meanwhile
            self.close_now()
            return
        server = self._server
        settings = server.ae.settings
        server.handlers.arm()
        if server.handlers.bound(EVT_CONN_OPEN) or server.handlers.bound(EVT_CONN_CLOSE):
            self._new_association()  # calls the handler at once
        if self._is_over:
            return
        if server.ssl_context is not None:
            self._stage = "tls"
            self._wait(settings.tls_timeout, "no TLS handshake")
            self.start_tls(server.ssl_context, self._secured)
        else:
            self._wait(settings.acse_timeout, "no association request")

    def _wait(self, timeout: float | None, text: str) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
        if timeout is not None:
            loop = asyncio.get_running_loop()
            self._deadline = loop.call_later(timeout, self._out_of_time, text)

    def _out_of_time(self, text: str) -> None:
        self._leave(AssociationTimeout(text, stage=self._stage, peer=self.peer))

    def _secured(self, error: OSError | None) -> None:
        if error is not None:
            self._leave(tls_failure(error, self.peer), logging.WARNING)
            return
        self._stage = "associate"
        self._wait(self._server.ae.settings.acse_timeout, "no association request")

    def take(self, data: memoryview) -> None:
        """Add received bytes to the request; if it is complete, have it answered."""
        if not self._is_here:
            super().take(data)
            return
        self.received += data
        self._server.hold(len(data))
        if not (is_answerable(self.received, self._server.ae.settings.limits) and self._depart()):
            return
        if self._association is None:
            association = self._server.agreed(self.host, bytes(self.received))
            if association is not None:
                self.received = bytearray()
                association.start_as_agreed(self)
                return
        self.pause_reading()
        self._server.negotiate(self)

    async def negotiate(self) -> None:
        """Answer the request, and serve the requests that follow."""
        association = self._association or self._new_association()
        held, self.received = memoryview(self.received), bytearray()
        if not association.peer_gone:
            policy = self._server.policy(association, self.host, bytes(held))
            await association.answer(held, policy)

    def _new_association(self) -> Association:
        association = self._association = self._server.new_acceptor()
        with contextlib.suppress(AssociationFailure):
            association.start_serving(self)
        return association

    def lose(self, error: OSError | None) -> None:
        """Process the loss of the connection."""
        if not self._is_here:
            super().lose(error)
        elif error is not None:
            self._leave(tls_failure(error, self.peer), logging.WARNING)
        else:
            self.drop("the peer closed the connection")

    def drop(self, reason: str) -> None:
        """Close the connection without an A-ABORT (AA-2), and log the reason."""
        self._leave(ConnectionLost(reason, stage=self._stage, peer=self.peer))

    def _leave(self, failure: AssociationFailure, level: int = logging.INFO) -> None:
        if not self._depart():
            return
        LOGGER.log(level, "A connection from %s is closed: %s", self.peer, failure.text)
        if self._association is not None:
            self._association.give_up(failure)
        self.close_now()

    def _depart(self) -> bool:
        self._is_here = False
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
        return self._server.remove(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Note that the connection is closed."""
        super().connection_lost(exc)
        self._server.connection_closed()
