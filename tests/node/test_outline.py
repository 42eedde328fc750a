"""An outline finds the elements of any dataset, reads no values, and refuses what is damaged."""

from __future__ import annotations

import io
import struct
from pathlib import Path
from random import Random

import pytest
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.uid import (
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGBaseline8Bit,
)

from dicomwire.data.encodings import DatasetError, encoding_of
from dicomwire.node.pixels import outline as module
from dicomwire.node.pixels.outline import Outline

SYNTAXES = (ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian)


class Counting(io.BytesIO):
    """A file that counts the bytes that are read."""

    count = 0

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(size)
        self.count += len(data)
        return data


def _encoded(ds: Dataset, syntax: str) -> bytes:
    file = DicomBytesIO()
    file.is_implicit_VR, file.is_little_endian, _ = encoding_of(syntax)
    write_dataset(file, ds)
    return file.getvalue()


def _outline(data: bytes, syntax: str = ExplicitVRLittleEndian) -> Outline:
    return Outline(io.BytesIO(data), 0, syntax)


def _dataset(random: Random, depth: int = 2) -> Dataset:
    ds = Dataset()
    ds.PatientName = random.choice(["", "Doe^Jane", "x" * 60])
    ds.Rows = random.randrange(65536)
    ds.add_new(0x00091001, "OB", random.randbytes(2 * random.randrange(20)))
    if depth:
        items = [_dataset(random, depth - 1) for _ in range(random.randrange(4))]
        for item in items:
            item.is_undefined_length_sequence_item = random.random() < 0.5
        ds.ProcedureCodeSequence = items
        ds["ProcedureCodeSequence"].is_undefined_length = random.random() < 0.5
    return ds


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_it_finds_each_element_and_its_value(syntax: str) -> None:
    random = Random(7)
    for _ in range(50):
        ds = _dataset(random)
        outline = _outline(_encoded(ds, syntax), syntax)
        found = list(outline.elements())
        assert [element.tag for element in found] == sorted(map(int, ds.keys()))
        assert found[0].header == 0
        for element in found:
            if element.tag == 0x00280010:
                order = "big" if syntax == ExplicitVRBigEndian else "little"
                value = outline.read(element.start, element.end)
                assert int.from_bytes(value, order) == ds.Rows
            elif element.tag == 0x00081032:
                assert len(list(outline.items(element))) == len(ds.ProcedureCodeSequence)


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_damaged_data_are_refused_or_read_in_part(syntax: str) -> None:
    random = Random(8)
    for _ in range(300):
        encoded = bytearray(_encoded(_dataset(random), syntax))
        at = random.randrange(len(encoded))
        if random.random() < 0.5:
            del encoded[at:]
        else:
            encoded[at] ^= 1 << random.randrange(8)
        try:
            for element in _outline(bytes(encoded), syntax).elements():
                assert element.end <= len(encoded)
        except DatasetError:
            pass


def test_long_values_are_not_read() -> None:
    ds = Dataset()
    ds.add_new(0x00091001, "OB", b"\0" * 10_000_000)
    ds.Rows = 1
    file = Counting(_encoded(ds, ExplicitVRLittleEndian))
    assert len(list(Outline(file, 0, ExplicitVRLittleEndian).elements())) == 2
    assert file.count < 100_000


def test_fragments_are_found_where_they_are() -> None:
    pixels = struct.pack("<HH2sHI", 0x7FE0, 0x10, b"OB", 0, 0xFFFFFFFF)
    for fragment in (b"", b"abcd", b"ef"):
        pixels += struct.pack("<HHI", 0xFFFE, 0xE000, len(fragment)) + fragment
    pixels += struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
    padding = struct.pack("<HH2sHI", 0xFFFC, 0xFFFC, b"OB", 0, 2) + b"\0\0"
    outline = _outline(pixels + padding, JPEGBaseline8Bit)
    elements = list(outline.elements())
    assert [element.tag for element in elements] == [0x7FE00010, 0xFFFCFFFC]
    parts = list(outline.fragments(elements[0]))
    assert [outline.read(part.start, part.end) for part in parts] == [b"", b"abcd", b"ef"]
    assert list(outline.fragments(elements[0], parts[1].header)) == parts[1:]


def test_zeros_at_the_end_are_padding() -> None:
    ds = Dataset()
    ds.Rows = 1
    data = _encoded(ds, ExplicitVRLittleEndian)
    for count in (1, 8, 100):
        assert len(list(_outline(data + b"\0" * count).elements())) == 1


def test_deep_nesting_and_many_elements_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    sequence = struct.pack("<HH2sHI", 0x0008, 0x1032, b"SQ", 0, 0xFFFFFFFF)
    item = struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF)
    with pytest.raises(DatasetError, match="nested more than 64 deep"):
        list(_outline((sequence + item) * 1000).elements())
    monkeypatch.setattr(module, "MOST_ELEMENTS", 1000)
    element = struct.pack("<HH2sH", 0x0009, 0x1001, b"LO", 0)
    with pytest.raises(DatasetError, match="too many elements"):
        list(_outline(element * 1001).elements())


def test_a_file_that_becomes_shorter_is_an_error_of_reading(tmp_path: Path) -> None:
    ds = Dataset()
    ds.add_new(0x00091001, "OB", b"\0" * 1000)
    file = io.BytesIO(_encoded(ds, ExplicitVRLittleEndian))
    outline = Outline(file, 0, ExplicitVRLittleEndian)
    (element,) = outline.elements()
    file.truncate(500)
    with pytest.raises(OSError, match="changed"):
        outline.read(element.start, element.end)
