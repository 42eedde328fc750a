"""What makes two encoded datasets the same object, and what does not."""

from __future__ import annotations

import array
import contextlib
import struct
from io import BytesIO
from pathlib import Path

import pydicom.data
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import Dataset, dcmread
from pydicom.encaps import encapsulate
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    RLELossless,
)

from dicomwire.data.codec import encode_dataset
from dicomwire.node import elements
from dicomwire.node.content import Comparison, compare
from dicomwire.node.elements import Unreadable

WHEEL = Path(pydicom.data.__file__).parent / "test_files"
SAME, OTHER, BY_PIXELS = Comparison
SYNTAXES = [
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    ExplicitVRBigEndian,
    DeflatedExplicitVRLittleEndian,
]
PRIVATE = 0x00091001


def make() -> Dataset:
    """Return a dataset with values of many kinds, nested and private."""
    ds = Dataset()
    ds.SpecificCharacterSet = "ISO_IR 100"
    ds.SOPInstanceUID = "1.2.3"
    ds.PatientName = "Müller^Jane"
    ds.add_new(0x00090010, "LO", "MAKER")
    ds.add_new(PRIVATE, "LO", "odd")
    inner = Dataset()
    inner.CodeValue = "A"
    inner.ReferencedSOPSequence = [Dataset(), Dataset()]
    inner.ReferencedSOPSequence[1].ReferencedSOPInstanceUID = "1.2.4"
    ds.ProcedureCodeSequence = [inner, Dataset()]
    ds.FrameIncrementPointer = 0x00181063
    ds.SliceThickness = "1.5"
    ds.Rows = ds.Columns = 2
    ds.BitsAllocated = 16
    ds.PixelRepresentation = 0
    ds.add_new("SmallestImagePixelValue", "US", 7)
    ds.add_new("EventElapsedTimes", "DS", [1, 2])
    ds.add_new("SimpleFrameList", "UL", [1, 70_000])
    ds.add_new("TableOfYBreakPoints", "FD", None)
    ds.add_new("PixelData", "OW", bytes(range(8)))
    return ds


def with_delimiters(ds: Dataset) -> Dataset:
    """Return `ds` with all its sequences and items to be written without lengths."""
    for element in ds:
        if element.VR == "SQ":
            element.is_undefined_length = True
            for item in element.value:
                item.is_undefined_length_sequence_item = True
                with_delimiters(item)
    return ds


def compared(
    one: bytes, other: bytes, one_syntax: str = SYNTAXES[0], other_syntax: str = SYNTAXES[0]
) -> Comparison:
    return compare(BytesIO(one), one_syntax, BytesIO(other), other_syntax)


def explicit(tag: int, vr: bytes, value: bytes, length: int | None = None) -> bytes:
    """Return an element in explicit VR little endian; it may claim to have another length."""
    form = "<HH2sxxL" if vr in (b"OB", b"SQ", b"UN", b"UT") else "<HH2sH"
    length = len(value) if length is None else length
    return struct.pack(form, tag >> 16, tag & 0xFFFF, vr, length) + value


def item(value: bytes, length: int | None = None) -> bytes:
    length = len(value) if length is None else length
    return struct.pack("<HHL", 0xFFFE, 0xE000, length) + value


def encoded(ds: Dataset, syntax: str) -> bytes:
    """Return `ds` encoded, of which pydicom leaves words in little endian."""
    if syntax == ExplicitVRBigEndian and "PixelData" in ds:
        words = array.array("H", ds.PixelData)
        words.byteswap()
        ds.PixelData = words.tobytes()
    return encode_dataset(ds, syntax)


PLAIN = encode_dataset(make(), SYNTAXES[0])
UNDEFINED = 0xFFFFFFFF


@pytest.mark.parametrize("other", SYNTAXES)
@pytest.mark.parametrize("one", SYNTAXES)
def test_uncompressed_syntaxes_and_lengths_of_sequences_do_not_count(one: str, other: str) -> None:
    first = encoded(make(), one)
    second = encoded(with_delimiters(make()), other)
    assert first != second
    assert compared(first, second, one, other) is SAME


def test_group_lengths_and_padding_do_not_count() -> None:
    ds = make()
    ds.ProcedureCodeSequence[1].add_new(0x00080000, "UL", 0)
    ds.add_new(0xFFFCFFFC, "OB", bytes(10))
    data = explicit(0x00080000, b"UL", bytes(4)) + encode_dataset(ds, SYNTAXES[0])
    assert compared(data, PLAIN) is SAME
    assert compared(PLAIN + bytes(4), PLAIN) is SAME


@pytest.mark.parametrize(
    ("vr", "one", "other"),
    [
        (b"LO", b"A ", b"A\0"),
        (b"LO", b"A ", b"A     "),
        (b"UI", b"1.2\0", b"1.2 "),
        (b"LO", b"", b"    "),
        (b"UT", b"A ", b"A"),
        (b"OB", b"\1\2\3", b"\1\2\3\0"),
    ],
)
def test_padding_of_values_does_not_count(vr: bytes, one: bytes, other: bytes) -> None:
    assert compared(*(explicit(PRIVATE, vr, value) for value in (one, other))) is SAME


@pytest.mark.parametrize(
    ("vr", "one", "other"),
    [
        (b"LO", b" A", b"A "),
        (b"LO", b"A ", b"B "),
        (b"SL", b"\1\0\0\0", b"\1\0\0\0\0\0\0\0"),
        (b"UN", b"A ", b"A\0"),
    ],
)
def test_other_values_are_other_content(vr: bytes, one: bytes, other: bytes) -> None:
    assert compared(*(explicit(PRIVATE, vr, value) for value in (one, other))) is OTHER


def test_un_is_what_the_other_encoding_knows() -> None:
    sequence = item(struct.pack("<HHL", 8, 0x100, 2) + b"A ")
    unknown = explicit(PRIVATE, b"UN", sequence)
    endless = explicit(PRIVATE, b"UN", sequence + b"\xfe\xff\xdd\xe0" + bytes(4), UNDEFINED)
    known = explicit(PRIVATE, b"SQ", item(explicit(0x00080100, b"SH", b"A ")))
    for one, other in ((unknown, known), (endless, known), (endless, unknown)):
        assert compared(one, other) is SAME
    assert compared(explicit(PRIVATE, b"UN", b"A\0"), explicit(PRIVATE, b"LO", b"A ")) is SAME


def test_the_vr_of_a_private_element_counts_and_that_of_a_public_one_does_not() -> None:
    private = [explicit(PRIVATE, vr, b"\1\0") for vr in (b"US", b"SS")]
    assert compared(*private) is OTHER
    public = [explicit(0x00280106, vr, b"\1\0") for vr in (b"US", b"SS")]
    assert compared(*public) is SAME


def test_the_order_and_the_number_of_elements_and_items_count() -> None:
    elements = [explicit(0x00080060, b"CS", b"CT"), explicit(0x00080070, b"LO", b"A ")]
    assert compared(b"".join(elements), b"".join(reversed(elements))) is OTHER
    assert compared(b"".join(elements), elements[0]) is OTHER
    ds = make()
    del ds.ProcedureCodeSequence[1]
    assert compared(encode_dataset(ds, SYNTAXES[0]), PLAIN) is OTHER


@pytest.mark.parametrize("other", SYNTAXES)
def test_each_value_counts_in_every_encoding(other: str) -> None:
    for element in make():
        if element.VR == "SQ" or element.tag == 0x00080005:
            continue
        ds = make()
        del ds[element.tag]
        assert compared(PLAIN, encode_dataset(ds, other), other_syntax=other) is OTHER
    ds = make()
    ds.ProcedureCodeSequence[0].ReferencedSOPSequence[1].ReferencedSOPInstanceUID = "1.2.5"
    assert compared(PLAIN, encode_dataset(ds, other), other_syntax=other) is OTHER


@pytest.mark.parametrize(("length", "padded"), [(3_000_000, 3_000_002), (2**20, 2**20 + 2)])
def test_long_values_are_compared_by_pieces(length: int, padded: int) -> None:
    def text(value: bytes) -> bytes:
        return explicit(PRIVATE, b"UT", value)

    whole = text(b"A" * length)
    assert compared(whole, text(b"A" * length + b" " * (padded - length))) is SAME
    assert compared(whole, text(b"A" * (length - 1) + b"B")) is OTHER
    assert compared(whole, text(b"A" * (length // 4))) is OTHER


# --- Compressed pixel data --------------------------------------------------------------------


def compressed(frames: list[bytes], syntax: str = RLELossless, **encapsulation: object) -> bytes:
    ds = make()
    ds.NumberOfFrames = len(frames)
    ds.PhotometricInterpretation = "RGB" if syntax == RLELossless else "YBR_RCT"
    if syntax == RLELossless:
        ds.PlanarConfiguration = 1
    ds.add_new("PixelData", "OB", encapsulate(frames, **encapsulation))
    ds["PixelData"].is_undefined_length = True
    return encode_dataset(ds, syntax)


def test_fragments_and_offsets_do_not_count() -> None:
    frames = [bytes(range(200)), b"\1\2" * 50]
    one = compressed(frames)
    assert compared(one, compressed(frames, has_bot=False), RLELossless, RLELossless) is SAME
    split = compressed(frames, fragments_per_frame=2)
    assert compared(one, split, RLELossless, RLELossless) is SAME


def test_other_frames_of_one_syntax_are_decoded() -> None:
    one, other = compressed([bytes(20)]), compressed([bytes(22)])
    assert compared(one, other, RLELossless, RLELossless) is BY_PIXELS


def test_pixels_in_other_syntaxes_are_decoded_and_what_describes_them_does_not_count() -> None:
    one, other = compressed([bytes(20)]), compressed([bytes(20)], JPEG2000Lossless)
    assert compared(one, other, RLELossless, JPEG2000Lossless) is BY_PIXELS
    ds = make()
    ds.NumberOfFrames = 1
    ds.PhotometricInterpretation = "RGB"
    assert compared(one, encode_dataset(ds, SYNTAXES[0]), RLELossless) is BY_PIXELS
    ds.PatientID = "P1"
    assert compared(one, encode_dataset(ds, SYNTAXES[0]), RLELossless) is OTHER


def test_without_pixels_what_would_describe_them_counts() -> None:
    ds = Dataset()
    one = encode_dataset(ds, SYNTAXES[0])
    assert compared(one, one, RLELossless) is SAME
    ds.PhotometricInterpretation = "RGB"
    assert compared(one, encode_dataset(ds, SYNTAXES[0]), RLELossless) is OTHER


# --- Damaged ----------------------------------------------------------------------------------


@given(data=st.data(), syntax=st.sampled_from(SYNTAXES))
def test_a_part_is_not_the_whole(data: st.DataObject, syntax: str) -> None:
    whole = encoded(with_delimiters(make()), syntax)
    # A deflated one has a byte of padding.
    part = whole[: data.draw(st.integers(0, len(whole) - 2))]
    with contextlib.suppress(Unreadable):
        assert compared(PLAIN, part, other_syntax=syntax) is OTHER


@given(at=st.integers(0, len(PLAIN) - 1), byte=st.integers(0, 255))
def test_what_is_damaged_is_unreadable_at_worst(at: int, byte: int) -> None:
    data = PLAIN[:at] + bytes([byte]) + PLAIN[at + 1 :]
    with contextlib.suppress(Unreadable):
        compared(data, PLAIN)
    with contextlib.suppress(Unreadable):
        assert compared(data, data) in Comparison


@pytest.mark.parametrize(
    "data",
    [
        bytes.fromhex("feff0de000000000") * 2,
        explicit(0x00081140, b"SQ", item(b"", UNDEFINED), UNDEFINED) * 100,  # each in another
        explicit(0x00081140, b"SQ", bytes(8)),
        explicit(0x00081140, b"SQ", item(b"", 100)),
        explicit(0x7FE00010, b"OB", bytes(8), UNDEFINED),
        explicit(0x00080060, b"CS", b"C", 2),
    ],
)
def test_what_cannot_be_read_is_not_compared(data: bytes) -> None:
    with pytest.raises(Unreadable):
        compared(data, data)


def test_no_more_is_compared_than_there_may_be(monkeypatch: pytest.MonkeyPatch) -> None:
    deflated = encode_dataset(make(), DeflatedExplicitVRLittleEndian)
    syntaxes = DeflatedExplicitVRLittleEndian, DeflatedExplicitVRLittleEndian
    with monkeypatch.context() as patch:
        patch.setattr(elements, "_MAX_ELEMENTS", 10)
        with pytest.raises(Unreadable, match="too many elements"):
            compared(PLAIN, PLAIN)
    with monkeypatch.context() as patch:
        patch.setattr(elements, "INFLATE_CEILING", 100)
        with pytest.raises(Unreadable, match="inflates beyond the ceiling"):
            compared(deflated, deflated, *syntaxes)
    with pytest.raises(Unreadable, match="truncated"):
        compared(deflated[:-20], deflated[:-20], *syntaxes)
    with pytest.raises(Unreadable, match="not deflated"):
        compared(PLAIN, PLAIN, *syntaxes)


def test_real_objects_are_the_same_as_themselves() -> None:
    for name in ("CT_small.dcm", "JPEG2000.dcm", "reportsi.dcm", "liver_1frame.dcm"):
        data = (WHEEL / name).read_bytes()
        syntax = dcmread(WHEEL / name).file_meta.TransferSyntaxUID
        at = dcmread(WHEEL / name).file_meta.FileMetaInformationGroupLength + 144
        assert compared(data[at:], data[at:], syntax, syntax) is SAME
