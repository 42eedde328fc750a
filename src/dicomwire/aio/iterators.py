"""Asynchronous iterators over the responses to a query or retrieval, and the results of C-STOREs.

`session.iterating` and `bulk.pipeline` have what they share with those of the threaded face.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Self

from pydicom.dataset import Dataset

from dicomwire.bulk.pipeline import ResultReader, Sent
from dicomwire.protocol.command import Message
from dicomwire.session.iterating import ResponseReader
from dicomwire.session.requests import Requesting


class Responses(ResponseReader, AsyncIterator[tuple[Dataset, Dataset | None]]):
    """An asynchronous iterator over the responses to a C-FIND, C-GET or C-MOVE.

    Each is a pair of the status (with the sub-operation counts) and the Identifier or None. If you
    stop before the last, call `aclose`; the peer continues the operation until you cancel it.
    """

    def __init__(self, association: Requesting, request: Message, identifier: Dataset) -> None:
        super().__init__(association, request)
        self._identifier = identifier
        self._has_begun = False

    async def begin(self) -> None:
        """Send the request now, instead of when the first response is awaited."""
        if not self._has_begun:
            self._has_begun = True
            self._operation = await self._association.query(self._request, self._identifier)

    async def __anext__(self) -> tuple[Dataset, Dataset | None]:
        await self.begin()
        operation = self._operation
        if operation is None:
            raise StopAsyncIteration
        try:
            incoming = await self._wait(operation)
        except BaseException:
            self._give_up()
            raise
        return self._result(incoming)

    async def aclose(self) -> None:
        """Discard the remaining responses; the peer continues the operation."""
        self._has_begun = True  # a request that was not sent is not sent any more
        self._give_up()


class Sending(ResultReader, AsyncIterator[Sent]):
    """An asynchronous iterator that sends objects and yields their results.

    If you stop before the last, call `aclose`; the peer may still store objects that were sent.
    """

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
