"""A server with worker processes, as the program that starts it sees it.

The threaded and the asyncio face each define what a worker does and how the program waits.
`supervisor` starts the processes.
"""

from __future__ import annotations

import os
import signal
import socket
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from functools import partial
from math import inf
from typing import Any

from dicomwire.errors import LocalProtocolError
from dicomwire.logs import LOGGER
from dicomwire.protocol.context import PresentationContext
from dicomwire.session.admission import AssociationLimits
from dicomwire.session.entity import Entity
from dicomwire.session.listening import listen
from dicomwire.workers.forking import fork
from dicomwire.workers.supervisor import STOPPED, Serve, Supervisor, check_platform
from dicomwire.workers.worker_end import SharedCounts, Worker, WorkerEnd

WorkerContext = Callable[[], AbstractContextManager[object]]
"""Returns a context manager that a worker enters before it serves and leaves at its end."""


class Supervised:
    """Listens on one address and lets worker processes serve there, on either face.

    Handlers run in the workers, on copies of the objects they refer to. This process sees only
    the counts in `workers`.

    Attributes
    ----------
    ae : ApplicationEntity
    ae_title : str
        The AE title of the server; the AE may require that requestors call it.
    contexts : list of PresentationContext
        The supported presentation contexts.
    server_address : tuple
        The address that the server listens on; if port 0 was asked for, with the actual port.
    """

    def __init__(
        self,
        ae: Entity[Any, Any],
        address: tuple[Any, ...],
        ae_title: str,
        contexts: list[PresentationContext],
        *,
        workers: int,
        serve: Serve,
        abandon: Callable[[], None],
        worker_context: WorkerContext | None,
    ) -> None:
        if workers < 1:
            raise ValueError(f"workers is 1 or more, not {workers}")
        check_platform()
        self.ae = ae
        self.ae_title = ae_title
        self.contexts = contexts
        listener = listen(address)
        self.server_address: tuple[Any, ...] = listener.getsockname()

        def serve_within(worker_end: WorkerEnd) -> None:
            with worker_context() if worker_context is not None else nullcontext():
                serve(worker_end)

        settings = ae.settings
        ceilings = AssociationLimits.of(settings)
        self._counts = SharedCounts(workers, ceilings.total)
        self._count = workers
        self._control, control = socket.socketpair()
        # Both are set by the thread of `_listen`: when the listener is closed, and at the end.
        self._stopped, self._ended = threading.Event(), threading.Event()
        self._is_lost = False
        supervisor = Supervisor(
            *(listener, control, self._counts, serve_within, ceilings, settings.drain_timeout)
        )

        def supervise() -> None:
            self._control.close()
            abandon()
            ae.forget_parent()
            supervisor.run(workers)

        try:
            self._pid = fork(supervise)
        except BaseException:
            self._control.close()
            self._counts.file.close()
            raise
        finally:
            control.close()
            listener.close()
        _all.add(self)
        threading.Thread(target=self._listen, name="dicomwire-supervisor", daemon=True).start()

    @property
    def workers(self) -> list[Worker]:
        """The running worker processes."""
        found = []
        for number in range(self._count):
            get = partial(self._counts.get, number)
            if pid := get(SharedCounts.PID):
                columns = SharedCounts.CONNECTIONS, SharedCounts.ASSOCIATIONS, SharedCounts.RESTARTS
                found.append(Worker(pid, *map(get, columns)))
        return found

    @property
    def restarts(self) -> int:
        """How many workers died and were replaced."""
        return self._counts.total(SharedCounts.RESTARTS)

    def _stop(self, timeout: float = inf) -> None:
        """Stop listening; abort associations that still run after `timeout` seconds.

        It returns when the listener is closed. A later call can shorten the time.
        """
        with suppress(OSError):  # the supervisor has ended
            self._control.send(b"%r\n" % timeout)
        self._stopped.wait()

    def _wait_stopped(self) -> None:
        """Wait until the listener is closed; LocalProtocolError if the supervisor died."""
        self._stopped.wait()
        if self._is_lost:
            raise LocalProtocolError("the supervisor of the workers died")

    def _listen(self) -> None:
        """Log the lines that the supervisor sends; then wake those who wait for the end."""
        rest = b""
        with suppress(OSError):
            while data := self._control.recv(4096):
                *lines, rest = (rest + data).split(b"\n")
                for line in lines:
                    if line == STOPPED:
                        self._stopped.set()
                    else:
                        level, _, text = line.partition(b" ")
                        LOGGER.log(int(level), "%s", text.decode())
        with suppress(ChildProcessError):  # the program reaps all children itself
            os.waitpid(self._pid, 0)
        if not self._stopped.is_set():
            self._is_lost = True
            LOGGER.error("The supervisor of the workers died; the server has stopped")
        for number in range(self._count):
            self._counts.set(number, SharedCounts.PID, 0)
        self._control.close()
        self._counts.file.close()
        self.ae.forget_server(self)
        self._stopped.set()
        self._ended.set()


class SupervisedServer(Supervised):
    """A server with worker processes; see `Supervised`, and `AE.start_server`.

    As a context manager it shuts down at the end of the block.
    """

    def serve_forever(self) -> None:
        """Wait until the server is shut down.

        SIGTERM drains the server and then ends the program, if the main thread calls this and the
        program does not handle SIGTERM itself.

        Raises
        ------
        RuntimeError
            If the process that supervises the workers died.
        """
        try:
            with _sigterm_raised():
                self._wait_stopped()
        except _Terminated:
            self.drain()
            signal.raise_signal(signal.SIGTERM)

    def shutdown(self) -> None:
        """Stop listening; peers that have connected may still request an association, at once.

        Running associations continue as long as this process lives.
        """
        self._stop()

    server_close = shutdown

    def drain(self, timeout: float | None = None) -> None:
        """Stop listening, and wait until all associations have ended.

        Peers that have connected before may still request one, at once.

        Parameters
        ----------
        timeout : float, optional
            Seconds after which they are aborted; default `Settings.drain_timeout`.
        """
        self._stop(self.ae.settings.drain_timeout if timeout is None else timeout)
        self._ended.wait()

    def __enter__(self) -> SupervisedServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()


class _Terminated(BaseException):
    """The process received SIGTERM."""


@contextmanager
def _sigterm_raised() -> Iterator[None]:
    """Raise `_Terminated` in the block on SIGTERM, unless the program handles SIGTERM itself."""
    if (
        threading.current_thread() is not threading.main_thread()
        or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
    ):
        yield
        return

    def terminate(*_: object) -> None:
        raise _Terminated

    signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


_all: weakref.WeakSet[Supervised] = weakref.WeakSet()


def _forget_parent() -> None:
    """In a fork of the program, drop its servers: they must end when the original process ends.

    A supervisor sees that end when the last copy of the caller's socket is closed.
    """
    for server in _all:
        server._control.close()
    _all.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_parent)
