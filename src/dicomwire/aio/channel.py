"""A connection of the event loop: gives received bytes to a listener, and sends with back-pressure.

This module knows no DICOM. TLS and plain connections have the same interface.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
import threading
from collections.abc import Callable
from typing import Any, Protocol, cast

from dicomwire.aio.tls import TLSLayer
from dicomwire.session.buffers import BUFFER_SIZE, RECEIVE_BUFFER
from dicomwire.session.listening import peer_name

FAREWELL = 2.0
"""Seconds that the peer has to read the alert after a TLS failure."""

# One buffer per thread is enough: an event loop reads for one connection at a time.
_local = threading.local()


class Listener(Protocol):
    """The receiver of a channel's bytes."""

    def received(self, data: memoryview) -> None:
        """Process received bytes; `data` is not valid after the call."""

    def writable(self) -> None:
        """Note that all written bytes were sent."""

    def lost(self, error: OSError | None) -> None:
        """Note that the connection is over; `error` is None if the peer closed it."""


class Channel(asyncio.BufferedProtocol):
    """One connection; it has a transport while it is open.

    Attributes
    ----------
    is_full : bool
        Whether written bytes were not sent yet.
    local, remote : tuple or str
        The addresses of the two ends.
    """

    def __init__(self) -> None:
        self.is_full = False
        self.local: Any = ""
        self.remote: Any = ""
        self._transport: asyncio.Transport | None = None
        self._listener: Listener | None = None
        self._tls: TLSLayer | None = None
        self._on_handshake: Callable[[OSError | None], None] | None = None  # during a handshake
        self._is_paused = False
        self._is_over = False  # the listener gets no more bytes
        self._error: OSError | None = None
        self._closing: asyncio.TimerHandle | None = None

    def listen(self, listener: Listener) -> None:
        """Give bytes that arrive from now on to `listener`."""
        self._listener = listener
        if self._is_over:
            listener.lost(self._error)

    @property
    def peer(self) -> str:
        """The address of the peer as "host:port"."""
        return peer_name(self.remote)

    # --- asyncio ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take over the transport."""
        transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass
        self._transport = transport
        self.local = transport.get_extra_info("sockname") or ""
        self.remote = transport.get_extra_info("peername") or ""
        transport.set_write_buffer_limits(high=0)
        sock = transport.get_extra_info("socket")
        if sock is not None:
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)

    def get_buffer(self, sizehint: int) -> memoryview:
        """Return the buffer to read into; the loop calls `buffer_updated` directly after it."""
        return _buffer()

    def buffer_updated(self, nbytes: int) -> None:
        """Process the bytes that were read."""
        if self._is_over:
            return
        if self._tls is not None:
            self._tls.feed(_local.view[:nbytes])
            self._take_in()
        else:
            self.take(_local.view[:nbytes])

    def take(self, data: memoryview) -> None:
        """Give received bytes, decrypted, to the listener."""
        if self._listener is not None:
            self._listener.received(data)

    def pause_writing(self) -> None:
        """Note that written bytes were not sent yet."""
        self.is_full = True

    def resume_writing(self) -> None:
        """Note that all written bytes were sent."""
        self.is_full = False
        if self._listener is not None:
            self._listener.writable()

    def eof_received(self) -> None:
        """Note that the peer sends no more, which ends a DICOM connection."""
        self._end(None)

    def connection_lost(self, exc: Exception | None) -> None:
        """Note that the connection is over."""
        transport, self._transport = self._transport, None
        if transport is not None and exc is not None and not self._is_paused:
            self._read_rest(transport)
        self._end(None)
        if self._closing is not None:
            self._closing.cancel()
        self._listener = None

    def _read_rest(self, transport: asyncio.Transport) -> None:
        """After sending failed, process the bytes that arrived before: an A-ABORT, perhaps."""
        with (
            contextlib.suppress(OSError),
            socket.socket(fileno=os.dup(transport.get_extra_info("socket").fileno())) as sock,
        ):
            sock.setblocking(False)
            while not (self._is_over or self._is_paused):
                size = sock.recv_into(_buffer())
                if not size:
                    break
                self.buffer_updated(size)

    def _end(self, error: OSError | None) -> None:
        if self._is_over:
            return
        self._is_over = True
        self._error = error
        if self._on_handshake is not None:
            self._shaken_hands(error or ConnectionResetError())
        else:
            self.lose(error)

    def lose(self, error: OSError | None) -> None:
        """Tell the listener that the connection is over."""
        if self._listener is not None:
            self._listener.lost(error)

    # --- TLS ---

    def start_tls(
        self,
        context: ssl.SSLContext,
        done: Callable[[OSError | None], None],
        server_hostname: str | None = None,
    ) -> None:
        """Use TLS from now on; as the server if no name is given.

        After the handshake, `done` is called with None, or with the error if it failed. The
        channel then closes after sending the alert to the peer.
        """
        self._on_handshake = done
        if self._transport is None or self._is_over:
            self._shaken_hands(ConnectionResetError())
            return
        self._tls = TLSLayer(context, server_hostname, self._transport.write)
        self._take_in()
        self.resume_reading()

    def _shaken_hands(self, error: OSError | None) -> None:
        done, self._on_handshake = self._on_handshake, None
        assert done is not None
        done(error)

    def _take_in(self) -> None:
        """Continue the handshake, or give decrypted bytes to the listener."""
        tls = self._tls
        assert tls is not None
        try:
            if self._on_handshake is not None:
                if not tls.shake_hands():
                    return
                self._shaken_hands(None)
            while not (self._is_paused or self._is_over) and tls.has_received:
                size, at_end = tls.read(_buffer())
                if size:
                    self.take(_local.view[:size])
                if at_end:
                    self._end(None)
                if not size:
                    return
        except ssl.SSLError as error:
            self._begin_closing(FAREWELL)
            self._end(error)

    # --- For the listener ---

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send `data`, which must not change as long as the channel is full."""
        if self._tls is not None:
            with contextlib.suppress(ssl.SSLError):  # reading will report the end
                self._tls.write(data)
        elif self._transport is not None:
            self._transport.write(data)

    @property
    def unsent(self) -> int:
        """How many written bytes were not sent yet."""
        size = self._tls.unsent if self._tls is not None else 0
        return size + (self._transport.get_write_buffer_size() if self._transport else 0)

    def pause_reading(self) -> None:
        """Stop reading: arriving bytes stay in the system's buffers."""
        self._is_paused = True
        if self._transport is not None and self._transport.is_reading():
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Undo `pause_reading`."""
        if not self._is_paused:
            return
        self._is_paused = False
        if self._tls is not None and self._tls.has_received:
            asyncio.get_running_loop().call_soon(self._take_in)
        transport = self._transport
        if transport is not None and not transport.is_closing() and not transport.is_reading():
            transport.resume_reading()

    def close_now(self) -> None:
        """Close at once, unless it is closing already; unsent bytes are lost."""
        self._is_over = True
        self._on_handshake = None
        if self._transport is not None and self._closing is None:
            if self._tls is not None:
                self._tls.close()
            self._transport.abort()

    def close_after_peer(self, timeout: float) -> None:
        """Close after the peer has, or after `timeout` seconds (Sta13); discard received bytes."""
        self._is_over = True
        if self._tls is not None:
            self._tls.close()
        self._begin_closing(timeout)

    def _begin_closing(self, timeout: float) -> None:
        transport = self._transport
        if transport is None or self._closing is not None:
            return
        self._closing = asyncio.get_running_loop().call_later(timeout, transport.abort)
        if transport.is_closing():
            return
        try:
            transport.write_eof()
        except OSError:  # reset by the peer
            transport.abort()
        else:
            self.resume_reading()


def _buffer() -> memoryview:
    try:
        view: memoryview = _local.view
    except AttributeError:
        view = _local.view = memoryview(bytearray(BUFFER_SIZE))
    return view
