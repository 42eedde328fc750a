"""The short cut for usual messages gives what the general way gives, and leaves it the others."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.uid import UID
from strategies import u16, uids
from upper_layer_bytes import COMMAND, LAST, command_set, data_pdu, element, pdv, us

from dicomwire.errors import RemoteProtocolError
from dicomwire.protocol.association import AssociationProtocol
from dicomwire.protocol.command import Command, Message, decode_command, encode_command
from dicomwire.protocol.dimse import Assembler, pack_command
from dicomwire.protocol.events import CommandReceived, DataReceived, Event
from dicomwire.protocol.exchanges import pack_success
from dicomwire.protocol.framing import Framer
from dicomwire.protocol.limits import Limits
from dicomwire.protocol.states import Role, State
from dicomwire.protocol.usual import (
    UID_LENGTH_AT,
    decode_rest,
    decode_start,
    encode_usual,
    start_size,
)

CT = UID("1.2.840.10008.5.1.4.1.1.2")
REQUESTS = (Command.C_STORE_RQ, Command.C_ECHO_RQ)
RESPONSES = (Command.C_STORE_RSP, Command.C_ECHO_RSP, Command.C_FIND_RSP)


def usual(command: Command, **changes: object) -> Message:
    """A message of a usual shape."""
    message = Message(command, AffectedSOPClassUID=CT)
    if command in REQUESTS:
        message.MessageID = 7
    else:
        message.MessageIDBeingRespondedTo, message.Status = 7, 0
    if command in (Command.C_STORE_RQ, Command.C_STORE_RSP):
        message.AffectedSOPInstanceUID = UID("1.2.3.4")
    if command is Command.C_STORE_RQ:
        message.Priority, message.has_dataset = 0, True
    return replace(message, **changes)  # type: ignore[arg-type]


@st.composite
def messages(draw: st.DrawFn) -> Message:
    """Messages that are usual, or nearly so."""
    command = draw(st.sampled_from((*REQUESTS, *RESPONSES, Command.C_FIND_RQ)))
    message = Message(command, has_dataset=draw(st.booleans()))
    message.AffectedSOPClassUID = draw(uids.map(UID))
    message.AffectedSOPInstanceUID = draw(uids.map(UID))
    message.MessageID = message.MessageIDBeingRespondedTo = draw(u16)
    message.Priority = draw(st.integers(0, 2))
    message.Status = draw(u16)
    message.ErrorComment = draw(st.none() | st.just("out of space"))
    message.ErrorID = draw(st.none() | u16)
    message.MoveOriginatorMessageID = draw(st.none() | u16)
    return message


def decode_usual(data: bytes) -> Message | None:
    """Decode a complete command set by the short cut."""
    if len(data) <= UID_LENGTH_AT:
        return None
    size = start_size(data[UID_LENGTH_AT])
    start = decode_start(data[:size])
    return None if start is None else decode_rest(*start, data[size:])


def general(data: bytes) -> Message | None:
    try:
        return decode_command(data)
    except RemoteProtocolError:
        return None


@given(messages())
def test_both_ways_encode_a_message_to_the_same_bytes(message: Message) -> None:
    assert encode_usual(message) in (None, encode_command(message))


@given(messages(), st.data())
def test_both_ways_decode_bytes_to_the_same_message(message: Message, data: st.DataObject) -> None:
    encoded = bytearray(encode_command(message))
    assert decode_usual(bytes(encoded)) in (None, decode_command(encoded))

    for _ in range(data.draw(st.integers(1, 3))):
        encoded[data.draw(st.integers(0, len(encoded) - 1))] = data.draw(st.integers(0, 255))
    assert decode_usual(bytes(encoded)) in (None, general(bytes(encoded)))

    cut = bytes(encoded[: data.draw(st.integers(0, len(encoded)))])
    assert decode_usual(cut) in (None, general(cut))


@given(messages(), st.sampled_from((0, 64, 16384)))
def test_both_ways_answer_a_request_with_the_same_bytes(request: Message, maximum: int) -> None:
    response = Message(
        Command(request.command | 0x8000),
        MessageIDBeingRespondedTo=request.MessageID,
        AffectedSOPClassUID=request.AffectedSOPClassUID,
        AffectedSOPInstanceUID=request.AffectedSOPInstanceUID,
        Status=0x0000,
    )
    packed = pack_success(1, request, maximum)
    assert packed in (None, pack_command(1, response, maximum))


@pytest.mark.parametrize("command", REQUESTS)
def test_a_usual_request_is_answered_without_making_a_message(command: Command) -> None:
    assert pack_success(1, usual(command), 0) is not None


@pytest.mark.parametrize(
    "request_",
    [
        usual(Command.C_STORE_RSP),
        usual(Command.C_STORE_RQ, AffectedSOPClassUID=None),
        usual(Command.C_STORE_RQ, AffectedSOPInstanceUID=None),
        usual(Command.C_STORE_RQ, AffectedSOPInstanceUID="instance"),
        usual(Command.C_STORE_RQ, MessageID=None),
    ],
)
def test_another_request_is_answered_with_a_message(request_: Message) -> None:
    assert pack_success(1, request_, 0) is None


def test_a_response_that_needs_two_pdus_is_left_to_the_general_way() -> None:
    assert pack_success(1, usual(Command.C_ECHO_RQ), 64) is None


@pytest.mark.parametrize("command", [*REQUESTS, *RESPONSES])
def test_usual_messages_take_the_short_cut(command: Command) -> None:
    message = usual(command)

    encoded = encode_usual(message)

    assert encoded == encode_command(message)
    assert decode_usual(encoded) == message


@pytest.mark.parametrize(
    "message",
    [
        usual(Command.C_STORE_RQ, AffectedSOPClassUID=None),
        usual(Command.C_STORE_RQ, AffectedSOPClassUID="1.2\u0663"),
        usual(Command.C_STORE_RQ, AffectedSOPClassUID="1." * 33),
        usual(Command.C_STORE_RQ, AffectedSOPInstanceUID=None),
        usual(Command.C_STORE_RQ, AffectedSOPInstanceUID="instance"),
        usual(Command.C_STORE_RQ, MessageID=None),
        usual(Command.C_STORE_RQ, MessageID=0x10000),
        usual(Command.C_STORE_RQ, Priority=3),
        usual(Command.C_STORE_RQ, MoveOriginatorApplicationEntityTitle="MOVER"),
        usual(Command.C_STORE_RQ, MoveOriginatorMessageID=1),
        usual(Command.C_STORE_RSP, AffectedSOPInstanceUID=None),
        usual(Command.C_STORE_RSP, ErrorComment="out of space"),
        usual(Command.C_FIND_RSP, ErrorID=1),
        usual(Command.C_FIND_RSP, OffendingElement=[0x00100010]),
        replace(usual(Command.C_ECHO_RQ), command=Command.C_FIND_RQ),
    ],
)
def test_the_general_way_encodes_what_is_not_usual(message: Message) -> None:
    assert encode_usual(message) is None


CLASS = element(0x0002, b"1.2.840.10008.5.1.4.1.1.2\0")
INSTANCE = element(0x1000, b"1.2.3.4\0")
STORE = (CLASS, us(0x0100, 0x0001), us(0x0110, 7), us(0x0700, 0), us(0x0800, 1))
STORED = (CLASS, us(0x0100, 0x8001), us(0x0120, 7), us(0x0800, 0x0101), us(0x0900, 0))
FOUND = (CLASS, us(0x0100, 0x8020), us(0x0120, 7))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        command_set(*STORE, INSTANCE)[8:],
        command_set(CLASS),
        command_set(element(0x0002, b"1.2.840 "), *STORE[1:], INSTANCE),
        command_set(element(0x0002, b"1" * 66), *STORE[1:], INSTANCE),
        command_set(element(0x0003, CLASS[8:]), *STORE[1:], INSTANCE),
        command_set(CLASS, us(0x0100, 0x0020), *STORE[2:]),
        command_set(*STORE),
        command_set(*STORE, INSTANCE, us(0x1031, 1)),
        command_set(*STORE, element(0x1000, b"1.2.3 ")),
        command_set(*STORE, element(0x1000, b"1" * 66)),
        command_set(*STORE, element(0x1001, b"1.2.3.4\0")),
        command_set(*STORE, element(0x1000, b"1.2."), b"3.45"),
        command_set(*STORE[:3], us(0x0700, 3), us(0x0800, 1), INSTANCE),
        command_set(*STORE[:3], us(0x0800, 1), us(0x0700, 0), INSTANCE),
        command_set(*STORED[:3], us(0x0900, 0), us(0x0800, 0x0101), INSTANCE),
        command_set(CLASS, us(0x0100, 0x0030), us(0x0110, 7), us(0x0700, 0)),
        command_set(CLASS, us(0x0100, 0x0030), us(0x0110, 7)),
        command_set(*FOUND, us(0x0800, 1)),
        command_set(*FOUND, us(0x0900, 0), us(0x0800, 1)),
    ],
)
def test_the_general_way_decodes_what_is_not_usual(data: bytes) -> None:
    assert decode_usual(data) is None


# --- In the stream of PDUs ------------------------------------------------------------------


def events(chunks: list[bytes]) -> list[Event]:
    """What an association in Sta6 makes of `chunks`; the pieces of a dataset are joined."""
    protocol = AssociationProtocol(Role.ACCEPTOR)
    protocol.state = State.ESTABLISHED
    protocol.observe(None)
    protocol.accepted_ids = frozenset({1, 3})
    found: list[Event] = []
    for chunk in chunks:
        protocol.receive_data(chunk)
        while (event := protocol.next_event()) is not None:
            if isinstance(event, CommandReceived) and event.data is not None:
                found.append(CommandReceived(event.context_id, event.message))
                event = event.data
            if isinstance(event, DataReceived):
                event = DataReceived([b"".join(event.chunks)], event.complete)  # type: ignore[list-item]
                if found and isinstance(found[-1], DataReceived) and not found[-1].complete:
                    event.chunks = [found.pop().chunks[0] + event.chunks[0]]  # type: ignore[union-attr]
            found.append(event)
    return found


def kinds(found: list[Event]) -> list[object]:
    """The events, comparable: errors are not equal to each other."""
    return [
        each if isinstance(each, (CommandReceived, DataReceived)) else type(each) for each in found
    ]


@st.composite
def streams(draw: st.DrawFn) -> bytes:
    """PDUs that carry messages, mostly whole and in order."""
    parts = []
    for _ in range(draw(st.integers(1, 4))):
        message = draw(messages())
        context_id = draw(st.sampled_from((1, 1, 1, 3, 5)))
        command = pdv(context_id, COMMAND | LAST, encode_command(message))
        dataset = draw(st.binary(max_size=8))
        if draw(st.booleans()):
            parts.append(data_pdu(command))
            if message.has_dataset:
                size = draw(st.integers(0, len(dataset)))
                parts.append(data_pdu(pdv(context_id, 0, dataset[:size])))
                parts.append(data_pdu(pdv(context_id, LAST, dataset[size:])))
        elif draw(st.booleans()):
            parts.append(data_pdu(command, pdv(context_id, LAST, dataset)))
        else:
            parts.append(data_pdu(command))
            if draw(st.integers(0, 9)):
                parts.append(data_pdu(pdv(context_id, LAST, dataset)))
    return b"".join(parts)


@given(streams(), st.data())
def test_a_stream_means_the_same_however_it_is_cut(stream: bytes, data: st.DataObject) -> None:
    one_by_one = [stream[at : at + 1] for at in range(len(stream))]  # no PDU is ever whole
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=3)))
    cut = [stream[a:b] for a, b in itertools.pairwise((0, *cuts, len(stream)))]

    assert kinds(events(cut)) == kinds(events(one_by_one))


def test_an_object_takes_the_short_cut_however_it_arrives() -> None:
    framer, assembler, accepted = Framer(Limits()), Assembler(Limits()), frozenset({1})
    message = usual(Command.C_STORE_RQ)
    command = data_pdu(pdv(1, COMMAND | LAST, encode_command(message)))

    framer.feed(command + data_pdu(pdv(1, 0, b"first")) + data_pdu(pdv(1, LAST, b"second"))[:14])
    event = assembler.take_usual(framer, accepted)

    pieces = [memoryview(b"first"), memoryview(b"se")]
    assert event == CommandReceived(1, message, DataReceived(pieces, False))
    framer.feed(b"co")
    assert assembler.take_usual(framer, accepted) == DataReceived([memoryview(b"co")], False)
    framer.feed(b"nd")
    assert assembler.mid_message
    assert assembler.take_usual(framer, accepted) == DataReceived([memoryview(b"nd")], True)
    assert not assembler.mid_message
    assert framer.at == len(framer.view)


UNUSUAL = {
    "of another context": data_pdu(pdv(3, LAST, b"data")),
    "with two values": data_pdu(pdv(1, 0, b"da"), pdv(1, LAST, b"ta")),
    "without data": data_pdu(pdv(1, LAST, b"")),
    "of a command": data_pdu(pdv(1, COMMAND | LAST, b"data")),
    "of another type": b"\5\0\0\0\0\4\0\0\0\0\0\0\0\0",
    "of which the header is cut": data_pdu(pdv(1, LAST, b"data"))[:11],
}


@pytest.mark.parametrize("pdu", UNUSUAL.values(), ids=UNUSUAL)
def test_a_dataset_is_taken_up_to_a_pdu_that_is_not_usual(pdu: bytes) -> None:
    framer = Framer(Limits())
    usual_pdu = data_pdu(pdv(1, 0, b"data"))
    framer.feed(usual_pdu + pdu)

    assert framer.take_dataset(1) == ([memoryview(b"data")], False)
    assert framer.at == len(usual_pdu)
    assert framer.take_dataset(1) == ([], False)
    assert framer.at == len(usual_pdu)


def test_the_headers_of_a_pdu_may_arrive_without_its_data() -> None:
    framer = Framer(Limits())
    pdu = data_pdu(pdv(1, LAST, b"data"))

    framer.feed(pdu[:12])
    assert framer.take_dataset(1) == ([], False)
    framer.feed(pdu[12:])
    assert framer.take_dataset(1) == ([memoryview(b"data")], True)


@pytest.mark.parametrize(
    "pdu",
    [
        data_pdu(pdv(1, 0, b"data"), pdv(1, LAST, b"more")),
        data_pdu(pdv(3, LAST, b"data")),
        data_pdu(pdv(1, COMMAND, b"data")),
    ],
)
def test_the_rest_of_a_value_that_is_not_usual_is_left_to_the_general_way(pdu: bytes) -> None:
    framer = Framer(Limits())
    framer.announce_data = False
    framer.feed(pdu[:14])
    framer.next()
    framer.feed(pdu[14:])

    assert framer.take_dataset(1) == ([], False)
    assert framer.at == 0


def test_between_two_values_of_a_pdu_the_short_cut_is_closed() -> None:
    framer = Framer(Limits())
    framer.announce_data = False
    framer.feed(data_pdu(pdv(1, 0, b"data"), pdv(1, LAST, b"more")))
    framer.next()

    assert framer.take_dataset(1) == ([], False)


def test_so_many_beginnings_of_messages_are_remembered() -> None:
    framer, assembler = Framer(Limits()), Assembler(Limits())
    for number in range(100):
        message = usual(Command.C_ECHO_RQ, AffectedSOPClassUID=UID(f"1.2.{number + 100}"))
        for _ in range(2):
            framer.feed(data_pdu(pdv(1, COMMAND | LAST, encode_command(message))))
            assert assembler.take_usual(framer, frozenset({1})) == CommandReceived(1, message)
    assert len(assembler._known) < 100


def test_a_command_set_above_its_ceiling_is_left_to_the_general_way() -> None:
    framer, assembler = Framer(Limits()), Assembler(Limits(command_set=32))
    framer.feed(data_pdu(pdv(1, COMMAND | LAST, encode_command(usual(Command.C_ECHO_RQ)))))

    assert assembler.take_usual(framer, frozenset({1})) is None


def test_a_message_that_only_begins_as_usual_is_left_to_the_general_way() -> None:
    framer, assembler = Framer(Limits()), Assembler(Limits())
    framer.feed(data_pdu(pdv(1, COMMAND | LAST, command_set(*STORE, INSTANCE, us(0x1031, 1)))))

    assert assembler.take_usual(framer, frozenset({1})) is None
    assert framer.at == 0
