"""TLS for a connection of the event loop: encrypts and decrypts between two buffers in memory.

asyncio's own TLS takes half a megabyte for each connection, and does not send alerts.
"""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Callable

from dicomwire.session.buffers import BUFFER_SIZE


class TLSLayer:
    """One end of a TLS connection.

    Parameters
    ----------
    context : ssl.SSLContext
    server_hostname : str or None
        The name that the peer's certificate must have; None for the server's end.
    send : callable
        Called with encrypted bytes to send.
    """

    def __init__(
        self,
        context: ssl.SSLContext,
        server_hostname: str | None,
        send: Callable[[bytes], None],
    ) -> None:
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = context.wrap_bio(
            self._incoming,
            self._outgoing,
            server_side=server_hostname is None,
            server_hostname=server_hostname,
        )
        self._send = send
        self._unwritten = b""  # bytes that cannot be encrypted before the peer has answered

    @property
    def unsent(self) -> int:
        """How many bytes wait to be encrypted."""
        return len(self._unwritten)

    @property
    def has_received(self) -> bool:
        """Whether there are bytes that have not been read."""
        return bool(self._incoming.pending or self._tls.pending())

    def feed(self, data: memoryview) -> None:
        """Take received encrypted bytes."""
        self._incoming.write(data)

    def shake_hands(self) -> bool:
        """Continue the handshake; true when it is complete, ssl.SSLError if it failed."""
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            return False
        finally:
            self._flush()
        return True

    def read(self, buffer: memoryview) -> tuple[int, bool]:
        """Read into `buffer`; return how many bytes, and whether no more can come.

        Raises
        ------
        ssl.SSLError
            When the received bytes are corrupt, or the peer sent an alert.
        """
        size, at_end = 0, False
        try:
            while size < BUFFER_SIZE:
                # Each call returns at most one record.
                read = self._tls.read(BUFFER_SIZE - size, buffer[size:])
                if not read:
                    at_end = True
                    break
                size += int(read)
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            at_end = True
        except ssl.SSLError:
            if not size:
                self._flush()  # sends the alert
                raise
            # Return the bytes of complete records first; the next call fails again.
        if self._unwritten:
            data, self._unwritten = self._unwritten, b""
            self.write(data)
        else:
            self._flush()
        return size, at_end

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Encrypt and send `data`."""
        if self._unwritten:
            self._unwritten += data
            return
        view = memoryview(data)
        try:
            while view:
                view = view[self._tls.write(view) :]
        except ssl.SSLWantReadError:  # in a renegotiation of keys
            self._unwritten = bytes(view)
        self._flush()

    def close(self) -> None:
        """Send close_notify: no more data follows."""
        with contextlib.suppress(ssl.SSLError, ValueError):
            self._tls.unwrap()
        self._flush()

    def _flush(self) -> None:
        if self._outgoing.pending:
            self._send(self._outgoing.read())
