"""Small objects are durable in the index before their files are, and the files follow."""

from __future__ import annotations

import errno
import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from spooling import OpenArchive, encoded

from dicomwire.node import settling
from dicomwire.node import storage as storage_module
from dicomwire.node.commit import SUCCESS
from dicomwire.node.configuration import Duplicates
from dicomwire.node.index import Writer
from dicomwire.node.maintenance import INDEX, check, clear, reindex

WAIT = 10.0
LARGE = 200_000


@pytest.fixture(autouse=True)
def _unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is settled before the end, unless a test wants it."""
    monkeypatch.setattr(settling, "SETTLE_AFTER", 3600)


def store(archive: OpenArchive, count: int, note: str = "") -> dict[str, list[str]]:
    for number in range(count):
        uid = f"1.2.{number}"
        assert archive.store(encoded(uid, note), uid) == SUCCESS
    return {f"1.2.{number}": [note] for number in range(count)}


def held(archive: OpenArchive) -> list[str]:
    return [name for _, name in archive.index.names_held()]


def after_power_failure(archive: OpenArchive, folder: Path, spoil: Callable[[Path], None]) -> None:
    """Make `folder` what the disk would have: the index as committed, and files that never came."""
    shutil.copytree(archive.folder, folder, ignore=shutil.ignore_patterns("*-shm", "lock"))
    for path in (folder / "objects").rglob("*.dcm"):
        spoil(path)


def half(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def zeroed(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


@pytest.mark.parametrize("spoil", [Path.unlink, half, zeroed])
def test_what_was_acknowledged_survives_a_power_failure(
    tmp_path: Path, spoil: Callable[[Path], None]
) -> None:
    after = tmp_path / "after"
    with OpenArchive(tmp_path / "node") as archive:
        expected = store(archive, 40, "x")
        contents = sorted(archive.datasets().values())
        after_power_failure(archive, after, spoil)
    with OpenArchive(after) as again:
        assert again.notes() == expected
        assert sorted(again.datasets().values()) == contents
        assert held(again) == again.spool() == []
    assert list(check(after)) == []


def test_a_power_failure_takes_folders_too(tmp_path: Path) -> None:
    after = tmp_path / "after"
    with OpenArchive(tmp_path / "node") as archive:
        expected = store(archive, 3)
        after_power_failure(archive, after, Path.unlink)
    shutil.rmtree(after / "objects")
    with OpenArchive(after) as again:
        assert again.notes() == expected
        assert len(again.datasets()) == 3


def test_a_large_object_is_not_held(tmp_path: Path) -> None:
    with OpenArchive(tmp_path) as archive:
        assert archive.store(encoded("1.2", "x", LARGE), "1.2") == SUCCESS
        assert held(archive) == []


def test_more_than_may_be_held_is_synced_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced = []
    real = storage_module._sync_data
    monkeypatch.setattr(storage_module, "_sync_data", lambda file: (synced.append(1), real(file)))
    with OpenArchive(tmp_path) as archive:
        store(archive, 1)
        assert len(held(archive)) == 1
        assert synced == []
        monkeypatch.setattr(settling, "MOST", 1)
        assert archive.store(encoded("1.3"), "1.3") == SUCCESS
        assert len(held(archive)) == 1
        assert synced == [1]


def settled(archive: OpenArchive, monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Let the settler do its work from the next object on; tell when it has."""
    monkeypatch.setattr(settling, "SETTLE_AFTER", 0)
    monkeypatch.setattr(settling, "ENOUGH", 1)  # wakes it if it waits for longer
    done = threading.Event()
    settler = archive.committer._settler
    real = settler._settle

    def settle() -> None:
        real()
        done.set()

    monkeypatch.setattr(settler, "_settle", settle)
    return done


@pytest.mark.parametrize("count", [1, 50], ids=["few", "many"])
def test_files_are_synced_before_they_are_let_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    steps = []

    def noted(step: str, real: Callable) -> Callable:
        return lambda *args: (steps.append(step), real(*args))[1]

    with OpenArchive(tmp_path) as archive:
        store(archive, count - 1)
        monkeypatch.setattr(storage_module, "_sync_data", noted("file", storage_module._sync_data))
        folder = noted("folder", storage_module.sync_folder)
        monkeypatch.setattr(storage_module, "sync_folder", folder)
        system = noted("file system", storage_module._sync_file_system)
        monkeypatch.setattr(storage_module, "_sync_file_system", system)
        monkeypatch.setattr(Writer, "let_go", noted("let go", Writer.let_go))
        archive.store(encoded("1.9"), "1.9")
        steps.clear()
    assert steps == (["file", "folder"] if count == 1 else ["file system"]) + ["let go"]


def test_where_no_file_system_can_be_synced_files_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage_module, "_sync_file_system", None)
    synced = []
    real = storage_module._sync_data
    monkeypatch.setattr(storage_module, "_sync_data", lambda file: (synced.append(1), real(file)))
    with OpenArchive(tmp_path) as archive:
        store(archive, 50)
        assert not synced
    assert len(synced) == 50


def test_it_is_settled_while_objects_come(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with OpenArchive(tmp_path) as archive:
        done = settled(archive, monkeypatch)
        store(archive, 1)
        assert done.wait(WAIT)
        assert held(archive) == []
        done.clear()
        assert archive.store(encoded("1.9"), "1.9") == SUCCESS
        assert done.wait(WAIT)
        assert held(archive) == []


def test_enough_does_not_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with OpenArchive(tmp_path) as archive:
        done = settled(archive, monkeypatch)
        monkeypatch.setattr(settling, "SETTLE_AFTER", 3600)
        store(archive, 1)
        assert done.wait(WAIT)


def test_what_could_not_be_synced_is_held_on_and_written_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with OpenArchive(tmp_path) as archive:
        expected = store(archive, 2)
        real = archive.storage.sync
        failed = threading.Event()
        attempts = []

        def sync(names: list[str]) -> None:
            attempts.append(names)
            if len(attempts) == 1:
                for path in archive.objects():  # as if the system had thrown away what was written
                    half(path)
                failed.set()
                raise OSError(errno.EIO, "Input/output error")
            real(names)

        monkeypatch.setattr(archive.storage, "sync", sync)
        done = settled(archive, monkeypatch)
        assert archive.store(encoded("1.3"), "1.3") == SUCCESS
        assert failed.wait(WAIT)
        assert done.wait(WAIT)
        assert held(archive) == []
        assert archive.notes() == expected | {"1.3": [""]}
        assert len(archive.datasets()) == 3
    assert "Files that the index holds cannot be synced: [Errno 5]" in caplog.text
    assert list(check(tmp_path)) == []


def test_what_cannot_be_synced_at_the_end_is_held_for_the_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(names: list[str]) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with OpenArchive(tmp_path) as archive:
        expected = store(archive, 2)
        monkeypatch.setattr(archive.storage, "sync", fail)
        archive.committer.close()
        assert len(held(archive)) == 2
        for path in archive.objects():
            half(path)
    with OpenArchive(tmp_path) as again:
        assert again.notes() == expected
        assert len(again.datasets()) == 2
        assert held(again) == []


def test_what_is_replaced_is_not_held_on(tmp_path: Path) -> None:
    after = tmp_path / "after"
    with OpenArchive(tmp_path / "node", Duplicates.REPLACE) as archive:
        store(archive, 2, "first")
        expected = store(archive, 2, "second")
        assert len(held(archive)) == 2
        after_power_failure(archive, after, Path.unlink)
    with OpenArchive(after, Duplicates.REPLACE) as again:
        assert again.notes() == expected
        assert len(again.datasets()) == len(again.objects()) == 2


def test_a_new_index_does_not_let_go_what_the_old_one_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first lets go by ids, which the second gives anew."""
    with OpenArchive(tmp_path) as archive:
        syncing, may_go_on = threading.Event(), threading.Event()
        real = archive.storage.sync

        def sync(names: list[str]) -> None:
            syncing.set()
            assert may_go_on.wait(WAIT)
            real(names)

        monkeypatch.setattr(archive.storage, "sync", sync)
        store(archive, 2)
        monkeypatch.setattr(settling, "SETTLE_AFTER", 0)
        store(archive, 3)
        archive.committer._settler.held(settling.ENOUGH)
        assert syncing.wait(WAIT)
        (tmp_path / INDEX).unlink()
        monkeypatch.setattr(settling, "SETTLE_AFTER", 3600)
        assert archive.store(encoded("1.9"), "1.9") == SUCCESS  # into the index made anew
        assert len(held(archive)) == 1
        thread = archive.committer._settler._thread
        assert thread is not None
        may_go_on.set()
        archive.committer.close()
        thread.join(WAIT)
        assert len(archive.datasets()) == 4
    assert list(check(tmp_path)) == []


def test_missing_files_are_not_restored_where_all_are_missing(tmp_path: Path) -> None:
    """Their file system may not be mounted; what is held would hide that."""
    after = tmp_path / "after"
    with OpenArchive(tmp_path / "node") as archive:
        assert archive.store(encoded("1.9", "x", LARGE), "1.9") == SUCCESS
        store(archive, 1)
        after_power_failure(archive, after, Path.unlink)
    with pytest.raises(OSError, match="is their file system mounted"):
        OpenArchive(after).__enter__()


@pytest.mark.parametrize("lost", [False, True])
def test_an_index_made_anew_has_what_the_old_one_held(tmp_path: Path, lost: bool) -> None:
    after = tmp_path / "after"
    with OpenArchive(tmp_path / "node") as archive:
        expected = store(archive, 2)
        after_power_failure(archive, after, Path.unlink if not lost else lambda path: None)
    if lost:
        (after / INDEX).write_bytes(b"no database" * 1000)
    reindex(after)
    with OpenArchive(after) as again:
        assert again.notes() == expected
        assert len(again.datasets()) == 2


def test_what_is_held_is_cleared_too(tmp_path: Path) -> None:
    after = tmp_path / "after"
    with OpenArchive(tmp_path / "node") as archive:
        store(archive, 2)
        after_power_failure(archive, after, lambda path: None)
    assert clear(after) == (2, 0)
    with OpenArchive(after) as again:
        assert again.notes() == {}
        assert again.objects() == []
