"""Makes a picture of a frame: decoding, grey levels or colours, size, annotation, encoding.

PS3.18 Section 8.3.5.1. It runs in the processes of `renderers`.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import numpy as np
from PIL import Image as Pictures
from PIL import ImageCms, ImageDraw, ImageFont
from pydicom.dataset import Dataset

from dicomwire.data.codec import decode, encoding_of
from dicomwire.node.pixels.image import MOST_PIXELS, Shape
from dicomwire.node.pixels.picture import GIF, JPEG, PNG, QUALITY, CannotRender, Picture
from dicomwire.node.pixels.samples import Samples, colours, samples_of
from dicomwire.node.pixels.tones import (
    grey,
    grey_of_floats,
    is_inverted,
    pixel_spacing,
    tones_of,
    voi_of,
)

_FORMATS = {JPEG: "JPEG", PNG: "PNG", GIF: "GIF"}
_COMPRESSION = 1
"""Of PNG: higher levels take up to five times the time, to save a tenth of the bytes."""
_MOST_SIDE = 2**15
"""The most rows or columns of a picture."""
_GREY = ("MONOCHROME1", "MONOCHROME2")


def rendered(
    description: bytes,
    frame: bytes,
    transfer_syntax: str,
    shape: Shape,
    is_float: bool,
    picture: Picture,
) -> bytes:
    """Return the picture of a frame, as a file.

    Parameters
    ----------
    description, frame : bytes
        Of `image.Image`.

    Raises
    ------
    CannotRender
    """
    implicit, little, _ = encoding_of(transfer_syntax)
    try:
        ds = decode(description, implicit, little)
        samples = samples_of(frame, transfer_syntax, ds, shape, is_float)
        drawn = _drawn(samples, ds, picture)
        return _encoded(_fitted(drawn, ds, picture), ds, picture)
    except CannotRender:
        raise
    except MemoryError:
        raise CannotRender("it takes more memory than it may") from None
    except Exception as error:  # pydicom and the libraries raise all kinds of errors
        raise CannotRender(f"it cannot be rendered ({type(error).__name__})") from None


def _drawn(samples: Samples, ds: Dataset, picture: Picture) -> Pictures.Image:
    """Return a frame in grey levels or in RGB, of its own size."""
    words = samples.words
    if words.ndim == 3 or samples.photometric == "PALETTE COLOR":
        return Pictures.fromarray(np.ascontiguousarray(colours(samples, ds)))
    if samples.photometric not in _GREY:
        raise CannotRender("the photometric interpretation does not fit the samples")
    if words.dtype.kind == "f":
        levels = grey_of_floats(words, picture.window or voi_of(ds), is_inverted(ds))
    else:
        levels = grey(words, tones_of(ds, 8 * words.dtype.itemsize, picture.window))
    return Pictures.fromarray(levels)


# --- Size -------------------------------------------------------------------------------------


def _fitted(drawn: Pictures.Image, ds: Dataset, picture: Picture) -> Pictures.Image:
    """Return the region of a frame in the size that was asked for, with square pixels."""
    left, top, width, height = picture.region or (0, 0, *drawn.size)
    across, down = abs(width), abs(height)
    box = (left, top, min(left + across, drawn.width), min(top + down, drawn.height))
    size = _size(box[2] - box[0], box[3] - box[1], _aspect(ds), picture.size)
    if box != (0, 0, *drawn.size) or size != drawn.size:
        drawn = drawn.resize(size, Pictures.Resampling.BILINEAR, box, reducing_gap=2.0)
    if width < 0:
        drawn = drawn.transpose(Pictures.Transpose.FLIP_LEFT_RIGHT)
    if height < 0:
        drawn = drawn.transpose(Pictures.Transpose.FLIP_TOP_BOTTOM)
    return drawn


def _size(
    columns: float, rows: float, aspect: float, most: tuple[int | None, int | None]
) -> tuple[int, int]:
    """Return columns and rows of a picture, for those of the image that it shows."""
    if aspect > 1:
        rows *= aspect
    else:
        columns /= aspect
    scales = [
        limit / size for limit, size in zip(most, (columns, rows), strict=True) if limit is not None
    ]
    scale = min(scales, default=1.0)
    size = max(round(columns * scale), 1), max(round(rows * scale), 1)
    if max(size) > _MOST_SIDE or size[0] * size[1] > MOST_PIXELS:
        raise CannotRender("the picture would be too large")
    return size


def _aspect(ds: Dataset) -> float:
    """Return the height of a pixel as a multiple of its width."""
    for values in pixel_spacing(ds):
        if values is not None and not isinstance(values, str) and len(values) == 2:
            down, across = (float(value) for value in values)
            if down > 0 and across > 0 and 0.02 < down / across < 50:
                aspect = down / across
                return 1.0 if abs(aspect - 1) < 0.005 else aspect
    return 1.0


# --- Annotation -------------------------------------------------------------------------------

_PATIENT = ("PatientName", "PatientID", "PatientBirthDate", "PatientSex")
_TECHNIQUE = (
    ("{}", "Modality"),
    ("{}", "SeriesDescription"),
    ("Series {}", "SeriesNumber"),
    ("Image {}", "InstanceNumber"),
    ("{} kV", "KVP"),
    ("{} mA", "XRayTubeCurrent"),
    ("TR {} ms", "RepetitionTime"),
    ("TE {} ms", "EchoTime"),
    ("{} mm", "SliceThickness"),
)
_LONGEST_LINE = 64


def _annotate(drawn: Pictures.Image, ds: Dataset, wanted: tuple[str, ...]) -> None:
    """Write lines onto a picture: the patient at the top, the technique at the bottom."""
    size = max(drawn.height // 36, 9)
    font: Any = ImageFont.load_default(size)
    draw = ImageDraw.Draw(drawn)
    inks: dict[str, Any] = {"fill": 255, "stroke_fill": 0, "stroke_width": 1, "font": font}
    if drawn.mode == "RGB":
        inks.update(fill=(255, 255, 255), stroke_fill=(0, 0, 0))
    step = size * 5 // 4
    if "patient" in wanted:
        for at, line in enumerate(_lines([("{}", keyword) for keyword in _PATIENT], ds)):
            draw.text((size // 2, size // 2 + at * step), line, **inks)
    if "technique" in wanted:
        lines = list(_lines(_TECHNIQUE, ds))
        bottom = drawn.height - size // 2 - len(lines) * step
        for at, line in enumerate(lines):
            draw.text((size // 2, bottom + at * step), line, **inks)


def _lines(wanted: Any, ds: Dataset) -> Iterator[str]:
    for form, keyword in wanted:
        value = str(ds.get(keyword) or "").strip()
        if value:
            printable = "".join(each for each in value if each.isprintable())
            yield form.format(printable[:_LONGEST_LINE])


# --- Encoding ---------------------------------------------------------------------------------


def _encoded(drawn: Pictures.Image, ds: Dataset, picture: Picture) -> bytes:
    options: dict[str, Any] = {}
    if drawn.mode == "RGB" and picture.icc_profile != "no":
        drawn, options["icc_profile"] = _profiled(drawn, ds, picture.icc_profile)
    if picture.annotation:
        _annotate(drawn, ds, picture.annotation)
    if picture.media_type == JPEG:
        options["quality"] = picture.quality or QUALITY
    elif picture.media_type == PNG:
        options["compress_level"] = _COMPRESSION
    elif picture.media_type == GIF:
        options.clear()  # it has no place for a profile
    output = io.BytesIO()
    drawn.save(output, _FORMATS[picture.media_type], **options)
    return output.getvalue()


def _profiled(drawn: Pictures.Image, ds: Dataset, wanted: str) -> tuple[Pictures.Image, bytes]:
    """Return a picture and the profile of its colours: its own, or sRGB."""
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
    own = _own_profile(ds)
    if own is None:  # images without a profile are shown as sRGB
        return drawn, srgb.tobytes()
    if wanted == "yes":
        return drawn, own
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(own))
        converted = ImageCms.profileToProfile(drawn, source, srgb, outputMode="RGB")
    except (ImageCms.PyCMSError, OSError):
        raise CannotRender("its colour profile cannot be used") from None
    assert converted is not None
    return converted, srgb.tobytes()


def _own_profile(ds: Dataset) -> bytes | None:
    for each in (ds, *(ds.get("OpticalPathSequence") or ())):
        profile = each.get("ICCProfile")
        if profile:
            return bytes(profile)
    return None
