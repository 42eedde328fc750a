"""Messages of type multipart: split anywhere, malformed, and too large."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dicomwire.web import multipart
from dicomwire.web.multipart import (
    END_OF_CONTENT,
    LONGEST_HEADERS,
    LONGEST_PREAMBLE,
    End,
    Malformed,
    Parser,
    Part,
    boundary_of,
    media_type,
    message_end,
    new_boundary,
    part_head,
)

Parsed = list[tuple[dict[str, str], bytes]]


def parsed(pieces: Iterable[bytes], boundary: str = "b") -> Parsed:
    """Return header fields and content of the parts of a complete message."""
    parser = Parser(boundary)
    found: Parsed = []
    ends: list[End] = []
    content = bytearray()
    for piece in pieces:
        for event in parser.feed(piece):
            if isinstance(event, Part):
                content.clear()
                found.append((dict(event.headers), b""))
            elif isinstance(event, End):
                ends.append(event)
                if event is End.PART:
                    found[-1] = found[-1][0], bytes(content)
            else:
                assert len(event)
                content += event
    parser.finish()
    assert ends == [End.PART] * len(found) + [End.MESSAGE]
    return found


def written(parts: Parsed, boundary: str) -> bytes:
    pieces = [part_head(boundary, head) + content + END_OF_CONTENT for head, content in parts]
    return b"".join(pieces) + message_end(boundary)


def split_at(message: bytes, cuts: list[int]) -> list[bytes]:
    places = [0, *sorted(cut % (len(message) + 1) for cut in cuts), len(message)]
    return [message[begin:end] for begin, end in pairwise(places)]


NAMES = st.sampled_from(["content-type", "content-location", "x-a"])
HEADERS = st.dictionaries(NAMES, st.from_regex(r"[!-~]{1,20}", fullmatch=True), max_size=3)
PIECES = [b"\r", b"\n", b"-", b"--", b"\r\n--", b"\r\n--b", b"\r\n--bb-", b"b", b" ", b"\0", b"x"]
CONTENT = st.lists(st.sampled_from(PIECES), max_size=12).map(b"".join)
CUTS = st.lists(st.integers(0, 10_000), max_size=12)


@given(st.lists(st.tuples(HEADERS, CONTENT), min_size=1, max_size=4), CUTS)
def test_a_message_split_anywhere_has_the_parts_that_were_written(
    parts: Parsed, cuts: list[int]
) -> None:
    message = written(parts, "bbb")
    assert parsed(split_at(message, cuts), "bbb") == parts


@given(st.lists(st.tuples(HEADERS, CONTENT), min_size=1, max_size=3))
def test_a_message_byte_by_byte_has_the_parts_that_were_written(parts: Parsed) -> None:
    message = written(parts, "bbb")
    assert parsed((bytes([byte]) for byte in message), "bbb") == parts


@given(st.lists(st.sampled_from([*PIECES, b"--b\r\n", b"\r\n\r\n", b"a: b"]), max_size=30), CUTS)
@example([b"--b\r\n", b"\r\n\r\n", b"\r\n--b", b"--"], [])
def test_whatever_arrives_is_the_same_however_it_is_split(
    pieces: list[bytes], cuts: list[int]
) -> None:
    def result(pieces: Iterable[bytes]) -> Parsed | str:
        try:
            return parsed(pieces)
        except Malformed as error:
            return str(error)

    message = b"".join(pieces)
    assert result(split_at(message, cuts)) == result([message])


@pytest.mark.parametrize(
    ("message", "parts"),
    [
        (b"--b--", []),
        (b"before\r\n--b\r\n\r\nx\r\n--b--\r\nafter", [({}, b"x")]),
        (b"\r\n--b \t \r\n\r\nx\r\n--b--", [({}, b"x")]),
        (b"--b\r\n\r\n\r\n--b--", [({}, b"")]),
        (b"--b\r\n\r\n--b--", [({}, b"")]),
        (b"--b\r\nA: 1\r\n\r\n--b--", [({"a": "1"}, b"")]),
        (b"--b\r\nA:1\r\n 2\r\na: 3\r\n\r\nx\r\n--b--", [({"a": "1 2"}, b"x")]),
        (b"--b\r\n\r\n\r\n--bb\r\n\r\n--b--", [({}, b"\r\n--bb\r\n")]),
        (b"--b\r\n\r\nx\r\n--b" + b" " * 200 + b"\r\n--b--", [({}, b"x\r\n--b" + b" " * 200)]),
    ],
)
def test_forms_of_messages(message: bytes, parts: Parsed) -> None:
    assert parsed([message]) == parts


def test_a_message_within_a_part_is_its_content() -> None:
    inner = written([({"a": "1"}, b"x")], "inner")
    assert parsed([written([({}, inner)], "b")]) == [({}, inner)]
    longer = written([({}, b"x")], "b2")  # its boundary begins with the outer one
    assert parsed([written([({}, longer)], "b")]) == [({}, longer)]


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"--b",
        b"--b\r\n",
        b"--b\r\nA: 1\r\n",
        b"--b\r\n\r\nx",
        b"--b\r\n\r\nx\r\n--b\r\n",
        b"x",
    ],
)
def test_a_message_without_its_end_is_malformed(message: bytes) -> None:
    with pytest.raises(Malformed, match="ends before"):
        parsed([message])


@pytest.mark.parametrize(
    "block", [b"no colon", b": no name", b"a b: space", b"a: \0", b"a: \r x", b"a: \n", b"--b--"]
)
def test_malformed_header_fields(block: bytes) -> None:
    with pytest.raises(Malformed, match="header field"):
        parsed([b"--b\r\n" + block + b"\r\n\r\nx\r\n--b--"])


@pytest.mark.parametrize("size", [1000, 70_000])
def test_header_fields_that_do_not_end_take_little_memory(size: int) -> None:
    with pytest.raises(Malformed, match="too long"):
        parsed([b"--b\r\na: ", *[b"x" * size] * (LONGEST_HEADERS // size + 1)])


def test_header_fields_of_the_greatest_length_are_read() -> None:
    value = "x" * (LONGEST_HEADERS - 10)
    assert parsed([written([({"a": value}, b"x")], "b")]) == [({"a": value}, b"x")]


@pytest.mark.parametrize("begin", [b"", b"--b\r\n\r\nx\r\n--b--"])
def test_a_long_preamble_or_epilogue_is_malformed(begin: bytes) -> None:
    with pytest.raises(Malformed, match="too many bytes"):
        parsed([begin, *[b"x" * 1024] * (LONGEST_PREAMBLE // 1024 + 1)])


def test_too_many_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(multipart, "MOST_PARTS", 3)
    assert len(parsed([written([({}, b"")] * 3, "b")])) == 3
    with pytest.raises(Malformed, match="too many parts"):
        parsed([written([({}, b"")] * 4, "b")])


def test_content_is_passed_on_without_waiting_for_its_end() -> None:
    parser = Parser("b")
    assert list(parser.feed(b"--b\r\n\r\nabc"))[1:] == [b"abc"]
    assert list(parser.feed(b"de\r")) == [b"de"]
    assert list(parser.feed(b"\r")) == [b"\r"]


def test_boundaries_are_new_and_valid() -> None:
    boundary = new_boundary()
    assert boundary_of(media_type(f"multipart/related; boundary={boundary}")) == boundary
    assert new_boundary() != boundary


@pytest.mark.parametrize(
    ("text", "name", "parameters"),
    [
        ("application/dicom", "application/dicom", {}),
        ("Image/JPEG;Q=0.5", "image/jpeg", {"q": "0.5"}),
        (
            'multipart/related; type="application/dicom" ; boundary=a;',
            "multipart/related",
            {"type": "application/dicom", "boundary": "a"},
        ),
        (
            "multipart/related;type=application/dicom;boundary=a; boundary=b",
            "multipart/related",
            {"type": "application/dicom", "boundary": "a"},
        ),
        ('a/b; c="d\\"; e"; f=g', "a/b", {"c": 'd"; e', "f": "g"}),
    ],
)
def test_media_types(text: str, name: str, parameters: dict[str, str]) -> None:
    assert media_type(text) == (name, parameters)


@pytest.mark.parametrize("text", ["", "dicom", "a/b; c", 'a/b; c="d', "a/b c", 'a/b; c=d"e"'])
def test_malformed_media_types(text: str) -> None:
    with pytest.raises(Malformed):
        media_type(text)


@pytest.mark.parametrize("boundary", ["", "x" * 71, '"x "', '"\n"', "\N{EURO SIGN}"])
def test_invalid_boundaries(boundary: str) -> None:
    with pytest.raises(Malformed, match="boundary"):
        boundary_of(media_type(f"multipart/related; boundary={boundary}"))
