"""Decodes the values that an index has: to text, and to the DICOM JSON model (PS3.18 F)."""

from __future__ import annotations

import contextlib
import json
import struct
from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

from pydicom.charset import decode_bytes, python_encoding

from dicomwire.node.keys import VALUE_LIMIT

MAX_VALUE = 4 * VALUE_LIMIT
"""The most bytes of a value: a character takes up to four in UTF-8."""
NUMBERS = {"US": "H", "SS": "h", "UL": "L", "SL": "l", "UV": "Q", "SV": "q"}
_NUMBER_FORMS = {
    order == "<": {vr: struct.Struct(order + form) for vr, form in NUMBERS.items()}
    for order in "<>"
}
_WITH_CHARACTER_SET = frozenset(["LO", "LT", "PN", "SH", "ST", "UC", "UT"])
TEXT_VRS = _WITH_CHARACTER_SET | {"AE", "AS", "CS", "DA", "DS", "DT", "IS", "TM", "UI", "UR"}
_ONE_VALUE = frozenset(["LT", "ST", "UR", "UT"])
_GROUPS = ("Alphabetic", "Ideographic", "Phonetic")
_DELIMITERS = set(b"^=\\\t\n\f\r")
"""After these characters the first character set applies again (PS3.5 Section 6.1.2.5.3)."""


class Attribute(NamedTuple):
    """An attribute of a row."""

    text: str
    """For a column."""
    json: str
    """A name and a value of the JSON model."""


@lru_cache(maxsize=64)
def known_terms(character_set: bytes) -> tuple[str, ...]:
    """Return the known terms of a Specific Character Set (PS3.3 C.12.1.1.2)."""
    terms = character_set.decode("latin-1").strip("\0 ").split("\\")
    return tuple(term for each in terms if (term := each.strip()) in python_encoding)


def text_of_value(vr: str, raw: bytes, terms: tuple[str, ...]) -> str:
    """Return a value as text, with backslashes between several values, without padding.

    Parameters
    ----------
    terms : tuple of str
        The Specific Character Set of the dataset.
    """
    text = raw.decode("latin-1") if raw.isascii() else ""
    if (raw and not text) or "\x1b" in text:
        text = _decoded(raw, terms if vr in _WITH_CHARACTER_SET else ())
    if "\0" in text:
        text = text.rstrip("\0 ").replace("\0", "\ufffd")
    return text.rstrip() if vr in _ONE_VALUE else text.strip(" ")


known_text = lru_cache(maxsize=1024)(text_of_value)
"""`text_of_value`, which remembers."""


def _decoded(raw: bytes, terms: tuple[str, ...]) -> str:
    """Return `raw` as text; bytes that are invalid in its character set are replaced."""
    codecs = [python_encoding[term] for term in terms] or ["latin-1"]
    if b"\x1b" in raw:
        with contextlib.suppress(Exception):  # pydicom warns of unknown escapes, or raises
            return decode_bytes(raw, codecs, _DELIMITERS)
    return raw.decode(codecs[0], "replace")


def values_of_text(vr: str, text: str) -> list[Any] | None:
    """Return the "Value" of the JSON model (PS3.18 F.2.2); None if a number is invalid."""
    if not text:
        return []
    if vr in _ONE_VALUE:
        return [text]
    values = text.split("\\") if "\\" in text else [text]
    convert = _CONVERT.get(vr)
    if convert is None:
        return values if len(values) == 1 else [value.strip() or None for value in values]
    try:
        return [convert(value.strip()) if value.strip() else None for value in values]
    except (ValueError, OverflowError):
        return None


def _person(text: str) -> dict[str, str]:
    return {name: group for name, group in zip(_GROUPS, text.split("="), strict=False) if group}


def _decimal(text: str) -> str:
    float(text)
    return text


_encode = json.JSONEncoder(check_circular=False).encode
UID_MEMBER = '"%08X": {"vr": "UI", "Value": ["%s"]}'


def member(tag: int, vr: str, values: list[Any]) -> str:
    """Return an attribute of the JSON model with its name."""
    return f'"{tag:08X}": {_encode({"vr": vr, "Value": values} if values else {"vr": vr})}'


def attribute_of(
    tag: int, vr: str, raw: bytes, terms: tuple[str, ...], is_little: bool
) -> Attribute | None:
    """Return an attribute of a row; None if it is too long."""
    text = ""
    values: list[Any] | None
    if vr in TEXT_VRS:
        if len(raw) > MAX_VALUE:
            return None
        text = text_of_value(vr, raw, terms)
        if len(text) > VALUE_LIMIT:
            return None
        values = values_of_text(vr, text)
    else:
        values = numbers_of(vr, raw, is_little)
    return Attribute(text, "" if values is None else member(tag, vr, values))


known_attribute = lru_cache(maxsize=8192)(attribute_of)
"""`attribute_of`, which remembers: most values of an object are those of the objects before it.
With short values only, they take some megabytes."""


def numbers_of(vr: str, raw: bytes, is_little: bool) -> list[Any] | None:
    form = _NUMBER_FORMS[is_little][vr]
    if len(raw) % form.size or len(raw) > VALUE_LIMIT:
        return None
    return [number for (number,) in form.iter_unpack(raw)]


_CONVERT: dict[str, Callable[[str], Any]] = {"PN": _person, "IS": int, "DS": _decimal}
