"""Iterators over the responses to a query or a retrieval, and over the results of many C-STOREs.

`session.iterating` and `bulk.pipeline` have what they share with those of the asyncio face.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Self

from dicomwire.bulk.pipeline import ResultReader, Sent
from dicomwire.data.blocking import run_blocking
from dicomwire.errors import AssociationFailure
from dicomwire.protocol.command import Message
from dicomwire.session.iterating import ResponseReader
from dicomwire.session.operation import Operation
from dicomwire.session.requests import Requesting

if TYPE_CHECKING:
    from pydicom.dataset import Dataset


class Responses(ResponseReader, Iterator["tuple[Dataset, Dataset | None]"]):
    """An iterator over the responses to a C-FIND, C-GET or C-MOVE, which waits for each.

    Each is a pair of the status (with the sub-operation counts) and the Identifier or None. If
    the association ends, the last pair is an empty status and None. The peer's requests are served
    only while the iterator waits, until the last response is taken or `close` is called.
    """

    def __init__(
        self, association: Requesting, request: Message, operation: Operation | None
    ) -> None:
        super().__init__(association, request)
        self._operation = operation
        self._is_lost = operation is None  # the last pair, of a lost association, is to follow

    def __next__(self) -> tuple[Dataset, Dataset | None]:
        operation = self._operation
        if operation is not None:
            try:
                # Taking a response from the queue does not need the turn.
                is_there = operation.responses
                incoming = operation.take() if is_there else run_blocking(self._wait(operation))
            except AssociationFailure:
                self._give_up()
                return self._status_of(None), None
            return self._result(incoming)
        if self._is_lost:
            self._is_lost = False
            return self._status_of(None), None
        raise StopIteration

    def close(self) -> None:
        """Discard the remaining responses; the peer continues the operation."""
        self._is_lost = False
        self._give_up()


class Sending(ResultReader, Iterator[Sent]):
    """An iterator that sends objects and yields their results; a context manager that closes it.

    The peer's requests are served only while the iterator waits, until the last result is taken or
    `close` is called.
    """

    def __next__(self) -> Sent:
        pipeline = self._pipeline
        if pipeline is None:
            raise StopIteration
        try:
            sent = pipeline.usual() or pipeline.at_hand() or run_blocking(pipeline.next())
        except BaseException:
            self._give_up()
            raise
        if sent is None:
            self._give_up()
            raise StopIteration
        return sent

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Send no more objects; the peer may still store those that were sent."""
        self._give_up()
