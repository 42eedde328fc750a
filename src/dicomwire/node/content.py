"""Compares two encoded datasets: whether they have the same elements and values, in the same order.

Differences of the encoding do not count. Both are read in parallel, a piece at a time, up to the
first difference. Compressed pixel data is not decoded here.
"""

from __future__ import annotations

from enum import Enum
from typing import BinaryIO

from pydicom.datadict import dictionary_VR
from pydicom.valuerep import STR_VR

from dicomwire.data.codec import is_uncompressed
from dicomwire.data.file_meta import parse_file_meta
from dicomwire.data.scanner import MAX_DEPTH
from dicomwire.node.elements import (
    PIECE,
    Container,
    Element,
    ElementReader,
    Unreadable,
)

_OF_COMPRESSION = frozenset({0x00280004, 0x00280006})
"""Photometric Interpretation and Planar Configuration, which depend on the compression."""

_TEXT = frozenset(str(vr) for vr in STR_VR)
_PADDING = b" \0"

_Values = dict[int, bytes]
"""By tag."""


class Comparison(Enum):
    """The result of comparing two datasets."""

    SAME = "same"
    OTHER = "other"
    BY_PIXELS = "by pixels"
    """All but the pixels is the same; the decoded pixels decide."""


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
    return _Walk(
        ElementReader(one, one_syntax), ElementReader(other, other_syntax), is_recompressed
    ).result()


# --- Both -------------------------------------------------------------------------------------


class _Walk:
    """Reads two datasets in parallel, and compares their elements."""

    def __init__(self, one: ElementReader, other: ElementReader, is_recompressed: bool) -> None:
        self._one = one
        self._other = other
        self._is_recompressed = is_recompressed
        self._has_pixels = False
        """Whether pixels have to be decoded to be compared."""

    def result(self) -> Comparison:
        """Return the result of the comparison."""
        one, other = Container(None, None, True), Container(None, None, True)
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
        one_dataset: Container,
        other_dataset: Container,
        depth: int,
        descriptions: tuple[_Values, _Values] | None = None,
    ) -> bool:
        """Compare datasets or items; collect the `_OF_COMPRESSION` elements in `descriptions`."""
        if depth > MAX_DEPTH:
            raise Unreadable("sequences are nested too deep")
        while True:
            one, other = self._one.element(one_dataset), self._other.element(other_dataset)
            if descriptions is not None:
                one = _described(self._one, one_dataset, one, descriptions[0])
                other = _described(self._other, other_dataset, other, descriptions[1])
            if one is None or other is None:
                return one is other
            if one.tag != other.tag or not self._same_content(one, other, depth):
                return False

    def _same_content(self, one: Element, other: Element, depth: int) -> bool:
        """Return whether two elements of one tag have the same value."""
        if one.is_encapsulated or other.is_encapsulated:
            return self._same_pixels(one, other, depth)
        vr = _common_vr(one, other)
        if vr is None:
            return False
        if vr == "SQ":
            return self._same_items(one, other, depth)
        return self._same_value(one, other, vr)

    def _same_pixels(self, one: Element, other: Element, depth: int) -> bool:
        """Return False if the pixel data certainly differs; at least one side is in fragments."""
        values = self._one.pixels(one), self._other.pixels(other)
        if depth == 0 and (self._is_recompressed or values[0] != values[1]):
            self._has_pixels = True
            return True
        return values[0] == values[1]

    def _same_items(self, one: Element, other: Element, depth: int) -> bool:
        one_sequence, other_sequence = self._one.sequence(one), self._other.sequence(other)
        while True:
            one_item, other_item = self._one.item(one_sequence), self._other.item(other_sequence)
            if one_item is None or other_item is None:
                return one_item is other_item
            if not self._same_elements(one_item, other_item, depth + 1):
                return False

    def _same_value(self, one: Element, other: Element, vr: str) -> bool:
        left, other_left = one.length, other.length
        if left is None or other_left is None or abs(left - other_left) > PIECE:
            return False
        vrs = one.own_vr or vr, other.own_vr or vr
        while min(left, other_left) > PIECE:
            if self._one.take(PIECE, vrs[0]) != self._other.take(PIECE, vrs[1]):
                return False
            left -= PIECE
            other_left -= PIECE
        values = self._one.take(left, vrs[0]), self._other.take(other_left, vrs[1])
        return _without_padding(values[0], vr) == _without_padding(values[1], vr)


def _described(
    reader: ElementReader, container: Container, element: Element | None, values: _Values
) -> Element | None:
    """Return the next element that does not describe the compression; store those that do."""
    while element is not None and element.tag in _OF_COMPRESSION:
        length = element.length
        if length is None or length > PIECE:
            raise Unreadable("the description of pixel data is too long")
        values[element.tag] = _without_padding(reader.take(length, element.own_vr or "CS"), "CS")
        element = reader.element(container)
    return element


def _common_vr(one: Element, other: Element) -> str | None:
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


def dataset_in(file: BinaryIO) -> tuple[BinaryIO, str]:
    """Return a DICOM file, positioned at its dataset, and its transfer syntax."""
    file.seek(0)
    head = parse_file_meta(file)
    file.seek(head.offset)
    return file, head.transfer_syntax_uid
