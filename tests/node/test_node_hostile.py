"""Hostile values through real associations: the right status, nothing outside, and it lives on."""

from __future__ import annotations

import re
import struct
import tracemalloc
import zlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset
from pydicom.tag import Tag
from pydicom.uid import (
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)
from running_node import (
    Receiver,
    associate,
    counts,
    find,
    get,
    make_object,
    running,
    store,
    study_of,
)
from spooling import spool_files

from dicomwire import AE, Stream, build_context
from dicomwire.data import codec
from dicomwire.data.codec import encode_dataset
from dicomwire.node.server import Node
from dicomwire.sop_class import StudyRootQueryRetrieveInformationModelFind as FIND
from dicomwire.sop_class import Verification

OURS = re.compile(
    r"(node\.)?lock|index\.sqlite(-wal|-shm|-turn)?|spool(/lock|/[0-9a-f]{16}(/lock)?)?|"
    r"journal(/lock|/[^/]+)?|objects(/[0-9a-f]{2}(/[0-9a-f]{2}(/[0-9a-f]{32}\.dcm)?)?)?"
)
"""What there is in the folder of a node, whatever peers send."""
MANY = 10_000
LARGE = 10_000_000
DEEP = 1000


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    """A node with one object, which has to be unharmed in the end, alone in its folder."""
    folder = tmp_path / "archive"
    with running(folder) as node:
        assert store(node, make_object(99, study="1.9")) == [0x0000]
        yield node
        assert list(tmp_path.iterdir()) == [folder]
        inside = [str(path.relative_to(folder)) for path in folder.rglob("*")]
        assert [name for name in inside if not OURS.fullmatch(name)] == []
        assert not spool_files(folder)
        (_, match), (last, _) = find(node, study_of("1.9", PatientName=""))
        assert (match.PatientName, last.Status) == ("Doe^Jane", 0x0000)
        with associate(node, Verification) as assoc:
            assert assoc.send_c_echo().Status == 0x0000


def send(
    node: Node, data: bytes, uid: str = "1.2.3.1.1", syntax: str = ImplicitVRLittleEndian
) -> int:
    """Send bytes as the dataset of the object `uid`; return the status."""
    with associate(node, build_context(CTImageStorage, syntax)) as assoc:
        status: int = assoc.send_c_store(Stream(CTImageStorage, uid, syntax, [data])).Status
    return status


def element(tag: int, value: bytes, length: int | None = None) -> bytes:
    """Return an element in implicit VR."""
    value += b" " * (len(value) % 2)
    length = len(value) if length is None else length
    return struct.pack("<HHL", tag >> 16, tag & 0xFFFF, length) + value


def encoded(*extra: bytes, **elements: Any) -> bytes:
    """Return an object in implicit VR; `extra` elements are put in their place by tag."""
    ds = make_object(**elements)
    parts = [
        encode_dataset(Dataset({tag: each}), ImplicitVRLittleEndian) for tag, each in ds.items()
    ]
    utf_8 = parts[0]
    parts = [utf_8, *(part.removeprefix(utf_8) for part in parts[1:])]
    by_tag = {each[:4]: each for each in (*parts, *extra)}
    return b"".join(sorted(by_tag.values(), key=_place))


def nested(tag: int, depth: int, is_defined: bool) -> bytes:
    """Return an element with sequences in sequences."""
    head = struct.pack("<HH", tag >> 16, tag & 0xFFFF)
    if not is_defined:
        begin = head + b"\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff"
        end = b"\xfe\xff\x0d\xe0\0\0\0\0\xfe\xff\xdd\xe0\0\0\0\0"
        return begin * depth + end * depth
    data = b""
    for _ in range(depth):
        item = b"\xfe\xff\x00\xe0" + struct.pack("<L", len(data)) + data
        data = head + struct.pack("<L", len(item)) + item
    return data


class Raw(Dataset):
    """An identifier that is sent as it is."""

    data: bytes

    def __init__(self, *elements: bytes) -> None:
        super().__init__()
        object.__setattr__(self, "data", b"".join(sorted(elements, key=_place)))


def _place(element: bytes) -> tuple[int, int]:
    group, number = struct.unpack_from("<HH", element)
    return group, number


@pytest.fixture(autouse=True)
def _raw_is_sent_raw(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have our own client send what it would never make."""
    encode = codec.encode_dataset

    def encode_or_not(ds: Dataset, syntax: str) -> bytes:
        return ds.data if isinstance(ds, Raw) else encode(ds, syntax)

    monkeypatch.setattr(codec, "encode_dataset", encode_or_not)


def with_raw(tag: int, value: bytes, uid: str = "") -> Raw:
    """Return an identifier of study level with one element like nobody's."""
    own = element(tag, value)
    level = element(0x00080052, b"STUDY")
    return (
        Raw(level, own) if tag == 0x0020000D else Raw(level, own, element(0x0020000D, uid.encode()))
    )


# --- Stored -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "uid",
    [
        "../../../../tmp/evil",
        "/etc/passwd",
        "..",
        "1.2/3",
        "1.2\\3",
        "C:1.2",
        "1.2\x003",
        "1.2\r\n3",
        "'; DROP TABLE instance; --",
        "9" * 65,
        "",
    ],
)
def test_uids_that_are_none(node: Node, uid: str) -> None:
    with suppress(ValueError):  # some are nothing that our own client sends
        assert send(node, encoded(SOPInstanceUID="1.2.3"), uid) == 0x0117
    for tag in (0x0020000D, 0x0020000E, 0x00080018):
        hostile = element(tag, uid.encode())
        assert send(node, encoded(hostile)) == 0xA900


@pytest.mark.parametrize(
    "name",
    [
        'O\'Brien^"Bob"; DROP TABLE patient; --',
        "100%_sure^*?[a-z]",
        "%",
        "__",
        "../../etc^passwd",
        "a;b`c$(d)|e<f>g",
        "\ufeff\u202eeman\u0301",
    ],
)
def test_values_that_mean_something_elsewhere(node: Node, name: str) -> None:
    assert store(node, make_object(PatientName=name, PatientID="P2")) == [0x0000]
    wanted = study_of("", PatientName=name.replace("*", "?"))
    wanted.SpecificCharacterSet = "ISO_IR 192"
    *matches, (last, _) = find(node, wanted)
    assert last.Status == 0x0000
    assert [str(match.PatientName) for _, match in matches] == [name]


@pytest.mark.parametrize("value", [b"\0", b"\0\0Doe", b"Doe\0^\0Jane", b"\x1b$B", b"\xff\xfe\x80"])
def test_bytes_that_are_no_text(node: Node, value: bytes) -> None:
    assert send(node, encoded(element(0x00100010, value))) == 0x0000
    *matches, (last, _) = find(node, study_of(PatientName="", PatientID=""))
    assert (len(matches), last.Status) == (1, 0x0000)


@pytest.mark.parametrize(
    "terms", ["NONSENSE", "ISO 2022 IR 87\\\\NONSENSE", "\\".join(["GB18030"] * 50), "../../x"]
)
def test_wrong_character_sets(node: Node, terms: str) -> None:
    wrong = element(0x00080005, terms.encode())
    name = element(0x00100010, b"\xc3\x28\x1b$BM\xff^\x81")
    assert send(node, encoded(wrong, name)) == 0x0000
    wanted = study_of("", PatientName="*", AccessionNumber="")
    wanted.SpecificCharacterSet = "ISO_IR 192"
    *matches, (last, _) = find(node, wanted)
    assert (len(matches), last.Status) == (2, 0x0000)


@pytest.mark.parametrize(
    ("tag", "statuses"),
    [
        (0x00100010, {0x0000}),  # Patient's Name
        (0x00100020, {0xA900}),  # Patient ID, which tells patients apart
        (0x00081030, {0x0000}),  # Study Description
        (0x00091001, {0x0000}),
        (0x0020000D, {0xA900}),
    ],
)
def test_large_values(node: Node, tag: int, statuses: set[int]) -> None:
    assert send(node, encoded(element(tag, b"7" * LARGE))) in statuses


@pytest.mark.parametrize("is_defined", [True, False])
@pytest.mark.parametrize("tag", [0x00081110, 0x00091001, 0x00400275])
def test_deep_sequences(node: Node, tag: int, is_defined: bool) -> None:
    data = encoded(nested(tag, DEEP, is_defined))
    assert send(node, data) in (0x0000, 0xC000)
    *_, (last, _) = find(node, study_of(ReferencedSeriesSequence=[], RequestAttributesSequence=[]))
    assert last.Status in (0x0000, 0xFF01)
    context = build_context(CTImageStorage, ExplicitVRLittleEndian)
    *_, (status, _) = get(node, Receiver(), study_of(), context)  # which has to convert it
    # A private element of defined length is what it was, whatever is in it.
    assert counts(status) in ((0x0000, 0, 0), (0xA702, 0, 1), (0x0000, 1, 0))


def bomb(*before: bytes) -> bytes:
    """Return 300 MiB of zeros, deflated, after what comes `before` them."""
    deflater = zlib.compressobj(9, wbits=-zlib.MAX_WBITS)
    # What is between two full flushes stands alone: it may be deflated once, and repeated.
    head, zeros = (
        deflater.compress(each) + deflater.flush(zlib.Z_FULL_FLUSH)
        for each in (b"".join(before), bytes(1 << 20))
    )
    return head + zeros * 300 + deflater.flush()


def explicit(tag: int, vr: bytes, length: int) -> bytes:
    return struct.pack("<HH2sHL", tag >> 16, tag & 0xFFFF, vr, 0, length)


def test_a_deflate_bomb_before_what_is_wanted(node: Node) -> None:
    data = bomb(explicit(0x00080001, b"UN", 300 << 20))
    assert send(node, data, syntax=DeflatedExplicitVRLittleEndian) in (0xA900, 0xC000)


def test_a_deflate_bomb_in_the_pixels(node: Node) -> None:
    before = encode_dataset(make_object(), ExplicitVRLittleEndian)
    data = bomb(before, explicit(0x7FE00010, b"OW", 300 << 20))
    assert send(node, data, syntax=DeflatedExplicitVRLittleEndian) == 0x0000
    context = build_context(CTImageStorage, ExplicitVRLittleEndian)
    *_, (status, _) = get(node, Receiver(), study_of(), context)
    assert counts(status) == (0xA702, 0, 1)


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian])
@pytest.mark.parametrize("data", [b"", b"\0", b"\xff" * 1000, b"GET / HTTP/1.1\r\n\r\n" * 9])
def test_what_is_no_dataset(node: Node, syntax: str, data: bytes) -> None:
    assert send(node, data, syntax=syntax) in (0xA900, 0xC000)


def test_every_truncation_is_refused_or_whole(node: Node) -> None:
    data = encoded()
    for length in range(0, len(data), 7):
        assert send(node, data[:length]) in (0x0000, 0x0111, 0xA900, 0xC000)


# --- Asked ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "keyword", ["PatientName", "PatientID", "AccessionNumber", "StudyDescription", "StudyID"]
)
def test_what_looks_like_sql_finds_nothing(node: Node, keyword: str) -> None:
    for text in ("'", '"', "' OR 1=1 --", "%", "_", "*' OR '1'='1", "[a-z]*", "\\", "\0"):
        *matches, (last, _) = find(node, with_raw(Tag(keyword), text.encode()))
        # What is empty, for all that is in it, is universal matching in other words.
        assert (last.Status, len(matches)) == (0x0000, 0 if text.strip("\0\\") else 1)


@pytest.mark.parametrize(
    "uid", ["' OR 1=1 --", "../..", "*", "1.9*", "1.?", "\x00", "1.9\x00", "9" * 1000]
)
def test_uids_of_a_query_that_are_none(node: Node, uid: str) -> None:
    for ask in (find, lambda node, ds: get(node, Receiver(), ds, CTImageStorage)):
        *matches, (status, _) = ask(node, with_raw(0x0020000D, uid.encode()))
        assert status.Status in (0x0000, 0xA900, 0xA702)
        assert len(matches) <= 1


def test_a_query_for_ten_thousand_keys(node: Node) -> None:
    ds = study_of("1.9")
    for number in range(MANY):
        ds.add_new(0x00110000 + ((number // 200) << 17) + 0x1000 + number % 200, "LO", "x")
    *_, (last, _) = find(node, ds)
    assert last.Status == 0x0000


@pytest.mark.parametrize(
    ("count", "status"), [(MANY, 0xA900), (LARGE // 8, 0xC000)], ids=["many", "too many"]
)
def test_a_query_for_many_items(node: Node, count: int, status: int) -> None:
    """Of each item pydicom would make some 700 bytes."""
    identifier = with_raw(0x00081110, element(0xFFFEE000, b"") * count, "1.9")
    tracemalloc.start()
    try:
        ((answer, _),) = find(node, identifier)
        assert answer.Status == status
        assert tracemalloc.get_traced_memory()[1] < 4 * len(identifier.data) + (2 << 20)
    finally:
        tracemalloc.stop()


def test_a_query_for_ten_thousand_uids(node: Node) -> None:
    uids = [f"1.2.{number}" for number in range(MANY)]
    *matches, (last, _) = find(node, study_of([*uids, "1.9"]))
    assert (len(matches), last.Status) == (1, 0x0000)


@pytest.mark.parametrize("keyword", ["PatientName", "StudyDate", "StudyTime", "StudyInstanceUID"])
def test_a_query_with_a_large_value(node: Node, keyword: str) -> None:
    for piece in (b"7", b"*", b"?", b"\\", b"-", b"^", b"="):
        *_, (last, _) = find(node, with_raw(Tag(keyword), piece * LARGE, "1.9"))
        assert last.Status in (0x0000, 0xA900)


@pytest.mark.parametrize("is_defined", [True, False])
def test_a_query_with_deep_sequences(node: Node, is_defined: bool) -> None:
    data = nested(0x00081110, DEEP, is_defined)
    *_, (status, _) = find(node, Raw(element(0x00080052, b"STUDY"), data))
    assert status.Status in (0x0000, 0xC000)


def test_a_query_that_is_a_deflate_bomb(node: Node) -> None:
    ds = Raw(bomb(explicit(0x00090010, b"UN", 300 << 20)))
    context = build_context(FIND, DeflatedExplicitVRLittleEndian)
    with AE("EVIL").associate(*node.address, [context]) as assoc:
        *_, (status, _) = assoc.send_c_find(ds, FIND)
    assert status.Status == 0xC000


@pytest.mark.parametrize("title", ["../../x", "' OR 1=1 --", "%s%n{0}", "A" * 16])
def test_titles(node: Node, title: str) -> None:
    assert store(node, make_object(), title=title) == [0x0000]
    assert len(find(node, study_of(), title=title)) == 2
