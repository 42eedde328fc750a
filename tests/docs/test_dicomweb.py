"""The requests of the page about DICOMweb, sent as they are written there."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from dicomwire import AE, build_context
from dicomwire.node.configuration import Configuration
from dicomwire.node.server import Node

PAGES = Path(__file__).resolve().parents[2] / "docs" / "howto"
TEXT = (PAGES / "dicomweb.md").read_text()
CURL = [line[2:] for line in TEXT.splitlines() if line.startswith("$ curl ")]
(PROGRAM,) = re.findall(r"^```python\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)


def make_object() -> Dataset:
    ds = Dataset()
    ds.SOPClassUID = CTImageStorage
    ds.StudyInstanceUID, ds.SeriesInstanceUID = "1.2.3", "1.2.3.1"
    ds.SOPInstanceUID = "1.2.3.1.1"
    ds.PatientName, ds.PatientID, ds.Modality = "Doe^Jane", "P1", "CT"
    ds.StudyDate = "20250402"
    code = Dataset()
    code.CodeValue = "P1"
    ds.ProcedureCodeSequence = [code]
    ds.Rows = ds.Columns = 32
    ds.BitsAllocated, ds.SamplesPerPixel, ds.PixelRepresentation = 16, 1, 0
    ds.PhotometricInterpretation = "MONOCHROME2"
    ds.PixelData = bytes(2048)
    ds["PixelData"].VR = "OW"
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return ds


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The beginning of the URLs of a node that has the object of the page."""
    folder = tmp_path_factory.mktemp("node")
    with Node(Configuration(port=0, http=0, folder=folder)) as node:
        contexts = [build_context(CTImageStorage)]
        with AE("TESTER").associate(*node.address, contexts) as association:
            assert association.send_c_store(make_object()).Status == 0x0000
        assert node.http_address is not None
        yield "{}:{}".format(*node.http_address)


@pytest.mark.parametrize("command", CURL)
def test_the_requests_find_something(root: str, tmp_path: Path, command: str) -> None:
    command = command.replace("127.0.0.1:8042", root).replace("curl", "curl -sf --noproxy '*'", 1)
    done = subprocess.run(
        ["sh", "-c", command], cwd=tmp_path, capture_output=True, timeout=60, check=True
    )
    output = next((path.read_bytes() for path in tmp_path.iterdir()), done.stdout)
    begins = output.startswith((b'[{"0008', b"--"))  # JSON, or the first part of several
    assert len(output) in (512, 2048) or begins or output[128:132] == b"DICM"


def test_the_requests_for_pictures_get_some(root: str, tmp_path: Path) -> None:
    text = (PAGES / "images.md").read_text()
    lines = [line[2:] for line in text.splitlines() if line.startswith(("$ SERIES=", "$ curl "))]
    program = "\n".join(lines).replace("127.0.0.1:8042", root)
    program = program.replace("curl", "curl -sf --noproxy '*'")
    subprocess.run(["sh", "-ec", program], cwd=tmp_path, timeout=60, check=True)
    kinds = {path.name: path.read_bytes()[:3] for path in tmp_path.iterdir()}
    assert set(kinds) == {"image.jpg", "bone.jpg", "small.png", "first.jpg", "picture.gif"}
    assert set(kinds.values()) == {b"\xff\xd8\xff", b"\x89PN", b"GIF"}


def test_the_program(root: str) -> None:
    program = PROGRAM.replace("127.0.0.1:8042", root)
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stderr == ""
    assert done.stdout == "1.2.3 Doe^Jane CT\nobjects: 1\n"
