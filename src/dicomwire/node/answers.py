"""The identifiers of C-FIND responses: their elements, values and character set, encoded.

`identifier` reads the keys of the request, `search` selects the rows that match.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache, lru_cache, partial
from operator import attrgetter, itemgetter, methodcaller
from struct import Struct, pack
from typing import Any, NamedTuple, TypeAlias

from pydicom.charset import convert_encodings, encode_string, python_encoding
from pydicom.datadict import dictionary_VR
from pydicom.tag import BaseTag

from dicomwire.data.codec import deflate
from dicomwire.data.encodings import LONG_VRS, encoding_of
from dicomwire.node.identifier import ASCII_VRS, WITH_CHARACTER_SET, Nested
from dicomwire.node.keys import VALUE_LIMIT
from dicomwire.node.values import text_of

UTF_8 = "ISO_IR 192"
_CHARACTER_SET = 0x00080005
_FIRST_GROUP = 0x0008
"""The first group of a dataset; commands, file meta information and DICOMDIR use lower ones
(PS3.5 7.1)."""
_LONGEST = 0xFFFE
"""The most bytes of a value with a 16-bit length."""
_ITEM = 0xFFFE, 0xE000

_Encode = Callable[[str], bytes]
_EncodeValues: TypeAlias = "Callable[[Sequence[Any], _CharacterSet], bytes]"


class _CharacterSet(NamedTuple):
    """How text becomes bytes; UnicodeEncodeError if that is not possible."""

    text: _Encode
    name: _Encode
    """For person names."""
    code: _Encode = methodcaller("encode", "ascii", "replace")
    """For the VRs to which no character set applies."""


class Answer(NamedTuple):
    """An attribute of responses."""

    tag: int
    vr: str
    values: Callable[[Any], Sequence[Any]]
    """Takes its values from a row."""
    nested: Nested | None = None
    """The keys of the items of a sequence."""


class Answers:
    """Makes the identifiers of responses out of rows, as bytes.

    What is the same in all responses is encoded only once, and no dataset is made: to make and
    encode one takes as long as all else of a query.

    Parameters
    ----------
    constants : list
        Tag, VR and value of the elements that every response contains.
    answers : list of Answer
        The other ones, in any order.
    character_sets : list of str
        The Specific Character Set of the request. A response uses it if it can encode all of its
        text, and UTF-8 otherwise (PS3.4 C.4.1.1.3.2); one in ASCII needs none.
    transfer_syntax : str
        That of the presentation context.
    """

    def __init__(
        self,
        constants: Iterable[tuple[int, str, str]],
        answers: Iterable[Answer],
        character_sets: list[str],
        transfer_syntax: str,
    ) -> None:
        encoder = _Encoder(transfer_syntax)
        self._is_deflated = encoding_of(transfer_syntax)[2]
        self._character_sets = [(b"", _ASCII), (encoder.character_set([UTF_8]), _UNICODE)]
        if character_sets and character_sets != [UTF_8]:
            asked = encoder.character_set(character_sets), _requested(character_sets)
            self._character_sets.insert(1, asked)
        encoded = {
            tag: encoder.element(tag, vr, [text], None, _ASCII) for tag, vr, text in constants
        }
        by_tag = {answer.tag: answer for answer in answers}
        self._fields: list[tuple[Any, ...]] = []
        before = b""  # the constants since the last field
        for tag in sorted({*encoded, *by_tag}):
            if tag in by_tag:
                _, vr, values, nested = by_tag[tag]
                start, length, encode = encoder.field(tag, vr, nested)
                self._fields.append((values, before + start, length, encode))
                before = b""
            else:
                before += encoded[tag]
        self._end = before

    def make(self, row: Any) -> bytes:
        """Return the identifier of the response for a row."""
        for first, character_set in self._character_sets:
            parts = [first]
            try:
                for values, start, length, encode in self._fields:
                    data = encode(values(row), character_set)
                    parts += start, length(len(data)), data
            except UnicodeEncodeError:
                continue
            parts.append(self._end)
            made = b"".join(parts)
            return deflate(made) if self._is_deflated else made
        raise AssertionError("UTF-8 encodes everything")


# --- Elements ---------------------------------------------------------------------------------


class _Encoder:
    """Encodes elements in a transfer syntax, which may be deflated afterwards.

    Invalid values of stored objects are left out, or their characters replaced by question marks,
    so that one of them does not make the whole response fail.
    """

    def __init__(self, transfer_syntax: str) -> None:
        self._is_implicit, is_little, _ = encoding_of(transfer_syntax)
        self._order = "<" if is_little else ">"
        self._short = Struct(self._order + "H").pack
        self._long = Struct(self._order + "L").pack
        self._item_start = pack(self._order + "HH", *_ITEM)

    def field(
        self, tag: int, vr: str, nested: Nested | None
    ) -> tuple[bytes, Callable[[int], bytes], _EncodeValues]:
        """Return the header up to the length, and functions for the length and the values."""
        encode = self._values(vr, nested)
        start = pack(self._order + "HH", *divmod(tag, 1 << 16))
        if self._is_implicit:
            return start, self._long, encode
        start += vr.encode()
        if vr in LONG_VRS:
            return start + bytes(2), self._long, encode
        return start, self._short, encode

    def element(
        self,
        tag: int,
        vr: str,
        values: Sequence[Any],
        nested: Nested | None,
        character_set: _CharacterSet,
    ) -> bytes:
        start, length, encode = self.field(tag, vr, nested)
        data = encode(values, character_set)
        return start + length(len(data)) + data

    def character_set(self, terms: list[str]) -> bytes:
        """Return the element Specific Character Set, which is the first of a response."""
        return self.element(_CHARACTER_SET, "CS", terms, None, _ASCII)

    def _values(self, vr: str, nested: Nested | None) -> _EncodeValues:
        if vr == "SQ":
            return self._items(nested)
        if vr in _BINARY:
            return self._numbers(*_BINARY[vr])
        return _texts(vr)

    def _numbers(self, form: str, is_valid: Callable[[Any], bool]) -> _EncodeValues:
        def encode(values: Sequence[Any], _: _CharacterSet) -> bytes:
            numbers = [*filter(is_valid, values)][:_MOST_NUMBERS]
            return pack(f"{self._order}{len(numbers)}{form}", *numbers)

        return encode

    def _items(self, nested: Nested | None) -> _EncodeValues:
        def encode(values: Sequence[Any], character_set: _CharacterSet) -> bytes:
            parts: list[bytes] = []
            for item in values:
                if isinstance(item, dict):
                    elements = sorted(_elements_of(item, nested), key=itemgetter(0))
                    data = b"".join(self.element(*each, character_set) for each in elements)
                    parts += self._item_start, self._long(len(data)), data
            return b"".join(parts)

        return encode


def _texts(vr: str) -> _EncodeValues:
    number = _NUMBER_TEXT.get(vr)
    to_text = _name_of if vr == "PN" else partial(_number_of, number) if number else text_of
    way = "name" if vr == "PN" else "text" if vr in WITH_CHARACTER_SET else "code"
    way_of = attrgetter(way)
    padding = b"\0" if vr == "UI" else b" "

    def texts_of(values: Sequence[Any]) -> list[str]:
        texts = map(to_text, values)
        return [*filter(None, texts)] if number else [*texts]

    def encode(values: Sequence[Any], character_set: _CharacterSet) -> bytes:
        # Nearly all attributes have one value: a list of it would take as long as all else.
        value = to_text(values[0]) if len(values) == 1 else "\\".join(texts_of(values))
        if len(value) > VALUE_LIMIT:
            value = "\\".join(_fitting(texts_of(values)))
        data: bytes = way_of(character_set)(value)
        if len(data) % 2:
            data += padding
        return data if len(data) <= _LONGEST else b""

    return encode


def _name_of(value: Any) -> str:
    return text_of(value).rstrip("=")


def _number_of(is_number: Callable[[str], object], value: Any) -> str:
    text = text_of(value)
    return text if is_number(text) else ""


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
    "FD": ("d", _floating(1.7e308)),
    "FL": ("f", _floating(3.4e38)),
    "SL": ("l", _integer(-1 << 31, (1 << 31) - 1)),
    "SS": ("h", _integer(-1 << 15, (1 << 15) - 1)),
    "SV": ("q", _integer(-1 << 63, (1 << 63) - 1)),
    "UL": ("L", _integer(0, (1 << 32) - 1)),
    "US": ("H", _integer(0, (1 << 16) - 1)),
    "UV": ("Q", _integer(0, (1 << 64) - 1)),
}
"""The VRs of binary numbers: the form of `struct`, and a check whether it can hold a value."""
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


def _elements_of(
    item: dict[str, Any], nested: Nested | None
) -> Iterator[tuple[int, str, Sequence[Any], Nested | None]]:
    """Yield the requested elements of an item in the DICOM JSON model (PS3.18 F.2).

    The VRs come from the dictionary, not from the object: a peer with implicit VR decodes
    elements by the dictionary.
    """
    if nested is not None and nested.keys:
        for name, (tag, vr, inner) in nested.keys.items():
            yield tag, vr, _values(item.get(name, {}), vr), inner
    else:
        for name, found in item.items():
            own = _vr_of(name)
            if own is not None and _KIND.get(found["vr"]) == _KIND[own]:
                yield int(name, 16), own, found.get("Value", ()), None


def _values(found: dict[str, Any], vr: str) -> Sequence[Any]:
    """Return the values of an element; none if their kind is not that of the VR."""
    values: Sequence[Any] = found.get("Value", ())
    return values if _KIND.get(found.get("vr", "")) == _KIND[vr] else ()


# --- Character sets ---------------------------------------------------------------------------


_ASCII = _CharacterSet(*[methodcaller("encode", "ascii")] * 2)
_UNICODE = _CharacterSet(*[methodcaller("encode", "utf-8", "replace")] * 2)
"""JSON can have half surrogates, which are replaced."""


def _requested(terms: list[str]) -> _CharacterSet:
    """Return the character set of a request."""
    can_encode = _checker(terms)
    codecs = cache(partial(convert_encodings, terms))  # it warns of some sets

    def text(value: str) -> bytes:
        if not can_encode(value):
            raise UnicodeEncodeError("dicom", value, 0, len(value), "not in the character set")
        return encode_string(value, codecs())

    def name(value: str) -> bytes:
        parts = _delimiters.split(value)
        return b"".join(part.encode() if part in _DELIMITERS else text(part) for part in parts)

    return _CharacterSet(text, name)


_DELIMITERS = frozenset({"", "\\", "^", "="})
_delimiters = re.compile(r"([\\^=])")
"""What delimits the parts of names, each of which begins with the first character set anew."""


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
