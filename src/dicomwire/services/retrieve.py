"""C-GET and C-MOVE as provider (PS3.7 Sections 9.1.3 and 9.1.4, PS3.4 Annex C.4 and others).

Both count their sub-operations with one tally; they differ in where the objects are sent to.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from pydicom.dataset import Dataset

from dicomwire.datasets import DatasetError, encode_dataset
from dicomwire.errors import AssociationFailure
from dicomwire.events import EVT_C_GET, EVT_C_MOVE
from dicomwire.logs import LOGGER
from dicomwire.protocol.command import Message
from dicomwire.services.answers import (
    CANCELLED,
    PENDING,
    SUCCESS,
    answer,
    ask,
    respond,
    set_status,
)
from dicomwire.services.port import END, Incoming, Port, Storer
from dicomwire.sop_class import CompositeInstanceRetrieveWithoutBulkDataGet
from dicomwire.status import (
    STATUS_CANCEL,
    STATUS_PENDING,
    STATUS_SUCCESS,
    STATUS_WARNING,
    code_to_category,
)
from dicomwire.uids import SOPClass

SUB_OPERATIONS_FAILED = 0xA702
DESTINATION_UNKNOWN = 0xA801
SOME_FAILED = 0xB000
_MOST_SUB_OPERATIONS = 0xFFFF


@dataclass(frozen=True, slots=True)
class _Codes:
    """The statuses that tell of a handler that did not keep to its protocol."""

    failed: int
    bad_count: int
    too_many: int


_GET = _Codes(failed=0xC411, bad_count=0xC413, too_many=0xC416)
_MOVE = _Codes(failed=0xC511, bad_count=0xC513, too_many=0xC516)
_NO_DESTINATION = 0xC514
_BAD_DESTINATION = 0xC515

_BULK_DATA = (
    "PixelData",
    "FloatPixelData",
    "DoubleFloatPixelData",
    "PixelDataProviderURL",
    "SpectroscopyData",
    "EncapsulatedDocument",
    "WaveformData",
)
"""What Composite Instance Retrieve Without Bulk Data leaves out (PS3.4 Section Z.1)."""
_BULK_GROUPS = {0x5000: 0x3000, 0x5400: 0x1010, 0x6000: 0x3000}
"""The same in repeating groups: curve, audio and overlay data, by first group and element."""
_REPEATING = 0xFF00


class _Fault(Exception):
    """The handler broke its protocol; the operation ends with `status`."""

    def __init__(self, text: str, status: int) -> None:
        super().__init__(text)
        self.status = status


@dataclass(slots=True)
class Tally:
    """The counts of a retrieval's sub-operations (PS3.7 Section 9.1.3.1.6)."""

    remaining: int
    completed: int = 0
    failed: int = 0
    warning: int = 0
    failed_uids: list[str] = field(default_factory=list)

    @property
    def attempted(self) -> int:
        """How many sub-operations have ended."""
        return self.completed + self.failed + self.warning

    def count(self, category: str, uid: str) -> None:
        """Count one sub-operation that ended."""
        self.remaining -= 1
        if category == STATUS_SUCCESS:
            self.completed += 1
        elif category == STATUS_WARNING:
            self.warning += 1
        else:
            self.failed += 1
            self.failed_uids.append(uid)

    def give_up(self) -> None:
        """Count all that were announced and never came as failed."""
        self.failed += self.remaining
        self.remaining = 0

    @property
    def outcome(self) -> int:
        """The final status that the counts call for."""
        if not self.failed and not self.warning:
            return SUCCESS
        if not self.completed and not self.warning:
            return SUB_OPERATIONS_FAILED
        return SOME_FAILED

    def tell(self, response: Message, *, remaining: bool) -> None:
        """Put the counts into `response`; those to come only where it is not the last."""
        response.NumberOfRemainingSuboperations = self.remaining if remaining else None
        response.NumberOfCompletedSuboperations = self.completed
        response.NumberOfFailedSuboperations = self.failed
        response.NumberOfWarningSuboperations = self.warning


class _Destination(Protocol):
    async def open(self) -> Storer:
        """Return what sends objects there; AssociationFailure where it cannot be reached."""


class _Requestor:
    """The destination of C-GET: the association itself."""

    def __init__(self, port: Port) -> None:
        self._port = port

    async def open(self) -> Storer:
        return self._port.own_storer()


class _Elsewhere:
    """The destination of C-MOVE: an AE that we associate with."""

    def __init__(self, port: Port, title: str, address: Any) -> None:
        self._port = port
        self._title = title
        self._address = address

    async def open(self) -> Storer:
        return await self._port.storer_to(self._title, *self._address)


async def get(port: Port, incoming: Incoming, sop_class: SOPClass) -> None:
    """Serve a C-GET whose handler yields a count, then (status, dataset) pairs."""
    await _Retrieval(port, incoming, sop_class, _GET).run()


async def move(port: Port, incoming: Incoming, sop_class: SOPClass) -> None:
    """Serve a C-MOVE whose handler yields a destination, a count, then (status, dataset) pairs."""
    await _Retrieval(port, incoming, sop_class, _MOVE).run()


class _Retrieval:
    """One C-GET or C-MOVE operation."""

    def __init__(self, port: Port, incoming: Incoming, sop_class: SOPClass, codes: _Codes) -> None:
        request = incoming.message
        assert request.MessageID is not None
        self._port = port
        self._incoming = incoming
        self._sop_class = sop_class
        self._codes = codes
        self._message_id = request.MessageID
        self._response = answer(request, PENDING)
        self._tally = Tally(0)
        self._identifier: Dataset | None = None  # the handler's own list of what failed
        self._results: Any = None

    async def run(self) -> None:
        port, response = self._port, self._response
        if self._incoming.refusal is not None:
            response.Status = self._incoming.refusal
            await respond(port, self._incoming, response)
            return
        port.clear_cancel(self._message_id)
        try:
            event = EVT_C_MOVE if self._codes is _MOVE else EVT_C_GET
            self._results = port.iterate(await ask(port, event, self._incoming))
            await self._retrieve()
        except AssociationFailure:
            raise
        except _Fault as fault:
            LOGGER.error("%s: %s", self._incoming.message.name, fault)
            self._fail(fault.status)
        except Exception:
            LOGGER.exception("The handler of %s failed", self._incoming.message.name)
            self._fail(self._codes.failed)
        finally:
            await port.close_results(self._results)
            port.clear_cancel(self._message_id)
        if not port.is_over:
            await self._finish()

    def _fail(self, status: int) -> None:
        self._tally.give_up()
        self._response.Status = status

    async def _retrieve(self) -> None:
        destination: _Destination = _Requestor(self._port)
        if self._codes is _MOVE:
            elsewhere = await self._destination()
            if elsewhere is None:
                self._response.Status = DESTINATION_UNKNOWN
                return
            destination = elsewhere
        count = await self._count()
        if count < 1:
            self._response.Status = SUCCESS
            return
        self._tally.remaining = count
        try:
            storer = await destination.open()
        except (AssociationFailure, ValueError, RuntimeError, TypeError) as error:
            LOGGER.error("The destination of C-MOVE cannot be reached: %s", error)
            self._fail(DESTINATION_UNKNOWN)
            return
        try:
            await self._send_all(storer)
        finally:
            await storer.close()

    async def _destination(self) -> _Elsewhere | None:
        """Return what the handler says is the Move Destination; None if it does not know it."""
        address = await self._port.next_result(self._results)
        if address is END:
            raise _Fault("the handler named no destination", _NO_DESTINATION)
        if not isinstance(address, tuple) or len(address) not in (2, 3):
            raise _Fault(f"{address!r} is no destination", _BAD_DESTINATION)
        if None in address[:2]:
            title = self._incoming.message.MoveDestination
            LOGGER.error("The Move Destination %r is not known", title)
            return None
        host, number = address[:2]
        options = address[2] if len(address) == 3 else {}
        if (
            not isinstance(host, str)
            or not isinstance(number, int)
            or not isinstance(options, dict)
        ):
            raise _Fault(f"{address!r} is no destination", _BAD_DESTINATION)
        title = str(self._incoming.message.MoveDestination)
        return _Elsewhere(self._port, title, (host, number, options))

    async def _count(self) -> int:
        count = await self._port.next_result(self._results)
        if count is END:
            raise _Fault("the handler gave no number of sub-operations", self._codes.bad_count)
        try:
            number = int(count)
        except (TypeError, ValueError):
            raise _Fault(
                f"{type(count).__name__} is no number of sub-operations", self._codes.bad_count
            ) from None
        if number > _MOST_SUB_OPERATIONS:
            raise _Fault(f"{number} sub-operations are too many", self._codes.too_many)
        return number

    async def _send_all(self, storer: Storer) -> None:
        """Send what the handler yields, until it has no more or the operation is ended."""
        port, tally = self._port, self._tally
        while True:
            cancelled = port.cancel_waits(self._message_id)
            result = await port.next_result(self._results)
            if port.is_over:
                return
            if result is END:
                if tally.remaining:
                    LOGGER.warning("The handler gave %d objects too few", tally.remaining)
                    tally.give_up()
                self._response.Status = tally.outcome
                return
            if cancelled and port.cancel_waits(self._message_id):
                self._response.Status = CANCELLED
                return
            if not await self._take_result(storer, result):
                return

    async def _take_result(self, storer: Storer, result: Any) -> bool:
        """Act on one pair of the handler; false, with the status set, when it is the last."""
        status, value = result
        response, tally = self._response, self._tally
        if not set_status(response, status, self._sop_class):
            tally.give_up()
            return False
        category = code_to_category(response.Status or 0)
        if category == STATUS_PENDING:
            if value is None:
                return True
            if not tally.remaining:
                LOGGER.warning("The handler gives more objects than it said; it is ended")
                response.Status = tally.outcome
                return False
            await self._send_one(storer, value)
            return True
        if category == STATUS_CANCEL:
            return False
        self._identifier = value if isinstance(value, Dataset) else None
        if category == STATUS_SUCCESS:
            tally.give_up()
            response.Status = tally.outcome if tally.failed or tally.warning else SUCCESS
        else:
            tally.give_up()
        return False

    async def _send_one(self, storer: Storer, value: Any) -> None:
        tally, response = self._tally, self._response
        uid = ""
        category = ""
        if isinstance(value, Dataset | str | Path):
            if isinstance(value, Dataset):
                uid = str(value.get("SOPInstanceUID", ""))
                if self._sop_class == CompositeInstanceRetrieveWithoutBulkDataGet:
                    value = without_bulk_data(value)
            request = self._incoming.message
            number = (self._message_id + tally.attempted) % _MOST_SUB_OPERATIONS + 1
            try:
                uid, sub_status = await storer.store(value, number, request)
                category = code_to_category(sub_status)
            except AssociationFailure as failure:
                if self._port.is_over:
                    raise
                LOGGER.error("A sub-operation failed: %s", failure)
            except Exception as error:
                LOGGER.error("A sub-operation failed: %s", error)
        else:
            LOGGER.error("The handler gave a %s instead of a dataset", type(value).__name__)
        tally.count(category, uid)
        tally.tell(response, remaining=True)
        await respond(self._port, self._incoming, response)

    async def _finish(self) -> None:
        """Send the final response, with the list of what failed where there may be one."""
        response, tally = self._response, self._tally
        category = code_to_category(response.Status or 0)
        tally.tell(response, remaining=category == STATUS_CANCEL)
        encoded: bytes | None = None
        if category != STATUS_SUCCESS and (tally.attempted or tally.remaining):
            identifier = Dataset()
            identifier.FailedSOPInstanceUIDList = tally.failed_uids
            own = self._identifier
            if own is not None and "FailedSOPInstanceUIDList" in own:
                identifier = own
            try:
                encoded = encode_dataset(identifier, self._incoming.context.transfer_syntax[0])
            except DatasetError as error:
                LOGGER.error("The list of what failed cannot be sent: %s", error)
        await respond(self._port, self._incoming, response, encoded)


def without_bulk_data(ds: Dataset) -> Dataset:
    """Return a copy of `ds` without its bulk data (PS3.4 Section Z.1), also in its items."""
    kept = Dataset()
    for element in ds:
        if element.keyword in _BULK_DATA:
            continue
        group = element.tag.group
        if _BULK_GROUPS.get(group & _REPEATING) == element.tag.element:
            continue
        kept.add(element)
    if hasattr(ds, "file_meta"):
        kept.file_meta = ds.file_meta
    implicit, little = ds.original_encoding
    kept.set_original_encoding(implicit, little, ds.original_character_set)
    return kept
