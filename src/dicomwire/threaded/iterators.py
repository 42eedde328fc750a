"""The responses to a query, a retrieval, or many C-STOREs, for programs that take them one by one.

What they mean is decided in `services`; how they are waited for, in `port`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol, Self

from pydicom.dataset import Dataset

from dicomwire.bulk.pipeline import Pipeline, Sent
from dicomwire.data.blocking import run_blocking
from dicomwire.errors import AssociationFailure
from dicomwire.protocol.command import Message
from dicomwire.services import scu
from dicomwire.services.port import Incoming
from dicomwire.settings import Settings
from dicomwire.threaded.lobby import lobby
from dicomwire.threaded.port import Exchange, ThreadedPort


class Requestor(Protocol):
    """The association that asked for something, as its iterators need it."""

    _port: ThreadedPort

    @property
    def settings(self) -> Settings:
        """Limits, deadlines and switches of the association."""

    def failed(self, failure: AssociationFailure) -> None:
        """End the association because of `failure`."""


class Responses(Iterator[tuple[Dataset, Dataset | None]]):
    """The responses to a C-FIND, C-GET or C-MOVE, waited for one by one.

    Each is a pair of the status (with the sub-operation counts) and the Identifier or None. When
    the association ends instead, the last pair is an empty status and None. Until all have been
    taken, or `close` is called, nothing else is served on the association in between.
    """

    def __init__(self, association: Requestor, request: Message, exchange: Exchange | None) -> None:
        self._association = association
        self._request = request
        self._exchange = exchange
        self._done = False

    def __next__(self) -> tuple[Dataset, Dataset | None]:
        if self._done:
            raise StopIteration
        exchange = self._exchange
        if exchange is None:
            self._done = True
            return Dataset(), None
        # What came along with an earlier response can be had without the turn.
        incoming = exchange.take() if exchange.has_response else self._wait(exchange)
        if incoming is None:
            self.close()
            return Dataset(), None
        if scu.is_last(self._request, incoming.message):
            self.close()
        return scu.query_result(self._request, incoming, self._association.settings.limits)

    def _wait(self, exchange: Exchange) -> Incoming | None:
        """Return the next response; None if the association ends instead."""
        association = self._association
        with association._port:
            try:
                return run_blocking(exchange.response())
            except AssociationFailure as failure:
                association.failed(failure)
                return None

    def close(self) -> None:
        """Give up the responses that are still to come; the operation itself goes on."""
        self._done = True
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            with self._association._port as port:
                exchange.abandon()
                port.unhold()

    def __del__(self) -> None:
        # This may run on any thread and in the midst of anything, so it must not wait for a lock.
        if self._exchange is not None:
            lobby().call(self.close)


class Sending(Iterator[Sent]):
    """What becomes of objects that are sent while this is iterated.

    Until all have been taken, or `close` is called, nothing else is served on the association in
    between. It is a context manager, too, and closes itself then.
    """

    def __init__(self, association: Requestor, pipeline: Pipeline) -> None:
        self._association = association
        self._pipeline: Pipeline | None = pipeline
        self._has_begun = False

    def __next__(self) -> Sent:
        if self._pipeline is None:
            raise StopIteration
        sent = self._pipeline.at_hand() or self._advance(self._pipeline)
        if sent is None:
            self.close()
            raise StopIteration
        return sent

    def _advance(self, pipeline: Pipeline) -> Sent | None:
        with self._association._port as port:
            if not self._has_begun:
                port.hold()
                self._has_begun = True
            try:
                return run_blocking(pipeline.next())
            except BaseException:
                self.close()
                raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Send no more objects; the peer may yet store those that have left."""
        pipeline, self._pipeline = self._pipeline, None
        if pipeline is not None and self._has_begun:
            with self._association._port as port:
                pipeline.close()
                port.unhold()

    def __del__(self) -> None:
        # This may run on any thread and in the midst of anything, so it must not wait for a lock.
        if self._pipeline is not None and self._has_begun:
            lobby().call(self.close)
