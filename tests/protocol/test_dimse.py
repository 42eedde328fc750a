"""Messages become presentation data values and the same messages again, whatever lies between."""

from __future__ import annotations

import itertools
import struct
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.tag import BaseTag
from pydicom.uid import UID
from upper_layer_bytes import (
    COMMAND,
    ECHO_COMMAND,
    LAST,
    STORE_COMMAND,
    command_set,
    data_pdu,
    element,
    pdv,
    us,
)

from dicomwire.errors import AbortReason, AbortSource, RemoteProtocolError
from dicomwire.protocol.command import Command, Message
from dicomwire.protocol.dimse import (
    UNLIMITED_LENGTH,
    Assembler,
    Packer,
    PDUCollector,
    fragment_size,
    pack_command,
    pack_small_data,
    unpack_pdus,
)
from dicomwire.protocol.events import CommandReceived, DataReceived
from dicomwire.protocol.framing import Fragment, Framer
from dicomwire.protocol.limits import Limits
from dicomwire.protocol.pdu import PDataTF

ECHO = Message(Command.C_ECHO_RQ, MessageID=7, AffectedSOPClassUID=UID("1.2.840.10008.1.1"))
STORE = Message(
    Command.C_STORE_RQ,
    MessageID=8,
    AffectedSOPClassUID=UID("1.2.840.10008.5.1.4.1.1.2"),
    AffectedSOPInstanceUID=UID("1.2.3.4.5"),
    Priority=0,
    has_dataset=True,
)


def fragment(context_id: int, control: int, data: bytes, complete: bool = True) -> Fragment:
    return Fragment(context_id, control, memoryview(data), complete)


def add_all(assembler: Assembler, *fragments: Fragment) -> list[CommandReceived | DataReceived]:
    return [event for one in fragments if (event := assembler.add(one)) is not None]


# Putting together


def test_command_in_one_fragment() -> None:
    assembler = Assembler(Limits())
    assert assembler.add(fragment(1, COMMAND | LAST, ECHO_COMMAND)) == CommandReceived(1, ECHO)
    assert not assembler.mid_message
    assert assembler.data_so_far() is None


@pytest.mark.parametrize("at", range(len(ECHO_COMMAND) + 1))
@pytest.mark.parametrize("complete", [True, False], ids=["two values", "one value"])
def test_command_in_two_fragments(at: int, complete: bool) -> None:
    """Of two values, and of one value that came in two pieces."""
    first = fragment(1, COMMAND if complete else COMMAND | LAST, ECHO_COMMAND[:at], complete)
    second = fragment(1, COMMAND | LAST, ECHO_COMMAND[at:])
    assembler = Assembler(Limits())
    assert assembler.add(first) is None
    assert assembler.mid_message
    assert assembler.add(second) == CommandReceived(1, ECHO)
    assert not assembler.mid_message


def test_dataset_is_handed_on_as_views() -> None:
    data = bytearray(b"abcdef")
    view = memoryview(data)
    assembler = Assembler(Limits())
    assembler.add(fragment(3, COMMAND | LAST, STORE_COMMAND))
    assert assembler.mid_message
    assert assembler.add(Fragment(3, 0, view[:2], True)) is None
    assert assembler.add(Fragment(3, LAST, view[2:4], False)) is None
    so_far = assembler.data_so_far()
    assert so_far == DataReceived([view[:2], view[2:4]], complete=False)
    assert assembler.data_so_far() is None
    last = assembler.add(Fragment(3, LAST, view[4:], True))
    assert last == DataReceived([view[4:]], complete=True)
    assert not assembler.mid_message
    data[:] = b"zzzzzz"
    assert [bytes(chunk) for chunk in so_far.chunks + last.chunks] == [b"zz", b"zz", b"zz"]


def test_empty_fragments() -> None:
    events = add_all(
        Assembler(Limits()),
        fragment(3, COMMAND, b""),
        fragment(3, COMMAND, STORE_COMMAND),
        fragment(3, COMMAND | LAST, b""),
        fragment(3, 0, b""),
        fragment(3, 0, b"data"),
        fragment(3, LAST, b""),
    )
    assert events == [CommandReceived(3, STORE), DataReceived([memoryview(b"data")], True)]


def test_empty_fragments_without_end_take_no_memory() -> None:
    assembler = Assembler(Limits())
    assembler.add(fragment(3, COMMAND | LAST, STORE_COMMAND))
    for _ in range(1000):
        assert assembler.add(fragment(3, 0, b"")) is None
    assert assembler.data_so_far() is None


def test_empty_dataset() -> None:
    assembler = Assembler(Limits())
    assembler.add(fragment(3, COMMAND | LAST, STORE_COMMAND))
    assert assembler.add(fragment(3, LAST, b"")) == DataReceived([], complete=True)


def test_reserved_bits_are_not_looked_at() -> None:
    """PS3.8 Annex E.2: bits 2 to 7 of the message control header are not tested."""
    assembler = Assembler(Limits())
    assert assembler.add(fragment(1, 0xFC | COMMAND | LAST, ECHO_COMMAND))


CT_COMMAND = fragment(3, COMMAND | LAST, STORE_COMMAND)


@pytest.mark.parametrize(
    ("fragments", "text"),
    [
        ([fragment(1, LAST, b"data")], "dataset fragment that no command announced"),
        (
            [fragment(1, COMMAND | LAST, ECHO_COMMAND), fragment(1, LAST, b"data")],
            "dataset fragment that no command announced",
        ),
        (
            [fragment(1, COMMAND, ECHO_COMMAND[:9]), fragment(1, LAST, b"data")],
            "dataset fragment that no command announced",
        ),
        ([CT_COMMAND, CT_COMMAND], "command before the dataset of C-STORE-RQ ended"),
        (
            [CT_COMMAND, fragment(3, 0, b"data"), fragment(1, COMMAND, b"")],
            "command before the dataset of C-STORE-RQ ended",
        ),
        (
            [CT_COMMAND, fragment(1, LAST, b"data")],
            "dataset on presentation context 1, its command on 3",
        ),
        (
            [fragment(1, COMMAND, b""), fragment(3, COMMAND | LAST, STORE_COMMAND)],
            "command fragments on presentation contexts 1 and 3",
        ),
        ([fragment(1, COMMAND | LAST, b"")], "without CommandField"),
        ([fragment(1, COMMAND | LAST, ECHO_COMMAND[:-1])], "CommandDataSetType|claimed"),
    ],
)
def test_out_of_place(fragments: list[Fragment], text: str) -> None:
    assembler = Assembler(Limits())
    add_all(assembler, *fragments[:-1])
    with pytest.raises(RemoteProtocolError, match=text) as info:
        assembler.add(fragments[-1])
    assert info.value.source is AbortSource.SERVICE_USER
    assert info.value.reason is AbortReason.NOT_SPECIFIED


@pytest.mark.parametrize("piece", [1, 100, 4096])
@pytest.mark.parametrize("complete", [True, False], ids=["values", "pieces of one value"])
def test_command_without_end(piece: int, complete: bool) -> None:
    limit = 10_000
    assembler = Assembler(Limits(command_set=limit))
    for _ in range(limit // piece):
        assert assembler.add(fragment(1, COMMAND, bytes(piece), complete)) is None
    with pytest.raises(RemoteProtocolError, match=f"command set of more than {limit} bytes"):
        assembler.add(fragment(1, COMMAND, bytes(piece), complete))


def test_command_as_long_as_it_may_be() -> None:
    comment = element(0x0902, b"x" * 3000)
    response = command_set(
        us(0x0100, 0x8030), us(0x0120, 7), us(0x0800, 0x0101), us(0x0900, 0), comment
    )
    whole = fragment(1, COMMAND | LAST, response)
    assert Assembler(Limits(command_set=len(response))).add(whole)
    with pytest.raises(RemoteProtocolError, match="command set of more than"):
        Assembler(Limits(command_set=len(response) - 1)).add(whole)


# Taking apart


@pytest.mark.parametrize(
    ("maximum_length", "size"),
    [
        (0, UNLIMITED_LENGTH - 6),
        (8, 2),
        (9, 2),
        (10, 4),
        (16382, 16376),
        (16383, 16376),
        (16384, 16378),
        ((1 << 32) - 1, (1 << 32) - 8),
        # A peer that takes less than an even fragment gets one all the same.
        (1, 2),
        (7, 2),
    ],
)
def test_fragment_size(maximum_length: int, size: int) -> None:
    assert fragment_size(maximum_length) == size


def test_packed_command() -> None:
    assert pack_command(1, ECHO, 16382) == data_pdu(pdv(1, COMMAND | LAST, ECHO_COMMAND))
    limit = len(ECHO_COMMAND) + 6
    assert pack_command(1, ECHO, limit) == data_pdu(pdv(1, COMMAND | LAST, ECHO_COMMAND))


def test_packed_command_in_fragments() -> None:
    assert len(ECHO_COMMAND) == 68
    assert pack_command(1, ECHO, 47) == (
        data_pdu(pdv(1, COMMAND, ECHO_COMMAND[:40]))
        + data_pdu(pdv(1, COMMAND | LAST, ECHO_COMMAND[40:]))
    )
    assert pack_command(1, ECHO, 40) == (
        data_pdu(pdv(1, COMMAND, ECHO_COMMAND[:34]))
        + data_pdu(pdv(1, COMMAND | LAST, ECHO_COMMAND[34:]))
    )


def put(gaps: Iterable[memoryview], data: bytes) -> int:
    """Put `data` into `gaps` as a source does, and return how much of it there was room for."""
    at = 0
    for gap in gaps:
        piece = data[at : at + len(gap)]
        gap[: len(piece)] = piece
        at += len(piece)
    return at


def test_packer_puts_command_and_data_side_by_side() -> None:
    packer = Packer(memoryview(bytearray(b"\xaa" * 1000)), 3, 16, b"<command>")
    gaps = packer.gaps(25)
    assert [len(gap) for gap in gaps] == [10, 10, 5]
    assert put(gaps, b"0123456789abcdefghijklmno") == 25
    assert bytes(packer.seal(25, last=True)) == (
        b"<command>"
        + data_pdu(pdv(3, 0, b"0123456789"))
        + data_pdu(pdv(3, 0, b"abcdefghij"))
        + data_pdu(pdv(3, LAST, b"klmno\0"))  # to an even length, which all fragments have
    )


def test_packer_fills_its_buffer_time_and_again() -> None:
    """The last gap is cut to what is left of the buffer, and even."""
    packer = Packer(memoryview(bytearray(64)), 3, 26, b"<command>")
    gaps = packer.gaps(1000)
    assert [len(gap) for gap in gaps] == [20, 10]  # 9 + 12 + 20 + 12 + 10, and one byte wasted
    put(gaps, b"a" * 30)
    sent = bytes(packer.seal(30, last=False))
    gaps = packer.gaps(970)
    assert [len(gap) for gap in gaps] == [20, 20]
    put(gaps, b"b" * 40)
    sent += bytes(packer.seal(40, last=False))
    gaps = packer.gaps(2)
    assert put(gaps, b"cc") == 2
    sent += bytes(packer.seal(2, last=True))
    values = [
        (control, data)
        for pdu in unpack_pdus(memoryview(sent)[9:])
        for _, control, data in pdu.values
    ]
    assert values == [
        (0, b"a" * 20),
        (0, b"a" * 10),
        (0, b"b" * 20),
        (0, b"b" * 20),
        (LAST, b"cc"),
    ]


@pytest.mark.parametrize("space", range(21))
def test_packer_with_hardly_any_room(space: int) -> None:
    """A command that leaves no room for data goes out with an empty value."""
    command = bytes(100)
    data = b"0123456789abcdefghij"
    packer = Packer(memoryview(bytearray(112 + space)), 3, 0, command)
    filled = put(packer.gaps(20), data)
    assert filled == space & ~1
    sent = bytes(packer.seal(filled, last=filled == 20))
    assert sent == command + data_pdu(pdv(3, LAST if filled == 20 else 0, data[:filled]))
    assert [len(gap) for gap in packer.gaps(20 - filled)] == ([20 - filled] if filled < 20 else [])


def test_packer_of_no_data() -> None:
    packer = Packer(memoryview(bytearray(64)), 3, 26, b"<command>")
    assert packer.gaps(0) == []
    assert bytes(packer.seal(0, last=True)) == b"<command>" + data_pdu(pdv(3, LAST, b""))


# There and back


uids = st.from_regex(r"[1-9]\.[1-9][0-9]{0,9}(\.[1-9][0-9]{0,9}){0,4}", fullmatch=True).map(UID)
numbers = st.integers(0, 0xFFFF)
tags = st.integers(0, 0xFFFFFFFF).map(BaseTag)
messages = st.one_of(
    st.builds(Message, st.just(Command.C_ECHO_RQ), MessageID=numbers, AffectedSOPClassUID=uids),
    st.builds(
        Message,
        st.just(Command.C_STORE_RQ),
        MessageID=numbers,
        AffectedSOPClassUID=uids,
        AffectedSOPInstanceUID=uids,
        Priority=st.sampled_from([0, 1, 2]),
        has_dataset=st.just(True),
    ),
    st.builds(
        Message,
        st.just(Command.C_FIND_RSP),
        MessageIDBeingRespondedTo=numbers,
        AffectedSOPClassUID=uids,
        Status=numbers,
        has_dataset=st.booleans(),
    ),
    st.builds(
        Message,
        st.just(Command.N_GET_RQ),
        MessageID=numbers,
        RequestedSOPClassUID=uids,
        RequestedSOPInstanceUID=uids,
        AttributeIdentifierList=st.lists(tags, min_size=1, max_size=500),
    ),
)
maximum_lengths = st.one_of(st.just(0), st.integers(8, 64), st.integers(8, 200_000))


def pack(message: Message, dataset: bytes, maximum_length: int, buffer_size: int) -> bytes:
    """Return all that is sent for `message` and `dataset`, by way of a buffer that is reused."""
    command = pack_command(3, message, maximum_length)
    if not message.has_dataset:
        return command
    buffer = bytearray(len(command) + buffer_size)
    packer = Packer(memoryview(buffer), 3, maximum_length, command)
    sent = b""
    at = 0
    while True:
        filled = put(packer.gaps(len(dataset) - at), dataset[at:])
        at += filled
        sent += packer.seal(filled, last=at == len(dataset))
        if at == len(dataset):
            return sent


def receive(chunks: Iterable[bytes]) -> list[tuple[Message, bytes]]:
    """Return the messages in `chunks`, each of which is overwritten by the next."""
    framer = Framer(Limits())
    framer.announce_data = False
    assembler = Assembler(Limits())
    received: list[tuple[Message, bytes]] = []
    for chunk in chunks:
        buffer = bytearray(chunk)
        framer.feed(buffer)
        while (part := framer.next()) is not None:
            assert isinstance(part, Fragment)
            event = assembler.add(part)
            if isinstance(event, CommandReceived):
                assert event.context_id == 3
                received.append((event.message, b""))
            elif event is not None:
                received[-1] = received[-1][0], received[-1][1] + b"".join(event.chunks)
        if (data := assembler.data_so_far()) is not None:
            received[-1] = received[-1][0], received[-1][1] + b"".join(data.chunks)
        buffer[:] = b"\xee" * len(buffer)
    assert not assembler.mid_message
    return received


@given(
    message=messages,
    maximum_length=maximum_lengths,
    buffer_size=st.integers(14, 300_000),
    data=st.data(),
)
def test_there_and_back(
    message: Message, maximum_length: int, buffer_size: int, data: st.DataObject
) -> None:
    piece = min(fragment_size(maximum_length), buffer_size)
    size = data.draw(st.integers(0, min(200 * piece, 400_000))) & ~1 if message.has_dataset else 0
    dataset = (data.draw(st.binary(min_size=1, max_size=257)) * size)[:size]
    sent = pack(message, dataset, maximum_length, buffer_size)

    for pdu in unpack_pdus(memoryview(sent)):
        [(_, _, value)] = pdu.values
        assert len(value) % 2 == 0
        assert maximum_length == 0 or len(value) + 6 <= maximum_length

    cuts = sorted(data.draw(st.lists(st.integers(0, len(sent)), max_size=20)))
    chunks = [sent[a:b] for a, b in itertools.pairwise([0, *cuts, len(sent)])]
    assert receive(chunks) == [(message, dataset)]


def test_a_dataset_that_fits_one_pdu() -> None:
    for maximum_length, size in [(30, 24), (31, 24), (0, 1000), (30, 0)]:
        data = bytes(size)
        packed = pack_small_data(3, memoryview(data), maximum_length)
        assert packed == data_pdu(pdv(3, LAST, data))
    assert pack_small_data(3, memoryview(bytes(26)), 30) is None


def test_a_dataset_of_odd_length_is_padded() -> None:
    assert pack_small_data(3, memoryview(b"abc"), 0) == data_pdu(pdv(3, LAST, b"abc\0"))


def test_there_and_back_byte_by_byte() -> None:
    sent = pack(STORE, bytes(range(200)), 30, 100) + pack(ECHO, b"", 30, 100)
    received = receive(sent[at : at + 1] for at in range(len(sent)))
    assert received == [(STORE, bytes(range(200))), (ECHO, b"")]


# For who observes


def test_unpack() -> None:
    packed = data_pdu(pdv(3, COMMAND, b"ab")) + data_pdu(pdv(3, COMMAND | LAST, b""))
    assert unpack_pdus(memoryview(packed)) == [
        PDataTF([(3, COMMAND, b"ab")]),
        PDataTF([(3, COMMAND | LAST, b"")]),
    ]
    assert unpack_pdus(memoryview(b"")) == []


def test_collected_pdus() -> None:
    collector = PDUCollector()
    assert collector.add(fragment(1, COMMAND | LAST, b"ab", complete=False), False) is None
    assert collector.add(fragment(1, COMMAND | LAST, b"cd"), False) is None
    assert collector.add(fragment(3, 0, b""), False) is None
    pdu = collector.add(fragment(3, LAST, b"ef"), True)
    assert pdu == PDataTF([(1, COMMAND | LAST, b"abcd"), (3, 0, b""), (3, LAST, b"ef")])
    assert collector.add(fragment(3, 0, b"gh"), True) == PDataTF([(3, 0, b"gh")])


def test_of_a_long_pdu_the_beginning_is_collected() -> None:
    collector = PDUCollector(maximum=20)
    for _ in range(1000):
        assert collector.add(fragment(3, 0, b"0123456789", complete=False), False) is None
    assert collector.add(fragment(3, 0, b"more"), False) is None
    assert collector.add(fragment(3, 0, b"and more"), True) == PDataTF([(3, 0, b"01234567890123")])
    assert collector.add(fragment(3, 0, b"gh"), True) == PDataTF([(3, 0, b"gh")])


def test_of_many_values_the_first_are_collected() -> None:
    collector = PDUCollector(maximum=15)
    for _ in range(1000):
        assert collector.add(fragment(3, 0, b""), False) is None
    assert collector.add(fragment(3, 0, b""), True) == PDataTF([(3, 0, b"")] * 3)


def test_header_layout() -> None:
    """PS3.8 Tables 9-22 and 9-23, spelled out."""
    packed = pack_command(5, ECHO, 0)
    size = len(ECHO_COMMAND)
    assert packed[:12] == struct.pack(">BBIIBB", 4, 0, size + 6, size + 2, 5, 3)
