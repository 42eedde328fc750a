"""Power failures and crashes at every call of the system: what was acknowledged is there.

The calls of one run are noted, with what a disk would have at each: what was synced, and perhaps
more. An archive is then opened on each of these disks.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from spooling import OpenArchive, digits_of, encoded

from dicomwire.node import journal as journal_module
from dicomwire.node.checkpoints import Checkpoints
from dicomwire.node.configuration import Duplicates, Route
from dicomwire.node.index.opening import INDEX
from dicomwire.node.index.sqlite import Sqlite
from dicomwire.node.objects import folder as folder_module
from dicomwire.node.objects import spool as spool_module
from dicomwire.node.objects.opening import folder_within
from dicomwire.node.statuses import SUCCESS

EVERY = int(os.environ.get("TEST_POWER_FAILURES", "11"))
"""Every how many calls of the system the power fails; 1 takes longer."""
SMALL = 4096
"""The bytes of datasets that the journal takes; fewer than usual."""
INDEX_FILES = (INDEX, f"{INDEX}-wal")

BEFORE = "1.0"
"""The UID of the object that is there before there is a route."""
ROUTE = Route(("WS1",))
Index = dict[str, bytes]
pytestmark = pytest.mark.only_with("sqlite-folder", "a disk is made of what they wrote")


@dataclass(repr=False)
class Disk:
    """What there is after a crash, and what must be found in it."""

    call: str
    files: dict[str, bytes]
    index: Index
    acknowledged: dict[str, bytes]
    in_doubt: dict[str, bytes]
    """What is being stored: it may be there or not."""


@dataclass(repr=False)
class Recorder:
    """Notes the disks of each call of the system by one process.

    A file that was not synced is empty, and one whose folder was not synced since it was made, or
    renamed, is not there, or still under its old name.
    """

    folder: Path
    names: dict[str, int] = field(default_factory=dict)
    """The files that there are by path, each with a number."""
    contents: dict[int, bytes] = field(default_factory=dict)
    """The synced content by number."""
    synced_names: dict[str, int] = field(default_factory=dict)
    index: Index = field(default_factory=dict)
    """The files of the index when they were synced last."""
    acknowledged: dict[str, bytes] = field(default_factory=dict)
    in_doubt: dict[str, bytes] = field(default_factory=dict)
    after_power_failure: list[Disk] = field(default_factory=list)
    after_kill: list[Disk] = field(default_factory=list)
    _number: int = 0

    def install(self, patch: pytest.MonkeyPatch, *, has_syncfs: bool) -> None:
        """Let the calls of the modules that write be noted."""
        real_open = os.open

        def opened(path: Any, flags: int, *args: Any) -> int:
            is_new = flags & os.O_CREAT and not os.path.exists(path)
            if is_new:
                self.note(f"create {path}")
            descriptor = real_open(path, flags, *args)
            if is_new and self._is_mine(path):
                self._number += 1
                self.names[os.fspath(path)] = self._number
            return descriptor

        def moved(real: Callable) -> Callable:
            def call(source: Any, target: Any) -> None:
                self.note(f"rename {target}")
                real(source, target)
                self.names[os.fspath(target)] = self.names.pop(os.fspath(source))

            return call

        def removed(path: Any, real: Callable = os.unlink) -> None:
            self.note(f"remove {path}")
            real(path)
            self.names.pop(os.fspath(path), None)

        def writing(real: Callable) -> Callable:
            def call(descriptor: int, *args: Any) -> int:
                self.note(f"write {os.readlink(f'/proc/self/fd/{descriptor}')}")
                return real(descriptor, *args)

            return call

        patch.setattr(os, "open", opened)
        patch.setattr(os, "rename", moved(os.rename))
        patch.setattr(os, "replace", moved(os.replace))
        patch.setattr(os, "unlink", removed)
        patch.setattr(os, "writev", writing(os.writev))
        patch.setattr(os, "fsync", self.sync)
        patch.setattr(spool_module, "_sync_data", self.sync)
        patch.setattr(journal_module, "_sync_data", self.sync)
        patch.setattr(folder_module, "CAN_SYNC_FILE_SYSTEM", has_syncfs)
        patch.setattr(folder_module, "sync_file_system", self.sync_all)
        patch.setattr(Sqlite, "sync", self._around(Sqlite.sync))

    def _around(self, real: Callable) -> Callable:
        def call(*args: Any) -> None:
            self.note("sync index")
            real(*args)
            self.index = self._index_now()

        return call

    def _is_mine(self, path: Any) -> bool:
        return os.fspath(path).startswith(str(self.folder)) and "index.sqlite" not in str(path)

    def _index_now(self) -> Index:
        paths = [self.folder / name for name in INDEX_FILES]
        return {path.name: path.read_bytes() for path in paths if path.exists()}

    def sync(self, descriptor: int) -> None:
        path = os.readlink(f"/proc/self/fd/{descriptor}")
        self.note(f"sync {path}")
        if os.path.isdir(path):
            beside = {each for each in (*self.names, *self.synced_names) if in_folder(each, path)}
            for each in beside:
                if each in self.names:
                    self.synced_names[each] = self.names[each]
                else:
                    del self.synced_names[each]
        elif path in self.names:
            self.contents[self.names[path]] = Path(path).read_bytes()

    def sync_all(self, _: int) -> None:
        self.note("sync all")
        self.synced_names = dict(self.names)
        self.contents = {number: Path(path).read_bytes() for path, number in self.names.items()}
        self.index = self._index_now()

    def note(self, call: str) -> None:
        """Note what there would be if the power failed now, or the process were killed."""
        rest = call, self.acknowledged.copy(), self.in_doubt.copy()
        synced = {
            path: self.contents.get(number, b"") for path, number in self.synced_names.items()
        }
        now = {path: Path(path).read_bytes() for path in self.names if os.path.exists(path)}
        torn = synced | {
            path: half_written(synced.get(path, b""), content)
            for path, content in now.items()
            if path in synced
        }
        index_now = self._index_now()
        for files, index in (
            (synced, self.index),
            (synced, index_now),
            (torn, self.index),
        ):
            self.after_power_failure.append(Disk(rest[0], files, index, *rest[1:]))
        self.after_kill.append(Disk(rest[0], now, index_now, *rest[1:]))


def in_folder(path: str, folder: str) -> bool:
    return os.path.dirname(path) == folder.rstrip("/")


def half_written(old: bytes, new: bytes) -> bytes:
    """Return `new` with only half of the new bytes written."""
    same = next(
        (at for at, pair in enumerate(zip(old, new, strict=False)) if pair[0] != pair[1]), len(old)
    )
    end = (same + len(new.rstrip(b"\0"))) // 2
    return new[:end] + old[end:]


def run(folder: Path, recorder: Recorder) -> None:
    """Store, replace and make checkpoints, and keep account of what is acknowledged."""
    with OpenArchive(folder, Duplicates.REPLACE, has_checkpoints=False, routes=[ROUTE]) as archive:
        objects = folder_within(archive.storage.objects)
        checkpoints = Checkpoints(objects, archive.index, archive.committer.commit_lock)

        def store(uid: str, note: str, pixels: int = 0) -> None:
            data = encoded(uid, note, pixels)
            recorder.in_doubt = {uid: data}

            def respond() -> None:
                recorder.acknowledged[uid] = data
                recorder.in_doubt = {}

            assert archive.store(data, uid, respond=respond) == SUCCESS
            respond()

        store("1.1", "a")
        store("1.2", "a", pixels=2 * SMALL)
        store("1.1", "b")
        checkpoints.make()
        store("1.3", "a")
        store("1.2", "b")
        store("1.3", "b", pixels=2 * SMALL)
        checkpoints.make()
        store("1.1", "c")
        checkpoints.make()
    recorder.note("end")


@pytest.fixture(scope="module", params=[True, False], ids=["syncfs", "fsync"])
def recorder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("recorded") / "node"
    with OpenArchive(folder) as archive:
        assert archive.store(encoded(BEFORE, "before"), BEFORE) == SUCCESS
    recorder = Recorder(folder)
    recorder.acknowledged[BEFORE] = encoded(BEFORE, "before")
    for path in folder.rglob("*"):
        if path.is_file() and path.name != INDEX:
            recorder._number += 1
            recorder.names[str(path)] = recorder._number
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(spool_module, "KEPT_IN_MEMORY", SMALL)
        patch.setattr(journal_module, "_ZEROS", bytes(SMALL))
        recorder.install(patch, has_syncfs=request.param)
        recorder.sync_all(0)
        recorder.after_power_failure.clear()
        recorder.after_kill.clear()
        run(folder, recorder)
    return recorder


def verify(disk: Disk, recorder: Recorder, folder: Path) -> None:
    """Start an archive on a disk, and look for what was acknowledged."""
    for path, content in disk.files.items():
        target = folder / Path(path).relative_to(recorder.folder)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
    for name, content in disk.index.items():
        (folder / name).write_bytes(content)
    for _ in range(2):  # also after another start
        with OpenArchive(folder, Duplicates.REPLACE) as archive:
            found = dict(archive.contents())
            assert len(found) == archive.counts()[-1] == len(archive.objects()), disk.call
            archive.datasets()
            queued = archive.queued()
        for uid, data in disk.acknowledged.items():
            is_right = found.pop(uid, None) in (data, disk.in_doubt.get(uid))
            assert is_right, (disk.call, uid)
            is_queued = uid == BEFORE or ("WS1", uid, digits_of(data)) in queued
            assert is_queued, (disk.call, uid)
        is_left_right = all(disk.in_doubt.get(uid) == data for uid, data in found.items())
        assert is_left_right, disk.call
    assert os.listdir(folder / "journal") == ["lock"]


def test_after_a_power_failure_all_is_there(recorder: Recorder, tmp_path: Path) -> None:
    for number, disk in enumerate(recorder.after_power_failure[::EVERY]):
        verify(disk, recorder, tmp_path / str(number))


def test_after_a_kill_all_is_there(recorder: Recorder, tmp_path: Path) -> None:
    for number, disk in enumerate(recorder.after_kill[::EVERY]):
        verify(disk, recorder, tmp_path / str(number))
