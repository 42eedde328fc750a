"""Files of folders and ZIPs that are brought into an archive, beside a node and without one."""

from __future__ import annotations

import json
import os
import random
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from backends import Backend, configuration_of, of_folder, options_of
from forking import forked
from living_archive import LivingArchive
from pydicom.uid import MediaStorageDirectoryStorage
from running_node import find, running, study_of
from spooling import CT, EXPLICIT, encoded

from dicomwire.apps.node import main
from dicomwire.data.file_meta import file_head
from dicomwire.node.files import StoreFailure
from dicomwire.node.importing import work
from dicomwire.node.importing.progress import ImportCounts, Progress
from dicomwire.node.importing.sources import Candidate, Failure, open_source
from dicomwire.node.importing.work import CannotStore, Import

KILLS = int(os.environ.get("TEST_CRASHES", "2"))


def dicom(uid: str, pixels: int = 0, **values: Any) -> bytes:
    """Return a DICOM file."""
    return file_head(CT, uid, EXPLICIT) + encoded(uid, pixels=pixels, **values)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A folder with five objects in several folders."""
    folder = tmp_path / "source"
    for number, place in enumerate(["a/1.dcm", "a/b/2.dcm", "a.b/3.dcm", "4.dcm", "z/5"], 1):
        (folder / place).parent.mkdir(parents=True, exist_ok=True)
        (folder / place).write_bytes(dicom(f"1.2.{number}"))
    return folder


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[LivingArchive]:
    with LivingArchive(configuration_of(tmp_path / "archive")) as opened:
        yield opened


class Importing:
    """An import with all that it reports."""

    def __init__(self, archive: LivingArchive, path: Path, **options: Any) -> None:
        self.failures: dict[str, str] = {}
        self._source = open_source(path, [archive.configuration.folder])
        self.progress = Progress(archive.configuration.folder, self._source.identity)
        self.progress.load()
        self._import = Import(archive, self._source, self.progress, self._note, **options)

    def _note(self, candidate: Candidate, reason: str) -> None:
        self.failures[Path(candidate.label).name] = reason

    def run(self) -> ImportCounts:
        """Import everything."""
        try:
            return [*self._import.run(2)][-1]
        finally:
            self._source.close()


def test_all_objects_of_a_folder_are_stored(
    tmp_path: Path, source: Path, every_pair: Backend
) -> None:
    (source / "large.dcm").write_bytes(dicom("1.2.9", pixels=300_000))
    with LivingArchive(every_pair.configuration(tmp_path / "archive")) as archive:
        assert Importing(archive, source).run() == ImportCounts(stored=6)
        assert archive.uids() == {f"1.2.{number}" for number in (1, 2, 3, 4, 5, 9)}
        assert archive.is_whole()
        assert Importing(archive, source).run() == ImportCounts(known=6)
        assert archive.files() == 6


def test_what_is_no_object_is_passed_over_or_fails(
    tmp_path: Path, source: Path, archive: LivingArchive
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret.dcm").write_bytes(dicom("1.2.66"))
    (source / "folder-link").symlink_to(outside)
    (source / "file-link").symlink_to(outside / "secret.dcm")
    os.mkfifo(source / "pipe")
    (source / "text.dcm").write_text("no DICOM file")
    (source / "empty").touch()
    head = file_head(MediaStorageDirectoryStorage, "1.2.7", EXPLICIT)
    (source / "DICOMDIR").write_bytes(head)
    (source / "broken.dcm").write_bytes(dicom("1.2.8")[:160])
    (source / "wrong.dcm").write_bytes(dicom("1.2.8", SOPInstanceUID="1.2.9"))
    odd = os.fsencode(source) + b"/\xff\n.dcm"
    with open(odd, "wb") as file:
        file.write(dicom("1.2.10"))
    importing = Importing(archive, source)
    assert importing.run() == ImportCounts(stored=6, passed_over=6, failed=2)
    assert "differ" in importing.failures["wrong.dcm"]
    assert set(importing.failures) == {"wrong.dcm", "broken.dcm"}
    assert "1.2.66" not in archive.uids()


def test_a_file_of_an_archive_is_verified(source: Path, archive: LivingArchive) -> None:
    archive.put(1)
    (stored,) = archive.index.stored()
    with archive.objects.open(stored.file) as file:
        content = file.read()
    (source / "damaged.dcm").write_bytes(content[:-1] + b"\1")
    (source / "short.dcm").write_bytes(content[:-2])
    importing = Importing(archive, source)
    assert importing.run() == ImportCounts(stored=5, failed=2)
    assert "digest" in importing.failures["damaged.dcm"]
    assert "length" in importing.failures["short.dcm"]


def test_the_archive_does_not_import_itself(
    tmp_path: Path, source: Path, archive: LivingArchive
) -> None:
    archive.put(1)
    with pytest.raises(Failure, match="in the archive"):
        open_source(archive.configuration.folder / "objects", [archive.configuration.folder])
    assert Importing(archive, tmp_path).run().stored == 5  # the archive is in it


def test_moved_files_go_when_the_archive_has_them(tmp_path: Path, source: Path) -> None:
    keys: dict[str, Any] = {"folder": tmp_path / "archive", "duplicates": "ignore"}
    (source / "other.dcm").write_bytes(dicom("1.2.1", note="other data of this UID"))
    (source / "text").write_text("no DICOM file")
    with LivingArchive(configuration_of(**keys)) as archive:
        counts = Importing(archive, source, moves=True).run()
        assert (counts.stored, counts.known, counts.removed) == (5, 1, 5)
    left = {path.name for path in source.rglob("*") if path.is_file()}
    assert left in ({"other.dcm", "text"}, {"1.dcm", "text"})


# --- Going on -----------------------------------------------------------------------------------


def test_an_import_goes_on_after_the_last_group(
    source: Path, archive: LivingArchive, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(work, "_GROUP", 1)
    importing = Importing(archive, source)
    steps = importing._import.run(1)
    assert next(steps) == ImportCounts(stored=1)
    steps.close()
    again = Importing(archive, source)
    assert again.progress.counts == ImportCounts(stored=1)
    done = again.run()
    assert (done.seen, done.failed) == (5, 0)
    assert Importing(archive, source).progress.position is None  # it is complete


def test_an_archive_without_room_ends_the_import(
    source: Path, archive: LivingArchive, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise StoreFailure("no room")

    with monkeypatch.context() as patch:
        patch.setattr(archive.objects, "put", fail)
        with pytest.raises(CannotStore, match="cannot store now"):
            Importing(archive, source).run()
    assert Importing(archive, source).run() == ImportCounts(stored=5)
    assert archive.is_whole()


@pytest.mark.timeout(60 + 30 * KILLS)
def test_an_import_that_is_killed_goes_on(tmp_path: Path) -> None:
    source, folder = tmp_path / "source", tmp_path / "archive"
    source.mkdir()
    for number in range(400):
        (source / f"{number}.dcm").write_bytes(dicom(f"1.2.{number}"))
    keys = json.dumps({"folder": str(folder), **of_folder(folder).keys})
    for kill in range(KILLS):
        with forked("crashing_import", keys, str(source)) as process:
            for _ in range(random.Random(kill).randrange(1, 8)):
                process.stdout.readline()
            process.kill()
    with LivingArchive(configuration_of(folder)) as archive:
        importing = Importing(archive, source)
        assert importing.progress.counts.seen > 0
        assert importing.run().failed == 0
        assert archive.counts()[-1] == 400
        assert archive.is_whole()


# --- ZIPs ---------------------------------------------------------------------------------------


def zipped(path: Path, members: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> Path:
    """Write a ZIP."""
    with zipfile.ZipFile(path, "w", compression) as file:
        for name, content in members.items():
            file.writestr(name, content)
    return path


def test_the_objects_of_a_zip_are_stored_whatever_their_names(
    tmp_path: Path, archive: LivingArchive
) -> None:
    members = {
        "../../etc/passwd.dcm": dicom("1.2.1"),
        "/absolute": dicom("1.2.2", pixels=300_000),
        "folder/": b"",
        "folder/C:\\x": dicom("1.2.3"),
        "a\nb": dicom("1.2.4"),
        "bomb": bytes(30_000_000),
        "nested.zip": zipped(tmp_path / "inner.zip", {"x": dicom("1.2.9")}).read_bytes(),
    }
    path = zipped(tmp_path / "objects.zip", members)
    assert Importing(archive, path).run() == ImportCounts(stored=4, passed_over=2)
    assert archive.uids() == {"1.2.1", "1.2.2", "1.2.3", "1.2.4"}
    assert archive.is_whole()


def test_members_that_cannot_be_read_fail(tmp_path: Path) -> None:
    path = zipped(tmp_path / "x.zip", {"good": dicom("1.2.1"), "big": dicom("1.2.2", 200_000)})
    stored = zipped(tmp_path / "y.zip", {"bad": dicom("1.2.3")}, zipfile.ZIP_STORED)
    content = bytearray(stored.read_bytes())
    content[content.index(b"Doe")] ^= 1  # the CRC is that of other bytes
    stored.write_bytes(content)
    content = bytearray(path.read_bytes())
    for mark, at in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        content[content.index(mark) + at] |= 1  # the flag of encryption, of the first member
    path.write_bytes(content)
    with LivingArchive(configuration_of(tmp_path / "archive", max_object=100_000)) as archive:
        importing = Importing(archive, path)
        assert importing.run() == ImportCounts(failed=2)
        assert "encrypted" in importing.failures[f"{path.name}: good"]
        assert "more than 100000 bytes" in importing.failures[f"{path.name}: big"]
        importing = Importing(archive, stored)
        assert importing.run() == ImportCounts(failed=1)
        assert "CRC" in importing.failures["y.zip: bad"]
        assert archive.counts() == [0, 0, 0, 0]


def test_what_is_no_zip_says_so(tmp_path: Path) -> None:
    path = tmp_path / "x.zip"
    path.write_bytes(b"PK\3\4 and no more")
    with pytest.raises(Failure, match="not a zip file"):
        open_source(path)
    with pytest.raises(Failure, match="No such file"):
        open_source(tmp_path / "missing")


# --- The command --------------------------------------------------------------------------------


def test_what_is_imported_beside_a_node_is_found(tmp_path: Path, source: Path) -> None:
    folder = tmp_path / "archive"
    with running(folder) as node:
        assert main(["import", *options_of(folder), str(source)]) == 0
        assert len(find(node, study_of())) == 2
    assert of_folder(folder).findings(folder) == []


def test_the_command_reports_what_failed(
    tmp_path: Path, source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (source / "bad\n.dcm").write_bytes(dicom("1.2.9")[:160])
    report = tmp_path / "failed.jsonl"
    command = ["import", *options_of(tmp_path / "archive"), str(source), str(source / "4.dcm")]
    assert main([*command, "--report", str(report), "--json"]) == 1
    captured = capsys.readouterr()
    told = json.loads(captured.out)
    assert (told["stored"], told["known"], told["failed"]) == (5, 1, 1)
    assert "bad\\n.dcm: " in captured.err
    (line,) = report.read_text().splitlines()
    assert json.loads(line)["file"] == str(source / "bad\n.dcm")


def test_wrong_sources_are_refused(
    tmp_path: Path, source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    at = options_of(tmp_path / "archive")
    assert main(["import", *at, str(tmp_path / "missing")]) == 1
    assert "No such file" in capsys.readouterr().err
    path = zipped(tmp_path / "x.zip", {"good": dicom("1.2.1")})
    assert main(["import", *at, "--move", str(path)]) == 2
    assert path.exists()
    assert main(["import", *at, "--move", str(source), "--from-start"]) == 0
    assert not [path for path in source.rglob("*") if path.is_file()]
    with pytest.raises(SystemExit):
        main(["import", *at])
