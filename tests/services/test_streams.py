"""Sources of chunks and of open files: what they fill, and when they know their end."""

from __future__ import annotations

import asyncio
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicomwire.data.streams import ChunkSource, OpenFileSource, Stream

CHUNKS = st.lists(st.binary(max_size=20), max_size=12)
ROOMS = st.lists(st.integers(1, 9), min_size=1, max_size=5)


class Awaited:
    """Drives an asynchronous source as if it were none."""

    def __init__(self, chunks, length):
        async def arriving():
            for chunk in chunks:
                await asyncio.sleep(0)
                yield chunk

        self._source = ChunkSource(arriving(), length)
        self._runner = asyncio.Runner()

    @property
    def length(self):
        return self._source.length

    def readinto(self, buffers):
        return self._runner.run(self._source.readinto(buffers))

    def close(self):
        self._source.close()
        self._runner.close()


@pytest.fixture(params=[ChunkSource, Awaited])
def make_source(request):
    made = []

    def make(chunks, length=None):
        made.append(request.param(chunks, length))
        return made[-1]

    yield make
    for source in made:
        source.close()


def read_all(source, rooms):
    """Return what a source gives to buffers of such sizes, until it is at its end."""
    data = b""
    while True:
        buffers = [memoryview(bytearray(room)) for room in rooms]
        filled = source.readinto(buffers)
        data += b"".join(buffers)[:filled]
        if len(data) == source.length:
            return data
        assert filled == sum(rooms)  # it is full, but at the end


@given(CHUNKS, ROOMS, st.booleans())
def test_all_chunks_come_in_order(chunks, rooms, is_length_known):
    whole = b"".join(chunks)
    source = ChunkSource(chunks, len(whole) if is_length_known else None)
    assert read_all(source, rooms) == whole


def test_the_end_is_known_with_the_last_bytes(make_source):
    source = make_source([b"abc", b"", b"def", b"", b""])
    buffer = bytearray(6)
    assert source.length > 6
    assert source.readinto([memoryview(buffer)]) == 6
    assert bytes(buffer) == b"abcdef"
    assert source.length == 6


def test_nothing_at_all(make_source):
    source = make_source([])
    assert source.readinto([memoryview(bytearray(4))]) == 0
    assert source.length == 0


@pytest.mark.parametrize("chunks", [[], [b"abc"], [b"ab", b"cde"]])
def test_fewer_bytes_than_were_said(make_source, chunks):
    with pytest.raises(EOFError, match="not 6"):
        make_source(chunks, 6).readinto([memoryview(bytearray(6))])


def test_more_bytes_than_were_said(make_source):
    source = make_source([b"abc", b"defg"], 6)
    with pytest.raises(ValueError, match="more bytes than its length of 6"):
        source.readinto([memoryview(bytearray(6))])


def test_chunks_of_any_kind_of_buffer(make_source):
    chunks = [b"ab", bytearray(b"cd"), memoryview(b"ef"), memoryview(b"ghij").cast("H")]
    assert read_all(make_source(chunks), [3]) == b"abcdefghij"


def test_what_the_iterable_raises_comes_through():
    def broken():
        yield b"abc"
        raise ConnectionResetError("the archive is gone")

    with pytest.raises(ConnectionResetError, match="archive"):
        ChunkSource(broken(), None).readinto([memoryview(bytearray(6))])


def test_a_stream_says_whether_its_chunks_have_to_be_awaited():
    async def arriving():
        yield b"ab"

    assert not Stream("1.2", "1.2.3", "1.2.4", [b"ab"]).is_asynchronous
    assert Stream("1.2", "1.2.3", "1.2.4", arriving()).is_asynchronous


def test_an_open_file_is_read_from_where_its_dataset_begins():
    file = io.BytesIO(b"head" + b"dataset!")
    source = OpenFileSource(file, 4)
    assert source.length == 8
    assert read_all(source, [3, 2]) == b"dataset!"
    source.close()
    assert not file.closed
