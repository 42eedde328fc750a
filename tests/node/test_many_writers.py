"""Several processes with one index and one store, here as several archives in one process.

Each has its own connections, spool and journal, so that they know as little of each other as
processes do.
"""

from __future__ import annotations

import random
import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from backends import Backend
from spooling import CT, EXPLICIT, OpenArchive, all_at_once, encoded

from dicomwire.node.configuration import Duplicates
from dicomwire.node.heads import Origin
from dicomwire.node.index.database import InDoubt
from dicomwire.node.index.writer import Writer
from dicomwire.node.ingest import Entry
from dicomwire.node.statuses import DUPLICATE, OUT_OF_RESOURCES, SUCCESS

FIRST, REPLACE, BOTH, IGNORE = Duplicates
OBJECTS = 30
"""How many each of two writers stores; every second UID is one that the other stores, too."""


@contextmanager
def two(
    folder: Path, backend: Backend, duplicates: Duplicates = FIRST
) -> Iterator[tuple[OpenArchive, OpenArchive]]:
    with (
        OpenArchive(folder, duplicates, backend) as archive,
        OpenArchive(folder, duplicates, backend) as other,
    ):
        yield archive, other


def is_in_step(archive: OpenArchive, backend: Backend) -> bool:
    """Return whether index and files agree, and no level of the index is empty."""
    return not backend.findings(archive.folder) and not archive.spool()


@pytest.mark.parametrize("policy", Duplicates)
def test_a_uid_that_comes_to_both_at_once_is_decided_by_the_policy(
    tmp_path: Path, backend: Backend, policy: Duplicates
) -> None:
    acknowledged: dict[str, set[str]] = defaultdict(set)
    statuses: Counter[int] = Counter()
    changed = threading.Lock()

    def sender(name: str, store: Callable[[bytes, str], int]) -> Callable[[], None]:
        def send() -> None:
            chance = random.Random(name)
            for number in chance.sample(range(OBJECTS), OBJECTS):
                uid = f"1.2.{number}" if number % 2 else f"1.{len(name)}.{number}"
                study = f"1.2.{number % 5}"
                data = encoded(uid, name, StudyInstanceUID=study, PatientID=study)
                status = store(data, uid)
                with changed:
                    statuses[status] += 1
                    if status == SUCCESS:
                        acknowledged[uid].add(name)

        return send

    with two(tmp_path, backend, policy) as (archive, other):
        all_at_once([sender("first", archive.store), sender("another", other.store)])
        notes = archive.notes()
        assert is_in_step(archive, backend)
        assert archive.counts()[:3] == (5, 5, 5)
    assert set(notes) == set(acknowledged)
    for uid, names in acknowledged.items():
        found = notes[uid]
        if policy is BOTH:
            assert set(found) == names
        else:
            assert len(found) == 1
            assert found[0] in names
    expected = {SUCCESS, DUPLICATE} if policy is FIRST else {SUCCESS}
    assert set(statuses) == expected


def test_a_series_that_another_has_removed_is_not_remembered(
    tmp_path: Path, backend: Backend
) -> None:
    with two(tmp_path, backend) as (archive, other):
        assert archive.store(encoded("1.1"), "1.1") == SUCCESS
        with other.index.writing() as writer:
            writer.remove([stored.id for stored in other.index.stored()])
            writer.prune()
        # In SQLite, this series gets the id of the one that was removed.
        elsewhere = encoded("1.2", StudyInstanceUID="1.9", SeriesInstanceUID="1.9.1")
        assert other.store(elsewhere, "1.2") == SUCCESS
        assert archive.store(encoded("1.3"), "1.3") == SUCCESS
        assert archive.counts() == (1, 2, 2, 2)


def test_a_series_is_remembered_while_another_stores(tmp_path: Path, backend: Backend) -> None:
    with two(tmp_path, backend) as (archive, other):
        assert archive.store(encoded("1.1"), "1.1") == SUCCESS
        assert other.store(encoded("1.2"), "1.2") == SUCCESS
        with archive.index.writing():
            pass
        entry = Entry(Origin(CT, "1.3", EXPLICIT), memoryview(encoded("1.3")))
        assert archive.index.knows(entry)


def test_the_files_of_a_batch_are_not_superfluous_to_another_that_starts(
    tmp_path: Path, backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_put, may_commit = threading.Event(), threading.Event()
    add = Writer.add

    def add_later(*arguments: object) -> object:
        is_put.set()
        assert may_commit.wait(30)
        return add(*arguments)

    with OpenArchive(tmp_path, backend=backend) as archive:
        assert archive.store(encoded("1.1"), "1.1") == SUCCESS
        monkeypatch.setattr(Writer, "add", add_later)
        statuses: list[int] = []
        sender = threading.Thread(
            target=lambda: statuses.append(archive.store(encoded("1.2"), "1.2"))
        )
        sender.start()
        assert is_put.wait(30)
        opened: list[OpenArchive] = []
        starter = threading.Thread(
            target=lambda: opened.append(OpenArchive(tmp_path, FIRST, backend))
        )
        starter.start()
        monkeypatch.undo()
        may_commit.set()
        sender.join()
        starter.join()
        opened[0].__exit__()
        assert statuses == [SUCCESS]
        assert archive.notes() == {"1.1": [""], "1.2": [""]}
        assert is_in_step(archive, backend)


@pytest.mark.parametrize("is_committed", [True, False])
def test_an_interrupted_commit_is_settled_by_the_index(
    tmp_path: Path, backend: Backend, monkeypatch: pytest.MonkeyPatch, is_committed: bool
) -> None:
    with OpenArchive(tmp_path, REPLACE, backend) as archive:
        assert archive.store(encoded("1.1", "old"), "1.1") == SUCCESS
        writing = archive.index.writing

        @contextmanager
        def interrupted(**how: bool) -> Iterator[Writer]:
            with writing(**how) as writer:
                yield writer
                if writer.removed and not is_committed:
                    raise InDoubt("interrupted")
            if writer.removed:  # not the transaction that only finds the object to compare with
                raise InDoubt("interrupted")

        monkeypatch.setattr(archive.index, "writing", interrupted)
        assert archive.store(encoded("1.1", "new"), "1.1") == OUT_OF_RESOURCES
        assert len(archive.objects()) == 2
        monkeypatch.undo()
        assert archive.store(encoded("1.2", "x"), "1.2") == SUCCESS
        assert archive.notes() == {"1.1": ["new" if is_committed else "old"], "1.2": ["x"]}
        assert is_in_step(archive, backend)
