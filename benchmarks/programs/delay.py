"""A link to somewhere far away: every byte that passes takes its time, and nothing else does.

    delay.py PORT TARGET_PORT SECONDS

Connections to PORT go to TARGET_PORT of this machine; what comes in on either side leaves on the
other SECONDS later. Each connection is a line of output when it is over: when it was accepted, and
when it ended, by time.perf_counter().
"""

from __future__ import annotations

import asyncio
import socket
import sys
import time
from collections import deque

HOST = "127.0.0.1"


class Side(asyncio.Protocol):
    """One side of a connection; what comes in leaves by its `other`."""

    def __init__(self, delay: float) -> None:
        self.other: Side | None = None
        self.ended = asyncio.Event()
        self.delay = delay
        self._late: deque[tuple[float, bytes | None]] = deque()  # what is to leave here, and when
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def data_received(self, data: bytes) -> None:
        assert self.other is not None
        self.other.send_later(data)

    def connection_lost(self, error: Exception | None) -> None:
        self.ended.set()
        if self.other is not None:
            self.other.send_later(None)

    def send_later(self, data: bytes | None) -> None:
        """Send `data`, or the end of all, when it is time."""
        loop = asyncio.get_running_loop()
        self._late.append((loop.time() + self.delay, data))
        if len(self._late) == 1:
            loop.call_later(self.delay, self._send)

    def _send(self) -> None:
        loop = asyncio.get_running_loop()
        while self._late and self._late[0][0] <= loop.time():
            data = self._late.popleft()[1]
            if data is None:
                self.transport.close()
            elif not self.transport.is_closing():
                self.transport.write(data)
        if self._late:
            loop.call_at(self._late[0][0], self._send)


async def carry(near: Side, target: int) -> None:
    accepted = time.perf_counter()
    loop = asyncio.get_running_loop()
    _, far = await loop.create_connection(lambda: Side(near.delay), HOST, target)
    near.other, far.other = far, near
    near.transport.resume_reading()
    await near.ended.wait()
    print(accepted, time.perf_counter(), flush=True)


async def serve(port: int, target: int, delay: float) -> None:
    tasks = set()

    class Near(Side):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)
            self.transport.pause_reading()
            tasks.add(asyncio.create_task(carry(self, target)))

    server = await asyncio.get_running_loop().create_server(lambda: Near(delay), HOST, port)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])))
