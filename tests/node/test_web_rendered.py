"""Rendered resources and thumbnails, as a browser asks for them."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pytest
from images import image_object
from PIL import Image as Pictures
from pydicom.uid import BasicTextSRStorage, DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian
from running_node import make_object, store
from web_client import Serving, serving

RAMP = np.arange(256, dtype=np.uint8).reshape(16, 16)
COLOURS = np.random.default_rng(1).integers(0, 256, (3, 8, 8, 3), np.uint8)
STUDY = "/dicom-web/studies/1.2.3"
SERIES = f"{STUDY}/series/1.2.3.1"
INSTANCES = f"{SERIES}/instances"
PNG = {"Accept": "image/png"}
_LARGE = {"Rows": 65535, "Columns": 65535, "SeriesInstanceUID": "1.2.9.1"}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """A node with a grey image, a report, a coloured one of three frames, and unusual ones."""
    with serving(tmp_path_factory.mktemp("rendered")) as node:
        objects = [
            image_object(RAMP, number=1),
            make_object(2, BasicTextSRStorage),
            image_object(COLOURS, number=3, NumberOfFrames=3, FrameTime=40),
            image_object(RAMP.astype(">u2"), ExplicitVRBigEndian, 4),
            image_object(RAMP, DeflatedExplicitVRLittleEndian, 5),
            image_object(RAMP.tobytes(), number=6, BitsAllocated=8, **_LARGE),
            image_object(RAMP, number=7, NumberOfFrames=2, SeriesInstanceUID="1.2.8.1"),
            make_object(8, BasicTextSRStorage, SeriesInstanceUID="1.2.7.1"),
        ]
        assert store(node.node, *objects) == [0] * 8
        yield node


def _get(served: Serving, path: str, status: int = 200, **options: Any) -> httpx.Response:
    answer = served.client.get(path, **options)
    assert answer.status_code == status, answer.text
    return answer


def _pixels(content: bytes) -> np.ndarray:
    return np.asarray(Pictures.open(io.BytesIO(content)))


def _parts(answer: httpx.Response) -> list[bytes]:
    """Return the contents of the parts of a response."""
    boundary = answer.headers["content-type"].rpartition("boundary=")[2]
    found: list[bytes] = []
    for piece in answer.content.split(f"--{boundary}".encode())[1:-1]:
        _, _, content = piece.partition(b"\r\n\r\n")
        found.append(content[:-2])
    return found


@pytest.mark.parametrize(
    ("accept", "media_type"),
    [
        ("", "image/jpeg"),
        ("*/*", "image/jpeg"),
        ("image/png", "image/png"),
        ("image/webp, image/png;q=0.5, image/gif;q=0.4", "image/png"),
        ("image/*", "image/jpeg"),
    ],
)
@pytest.mark.parametrize("path", ["/rendered", "/frames/1/rendered", "/thumbnail"])
def test_one_frame_is_one_picture(served: Serving, path: str, accept: str, media_type: str) -> None:
    answer = _get(served, f"{INSTANCES}/1.2.3.1.1{path}", headers={"Accept": accept})
    assert answer.headers["content-type"] == media_type
    assert Pictures.open(io.BytesIO(answer.content)).get_format_mimetype() == media_type


def test_parameters_of_the_query_decide_how_it_looks(served: Serving) -> None:
    path = f"{INSTANCES}/1.2.3.1.1/rendered"
    answer = _get(served, path, params={"window": "128,2,linear-exact", "accept": "image/png"})
    assert (_pixels(answer.content) == np.clip((RAMP.astype(int) - 127) * 128, 0, 255)).all()
    answer = _get(served, path, params={"viewport": "8,100"}, headers=PNG)
    assert _pixels(answer.content).shape == (8, 8)


@pytest.mark.parametrize("number", [4, 5])
def test_each_encoding_is_shown_alike(served: Serving, number: int) -> None:
    window = {"window": "127.5,255,linear-exact"}
    answer = _get(served, f"{INSTANCES}/1.2.3.1.{number}/rendered", headers=PNG, params=window)
    assert (_pixels(answer.content) == RAMP).all()


def test_several_frames_are_a_picture_that_moves(served: Serving) -> None:
    for path in ("/rendered", "/frames/1,2,3/rendered"):
        answer = _get(served, f"{INSTANCES}/1.2.3.1.3{path}", headers={"Accept": "image/gif"})
        moving = Pictures.open(io.BytesIO(answer.content))
        assert (moving.n_frames, moving.size, moving.info["duration"]) == (3, (8, 8), 40)
        for number in range(3):
            moving.seek(number)
            shown = np.asarray(moving.convert("RGB")).astype(int)
            assert np.abs(shown - COLOURS[number]).max() < 4  # 64 colours need no other ones


def test_several_frames_are_several_parts(served: Serving) -> None:
    accept = {"Accept": 'multipart/related; type="image/png"'}
    answer = _get(served, f"{INSTANCES}/1.2.3.1.3/frames/3,1/rendered", headers=accept)
    assert answer.headers["content-type"].startswith('multipart/related; type="image/png"')
    for part, number in zip(_parts(answer), (2, 0), strict=True):
        assert (_pixels(part) == COLOURS[number]).all()


def test_a_series_is_the_pictures_of_its_images(served: Serving) -> None:
    accept = {"Accept": 'multipart/related; type="image/png"'}
    parts = _parts(_get(served, f"{SERIES}/rendered", headers=accept))
    shapes = [_pixels(part).shape for part in parts]
    assert shapes == [(16, 16), *[(8, 8, 3)] * 3, (16, 16), (16, 16)]


@pytest.mark.parametrize("path", [STUDY, SERIES, f"{INSTANCES}/1.2.3.1.3"])
def test_a_thumbnail_is_one_small_picture(served: Serving, path: str) -> None:
    answer = _get(served, f"{path}/thumbnail")
    assert answer.headers["content-type"] == "image/jpeg"
    assert max(_pixels(answer.content).shape[:2]) == 128
    answer = _get(served, f"{path}/thumbnail", params={"viewport": "32,16"})
    assert _pixels(answer.content).shape[:2] == (16, 16)


def test_a_client_is_told_that_its_copy_is_still_right(served: Serving) -> None:
    path = f"{INSTANCES}/1.2.3.1.1/rendered"
    first = _get(served, path)
    tag = first.headers["etag"]
    for value in (tag, f'"x", W/{tag}', "*"):
        again = _get(served, path, 304, headers={"If-None-Match": value})
        assert (again.content, again.headers["etag"]) == (b"", tag)
    modified = {"If-Modified-Since": first.headers["last-modified"]}
    _get(served, path, 304, headers=modified)
    for other in ({"If-None-Match": '"x"'}, {"If-Modified-Since": "rubbish"}, modified | PNG):
        status = 304 if other == modified | PNG else 200
        _get(served, path, status, headers=other)
    assert _get(served, path, params={"quality": "50"}).headers["etag"] != tag


@pytest.mark.parametrize(
    ("path", "status", "reason"),
    [
        (f"{INSTANCES}/1.2.3.1.2/rendered", 406, "no pixel data"),
        (f"{INSTANCES}/1.2.3.1.2/thumbnail", 406, "no pixel data"),
        (f"{STUDY}/series/1.2.7.1/thumbnail", 406, "no pixel data"),
        (f"{STUDY}/series/1.2.9.1/thumbnail", 406, "more than 67108864 pixels"),
        (f"{STUDY}/series/1.2.9.1/rendered", 406, "shorter than it states"),
        (f"{STUDY}/series/1.2.8.1/instances/1.2.3.1.7/frames/2/rendered", 406, "shorter"),
        (f"{INSTANCES}/1.2.3.1.1/frames/2/rendered", 404, "the frames are 1 to 1"),
        (f"{INSTANCES}/1.2.3.1.1/frames/0/rendered", 400, "the first frame is 1"),
        (f"{INSTANCES}/1.2.3.1.1/frames/1,1/rendered", 400, "twice"),
        (f"{INSTANCES}/1.2.3.1.1/frames/x/thumbnail", 400, "numbers"),
        (f"{INSTANCES}/1.2.3.1.1/rendered?window=1", 400, "window"),
        (f"{INSTANCES}/1.2.3.1.1/rendered?viewport=9,9,99,0", 400, "outside"),
        (f"{INSTANCES}/1.2.3.1.1/rendered?accept=video/mpeg", 406, "image/jpeg"),
        (f"{INSTANCES}/1.2.3.1.1/rendered?accept=video", 400, "accept"),
        (f"{INSTANCES}/1.2.3.1.3/rendered?accept=image/jpeg", 406, "multipart/related"),
        (f"{INSTANCES}/1.2.3.1.9/rendered", 404, "no such object"),
        ("/dicom-web/studies/1.2.4/thumbnail", 404, "no such object"),
        ("/dicom-web/studies/%27%22%00/rendered", 404, "no such object"),
    ],
)
def test_what_cannot_be_shown_is_answered_with_its_reason(
    served: Serving, path: str, status: int, reason: str
) -> None:
    assert reason in _get(served, path, status).json()["detail"]
