"""Makes the Identifier of a query from a DICOM file and from elements given as ``path=value``."""

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
_FIRST_GROUP = 0x0008  # lower groups are for command sets and file meta information
_UNDEFINED = 0xFFFFFFFF
_UTF_8 = "ISO_IR 192"


def add_identifier(parser: ArgumentParser) -> None:
    """Add the options for the Identifier; see `build_identifier`."""
    group = parser.add_argument_group("query keys")
    group.add_argument(
        "-k",
        "--keyword",
        metavar="KEY",
        action="append",
        default=[],
        help="add an element to the identifier, see below; may be repeated",
    )
    group.add_argument(
        "-f",
        "--file",
        metavar="FILE",
        help="read the identifier from a DICOM file; -k adds elements or replaces them",
    )


def check_identifier(parser: ArgumentParser, options: Namespace) -> None:
    """Report a usage error if no option says what the Identifier contains."""
    if not options.keyword and options.file is None:
        parser.error("the query has no keys: give -k or -f, such as -k PatientName=")


def build_identifier(options: Namespace) -> Dataset:
    """Return the Identifier that the options describe; raise Stop if they describe none."""
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
    except Exception as error:  # pydicom raises errors of any type
        reason = getattr(error, "strerror", None) or "it is not a valid DICOM file"
        raise Stop(f"Cannot read input file {path}: {reason}") from None
    return identifier


def _check_whole(identifier: Dataset) -> None:
    """Raise an error if a dataset is empty or cut off, which pydicom accepts."""
    for tag in identifier.keys():  # noqa: SIM118  # a Dataset iterates over its elements
        raw = identifier.get_item(tag)
        if isinstance(raw, RawDataElement) and raw.length not in (
            _UNDEFINED,
            len(raw.value or b""),
        ):
            raise EOFError
    if not list(identifier.iterall()):  # this decodes all values
        raise EOFError


# --- Paths ------------------------------------------------------------------------------------


class _Step(NamedTuple):
    """One component of a path."""

    text: str
    tag: BaseTag
    vr: str
    item: int | None


def path_of(tag: BaseTag) -> str:
    """Return the keyword of an element, or its tag if the keyword is not unique."""
    keyword = keyword_for_tag(tag)
    return keyword if keyword and tag_for_keyword(keyword) == tag else str(tag)


def set_element(ds: Dataset, key: str) -> None:
    """Add to `ds` the element that ``path=value`` describes, or replace it.

    Raises
    ------
    ValueError
        If the path or the value is invalid.
    """
    path, _, value = key.partition("=")
    *parents, last = (_step(each) for each in path.split("."))
    for step in parents:
        if step.vr != VR.SQ:
            raise ValueError(f"{step.text!r} is not a sequence, so it has no items")
        if step.item is None:
            raise ValueError(f"{step.text!r} needs the number of an item, such as {step.text}[0]")
        ds = _item(ds, step.tag, step.item)
    if last.vr != VR.SQ:
        if last.item is not None:
            raise ValueError(f"{last.text!r} has an item number, but is not a sequence")
        ds[last.tag] = _element(last, value)
    elif value:
        raise ValueError(f"{last.text!r} is a sequence, which cannot have the value {value!r}")
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
        raise ValueError(f"{text!r} is not an element of a dataset")
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
    """Return an item of a sequence; add the missing items up to it."""
    if tag not in ds:
        ds[tag] = DataElement(tag, VR.SQ, [])
    items = ds[tag].value
    while len(items) <= index:
        items.append(Dataset())
    item: Dataset = items[index]
    return item


# --- Values -----------------------------------------------------------------------------------


def _element(step: _Step, text: str) -> DataElement:
    """Return an element with the value that `text` gives; it may have wildcards or be a range."""
    try:
        value = _value(step.vr, text)
        return DataElement(step.tag, step.vr, value, validation_mode=config.IGNORE)
    except (ValueError, OverflowError):
        raise ValueError(
            f"{step.text!r} has the VR {step.vr}, which does not allow the value {text!r}"
        ) from None


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
