"""The cursor never reads past the end of what it was given."""

from __future__ import annotations

import pytest

from dicomwire.errors import AbortReason, AbortSource, RemoteProtocolError
from dicomwire.protocol.cursor import Cursor


def test_reads_in_order() -> None:
    cursor = Cursor(b"\x01\x02\x03\x04\x05\x06\x07rest", "thing")
    assert cursor.remaining == 11
    assert (cursor.u8(), cursor.u16(), cursor.u32()) == (0x01, 0x0203, 0x04050607)
    assert bytes(cursor.take(1)) == b"r"
    cursor.skip(1)
    assert bytes(cursor.rest()) == b"st"
    assert cursor.remaining == 0
    cursor.check_end()


def test_take_does_not_copy() -> None:
    data = bytearray(b"abcd")
    taken = Cursor(memoryview(data), "thing").take(2)
    data[0] = ord("z")
    assert bytes(taken) == b"zb"


def test_sub_is_confined() -> None:
    cursor = Cursor(b"abcdef", "whole")
    part = cursor.sub(2, "part")
    assert bytes(part.rest()) == b"ab"
    with pytest.raises(RemoteProtocolError, match="part: 1 bytes needed, 0 present"):
        part.u8()
    assert bytes(cursor.rest()) == b"cdef"


@pytest.mark.parametrize("size", [4, 0xFFFF, 1 << 31, (1 << 32) - 1])
def test_past_the_end(size: int) -> None:
    cursor = Cursor(b"abc", "thing")
    with pytest.raises(RemoteProtocolError, match=f"thing: {size} bytes needed, 3 present") as info:
        cursor.take(size)
    assert info.value.reason is AbortReason.INVALID_PDU_PARAMETER
    assert info.value.source is AbortSource.SERVICE_PROVIDER
    assert cursor.remaining == 3


@pytest.mark.parametrize("read", [Cursor.u8, Cursor.u16, Cursor.u32])
def test_number_past_the_end(read: object) -> None:
    assert callable(read)
    with pytest.raises(RemoteProtocolError):
        read(Cursor(b"", "thing"))


def test_left_over() -> None:
    cursor = Cursor(b"abc", "thing")
    cursor.u8()
    with pytest.raises(RemoteProtocolError, match="thing: 2 bytes too many"):
        cursor.check_end()
