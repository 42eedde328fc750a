"""Studies, series, instances and frames, in each transfer syntax that a client may ask for."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pydicom.data
import pytest
from images import image_object
from pydicom import Dataset, dcmread
from pydicom.uid import (
    BasicTextSRStorage,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLSLossless,
    RLELossless,
)
from running_node import make_object, store
from sqlalchemy import select
from web_client import Serving, serving

from dicomwire.node.configuration import Retention
from dicomwire.node.index.schema import study_use

WHEEL = Path(pydicom.data.__file__).parent / "test_files"
STUDY = "/dicom-web/studies/1.2.3"
SERIES = f"{STUDY}/series/1.2.3.1"
INSTANCES = f"{SERIES}/instances"
PIXELS = np.random.default_rng(2).integers(0, 4096, (2, 64, 64), np.uint16)
PLAIN = [
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
]
COMPRESSED = [RLELossless, JPEG2000Lossless, JPEGLSLossless]
NUMBERS = {syntax: number for number, syntax in enumerate([*PLAIN, *COMPRESSED], 1)}
LOSSY, REPORT, SHORT = 20, 21, 22

pytestmark = pytest.mark.filterwarnings("ignore:Invalid value for VR")


def _object(syntax: str) -> Dataset:
    plain = syntax in PLAIN and syntax != ExplicitVRBigEndian
    pixels = PIXELS if plain or syntax in COMPRESSED else PIXELS.astype(">u2")
    stored = syntax if syntax in PLAIN else ExplicitVRLittleEndian
    ds = image_object(pixels, stored, NUMBERS[syntax], BitsStored=12)
    if syntax in COMPRESSED:
        ds.compress(syntax, generate_instance_uid=False)
    return ds


def _lossy() -> Dataset:
    ds = dcmread(WHEEL / "SC_rgb_small_odd_jpeg.dcm")
    ds.StudyInstanceUID, ds.SeriesInstanceUID = "1.2.3", "1.2.3.2"
    ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = f"1.2.3.1.{LOSSY}"
    assert ds.file_meta.TransferSyntaxUID == JPEGBaseline8Bit
    return ds


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """A node with one image in many transfer syntaxes, one with loss, a report, a damaged one."""
    short = image_object(PIXELS[0], JPEG2000Lossless, SHORT, SeriesInstanceUID="1.2.3.4")
    short.PixelData = pydicom.encaps.encapsulate([b"no image"])
    short["PixelData"].is_undefined_length = True
    with serving(tmp_path_factory.mktemp("retrieve")) as node:
        objects = [_object(syntax) for syntax in NUMBERS]
        report = make_object(REPORT, BasicTextSRStorage, SeriesInstanceUID="1.2.3.3")
        objects += [_lossy(), report, short]
        assert set(store(node.node, *objects)) <= {0, 0xB000}  # the JPEG is of another patient
        yield node


def _get(served: Serving, path: str, accept: str = "", status: int = 200, **options: Any) -> Any:
    headers = {"Accept": accept, **options.pop("headers", {})}
    answer = served.client.get(path, headers=headers, **options)
    assert answer.status_code == status, answer.text
    return answer


def _parts(answer: httpx.Response) -> list[tuple[str, bytes]]:
    """Return media type and content of each part."""
    boundary = answer.headers["content-type"].rpartition("boundary=")[2]
    *parts, end = answer.content.split(f"\r\n--{boundary}".encode())
    assert end == b"--\r\n"
    found = []
    for part in parts:
        head, _, content = part.partition(b"\r\n\r\n")
        found.append((re.search(rb"Content-Type: (.*?)(\r|$)", head)[1].decode(), content))
    return found


def _of(syntax: str) -> str:
    return f"{INSTANCES}/1.2.3.1.{NUMBERS[syntax]}"


def _multipart(media_type: str, syntax: str = "") -> str:
    return f'multipart/related; type="{media_type}"' + (
        f"; transfer-syntax={syntax}" if syntax else ""
    )


# --- Objects ---


@pytest.mark.parametrize("stored", NUMBERS)
@pytest.mark.parametrize(
    ("wanted", "target"),
    [
        ("", ExplicitVRLittleEndian),
        (JPEGLSLossless, JPEGLSLossless),
    ],
)
def test_an_instance_is_sent_in_the_transfer_syntax_that_is_asked_for(
    served: Serving, stored: str, wanted: str, target: str
) -> None:
    answer = _get(served, _of(stored), _multipart("application/dicom", wanted))
    ((media_type, content),) = _parts(answer)
    assert media_type == f"application/dicom; transfer-syntax={target}"
    ds = dcmread(io.BytesIO(content))
    assert ds.file_meta.TransferSyntaxUID == target
    assert ds.SOPInstanceUID == f"1.2.3.1.{NUMBERS[stored]}"
    assert ds.PatientName == "Doe^Jane"
    assert (ds.pixel_array == PIXELS).all()


@pytest.mark.parametrize("stored", NUMBERS)
def test_any_transfer_syntax_is_the_stored_one_if_the_web_may_use_it(
    served: Serving, stored: str
) -> None:
    answer = _get(served, _of(stored), "application/dicom; transfer-syntax=*")
    is_plain = stored in (ImplicitVRLittleEndian, ExplicitVRBigEndian)
    ds = dcmread(io.BytesIO(answer.content))
    assert ds.file_meta.TransferSyntaxUID == (ExplicitVRLittleEndian if is_plain else stored)
    assert (ds.pixel_array == PIXELS).all()


def test_pixels_that_were_stored_with_loss_stay_as_they_are(served: Serving) -> None:
    path = f"{STUDY}/series/1.2.3.2/instances/1.2.3.1.{LOSSY}"
    for accept, target in (
        ("", JPEGBaseline8Bit),
        (_multipart("application/dicom"), JPEGBaseline8Bit),
        (_multipart("application/dicom", ExplicitVRLittleEndian), ExplicitVRLittleEndian),
    ):
        ((media_type, content),) = _parts(_get(served, path, accept))
        assert media_type == f"application/dicom; transfer-syntax={target}"
        assert dcmread(io.BytesIO(content)).file_meta.TransferSyntaxUID == target


@pytest.mark.parametrize("path", [STUDY, SERIES])
def test_a_study_or_series_is_all_of_its_objects(served: Serving, path: str) -> None:
    answer = _get(served, path, _multipart("application/dicom", "*"))
    found = [dcmread(io.BytesIO(content)).SOPInstanceUID for _, content in _parts(answer)]
    numbers = [*NUMBERS.values(), *((LOSSY, REPORT, SHORT) if path == STUDY else ())]
    assert sorted(found) == sorted(f"1.2.3.1.{number}" for number in numbers)


def test_objects_that_the_client_does_not_accept_are_left_out_with_status_206(
    served: Serving,
) -> None:
    accept = _multipart("application/dicom", JPEGBaseline8Bit)
    parts = _parts(_get(served, STUDY, accept, 206))
    assert [dcmread(io.BytesIO(content)).SOPInstanceUID for _, content in parts] == [
        f"1.2.3.1.{LOSSY}"
    ]


def test_one_object_can_be_sent_in_ranges(served: Serving) -> None:
    path, accept = _of(ExplicitVRLittleEndian), "application/dicom"
    whole = _get(served, path, accept)
    assert whole.headers["accept-ranges"] == "bytes"
    assert int(whole.headers["content-length"]) == len(whole.content)
    size = len(whole.content)
    for header, start, stop in (
        ("bytes=0-9", 0, 10),
        ("bytes=640-", 640, size),
        ("bytes=-100", size - 100, size),
    ):
        answer = _get(served, path, accept, 206, headers={"Range": header})
        assert answer.content == whole.content[start:stop]
        assert answer.headers["content-range"] == f"bytes {start}-{stop - 1}/{size}"
    for condition, status in ((whole.headers["etag"], 206), ('"other"', 200)):
        headers = {"Range": "bytes=0-9", "If-Range": condition}
        _get(served, path, accept, status, headers=headers)
    answer = _get(served, path, accept, 416, headers={"Range": f"bytes={size}-"})
    assert answer.headers["content-range"] == f"bytes */{size}"
    _get(served, path, accept, 304, headers={"If-None-Match": whole.headers["etag"]})


def test_the_head_of_an_object_has_its_size(served: Serving) -> None:
    answer = served.client.head(_of(RLELossless), params={"accept": "application/dicom"})
    assert (answer.status_code, answer.content) == (200, b"")


@pytest.mark.parametrize(
    ("path", "accept", "status", "reason"),
    [
        (STUDY, "application/dicom", 406, "parts of"),
        (STUDY, "application/json", 406, "parts of"),
        (_of(RLELossless), _multipart("application/dicom", ImplicitVRLittleEndian), 406, "parts"),
        (_of(RLELossless), _multipart("application/dicom", "1.2.3"), 406, "parts of"),
        (_of(RLELossless), "text", 400, "accept"),
        (f"{STUDY}/series/1.2.3.3/instances/1.2.3.1.{REPORT}",
         _multipart("application/dicom", RLELossless), 406, "no pixel data"),
        (f"{STUDY}/series/1.2.3.4", "", 406, "not a JPEG 2000 image"),
        (f"{STUDY}/series/1.2.3.9", "", 404, "no such object"),
        ("/dicom-web/studies/x", "", 404, "no such object"),
    ],
)  # fmt: skip
def test_what_cannot_be_sent_is_answered_with_its_reason(
    served: Serving, path: str, accept: str, status: int, reason: str
) -> None:
    assert reason in _get(served, path, accept, status).json()["detail"]


def test_a_response_breaks_off_where_an_object_cannot_be_converted(served: Serving) -> None:
    with pytest.raises(httpx.RemoteProtocolError):
        _get(served, STUDY, _multipart("application/dicom"))


# --- Frames ---


@pytest.mark.parametrize("stored", NUMBERS)
def test_frames_are_bytes_in_little_endian_by_default(served: Serving, stored: str) -> None:
    for accept in ("", _multipart("application/octet-stream", "*")):
        parts = _parts(_get(served, f"{_of(stored)}/frames/2,1", accept))
        assert [content for _, content in parts] == [PIXELS[1].tobytes(), PIXELS[0].tobytes()]
        types = {media_type for media_type, _ in parts}
        assert types == {f"application/octet-stream; transfer-syntax={ExplicitVRLittleEndian}"}


@pytest.mark.parametrize(
    ("media_type", "syntax"),
    [
        ("image/jls", JPEGLSLossless),
        ("image/jp2", JPEG2000Lossless),
        ("image/dicom-rle", RLELossless),
    ],
)
@pytest.mark.parametrize("stored", [ExplicitVRLittleEndian, ExplicitVRBigEndian, RLELossless])
def test_frames_are_sent_in_the_media_type_that_is_asked_for(
    served: Serving, stored: str, media_type: str, syntax: str
) -> None:
    ((found, content),) = _parts(_get(served, f"{_of(stored)}/frames/2", _multipart(media_type)))
    assert found == f"{media_type}; transfer-syntax={syntax}"
    single = _get(served, f"{_of(stored)}/frames/2", media_type)
    assert (single.headers["content-type"], single.content) == (found, content)
    ds = image_object(PIXELS[1], BitsStored=12)
    ds.PixelData = pydicom.encaps.encapsulate([content])
    ds["PixelData"].is_undefined_length = True
    ds.file_meta.TransferSyntaxUID = syntax
    assert (ds.pixel_array == PIXELS[1]).all()


def test_a_frame_with_loss_is_sent_as_it_is_stored(served: Serving) -> None:
    path = f"{STUDY}/series/1.2.3.2/instances/1.2.3.1.{LOSSY}/frames/1"
    ((media_type, content),) = _parts(_get(served, path))
    assert media_type == f"image/jpeg; transfer-syntax={JPEGBaseline8Bit}"
    assert content.startswith(b"\xff\xd8")
    octets = _get(served, path, "application/octet-stream").content
    ds = _lossy()
    ds.decompress(generate_instance_uid=False)
    assert octets == ds.PixelData[: len(octets)]
    assert len(octets) == 3 * ds.Rows * ds.Columns


@pytest.mark.parametrize(
    ("path", "accept", "status", "reason"),
    [
        (f"{_of(RLELossless)}/frames/3", "", 404, "the frames are 1 to 2"),
        (f"{_of(RLELossless)}/frames/1,3", "", 404, "the frames are 1 to 2"),
        (f"{_of(RLELossless)}/frames/0", "", 400, "first frame"),
        (f"{_of(RLELossless)}/frames/a", "", 400, "numbers"),
        (f"{_of(RLELossless)}/frames/1", "image/jpeg", 406, "image/dicom-rle"),
        (f"{_of(RLELossless)}/frames/1,2", "image/dicom-rle", 406, "parts of"),
        (f"{STUDY}/series/1.2.3.3/instances/1.2.3.1.{REPORT}/frames/1", "", 406, "no pixel data"),
        (f"{STUDY}/series/1.2.3.4/instances/1.2.3.1.{SHORT}/frames/1", "", 406, "JPEG 2000"),
    ],
)
def test_frames_that_cannot_be_sent_are_answered_with_the_reason(
    served: Serving, path: str, accept: str, status: int, reason: str
) -> None:
    assert reason in _get(served, path, accept, status).json()["detail"]


def test_what_is_retrieved_counts_as_used_where_unused_studies_are_deleted(
    tmp_path: Path,
) -> None:
    with serving(tmp_path, retention=Retention(max_unused=30.0)) as node:
        assert store(node.node, image_object(PIXELS[0])) == [0]
        index = node.node.archive.index
        for path, is_used in ((f"{STUDY}/thumbnail", False), (STUDY, True)):
            _get(node, path)
            with index.reading() as connection:
                used = connection.execute(select(study_use.c.study_instance_uid)).scalars().all()
            assert used == (["1.2.3"] if is_used else [])
