"""Shows datasets as lines of text.

The lines hold patient data: log them at DEBUG only.
"""

from __future__ import annotations

from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset

_SHOWN_CHARACTERS = 200
_SHOWN_BYTES = 16


def pretty_dataset(ds: Dataset, indent: int = 0, indent_char: str = "  ") -> list[str]:
    """Return a line for each element of `ds`, with the items of a sequence indented below it.

    The lines hold patient data: log them at DEBUG only.
    """
    margin = indent * indent_char
    lines = []
    for tag in sorted(ds.keys()):
        try:
            element = ds[tag]
        except Exception as error:  # a value that pydicom cannot decode
            lines.append(f"{margin}{tag} (undecodable: {type(error).__name__})")
            continue
        lines.append(margin + pretty_element(element))
        if element.VR == "SQ":
            for number, item in enumerate(element.value, 1):
                lines.append(f"{margin}{indent_char}(item {number})")
                lines += pretty_dataset(item, indent + 2, indent_char)
    return lines


def pretty_element(elem: DataElement) -> str:
    """Return an element as one line: tag, VR, value, value multiplicity and keyword."""
    tag = f"({elem.tag.group:04X},{elem.tag.element:04X})"
    return f"{tag} {elem.VR} {_pretty_value(elem):<40} # {elem.VM} {elem.keyword}".rstrip()


def _pretty_value(elem: DataElement) -> str:
    value = elem.value
    if elem.VR == "SQ":
        return f"({len(value)} item{'' if len(value) == 1 else 's'})"
    if elem.is_empty:
        return "(no value)"
    if isinstance(value, bytes):
        if len(value) > _SHOWN_BYTES:
            return f"({len(value)} bytes)"
        return f"[{value.hex(' ')}]"
    text = "\\".join(map(str, value)) if elem.VM > 1 else str(value)
    if len(text) > _SHOWN_CHARACTERS:
        text = f"{text[:_SHOWN_CHARACTERS]}..."
    if not text.isprintable():
        text = "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text)
    return f"[{text}]"
