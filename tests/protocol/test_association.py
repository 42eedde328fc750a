"""Associations as byte scripts: bytes and calls in, events and bytes out, nothing else between."""

from __future__ import annotations

import re
import struct
import tracemalloc
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.uid import UID
from upper_layer_bytes import (
    ASSOCIATE_AC,
    ASSOCIATE_RJ,
    ASSOCIATE_RQ,
    COMMAND,
    ECHO_COMMAND,
    ECHO_RQ,
    LAST,
    RELEASE_RP,
    RELEASE_RQ,
    STORE_COMMAND,
    UNKNOWN_PDU,
    USER_ABORT,
    abort,
    command_set,
    data_pdu,
    element,
    pdu,
    pdv,
    us,
)

from dicomwire.errors import AbortReason, AbortSource, LocalProtocolError
from dicomwire.protocol.association import AssociationProtocol
from dicomwire.protocol.command import Command, Message
from dicomwire.protocol.events import (
    AssociateAccepted,
    AssociateRejected,
    AssociateRequested,
    CommandReceived,
    ConnectionClosed,
    DataReceived,
    Event,
    PeerAborted,
    ProtocolViolated,
    ReleaseConfirmed,
    ReleaseRequested,
)
from dicomwire.protocol.limits import Limits
from dicomwire.protocol.pdu import (
    PDU,
    Abort,
    AssociateAC,
    AssociateRJ,
    AssociateRQ,
    PDataTF,
    PDUType,
    ReleaseRP,
    ReleaseRQ,
)
from dicomwire.protocol.states import Action, Role, State, Trigger

GIB = 1 << 30
REQUEST = AssociateRQ.decode(ASSOCIATE_RQ[6:])
ACCEPTANCE = AssociateAC.decode(ASSOCIATE_AC[6:])
REJECTION = AssociateRJ(1, 1, 7)
ECHO = Message(Command.C_ECHO_RQ, MessageID=7, AffectedSOPClassUID=UID("1.2.840.10008.1.1"))
ECHO_RESPONSE = Message(
    Command.C_ECHO_RSP,
    MessageIDBeingRespondedTo=7,
    AffectedSOPClassUID=UID("1.2.840.10008.1.1"),
    Status=0,
)
STORE = Message(
    Command.C_STORE_RQ,
    MessageID=8,
    AffectedSOPClassUID=UID("1.2.840.10008.5.1.4.1.1.2"),
    AffectedSOPInstanceUID=UID("1.2.3.4.5"),
    Priority=0,
    has_dataset=True,
)
STORE_RQ = data_pdu(pdv(3, COMMAND | LAST, STORE_COMMAND))

# Reasons of an A-ABORT by the service provider (PS3.8 Table 9-26)
UNRECOGNIZED, UNEXPECTED, INVALID = 1, 2, 6


class Recorder:
    """An observer that remembers what it was shown, in order."""

    def __init__(self) -> None:
        self.seen: list[str | PDU] = []

    def pdu_received(self, pdu: PDU) -> None:
        self.seen += ["received", pdu]

    def pdu_sent(self, pdu: PDU) -> None:
        self.seen += ["sent", pdu]

    def transition(self, state: State, trigger: Trigger, action: Action, following: State) -> None:
        self.seen.append(f"{state.value} {trigger.value} {action.value} {following.value}")


def acceptor(limits: Limits | None = None) -> AssociationProtocol:
    """Return an acceptor that waits for a request."""
    protocol = AssociationProtocol(Role.ACCEPTOR, limits)
    protocol.connected()
    return protocol


def established(role: Role, limits: Limits | None = None) -> AssociationProtocol:
    """Return an end of an association of two contexts, 1 and 3."""
    protocol = AssociationProtocol(role, limits)
    if role is Role.REQUESTOR:
        protocol.connecting()
        protocol.connected(REQUEST)
        take(protocol, ASSOCIATE_AC)
    else:
        protocol.connected()
        take(protocol, ASSOCIATE_RQ)
        protocol.accept(ACCEPTANCE)
    protocol.data_to_send()
    protocol.accepted_ids = frozenset({1, 3})
    protocol.maximum_length = 16382
    assert protocol.state is State.ESTABLISHED
    return protocol


def take(protocol: AssociationProtocol, data: bytes | memoryview) -> list[Event]:
    """Return what `data` mean, with the data of one dataset in one piece."""
    protocol.receive_data(data)
    events: list[Event] = []
    for event in iter(protocol.next_event, None):
        if isinstance(event, DataReceived):
            event.chunks = [memoryview(b"".join(event.chunks))]
        events.append(event)
    return events


def merge(events: list[Event]) -> list[Event]:
    """Put the pieces of each dataset together."""
    merged: list[Event] = []
    for event in events:
        before = merged[-1] if merged else None
        if (
            isinstance(event, DataReceived)
            and isinstance(before, DataReceived)
            and not before.complete
        ):
            chunks = before.chunks + event.chunks
            merged[-1] = DataReceived([memoryview(b"".join(chunks))], event.complete)
        else:
            merged.append(event)
    return merged


def data(value: bytes, complete: bool = True) -> DataReceived:
    return DataReceived([memoryview(value)], complete)


def violation(protocol: AssociationProtocol, sent: bytes) -> str:
    """Return the words of the one event that `sent` leads to, a violation."""
    [event] = take(protocol, sent)
    assert isinstance(event, ProtocolViolated)
    return str(event.error)


def assert_ignores_input(protocol: AssociationProtocol) -> None:
    """Whatever comes after a PDU that could not be parsed is not looked at."""
    assert protocol.state is State.AWAITING_CLOSE
    assert protocol.data_to_send() == b""
    assert take(protocol, ASSOCIATE_RQ + UNKNOWN_PDU + USER_ABORT) == []
    assert protocol.data_to_send() == b""
    assert protocol.state is State.AWAITING_CLOSE
    protocol.connection_lost()
    assert protocol.state is State.IDLE


# Whole lives


def test_life_of_a_requestor() -> None:
    protocol = AssociationProtocol(Role.REQUESTOR)
    assert protocol.state is State.IDLE
    protocol.connecting()
    assert protocol.state is not State.IDLE
    assert protocol.data_to_send() == b""
    protocol.connected(REQUEST)
    assert protocol.data_to_send() == ASSOCIATE_RQ
    assert protocol.data_to_send() == b""
    assert take(protocol, ASSOCIATE_AC) == [AssociateAccepted(ACCEPTANCE)]

    protocol.accepted_ids = frozenset({1, 3})
    packed = protocol.pack(1, ECHO)
    assert packed == ECHO_RQ
    protocol.check_data(memoryview(packed))
    response = command_set(
        element(0x0002, b"1.2.840.10008.1.1\0"),
        us(0x0100, 0x8030),
        us(0x0120, 7),
        us(0x0800, 0x0101),
        us(0x0900, 0x0000),
    )
    answer = data_pdu(pdv(1, COMMAND | LAST, response))
    assert take(protocol, answer) == [CommandReceived(1, ECHO_RESPONSE)]

    protocol.release()
    assert protocol.data_to_send() == RELEASE_RQ
    assert not protocol.is_over
    assert take(protocol, RELEASE_RP) == [ReleaseConfirmed()]
    assert protocol.state is State.IDLE
    assert protocol.data_to_send() == b""


def test_life_of_an_acceptor() -> None:
    protocol = AssociationProtocol(Role.ACCEPTOR)
    protocol.connected()
    assert take(protocol, ASSOCIATE_RQ) == [AssociateRequested(REQUEST)]
    assert protocol.data_to_send() == b""
    protocol.accept(ACCEPTANCE)
    assert protocol.data_to_send() == ASSOCIATE_AC

    protocol.accepted_ids = frozenset({1, 3})
    assert take(protocol, ECHO_RQ) == [CommandReceived(1, ECHO)]
    assert take(protocol, STORE_RQ) == [CommandReceived(3, STORE)]
    assert take(protocol, data_pdu(pdv(3, 0, b"some "))) == [data(b"some ", complete=False)]
    assert take(protocol, data_pdu(pdv(3, LAST, b"data"))) == [data(b"data")]

    assert take(protocol, RELEASE_RQ) == [ReleaseRequested()]
    protocol.check_data(memoryview(ECHO_RQ))  # a late answer may still be sent (AR-7)
    protocol.respond_release()
    assert protocol.data_to_send() == RELEASE_RP
    assert protocol.is_over
    assert protocol.state is not State.IDLE
    protocol.connection_lost()
    assert protocol.state is State.IDLE
    assert protocol.next_event() is None


def test_rejection() -> None:
    protocol = AssociationProtocol(Role.ACCEPTOR)
    protocol.connected()
    take(protocol, ASSOCIATE_RQ)
    protocol.reject(REJECTION)
    assert protocol.data_to_send() == ASSOCIATE_RJ
    assert protocol.state is State.AWAITING_CLOSE
    protocol.artim_expired()
    assert protocol.state is State.IDLE

    protocol = AssociationProtocol(Role.REQUESTOR)
    protocol.connecting()
    protocol.connected(REQUEST)
    assert take(protocol, ASSOCIATE_RJ) == [AssociateRejected(REJECTION)]
    assert protocol.state is State.IDLE


@pytest.mark.parametrize("role", Role)
def test_abort_drops_what_was_to_be_sent(role: Role) -> None:
    protocol = established(role)
    protocol.release()
    protocol.abort()
    assert protocol.data_to_send() == USER_ABORT
    assert protocol.is_over


def test_abort_for_a_reason() -> None:
    protocol = established(Role.ACCEPTOR)
    protocol.abort(AbortSource.SERVICE_PROVIDER, AbortReason.UNEXPECTED_PDU)
    assert protocol.data_to_send() == abort(2, UNEXPECTED)


def test_abort_before_there_is_a_connection() -> None:
    protocol = AssociationProtocol(Role.REQUESTOR)
    protocol.connecting()
    protocol.abort()
    assert protocol.data_to_send() == b""
    assert protocol.state is State.IDLE


@pytest.mark.parametrize("role", Role)
def test_abort_by_the_peer(role: Role) -> None:
    protocol = established(role)
    assert take(protocol, abort(2, INVALID)) == [PeerAborted(Abort(2, INVALID))]
    assert protocol.state is State.IDLE


@pytest.mark.parametrize("role", Role)
def test_connection_lost(role: Role) -> None:
    protocol = established(role)
    take(protocol, STORE_RQ)
    protocol.connection_lost()
    assert protocol.next_event() == ConnectionClosed()
    assert protocol.next_event() is None
    assert protocol.state is State.IDLE


def test_an_answer_that_cannot_be_encoded_changes_nothing() -> None:
    protocol = acceptor()
    take(protocol, ASSOCIATE_RQ)
    nameless = AssociateAC(application_context_name=UID(""))
    with pytest.raises(ValueError, match="application_context_name"):
        protocol.accept(nameless)
    assert protocol.state is State.AWAITING_LOCAL_RESPONSE
    assert protocol.data_to_send() == b""
    protocol.accept(ACCEPTANCE)
    assert protocol.data_to_send() == ASSOCIATE_AC


# Two protocols that talk in memory


class Pair:
    """A requestor and an acceptor, and what each was told."""

    def __init__(self) -> None:
        self.ends = AssociationProtocol(Role.REQUESTOR), AssociationProtocol(Role.ACCEPTOR)
        self.told: tuple[list[Event], list[Event]] = ([], [])

    def exchange(self, piece: int = 1 << 20) -> None:
        """Carry bytes to and fro, in pieces of `piece` bytes, until both are silent."""
        moved = True
        while moved:
            moved = False
            for source, target, told in (
                (self.ends[0], self.ends[1], self.told[1]),
                (self.ends[1], self.ends[0], self.told[0]),
            ):
                sent = source.data_to_send()
                moved = moved or bool(sent)
                self.carry(sent, target, told, piece)

    @staticmethod
    def carry(sent: bytes, target: AssociationProtocol, told: list[Event], piece: int) -> None:
        for at in range(0, len(sent), piece):
            told += take(target, sent[at : at + piece])


@pytest.mark.parametrize("piece", [1, 7, 1 << 20])
def test_two_ends_in_memory(piece: int) -> None:
    pair = Pair()
    client, server = pair.ends
    server.connected()
    client.connecting()
    client.connected(REQUEST)
    pair.exchange(piece)
    server.accept(ACCEPTANCE)
    pair.exchange(piece)
    for end in pair.ends:
        end.accepted_ids = frozenset({1, 3})
        end.maximum_length = 100

    dataset = bytes(range(256)) * 2
    buffer = memoryview(bytearray(300))
    packer = client.packer(buffer, 3, client.pack(3, STORE))
    left = memoryview(dataset)
    while left:
        filled = 0
        for gap in packer.gaps(len(left)):
            gap[:] = left[: len(gap)]
            left = left[len(gap) :]
            filled += len(gap)
        sealed = packer.seal(filled, last=not left)
        client.check_data(sealed)
        pair.carry(bytes(sealed), server, pair.told[1], piece)
    server.check_data(memoryview(server.pack(1, ECHO_RESPONSE)))
    pair.carry(server.pack(1, ECHO_RESPONSE), client, pair.told[0], piece)

    client.release()
    pair.exchange(piece)
    server.respond_release()
    pair.exchange(piece)
    server.connection_lost()
    assert merge(pair.told[0]) == [
        AssociateAccepted(ACCEPTANCE),
        CommandReceived(1, ECHO_RESPONSE),
        ReleaseConfirmed(),
    ]
    assert merge(pair.told[1]) == [
        AssociateRequested(REQUEST),
        CommandReceived(3, STORE),
        data(dataset),
        ReleaseRequested(),
    ]
    assert all(end.state is State.IDLE for end in pair.ends)


@pytest.mark.parametrize("in_front", [True, False], ids=["caller", "protocol"])
def test_held_headers_are_put_in_front_of_what_follows(in_front: bool) -> None:
    protocol = established(Role.ACCEPTOR)
    (expected,) = take(protocol, ECHO_RQ)
    assert take(protocol, ECHO_RQ[:12]) == []
    assert protocol.held == ECHO_RQ[:12]
    protocol.receive_data(ECHO_RQ[0 if in_front else 12 :], begins_with_held=in_front)
    assert protocol.held == b""
    assert protocol.next_event() == expected
    assert protocol.next_event() is None


def test_what_waits_survives_the_buffer_that_it_came_in() -> None:
    """Events that have been returned can be put back, and bytes kept that none was made of."""
    protocol = established(Role.ACCEPTOR)
    buffer = bytearray(ECHO_RQ + ECHO_RQ + RELEASE_RQ)
    protocol.receive_data(memoryview(buffer))
    first = protocol.next_event()
    assert isinstance(first, CommandReceived)
    assert not protocol.events
    protocol.put_back(first)
    assert protocol.events
    protocol.keep_data()
    buffer[:] = bytes(len(buffer))
    assert protocol.next_event() is first
    assert not protocol.events
    assert isinstance(protocol.next_event(), CommandReceived)
    assert isinstance(protocol.next_event(), ReleaseRequested)
    assert protocol.next_event() is None


def test_both_ends_want_the_release() -> None:
    """PS3.8 Section 9.2: the acceptor waits for the requestor's answer before it gives its own."""
    pair = Pair()
    pair.ends = client, server = established(Role.REQUESTOR), established(Role.ACCEPTOR)
    client.release()
    server.release()
    to_server, to_client = client.data_to_send(), server.data_to_send()
    assert to_server == to_client == RELEASE_RQ

    pair.carry(to_server, server, pair.told[1], 1 << 20)
    assert server.state is State.COLLISION_ACCEPTOR_REPLY
    assert server.data_to_send() == b""
    pair.carry(to_client, client, pair.told[0], 1 << 20)
    assert client.state is State.COLLISION_REQUESTOR_REPLY
    pair.exchange()
    assert pair.told == ([ReleaseConfirmed()], [ReleaseConfirmed()])
    assert client.state is State.IDLE
    assert server.state is State.AWAITING_CLOSE


@pytest.mark.parametrize("role", Role)
def test_data_while_the_release_is_awaited(role: Role) -> None:
    protocol = established(role)
    protocol.release()
    assert take(protocol, ECHO_RQ) == [CommandReceived(1, ECHO)]
    assert protocol.state is State.AWAITING_RELEASE_REPLY


# The network cuts where it likes

CONVERSATION = (
    ASSOCIATE_RQ
    + ECHO_RQ
    + data_pdu(pdv(3, COMMAND, STORE_COMMAND[:50]), pdv(3, COMMAND | LAST, STORE_COMMAND[50:]))
    + data_pdu(pdv(3, 0, b"some "), pdv(3, 0, b""), pdv(3, 0, b"more "))
    + data_pdu(pdv(3, LAST, b"data"))
    + RELEASE_RQ
)
TOLD: list[Event] = [
    AssociateRequested(REQUEST),
    CommandReceived(1, ECHO),
    CommandReceived(3, STORE),
    data(b"some more data"),
    ReleaseRequested(),
]


def converse(chunks: list[bytes], recorder: Recorder | None = None) -> list[Event]:
    """Return what an acceptor that accepts is told, and check what it sends."""
    protocol = acceptor()
    protocol.observe(recorder)
    protocol.accepted_ids = frozenset({1, 3})
    told: list[Event] = []
    for chunk in chunks:
        protocol.receive_data(chunk)
        while (event := protocol.next_event()) is not None:
            if isinstance(event, DataReceived):
                event.chunks = [memoryview(b"".join(event.chunks))]
            elif isinstance(event, AssociateRequested):
                protocol.accept(ACCEPTANCE)
            elif isinstance(event, ReleaseRequested):
                protocol.respond_release()
            told.append(event)
    assert protocol.data_to_send() == ASSOCIATE_AC + RELEASE_RP
    assert protocol.state is State.AWAITING_CLOSE
    return merge(told)


@pytest.mark.parametrize("at", range(len(CONVERSATION) + 1))
def test_split_at_every_byte(at: int) -> None:
    assert converse([CONVERSATION[:at], CONVERSATION[at:]]) == TOLD


def test_byte_by_byte() -> None:
    assert converse([bytes((byte,)) for byte in CONVERSATION]) == TOLD


@pytest.mark.parametrize("observed", [False, True])
@pytest.mark.parametrize("size", [1, 13, len(CONVERSATION)])
def test_observers_see_the_same(observed: bool, size: int) -> None:
    recorder = Recorder() if observed else None
    chunks = [CONVERSATION[at : at + size] for at in range(0, len(CONVERSATION), size)]
    assert converse(chunks, recorder) == TOLD
    if recorder is None:
        return
    assert recorder.seen == [
        "received",
        REQUEST,
        "Sta2 Evt6 AE-6 Sta3",
        "sent",
        ACCEPTANCE,
        "Sta3 Evt7 AE-7 Sta6",
        "Sta6 Evt10 DT-2 Sta6",
        "received",
        PDataTF([(1, COMMAND | LAST, ECHO_COMMAND)]),
        "Sta6 Evt10 DT-2 Sta6",
        "received",
        PDataTF([(3, COMMAND, STORE_COMMAND[:50]), (3, COMMAND | LAST, STORE_COMMAND[50:])]),
        "Sta6 Evt10 DT-2 Sta6",
        "received",
        PDataTF([(3, 0, b"some "), (3, 0, b""), (3, 0, b"more ")]),
        "Sta6 Evt10 DT-2 Sta6",
        "received",
        PDataTF([(3, LAST, b"data")]),
        "received",
        ReleaseRQ(),
        "Sta6 Evt12 AR-2 Sta8",
        "sent",
        ReleaseRP(),
        "Sta8 Evt14 AR-4 Sta13",
    ]


def test_several_messages_in_one_pdu() -> None:
    protocol = established(Role.ACCEPTOR)
    sent = data_pdu(
        pdv(1, COMMAND | LAST, ECHO_COMMAND),
        pdv(3, COMMAND | LAST, STORE_COMMAND),
        pdv(3, LAST, b"data"),
        pdv(1, COMMAND | LAST, ECHO_COMMAND),
    )
    assert take(protocol, sent) == [
        CommandReceived(1, ECHO),
        CommandReceived(3, STORE),
        data(b"data"),
        CommandReceived(1, ECHO),
    ]


def test_what_has_begun_and_not_ended() -> None:
    protocol = established(Role.ACCEPTOR)
    dataset = data_pdu(pdv(3, LAST, b"data"))
    assert not protocol.mid_message
    for sent, is_within in [
        (ECHO_RQ[:3], True),
        (ECHO_RQ[3:], False),
        (STORE_RQ, True),  # the dataset is to follow
        (dataset[:-1], True),
        (dataset[-1:], False),
    ]:
        take(protocol, sent)
        assert protocol.mid_message is is_within


def test_at_rest() -> None:
    assert not acceptor().is_at_rest
    protocol = established(Role.ACCEPTOR)
    assert protocol.is_at_rest
    for byte in ECHO_RQ:
        protocol.receive_data(bytes((byte,)))
        assert not protocol.is_at_rest
        protocol.next_event()
    assert protocol.is_at_rest
    protocol.put_back(ReleaseRequested())
    assert not protocol.is_at_rest
    protocol.next_event()
    protocol.observe(Recorder())
    assert not protocol.is_at_rest
    protocol.observe(None)
    protocol.release()
    assert not protocol.is_at_rest


def test_data_come_before_the_end_that_follows_them() -> None:
    protocol = established(Role.ACCEPTOR)
    take(protocol, STORE_RQ)
    assert take(protocol, data_pdu(pdv(3, 0, b"half")) + USER_ABORT) == [
        data(b"half", complete=False),
        PeerAborted(Abort(0, 0)),
    ]


def test_data_come_before_the_violation_that_follows_them() -> None:
    protocol = established(Role.ACCEPTOR)
    take(protocol, STORE_RQ)
    first, second = take(protocol, data_pdu(pdv(3, 0, b"half")) + UNKNOWN_PDU)
    assert first == data(b"half", complete=False)
    assert isinstance(second, ProtocolViolated)
    assert protocol.data_to_send() == abort(2, UNRECOGNIZED)
    assert_ignores_input(protocol)


def test_empty_values() -> None:
    protocol = established(Role.ACCEPTOR)
    empty_command = data_pdu(pdv(3, COMMAND, b"")) * 10
    assert take(protocol, empty_command + STORE_RQ) == [CommandReceived(3, STORE)]
    assert take(protocol, data_pdu(*[pdv(3, 0, b"")] * 1000)) == []
    assert take(protocol, data_pdu(pdv(3, LAST, b""))) == [data(b"")]


def test_rest_of_a_pdu_after_our_abort_is_dropped() -> None:
    protocol = established(Role.ACCEPTOR)
    take(protocol, STORE_RQ)
    sent = data_pdu(pdv(3, LAST, b"0123456789"))
    assert take(protocol, sent[:15]) == [data(b"012", complete=False)]
    protocol.abort()
    assert take(protocol, sent[15:] + ECHO_RQ + RELEASE_RQ) == []
    assert protocol.data_to_send() == USER_ABORT
    assert protocol.state is State.AWAITING_CLOSE


def test_release_in_mid_message_after_our_abort_is_ignored() -> None:
    """PS3.8 Table 9-10, Sta13: only a request or an invalid PDU is answered again."""
    protocol = established(Role.ACCEPTOR)
    take(protocol, STORE_RQ)
    protocol.abort()
    protocol.data_to_send()
    assert take(protocol, RELEASE_RQ + RELEASE_RP) == []
    assert protocol.data_to_send() == b""


def test_bytes_after_the_end_are_not_read() -> None:
    protocol = established(Role.REQUESTOR)
    assert take(protocol, USER_ABORT + UNKNOWN_PDU + ASSOCIATE_RQ) == [PeerAborted(Abort(0, 0))]
    assert take(protocol, ECHO_RQ) == []
    assert protocol.data_to_send() == b""
    assert protocol.state is State.IDLE


# What is no DICOM, and what is a lie

STRANGERS = {
    "TLS hello": bytes.fromhex("16030100fa010000f60303") + bytes(0xF0),
    "HL7": b"\x0bMSH|^~\\&|RIS|HOSPITAL|PACS|HOSPITAL|202401010000||ORM^O01|1|P|2.3\r\x1c\r",
    "HTTP": b"GET / HTTP/1.1\r\nHost: archive.example\r\n\r\n",
    "SSH": b"SSH-2.0-client\r\n",
    "HTTP answer": b"HTTP/1.1 400 Bad Request\r\n\r\n",
    "HTTP page": b"<!DOCTYPE HTML>\n<html>",
    "HTTP 2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "TLS alert": bytes.fromhex("15030300020246"),
    "zeros": bytes(4096),
    "ones": b"\xff" * 4096,
}


@pytest.mark.parametrize("stranger", STRANGERS)
def test_stranger(stranger: str) -> None:
    protocol = acceptor()
    sent = STRANGERS[stranger]
    language = stranger.partition(" ")[0]
    told = violation(protocol, sent)
    assert told.startswith(f"unknown PDU type 0x{sent[0]:02X}")
    assert (f": the peer speaks {language}" in told) == (language in ("TLS", "HTTP", "SSH"))
    assert protocol.data_to_send() == abort(2, UNRECOGNIZED)
    assert_ignores_input(protocol)


LENGTHS = [0, 1, 0xFFFF, 1 << 31, (1 << 32) - 1]


@pytest.mark.parametrize("observed", [False, True])
@pytest.mark.parametrize("length", [*LENGTHS, 9, 11])
def test_length_of_a_value(length: int, observed: bool) -> None:
    """Wherever the peer claims 10 bytes and any other number."""
    protocol = established(Role.ACCEPTOR)
    protocol.observe(Recorder() if observed else None)
    take(protocol, STORE_RQ)
    text = violation(protocol, data_pdu(pdv(3, LAST, b"01234567", length=length)))
    assert text == f"presentation data value of {length} bytes in 14 bytes of PDU"
    assert protocol.data_to_send() == abort(2, INVALID)
    assert_ignores_input(protocol)


BODIES = {
    PDUType.ASSOCIATE_RQ: ASSOCIATE_RQ[6:],
    PDUType.ASSOCIATE_AC: ASSOCIATE_AC[6:],
    PDUType.ASSOCIATE_RJ: ASSOCIATE_RJ[6:],
    PDUType.P_DATA_TF: ECHO_RQ[6:],
    PDUType.RELEASE_RQ: bytes(4),
    PDUType.RELEASE_RP: bytes(4),
    PDUType.ABORT: bytes(4),
}
STATES = {
    "Sta2": acceptor,
    "Sta6 acceptor": lambda: established(Role.ACCEPTOR),
    "Sta6 requestor": lambda: established(Role.REQUESTOR),
}


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("length", [*LENGTHS, "actual - 1", "actual + 1"])
@pytest.mark.parametrize("pdu_type", PDUType)
def test_length_of_a_pdu(pdu_type: PDUType, length: int | str, state: str) -> None:
    """Either the PDU is found to be wrong, or more of it is awaited: no third thing."""
    protocol = STATES[state]()
    body = BODIES[pdu_type]
    claimed = len(body) + {"actual - 1": -1, "actual + 1": 1}.get(length, 0)
    if isinstance(length, int):
        claimed = length
    events = take(protocol, pdu(pdu_type, body, length=claimed))
    if events == [CommandReceived(1, ECHO)]:  # a value is read before its PDU is complete
        events = []
    if events:
        assert [type(event) for event in events] == [ProtocolViolated]
        assert protocol.state is State.AWAITING_CLOSE
        assert protocol.data_to_send() in (
            abort(2, UNEXPECTED),
            abort(2, INVALID),
            abort(2, UNEXPECTED) + abort(2, INVALID),  # AA-1, and AA-7 for what is in the PDU
        )
    else:
        assert claimed > len(body)
        assert protocol.data_to_send() == b""
        protocol.artim_expired()
        protocol.connection_lost()
        assert protocol.state is State.IDLE


@pytest.mark.parametrize("pdu_type", PDUType)
def test_four_gib_before_the_association(pdu_type: PDUType) -> None:
    protocol = acceptor()
    header = pdu(pdu_type, b"", length=(1 << 32) - 1)
    tracemalloc.start()
    try:
        violation(protocol, header)
        flood = bytes(64 * 1024)
        for _ in range(1000):
            assert take(protocol, flood) == []
        assert tracemalloc.get_traced_memory()[1] < 256 * 1024
    finally:
        tracemalloc.stop()
    if pdu_type is PDUType.P_DATA_TF:  # AA-1, and AA-7 for what is in the PDU
        assert protocol.data_to_send() == abort(2, UNEXPECTED) + abort(2, INVALID)
    else:
        assert protocol.data_to_send() == abort(2, INVALID)
    assert protocol.state is State.AWAITING_CLOSE


@pytest.mark.parametrize("observed", [False, True])
def test_four_gib_of_data_stream_without_memory(observed: bool) -> None:
    protocol = established(Role.ACCEPTOR)
    recorder = Recorder()
    protocol.observe(recorder if observed else None)
    take(protocol, STORE_RQ)
    size = 4 * GIB - 8
    view = memoryview(bytes(256 * 1024))
    recorder.seen.clear()
    tracemalloc.start()
    try:
        header = struct.pack(">BxIIBB", 4, size + 6, size + 2, 3, LAST)
        assert take(protocol, header) == []
        left = size
        while left:
            protocol.receive_data(view[: min(left, len(view))])
            event = protocol.next_event()
            assert isinstance(event, DataReceived)
            left -= sum(map(len, event.chunks))
            assert event.complete == (not left)
            assert protocol.next_event() is None
        assert tracemalloc.get_traced_memory()[1] < (4 << 20 if observed else 64 * 1024)
    finally:
        tracemalloc.stop()
    assert take(protocol, ECHO_RQ) == [CommandReceived(1, ECHO)]
    if observed:
        shown = recorder.seen[2]
        assert isinstance(shown, PDataTF)
        assert len(shown.encode()) - 6 == 1 << 20  # the beginning


# Messages out of order


def test_command_without_end() -> None:
    protocol = established(Role.ACCEPTOR)
    piece = data_pdu(pdv(1, COMMAND, bytes(16376)))
    ceiling = Limits().command_set
    for _ in range(ceiling // 16376):
        assert take(protocol, piece) == []
    assert violation(protocol, piece) == f"command set of more than {ceiling} bytes"
    assert protocol.data_to_send() == USER_ABORT
    assert_ignores_input(protocol)


def test_command_in_one_value_without_end() -> None:
    protocol = established(Role.ACCEPTOR, Limits(command_set=1000))
    header = struct.pack(">BxIIBB", 4, 2 * GIB + 6, 2 * GIB + 2, 1, COMMAND | LAST)
    assert take(protocol, header + bytes(1000)) == []
    violation(protocol, bytes(1))
    assert protocol.data_to_send() == USER_ABORT
    assert_ignores_input(protocol)


def test_dataset_without_end() -> None:
    """It is for whoever stores it to say how much is too much."""
    protocol = established(Role.ACCEPTOR)
    take(protocol, STORE_RQ)
    piece = data_pdu(pdv(3, 0, bytes(16376)))
    for _ in range(1000):
        assert take(protocol, piece) == [data(bytes(16376), complete=False)]


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize(
    ("sent", "text", "answer"),
    [
        (data_pdu(pdv(3, LAST, b"data")), "no command announced", USER_ABORT),
        (STORE_RQ + ECHO_RQ, "command before the dataset of C-STORE-RQ ended", USER_ABORT),
        (STORE_RQ + data_pdu(pdv(1, LAST, b"data")), "dataset on .* context 1", USER_ABORT),
        (data_pdu(pdv(1, COMMAND | LAST, b"no command")), "", USER_ABORT),
        (data_pdu(pdv(1, COMMAND | LAST, b"")), "without CommandField", USER_ABORT),
        (
            data_pdu(pdv(5, COMMAND | LAST, ECHO_COMMAND)),
            "context 5, which was not accepted",
            abort(2, INVALID),
        ),
        (data_pdu(pdv(0, COMMAND, b"")), "context 0, which was not accepted", abort(2, INVALID)),
        (STORE_RQ + RELEASE_RQ, "release before the end of a message", abort(2, UNEXPECTED)),
        (
            data_pdu(pdv(1, COMMAND, b"")) + RELEASE_RQ,
            "release before the end of a message",
            abort(2, UNEXPECTED),
        ),
        (ASSOCIATE_RQ, "AssociateRQ received in Sta6", abort(2, UNEXPECTED)),
        (RELEASE_RP, "ReleaseRP received in Sta6", abort(2, UNEXPECTED)),
    ],
)
def test_violation(role: Role, sent: bytes, text: str, answer: bytes) -> None:
    protocol = established(role)
    *_, event = take(protocol, sent)
    assert isinstance(event, ProtocolViolated)
    assert re.search(text, str(event.error))
    assert protocol.data_to_send() == answer
    assert protocol.state is State.AWAITING_CLOSE


def test_release_answered_in_mid_message() -> None:
    protocol = established(Role.REQUESTOR)
    protocol.release()
    protocol.data_to_send()
    take(protocol, STORE_RQ)
    assert violation(protocol, RELEASE_RP) == "release before the end of a message"
    assert protocol.data_to_send() == abort(2, UNEXPECTED)


def test_data_after_release() -> None:
    protocol = established(Role.ACCEPTOR)
    assert take(protocol, RELEASE_RQ) == [ReleaseRequested()]
    assert violation(protocol, ECHO_RQ) == "P-DATA-TF received in Sta8"
    assert protocol.data_to_send() == abort(2, UNEXPECTED)
    with pytest.raises(LocalProtocolError):
        protocol.respond_release()


def test_data_after_release_was_agreed() -> None:
    protocol = established(Role.ACCEPTOR)
    take(protocol, RELEASE_RQ)
    protocol.respond_release()
    protocol.data_to_send()
    assert take(protocol, ECHO_RQ + STORE_RQ) == []
    assert protocol.data_to_send() == b""


def test_data_before_the_association_was_accepted() -> None:
    protocol = acceptor()
    first, second = take(protocol, ASSOCIATE_RQ + ECHO_RQ)
    assert first == AssociateRequested(REQUEST)
    assert isinstance(second, ProtocolViolated)
    assert str(second.error) == "P-DATA-TF received in Sta3"


# Observers


def test_observer_of_data_that_are_sent() -> None:
    protocol = established(Role.REQUESTOR)
    recorder = Recorder()
    protocol.observe(recorder)
    packer = protocol.packer(memoryview(bytearray(200)), 3, protocol.pack(3, STORE))
    [gap] = packer.gaps(4)
    gap[:] = b"data"
    protocol.check_data(packer.seal(4, last=True))
    assert recorder.seen == [
        "Sta6 Evt9 DT-1 Sta6",
        "sent",
        PDataTF([(3, COMMAND | LAST, STORE_COMMAND)]),
        "sent",
        PDataTF([(3, LAST, b"data")]),
    ]


def test_observer_comes_and_goes() -> None:
    protocol = established(Role.ACCEPTOR)
    recorder = Recorder()
    take(protocol, ECHO_RQ[:10])
    protocol.observe(recorder)
    take(protocol, ECHO_RQ[10:])
    assert recorder.seen == ["received", PDataTF([(1, COMMAND | LAST, ECHO_COMMAND)])]
    take(protocol, ECHO_RQ[:20])
    protocol.observe(None)
    assert take(protocol, ECHO_RQ[20:] + ECHO_RQ) == [CommandReceived(1, ECHO)] * 2
    assert recorder.seen[2:] == ["Sta6 Evt10 DT-2 Sta6"]


def test_an_observer_sees_all_of_a_command_that_has_only_begun() -> None:
    protocol = established(Role.ACCEPTOR)
    recorder = Recorder()
    take(protocol, ECHO_RQ[:20])
    protocol.observe(recorder)
    take(protocol, ECHO_RQ[20:])
    whole = PDataTF([(1, COMMAND | LAST, ECHO_COMMAND)])
    assert recorder.seen == ["Sta6 Evt10 DT-2 Sta6", "received", whole]


@pytest.mark.parametrize("end", range(1, len(ECHO_RQ)))
def test_a_command_in_two_parts(end: int) -> None:
    protocol = established(Role.ACCEPTOR)
    assert take(protocol, ECHO_RQ[:end]) == []
    assert protocol.mid_message
    assert not protocol.is_at_rest
    protocol.receive_data(b"")  # the caller reuses its buffer
    assert take(protocol, ECHO_RQ[end:] + ECHO_RQ) == [CommandReceived(1, ECHO)] * 2
    assert protocol.is_at_rest


def test_the_end_of_the_connection_in_a_command() -> None:
    protocol = established(Role.ACCEPTOR)
    assert take(protocol, ECHO_RQ[:20]) == []
    protocol.connection_lost()
    assert protocol.next_event() == ConnectionClosed()
    assert protocol.next_event() is None


def test_observer_of_aborts_and_collisions() -> None:
    protocol = established(Role.REQUESTOR)
    recorder = Recorder()
    protocol.observe(recorder)
    protocol.release()
    take(protocol, RELEASE_RQ + UNKNOWN_PDU)
    assert recorder.seen == [
        "sent",
        ReleaseRQ(),
        "Sta6 Evt11 AR-1 Sta7",
        "received",
        ReleaseRQ(),
        "Sta7 Evt12 AR-8 Sta9",
        "sent",
        ReleaseRP(),
        "Sta9 Evt14 AR-9 Sta11",
        "sent",
        Abort(2, UNRECOGNIZED),
        "Sta11 Evt19 AA-8 Sta13",
    ]


class Aborter(Recorder):
    """An observer that aborts the association when it has been shown `countdown` things."""

    def __init__(self, protocol: AssociationProtocol, countdown: int) -> None:
        super().__init__()
        self.protocol = protocol
        self.countdown = countdown
        self.aborted = False

    def tick(self) -> None:
        self.countdown -= 1
        if self.countdown == 0 and not self.protocol.is_over:
            self.protocol.abort()
            self.aborted = True

    def pdu_received(self, pdu: PDU) -> None:
        super().pdu_received(pdu)
        self.tick()

    def pdu_sent(self, pdu: PDU) -> None:
        super().pdu_sent(pdu)
        self.tick()

    def transition(self, state: State, trigger: Trigger, action: Action, following: State) -> None:
        super().transition(state, trigger, action, following)
        self.tick()


@pytest.mark.parametrize(
    ("role", "countdown"),
    [(Role.REQUESTOR, n) for n in range(1, 14)] + [(Role.ACCEPTOR, n) for n in range(1, 13)],
)
def test_abort_by_an_observer(role: Role, countdown: int) -> None:
    """Wherever that is, the A-ABORT is the last that is sent, and no call fails."""
    protocol = established(role)
    aborter = Aborter(protocol, countdown)
    protocol.observe(aborter)
    script: list[Callable[[], object]] = [
        lambda: take(protocol, ECHO_RQ),
        lambda: take(protocol, STORE_RQ + data_pdu(pdv(3, 0, b"some "), pdv(3, LAST, b"data"))),
        protocol.release,
        lambda: take(protocol, RELEASE_RQ),
        lambda: take(protocol, RELEASE_RP),
    ]
    while not aborter.aborted:
        script.pop(0)()
    assert protocol.data_to_send() == USER_ABORT
    assert protocol.state is State.AWAITING_CLOSE
    assert take(protocol, ECHO_RQ) == []
    assert protocol.data_to_send() == b""
    steps = [seen.split() for seen in aborter.seen if isinstance(seen, str) and " " in seen]
    assert [step[2:] for step in steps].count(["AA-1", "Sta13"]) == 1


# Whatever comes


def assert_sane(protocol: AssociationProtocol) -> None:
    """At most one A-ABORT of ours, and nothing else, answers nonsense."""
    sent = protocol.data_to_send()
    assert len(sent) % 10 == 0
    while sent:
        assert sent[:6] == USER_ABORT[:6] or sent[:6] == RELEASE_RP[:6]
        sent = sent[10:]


@given(noise=st.binary(max_size=200), role=st.sampled_from(Role))
def test_noise(noise: bytes, role: Role) -> None:
    for protocol in (acceptor(), established(role)):
        take(protocol, noise)
        assert_sane(protocol)


@given(data=st.data(), observed=st.booleans())
def test_mutated_conversation(data: st.DataObject, observed: bool) -> None:
    script = bytearray(CONVERSATION)
    for _ in range(data.draw(st.integers(1, 4))):
        script[data.draw(st.integers(0, len(script) - 1))] = data.draw(st.integers(0, 255))
    del script[data.draw(st.integers(0, len(script))) :]
    protocol = acceptor()
    protocol.observe(Recorder() if observed else None)
    protocol.accepted_ids = frozenset({1, 3})
    protocol.receive_data(bytes(script))
    while (event := protocol.next_event()) is not None:
        if isinstance(event, AssociateRequested):
            protocol.accept(ACCEPTANCE)
            assert protocol.data_to_send() == ASSOCIATE_AC
    assert_sane(protocol)
    protocol.connection_lost()
    assert protocol.state is State.IDLE


def test_an_association_whose_request_is_answered_by_the_caller():
    protocol = AssociationProtocol(Role.ACCEPTOR)
    protocol.establish(frozenset({1}), 4096)
    assert protocol.state is State.ESTABLISHED
    assert protocol.accepted_ids == {1}
    assert protocol.maximum_length == 4096
    protocol.receive_data(ReleaseRQ().encode())
    assert isinstance(protocol.next_event(), ReleaseRequested)
    protocol.respond_release()
    assert protocol.data_to_send() == ReleaseRP().encode()
