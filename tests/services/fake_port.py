"""A port without a network: requests go in, and what a service would send is kept to look at."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from pydicom.dataset import Dataset, FileMetaDataset

from dicomwire import evt
from dicomwire.data.blocking import run_blocking
from dicomwire.data.codec import decode_for, encode_dataset
from dicomwire.data.sinks import MemorySink
from dicomwire.errors import ConnectionLost
from dicomwire.logs import Between
from dicomwire.protocol.command import Command, Message, decode_command, encode_command
from dicomwire.protocol.context import PresentationContext, Result
from dicomwire.registry.services import Service, SOPClass
from dicomwire.services import scp
from dicomwire.services.answers import SUCCESS, answer, respond
from dicomwire.services.port import END, Incoming
from dicomwire.settings import Settings
from dicomwire.sop_class import uid_to_sop_class

IMPLICIT = "1.2.840.10008.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"
LOST = ConnectionLost("gone", stage="data")


@dataclass
class Sent:
    """A message that a service sent."""

    context_id: int
    message: Message
    data: bytes | None

    @property
    def status(self) -> int | None:
        return self.message.Status

    @property
    def dataset(self) -> Dataset | None:
        return None if self.data is None else decode_for(self.data, IMPLICIT)

    @property
    def counts(self) -> tuple[int | None, ...]:
        """Remaining, completed, failed and warning sub-operations."""
        message = self.message
        return (
            message.NumberOfRemainingSuboperations,
            message.NumberOfCompletedSuboperations,
            message.NumberOfFailedSuboperations,
            message.NumberOfWarningSuboperations,
        )

    @property
    def failures(self) -> list[str] | None:
        """The Failed SOP Instance UID List, None where there was no Identifier."""
        if self.dataset is None:
            return None
        value = self.dataset.FailedSOPInstanceUIDList or []
        return [value] if isinstance(value, str) else list(value)


@dataclass
class FakeStorer:
    """Sends objects nowhere: each call is answered with the next of `answers`."""

    answers: list[Any]
    stored: list[tuple[Any, int, Message]] = field(default_factory=list)
    closed: bool = False

    async def store(self, value: Any, message_id: int, request: Message) -> tuple[str, int | None]:
        self.stored.append((value, message_id, request))
        answer = self.answers.pop(0) if self.answers else 0x0000
        if isinstance(answer, Exception):
            raise answer
        uid = str(value.get("SOPInstanceUID", "")) if isinstance(value, Dataset) else "1.2.file"
        return uid, answer

    async def close(self) -> None:
        self.closed = True


class FakePort:
    """What a service sees of an association (`services.port.Port`).

    Attributes
    ----------
    sent : list of Sent
    cancelled : set of int
        Message IDs that a C-CANCEL has come for.
    """

    def __init__(self, *handlers: tuple[evt.EventType, Callable[..., Any]]) -> None:
        self.handlers = evt.Handlers(handlers)
        self.sent: list[Sent] = []
        self.cancelled: set[int] = set()
        self.is_over = False
        self.keeps_stored = False
        self.redirected: dict[str, Service] = {}
        self.storer = FakeStorer([])
        self.destinations: list[tuple[Any, ...]] = []
        self.unreachable: Exception | None = None
        self.reduce: Callable[[Dataset], Dataset] | None = None
        self.between = Between(7, False, "ASKER", "10.0.0.5:50412")
        self.association = SimpleNamespace(
            settings=Settings(inflate_ceiling=1 << 20),
            is_cancelled=self.is_cancelled,
            peer_gone=False,
        )

    def is_cancelled(self, message_id: int) -> bool:
        if message_id in self.cancelled:
            self.cancelled.discard(message_id)
            return True
        return False

    async def send(self, context_id: int, message: Message, data: bytes | None = None) -> None:
        if self.is_over:
            raise LOST
        assert message.has_dataset == (data is not None)
        # A copy as the peer would get it: the service may go on to use its own.
        self.sent.append(Sent(context_id, decode_command(encode_command(message)), data))

    async def succeed(self, incoming: Incoming) -> None:
        await respond(self, incoming, answer(incoming.message, SUCCESS))

    async def intervene(self, event: evt.InterventionEvent, attrs: dict[str, Any]) -> Any:
        return self.handlers.intervene(self.association, event, attrs)

    def bound(self, event: evt.EventType) -> bool:
        return self.handlers.bound(event)

    def service_of(self, sop_class: SOPClass) -> Service:
        return self.redirected.get(sop_class, sop_class.service_class)

    def iterate(self, answer: Any) -> Any:
        return iter(answer)

    async def next_result(self, results: Any) -> Any:
        return next(results, END)

    async def close_results(self, results: Any) -> None:
        if hasattr(results, "close"):
            results.close()

    def cancel_waits(self, message_id: int) -> bool:
        return message_id in self.cancelled

    def own_storer(self, reduce: Callable[[Dataset], Dataset] | None = None) -> FakeStorer:
        self.reduce = reduce
        return self.storer

    async def storer_to(
        self, title: str, host: str, port: int, options: dict[str, Any]
    ) -> FakeStorer:
        self.destinations.append((title, host, port, options))
        if self.unreachable is not None:
            raise self.unreachable
        return self.storer

    # --- What tests do with it ---

    def serve(self, incoming: Incoming) -> list[Sent]:
        """Serve a request, and return all that was sent."""
        if incoming.refusal is None:
            scp.admit(self, incoming)  # type: ignore[arg-type]
        run_blocking(scp.serve(self, incoming))  # type: ignore[arg-type]
        return self.sent


def context(abstract_syntax: str, transfer_syntax: str = IMPLICIT, number: int = 5) -> Any:
    """Return an accepted context, in which the peer is SCU and we are SCP."""
    made = PresentationContext.from_wire(
        number, uid_to_sop_class(abstract_syntax), [transfer_syntax], Result.ACCEPTANCE
    )
    made._as_scp, made._as_scu = True, False
    return made


def received(
    command: Command,
    sop_class: str,
    dataset: Dataset | bytes | None = None,
    *,
    transfer_syntax: str = IMPLICIT,
    refusal: int | None = None,
    **elements: Any,
) -> Incoming:
    """Return a message as it comes in; required elements that are not given have a default."""
    values: dict[str, Any] = {**_defaults(command, sop_class), **elements}
    message = Message(command, has_dataset=dataset is not None, **values)
    message = decode_command(encode_command(message))
    payload = None
    if dataset is not None and refusal is None:
        data = dataset
        if isinstance(data, Dataset):
            data = encode_dataset(data, transfer_syntax)
        sink = MemorySink(None)
        sink.write([memoryview(data)])
        payload = sink.finish()
    return Incoming(context(sop_class, transfer_syntax), message, payload, refusal)


def _defaults(command: Command, sop_class: str) -> dict[str, Any]:
    if command & 0x8000:
        return {"MessageIDBeingRespondedTo": 7, "Status": 0, "AffectedSOPClassUID": sop_class}
    values: dict[str, Any] = {"MessageID": 7}
    if command in (
        Command.N_GET_RQ,
        Command.N_SET_RQ,
        Command.N_ACTION_RQ,
        Command.N_DELETE_RQ,
    ):
        return {
            **values,
            "RequestedSOPClassUID": sop_class,
            "RequestedSOPInstanceUID": "1.2.3",
            "ActionTypeID": 1 if command is Command.N_ACTION_RQ else None,
        }
    values["AffectedSOPClassUID"] = sop_class
    if command is Command.N_EVENT_REPORT_RQ:
        values |= {"AffectedSOPInstanceUID": "1.2.3", "EventTypeID": 1}
    elif command is Command.C_STORE_RQ:
        values |= {"AffectedSOPInstanceUID": "1.2.3", "Priority": 2}
    elif command not in (Command.C_ECHO_RQ, Command.N_CREATE_RQ):
        values["Priority"] = 2
    if command is Command.C_MOVE_RQ:
        values["MoveDestination"] = "DESTINATION"
    return values


def keys(**values: Any) -> Dataset:
    """Return a dataset of `values`."""
    ds = Dataset()
    for keyword, value in values.items():
        setattr(ds, keyword, value)
    return ds


def image(instance: str = "1.2.3", **values: Any) -> Dataset:
    """Return an object as a C-GET or C-MOVE handler yields it."""
    ds = keys(SOPClassUID="1.2.840.10008.5.1.4.1.1.2", SOPInstanceUID=instance, **values)
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = IMPLICIT
    return ds


def unencodable() -> Dataset:
    """Return a dataset that cannot be encoded."""
    ds = keys(PatientID="1", Rows=1)
    ds["Rows"]._value = "many"
    return ds


def yielding(*results: Any) -> Callable[[Any], Iterable[Any]]:
    """Return a handler that is a generator of `results`; an exception among them is raised."""

    def handler(event: Any) -> Iterable[Any]:
        for result in results:
            if isinstance(result, Exception):
                raise result
            yield result

    return handler
