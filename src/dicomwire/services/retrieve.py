"""C-GET and C-MOVE as provider (PS3.7 Sections 9.1.3 and 9.1.4, PS3.4 Annex C.4 and others).

Both count their sub-operations in one way; they differ in the storer that sends the objects.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from pydicom.dataset import Dataset

from dicomwire.data.codec import DatasetError, encode_dataset
from dicomwire.errors import AssociationFailure
from dicomwire.events import EVT_C_GET, EVT_C_MOVE
from dicomwire.logs import LOGGER, described_request
from dicomwire.protocol.command import Command, Message
from dicomwire.registry.services import SOPClass
from dicomwire.registry.tables import CompositeInstanceRetrieveWithoutBulkDataGet
from dicomwire.services.answers import (
    CANCELLED,
    PENDING,
    PROGRAM_FAILED,
    SUCCESS,
    answer,
    ask,
    conclude,
    end_handler,
    log_failure,
    respond,
    set_status,
    take_elements,
)
from dicomwire.services.port import END, Incoming, Port, Storer
from dicomwire.status import (
    STATUS_CANCEL,
    STATUS_FAILURE,
    STATUS_PENDING,
    STATUS_SUCCESS,
    STATUS_WARNING,
    code_to_category,
)

SUB_OPERATIONS_FAILED = 0xA702
DESTINATION_UNKNOWN = 0xA801
SOME_FAILED = 0xB000
_MOST_SUB_OPERATIONS = 0xFFFF


@dataclass(frozen=True, slots=True)
class _Codes:
    """The statuses for a handler that yields wrong values."""

    failed: int
    nothing: int
    bad_count: int
    too_many: int


_OF_GET = _Codes(failed=0xC411, nothing=0xC413, bad_count=0xC413, too_many=0xC416)
_OF_MOVE = _Codes(failed=0xC511, nothing=0xC514, bad_count=0xC513, too_many=0xC516)
_BAD_DESTINATION = 0xC515

_BULK_DATA = (
    0x7FE00010,  # Pixel Data
    0x7FE00008,  # Float Pixel Data
    0x7FE00009,  # Double Float Pixel Data
    0x00287FE0,  # Pixel Data Provider URL
    0x56000020,  # Spectroscopy Data
    0x00420011,  # Encapsulated Document
    0x54001010,  # Waveform Data outside its sequence
)
"""Elements that Composite Instance Retrieve Without Bulk Data leaves out (PS3.4 Section Z.1.3)."""
_REPEATING_BULK_DATA = (
    0x50003000,  # Curve Data
    0x5000200C,  # Audio Sample Data
    0x60003000,  # Overlay Data
)
_ANY_REPETITION = 0xFF00FFFF
_WAVEFORMS = 0x54000100  # Waveform Sequence


class _Fault(Exception):
    """The handler yielded a wrong value; the operation ends with `status`."""

    def __init__(self, text: str, status: int) -> None:
        super().__init__(text)
        self.status = status


class _Ended(Exception):
    """The operation ended before the first sub-operation; the response has its status."""


@dataclass(slots=True)
class SubOperationCounts:
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
        """Count the remaining sub-operations as failed."""
        self.failed += self.remaining
        self.remaining = 0

    @property
    def outcome(self) -> int:
        """The final status that follows from the counts."""
        if not self.failed and not self.warning:
            return SUCCESS
        if not self.completed and not self.warning:
            return SUB_OPERATIONS_FAILED
        return SOME_FAILED

    def put_into(self, response: Message, *, remaining: bool) -> None:
        """Put the counts into `response`; `remaining` adds the number of remaining ones."""
        response.NumberOfRemainingSuboperations = self.remaining if remaining else None
        response.NumberOfCompletedSuboperations = self.completed
        response.NumberOfFailedSuboperations = self.failed
        response.NumberOfWarningSuboperations = self.warning


_Address = tuple[str, int, dict[str, Any]]
"""The destination of a C-MOVE: host, port and options of `AE.associate`."""


class Retrieval:
    """One C-GET or C-MOVE operation.

    The handler yields the number of objects, then (status, dataset) pairs; for C-MOVE it yields
    the destination first.
    """

    def __init__(self, port: Port, incoming: Incoming, sop_class: SOPClass) -> None:
        request = incoming.message
        assert request.MessageID is not None
        self._port = port
        self._incoming = incoming
        self._sop_class = sop_class
        self._is_move = request.command is Command.C_MOVE_RQ
        self._codes = _OF_MOVE if self._is_move else _OF_GET
        self._message_id = request.MessageID
        self._response = answer(request, PENDING)
        self._counts: SubOperationCounts | None = None  # None until the sub-operations begin
        self._identifier: Dataset | None = None  # the handler's own list of failed instances
        self._results: Any = None

    async def run(self) -> None:
        """Serve the operation, and send its last response."""
        port, response = self._port, self._response
        try:
            await self._retrieve()
        except AssociationFailure:
            raise
        except _Ended:
            pass
        except _Fault as fault:
            about = described_request(port.between, self._incoming.context, self._incoming.message)
            LOGGER.error("%s: %s", about, fault)
            conclude(response, fault.status, PROGRAM_FAILED)
        except Exception as error:
            log_failure(self._port, self._incoming, self._incoming.message.name, error)
            if self._counts is not None:
                self._counts.give_up()
            conclude(response, self._codes.failed, PROGRAM_FAILED)
        finally:
            await end_handler(port, self._results)
        if not port.is_over:
            await self._finish()

    async def _retrieve(self) -> None:
        event = EVT_C_MOVE if self._is_move else EVT_C_GET
        answered = await ask(self._port, event, self._incoming)
        try:
            self._results = self._port.iterate(answered)
        except TypeError:
            text = f"the handler returned {type(answered).__name__}, which is not iterable"
            raise _Fault(text, self._codes.nothing) from None
        address: _Address | None = None
        if self._is_move:
            address = await self._destination()
            if address is None:
                conclude(self._response, DESTINATION_UNKNOWN, "The destination is not known")
                return
        count = await self._count()
        if count < 1:
            self._counts = SubOperationCounts(0)
            conclude(self._response, SUCCESS)
            return
        storer = self._own_storer() if address is None else await self._storer_to(address)
        if storer is None:
            conclude(self._response, DESTINATION_UNKNOWN, "No association with the destination")
            return
        self._counts = SubOperationCounts(count)
        try:
            await self._send_all(storer, self._counts)
        finally:
            await storer.close()

    async def _destination(self) -> _Address | None:
        """Return the address that the handler yields; None if it does not know the destination."""
        address = await self._begun(self._codes.nothing)
        if address is END:
            raise _Fault("the handler yielded no destination", self._codes.nothing)
        self._check_whether_ended(address)
        if not isinstance(address, tuple | list) or len(address) not in (2, 3):
            raise _Fault(f"a {type(address).__name__} is no destination", _BAD_DESTINATION)
        host, number, options = address if len(address) == 3 else (*address, {})
        if host is None or number is None:
            LOGGER.error("The handler does not know the Move Destination")
            return None
        if not (isinstance(host, str) and isinstance(number, int) and isinstance(options, dict)):
            raise _Fault(f"{address!r} is no destination", _BAD_DESTINATION)
        return host, number, options

    async def _count(self) -> int:
        count = await self._begun(self._codes.bad_count)
        if count is END:
            raise _Fault("the handler yielded no number of sub-operations", self._codes.bad_count)
        self._check_whether_ended(count)
        try:
            number = int(count)
        except (TypeError, ValueError):
            text = f"a {type(count).__name__} is no number of sub-operations"
            raise _Fault(text, self._codes.bad_count) from None
        if number > _MOST_SUB_OPERATIONS:
            raise _Fault(f"{number} sub-operations are too many", self._codes.too_many)
        return number

    async def _begun(self, code: int) -> Any:
        """Return the next value before the objects; if the handler fails, the status is `code`."""
        try:
            return await self._port.next_result(self._results)
        except AssociationFailure:
            raise
        except Exception as error:
            log_failure(self._port, self._incoming, self._incoming.message.name, error)
            conclude(self._response, code, PROGRAM_FAILED)
            raise _Ended from None

    def _check_whether_ended(self, value: Any) -> None:
        """End the operation if the handler yields (status, None) before the objects."""
        match value:
            case (int() | Dataset() as status, None):
                set_status(self._response, status, self._sop_class)
                raise _Ended

    def _own_storer(self) -> Storer:
        if self._sop_class == CompositeInstanceRetrieveWithoutBulkDataGet:
            return self._port.own_storer(without_bulk_data)
        return self._port.own_storer()

    async def _storer_to(self, address: _Address) -> Storer | None:
        """Return a storer that sends objects to `address`; None if associating with it fails."""
        title = str(self._incoming.message.MoveDestination)
        try:
            return await self._port.storer_to(title, *address)
        except AssociationFailure as failure:
            LOGGER.error("No association with the Move Destination: %s", failure)
            return None
        except (TypeError, ValueError, RuntimeError) as error:
            raise _Fault(f"the destination is invalid: {error}", _BAD_DESTINATION) from error

    async def _send_all(self, storer: Storer, counts: SubOperationCounts) -> None:
        """Send the objects that the handler yields, until all are sent or the operation ends."""
        port = self._port
        while counts.remaining:
            cancelled = port.cancel_waits(self._message_id)
            if port.is_over:
                return
            result = await port.next_result(self._results)
            if result is END:
                LOGGER.warning("The handler yielded %d objects too few", counts.remaining)
                counts.give_up()
                conclude(self._response, counts.outcome)
                return
            if cancelled and port.cancel_waits(self._message_id):
                conclude(self._response, CANCELLED)
                return
            if not await self._take_result(storer, counts, result):
                return
        if not port.is_over:
            conclude(self._response, counts.outcome)
            await self._let_handler_finish()

    async def _let_handler_finish(self) -> None:
        """Let the handler run on after the last sub-operation.

        Its next result changes no count and no status. If it is a status Dataset of success, its
        other elements are sent, such as a comment on failures.
        """
        try:
            result = await self._port.next_result(self._results)
        except AssociationFailure:
            raise
        except Exception as error:
            log_failure(self._port, self._incoming, self._incoming.message.name, error)
            return
        match result:
            case (0x0000, _):
                pass
            case (Dataset(Status=0x0000) as status, _):
                take_elements(self._response, status)
            case _ if result is not END:
                LOGGER.warning("A result of the handler after the last sub-operation is ignored")

    async def _take_result(self, storer: Storer, counts: SubOperationCounts, result: Any) -> bool:
        """Process one result of the handler; false, with the status set, if it is the last."""
        status, value = result
        response = self._response
        if not set_status(response, status, self._sop_class):
            counts.give_up()
            return False
        category = code_to_category(response.Status or 0)
        if category == STATUS_PENDING:
            if value is not None:
                await self._send_one(storer, counts, value)
            return True
        self._identifier = value if isinstance(value, Dataset) else None
        if category == STATUS_CANCEL:
            return False
        counts.give_up()
        if category == STATUS_SUCCESS:
            response.Status = counts.outcome
        return False

    async def _send_one(self, storer: Storer, counts: SubOperationCounts, value: Any) -> None:
        """Perform one sub-operation, and send the counts in a pending response."""
        number = (self._message_id + counts.attempted) % _MOST_SUB_OPERATIONS + 1
        uid, status = await storer.store(value, number, self._incoming.message)
        category = STATUS_FAILURE if status is None else code_to_category(status)
        counts.count(category, uid)
        counts.put_into(self._response, remaining=True)
        await respond(self._port, self._incoming, self._response)

    async def _finish(self) -> None:
        """Send the final response, with counts and failures if sub-operations began."""
        response, counts = self._response, self._counts
        encoded: bytes | None = None
        if counts is not None:
            category = code_to_category(response.Status or 0)
            counts.put_into(response, remaining=category == STATUS_CANCEL)
            if category != STATUS_SUCCESS:
                encoded = self._failures(counts)
        await respond(self._port, self._incoming, response, encoded)

    def _failures(self, counts: SubOperationCounts) -> bytes | None:
        """Return the encoded list of failed instances (PS3.4 Section C.4.2.1.4.2).

        The handler's own list replaces ours. An empty list is sent too, since programs read it.
        """
        identifier = self._identifier
        if identifier is None or "FailedSOPInstanceUIDList" not in identifier:
            identifier = Dataset()
            identifier.FailedSOPInstanceUIDList = counts.failed_uids
        try:
            return encode_dataset(identifier, self._incoming.context.transfer_syntax[0])
        except DatasetError as error:
            LOGGER.error("The list of failed instances cannot be sent: %s", error)
            return None


def without_bulk_data(ds: Dataset) -> Dataset:
    """Return a copy of `ds` without its bulk data (PS3.4 Section Z.1.3).

    It is removed at the top level and in waveforms; icons, in other sequences, keep theirs.
    """
    kept = Dataset(
        {
            tag: element
            for tag, element in ds.items()
            if tag not in _BULK_DATA and tag & _ANY_REPETITION not in _REPEATING_BULK_DATA
        }
    )
    implicit, little = ds.original_encoding
    kept.set_original_encoding(implicit, little, ds.original_character_set)
    if hasattr(ds, "file_meta"):
        kept.file_meta = ds.file_meta
    if _WAVEFORMS in ds:
        kept.add_new(_WAVEFORMS, "SQ", [without_bulk_data(item) for item in ds[_WAVEFORMS].value])
    return kept
