"""The server in a worker process of the threaded face.

`workers` starts the processes, and has the object by which the program controls them.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from dicomwire.session.entity import Entity
from dicomwire.threaded import threads
from dicomwire.threaded.association import Association
from dicomwire.threaded.places import serve_one_at_a_time
from dicomwire.threaded.server import AssociationServer
from dicomwire.threaded.watcher import Watched, abandoning, watcher
from dicomwire.workers.server import SupervisedServer, WorkerContext
from dicomwire.workers.worker_end import Order, WorkerEnd


def start_workers(
    ae: Entity[Association, Any],
    address: tuple[Any, ...],
    arguments: tuple[Any, ...],
    workers: int,
    worker_context: WorkerContext | None,
) -> SupervisedServer:
    """Return a server with that many worker processes; see `AE.start_server`.

    `arguments` are those of `AssociationServer` after the address.
    """

    def serve(worker_end: WorkerEnd) -> None:
        serve_one_at_a_time()
        ae.use_counts(worker_end)
        worker = WorkerServer(ae, worker_end.address, *arguments, worker_end=worker_end)
        worker_end.ready()
        worker.run()

    return SupervisedServer(
        *(ae, address, *arguments[:2]),
        workers=workers,
        serve=serve,
        abandon=abandoning(),
        worker_context=worker_context,
    )


class WorkerServer(AssociationServer):
    """The server in a worker process: its connections come from the supervisor."""

    def __init__(self, *args: Any, worker_end: WorkerEnd, **kwargs: Any) -> None:
        self._worker_end = worker_end
        self._has_to_quit = False  # guarded by `_changed`, which `_obey` notifies, too
        super().__init__(*args, **kwargs)

    def run(self) -> None:
        """Serve until the supervisor orders the end."""
        self.serve_forever()
        with self._changed:  # after the order to stop: associations may end by themselves
            self._changed.wait_for(lambda: self._has_to_quit or not self._connections)
        for association in self.active_associations:
            association.abort(block=False)
        with self._changed:
            self._changed.wait_for(lambda: not self._connections, self.ae.settings.close_timeout)

    def start_listening(self, address: tuple[Any, ...]) -> None:
        self._address = address
        self._channel = _WatchedChannel(self, self._worker_end)
        watcher().add(self._channel, None)

    def stop_listening(self) -> None:
        """Nothing: the supervisor may still send the order to quit."""

    def connection_closed(self) -> None:
        self._worker_end.connection_closed()
        super().connection_closed()

    def accept(self) -> None:
        """Receive connections and orders from the supervisor (on the watcher's thread)."""
        self._worker_end.receive_waiting(self.add_connection, self._obey, self._make_room)

    def pause(self) -> None:
        """Nothing: the worker accepts no connections itself."""

    def _obey(self, order: Order) -> None:
        if order is Order.STOP:
            self.finish()
        else:
            self.shutdown()
            watcher().remove(self._channel)
            with self._changed:
                self._has_to_quit = True
                self._changed.notify_all()


class _WatchedChannel(Watched):
    """The channel from the supervisor to a worker, as the watcher sees it."""

    def __init__(self, server: WorkerServer, worker_end: WorkerEnd) -> None:
        self._server = server
        self._worker_end = worker_end

    def fileno(self) -> int:
        return self._worker_end.fileno()

    def on_ready(self) -> None:
        self._server.accept()

    def on_deadline(self) -> None:
        """Nothing: it has no deadline."""

    def on_gone(self) -> None:
        """Quit: no order can arrive any more."""
        threads.submit(partial(self._server._obey, Order.QUIT))

    def on_failure(self) -> None:
        """Nothing: stay watched, and receive the next connection."""
