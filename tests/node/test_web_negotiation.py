"""What of Accept, Range and query parameters is understood, and what becomes of the rest."""

from __future__ import annotations

import math
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicomwire.node.pixels.image import Shape
from dicomwire.node.pixels.picture import LINEAR_EXACT, SIGMOID, Picture, Window
from dicomwire.node.web.byte_ranges import ByteRange, Unsatisfiable, byte_range
from dicomwire.node.web.media_types import Chosen, Form, InvalidAccept, accepted, choose
from dicomwire.node.web.picturing import (
    InvalidParameter,
    frame_numbers,
    picture_of,
    picture_of_uri,
    within,
)

EXPLICIT, JPEG, LOSSLESS, JLS = (
    "1.2.840.10008.1.2.1",
    "1.2.840.10008.1.2.4.50",
    "1.2.840.10008.1.2.4.70",
    "1.2.840.10008.1.2.4.80",
)
STORED = Form("image/jls", JLS)
PLAIN = Form("application/octet-stream", EXPLICIT, is_default=True)
LESS = Form("image/jpeg", JPEG, is_usual=False)
FORMS = (STORED, PLAIN, LESS)
PARTS = 'multipart/related; type="{}"'


@pytest.mark.parametrize(
    ("accept", "form", "is_multipart"),
    [
        ("", PLAIN, True),
        ("*/*", PLAIN, True),
        ("multipart/related", PLAIN, True),
        ("text/html, */*;q=0.1", PLAIN, True),
        ("*/*; q=0", None, None),
        ("text/html", None, None),
        ("image/jls", STORED, False),
        ("IMAGE/JLS", STORED, False),
        (PARTS.format("image/jls"), STORED, True),
        ("multipart/related; type=image/jls", STORED, True),
        ('multipart/related; type="image/*"', STORED, True),
        ("image/*", STORED, False),
        ("image/jpeg", None, None),
        (f"image/jpeg; transfer-syntax={JPEG}", LESS, False),
        (f'image/jpeg; transfer-syntax="{JPEG}"', LESS, False),
        ("image/jpeg; transfer-syntax=*", LESS, False),
        (f"image/jls; transfer-syntax={JPEG}", None, None),
        ("application/octet-stream, image/jls", STORED, False),
        ("application/octet-stream, image/jls; q=0.9", PLAIN, False),
        ("image/*; q=0.9, image/jls; q=0", None, None),
        (f"image/jpeg; transfer-syntax={JPEG}; q=0.9, image/*; q=0.5", LESS, False),
        (f"{PARTS.format('image/jls')}, application/octet-stream; q=0.5", STORED, True),
        ("image/jls; charset=utf-8; q=0.5; level=1", STORED, False),
        (" , image/jls ,, ", STORED, False),
        ('image/jls; comment="a, b; \\"c\\""', STORED, False),
    ],
)  # fmt: skip
def test_the_representation_that_the_client_prefers_is_chosen(
    accept: str, form: Form | None, is_multipart: bool | None
) -> None:
    expected = None if form is None else Chosen(form, bool(is_multipart))
    assert choose(accepted(accept), FORMS) == expected


def test_a_resource_of_several_parts_is_not_sent_as_one() -> None:
    forms = [form._replace(kinds=(True,)) for form in FORMS]
    assert choose(accepted("image/jls"), forms) is None
    assert choose(accepted("*/*"), forms) == Chosen(forms[1], True)


@pytest.mark.parametrize(
    "accept",
    ["jpeg", "image/", "image/jls image/jpeg", "image/jls; q=2", "image/jls; q=x", 'a/b; c="',
     "a/b," * 300, "image/jls; q=0.1234", "image/jls; =1", "é/b"],
)  # fmt: skip
def test_what_is_no_list_of_media_types_is_refused(accept: str) -> None:
    with pytest.raises(InvalidAccept):
        accepted(accept)


_PIECES = st.sampled_from(
    ["image/jls", "*/*", "multipart/related", ";", ",", " ", "q=", "0.5", '"', "\\", "type=", "*",
     'type="image/jls"', "transfer-syntax=", EXPLICIT, "=", "é", "\0", "/"]
)  # fmt: skip


@given(st.lists(_PIECES, max_size=20).map("".join) | st.text(max_size=40))
def test_any_text_is_understood_or_refused(accept: str) -> None:
    try:
        ranges = accepted(accept)
    except InvalidAccept:
        return
    chosen = choose(ranges, FORMS)
    assert chosen is None or chosen.form in FORMS


# --- Range ---


@pytest.mark.parametrize(
    ("header", "found"),
    [
        ("bytes=0-9", (0, 10)),
        ("bytes=90-", (90, 100)),
        ("bytes=90-1000", (90, 100)),
        ("bytes=-10", (90, 100)),
        ("bytes=-1000", (0, 100)),
        ("Bytes = 5 - 5 ", (5, 6)),
        ("bytes=9-0", None),
        ("bytes=-", None),
        ("bytes=0-1,5-6", None),
        ("items=0-1", None),
        ("bytes=a-b", None),
        ("", None),
    ],
)
def test_one_range_of_bytes_is_understood(header: str, found: tuple[int, int] | None) -> None:
    expected = None if found is None else ByteRange(*found, 100)
    assert byte_range({"range": header}, 100) == expected


@pytest.mark.parametrize("header", ["bytes=100-", "bytes=100-200", "bytes=-0"])
def test_a_range_after_the_end_cannot_be_satisfied(header: str) -> None:
    with pytest.raises(Unsatisfiable) as caught:
        byte_range({"range": header}, 100)
    assert caught.value.content_range == "bytes */100"


def test_a_range_of_another_version_is_not_sent() -> None:
    headers = {"range": "bytes=1-2", "if-range": '"one"'}
    assert byte_range(headers, 100, '"one"') == ByteRange(1, 3, 100)
    assert byte_range(headers, 100, '"two"') is None


@given(st.text("bytes=-,0123456789 x", max_size=30) | st.text(max_size=30), st.integers(0, 1000))
def test_any_range_is_within_the_size(header: str, size: int) -> None:
    for text in (header, f"bytes={header}"):
        try:
            found = byte_range({"range": text}, size)
        except Unsatisfiable:
            continue
        assert found is None or 0 <= found.start < found.stop <= size


# --- Query parameters ---


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ({}, {}),
        ({"window": "40,400"}, {"window": Window(40, 400)}),
        ({"window": "40.5,4e2,sigmoid"}, {"window": Window(40.5, 400, SIGMOID)}),
        ({"window": "-1,0.5,linear-exact"}, {"window": Window(-1, 0.5, LINEAR_EXACT)}),
        ({"viewport": "100,50"}, {"size": (100, 50)}),
        (
            {"viewport": "100,50,1,2,3.5,-4"},
            {"size": (100, 50), "region": (1.0, 2.0, 3.5, -4.0)},
        ),
        ({"viewport": "9,9,,,5,"}, {"size": (9, 9), "region": (0.0, 0.0, 5.0, math.inf)}),
        ({"quality": "75"}, {"quality": 75}),
        ({"annotation": "patient,technique"}, {"annotation": ("patient", "technique")}),
        ({"iccprofile": "srgb"}, {"icc_profile": "srgb"}),
        ({"unknown": "x"}, {}),
    ],
)
def test_parameters_of_rendering_are_understood(
    parameters: dict[str, str], expected: dict[str, object]
) -> None:
    assert picture_of(parameters, "image/png") == Picture("image/png")._replace(**expected)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("window", ""), ("window", "40"), ("window", "40,0.5"), ("window", "40,0,sigmoid"),
        ("window", "nan,400"), ("window", "40,400,cubic"), ("window", "1,2,linear,4"),
        ("viewport", "0,100"), ("viewport", "100"), ("viewport", "1.5,100"),
        ("viewport", "32768,32768"), ("viewport", "9,9,-1,0"), ("viewport", "9,9,0,0,0,5"),
        ("viewport", "9,9,inf,0"), ("viewport", "1,2,3,4,5,6,7"), ("viewport", "99999,1"),
        ("quality", "0"), ("quality", "101"), ("quality", "x"), ("quality", "1.5"),
        ("annotation", "name"), ("annotation", ""), ("iccprofile", "adobergb"),
    ],
)  # fmt: skip
def test_parameters_of_rendering_that_make_no_sense_are_refused(name: str, value: str) -> None:
    with pytest.raises(InvalidParameter, match=name):
        picture_of({name: value}, "image/jpeg")


SHAPE = Shape(100, 200, 1, 8, 1, "MONOCHROME2")


def test_a_thumbnail_has_a_size_and_no_region() -> None:
    assert picture_of({}, "image/jpeg", True).size == (128, 128)
    assert picture_of({"viewport": "64,32"}, "image/jpeg", True).size == (64, 32)
    with pytest.raises(InvalidParameter):
        picture_of({"viewport": "64,32,0,0,1,1"}, "image/jpeg", True)


def test_a_region_is_within_the_image() -> None:
    picture = Picture(region=(150.0, 50.0, 100.0, -math.inf))
    assert within(picture, SHAPE).region == (150, 50, 50, -50)
    assert within(Picture(), SHAPE) == Picture()
    for region in ((200.0, 0.0, 1.0, 1.0), (0.0, 100.0, 1.0, 1.0)):
        with pytest.raises(InvalidParameter, match="outside"):
            within(Picture(region=region), SHAPE)


def test_the_parameters_of_wado_uri_are_understood() -> None:
    parameters = {"windowCenter": "40", "windowWidth": "400", "rows": "50"}
    parameters |= {"region": "0.25,0,0.75,0.5", "imageQuality": "80", "annotation": "patient"}
    expected = Picture(
        "image/png", Window(40, 400), (None, 50), (50.0, 0.0, 100.0, 50.0), 80, ("patient",)
    )
    assert picture_of_uri(parameters, "image/png", SHAPE) == expected


@pytest.mark.parametrize(
    "parameters",
    [
        {"windowCenter": "40"},
        {"rows": "0"},
        {"columns": "x"},
        {"region": "0,0,1"},
        {"region": "0.5,0,0.5,1"},
        {"region": "0,0,1,1.5"},
        {"imageQuality": "0"},
    ],
)
def test_parameters_of_wado_uri_that_make_no_sense_are_refused(parameters: dict[str, str]) -> None:
    with pytest.raises(InvalidParameter):
        picture_of_uri(parameters, "image/jpeg", SHAPE)


@given(st.sets(st.integers(1, 10**6), min_size=1, max_size=50).map(list))
def test_a_list_of_frames_is_understood(numbers: list[int]) -> None:
    assert frame_numbers(",".join(map(str, numbers))) == numbers


@pytest.mark.parametrize(
    "text", ["", "0", "1,", ",1", "1,1", "-1", "1.0", "x", "1 ,2", "٣", "9" * 20]
)
def test_what_is_no_list_of_frames_is_refused(text: str) -> None:
    with pytest.raises(InvalidParameter):
        frame_numbers(text)


_VALUES = st.text("0123456789.,-+einfa ", max_size=20) | st.text(max_size=10)


@given(st.dictionaries(st.sampled_from(["window", "viewport", "quality", "region"]), _VALUES))
def test_any_parameters_are_understood_or_refused(parameters: dict[str, str]) -> None:
    for understand in (
        lambda: within(picture_of(parameters, "image/jpeg"), SHAPE),
        lambda: picture_of_uri(parameters, "image/jpeg", SHAPE),
        lambda: frame_numbers(parameters.get("window", "")),
    ):
        with suppress(InvalidParameter):
            understand()
