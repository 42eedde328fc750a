"""Objects that are carried to another place while they are read: from a folder, from the spool."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from backends import configuration_of, of_folder, options_of
from buckets import FaultProxy, new_url, write_variables
from spooling import CT, EXPLICIT, encoded, spooled

from dicomwire.apps.node import main
from dicomwire.node import maintenance
from dicomwire.node.carrying import (
    GRACE,
    LEFTOVER,
    Moved,
    StoreTasks,
    digits_of,
    move_objects,
    name_of_moved,
    settle,
)
from dicomwire.node.checkpoints import journaling
from dicomwire.node.commit import Committer
from dicomwire.node.configuration import Acknowledge, Configuration, Duplicates
from dicomwire.node.converters import Converters
from dicomwire.node.deletion import delete
from dicomwire.node.heads import Origin
from dicomwire.node.index.opening import open_database
from dicomwire.node.index.reader import Stored
from dicomwire.node.index.writer import Index
from dicomwire.node.keys import Level
from dicomwire.node.maintenance import check
from dicomwire.node.objects.opening import folder_within, open_objects
from dicomwire.node.objects.places import Elsewhere, Places
from dicomwire.node.objects.spool import Spool
from dicomwire.node.query import Found
from dicomwire.node.tasks.queue import Queue, listed
from dicomwire.node.tasks.threads import TaskThreads


class Archive:
    """Index, objects and tasks of a folder; nothing serves, and the clock moves by hand."""

    def __init__(self, configuration: Configuration) -> None:
        self.configuration = configuration
        self.now = 1_700_000_000.0
        with ExitStack() as opened:
            self.spool = opened.enter_context(Spool(configuration.folder))
            self.objects = open_objects(configuration, self.spool)
            database = open_database(configuration.index, configuration.folder)
            self.index = opened.enter_context(Index(database))
            opened.enter_context(journaling(folder_within(self.objects), self.index))
            self.queue = Queue(self.index, "node", lambda: self.now)
            self.tasks = StoreTasks(self.objects, self.index, self.queue, self.spool)
            self.committer = Committer(
                self.objects,
                self.index,
                Converters(self.spool.make_file),
                configuration.duplicates,
                tasks=self.tasks,
            )
            opened.callback(self.committer.close)
            settle(self.objects, self.index, self.queue, self.spool)
            self._opened = opened.pop_all()

    def __enter__(self) -> Archive:
        return self

    def __exit__(self, *_: object) -> None:
        self._opened.close()

    def store(self, *uids: str, note: str = "") -> None:
        """Store objects."""
        for uid in uids:
            payload = spooled(self.spool, encoded(uid, note))
            assert self.committer.store(payload, Origin(CT, uid, EXPLICIT)) == 0x0000
            payload.discard()

    def keep(self, uid: str) -> None:
        """Make an object durable, as a process that dies before it is in the index."""
        self.objects.keep(spooled(self.spool, encoded(uid)), Origin(CT, uid, EXPLICIT))

    def move(self) -> Moved:
        """Move all objects; return what was done."""
        assert isinstance(self.objects, Places)
        self.failures: list[tuple[Stored, OSError]] = []
        report = lambda *each: self.failures.append(each)  # noqa: E731
        return [*move_objects(self.objects, self.index, self.queue, self.spool, report)][-1]

    def run_tasks(self, after: float = 1.0) -> None:
        """Run the tasks that are due after so many seconds."""
        self.now += after
        kinds = self.tasks.kinds()
        threads = TaskThreads(self.queue, kinds, jitter=lambda: 0.0)
        for kind in kinds:
            while threads.step(kind) == 0:
                pass

    def names(self) -> list[str]:
        """Return the names in the index."""
        return [stored.file for stored in self.index.stored()]

    def read(self, name: str) -> bytes:
        """Return an object."""
        with self.objects.open(name) as file:
            return file.read()

    def files(self) -> list[Path]:
        """Return all DICOM files in the folder."""
        return [*self.configuration.folder.rglob("*.dcm")]

    def is_whole(self) -> bool:
        """Return whether `check` finds nothing."""
        objects = open_objects(self.configuration)
        return [
            *check(self.configuration.folder, index=self.configuration.index, objects=objects)
        ] == []


@pytest.fixture
def proxy(seaweedfs_port: int) -> Iterator[FaultProxy]:
    with FaultProxy(seaweedfs_port) as proxy:
        yield proxy


@pytest.fixture
def folder(tmp_path: Path) -> Configuration:
    return configuration_of(tmp_path / "archive", objects="", objects_variables="")


@pytest.fixture
def keys(proxy: FaultProxy, tmp_path: Path) -> dict[str, Any]:
    """The configuration of a bucket."""
    return {
        "folder": tmp_path / "archive",
        "objects": new_url(),
        "objects_variables": write_variables(tmp_path / "variables", proxy.server_port),
        "objects_timeout": 2.0,
    }


UIDS = [f"1.2.{number}" for number in range(5)]


def test_an_archive_moves_to_a_bucket_and_back(folder: Configuration, keys: dict[str, Any]) -> None:
    with Archive(folder) as archive:
        archive.store(*UIDS)
    with Archive(configuration_of(**keys)) as archive:
        assert archive.move() == Moved(5, 5, 0)
        assert all(name.startswith("bucket:") for name in archive.names())
        assert len(archive.files()) == 5  # they stay for those who have read their names
        archive.run_tasks(after=GRACE)
        assert archive.files() == []
        assert archive.is_whole()
        assert archive.move() == Moved(5, 0, 0)
    back = {**keys, "objects": "", "old_objects": keys["objects"]}
    with Archive(configuration_of(**back)) as archive:
        archive.store("1.2.9")
        assert archive.move() == Moved(6, 5, 0)
        archive.run_tasks(after=GRACE)
        assert archive.is_whole()
    with Archive(folder) as archive:
        assert len(archive.files()) == 6
        assert archive.is_whole()


def test_the_command_moves_what_is_not_in_its_place(
    folder: Configuration, keys: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    with Archive(folder) as archive:
        archive.store(*UIDS)
    options = options_of(**keys)
    assert main(["move-objects", *options]) == 0
    assert "5 objects, 5 moved, 0 cannot be moved" in capsys.readouterr().out
    assert main(["move-objects", "--json", *options]) == 0
    assert json.loads(capsys.readouterr().out) == {"seen": 5, "moved": 0, "failed": 0}
    assert main(["move-objects", *options_of(folder.folder, objects="")]) == 1
    assert "There is only one place of objects" in capsys.readouterr().err


def test_an_object_can_be_read_at_any_moment(folder: Configuration, keys: dict[str, Any]) -> None:
    with Archive(folder) as archive:
        archive.store("1.2.1")
    with Archive(configuration_of(**keys)) as archive:
        (before,) = archive.names()
        found = Found(CT, "1.2.1", EXPLICIT, before)
        archive.move()
        (after,) = archive.names()
        assert archive.read(before) == archive.read(after)
        assert name_of_moved(archive.index, found) == after


def test_an_object_that_is_replaced_can_be_read_by_who_has_found_it(keys: dict[str, Any]) -> None:
    with Archive(configuration_of(**keys, duplicates=Duplicates.REPLACE)) as archive:
        archive.store("1.2.1", note="old")
        (before,) = archive.names()
        archive.store("1.2.1", note="new")
        (after,) = archive.names()
        archive.run_tasks()
        assert b"old" in archive.read(before)
        assert b"new" in archive.read(after)
        archive.run_tasks(after=GRACE)
        with pytest.raises(FileNotFoundError):
            archive.read(before)
        assert archive.is_whole()


def test_what_fails_stays_and_moves_later(
    folder: Configuration, keys: dict[str, Any], proxy: FaultProxy
) -> None:
    with Archive(folder) as archive:
        archive.store(*UIDS)
    with Archive(configuration_of(**keys)) as archive:
        damaged = archive.objects.path(archive.names()[0])
        assert damaged is not None
        intact = damaged.read_bytes()
        damaged.write_bytes(intact[:-1] + b"x")
        assert archive.move() == Moved(5, 4, 1)
        assert "damaged" in str(archive.failures[0][1])
        damaged.write_bytes(intact)
        proxy.fail_always("503", method="PUT")
        assert archive.move() == Moved(5, 0, 1)
        proxy.fail_always(None)
        assert archive.move() == Moved(5, 1, 0)
        archive.run_tasks(after=GRACE)
        assert archive.is_whole()


def test_an_object_that_is_replaced_meanwhile_is_not_moved(
    folder: Configuration, keys: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    with Archive(folder) as archive:
        archive.store("1.2.1", note="old")
    with Archive(configuration_of(**keys, duplicates=Duplicates.REPLACE)) as archive:
        assert isinstance(archive.objects, Places)
        copy = archive.objects.copy

        def copy_late(path: Path, digits: str) -> str:
            name = copy(path, digits)
            archive.store("1.2.1", note="new")
            return name

        monkeypatch.setattr(archive.objects, "copy", copy_late)
        archive.move()
        archive.run_tasks(after=GRACE)
        (name,) = archive.names()
        assert b"new" in archive.read(name)
        assert [*archive.objects.names()] == [name]
        assert archive.is_whole()


# --- From the spool ---------------------------------------------------------------------------


@pytest.fixture
def spooling(keys: dict[str, Any]) -> Configuration:
    return configuration_of(**keys, acknowledge=Acknowledge.SPOOLED)


def test_a_spooled_object_is_served_and_then_uploaded(spooling: Configuration) -> None:
    with Archive(spooling) as archive:
        archive.store(*UIDS)
        assert all(name.startswith("spooled:") for name in archive.names())
        assert all(archive.read(name) for name in archive.names())
        assert archive.is_whole()
        archive.run_tasks()
        assert all(name.startswith("bucket:") for name in archive.names())
        archive.run_tasks(after=GRACE)
        assert archive.files() == []
        assert archive.is_whole()


def test_objects_wait_for_a_bucket_that_is_away(spooling: Configuration, proxy: FaultProxy) -> None:
    with Archive(spooling) as archive:
        proxy.fail_always("503")
        archive.store("1.2.0")
    with Archive(spooling) as archive:  # starts without the bucket
        archive.store("1.2.1")
        archive.run_tasks()
        assert [task.attempts for task in listed(archive.index)] == [1, 1]
        proxy.fail_always(None)
        archive.run_tasks(after=GRACE)
        assert all(name.startswith("bucket:") for name in archive.names())
        assert archive.is_whole()


def test_another_node_says_where_the_object_is(
    spooling: Configuration, keys: dict[str, Any], tmp_path: Path
) -> None:
    with Archive(spooling) as archive:
        archive.store("1.2.1")
        (name,) = archive.names()
        other = open_objects(configuration_of(**{**keys, "folder": tmp_path / "other"}))
        with pytest.raises(Elsewhere, match=f"on the disk of the node {name.split(':')[1]}"):
            other.open(name)
        assert other.exists(name)


def test_uploads_are_found_again_when_the_index_was_lost(spooling: Configuration) -> None:
    with Archive(spooling) as archive:
        archive.store(*UIDS)
    of_folder(spooling.folder).forget_index(spooling.folder)
    with Archive(spooling) as archive:
        archive.tasks.recover()
        archive.tasks.recover()
        archive.run_tasks()
        archive.run_tasks(after=GRACE)
        assert len(archive.names()) == 5
        assert all(name.startswith("bucket:") for name in archive.names())
        assert archive.files() == []


def test_an_index_that_is_made_anew_is_complete_also_after_a_crash_on_the_way(
    keys: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    configuration = configuration_of(**keys)
    with Archive(configuration) as archive:
        archive.store(*UIDS)
    of_folder(configuration.folder).forget_index(configuration.folder)
    portions = []

    def index_one_portion(*arguments: Any) -> None:
        if portions:
            raise KeyboardInterrupt
        portions.append(arguments)
        index_portion(*arguments)

    index_portion = maintenance._index_portion
    with monkeypatch.context() as patched:
        patched.setattr(maintenance, "_PORTION", 2)
        patched.setattr(maintenance, "_index_portion", index_one_portion)
        with pytest.raises(KeyboardInterrupt):
            Archive(configuration)
    with Archive(configuration) as archive:
        assert len(archive.names()) == 5
        assert [*listed(archive.index)] == []


def test_what_was_spooled_is_uploaded_after_a_change_of_the_configuration(
    spooling: Configuration, keys: dict[str, Any]
) -> None:
    with Archive(spooling) as archive:
        archive.store("1.2.1")
    with Archive(configuration_of(**keys)) as archive:
        archive.store("1.2.2")
        archive.run_tasks()
        assert all(name.startswith("bucket:") for name in archive.names())


def test_without_a_bucket_nothing_is_spooled(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="needs a bucket"):
        open_objects(configuration_of(tmp_path, objects="", acknowledge=Acknowledge.SPOOLED))


# --- After a crash ----------------------------------------------------------------------------


def test_what_a_process_was_uploading_when_it_died_is_removed(keys: dict[str, Any]) -> None:
    with Archive(configuration_of(**keys)) as archive:
        archive.store("1.2.1")
        archive.keep("1.2.2")
        archive.spool.note(digits_of(*archive.names()))  # it died just after the commit
        assert len([*archive.objects.names()]) == 2
    with Archive(configuration_of(**keys)) as archive:
        assert len(archive.spool.notes) == 2
        assert [*archive.objects.names()] == archive.names()
        assert archive.is_whole()
    with Archive(configuration_of(**keys)) as archive:
        assert archive.spool.notes == []
        assert len(archive.names()) == 1


def test_what_a_bucket_completes_after_its_sender_has_died_is_removed(keys: dict[str, Any]) -> None:
    with Archive(configuration_of(**keys)) as archive:
        archive.store("1.2.1")
        archive.spool.note("ab" * 16)
    with Archive(configuration_of(**keys)) as archive:
        (payload,) = (each.payload for each in listed(archive.index, LEFTOVER))
        with archive.objects.open(archive.names()[0]) as file:
            content = file.read()
        path = archive.configuration.folder / "late"
        path.write_bytes(content)
        assert [archive.objects.copy(path, "ab" * 16)] == payload["names"]
        assert archive.is_whole()
        archive.run_tasks(after=GRACE)
        assert [*archive.objects.names()] == archive.names()
        assert [*listed(archive.index)] == []


def test_notes_of_copies_wait_for_a_bucket_that_is_away(
    spooling: Configuration, proxy: FaultProxy
) -> None:
    with Archive(spooling) as archive:
        archive.store("1.2.1")
        copy = archive.objects.copy(archive.files()[0], "ab" * 16)
        archive.spool.note("ab" * 16)
    proxy.fail_always("403")
    with Archive(spooling):
        pass
    proxy.fail_always(None)
    with Archive(spooling) as archive:
        assert copy not in archive.objects.names()


def test_a_copy_that_is_made_again_while_another_process_starts_stays(
    spooling: Configuration, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Archive(spooling) as archive:
        archive.store("1.2.1")
        copy = archive.objects.copy

        def copy_beside_a_start(path: Path, digits: str) -> str:
            name = copy(path, digits)
            archive.spool.notes = [archive.spool.note(digits)]  # of one that died at this point
            settle(archive.objects, archive.index, archive.queue, archive.spool)
            return name

        monkeypatch.setattr(archive.objects, "copy", copy_beside_a_start)
        archive.run_tasks()
        archive.run_tasks(after=GRACE)
        (name,) = archive.names()
        assert archive.read(name)
        assert archive.is_whole()


def test_a_copy_of_an_object_that_was_deleted_meanwhile_is_removed(
    spooling: Configuration,
) -> None:
    with Archive(spooling) as archive:
        archive.store("1.2.1")
        (original,) = archive.names()
        archive.objects.copy(archive.files()[0], digits_of(original))
        archive.spool.note(digits_of(original))  # it died before the index had the copy
        delete(archive.queue, Level.STUDY, ["1.2.3"])
        archive.store("1.2.2")
    with Archive(spooling) as archive:
        archive.run_tasks()
        archive.run_tasks(after=GRACE)
        assert [*archive.objects.names()] == archive.names()
        assert len(archive.names()) == 1


def test_a_failed_upload_leaves_a_note_and_others_leave_none(
    keys: dict[str, Any], proxy: FaultProxy
) -> None:
    with Archive(configuration_of(**keys)) as archive:
        archive.store("1.2.1", "1.2.1", "1.2.2")
        proxy.fail("403", method="PUT")
        with pytest.raises(OSError, match="do not have the right"):
            archive.keep("1.2.3")
    with Archive(configuration_of(**keys)) as archive:
        assert len(archive.spool.notes) == 1
        assert len(archive.names()) == 2


def test_a_second_copy_on_the_disk_of_an_uploaded_object_is_removed(
    spooling: Configuration,
) -> None:
    with Archive(spooling) as archive:
        archive.store("1.2.1")
        archive.run_tasks()
        archive.run_tasks(after=GRACE)
        archive.keep("1.2.1")
    with Archive(spooling) as archive:
        assert [*archive.objects.names()] == archive.names()
        assert archive.names()[0].startswith("bucket:")
        assert archive.is_whole()
