"""A socket that never blocks without a deadline.

This module knows no DICOM. TLS and plain sockets have the same interface.
"""

from __future__ import annotations

import contextlib
import errno
import select
import socket
import ssl
import threading
import time
from collections.abc import Callable
from typing import Any

from dicomwire.errors import AssociationTimeout, ConnectionLost
from dicomwire.session.buffers import give_buffer, take_buffer
from dicomwire.session.listening import peer_name
from dicomwire.threaded import threads
from dicomwire.threaded.watcher import Watched, count_opened, watcher
from dicomwire.tls import tls_failure

_MORE = getattr(socket, "MSG_MORE", 0)
"""Flag that gathers small messages in large segments; Linux sends after 200 ms in any case."""
_FULL_RECORD = 16 * 1024
"""Bytes that a TLS record holds at most (RFC 8446 Section 5.1)."""
_HEADERS = 12
"""Bytes of the headers in front of the data of a PDU. DCMTK sends them in a TLS record of their
own, and the data in the next ones."""
_FOREVER = 2_000_000.0
"""Longer timeouts, in seconds, mean none: `poll` has only 31 bits for milliseconds."""
_NOT_OURS = (errno.EBADF, errno.ENOTSOCK, errno.ENOTCONN)
"""Errors of reading from a descriptor that the program closed: another file may have its number."""
_NOT_NOW = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


def deadline_after(seconds: float | None) -> float | None:
    """Return the moment, by `time.monotonic`, that is `seconds` from now; None for never."""
    return None if seconds is None or seconds > _FOREVER else time.monotonic() + seconds


def close_socket(sock: socket.socket) -> None:
    """Close `sock`, also if the program closed its descriptor before."""
    with contextlib.suppress(OSError):
        sock.close()


def wait_for(
    sock: socket.socket, deadline: float | None, *, read: bool = True, write: bool = False
) -> bool:
    """Wait until `sock` is readable or writable, as requested; false if the deadline passes."""
    timeout = None if deadline is None else max(deadline - time.monotonic(), 0)
    if hasattr(select, "poll"):
        poll = select.poll()
        poll.register(sock, (select.POLLIN if read else 0) | (select.POLLOUT if write else 0))
        return bool(poll.poll(None if timeout is None else timeout * 1000))
    waiting: list[socket.socket] = [sock]
    readable, writable, _ = select.select(
        waiting if read else [], waiting if write else [], [], timeout
    )
    return bool(readable or writable)


class Connection:
    """A connected socket in non-blocking mode.

    Attributes
    ----------
    local, remote : tuple or str
        The addresses of the two ends.
    peer : str
        The peer as "host:port", for texts.
    is_tls : bool
    opened : int
        See `watcher.Watched`.

    Parameters
    ----------
    remote : tuple or str, optional
        The peer's address, if it is known already: a socket that was reset has none.
    """

    def __init__(self, sock: socket.socket, remote: Any = None) -> None:
        if sock.gettimeout() != 0:  # an accepted socket is set already
            sock.setblocking(False)
        self._socket = sock
        self.opened = count_opened()
        self.is_tls = isinstance(sock, ssl.SSLSocket)
        # Guards a TLS socket, which two threads must not use at once. No lock is taken under it.
        self._access = threading.Lock()
        self._failure: ssl.SSLError | None = None  # of TLS, to be raised by the next read
        self._poll: Any = None  # None while a thread waits with it: two threads must not share it
        self.local = _address(sock.getsockname)
        self.remote = remote or _address(sock.getpeername)
        self.peer = peer_name(self.remote)

    @property
    def socket(self) -> socket.socket:
        """The socket itself."""
        return self._socket

    def fileno(self) -> int:
        """Return the socket's file descriptor, -1 once closed."""
        return self._socket.fileno()

    def read(self, buffer: bytearray | memoryview) -> int | None:
        """Read available bytes; return their number, 0 at the end, None if there are none.

        Raises
        ------
        TLSFailure
            When the peer sent an alert, or the received bytes are corrupt. A TLS server may refuse
            our certificate after the handshake.
        """
        try:
            if not self.is_tls:
                return self._socket.recv_into(buffer)
            with self._access:
                return self._read_records(memoryview(buffer))
        except _NOT_NOW:
            return None
        except ssl.SSLError as error:
            raise tls_failure(error, self.peer) from None
        except OSError as error:
            if error.errno in _NOT_OURS:
                self.disown()
            return 0  # a reset by the peer is an end too

    def _read_records(self, view: memoryview) -> int:
        """Read a TLS record; after headers or a full record, read those that have arrived too.

        The system's calls return one record at a time. To act on each costs more than to decrypt
        it. After a short record, as a small message has, nothing else follows as a rule; at the end
        of a connection, another read would have OpenSSL give up the session.
        """
        if self._failure is not None:
            raise self._failure
        size = self._socket.recv_into(view)
        room = len(view)
        if size < _FULL_RECORD and size != _HEADERS:
            return size
        read = self._socket.read  # type: ignore[attr-defined]  # `recv_into` without its checks
        try:
            while size < room and (more := read(room - size, view[size:])):
                size += more
                if size < _FULL_RECORD:
                    break
        except ssl.SSLError as error:
            if not isinstance(error, _NOT_NOW):
                # OpenSSL reports it once. The next call raises it, after the data before it.
                self._failure = error.with_traceback(None)
        except (OSError, ValueError):
            pass  # occurs again at the next call; ValueError: another thread has closed the socket
        return size

    def pending(self) -> bool:
        """Whether the TLS layer has something to read, for which the socket is not readable."""
        if not self.is_tls:
            return False
        return self._failure is not None or bool(self._socket.pending())  # type: ignore[attr-defined]

    def wait_readable(self, deadline: float | None) -> bool:
        """Wait until there is something to read; false if the deadline passes first."""
        if self.is_tls and self.pending():
            return True
        poll, self._poll = self._poll, None
        if poll is None and (poll := self._new_poll()) is None:
            return wait_for(self._socket, deadline)
        left = None if deadline is None else max(deadline - time.monotonic(), 0) * 1000
        is_readable = bool(poll.poll(left))
        self._poll = poll
        return is_readable

    def _new_poll(self) -> Any:
        """Return a `poll` object for the socket; None on systems without `poll`."""
        if not hasattr(select, "poll"):
            return None
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        return poll

    def linger(self, seconds: float) -> bool:
        """Wait until there is something to read, or the socket is closed; false if neither.

        A pool thread calls this without the turn, so another thread may close the socket.
        """
        poll = self._poll
        try:
            if poll is None or self.is_tls:
                return self.wait_readable(time.monotonic() + seconds)
            self._poll = None  # as in `wait_readable`
            is_readable = bool(poll.poll(seconds * 1000))
        except (OSError, ValueError):
            return True  # closed by another thread
        self._poll = poll
        return is_readable

    def write(
        self,
        data: bytes | bytearray | memoryview,
        timeout: float | None,
        more: bool = False,
        meanwhile: Callable[[], bool] | None = None,
    ) -> None:
        """Send all of `data`; with `more`, the system may wait for the data that follows at once.

        Parameters
        ----------
        meanwhile : callable, optional
            Called while the socket takes no more bytes: reads what has arrived, since the peer may
            not read on before. Returns whether to call it again.

        Raises
        ------
        AssociationTimeout
            When nothing could be sent for `timeout` seconds.
        ConnectionLost
        """
        flags = _MORE if more else 0
        view = memoryview(data)
        deadline: float | None = None
        is_waiting = False
        while view:
            try:
                if self.is_tls:
                    with self._access:
                        sent = self._socket.send(view)
                else:
                    sent = self._socket.send(view, flags)
            except _NOT_NOW as wait:
                if not is_waiting:
                    is_waiting, deadline = True, deadline_after(timeout)
                reads = isinstance(wait, ssl.SSLWantReadError)
                if not self._wait_to_write(deadline, reads, meanwhile is not None):
                    raise AssociationTimeout(
                        f"nothing could be sent for {timeout} s", stage="write", peer=self.peer
                    ) from None
                if meanwhile is not None and not meanwhile():
                    meanwhile = None
            except OSError as error:
                raise ConnectionLost(
                    f"sending failed: {error.strerror or error}", stage="write", peer=self.peer
                ) from None
            else:
                if sent == len(view):
                    return
                view = view[sent:]
                is_waiting = False

    def _wait_to_write(self, deadline: float | None, reads: bool, or_read: bool) -> bool:
        """Wait until the socket is writable, or with `reads`, as TLS may need it, readable.

        With `or_read`, bytes to read end the wait too.
        """
        if or_read and self.pending():
            return True
        return wait_for(self._socket, deadline, read=reads or or_read, write=not reads)

    def write_now(self, data: bytes) -> int:
        """Send as much of `data` as the socket takes without waiting; return how many bytes.

        0 too if sending fails.
        """
        try:
            with self._access:
                return self._socket.send(data)
        except OSError:
            return 0

    def interrupt(self) -> None:
        """Shut the socket down, which wakes every thread that waits for it."""
        with contextlib.suppress(OSError):
            socket.socket.shutdown(self._socket, socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the socket at once."""
        close_socket(self._socket)

    def disown(self) -> None:
        """Forget the descriptor: the program closed it, and another file may have its number."""
        self._socket.detach()

    def close_after_peer(
        self, timeout: float, closed: Callable[[], None], watched: Watched
    ) -> None:
        """Close after the peer has, or after `timeout` seconds; then call `closed` (Sta13).

        The watcher watches the socket for that, and no longer for `watched`.

        Bytes that still arrive are discarded. Closing at once could lose our last PDU: bytes that
        arrive for a closed socket reset the connection.
        """
        with contextlib.suppress(OSError):
            socket.socket.shutdown(self._socket, socket.SHUT_WR)
        draining = _Draining(self._socket, closed)
        draining.opened = self.opened
        watcher().replace(watched, draining, time.monotonic() + timeout)


class _Draining(Watched):
    """A connection that waits for its peer to close it."""

    def __init__(self, sock: socket.socket, closed: Callable[[], None]) -> None:
        self._socket = sock
        self._closed = closed

    def fileno(self) -> int:
        return self._socket.fileno()

    def on_ready(self) -> None:
        buffer = take_buffer()
        try:
            # Without decrypting: these bytes are discarded.
            ended = not socket.socket.recv_into(self._socket, buffer)
        except _NOT_NOW:
            ended = False
        except OSError:
            ended = True
        give_buffer(buffer)
        if ended:
            self.on_deadline()

    def on_deadline(self) -> None:
        watcher().remove(self)
        close_socket(self._socket)
        self._closed()

    def on_gone(self) -> None:
        self._socket.detach()
        threads.submit(self._closed)


def _address(name: Callable[[], Any]) -> Any:
    try:
        return name()
    except OSError:
        return ""
