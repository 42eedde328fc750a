"""Datasets to bytes and back, by dicomwire."""

from __future__ import annotations

from io import BytesIO
from typing import Any

from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset

from dicomwire import dsutils as _dsutils
from dicomwire.dsutils import *
from dicomwire.implementation import (
    IMPLEMENTATION_CLASS_UID as PYNETDICOM_IMPLEMENTATION_UID,
    IMPLEMENTATION_VERSION_NAME as PYNETDICOM_IMPLEMENTATION_VERSION,
)


def decode(
    bytestring: BytesIO, is_implicit_vr: bool, is_little_endian: bool, deflated: bool = False
) -> Dataset:
    """Return the dataset in all of `bytestring`, wherever its position is."""
    return _dsutils.decode(bytestring.getvalue(), is_implicit_vr, is_little_endian, deflated)


def encode(
    ds: Any, is_implicit_vr: bool, is_little_endian: bool, deflated: bool = False
) -> bytes | None:
    """Return `ds` encoded; None where it cannot be, or is no dataset."""
    if not isinstance(ds, Dataset):
        return None
    return _dsutils.encode(ds, is_implicit_vr, is_little_endian, deflated)


_SHOWN_BYTES = 13


def pretty_dataset(ds: Dataset, indent: int = 0, indent_char: str = "  ") -> list[str]:
    """Return a line for each element of `ds`, items of sequences indented below theirs."""
    margin = indent * indent_char
    lines = []
    for tag in sorted(ds.keys()):
        try:
            element = ds[tag]
        except Exception as error:  # a value that pydicom cannot make sense of
            lines.append(f"{margin}{tag} (undecodable: {type(error).__name__})")
            continue
        lines.append(margin + pretty_element(element))
        if element.VR == "SQ":
            for number, item in enumerate(element.value, 1):
                lines.append(f"{margin}{indent_char}(Sequence item #{number})")
                lines += pretty_dataset(item, indent + 2, indent_char)
    return lines


def pretty_element(elem: DataElement) -> str:
    """Return an element as one line: tag, VR, value, value multiplicity and keyword."""
    tag = f"({elem.tag.group:04X},{elem.tag.element:04X})"
    return f"{tag} {elem.VR} {_pretty_value(elem):<40} # {elem.VM} {elem.keyword}"


def _pretty_value(elem: DataElement) -> str:
    value = elem.value
    if elem.VR == "SQ":
        return f"(Sequence with {len(value)} item{'' if len(value) == 1 else 's'})"
    if elem.is_empty:
        return "(no value available)"
    if elem.VR.startswith("O"):
        if len(value) > _SHOWN_BYTES:
            return f"({len(value)} bytes of binary data)"
        return f"[{value.hex(' ')}]"
    text = "\\".join(map(str, value)) if elem.VM > 1 else str(value)
    # A line break in a value would look like an element of its own.
    return "[" + "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text) + "]"
