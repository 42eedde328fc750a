"""Objects that are copied out of an archive, with a DICOMDIR that others can read."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from backends import Backend, configuration_of, of_folder, options_of
from living_archive import LivingArchive
from pydicom import dcmread

from dicomwire.apps.node import main
from dicomwire.node.deletion import delete
from dicomwire.node.exporting.dicomdir import _type_of
from dicomwire.node.exporting.files import write_folder, write_zip, zip_of
from dicomwire.node.exporting.selection import found
from dicomwire.node.keys import Level

_is_component = re.compile(r"[A-Z0-9_]{1,8}").fullmatch


def fill(archive: LivingArchive) -> None:
    """Store two studies of two patients; one has two series."""
    for number in range(12):
        archive.put(number, InstanceNumber=str(number), StudyDate="20240229", StudyID="S")
    archive.put(20, SeriesInstanceUID="1.2.3.2", Modality="MR", SeriesNumber="2")
    other = {"PatientID": "P2", "PatientName": "Müller^Jörg", "SpecificCharacterSet": "ISO_IR 100"}
    archive.put(1, "1.2.4", pixels=600_000, **other)


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[LivingArchive]:
    with LivingArchive(configuration_of(tmp_path / "archive")) as opened:
        fill(opened)
        yield opened


def leaves(folder: Path) -> dict[str, str]:
    """Return the SOP Instance UIDs in a DICOMDIR, each with that in its file."""
    records = dcmread(folder / "DICOMDIR").DirectoryRecordSequence
    return {
        each.ReferencedSOPInstanceUIDInFile: dcmread(
            folder.joinpath(*each.ReferencedFileID)
        ).SOPInstanceUID
        for each in records
        if "ReferencedFileID" in each
    }


def test_a_folder_is_a_file_set(tmp_path: Path, every_pair: Backend) -> None:
    with LivingArchive(every_pair.configuration(tmp_path / "archive")) as archive:
        fill(archive)
        objects = found(archive.index, Level.STUDY, ["1.2.3", "1.2.4", "9.9"])
        write_folder(archive, objects, tmp_path / "out")
        found_uids = leaves(tmp_path / "out")
        assert found_uids == {uid: uid for uid in archive.uids()}
        assert [*found_uids][:12] == [f"1.2.3.1.{number}" for number in range(12)]
        assert [path.name for path in tmp_path.iterdir() if path.suffix == ".part"] == []


_FILE_SET = """
import sys
from pydicom.fileset import FileSet
found = FileSet(sys.argv[1])
print(len(found), ascii(sorted(map(str, found.find_values("PatientName")))))
"""


def test_pydicom_reads_the_file_set(tmp_path: Path, archive: LivingArchive) -> None:
    write_folder(archive, found(archive.index, Level.STUDY, ["1.2.3", "1.2.4"]), tmp_path / "out")
    command = [sys.executable, "-c", _FILE_SET, str(tmp_path / "out" / "DICOMDIR")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == "14 ['Doe^John', 'M\\xfcller^J\\xf6rg']\n"


def test_names_are_legal_and_have_no_data_of_patients(
    tmp_path: Path, archive: LivingArchive
) -> None:
    write_folder(archive, found(archive.index, Level.STUDY, ["1.2.3"]), tmp_path / "out")
    for path in (tmp_path / "out").rglob("*"):
        parts = path.relative_to(tmp_path / "out").parts
        assert len(parts) <= 8
        assert all(map(_is_component, parts))


@pytest.mark.skipif(
    not shutil.which("dcmdump") and not os.environ.get("CI"), reason="DCMTK is not installed"
)
def test_another_program_finds_no_fault_in_the_directory(
    tmp_path: Path, archive: LivingArchive
) -> None:
    write_folder(archive, found(archive.index, Level.STUDY, ["1.2.3", "1.2.4"]), tmp_path / "out")
    dump = ["dcmdump", "+W", str(tmp_path), str(tmp_path / "out" / "DICOMDIR")]
    done = subprocess.run(dump, capture_output=True, text=True, errors="replace", check=True)
    assert done.stdout.count('"Directory Record" IMAGE') == 14
    assert not re.search(r"^[EW]:", done.stderr, re.MULTILINE)


def test_a_zip_is_made_while_it_is_read(archive: LivingArchive) -> None:
    objects = found(archive.index, Level.STUDY, ["1.2.3", "1.2.4"])
    pieces = [*zip_of(archive, objects)]
    assert max(map(len, pieces)) < 300_000
    with zipfile.ZipFile(io.BytesIO(b"".join(pieces))) as file:
        assert file.testzip() is None
        names = [name for name in file.namelist() if name != "DICOMDIR"]
        found_uids = {str(dcmread(file.open(name)).SOPInstanceUID) for name in names}
        assert found_uids == archive.uids()
        assert "DICOMDIR" in file.namelist()
        assert file.getinfo(names[0]).date_time[:3] == (2024, 2, 29)


def test_a_large_zip_has_64_bits(archive: LivingArchive, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zipfile, "ZIP64_LIMIT", 1000)
    data = b"".join(zip_of(archive, found(archive.index, Level.STUDY, ["1.2.4"])))
    assert b"PK\6\6" in data  # the end record of ZIP64
    with zipfile.ZipFile(io.BytesIO(data)) as file:
        assert file.testzip() is None


def test_it_is_all_or_nothing(tmp_path: Path, archive: LivingArchive) -> None:
    objects = found(archive.index, Level.STUDY, ["1.2.3"])
    folder, name = archive.configuration.folder, objects[-1].file
    content = of_folder(folder).contents(folder)[name]
    of_folder(folder).rewrite(folder, name, content[:-1] + b"\1")
    for write in (write_zip, write_folder):
        with pytest.raises(OSError, match="damaged"):
            write(archive, objects, tmp_path / "out")
    of_folder(folder).lose(folder, name)
    with pytest.raises(OSError, match="missing"):
        write_zip(archive, objects, tmp_path / "out")
    assert {path.name for path in tmp_path.iterdir()} == {"archive"}


def test_nothing_is_overwritten(tmp_path: Path, archive: LivingArchive) -> None:
    objects = found(archive.index, Level.STUDY, ["1.2.4"])
    for name in ("file", "link"):
        (tmp_path / "file").write_text("mine")
        (tmp_path / "link").unlink(missing_ok=True)
        (tmp_path / "link").symlink_to(tmp_path / "nowhere")
        for write in (write_zip, write_folder):
            with pytest.raises(FileExistsError):
                write(archive, objects, tmp_path / name)
    assert (tmp_path / "file").read_text() == "mine"
    (tmp_path / "empty").mkdir()
    write_folder(archive, objects, tmp_path / "empty")
    with pytest.raises(FileExistsError):
        write_folder(archive, objects, tmp_path / "empty")


def test_an_object_that_is_deleted_meanwhile_is_exported_during_the_grace(
    archive: LivingArchive,
) -> None:
    objects = found(archive.index, Level.STUDY, ["1.2.3"])
    delete(archive.queue, Level.STUDY, ["1.2.3"])
    assert len([*zip_of(archive, objects)]) >= len(objects)


@pytest.mark.parametrize(
    ("own", "kind"),
    [
        ("2", "IMAGE"),
        ("9.1.1", "WAVEFORM"),
        ("9.100.1", "PRESENTATION"),
        ("11.1", "PRESENTATION"),
        ("66", "RAW DATA"),
        ("66.4", "IMAGE"),
        ("88.33", "SR DOCUMENT"),
        ("88.59", "KEY OBJECT DOC"),
        ("104.1", "ENCAP DOC"),
        ("481.1", "IMAGE"),
        ("481.5", "RT PLAN"),
    ],
)
def test_the_type_of_a_record_is_that_of_the_sop_class(own: str, kind: str) -> None:
    assert _type_of(f"1.2.840.10008.5.1.4.1.1.{own}") == kind
    assert _type_of("1.2.3") == "IMAGE"


def test_the_command_exports_what_can_be_imported_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with LivingArchive(configuration_of(tmp_path / "archive")) as archive:
        fill(archive)
    at = [*options_of(tmp_path / "archive"), "--study", "1.2.3"]
    for name in ("out.zip", "out"):
        target = tmp_path / name
        assert main(["export", *at, "--to", str(target), "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["objects"] == 13
        assert main(["export", *at, "--to", str(target)]) == 1
        assert "exists already" in capsys.readouterr().err
        folder = tmp_path / f"{name}.again"
        assert main(["import", *options_of(folder), str(target)]) == 0
        capsys.readouterr()
        with LivingArchive(configuration_of(folder)) as again:
            assert again.counts() == [1, 1, 2, 13]
    at[-1] = "9.9"
    assert main(["export", *at, "--to", str(tmp_path / "other")]) == 1
    assert "none of these" in capsys.readouterr().err
