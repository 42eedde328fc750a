"""What a peer and a program do on one association, made by hypothesis; and what is told of it.

A test plays a course several times, on either face: in the general way, with all events bound, and
with few. Each has to tell the same of the events that are bound, to send the same, and to have the
same results.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from fake_peer import Acceptor, OurEnd, answer_to
from hypothesis import strategies as st
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID

from dicomwire import Sent, evt
from dicomwire.protocol import dimse
from dicomwire.protocol.command import Command, Message, encode_command
from dicomwire.protocol.items import (
    AsynchronousOperationsWindowNegotiation,
    ImplementationClassUIDNotification,
    MaximumLengthNotification,
)
from dicomwire.protocol.pdu import PDU, AssociateRQ, PDataTF, ReleaseRQ
from dicomwire.session.sending import SendingEngine
from dicomwire.sop_class import PatientRootQueryRetrieveInformationModelFind as FIND
from raw_peer import CT, EXPLICIT, VERIFICATION, accept_pdu, context

NOTICES = frozenset(each for each in vars(evt).values() if isinstance(each, evt.NotificationEvent))
LONG = 10_000.0
"""Seconds after which every deadline has passed."""
CONTEXTS = [
    context(1, VERIFICATION, EXPLICIT),
    context(3, CT, EXPLICIT),
    context(5, FIND, EXPLICIT),
]
OF_COMMAND = {Command.C_ECHO_RQ: 1, Command.C_STORE_RQ: 3, Command.C_FIND_RQ: 5}
COMMAND, LAST = 1, 2

bound_events = st.frozensets(
    st.sampled_from(sorted(NOTICES, key=lambda event: event.name)), max_size=4
)
"""Few, since usual messages pass as bytes if no event is bound that tells of them."""
FEW: list[frozenset[Any]] = [
    frozenset(),
    frozenset({evt.EVT_DIMSE_SENT}),
    frozenset({evt.EVT_DIMSE_RECV}),
    frozenset({evt.EVT_DATA_SENT, evt.EVT_DATA_RECV}),
]


# --- What is told ---


class Log:
    """Notes events with all that they carry, each as it is at that moment."""

    def __init__(self) -> None:
        self.entries: list[tuple[Any, ...]] = []

    def __call__(self, event: evt.Event) -> None:
        facts = {
            name: frozen(value)
            for name, value in vars(event).items()
            if name not in ("assoc", "event", "timestamp") and not name.startswith("_")
        }
        if event.event in (evt.EVT_C_ECHO, evt.EVT_C_STORE, evt.EVT_C_FIND):
            facts["message_id"] = event.message_id
        if event.event is evt.EVT_C_STORE:
            facts["dataset"] = event.encoded_dataset()
            facts["meta"] = str(event.file_meta)
        if event.event is evt.EVT_C_FIND:
            facts["identifier"] = str(event.identifier)
            facts["is_cancelled"] = event.is_cancelled
        self.entries.append((event.event, facts))

    def note(self, what: object) -> None:
        """Note something of the test's own."""
        self.entries.append((what, {}))


def frozen(value: Any) -> Any:
    """Return a value that can be compared later."""
    if isinstance(value, Message):
        return replace(value)
    if isinstance(value, PDU):
        return value.encode()
    if hasattr(value, "getvalue"):
        return value.getvalue()
    if hasattr(value, "abstract_syntax"):
        return value.context_id, value.abstract_syntax, value.transfer_syntax
    return value


MORE = "more events are bound from here on"


@dataclass
class Outcome:
    """What came of a course.

    Attributes
    ----------
    log : list
        The events, in order.
    sent : bytes
        All bytes that our end has sent.
    results : list
        What the calls of the program have returned.
    end : tuple
        How the association ended.
    """

    log: list[tuple[Any, ...]]
    sent: bytes
    results: list[Any] = field(default_factory=list)
    end: tuple[Any, ...] = ()


def told(log: list[tuple[Any, ...]], first: frozenset[Any], later: frozenset[Any]) -> Any:
    """Return what a log has of the `first` events, and after `MORE` of the `later` ones, too.

    Responses may be sent together: DATA_SENT has the same bytes, but perhaps not as often.
    """
    observed, kept, data = first, [], b""
    for event, facts in log:
        if event is MORE:
            observed = first | later
        elif event is evt.EVT_DATA_SENT:
            data += facts["data"] if event in observed else b""
        elif event in observed or event not in NOTICES:
            kept.append((event, facts))
    return kept, data


# --- A peer that requests ---

message_ids = st.sampled_from((1, 2, 0, 255, 256, 0xFFFF)) | st.integers(0, 0xFFFF)
instance_uids = st.sampled_from(("1.2.3", "1.2.34", "1." + "2" * 62, "one"))
priorities = st.integers(0, 2)
titles = st.sampled_from((None, None, "MOVER", "MOVERS"))


@st.composite
def requests(draw: st.DrawFn) -> tuple[int, Message, bytes | None]:
    """A usual request, or nearly one: its context, command set and dataset."""
    command = draw(
        st.sampled_from(
            (Command.C_ECHO_RQ, Command.C_STORE_RQ, Command.C_STORE_RQ, Command.C_FIND_RQ)
        )
    )
    number = draw(st.integers(0, 9))
    context_id = OF_COMMAND[command] if number else 1
    uid = {1: VERIFICATION, 3: CT, 5: FIND}[OF_COMMAND[command]]
    message = Message(command, MessageID=draw(message_ids), AffectedSOPClassUID=UID(uid))
    if command is Command.C_ECHO_RQ:
        return context_id, message, None
    message.Priority, message.has_dataset = draw(priorities), True
    if command is Command.C_FIND_RQ:
        return context_id, message, b"\x08\0\x52\0CS\x08\0PATIENT " + b"\x10\0\x20\0LO\0\0"
    message.AffectedSOPInstanceUID = draw(instance_uids)  # type: ignore[assignment]
    message.MoveOriginatorApplicationEntityTitle = draw(titles)
    if message.MoveOriginatorApplicationEntityTitle is not None:
        message.MoveOriginatorMessageID = draw(message_ids)
    size = draw(st.sampled_from((0, 1, 2, 7, 100, 3000)))
    return context_id, message, b"\x10\0\x10\0PN\x02\0A " + bytes(size)


@st.composite
def pdus(draw: st.DrawFn, context_id: int, message: Message, dataset: bytes | None) -> bytes:
    """The PDUs of a message, whose values are cut, and share PDUs, as the peer likes."""
    values = []
    parts = [(COMMAND, encode_command(message))]
    if dataset is not None:
        parts.append((0, dataset))
    for kind, data in parts:
        cuts = sorted(draw(st.lists(st.integers(0, len(data)), max_size=2)))
        if draw(st.booleans()):
            cuts = []
        for start, end in itertools.pairwise((0, *cuts, len(data))):
            values.append((context_id, kind | (LAST if end == len(data) else 0), data[start:end]))
    whole = draw(st.booleans())
    return (
        b"".join(PDataTF([each]).encode() for each in values) if whole else PDataTF(values).encode()
    )


@st.composite
def pieces(draw: st.DrawFn, data: bytes) -> list[bytes]:
    """How bytes arrive."""
    cuts = sorted(draw(st.lists(st.integers(0, len(data)), max_size=6)))
    return [data[a:b] for a, b in itertools.pairwise((0, *cuts, len(data))) if a < b]


STATUSES: tuple[Any, ...] = (0x0000, 0x0000, 0x0000, 0xB000, 0xA700, "raises", "explains")


@dataclass
class Incoming:
    """A course of a peer that sends requests, and the program that answers them.

    Attributes
    ----------
    pieces : list of bytes
        What arrives; the next piece when nothing else can go on.
    statuses : list
        What the handlers do, one after the other, and again from the first.
    matches : int
        How many results a query has.
    asks_echo, keeps : bool
        Whether a handler is bound for C-ECHO; whether objects are kept without one.
    more_at : int or None
        At which call of a handler more events are bound.
    """

    pieces: list[bytes]
    statuses: list[Any]
    matches: int
    asks_echo: bool
    keeps: bool
    more_at: int | None


@st.composite
def incoming(draw: st.DrawFn) -> Incoming:
    messages = draw(st.lists(requests(), min_size=1, max_size=5))
    stream = b"".join(draw(pdus(*each)) for each in messages) + ReleaseRQ().encode()
    return Incoming(
        draw(pieces(stream)),
        draw(st.lists(st.sampled_from(STATUSES), min_size=1, max_size=3)),
        draw(st.integers(0, 20)),
        draw(st.booleans()),
        draw(st.booleans()),
        draw(st.none() | st.integers(1, 3)),
    )


class Collected:
    """A sink of the program."""

    def __init__(self) -> None:
        self.data = b""

    def write(self, chunks: list[memoryview]) -> None:
        self.data += b"".join(chunks)

    def finish(self) -> Any:
        from dicomwire.payloads import MemoryPayload

        return MemoryPayload(bytearray(self.data))

    def discard(self) -> None:
        """Forget it."""


class Program:
    """The handlers of the program that serves a course."""

    def __init__(self, course: Incoming, first: frozenset[Any], later: frozenset[Any]) -> None:
        self.course = course
        self.log = Log()
        self.end: tuple[Any, ...] = ()
        self._later = later
        self._first = first
        self._statuses = itertools.cycle(course.statuses)
        self._calls = 0
        self.kept: list[Collected] = []
        self.associations: list[Any] = []

    def answer(self, event: evt.Event) -> Any:
        """Answer a C-ECHO or C-STORE."""
        self.log(event)
        self._calls += 1
        if self._calls == self.course.more_at:
            self.log.note(MORE)
            for each in self._later:
                event.assoc.bind(each, self.log)
        status = next(self._statuses)
        if status == "raises":
            raise ZeroDivisionError("in a handler")
        if status == "explains":
            answer = Dataset()
            answer.Status, answer.ErrorComment = 0xA700, "full"
            return answer
        return status

    def find(self, event: evt.Event) -> Iterator[Any]:
        """Answer a C-FIND."""
        self.log(event)
        for number in range(self.course.matches):
            match = Dataset()
            match.PatientID = str(number)
            yield 0xFF00, match

    @property
    def notices(self) -> list[Any]:
        """The bindings that every face has."""
        known = (evt.EVT_REQUESTED, lambda event: self.associations.append(event.assoc))
        return [known, *((each, self.log) for each in self._first)]

    @property
    def asked(self) -> list[Any]:
        """The events for which `answer` is bound."""
        asked = [evt.EVT_C_ECHO] if self.course.asks_echo else []
        return asked if self.course.keeps else [*asked, evt.EVT_C_STORE]

    @property
    def receive_to(self) -> Any:
        if not self.course.keeps:
            return None

        def sink(request: Message) -> Collected:
            self.kept.append(Collected())
            return self.kept[-1]

        return sink

    def outcome(self, sent: bytearray) -> Outcome:
        (association,) = self.associations
        return Outcome(
            self.log.entries, bytes(sent), [each.data for each in self.kept], end_of(association)
        )


def end_of(association: Any) -> tuple[Any, ...]:
    """Return how an association ended."""
    return (
        association.is_released,
        association.is_aborted,
        type(association.failure),
        str(association.failure),
    )


# --- A program that requests ---


@dataclass
class Call:
    """A call of the program: a C-ECHO, a C-FIND, or one or several C-STOREs.

    Attributes
    ----------
    sizes : list of int
        The bytes of pixel data of each object.
    is_run : bool
        Whether the objects are sent with one call.
    """

    command: Command
    message_id: int
    priority: int
    originator: tuple[str | None, int | None]
    sizes: list[int]
    is_run: bool

    @property
    def objects(self) -> list[Dataset]:
        return [image(number, size) for number, size in enumerate(self.sizes)]


def image(number: int, size: int) -> Dataset:
    ds = Dataset()
    ds.SOPClassUID, ds.SOPInstanceUID = CT, f"1.2.{10**number}"
    ds.add_new("PixelData", "OW", bytes(size))
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = UID(EXPLICIT)
    return ds


QUERY = Dataset()
QUERY.QueryRetrieveLevel, QUERY.PatientID = "PATIENT", ""


@dataclass
class Outgoing:
    """A course of a program that sends requests, and the peer that answers them.

    Attributes
    ----------
    calls : list of Call
        What the program does, one after the other; it ends with a release.
    answers : list of Answer
        How the peer answers requests, one after the other, and again from the first.
    order : list of int
        Which of the responses that are ready arrives next.
    window : int
        How many requests may be outstanding.
    maximum_length : int
        The longest PDU that the peer takes.
    more_at : int or None
        Before which call more events are bound.
    """

    calls: list[Call]
    answers: list[Answer]
    order: list[int]
    window: int
    maximum_length: int
    more_at: int | None


@dataclass
class Answer:
    """How a peer answers a request."""

    status: int
    changes: dict[str, Any]
    matches: int
    cuts: list[int]
    asks_first: bool


answers = st.builds(
    Answer,
    st.sampled_from((0x0000, 0x0000, 0x0000, 0xB000, 0xA700)),
    st.sampled_from(
        (
            *[{}] * 5,
            {"AffectedSOPClassUID": None, "AffectedSOPInstanceUID": None},
            {"ErrorComment": "full"},
            {"MessageIDBeingRespondedTo": 999},
        )
    ),
    st.integers(0, 3),
    st.lists(st.integers(0, 200), max_size=2),
    st.integers(0, 9).map(lambda number: number == 9),
)
calls = st.builds(
    Call,
    st.sampled_from((Command.C_ECHO_RQ, Command.C_STORE_RQ, Command.C_STORE_RQ, Command.C_FIND_RQ)),
    message_ids,
    priorities,
    st.sampled_from(((None, None), (None, None), ("MOVER", 7))),
    st.lists(st.sampled_from((0, 2, 100, 1000, 40_000)), min_size=1, max_size=6),
    st.booleans(),
)
outgoing = st.builds(
    Outgoing,
    st.lists(calls, min_size=1, max_size=4),
    st.lists(answers, min_size=1, max_size=4),
    st.lists(st.integers(0, 5), min_size=1, max_size=4),
    st.sampled_from((1, 1, 2, 4)),
    st.sampled_from((0, 100, 16382, 16382)),
    st.none() | st.integers(0, 2),
)


class Answering(Acceptor):
    """The peer of a course. `later` is where a face takes what happens when it waits."""

    def __init__(self, end: OurEnd, later: deque[Callable[[], object]], course: Outgoing) -> None:
        super().__init__(end)
        self._later = later
        self._course = course
        self._answers = itertools.cycle(course.answers)
        self._order = itertools.cycle(course.order)
        self._ready: list[list[bytes]] = []  # responses, in the pieces in which they arrive
        self._begun: list[bytes] = []  # the rest of one

    def _answer(self, pdu: PDU) -> None:
        if isinstance(pdu, AssociateRQ):
            window = AsynchronousOperationsWindowNegotiation(self._course.window, 1)
            items = [
                MaximumLengthNotification(self._course.maximum_length),
                ImplementationClassUIDNotification("1.2.3"),
                *([window] if self._course.window > 1 else []),
            ]
            self.say(accept_pdu(pdu, user_information=items))
        else:
            super()._answer(pdu)

    def _respond(self, context_id: int, request: Message) -> None:
        answer = next(self._answers)
        values = []
        if answer.asks_first:
            echo = Message(Command.C_ECHO_RQ, MessageID=3, AffectedSOPClassUID=UID(VERIFICATION))
            values.append((1, 3, encode_command(echo)))
        response = answer_to(request, answer.status)
        response.AffectedSOPInstanceUID = request.AffectedSOPInstanceUID
        if request.command is Command.C_FIND_RQ:
            match = replace(response, Status=0xFF00, has_dataset=True)
            identifier = b"\x10\0\x20\0LO\x02\0" + b"1 "
            values += answer.matches * [
                (context_id, 3, encode_command(match)),
                (context_id, 2, identifier),
            ]
        values.append((context_id, 3, encode_command(replace(response, **answer.changes))))
        data = b"".join(PDataTF([each]).encode() for each in values)
        cuts = sorted(each for each in answer.cuts if 0 < each < len(data))
        self._ready.append([data[a:b] for a, b in itertools.pairwise((0, *cuts, len(data)))])
        self._later.extend([self._deliver] * len(self._ready[-1]))

    def _deliver(self) -> None:
        if not self._begun:
            self._begun = self._ready.pop(next(self._order) % len(self._ready))
        self.socket.arrive(self._begun.pop(0))


def result(value: Any) -> Any:
    """Return the result of a call, such that it can be compared."""
    if isinstance(value, Sent):
        failure = type(value.failure), str(value.failure)
        return value.sop_instance_uid, value.code, value.is_stored, value.response, failure
    return str(value)


@contextmanager
def general_way() -> Iterator[None]:
    """Have each message encoded, decoded and told of by itself."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dimse, "encode_usual", lambda message: None)
        patch.setattr(dimse.Assembler, "take_usual", lambda *_: None)
        patch.setattr(dimse.Assembler, "waits", lambda *_: False)
        patch.setattr(SendingEngine, "_packed_success", lambda *_: None)
        patch.setattr(SendingEngine, "is_unobserved", lambda *_: False)
        yield


def check(play: Callable[[Any, Any, Any], Outcome], course: Any, first: Any, later: Any) -> None:
    """Play a course in the general way, and with few events bound; nothing may be different."""
    with general_way():
        general = play(course, NOTICES, NOTICES)
    for few in (first, *FEW):
        usual = play(course, few, later)
        assert told(usual.log, few, later) == told(general.log, few, later)
        assert usual.sent == general.sent
        assert usual.results == general.results
        assert usual.end == general.end
