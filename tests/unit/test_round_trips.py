"""A dataset that was decoded and is encoded again says the same, and says it by the standard."""

from __future__ import annotations

import struct
from io import BytesIO

from hypothesis import given
from hypothesis import strategies as st
from pydicom import dcmread
from pydicom.datadict import DicomDictionary
from pydicom.dataset import Dataset
from pydicom.filewriter import dcmwrite
from pydicom.valuerep import EXPLICIT_VR_LENGTH_32

from dicomwire.data import codec, file_meta

EXPLICIT = "1.2.840.10008.1.2.1"
UNDEFINED = 0xFFFFFFFF
ITEM, ITEM_END, SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD

VALUES = {
    "AE": b"TITLE ",
    "AS": b"010Y",
    "AT": b"\x10\0\x10\0",
    "CS": b"CODE",
    "DA": b"20200101",
    "DS": b"1.50",
    "DT": b"202001011200",
    "FD": struct.pack("<d", 1.5),
    "FL": struct.pack("<f", 1.5),
    "IS": b"12",
    "LO": b"text",
    "LT": b"text",
    "OB": b"\1\2",
    "OD": bytes(8),
    "OF": bytes(4),
    "OL": bytes(4),
    "OV": bytes(8),
    "OW": b"\1\2",
    "PN": b"Doe^Jane",
    "SH": b"text",
    "SL": b"\1\0\0\0",
    "SS": b"\1\0",
    "ST": b"text",
    "SV": struct.pack("<q", -1),
    "TM": b"1200",
    "UC": b"text",
    "UI": b"1.2.3\0",
    "UL": b"\1\0\0\0",
    "UN": b"\1\2",
    "UR": b"http://a",
    "US": b"\1\0",
    "UT": b"text",
    "UV": struct.pack("<Q", 1),
}
KNOWN = {
    entry[0]: tag
    for tag, entry in sorted(DicomDictionary.items(), reverse=True)
    if 0x0010 <= tag >> 16 < 0x5000 and not entry[3]
}
"""A standard element of each VR."""
PRIVATE = {vr: 0x00111010 + number for number, vr in enumerate([*sorted(VALUES), "SQ"])}
CREATOR = 0x00110010


def element(tag: int, vr: str, value: bytes, is_implicit: bool, is_defined: bool = True) -> bytes:
    length = len(value) if is_defined else UNDEFINED
    if is_implicit:
        return struct.pack("<HHI", tag >> 16, tag & 0xFFFF, length) + value
    form = "<HH2sxxI" if vr in EXPLICIT_VR_LENGTH_32 else "<HH2sH"
    return struct.pack(form, tag >> 16, tag & 0xFFFF, vr.encode(), length) + value


def delimiter(tag: int, length: int = 0) -> bytes:
    return struct.pack("<HHI", tag >> 16, tag & 0xFFFF, length)


@st.composite
def encoded(draw: st.DrawFn, is_implicit: bool, depth: int = 2) -> bytes:
    """Return a dataset as it may come from a peer."""
    elements = {}
    for vr in draw(st.sets(st.sampled_from(sorted(VALUES)), max_size=6)):
        tags = [PRIVATE[vr], KNOWN[vr]] if vr in KNOWN else [PRIVATE[vr]]
        value = draw(st.sampled_from([VALUES[vr], b""]))
        for tag in draw(st.sets(st.sampled_from(tags), min_size=1)):
            elements[tag] = element(tag, vr, value, is_implicit)
    if depth:
        for tag in draw(st.sets(st.sampled_from([0x00081110, 0x00081140, PRIVATE["SQ"]]))):
            elements[tag] = draw(sequence(tag, is_implicit, depth))
    if draw(st.booleans()):
        elements[CREATOR] = element(CREATOR, "LO", b"SOMEBODY", is_implicit)
    return b"".join(elements[tag] for tag in sorted(elements))


@st.composite
def sequence(draw: st.DrawFn, tag: int, is_implicit: bool, depth: int) -> bytes:
    """Return a sequence; one of VR UN has items in implicit VR (PS3.5 Section 6.2.2)."""
    vr = draw(st.sampled_from(["SQ", "UN"]))
    value = b""
    is_private = tag == PRIVATE["SQ"]
    has_unknown_vr = is_private and (is_implicit or vr == "UN")
    for _ in range(draw(st.integers(1 if has_unknown_vr else 0, 2))):
        item = draw(encoded(is_implicit or vr == "UN", depth - 1))
        if draw(st.booleans()):
            value += delimiter(ITEM, len(item)) + item
        else:
            value += delimiter(ITEM, UNDEFINED) + item + delimiter(ITEM_END)
    if draw(st.booleans()):
        return element(tag, vr, value, is_implicit)
    return element(tag, vr, value + delimiter(SEQUENCE_END), is_implicit, is_defined=False)


class Strict:
    """Goes through a dataset in explicit VR, and fails where it is not one throughout."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._position = 0
        self.elements(len(data), is_implicit=False)
        assert self._position == len(data)

    def _take(self, form: str) -> tuple:  # type: ignore[type-arg]
        found = struct.unpack_from(form, self._data, self._position)
        self._position += struct.calcsize(form)
        return found

    def elements(self, end: int, is_implicit: bool) -> None:
        while self._position < end:
            group, number = self._take("<HH")
            if (group, number) == (0xFFFE, 0xE00D):
                assert self._take("<I") == (0,)
                return
            vr, length = self._header(is_implicit)
            if vr == "SQ" or length == UNDEFINED:
                self._items(length, is_implicit or vr == "UN")
            else:
                self._position += length

    def _header(self, is_implicit: bool) -> tuple[str | None, int]:
        if is_implicit:
            return None, *self._take("<I")
        vr = self._take("<2s")[0].decode()
        assert vr == "SQ" or vr in VALUES
        if vr in EXPLICIT_VR_LENGTH_32:
            return vr, *self._take("<xxI")
        return vr, *self._take("<H")

    def _items(self, length: int, is_implicit: bool) -> None:
        end = len(self._data) if length == UNDEFINED else self._position + length
        while self._position < end:
            group, number, size = self._take("<HHI")
            if (group, number) == (0xFFFE, 0xE0DD):
                return
            assert (group, number) == (0xFFFE, 0xE000)
            inner = end if size == UNDEFINED else self._position + size
            self.elements(inner, is_implicit)


def as_decoded(ds: Dataset) -> Dataset:
    """Return `ds` with values that are not decoded yet."""
    return ds


def parsed(ds: Dataset) -> Dataset:
    """Return `ds` with all of its values decoded."""
    for _ in ds.iterall():
        pass
    return ds


@given(encoded(is_implicit=False))
def test_explicit_vr(received: bytes) -> None:
    for prepare in (as_decoded, parsed):
        again = codec.encode_dataset(prepare(codec.decode(received, False, True)), EXPLICIT)
        Strict(again)
        assert codec.decode(again, False, True) == codec.decode(received, False, True)


@given(encoded(is_implicit=True))
def test_implicit_vr(received: bytes) -> None:
    for prepare in (as_decoded, parsed):
        again = codec.encode(prepare(codec.decode(received, True, True)), True, True)
        assert again is not None
        assert codec.decode(again, True, True) == codec.decode(received, True, True)


@given(encoded(is_implicit=True))
def test_implicit_vr_made_explicit(received: bytes) -> None:
    ds = codec.decode(received, True, True)
    again = codec.encode_dataset(ds, EXPLICIT)
    Strict(again)
    assert codec.decode(again, False, True) == codec.decode(received, True, True)


@given(encoded(is_implicit=False))
def test_a_file_that_a_program_saves(received: bytes) -> None:
    ds = codec.decode(received, False, True)
    ds.file_meta = file_meta.create_file_meta(
        sop_class_uid="1.2.3", sop_instance_uid="1.2.3.4", transfer_syntax=EXPLICIT
    )
    file = BytesIO()
    dcmwrite(file, ds, enforce_file_format=True)
    offset = file_meta.parse_file_meta(file.getvalue()).offset
    Strict(file.getvalue()[offset:])
    file.seek(0)
    assert dcmread(file) == codec.decode(received, False, True)
