"""Reads the values to index from the beginning of a dataset, no further than the last key.

This is done for every object received, so it must be fast: pydicom decodes only sequences, and
all other values are decoded here. Pixel data is never read.
"""

from __future__ import annotations

import contextlib
import json
import re
import struct
import threading
import zlib
from collections.abc import Hashable
from functools import lru_cache, partial
from typing import Any, NamedTuple

from dicomwire.data.codec import decode, encoding_of
from dicomwire.node.decoding import (
    MAX_VALUE,
    NUMBERS,
    TEXT_VRS,
    UID_MEMBER,
    Attribute,
    attribute_of,
    known_attribute,
    known_terms,
    known_text,
    member,
    numbers_of,
    text_of_value,
    values_of_text,
)
from dicomwire.node.heads import Origin
from dicomwire.node.keys import KEPT, QUERY_KEYS, UNIQUE, VALUE_LIMIT, Level, QueryKey
from dicomwire.node.statuses import CANNOT_UNDERSTAND, INVALID_INSTANCE, MISMATCH

_UNDEFINED = 0xFFFFFFFF
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_CHARACTER_SET = 0x00080005
_MAX_DEPTH = 64
_MOST_REMEMBERED = 64
"""The most bytes of a value that is remembered."""
_MAX_SEQUENCES = 64 * 1024
"""The most bytes of sequences per object; pydicom needs a tenth of a second to decode as many."""
_MAX_VALUES = 64 * 1024
"""The most bytes of other values per object, except for the unique keys, which are short.

With JSON's escapes, the rows of an object have a few hundred thousand bytes at the most.
"""
_MAX_HEAD = 64 * 1024 * 1024
"""The most bytes to inflate of a deflated dataset; the keys of real objects come long before."""

_MAX_ELEMENTS = 1_000_000
"""The most elements to skip before the last key: a second of work."""
_MAX_INFLATED_ELEMENTS = 100_000
"""The same for a deflated dataset, where a peer can send so many in a few bytes."""
_INFLATING = threading.Lock()
"""Held while a dataset is inflated: only one at a time, since each may take `_MAX_HEAD` bytes."""

_LONG_VRS = frozenset(b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())
_SHORT_VRS = frozenset(b"AE AS AT CS DA DS DT FD FL IS LO LT PN SH SL SS ST TM UI UL US".split())
_is_uid = re.compile(r"[0-9]+(\.[0-9]+)*").fullmatch

_WANTED = {int(key.tag): (key, key.level.depth) for keys in KEPT.values() for key in keys}
# The transfer syntax comes from the request, and not from the dataset.
del _WANTED[
    next(tag for tag, key in QUERY_KEYS.items() if key.keyword == "AvailableTransferSyntaxUID")
]
_LAST = max(_WANTED)
_COLUMNS = [{key.column: "" for key in KEPT[level] if key.column is not None} for level in Level]
_COLUMN_OF = {tag: key.column for tag, (key, _) in _WANTED.items() if key.column is not None}
_STUDY_UID, _SERIES_UID, _INSTANCE_UID = (
    int(UNIQUE[level].tag) for level in (Level.STUDY, Level.SERIES, Level.IMAGE)
)
_PATIENT_ID = int(UNIQUE[Level.PATIENT].tag)
_UNIQUE = {_PATIENT_ID, _STUDY_UID, _SERIES_UID, _INSTANCE_UID}
_CLASS_UID = 0x00080016


class Unacceptable(ValueError):
    """An object that cannot be indexed, with the `status` of the response.

    The text contains no values of the object.
    """

    def __init__(self, text: str, status: int) -> None:
        super().__init__(text)
        self.status = status


class Truncated(Unacceptable):
    """The bytes end before the last key: the dataset is truncated, or more of it must be read."""

    def __init__(self) -> None:
        super().__init__("the dataset is truncated", CANNOT_UNDERSTAND)


class Row(NamedTuple):
    """The attributes of one level."""

    columns: dict[str, str]
    """Text by column."""
    json: str
    """All of them in the DICOM JSON model (PS3.18 F)."""

    @property
    def attributes(self) -> dict[str, Any]:
        """All of them, decoded from `json`."""
        found: dict[str, Any] = json.loads(self.json)
        return found


_Raw = tuple[str, bytes]


class Entry:
    """The values to index of one object; those of a level are decoded when they are asked for.

    Parameters
    ----------
    origin : Origin
    dataset : memoryview
        The encoded dataset; needed values are copied from it.
    is_whole : bool
        Whether this is the whole dataset, or only its beginning.

    Attributes
    ----------
    origin : Origin
    study_uid, series_uid, instance_uid : str
        From the dataset.
    """

    __slots__ = (
        "_implicit",
        "_levels",
        "_little",
        "_rows",
        "_terms",
        "instance_uid",
        "origin",
        "series_uid",
        "study_uid",
    )

    def __init__(self, origin: Origin, dataset: memoryview, is_whole: bool = True) -> None:
        implicit, little, deflated = encoding_of(origin.transfer_syntax_uid)
        self.origin = _without_padding(origin)
        self._little = little
        self._levels: tuple[dict[int, _Raw], ...] = ({}, {}, {}, {})
        self._rows: list[Row | None] = [None] * len(self._levels)
        if deflated:
            with _INFLATING:
                inflated = memoryview(_inflated(dataset))
                self._read(inflated, implicit, is_whole, _MAX_INFLATED_ELEMENTS)
        else:
            self._read(dataset, implicit, is_whole, _MAX_ELEMENTS)
        self.study_uid = self._uid(_STUDY_UID)
        self.series_uid = self._uid(_SERIES_UID)
        self.instance_uid = self._instance_uid()
        self._check()

    def _read(self, dataset: memoryview, is_implicit: bool, is_whole: bool, most: int) -> None:
        reader = _Reader(dataset, is_implicit, self._little, most)
        self._implicit = reader.is_implicit
        try:
            self._terms = known_terms(reader.read(self._levels, is_whole))
        except struct.error:
            raise Truncated from None

    def _instance_uid(self) -> str:
        """Return the SOP Instance UID, which must be that of the request."""
        uid = self.origin.sop_instance_uid  # a valid one, so that an equal one is valid too
        raw = self._levels[3].get(_INSTANCE_UID)
        is_same = raw is not None and raw[1].rstrip(b"\0 ") == uid.encode()
        if not is_same and self._uid(_INSTANCE_UID) != uid:
            raise Unacceptable("the SOP Instance UIDs of request and dataset differ", MISMATCH)
        return uid

    def _check(self) -> None:
        raw = self._levels[3].get(_CLASS_UID)
        is_same = raw is not None and _valid_uid(raw[1]) == self.origin.sop_class_uid
        if not is_same and self._uid(_CLASS_UID) != self.origin.sop_class_uid:
            raise Unacceptable("the SOP Class UIDs of request and dataset differ", MISMATCH)
        patient_id = self._levels[0].get(_PATIENT_ID)
        if patient_id is not None and len(patient_id[1]) > VALUE_LIMIT:
            raise Unacceptable("the Patient ID is too long", MISMATCH)

    def _uid(self, tag: int) -> str:
        raw = self._levels[_WANTED[tag][1]].get(tag)
        uid = _valid_uid(raw[1]) if raw is not None else ""
        if not uid:
            name = QUERY_KEYS[tag].keyword
            fault = "has an invalid" if raw is not None and raw[1].strip(b"\0 ") else "has no"
            raise Unacceptable(f"the dataset {fault} {name}", MISMATCH)
        return uid

    @property
    def size(self) -> int:
        """The number of bytes of the dataset that it keeps."""
        return sum(len(raw) for level in self._levels for _, raw in level.values())

    @property
    def patient_id(self) -> str:
        """The Patient ID as in the index; "" if there is none."""
        vr, raw = self._levels[0].get(_PATIENT_ID, ("LO", b""))
        read = known_text if len(raw) <= _MOST_REMEMBERED else text_of_value
        return read(vr, raw, self._terms)

    def row(self, level: Level) -> Row:
        """Return the attributes of `level` for the index, without invalid values."""
        depth = level.depth
        row = self._rows[depth]
        if row is None:
            row = self._rows[depth] = self._decoded_row(depth)
        return row

    def raw(self, tag: int) -> Hashable:
        """Return the encoded value of an attribute; equal ones have equal `values`."""
        return self._levels[_WANTED[tag][1]].get(tag), self._terms, self._little

    def values(self, tag: int) -> list[Any]:
        """Return the values of an attribute as `row` has them; empty if it has no valid one.

        Only this attribute is decoded.
        """
        vr, raw = self._levels[_WANTED[tag][1]].get(tag, ("LO", b""))
        if vr not in TEXT_VRS:
            return numbers_of(vr, raw, self._little) or []
        if len(raw) > MAX_VALUE:
            return []
        return values_of_text(vr, text_of_value(vr, raw, self._terms)) or []

    def _decoded_row(self, depth: int) -> Row:
        columns = _COLUMNS[depth].copy()
        attributes: list[str] = []
        for tag, (vr, raw) in self._levels[depth].items():
            if vr == "SQ":
                items = self._sequence(_WANTED[tag][0], raw)
                if items is not None:
                    attributes.append(member(tag, vr, items))
                continue
            element: Attribute | None
            if tag == _INSTANCE_UID and vr == "UI":  # each object has another one
                element = Attribute(self.instance_uid, UID_MEMBER % (tag, self.instance_uid))
            else:
                read = known_attribute if len(raw) <= _MOST_REMEMBERED else attribute_of
                element = read(tag, vr, raw, self._terms, self._little)
            if element is None:
                continue
            column = _COLUMN_OF.get(tag)
            if column is not None:
                columns[column] = element.text
            if element.json:
                attributes.append(element.json)
        return Row(columns, "{" + ", ".join(attributes) + "}")

    def _sequence(self, key: QueryKey, raw: bytes) -> list[Any] | None:
        """Return the items of a sequence; `raw` is the whole element. None if it is invalid."""
        with contextlib.suppress(Exception):  # pydicom raises many kinds of errors for bad values
            head = self._character_set_element()
            dataset = decode(head + raw, self._implicit, self._little)
            found: list[Any] | None = dataset[key.tag].to_json_dict(None, 0).get("Value", [])
            return found
        return None

    def _character_set_element(self) -> bytes:
        value = "\\".join(self._terms).encode()
        value += b" " * (len(value) % 2)
        order = "<" if self._little else ">"
        if self._implicit:
            return struct.pack(order + "HHL", 8, 5, len(value)) + value
        return struct.pack(order + "HH2sH", 8, 5, b"CS", len(value)) + value


def origin_uid(uid: str) -> str:
    """Return a UID of a request without padding.

    Raises
    ------
    Unacceptable
        When it is not a UID: components of digits between dots, 64 characters at the most.
        (Components with leading zeros occur, and do no harm.)
    """
    uid = uid.rstrip("\0 ")
    if not _is_uid(uid) or len(uid) > 64:
        raise Unacceptable("the request has an invalid UID", INVALID_INSTANCE)
    return uid


_known_class_uid = lru_cache(maxsize=1024)(origin_uid)


def _without_padding(origin: Origin) -> Origin:
    """Return an origin whose UIDs are checked, and are without padding; see `origin_uid`."""
    sop_class = _known_class_uid(origin.sop_class_uid)
    instance = origin_uid(origin.sop_instance_uid)
    if sop_class == origin.sop_class_uid and instance == origin.sop_instance_uid:
        return origin
    return origin._replace(sop_class_uid=sop_class, sop_instance_uid=instance)


def _inflated(dataset: memoryview) -> bytes:
    """Return the first `_MAX_HEAD` bytes of a deflated dataset (PS3.5 A.5), inflated."""
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        return inflater.decompress(dataset, _MAX_HEAD)
    except zlib.error:
        raise Unacceptable("the dataset is not deflated, or damaged", CANNOT_UNDERSTAND) from None


# --- Elements ---------------------------------------------------------------------------------


_HEADERS = {
    order == "<": (
        struct.Struct(order + "HH2sH").unpack_from,
        struct.Struct(order + "HHL").unpack_from,
        struct.Struct(order + "L").unpack_from,
        struct.Struct(order + "6sH").unpack_from,
    )
    for order in "<>"
}


def _plan(order: str, header: bytes) -> tuple[int, int, str] | None:
    """Return what to do with an element of a short header, by its tag and VR.

    That is the depth of its level, its tag, and the VR to decode it by, which is "" for an element
    to skip. None: it needs another look.
    """
    group, element = struct.unpack(f"{order}HH", header[:4])
    tag, vr = group << 16 | element, header[4:]
    if vr not in _SHORT_VRS or tag > _LAST or tag == _CHARACTER_SET:
        return None
    wanted = _WANTED.get(tag)
    return (0, tag, "") if wanted is None else (wanted[1], tag, _form(vr, wanted[0]))


_PLANS = {order == "<": lru_cache(maxsize=4096)(partial(_plan, order)) for order in "<>"}
"""`_plan` by whether it is little endian. Objects have a few hundred different elements."""


class _Reader:
    """Finds the elements to index in a dataset (PS3.5 Section 7), without recursion."""

    __slots__ = (
        "_explicit",
        "_implicit_header",
        "_left",
        "_length",
        "_plan",
        "_short_header",
        "_view",
        "is_implicit",
        "values",
    )

    def __init__(self, view: memoryview, is_implicit: bool, is_little: bool, most: int) -> None:
        self._view = view
        self._left = most  # how many more elements may be read
        self.values = _MAX_VALUES  # how many more bytes of them may be kept
        self._explicit, self._implicit_header, self._length, self._short_header = _HEADERS[
            is_little
        ]
        self._plan = _PLANS[is_little]
        # Some senders use implicit VR where explicit VR was negotiated, or the reverse.
        self.is_implicit = is_implicit
        if len(view) >= 8:
            first, second = view[4:6]
            self.is_implicit = not (0x40 < first < 0x5B and 0x40 < second < 0x5B)

    def read(self, levels: tuple[dict[int, _Raw], ...], is_whole: bool) -> bytes:
        """Put the values by tag into `levels`; return the Specific Character Set."""
        view, end, position = self._view, len(self._view), 0
        character_set = b""
        sequences = _MAX_SEQUENCES  # how many more bytes of them may be kept
        wanted = _WANTED.get
        while end - (position := self._next(position, levels)) >= 8:
            tag, vr, length, start = self._header(position, self.is_implicit)
            if tag > _LAST:
                break
            if length == _UNDEFINED:
                stop = self._skip(start, self.is_implicit or vr == b"UN")
            else:
                stop = start + length
            if stop > end:
                raise Truncated
            key = wanted(tag)
            if key is not None:
                form = _form(vr, key[0])
                if form == "SQ":
                    if stop - position <= sequences:
                        sequences -= stop - position
                        levels[key[1]][tag] = form, bytes(view[position:stop])
                elif form and length != _UNDEFINED:
                    if tag in _UNIQUE:
                        # Two bytes beyond the limit show that the value is too long.
                        stop_at = min(stop, start + MAX_VALUE + 2)
                        levels[key[1]][tag] = form, bytes(view[start:stop_at])
                    elif stop - start <= self.values:
                        self.values -= stop - start
                        levels[key[1]][tag] = form, bytes(view[start:stop])
            elif tag == _CHARACTER_SET and length < 1024:
                character_set = bytes(view[start:stop])
            position = stop
        else:
            if not is_whole:
                raise Truncated  # the rest of the dataset may have further keys
        return character_set

    def _next(self, position: int, levels: tuple[dict[int, _Raw], ...]) -> int:
        """Return the offset of the next element that is neither skipped nor read here.

        Most elements of an object are: they have a VR with a short header, and are not indexed, or
        are texts and numbers. This has a tight loop of its own, since it takes most of the time of
        an object.
        """
        if self.is_implicit:
            return position
        view, end, left, values = self._view, len(self._view), self._left, self.values
        unpack = self._short_header
        while end - position >= 8 and left:
            header, length = unpack(view, position)
            plan = self._plan(header)
            stop = position + 8 + length
            if plan is None or stop > end:
                break
            depth, tag, form = plan
            if form:
                if length > values:
                    break
                values -= length
                levels[depth][tag] = form, bytes(view[position + 8 : stop])
            position = stop
            left -= 1
        self._left, self.values = left, values
        return position

    def _header(self, position: int, is_implicit: bool) -> tuple[int, bytes, int, int]:
        """Return tag, VR (empty in implicit VR), length, and the offset of the value."""
        self._left -= 1
        if self._left < 0:
            raise Unacceptable("the dataset has too many elements", CANNOT_UNDERSTAND)
        if not is_implicit:
            group, element, vr, length = self._explicit(self._view, position)
            if vr in _LONG_VRS:
                (length,) = self._length(self._view, position + 8)
                return group << 16 | element, vr, length, position + 12
            if vr in _SHORT_VRS or (vr.isalpha() and vr.isupper()):
                return group << 16 | element, vr, length, position + 8
        group, element, length = self._implicit_header(self._view, position)
        return group << 16 | element, b"", length, position + 8

    def _skip(self, position: int, is_implicit: bool) -> int:
        """Return the end of a sequence of undefined length, which has to be searched for."""
        inside = [(False, is_implicit)]  # for each level: is it an item, is it in implicit VR
        while inside:
            is_item, is_implicit = inside[-1]
            tag, vr, length, start = self._header(position, is_implicit or not is_item)
            position = start
            if tag == (_ITEM_END if is_item else _SEQUENCE_END):
                inside.pop()
            elif not is_item and tag != _ITEM:
                raise Unacceptable("a sequence has no items", CANNOT_UNDERSTAND)
            elif length == _UNDEFINED:
                inside.append((not is_item, is_implicit or vr == b"UN"))
                if len(inside) > 2 * _MAX_DEPTH:
                    raise Unacceptable("sequences are nested too deep", CANNOT_UNDERSTAND)
            else:
                position += length
        return position


def _form(vr: bytes, key: QueryKey) -> str:
    """Return the VR to decode a value by: its own, if similar to the key's; "" if not."""
    own = vr.decode() if vr and vr != b"UN" else key.vr
    if own == key.vr or (own in TEXT_VRS and key.vr in TEXT_VRS):
        return own
    return own if own in NUMBERS and key.vr in NUMBERS else ""


@lru_cache(maxsize=1024)
def _valid_uid(raw: bytes) -> str:
    """Return a UID without padding; "" if it is none. Most UIDs of an object are known ones."""
    uid = raw.rstrip(b"\0 ").decode("latin-1").strip()
    return uid if len(uid) <= 64 and _is_uid(uid) else ""
