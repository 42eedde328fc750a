"""From the bytes of a frame to its samples, and from colours of any kind to RGB."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.processing import apply_color_lut
from pydicom.uid import UID

from dicomwire.data.codec import is_uncompressed
from dicomwire.node.codestreams import UnknownFrame, shape_of
from dicomwire.node.pixels.image import MOST_PIXELS, Shape
from dicomwire.node.pixels.picture import CannotRender
from dicomwire.node.pixels.tones import Array

_WORDS = {8: "u1", 16: "<u2", 32: "<u4", 64: "<u8"}
_KEPT = 8
"""How many decoded frames are kept."""
_SMALL = 2**21
"""The most pixels of a frame that is kept: eight of three samples of 16 bits take 100 MB."""
_FLOATS = {32: "<f4", 64: "<f8"}


class Samples(NamedTuple):
    """The samples of a frame."""

    words: Array
    """Unsigned, in the shape (rows, columns) or (rows, columns, 3); or floating-point."""
    photometric: str
    """Of these samples: decoders convert some kinds of colours."""


def samples_of(
    frame: bytes, transfer_syntax: str, ds: Dataset, shape: Shape, is_float: bool
) -> Samples:
    """Return the samples of a frame.

    Raises
    ------
    CannotRender
        When it is too large, or is not what the dataset states.
    """
    if shape.rows * shape.columns > MOST_PIXELS:
        raise CannotRender(f"a frame has more than {MOST_PIXELS} pixels")
    if shape.samples not in (1, 3):
        raise CannotRender(f"a pixel has {shape.samples} samples")
    if not is_uncompressed(transfer_syntax):
        return _decompressed(frame, UID(transfer_syntax), ds, shape)
    if shape.bits == 1 and shape.samples == 1:
        bits = np.frombuffer(frame, np.uint8)
        words = np.unpackbits(bits, count=shape.rows * shape.columns, bitorder="little")
        return Samples(words.reshape(shape.rows, shape.columns), shape.photometric)
    code = (_FLOATS if is_float else _WORDS).get(shape.bits)
    if code is None:
        raise CannotRender(f"{shape.bits} bits allocated are not supported")
    words = np.frombuffer(frame, code)
    if shape.photometric == "YBR_FULL_422" and shape.samples == 3:
        return Samples(_upsampled(words, shape), "YBR_FULL")
    if shape.samples == 1:
        return Samples(words.reshape(shape.rows, shape.columns), shape.photometric)
    if ds.get("PlanarConfiguration"):
        planes = words.reshape(shape.samples, shape.rows, shape.columns)
        return Samples(planes.transpose(1, 2, 0), shape.photometric)
    return Samples(words.reshape(shape.rows, shape.columns, shape.samples), shape.photometric)


def _upsampled(words: Array, shape: Shape) -> Array:
    """Return YBR_FULL for YBR_FULL_422: two pixels are Y, Y, Cb, Cr (PS3.3 C.7.6.3.1.2)."""
    if shape.columns % 2:
        raise CannotRender("the number of columns of a YBR_FULL_422 image is odd")
    pairs = words.reshape(shape.rows, shape.columns // 2, 4)
    result = np.empty((shape.rows, shape.columns, 3), words.dtype)
    result[:, 0::2, 0], result[:, 1::2, 0] = pairs[..., 0], pairs[..., 1]
    for colour in (1, 2):
        result[:, 0::2, colour] = result[:, 1::2, colour] = pairs[..., 1 + colour]
    return result


def _decompressed(frame: bytes, syntax: UID, ds: Dataset, shape: Shape) -> Samples:
    check_header(frame, syntax, shape)
    stored = int(ds.get("BitsStored") or shape.bits)
    is_signed = int(ds.get("PixelRepresentation") or 0)
    is_planar = int(ds.get("PlanarConfiguration") or 0)
    is_small = shape.rows * shape.columns <= _SMALL
    decode = _decoded if is_small else _decoded.__wrapped__
    return decode(frame, syntax, shape._replace(frames=1), stored, is_signed, is_planar)


@lru_cache(maxsize=_KEPT)
def _decoded(
    frame: bytes, syntax: UID, shape: Shape, stored: int, is_signed: int, is_planar: int
) -> Samples:
    """Decode a frame; the last ones are kept, for those who look at one with several windows."""
    try:
        decoder: Any = get_decoder(syntax)
    except NotImplementedError:
        raise CannotRender(f"there is no codec for {syntax.name}") from None
    if not decoder.is_available:
        raise CannotRender(f"no codec for {syntax.name} (pip install 'dicomwire[codecs]')")
    options = {
        "rows": shape.rows,
        "columns": shape.columns,
        "samples_per_pixel": shape.samples,
        "bits_allocated": shape.bits,
        "bits_stored": stored,
        "pixel_representation": is_signed,
        "photometric_interpretation": shape.photometric,
        "number_of_frames": 1,
        "planar_configuration": is_planar,
        "pixel_keyword": "PixelData",
    }
    try:
        words, found = decoder.as_array(encapsulate([frame]), index=0, as_rgb=True, **options)
    except Exception as error:  # pydicom, its plugins and their libraries raise all kinds of errors
        raise CannotRender(f"a frame cannot be decoded ({type(error).__name__})") from None
    if words.dtype.kind == "i":
        words = words.view(f"u{words.dtype.itemsize}")
    words.flags.writeable = False
    return Samples(words, str(found["photometric_interpretation"]))


def check_header(frame: bytes, syntax: str, shape: Shape) -> None:
    """Raise CannotRender if the header of a compressed frame states another size than the dataset.

    Decoders allocate memory by the header, which may state any size in a few bytes.
    """
    try:
        found = shape_of(frame, syntax)
    except UnknownFrame as error:
        raise CannotRender(str(error)) from None
    wanted = (shape.rows, shape.columns, shape.samples)
    if found.bits is not None and found.bits > shape.bits:
        raise CannotRender("a frame and its dataset state different sizes")
    for stated, expected in zip(found[:3], wanted, strict=True):
        if stated is not None and stated != expected:
            raise CannotRender("a frame and its dataset state different sizes")


# --- Colours ----------------------------------------------------------------------------------

_COLOURS_OF_YBR = np.array(
    [[1, 1, 1], [0, -0.344136, 1.772], [1.402, -0.714136, 0]], np.float32
)  # PS3.3 Section C.7.6.3.1.2: the inverse of the matrix of ITU-R BT.601


def colours(samples: Samples, ds: Dataset) -> Array:
    """Return RGB of eight bits per colour.

    Raises
    ------
    CannotRender
        When the photometric interpretation is not known.
    """
    words, photometric = samples
    stored = int(ds.get("BitsStored") or 8 * words.dtype.itemsize)
    if photometric == "PALETTE COLOR":
        return _from_palette(words, ds)
    if words.ndim != 3:
        raise CannotRender("the photometric interpretation does not fit the samples")
    if photometric in ("RGB", "YBR_ICT", "YBR_RCT"):  # decoders return RGB for these
        return _of_eight_bits(words, stored)
    if photometric in ("YBR_FULL", "YBR_FULL_422"):
        ybr = _of_eight_bits(words, stored).astype(np.float32)
        ybr[..., 1:] -= 128
        rgb = ybr @ _COLOURS_OF_YBR
        levels: Array = np.floor(np.clip(rgb, 0, 255) + 0.5).astype(np.uint8)
        return levels
    raise CannotRender(f"the photometric interpretation {_known(photometric)} is not supported")


def _known(photometric: str) -> str:
    """Return the name of a photometric interpretation if it is one of the standard's."""
    known = ("HSV", "ARGB", "CMYK", "YBR_PARTIAL_422", "YBR_PARTIAL_420", "XYB")
    return photometric if photometric in known else "of the object"


def _of_eight_bits(words: Array, stored: int) -> Array:
    if stored > 8:
        words = words >> (stored - 8)
    return words.astype(np.uint8)


def _from_palette(words: Array, ds: Dataset) -> Array:
    try:
        rgb = apply_color_lut(words, ds)
        bits = int(ds.RedPaletteColorLookupTableDescriptor[2])
    except Exception as error:  # as above
        raise CannotRender(f"its palette cannot be applied ({type(error).__name__})") from None
    return _of_eight_bits(rgb[..., :3], max(bits, 8 * rgb.dtype.itemsize if bits > 8 else 8))
