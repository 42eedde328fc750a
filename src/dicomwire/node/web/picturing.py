"""The query parameters of rendered resources (PS3.18 Section 8.3.5, and 9.1.2 for WADO-URI)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from dicomwire.node.pixels.image import MOST_PIXELS, Shape
from dicomwire.node.pixels.picture import LINEAR, LINEAR_EXACT, SIGMOID, Picture, Window

_FUNCTIONS = {"linear": LINEAR, "linear-exact": LINEAR_EXACT, "sigmoid": SIGMOID}
_ANNOTATIONS = ("patient", "technique")
_PROFILES = ("no", "yes", "srgb")
_MOST_SIDE = 2**15
THUMBNAIL = 128
"""The most rows and columns of a thumbnail, unless a request states them."""

Parameters = Mapping[str, str]


class InvalidParameter(ValueError):
    """A query parameter has a value that is not allowed; the text says which and why."""


def picture_of(parameters: Parameters, media_type: str, is_thumbnail: bool = False) -> Picture:
    """Return how to render a frame, by the query parameters of WADO-RS.

    A region that was asked for is in the picture; `check_region` compares it with an image.

    Raises
    ------
    InvalidParameter
    """
    size: tuple[int | None, int | None] = (None, None)
    region = None
    viewport = parameters.get("viewport")
    if viewport is not None:
        size, region = _viewport(viewport, is_thumbnail)
    elif is_thumbnail:
        size = THUMBNAIL, THUMBNAIL
    return Picture(
        media_type,
        _value(parameters, "window", _window),
        size,
        region,
        _value(parameters, "quality", _quality),
        _value(parameters, "annotation", _annotation) or (),
        _value(parameters, "iccprofile", _profile) or "no",
    )


def _value(parameters: Parameters, name: str, read: Callable[[str], Any]) -> Any:
    text = parameters.get(name)
    return None if text is None else read(text)


def _numbers(name: str, texts: list[str]) -> list[float]:
    try:
        numbers = [float(text) for text in texts]
    except ValueError:
        raise InvalidParameter(f"{name} has a value that is not a number") from None
    if not all(map(math.isfinite, numbers)):
        raise InvalidParameter(f"{name} has a value that is not a number")
    return numbers


def window(center: str, width: str, function: str = "linear") -> Window:
    """Return a window; InvalidParameter if it is none."""
    numbers = _numbers("window", [center, width])
    name = _FUNCTIONS.get(function.strip().lower())
    if name is None:
        raise InvalidParameter("the function of window is linear, linear-exact or sigmoid")
    if numbers[1] < 1 if name == LINEAR else numbers[1] <= 0:
        raise InvalidParameter("the width of window is too small for its function")
    return Window(numbers[0], numbers[1], name)


def _window(text: str) -> Window:
    parts = text.split(",")
    if len(parts) not in (2, 3):
        raise InvalidParameter("window is center,width,function")
    return window(*parts)


def _quality(text: str) -> int:
    (number,) = _numbers("quality", [text])
    if not 1 <= number <= 100 or number % 1:
        raise InvalidParameter("quality is a whole number from 1 to 100")
    return int(number)


def _annotation(text: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(","))
    if not set(names) <= set(_ANNOTATIONS):
        raise InvalidParameter("annotation is patient, technique or both")
    return names


def _profile(text: str) -> str:
    if text not in _PROFILES:
        raise InvalidParameter("iccprofile is no, yes or srgb")
    return text


def side(name: str, text: str) -> int:
    """Return a number of rows or columns; InvalidParameter if it is none."""
    (number,) = _numbers(name, [text])
    if not 1 <= number <= _MOST_SIDE or number % 1:
        raise InvalidParameter(f"{name} has a size that is not from 1 to {_MOST_SIDE}")
    return int(number)


def _viewport(
    text: str, is_thumbnail: bool
) -> tuple[tuple[int, int], tuple[float, float, float, float] | None]:
    """Return size and region of ``vw,vh,sx,sy,sw,sh`` (PS3.18 Section 8.3.5.1.3).

    The region is in pixels of the image; infinity stands for all of its rows or columns.
    """
    parts = [part.strip() for part in text.split(",")]
    if len(parts) not in ((2,) if is_thumbnail else (2, 3, 4, 5, 6)):
        form = "vw,vh" if is_thumbnail else "vw,vh or vw,vh,sx,sy,sw,sh"
        raise InvalidParameter(f"viewport is {form}")
    size = side("viewport", parts[0]), side("viewport", parts[1])
    if size[0] * size[1] > MOST_PIXELS:
        raise InvalidParameter(f"viewport has more than {MOST_PIXELS} pixels")
    if len(parts) == 2:
        return size, None
    left, top = _numbers("viewport", [part or "0" for part in (*parts[2:4], "0")[:2]])
    width, height = (
        _numbers("viewport", [part])[0] if part else math.inf for part in (*parts[4:], "", "")[:2]
    )
    if left < 0 or top < 0 or not width or not height:
        raise InvalidParameter("viewport has a region outside of every image")
    return size, (left, top, width, height)


def within(picture: Picture, shape: Shape) -> Picture:
    """Return a picture whose region is one of an image; InvalidParameter if it is outside of it."""
    if picture.region is None:
        return picture
    left, top, width, height = picture.region
    if left >= shape.columns or top >= shape.rows:
        raise InvalidParameter("the region is outside of the image")
    most = shape.columns - left, shape.rows - top
    return picture._replace(
        region=(
            left,
            top,
            math.copysign(min(abs(width), most[0]), width),
            math.copysign(min(abs(height), most[1]), height),
        )
    )


# --- WADO-URI ---------------------------------------------------------------------------------


def picture_of_uri(parameters: Parameters, media_type: str, shape: Shape) -> Picture:
    """Return how to render a frame, by the query parameters of WADO-URI.

    Raises
    ------
    InvalidParameter
    """
    voi = None
    center, width = parameters.get("windowCenter"), parameters.get("windowWidth")
    if (center is None) != (width is None):
        raise InvalidParameter("windowCenter and windowWidth belong together")
    if center is not None and width is not None:
        voi = window(center, width)
    columns, rows = (
        _value(parameters, name, lambda text, name=name: side(name, text))  # type: ignore[misc]
        for name in ("columns", "rows")
    )
    return Picture(
        media_type,
        voi,
        (columns, rows),
        _value(parameters, "region", lambda text: _region(text, shape)),
        _value(parameters, "imageQuality", _quality),
        _value(parameters, "annotation", _annotation) or (),
    )


def _region(text: str, shape: Shape) -> tuple[float, float, float, float]:
    parts = text.split(",")
    if len(parts) != 4:
        raise InvalidParameter("region is four numbers from 0 to 1")
    left, top, right, bottom = _numbers("region", parts)
    if not (0 <= left < right <= 1 and 0 <= top < bottom <= 1):
        raise InvalidParameter("region is left,top,right,bottom with numbers from 0 to 1")
    size = shape.columns, shape.rows
    return left * size[0], top * size[1], (right - left) * size[0], (bottom - top) * size[1]


def frame_numbers(text: str) -> list[int]:
    """Return the numbers in a list of frames, the first frame being 1 (PS3.18 Table 10.1.1-1).

    Raises
    ------
    InvalidParameter
        When it is not a list of numbers, or has one of them twice.
    """
    parts = text.split(",")
    if not all(part.isascii() and part.isdecimal() and len(part) < 12 for part in parts):
        raise InvalidParameter("frames are numbers with commas between them")
    numbers = [int(part) for part in parts]
    if min(numbers) < 1:
        raise InvalidParameter("the first frame is 1")
    if len(set(numbers)) < len(numbers):
        raise InvalidParameter("a frame is listed twice")
    return numbers
