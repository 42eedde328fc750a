"""Objects that would be stored where they should not be, or that are no datasets."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

import pytest
from hostile import (
    ASSOCIATE_RQ,
    COMMAND,
    DATASET,
    LAST,
    QUICK,
    RELEASE_RQ,
    besieged,
    data_pdu,
    item,
    pdu,
    pdv,
    store,
    store_command,
    us,
)
from pydicom.dataset import Dataset

from dicomwire import evt

pytestmark = pytest.mark.usefixtures("face")

RELEASED = pdu(6, bytes(4))


def is_abort(answer: bytes) -> bool:
    """Whether `answer` is one A-ABORT, of either source."""
    return len(answer) == 10 and answer[:8] == b"\7\0\0\0\0\4\0\0"


# --- Names --------------------------------------------------------------------------------------

UIDS = {
    "up": b"../../x",
    "down": b"a/b/c",
    "absolute": b"/tmp/evil",
    "drive": b"c:evil",
    "backslashes": b"..\\..\\x",
    "dots": b"..",
    "dot": b".",
    "hidden": b".profile",
    "dash": b"-rf",
    "nul": b"1.2\0/../x",
    "newline": b"1.2\nx",
    "space": b"1.2 .3",
    "device": b"NUL",
    "percent": b"%2e%2e%2fx",
    "not ascii": b"1.2.\xc3\xa9",
    "ten thousand": b"1" * 10_000,
    "65 characters": b"1." * 32 + b"1",
}


def tree(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


@pytest.mark.parametrize(
    ("naming", "name"),
    [
        *(("folder", name) for name in UIDS),
        *(("callable", name) for name in UIDS),
        ("handler", "up"),
        ("handler", "ten thousand"),
    ],
)
def test_a_uid_chooses_no_path(tmp_path: Path, naming: str, name: str) -> None:
    root = tmp_path / "outer" / "inner"
    root.mkdir(parents=True)
    arguments: dict[str, Any] = {"receive_to": root}
    if naming == "callable":
        arguments = {"receive_to": lambda request: root / f"{request.AffectedSOPInstanceUID}.dcm"}
    elif naming == "handler":
        arguments = {
            "handlers": [(evt.EVT_C_STORE, lambda event: 0xC123 if event.dataset_path else 0)]
        }
    with besieged(**arguments) as victim:
        with victim.attacked(lines=None), victim.attacker() as attacker:
            attacker.associate().send(store(UIDS[name]), RELEASE_RQ)
            answer = attacker.rest()
            assert answer.endswith(RELEASED) or is_abort(answer[-10:])
        assert len(victim.told()) <= 1
    for path in tree(tmp_path / "outer"):
        assert path == "inner" or (path.startswith("inner/") and path.endswith(".dcm")), path
        assert "/" not in path.removeprefix("inner/")
    assert all(path.name in ("outer",) for path in tmp_path.iterdir())
    if naming == "folder":  # the name is made up
        assert not any("x" in path or "evil" in path for path in tree(root))


def test_a_naming_function_that_fails_is_no_more_than_a_failure(tmp_path: Path) -> None:
    for name in ("..", "", "x\0y", "missing/x.dcm"):
        with (
            besieged(receive_to=lambda request, name=name: tmp_path / name) as victim,
            victim.attacked(lines=None),
            victim.attacker() as attacker,
        ):
            attacker.associate().send(store(), RELEASE_RQ)
            answer = attacker.rest()
            assert answer.endswith(RELEASED)
            assert us(0x0900, 0x0000) not in answer
            victim.log.entries.clear()  # what a function of the program raises has its traceback
    assert not list(tmp_path.iterdir())


# --- Datasets -----------------------------------------------------------------------------------


def nested(depth: int, explicit: bool = False, defined: bool = False) -> bytes:
    """Sequences within sequences: Referenced Series Sequence, of undefined length or not."""
    if defined:
        data = b""
        for _ in range(depth):
            data = struct.pack("<HHI", 0xFFFE, 0xE000, len(data)) + data
            data = struct.pack("<HHI", 0x0008, 0x1115, len(data)) + data
        return data
    vr = b"SQ\0\0" if explicit else b""
    begin = struct.pack("<HH", 0x0008, 0x1115) + vr + b"\xff\xff\xff\xff"
    begin += b"\xfe\xff\x00\xe0\xff\xff\xff\xff"
    end = b"\xfe\xff\x0d\xe0\0\0\0\0\xfe\xff\xdd\xe0\0\0\0\0"
    return begin * depth + end * depth


def read_all(event: evt.Event) -> int:
    """A handler that looks into every corner of the dataset."""

    def visit(dataset: Dataset) -> None:
        for each in dataset:
            if each.VR == "SQ":
                for item_dataset in each.value:
                    visit(item_dataset)

    visit(event.dataset)
    return 0x0000


@pytest.mark.parametrize("depth", [1, 64, 65, 250, 3000, 10**6])
@pytest.mark.parametrize("form", ["implicit", "defined length"])
def test_nested_sequences(depth: int, form: str) -> None:
    """Up to 64 deep they are read; deeper ones get a failure, whatever the depth."""
    if form == "defined length" and depth > 3000:
        pytest.skip("made by nesting, it takes as long as it is deep and long")
    data = nested(depth, defined=form == "defined length")
    lines, peak = 0 if depth <= 64 else 1, 4 * len(data) + (4 << 20)
    with (
        besieged([(evt.EVT_C_STORE, read_all)]) as victim,
        victim.attacked(lines=lines, peak=peak),
        victim.attacker() as attacker,
    ):
        attacker.associate().send(data_pdu(pdv(3, COMMAND | LAST, store_command())))
        for start in range(0, len(data), 1 << 14):
            attacker.send(data_pdu(pdv(3, 0, data[start : start + (1 << 14)])))
        attacker.send(data_pdu(pdv(3, LAST, b"")), RELEASE_RQ)
        answer = attacker.rest()
        assert us(0x0900, 0x0000 if depth <= 64 else 0xC211) in answer
        assert answer.endswith(RELEASED)


DAMAGED = {
    "cut short": DATASET[:-1],
    "one byte": b"\x10",
    "length of 4 GiB": struct.pack("<HHI", 0x0010, 0x0010, 2**32 - 2) + b"DOE^JOHN",
    "length above by one": struct.pack("<HHI", 0x0010, 0x0010, 9) + b"DOE^JOHN",
    "undefined length without end": struct.pack("<HHI", 0x0008, 0x1115, 2**32 - 1),
    "noise": b"\xa5" * 1001,
    "another file format": b"%PDF-1.4 DOE^JOHN" * 100,
    "delimiters": b"\xfe\xff\x0d\xe0\0\0\0\0" * 100,
}


@pytest.mark.parametrize("data", DAMAGED.values(), ids=DAMAGED.keys())
def test_damaged_datasets(data: bytes) -> None:
    with besieged([(evt.EVT_C_STORE, read_all)]) as victim:
        with victim.attacked(lines=None), victim.attacker() as attacker:
            attacker.associate().send(store(dataset=data), RELEASE_RQ)
            answer = attacker.rest()
            assert us(0x0900, 0xC211) in answer
            assert answer.endswith(RELEASED)
        assert len(victim.told()) <= 1


def test_a_deflate_bomb() -> None:
    """A quarter of a mebibyte on the wire that would be 256: a status, and no more than 128."""
    deflater = zlib.compressobj(9, wbits=-15)
    head = struct.pack("<HH2sxxI", 0x7FE0, 0x0010, b"OB", 1 << 28)
    bomb = deflater.compress(head) + deflater.flush(zlib.Z_FULL_FLUSH)
    # After that flush nothing refers to what comes before: the same bytes mean the same again.
    block = deflater.compress(bytes(1 << 22)) + deflater.flush(zlib.Z_FULL_FLUSH)
    bomb += block * (1 << 6) + deflater.flush()
    deflated = b"1.2.840.10008.1.2.1.99"
    request = ASSOCIATE_RQ.replace(item(0x40, b"1.2.840.10008.1.2"), item(0x40, deflated), 2)
    grown = 2 * (len(deflated) - len(b"1.2.840.10008.1.2"))
    contexts = request[99:]
    contexts = contexts.replace(b"\x20\0\0\x2e", b"\x20\0\0\x33").replace(
        b"\x20\0\0\x36", b"\x20\0\0\x3b"
    )
    request = pdu(1, request[6:99] + contexts)
    assert len(request) == len(ASSOCIATE_RQ) + grown
    with (
        besieged([(evt.EVT_C_STORE, read_all)], settings=QUICK) as victim,
        victim.attacked(peak=150 << 20),
        victim.attacker() as attacker,
    ):
        attacker.associate(request)
        attacker.send(data_pdu(pdv(3, COMMAND | LAST, store_command())))
        for start in range(0, len(bomb), 1 << 14):
            attacker.send(data_pdu(pdv(3, 0, bomb[start : start + (1 << 14)])))
        attacker.send(data_pdu(pdv(3, LAST, b"")), RELEASE_RQ)
        answer = attacker.rest()
        assert us(0x0900, 0xC211) in answer
        assert answer.endswith(RELEASED)
