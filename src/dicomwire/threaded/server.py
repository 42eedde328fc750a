"""A server: takes connections in the lobby, and gives each a worker once it asks for something.

Silent and dripping connections cost a socket each, until their deadline, and keep nobody out.
"""

from __future__ import annotations

import errno
import ssl
import threading
from collections import OrderedDict, deque
from socket import (
    AF_INET,
    AF_INET6,
    SO_REUSEADDR,
    SOCK_STREAM,
    SOL_SOCKET,
)
from socket import (
    socket as Socket,
)
from typing import TYPE_CHECKING, Any

from dicomwire.events import EVT_CONN_OPEN, Binding, EventType, Handlers
from dicomwire.logs import LOGGER
from dicomwire.protocol.context import PresentationContext
from dicomwire.protocol.limits import MIB
from dicomwire.protocol.pdu import PDUType
from dicomwire.services.acse import Policy
from dicomwire.settings import Settings
from dicomwire.threaded import workers
from dicomwire.threaded.connection import Connection, deadline_after, peer_name
from dicomwire.threaded.lobby import Guest, lobby
from dicomwire.threaded.opening import tls_reason

if TYPE_CHECKING:
    from dicomwire.ae import ApplicationEntity
    from dicomwire.association import Association, ReceiveTo

try:
    import resource
except ImportError:  # no such limits on Windows
    resource = None  # type: ignore[assignment]

BACKLOG = 1024
GREETERS = 32
"""Association requests that are answered at the same time, over those that are being served."""
PENDING_BYTES = 64 * MIB
"""What association requests that are not complete may take in memory, all together."""
_READ_SIZE = 64 * 1024
_HEADER = 6
_SPARE_FILES = 128
"""File descriptors that connections leave to the rest of the program."""
_OUT_OF_FILES = (errno.EMFILE, errno.ENFILE)


class AssociationServer:
    """Listens on one address and accepts associations for an AE; see `AE.start_server`.

    Attributes
    ----------
    ae : ApplicationEntity
    ae_title : str
        The title that requestors may have to call.
    contexts : list of PresentationContext
        What is supported.
    receive_to : ReceiveTo or None
        Where objects received by C-STORE are filed as they come.
    """

    def __init__(
        self,
        ae: ApplicationEntity,
        address: tuple[Any, ...],
        ae_title: str,
        contexts: list[PresentationContext],
        ssl_context: ssl.SSLContext | None = None,
        evt_handlers: Handlers | None = None,
        receive_to: ReceiveTo | None = None,
    ) -> None:
        self.ae = ae
        self.ae_title = ae_title
        self.contexts = contexts
        self.ssl_context = ssl_context
        self.receive_to = receive_to
        self.handlers = evt_handlers or Handlers()
        self._lock = threading.Lock()
        self._newcomers: OrderedDict[Newcomer, None] = OrderedDict()
        self._of_address: dict[str, OrderedDict[Newcomer, None]] = {}
        self._pending_bytes = 0
        self._connections = 0
        self._greeting = 0
        self._waiting: deque[Newcomer] = deque()
        self._stopped = threading.Event()
        self._ceiling = _connection_ceiling(ae.settings)
        self._socket = _listen(address)
        self._listener = _Listener(self, self._socket)
        lobby().enter(self._listener, None)

    # --- What programs use ---

    @property
    def socket(self) -> Socket:
        """The listening socket."""
        return self._socket

    @property
    def server_address(self) -> tuple[Any, ...]:
        """The address that is listened on: with port 0 asked for, the port that was given."""
        address: tuple[Any, ...] = self._socket.getsockname()
        return address

    @property
    def active_associations(self) -> list[Association]:
        """The associations that this server accepted and that are not over."""
        return [each for each in self.ae.active_associations if each.server is self]

    def serve_forever(self) -> None:
        """Wait until the server is shut down."""
        self._stopped.wait()

    def shutdown(self) -> None:
        """Stop listening, and drop connections that have no association yet; others go on."""
        if self._stopped.is_set():
            return
        self._stopped.set()
        lobby().leave(self._listener)
        self._socket.close()
        with self._lock:
            newcomers = list(self._newcomers)
        for newcomer in newcomers:
            newcomer.drop("the server is shut down")
        self.ae.forget_server(self)

    server_close = shutdown

    def __enter__(self) -> AssociationServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()

    def bind(self, event: EventType, handler: Any, args: Any = None) -> None:
        """Bind `handler` to `event`, for the associations there are and those to come."""
        self.handlers.bind(event, handler, args)
        for association in self.active_associations:
            association.bind(event, handler, args)

    def unbind(self, event: EventType, handler: Any) -> None:
        """Undo the binding of `handler` to `event`, everywhere."""
        self.handlers.unbind(event, handler)
        for association in self.active_associations:
            association.unbind(event, handler)

    def get_handlers(self, event: EventType) -> list[Binding] | Binding:
        """Return what is bound to `event`."""
        return self.handlers.get_handlers(event)

    def get_events(self) -> list[EventType]:
        """Return the events that have a handler, sorted by name."""
        return self.handlers.get_events()

    # --- Connections ---

    def accept(self) -> None:
        """Take the connections that are waiting (on the lobby's thread)."""
        for _ in range(BACKLOG):
            try:
                sock, address = self._socket.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in _OUT_OF_FILES and self._evict(self._newcomers):
                    continue
                if error.errno in _OUT_OF_FILES:
                    LOGGER.error("No file descriptors are left for new connections")
                return
            self._welcome(sock, str(address[0]) if isinstance(address, tuple) else "")

    def _welcome(self, sock: Socket, host: str) -> None:
        """Let a new connection into the lobby; if it is full, the one longest there has to go."""
        settings = self.ae.settings
        own = self._of_address.get(host)
        if own is not None and len(own) >= settings.connections_per_address:
            self._evict(own)
        if self._connections >= self._ceiling and not self._evict(self._newcomers):
            LOGGER.warning("A connection from %s is refused: %d are open", host, self._ceiling)
            sock.close()
            return
        with self._lock:
            self._connections += 1
            newcomer = Newcomer(self, sock, host, settings)
            self._newcomers[newcomer] = None
            self._of_address.setdefault(host, OrderedDict())[newcomer] = None
        self.handlers.arm()
        if self.handlers.bound(EVT_CONN_OPEN):
            # The handler is told at once, and not when the peer has something to say.
            workers.submit(newcomer.announce)
        else:
            newcomer.begin()

    def _evict(self, newcomers: OrderedDict[Newcomer, None]) -> bool:
        with self._lock:
            oldest = next(iter(newcomers), None)
        if oldest is None:
            return False
        oldest.drop("to make room for others")
        return True

    def hold(self, size: int) -> bool:
        """Account for `size` more bytes of incomplete requests; false if that is too much."""
        with self._lock:
            self._pending_bytes += size
            return self._pending_bytes <= PENDING_BYTES

    def departed(self, newcomer: Newcomer) -> bool:
        """Note that `newcomer` is none any more; false if that was noted before."""
        with self._lock:
            if newcomer not in self._newcomers:
                return False
            del self._newcomers[newcomer]
            own = self._of_address[newcomer.host]
            del own[newcomer]
            if not own:
                del self._of_address[newcomer.host]
            self._pending_bytes -= len(newcomer.received)
            return True

    def connection_closed(self) -> None:
        """Note that the connection of a newcomer or an association is closed."""
        with self._lock:
            self._connections -= 1

    def greet(self, newcomer: Newcomer) -> None:
        """Have the request of `newcomer` answered, now or when others have been."""
        with self._lock:
            if self._greeting >= GREETERS:
                self._waiting.append(newcomer)
                return
            self._greeting += 1
        workers.submit(lambda: self._greet(newcomer))

    def _greet(self, newcomer: Newcomer) -> None:
        following: Newcomer | None = newcomer
        while following is not None:
            try:
                self._answer(following)
            finally:
                with self._lock:
                    following = self._waiting.popleft() if self._waiting else None
                    if following is None:
                        self._greeting -= 1

    def _answer(self, newcomer: Newcomer) -> None:
        association = newcomer.association or self.new_association(newcomer)
        ae = self.ae
        association.answer(
            newcomer.received,
            Policy(
                called_ae_title=self.ae_title.strip() if ae.require_called_aet else None,
                calling_ae_titles=tuple(title.strip() for title in ae.require_calling_aet),
                unrestricted_storage=ae.settings.unrestricted_storage,
                take_slot=lambda: not self._stopped.is_set() and ae.take_slot(association),
            ),
        )

    def new_association(self, newcomer: Newcomer) -> Association:
        """Return the association for a connection, which tells that this is open."""
        association = self.ae.new_acceptor(self)
        association.start_serving(Connection(newcomer.socket), self.connection_closed)
        return association


class _Listener(Guest):
    """The listening socket of a server, as a guest of the lobby."""

    def __init__(self, server: AssociationServer, sock: Socket) -> None:
        self._server = server
        self._socket = sock

    def fileno(self) -> int:
        return self._socket.fileno()

    def on_ready(self) -> None:
        self._server.accept()

    def on_deadline(self) -> None:
        raise AssertionError("a listener has no deadline")


class Newcomer(Guest):
    """A connection that has not asked for an association yet (Sta2).

    Its TLS handshake and the bytes of its request are taken in as they come, against absolute
    deadlines. What is not the beginning of a request is passed on too: the protocol answers it.
    """

    def __init__(
        self, server: AssociationServer, sock: Socket, host: str, settings: Settings
    ) -> None:
        self.host = host
        self.received = bytearray()
        self.association: Association | None = None
        self._server = server
        self._settings = settings
        self._peer = peer_name(sock)
        self._shaking_hands = server.ssl_context is not None
        sock.setblocking(False)
        if server.ssl_context is not None:
            sock = server.ssl_context.wrap_socket(
                sock, server_side=True, do_handshake_on_connect=False
            )
        self.socket = sock

    def fileno(self) -> int:
        return self.socket.fileno()

    def announce(self) -> None:
        """Tell of the connection, on a worker, before it is watched."""
        self.association = self._server.new_association(self)
        if self.association.is_aborted:
            self._server.departed(self)
        else:
            self.begin()

    def begin(self) -> None:
        """Wait for what the peer sends."""
        settings = self._settings
        timeout = settings.tls_timeout if self._shaking_hands else settings.acse_timeout
        lobby().enter(self, deadline_after(timeout))

    def on_ready(self) -> None:
        if self._shaking_hands and not self._shake_hands():
            return
        try:
            data = self.socket.recv(_READ_SIZE)
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return
        except OSError:
            data = b""
        if not data:
            self.drop("the peer closed the connection")
            return
        self.received += data
        if not self._server.hold(len(data)):
            self.drop("too much memory is taken by incomplete association requests")
        elif self._is_complete():
            lobby().leave(self)
            if self._server.departed(self):
                self._server.greet(self)

    def on_deadline(self) -> None:
        self.drop("no TLS handshake" if self._shaking_hands else "no association request")

    def drop(self, reason: str) -> None:
        """Close the connection without a word (AA-2), and say in the log why."""
        if not self._server.departed(self):
            return
        LOGGER.info("A connection from %s is closed: %s", self._peer, reason)
        lobby().leave(self)
        association = self.association
        if association is not None:
            workers.submit(association.abandon)
            return
        self.socket.close()
        self._server.connection_closed()

    def _shake_hands(self) -> bool:
        """Go on with the TLS handshake; true when it is done."""
        assert isinstance(self.socket, ssl.SSLSocket)
        try:
            self.socket.do_handshake()
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError) as wanted:
            # It is in the nature of a handshake that this alternates, but seldom: most of our
            # side of it fits the socket's buffer, so that only reading has to be waited for.
            if isinstance(wanted, ssl.SSLWantWriteError):
                lobby().leave(self)
                lobby().enter(self, self.deadline, write=True)
            return False
        except OSError as error:
            LOGGER.warning("TLS with %s failed: %s", self._peer, tls_reason(error))
            self.drop("TLS failed")
            return False
        self._shaking_hands = False
        lobby().leave(self)
        lobby().enter(self, deadline_after(self._settings.acse_timeout))
        return True

    def _is_complete(self) -> bool:
        """Whether there is something to answer: a whole request, or no request at all."""
        received = self.received
        if received[0] != PDUType.ASSOCIATE_RQ:
            return len(received) >= _HEADER
        if len(received) < _HEADER:
            return False
        length = int.from_bytes(received[2:6], "big")
        if length > self._settings.limits.associate_pdu:
            return True
        return len(received) >= _HEADER + length


def _listen(address: tuple[Any, ...]) -> Socket:
    """Return a socket that listens on `address`: (host, port), or four values for IPv6."""
    host = str(address[0])
    family = AF_INET6 if len(address) == 4 or ":" in host else AF_INET
    sock = Socket(family, SOCK_STREAM)
    try:
        sock.setsockopt(SOL_SOCKET, SO_REUSEADDR, 1)
        sock.setblocking(False)
        sock.bind(address)
        sock.listen(BACKLOG)
    except BaseException:
        sock.close()
        raise
    return sock


def _connection_ceiling(settings: Settings) -> int:
    """Return how many connections there may be, given how many files the process may open."""
    if resource is None:
        return settings.maximum_connections
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if files == resource.RLIM_INFINITY:
        return settings.maximum_connections
    return max(1, min(settings.maximum_connections, files - _SPARE_FILES, files * 3 // 4))
