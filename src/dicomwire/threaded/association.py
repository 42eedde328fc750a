"""The association of the threaded face: sends requests, and waits for their responses.

`session.base` has the part that both faces share.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterable, Callable, Coroutine, Iterable
from typing import TYPE_CHECKING, Any

from dicomwire.data.blocking import run_blocking
from dicomwire.errors import AssociationFailure, ConnectionLost
from dicomwire.protocol.command import Message
from dicomwire.protocol.states import Role
from dicomwire.services import scu
from dicomwire.services.port import Storer
from dicomwire.session import acceptance
from dicomwire.session.dimse_services import DimseServices, P
from dicomwire.session.entity import Entity
from dicomwire.session.operation import Operation
from dicomwire.session.requests import ObjectStorer
from dicomwire.session.target import Target
from dicomwire.settings import Settings
from dicomwire.threaded.connection import Connection
from dicomwire.threaded.port import ThreadedPort

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

    from dicomwire.threaded.iterators import Responses, Sending


class Association(
    DimseServices["Dataset", "tuple[Dataset, Dataset | None]", "Responses", "Sending", None]
):
    """An association with a peer; made by `AE.associate`, or by a server for each that it accepts.

    As a context manager it is released at the end of the block, or aborted after an exception.
    """

    _ae: Entity[Any, Any]
    _port: ThreadedPort

    def _make_port(self, role: Role, settings: Settings) -> ThreadedPort:
        return ThreadedPort(self, role, settings)

    def __enter__(self) -> Association:
        return self

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        if kind is None:
            self.release()
        else:
            self.abort()

    # --- Its beginning ---

    def request(self, target: Target, called_ae_title: str) -> None:
        """Connect and request the association; the flags and `failure` tell the outcome."""
        self._port.target = target
        with self._port:
            run_blocking(self.begin(called_ae_title))

    def start_serving(self, connection: Connection, on_closed: Callable[[], None]) -> None:
        """Begin as the acceptor on a new connection, before the peer's request is known."""
        with self._port as port, port.ending_on_error():
            port.open(connection, on_closed)
            self.take_over()

    def start_as_agreed(self, connection: Connection, on_closed: Callable[[], None]) -> None:
        """Answer a request on a new connection as was agreed on an earlier one."""
        with self._port as port:
            try:
                port.open(connection, on_closed)
                self.begin_as_agreed()
            except AssociationFailure as failure:
                port.fail(failure)
            except BaseException as error:
                port.crash(error)

    def abandon(self, failure: AssociationFailure) -> None:
        """Close a connection on which no association request arrived."""
        with self._port:
            self.give_up(failure)

    def answer(self, received: bytes | bytearray, policy: acceptance.Policy) -> None:
        """Answer the `received` association request, and serve the requests that follow."""
        with self._port as port, port.ending_on_error():
            port.feed(bytes(received))
            run_blocking(self.answer_request(policy))

    def respond_early(self) -> bool:
        """Send the response 0x0000 of a C-STORE now, from its handler, which then goes on.

        It never waits for the peer. Returns whether it is sent; then the result of the handler is
        not. False if it could not be sent at once, with TLS, while other requests wait, or when the
        log or a handler sees each message: then the library responds after the handler.
        """
        return self._port.respond_early()

    # --- Its end ---

    def release(self) -> None:
        """Release the association, after the calls of other threads have ended.

        Does nothing if it is not established (PS3.8 Section 7.2). In a handler of bytes, PDUs or
        state transitions (such as EVT_DATA_RECV), the release follows after the current step.
        """
        if self.is_established:
            run_blocking(self.end())

    async def end(self) -> None:
        """Release the association, with the turn."""
        with self._port as port:
            if port.is_reporting:
                port.release_wanted = True
            else:
                port.process_postponed()  # the watcher may have read that the peer is gone
                await super().end()

    def release_soon(self) -> None:
        self.release()

    def abort(self, block: bool = True) -> None:
        """Abort the association: from any thread and any handler, and at any moment.

        Parameters
        ----------
        block : bool
            Whether to wait until the association has ended, if another thread is using it.
            A handler of the same association never waits.
        """
        port = self._port
        if port.is_over:
            return
        port.abort()
        if block and not port.has_turn:
            port.ended.wait(port.settings.close_timeout)

    def kill(self) -> None:
        """End the association without waiting for anything."""
        self.abort(block=False)

    def is_alive(self) -> bool:
        """Return whether the connection is open: not before the request, and not after the end."""
        return self._open_reported and not self._port.is_ended

    def join(self, timeout: float | None = None) -> None:
        """Wait until the association is over, `timeout` seconds at most."""
        self._port.ended.wait(timeout)

    # --- The DIMSE services ---

    def _status(
        self, perform: Callable[P, Coroutine[Any, Any, Message]], *args: P.args, **kwargs: P.kwargs
    ) -> Dataset:
        from dicomwire.services.results import status_dataset

        try:
            response = run_blocking(perform(*args, **kwargs))
        except AssociationFailure:
            return status_dataset(None)
        return status_dataset(response)

    def _reply(
        self, request: Message, meta_uid: str | None, dataset: Dataset | None
    ) -> tuple[Dataset, Dataset | None]:
        from dicomwire.services.results import status_dataset

        try:
            return run_blocking(self.normalized(request, meta_uid, dataset))
        except AssociationFailure:
            return status_dataset(None), None

    def _responses(self, request: Message, identifier: Dataset) -> Responses:
        from dicomwire.threaded.iterators import Responses

        operation: Operation | None = None
        with contextlib.suppress(AssociationFailure):
            operation = run_blocking(self.query(request, identifier))
        return Responses(self, request, operation)

    def _results(self, items: Iterable[Any] | AsyncIterable[Any], priority: int) -> Sending:
        from dicomwire.bulk.pipeline import Pipeline
        from dicomwire.threaded.iterators import Sending

        return Sending(Pipeline(self, items, priority))

    def _cancel(self, message_id: int, context_id: int | None, query_model: str | None) -> None:
        context_id = self.cancel_context(context_id, query_model)
        cancel = scu.cancel_request(message_id)
        if not self._port.without_waiting(lambda: self._send_alone(context_id, cancel)):
            self._port.send_between(context_id, cancel)

    def _send_alone(self, context_id: int, message: Message) -> None:
        """Send a message that has no response."""
        try:
            run_blocking(self._port.send(context_id, message))
        except AssociationFailure as failure:
            self.failed(failure)

    async def storer_to(self, title: str, host: str, port: int, options: dict[str, Any]) -> Storer:
        """Return a storer that sends retrieved objects to another AE (C-MOVE)."""
        other = self._ae.associate(host, port, **{"ae_title": title, **options})
        if not other.is_established:
            raise other.failure or ConnectionLost("no association", stage="associate")
        return ObjectStorer(other, self.requestor.ae_title)
