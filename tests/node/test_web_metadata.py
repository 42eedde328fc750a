"""WADO-RS: metadata and bulk data (PS3.18 Section 10.4), compared with pydicom's own reading."""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Iterator
from io import BufferedReader, BytesIO
from pathlib import Path
from random import Random
from typing import Any
from xml.etree import ElementTree

import httpx
import pytest
from backends import Backend, of_folder
from pydicom import dcmread, dcmwrite
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGBaseline8Bit,
)
from running_node import make_object, store
from web_application import XML_TYPE
from web_client import Serving, client_of, serving

from dicomwire.data.scanner import DatasetError
from dicomwire.node.server import Node
from dicomwire.node.web import describing
from dicomwire.node.web.models import as_json, as_xml

STUDY = "/dicom-web/studies/1.2.3"
SERIES = f"{STUDY}/series/1.2.3.1"
PLAIN = [
    ImplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    DeflatedExplicitVRLittleEndian,
]


def every_vr(syntax: str, number: int) -> Dataset:
    """Return an object with a value of every VR, and with sequences in sequences."""
    ds = make_object(number, syntax=syntax, PatientName="Müller^Jörg=山田^太郎")
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.ImageType = ["ORIGINAL", "PRIMARY", "", "AXIAL"]
    ds.PatientAge = "034Y"
    ds.PatientWeight = "70.50"
    ds.StudyTime = "101112.5"
    ds.AcquisitionDateTime = "20200101101112.5+0100"
    ds.PatientComments = "two lines\r\nwith <signs> & \\ backslash"
    ds.RetrieveAETitle = "ARCHIVE"
    ds.InstanceNumber = number
    ds.FrameIncrementPointer = 0x00181063
    ds.SliceThickness = None
    ds.ImagePositionPatient = ["-1.5", "0", "1e2"]
    ds.RecommendedDisplayFrameRateInFloat = 12.5
    ds.RealWorldValueSlope = 1.25
    ds.PixelRepresentation = 1
    ds.SmallestImagePixelValue = -5
    ds.ReferencePixelX0 = -70000
    ds.SimpleFrameList = [1, 70000]
    ds.Rows, ds.Columns, ds.BitsAllocated = 16, 32, 16
    ds.RetrieveURL = "http://example.org/a?b=c"
    ds.TextValue = "x" * 2000
    ds.StrainDescription = "a long code\\another"
    ds.SelectorSVValue = -(2**60)
    ds.SelectorUVValue = 2**60
    ds.RedPaletteColorLookupTableData = bytes(range(200))
    ds.VectorGridData = bytes(range(40))
    ds.add_new(0x00091010, "UN", b"private")
    ds.add_new(0x00090010, "LO", "A CREATOR")
    item = Dataset()
    item.SpecificCharacterSet = "ISO_IR 100"
    item.CodeValue, item.CodeMeaning = "1", "Übersicht"
    inner = Dataset()
    inner.CodeValue = "2"
    inner.SelectorOBValue = bytes(2000)
    item.EquivalentCodeSequence = Sequence([inner, Dataset()])
    ds.ProcedureCodeSequence = Sequence([item, item])
    ds.RequestAttributesSequence = Sequence([])
    ds.PixelData = bytes(range(256)) * 4
    ds["PixelData"].VR = "OW"
    return ds


def compressed(number: int) -> Dataset:
    ds = make_object(number, syntax=JPEGBaseline8Bit)
    ds.Rows = ds.Columns = ds.NumberOfFrames = 2
    ds.BitsAllocated = ds.BitsStored = 8
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.HighBit, ds.PixelRepresentation = 7, 0
    ds.PixelData = encapsulate([b"\xff\xd8one\xff\xd9", b"\xff\xd8other\xff\xd9"])
    ds["PixelData"].is_undefined_length = True
    ds.add_new(0x00880200, "SQ", [Dataset()])
    icon = ds[0x00880200].value[0]
    icon.PixelData = encapsulate([b"icon"])
    icon["PixelData"].is_undefined_length = True
    icon["PixelData"].VR = "OB"
    icon.add_new(0xFFFC0000 | 0xFFFC, "OB", bytes(4))
    return ds


@pytest.fixture(scope="module")
def objects() -> list[Dataset]:
    return [*(every_vr(syntax, at) for at, syntax in enumerate(PLAIN, 1)), compressed(5)]


@pytest.fixture(scope="module")
def site(objects: list[Dataset], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    with serving(tmp_path_factory.mktemp("node")) as site:
        assert store(site.node, *objects) == [0] * len(objects)
        yield site


@pytest.fixture
def client(site: Serving) -> httpx.Client:
    return site.client


def read_back(ds: Dataset) -> Dataset:
    """Return an object as pydicom reads it from its file."""
    file = BytesIO()
    dcmwrite(file, ds, enforce_file_format=True)
    file.seek(0)
    return dcmread(file)


def metadata(client: httpx.Client, path: str) -> list[dict[str, Any]]:
    answer = client.get(f"{path}/metadata")
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()
    return found


def links(model: dict[str, Any]) -> Iterator[str]:
    """Yield all URLs of bulk data."""
    for element in model.values():
        if "BulkDataURI" in element:
            yield element["BulkDataURI"]
        if element["vr"] == "SQ":
            for item in element.get("Value", ()):
                yield from links(item)


# --- Metadata ---------------------------------------------------------------------------------


@pytest.mark.parametrize("number", range(1, 5))
def test_metadata_have_all_values(
    objects: list[Dataset], client: httpx.Client, number: int
) -> None:
    [model] = metadata(client, f"{SERIES}/instances/1.2.3.1.{number}")
    stored = objects[number - 1]
    assert model.pop("00083002")["Value"] == [stored.file_meta.TransferSyntaxUID]

    def resolve(tag: str, vr: str, link: str) -> bytes:
        return client.get(link).content

    found = Dataset.from_json(model, resolve)
    expected = read_back(stored)
    if number == 3:  # pydicom keeps words in big endian as they are
        for keyword, size in (
            ("RedPaletteColorLookupTableData", 2),
            ("VectorGridData", 4),
            ("PixelData", 2),
        ):
            expected[keyword].value = swapped(expected[keyword].value, size)
    assert _differences(found, expected) == []


def swapped(data: bytes, size: int) -> bytes:
    words = [data[at : at + size][::-1] for at in range(0, len(data), size)]
    return b"".join(words)


def _differences(found: Dataset, expected: Dataset) -> list[str]:
    return [
        f"{tag}: {found.get(tag)} is not {expected.get(tag)}"
        for tag in sorted({*found.keys(), *expected.keys()})
        if found.get(tag) != expected.get(tag)
    ]


def test_elements_are_in_order_without_group_lengths(client: httpx.Client) -> None:
    for model in metadata(client, STUDY):
        assert list(model) == sorted(model)
        assert not [tag for tag in model if tag.endswith("0000")]


def test_numbers_are_numbers(client: httpx.Client) -> None:
    [model] = metadata(client, f"{SERIES}/instances/1.2.3.1.2")
    assert model["00200032"] == {"vr": "DS", "Value": [-1.5, 0, 100.0]}
    assert model["00200013"] == {"vr": "IS", "Value": [2]}
    assert model["00720082"] == {"vr": "SV", "Value": [str(-(2**60))]}
    assert model["00280009"] == {"vr": "AT", "Value": ["00181063"]}
    assert model["00180050"] == {"vr": "DS"}


def test_metadata_of_a_study_and_a_series(client: httpx.Client) -> None:
    for path in (STUDY, SERIES):
        uids = [model["00080018"]["Value"][0] for model in metadata(client, path)]
        assert uids == [f"1.2.3.1.{number}" for number in range(1, 6)]


def test_large_values_are_links_below_the_instance(site: Serving) -> None:
    [model] = metadata(site.client, f"{SERIES}/instances/1.2.3.1.2")
    root = str(site.client.base_url).rstrip("/")
    below = f"{root}{SERIES}/instances/1.2.3.1.2/bulkdata/"
    assert [link.removeprefix(below) for link in links(model)] == [
        "00081032/1/00080121/1/00720065",
        "00081032/2/00080121/1/00720065",
        "7FE00010",
    ]


def test_compressed_pixel_data_is_a_link(client: httpx.Client) -> None:
    [model] = metadata(client, f"{SERIES}/instances/1.2.3.1.5")
    assert len(list(links(model))) == 2


def test_metadata_in_xml(client: httpx.Client) -> None:
    answer = client.get(f"{STUDY}/metadata", headers={"Accept": XML_TYPE})
    assert answer.text.count("<NativeDicomModel") == 5
    assert '<DicomAttribute tag="00091010" vr="UN" privateCreator="A CREATOR">' in answer.text
    assert '<Value number="1">two lines&#13;\nwith &lt;signs&gt; &amp;' in answer.text


def test_metadata_that_a_client_has_are_not_sent_again(client: httpx.Client) -> None:
    url = f"{SERIES}/instances/1.2.3.1.2/metadata"
    tag = client.get(url).headers["etag"]
    assert client.get(url, headers={"If-None-Match": tag}).status_code == 304


@pytest.mark.parametrize(
    "path",
    [
        "/dicom-web/studies/9.9/metadata",
        "/dicom-web/studies/x/metadata",
        f"{STUDY}/series/9/metadata",
        f"{SERIES}/instances/9/metadata",
        f"{STUDY}/series/1.2.4.1/instances/1.2.3.1.1/metadata",
    ],
)
def test_what_does_not_exist_has_no_metadata(client: httpx.Client, path: str) -> None:
    assert client.get(path).status_code == 404


def test_damaged_objects_have_only_their_uids(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with serving(tmp_path) as site:
        store(site.node, make_object(1), every_vr(ExplicitVRLittleEndian, 2))
        behind = of_folder(tmp_path)
        name, longest = max(behind.contents(tmp_path).items(), key=lambda item: len(item[1]))
        behind.rewrite(tmp_path, name, longest[:-100])
        with caplog.at_level(logging.WARNING, "dicomwire"):
            good, damaged = metadata(site.client, STUDY)
        assert "00100010" in good
        assert damaged["00080018"]["Value"] == ["1.2.3.1.2"]
        assert damaged["00081197"] == {"vr": "US", "Value": [0xC000]}
        assert "1.2.3.1.2 has no metadata, it is damaged" in caplog.text
        one = site.client.get(f"{SERIES}/instances/1.2.3.1.2/metadata")
        assert one.status_code == 406
        assert "damaged" in one.json()["detail"]


def test_an_object_with_too_many_elements_has_no_metadata(
    client: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(describing, "MOST_ELEMENTS", 20)
    answer = client.get(f"{SERIES}/instances/1.2.3.1.2/metadata")
    assert answer.status_code == 406
    assert "too many elements" in answer.json()["detail"]


def test_whatever_is_stored_has_metadata_or_is_called_damaged(objects: list[Dataset]) -> None:
    random = Random(1)
    whole = []
    for ds in objects:
        file = BytesIO()
        dcmwrite(file, ds, enforce_file_format=True)
        whole.append(file.getvalue())
    results = Counter[str]()
    for _ in range(300):
        data = bytearray(random.choice(whole))
        del data[random.randrange(400, 2 * len(data)) :]
        for _ in range(random.randrange(1, 6)):
            data[random.randrange(300, len(data))] = random.choice((0, 0x1B, 0x5C, 0xFF))
        try:
            model = describing.described(BufferedReader(BytesIO(data)), "bulkdata")
        except DatasetError as error:
            results[str(error)] += 1
        else:
            json.loads(as_json(model))
            ElementTree.fromstring(as_xml(model))
            results["metadata"] += 1
    assert results["metadata"] > 50
    assert len(results) > 3


def test_every_pair_of_index_and_store(tmp_path: Path, every_pair: Backend) -> None:
    configuration = every_pair.configuration(tmp_path / "node", http=0)
    with Node(configuration) as node, client_of(node) as client:
        assert store(node, every_vr(ExplicitVRLittleEndian, 1)) == [0]
        [study] = client.get("/dicom-web/studies").json()
        assert study["0020000D"]["Value"] == ["1.2.3"]
        [model] = metadata(client, STUDY)
        assert model["00280010"]["Value"] == [16]
        answer = client.get(pixel_data(1), headers={"Range": "bytes=100-199"})
        assert answer.content == PIXELS[100:200]


# --- Bulk data --------------------------------------------------------------------------------

PIXELS = bytes(range(256)) * 4


def pixel_data(number: int) -> str:
    return f"{SERIES}/instances/1.2.3.1.{number}/bulkdata/7FE00010"


@pytest.mark.parametrize("number", range(1, 5))
def test_a_value_is_the_same_in_every_encoding(client: httpx.Client, number: int) -> None:
    answer = client.get(pixel_data(number))
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["content-length"] == "1024"
    # Stored in big endian, these are the bytes of other words.
    assert answer.content == (swapped(PIXELS, 2) if number == 3 else PIXELS)


@pytest.mark.parametrize(
    ("asked", "status", "found"),
    [
        ("bytes=0-9", 206, PIXELS[:10]),
        ("bytes=3-3", 206, PIXELS[3:4]),
        ("bytes=1001-", 206, PIXELS[1001:]),
        ("bytes=-5", 206, PIXELS[-5:]),
        ("bytes=1000-5000", 206, PIXELS[1000:]),
        ("bytes=0-1,5-6", 200, PIXELS),
        ("bytes=x", 200, PIXELS),
        ("bytes=1024-", 416, None),
    ],
)
@pytest.mark.parametrize("number", [2, 4])
def test_ranges(
    client: httpx.Client, number: int, asked: str, status: int, found: bytes | None
) -> None:
    answer = client.get(pixel_data(number), headers={"Range": asked})
    assert answer.status_code == status
    if found is not None:
        assert answer.content == found
    if status == 206:
        assert answer.headers["content-range"].endswith("/1024")


def test_ranges_of_words_in_big_endian(client: httpx.Client) -> None:
    whole = client.get(pixel_data(3)).content
    for start, stop in ((0, 1), (7, 9), (501, 900), (1023, 1024)):
        answer = client.get(pixel_data(3), headers={"Range": f"bytes={start}-{stop - 1}"})
        assert answer.content == whole[start:stop]


def test_a_value_as_a_part(client: httpx.Client) -> None:
    accept = 'multipart/related; type="application/octet-stream"'
    answer = client.get(pixel_data(2), headers={"Accept": accept})
    head, _, rest = answer.content.partition(b"\r\n\r\n")
    assert b"Content-Type: application/octet-stream; transfer-syntax=1.2.840.10008.1.2.1" in head
    assert rest[:1024] == PIXELS


@pytest.mark.parametrize(
    ("element", "status"),
    [
        ("00081032/2/00080121/1/00720065", 200),
        ("00081032/3/00080121/1/00720065", 404),
        ("00081032/2/00080121/2/00720065", 404),
        ("00081032", 404),
        ("00081032/0/00080100", 404),
        ("00100010", 200),
        ("00100010/1/00080100", 404),
        ("00990010", 404),
        ("../metadata", 404),
        ("7FE00010/", 404),
        ("/".join(["00081032/1"] * 100) + "/00080100", 404),
    ],
)
def test_paths_of_values(client: httpx.Client, element: str, status: int) -> None:
    url = f"{SERIES}/instances/1.2.3.1.2/bulkdata/{element.replace('..', '%2e%2e')}"
    assert client.get(url).status_code == status


def test_compressed_pixel_data_are_frames(client: httpx.Client) -> None:
    accept = 'multipart/related; type="image/jpeg"'
    answer = client.get(pixel_data(5), headers={"Accept": accept})
    assert answer.status_code == 200, answer.text
    assert [part.count(b"\xff\xd8") for part in answer.content.split(b"--")].count(1) == 2
    nested = f"{SERIES}/instances/1.2.3.1.5/bulkdata/00880200/1/7FE00010"
    assert client.get(nested).status_code == 406


def test_media_types_of_bulk_data(client: httpx.Client) -> None:
    assert client.get(pixel_data(2), headers={"Accept": "image/png"}).status_code == 406
