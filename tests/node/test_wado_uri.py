"""WADO-URI: an object or a picture of it, by query parameters."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pytest
from images import image_object
from PIL import Image as Pictures
from pydicom import dcmread
from pydicom.uid import BasicTextSRStorage, ExplicitVRLittleEndian, JPEGLSLossless, RLELossless
from running_node import make_object, store
from web_client import Serving, serving

PIXELS = np.arange(256, dtype=np.uint8).reshape(16, 16)
FRAMES = np.stack([PIXELS, 255 - PIXELS])


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """A node with an image, one of two frames, and a report."""
    with serving(tmp_path_factory.mktemp("uri")) as node:
        single = image_object(PIXELS, number=1)
        single.compress(RLELossless, generate_instance_uid=False)
        objects = [single, image_object(FRAMES, number=2), make_object(3, BasicTextSRStorage)]
        assert store(node.node, *objects) == [0] * 3
        yield node


def _get(served: Serving, number: int, status: int = 200, **parameters: str) -> httpx.Response:
    headers = {"Accept": parameters.pop("accept", "*/*")}
    asked: dict[str, Any] = {
        "requestType": "WADO",
        "studyUID": "1.2.3",
        "seriesUID": "1.2.3.1",
        "objectUID": f"1.2.3.1.{number}",
        **parameters,
    }
    asked = {name: value for name, value in asked.items() if value is not None}
    answer = served.client.get("/wado", params=asked, headers=headers)
    assert answer.status_code == status, answer.text
    return answer


def _pixels(answer: httpx.Response) -> np.ndarray:
    return np.asarray(Pictures.open(io.BytesIO(answer.content)))


@pytest.mark.parametrize(
    ("number", "media_type"),
    [(1, "image/jpeg"), (2, "application/dicom"), (3, "application/dicom")],
)
def test_only_an_image_of_one_frame_is_a_picture_by_default(
    served: Serving, number: int, media_type: str
) -> None:
    answer = _get(served, number)
    assert answer.headers["content-type"].partition(";")[0] == media_type


def test_a_picture_is_as_the_parameters_say(served: Serving) -> None:
    answer = _get(served, 1, contentType="image/png", windowCenter="128", windowWidth="256")
    assert (_pixels(answer) == PIXELS).all()
    answer = _get(served, 1, contentType="image/png", rows="8", columns="100")
    assert _pixels(answer).shape == (8, 8)
    answer = _get(served, 1, contentType="image/png", region="0.5,0,1,0.25")
    assert (_pixels(answer) == PIXELS[:4, 8:]).all()
    answer = _get(served, 2, contentType="image/png", frameNumber="2")
    assert (_pixels(answer) == FRAMES[1]).all()
    sizes = [len(_get(served, 1, imageQuality=quality).content) for quality in ("5", "95")]
    assert sizes[0] < sizes[1]
    assert _get(served, 1, annotation="patient,technique").headers["content-type"] == "image/jpeg"


def test_several_frames_are_a_picture_that_moves(served: Serving) -> None:
    answer = _get(served, 2, contentType="image/gif")
    assert Pictures.open(io.BytesIO(answer.content)).n_frames == 2


@pytest.mark.parametrize(
    ("parameters", "syntax"),
    [
        ({}, ExplicitVRLittleEndian),
        ({"transferSyntax": RLELossless}, RLELossless),
        ({"transferSyntax": JPEGLSLossless}, JPEGLSLossless),
    ],
)
def test_an_object_is_sent_in_the_transfer_syntax_that_is_asked_for(
    served: Serving, parameters: dict[str, str], syntax: str
) -> None:
    answer = _get(served, 1, contentType="application/dicom", **parameters)
    ds = dcmread(io.BytesIO(answer.content))
    assert ds.file_meta.TransferSyntaxUID == syntax
    assert (ds.pixel_array == PIXELS).all()


def test_the_header_field_decides_if_there_is_no_content_type(served: Serving) -> None:
    answer = _get(served, 1, accept="application/dicom, image/png;q=0.5")
    assert answer.headers["content-type"].startswith("application/dicom")


@pytest.mark.parametrize(
    ("number", "parameters", "status", "reason"),
    [
        (1, {"requestType": "QIDO"}, 400, "requestType"),
        (1, {"objectUID": ""}, 400, "objectUID is missing"),
        (1, {"studyUID": "1.2.4"}, 404, "no such object"),
        (1, {"objectUID": "x"}, 404, "no such object"),
        (1, {"anonymize": "yes"}, 400, "anonymize is not supported"),
        (1, {"presentationUID": "1.2"}, 400, "presentationUID is not supported"),
        (1, {"contentType": "image"}, 400, "contentType"),
        (1, {"contentType": "text/html"}, 406, "application/dicom"),
        (1, {"contentType": "application/dicom", "rows": "8"}, 400, "rows is for pictures"),
        (1, {"contentType": "application/dicom", "transferSyntax": "1.2"}, 406, "sent as"),
        (1, {"frameNumber": "2"}, 404, "the frames are 1 to 1"),
        (1, {"frameNumber": "x"}, 400, "numbers"),
        (1, {"windowCenter": "1"}, 400, "belong together"),
        (2, {"contentType": "image/jpeg"}, 406, "sent as"),
        (3, {"contentType": "image/jpeg"}, 406, "sent as"),
        (3, {"frameNumber": "1"}, 406, "no pixel data"),
    ],
)
def test_what_cannot_be_sent_is_answered_with_its_reason(
    served: Serving, number: int, parameters: dict[str, str], status: int, reason: str
) -> None:
    assert reason in _get(served, number, status, **parameters).json()["detail"]
