"""Splits an encoded dataset into raw elements and checks the structure that pydicom will parse.

It decodes no values and encodes nothing.
"""

from __future__ import annotations

import logging
import struct
from collections.abc import Callable, Iterator
from functools import cache, partial
from typing import Any, NamedTuple

from pydicom.charset import convert_encodings, default_encoding
from pydicom.datadict import (  # type: ignore[attr-defined]
    DicomDictionary,
    dictionary_VR,
    private_dictionaries,
)
from pydicom.dataelem import (
    DataElement,
    RawDataElement,
    convert_raw_data_element,
    empty_value_for_VR,
)
from pydicom.dataset import Dataset
from pydicom.tag import BaseTag
from pydicom.valuerep import VR

from dicomwire.data.encodings import LONG_VRS as LONG_VRS
from dicomwire.data.encodings import DatasetError as DatasetError

LOGGER = logging.getLogger("dicomwire")

MAX_DEPTH = 64
"""The deepest nesting of sequences that a received dataset may have.

Far more than the objects of the standard have. pydicom recurses once per level, so that a much
deeper nesting would exceed Python's recursion limit.
"""

_UNDEFINED = 0xFFFFFFFF
_ITEM = 0xFFFEE000
_ITEM_END = 0xFFFEE00D
_SEQUENCE_END = 0xFFFEE0DD
_SPECIFIC_CHARACTER_SET = BaseTag(0x00080005)

_VRS = {vr.value.encode(): vr.value for vr in VR}
_SHORT_VRS = {code: vr for code, vr in _VRS.items() if vr not in LONG_VRS}
"""Those of values that have a length of two bytes, and are no sequences."""

_CURVE_SEQUENCE = 0x50002600
"""(50xx,2600), the only sequence among the repeating groups of the dictionary."""


@cache
def _private_sequences() -> frozenset[int]:
    """Return the tags of the private sequences that pydicom knows, with 0 for variable digits."""
    return frozenset(
        int(tag.replace("x", "0"), 16)
        for dictionary in private_dictionaries.values()
        for tag, (vr, *_) in dictionary.items()
        if vr == "SQ"
    )


_FIELDS = {
    order == "<": (
        struct.Struct(f"{order}HH2sH").unpack_from,
        struct.Struct(f"{order}HHI").unpack_from,
        struct.Struct(f"{order}I").unpack_from,
    )
    for order in "<>"
}
"""By "is little endian", the readers of: group, element, VR and short length (explicit VR); group,
element and length (implicit VR, items); a long length."""


Elements = dict[BaseTag, DataElement | RawDataElement]
"""The elements of a dataset or an item, in the order of the encoded data."""

_raw: Callable[[tuple[Any, ...]], RawDataElement] = partial(tuple.__new__, RawDataElement)
"""Makes a RawDataElement of all its fields, without a call of a Python function."""
_REST = tuple(RawDataElement._field_defaults.values())

_Attributes = dict[str, Any]


def _attributes(dataset: Dataset) -> tuple[_Attributes, list[str]]:
    """Return the attributes of a dataset without elements, and the names of those to be copied."""
    attributes = vars(dataset)
    return attributes, [name for name, value in attributes.items() if isinstance(value, dict)]


_FRESH = _attributes(Dataset())


def new_dataset(elements: Elements, like: tuple[_Attributes, list[str]] = _FRESH) -> Dataset:
    """Return ``Dataset(elements)`` in a tenth of the time that pydicom's `__init__` takes."""
    dataset = Dataset.__new__(Dataset)
    state = vars(dataset)
    attributes, dicts = like
    state.update(attributes)
    for name in dicts:
        state[name] = attributes[name].copy()
    state["_dict"] = elements
    return dataset


@cache
def _read_as(is_implicit: bool, is_little: bool) -> tuple[_Attributes, list[str]]:
    """Return the attributes of a dataset that was read, in the default character set."""
    dataset = Dataset()
    dataset.set_original_encoding(is_implicit, is_little, default_encoding)
    return _attributes(dataset)


class ScanLimits(NamedTuple):
    """The most sequence items and the most elements that a dataset may have, on all levels."""

    items: int
    elements: int


_Frame = tuple[int, bool, bool]
"""A sequence or an item during the scan: the position before which it must end, whether its length
is undefined, and whether its elements are in implicit VR."""


class Scanner:
    """Splits an encoded dataset (PS3.5 Section 7) into pydicom's raw elements.

    pydicom's own reader recurses once per level of nesting, accepts a truncated value as complete,
    and searches to the end of the data for each missing delimiter, which takes quadratic time. So
    the scanner goes once through all data that pydicom will parse, and checks that all lengths
    fit, that no delimiter is missing, and that sequences are not nested too deeply. Sequences stay
    raw; pydicom parses them when a program reads them.

    Parameters
    ----------
    view : memoryview
        The dataset, not deflated.
    is_implicit, is_little : bool
        The negotiated encoding. If the data contradict `is_implicit`, the data decide.
    most : ScanLimits
        DatasetError is raised for more; fragments of pixel data count as items.
    """

    def __init__(
        self, view: memoryview, is_implicit: bool, is_little: bool, most: ScanLimits
    ) -> None:
        self._view = view
        self._items_left, self._elements_left = most
        self._explicit, self._implicit, self._length = _FIELDS[is_little]
        self._is_little = is_little
        self._to_decode: list[BaseTag] = []
        self._is_implicit = is_implicit

    def dataset(self) -> Dataset:
        """Return all of the data as a dataset of raw elements.

        Sequences in implicit VR within explicit VR are decoded at once: pydicom writes raw
        elements unchanged, and would write these items after the header of an explicit SQ.
        """
        elements = self.elements()
        dataset = new_dataset(elements, _read_as(self._is_implicit, self._is_little))
        character_set = elements.get(_SPECIFIC_CHARACTER_SET)
        if isinstance(character_set, RawDataElement):
            encoding = convert_encodings(convert_raw_data_element(character_set).value)
            dataset.set_original_encoding(self._is_implicit, self._is_little, encoding)
        for tag in self._to_decode:
            dataset[tag]
        return dataset

    def elements(self) -> Elements:
        """Return the raw elements of all of the data."""
        if len(self._view) >= 8 and self._look_for_implicit(0) != self._is_implicit:
            names = ("explicit", "implicit")
            agreed, found = names[self._is_implicit], names[not self._is_implicit]
            LOGGER.warning("A dataset is in %s VR, but %s VR was negotiated", found, agreed)
            self._is_implicit = not self._is_implicit
        return self._cut(0, len(self._view), self._is_implicit)

    def items(self) -> Iterator[Elements]:
        """Iterate over the items, if the data are the value of a sequence.

        The scan of the dataset has already checked that no delimiter is missing.
        """
        end = len(self._view)
        position = 0
        while position < end:
            start, item = self._step_in_sequence((end, False, self._is_implicit), position)
            if item is None:
                return
            position, inside = self._skip_item(item, start)
            yield self._cut(start, inside, item[2])

    def _skip_item(self, item: _Frame, position: int) -> tuple[int, int]:
        """Return the position after an item, and that after its last element."""
        limit, is_undefined, _ = item
        if not is_undefined:
            return limit, limit
        while True:
            after, inner = self._step_in_item(item, position)
            if inner is None:
                return after, position
            position = after if inner is item else self._skip_sequence(inner, after)

    def _cut(self, position: int, end: int, is_implicit: bool) -> Elements:
        view, is_little = self._view, self._is_little
        explicit, implicit = self._explicit, self._implicit
        elements: Elements = {}
        while position < end:
            start = position + 8
            if start <= end:  # most elements have a header of 8 bytes, and are no sequences
                if is_implicit:
                    group, element, length = implicit(view, position)
                    known = DicomDictionary.get(group << 16 | element)
                    vr, is_usual = None, known is not None and known[0] != "SQ"
                else:
                    group, element, code, length = explicit(view, position)
                    vr = _SHORT_VRS.get(code)
                    is_usual = vr is not None
                if is_usual and 0 < length <= end - start:
                    self._count_element()
                    tag = BaseTag(group << 16 | element)
                    position = start + length
                    value = view[start:position].tobytes()
                    fields = (tag, vr, length, value, start, is_implicit, is_little, *_REST)
                    elements[tag] = _raw(fields)
                    continue
            if end - position < 8 and not view[position:].tobytes().strip(b"\0"):
                break  # some writers pad the dataset with zeros
            number, declared, length, start = self._header(position, end, is_implicit)
            vr = declared
            if vr is None and not is_implicit:
                vr = _assumed_vr(number)
            if length == 0:
                position = start
                value = empty_value_for_VR(vr, raw=True)  # type: ignore[assignment]
            elif length != _UNDEFINED:
                position = self._end(start, length, end)
                if self._is_sequence(number, vr, start):
                    self._skip_sequence((position, False, is_implicit), start)
                value = view[start:position].tobytes()
            else:
                if self._is_sequence(number, vr, start) or self._has_items(number, vr, start):
                    vr = "SQ"
                    position = self._skip_sequence((end, True, is_implicit), start)
                else:
                    position = self._skip_fragments(start, end)
                value = view[start : position - 8].tobytes()
            if number == _ITEM_END:
                raise DatasetError(f"byte {start - 8}: the end of an item that has no beginning")
            self._count_element()
            tag = BaseTag(number)
            if vr == "SQ" and declared != "SQ" and not is_implicit:
                self._to_decode.append(tag)
            elements[tag] = _raw((tag, vr, length, value, start, is_implicit, is_little, *_REST))
        return elements

    def _header(
        self, position: int, limit: int, is_implicit: bool
    ) -> tuple[int, str | None, int, int]:
        """Return the tag, VR, length of an element, and the position of its value."""
        start = position + 8
        if start > limit:
            raise _truncated(position)
        if not is_implicit:
            group, element, code, length = self._explicit(self._view, position)
            vr = _VRS.get(code)
            if vr in LONG_VRS:
                start += 4
                if start > limit:
                    raise _truncated(position)
                return group << 16 | element, vr, self._length(self._view, position + 8)[0], start
            if vr is not None:
                return group << 16 | element, vr, length, start
            if b"AA" <= code <= b"ZZ":  # a VR of a later edition: assume a short length
                return group << 16 | element, code.decode("latin-1"), length, start
            # Some writers change to implicit VR within a dataset; delimiters have no VR either.
        group, element, length = self._implicit(self._view, position)
        return group << 16 | element, None, length, start

    def _item(self, position: int, limit: int) -> tuple[int, int, int]:
        """Return the tag and length of an item or a delimiter, and the position after them."""
        if position + 8 > limit:
            raise _truncated(position)
        group, element, length = self._implicit(self._view, position)
        return group << 16 | element, length, position + 8

    def _count_element(self) -> None:
        self._elements_left -= 1
        if self._elements_left < 0:
            raise DatasetError("the dataset has too many elements")

    def _count_item(self) -> None:
        self._items_left -= 1
        if self._items_left < 0:
            raise DatasetError("the dataset has too many items")

    def _end(self, start: int, length: int, limit: int) -> int:
        end = start + length
        if end > limit:
            raise DatasetError(
                f"byte {start}: a value of {length} bytes where {limit - start} are left"
            )
        return end

    def _look_for_implicit(self, position: int) -> bool:
        """Return whether the element at `position` has no VR: no two capitals follow its tag."""
        first, second = self._view[position + 4 : position + 6]
        return not (0x40 < first < 0x5B and 0x40 < second < 0x5B)

    def _is_sequence(self, number: int, vr: str | None, start: int) -> bool:
        """Return whether pydicom will parse the value at `start` as a sequence of any length."""
        if vr is not None and vr != "UN":
            return vr == "SQ"
        entry = DicomDictionary.get(number)
        if entry is None:
            is_curve = number & 0xFF00FFFF == _CURVE_SEQUENCE
            return is_curve or self._is_private_sequence(number, start)
        known: str = entry[0]
        return known == "SQ"

    def _is_private_sequence(self, number: int, start: int) -> bool:
        """Return whether pydicom may parse a private value of unknown VR as a sequence.

        pydicom also checks the private creator. This does not: a value that begins with an item
        is checked as a sequence in any case.
        """
        known = _private_sequences()
        if number & 0xFFFF00FF not in known and number & 0xFF0000FF not in known:
            return False
        return start + 8 <= len(self._view) and self._item(start, start + 8)[0] == _ITEM

    def _has_items(self, number: int, vr: str | None, start: int) -> bool:
        """Return whether a value of undefined length is a sequence, if its tag is unknown.

        UN of undefined length always is one (PS3.5 Section 6.2.2).
        """
        if vr is not None:
            return vr == "UN"
        try:
            dictionary_VR(number)
        except KeyError:
            return self._item(start, len(self._view))[0] == _ITEM
        return False

    def _skip_fragments(self, position: int, limit: int) -> int:
        """Return the position after encapsulated pixel data (PS3.5 Section A.4)."""
        while True:
            number, length, start = self._item(position, limit)
            if number == _SEQUENCE_END:
                return start
            if number != _ITEM:
                raise DatasetError(f"byte {position}: neither a fragment nor the end of the value")
            self._count_item()
            position = self._end(start, length, limit)

    def _skip_sequence(self, frame: _Frame, position: int) -> int:
        """Return the position after the sequence that begins at `position` (PS3.5 Section 7.5).

        The stack holds the open sequences and items, alternately.
        """
        stack: list[_Frame] = []
        while True:
            if position == frame[0] and not frame[1]:
                inner = None
            elif len(stack) % 2:
                position, inner = self._step_in_item(frame, position)
            else:
                position, inner = self._step_in_sequence(frame, position)
            if inner is frame:
                continue
            if inner is not None:
                stack.append(frame)
                frame = inner
                if len(stack) == 2 * MAX_DEPTH:
                    raise DatasetError(f"sequences are nested more than {MAX_DEPTH} deep")
            elif stack:
                frame = stack.pop()
            else:
                return position

    def _step_in_item(self, frame: _Frame, position: int) -> tuple[int, _Frame | None]:
        """Pass one element; return the next position and the frame to continue in.

        That frame is `frame` itself, a new one within it, or None if `frame` has ended.
        """
        limit, is_undefined, is_implicit = frame
        number, vr, length, start = self._header(position, limit, is_implicit)
        if number == _ITEM_END:
            if not is_undefined and start != limit:
                raise DatasetError(f"byte {position}: an item ends before its length")
            return start, None
        self._count_element()
        if length == _UNDEFINED:
            if self._is_sequence(number, vr, start) or self._has_items(number, vr, start):
                return start, (limit, True, is_implicit)
            return self._skip_fragments(start, limit), frame
        end = self._end(start, length, limit)
        if length and self._is_sequence(number, vr, start):
            return start, (end, False, is_implicit)
        return end, frame

    def _step_in_sequence(self, frame: _Frame, position: int) -> tuple[int, _Frame | None]:
        """Pass the start of an item or the end of the sequence; see `_step_in_item`."""
        limit, is_undefined, is_implicit = frame
        number, length, start = self._item(position, limit)
        if number == _SEQUENCE_END:
            return start if is_undefined else limit, None
        if number != _ITEM:
            raise DatasetError(f"byte {position}: neither an item nor the end of the sequence")
        self._count_item()
        end = limit if length == _UNDEFINED else self._end(start, length, limit)
        # Any item may begin with implicit VR; then all of the item is in implicit VR.
        if not is_implicit and start + 8 <= limit:
            is_implicit = self._look_for_implicit(start)
        return start, (end, length == _UNDEFINED, is_implicit)


def items_of(element: RawDataElement) -> Iterator[Elements]:
    """Iterate over the items of a raw sequence that `Scanner.elements` returned.

    Raises
    ------
    DatasetError
        If the value is not a sequence.
    """
    view = memoryview(element.value or b"")
    most = ScanLimits(len(view), len(view))  # no limit: the scan of the dataset has counted them
    scanner = Scanner(view, element.is_implicit_VR, element.is_little_endian, most)
    return scanner.items()


def _assumed_vr(number: int) -> str:
    """Return the VR of an element that has none although its dataset is in explicit VR."""
    try:
        vr = dictionary_VR(number)
    except KeyError:
        return "UN"
    return _VRS.get(vr[:2].encode(), "UN")  # the first one of "US or SS"


def _truncated(position: int) -> DatasetError:
    return DatasetError(f"byte {position}: the dataset ends in the middle of an element")
