"""Image objects that tests make: their pixels are arrays of numpy, or any bytes."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import ExplicitVRLittleEndian
from running_node import make_object, write

from dicomwire.node.pixels.image import Image


def image_object(
    pixels: np.ndarray | bytes,
    syntax: str = ExplicitVRLittleEndian,
    number: int = 1,
    **elements: Any,
) -> Dataset:
    """Return an image object.

    Rows, columns, samples and bits are those of an array in the shape (rows, columns), (frames,
    rows, columns) or, for colours, (rows, columns, 3); or those of the `elements`.
    """
    described: dict[str, Any] = {"SamplesPerPixel": 1, "PhotometricInterpretation": "MONOCHROME2"}
    if isinstance(pixels, np.ndarray):
        shape = pixels.shape
        if shape[-1] == 3:
            described |= {"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB"}
            described |= {"PlanarConfiguration": 0}
            shape = shape[:-1]
        described |= {"Rows": shape[-2], "Columns": shape[-1]}
        if len(shape) == 3:
            described["NumberOfFrames"] = shape[0]
        bits = 8 * pixels.dtype.itemsize
        described |= {"BitsAllocated": bits, "BitsStored": bits, "HighBit": bits - 1}
        described["PixelRepresentation"] = int(pixels.dtype.kind == "i")
        pixels = pixels.tobytes()
    described |= elements
    if "BitsStored" in elements and "HighBit" not in elements:
        described["HighBit"] = max(elements["BitsStored"] - 1, 0)
    ds = make_object(number, syntax=syntax, **described)
    ds.PixelData = pixels + b"\0" * (len(pixels) % 2)
    ds["PixelData"].VR = "OB" if ds.get("BitsAllocated", 8) <= 8 else "OW"
    return ds


def compressed_object(
    frames: list[bytes], syntax: str, has_bot: bool = True, **elements: Any
) -> Dataset:
    """Return an object with encapsulated frames, of one fragment each."""
    ds = image_object(encapsulate(frames, has_bot=has_bot), syntax, **elements)
    ds["PixelData"].VR = "OB"
    ds["PixelData"].is_undefined_length = True
    return ds


def opened(path: Path, ds: Dataset) -> Image:
    """Write an object to a file, and open its image from memory."""
    return Image(io.BytesIO(write(path / "image.dcm", ds).read_bytes()))
