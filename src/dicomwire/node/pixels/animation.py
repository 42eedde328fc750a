"""Puts pictures in GIF together to one that moves (GIF89a specification)."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator

_HEADER = struct.Struct("<6sHHBBB")
_DESCRIPTOR = struct.Struct("<BHHHHB")
_HAS_TABLE = 0x80
_SIZE = 0x07
_DESCRIPTOR_BEGIN, _EXTENSION_BEGIN = 0x2C, 0x21
_END = b";"
_FOR_EVER = b"\x21\xff\x0bNETSCAPE2.0\x03\x01\0\0\0"


def animated(pictures: Iterable[bytes], milliseconds: float) -> Iterator[bytes]:
    """Yield a GIF file that shows pictures one after the other, for ever.

    Parameters
    ----------
    pictures : iterable of bytes
        GIF files of one picture each; the first one gives the size.
    milliseconds : float
        How long each is shown.
    """
    delay = min(max(round(milliseconds / 10), 2), 6000)  # less than 20 ms is shown as 100 ms
    control = struct.pack("<BBBBHBB", 0x21, 0xF9, 4, 4, delay, 0, 0)
    is_first = True
    for picture in pictures:
        if is_first:
            _, columns, rows, *_ = _HEADER.unpack_from(picture)
            yield _HEADER.pack(b"GIF89a", columns, rows, 0x70, 0, 0) + _FOR_EVER
            is_first = False
        yield control + _with_own_table(picture)
    yield _END


def _with_own_table(picture: bytes) -> bytes:
    """Return the image of a GIF file, with the table of colours that the file has for it."""
    flags = picture[10]
    table = b""
    position = _HEADER.size
    if flags & _HAS_TABLE:
        table = picture[position : position + (3 << (flags & _SIZE) + 1)]
        position += len(table)
    while picture[position] == _EXTENSION_BEGIN:
        position = _after_blocks(picture, position + 2)
    _, left, top, columns, rows, own = _DESCRIPTOR.unpack_from(picture, position)
    start = position + _DESCRIPTOR.size
    if not own & _HAS_TABLE:
        own = own & ~_SIZE | flags & (_HAS_TABLE | _SIZE)
    else:
        table = b""
    descriptor = _DESCRIPTOR.pack(_DESCRIPTOR_BEGIN, left, top, columns, rows, own)
    return descriptor + table + picture[start : picture.rindex(_END)]


def _after_blocks(picture: bytes, position: int) -> int:
    while picture[position]:
        position += 1 + picture[position]
    return position + 1
