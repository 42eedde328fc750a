"""Converts single frames to another transfer syntax, without loss, for `renderers`."""

from __future__ import annotations

import sys

from pydicom.pixels.encoders.base import get_encoder
from pydicom.uid import UID

from dicomwire.data.codec import decode, encoding_of, is_uncompressed
from dicomwire.node.pixels.image import Shape
from dicomwire.node.pixels.picture import CannotRender
from dicomwire.node.pixels.samples import samples_of


def recoded(
    description: bytes,
    frame: bytes,
    transfer_syntax: str,
    shape: Shape,
    is_float: bool,
    target: str,
) -> bytes:
    """Return the bytes of a frame in another transfer syntax.

    A frame that is decoded is what it is in the whole object when that is decompressed: colours are
    RGB where pydicom can convert them, and pixel by pixel.

    Raises
    ------
    CannotRender
        When it cannot be decoded or encoded.
    """
    implicit, little, _ = encoding_of(transfer_syntax)
    try:
        ds = decode(description, implicit, little)
        words, photometric = samples_of(frame, transfer_syntax, ds, shape, is_float)
        data = words.tobytes() if sys.byteorder == "little" else words.byteswap().tobytes()
        if is_uncompressed(target):
            return data
        encoder = get_encoder(UID(target))
        return encoder.encode(
            data,
            rows=shape.rows,
            columns=shape.columns,
            samples_per_pixel=shape.samples,
            bits_allocated=8 * words.dtype.itemsize,
            bits_stored=int(ds.get("BitsStored") or shape.bits),
            pixel_representation=int(ds.get("PixelRepresentation") or 0),
            photometric_interpretation=photometric,
            number_of_frames=1,
            planar_configuration=0,
        )
    except CannotRender:
        raise
    except MemoryError:
        raise CannotRender("it takes more memory than it may") from None
    except Exception as error:  # pydicom and the libraries raise all kinds of errors
        text = f"it cannot be converted to {UID(target).name} ({type(error).__name__})"
        raise CannotRender(text) from None
