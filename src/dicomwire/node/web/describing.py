"""Reads a stored object as metadata: its dataset in the DICOM JSON Model (PS3.18 Annex F).

Large values are not read: they become the URLs of bulk data (PS3.18 Section 10.4.3.3.2).
"""

from __future__ import annotations

import math
import struct
from base64 import b64encode
from collections.abc import Sequence
from functools import lru_cache
from io import BufferedReader
from typing import Any

from pydicom.datadict import dictionary_VR
from pydicom.tag import BaseTag

from dicomwire.data.file_meta import FileFormatError
from dicomwire.data.scanner import MAX_DEPTH, DatasetError
from dicomwire.node.decoding import TEXT_VRS, known_terms, text_of_value
from dicomwire.node.elements import PIXEL_DATA, Container, Element, ElementReader, Unreadable
from dicomwire.node.heads import read_head
from dicomwire.node.web.models import Model, element_of_text

BINARY_VRS = frozenset({"OB", "OD", "OF", "OL", "OV", "OW", "UN"})
_NUMBERS = {
    vr: struct.Struct(f"<{code}")
    for vr, code in zip(["FL", "FD", "SS", "US", "SL", "UL", "SV", "UV"], "fdhHlLqQ", strict=True)
}
_KNOWN = BINARY_VRS | TEXT_VRS | set(_NUMBERS) | {"AT", "SQ"}
LONGEST_BINARY = 1024
"""In bytes, the longest binary value in metadata: in base64 it is no longer than other values."""
LONGEST_VALUE = 64 * 1024
"""In bytes, the longest other value in metadata: elements with a 16-bit length have no longer."""
_MOST_VALUES = 16 * 2**20
"""The most bytes of values in the metadata of an object; further ones are bulk data."""
MOST_ELEMENTS = 300_000
"""The most elements and items in metadata, which take some 400 bytes of memory each. An image of
ten thousand frames has so many."""
_HEAD = 64 * 1024
"""How many bytes to read for the head of a file."""
_CHARACTER_SET, _PIXEL_REPRESENTATION = 0x00080005, 0x00280103
_TRANSFER_SYNTAX = "00083002"
_LARGEST_EXACT = 2**53
"""Larger integers lose digits in JavaScript, and so are text (F.2.3)."""


def opened_dataset(file: BufferedReader, most: int | None = None) -> tuple[ElementReader, str]:
    """Return a reader for the dataset of a stored object, and its transfer syntax.

    Parameters
    ----------
    most : int, optional
        The most elements to read.

    Raises
    ------
    DatasetError
    """
    size = file.seek(0, 2)
    file.seek(0)
    try:
        origin, offset, _ = read_head(file.read(_HEAD), size)
    except FileFormatError as error:
        raise DatasetError(str(error)) from None
    file.seek(offset)
    return ElementReader(file, origin.transfer_syntax_uid, most), origin.transfer_syntax_uid


def described(file: BufferedReader, bulkdata: str) -> Model:
    """Return the metadata of a stored object.

    Parameters
    ----------
    bulkdata : str
        The URL below which its bulk data is.

    Raises
    ------
    DatasetError
        When the object is damaged.
    OSError
    """
    reader, transfer_syntax = opened_dataset(file, MOST_ELEMENTS)
    try:
        model = _Describer(reader, bulkdata).dataset(Container(None, None, True))
    except Unreadable as error:
        raise DatasetError(str(error)) from None
    model[_TRANSFER_SYNTAX] = {"vr": "UI", "Value": [transfer_syntax]}
    return dict(sorted(model.items()))


def vr_of(element: Element, is_signed: bool = False) -> str:
    """Return the VR of an element: its own, or that of the dictionary.

    Parameters
    ----------
    is_signed : bool, optional
        Whether pixels are signed, which decides about some elements in implicit VR (PS3.5 A.1).
    """
    vr = element.own_vr
    if vr is None:
        if element.length is None and not element.is_encapsulated:
            return "SQ"
        vr = _vr_in_dictionary(element.tag)
        if " or " in vr:
            return "OW" if "OW" in vr else "SS" if is_signed else "US"
        return vr
    return vr if vr in _KNOWN else "UN"


@lru_cache(maxsize=4096)
def _vr_in_dictionary(number: int) -> str:
    tag = BaseTag(number)
    if tag.is_private_creator:
        return "LO"
    try:
        return dictionary_VR(tag)
    except KeyError:
        return "UN"


class _Describer:
    """Makes the model of a dataset, and of the items in it."""

    def __init__(self, reader: ElementReader, bulkdata: str) -> None:
        self._reader = reader
        self._bulkdata = bulkdata
        self._room = _MOST_VALUES

    def dataset(
        self,
        container: Container,
        path: str = "",
        terms: tuple[str, ...] = (),
        is_signed: bool = False,
        depth: int = 0,
    ) -> Model:
        """Return the model of a dataset or an item.

        Parameters
        ----------
        path : str
            Of the item: tags of sequences and numbers of items, each followed by a slash.
        terms, is_signed
            The Specific Character Set, and whether pixels are signed, in the dataset above.
        """
        if depth > MAX_DEPTH:
            raise Unreadable("sequences are nested too deep")
        model: Model = {}
        while (element := self._reader.element(container)) is not None:
            name = f"{element.tag:08X}"
            vr = vr_of(element, is_signed)
            if element.is_encapsulated:
                model[name] = self._link(vr, path + name)
                if element.tag == PIXEL_DATA and not depth:
                    break  # a bucket would need a request for each fragment
                self._reader.skip_fragments()
            elif vr == "SQ":
                model[name] = self._items(element, f"{path}{name}/", terms, is_signed, depth)
            else:
                model[name] = self._value(element, vr, path + name, terms)
                if element.tag == _CHARACTER_SET:
                    terms = known_terms(
                        "\\".join(each or "" for each in _values(model[name])).encode()
                    )
                elif element.tag == _PIXEL_REPRESENTATION:
                    is_signed = _values(model[name]) == [1]
        return dict(sorted(model.items()))

    def _items(
        self, element: Element, path: str, terms: tuple[str, ...], is_signed: bool, depth: int
    ) -> dict[str, Any]:
        sequence = self._reader.sequence(element)
        items: list[Model] = []
        while (item := self._reader.item(sequence)) is not None:
            inner = f"{path}{len(items) + 1}/"
            items.append(self.dataset(item, inner, terms, is_signed, depth + 1))
        return {"vr": "SQ", "Value": items} if items else {"vr": "SQ"}

    def _value(
        self, element: Element, vr: str, path: str, terms: tuple[str, ...]
    ) -> dict[str, Any]:
        length = element.length or 0
        most = LONGEST_BINARY if vr in BINARY_VRS else LONGEST_VALUE
        if length > min(most, self._room) or (element.tag == PIXEL_DATA and length):
            self._reader.skip(element)
            return self._link(vr, path)
        self._room -= length
        raw = self._reader.take(length, vr)
        if not raw:
            return {"vr": vr}
        if vr in TEXT_VRS:
            return element_of_text(vr, text_of_value(vr, raw, terms))
        if vr == "AT" and not length % 4:
            words = _NUMBERS["US"].iter_unpack(raw)
            groups = [f"{number:04X}" for (number,) in words]
            pairs = zip(groups[::2], groups[1::2], strict=True)
            return {"vr": vr, "Value": ["".join(pair) for pair in pairs]}
        form = _NUMBERS.get(vr)
        if form is not None and not length % form.size:
            numbers = [_number(number) for (number,) in form.iter_unpack(raw)]
            return self._link(vr, path) if None in numbers else {"vr": vr, "Value": numbers}
        binary = vr if vr in BINARY_VRS else "UN"
        return {"vr": binary, "InlineBinary": b64encode(raw).decode()}

    def _link(self, vr: str, path: str) -> dict[str, Any]:
        return {"vr": vr, "BulkDataURI": f"{self._bulkdata}/{path}"}


def _values(element: dict[str, Any]) -> Sequence[Any]:
    values: Sequence[Any] = element.get("Value", ())
    return values


def _number(number: int | float) -> int | float | str | None:
    """Return a number as JSON has it; None if it has none."""
    if isinstance(number, float):
        return number if math.isfinite(number) else None
    return number if abs(number) <= _LARGEST_EXACT else str(number)
