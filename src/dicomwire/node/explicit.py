"""An object that is stored in Implicit VR Little Endian as one in Explicit VR, piece by piece.

The words of its pixel data are the same, so they need not be in memory.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import BinaryIO

from dicomwire.data.codec import decode, encode_dataset
from dicomwire.data.encodings import DatasetError
from dicomwire.data.file_meta import file_head, parse_file_meta
from dicomwire.node.pixels.outline import PIXEL_DATA, Element, Outline

EXPLICIT = "1.2.840.10008.1.2.1"
_PIXELS = {0x7FE00008: b"OF", 0x7FE00009: b"OD", PIXEL_DATA: b"OW"}
"""The elements whose values are copied, and their VRs (PS3.5 Section A.2)."""
_MOST = 16 * 2**20
"""The most bytes of all other elements, which are decoded in memory."""
_PIECE = 256 * 1024


class TooLong(DatasetError):
    """An object has too many bytes besides its pixel data to convert it in this way."""


def explicit_pieces(file: BinaryIO) -> Iterator[bytes]:
    """Yield a DICOM file in Explicit VR Little Endian for one in Implicit VR Little Endian.

    Parameters
    ----------
    file : BinaryIO
        At its beginning; seekable.

    Raises
    ------
    DatasetError
        When the object is damaged; `TooLong` before the first piece.
    OSError
    """
    head = parse_file_meta(file)
    outline = Outline(file, head.offset, head.transfer_syntax_uid)
    pixels: Element | None = None
    end = outline.size
    for element in outline.elements():
        if element.tag in _PIXELS:
            pixels = element
            if element.end < 0:
                raise DatasetError("its pixel data has no length")
        elif element.tag > PIXEL_DATA:
            end = element.header
            break
    stop = end if pixels is None else pixels.header
    if stop - head.offset > _MOST or outline.size - end > _MOST:
        raise TooLong("the elements besides its pixel data are too long")
    first = _encoded(outline, head.offset, stop)
    last = _encoded(outline, end, outline.size)
    meta = file_head(head.sop_class_uid, head.sop_instance_uid, EXPLICIT)
    yield meta + first
    if pixels is not None:
        group, number = divmod(pixels.tag, 1 << 16)
        vr = _PIXELS[pixels.tag]
        yield struct.pack("<HH2sHI", group, number, vr, 0, pixels.length)
        for start in range(pixels.start, pixels.end, _PIECE):
            yield outline.read(start, min(start + _PIECE, pixels.end))
    yield last


def _encoded(outline: Outline, start: int, end: int) -> bytes:
    if start >= end:
        return b""
    ds = decode(outline.read(start, end), True, True)
    for _ in ds.iterall():
        pass  # this decodes them; an undecoded element would be written in its old encoding
    ds.set_original_encoding(False, True, ds.original_character_set)
    return encode_dataset(ds, EXPLICIT)
