"""The application entity of the asyncio face: requests associations, and starts servers.

`session.entity` has its titles, contexts and settings.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Coroutine, Generator, Sequence
from functools import partial
from typing import Any, Generic, Protocol, Self, TypeVar, overload

from dicomwire.aio.association import Association
from dicomwire.aio.handlers import AsyncHandlers
from dicomwire.aio.server import AssociationServer
from dicomwire.aio.worker import SupervisedServer, start_workers
from dicomwire.events import EventHandlerType
from dicomwire.protocol.context import PresentationContext
from dicomwire.session.base import ReceiveTo
from dicomwire.session.entity import Entity
from dicomwire.session.listening import listen
from dicomwire.session.target import Target
from dicomwire.workers.server import WorkerContext


class _Managed(Protocol):
    async def __aenter__(self) -> Self: ...

    async def __aexit__(self, kind: Any, error: Any, trace: Any) -> None: ...


T = TypeVar("T", bound=_Managed)


class Opening(Generic[T]):
    """An association or server to be opened: by `await`, or by `async with`, which also closes it.

    ``assoc = await ae.associate(…)`` and ``async with ae.associate(…) as assoc`` both work.
    """

    def __init__(self, begin: Callable[[], Coroutine[Any, Any, T]]) -> None:
        self._begin = begin
        self._opened: T | None = None

    def __await__(self) -> Generator[Any, Any, T]:
        return self._begin().__await__()

    async def __aenter__(self) -> T:
        self._opened = await self._begin()
        return await self._opened.__aenter__()

    async def __aexit__(self, kind: Any, error: Any, trace: Any) -> None:
        assert self._opened is not None
        await self._opened.__aexit__(kind, error, trace)


class ApplicationEntity(Entity[Association, Opening[Association]]):
    """A DICOM application entity in an asyncio program.

    Handlers may be coroutine functions, which are awaited, or asynchronous generators; plain
    functions are called on a thread of the loop's executor. Handlers of notifications are called
    in order: plain functions on the event loop, so that they must be quick.

    Parameters
    ----------
    ae_title : str
        Its AE title, 1 to 16 ASCII characters.
    settings : Settings, optional
        Limits, deadlines and switches for future associations and servers.
    """

    association_class = Association
    handlers_class = AsyncHandlers

    def _request(
        self, make: Callable[[], Association], target: Target, called: str
    ) -> Opening[Association]:
        async def begin() -> Association:
            association = make()
            await association.request(target, called)
            return association

        return Opening(begin)

    @overload
    def start_server(
        self,
        address: tuple[Any, ...],
        ssl_context: ssl.SSLContext | None = None,
        evt_handlers: Sequence[EventHandlerType] | None = None,
        ae_title: str | None = None,
        contexts: list[PresentationContext] | None = None,
        receive_to: ReceiveTo | None = None,
        *,
        workers: None = None,
    ) -> Opening[AssociationServer]: ...

    @overload
    def start_server(
        self,
        address: tuple[Any, ...],
        ssl_context: ssl.SSLContext | None = None,
        evt_handlers: Sequence[EventHandlerType] | None = None,
        ae_title: str | None = None,
        contexts: list[PresentationContext] | None = None,
        receive_to: ReceiveTo | None = None,
        *,
        workers: int,
        worker_context: WorkerContext | None = None,
    ) -> Opening[SupervisedServer]: ...

    def start_server(
        self,
        address: tuple[Any, ...],
        ssl_context: ssl.SSLContext | None = None,
        evt_handlers: Sequence[EventHandlerType] | None = None,
        ae_title: str | None = None,
        contexts: list[PresentationContext] | None = None,
        receive_to: ReceiveTo | None = None,
        *,
        workers: int | None = None,
        worker_context: WorkerContext | None = None,
    ) -> Opening[AssociationServer] | Opening[SupervisedServer]:
        """Accept associations.

        Parameters
        ----------
        address : tuple
            (host, port) to listen on: an empty host means all interfaces, port 0 any free port.
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
            sink, whose `write` may be a coroutine function. A handler of evt.EVT_C_STORE is not
            needed then.
        workers : int, optional
            Serve in that many processes, which are forked when it is awaited and run event loops
            of their own, instead of in this one. The handlers run there, with copies of the
            objects that they refer to.
        worker_context : callable, optional
            Returns a context manager that each worker enters before it serves, and leaves at its
            end: for what must be opened after the fork, such as connections to a database.

        Returns
        -------
        Opening
            Await it, or enter it by ``async with``, for the listening AssociationServer, or
            SupervisedServer with `workers`.

        Raises
        ------
        ValueError
            When no context is supported, or a context has only one of the two roles.
        OSError
            When awaited: listening on the address fails.
        RuntimeError
            When awaited: this platform cannot have workers.
        """
        supported = self._to_support(contexts)
        title = self._served_title(ae_title)

        def arguments() -> tuple[Any, ...]:
            return title, supported, ssl_context, self._handlers(evt_handlers), receive_to

        async def begin() -> AssociationServer:
            server = AssociationServer(self, listen(address), *arguments())
            server.open()
            self._servers.append(server)
            return server

        async def begin_workers(workers: int) -> SupervisedServer:
            server = start_workers(self, address, arguments(), workers, worker_context)
            self._servers.append(server)
            return server

        if workers is None:
            return Opening(begin)
        return Opening(partial(begin_workers, workers))

    def forget_parent(self) -> None:
        """Forget the associations and servers of the parent process, after a fork."""
        for server in self._servers:
            if isinstance(server, AssociationServer):
                server.socket.close()
        super().forget_parent()

    async def shutdown(self) -> None:
        """Abort all associations and close all servers."""
        for server in list(self._servers):
            await server.close(0)
        associations = self.active_associations
        for association in associations:
            association.abort()
        await asyncio.gather(*(association.cancel() for association in associations))


AE = ApplicationEntity
