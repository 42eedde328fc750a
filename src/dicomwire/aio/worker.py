"""Servers with worker processes on the asyncio face: the worker, and the program's server object.

`workers.supervisor` starts and watches the processes.
"""

from __future__ import annotations

import asyncio
import contextlib
from socket import socket as Socket
from typing import Any, Self

from dicomwire.aio.association import Association
from dicomwire.aio.server import AssociationServer
from dicomwire.session.entity import Entity
from dicomwire.workers.server import Supervised, WorkerContext
from dicomwire.workers.worker_end import Order, WorkerEnd


def start_workers(
    ae: Entity[Association, Any],
    address: tuple[Any, ...],
    arguments: tuple[Any, ...],
    workers: int,
    worker_context: WorkerContext | None,
) -> SupervisedServer:
    """Return a server with that many worker processes; see `AE.start_server`.

    `arguments` are those of `AssociationServer` after the socket.
    """
    make_loop = type(asyncio.get_running_loop())  # the workers use the same kind of loop

    async def work(worker_end: WorkerEnd) -> None:
        ae.use_counts(worker_end)
        await WorkerServer(ae, None, *arguments, worker_end=worker_end).work()

    def serve(worker_end: WorkerEnd) -> None:
        with asyncio.Runner(loop_factory=make_loop) as runner:
            runner.run(work(worker_end))

    return SupervisedServer(
        *(ae, address, *arguments[:2]),
        workers=workers,
        serve=serve,
        abandon=lambda: asyncio._set_running_loop(None),  # the running loop is the parent's
        worker_context=worker_context,
    )


class SupervisedServer(Supervised):
    """A server with worker processes; see `Supervised`, and `AE.start_server`.

    As an asynchronous context manager it is closed at the end of the block.
    """

    async def serve_forever(self) -> None:
        """Wait until the server is closed; close it if this wait is cancelled.

        Raises
        ------
        RuntimeError
            When the supervisor process died.
        """
        try:
            await asyncio.to_thread(self._wait_stopped)
        except asyncio.CancelledError:
            await self.close()
            raise

    async def close(self, timeout: float = 10.0) -> None:
        """Stop listening, end all associations, and wait for the end of the processes.

        Requests in progress have `timeout` seconds to end; then they are cancelled.
        """
        try:
            await asyncio.to_thread(self._end, timeout)
        except asyncio.CancelledError:
            await asyncio.to_thread(self._end, 0)
            raise

    def _end(self, timeout: float) -> None:
        self._stop(timeout)
        self._ended.wait()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


class WorkerServer(AssociationServer):
    """The server in a worker process: its connections come from the supervisor."""

    def __init__(self, *args: Any, worker_end: WorkerEnd) -> None:
        super().__init__(*args)
        self._worker_end = worker_end
        self._address = worker_end.address
        self._has_to_stop, self._has_to_quit = asyncio.Event(), asyncio.Event()

    async def work(self) -> None:
        """Serve until the supervisor orders the end."""
        self.open()
        self._loop.add_reader(self._worker_end.fileno(), self._on_readable)
        self._worker_end.ready()
        await self._has_to_stop.wait()
        closing = self._loop.create_task(self.close(None))
        quitting = self._loop.create_task(self._has_to_quit.wait())
        await asyncio.wait([closing, quitting], return_when=asyncio.FIRST_COMPLETED)
        closing.cancel()  # this cancels requests in progress
        quitting.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await closing

    async def _accept(self) -> None:
        """Nothing: the supervisor accepts connections, and `_on_readable` receives them."""

    def _on_readable(self) -> None:
        self._worker_end.receive_waiting(self._let_in, self._obey, self._make_room)

    def _let_in(self, sock: Socket, address: Any) -> bool:
        sock.setblocking(False)
        return not self.is_closing and self.add_connection(sock, address)

    def _obey(self, order: Order) -> None:
        self._has_to_stop.set()
        if order is Order.QUIT:
            self._loop.remove_reader(self._worker_end.fileno())
            self._has_to_quit.set()

    def connection_closed(self) -> None:
        """Stop counting a connection that was closed, here and in the supervisor."""
        super().connection_closed()
        self._worker_end.connection_closed()
