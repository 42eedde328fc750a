"""What the index keeps of an object, and what it makes of hostile ones."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Iterator
from io import BytesIO

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
)
from spooling import CT, EXPLICIT, encoded, make

from dicomwire.data.codec import encode_dataset
from dicomwire.node import ingest
from dicomwire.node.heads import Origin
from dicomwire.node.ingest import Entry, Truncated, Unacceptable, origin_uid
from dicomwire.node.keys import KEPT, QUERY_KEYS, Level, Use
from dicomwire.node.statuses import CANNOT_UNDERSTAND, INVALID_INSTANCE, MISMATCH

UID = "1.2.3.4.5"
IMPLICIT = ImplicitVRLittleEndian
SYNTAXES = [
    ImplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    DeflatedExplicitVRLittleEndian,
    RLELossless,
]


def entry(data: bytes, syntax: str = EXPLICIT, uid: str = UID, sop_class: str = CT) -> Entry:
    return Entry(Origin(sop_class, uid, syntax), memoryview(data))


def refused(data: bytes, **given: str) -> int:
    with pytest.raises(Unacceptable) as caught:
        entry(data, **given)
    return caught.value.status


def full() -> Dataset:
    """A dataset with a value for every VR and kind of key."""
    ds = make(UID, "a note")
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.PatientName = "Yamada^Tarou=山田^太郎=やまだ^たろう"
    ds.OtherPatientNames = ["Müller^Jörg", "Doe^J"]
    ds.PatientBirthDate = "19700101"
    ds.PatientWeight = "70.5"
    ds.StudyDate = ""
    ds.StudyTime = "101112.5"
    ds.StudyDescription = "Übersicht"
    ds.ImageType = ["ORIGINAL", "", "AXIAL"]
    ds.InstanceNumber = "7"
    ds.Rows, ds.Columns = 3, 70_00
    ds.SliceLocation = "-1.50"
    ds.PatientComments = "one\\value"
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = "1", "99X", "Größe"
    deeper = Dataset()
    deeper.PurposeOfReferenceCodeSequence = [code]
    ds.ProcedureCodeSequence = [code, deeper]
    ds.ReferencedStudySequence = []
    ds.add_new(0x00091010, "LO", "private")
    return ds


@pytest.mark.parametrize("syntax", SYNTAXES, ids=lambda uid: uid.keyword)
def test_attributes_are_those_of_pydicom_in_every_encoding(syntax: str) -> None:
    ds = full()
    encoding = ExplicitVRLittleEndian if syntax == RLELossless else syntax
    ds.PixelData = bytes(100)
    ds["PixelData"].VR = "OW"
    taken = entry(encode_dataset(ds, encoding), syntax)
    json = Dataset.from_json(full().to_json()).to_json_dict()
    for level in Level:
        attributes = taken.row(level).attributes
        expected = {key.json_tag: json[key.json_tag] for key in KEPT[level] if key.json_tag in json}
        assert Dataset.from_json(attributes) == Dataset.from_json(expected)
        assert list(attributes) == sorted(attributes)


def test_columns_have_the_text_of_their_attributes() -> None:
    taken = entry(encode_dataset(full(), EXPLICIT))
    assert taken.row(Level.PATIENT).columns == {
        "patient_id": "P1",
        "patient_name": "Yamada^Tarou=山田^太郎=やまだ^たろう",
        "issuer_of_patient_id": "",
        "patient_birth_date": "19700101",
        "patient_sex": "",
    }
    study = taken.row(Level.STUDY).columns
    assert (study["study_date"], study["study_time"]) == ("", "101112.5")
    assert taken.row(Level.IMAGE).columns["instance_number"] == "7"


def test_sequences_of_undefined_length_are_passed_and_kept() -> None:
    ds = full()
    for element in ds:
        if element.VR == "SQ":
            element.is_undefined_length = True
            for item in element.value:
                item.is_undefined_length_sequence_item = True
    buffer = BytesIO()
    ds.save_as(buffer, implicit_vr=False, little_endian=True)
    taken = entry(buffer.getvalue())
    assert taken.row(Level.STUDY) == entry(encode_dataset(full(), EXPLICIT)).row(Level.STUDY)
    assert taken.instance_uid == UID


def test_text_is_decoded_by_its_character_set() -> None:
    ds = make(UID)
    ds.SpecificCharacterSet = ["", "ISO 2022 IR 87"]
    ds.PatientName = "Yamada^Tarou=山田^太郎"
    assert entry(encode_dataset(ds, EXPLICIT)).row(Level.PATIENT).columns["patient_name"] == (
        "Yamada^Tarou=山田^太郎"
    )


@pytest.mark.parametrize(
    "declared", ["ISO_IR 192", "", "ISO_IR 6", "NO SUCH SET", "\\\\", "GB18030"]
)
def test_a_wrong_character_set_costs_letters_and_not_the_object(declared: str) -> None:
    ds = make(UID)
    ds.SpecificCharacterSet = "ISO_IR 100"
    ds.PatientName = "Müller"
    data = encode_dataset(ds, EXPLICIT)
    term = declared.encode().ljust(10, b" ")
    name = entry(data.replace(b"ISO_IR 100", term[:10])).row(Level.PATIENT).columns["patient_name"]
    assert name.startswith("M")


def test_values_that_make_no_sense_are_left_out() -> None:
    data = encoded(UID, InstanceNumber="77", SliceLocation="1.5", Rows=3)
    data = data.replace(b"77", b"x7").replace(b"1.5 ", b"1.x ")
    attributes = entry(data).row(Level.IMAGE).attributes
    assert "00200013" not in attributes
    assert "00201041" not in attributes
    assert attributes["00280010"]["Value"] == [3]


def test_nuls_and_padding_do_not_get_into_the_index() -> None:
    data = encoded(UID, StudyID="A\0B\0\0\0", AccessionNumber="  x  ")
    columns = entry(data).row(Level.STUDY).columns
    assert columns["study_id"] == "A\ufffdB"
    assert columns["accession_number"] == "x"


def test_large_values_are_left_out() -> None:
    data = encoded(UID, AdditionalPatientHistory="x" * 60_000, StudyDescription="y" * 60_000)
    at = data.index(struct.pack("<HH", 0x0010, 0x0010))
    name = struct.pack("<HH2sxxL", 0x0008, 0x1048, b"UT", 10_000_000) + b"x" * 10_000_000
    data = data[:at] + name + data[at:]
    taken = entry(data)
    assert not {"00081030", "00081048", "001021B0"} & taken.row(Level.STUDY).attributes.keys()
    assert taken.row(Level.STUDY).columns["study_description"] == ""


@pytest.mark.parametrize(
    "keyword", ["SOPInstanceUID", "SOPClassUID", "StudyInstanceUID", "SeriesInstanceUID"]
)
@pytest.mark.parametrize(
    "value",
    [None, "", "../../etc/passwd", "1.2/3", "/abs", "x", "1." + "2" * 63, "1..2", "1.2\0.3"],
)
def test_an_object_without_its_uids_is_refused(keyword: str, value: str | None) -> None:
    ds = make(UID)
    if value is None:
        del ds[keyword]
    else:
        ds[keyword]._value = value
    data = BytesIO()
    ds.save_as(data, implicit_vr=False, little_endian=True)
    assert refused(data.getvalue()) == MISMATCH


def test_an_object_that_is_not_what_the_request_says_is_refused() -> None:
    assert refused(encoded(UID), uid="1.2.3") == MISMATCH
    assert refused(encoded(UID), sop_class="1.2.840.10008.5.1.4.1.1.4") == MISMATCH


def test_an_empty_patient_id_is_in_order_and_an_endless_one_is_not() -> None:
    assert entry(encoded(UID, PatientID="")).row(Level.PATIENT).columns["patient_id"] == ""
    assert refused(encoded(UID, PatientID="x" * 20_000)) == MISMATCH


@pytest.mark.parametrize("uid", ["", "..", "../x", "1.2/3", "a", "1." + "2" * 63, "1.2 ", "é"])
def test_the_uid_of_a_request_must_be_one(uid: str) -> None:
    if uid == "1.2 ":
        assert origin_uid(uid) == "1.2"
        return
    with pytest.raises(Unacceptable) as caught:
        origin_uid(uid)
    assert caught.value.status == INVALID_INSTANCE


def statuses_of(mutations: Iterator[bytes]) -> set[int]:
    """Take each, all of its levels; return the statuses that were found for them."""
    found = set()
    for data in mutations:
        try:
            taken = entry(data)
        except Unacceptable as error:
            found.add(error.status)
        else:
            for level in Level:
                taken.row(level)
    return found


def test_every_truncation_has_a_status() -> None:
    data = encode_dataset(full(), EXPLICIT)
    found = statuses_of(data[:end] for end in range(len(data)))
    assert found == {MISMATCH, CANNOT_UNDERSTAND}


@pytest.mark.parametrize("mask", [0xFF, 0x01])
def test_every_flipped_byte_has_a_status(mask: int) -> None:
    data = encode_dataset(full(), EXPLICIT)
    found = statuses_of(
        data[:at] + bytes([data[at] ^ mask]) + data[at + 1 :] for at in range(len(data))
    )
    assert found == {MISMATCH, CANNOT_UNDERSTAND}


def nested(depth: int, tag: tuple[int, int]) -> bytes:
    header = struct.pack("<HH2sxxL", *tag, b"SQ", 0xFFFFFFFF)
    item = struct.pack("<HHL", 0xFFFE, 0xE000, 0xFFFFFFFF)
    ends = struct.pack("<HHLHHL", 0xFFFE, 0xE00D, 0, 0xFFFE, 0xE0DD, 0)
    return (header + item) * depth + ends * depth


@pytest.mark.parametrize("tag", [(0x0009, 0x1010), (0x0008, 0x1032)], ids=["unknown", "key"])
def test_deep_nesting_is_refused_without_recursion(tag: tuple[int, int]) -> None:
    head = encoded(UID)
    at = head.index(struct.pack("<HH", 0x0010, 0x0010))
    assert refused(head[:at] + nested(1000, tag) + head[at:]) == CANNOT_UNDERSTAND
    assert entry(head[:at] + nested(20, tag) + head[at:]).instance_uid == UID


def test_deep_nesting_with_lengths_is_not_gone_into() -> None:
    data = b""
    for _ in range(1000):
        item = struct.pack("<HHL", 0xFFFE, 0xE000, len(data)) + data
        data = struct.pack("<HH2sxxL", 0x0008, 0x1032, b"SQ", len(item)) + item
    head = encoded(UID)
    at = head.index(struct.pack("<HH", 0x0010, 0x0010))
    taken = entry(head[:at] + data + head[at:])
    assert "00081032" not in taken.row(Level.STUDY).attributes


def test_a_begin_that_ends_between_two_elements_goes_on() -> None:
    data = encoded(UID)
    at = data.index(struct.pack("<HH", 0x0010, 0x0010))
    for left in range(8):
        with pytest.raises(Truncated):
            Entry(Origin(CT, UID, EXPLICIT), memoryview(data[: at + left]), is_whole=False)
    begin = encoded(UID, pixels=1000)[:-900]
    assert Entry(Origin(CT, UID, EXPLICIT), memoryview(begin), is_whole=False).study_uid == "1.2.3"


def test_more_elements_are_passed_than_inflated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ingest, "_MAX_INFLATED_ELEMENTS", 5)
    data = encoded(UID)
    deflated = encode_dataset(make(UID), DeflatedExplicitVRLittleEndian)
    assert entry(data).instance_uid == UID
    assert refused(deflated, syntax=DeflatedExplicitVRLittleEndian) == CANNOT_UNDERSTAND


def test_a_deflate_bomb_is_inflated_in_part(monkeypatch: pytest.MonkeyPatch) -> None:
    deflater = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    pixels = struct.pack("<HH2sxxL", 0x7FE0, 0x0010, b"OW", 2**24) + bytes(2**24)
    bomb = deflater.compress(encoded(UID) + pixels) + deflater.flush()
    monkeypatch.setattr(ingest, "_MAX_HEAD", 2**16)
    assert entry(bomb, DeflatedExplicitVRLittleEndian).instance_uid == UID
    assert refused(b"no deflate", syntax=DeflatedExplicitVRLittleEndian) == CANNOT_UNDERSTAND


def test_endless_elements_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ingest, "_MAX_ELEMENTS", 1000)
    assert refused(bytes(10_000)) == CANNOT_UNDERSTAND


def test_numbers_may_be_of_another_size_and_not_of_a_wrong_length() -> None:
    data = encoded(UID, Rows=3, Columns=4)
    rows = struct.pack("<HH2sHH", 0x0028, 0x0010, b"US", 2, 3)
    columns = struct.pack("<HH2sHH", 0x0028, 0x0011, b"US", 2, 4)
    data = data.replace(rows, struct.pack("<HH2sHL", 0x0028, 0x0010, b"UL", 4, 70_000))
    data = data.replace(columns, struct.pack("<HH2sHHB", 0x0028, 0x0011, b"US", 3, 4, 0))
    attributes = entry(data).row(Level.IMAGE).attributes
    assert attributes["00280010"] == {"vr": "UL", "Value": [70_000]}
    assert "00280011" not in attributes


def test_pixel_data_is_not_read() -> None:
    data = encoded(UID, pixels=1000)
    assert entry(data[:-900]).instance_uid == UID


def test_implicit_vr_where_explicit_was_agreed_on_is_understood() -> None:
    data = encode_dataset(full(), ImplicitVRLittleEndian)
    taken = entry(data, EXPLICIT)
    assert taken.row(Level.STUDY) == entry(data, ImplicitVRLittleEndian).row(Level.STUDY)
    assert taken.row(Level.STUDY).attributes["00081032"]["Value"]


def test_what_is_known_of_the_file_is_not_taken_from_the_dataset() -> None:
    tag = next(
        tag for tag, key in QUERY_KEYS.items() if key.keyword == "AvailableTransferSyntaxUID"
    )
    taken = entry(encoded(UID, AvailableTransferSyntaxUID="1.2.3"))
    assert f"{tag:08X}" not in taken.row(Level.IMAGE).attributes


# --- What an object may cost --------------------------------------------------------------------

KEPT_KEYS = [key for keys in KEPT.values() for key in keys]
EMPTY_ITEM = struct.pack("<HHL", 0xFFFE, 0xE000, 0)


def with_all(vrs: str, value: bytes) -> bytes:
    """Return an object in implicit VR that has a value in every key of some VRs but unique ones."""
    ds = make(UID)
    elements = {int(each.tag): encode_dataset(Dataset({each.tag: each}), IMPLICIT) for each in ds}
    for key in KEPT_KEYS:
        if key.vr in vrs.split() and key.use is not Use.UNIQUE:
            tag = int(key.tag)
            head = struct.pack("<HHL", tag >> 16, tag & 0xFFFF, len(value))
            elements[tag] = head + value
    return b"".join(elements[tag] for tag in sorted(elements))


@pytest.mark.parametrize(
    ("vrs", "value"),
    [
        ("SQ", EMPTY_ITEM * 4000),
        ("LO SH ST LT PN UT UC", b"\x01" * 20_000),
        ("LO SH ST LT PN UT UC", b"\\" * 20_000),
        ("US UL IS DS", b"7\\" * 2000),
    ],
    ids=["sequences", "controls", "backslashes", "numbers"],
)
def test_an_object_has_a_budget_of_bytes_in_the_index(vrs: str, value: bytes) -> None:
    taken = entry(with_all(vrs, value), IMPLICIT)
    assert taken.size <= 130 * 1024
    written = sum(len(json.dumps(taken.row(level).attributes)) for level in Level)
    assert written < 700_000
    assert (taken.study_uid, taken.series_uid, taken.patient_id) == ("1.2.3", "1.2.3.4", "P1")


def test_what_comes_first_is_kept() -> None:
    taken = entry(with_all("SQ", EMPTY_ITEM * 1000), IMPLICIT)
    rows = [taken.row(level).attributes for level in Level]
    kept = [name for row in rows for name, each in row.items() if each["vr"] == "SQ"]
    first = sorted(f"{int(key.tag):08X}" for key in KEPT_KEYS if key.vr == "SQ")[: len(kept)]
    assert sorted(kept) == first
    assert len(kept) == 8
