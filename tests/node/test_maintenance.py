"""Files and index brought into step, made anew, verified."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from backends import of_folder
from spooling import CT, EXPLICIT, OpenArchive, encoded

from dicomwire.data.file_meta import file_head
from dicomwire.node import maintenance
from dicomwire.node.configuration import Duplicates
from dicomwire.node.deletion import delete
from dicomwire.node.files import StorageInUse
from dicomwire.node.heads import HEAD_SIZE
from dicomwire.node.index.database import WrongRevision
from dicomwire.node.index.opening import INDEX
from dicomwire.node.index.reader import IndexReader
from dicomwire.node.index.writer import Index
from dicomwire.node.keys import Level
from dicomwire.node.maintenance import Finding, Problem, Reconciled, check
from dicomwire.node.objects.folder import FolderObjects
from dicomwire.node.objects.spool import Spool
from dicomwire.node.tasks.queue import NewTask, Queue, listed

FIRST, REPLACE, BOTH, IGNORE = Duplicates
pytestmark = pytest.mark.only_with("folder", "files are moved, copied and damaged")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A node's folder with ten objects, in two studies."""
    with OpenArchive(tmp_path / "node") as archive:
        for number in range(10):
            uid, study = f"1.2.{number}", f"1.3.{number % 2}"
            values = {"StudyInstanceUID": study, "SeriesInstanceUID": f"{study}.1"}
            assert archive.store(encoded(uid, f"note {number}", 100, **values), uid) == 0
    return tmp_path / "node"


def files(folder: Path) -> list[Path]:
    return sorted((folder / "objects").rglob("*.dcm"))


def contents(folder: Path, duplicates: Duplicates = FIRST) -> dict[str, list[str]]:
    with OpenArchive(folder, duplicates) as archive:
        archive.datasets()
        return archive.notes()


def name_of(path: Path, folder: Path) -> str:
    return path.relative_to(folder).as_posix()


def reconciled(folder: Path, duplicates: Duplicates = FIRST) -> Reconciled:
    with Spool(folder), Index(of_folder(folder).database(folder)) as index:
        return maintenance.reconcile(FolderObjects(folder), index, duplicates)


def test_nothing_is_done_where_all_is_in_step(folder: Path) -> None:
    assert reconciled(folder) == Reconciled()
    assert of_folder(folder).findings(folder) == []


def test_a_transaction_is_for_a_bounded_number_of_bytes(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(maintenance, "_PORTION_BYTES", 0)
    before, done = contents(folder), list[int]()
    assert of_folder(folder).reindex(folder, done.append).indexed == 10
    assert done == [*range(1, 11)]
    assert contents(folder) == before


def test_a_rejected_object_that_a_crash_has_left_does_not_come_back(folder: Path) -> None:
    left = files(folder)[0]
    content = left.read_bytes()
    with OpenArchive(folder) as archive:
        own = [each for each in archive.index.stored() if each.file == name_of(left, folder)]
        uid = own[0].sop_instance_uid
        delete(archive.queue, Level.IMAGE, [uid], rejects=True)
    left.with_name(f"{'0' * 32}.dcm").write_bytes(content)
    assert reconciled(folder) == Reconciled(removed=1)
    assert uid not in contents(folder)


def test_files_that_the_index_does_not_know_are_indexed(folder: Path) -> None:
    before = contents(folder)
    of_folder(folder).forget_index(folder)
    assert reconciled(folder) == Reconciled(indexed=10)
    assert contents(folder) == before


def test_objects_without_a_file_are_dropped(folder: Path) -> None:
    gone = files(folder)[3]
    gone.unlink()
    assert reconciled(folder) == Reconciled(dropped=1)
    assert len(contents(folder)) == 9


def test_a_file_that_was_moved_is_found_where_it_is(folder: Path) -> None:
    before = contents(folder)
    elsewhere = folder / "objects" / "zz" / "yy"
    elsewhere.mkdir(parents=True)
    for number, path in enumerate(files(folder)):
        path.rename(elsewhere / f"{number}.dcm")
    assert reconciled(folder) == Reconciled(indexed=10, dropped=10)
    assert contents(folder) == before


def test_where_no_file_is_there_nothing_is_dropped(folder: Path) -> None:
    (folder / "objects").rename(folder / "elsewhere")
    with pytest.raises(OSError, match="is this the right place, and mounted"):
        reconciled(folder)
    (folder / "elsewhere").rename(folder / "objects")
    assert len(contents(folder)) == 10


def test_another_node_may_store_the_first_object_while_one_starts(tmp_path: Path) -> None:
    folder = tmp_path / "node"
    with OpenArchive(folder) as archive:

        class Late(FolderObjects):
            """A store that gets its first object just after it was listed."""

            def names(self) -> Iterator[str]:
                found = [*super().names()]
                if not found:
                    assert archive.store(encoded("1.2.1"), "1.2.1") == 0
                return iter(found)

        with Index(of_folder(folder).database(folder)) as index:
            maintenance.refuse_if_empty(Late(folder), index)
            assert index.last_id() > 0


def test_reindex_takes_it_that_all_files_are_gone(folder: Path) -> None:
    shutil.rmtree(folder / "objects")
    assert of_folder(folder).reindex(folder) == Reconciled()
    assert contents(folder) == {}


def test_half_a_file_is_not_indexed_and_stays(folder: Path) -> None:
    whole = files(folder)[0].read_bytes()
    half = folder / "objects" / "half" / "files"
    half.mkdir(parents=True)
    for number, size in enumerate([0, 100, HEAD_SIZE, len(whole) - 1]):
        (half / f"{number}.dcm").write_bytes(whole[:size])
    assert reconciled(folder) == Reconciled(unreadable=4)
    assert len(list(half.iterdir())) == 4


def test_a_second_file_of_the_same_bytes_is_removed(folder: Path) -> None:
    one = files(folder)[0]
    shutil.copyfile(one, one.with_name("copy.dcm"))
    assert reconciled(folder) == Reconciled(removed=1)
    assert one.exists()
    assert len(files(folder)) == 10


@pytest.mark.parametrize("duplicates", Duplicates)
def test_a_second_file_takes_the_place_of_a_damaged_one(
    folder: Path, duplicates: Duplicates
) -> None:
    one = files(folder)[0]
    second = one.with_name("copy.dcm")
    shutil.copyfile(one, second)
    flip(one, -1)
    assert reconciled(folder, duplicates) == Reconciled(indexed=1)
    assert one.exists()
    assert {finding.problem for finding in of_folder(folder).findings(folder)} == {Problem.UNKNOWN}
    assert reconciled(folder, duplicates) == Reconciled(removed=1)
    assert not one.exists()
    assert of_folder(folder).findings(folder) == []


def test_an_older_version_does_not_take_the_place_of_a_damaged_one(tmp_path: Path) -> None:
    folder = tmp_path / "node"
    with OpenArchive(folder, BOTH) as archive:
        archive.store(encoded("1.2", "old"), "1.2")
        (old,) = files(folder)
        kept = old.read_bytes()
    with OpenArchive(folder, REPLACE) as archive:
        archive.store(encoded("1.2", "new"), "1.2")
    (new,) = files(folder)
    flip(new, -1)
    old.write_bytes(kept)
    assert reconciled(folder, REPLACE) == Reconciled(unreadable=1)
    assert files(folder) == sorted([old, new])


def test_of_two_damaged_files_none_is_removed(folder: Path) -> None:
    one = files(folder)[0]
    flip(one, -1)
    shutil.copyfile(one, one.with_name("copy.dcm"))
    assert reconciled(folder) == Reconciled(unreadable=1)
    assert len(files(folder)) == 11


@pytest.mark.only_with("sqlite", "the file of the index is copied")
@pytest.mark.parametrize("crash", ["before the commit", "after the commit", "no index"])
def test_what_a_crash_left_of_a_replacement_goes(tmp_path: Path, crash: str) -> None:
    folder, before = tmp_path / "node", tmp_path / "before"
    with OpenArchive(folder, REPLACE) as archive:
        archive.store(encoded("1.2", "old"), "1.2")
    (old,) = files(folder)
    shutil.copytree(folder, before)
    with OpenArchive(folder, REPLACE) as archive:
        archive.store(encoded("1.2", "new"), "1.2")
    (new,) = files(folder)
    shutil.copyfile(before / name_of(old, folder), old)
    if crash == "before the commit":
        shutil.copyfile(before / INDEX, folder / INDEX)
    elif crash == "no index":
        of_folder(folder).forget_index(folder)
    kept = "old" if crash == "before the commit" else "new"
    assert contents(folder, REPLACE) == {"1.2": [kept]}
    assert files(folder) == [old if kept == "old" else new]


@pytest.mark.parametrize("duplicates", [FIRST, BOTH])
def test_differing_files_of_one_uid_are_all_kept(tmp_path: Path, duplicates: Duplicates) -> None:
    with OpenArchive(tmp_path, BOTH) as archive:
        for note in ("a", "b", "c"):
            archive.store(encoded("1.2", note), "1.2")
    of_folder(tmp_path).forget_index(tmp_path)
    found = contents(tmp_path, duplicates)
    assert sorted(found["1.2"]) == ["a", "b", "c"]


@pytest.mark.parametrize("duplicates", Duplicates)
def test_copies_of_several_objects_in_any_order(tmp_path: Path, duplicates: Duplicates) -> None:
    with OpenArchive(tmp_path, BOTH) as archive:
        for note in ("one", "two"):
            for uid in ("1.2", "1.3"):
                assert archive.store(encoded(uid, note), uid) == 0
        stored = archive.datasets()
        made = sorted(stored, key=lambda name: (b"two" in stored[name], b"1.3" in stored[name]))
    elsewhere = tmp_path / "objects" / "00" / "00"
    elsewhere.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(made):  # 1.2, 1.3, 1.2, 1.3
        (tmp_path / name).rename(elsewhere / f"{number}.dcm")
    of_folder(tmp_path).forget_index(tmp_path)
    reconciled(tmp_path, duplicates)
    expected = ["two"] if duplicates is REPLACE else ["one", "two"]
    assert contents(tmp_path, duplicates) == {"1.2": expected, "1.3": expected}


def test_files_of_others_are_taken_in(folder: Path) -> None:
    data = file_head(CT, "1.2.99", EXPLICIT) + encoded("1.2.99", "other")
    (files(folder)[0].with_name("other.dcm")).write_bytes(data)
    assert reconciled(folder) == Reconciled(indexed=1)
    assert contents(folder)["1.2.99"] == ["other"]
    assert of_folder(folder).findings(folder) == []


def test_files_are_indexed_in_portions(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(maintenance, "_PORTION", 3)
    done: list[int] = []
    before = contents(folder)
    assert of_folder(folder).reindex(folder, done.append) == Reconciled(indexed=10)
    assert done == [3, 6, 9, 10]
    assert contents(folder) == before


@pytest.mark.only_with("sqlite", "the files of the index")
@pytest.mark.parametrize("damage", ["none", "deleted", "overwritten", "logs of another"])
def test_reindex_makes_the_same_index_whatever_there_was(folder: Path, damage: str) -> None:
    before = contents(folder)
    index = folder / INDEX
    if damage == "deleted":
        index.unlink()
    elif damage == "overwritten":
        index.write_bytes(os.urandom(10_000))
    elif damage == "logs of another":
        (folder / f"{INDEX}-wal").write_bytes(os.urandom(10_000))
        (folder / f"{INDEX}.new").write_bytes(b"of an earlier attempt")
    assert of_folder(folder).reindex(folder) == Reconciled(indexed=10)
    assert contents(folder) == before
    assert {path.name for path in folder.iterdir()} == {
        INDEX,
        f"{INDEX}-turn",
        "journal",
        "lock",
        "objects",
        "spool",
    }


def test_reindex_keeps_the_tasks(folder: Path) -> None:
    with Index(of_folder(folder).database(folder)) as index, index.writing() as writer:
        Queue(index, "").add(writer, [NewTask("upload", {"file": "x"}, key="a")])
    of_folder(folder).reindex(folder)
    with IndexReader(of_folder(folder).database(folder)) as index:
        (task,) = listed(index)
    assert (task.kind, task.key, task.payload) == ("upload", "a", {"file": "x"})


def test_reindex_is_refused_while_the_node_runs(folder: Path) -> None:
    with Spool(folder), pytest.raises(StorageInUse):
        of_folder(folder).reindex(folder)


def test_an_interrupted_reindex_leaves_the_old_index(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = contents(folder)

    def interrupt(done: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        of_folder(folder).reindex(folder, interrupt)
    assert contents(folder) == before
    of_folder(folder).reindex(folder)
    assert contents(folder) == before


def flip(path: Path, position: int) -> None:
    data = bytearray(path.read_bytes())
    data[position] ^= 1
    path.write_bytes(data)


def test_check_finds_what_is_wrong(folder: Path) -> None:
    paths = files(folder)
    names = [name_of(path, folder) for path in paths]
    paths[0].unlink()
    flip(paths[1], -1)  # a pixel
    paths[2].write_bytes(paths[2].read_bytes()[:-1])
    paths[3].write_bytes(b"")
    shutil.copyfile(paths[4], paths[5])
    stranger = paths[6].with_name("stranger.dcm")
    stranger.write_bytes(paths[6].read_bytes())
    found = {finding.file: finding.problem for finding in of_folder(folder).findings(folder)}
    assert found == {
        names[0]: Problem.MISSING,
        names[1]: Problem.DAMAGED,
        names[2]: Problem.DAMAGED,
        names[3]: Problem.DAMAGED,
        names[5]: Problem.DAMAGED,
        name_of(stranger, folder): Problem.UNKNOWN,
    }


def test_check_changes_nothing_and_may_run_beside_the_node(folder: Path) -> None:
    with OpenArchive(folder) as archive:
        findings = check(folder, index=of_folder(folder).index, progress=lambda done: None)
        archive.store(encoded("1.9"), "1.9")
        assert list(findings) == []
        archive.files()[0].unlink()
        assert [type(finding) for finding in of_folder(folder).findings(folder)] == [Finding]


def test_objects_that_come_and_go_meanwhile_are_no_finding(folder: Path) -> None:
    with OpenArchive(folder, REPLACE) as archive:
        findings = []
        for finding in check(
            folder, index=of_folder(folder).index, progress=lambda done: replace_one(archive, done)
        ):
            findings.append(finding)
        assert findings == []


def replace_one(archive: OpenArchive, number: int) -> None:
    uid = f"1.2.{number % 10}"
    assert archive.store(encoded(uid, f"replaced {number}"), uid) == 0


@pytest.mark.only_with("sqlite", "the file of the index")
def test_check_does_not_migrate(folder: Path) -> None:
    with sqlite3.connect(folder / INDEX) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '0000'")
    connection.close()
    before = (folder / INDEX).read_bytes()
    with pytest.raises(WrongRevision, match=r"revision 0000, not \d+: .*reindex"):
        of_folder(folder).findings(folder)
    assert (folder / INDEX).read_bytes() == before


@pytest.mark.only_with("sqlite", "the database of PostgreSQL is always there")
def test_check_needs_an_index(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no index"):
        list(check(tmp_path))
