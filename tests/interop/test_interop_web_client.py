"""The DICOMweb client and its applications with Orthanc's DICOMweb plug-in as the server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from archive import LOCALHOST
from orthanc import dicomweb, orthanc
from peers import Peers
from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filewriter import dcmwrite

from dicomwire.apps import qidors, stowrs, wadors
from dicomwire.web import AsyncClient, Client, WebFailure
from free_ports import free_port

STUDY, SERIES = "1.2.3", "1.2.3.4"
EXPLICIT = "1.2.840.10008.1.2.1"


def image(number: int, size: int = 8) -> Dataset:
    """Return an image of `size` times `size` pixels."""
    ds = Dataset()
    ds.SpecificCharacterSet = "ISO_IR 100"
    ds.SOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
    ds.SOPInstanceUID = f"{SERIES}.{number}"
    ds.StudyDate, ds.Modality = "20250402", "CT"
    ds.PatientName, ds.PatientID = "Doe^J\N{LATIN SMALL LETTER A WITH DIAERESIS}ne", "P1"
    ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.InstanceNumber = STUDY, SERIES, number
    ds.Rows = ds.Columns = size
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.BitsAllocated = ds.BitsStored = 16
    ds.HighBit, ds.PixelRepresentation = 15, 0
    ds.PixelData = bytes([number]) * (2 * size * size)
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = EXPLICIT
    return ds


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Files of a series: two small ones, and one that is streamed."""
    folder = tmp_path_factory.mktemp("files")
    for number in (1, 2, 3):
        ds = image(number, 8 if number < 3 else 512)
        dcmwrite(folder / f"{number}.dcm", ds, enforce_file_format=True)
    return sorted(folder.iterdir())


@pytest.fixture(scope="module")
def url(peers: Peers, files: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The DICOMweb of Orthanc, which has the files."""
    folder = tmp_path_factory.mktemp("orthanc")
    (folder / "orthanc").mkdir()
    with orthanc(peers, (LOCALHOST, 1), free_port(), folder, **dicomweb(peers)) as port:
        url = f"http://{LOCALHOST}:{port}/dicom-web"
        with Client(url) as client:
            results = list(client.store(map(str, files)))
            assert [result.is_stored for result in results] == [True] * 3
            assert all(result.retrieve_url for result in results)
        yield url


def test_what_is_no_object_is_not_stored(url: str, files: list[Path]) -> None:
    with Client(url) as client:
        text, stored = client.store([Path(__file__), files[0]], study=STUDY)
    assert text.failure is not None
    assert stored.is_stored


def test_search(url: str) -> None:
    with Client(url) as client:
        [study] = client.search("studies", {"PatientID": "P1", "StudyDate": "20250401-"})
        assert study.StudyInstanceUID == STUDY
        assert str(study.PatientName) == "Doe^J\N{LATIN SMALL LETTER A WITH DIAERESIS}ne"
        assert len(list(client.search("instances", study=STUDY, series=SERIES))) == 3
        assert len(list(client.search("instances", study=STUDY, limit=2, offset=1))) == 2
        assert list(client.search("studies", {"PatientID": "P9"})) == []


def test_retrieve(url: str, files: list[Path], tmp_path: Path) -> None:
    with Client(url) as client:
        received = sorted(client.retrieve_to(tmp_path, STUDY), key=lambda each: each.path)
        assert [dcmread(each.path).PixelData for each in received] == [
            dcmread(file).PixelData for file in files
        ]
        [one] = client.retrieve(STUDY, SERIES, f"{SERIES}.1")
        assert one.InstanceNumber == 1
        metadata = list(client.metadata(STUDY))
        assert {each.InstanceNumber for each in metadata} == {1, 2, 3}
        [frame] = client.frames(STUDY, SERIES, f"{SERIES}.2", [1])
        assert frame.data == b"\2" * 128
        assert client.rendered(STUDY, SERIES, f"{SERIES}.1").startswith(b"\xff\xd8")
        with pytest.raises(WebFailure) as caught:
            list(client.retrieve("9.9"))
        assert caught.value.status == 404


def test_asyncio(url: str, files: list[Path], tmp_path: Path) -> None:
    async def use() -> tuple[int, int, int]:
        async with AsyncClient(url) as client:
            stored = [each async for each in client.store(files)]
            found = [each async for each in client.search("instances")]
            received = [each async for each in client.retrieve_to(tmp_path, STUDY)]
            return sum(each.is_stored for each in stored), len(found), len(received)

    assert asyncio.run(use()) == (3, 3, 3)


def test_the_applications(
    url: str, files: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert stowrs.main([url, str(files[0].parent), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["sent"] == 3
    assert qidors.main([url, "-k", "PatientID=P1", "-k", "StudyInstanceUID", "--csv"]) == 0
    assert capsys.readouterr().out == f"PatientID,StudyInstanceUID\nP1,{STUDY}\n"
    assert wadors.main([url, STUDY, "-od", str(tmp_path)]) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        f"CT.{SERIES}.{number}" for number in (1, 2, 3)
    ]
