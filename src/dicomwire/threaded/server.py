"""A server: the watcher watches its connections, until one has a request for a pool thread.

A silent or slow connection takes a socket until its deadline, but no thread.
"""

from __future__ import annotations

import errno
import logging
import ssl
import threading
import time
from collections.abc import Callable
from functools import partial
from socket import socket as Socket
from typing import Any

from dicomwire.errors import AssociationFailure, AssociationTimeout, ConnectionLost
from dicomwire.events import EVT_CONN_CLOSE, EVT_CONN_OPEN, Handlers
from dicomwire.logs import LOGGER
from dicomwire.protocol.context import PresentationContext
from dicomwire.session.base import ReceiveTo
from dicomwire.session.entity import Entity
from dicomwire.session.listening import (
    BACKLOG,
    is_answerable,
    listen,
    peer_name,
)
from dicomwire.session.serving import BaseServer
from dicomwire.settings import Settings
from dicomwire.threaded import threads
from dicomwire.threaded.association import Association
from dicomwire.threaded.connection import Connection, close_socket, deadline_after
from dicomwire.threaded.watcher import Watched, count_opened, watcher
from dicomwire.tls import tls_failure

MOST_NEGOTIATING = 32
"""Pool threads that at most run handlers and negotiation for new connections at a time."""
_READ_SIZE = 64 * 1024
_OUT_OF_FILES = (errno.EMFILE, errno.ENFILE)
_PAUSE = 0.5
"""Seconds without accepting, after no file descriptor was left for a connection."""
_LAST_REQUESTS = 1.0
"""Seconds for a connection to request an association when the server drains. Peers send the request
when they have connected, so that it is on its way: this is a round trip, and much more."""


class AssociationServer(BaseServer[Association, "NewConnection", Callable[[], None]]):
    """Listens on one address and accepts associations for an AE; see `AE.start_server`.

    Attributes
    ----------
    ae : ApplicationEntity
    ae_title : str
        The called AE title that requests must have, if the AE requires that.
    receive_to : ReceiveTo or None
        Where to write objects received by C-STORE, while they arrive.
    """

    ae: Entity[Association, Any]

    def __init__(
        self,
        ae: Entity[Association, Any],
        address: tuple[Any, ...],
        ae_title: str,
        contexts: list[PresentationContext],
        ssl_context: ssl.SSLContext | None = None,
        evt_handlers: Handlers | None = None,
        receive_to: ReceiveTo | None = None,
    ) -> None:
        super().__init__(ae, ae_title, contexts, ssl_context, evt_handlers, receive_to)
        self._negotiating = 0  # guarded by `_lock`
        # Set when the server listens no more, which wakes `serve_forever`. Connections that were
        # there before still get associations, until `shutdown` sets `_is_closing`.
        self._stopped = threading.Event()
        # Lets threads wait until `_connections` is lower; no lock is taken under it.
        self._changed = threading.Condition()
        self.start_listening(address)

    # --- For programs ---

    @property
    def socket(self) -> Socket:
        """The listening socket."""
        return self._socket

    def serve_forever(self) -> None:
        """Wait until `shutdown` or `drain` is called."""
        self._stopped.wait()

    def shutdown(self) -> None:
        """Stop listening, and close connections without an association. Associations continue."""
        if self._is_closing:
            return
        self._is_closing = True
        self._stopped.set()
        self.stop_listening()
        with self._lock:
            connections = list(self._new_connections)
        for connection in connections:
            connection.drop("the server is shut down")
        self.ae.forget_server(self)

    server_close = shutdown

    def drain(self, timeout: float | None = None) -> None:
        """Stop listening, and wait for the end of running associations.

        Peers that have connected before may still request one, at once.

        Parameters
        ----------
        timeout : float, optional
            Seconds after which they are aborted; `Settings.drain_timeout` by default.
        """
        seconds = self.ae.settings.drain_timeout if timeout is None else timeout
        deadline = time.monotonic() + seconds
        if seconds > 0 and not self._stopped.is_set():
            self.accept_last()
            self.stop_listening()
            self.finish()
            with self._changed:
                self._changed.wait_for(lambda: not self._connections, seconds)
        self.shutdown()
        for association in self.active_associations:
            association.join(max(deadline - time.monotonic(), 0))
        for association in self.active_associations:
            association.abort(block=False)

    def __enter__(self) -> AssociationServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()

    # --- Connections ---

    def start_listening(self, address: tuple[Any, ...]) -> None:
        """Have the watcher call `accept` when there are connections."""
        self._socket = listen(address)
        self._address = self._socket.getsockname()
        self._listener = _Listener(self, self._socket)
        self._socket.before_close = partial(watcher().remove, self._listener)
        watcher().add(self._listener, None)

    def stop_listening(self) -> None:
        """Undo `start_listening`."""
        close_socket(self._socket)

    def accept_last(self) -> None:
        """Accept the connections that wait in the system's queue, before it is closed."""
        watcher().remove(self._listener)
        self.accept()

    def finish(self) -> None:
        """Let connections without an association request one now, or be closed soon."""
        self._stopped.set()
        deadline = time.monotonic() + _LAST_REQUESTS
        with self._lock:  # as in `wait_for`, so that each has this deadline
            for connection in self._new_connections:
                watcher().hurry(connection, deadline)

    def connection_closed(self) -> None:
        """Stop counting a connection that was closed."""
        super().connection_closed()
        with self._changed:
            self._changed.notify_all()

    def accept(self) -> None:
        """Accept the waiting connections (on the watcher's thread)."""
        for number in range(BACKLOG):
            try:
                sock, address = self._socket.accept()
            except OSError as error:
                # Only for the first: without descriptors, it fails also when no connection waits.
                if error.errno in _OUT_OF_FILES and number == 0:
                    LOGGER.error("No file descriptors are left for new connections")
                    self._make_room()
                    self.pause()
                return
            self.add_connection(sock, address)

    def pause(self) -> None:
        """Stop accepting for `_PAUSE` seconds, so that the watcher does not try all the time."""
        # Watch for writing: a listening socket is never writable, so the deadline ends the pause.
        watcher().remove(self._listener)
        if not self._stopped.is_set():
            watcher().add(self._listener, deadline_after(_PAUSE), write=True)

    def add_connection(self, sock: Socket, address: Any) -> bool:
        """Have a new connection watched; if there are too many, close the oldest.

        Returns false if the new connection is closed instead.
        """
        settings = self.ae.settings
        try:
            connection = NewConnection(self, sock, address, settings)
        except OSError as error:  # reset already
            LOGGER.info("A connection from %s is closed: %s", peer_name(address), error.strerror)
            sock.close()
            return False
        if not self.has_room(connection.host, connection.peer):
            connection.socket.close()
            return False
        self.handlers.arm()
        if self.handlers.bound(EVT_CONN_OPEN) or self.handlers.bound(EVT_CONN_CLOSE):
            # Call the handler at once, and not when the peer sends something.
            self.submit(connection.host, connection.announce)
            return True
        try:
            connection.begin()
        except Exception:
            LOGGER.exception("A connection is dropped after an internal error")
            close_socket(connection.socket)
            self.connection_closed()
        return True

    def wait_for(self, connection: NewConnection, timeout: float | None) -> None:
        """Have `connection` watched for `timeout` seconds."""
        with self._lock:  # so that no thread drops it before it is watched
            self._new_connections.add(connection)
            watcher().add(connection, self.deadline_of(timeout))
        self.hold(len(connection.received))
        if self._is_closing:
            connection.drop("the server is shut down")

    def deadline_of(self, timeout: float | None) -> float | None:
        """Return the deadline of a connection without an association, for a timeout in settings."""
        if self._stopped.is_set():
            timeout = _LAST_REQUESTS if timeout is None else min(timeout, _LAST_REQUESTS)
        return deadline_after(timeout)

    def negotiate(self, connection: NewConnection) -> None:
        """Answer a request as an earlier equal one, or on a pool thread, in its turn.

        On the watcher's thread: the first calls no handler, and the socket takes the answer at
        once.
        """
        if connection.association is None:
            association = self.agreed(connection.host, bytes(connection.received))
            if association is not None:
                association.start_as_agreed(connection.connection, self.connection_closed)
                return
        self.submit(connection.host, partial(self._answer, connection))

    def submit(self, host: str, task: Callable[[], None]) -> None:
        """Run `task` for a peer on a pool thread; it waits while `MOST_NEGOTIATING` others run."""
        with self._lock:
            if self._negotiating >= MOST_NEGOTIATING:
                self._waiting.put(host, task)
                return
            self._negotiating += 1
        threads.submit(partial(self._run_tasks, task))

    def _run_tasks(self, task: Callable[[], None] | None) -> None:
        while task is not None:
            try:
                task()
            except BaseException:  # of any kind: this thread must go on with the waiting tasks
                LOGGER.exception("A connection is dropped after an internal error")
            with self._lock:
                task = self._waiting.take()
                if task is None:
                    self._negotiating -= 1

    def _answer(self, connection: NewConnection) -> None:
        association = connection.association or self.new_association(connection)
        received = bytes(connection.received)
        association.answer(received, self.policy(association, connection.host, received))

    def new_association(self, connection: NewConnection) -> Association:
        """Return the association for a connection, after notifying that the connection is open."""
        association = self.new_acceptor()
        association.start_serving(connection.connection, self.connection_closed)
        return association


class _Listener(Watched):
    """The listening socket of a server, as the watcher sees it."""

    def __init__(self, server: AssociationServer, sock: Socket) -> None:
        self._server = server
        self._socket = sock
        self.opened = count_opened()

    def fileno(self) -> int:
        return self._socket.fileno()

    def on_ready(self) -> None:
        self._server.accept()

    def on_deadline(self) -> None:
        watcher().change(self, None)

    def on_gone(self) -> None:
        self._socket.detach()
        LOGGER.error("The listening socket of a server was closed: it accepts no more connections")

    def on_failure(self) -> None:
        self._server.pause()


class NewConnection(Watched):
    """A connection without an association request so far (Sta2).

    Its TLS handshake and the bytes of its request are processed as they arrive, with absolute
    deadlines. Bytes that begin no request count as complete: the protocol answers them.
    """

    def __init__(
        self, server: AssociationServer, sock: Socket, address: Any, settings: Settings
    ) -> None:
        self.host = str(address[0]) if isinstance(address, tuple) else ""
        self.received = bytearray()
        self.association: Association | None = None
        self._server = server
        self._settings = settings
        self._shaking_hands = server.ssl_context is not None
        if server.ssl_context is not None:
            sock.setblocking(False)
            sock.getpeername()  # raises if the peer reset it; `wrap_socket` would detach it first
            sock = server.ssl_context.wrap_socket(
                sock, server_side=True, do_handshake_on_connect=False
            )
        self.socket = sock
        self.connection = Connection(sock, address)
        self.opened, self.peer = self.connection.opened, self.connection.peer

    def fileno(self) -> int:
        return self.socket.fileno()

    def announce(self) -> None:
        """Notify of the open connection, on a pool thread; then wait for the request."""
        self.association = self._server.new_association(self)
        if not self.association.is_aborted:
            self.begin()

    def begin(self) -> None:
        """Read the request, if it is there; otherwise have the socket watched for it."""
        if not self._shaking_hands:
            try:
                self.received += self.socket.recv(_READ_SIZE)
            except OSError:
                self.received.clear()  # nothing is there, or `on_ready` finds the same
            if self._is_complete():
                self._server.negotiate(self)
                return
        settings = self._settings
        timeout = settings.tls_timeout if self._shaking_hands else settings.acse_timeout
        self._server.wait_for(self, timeout)

    def on_ready(self) -> None:
        if self._shaking_hands and not self._shake_hands():
            return
        try:
            data = self.socket.recv(_READ_SIZE)
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return
        except ssl.SSLError as error:
            self._end(tls_failure(error, self.peer), logging.WARNING)
            return
        except OSError:
            data = b""
        if not data:
            self.drop("the peer closed the connection")
            return
        self.received += data
        self._server.hold(len(data))
        if self._is_complete():
            watcher().remove(self)
            if self._server.remove(self):
                self._server.negotiate(self)

    def on_failure(self) -> None:
        self.drop("internal error")

    def on_deadline(self) -> None:
        reason = "no TLS handshake" if self._shaking_hands else "no association request"
        self._end(AssociationTimeout(reason, stage=self._stage, peer=self.peer))

    @property
    def _stage(self) -> str:
        return "tls" if self._shaking_hands else "associate"

    def drop(self, reason: str) -> None:
        """Close the connection without an A-ABORT (AA-2), and log the reason."""
        self._end(ConnectionLost(reason, stage=self._stage, peer=self.peer))

    def _end(self, failure: AssociationFailure, level: int = logging.INFO) -> None:
        if not self._server.remove(self):
            return
        LOGGER.log(level, "A connection from %s is closed: %s", self.peer, failure.text)
        watcher().remove(self)
        association = self.association
        if association is not None:
            self._server.submit(self.host, partial(association.abandon, failure))
            return
        close_socket(self.socket)
        self._server.connection_closed()

    def on_gone(self) -> None:
        self.socket.detach()
        threads.submit(partial(self.drop, "its socket was closed"))

    def _shake_hands(self) -> bool:
        """Continue the TLS handshake; true when it is complete."""
        assert isinstance(self.socket, ssl.SSLSocket)
        try:
            self.socket.do_handshake()
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError) as wanted:
            watcher().change(self, self.deadline, write=isinstance(wanted, ssl.SSLWantWriteError))
            return False
        except OSError as error:
            self._end(tls_failure(error, self.peer), logging.WARNING)
            return False
        self._shaking_hands = False
        watcher().change(self, self._server.deadline_of(self._settings.acse_timeout))
        return True

    def _is_complete(self) -> bool:
        """Whether the bytes can be answered, so that the pool thread need not wait for more."""
        return is_answerable(self.received, self._settings.limits)
