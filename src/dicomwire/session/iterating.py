"""The responses to a query or retrieval, and their end, for the iterators of both faces.

Each face has the methods of its kind of iterator.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dicomwire.errors import AssociationFailure
from dicomwire.protocol.command import Message
from dicomwire.services import scu
from dicomwire.services.port import Incoming
from dicomwire.session.operation import Operation
from dicomwire.session.requests import Requesting

if TYPE_CHECKING:
    from pydicom.dataset import Dataset


class ResponseReader:
    """Takes the responses to a C-FIND, C-GET or C-MOVE, and discards those that are not taken."""

    def __init__(self, association: Requesting, request: Message) -> None:
        from dicomwire.services import results  # once for all responses

        self._result_of, self._status_of = results.query_result, results.status_dataset
        self._association = association
        self._port = association._port
        self._request = request
        self._operation: Operation | None = None  # None before the request, and after the end

    async def _wait(self, operation: Operation) -> Incoming:
        """Return the next response; AssociationFailure if the association ends."""
        with self._port:
            try:
                return await operation.response()
            except AssociationFailure as failure:
                self._association.failed(failure)
                raise

    def _result(self, incoming: Incoming) -> tuple[Dataset, Dataset | None]:
        """Return the status and Identifier of a response; end the operation if it is the last."""
        if scu.is_last(self._request, incoming.message):
            self._give_up()
        return self._result_of(self._request, incoming, self._port.settings.limits)

    def _give_up(self) -> None:
        """Discard the remaining responses; the peer continues the operation."""
        operation, self._operation = self._operation, None
        if operation is not None:
            with self._port as port:
                operation.abandon()
                port.unhold()

    def __del__(self) -> None:
        # This may run on any thread, also while it holds a lock, so it must not wait for one.
        if getattr(self, "_operation", None) is not None:
            self._port.call_soon(self._give_up)
