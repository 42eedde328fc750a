"""Studies that are deleted by themselves, and objects that are refused when the disk is full."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from backends import Backend, configuration_of, options_of
from living_archive import LivingArchive
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian
from running_node import Receiver, associate, get, make_object, running, store, study_of

from dicomwire import build_context
from dicomwire.apps.node import main
from dicomwire.node import retention
from dicomwire.node.carrying import GRACE
from dicomwire.node.configuration import (
    Configuration,
    ConfigurationError,
    Retention,
    load,
    merged,
)
from dicomwire.node.deletion import protect
from dicomwire.node.nodes import Membership
from dicomwire.node.objects import room as rooms
from dicomwire.node.objects.room import Room
from dicomwire.node.query import Found
from dicomwire.node.retention import Removed, Retaining, note_use
from dicomwire.node.tasks.queue import Queue

DAY = 24 * 3600.0


class Aging(LivingArchive):
    """An archive whose clock goes with the real one, until days pass."""

    def __init__(self, configuration: Configuration) -> None:
        super().__init__(configuration)
        self.now = time.time()

    def retaining(self, **rules: Any) -> Retaining:
        """Return what deletes by these rules."""
        values = merged(Configuration(), {"retention": rules}).retention
        return Retaining(values, self.queue, self.objects, self.configuration.folder)

    def look(self, after: float = 0.0, **rules: Any) -> Removed:
        """Apply rules when so many days have passed."""
        self.now += after * DAY
        return self.retaining(**rules).look()

    def use(self, study: str, after: float = 0.0) -> None:
        """Retrieve a study when so many days have passed."""
        self.now += after * DAY
        found = [Found("", uid, "", "") for uid in self.uids() if uid.startswith(f"{study}.1.")]
        note_use(self.index, found, lambda: self.now)


@pytest.fixture
def archive(tmp_path: Path):
    with Aging(configuration_of(tmp_path / "archive")) as opened:
        for study in ("1.1", "1.2", "1.3"):
            opened.put(1, study, pixels=1000)
        yield opened


def studies(archive: LivingArchive) -> set[str]:
    """Return the studies that are left."""
    return {uid.removesuffix(".1.1") for uid in archive.uids()}


def test_studies_go_when_they_are_old(tmp_path: Path, backend: Backend) -> None:
    with Aging(backend.configuration(tmp_path / "archive")) as archive:
        archive.put(1, "1.1")
        assert archive.look(max_age=30) == Removed(0, 0, 0)
        assert archive.look(after=31, max_age=30)[:2] == (1, 1)
        archive.run_tasks(after=GRACE + 1)
        assert archive.counts() == [0, 0, 0, 0]
        assert archive.files() == 0
        assert archive.is_whole()


def test_studies_that_are_used_stay(tmp_path: Path, backend: Backend) -> None:
    with Aging(backend.configuration(tmp_path / "archive")) as archive:
        for study in ("1.1", "1.2"):
            archive.put(1, study)
        archive.use("1.1", after=20)
        archive.use("1.1", after=0.01)  # too soon to be noted again
        archive.use("1.1", after=5)
        archive.look(after=10, max_unused=30)
        assert studies(archive) == {"1.1"}


def test_the_studies_unused_for_longest_make_room(archive: Aging) -> None:
    size = sum(stored.size for stored in archive.retaining()._studies())
    archive.use("1.1", after=1)
    assert archive.look(max_size=size).studies == 0
    assert archive.look(max_size=size - 1).studies == 1
    assert studies(archive) == {"1.1", "1.3"}
    archive.look(max_size=1)
    assert studies(archive) == set()


@pytest.mark.only_with("folder", "a bucket is not on the disk")
def test_the_disk_gets_free_space(archive: Aging, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "free_space", lambda folder: 5000)
    assert archive.look(min_free=5000).studies == 0
    assert archive.look(min_free=5001).studies == 1
    assert studies(archive) == {"1.2", "1.3"}


def test_what_is_protected_or_kept_stays(archive: Aging, caplog: pytest.LogCaptureFixture) -> None:
    archive.put(1, "1.4", StudyDescription="TEACHING FILE")
    protect(archive.index, ["1.1"])
    keep = {"StudyDescription": "*TEACHING*"}
    assert archive.look(max_size=1, keep=keep).studies == 2
    assert studies(archive) == {"1.1", "1.4"}
    assert "cannot meet max_size" in caplog.text
    assert "1.2 is deleted by retention: all objects have more than 1 bytes" in caplog.text
    assert "Doe" not in caplog.text


def test_a_study_that_grows_meanwhile_stays(
    archive: Aging, monkeypatch: pytest.MonkeyPatch
) -> None:
    retaining = archive.retaining(max_size=1)
    before = retaining._chosen()

    def growing() -> Any:
        for chosen in before:
            archive.put(2, chosen[0].uid)
            yield chosen

    monkeypatch.setattr(retaining, "_chosen", growing)
    assert retaining.look().studies == 0


def test_only_the_oldest_node_deletes(archive: Aging) -> None:
    def leads(queue: Queue) -> bool:
        folder = archive.configuration.folder
        return Retaining(Retention(), queue, archive.objects, folder)._leads()

    clock: Callable[[], float] = lambda: archive.now  # noqa: E731
    first = Queue(archive.index, "first", clock)
    second = Queue(archive.index, "second", clock)
    assert not leads(first)
    with Membership(first, ("", 1), "A"):
        archive.now += 1
        with Membership(second, ("", 2), "B"):
            assert (leads(first), leads(second)) == (True, False)
            archive.now += 120  # both are late, and the second one comes back
            membership = Membership(second, ("", 2), "B")
            membership.beat()
            assert (leads(first), leads(second)) == (False, True)


def test_a_retrieval_notes_the_use(tmp_path: Path) -> None:
    rules = {"retention": Retention(max_unused=10.0)}
    with running(tmp_path / "archive", **rules) as node:
        store(node, make_object(1))
        context = build_context(CTImageStorage, ExplicitVRLittleEndian)
        (aged,) = Retaining(
            Retention(), node.archive.queue, node.archive.objects, tmp_path
        )._studies()
        get(node, Receiver(), study_of(), context)
        (used,) = Retaining(
            Retention(), node.archive.queue, node.archive.objects, tmp_path
        )._studies()
        assert used.used > aged.used


def test_the_rules_are_a_table_of_the_file(tmp_path: Path) -> None:
    file = tmp_path / "node.toml"
    file.write_text("[retention]\nmax_age = 365\n[retention.keep]\nModality = 'MG'\n")
    rules = load(file).retention
    assert (rules.max_age, rules.has_limits, len(rules.keep)) == (365, True, 1)
    for text, message in (
        ("[retention]\nmax_age = 0", "a number of days"),
        ("[retention.keep]\nModalty = 'MG'", "Modalty"),
        ("[retention]\nkeep = 3", "a table of conditions"),
    ):
        file.write_text(text)
        with pytest.raises(ConfigurationError, match=message):
            load(file)


# --- Room -------------------------------------------------------------------------------------


def test_the_disk_is_looked_at_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    free, looks, now = [50], [], [0.0]

    def look(folder: Path) -> int:
        looks.append(folder)
        return free[0]

    monkeypatch.setattr(rooms, "free_space", look)
    room = Room([Path("a"), Path("a")], 100, lambda: now[0])
    for _ in range(10):
        with pytest.raises(OSError, match="min_free_space"):
            room.check()
    assert len(looks) == 1
    free[0], now[0] = 100, 1.0
    room.check()
    assert len(looks) == 2


def test_objects_are_refused_while_the_disk_is_nearly_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    free = [0]
    monkeypatch.setattr(rooms, "free_space", lambda folder: free[0])
    monkeypatch.setattr(rooms, "_EVERY", 0.0)
    folder = tmp_path / "archive"
    with running(folder, min_free_space=1000) as node:
        assoc = associate(node, CTImageStorage)
        assert assoc.send_c_store(make_object(1)).Status == 0xA700
        assert main(["import", *options_of(folder), __file__, "--min-free-space=1"]) == 0
        free[0] = 1000
        assert assoc.send_c_store(make_object(1)).Status == 0
        assoc.release()
