"""References in datasets and in payloads of tasks: what is written is what is read."""

from __future__ import annotations

from io import BytesIO

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import dcmread
from pydicom.tag import Tag
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from dicomwire import Settings
from dicomwire.data.codec import encode_dataset, message_elements
from dicomwire.node.commitment.references import (
    FAILED,
    REFERENCED,
    SYNTAXES,
    TRANSACTION_UID,
    Failure,
    Malformed,
    Reference,
    dataset_of,
    failures_in,
    pack,
    references_in,
    uid_in,
    unpack,
)

UIDS = st.integers(0, 10**38).map("2.25.{}".format)
REFERENCES = st.lists(st.builds(Reference, UIDS, UIDS))
FAILURES = st.lists(st.builds(Failure, st.builds(Reference, UIDS, UIDS), st.integers(0, 0xFFFF)))
LIMITS = Settings().limits


@given(UIDS, REFERENCES, FAILURES, st.sampled_from(SYNTAXES))
def test_a_dataset_has_what_was_written(
    uid: str, references: list[Reference], failures: list[Failure], syntax: str
) -> None:
    data = encode_dataset(dataset_of(uid, references, failures, syntax), syntax)
    elements = message_elements(data, syntax, LIMITS)
    assert uid_in(elements, TRANSACTION_UID) == uid
    assert references_in(elements) == references
    assert failures_in(elements) == failures
    assert (REFERENCED in elements, FAILED in elements) == (bool(references), bool(failures))


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
def test_pydicom_reads_the_same(syntax: str) -> None:
    references = [Reference("1.2.3", "1.2.3.4"), Reference("1.2.30", "1.2.3.45")]
    failures = [Failure(Reference("1.2.3", "1.9"), 0x0112)]
    data = encode_dataset(dataset_of("1.2", references, failures, syntax), syntax)
    ds = dcmread(BytesIO(data), force=True)
    assert ds.TransactionUID == "1.2"
    items = ds.ReferencedSOPSequence
    assert [(i.ReferencedSOPClassUID, i.ReferencedSOPInstanceUID) for i in items] == references
    (failed,) = ds.FailedSOPSequence
    assert (failed.ReferencedSOPInstanceUID, failed.FailureReason) == ("1.9", 0x0112)


@given(REFERENCES)
def test_a_payload_has_what_was_packed(references: list[Reference]) -> None:
    assert unpack(pack(references)) == references


@pytest.mark.parametrize("value", [b"", b"\0", b"1.2/../3", b"1" * 65, b"1.2 3", b"\xff"])
def test_what_is_no_uid_is_malformed(value: bytes) -> None:
    data = b"\x08\x00\x95\x11" + len(value).to_bytes(4, "little") + value
    elements = message_elements(data, ImplicitVRLittleEndian, LIMITS)
    with pytest.raises(Malformed):
        uid_in(elements, Tag(TRANSACTION_UID))
