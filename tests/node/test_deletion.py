"""Objects that are deleted while a node serves; what may not be deleted, or not come back."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from backends import Backend, configuration_of, of_folder, options_of
from buckets import new_url
from living_archive import LivingArchive
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian
from running_node import Receiver, associate, find, get, make_object, running, store, study_of

from dicomwire import build_context
from dicomwire.apps import deleting
from dicomwire.apps.node import main
from dicomwire.node import deletion
from dicomwire.node.carrying import GRACE
from dicomwire.node.deletion import (
    Protected,
    Unknown,
    allow,
    delete,
    protect,
    protected,
    release,
    selected,
)
from dicomwire.node.keys import Level
from dicomwire.node.maintenance import reindex


@pytest.fixture
def archive(tmp_path: Path):
    with LivingArchive(configuration_of(tmp_path / "archive")) as opened:
        yield opened


def test_what_is_deleted_is_not_found_and_its_files_go_after_the_grace(
    tmp_path: Path, every_pair: Backend
) -> None:
    with LivingArchive(every_pair.configuration(tmp_path / "archive")) as archive:
        for number in range(3):
            assert archive.put(number) == 0
        assert archive.put(1, "1.2.4", PatientID="P2") == 0
        names = [stored.file for stored in archive.index.stored()]
        done = delete(archive.queue, Level.STUDY, ["1.2.3", "9.9"])
        assert (done.studies, done.instances) == (1, 3)
        assert archive.counts() == [1, 1, 1, 1]
        assert all(archive.objects.exists(name) for name in names)  # for who has found them
        assert archive.is_whole()
        archive.run_tasks(after=GRACE + 1)
        assert archive.files() == 1
        assert archive.is_whole()
        assert archive.put(1) == 0
        assert archive.counts() == [2, 2, 2, 2]


def test_no_copy_is_left_of_what_is_deleted(tmp_path: Path, seaweedfs_variables: str) -> None:
    backend = Backend(objects=new_url(), variables=seaweedfs_variables)
    keys: dict[str, Any] = {"cache": str(tmp_path / "cache"), "acknowledge": "spooled"}
    with LivingArchive(backend.configuration(tmp_path / "archive", **keys)) as archive:
        archive.put(1)
        archive.run_tasks(after=2)  # it is uploaded
        archive.put(2)  # it waits for that
        for stored in archive.index.stored():
            archive.objects.open(stored.file).close()  # a copy comes to the cache
        assert [*(tmp_path / "cache").rglob("*.dcm")]
        delete(archive.queue, Level.STUDY, ["1.2.3"])
        archive.run_tasks(after=GRACE + 1)
        assert archive.files() == 0
        assert archive.is_whole()
    assert not [*tmp_path.rglob("*.dcm")]


def test_a_series_goes_in_one_study_or_in_all(archive: LivingArchive) -> None:
    for study in ("1.2.3", "1.2.4"):
        archive.put(1, study, SeriesInstanceUID="1.5")
        archive.put(2, study, SeriesInstanceUID="1.6")
    assert delete(archive.queue, Level.SERIES, ["1.5"], study_uid="1.2.3").instances == 1
    assert archive.uids() == {"1.2.3.1.2", "1.2.4.1.1", "1.2.4.1.2"}
    assert delete(archive.queue, Level.SERIES, ["1.6"]).instances == 2
    assert archive.uids() == {"1.2.4.1.1"}


def test_all_copies_of_an_instance_go(tmp_path: Path) -> None:
    keys: dict[str, Any] = {"folder": tmp_path / "archive", "duplicates": "keep-both"}
    with LivingArchive(configuration_of(**keys)) as archive:
        archive.put(1, note="first")
        archive.put(1, note="second")
        found = selected(archive.index, Level.IMAGE, ["1.2.3.1.1"])
        assert delete(archive.queue, Level.IMAGE, ["1.2.3.1.1"]) == found
        assert found.instances == 2
        assert archive.counts() == [0, 0, 0, 0]


def test_many_instances_go_in_portions(
    archive: LivingArchive, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deletion, "_AT_A_TIME", 2)
    monkeypatch.setattr(deletion, "_FILES", 1)
    for number in range(5):
        archive.put(number)
    assert delete(archive.queue, Level.STUDY, ["1.2.3"]).instances == 5
    archive.run_tasks(after=GRACE + 1)
    assert archive.files() == 0
    assert archive.is_whole()


def test_what_is_rejected_is_refused_until_it_is_allowed(tmp_path: Path, backend: Backend) -> None:
    with LivingArchive(backend.configuration(tmp_path / "archive")) as archive:
        for number in range(2):
            archive.put(number)
        delete(archive.queue, Level.STUDY, ["1.2.3"], rejects=True)
        assert archive.put(1) == 0x0124
        assert archive.put(7) == 0  # of the same study, but it was not there
        assert allow(archive.index, Level.IMAGE, ["1.2.3.1.1"]) == 1
        assert archive.put(1) == 0
        assert archive.put(0) == 0x0124
        assert allow(archive.index, Level.STUDY, ["1.2.3"]) == 1
        assert archive.put(0) == 0


def test_a_protected_study_stays_unless_it_is_meant(tmp_path: Path, backend: Backend) -> None:
    with LivingArchive(backend.configuration(tmp_path / "archive")) as archive:
        archive.put(1)
        archive.put(1, "1.2.4")
        assert protect(archive.index, ["1.2.3"]) == 1
        assert protect(archive.index, ["1.2.3"]) == 0
        with pytest.raises(Unknown, match=r"no study 1\.2\.9"):
            protect(archive.index, ["1.2.4", "1.2.9"])
        assert protected(archive.index) == ["1.2.3"]
        for level, uid in ((Level.STUDY, "1.2.3"), (Level.IMAGE, "1.2.3.1.1")):
            with pytest.raises(Protected) as raised:
                delete(archive.queue, level, ["1.2.4", uid])
            assert raised.value.uids == ["1.2.3"]
        assert archive.counts()[-1] == 2
        delete(archive.queue, Level.STUDY, ["1.2.3"], also_protected=True)
        assert protected(archive.index) == []
        protect(archive.index, ["1.2.4"])
        assert release(archive.index, ["1.2.4"]) == 1
        assert delete(archive.queue, Level.STUDY, ["1.2.4"]).instances == 1


@pytest.mark.only_with("sqlite-folder", "only they have a journal, which a copy of the folder has")
@pytest.mark.parametrize("delay", [0.0, GRACE])
def test_a_journal_does_not_bring_back_what_was_deleted(
    archive: LivingArchive, tmp_path: Path, delay: float
) -> None:
    archive.put(1)
    archive.put(2)
    delete(archive.queue, Level.IMAGE, ["1.2.3.1.1"], delay=delay)
    archive.run_tasks()
    copy = tmp_path / "copy"  # as a crash would leave it, with the journal
    shutil.copytree(archive.configuration.folder, copy)
    for again in (False, True):
        if again:
            reindex(copy)
        with LivingArchive(configuration_of(copy)) as opened:
            assert opened.uids() == {"1.2.3.1.2"}
            opened.run_tasks(after=GRACE + 1)
            assert opened.files() == 1
            assert opened.is_whole()


def test_reindex_keeps_what_is_protected_and_rejected(tmp_path: Path) -> None:
    folder = tmp_path / "archive"
    with LivingArchive(configuration_of(folder)) as archive:
        archive.put(1)
        archive.put(2)
        delete(archive.queue, Level.IMAGE, ["1.2.3.1.2"], rejects=True)
        protect(archive.index, ["1.2.3"])
    of_folder(folder).reindex(folder)
    with LivingArchive(configuration_of(folder)) as archive:
        assert protected(archive.index) == ["1.2.3"]
        assert archive.put(2) == 0x0124


# --- The command ------------------------------------------------------------------------------


def test_a_retrieval_goes_on_when_its_study_is_deleted(tmp_path: Path) -> None:
    folder = tmp_path / "archive"
    with running(folder) as node:
        for number in range(5):
            store(node, make_object(number))

        class Deleting(Receiver):
            def _take(self, event: Any) -> int:
                if not self.objects:
                    delete_study = ["delete", *options_of(folder), "--study", "1.2.3", "--yes"]
                    assert main(delete_study) == 0
                return super()._take(event)

        receiver = Deleting()
        context = build_context(CTImageStorage, ExplicitVRLittleEndian)
        *_, (status, _) = get(node, receiver, study_of(), context)
        assert status.Status == 0
        assert len(receiver.objects) == 5
        assert len(find(node, study_of())) == 1  # only the final response


def test_the_sender_of_a_rejected_object_learns_why(tmp_path: Path) -> None:
    folder = tmp_path / "archive"
    with running(folder) as node:
        store(node, make_object(1))
        assert main(["delete", *options_of(folder), "--study=1.2.3", "--yes", "--reject"]) == 0
        assoc = associate(node, CTImageStorage)
        status = assoc.send_c_store(make_object(1))
        assoc.release()
        assert status.Status == 0x0124
        assert status.ErrorComment == "the archive has rejected this object"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder of an archive with two studies, which no node serves."""
    with LivingArchive(configuration_of(tmp_path / "archive")) as archive:
        archive.put(1)
        archive.put(1, "1.2.4")
    return tmp_path / "archive"


def test_without_a_node_files_go_at_once(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["delete", *options_of(folder), "--study", "1.2.3", "--yes", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["studies"], told["instances"]) == (1, 1)
    assert len([*of_folder(folder).stored_objects(folder).names()]) == 1
    assert main(["delete", *options_of(folder), "--study", "1.2.3", "--yes"]) == 1  # not there


def test_it_asks_twice_on_a_terminal(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["delete", *options_of(folder), "--study", "1.2.3"]
    assert main(command) == 2
    assert "needs --yes" in capsys.readouterr().err
    monkeypatch.setattr(deleting.sys, "stdin", Terminal())
    for answers, code in ((["no"], 1), (["yes", "no"], 1), (["yes", "delete"], 0)):
        left = iter(answers)
        monkeypatch.setattr("builtins.input", lambda prompt, left=left: next(left))
        assert main(command) == code
        assert next(left, None) is None


class Terminal:
    """Standard input as a terminal."""

    def isatty(self) -> bool:
        return True


def test_the_command_protects_and_releases(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    at = options_of(folder)
    assert main(["protect", *at, "--study", "1.2.3"]) == 0
    assert main(["protect", *at]) == 0
    assert "1.2.3" in capsys.readouterr().out.splitlines()
    assert main(["delete", *at, "--study", "1.2.3", "--yes"]) == 1
    assert "without --protected" in capsys.readouterr().err
    assert main(["protect", *at, "--study", "1.2.3", "--release"]) == 0
    assert main(["delete", *at, "--study", "1.2.3", "--yes", "--reject"]) == 0
    assert main(["delete", *at, "--instance", "1.2.3.1.1", "--allow"]) == 0
    assert "1 rejected instance may be stored again" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments",
    [
        ["delete"],
        ["delete", "--study", "1.2/3"],
        ["delete", "--study", "1", "--study", "2", "--series", "3"],
        ["delete", "--series", "1", "--instance", "3"],
        ["protect", "--study", "x"],
        ["protect", "--release"],
    ],
)
def test_wrong_arguments_are_refused(folder: Path, arguments: list[str]) -> None:
    assert main([*arguments, *options_of(folder)]) == 2
