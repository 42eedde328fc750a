"""Identifiers as they come from the wire: encoded by hand, so that nothing improves on them.

`find` returns the responses as the peer decodes them.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.uid import ImplicitVRLittleEndian

from dicomwire.data.codec import decode, decode_for
from dicomwire.node import query

PATIENT_ROOT = "1.2.840.10008.5.1.4.1.2.1.1"
STUDY_ROOT = "1.2.840.10008.5.1.4.1.2.2.1"
PATIENT_STUDY_ONLY = "1.2.840.10008.5.1.4.1.2.3.1"

Keys = dict[str, Any]


def find(
    index: Any,
    model: str,
    asked: Any,
    transfer_syntax: str = ImplicitVRLittleEndian,
    **options: Any,
) -> Iterator[tuple[int | Dataset, Dataset | None]]:
    """Return an iterator over the responses of a node named NODE."""
    options |= {"ae_title": "NODE", "transfer_syntax": transfer_syntax}
    for status, match in query.find(index, model, asked, **options):
        yield status, None if match is None else decode_for(match, transfer_syntax)


def identifier(level: str | None, character_set: str = "ISO_IR 192", **keys: Any) -> Dataset:
    """Return the identifier of a query.

    Keys are text, bytes, numbers (US), or a dict of the keys in a sequence's item.
    """
    return decode(encoded(level, character_set, **keys), True, True)


def encoded(level: str | None, character_set: str = "ISO_IR 192", **keys: Any) -> bytes:
    """Return an identifier in Implicit VR Little Endian."""
    if level is not None:
        keys["QueryRetrieveLevel"] = level
    if character_set:
        keys["SpecificCharacterSet"] = character_set
    codec = {"ISO_IR 192": "utf-8", "ISO_IR 100": "latin-1"}.get(character_set, "ascii")
    return _encoded(keys, codec)


def _encoded(keys: Keys, codec: str) -> bytes:
    tags = {keyword: tag_for_keyword(keyword) or int(keyword, 16) for keyword in keys}
    return b"".join(
        element(tags[keyword], _value(tags[keyword], keys[keyword], codec))
        for keyword in sorted(keys, key=tags.__getitem__)
    )


def element(tag: int, value: bytes) -> bytes:
    """Return an element in Implicit VR Little Endian."""
    value += b" " * (len(value) % 2)
    return struct.pack("<HHL", tag >> 16, tag & 0xFFFF, len(value)) + value


def _value(tag: int, value: Any, codec: str) -> bytes:
    if isinstance(value, bytes):
        return value
    if isinstance(value, dict):
        return element(0xFFFEE000, _encoded(value, codec))
    if isinstance(value, int) and dictionary_VR(tag) == "US":
        return struct.pack("<H", value)
    return str(value).encode(codec)
