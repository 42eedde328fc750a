"""Encodes plain datasets, such as the matches of a query, several times faster than pydicom.

pydicom encodes all other datasets.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.uid import UID
from pydicom.valuerep import EXPLICIT_VR_LENGTH_32, IS, DSfloat, PersonName

_IMPLICIT_HEADER = struct.Struct("<HHI").pack
_SHORT_HEADER = struct.Struct("<HH2sH").pack
_LONG_HEADER = struct.Struct("<HH2sxxI").pack
_ITEM = struct.Struct("<HHI").pack
_ITEM_GROUP, _ITEM_ELEMENT = 0xFFFE, 0xE000
_LONGEST_SHORT = 0xFFFF

_SPECIFIC_CHARACTER_SET = 0x00080005
_CODECS = {"": "ascii", "ISO_IR 6": "ascii", "ISO_IR 100": "latin-1", "ISO_IR 192": "utf-8"}
_TEXT_TYPES = frozenset({str, UID, PersonName, IS, DSfloat})


class _NotPlain(Exception):
    """The dataset has an element that only pydicom can encode."""


class _Plain(NamedTuple):
    """The encoding of the values of one VR."""

    code: bytes
    is_long: bool
    encode: Callable[[Any, str], bytes]


def encode_plain(ds: Dataset, is_implicit_vr: bool) -> bytes | None:
    """Return `ds` encoded in little endian, with the same bytes as by pydicom; None if not plain.

    A plain dataset has only text in a character set with one codec, integers, and sequences of
    plain datasets. All its elements were made by a program; elements read from an encoded dataset
    are still raw, and pydicom copies them.
    """
    try:
        return _encode(ds, is_implicit_vr, "ascii")
    except (_NotPlain, UnicodeEncodeError, struct.error, RecursionError):
        return None


def _encode(ds: Dataset, is_implicit: bool, codec: str) -> bytes:
    elements = sorted([(int(tag), element) for tag, element in ds.items()])
    parts: list[bytes] = []
    for tag, element in elements:
        if type(element) is not DataElement or not tag & 0xFFFF or tag < _SPECIFIC_CHARACTER_SET:
            raise _NotPlain
        value = element.value
        if tag == _SPECIFIC_CHARACTER_SET:
            codec = _codec(value)
        vr = element.VR
        if vr == "SQ":
            _append(parts, tag, _SEQUENCE, _encode_items(element, is_implicit, codec), is_implicit)
            continue
        plain = _PLAIN.get(vr)
        if plain is None:
            raise _NotPlain
        _append(parts, tag, plain, plain.encode(value, codec), is_implicit)
    return b"".join(parts)


def _append(parts: list[bytes], tag: int, plain: _Plain, data: bytes, is_implicit: bool) -> None:
    length = len(data)
    if is_implicit:
        parts.append(_IMPLICIT_HEADER(tag >> 16, tag & 0xFFFF, length))
    elif plain.is_long:
        parts.append(_LONG_HEADER(tag >> 16, tag & 0xFFFF, plain.code, length))
    elif length <= _LONGEST_SHORT:
        parts.append(_SHORT_HEADER(tag >> 16, tag & 0xFFFF, plain.code, length))
    else:
        raise _NotPlain
    parts.append(data)


def _codec(value: Any) -> str:
    codec = _CODECS.get(value or "") if isinstance(value, str | None) else None
    if codec is None:
        raise _NotPlain
    return codec


def _encode_items(element: DataElement, is_implicit: bool, codec: str) -> bytes:
    if element.is_undefined_length:
        raise _NotPlain
    parts = []
    for item in element.value or ():
        if item.is_undefined_length_sequence_item:
            raise _NotPlain
        data = _encode(item, is_implicit, codec)
        parts.append(_ITEM(_ITEM_GROUP, _ITEM_ELEMENT, len(data)))
        parts.append(data)
    return b"".join(parts)


def _text(value: Any) -> str:
    if type(value) in _TEXT_TYPES:
        return str(value)
    if value is None:
        return ""
    if isinstance(value, str | bytes) or not isinstance(value, Sequence):
        raise _NotPlain
    if not all(type(each) in _TEXT_TYPES for each in value):
        raise _NotPlain
    return "\\".join(map(str, value))


def _encode_text(value: Any, codec: str) -> bytes:
    data = _text(value).encode(codec)
    return data + b" " if len(data) % 2 else data


def _encode_ascii(value: Any, codec: str) -> bytes:
    return _encode_text(value, "ascii")


def _encode_uid(value: Any, codec: str) -> bytes:
    data = _text(value).encode("ascii")
    return data + b"\0" if len(data) % 2 else data


def _number_encoder(layout: str) -> Callable[[Any, str], bytes]:
    pack = struct.Struct(layout).pack

    def encode(value: Any, codec: str) -> bytes:
        if type(value) is not int:
            raise _NotPlain
        return pack(value)

    return encode


def _plain(vr: str, encode: Callable[[Any, str], bytes]) -> _Plain:
    return _Plain(vr.encode(), vr in EXPLICIT_VR_LENGTH_32, encode)


_SEQUENCE = _plain("SQ", _encode_text)
_PLAIN: dict[str, _Plain] = {
    **{vr: _plain(vr, _encode_text) for vr in ("LO", "LT", "PN", "SH", "ST", "UC", "UT")},
    **{
        vr: _plain(vr, _encode_ascii)
        for vr in ("AE", "AS", "CS", "DA", "DS", "DT", "IS", "TM", "UR")
    },
    "UI": _plain("UI", _encode_uid),
    "US": _plain("US", _number_encoder("<H")),
    "SS": _plain("SS", _number_encoder("<h")),
    "UL": _plain("UL", _number_encoder("<I")),
    "SL": _plain("SL", _number_encoder("<i")),
}
