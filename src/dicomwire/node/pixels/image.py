"""An image object, open for reading: what describes its pixels, and the bytes of each frame.

Only the elements that decoding and rendering need are read, and only the frames that are asked for.
Nothing is decoded but the numbers that say where a frame is.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from io import BufferedIOBase
from itertools import pairwise
from typing import Any, BinaryIO, NamedTuple, cast

from pydicom.dataset import Dataset

from dicomwire.data.codec import decode, is_uncompressed
from dicomwire.data.encodings import DatasetError
from dicomwire.data.file_meta import parse_file_meta
from dicomwire.node.pixels.outline import MOST_ELEMENTS, PIXEL_DATA, Element, Item, Outline

MOST_PIXELS = 2**26
"""The most pixels of a frame that is decoded: 8,192 by 8,192, which is more than detectors have."""
LARGEST_FRAME = 2**29
"""The most bytes of a frame, compressed or not: `MOST_PIXELS` of eight bytes."""
_MOST_HEAD = 16 * 2**20
"""The most bytes of elements that describe pixels: colour tables of a few hundred thousand bytes,
colour profiles of some megabytes."""
_LONGEST = 4 * 2**20
"""The longest of them; a longer one is left out."""

_FLOAT, _DOUBLE = 0x7FE00008, 0x7FE00009
_OFFSETS, _LENGTHS = 0x7FE00001, 0x7FE00002
_PER_FRAME = 0x52009230
_GROUPS = frozenset((0x0028,))
_WANTED = frozenset(
    (
        *(0x00080005, 0x00080016, 0x00080018, 0x00080020, 0x00080060, 0x00081030, 0x0008103E),
        *(0x00082144, 0x00100010, 0x00100020, 0x00100030, 0x00100040),
        *(0x00180015, 0x00180040, 0x00180050, 0x00180060, 0x00180080, 0x00180081, 0x00181030),
        *(0x00181063, 0x00181150, 0x00181151, 0x00181152, 0x00181164, 0x00182010),
        *(0x00200011, 0x00200013, 0x00480105, 0x20500020, 0x52009229),
    )
)
"""Besides the group 0028: character set, UIDs, what annotations show, the time of a frame, pixel
spacing, optical paths (with colour profiles), presentation LUT shape, shared functional groups."""

_VIDEOS = frozenset(f"1.2.840.10008.1.2.4.{number}" for number in range(100, 109))
"""MPEG-2, MPEG-4 and HEVC, with their fragmentable forms: a frame depends on others."""
_VIDEO_FORMS = frozenset(f"1.2.840.10008.1.2.4.{number}.1" for number in range(100, 107))
_END_OF_IMAGE = b"\xff\xd9"


class NotAnImage(Exception):
    """An object has no pixels, or none that can be read frame by frame; the text says why."""


class NoSuchFrame(Exception):
    """The number of a frame is higher than that of the last one."""


class Shape(NamedTuple):
    """The size of the frames of an object."""

    rows: int
    columns: int
    samples: int
    bits: int
    frames: int
    photometric: str

    @property
    def frame_bits(self) -> int:
        """The size of a frame that is not compressed; `YBR_FULL_422` has two samples per pixel."""
        samples = 2 if self.photometric == "YBR_FULL_422" else self.samples
        return self.rows * self.columns * samples * self.bits


class Image:
    """The image in a file of the node.

    Parameters
    ----------
    file : BufferedIOBase
        At its beginning; the caller closes it. A deflated object has to be inflated before.

    Raises
    ------
    NotAnImage
        When it has no pixel data, or does not say which size it has.
    DatasetError
        From here and all methods, when it is damaged.
    OSError
        From here and all methods, when it cannot be read.

    Attributes
    ----------
    transfer_syntax : str
    shape : Shape
    """

    def __init__(self, file: BinaryIO | BufferedIOBase) -> None:
        head = parse_file_meta(cast(BinaryIO, file))
        self.transfer_syntax = str(head.transfer_syntax_uid)
        self._outline = Outline(file, head.offset, self.transfer_syntax)
        self._described: list[Element] = []
        self._functional: Element | None = None
        self._tables: dict[int, Element] = {}
        self._data = self._find_data()
        self._common = b"".join(self._encoded(self._described))
        self.dataset = self._decoded(self._common)
        """The elements that describe the pixels, without those of single frames."""
        self.shape = _shape_of(self.dataset, self._data)
        self._parts: list[list[Item]] | None = None
        self._first: Item | None = None
        self._offsets: list[int] | None = None

    @property
    def is_compressed(self) -> bool:
        """Whether its frames are compressed."""
        return not is_uncompressed(self.transfer_syntax)

    @property
    def is_float(self) -> bool:
        """Whether its samples are floating-point numbers."""
        return self._data.tag != PIXEL_DATA

    def those(self, numbers: Sequence[int]) -> Sequence[int]:
        """Return numbers of frames; NoSuchFrame if it has not as many."""
        if max(numbers) > self.shape.frames:
            raise NoSuchFrame(f"the frames are 1 to {self.shape.frames}")
        return numbers

    def every_frame(self) -> range:
        """Return the numbers of all frames; DatasetError if there are fewer than it states."""
        frames = self.shape.frames
        if not self.is_compressed:
            self._place(frames)
        return range(1, frames + 1)

    def description(self, number: int) -> bytes:
        """Return the encoded elements that describe frame `number`, the first being 1."""
        if self._functional is None:
            return self._common
        for at, item in enumerate(self._outline.items(self._functional), 1):
            if at == number:
                return self._common + self._sequence(item)
        return self._common

    def frame(self, number: int) -> bytes:
        """Return the bytes of a frame, as they are stored; the first frame is 1.

        One bit per sample is eight samples in a byte: then the first sample of the frame is the
        lowest bit of the first byte.

        Raises
        ------
        NoSuchFrame
        NotAnImage
            When the frames of its transfer syntax cannot be read one by one.
        """
        self.those([number])
        if self.is_compressed:
            if self.transfer_syntax in _VIDEOS or self.transfer_syntax in _VIDEO_FORMS:
                raise NotAnImage("a video has no frames that can be read one by one")
            return self._compressed(number)
        return self._native(number)

    # --- What describes the pixels ---

    def _find_data(self) -> Element:
        for element in self._outline.elements():
            tag = element.tag
            if tag in (PIXEL_DATA, _FLOAT, _DOUBLE):
                return element
            if tag == _PER_FRAME:
                self._functional = element
            elif tag in (_OFFSETS, _LENGTHS):
                self._tables[tag] = element
            elif tag in _WANTED or tag >> 16 in _GROUPS:
                self._described.append(element)
        raise NotAnImage("it has no pixel data")

    def _encoded(self, elements: list[Element]) -> Iterator[bytes]:
        left = _MOST_HEAD
        for element in elements:
            end = element.end
            if end < 0:
                end = element.start
                for item in self._outline.items(element):
                    end = item.after
                end += 8  # the delimiter
            left -= end - element.header
            if left < 0:
                raise DatasetError("the elements that describe the pixels are too long")
            if end - element.header <= _LONGEST:
                yield self._outline.read(element.header, end)

    def _decoded(self, data: bytes) -> Dataset:
        return decode(data, self._outline.is_implicit, self._outline.is_little)

    def _sequence(self, item: Item) -> bytes:
        """Return the functional groups of one frame as a sequence of one item."""
        if item.after - item.header > _LONGEST:
            raise DatasetError("the functional groups of a frame are too long")
        order = "<" if self._outline.is_little else ">"
        group, number = divmod(_PER_FRAME, 1 << 16)
        if self._outline.is_implicit:
            head = struct.pack(order + "HHI", group, number, 0xFFFFFFFF)
        else:
            head = struct.pack(order + "HH2sHI", group, number, b"SQ", 0, 0xFFFFFFFF)
        end = struct.pack(order + "HHI", 0xFFFE, 0xE0DD, 0)
        return head + self._outline.read(item.header, item.after) + end

    # --- Frames ---

    def _place(self, number: int) -> tuple[int, int]:
        """Return where the bytes of a frame that is not compressed begin and end."""
        size = self.shape.frame_bits
        start = self._data.start + (number - 1) * size // 8
        stop = self._data.start + -(-number * size // 8)
        if self._data.end < 0 or stop > self._data.end:
            raise DatasetError("its pixel data is shorter than it states")
        return start, stop

    def _native(self, number: int) -> bytes:
        size = self.shape.frame_bits
        if size > 8 * LARGEST_FRAME:
            raise NotAnImage(f"its frames have more than {LARGEST_FRAME} bytes")
        data = self._outline.read(*self._place(number))
        shift = (number - 1) * size % 8
        if not shift and not size % 8:
            return data
        bits = int.from_bytes(data, "little") >> shift & (1 << size) - 1
        return bits.to_bytes(-(-size // 8), "little")

    def _compressed(self, number: int) -> bytes:
        parts = self._parts_of(number)
        if sum(part.end - part.start for part in parts) > LARGEST_FRAME:
            raise NotAnImage(f"its frames have more than {LARGEST_FRAME} bytes")
        return b"".join(self._outline.read(part.start, part.end) for part in parts)

    def _parts_of(self, number: int) -> list[Item]:
        """Return the fragments of a compressed frame."""
        if self._data.end >= 0:
            raise DatasetError("its pixel data is compressed, but not encapsulated")
        table = self._offset_table()
        if table:
            return self._between(table, number)
        if self._parts is None:
            self._parts = self._split()
        return self._parts[number - 1]

    def _offset_table(self) -> list[int]:
        """Return the positions of the frames; none if the object has no table of them."""
        if self._offsets is None:
            basic = next(self._outline.fragments(self._data), None)
            if basic is None:
                raise DatasetError("its pixel data has no fragments")
            self._first = basic
            self._offsets = [basic.after + offset for offset in self._listed(basic)]
        return self._offsets

    def _listed(self, basic: Item) -> list[int]:
        extended = self._tables.get(_OFFSETS)
        start, end, code = basic.start, basic.end, "I"
        if extended is not None and extended.length > 0:
            start, end, code = extended.start, extended.end, "Q"
        width = struct.calcsize(f"<{code}")
        if end - start != width * self.shape.frames or self.shape.frames > MOST_ELEMENTS:
            return []  # it is empty, or is wrong
        data = self._outline.read(start, end)
        offsets = list(struct.unpack(f"<{self.shape.frames}{code}", data))
        if offsets[0] != 0 or any(a >= b for a, b in pairwise(offsets)):
            return []
        return offsets

    def _between(self, table: list[int], number: int) -> list[Item]:
        stop = table[number] if number < len(table) else None
        parts = []
        for part in self._outline.fragments(self._data, table[number - 1]):
            if stop is not None and part.header >= stop:
                break
            parts.append(part)
        return parts

    def _split(self) -> list[list[Item]]:
        """Return the fragments of each frame, where nothing tells where they begin."""
        assert self._first is not None
        parts = list(self._outline.fragments(self._data, self._first.after))
        frames = self.shape.frames
        if frames == 1 and parts:
            return [parts]
        if len(parts) == frames:
            return [[part] for part in parts]
        split: list[list[Item]] = [[]]
        for part in parts:
            split[-1].append(part)
            end = self._outline.read(max(part.start, part.end - 16), part.end)
            if end.rstrip(b"\0").endswith(_END_OF_IMAGE):
                split.append([])
        if split.pop() or len(split) != frames:
            raise DatasetError("nothing tells where its frames begin")
        return split


def _shape_of(ds: Dataset, data: Element) -> Shape:
    try:
        bits = {_FLOAT: 32, _DOUBLE: 64}.get(data.tag) or int(ds.BitsAllocated)
        shape = Shape(
            int(ds.Rows),
            int(ds.Columns),
            int(ds.get("SamplesPerPixel") or 1),
            bits,
            _number(ds.get("NumberOfFrames")),
            str(ds.get("PhotometricInterpretation") or "MONOCHROME2"),
        )
    except Exception:  # pydicom raises all kinds of errors for damaged values
        raise NotAnImage("it does not say which size its pixel data has") from None
    if min(shape[:5]) < 1:
        raise NotAnImage("it does not say which size its pixel data has")
    return shape


def _number(value: Any) -> int:
    return 1 if value in (None, "") else int(value)
