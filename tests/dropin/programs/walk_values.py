"""Prints what becomes of the values that are assigned to the attributes of primitives, as JSON."""

from __future__ import annotations

import inspect
import json
import logging
from io import BytesIO
from typing import Any

import pynetdicom
from pydicom.tag import Tag
from pydicom.uid import UID
from pynetdicom import dimse_primitives, pdu_primitives
from pynetdicom.transport import AddressInformation

PREFIXES = ("A_", "P_", "C_", "N_")
SUFFIXES = ("Negotiation", "Notification")
VALUES = {
    "None": None,
    "''": "",
    "'1.2.3'": "1.2.3",
    "UID('1.2.3')": UID("1.2.3"),
    "b'1.2.3'": b"1.2.3",
    "'1.2.03'": "1.2.03",
    "'abc'": "abc",
    "a str of 16": "A" * 16,
    "a str of 17": "A" * 17,
    "a str of 65": "1" * 65,
    "'  '": "  ",
    "' A '": " A ",
    "'A\\B'": "A\\B",
    "'Ä'": "Ä",
    "'affirmative'": "affirmative",
    "b''": b"",
    "b'A'": b"A",
    "BytesIO(b'A')": BytesIO(b"A"),
    **{str(number): number for number in (-1, 0, 1, 2, 3, 4, 5, 6, 7, 65535, 65536, 2**32)},
    "True": True,
    "1.0": 1.0,
    "[]": [],
    "['1.2.3']": ["1.2.3"],
    "[b'1.2.3']": [b"1.2.3"],
    "[UID('1.2.3')]": [UID("1.2.3")],
    "[1]": [1],
    "Tag(0x00100010)": Tag(0x00100010),
    "[Tag(0x00100010)]": [Tag(0x00100010)],
    "[0x00100010, 'PatientID']": [0x00100010, "PatientID"],
    "[(1, b'A')]": [(1, b"A")],
    "[[1, b'A']]": [[1, b"A"]],
    "[a context]": [pynetdicom.build_context("1.2.3")],
    "[an item]": [pdu_primitives.MaximumLengthNotification()],
    "('127.0.0.1', 104)": ("127.0.0.1", 104),
    "an AddressInformation": AddressInformation("127.0.0.1", 104),
}


def described(value: Any) -> str:
    """Return type and value, whichever implementation the class is of."""
    if isinstance(value, list):
        return f"[{', '.join(map(described, value))}]"
    if isinstance(value, BytesIO):
        return f"BytesIO {value.getvalue()!r}"
    if isinstance(value, frozenset):
        return f"{sorted(value)}"
    if isinstance(value, (int, str, bytes, tuple, type(None))):
        return f"{type(value).__name__} {value!r}"
    return type(value).__name__


def read(primitive: Any, name: str) -> str:
    """Return the value of an attribute, or what asking for it raised."""
    try:
        value = getattr(primitive, name)
        return described(frozenset(value) if name.endswith("KEYWORDS") else value)
    except Exception as error:
        return type(error).__name__


def outcome(primitive: Any, name: str, value: Any) -> str:
    """Return what `name` is after `value` was assigned to it, or what was raised."""
    try:
        setattr(primitive, name, value)
    except Exception as error:
        return type(error).__name__
    return read(primitive, name)


def walk() -> dict[str, str]:
    """Return what becomes of each value in each attribute."""
    found = {}
    for module in (pdu_primitives, dimse_primitives):
        for cls_name, cls in sorted(vars(module).items()):
            is_primitive = cls_name.startswith(PREFIXES) or cls_name.endswith(SUFFIXES)
            if not inspect.isclass(cls) or not is_primitive:
                continue
            try:
                primitive = cls()
            except TypeError:
                continue
            where = module.__name__.rpartition(".")[2]
            for name in dir(primitive):
                if name.startswith("_") or callable(getattr(cls, name, None)):
                    continue
                path = f"{where}:{cls_name}.{name}"
                found[f"{path} at first"] = read(primitive, name)
                if name.endswith("KEYWORDS"):
                    continue
                for said, value in VALUES.items():
                    found[f"{path} = {said}"] = outcome(cls(), name, value)
    return found


if __name__ == "__main__":
    logging.disable()
    print(json.dumps(walk()))
