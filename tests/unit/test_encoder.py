"""Plain datasets are encoded as pydicom encodes them, and what is not plain is left to it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset

from dicomwire.data.codec import decode, encode_dataset
from dicomwire.data.plain_encoder import encode_plain
from dicomwire.data.scanner import new_dataset

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # pydicom's, of odd values

IMPLICIT = "1.2.840.10008.1.2"
BOTH = pytest.mark.parametrize("is_implicit", [True, False])


def by_pydicom(ds: Dataset, is_implicit: bool) -> bytes:
    buffer = DicomBytesIO()
    buffer.is_implicit_VR = is_implicit
    buffer.is_little_endian = True
    write_dataset(buffer, ds)
    return buffer.getvalue()


def make(**values: object) -> Dataset:
    ds = Dataset()
    for keyword, value in values.items():
        setattr(ds, keyword, value)
    return ds


TEXT = st.text(st.sampled_from("abcXYZ 0123456789*?-_"), max_size=16)
NAMES = st.text(st.sampled_from("abcXYZ^= "), max_size=16).filter(lambda name: name.count("=") < 3)
CODES = st.text(st.sampled_from("ABC_0123456789 "), max_size=16)
UIDS = st.sampled_from(["1.2", "1.2.3", "1.2.840.10008.1.1"])
DATES = st.sampled_from(["20200101", "19700101", "20200101-20200201"])
DECIMALS = st.sampled_from(["1", "2.50", " 1 ", "1e5"]) | st.integers(-999, 999).map(float)
INTEGERS = st.sampled_from(["5", "05", " 7"]) | st.integers(-999, 999)


def of(values: st.SearchStrategy) -> st.SearchStrategy:
    """One value, several, or none in any of its shapes."""
    return values | st.lists(values, max_size=3) | st.none()


ELEMENTS = {
    "PatientName": NAMES | st.none(),
    "OtherPatientNames": st.lists(NAMES, max_size=3),
    "PatientID": TEXT | st.none(),
    "ReferringPhysicianName": st.text(st.sampled_from("aéü山"), max_size=8),
    "StudyDescription": st.text(st.sampled_from("aéü山"), max_size=8),
    "AccessionNumber": TEXT,
    "StudyDate": of(DATES.filter(lambda date: "-" not in date)),
    "ModalitiesInStudy": of(CODES),
    "StudyInstanceUID": of(UIDS),
    "PatientAge": st.sampled_from(["010Y", None]),
    "RetrieveAETitle": of(st.sampled_from(["A", "TITLE", ""])),
    "PatientWeight": DECIMALS | st.none(),
    "ImagePositionPatient": st.lists(DECIMALS, max_size=3),
    "InstanceNumber": INTEGERS | st.none(),
    "NumberOfStudyRelatedInstances": INTEGERS,
    "PatientComments": st.text(st.sampled_from("a\\b\r\n"), max_size=8),
    "TextValue": st.text(st.sampled_from("aé"), max_size=8),
    "RetrieveURL": st.just("http://example.org/a b"),
    "Rows": st.integers(0, 65535) | st.none(),
    "TagAngleSecondAxis": st.integers(-32768, 32767),
    "SimpleFrameList": st.lists(st.integers(0, 2**32 - 1), max_size=2),
    "ReferencePixelX0": st.integers(-(2**31), 2**31 - 1),
    "PixelAspectRatio": st.lists(INTEGERS, min_size=2, max_size=2),
    "EventElapsedTimes": st.floats(-9, 9),
    "EncapsulatedDocument": st.binary(max_size=4),
    "SpecificCharacterSet": st.sampled_from(
        ["", "ISO_IR 6", "ISO_IR 100", "ISO_IR 192", "ISO_IR 13", ["", "ISO 2022 IR 87"], None]
    ),
}


@st.composite
def datasets(draw: st.DrawFn, depth: int = 0) -> Dataset:
    ds = Dataset()
    for keyword in draw(st.lists(st.sampled_from(sorted(ELEMENTS)), max_size=6, unique=True)):
        setattr(ds, keyword, draw(ELEMENTS[keyword]))
    if depth < 2 and draw(st.booleans()):
        ds.ScheduledProcedureStepSequence = draw(st.lists(datasets(depth + 1), max_size=2))
    return ds


@given(datasets(), st.booleans())
def test_it_is_as_pydicom_does_it(ds: Dataset, is_implicit: bool) -> None:
    encoded = encode_plain(ds, is_implicit)
    if encoded is not None:
        assert encoded == by_pydicom(ds, is_implicit)


@BOTH
def test_a_match_of_a_query_is_plain(is_implicit: bool) -> None:
    ds = make(
        SpecificCharacterSet="ISO_IR 192",
        QueryRetrieveLevel="STUDY",
        PatientName="M\u00fcller^J\u00f6rg=\u5c71\u7530",
        PatientID="1",
        ModalitiesInStudy=["CT", "MR"],
        StudyInstanceUID="1.2.3",
        StudyDate="20200101",
        NumberOfStudyRelatedInstances=5,
        PatientWeight="70.5",
        Rows=512,
        ReferencedStudySequence=[make(ReferencedSOPInstanceUID="1.2"), make()],
        OtherPatientIDsSequence=[],
    )
    encoded = encode_plain(ds, is_implicit)
    assert encoded is not None
    assert encoded == by_pydicom(ds, is_implicit)
    assert decode(encoded, is_implicit, True) == ds


@BOTH
def test_the_order_is_that_of_the_tags(is_implicit: bool) -> None:
    ds = make(StudyInstanceUID="1.2", PatientID="1", QueryRetrieveLevel="STUDY")
    assert encode_plain(ds, is_implicit) == by_pydicom(ds, is_implicit)


def undefined_length() -> Dataset:
    ds = make(ReferencedStudySequence=[make(PatientID="1")])
    ds["ReferencedStudySequence"].is_undefined_length = True
    return ds


def item_of_undefined_length() -> Dataset:
    ds = make(ReferencedStudySequence=[make(PatientID="1")])
    ds.ReferencedStudySequence[0].is_undefined_length_sequence_item = True
    return ds


def with_private_block() -> Dataset:
    ds = Dataset()
    ds.private_block(0x0009, "SOMEBODY", create=True).add_new(1, "UN", b"12")
    return ds


NOT_PLAIN = {
    "read from somewhere": lambda: decode(by_pydicom(make(PatientID="1"), True), True, True),
    "bytes": lambda: make(EncapsulatedDocument=b"12"),
    "floats": lambda: make(EventElapsedTimes="1", RealWorldValueSlope=1.5),
    "several numbers": lambda: make(SimpleFrameList=[1, 2]),
    "no number": lambda: make(Rows=None),
    "another character set": lambda: make(SpecificCharacterSet="ISO_IR 144", PatientID="1"),
    "several character sets": lambda: make(SpecificCharacterSet=["", "ISO 2022 IR 87"]),
    "text outside of the character set": lambda: make(PatientName="M\u00fcller"),
    "undefined length": undefined_length,
    "an item of undefined length": item_of_undefined_length,
    "an unknown private element": with_private_block,
    "a group length": lambda: Dataset({0x00100000: DataElement(0x00100000, "UL", 4)}),
    "file meta information": lambda: Dataset({0x00020010: DataElement(0x00020010, "UI", "1.2")}),
}


@pytest.mark.parametrize("what", NOT_PLAIN)
def test_what_is_not_plain(what: str) -> None:
    assert encode_plain(NOT_PLAIN[what](), True) is None
    assert encode_plain(make(ReferencedStudySequence=[NOT_PLAIN[what]()]), True) is None


def test_what_is_too_long_for_its_length() -> None:
    ds = make(PatientComments="x" * 70_000)
    assert encode_plain(ds, False) is None
    assert encode_plain(ds, True) == by_pydicom(ds, True)
    ds = make(TextValue="x" * 70_000)
    assert encode_plain(ds, False) == by_pydicom(ds, False)


@pytest.mark.parametrize("value", ["many", 1.5, -1, 70_000, [1], True])
def test_a_value_of_the_wrong_type(value: object) -> None:
    ds = make(Rows=1, PatientID="1")
    ds["Rows"]._value = value
    assert encode_plain(ds, True) is None
    ds["PatientID"]._value = 5
    assert encode_plain(ds, True) is None
    ds["PatientID"]._value = [5]
    assert encode_plain(ds, True) is None


def test_encode_dataset_makes_no_difference_between_the_two() -> None:
    plain = make(PatientID="1")
    other = make(PatientID="1", EncapsulatedDocument=b"12")
    assert encode_dataset(plain, IMPLICIT) == by_pydicom(plain, True)
    assert encode_dataset(other, IMPLICIT) == by_pydicom(other, True)


def test_a_new_dataset_is_like_any() -> None:
    first, second = new_dataset({}), new_dataset({})
    assert vars(first) == vars(Dataset())
    mutable = [name for name, value in vars(first).items() if isinstance(value, dict)]
    assert all(vars(first)[name] is not vars(second)[name] for name in mutable)
    assert not [value for value in vars(first).values() if isinstance(value, list | set)]
    first.PatientID = "1"
    first.private_block(0x0009, "SOMEBODY", create=True)
    assert second == Dataset()
    assert first == decode(by_pydicom(first, True), True, True)
