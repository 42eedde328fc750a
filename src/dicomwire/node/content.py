"""Compares two encoded datasets: whether they have the same elements and values, in the same order.

Differences of the encoding do not count. Both are read in parallel, a piece at a time, up to the
first difference. Compressed pixel data is not decoded here.
"""

from __future__ import annotations

import array
import hashlib
import io
import struct
import zlib
from collections.abc import Callable
from enum import Enum
from typing import BinaryIO, NamedTuple

from pydicom.datadict import dictionary_VR
from pydicom.valuerep import STR_VR

from dicomwire.data.codec import INFLATE_CEILING, encoding_of, is_uncompressed
from dicomwire.data.scanner import LONG_VRS, MAX_DEPTH

_PIECE = 2**20
"""Bytes of each dataset in memory at a time; the end of a value may take twice as many."""
_MAX_ELEMENTS = 1_000_000
"""The most elements and items to compare: a few seconds of work."""

_UNDEFINED = 0xFFFFFFFF
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_PIXEL_DATA = 0x7FE00010
_OF_ENCODING = frozenset(
    {
        0x00080001,  # Length to End
        0x7FE00001,  # Extended Offset Table
        0x7FE00002,  # Extended Offset Table Lengths
        0xFFFCFFFC,  # Data Set Trailing Padding, which items may have too
    }
)
"""Elements that describe the encoding of a dataset, as group lengths do."""
_OF_COMPRESSION = frozenset({0x00280004, 0x00280006})
"""Photometric Interpretation and Planar Configuration, which depend on the compression."""

_LONG = frozenset(vr.encode() for vr in LONG_VRS)
_TEXT = frozenset(str(vr) for vr in STR_VR)
_PADDING = b" \0"
_WORDS = {
    **dict.fromkeys(("AT", "OW", "SS", "US"), "H"),
    **dict.fromkeys(("FL", "OF", "OL", "SL", "UL"), "I"),
    **dict.fromkeys(("FD", "OD", "OV", "SV", "UV"), "Q"),
}
"""The VRs whose values depend on the byte order, with the `array` type code of their words."""

_Values = dict[int, bytes]
"""By tag."""


class Comparison(Enum):
    """The result of comparing two datasets."""

    SAME = "same"
    OTHER = "other"
    BY_PIXELS = "by pixels"
    """All but the pixels is the same; the decoded pixels decide."""


class Unreadable(ValueError):
    """A dataset is damaged, or too large or nested too deep to be compared."""


def compare(one: BinaryIO, one_syntax: str, other: BinaryIO, other_syntax: str) -> Comparison:
    """Compare two datasets in files that are positioned at them.

    These differences do not count: implicit or explicit VR, byte order, deflation, defined or
    undefined lengths of sequences and items, group lengths, padding, fragments and their offset
    tables.

    Parameters
    ----------
    one_syntax, other_syntax : str
        The UIDs of their transfer syntaxes.

    Raises
    ------
    Unreadable
        When one is damaged before the first difference, is nested too deep, has too many
        elements or inflates beyond the ceiling.
    OSError
        When a file cannot be read.
    """
    is_recompressed = one_syntax != other_syntax and not (
        is_uncompressed(one_syntax) and is_uncompressed(other_syntax)
    )
    return _Walk(_Reader(one, one_syntax), _Reader(other, other_syntax), is_recompressed).result()


# --- One dataset ------------------------------------------------------------------------------


class _Element(NamedTuple):
    """The header of an element; the reader is positioned at its value."""

    tag: int
    vr: str | None
    """None in implicit VR."""
    length: int | None
    """None if it is undefined."""

    @property
    def own_vr(self) -> str | None:
        """The VR of the element if its sender knew it; UN means unknown (PS3.5 Section 6.2.2)."""
        return None if self.vr == "UN" else self.vr

    @property
    def is_encapsulated(self) -> bool:
        """Whether its value consists of fragments."""
        if self.length is not None:
            return False
        return self.tag == _PIXEL_DATA or self.own_vr not in (None, "SQ")


class _Scope:
    """A dataset, sequence or item while it is read."""

    __slots__ = ("end", "is_implicit", "is_whole")

    def __init__(self, end: int | None, is_implicit: bool | None, is_whole: bool = False) -> None:
        self.end = end
        """Where it ends; None if a delimiter or the end of the file ends it."""
        self.is_implicit = is_implicit
        """Whether it is in implicit VR; None until its first element shows that."""
        self.is_whole = is_whole
        """Whether it is the whole dataset, which the end of the file ends."""


class _Reader:
    """Reads a dataset from beginning to end, element by element."""

    def __init__(self, file: BinaryIO, transfer_syntax: str) -> None:
        _, is_little, deflated = encoding_of(transfer_syntax)
        self._file: BinaryIO | io.BufferedReader = file
        if deflated:
            self._file = io.BufferedReader(_Inflated(file), _PIECE)
        order = "<" if is_little else ">"
        self._explicit = struct.Struct(f"{order}HH2sH").unpack
        self._implicit = struct.Struct(f"{order}HHL").unpack
        self._length = struct.Struct(f"{order}L").unpack
        self._is_swapped = not is_little
        self._position = 0
        self._left = _MAX_ELEMENTS

    def element(self, scope: _Scope) -> _Element | None:
        """Return the next element that is compared; None at the end of its dataset or item."""
        while not self._is_at_end(scope):
            head = self._file.read(8)
            if scope.is_whole and len(head) < 8 and not head.strip(b"\0"):
                return None  # some writers pad the whole dataset
            element = self._header(head, scope)
            if element.tag == _ITEM_END:
                if scope.is_whole or scope.end is not None:
                    raise Unreadable("there is an item delimiter outside of an item")
                return None
            if element.tag not in _OF_ENCODING and element.tag & 0xFFFF:
                return element
            self.skip(element)
        return None

    def item(self, sequence: _Scope) -> _Scope | None:
        """Return the next item of a sequence; None at its end."""
        if self._is_at_end(sequence):
            return None
        tag, length = self._item_header()
        if tag == _SEQUENCE_END:
            return None
        if tag != _ITEM:
            raise Unreadable("a sequence contains something other than items")
        # Some writers change to implicit VR for a single item.
        return self._scope(length, sequence.is_implicit or None)

    def sequence(self, element: _Element) -> _Scope:
        """Return the scope of a sequence, for `item`."""
        return self._scope(element.length, element.vr in (None, "UN"))

    def take(self, count: int, vr: str) -> bytes:
        """Return the next `count` bytes of a value, converted to little endian."""
        data = self._exactly(count)
        code = _WORDS.get(vr) if self._is_swapped else None
        if code is None:
            return data
        words = array.array(code)
        if count % words.itemsize:
            raise Unreadable("a value ends within a number")
        words.frombytes(data)
        words.byteswap()
        return words.tobytes()

    def skip(self, element: _Element) -> None:
        """Skip the value of an element, which must have a defined length."""
        if element.length is None:
            raise Unreadable("the length of an element must not be undefined")
        self._pass(element.length, None)

    def pixels(self, element: _Element) -> bytes | None:
        """Read pixel data; return a digest of its fragments (PS3.5 Section A.4), None for native.

        The digest does not depend on the boundaries of fragments. It leaves out the first item,
        the Basic Offset Table.
        """
        if not element.is_encapsulated:
            self.skip(element)
            return None
        digest = hashlib.sha256()
        is_first = True
        while True:
            tag, length = self._item_header()
            if tag == _SEQUENCE_END:
                return digest.digest()
            if tag != _ITEM or length is None:
                raise Unreadable("encapsulated pixel data contains something other than fragments")
            self._pass(length, None if is_first else digest.update)
            is_first = False

    def _scope(self, length: int | None, is_implicit: bool | None) -> _Scope:
        return _Scope(None if length is None else self._position + length, is_implicit)

    def _is_at_end(self, scope: _Scope) -> bool:
        if scope.end is None or self._position < scope.end:
            return False
        if self._position > scope.end:
            raise Unreadable("a value is longer than its item or sequence")
        return True

    def _header(self, head: bytes, scope: _Scope) -> _Element:
        self._count(head)
        code = head[4:6]
        has_vr = code.isalpha() and code.isupper()
        if scope.is_implicit is None:
            scope.is_implicit = not has_vr
        if scope.is_implicit or not has_vr:  # some writers leave out the VR of single elements
            group, number, length = self._implicit(head)
            vr = None
        else:
            group, number, _, length = self._explicit(head)
            vr = code.decode()
            if code in _LONG:
                (length,) = self._length(self._exactly(4))
        return _Element(group << 16 | number, vr, None if length == _UNDEFINED else length)

    def _item_header(self) -> tuple[int, int | None]:
        head = self._file.read(8)
        self._count(head)
        group, number, length = self._implicit(head)
        return group << 16 | number, None if length == _UNDEFINED else length

    def _count(self, head: bytes) -> None:
        self._position += 8
        self._left -= 1
        if len(head) < 8:
            raise Unreadable("the dataset is truncated")
        if self._left < 0:
            raise Unreadable("the dataset has too many elements")

    def _exactly(self, count: int) -> bytes:
        data = self._file.read(count)
        if len(data) < count:
            raise Unreadable("the dataset is truncated")
        self._position += count
        return data

    def _pass(self, count: int, use: Callable[[bytes], None] | None) -> None:
        while count:
            piece = self._exactly(min(count, _PIECE))
            count -= len(piece)
            if use is not None:
                use(piece)


class _Inflated(io.RawIOBase):
    """A file object that inflates a deflated dataset (PS3.5 Section A.5) while it is read."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._inflater = zlib.decompressobj(-zlib.MAX_WBITS)
        self._left = INFLATE_CEILING

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        while not self._inflater.eof:
            deflated = self._inflater.unconsumed_tail or self._file.read(_PIECE)
            try:
                data = self._inflater.decompress(deflated, len(buffer))
            except zlib.error:
                raise Unreadable("the dataset is not deflated, or damaged") from None
            self._left -= len(data)
            if self._left < 0:
                raise Unreadable("the dataset inflates beyond the ceiling")
            if data:
                buffer[: len(data)] = data
                return len(data)
            if not deflated:
                raise Unreadable("the deflated dataset is truncated")
        return 0


# --- Both -------------------------------------------------------------------------------------


class _Walk:
    """Reads two datasets in parallel, and compares their elements."""

    def __init__(self, one: _Reader, other: _Reader, is_recompressed: bool) -> None:
        self._one = one
        self._other = other
        self._is_recompressed = is_recompressed
        self._has_pixels = False
        """Whether pixels have to be decoded to be compared."""

    def result(self) -> Comparison:
        """Return the result of the comparison."""
        one, other = _Scope(None, None, True), _Scope(None, None, True)
        descriptions: tuple[_Values, _Values] | None = None
        if self._is_recompressed:
            descriptions = {}, {}
        if not self._same_elements(one, other, 0, descriptions):
            return Comparison.OTHER
        if self._has_pixels:
            return Comparison.BY_PIXELS
        if descriptions is not None and descriptions[0] != descriptions[1]:
            return Comparison.OTHER
        return Comparison.SAME

    def _same_elements(
        self,
        one_scope: _Scope,
        other_scope: _Scope,
        depth: int,
        descriptions: tuple[_Values, _Values] | None = None,
    ) -> bool:
        """Compare datasets or items; collect the `_OF_COMPRESSION` elements in `descriptions`."""
        if depth > MAX_DEPTH:
            raise Unreadable("sequences are nested too deep")
        while True:
            one, other = self._one.element(one_scope), self._other.element(other_scope)
            if descriptions is not None:
                one = _described(self._one, one_scope, one, descriptions[0])
                other = _described(self._other, other_scope, other, descriptions[1])
            if one is None or other is None:
                return one is other
            if one.tag != other.tag or not self._same_content(one, other, depth):
                return False

    def _same_content(self, one: _Element, other: _Element, depth: int) -> bool:
        """Return whether two elements of one tag have the same value."""
        if one.is_encapsulated or other.is_encapsulated:
            return self._same_pixels(one, other, depth)
        vr = _common_vr(one, other)
        if vr is None:
            return False
        if vr == "SQ":
            return self._same_items(one, other, depth)
        return self._same_value(one, other, vr)

    def _same_pixels(self, one: _Element, other: _Element, depth: int) -> bool:
        """Return False if the pixel data certainly differs; at least one side is in fragments."""
        values = self._one.pixels(one), self._other.pixels(other)
        if depth == 0 and (self._is_recompressed or values[0] != values[1]):
            self._has_pixels = True
            return True
        return values[0] == values[1]

    def _same_items(self, one: _Element, other: _Element, depth: int) -> bool:
        one_sequence, other_sequence = self._one.sequence(one), self._other.sequence(other)
        while True:
            one_item, other_item = self._one.item(one_sequence), self._other.item(other_sequence)
            if one_item is None or other_item is None:
                return one_item is other_item
            if not self._same_elements(one_item, other_item, depth + 1):
                return False

    def _same_value(self, one: _Element, other: _Element, vr: str) -> bool:
        left, other_left = one.length, other.length
        if left is None or other_left is None or abs(left - other_left) > _PIECE:
            return False
        vrs = one.own_vr or vr, other.own_vr or vr
        while min(left, other_left) > _PIECE:
            if self._one.take(_PIECE, vrs[0]) != self._other.take(_PIECE, vrs[1]):
                return False
            left -= _PIECE
            other_left -= _PIECE
        values = self._one.take(left, vrs[0]), self._other.take(other_left, vrs[1])
        return _without_padding(values[0], vr) == _without_padding(values[1], vr)


def _described(
    reader: _Reader, scope: _Scope, element: _Element | None, values: _Values
) -> _Element | None:
    """Return the next element that does not describe the compression; store those that do."""
    while element is not None and element.tag in _OF_COMPRESSION:
        length = element.length
        if length is None or length > _PIECE:
            raise Unreadable("the description of pixel data is too long")
        values[element.tag] = _without_padding(reader.take(length, element.own_vr or "CS"), "CS")
        element = reader.element(scope)
    return element


def _common_vr(one: _Element, other: _Element) -> str | None:
    """Return the VR to compare two values by; None if their VRs contradict each other.

    A public element may differ in VR: a program that received it in implicit VR, or as UN, takes
    the dictionary's, and the dictionary allows several for some. For a private element, only its
    own VR is known.
    """
    known = [vr for vr in (one.own_vr, other.own_vr) if vr is not None]
    if "SQ" in known or (not known and None in (one.length, other.length)):
        return "SQ"
    if one.tag >> 16 & 1 and len(set(known)) == 2:
        return None
    if known:
        return known[0]
    try:
        return dictionary_VR(one.tag)
    except KeyError:
        return "UN"


def _without_padding(value: bytes, vr: str) -> bytes:
    """Return a text value without its padding, or a binary value padded to an even length."""
    return value.rstrip(_PADDING) if vr in _TEXT else value + b"\0" * (len(value) % 2)
