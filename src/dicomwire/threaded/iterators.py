"""Iterators over the responses to a query or a retrieval, and over the results of many C-STOREs.

`services` interprets the responses; `port` waits for them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Protocol, Self

from dicomwire.bulk.pipeline import Pipeline, Sent
from dicomwire.data.blocking import run_blocking
from dicomwire.errors import AssociationFailure
from dicomwire.protocol.command import Message
from dicomwire.services import scu
from dicomwire.services.port import Incoming, Operation
from dicomwire.settings import Settings
from dicomwire.threaded.port import ThreadedPort
from dicomwire.threaded.watcher import watcher

if TYPE_CHECKING:
    from pydicom.dataset import Dataset


class Requestor(Protocol):
    """The association that sent the requests, as the iterators see it."""

    _port: ThreadedPort

    @property
    def settings(self) -> Settings:
        """Limits, deadlines and switches of the association."""

    def failed(self, failure: AssociationFailure) -> None:
        """End the association because of `failure`."""


class Responses(Iterator["tuple[Dataset, Dataset | None]"]):
    """An iterator over the responses to a C-FIND, C-GET or C-MOVE, which waits for each.

    Each is a pair of the status (with the sub-operation counts) and the Identifier or None. If
    the association ends, the last pair is an empty status and None. The peer's requests are served
    only while the iterator waits, until the last response is taken or `close` is called.
    """

    def __init__(
        self, association: Requestor, request: Message, operation: Operation | None
    ) -> None:
        from dicomwire.services import results  # once for all of them

        self._result_of, self._status_of = results.query_result, results.status_dataset
        self._association = association
        self._request = request
        self._operation = operation
        self._done = False

    def __next__(self) -> tuple[Dataset, Dataset | None]:
        if self._done:
            raise StopIteration
        operation = self._operation
        if operation is None:
            self._done = True
            return self._status_of(None), None
        # Taking a response from the queue does not need the turn.
        incoming = operation.take() if operation.has_response else self._wait(operation)
        if incoming is None:
            self.close()
            return self._status_of(None), None
        if scu.is_last(self._request, incoming.message):
            self.close()
        return self._result_of(self._request, incoming, self._association.settings.limits)

    def _wait(self, operation: Operation) -> Incoming | None:
        """Return the next response; None if the association ends."""
        association = self._association
        with association._port:
            try:
                return run_blocking(operation.response())
            except AssociationFailure as failure:
                association.failed(failure)
                return None

    def close(self) -> None:
        """Discard the remaining responses; the peer continues the operation."""
        self._done = True
        operation, self._operation = self._operation, None
        if operation is not None:
            with self._association._port as port:
                operation.abandon()
                port.unhold()

    def __del__(self) -> None:
        # This may run on any thread, also while it holds a lock, so it must not wait for one.
        if self._operation is not None:
            watcher().call(self.close)


class Sending(Iterator[Sent]):
    """An iterator that sends objects and yields their results; a context manager that closes it.

    The peer's requests are served only while the iterator waits, until the last result is taken or
    `close` is called.
    """

    def __init__(self, association: Requestor, pipeline: Pipeline) -> None:
        self._association = association
        self._pipeline: Pipeline | None = pipeline

    def __next__(self) -> Sent:
        pipeline = self._pipeline
        if pipeline is None:
            raise StopIteration
        try:
            sent = pipeline.at_hand() or run_blocking(pipeline.next())
        except BaseException:
            self.close()
            raise
        if sent is None:
            self.close()
            raise StopIteration
        return sent

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Send no more objects; the peer may still store those that were sent."""
        pipeline, self._pipeline = self._pipeline, None
        if pipeline is not None and pipeline.has_begun:
            with self._association._port:
                pipeline.close()

    def __del__(self) -> None:
        # This may run on any thread, also while it holds a lock, so it must not wait for one.
        if self._pipeline is not None and self._pipeline.has_begun:
            watcher().call(self.close)
