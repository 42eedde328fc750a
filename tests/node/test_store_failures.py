"""What fails below the archive: a status for each, nothing half-written, and it goes on."""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from backends import of_folder
from spooling import OpenArchive, encoded
from sqlalchemy import text

from dicomwire.node import journal as journal_module
from dicomwire.node.configuration import Duplicates
from dicomwire.node.index import sqlite
from dicomwire.node.index.database import IndexFailure
from dicomwire.node.index.opening import INDEX
from dicomwire.node.objects import spool as spool_module
from dicomwire.node.objects.opening import folder_within
from dicomwire.node.statuses import OUT_OF_RESOURCES, SUCCESS

CALLS = ("open", "write", "writev", "rename", "fsync", "lseek", "makedirs")
FAULTS = (errno.ENOSPC, errno.EIO, errno.EROFS)


@pytest.fixture
def archive(tmp_path: Path):
    with OpenArchive(tmp_path / "node") as opened:
        assert opened.store(encoded("1.1", "before"), "1.1") == SUCCESS
        yield opened


class Faults:
    """Lets the call of a number, among all calls of the system that write, fail."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.left = -1
        self.error = 0
        for name in CALLS:
            monkeypatch.setattr(os, name, self._failing(getattr(os, name)))
        for module in (spool_module, journal_module):
            monkeypatch.setattr(module, "_sync_data", self._failing(module._sync_data))

    def _failing(self, real: Callable) -> Callable:
        def call(*args, **kwargs):
            if self.left >= 0:
                self.left -= 1
                if self.left < 0:
                    raise OSError(self.error, os.strerror(self.error))
            return real(*args, **kwargs)

        return call


def store(archive: OpenArchive, uid: str, note: str, pixels: int) -> int:
    """Store an object; a sink that fails is answered for as the library does."""
    try:
        return archive.store(encoded(uid, note, pixels), uid)
    except OSError:
        return OUT_OF_RESOURCES


@pytest.mark.parametrize("error", FAULTS, ids=errno.errorcode.get)
@pytest.mark.parametrize("pixels", [0, 200_000], ids=["small", "large"])
@pytest.mark.parametrize("duplicates", [Duplicates.KEEP_FIRST, Duplicates.REPLACE])
def test_wherever_the_file_system_fails_the_object_is_refused(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: int,
    pixels: int,
    duplicates: Duplicates,
) -> None:
    with OpenArchive(tmp_path, duplicates) as archive:
        assert archive.store(encoded("1.1", "before"), "1.1") == SUCCESS
        faults = Faults(monkeypatch)
        faults.error = error
        uid = "1.1" if duplicates is Duplicates.REPLACE else "1.2"
        failed = 0
        while True:
            faults.left = failed
            status = store(archive, uid, "after", pixels)
            reached, faults.left = faults.left < 0, -1
            if not reached:
                break
            assert status == OUT_OF_RESOURCES, failed
            assert archive.notes() == {"1.1": ["before"]}
            assert len(archive.datasets()) == len(archive.objects()) == 1
            archive.wait_for_journal()
            failed += 1
        assert status == SUCCESS
        if archive.storage.objects.is_journaled:
            assert failed >= 5  # small: record, its sync, file; large: also rename and folder
        assert archive.notes()[uid] == ["after"]
    assert of_folder(tmp_path).findings(tmp_path) == []


@pytest.mark.only_with("folder", "only it has a journal")
def test_a_batch_that_fails_early_leaves_the_one_before_it_in_the_journal(
    archive: OpenArchive, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = folder_within(archive.storage.objects).journal
    assert journal is not None

    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(archive.index.database, "find", fail)
    assert archive.store(encoded("1.2"), "1.2") == OUT_OF_RESOURCES
    (record,) = journal._current.records()
    assert [slot.uid for slot in record.batch.slots] == ["1.1"]


def test_a_half_written_large_object_goes_from_the_spool(
    archive: OpenArchive, monkeypatch: pytest.MonkeyPatch
) -> None:
    sink = archive.storage.spool.sink()
    sink.write([memoryview(bytes(200_000))])
    assert len(archive.spool()) == 1

    def full(descriptor: int, buffers: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "writev", full)
    with pytest.raises(OSError, match="No space"):
        sink.write([memoryview(bytes(100_000))])
    sink.discard()
    assert archive.spool() == []


def test_a_short_write_is_gone_on_with(
    archive: OpenArchive, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.writev
    monkeypatch.setattr(
        os, "writev", lambda descriptor, buffers: real(descriptor, [bytes(buffers[0])[:7]])
    )
    assert archive.store(encoded("1.2", "x", 300_000), "1.2") == SUCCESS
    assert len(archive.datasets()) == 2


@pytest.mark.only_with("sqlite", "another database is not in the folder")
def test_a_locked_database_is_waited_for_and_then_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "BUSY_TIMEOUT", 0.05)
    with OpenArchive(tmp_path) as archive:
        other = sqlite3.connect(tmp_path / INDEX)
        other.execute("BEGIN IMMEDIATE")
        assert archive.store(encoded("1.2"), "1.2") == OUT_OF_RESOURCES
        assert archive.objects() == archive.spool() == []
        other.close()
        assert archive.store(encoded("1.2"), "1.2") == SUCCESS


def limit_pages(archive: OpenArchive, pages: int) -> None:
    """Let the database have no more than so many pages, as if the disk were full."""
    connection = archive.index._connection
    connection.execute(text(f"PRAGMA max_page_count = {pages}"))
    connection.commit()


@pytest.mark.only_with("sqlite", "another database is not in the folder")
@pytest.mark.parametrize("duplicates", [Duplicates.KEEP_FIRST, Duplicates.REPLACE])
def test_a_database_without_room_refuses_and_goes_on_with_room(
    tmp_path: Path, duplicates: Duplicates
) -> None:
    note = "x" * 9_000
    with OpenArchive(tmp_path, duplicates) as archive:
        assert archive.store(encoded("1.1", "before"), "1.1") == SUCCESS
        uid = "1.1" if duplicates is Duplicates.REPLACE else "1.2"
        limit_pages(archive, 1)
        assert archive.store(encoded(uid, note), uid) == OUT_OF_RESOURCES
        assert archive.notes() == {"1.1": ["before"]}
        assert len(archive.datasets()) == len(archive.objects()) == 1
        limit_pages(archive, 1_000_000)
        assert archive.store(encoded(uid, note), uid) == SUCCESS
        assert archive.notes()[uid] == [note]


@pytest.mark.only_with("sqlite", "another database is not in the folder")
@pytest.mark.parametrize("with_logs", [False, True])
def test_a_deleted_database_is_made_anew_with_all_there_was(
    archive: OpenArchive, with_logs: bool
) -> None:
    assert archive.store(encoded("1.2"), "1.2") == SUCCESS
    for path in archive.folder.glob(f"{INDEX}*" if with_logs else INDEX):
        path.unlink()
    assert archive.store(encoded("1.3"), "1.3") == SUCCESS
    assert set(archive.notes()) == {"1.1", "1.2", "1.3"}
    assert archive.store(encoded("1.1", "before"), "1.1") == SUCCESS
    assert len(archive.objects()) == 3


@pytest.mark.only_with("sqlite-folder", "other parts stay when the folder goes")
def test_the_whole_folder_may_go_while_it_is_open(archive: OpenArchive) -> None:
    shutil.rmtree(archive.folder)
    assert archive.store(encoded("1.2", "x", 200_000), "1.2") == SUCCESS
    assert archive.notes() == {"1.2": ["x"]}
    assert len(archive.datasets()) == 1


@pytest.mark.only_with("sqlite", "another database is not in the folder")
def test_a_database_that_cannot_be_made_anew_yet_is_made_later(
    archive: OpenArchive, monkeypatch: pytest.MonkeyPatch
) -> None:
    (archive.folder / INDEX).unlink()
    (archive.folder / INDEX).mkdir()
    assert archive.store(encoded("1.2"), "1.2") == OUT_OF_RESOURCES
    assert archive.store(encoded("1.2"), "1.2") == OUT_OF_RESOURCES
    (archive.folder / INDEX).rmdir()
    assert archive.store(encoded("1.2"), "1.2") == SUCCESS
    assert set(archive.notes()) == {"1.1", "1.2"}


@pytest.mark.only_with("sqlite", "another database is not in the folder")
def test_making_it_anew_is_begun_again_where_it_failed(
    archive: OpenArchive, monkeypatch: pytest.MonkeyPatch
) -> None:
    (archive.folder / INDEX).unlink()
    with monkeypatch.context() as patch:

        def fail(*_: object) -> None:
            raise OSError(errno.EIO, "Input/output error")

        patch.setattr("dicomwire.node.maintenance.reconcile", fail)
        assert archive.store(encoded("1.2"), "1.2") == OUT_OF_RESOURCES
    assert archive.store(encoded("1.2"), "1.2") == SUCCESS
    assert set(archive.notes()) == {"1.1", "1.2"}


@pytest.mark.only_with("sqlite", "another database is not in the folder")
def test_recover_makes_it_anew_without_waiting_for_an_object(archive: OpenArchive) -> None:
    (archive.folder / INDEX).unlink()
    archive.committer.recover()
    assert set(archive.notes()) == {"1.1"}


@pytest.mark.only_with("sqlite", "another database is not in the folder")
def test_a_damaged_database_refuses_and_is_made_anew_by_reindex(tmp_path: Path) -> None:
    with OpenArchive(tmp_path) as archive:
        assert archive.store(encoded("1.1", "x"), "1.1") == SUCCESS
    with (tmp_path / INDEX).open("r+b") as file:
        file.seek(100)
        file.write(bytes(100_000))
    with pytest.raises(IndexFailure, match="malformed"):
        OpenArchive(tmp_path)
    of_folder(tmp_path).reindex(tmp_path)
    with OpenArchive(tmp_path) as archive:
        assert archive.notes() == {"1.1": ["x"]}


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_may_not_be_written_to_refuses_until_it_may(archive: OpenArchive) -> None:
    (spool,) = (archive.folder / "spool").glob("*/")
    spool.chmod(0o500)
    try:
        assert archive.store(encoded("1.2"), "1.2") == OUT_OF_RESOURCES
    finally:
        spool.chmod(0o700)
    assert archive.store(encoded("1.2"), "1.2") == SUCCESS
