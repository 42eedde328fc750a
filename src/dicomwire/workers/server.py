"""A server with worker processes, as the program that starts it sees it.

The threaded and the asyncio face each define what a worker does and how the program waits.
`supervisor` starts the processes.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

from dicomwire.protocol.context import PresentationContext
from dicomwire.session.admission import AssociationLimits
from dicomwire.session.entity import Entity
from dicomwire.session.listening import listen
from dicomwire.workers.supervisor import Serve, WorkerProcesses, check_platform
from dicomwire.workers.worker_end import Worker, WorkerEnd

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

        def forget() -> None:
            abandon()
            ae.forget_parent()

        def serve_within(worker_end: WorkerEnd) -> None:
            with worker_context() if worker_context is not None else nullcontext():
                serve(worker_end)

        settings = ae.settings
        self._processes = WorkerProcesses(
            *(listener, serve_within, forget, lambda: ae.forget_server(self)),
            count=workers,
            ceilings=AssociationLimits.of(settings),
            drain_timeout=settings.drain_timeout,
        )

    @property
    def workers(self) -> list[Worker]:
        """The running worker processes."""
        return self._processes.workers

    @property
    def restarts(self) -> int:
        """How many workers died and were replaced."""
        return self._processes.restarts


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
                self._processes.wait_stopped()
        except _Terminated:
            self.drain()
            signal.raise_signal(signal.SIGTERM)

    def shutdown(self) -> None:
        """Stop listening; peers that have connected may still request an association, at once.

        Running associations continue as long as this process lives.
        """
        self._processes.stop()

    server_close = shutdown

    def drain(self, timeout: float | None = None) -> None:
        """Stop listening, and wait until all associations have ended.

        Peers that have connected before may still request one, at once.

        Parameters
        ----------
        timeout : float, optional
            Seconds after which they are aborted; default `Settings.drain_timeout`.
        """
        self._processes.stop(self.ae.settings.drain_timeout if timeout is None else timeout)
        self._processes.wait_ended()

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
