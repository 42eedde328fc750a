"""The identifiers of C-FIND responses: their elements, values and character set.

`identifier` reads the keys of the request, `search` selects the rows that match.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

from pydicom.charset import python_encoding
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as Items
from pydicom.tag import BaseTag
from pydicom.valuerep import PersonName

from dicomwire.node.identifier import ASCII_VRS, WITH_CHARACTER_SET, Nested
from dicomwire.node.keys import VALUE_LIMIT
from dicomwire.node.values import text_of

UTF_8 = "ISO_IR 192"
_CHARACTER_SET = BaseTag(0x00080005)
_FIRST_GROUP = 0x0008
"""The first group of a dataset; commands, file meta information and DICOMDIR use lower ones
(PS3.5 7.1)."""

_Elements = dict[BaseTag, DataElement | RawDataElement]


class Answers:
    """Makes the identifiers of responses out of the values found.

    Values stay text, without pydicom's conversion: an identifier is encoded as soon as it is made.

    Parameters
    ----------
    constants : list
        Tag, VR and value of the elements that every response contains.
    character_sets : list of str
        The Specific Character Set of the request. A response uses it if it can encode all of its
        text, and UTF-8 otherwise (PS3.4 C.4.1.1.3.2).
    """

    def __init__(
        self, constants: Sequence[tuple[int, str, str]], character_sets: list[str]
    ) -> None:
        self._constants = {
            BaseTag(tag): DataElement(tag, vr, value, already_converted=True)
            for tag, vr, value in constants
        }
        self._character_sets = character_sets
        self._can_encode = _checker(character_sets)

    def make(self, values: Sequence[tuple[BaseTag, str, Sequence[Any], Nested | None]]) -> Dataset:
        """Return an identifier with the elements `values`: tag, VR, values, keys of the items."""
        elements: _Elements = {**self._constants}
        texts: list[str] = []
        for tag, vr, found, nested in values:
            elements[tag] = _element(tag, vr, found, nested, texts)
        text = "".join(texts)
        if not text.isascii():
            terms: Any = self._character_sets if self._can_encode(text) else UTF_8
            terms = terms[0] if len(terms) == 1 else terms
            elements[_CHARACTER_SET] = DataElement(
                _CHARACTER_SET, "CS", terms, already_converted=True
            )
        return Dataset(elements)


def _element(
    tag: BaseTag, vr: str, values: Sequence[Any], nested: Nested | None, encoded: list[str]
) -> DataElement:
    """Return an element; append its text that the character set has to encode to `encoded`.

    Invalid values of stored objects are left out, or their characters replaced by question marks,
    so that one of them does not make the whole response fail.
    """
    value: Any
    if vr == "SQ":
        value = Items(_item(item, nested, encoded) for item in values if isinstance(item, dict))
    elif vr in _BINARY:
        numbers = [each for each in values if _BINARY[vr](each)][:_MOST_NUMBERS]
        value = numbers[0] if len(numbers) == 1 else numbers or None
    else:
        texts = [text_of(each) for each in values]
        if vr in _NUMBER_TEXT:
            texts = list(filter(_NUMBER_TEXT[vr], texts))
        value = "\\".join(texts)
        if len(value) > VALUE_LIMIT:
            texts = _fitting(texts)
            value = "\\".join(texts)
        if vr == "PN":
            names = [PersonName(text) for text in texts]
            encoded.extend(map(str, names))
            value = names[0] if len(names) == 1 else names or ""
        elif vr in WITH_CHARACTER_SET:
            encoded.append(value)
        elif not value.isascii():
            value = value.encode("ascii", "replace").decode()
    return DataElement(tag, vr, value, already_converted=True)


def _fitting(texts: list[str]) -> list[str]:
    """Return those of the texts that together have at most `VALUE_LIMIT` characters.

    An element with a 16-bit length can hold them in any character set.
    """
    fitting, room = [], VALUE_LIMIT
    for text in texts:
        if len(text) <= room:
            fitting.append(text)
            room -= len(text) + 1
    return fitting


def _integer(least: int, most: int) -> Callable[[Any], bool]:
    return lambda number: type(number) is int and least <= number <= most


def _floating(most: float) -> Callable[[Any], bool]:
    return lambda number: type(number) in (int, float) and abs(number) <= most


_BINARY = {
    "FD": _floating(1.7e308),
    "FL": _floating(3.4e38),
    "SL": _integer(-1 << 31, (1 << 31) - 1),
    "SS": _integer(-1 << 15, (1 << 15) - 1),
    "SV": _integer(-1 << 63, (1 << 63) - 1),
    "UL": _integer(0, (1 << 32) - 1),
    "US": _integer(0, (1 << 16) - 1),
    "UV": _integer(0, (1 << 64) - 1),
}
"""The VRs of binary numbers, each with a check whether it can hold a value."""
_NUMBER_TEXT = {
    "DS": re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d{1,3})?", re.ASCII).fullmatch,
    "IS": re.compile(r"[+-]?\d{1,32}(?:\.0*)?", re.ASCII).fullmatch,
}
"""The VRs of numbers as text, with their patterns: a peer's decoder may raise for other text."""
_MOST_NUMBERS = 0xFFFF // 8
"""An element with a 16-bit length holds no more values of FD, SV and UV, of 8 bytes each."""
_TEXT = ASCII_VRS | WITH_CHARACTER_SET
_KIND = {**dict.fromkeys(_TEXT, "text"), **dict.fromkeys(_BINARY, "number"), "SQ": "items"}
"""The Python kind of values in the DICOM JSON model, by VR; responses leave out other VRs."""


@lru_cache(maxsize=1024)
def _vr_of(name: str) -> str | None:
    """Return the dictionary's VR of an element in an item; None if responses leave it out.

    They leave out group lengths, which would be wrong, the character set of the item, since that
    of the response applies, and private elements, whose VR a peer with implicit VR cannot know.
    """
    tag = BaseTag(int(name, 16))
    if tag == _CHARACTER_SET or tag.group < _FIRST_GROUP or not tag.element or tag.is_private:
        return None
    try:
        vr = dictionary_VR(tag)
    except KeyError:
        return None
    return vr if vr in _KIND else None


def _item(item: dict[str, Any], nested: Nested | None, encoded: list[str]) -> Dataset:
    """Return the requested elements of an item in the DICOM JSON model (PS3.18 F.2) as a dataset.

    The VRs come from the dictionary, not from the object: a peer with implicit VR decodes
    elements by the dictionary.
    """
    elements: _Elements = {}
    if nested is not None and nested.keys:
        for name, (tag, vr, inner) in nested.keys.items():
            elements[tag] = _element(tag, vr, _values(item.get(name, {}), vr), inner, encoded)
    else:
        for name, found in item.items():
            own = _vr_of(name)
            if own is not None and _KIND.get(found["vr"]) == _KIND[own]:
                tag = BaseTag(int(name, 16))
                elements[tag] = _element(tag, own, found.get("Value", ()), None, encoded)
    return Dataset(elements)


def _values(found: dict[str, Any], vr: str) -> Sequence[Any]:
    """Return the values of an element; none if their kind is not that of the VR."""
    values: Sequence[Any] = found.get("Value", ())
    return values if _KIND.get(found.get("vr", "")) == _KIND[vr] else ()


def _checker(character_sets: list[str]) -> Callable[[str], bool]:
    """Return a function that tells whether the character sets can encode all of a text.

    It also returns False where pydicom's encoder would write bytes of another character, or
    leave out an escape sequence: for such rare pairs of sets the response is in UTF-8.
    """
    is_default = [term in _DEFAULT for term in character_sets]
    codecs = [python_encoding[term] for term in character_sets if term not in _DEFAULT]

    def can_encode(text: str) -> bool:
        characters = {each for each in text if not each.isascii()}
        if any(is_default) and any(each <= "\xff" for each in characters):
            return False
        return all(any(_has(codec, each) for codec in codecs) for each in characters)

    return can_encode


_DEFAULT = frozenset({"", "ISO_IR 6", "ISO 2022 IR 6"})


def _has(codec: str, character: str) -> bool:
    if codec == "shift_jis":  # pydicom's codec for JIS X 0201, which has only these characters
        return "\uff61" <= character <= "\uff9f"
    if codec == "iso2022_jp_2":  # pydicom's codec for JIS X 0212; it encodes many other sets too
        return False
    try:
        character.encode(codec)
    except UnicodeEncodeError:
        return False
    return True
