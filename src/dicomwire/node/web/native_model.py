"""Reads the Native DICOM Model, XML (PS3.19 Annex A), as a dataset in the DICOM JSON Model.

`models` writes it.
"""

from __future__ import annotations

from typing import Any
from xml.etree.ElementTree import Element, ParseError, TreeBuilder, XMLParser

from dicomwire.web.multipart import Malformed

_MOST_LEVELS = 64
_GROUPS = ("Alphabetic", "Ideographic", "Phonetic")
_COMPONENTS = ("FamilyName", "GivenName", "MiddleName", "NamePrefix", "NameSuffix")
_INTEGERS = frozenset(["SL", "SS", "SV", "UL", "US", "UV", "IS"])
_NUMBERS = frozenset(["DS", "FD", "FL"])


class _Builder(TreeBuilder):
    """Refuses entities, by which a small text becomes a large one."""

    def doctype(self, name: str, pubid: str | None, system: str | None) -> None:
        """Refuse a document type declaration."""
        raise Malformed("the metadata have a document type declaration")


def model_in(data: bytes) -> dict[str, Any]:
    """Return the dataset of a document.

    Raises
    ------
    Malformed
    """
    parser = XMLParser(target=_Builder())
    try:
        parser.feed(data)
        root = parser.close()
    except (ParseError, ValueError, LookupError) as error:
        if isinstance(error, Malformed):
            raise
        raise Malformed("the metadata are no XML") from None
    if _name(root) != "NativeDicomModel":
        raise Malformed("the metadata are no Native DICOM Model")
    return _dataset(root, 0)


def _name(element: Element) -> str:
    return element.tag.rpartition("}")[2]


def _dataset(parent: Element, level: int) -> dict[str, Any]:
    if level > _MOST_LEVELS:
        raise Malformed("the metadata are nested too deep")
    model: dict[str, Any] = {}
    for attribute in parent:
        tag, vr = attribute.get("tag", "").upper(), attribute.get("vr", "")
        if _name(attribute) != "DicomAttribute" or len(tag) != 8 or len(vr) != 2:
            raise Malformed("the metadata have an element that is no DicomAttribute")
        model[tag] = {"vr": vr, **_content(attribute, vr, level)}
    return model


def _content(attribute: Element, vr: str, level: int) -> dict[str, Any]:
    values: list[Any] = []
    for child in sorted(attribute, key=_number):
        name, text = _name(child), child.text or ""
        if name == "BulkData":
            return {"BulkDataURI": child.get("uri") or child.get("uuid", "")}
        if name == "InlineBinary":
            return {"InlineBinary": "".join(text.split())}
        if name == "Item":
            values.append(_dataset(child, level + 1))
        elif name == "PersonName":
            values.append(_person_name(child))
        else:
            values.append(_value(vr, text))
    return {"Value": values} if values else {}


def _number(child: Element) -> int:
    number = child.get("number", "1")
    return int(number) if number.isdecimal() and len(number) < 9 else 1


def _person_name(child: Element) -> dict[str, str]:
    groups: dict[str, str] = {}
    for group in child:
        parts = {_name(part): part.text or "" for part in group}
        text = "^".join(parts.get(component, "") for component in _COMPONENTS).rstrip("^")
        if _name(group) in _GROUPS:
            groups[_name(group)] = text
    return groups


def _value(vr: str, text: str) -> Any:
    try:
        if vr in _INTEGERS:
            return int(text)
        if vr in _NUMBERS:
            return float(text)
    except ValueError:
        raise Malformed("the metadata have a number that is none") from None
    return text
