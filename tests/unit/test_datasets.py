"""Encoding and decoding of datasets and file meta information, with what hostile peers send."""

from __future__ import annotations

import contextlib
import io
import logging
import struct
import sys
import time
import tracemalloc
import zlib
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydicom import dcmread
from pydicom.datadict import RepeatersDictionary
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.filereader import read_dataset
from pydicom.uid import UID

from dicomwire.data import codec, file_meta, pretty
from dicomwire.data.codec import DatasetError
from dicomwire.data.file_meta import FileFormatError
from dicomwire.implementation import (
    IMPLEMENTATION_CLASS_UID,
    IMPLEMENTATION_VERSION_NAME,
    UID_PREFIX,
)

CT = "1.2.840.10008.5.1.4.1.1.2"
IMPLICIT = "1.2.840.10008.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"
DEFLATED = "1.2.840.10008.1.2.1.99"
BIG_ENDIAN = "1.2.840.10008.1.2.2"
JPEG = "1.2.840.10008.1.2.4.50"

UNDEFINED = 0xFFFFFFFF
ITEM = struct.pack("<HHI", 0xFFFE, 0xE000, UNDEFINED)
ITEM_END = struct.pack("<HHI", 0xFFFE, 0xE00D, 0)
SEQUENCE_END = struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)


def element(tag: int, value: bytes, length: int | None = None) -> bytes:
    """Return an element in implicit VR."""
    return (
        struct.pack("<HHI", tag >> 16, tag & 0xFFFF, len(value) if length is None else length)
        + value
    )


def explicit(tag: int, vr: bytes, value: bytes, length: int | None = None) -> bytes:
    """Return an element of a VR with a long length, in explicit VR."""
    size = len(value) if length is None else length
    return struct.pack("<HH2sHI", tag >> 16, tag & 0xFFFF, vr, 0, size) + value


def item(value: bytes) -> bytes:
    return struct.pack("<HHI", 0xFFFE, 0xE000, len(value)) + value


def nested(depth: int) -> Dataset:
    """Return a dataset whose sequences are `depth` deep."""
    ds = Dataset()
    ds.PatientID = "innermost"
    for _ in range(depth):
        outer = Dataset()
        outer.ReferencedStudySequence = [ds]
        ds = outer
    return ds


def example_dataset() -> Dataset:
    ds = Dataset()
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.ImageType = ["ORIGINAL", "PRIMARY"]
    ds.SOPClassUID = CT
    ds.SOPInstanceUID = "1.2.3.4"
    ds.PatientName = "Buc^Jérôme"
    ds.PatientBirthDate = ""
    ds.ReferencedStudySequence = [nested(2), Dataset()]
    ds.Rows = 4
    ds.private_block(0x0019, "DICOMWIRE TEST", create=True).add_new(1, "OB", b"\1\2")
    ds.PixelData = bytes(range(32))
    ds["PixelData"].VR = "OW"
    return ds


# --- Datasets that are right ------------------------------------------------------------------

_TEXT = st.text(
    st.characters(min_codepoint=33, max_codepoint=126, exclude_characters="\\"), max_size=9
)
_VALUES = {
    "PatientName": _TEXT,
    "ImageType": st.lists(st.sampled_from(["ORIGINAL", "PRIMARY", "AXIAL"]), max_size=3),
    "StudyInstanceUID": st.sampled_from(["", "1.2.3", "1.2.840.10008.1.1"]),
    "Rows": st.integers(0, 65535) | st.none(),
    "SliceThickness": st.sampled_from([None, "1.5", "22"]),
    "TextValue": _TEXT,
    "SelectorATValue": st.just(0x00100010),
}


@st.composite
def any_dataset(draw: st.DrawFn, depth: int = 3) -> Dataset:
    ds = Dataset()
    for keyword in draw(st.sets(st.sampled_from(sorted(_VALUES)))):
        setattr(ds, keyword, draw(_VALUES[keyword]))
    if draw(st.booleans()):
        block = ds.private_block(0x0019, "DICOMWIRE TEST", create=True)
        block.add_new(1, "LO", draw(_TEXT))
        block.add_new(2, "OB", draw(st.sampled_from([b"", b"\1\2", b"\xfe\xff\x00\xe0abcd"])))
    for keyword in ("ReferencedStudySequence", "ReferencedImageSequence"):
        if depth and draw(st.booleans()):
            items = draw(st.lists(any_dataset(depth - 1), max_size=2))
            for each in items:
                each.is_undefined_length_sequence_item = draw(st.booleans())
            setattr(ds, keyword, items)
            ds[keyword].is_undefined_length = draw(st.booleans())
    return ds


@given(any_dataset(), st.sampled_from([IMPLICIT, EXPLICIT, BIG_ENDIAN]))
def test_decoding_is_as_pydicom_does_it(ds: Dataset, syntax: str) -> None:
    data = codec.encode_dataset(ds, syntax)
    implicit, little, _ = codec.encoding_of(syntax)
    decoded = codec.decode(data, implicit, little)
    assert codec.encode_dataset(decoded, syntax) == data, "not a byte changes while it is raw"
    theirs = read_dataset(io.BytesIO(data), implicit, little)
    assert decoded == theirs
    assert decoded.original_encoding == theirs.original_encoding == (implicit, little)
    assert decoded.original_character_set == theirs.original_character_set
    assert codec.encode_dataset(decoded, syntax) == data, "nor when all of it was parsed"


@pytest.mark.parametrize("syntax", [IMPLICIT, EXPLICIT, BIG_ENDIAN, DEFLATED])
@pytest.mark.parametrize("other", [IMPLICIT, EXPLICIT, BIG_ENDIAN, DEFLATED])
def test_from_one_transfer_syntax_to_another(syntax: str, other: str) -> None:
    data = codec.encode_dataset(example_dataset(), syntax)
    decoded = codec.decode_for(data, syntax)
    converted = codec.encode_dataset(decoded, other)
    again = codec.decode_for(converted, other)
    assert again.PatientName == "Buc^Jérôme"
    assert again.ReferencedStudySequence[0] == nested(2)
    implicit, little, deflated = codec.encoding_of(syntax)
    if deflated:
        data = zlib.decompressobj(-15).decompress(data)
    theirs = read_dataset(io.BytesIO(data), implicit, little)
    assert converted == codec.encode_dataset(theirs, other)


def test_decode_takes_memory_files_and_what_has_a_view() -> None:
    ds = example_dataset()
    data = codec.encode_dataset(ds, EXPLICIT)

    class Payload:
        def view(self) -> memoryview:
            return memoryview(data)

    file = io.BytesIO(b"head" + data)
    file.seek(4)
    for source in (data, bytearray(data), memoryview(data), file, Payload()):
        assert codec.decode(source, False, True) == ds


def test_nothing_decodes_to_an_empty_dataset() -> None:
    assert codec.decode(b"", False, True) == Dataset()
    assert codec.decode(b"\0\0\0", False, True) == Dataset(), "padding"


def test_encapsulated_pixel_data_stays_as_it_is() -> None:
    fragments = item(b"") + item(b"\xff\xd8\xff\xd9")
    data = explicit(0x7FE00010, b"OB", fragments + SEQUENCE_END, UNDEFINED)
    ds = codec.decode_for(data, JPEG)
    assert ds.PixelData == fragments
    assert ds["PixelData"].is_undefined_length
    assert codec.encode_dataset(ds, JPEG) == data


def test_un_of_undefined_length_is_a_sequence_in_implicit_vr() -> None:
    inner = element(0x00100020, b"ab") + element(0x00081110, item(element(0x00280010, b"\1\0")))
    for tag in (0x00091001, 0x00081110):
        data = explicit(tag, b"UN", ITEM + inner + ITEM_END + SEQUENCE_END, UNDEFINED)
        (found,) = codec.decode(data, False, True)[tag].value
        assert found.PatientID == "ab"
        assert found.ReferencedStudySequence[0].Rows == 1


def test_un_of_undefined_length_is_written_as_a_sequence_in_explicit_vr() -> None:
    """pydicom, which programs save datasets with, writes it as it is decoded here."""
    inner = element(0x00091002, b"ab") + element(0x00100020, b"cd")
    un = explicit(0x00091001, b"UN", ITEM + inner + ITEM_END + SEQUENCE_END, UNDEFINED)
    ds = codec.decode(un, False, True)
    patient_id = struct.pack("<HH2sH", 0x0010, 0x0020, b"LO", 2) + b"cd"
    inner = explicit(0x00091002, b"UN", b"ab") + patient_id
    sq = explicit(0x00091001, b"SQ", ITEM + inner + ITEM_END + SEQUENCE_END, UNDEFINED)
    assert codec.encode_dataset(ds, EXPLICIT) == sq


def test_un_of_a_known_sequence() -> None:
    data = explicit(0x00081110, b"UN", item(element(0x00100020, b"ab")))
    assert codec.decode(data, False, True).ReferencedStudySequence[0].PatientID == "ab"


def test_unknown_elements_of_undefined_length_in_implicit_vr() -> None:
    sequence = element(0x00091001, item(element(0x00100020, b"ab")) + SEQUENCE_END, UNDEFINED)
    pixels = element(0x7FE00010, item(b"abcd") + SEQUENCE_END, UNDEFINED)
    inner = element(0x00081110, item(sequence) + SEQUENCE_END, UNDEFINED)
    ds = codec.decode(inner + sequence + pixels, True, True)
    assert ds[0x00091001].value[0].PatientID == "ab"
    assert ds.ReferencedStudySequence[0][0x00091001].value[0].PatientID == "ab"


def test_delimiters_where_lengths_would_do() -> None:
    value = item(element(0x00100020, b"ab") + ITEM_END) + SEQUENCE_END
    data = element(0x00081110, value) + element(0x00100010, b"cd")
    ds = codec.decode(data, True, True)
    assert ds.ReferencedStudySequence[0].PatientID == "ab"
    assert ds.PatientName == "cd"


def test_vr_that_is_not_known_yet() -> None:
    data = struct.pack("<HH2sH", 0x0009, 0x1001, b"ZY", 2) + b"ab"
    assert codec.decode(data, False, True).get_item(0x00091001).value == b"ab"


def test_dataset_in_the_other_vr(caplog: pytest.LogCaptureFixture) -> None:
    ds = example_dataset()
    for implicit in (True, False):
        data = codec.encode(ds, implicit, True)
        assert data is not None
        caplog.clear()
        assert codec.decode(data, not implicit, True).PatientName == ds.PatientName
        assert "VR was negotiated" in caplog.text


def test_implicit_vr_from_the_middle_on() -> None:
    data = struct.pack("<HH2sH", 0x0008, 0x0060, b"CS", 2) + b"CT" + element(0x00100020, b"ab")
    data += element(0x00280010, b"\1\0") + element(0x00281101, b"\1\0\0\0\1\0")  # US or SS
    data += element(0x00400275, item(element(0x00100020, b"cd")))
    ds = codec.decode(data, False, True)
    assert (ds.Modality, ds.PatientID) == ("CT", "ab")
    again = codec.decode(codec.encode_dataset(ds, EXPLICIT), False, True)
    assert again == ds
    assert (again.PatientID, again.Rows) == ("ab", 1)
    assert again.RedPaletteColorLookupTableDescriptor == [1, 0, 1]
    assert again.RequestAttributesSequence[0].PatientID == "cd"


def test_the_repeating_sequence() -> None:
    masks = [mask for mask, entry in RepeatersDictionary.items() if entry[0] == "SQ"]
    assert masks == ["50xx2600"]
    with pytest.raises(DatasetError):
        codec.decode(element(0x50042600, b"no items"), True, True)


# --- Datasets that are wrong ------------------------------------------------------------------


def deep_undefined(depth: int) -> bytes:
    begin = element(0x00081110, ITEM, UNDEFINED)
    return begin * depth + (ITEM_END + SEQUENCE_END) * depth


def deep_defined(depth: int) -> bytes:
    size = 16 * depth  # which is what has still to come, from outside in
    return b"".join(
        struct.pack("<HHIHHI", 0x0008, 0x1110, left - 8, 0xFFFE, 0xE000, left - 16)
        for left in range(size, 0, -16)
    )


def deep_explicit(depth: int) -> bytes:
    begin = explicit(0x00081110, b"SQ", ITEM, UNDEFINED)
    return begin * depth + (ITEM_END + SEQUENCE_END) * depth


def deep_un(depth: int) -> bytes:
    begin = explicit(0x00091001, b"UN", ITEM, UNDEFINED)
    return (
        begin
        + element(0x00091001, ITEM, UNDEFINED) * (depth - 1)
        + (ITEM_END + SEQUENCE_END) * depth
    )


_DEEP = {deep_undefined: True, deep_defined: True, deep_explicit: False, deep_un: False}


@pytest.mark.parametrize("make", _DEEP)
@pytest.mark.parametrize("depth", [65, 250, 10**6])
def test_too_deep(make, depth: int) -> None:  # type: ignore[no-untyped-def]
    data = make(depth)
    begun = time.process_time()
    with pytest.raises(DatasetError, match="more than 64 deep"):
        codec.decode(data, _DEEP[make], True)
    assert time.process_time() - begun < 1


@pytest.mark.parametrize("make", _DEEP)
def test_deep_enough(make) -> None:  # type: ignore[no-untyped-def]
    ds = codec.decode(make(64), _DEEP[make], True)
    depth = 0
    while ds:
        ((ds,),) = (each.value for each in ds)
        depth += 1
    assert depth == 64


def test_time_is_linear_where_delimiters_are_missing() -> None:
    """pydicom searches to the end for each of them: 0.26 s for 4,000, which is quadratic."""
    unit = ITEM + element(0x7FE00010, b"", UNDEFINED)
    data = element(0x00081110, b"", UNDEFINED) + unit * 100_000
    begun = time.process_time()
    with pytest.raises(DatasetError):
        codec.decode(data, True, True)
    assert time.process_time() - begun < 1


@pytest.mark.parametrize("syntax", [IMPLICIT, EXPLICIT, BIG_ENDIAN])
def test_every_truncation(syntax: str) -> None:
    ds = example_dataset()
    data = codec.encode_dataset(ds, syntax)
    implicit, little, _ = codec.encoding_of(syntax)
    whole = {0}
    for tag in ds.keys():  # noqa: SIM118  # that is how a Dataset has its tags
        part = Dataset({each: ds[each] for each in ds.keys() if each <= tag})  # noqa: SIM118
        whole.add(len(codec.encode(part, implicit, little) or b""))
    for size in range(len(data)):
        if size in whole:
            assert len(codec.decode(data[:size], implicit, little)) == sorted(whole).index(size)
        elif data[max(each for each in whole if each < size) : size].strip(b"\0"):
            with pytest.raises(DatasetError):
                codec.decode(data[:size], implicit, little)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(ITEM_END, id="end of an item that never began"),
        pytest.param(element(0x00100020, b"ab", 3), id="value too long"),
        pytest.param(element(0x00100020, b"ab", UNDEFINED), id="undefined length, no items"),
        pytest.param(element(0x00091001, b"ab", UNDEFINED), id="the same, unknown"),
        pytest.param(element(0x00081110, b"", UNDEFINED), id="sequence without end"),
        pytest.param(element(0x00081110, ITEM, UNDEFINED), id="item without end"),
        pytest.param(element(0x00081110, ITEM), id="item without end in a length"),
        pytest.param(element(0x00081110, b"not an item"), id="sequence of no items"),
        pytest.param(element(0x00081110, item(b"abc")), id="item of no elements"),
        pytest.param(element(0x00081110, item(element(0x00100020, b"", 9))), id="value in an item"),
        pytest.param(element(0x00081110, item(ITEM_END + b"12345678")), id="end in the middle"),
        pytest.param(
            element(0x00081110, item(element(0x00081140, item(b""), 16))), id="sequence past item"
        ),
        pytest.param(
            element(0x7FE00010, item(b"") + b"12345678" + SEQUENCE_END, UNDEFINED), id="no fragment"
        ),
        pytest.param(
            element(0x7FE00010, ITEM + b"12345678" + SEQUENCE_END, UNDEFINED),
            id="fragment of undefined length",
        ),
        pytest.param(b"\1\2\3", id="less than an element"),
    ],
)
def test_malformed(data: bytes) -> None:
    with pytest.raises(DatasetError):
        codec.decode(data, True, True)


def test_explicit_length_that_is_cut_off() -> None:
    with pytest.raises(DatasetError):
        codec.decode(explicit(0x00091001, b"OB", b"")[:-2], False, True)


_SEEDS = [
    (codec.encode_dataset(example_dataset(), syntax), *codec.encoding_of(syntax)[:2])
    for syntax in (IMPLICIT, EXPLICIT, BIG_ENDIAN)
] + [(deep_undefined(5), True, True), (deep_explicit(5), False, True)]


@given(
    st.sampled_from(_SEEDS),
    st.lists(
        st.tuples(st.integers(0, 2000), st.sampled_from([0, 1, 8, 0x10, 0x7F, 0xFE, 0xFF])),
        min_size=1,
        max_size=6,
    ),
)
def test_mutations(seed: tuple[bytes, bool, bool], changes: list[tuple[int, int]]) -> None:
    data = bytearray(seed[0])
    for position, value in changes:
        data[position % len(data)] = value
    try:
        ds = codec.decode(data, *seed[1:])
    except DatasetError:
        return
    assert pretty.pretty_dataset(ds) or not ds


@given(st.binary(max_size=200), st.booleans(), st.booleans(), st.booleans())
@example(element(0x00080005, b"ISO_IR 999 "), True, True, False)
@example(element(0x00080005, b"\\ISO 2022 IR 87\\\xff"), True, True, False)
def test_noise(data: bytes, implicit: bool, little: bool, deflated: bool) -> None:
    with contextlib.suppress(DatasetError):
        codec.decode(data, implicit, little, deflated)


# --- Deflated ---------------------------------------------------------------------------------


def deflate(data: bytes) -> bytes:
    deflater = zlib.compressobj(9, wbits=-15)
    return deflater.compress(data) + deflater.flush()


def test_deflated_is_raw_deflate_padded_to_even() -> None:
    for size in range(2, 40, 2):
        ds = Dataset()
        ds.PixelData = bytes(range(size))
        ds["PixelData"].VR = "OW"
        data = codec.encode(ds, False, True, deflated=True)
        assert data is not None
        assert len(data) % 2 == 0
        assert zlib.decompressobj(-15).decompress(data) == codec.encode(ds, False, True)
        assert codec.decode(data, False, True, deflated=True) == ds


def test_bomb_is_stopped_at_the_ceiling() -> None:
    data = deflate(explicit(0x7FE00010, b"OW", bytes(64 * 1024 * 1024)))
    assert len(data) < 70_000
    assert codec.decode_for(data, DEFLATED), "a blank image is no bomb"
    tracemalloc.start()
    try:
        with pytest.raises(DatasetError, match="inflates to more than 1048576 bytes"):
            codec.decode_for(data, DEFLATED, inflate_ceiling=1024 * 1024)
        assert tracemalloc.get_traced_memory()[1] < 4 * 1024 * 1024
    finally:
        tracemalloc.stop()


def test_bomb_is_stopped_at_the_ratio(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codec, "_RATIO_FREE", 1024 * 1024)
    data = deflate(explicit(0x7FE00010, b"OW", bytes(32 * 1024 * 1024)))
    with pytest.raises(DatasetError, match=f"inflates to more than {200 * len(data)} bytes"):
        codec.decode_for(data, DEFLATED)


def test_deflated_but_damaged() -> None:
    data = deflate(codec.encode_dataset(example_dataset(), EXPLICIT))
    for size in range(len(data)):
        with pytest.raises(DatasetError):
            codec.decode_for(data[:size], DEFLATED)
    with pytest.raises(DatasetError, match="not deflated"):
        codec.decode_for(b"\xff" * 20, DEFLATED)


# --- What cannot be encoded -------------------------------------------------------------------


def unencodable() -> Dataset:
    ds = example_dataset()
    inner = Dataset()
    inner.Rows = 5
    inner["Rows"]._value = "Doe^John"
    ds.ReferencedStudySequence = [inner]
    return ds


def test_encode_returns_none_and_logs_no_values(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "dicomwire"):
        assert codec.encode(unencodable(), False, True) is None
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert "(0028,0010)" in record.getMessage()
    assert "Doe" not in caplog.text


def test_encode_says_more_to_debuggers(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, "dicomwire"):
        assert codec.encode(unencodable(), True, True) is None
    assert "Doe" in caplog.text


def test_encode_dataset_raises() -> None:
    with pytest.raises(DatasetError, match=r"at \(0028,0010\)") as caught:
        codec.encode_dataset(unencodable(), EXPLICIT)
    assert "Doe" not in str(caught.value)
    assert isinstance(caught.value, ValueError)


def test_encode_what_is_nested_past_python() -> None:
    with pytest.raises(DatasetError, match="RecursionError"):
        codec.encode_dataset(nested(sys.getrecursionlimit()), EXPLICIT)


# --- Transfer syntaxes ------------------------------------------------------------------------


def test_encodings() -> None:
    assert codec.encoding_of(IMPLICIT) == (True, True, False)
    assert codec.encoding_of(EXPLICIT) == (False, True, False)
    assert codec.encoding_of(DEFLATED) == (False, True, True)
    assert codec.encoding_of(BIG_ENDIAN) == (False, False, False)
    assert codec.encoding_of(UID(JPEG)) == (False, True, False)
    assert codec.encoding_of("1.2.3.4") == (False, True, False)
    private = UID("1.2.3.4")
    assert codec.encoding_of(private) == (False, True, False)
    private.set_private_encoding(True, False)
    assert codec.encoding_of(private) == (True, False, False)


def test_uncompressed() -> None:
    for syntax in (IMPLICIT, EXPLICIT, DEFLATED, BIG_ENDIAN, UID(IMPLICIT)):
        assert codec.is_uncompressed(syntax)
    for syntax in (JPEG, "1.2.3.4", "1.2.840.10008.1.2.1.98"):
        assert not codec.is_uncompressed(syntax)


# --- File meta information --------------------------------------------------------------------

HEAD = file_meta.file_head(CT, "1.2.3.4", EXPLICIT)


def test_implementation() -> None:
    assert IMPLEMENTATION_CLASS_UID.is_valid
    assert len(IMPLEMENTATION_VERSION_NAME) <= 16
    assert UID(UID_PREFIX + "1").is_valid


def test_file_head_is_what_pydicom_reads(tmp_path: Path) -> None:
    ds = example_dataset()
    path = tmp_path / "file.dcm"
    head = file_meta.file_head(CT, "1.2.3.4", EXPLICIT, "STORE SCU")
    path.write_bytes(head + codec.encode_dataset(ds, EXPLICIT))
    read = dcmread(path)
    assert read.preamble == bytes(128)
    meta = read.file_meta
    assert meta.FileMetaInformationGroupLength == len(head) - 132 - 12
    assert meta.FileMetaInformationVersion == b"\0\1"
    assert meta.MediaStorageSOPClassUID == CT
    assert meta.MediaStorageSOPInstanceUID == "1.2.3.4"
    assert meta.TransferSyntaxUID == EXPLICIT
    assert meta.ImplementationClassUID == IMPLEMENTATION_CLASS_UID
    assert meta.ImplementationVersionName == IMPLEMENTATION_VERSION_NAME
    assert meta.SourceApplicationEntityTitle == "STORE SCU"
    assert read == ds


def test_file_head_is_as_pydicom_writes_it() -> None:
    for instance in ("1.2.3", "1.2.33", "1"):
        meta = file_meta.create_file_meta(
            sop_class_uid=UID(CT), sop_instance_uid=UID(instance), transfer_syntax=UID(JPEG)
        )
        assert meta.FileMetaInformationGroupLength == 0
        head = file_meta.file_head(CT, instance, JPEG)
        assert head == bytes(128) + b"DICM" + file_meta.encode_file_meta(meta)


def test_encode_file_meta_that_cannot_be() -> None:
    meta = file_meta.create_file_meta(
        sop_class_uid=CT,
        sop_instance_uid="1.2.3",
        transfer_syntax=JPEG,
        implementation_uid="1.2.3",
        implementation_version="MINE",
    )
    assert (meta.ImplementationClassUID, meta.ImplementationVersionName) == ("1.2.3", "MINE")
    meta["FileMetaInformationVersion"]._value = 5
    with pytest.raises(DatasetError):
        file_meta.encode_file_meta(meta)


class Reader(io.BytesIO):
    """A file that gives up to `at_once` bytes each time."""

    name = "some/file.dcm"
    at_once = 1 << 30

    def read(self, size: int | None = -1) -> bytes:
        return super().read(self.at_once if size is None or size < 0 else min(size, self.at_once))


@pytest.mark.parametrize("at_once", [1, 7, 100, 5000])
def test_parse_file_meta(at_once: int) -> None:
    reader = Reader(HEAD + bytes(10_000))
    reader.at_once = at_once
    for source in (HEAD, memoryview(HEAD + bytes(10)), bytearray(HEAD), reader):
        found = file_meta.parse_file_meta(source)
        assert found == (CT, "1.2.3.4", EXPLICIT, len(HEAD))
    assert reader.tell() <= 4096


def test_parse_file_meta_of_a_file_without_dataset() -> None:
    assert file_meta.parse_file_meta(Reader(HEAD)).offset == len(HEAD)


def test_parse_file_meta_passes_long_elements_and_wrong_group_lengths() -> None:
    wrong = bytearray(HEAD)
    wrong[140:144] = b"\xff\xff\xff\x7f"
    private = explicit(0x00020102, b"OB", bytes(100_000))
    data = bytes(wrong) + private + b"\x08\0\5\0"
    assert file_meta.parse_file_meta(Reader(data)).offset == len(data) - 4
    assert file_meta.parse_file_meta(data).transfer_syntax_uid == EXPLICIT


def test_parse_file_meta_of_a_file_of_ours_whose_dataset_begins_with_the_same_group() -> None:
    dataset = explicit(0x00020010, b"UI", b"1.2.840.10008.1.2\0") + bytes(100)
    found = file_meta.parse_file_meta(HEAD + dataset)
    assert found == (CT, "1.2.3.4", EXPLICIT, len(HEAD))


def test_parse_file_meta_has_a_limit() -> None:
    head = HEAD.replace(b"2.25.", b"2.26.")  # not ours, whose group length says where it ends
    endless = Reader(head + explicit(0x00020102, b"OB", bytes(64), 0xFFFFFFF0) + bytes(1 << 23))
    with pytest.raises(FileFormatError, match="more than 1"):
        file_meta.parse_file_meta(endless)
    assert endless.tell() < 1 << 22


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"", "'DICM' is missing"),
        (bytes(200), "'DICM' is missing"),
        (HEAD[132:], "'DICM' is missing"),
        (HEAD[:128] + b"DICM", r"\(0002,0002\) is missing"),
        (HEAD[:-60], r"ends within|\(0002,0010\) is missing"),
        (HEAD.replace(b"\2\0\3\0UI", b"\2\0\4\0UI"), r"\(0002,0003\) is missing"),
        (HEAD.replace(b"1.2.3.4\0", b"1.2.3.\xff\0"), "not ASCII"),
    ],
)
def test_no_dicom_file(data: bytes, text: str) -> None:
    with pytest.raises(FileFormatError, match=f"some/file.dcm: .*({text})") as caught:
        file_meta.parse_file_meta(Reader(data))
    assert isinstance(caught.value, DatasetError)
    assert isinstance(caught.value, InvalidDicomError)
    with pytest.raises(FileFormatError, match=text):
        file_meta.parse_file_meta(data)


@given(st.integers(0, 200), st.binary(max_size=60))
def test_file_meta_mutations(position: int, noise: bytes) -> None:
    data = HEAD[: 132 + position] + noise + HEAD[132 + position + len(noise) :]
    try:
        offset = file_meta.parse_file_meta(data).offset
    except FileFormatError:
        pass
    else:
        assert 132 < offset <= len(data)


def test_split_dataset(tmp_path: Path) -> None:
    path = tmp_path / "file.dcm"
    path.write_bytes(HEAD + codec.encode_dataset(example_dataset(), EXPLICIT))
    meta, offset = file_meta.split_dataset(path)
    assert meta == dcmread(path).file_meta
    assert offset == len(HEAD)
    path.write_bytes(bytes(200))
    with pytest.raises(InvalidDicomError, match=r"file\.dcm"):
        file_meta.split_dataset(path)


# --- For people to read -----------------------------------------------------------------------


def test_pretty_dataset() -> None:
    ds = example_dataset()
    ds.ReferencedStudySequence = [nested(0)]
    ds.PatientComments = "a\nb\x1b[2J"
    lines = pretty.pretty_dataset(ds)
    assert [" ".join(line.split()) for line in lines] == [
        "(0008,0005) CS [ISO_IR 192] # 1 SpecificCharacterSet",
        "(0008,0008) CS [ORIGINAL\\PRIMARY] # 2 ImageType",
        f"(0008,0016) UI [{CT}] # 1 SOPClassUID",
        "(0008,0018) UI [1.2.3.4] # 1 SOPInstanceUID",
        "(0008,1110) SQ (1 item) # 1 ReferencedStudySequence",
        "(item 1)",
        "(0010,0020) LO [innermost] # 1 PatientID",
        "(0010,0010) PN [Buc^Jérôme] # 1 PatientName",
        "(0010,0030) DA (no value) # 0 PatientBirthDate",
        r"(0010,4000) LT [a\nb\x1b[2J] # 1 PatientComments",
        "(0019,0010) LO [DICOMWIRE TEST] # 1",
        "(0019,1001) OB [01 02] # 1",
        "(0028,0010) US [4] # 1 Rows",
        "(7FE0,0010) OW (32 bytes) # 1 PixelData",
    ]
    assert lines[5].startswith("  (item")
    assert lines[6].startswith("    (0010")
    assert pretty.pretty_dataset(ds, 1, "--")[6].startswith("------(0010")


def test_pretty_dataset_with_what_cannot_be_decoded() -> None:
    ds = codec.decode(element(0x00280010, b"odd") + element(0x0040A160, b"x" * 300), True, True)
    broken, long = pretty.pretty_dataset(ds)
    assert "x" * 200 + "...]" in long
    assert broken == "(0028,0010) (undecodable: BytesLengthException)"
