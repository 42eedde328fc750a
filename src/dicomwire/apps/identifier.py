"""The Identifier of a query, made of a DICOM file and of elements given as ``path=value``.

What a query means, and who is asked, is not known here.
"""

from __future__ import annotations

import re
from argparse import ArgumentParser, Namespace
from typing import Any, NamedTuple

from pydicom import config, dcmread
from pydicom.datadict import (
    dictionary_VR,
    keyword_for_tag,
    repeater_has_keyword,
    tag_for_keyword,
)
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import BaseTag, Tag
from pydicom.valuerep import AMBIGUOUS_VR, VR

from dicomwire.apps.console import Stop
from dicomwire.data.characters import check_keys
from dicomwire.data.codec import DatasetError

PATHS = """\
KEY is path=value, or only path for an empty value. A path is the keyword or the tag of an element,
such as PatientName or (0010,0010). In a sequence, name the item by its number, from 0, as in
ScheduledProcedureStepSequence[0].Modality=CT. Missing items are added. Separate several values by
backslashes; give bytes as hexadecimal digits."""
"""The notes about KEY in the help of applications."""

_COMPONENT = re.compile(r"([^\[\]]*)(?:\[([0-9]{1,4})\])?").fullmatch
_TAG = re.compile(r"\(([0-9A-Fa-f]{4}),([0-9A-Fa-f]{4})\)|([0-9A-Fa-f]{4}),([0-9A-Fa-f]{4})")
_INTEGERS = {VR.SL, VR.SS, VR.SV, VR.UL, VR.US, VR.UV}
_FLOATS = {VR.FD, VR.FL}
_BYTES = {VR.OB, VR.OD, VR.OF, VR.OL, VR.OV, VR.OW, VR.UN}
_FIRST_GROUP = 0x0008  # those before are of command sets and files
_UNDEFINED = 0xFFFFFFFF
_UTF_8 = "ISO_IR 192"


def add_identifier(parser: ArgumentParser) -> None:
    """Add what the Identifier is made of; see `build_identifier`."""
    group = parser.add_argument_group("what is asked for")
    group.add_argument(
        "-k",
        "--keyword",
        metavar="KEY",
        action="append",
        default=[],
        help="an element of the identifier, see below; may be repeated",
    )
    group.add_argument(
        "-f",
        "--file",
        metavar="FILE",
        help="the identifier, a DICOM file; -k adds to it and replaces what is in it",
    )


def check_identifier(parser: ArgumentParser, options: Namespace) -> None:
    """Let the parser complain if there is nothing to make an Identifier of."""
    if not options.keyword and options.file is None:
        parser.error("say what is asked for: give -k or -f, such as -k PatientName=")


def build_identifier(options: Namespace) -> Dataset:
    """Return the Identifier that the options describe, or stop."""
    identifier = Dataset() if options.file is None else _read(options.file)
    for key in options.keyword:
        try:
            set_element(identifier, key)
        except ValueError as error:
            raise Stop(str(error)) from None
    if "SpecificCharacterSet" not in identifier and not all(map(str.isascii, options.keyword)):
        identifier.SpecificCharacterSet = _UTF_8
    try:
        check_keys(identifier)
    except DatasetError as error:
        raise Stop(str(error)) from None
    return identifier


def _read(path: str) -> Dataset:
    try:
        identifier = dcmread(path, force=True)
        _check_whole(identifier)
    except Exception as error:  # pydicom raises all sorts for what is no DICOM file
        reason = getattr(error, "strerror", None) or "it is no DICOM file that can be understood"
        raise Stop(f"Cannot read input file {path}: {reason}") from None
    return identifier


def _check_whole(identifier: Dataset) -> None:
    """Raise an error for what is no dataset, or only a part of one: pydicom lets both pass."""
    for tag in identifier.keys():  # noqa: SIM118  # a Dataset iterates over its elements
        raw = identifier.get_item(tag)
        if isinstance(raw, RawDataElement) and raw.length not in (
            _UNDEFINED,
            len(raw.value or b""),
        ):
            raise EOFError
    if not list(identifier.iterall()):  # by which all values are understood
        raise EOFError


# --- Paths ------------------------------------------------------------------------------------


class _Step(NamedTuple):
    """A component of a path."""

    text: str
    tag: BaseTag
    vr: str
    item: int | None


def path_of(tag: BaseTag) -> str:
    """Return how an element is named in a path: by its keyword where that is enough."""
    keyword = keyword_for_tag(tag)
    return keyword if keyword and tag_for_keyword(keyword) == tag else str(tag)


def set_element(ds: Dataset, key: str) -> None:
    """Add the element that ``path=value`` tells of to `ds`, or replace it.

    Raises
    ------
    ValueError
        When the path or the value cannot be one.
    """
    path, _, value = key.partition("=")
    *parents, last = (_step(each) for each in path.split("."))
    for step in parents:
        if step.vr != VR.SQ:
            raise ValueError(f"{step.text!r} is no sequence, so there is nothing in it")
        if step.item is None:
            raise ValueError(f"Say which item of {step.text!r}: the first is {step.text}[0]")
        ds = _item(ds, step.tag, step.item)
    if last.vr != VR.SQ:
        if last.item is not None:
            raise ValueError(f"{last.text!r} has an index, but is no sequence")
        ds[last.tag] = _element(last, value)
    elif value:
        raise ValueError(f"{last.text!r} is a sequence, which has items and no value: {value!r}")
    elif last.item is None:
        ds[last.tag] = DataElement(last.tag, VR.SQ, [])
    else:
        _item(ds, last.tag, last.item)


def _step(text: str) -> _Step:
    found = _COMPONENT(text)
    if found is None:
        raise ValueError(f"Element path contains an invalid component: {text!r}")
    tag = _tag(found[1], text)
    if tag.group < _FIRST_GROUP:
        raise ValueError(f"{text!r} is no element of an identifier")
    try:
        vr = dictionary_VR(tag)
    except KeyError:
        vr = VR.UN
    if vr in AMBIGUOUS_VR:
        vr = vr.partition(" or ")[0]
    return _Step(text, tag, vr, None if found[2] is None else int(found[2]))


def _tag(name: str, text: str) -> BaseTag:
    digits = _TAG.fullmatch(name)
    if digits is not None:
        return Tag("".join(filter(None, digits.groups())))
    tag = tag_for_keyword(name) if name else None
    if tag is not None:
        return Tag(tag)
    if repeater_has_keyword(name):
        raise ValueError(f"Repeating group elements must be specified using (gggg,eeee): {text!r}")
    raise ValueError(f"Unable to parse element path component: {text!r}")


def _item(ds: Dataset, tag: BaseTag, index: int) -> Dataset:
    """Return an item of a sequence; where there are fewer, up to it they are added."""
    if tag not in ds:
        ds[tag] = DataElement(tag, VR.SQ, [])
    items = ds[tag].value
    while len(items) <= index:
        items.append(Dataset())
    item: Dataset = items[index]
    return item


# --- Values -----------------------------------------------------------------------------------


def _element(step: _Step, text: str) -> DataElement:
    """Return an element with the value that `text` tells; wildcards and ranges are let be."""
    try:
        value = _value(step.vr, text)
        return DataElement(step.tag, step.vr, value, validation_mode=config.IGNORE)
    except (ValueError, OverflowError):
        raise ValueError(f"{step.text!r} has the VR {step.vr}, and so no value {text!r}") from None


def _value(vr: str, text: str) -> Any:
    if not text:
        return ""
    if vr in _BYTES:
        return bytes.fromhex(text)
    values: list[Any] = text.split("\\")
    if vr in _INTEGERS:
        values = [int(each) for each in values]
    elif vr in _FLOATS:
        values = [float(each) for each in values]
    elif vr == VR.AT:
        values = [_attribute(each) for each in values]
    else:
        return text
    return values if len(values) > 1 else values[0]


def _attribute(text: str) -> BaseTag:
    digits = _TAG.fullmatch(text)
    return Tag(text if digits is None else "".join(filter(None, digits.groups())))
