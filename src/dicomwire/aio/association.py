"""The association of the asyncio face: sends requests, awaits their responses, raises failures.

`session.base` has the part that both faces share.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from typing import Any, Self

from pydicom.dataset import Dataset

from dicomwire.aio.channel import Channel
from dicomwire.aio.iterators import Responses, Sending
from dicomwire.aio.port import AioPort
from dicomwire.aio.sinks import fed
from dicomwire.bulk.pipeline import Items, Pipeline
from dicomwire.data.sinks import Sink
from dicomwire.errors import AssociationFailure
from dicomwire.protocol.command import Message
from dicomwire.protocol.states import Role
from dicomwire.services import results, scu
from dicomwire.services.port import Incoming, Storer
from dicomwire.session import acceptance
from dicomwire.session.dimse_services import DimseServices, P
from dicomwire.session.entity import Entity
from dicomwire.session.intake import LocalAbort
from dicomwire.session.requests import ObjectStorer
from dicomwire.session.target import Target
from dicomwire.settings import Settings

_LAST_NOTIFICATIONS = 1.0
"""Seconds for the handlers of the last notifications, before `cancel` cancels them."""


class Association(
    DimseServices[
        Coroutine[Any, Any, Dataset],
        Coroutine[Any, Any, tuple[Dataset, Dataset | None]],
        Responses,
        Sending,
        Coroutine[Any, Any, None],
    ]
):
    """An association with a peer; made by `AE.associate`, or by a server for each that it accepts.

    As an asynchronous context manager it is released at the end of the block, or aborted after an
    exception. A task that is cancelled while it sends or awaits a response aborts the association.
    """

    _may_await = True
    _ae: Entity[Any, Any]
    _port: AioPort

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._last_notification: asyncio.Task[None] | None = None  # the newest of `_notifications`
        self._notifications: set[asyncio.Task[None]] = set()  # running notification handlers

    def _make_port(self, role: Role, settings: Settings) -> AioPort:
        return AioPort(self, role, settings)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: Any, error: Any, trace: Any) -> None:
        if kind is None:
            await self.release()
        else:
            self.abort()
            await self.join()

    # --- Its beginning ---

    async def request(self, target: Target, called_ae_title: str) -> None:
        """Connect and request the association.

        Raises
        ------
        AssociationFailure
            AssociationRejected, AssociationTimeout, ConnectionLost … with the stage and the reason.
        """
        port = self._port
        port.target = target
        await self.begin(called_ae_title)
        if self.is_established:
            port.begin_serving()
        elif self.failure is not None:
            await self._until_notified()
            raise self.failure

    def start_serving(self, channel: Channel) -> None:
        """Begin as the acceptor on a new connection, before the peer's request is known."""
        self._port.open(channel, channel.peer)
        self.take_over()

    async def answer(self, received: memoryview, policy: acceptance.Policy) -> None:
        """Answer the `received` association request, and serve the requests that follow."""
        self._port.received(received)
        await self.answer_request(policy)

    def start_as_agreed(self, channel: Channel) -> None:
        """Answer a request on a new connection as was agreed on an earlier one."""
        port = self._port
        try:
            port.open(channel, channel.peer)
            self.begin_as_agreed()
        except AssociationFailure as failure:
            port.fail(failure)
        else:
            port.begin_serving()

    # --- Its end ---

    def check_established(self) -> None:
        """Raise an exception if the association has ended.

        Raises
        ------
        AssociationFailure
            When the peer or an error ended it.
        LocalProtocolError
            When the program released or aborted it.
        """
        if self.failure is not None and not isinstance(self.failure, LocalAbort):
            raise self.failure
        super().check_established()

    async def release(self) -> None:
        """Release the association (PS3.8 Section 7.2). Does nothing if the program aborted it.

        Raises
        ------
        AssociationFailure
            When the peer or an error ended the association otherwise.
        """
        await self.end()
        await self._until_notified()
        if self.failure is not None and not isinstance(self.failure, LocalAbort):
            raise self.failure

    async def end(self) -> None:
        """Release the association, after the requests of other tasks have ended."""
        if self.is_established:
            try:
                with contextlib.suppress(AssociationFailure):
                    await self._port.until_unused()
                await super().end()
            except asyncio.CancelledError:
                self.abort()
                raise

    def release_soon(self) -> None:
        """Start releasing the association, and do not wait for the end."""
        self.run_notification(self.end())

    def abort(self) -> None:
        """Abort the association, at any moment and from any thread."""
        self._port.abort()

    async def join(self) -> None:
        """Wait until the association is over, and its notification handlers have ended."""
        await self._port.until_ended(None, "release")
        await self._until_notified()

    async def drain(self) -> None:
        """Wait until the received requests are served, then abort the association."""
        await self._port.until_quiet()
        self.abort()
        await self.join()

    async def cancel(self) -> None:
        """Abort the association, and cancel its handlers; those of the end have a second."""
        self.abort()
        task = self._port.stop_serving()
        if task is not None:
            await asyncio.wait([task])
        try:
            async with asyncio.timeout(_LAST_NOTIFICATIONS):
                await self._until_notified()
        except TimeoutError:
            for notification in self._notifications:
                notification.cancel()
            await self._until_notified()

    def watch(self, serving: asyncio.Task[None]) -> None:
        """Have the server wait for a task that serves requests, also if the association is over."""
        if self.server is not None:
            self.server.watch(serving)

    # --- Handlers that are coroutine functions ---

    def run_notification(
        self, handler: Coroutine[Any, Any, Any], failed: Callable[[], None] | None = None
    ) -> None:
        """Run the coroutine of a notification handler, after those of earlier notifications."""
        notification = self._port.loop.create_task(_after(self._last_notification, handler, failed))
        notification.add_done_callback(lambda _: handler.close())  # if cancelled before it began
        self._last_notification = notification
        self._notifications.add(notification)
        notification.add_done_callback(self._notifications.discard)

    async def _until_notified(self) -> None:
        while self._last_notification is not None and not self._last_notification.done():
            if self._last_notification is asyncio.current_task():
                return
            await asyncio.wait([self._last_notification])

    # --- Received datasets ---

    def open_sink(self, incoming: Incoming) -> Sink:
        """Return the sink for the dataset of `incoming`."""
        return fed(super().open_sink(incoming), self._port.hold_back, self.between)

    async def storer_to(self, title: str, host: str, port: int, options: dict[str, Any]) -> Storer:
        """Return a storer that sends retrieved objects to another AE (C-MOVE)."""
        other = await self._ae.associate(host, port, **{"ae_title": title, **options})
        return ObjectStorer(other, self.requestor.ae_title)

    # --- The DIMSE services ---

    async def _status(
        self, perform: Callable[P, Coroutine[Any, Any, Message]], *args: P.args, **kwargs: P.kwargs
    ) -> Dataset:
        return results.status_dataset(await perform(*args, **kwargs))

    async def _reply(
        self, request: Message, meta_uid: str | None, dataset: Dataset | None
    ) -> tuple[Dataset, Dataset | None]:
        return await self.normalized(request, meta_uid, dataset)

    def _responses(self, request: Message, identifier: Dataset) -> Responses:
        return Responses(self, request, identifier)

    def _results(self, items: Items, priority: int) -> Sending:
        return Sending(Pipeline(self, items, priority))

    async def _cancel(
        self, message_id: int, context_id: int | None, query_model: str | None
    ) -> None:
        context_id = self.cancel_context(context_id, query_model)
        await self._port.send(context_id, scu.cancel_request(message_id))


async def _after(
    before: asyncio.Task[None] | None,
    handler: Coroutine[Any, Any, Any],
    failed: Callable[[], None] | None,
) -> None:
    if before is not None and not before.done():
        await asyncio.wait([before])
    try:
        await handler
    except Exception:
        if failed is None:
            raise
        failed()
