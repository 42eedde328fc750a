"""Reads the identifier of a request: its level, its keys and their matchers (PS3.4 C.4.1.1.3).

pydicom's conversions are avoided: they warn of values, and a value of 8 bytes may take 1,000 bytes
of memory. This module does not use the database.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, NoReturn

from pydicom.charset import decode_bytes, default_encoding, python_encoding
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as Items
from pydicom.tag import BaseTag
from pydicom.valuerep import PersonName

from dicomwire.data.scanner import DatasetError, Elements, items_of
from dicomwire.node import matching
from dicomwire.node.keys import QUERY_KEYS, UNIQUE, Level, QueryKey
from dicomwire.node.values import Matcher

DOES_NOT_MATCH = 0xA900
"""Identifier does not match SOP class (PS3.4 Table C.4-1)."""

Element = DataElement | RawDataElement

_LEVEL = BaseTag(0x00080052)
_CHARACTER_SET = BaseTag(0x00080005)
_TIMEZONE = 0x00080201
NOT_MATCHED = frozenset({_CHARACTER_SET, _LEVEL, 0x00080053, 0x00080054, 0x00080056, _TIMEZONE})
"""Elements that are not matched: they describe the query, or the response sets them without the
index. Specific Character Set, Query/Retrieve Level and View, Retrieve AE Title, Instance
Availability, Timezone Offset From UTC."""

_LONGEST_COMMENT = 64
"""In characters: Error Comment has the VR LO."""
_LONGEST_KEY = 1 << 20
"""In bytes, except for lists of UIDs, which the standard does not bound."""
_DEEPEST = 16
"""How deep sequences may be nested; no key of the standard comes near it."""
WITH_CHARACTER_SET = frozenset({"LO", "LT", "PN", "SH", "ST", "UC", "UT"})
ASCII_VRS = frozenset({"AE", "AS", "CS", "DA", "DS", "DT", "IS", "TM", "UI", "UR"})
_SINGLE_VRS = frozenset({"LT", "ST", "UR", "UT"})
_DELIMITERS = {0x5C, 0x5E, 0x3D, 0x0A, 0x0C, 0x0D, 0x09}
"""After these characters the first character set applies again (PS3.5 6.1.2.5.3)."""

_MODELS = {
    "1.2.840.10008.5.1.4.1.2.1": tuple(Level),
    "1.2.840.10008.5.1.4.1.2.2": (Level.STUDY, Level.SERIES, Level.IMAGE),
    "1.2.840.10008.5.1.4.1.2.3": (Level.PATIENT, Level.STUDY),
}
"""The levels of Patient Root, Study Root and Patient/Study Only, by the UID of their SOP classes
without its last component."""


class InvalidIdentifier(ValueError):
    """An identifier that does not fit its information model; the text contains none of its values.

    Attributes
    ----------
    status : Dataset
        The status of the response: 0xA900, with Error Comment and Offending Element.
    """

    def __init__(self, comment: str, tag: int | None = None) -> None:
        super().__init__(comment)
        self.status = Dataset()
        self.status.Status = DOES_NOT_MATCH
        self.status.ErrorComment = comment[:_LONGEST_COMMENT]
        if tag is not None:
            self.status.OffendingElement = [BaseTag(tag)]


@dataclass(frozen=True, slots=True)
class Nested:
    """The keys for the items of a sequence; without keys, all elements are returned.

    Attributes
    ----------
    keys : dict
        By tag as in the DICOM JSON model: tag, VR, and the keys of a nested sequence.
    matcher : Matcher or None
        For the items; None if they match universally.
    """

    keys: dict[str, tuple[BaseTag, str, Nested | None]]
    matcher: Matcher | None


class Identifier:
    """The identifier of a query or retrieval.

    Parameters
    ----------
    identifier : Elements or Dataset
        The elements as received, or a dataset that a program made.
    model : str
        The SOP class: C-FIND, C-MOVE or C-GET of a Query/Retrieve information model.

    Attributes
    ----------
    level : Level
    keys : list of QueryKey
        Its supported keys of its level and above. In Study Root, the keys of patients belong to
        the STUDY level.
    is_complete : bool
        Whether it has no other keys.

    Raises
    ------
    InvalidIdentifier
        When it has no level, or one that the model does not have.
    """

    def __init__(self, identifier: Elements | Dataset, model: str) -> None:
        self._elements = _elements_of(identifier)
        self._codecs = _codecs_of(self._elements)
        self._levels = _MODELS[model.rpartition(".")[0]]
        self.level = self._find_level()
        self.keys: list[QueryKey] = []
        self.is_complete = True
        for tag in self._elements:
            key = QUERY_KEYS.get(int(tag))
            if key is not None and key.level.depth <= self.level.depth:
                self.keys.append(key)
            elif tag not in NOT_MATCHED and tag & 0xFFFF:
                self.is_complete = False

    def _find_level(self) -> Level:
        values = self._texts(_LEVEL, "CS") if _LEVEL in self._elements else []
        names = {level.value: level for level in self._levels}
        if len(values) != 1 or values[0] not in names:
            raise InvalidIdentifier(f"QueryRetrieveLevel is not one of {' '.join(names)}", _LEVEL)
        return names[values[0]]

    @property
    def character_sets(self) -> list[str]:
        """The terms of its Specific Character Set; empty for the default or an unknown one."""
        return _character_sets(self._elements)

    def has(self, tag: int) -> bool:
        """Return whether the identifier has an element."""
        return tag in self._elements

    def values(self, key: QueryKey) -> list[str]:
        """Return the non-empty values of a key that is not a sequence."""
        return [value for value in self._texts(int(key.tag), key.vr) if value]

    def matcher(self, key: QueryKey, fuzzy: bool = False) -> Matcher | None:
        """Return the matcher of a key; None if the key matches universally or is absent."""
        if key.tag not in self._elements or int(key.tag) in NOT_MATCHED:
            return None
        if key.vr == "SQ":
            return self.nested(key, fuzzy).matcher
        return _matcher(key.vr, self.values(key), fuzzy, key.tag)

    def nested(self, key: QueryKey, fuzzy: bool = False) -> Nested:
        """Return the keys inside a sequence key."""
        return self._nested(self._elements[key.tag], fuzzy, 0)

    def one_value(self, key: QueryKey) -> str:
        """Return the only value of a unique key, which must not have wildcards."""
        values = self.values(key) if self.has(key.tag) else []
        if len(values) != 1:
            raise InvalidIdentifier(f"{key.keyword} must have one value", key.tag)
        matcher = _matcher(key.vr, values, False, key.tag)
        if not isinstance(matcher, matching.Equal | matching.UIDs):
            raise InvalidIdentifier(f"{key.keyword} has wildcards", key.tag)
        return values[0]

    def check_above(self) -> None:
        """Check that the unique key of each level above has one value (PS3.4 C.4.1.3.1.1)."""
        for key in self.unique_above():
            self.one_value(key)

    def unique_above(self) -> Iterator[QueryKey]:
        """Yield the unique keys of the model's levels above that of the identifier."""
        for level in self._levels:
            if level.depth < self.level.depth:
                yield UNIQUE[level]

    # --- Elements ---

    def _texts(self, tag: int, vr: str) -> list[str]:
        return self._element_texts(self._elements[BaseTag(tag)], BaseTag(tag), vr)

    def _element_texts(self, element: Any, tag: BaseTag, vr: str) -> list[str]:
        """Return the values of an element as text."""
        if element.VR == "SQ":
            _refuse("must not be a sequence", tag)
        if isinstance(element, RawDataElement):
            raw = element.value or b""
            if len(raw) > _LONGEST_KEY and vr != "UI":
                _refuse("too long", tag)
            if vr in WITH_CHARACTER_SET:
                text = _decoded(raw, self._codecs, tag)
            elif vr in ASCII_VRS:
                text = raw.decode("latin-1")
            else:
                return _converted(element, tag)
            text = text.rstrip("\0 ")
            return [text] if vr in _SINGLE_VRS else [each.strip() for each in text.split("\\")]
        return _program_made(element)

    def _nested(self, element: Element, fuzzy: bool, depth: int) -> Nested:
        items = list(islice(_items(element), 2))
        if len(items) > 1 or depth > _DEEPEST:
            text = "a sequence has more than one item, or is nested too deep"
            raise InvalidIdentifier(text, element.tag)
        keys: dict[str, tuple[BaseTag, str, Nested | None]] = {}
        matchers: list[tuple[str, Matcher]] = []
        for item in items:
            for inner, value in item.items():
                vr = _vr_of(inner)
                if vr is None:
                    continue
                name = f"{int(inner):08X}"
                nested, matcher = None, None
                if vr == "SQ":
                    nested = self._nested(value, fuzzy, depth + 1)
                    matcher = nested.matcher
                else:
                    texts = self._element_texts(value, inner, vr)
                    matcher = _matcher(vr, texts, fuzzy, inner)
                keys[name] = inner, vr, nested
                if matcher is not None:
                    matchers.append((name, matcher))
        return Nested(keys, matching.Items(tuple(matchers)) if matchers else None)


def _matcher(vr: str, values: Sequence[str], fuzzy: bool, tag: int) -> Matcher | None:
    try:
        return matching.matcher_for(vr, values, fuzzy)
    except ValueError as error:
        _refuse(str(error), tag)


def _refuse(reason: str, tag: int) -> NoReturn:
    key = QUERY_KEYS.get(int(tag))
    raise InvalidIdentifier(f"{key.keyword if key else BaseTag(tag)}: {reason}", tag) from None


def _vr_of(tag: BaseTag) -> str | None:
    """Return the VR of a key in an item; None if it is private or its VR cannot be matched."""
    try:
        vr = dictionary_VR(tag)
    except KeyError:
        return None
    known = vr == "SQ" or vr in matching.WILDCARD_VRS or vr in matching.NUMBER_VRS
    return vr if known or vr in ASCII_VRS else None


def _elements_of(dataset: Elements | Dataset) -> Elements:
    if isinstance(dataset, Dataset):
        return {tag: dataset.get_item(tag) for tag in dataset.keys()}  # noqa: SIM118
    return dataset


def _items(element: Element) -> Iterator[Elements]:
    """Yield the items of a sequence; each is decoded only when it is asked for."""
    value = element.value
    if not value:
        return
    if isinstance(element, RawDataElement):
        if element.VR not in (None, "SQ", "UN"):
            _refuse("not a sequence", element.tag)
        try:
            yield from items_of(element)
        except DatasetError:
            _refuse("not a sequence", element.tag)
    elif isinstance(value, Items):
        yield from map(_elements_of, value)
    else:
        _refuse("not a sequence", element.tag)


def _decoded(raw: bytes, codecs: list[str], tag: int) -> str:
    try:
        if len(codecs) == 1 and b"\x1b" not in raw:
            return raw.decode(codecs[0])
        return decode_bytes(raw, codecs, _DELIMITERS)
    except (UnicodeError, LookupError, Warning):
        _refuse("not in its character set", tag)


def _converted(element: RawDataElement, tag: BaseTag) -> list[str]:
    """Return the numbers of an element with a binary VR."""
    try:
        return _program_made(Dataset({tag: element})[tag])
    except Exception:  # pydicom raises many kinds of errors for invalid bytes
        _refuse("not a number", tag)


def _program_made(element: DataElement) -> list[str]:
    """Return the values of a decoded element as text."""
    value = element.value
    if value is None:
        return []
    if isinstance(value, str | bytes | PersonName) or not hasattr(value, "__iter__"):
        return [str(value)]
    return [str(each) for each in value if each is not None]


def _character_sets(elements: Elements) -> list[str]:
    element = elements.get(_CHARACTER_SET)
    if element is None:
        return []
    if isinstance(element, RawDataElement):
        terms = (element.value or b"").decode("latin-1").rstrip("\0 ").split("\\")
    else:
        terms = _program_made(element)
    terms = [term.strip() for term in terms]
    return terms if any(terms) and all(term in python_encoding for term in terms) else []


def _codecs_of(elements: Elements) -> list[str]:
    """Return the Python codecs for the character sets of a dataset (PS3.3 C.12.1.1.2)."""
    return [python_encoding[term] for term in _character_sets(elements)] or [default_encoding]
