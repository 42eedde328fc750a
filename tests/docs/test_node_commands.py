"""The commands on the pages about an archive's objects: all of them are run, and succeed."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import pytest
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.filewriter import dcmwrite
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from dicomwire.__main__ import main
from dicomwire.node.configuration import load

HOWTO = Path(__file__).resolve().parents[2] / "docs" / "howto"
PAGES = ("import_export.md", "migrate_archive.md", "free_space.md")


def blocks(page: str, language: str) -> list[str]:
    """Return the blocks of a page, also those that are indented."""
    text = (HOWTO / page).read_text()
    return re.findall(rf"^ *```{language}\n(.*?)^ *```$", text, re.MULTILINE | re.DOTALL)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with the files and the archive that the pages name."""
    monkeypatch.chdir(tmp_path)
    for name in ("incoming", "old-archive"):
        (tmp_path / name).mkdir()
        for number, study in enumerate(("1.2.840.1.5", "1.2.840.1.6", "1.2.840.1.7")):
            ds = Dataset()
            ds.SOPClassUID, ds.SOPInstanceUID = CTImageStorage, f"{study}.2.1"
            ds.StudyInstanceUID, ds.SeriesInstanceUID = study, f"{study}.2"
            ds.PatientID, ds.PatientName, ds.Modality = "1", "Doe^Jane", "CT"
            ds.file_meta = FileMetaDataset()
            ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
            dcmwrite(tmp_path / name / f"{number}.dcm", ds, enforce_file_format=True)
    shutil.make_archive(str(tmp_path / "disc"), "zip", tmp_path / "incoming")
    assert main(["node", "import", "--folder", "archive", "incoming"]) == 0
    return tmp_path


@pytest.mark.parametrize("page", PAGES)
def test_the_commands_of_a_page_succeed(folder: Path, page: str) -> None:
    lines = [line.strip() for block in blocks(page, "bash") for line in block.splitlines()]
    assert lines
    for line in lines:
        program, *arguments = shlex.split(line)
        assert program == "dicomwire"
        assert main(arguments) == 0, line


def test_the_configurations_are_valid(tmp_path: Path) -> None:
    found = [block for page in PAGES for block in blocks(page, "toml")]
    assert found
    for block in found:
        (tmp_path / "node.toml").write_text(block)
        assert load(tmp_path / "node.toml").retention.has_limits
