"""How a frame is to be rendered (PS3.18 Section 8.3.5.1)."""

from __future__ import annotations

from typing import NamedTuple

JPEG, PNG, GIF = "image/jpeg", "image/png", "image/gif"
QUALITY = 90
"""The quality of a JPEG image, from 1 to 100, unless a request states one."""
LINEAR, LINEAR_EXACT, SIGMOID = "LINEAR", "LINEAR_EXACT", "SIGMOID"
"""The functions of windows, as in VOI LUT Function (0028,1056)."""


class CannotRender(Exception):
    """An object cannot be rendered; the text says why, without values of the object."""


class Window(NamedTuple):
    """A window of the output of the Modality LUT (PS3.3 Section C.11.2.1.2)."""

    center: float
    width: float
    function: str = LINEAR


class Picture(NamedTuple):
    """How a frame is to be rendered.

    Attributes
    ----------
    size : tuple
        The most columns and rows; the picture is as large as fits, enlarged where necessary. None
        where the other one decides; without both, it is as large as the image.
    region : tuple of float, optional
        What part of the image to show: left, top, width and height in columns and rows of the
        image. A negative width or height flips the picture.
    annotation : tuple of str
        Of "patient" and "technique": what to write onto the picture.
    icc_profile : str
        "no", "yes" or "srgb".
    """

    media_type: str = JPEG
    window: Window | None = None
    size: tuple[int | None, int | None] = (None, None)
    region: tuple[float, float, float, float] | None = None
    quality: int | None = None
    annotation: tuple[str, ...] = ()
    icc_profile: str = "no"
