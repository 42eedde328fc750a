"""Datasets in the DICOM JSON Model (PS3.18 Annex F) and the Native DICOM Model (PS3.19 A.1).

A dataset is a dict, as in JSON: its elements by tag. Both texts are made of that.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import Any
from xml.sax.saxutils import escape, quoteattr

from pydicom.datadict import keyword_for_tag

from dicomwire.node.decoding import values_of_text

Model = dict[str, dict[str, Any]]
"""A dataset: by tag an element, with "vr" and "Value", "BulkDataURI" or "InlineBinary"."""

CHARACTER_SET = "00080005"
UTF_8: dict[str, Any] = {"vr": "CS", "Value": ["ISO_IR 192"]}
"""The Specific Character Set of datasets that come from the index."""

_is_integer = re.compile(r"[+-]?[0-9]{1,15}").fullmatch
_is_decimal = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,3})?").fullmatch
_EXACT = 15
"""A number of so many characters is the same in binary floating point and back."""
_not_in_xml = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_COMPONENTS = ("FamilyName", "GivenName", "MiddleName", "NamePrefix", "NameSuffix")
_GROUPS = ("Alphabetic", "Ideographic", "Phonetic")
_XML_BEGIN = (
    '<?xml version="1.0" encoding="UTF-8"?>\n<NativeDicomModel'
    ' xmlns="http://dicom.nema.org/PS3.19/models/NativeDICOM" xml:space="preserve">'
)


def element(vr: str, values: Sequence[Any]) -> dict[str, Any]:
    """Return an element with values of the JSON model; numbers may be text."""
    if vr in ("DS", "IS"):
        values = [_number(each) if isinstance(each, str) else each for each in values]
    return {"vr": vr, "Value": [*values]} if values else {"vr": vr}


def element_of_text(vr: str, text: str) -> dict[str, Any]:
    """Return an element of its values as text, with backslashes between them."""
    values = values_of_text(vr, text)
    if values is None:  # invalid numbers
        values = [each.strip() or None for each in text.split("\\")]
    return element(vr, values)


def _number(text: str) -> int | float | str:
    """Return the number of a DS or IS; the text if it is none, or would lose digits (F.2.3)."""
    text = text.strip()
    if _is_integer(text):
        return int(text)
    if not _is_decimal(text):
        return text
    number = float(text)
    if not math.isfinite(number):
        return text
    is_same = len(text) <= _EXACT or Decimal(repr(number)) == Decimal(text)
    return number if is_same else text


# --- JSON -------------------------------------------------------------------------------------


def as_json(model: Model) -> bytes:
    """Return a dataset as JSON."""
    text = json.dumps(model, ensure_ascii=False, separators=(",", ":"))
    return text.encode("utf-8", "replace")  # a lone surrogate is no character


# --- XML --------------------------------------------------------------------------------------


def as_xml(model: Model) -> bytes:
    """Return a dataset as an XML document of the Native DICOM Model."""
    text = "".join((_XML_BEGIN, *_attributes(model), "</NativeDicomModel>\n"))
    return text.encode("utf-8", "replace")


def _attributes(model: Model) -> Iterator[str]:
    for tag, found in model.items():
        number = int(tag, 16)
        names = f'tag="{tag}" vr={quoteattr(found["vr"])}'
        keyword = keyword_for_tag(number)
        if keyword:
            names += f' keyword="{keyword}"'
        elif number >> 16 & 1 and number & 0xFF00:
            creator = model.get(f"{number >> 16:04X}00{number >> 8 & 0xFF:02X}", {}).get("Value")
            if creator and isinstance(creator[0], str):
                names += f" privateCreator={quoteattr(_valid(creator[0]))}"
        yield f"<DicomAttribute {names}>"
        if "BulkDataURI" in found:
            yield f"<BulkData uri={quoteattr(found['BulkDataURI'])}/>"
        elif "InlineBinary" in found:
            yield f"<InlineBinary>{found['InlineBinary']}</InlineBinary>"
        for place, value in enumerate(found.get("Value", ()), 1):
            yield from _value(found["vr"], place, value)
        yield "</DicomAttribute>"


def _value(vr: str, place: int, value: Any) -> Iterator[str]:
    if vr == "SQ":
        yield f'<Item number="{place}">'
        yield from _attributes(value)
        yield "</Item>"
    elif value is None:
        return  # the next value has the next number
    elif vr == "PN":
        yield f'<PersonName number="{place}">'
        for group in _GROUPS:
            if value.get(group):
                yield f"<{group}>"
                pairs = zip(_COMPONENTS, value[group].split("^"), strict=False)
                for name, component in pairs:
                    if component:
                        yield f"<{name}>{_text(component)}</{name}>"
                yield f"</{group}>"
        yield "</PersonName>"
    else:
        text = value if isinstance(value, str) else json.dumps(value)
        yield f'<Value number="{place}">{_text(text)}</Value>'


def _text(text: str) -> str:
    return escape(_valid(text), {"\r": "&#13;"})


def _valid(text: str) -> str:
    """Return a text with only characters that XML can have."""
    return _not_in_xml.sub("\ufffd", text)
