"""The responses to a query or a retrieval, for programs that wait for them one by one.

What they mean is decided in `services.scu`; how they are waited for, in `port`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from pydicom.dataset import Dataset

from dicomwire.errors import AssociationFailure
from dicomwire.protocol.command import Message
from dicomwire.services import scu
from dicomwire.services.port import Incoming, run_blocking
from dicomwire.threaded.lobby import lobby
from dicomwire.threaded.port import Exchange

if TYPE_CHECKING:
    from dicomwire.association import Association


class Responses(Iterator[tuple[Dataset, Dataset | None]]):
    """The responses to a C-FIND, C-GET or C-MOVE, waited for one by one.

    Each is a pair of the status (with the sub-operation counts) and the Identifier or None. When
    the association ends instead, the last pair is an empty status and None. Until all have been
    taken, or `close` is called, nothing else is served on the association in between.
    """

    def __init__(
        self, association: Association, request: Message, exchange: Exchange | None
    ) -> None:
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
        return scu.query_result(self._request, incoming)

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
