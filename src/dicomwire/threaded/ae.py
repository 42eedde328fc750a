"""The application entity of the threaded face: requests associations, and starts servers.

`session.entity` has its titles, contexts and settings.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeVar, overload

from dicomwire.events import EventHandlerType
from dicomwire.protocol.context import PresentationContext
from dicomwire.session.base import ReceiveTo
from dicomwire.session.entity import Entity
from dicomwire.session.target import Target
from dicomwire.threaded.association import Association
from dicomwire.threaded.server import AssociationServer

if TYPE_CHECKING:
    from dicomwire.workers.server import SupervisedServer, WorkerContext

_Server = TypeVar("_Server", bound=AssociationServer)


class ApplicationEntity(Entity[Association, Association]):
    """A DICOM application entity, which requests associations, serves them, or both.

    Parameters
    ----------
    ae_title : str
        Its AE title, 1 to 16 ASCII characters.
    settings : Settings, optional
        Limits, deadlines and switches for future associations and servers.
    """

    association_class = Association

    # -- associations -----------------------------------------------------------------------------

    def _request(self, make: Callable[[], Association], target: Target, called: str) -> Association:
        association = make()
        association.request(target, called)
        return association

    # -- servers ----------------------------------------------------------------------------------

    @overload
    def make_server(
        self,
        address: tuple[Any, ...],
        ae_title: str | None = None,
        contexts: list[PresentationContext] | None = None,
        ssl_context: ssl.SSLContext | None = None,
        evt_handlers: Sequence[EventHandlerType] | None = None,
        server_class: None = None,
        **kwargs: Any,
    ) -> AssociationServer: ...

    @overload
    def make_server(
        self,
        address: tuple[Any, ...],
        ae_title: str | None = None,
        contexts: list[PresentationContext] | None = None,
        ssl_context: ssl.SSLContext | None = None,
        evt_handlers: Sequence[EventHandlerType] | None = None,
        *,
        server_class: type[_Server],
        **kwargs: Any,
    ) -> _Server: ...

    def make_server(
        self,
        address: tuple[Any, ...],
        ae_title: str | None = None,
        contexts: list[PresentationContext] | None = None,
        ssl_context: ssl.SSLContext | None = None,
        evt_handlers: Sequence[EventHandlerType] | None = None,
        server_class: type[_Server] | None = None,
        **kwargs: Any,
    ) -> _Server | AssociationServer:
        """Return a server that listens on `address`; see `start_server`.

        Parameters
        ----------
        server_class : type, optional
            A subclass of `AssociationServer`, which is given the other keyword arguments.
        """
        supported = self._to_support(contexts)
        server = (server_class or AssociationServer)(
            self,
            address,
            self._served_title(ae_title),
            supported,
            ssl_context,
            self._handlers(evt_handlers),
            **kwargs,
        )
        with self._lock:
            self._servers.append(server)
        return server

    @overload
    def start_server(
        self,
        address: tuple[Any, ...],
        block: Literal[True] = True,
        ssl_context: ssl.SSLContext | None = None,
        evt_handlers: Sequence[EventHandlerType] | None = None,
        ae_title: str | None = None,
        contexts: list[PresentationContext] | None = None,
        receive_to: ReceiveTo | None = None,
        workers: int | None = None,
    ) -> None: ...

    @overload
    def start_server(
        self,
        address: tuple[Any, ...],
        block: Literal[False],
        ssl_context: ssl.SSLContext | None = None,
        evt_handlers: Sequence[EventHandlerType] | None = None,
        ae_title: str | None = None,
        contexts: list[PresentationContext] | None = None,
        receive_to: ReceiveTo | None = None,
        workers: None = None,
    ) -> AssociationServer: ...

    @overload
    def start_server(
        self,
        address: tuple[Any, ...],
        block: Literal[False],
        ssl_context: ssl.SSLContext | None = None,
        evt_handlers: Sequence[EventHandlerType] | None = None,
        ae_title: str | None = None,
        contexts: list[PresentationContext] | None = None,
        receive_to: ReceiveTo | None = None,
        *,
        workers: int,
    ) -> SupervisedServer: ...

    @overload
    def start_server(
        self,
        address: tuple[Any, ...],
        block: bool = True,
        ssl_context: ssl.SSLContext | None = None,
        evt_handlers: Sequence[EventHandlerType] | None = None,
        ae_title: str | None = None,
        contexts: list[PresentationContext] | None = None,
        receive_to: ReceiveTo | None = None,
        workers: None = None,
    ) -> AssociationServer | None: ...

    @overload
    def start_server(
        self,
        address: tuple[Any, ...],
        block: bool = True,
        ssl_context: ssl.SSLContext | None = None,
        evt_handlers: Sequence[EventHandlerType] | None = None,
        ae_title: str | None = None,
        contexts: list[PresentationContext] | None = None,
        receive_to: ReceiveTo | None = None,
        *,
        workers: int,
        worker_context: WorkerContext | None = None,
    ) -> SupervisedServer | None: ...

    def start_server(
        self,
        address: tuple[Any, ...],
        block: bool = True,
        ssl_context: ssl.SSLContext | None = None,
        evt_handlers: Sequence[EventHandlerType] | None = None,
        ae_title: str | None = None,
        contexts: list[PresentationContext] | None = None,
        receive_to: ReceiveTo | None = None,
        workers: int | None = None,
        *,
        worker_context: WorkerContext | None = None,
    ) -> AssociationServer | SupervisedServer | None:
        """Accept associations.

        Parameters
        ----------
        address : tuple
            (host, port) to listen on: an empty host means all interfaces, port 0 any free port.
        block : bool
            True to serve until `shutdown` or KeyboardInterrupt; false to return at once.
        ssl_context : ssl.SSLContext, optional
            For TLS.
        evt_handlers : list, optional
            (event, handler) or (event, handler, args) to bind.
        ae_title : str, optional
            The title of this server, instead of that of the AE.
        contexts : list of PresentationContext, optional
            The contexts to support, instead of `supported_contexts`.
        receive_to : str, Path or callable, optional
            Where to write objects received by C-STORE, while they arrive: a folder, in which file
            names are generated, or a function that returns the path for a C-STORE request, or a
            `sinks.Sink` to write it to. A handler of evt.EVT_C_STORE is not needed then.
        workers : int, optional
            Serve in that many processes, which are forked at once, instead of in this one. The
            handlers run there, with copies of the objects that they refer to.
        worker_context : callable, optional
            Returns a context manager that each worker enters before it serves, and leaves at its
            end: for what must be opened after the fork, such as connections to a database.

        Returns
        -------
        AssociationServer, SupervisedServer (with `workers`), or None
            None if `block` is true.

        Raises
        ------
        ValueError
            When no context is supported, or a context has only one of the two roles.
        OSError
            When listening on the address fails.
        RuntimeError
            When this platform cannot have workers, or their supervisor died.
        """
        server: AssociationServer | SupervisedServer
        if workers is None:
            server = self.make_server(
                address, ae_title, contexts, ssl_context, evt_handlers, receive_to=receive_to
            )
        else:
            from dicomwire.threaded.worker import start_workers  # few servers have them

            title, supported = self._served_title(ae_title), self._to_support(contexts)
            handlers = self._handlers(evt_handlers)
            arguments = (title, supported, ssl_context, handlers, receive_to)
            server = start_workers(self, address, arguments, workers, worker_context)
            with self._lock:
                self._servers.append(server)
        if not block:
            return server
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            pass
        finally:
            server.shutdown()
        return None

    def shutdown(self) -> None:
        """Abort all associations and shut all servers down."""
        with self._lock:
            servers = list(self._servers)
        for server in servers:
            if isinstance(server, AssociationServer):
                server.shutdown()
            else:
                server.drain(0)
        associations = self.active_associations
        for association in associations:
            association.abort(block=False)
        deadline = time.monotonic() + self._settings.close_timeout
        for association in associations:
            association.join(max(deadline - time.monotonic(), 0))


AE = ApplicationEntity
