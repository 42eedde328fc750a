"""The file that says what was stored, whatever becomes of the process that writes it."""

from __future__ import annotations

import os
import tracemalloc
from pathlib import Path

import pytest

from dicomwire import Ledger, LedgerError, Sent
from dicomwire.errors import ConnectionLost
from dicomwire.protocol.command import Command, Message

PEER = "ARCHIVE at host:104"


def sent(uid: str, status: int | None = 0, item: object = None) -> Sent:
    if status is None:
        return Sent(item, uid, failure=ConnectionLost("gone\nfor good", stage="data"))
    return Sent(item, uid, Message(Command.C_STORE_RSP, Status=status))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger"


def fill(path: Path) -> None:
    with Ledger(path, PEER) as ledger:
        ledger.note(sent("1.1", item=Path("a\nb")))
        ledger.note(sent("1.2", 0xB000, "c"))
        ledger.note(sent("1.3", 0xA700))
        ledger.note(sent("1.4", None))
        ledger.note(sent("1.5", item=object()))
        ledger.close()


def stored(path: Path) -> dict[str, int | None]:
    with Ledger(path, PEER) as ledger:
        found = {f"1.{number}": ledger.status_of(f"1.{number}") for number in range(1, 7)}
        known = {uid: status for uid, status in found.items() if status is not None}
        assert len(ledger) == len(known)
        return known


def test_what_was_stored_is_remembered(path: Path) -> None:
    fill(path)
    assert stored(path) == {"1.1": 0, "1.2": 0xB000, "1.5": 0}
    assert len(path.read_bytes().splitlines()) == 6


def test_at_once(path: Path) -> None:
    with Ledger(path, PEER) as ledger:
        ledger.note(sent("1.1"))
        assert ledger.status_of("1.1") == 0
        assert b'"1.1"' in path.read_bytes()


def test_it_is_only_ever_appended_to(path: Path) -> None:
    fill(path)
    before = path.read_bytes()
    with Ledger(path, PEER) as ledger:
        ledger.note(sent("1.6"))
    assert path.read_bytes().startswith(before)
    assert "1.6" in stored(path)


def test_what_failed_first_and_was_stored_then(path: Path) -> None:
    fill(path)
    with Ledger(path, PEER) as ledger:
        ledger.note(sent("1.3"))
    assert stored(path)["1.3"] == 0


def test_wherever_it_is_torn(path: Path) -> None:
    """A line that is not whole is not believed, and the next one is a line of its own."""
    fill(path)
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with Ledger(path, PEER) as ledger:
            before = len(ledger)
            ledger.note(sent("1.6"))
        found = stored(path)
        assert len(found) == before + 1
        assert found["1.6"] == 0
        lines = whole[:length].count(b"\n")
        assert before <= min(max(lines, 0), 3)


def test_lines_that_are_damaged(path: Path) -> None:
    fill(path)
    with path.open("ab") as file:
        file.write(b'\0\0\0\n[]\n{}\n{"uid": 7, "status": 0}\n{"uid": "1.6", "status": "0"}\n\n')
    assert stored(path) == {"1.1": 0, "1.2": 0xB000, "1.5": 0}


NESTED = b"[" * 100_000
LONG = b'{"uid": "1.6", "status": 0, "path": "' + b"x" * 5_000_000 + b'"}'


@pytest.mark.parametrize(
    "line",
    [
        NESTED,
        LONG,
        b'{"uid": "1.6", "status": -5}',
        b'{"uid": "1.6", "status": 1e400}',
        b'{"uid": "1.6", "status": true}',
        b'{"uid": "1.6", "status": ' + b"9" * 5000 + b"}",
    ],
    ids=["nested", "long", "negative", "infinite", "no number", "huge number"],
)
def test_a_line_that_is_none_of_ours_is_passed_over(path: Path, line: bytes) -> None:
    fill(path)
    with path.open("ab") as file:
        file.write(line + b'\n{"uid": "1.3", "status": 0}\n' + line)
    with Ledger(path, PEER) as ledger:
        ledger.note(sent("1.4"))
    assert stored(path) == {"1.1": 0, "1.2": 0xB000, "1.3": 0, "1.4": 0, "1.5": 0}


def test_a_ledger_is_read_in_bounded_memory(path: Path) -> None:
    fill(path)
    with path.open("ab") as file:
        for _ in range(64):
            file.write(b"x" * (1 << 20))
    tracemalloc.start()
    Ledger(path, PEER).close()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 << 20


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes with names")
def test_a_pipe_is_no_ledger(path: Path) -> None:
    os.mkfifo(path)
    with pytest.raises(LedgerError, match="no ledger"):
        Ledger(path, PEER)


@pytest.mark.parametrize(
    "content",
    [
        b"DICM",
        b"text\n",
        b'{"uid": "1.1"}\n',
        b"\n",
        b"{}",
        NESTED + b"\n",
        b'{"ledger": 1, "peer": ' + b"[" * 300 + b"]" * 300 + b"}\n",
        b'{"ledger": 1, "peer": "' + b"x" * 5_000_000,
    ],
    ids=lambda content: content[:16].decode(),
)
def test_other_files_are_left_alone(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(LedgerError, match="no ledger"):
        Ledger(path, PEER)
    assert path.read_bytes() == content


def test_a_ledger_is_for_one_peer(path: Path) -> None:
    fill(path)
    with pytest.raises(LedgerError, match=r"ARCHIVE at host:104.*OTHER"):
        Ledger(path, "OTHER at host:104")


def test_where_there_can_be_none(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="directory"):
        Ledger(tmp_path, PEER)
    with pytest.raises(FileNotFoundError):
        Ledger(tmp_path / "no" / "ledger", PEER)


def test_it_is_synced_now_and_then(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda file: synced.append(file))
    with Ledger(path, PEER) as ledger:
        for number in range(2500):
            ledger.note(sent(f"1.2.{number}"))
        assert len(synced) == 2
    assert len(synced) == 3
