"""A server whose associations are served by worker processes, as the program has it.

What a worker does is its face's, and so is how a program waits; who starts the processes is in
`supervisor`.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from dicomwire.protocol.context import PresentationContext
from dicomwire.session.admission import Ceilings
from dicomwire.session.listening import listen
from dicomwire.settings import Settings
from dicomwire.workers.seat import Worker
from dicomwire.workers.supervisor import Crew, Serve, check_platform


class _Entity(Protocol):
    """What is asked of the application entity, of either face."""

    @property
    def settings(self) -> Settings: ...
    def forget_server(self, server: Any) -> None: ...
    def forget_parent(self) -> None: ...


class Supervised:
    """Listens on one address, and has worker processes serve there, on either face.

    Handlers run in the workers, on copies of what they refer to. What can be seen from here is in
    `workers`.

    Attributes
    ----------
    ae : ApplicationEntity
    ae_title : str
        The title that requestors may have to call.
    contexts : list of PresentationContext
        What is supported.
    server_address : tuple
        The address that is listened on: with port 0 asked for, the port that was given.
    """

    def __init__(
        self,
        ae: _Entity,
        address: tuple[Any, ...],
        ae_title: str,
        contexts: list[PresentationContext],
        *,
        workers: int,
        serve: Serve,
        abandon: Callable[[], None],
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

        settings = ae.settings
        self._crew = Crew(
            *(listener, serve, forget, lambda: ae.forget_server(self)),
            count=workers,
            ceilings=Ceilings.of(settings),
            drain_timeout=settings.drain_timeout,
        )

    @property
    def workers(self) -> list[Worker]:
        """The worker processes that live now."""
        return self._crew.workers

    @property
    def restarts(self) -> int:
        """How often a worker that had died was replaced."""
        return self._crew.restarts


class SupervisedServer(Supervised):
    """A server with worker processes; see `Supervised`, and `AE.start_server`.

    As a context manager it is shut down at the end of the block.
    """

    def serve_forever(self) -> None:
        """Wait until the server is shut down.

        SIGTERM drains the server, and then ends the program, if this is called in the main thread
        and the program does not handle SIGTERM itself.

        Raises
        ------
        RuntimeError
            When the process died that supervises the workers.
        """
        try:
            with _sigterm_raised():
                self._crew.wait_stopped()
        except _Terminated:
            self.drain()
            signal.raise_signal(signal.SIGTERM)

    def shutdown(self) -> None:
        """Stop listening, and drop connections that have no association yet; others go on.

        They do so as long as this process lives.
        """
        self._crew.stop()

    server_close = shutdown

    def drain(self, timeout: float | None = None) -> None:
        """Stop listening, and wait for the end of running associations.

        Parameters
        ----------
        timeout : float, optional
            After so many seconds they are aborted; `Settings.drain_timeout` if left out.
        """
        self._crew.stop(self.ae.settings.drain_timeout if timeout is None else timeout)
        self._crew.wait_ended()

    def __enter__(self) -> SupervisedServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()


class _Terminated(BaseException):
    """SIGTERM came."""


@contextmanager
def _sigterm_raised() -> Iterator[None]:
    """Raise `_Terminated` in the block when SIGTERM comes, unless the program handles it."""
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
