"""The journal: its records, its two parts, and what happens if it or the disk fails."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from backends import of_folder
from spooling import OpenArchive, encoded

from dicomwire.node import journal as journal_module
from dicomwire.node.checkpoints import Checkpoints
from dicomwire.node.journal import FIRST, Batch, Journal, JournalPart, Slot, abandoned, scanning
from dicomwire.node.objects import folder as folder_module
from dicomwire.node.objects.opening import folder_within
from dicomwire.node.statuses import OUT_OF_RESOURCES, SUCCESS


@pytest.fixture
def part(tmp_path: Path) -> Iterator[JournalPart]:
    part = JournalPart("part", os.open(tmp_path / "part", os.O_RDWR | os.O_CREAT))
    yield part
    part.close()


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    journal = Journal(str(tmp_path))
    yield journal
    journal.close()


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[OpenArchive]:
    """An archive whose checkpoints the test makes."""
    with OpenArchive(tmp_path, has_checkpoints=False) as opened:
        yield opened


def checkpoints(archive: OpenArchive) -> Checkpoints:
    objects = folder_within(archive.storage.objects)
    return Checkpoints(objects, archive.index, archive.committer.commit_lock)


def batch(number: int) -> Batch:
    return Batch(
        number,
        [Slot("1.2", 0, False), Slot("1.3", 2, True)],
        ["removed"],
        [["send", {}, "", 0, False]],
    )


def add(part: JournalPart, number: int) -> None:
    part.write(batch(number), ["small", "large"], [[b"con", b"tent"], []])


def numbers(part: JournalPart) -> list[int]:
    return [record.batch.number for record in part.records()]


def failing(*_: object) -> None:
    raise OSError(errno.EIO, os.strerror(errno.EIO))


# --- Records ---


def test_records_are_read_as_they_were_written(part: JournalPart) -> None:
    add(part, 7)
    add(part, 8)
    first, second = part.records()
    assert (first.batch, second.batch) == (batch(7), batch(8))
    assert first.names == ["small", "large"]
    assert [part.read(*extent) for extent in second.extents] == [b"content", b""]


def test_a_record_that_is_not_whole_ends_the_records(part: JournalPart, tmp_path: Path) -> None:
    add(part, 7)
    end = part.end
    add(part, 8)
    content = (tmp_path / "part").read_bytes()
    for at in range(end, part.end):
        torn = content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]
        (tmp_path / "part").write_bytes(torn)
        assert numbers(part) == [7], at
    (tmp_path / "part").write_bytes(content[: part.end - 1])
    assert numbers(part) == [7]
    (tmp_path / "part").write_bytes(b"")
    assert numbers(part) == []


def test_records_of_an_earlier_use_are_none(part: JournalPart) -> None:
    for number in (7, 8, 9):
        add(part, number)
    part.cut()
    assert numbers(part) == []
    part.generation += 1
    add(part, 17)
    assert numbers(part) == [17]  # although 8 and 9 are there still, whole


# --- The parts ---


def test_a_record_can_be_taken_back(journal: Journal) -> None:
    (part, _) = journal._parts
    journal.append(batch(1), ["a"], [[b"a"]])
    journal.append(batch(2), ["b"], [[b"b"]])
    journal.take_back()
    assert numbers(part) == [1]
    journal.append(batch(3), ["c"], [[b"c"]])
    assert numbers(part) == [1, 3]


def test_while_a_part_waits_for_its_checkpoint_the_other_is_used(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal_module, "FULL", 1)
    journal.append(batch(1), ["a"], [[b"a"]])
    journal.append(batch(2), ["b"], [[b"b"]])
    assert journal.wait(60.0)
    (first,) = journal.retire()
    assert numbers(first) == [1]
    journal.append(batch(3), ["c"], [[b"c"]])  # full, too, but there is no other
    journal.free([first])
    journal.append(batch(4), ["d"], [[b"d"]])
    assert [numbers(part) for part in journal._parts] == [[4], [2, 3]]


def test_a_batch_waits_for_a_checkpoint_only_so_long(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("FULL", 1), ("MOST", 1), ("PATIENCE", 0.01)):
        monkeypatch.setattr(journal_module, name, value)
    journal.append(batch(1), ["a"], [[b"a"]])
    journal.append(batch(2), ["b"], [[b"b"]])
    with pytest.raises(OSError, match="too slow"):
        journal.append(batch(3), ["c"], [[b"c"]])
    journal.free(journal.retire())
    journal.append(batch(3), ["c"], [[b"c"]])


def test_a_checkpoint_is_due_when_the_oldest_record_is_so_old(journal: Journal) -> None:
    journal.append(batch(1), ["a"], [[b"a"]])
    assert journal.wait(0.0)
    assert [numbers(part) for part in journal.retire()] == [[1]]


def test_after_a_failed_sync_the_files_get_no_more_records(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal.append(batch(1), ["a"], [[b"a"]])
    with monkeypatch.context() as patch:
        patch.setattr(journal_module, "_sync_data", failing)
        with pytest.raises(OSError, match="Input/output"):
            journal.append(batch(2), ["b"], [[b"b"]])
    with pytest.raises(OSError, match="journal has failed"):
        journal.append(batch(2), ["b"], [[b"b"]])
    old = journal._parts
    assert numbers(old[0]) == [1]
    journal.free(journal.retire())
    journal.append(batch(3), ["c"], [[b"c"]])
    assert not set(journal._parts) & set(old)
    assert not any(os.path.exists(part.path) for part in old)


def test_only_journals_of_ended_processes_are_abandoned(tmp_path: Path) -> None:
    ended, running = Journal(str(tmp_path)), Journal(str(tmp_path))
    for number, journal in enumerate((ended, running)):
        journal.append(batch(number), ["a"], [[b"a"]])
    ended.close()
    folder = f"{tmp_path}/journal"
    with scanning(folder), abandoned(folder) as parts:
        assert [numbers(part) for part in parts] == [[0], []]
    names = sorted(name for name in os.listdir(folder) if name.endswith(FIRST))
    assert names == [os.path.basename(running._parts[0].path)]
    running.close()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux takes the hint")
def test_the_folder_of_journals_is_made_with_a_hint_where_the_file_system_takes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments: list[int] = []

    def flags(descriptor: int, request: int, argument: bytes) -> bytes:
        arguments.append(int.from_bytes(argument, sys.byteorder))
        return (0x80000).to_bytes(4, sys.byteorder)

    for number, ioctl in enumerate((flags, failing)):
        (tmp_path / str(number)).mkdir()
        monkeypatch.setattr("fcntl.ioctl", ioctl)
        Journal(str(tmp_path / str(number))).close()
        assert os.listdir(tmp_path / str(number) / "journal") == ["lock"]
    assert arguments == [0, 0x80000 | 0x20000, 0x80000]  # to read them, the hint, and as before


# --- In an archive ---


@pytest.mark.only_with("folder", "a bucket has no journal")
def test_a_stop_leaves_no_journal(tmp_path: Path) -> None:
    with OpenArchive(tmp_path) as archive:
        assert archive.store(encoded("1.1"), "1.1") == SUCCESS
        assert len(os.listdir(tmp_path / "journal")) == 3
    assert os.listdir(tmp_path / "journal") == ["lock"]


@pytest.mark.only_with("folder", "a bucket has no journal")
def test_while_nothing_can_be_made_durable_nothing_is_stored(
    archive: OpenArchive, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folder_module, "CAN_SYNC_FILE_SYSTEM", True)
    process = checkpoints(archive)
    assert archive.store(encoded("1.1"), "1.1") == SUCCESS
    with monkeypatch.context() as patch:
        patch.setattr(folder_module, "sync_file_system", failing)
        for _ in range(2):
            with pytest.raises(OSError, match="Input/output"):
                process.make()
            assert archive.store(encoded("1.2"), "1.2") == OUT_OF_RESOURCES
    # The system may have dropped what it did not write.
    for name in archive.objects():
        (archive.folder / name).write_bytes(b"")
    process.make()
    assert archive.store(encoded("1.2"), "1.2") == SUCCESS
    assert sorted(archive.notes()) == ["1.1", "1.2"]
    assert len(archive.datasets()) == 2


@pytest.mark.only_with("folder", "a bucket has no journal")
def test_a_batch_that_waits_for_a_checkpoint_does_not_keep_it_from_being_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal_module, "FULL", 1)
    monkeypatch.setattr(journal_module, "MOST", 1)
    with OpenArchive(tmp_path) as archive:
        for number in range(10):
            assert archive.store(encoded(f"1.{number}"), f"1.{number}") == SUCCESS


@pytest.mark.only_with("sqlite-folder", "an index in PostgreSQL is made anew by `reindex`")
def test_a_deleted_index_is_made_again_from_files_and_journal(tmp_path: Path) -> None:
    with OpenArchive(tmp_path, has_checkpoints=False) as archive:
        for uid in ("1.1", "1.2"):
            assert archive.store(encoded(uid), uid) == SUCCESS
        before = sorted(archive.datasets().values())
        for name in archive.objects():
            (tmp_path / name).write_bytes(b"")
    of_folder(tmp_path).forget_index(tmp_path)
    with OpenArchive(tmp_path) as archive:
        assert sorted(archive.datasets().values()) == before
    assert of_folder(tmp_path).findings(tmp_path) == []
