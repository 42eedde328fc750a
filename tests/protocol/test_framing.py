"""The stream is cut the same wherever the network cuts it, and no length is believed."""

from __future__ import annotations

import contextlib
import itertools
import struct
import tracemalloc
from collections.abc import Iterable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from upper_layer_bytes import (
    ASSOCIATE_RQ,
    COMMAND,
    LAST,
    RELEASE_RP,
    RELEASE_RQ,
    USER_ABORT,
    data_pdu,
    pdu,
    pdv,
)

from dicomwire.errors import AbortReason, RemoteProtocolError
from dicomwire.protocol.framing import Fragment, Framer, ReceivedPDU
from dicomwire.protocol.limits import MIB, Limits
from dicomwire.protocol.pdu import PDUType

GIB = 1 << 30
Piece = tuple[PDUType, bytes] | tuple[int, int, bytes, bool]


def make_framer(*, announce: bool = False, limits: Limits | None = None) -> Framer:
    framer = Framer(limits or Limits())
    framer.announce_data = announce
    return framer


def parts(framer: Framer, chunks: Iterable[bytes]) -> Iterator[Piece]:
    """Feed `chunks` and yield what comes of them, as plain tuples."""
    for chunk in chunks:
        framer.feed(chunk)
        while (part := framer.next()) is not None:
            if isinstance(part, ReceivedPDU):
                yield part.pdu_type, bytes(part.body)
            else:
                yield part.context_id, part.control, bytes(part.data), part.complete


def join(pieces: Iterable[Piece]) -> list[Piece]:
    """Put the pieces of each presentation data value together."""
    joined: list[Piece] = []
    data = b""
    for piece in pieces:
        if len(piece) == 2:
            joined.append(piece)
            continue
        context_id, control, some, complete = piece
        data += some
        if complete:
            joined.append((context_id, control, data, True))
            data = b""
    assert not data
    return joined


SCRIPT = (
    ASSOCIATE_RQ
    + data_pdu(pdv(1, COMMAND | LAST, b"command"))
    + data_pdu(pdv(1, 0, b""), pdv(3, 0, b"some "), pdv(1, LAST, b"data"))
    + RELEASE_RQ
    + USER_ABORT
)
SCRIPT_PARTS: list[Piece] = [
    (PDUType.ASSOCIATE_RQ, ASSOCIATE_RQ[6:]),
    (1, COMMAND | LAST, b"command", True),
    (1, 0, b"", True),
    (3, 0, b"some ", True),
    (1, LAST, b"data", True),
    (PDUType.RELEASE_RQ, bytes(4)),
    (PDUType.ABORT, bytes(4)),
]


def test_in_one_segment() -> None:
    framer = make_framer()
    assert not framer.mid_pdu
    assert list(parts(framer, [SCRIPT])) == SCRIPT_PARTS
    assert not framer.mid_pdu


@pytest.mark.parametrize("at", range(len(SCRIPT) + 1))
def test_split_at_every_byte(at: int) -> None:
    assert join(parts(make_framer(), [SCRIPT[:at], SCRIPT[at:]])) == SCRIPT_PARTS


@pytest.mark.parametrize("size", [1, 2, 3, 5, 6, 7])
def test_dripping(size: int) -> None:
    chunks = [SCRIPT[at : at + size] for at in range(0, len(SCRIPT), size)]
    assert join(parts(make_framer(), chunks)) == SCRIPT_PARTS


def test_every_header_is_announced_when_wanted() -> None:
    announcement = (PDUType.P_DATA_TF, b"")
    pieces = list(parts(make_framer(announce=True), [SCRIPT]))
    assert [n for n, piece in enumerate(pieces) if piece == announcement] == [1, 3]
    assert [piece for piece in pieces if piece != announcement] == SCRIPT_PARTS


def test_fragments_come_before_the_value_is_complete() -> None:
    framer = make_framer()
    head = data_pdu(pdv(1, LAST, b"0123456789"))
    assert list(parts(framer, [head[:15]])) == [(1, LAST, b"012", False)]
    assert framer.mid_pdu
    assert list(parts(framer, [head[15:]])) == [(1, LAST, b"3456789", True)]
    assert not framer.mid_pdu


def test_mid_pdu_tells_whether_the_last_part_ends_one() -> None:
    framer = make_framer()
    framer.feed(data_pdu(pdv(1, 0, b"a"), pdv(1, 0, b"b")) + RELEASE_RP + RELEASE_RP[:3])
    ends = [not framer.mid_pdu for _ in iter(framer.next, None)]
    assert ends == [False, True, True]
    assert framer.mid_pdu


def test_whole_values_are_views_of_what_was_fed() -> None:
    data = bytearray(data_pdu(pdv(1, LAST, b"view")))
    framer = make_framer()
    framer.feed(memoryview(data))
    part = framer.next()
    assert isinstance(part, Fragment)
    data[-4:] = b"seen"
    assert bytes(part.data) == b"seen"


pdu_streams = st.lists(
    st.one_of(
        st.builds(
            lambda values: data_pdu(*(pdv(*value) for value in values)),
            st.lists(
                st.tuples(st.integers(0, 255), st.integers(0, 255), st.binary(max_size=40)),
                min_size=1,
                max_size=4,
            ),
        ),
        st.builds(pdu, st.sampled_from([1, 2, 3, 5, 6, 7]), st.binary(max_size=40)),
    ),
    max_size=6,
).map(b"".join)


@given(stream=pdu_streams, data=st.data(), announce=st.booleans())
def test_any_stream_split_anywhere(stream: bytes, data: st.DataObject, announce: bool) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=12)))
    chunks = [stream[a:b] for a, b in itertools.pairwise([0, *cuts, len(stream)])]
    framer = make_framer(announce=announce)
    whole = list(parts(make_framer(announce=announce), [stream]))
    assert join(parts(framer, chunks)) == whole
    assert not framer.mid_pdu


# Lengths and types that a peer may claim

LENGTHS = [0, 1, 0xFFFF, 1 << 31, (1 << 32) - 1]


@pytest.mark.parametrize("length", [*LENGTHS, 9, 11])
def test_value_of_a_wrong_length(length: int) -> None:
    stream = data_pdu(pdv(1, LAST, bytes(8), length=length))
    with pytest.raises(RemoteProtocolError, match=f"value of {length} bytes in 14 bytes") as info:
        list(parts(make_framer(), [stream]))
    assert info.value.reason is AbortReason.INVALID_PDU_PARAMETER


def test_second_value_of_a_wrong_length() -> None:
    stream = data_pdu(pdv(1, 0, b"good"), pdv(1, LAST, b"bad", length=6))
    framer = make_framer()
    framer.feed(stream)
    assert framer.next() == Fragment(1, 0, memoryview(b"good"), True)
    with pytest.raises(RemoteProtocolError):
        framer.next()


@pytest.mark.parametrize("left", range(1, 6))
def test_no_room_for_another_value(left: int) -> None:
    """Seen at once, and not only when a header's worth of bytes has come."""
    stream = pdu(4, pdv(1, LAST, b"data"), length=10 + left)
    with pytest.raises(RemoteProtocolError, match=f"in {10 + left} bytes of PDU"):
        list(parts(make_framer(), [stream]))


@pytest.mark.parametrize("length", range(6))
def test_data_pdu_without_a_value(length: int) -> None:
    with pytest.raises(RemoteProtocolError, match=f"P-DATA-TF of {length} bytes, without"):
        list(parts(make_framer(), [pdu(4, b"", length=length)]))


def test_empty_values() -> None:
    assert list(parts(make_framer(), [data_pdu(pdv(1, LAST, b""))])) == [(1, LAST, b"", True)]


@pytest.mark.parametrize("code", [0x00, 0x08, 0x0B, 0x16, 0x47, 0xFF])
def test_unknown_type(code: int) -> None:
    with pytest.raises(RemoteProtocolError, match=f"unknown PDU type 0x{code:02X}") as info:
        list(parts(make_framer(), [pdu(code, b"")]))
    assert info.value.reason is AbortReason.UNRECOGNIZED_PDU


CEILINGS = [
    (pdu_type, MIB if pdu_type in (1, 2) else 64 * 1024)
    for pdu_type in PDUType
    if pdu_type is not PDUType.P_DATA_TF
]


@pytest.mark.parametrize(("pdu_type", "ceiling"), CEILINGS)
def test_up_to_its_ceiling_a_pdu_is_collected(pdu_type: PDUType, ceiling: int) -> None:
    body = bytes(ceiling)
    assert list(parts(make_framer(), [pdu(pdu_type, body)])) == [(pdu_type, body)]


@pytest.mark.parametrize(("pdu_type", "ceiling"), CEILINGS)
@pytest.mark.parametrize("length", ["ceiling + 1", 1 << 31, (1 << 32) - 1])
def test_above_its_ceiling_a_pdu_is_refused_by_its_header(
    pdu_type: PDUType, ceiling: int, length: int | str
) -> None:
    claimed = ceiling + 1 if isinstance(length, str) else length
    with pytest.raises(RemoteProtocolError, match=f"{pdu_type.name} PDU of {claimed} bytes"):
        list(parts(make_framer(), [pdu(pdu_type, b"", length=claimed)]))


def test_ceilings_are_set_by_limits() -> None:
    limits = Limits(associate_pdu=100, control_pdu=4)
    assert list(parts(make_framer(limits=limits), [pdu(1, bytes(100)), RELEASE_RQ]))
    for too_long in (pdu(2, bytes(101)), pdu(5, bytes(5))):
        with pytest.raises(RemoteProtocolError):
            list(parts(make_framer(limits=limits), [too_long]))


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("pdu_type", PDUType)
def test_a_claimed_length_takes_no_memory(pdu_type: PDUType, length: int) -> None:
    header = pdu(pdu_type, b"", length=length)
    tracemalloc.start()
    try:
        framer = make_framer()
        framer.feed(header)
        with contextlib.suppress(RemoteProtocolError):
            framer.next()
        assert tracemalloc.get_traced_memory()[1] < 16 * 1024
    finally:
        tracemalloc.stop()


def test_data_pdu_of_four_gib_streams_without_memory() -> None:
    size = 4 * GIB - 8
    chunk = memoryview(bytes(256 * 1024))
    framer = make_framer()
    framer.feed(pdu(4, struct.pack(">IBB", size + 2, 1, LAST), length=size + 6))
    assert framer.next() is None
    left = size
    tracemalloc.start()
    try:
        while left:
            framer.feed(chunk[: min(left, len(chunk))])
            part = framer.next()
            assert isinstance(part, Fragment)
            left -= len(part.data)
            assert part.complete == (not left)
            assert framer.next() is None
        # Far less than one chunk; threads of the test runner allocate, too.
        assert tracemalloc.get_traced_memory()[1] < 64 * 1024
    finally:
        tracemalloc.stop()
    assert not framer.mid_pdu
