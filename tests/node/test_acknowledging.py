"""Objects are acknowledged as soon as the journal has them, before they are indexed."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path

import pytest
from backends import of_folder
from spooling import CT, EXPLICIT, OpenArchive, all_at_once, encoded, spooled
from sqlalchemy.exc import OperationalError
from test_commit import Gate
from test_store_failures import FAULTS, Faults

from dicomwire.node.archive import Archive
from dicomwire.node.configuration import Configuration, Duplicates
from dicomwire.node.heads import Origin
from dicomwire.node.index.reader import IndexReader
from dicomwire.node.index.sqlite import Sqlite
from dicomwire.node.objects.opening import folder_within
from dicomwire.node.statuses import DUPLICATE, OUT_OF_RESOURCES, SUCCESS

pytestmark = pytest.mark.only_with("sqlite-folder", "the others acknowledge what is indexed")


@pytest.fixture
def archive(tmp_path: Path):
    with OpenArchive(tmp_path / "node") as opened:
        yield opened


def records(archive: OpenArchive) -> list[str]:
    """Return the UIDs in the journal."""
    journal = folder_within(archive.storage.objects).journal
    assert journal is not None
    return [slot.uid for record in journal._current.records() for slot in record.batch.slots]


class Lock:
    """A lock that says when somebody begins to wait for it."""

    def __init__(self, lock: threading.Lock) -> None:
        self._lock = lock
        self.wanted = threading.Event()

    def __enter__(self) -> None:
        if self._lock.locked():
            self.wanted.set()
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()


def test_the_journal_has_the_object_then_but_neither_folder_nor_index(archive: OpenArchive) -> None:
    seen = []

    def respond() -> None:
        with IndexReader(of_folder(archive.folder).database(archive.folder)) as index:
            seen.append((records(archive), archive.objects(), index.find(["1.1"])))

    assert archive.store(encoded("1.1"), "1.1", respond=respond) == SUCCESS
    assert seen == [(["1.1"], [], {})]
    assert len(archive.datasets()) == len(archive.objects()) == 1


def test_who_reads_the_index_afterwards_finds_the_object(archive: OpenArchive) -> None:
    lock = archive.index._lock = Lock(archive.index._lock)
    finish = archive.storage.objects.finish
    found = []
    reader = threading.Thread(target=lambda: found.append(archive.index.find(["1.1"])))

    def finish_when_somebody_waits(*args: object) -> None:
        assert lock.wanted.wait(30)
        finish(*args)

    archive.storage.objects.finish = finish_when_somebody_waits
    assert archive.store(encoded("1.1"), "1.1", respond=reader.start) == SUCCESS
    reader.join()
    assert [*found[0]] == ["1.1"]


@pytest.mark.parametrize("policy", Duplicates)
def test_only_success_is_sent_early(tmp_path: Path, policy: Duplicates) -> None:
    early = []
    with OpenArchive(tmp_path, policy) as archive:
        for note in ("a", "a", "b"):
            data = encoded("1.1", note)
            status = archive.store(data, "1.1", respond=lambda note=note: early.append(note))
        refused = policy is Duplicates.KEEP_FIRST
        assert status == (DUPLICATE if refused else SUCCESS)
        assert early == (["a", "a"] if refused else ["a", "a", "b"])


@pytest.mark.parametrize("error", FAULTS, ids=errno.errorcode.get)
def test_what_cannot_be_completed_then_is_redone_from_the_journal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: int
) -> None:
    with OpenArchive(tmp_path, Duplicates.REPLACE) as archive:
        faults = Faults(monkeypatch)
        faults.error = error
        expected = {"1.1": ["0"]}
        assert archive.store(encoded("1.1", "0"), "1.1") == SUCCESS
        early = left = late = 0
        is_reached = True
        while is_reached:
            faults.left, told = left, []
            data = encoded("1.1", str(left + 1))
            status = archive.store(data, "1.1", respond=lambda told=told: told.append(1))
            is_reached, faults.left = faults.left < 0, -1
            archive.wait_for_journal()
            assert status == (SUCCESS if told else OUT_OF_RESOURCES)
            if told:
                expected = {"1.1": [str(left + 1)]}
            late += is_reached and bool(told)
            early += is_reached and not told
            assert archive.notes() == expected
            assert len(archive.datasets()) == len(archive.objects()) == 1
            left += 1
        assert early >= 2  # the record, its sync
        assert late >= 2  # the file
    assert of_folder(tmp_path).findings(tmp_path) == []


def test_a_transaction_that_cannot_be_committed_is_redone(
    archive: OpenArchive, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    told = []

    class Failing:
        def __init__(self, transaction) -> None:
            self._transaction = transaction

        def __enter__(self) -> None:
            self._transaction.__enter__()

        def __exit__(self, *_: object) -> None:
            monkeypatch.undo()
            error = OperationalError(None, None, OSError("database or disk is full"))
            self._transaction.__exit__(type(error), error, None)
            raise error

    writing = Sqlite.writing
    monkeypatch.setattr(Sqlite, "writing", lambda *args, **keys: Failing(writing(*args, **keys)))
    assert archive.store(encoded("1.1"), "1.1", respond=lambda: told.append(1)) == SUCCESS
    assert told == [1]
    assert "Acknowledged objects will be indexed later" in caplog.text
    archive.wait_for_journal()
    assert len(archive.datasets()) == len(archive.objects()) == 1
    assert archive.store(encoded("1.2"), "1.2") == SUCCESS


def test_an_error_while_the_peer_is_told_leaves_nobody_waiting(
    archive: OpenArchive, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate(archive, 3, monkeypatch)
    statuses: list[int] = []

    def store(number: int) -> None:
        uid = f"1.2.{number}"
        statuses.append(archive.store(encoded(uid), uid, respond=_fail))

    all_at_once([lambda number=number: store(number) for number in range(4)])
    assert gate.batches[0] == 1
    assert len(statuses) == 4
    archive.wait_for_journal()
    stored = [*archive.notes()]
    assert len(stored) == len(archive.datasets()) == statuses.count(SUCCESS) >= 1


def test_after_such_a_failure_a_start_redoes_the_journal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with OpenArchive(tmp_path, has_checkpoints=False) as archive:
        archive.storage.objects.finish = _fail
        assert archive.store(encoded("1.1"), "1.1", respond=lambda: None) == SUCCESS
        assert archive.store(encoded("1.2"), "1.2", respond=lambda: None) == OUT_OF_RESOURCES
    with OpenArchive(tmp_path) as archive:
        assert [*archive.notes()] == ["1.1"]
        assert len(archive.datasets()) == 1


def _fail(*_: object) -> None:
    raise OSError(errno.EIO, os.strerror(errno.EIO))


@pytest.mark.parametrize("workers", [1, 2])
def test_with_workers_only_what_is_indexed_is_acknowledged(tmp_path: Path, workers: int) -> None:
    told = []
    with Archive(Configuration(folder=tmp_path, workers=workers), "node") as archive:
        payload = spooled(archive.spool, encoded("1.1"))
        origin = Origin(CT, "1.1", EXPLICIT, "SENDER")
        assert archive.committer.store(payload, origin, lambda: told.append(1)) == SUCCESS
        payload.discard()
    assert told == ([1] if workers == 1 else [])
