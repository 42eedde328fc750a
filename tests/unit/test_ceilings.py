"""How much may be made of a dataset: counts of items and elements, whatever its size and form."""

from __future__ import annotations

import struct
import tracemalloc
import zlib

import pytest
from pydicom.dataset import Dataset

from dicomwire.data.codec import (
    DatasetError,
    decode_for,
    decode_message,
    encode_dataset,
    message_elements,
)
from dicomwire.data.scanner import items_of
from dicomwire.protocol.limits import MIB, Limits

IMPLICIT = "1.2.840.10008.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"
DEFLATED = "1.2.840.10008.1.2.1.99"
BIG_ENDIAN = "1.2.840.10008.1.2.2"

FEW = Limits(dataset_items=100, dataset_elements=100)
UNDEFINED = 0xFFFFFFFF
SERIES = 0x00081115
REFERENCED = 0x00081199
PER_FRAME = 0x52009230
PIXELS = 0x7FE00010


def element(tag: int, value: bytes, length: int | None = None) -> bytes:
    """Return an element in implicit VR."""
    length = len(value) if length is None else length
    return struct.pack("<HHI", tag >> 16, tag & 0xFFFF, length) + value


def item(value: bytes = b"") -> bytes:
    return element(0xFFFEE000, value)


def undefined_item(value: bytes = b"") -> bytes:
    return element(0xFFFEE000, value, UNDEFINED) + element(0xFFFEE00D, b"")


def sequence(*items: bytes) -> bytes:
    return element(SERIES, b"".join(items))


def undefined_sequence(*items: bytes) -> bytes:
    return element(SERIES, b"".join(items), UNDEFINED) + element(0xFFFEE0DD, b"")


def keys(count: int) -> bytes:
    """Return empty elements."""
    return b"".join(element(0x00190000 + number, b"") for number in range(count))


def deflate(data: bytes) -> bytes:
    deflater = zlib.compressobj(9, wbits=-15)
    return deflater.compress(data) + deflater.flush()


def private(value: bytes) -> bytes:
    """Return a private element which pydicom knows to be a sequence, though it has no VR."""
    return element(0x00710010, b"AGFA-AG_HPState ") + element(0x00711018, value)


DENSE = {
    "items": lambda count: sequence(*[item()] * count),
    "items of undefined length": lambda count: undefined_sequence(*[undefined_item()] * count),
    "items in items": lambda count: sequence(item(sequence(*[item()] * (count - 1)))),
    "items of a private sequence": lambda count: private(item() * count),
    "fragments": lambda count: element(
        PIXELS, item() * count + element(0xFFFEE0DD, b""), UNDEFINED
    ),
    "elements": keys,
    "elements of an item": lambda count: sequence(item(keys(count - 1))),
    "elements of an item of undefined length": lambda count: sequence(
        undefined_item(keys(count - 1))
    ),
}
dense = pytest.mark.parametrize("make", DENSE.values(), ids=DENSE.keys())


@dense
def test_a_small_dataset_has_not_more_than_the_limits(make) -> None:
    for decode in (decode_message, lambda *args: decode_for(*args[:2], limits=args[2])):
        assert decode(make(100), IMPLICIT, FEW)
        with pytest.raises(DatasetError, match=r"too many (items|elements)"):
            decode(make(101), IMPLICIT, FEW)


def test_an_object_may_have_more_with_its_size() -> None:
    large = sequence(*[item(element(0x00080060, b"CT" * 8))] * 1000)
    assert len(decode_for(large, IMPLICIT, limits=FEW)[SERIES].value) == 1000
    with pytest.raises(DatasetError, match="too many"):
        decode_message(large, IMPLICIT, FEW)


def functional_groups(frames: int, syntax: str) -> bytes:
    """Return what an enhanced multi-frame object says of its frames: five items for each."""
    frame = Dataset()
    frame.FrameContentSequence = [Dataset()]
    frame.FrameContentSequence[0].DimensionIndexValues = [1, 2]
    frame.FrameContentSequence[0].TemporalPositionIndex = 1
    frame.PlanePositionSequence = [Dataset()]
    frame.PlanePositionSequence[0].ImagePositionPatient = [1, 2, 3]
    frame.SegmentIdentificationSequence = [Dataset()]
    frame.SegmentIdentificationSequence[0].ReferencedSegmentNumber = 1
    frame.DerivationImageSequence = [Dataset()]
    items = item(encode_dataset(frame, syntax)) * frames
    if syntax == IMPLICIT:
        return element(PER_FRAME, items)
    return struct.pack("<HH2sHI", PER_FRAME >> 16, PER_FRAME & 0xFFFF, b"SQ", 0, len(items)) + items


def test_a_hundred_thousand_items_of_functional_groups_are_normal() -> None:
    data = functional_groups(20_000, EXPLICIT)
    assert PER_FRAME in decode_for(data, EXPLICIT)
    assert PER_FRAME in decode_for(deflate(data), DEFLATED)


def test_an_object_of_more_items_than_the_limit_is_normal_if_it_is_large() -> None:
    assert PER_FRAME in decode_for(functional_groups(50_000, IMPLICIT), IMPLICIT)


def test_a_commitment_request_for_thirty_thousand_instances_is_normal() -> None:
    referenced = Dataset()
    referenced.ReferencedSOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
    referenced.ReferencedSOPInstanceUID = "1.2.826.0.1.3680043.8.498.10010"
    data = element(REFERENCED, item(encode_dataset(referenced, IMPLICIT)) * 30_000)
    assert REFERENCED in decode_message(data, IMPLICIT, Limits())


@dense
def test_little_that_inflates_to_much_is_an_error_at_once(make) -> None:
    """Of these kilobytes pydicom would make some hundred megabytes."""
    deflated = deflate(b"\x08\0\x05\0CS\0\0" + make(30_000))
    assert len(deflated) < 60_000
    tracemalloc.start()
    try:
        with pytest.raises(DatasetError, match=r"too many|inflates to more"):
            decode_message(deflated, DEFLATED, Limits())
        assert tracemalloc.get_traced_memory()[1] < 16 * MIB
    finally:
        tracemalloc.stop()


def test_what_an_identifier_inflates_to_is_bounded_like_one_that_is_not_deflated() -> None:
    deflated = deflate(b"\x09\0\x10\0OB\0\0" + struct.pack("<I", 3 * MIB) + bytes(3 * MIB))
    with pytest.raises(DatasetError, match=f"inflates to more than {MIB} bytes"):
        decode_message(deflated, DEFLATED, Limits())
    with pytest.raises(DatasetError, match="inflates to more than 1000 bytes"):
        decode_message(deflated, DEFLATED, Limits(identifier=1000))


def test_private_sequences_are_followed_as_deep_as_others() -> None:
    nested = b""
    for _ in range(65):
        nested = item(private(nested))
    with pytest.raises(DatasetError, match="deep"):
        decode_message(private(nested), IMPLICIT, Limits())


def test_a_private_value_that_is_no_sequence_is_left_alone() -> None:
    ds = decode_message(private(b"\xfe\xff\0\0not items"), IMPLICIT, Limits())
    assert ds.get_item(0x00711018).value == b"\xfe\xff\0\0not items"


# --- Items without pydicom ---


@pytest.mark.parametrize("syntax", [IMPLICIT, EXPLICIT, BIG_ENDIAN])
@pytest.mark.parametrize("is_undefined", [False, True])
def test_items_are_read_without_pydicom(syntax: str, is_undefined: bool) -> None:
    inner = Dataset()
    inner.PatientID = "innermost"
    middle = Dataset()
    middle.OtherPatientIDsSequence = [inner, Dataset()]
    middle.StudyID = "1"
    ds = Dataset()
    ds.ReferencedStudySequence = [middle, middle]
    for each in (ds["ReferencedStudySequence"], middle["OtherPatientIDsSequence"]):
        each.is_undefined_length = is_undefined
        for one in each.value:
            one.is_undefined_length_sequence_item = is_undefined
    elements = message_elements(encode_dataset(ds, syntax), syntax, Limits())
    studies = list(items_of(elements[0x00081110]))
    assert [list(each) for each in studies] == [[0x00101002, 0x00200010]] * 2
    patients = list(items_of(studies[1][0x00101002]))
    assert [[*each] for each in patients] == [[0x00100020], []]
    assert patients[0][0x00100020].value == b"innermost "
