"""The identifiers that a query is answered with: datasets, their values and their character set.

What is found is not decided here, nor what is asked for.
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
"""Of a dataset; what is below belongs to commands, files and directories (PS3.5 7.1)."""

_Elements = dict[BaseTag, DataElement | RawDataElement]


class Answers:
    """Makes answers out of values.

    Values are put in as text, unconverted: an answer is made to be encoded at once.

    Parameters
    ----------
    constants : list
        What each answer says besides: tag, VR and value.
    character_sets : list of str
        Those of the asker, which are used for what can be said in them (PS3.4 C.4.1.1.3.2).
    """

    def __init__(
        self, constants: Sequence[tuple[int, str, str]], character_sets: list[str]
    ) -> None:
        self._constants = {
            BaseTag(tag): DataElement(tag, vr, value, already_converted=True)
            for tag, vr, value in constants
        }
        self._asked = character_sets
        self._can_say = _checker(character_sets)

    def make(self, values: Sequence[tuple[BaseTag, str, Sequence[Any], Nested | None]]) -> Dataset:
        """Return an answer with these elements: tag, VR, values, and what is wanted of items."""
        elements: _Elements = {**self._constants}
        said: list[str] = []
        for tag, vr, found, nested in values:
            elements[tag] = _element(tag, vr, found, nested, said)
        text = "".join(said)
        if not text.isascii():
            terms: Any = self._asked if self._can_say(text) else UTF_8
            terms = terms[0] if len(terms) == 1 else terms
            elements[_CHARACTER_SET] = DataElement(
                _CHARACTER_SET, "CS", terms, already_converted=True
            )
        return Dataset(elements)


def _element(
    tag: BaseTag, vr: str, values: Sequence[Any], nested: Nested | None, said: list[str]
) -> DataElement:
    """Return an element; add to `said` what text it has.

    Values that objects should not have had are left out, or shown with question marks: one of
    them is no reason for all of an answer to fail.
    """
    value: Any
    if vr == "SQ":
        value = Items(_item(item, nested, said) for item in values if isinstance(item, dict))
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
            said.extend(map(str, names))
            value = names[0] if len(names) == 1 else names or ""
        elif vr in WITH_CHARACTER_SET:
            said.append(value)
        elif not value.isascii():
            value = value.encode("ascii", "replace").decode()
    return DataElement(tag, vr, value, already_converted=True)


def _fitting(texts: list[str]) -> list[str]:
    """Return the texts that fit together into an element with a length of 16 bits."""
    fitting, room = [], VALUE_LIMIT
    for text in texts:
        if len(text) <= room:
            fitting.append(text)
            room -= len(text) + 1
    return fitting


def _whole(least: int, most: int) -> Callable[[Any], bool]:
    return lambda number: type(number) is int and least <= number <= most


def _broken(most: float) -> Callable[[Any], bool]:
    return lambda number: type(number) in (int, float) and abs(number) <= most


_BINARY = {
    "FD": _broken(1.7e308),
    "FL": _broken(3.4e38),
    "SL": _whole(-1 << 31, (1 << 31) - 1),
    "SS": _whole(-1 << 15, (1 << 15) - 1),
    "SV": _whole(-1 << 63, (1 << 63) - 1),
    "UL": _whole(0, (1 << 32) - 1),
    "US": _whole(0, (1 << 16) - 1),
    "UV": _whole(0, (1 << 64) - 1),
}
"""VRs of binary numbers, and what they can hold."""
_NUMBER_TEXT = {
    "DS": re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d{1,3})?", re.ASCII).fullmatch,
    "IS": re.compile(r"[+-]?\d{1,32}(?:\.0*)?", re.ASCII).fullmatch,
}
"""VRs of numbers as text, and what these are like: decoders raise for anything else."""
_MOST_NUMBERS = 0xFFFF // 8
"""Of FD, SV and UV, which have 8 bytes each, an element with a length of 16 bits has no more."""
_TEXT = ASCII_VRS | WITH_CHARACTER_SET
_KIND = {**dict.fromkeys(_TEXT, "text"), **dict.fromkeys(_BINARY, "number"), "SQ": "items"}
"""What values in the DICOM JSON model are, by VR; other VRs are not answered."""


@lru_cache(maxsize=1024)
def _vr_of(name: str) -> str | None:
    """Return the dictionary's VR of an element in an item; None for what is not answered.

    Group lengths, the character set of an item and private elements are not: the one would be
    wrong, the other is that of the answer, and of the last an asker in implicit VR knows nothing.
    """
    tag = BaseTag(int(name, 16))
    if tag == _CHARACTER_SET or tag.group < _FIRST_GROUP or not tag.element or tag.is_private:
        return None
    try:
        vr = dictionary_VR(tag)
    except KeyError:
        return None
    return vr if vr in _KIND else None


def _item(item: dict[str, Any], nested: Nested | None, said: list[str]) -> Dataset:
    """Return an item in the DICOM JSON model (PS3.18 F.2) as a dataset, with what is wanted.

    The VRs are those of the dictionary, whatever the object had: an asker in implicit VR takes
    elements for what they are there.
    """
    elements: _Elements = {}
    if nested is not None and nested.keys:
        for name, (tag, vr, inner) in nested.keys.items():
            elements[tag] = _element(tag, vr, _values(item.get(name, {}), vr), inner, said)
    else:
        for name, found in item.items():
            own = _vr_of(name)
            if own is not None and _KIND.get(found["vr"]) == _KIND[own]:
                tag = BaseTag(int(name, 16))
                elements[tag] = _element(tag, own, found.get("Value", ()), None, said)
    return Dataset(elements)


def _values(found: dict[str, Any], vr: str) -> Sequence[Any]:
    """Return the values of an element; none where they are of another kind than the VR's."""
    values: Sequence[Any] = found.get("Value", ())
    return values if _KIND.get(found.get("vr", "")) == _KIND[vr] else ()


def _checker(character_sets: list[str]) -> Callable[[str], bool]:
    """Return what tells whether all of a text can be said in character sets.

    It says no where pydicom's encoder would take bytes for what the sets do not have, or leave
    out the escape sequence: the answer to rare pairs of sets is in UTF-8 then.
    """
    is_default = [term in _DEFAULT for term in character_sets]
    codecs = [python_encoding[term] for term in character_sets if term not in _DEFAULT]

    def can_say(text: str) -> bool:
        characters = {each for each in text if not each.isascii()}
        if any(is_default) and any(each <= "\xff" for each in characters):
            return False
        return all(any(_has(codec, each) for codec in codecs) for each in characters)

    return can_say


_DEFAULT = frozenset({"", "ISO_IR 6", "ISO 2022 IR 6"})


def _has(codec: str, character: str) -> bool:
    if codec == "shift_jis":  # as pydicom calls JIS X 0201, which has no more than this of it
        return "\uff61" <= character <= "\uff9f"
    if codec == "iso2022_jp_2":  # JIS X 0212, of which the codec is far more
        return False
    try:
        character.encode(codec)
    except UnicodeEncodeError:
        return False
    return True
