"""The sizes that compressed frames state in their own headers.

A decoder allocates memory by the frame header, even where the dataset states another size. The
functions here decode no samples, and allocate nothing by what a header states.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import NamedTuple

from pydicom.uid import (
    JPEG2000TransferSyntaxes,
    JPEGLSTransferSyntaxes,
    JPEGTransferSyntaxes,
    RLELossless,
)


class Shape(NamedTuple):
    """The size of the image in a frame; None if the header does not state it."""

    rows: int | None
    columns: int | None
    samples: int | None
    """Per pixel."""
    bits: int | None
    """Per sample."""


class UnknownFrame(ValueError):
    """A frame has no valid header for its transfer syntax; the text says what is wrong."""


def shape_of(frame: bytes, transfer_syntax: str) -> Shape:
    """Return the size that the header of a frame states.

    Parameters
    ----------
    frame : bytes
        The whole compressed frame: its fragments joined.
    transfer_syntax : str
        The UID of its transfer syntax.

    Raises
    ------
    UnknownFrame
        When the header is missing or damaged, or the transfer syntax is not known here.
    """
    read = _READERS.get(transfer_syntax)
    if read is None:
        raise UnknownFrame("the frames of its transfer syntax have no known header")
    try:
        return read(frame)
    except (struct.error, IndexError):
        raise UnknownFrame("a frame ends within its header") from None


# --- JPEG (ISO/IEC 10918-1 Annex B) and JPEG-LS (ISO/IEC 14495-1 Annex C) ---------------------

_SOI, _EOI, _SOS, _LSE = 0xD8, 0xD9, 0xDA, 0xF8
_STARTS_OF_FRAME = frozenset({*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC})
_OVERSIZE = 4
"""The LSE parameters of JPEG-LS that override the size in the frame header."""


def _jpeg(frame: bytes) -> Shape:
    for marker, start in _segments(frame):
        if marker in _STARTS_OF_FRAME:
            bits, rows, columns, samples = struct.unpack_from(">BHHB", frame, start)
            return Shape(rows, columns, samples, bits)
        if marker == _LSE and frame[start] == _OVERSIZE:
            raise UnknownFrame("a JPEG-LS frame states its size twice")
    raise UnknownFrame("a JPEG frame has no frame header")


def _segments(frame: bytes) -> Iterator[tuple[int, int]]:
    """Yield marker and offset of the parameters of each marker segment before the first scan."""
    if frame[:2] != bytes((0xFF, _SOI)):
        raise UnknownFrame("a frame is not a JPEG image")
    position = 2
    while True:
        if frame[position] != 0xFF:
            raise UnknownFrame("a JPEG frame lacks a marker")
        while (marker := frame[position]) == 0xFF:  # fill bytes; any number is allowed
            position += 1
        if marker in (_SOS, _EOI):
            return
        (length,) = struct.unpack_from(">H", frame, position + 1)
        yield marker, position + 3
        position += 1 + length


# --- JPEG 2000 and HTJ2K (ISO/IEC 15444-1 Annexes A and I) ------------------------------------

_SOC_AND_SIZ = b"\xff\x4f\xff\x51"
_SIZ = struct.Struct(">2xH8L H")
_JP2_SIGNATURE = b"\0\0\0\x0cjP  \r\n\x87\n"


def _jpeg_2000(frame: bytes) -> Shape:
    start = 0
    if frame.startswith(_JP2_SIGNATURE):
        start = next(_boxes(frame, b"jp2c"), len(frame))
    if frame[start : start + 4] != _SOC_AND_SIZ:
        raise UnknownFrame("a frame is not a JPEG 2000 image")
    start += 4
    _, right, bottom, left, top, *_, samples = _SIZ.unpack_from(frame, start)
    start += _SIZ.size
    components = [struct.unpack_from("BBB", frame, start + 3 * each) for each in range(samples)]
    rows, columns, bits = 0, 0, 0
    for precision, across, down in components:
        if not (across and down):
            raise UnknownFrame("a component of a JPEG 2000 image has no size")
        columns = max(columns, -(-right // across) + left // -across)
        rows = max(rows, -(-bottom // down) + top // -down)
        bits = max(bits, (precision & 0x7F) + 1)
    return Shape(rows, columns, samples, bits)


def _boxes(frame: bytes, kind: bytes) -> Iterator[int]:
    """Yield the offset of the contents of each box of the type `kind`."""
    position = 0
    while position + 8 <= len(frame):
        length, found = struct.unpack_from(">L4s", frame, position)
        start = position + 8
        if length == 1:
            (length,) = struct.unpack_from(">Q", frame, start)
            start += 8
        if found == kind:
            yield start
        if length < start - position:  # 0 means up to the end; other small lengths are invalid
            return
        position += length


# --- RLE (PS3.5 Annex G) ----------------------------------------------------------------------

_MOST_SEGMENTS = 15


def _rle(frame: bytes) -> Shape:
    """Return a shape without sizes: decoders take the size of an RLE frame from the dataset.

    A frame has at most 15 segments, and a segment expands to at most 64 times its length.
    """
    (segments,) = struct.unpack_from("<L60x", frame)
    if not 0 < segments <= _MOST_SEGMENTS:
        raise UnknownFrame("a frame is not an RLE image")
    return Shape(None, None, None, None)


# --- JPEG XL (ISO/IEC 18181-1 Annex D, 18181-2) -----------------------------------------------

_JXL_SIGNATURE = b"\0\0\0\x0cJXL \r\n\x87\n"
_JXL_CODESTREAM = b"\xff\x0a"
_LENGTHS_OF_SIZES = (9, 13, 18, 30)
_RATIOS = ((1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))
_LONGEST_SIZE_HEADER = 10
"""In bytes: two sizes of up to 32 bits each, a ratio of 3 bits, and a flag."""


def _jpeg_xl(frame: bytes) -> Shape:
    """Return rows and columns; the fields after them can only be read by a decoder."""
    start = 0
    if frame.startswith(_JXL_SIGNATURE):
        start = next(_boxes(frame, b"jxlc"), -1)
        if start < 0:  # the codestream is in several boxes, each with its number in front
            start = next(_boxes(frame, b"jxlp"), len(frame)) + 4
    if frame[start : start + 2] != _JXL_CODESTREAM:
        raise UnknownFrame("a frame is not a JPEG XL image")
    begin = frame[start + 2 : start + 2 + _LONGEST_SIZE_HEADER]
    bits = _Bits(int.from_bytes(begin, "little"), 8 * len(begin))
    is_small = bits.take(1)
    rows = bits.size(is_small)
    ratio = bits.take(3)
    if ratio:
        across, down = _RATIOS[ratio - 1]
        columns = rows * across // down
    else:
        columns = bits.size(is_small)
    return Shape(rows, columns, None, None)


class _Bits:
    """A reader of bits in the order of JPEG XL: the least significant bit of each byte first."""

    def __init__(self, value: int, left: int) -> None:
        self._value = value
        self._left = left

    def take(self, count: int) -> int:
        """Return the next `count` bits; IndexError if there are fewer."""
        self._left -= count
        if self._left < 0:
            raise IndexError
        taken = self._value & (1 << count) - 1
        self._value >>= count
        return taken

    def size(self, is_small: int) -> int:
        """Return a number of rows or columns; in small images it is a multiple of 8."""
        if is_small:
            return 8 * (1 + self.take(5))
        return 1 + self.take(_LENGTHS_OF_SIZES[self.take(2)])


_JPEG_XL = [f"1.2.840.10008.1.2.4.{number}" for number in (110, 111, 112)]

_READERS: dict[str, Callable[[bytes], Shape]] = {
    **dict.fromkeys([*JPEGTransferSyntaxes, *JPEGLSTransferSyntaxes], _jpeg),
    **dict.fromkeys(JPEG2000TransferSyntaxes, _jpeg_2000),  # with HTJ2K
    RLELossless: _rle,
    **dict.fromkeys(_JPEG_XL, _jpeg_xl),
}
