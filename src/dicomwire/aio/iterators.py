"""Asynchronous iterators over the responses to a query or retrieval, and the results of C-STOREs.

`services.scu` and `bulk.pipeline` interpret the responses.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Protocol, Self

from pydicom.dataset import Dataset

from dicomwire.aio.port import AioPort
from dicomwire.bulk.pipeline import Pipeline, Sent
from dicomwire.errors import AssociationFailure
from dicomwire.protocol.command import Message
from dicomwire.services import results, scu
from dicomwire.services.port import Operation
from dicomwire.settings import Settings


class Requestor(Protocol):
    """The association that sent the requests, as the iterators see it."""

    _port: AioPort

    @property
    def settings(self) -> Settings:
        """Limits, deadlines and switches of the association."""

    @property
    def peer_gone(self) -> bool:
        """Whether the association has ended."""

    async def query(self, request: Message, identifier: Dataset) -> Operation:
        """Send a C-FIND, C-GET or C-MOVE request; return the operation, with its responses."""

    def failed(self, failure: AssociationFailure) -> None:
        """End the association because of `failure`."""

    def abort(self) -> None:
        """Abort the association."""

    def call_soon(self, action: Callable[[], None]) -> None:
        """Have the event loop call `action`."""


class Responses(AsyncIterator[tuple[Dataset, Dataset | None]]):
    """An asynchronous iterator over the responses to a C-FIND, C-GET or C-MOVE.

    Each is a pair of the status (with the sub-operation counts) and the Identifier or None. If you
    stop before the last, call `aclose`; the peer continues the operation until you cancel it.
    """

    def __init__(self, association: Requestor, request: Message, identifier: Dataset) -> None:
        self._association = association
        self._request = request
        self._identifier = identifier
        self._operation: Operation | None = None
        self._done = False

    async def begin(self) -> None:
        """Send the request now, instead of when the first response is awaited."""
        if self._operation is not None or self._done:
            return
        self._done = True
        self._operation = await self._association.query(self._request, self._identifier)
        self._done = False

    async def __anext__(self) -> tuple[Dataset, Dataset | None]:
        if self._done:
            raise StopAsyncIteration
        association = self._association
        await self.begin()
        assert self._operation is not None
        try:
            incoming = await self._operation.response()
        except asyncio.CancelledError:
            self._done = True
            association.abort()
            raise
        except AssociationFailure as failure:
            self._done = True
            association.failed(failure)
            raise
        if scu.is_last(self._request, incoming.message):
            await self.aclose()
        return results.query_result(self._request, incoming, association.settings.limits)

    async def aclose(self) -> None:
        """Discard the remaining responses; the peer continues the operation."""
        self._done = True
        self._give_up()

    def _give_up(self) -> None:
        operation, self._operation = self._operation, None
        if operation is not None:
            operation.abandon()
            self._association._port.unhold()

    def __del__(self) -> None:
        if self._operation is not None and not self._association.peer_gone:
            self._association.call_soon(self._give_up)


class Sending(AsyncIterator[Sent]):
    """An asynchronous iterator that sends objects and yields their results.

    If you stop before the last, call `aclose`; the peer may still store objects that were sent.
    """

    def __init__(self, association: Requestor, pipeline: Pipeline) -> None:
        self._association = association
        self._pipeline: Pipeline | None = pipeline

    async def __anext__(self) -> Sent:
        pipeline = self._pipeline
        if pipeline is None:
            raise StopAsyncIteration
        try:
            sent = pipeline.at_hand() or await pipeline.next()
        except BaseException:
            self._give_up()
            raise
        if sent is None:
            self._give_up()
            raise StopAsyncIteration
        return sent

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Send no more objects; the peer may still store those that were sent."""
        self._give_up()

    def _give_up(self) -> None:
        pipeline, self._pipeline = self._pipeline, None
        if pipeline is not None:
            pipeline.close()

    def __del__(self) -> None:
        if self._pipeline is not None and not self._association.peer_gone:
            self._association.call_soon(self._give_up)
