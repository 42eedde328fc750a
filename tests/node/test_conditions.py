"""The conditions of routes: which objects they accept, and why not."""

from __future__ import annotations

import re
from typing import Any

import pytest
from spooling import CT, EXPLICIT, encoded

from dicomwire.node.conditions import conditions_of, failing
from dicomwire.node.heads import Origin
from dicomwire.node.ingest import Entry

VALUES: dict[str, Any] = {
    "StudyDescription": "CT THORAX",
    "StudyDate": "20260214",
    "StudyTime": "101500",
    "ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"],
    "Rows": 512,
    "SeriesNumber": "3",
    "PatientWeight": "70.5",
    "BodyPartExamined": "",
}


def entry(address: str = "10.1.2.3", title: str = "CT1", **values: Any) -> Entry:
    """Return what the index has of an object from a peer."""
    origin = Origin(CT, "1.2", EXPLICIT, title, address)
    return Entry(origin, memoryview(encoded("1.2", **(VALUES | values))))


def accepts(table: dict[str, Any], **values: Any) -> bool:
    return all(each.accepts(entry(**values)) for each in conditions_of(table))


@pytest.mark.parametrize(
    ("name", "wanted", "is_met"),
    [
        ("Modality", "CT", True),
        ("Modality", "MR", False),
        ("Modality", ["MR", "CT"], True),
        ("Modality", {"not": "CT"}, False),
        ("Modality", {"not": ["MR", "US"]}, True),
        ("StudyDescription", "*THORAX*", True),
        ("StudyDescription", "CT?THORAX", True),
        ("StudyDescription", "THORAX", False),
        ("StudyDescription", "*", True),
        ("PatientName", "doe*", True),
        ("ImageType", "AXIAL", True),
        ("ImageType", {"not": "DERIVED"}, True),
        ("Rows", 512, True),
        ("Rows", {"from": 256, "to": 512}, True),
        ("Rows", {"from": 513}, False),
        ("Rows", {"not": {"to": 512}}, False),
        ("SeriesNumber", 3, True),
        ("PatientWeight", {"from": 70, "to": 71.5}, True),
        ("StudyDate", "20260101-20261231", True),
        ("StudyDate", {"from": "20260101"}, True),
        ("StudyDate", {"to": "20251231"}, False),
        ("StudyTime", {"from": "10", "to": "11"}, True),
        ("BodyPartExamined", "", True),
        ("BodyPartExamined", "*", False),
        ("AccessionNumber", "A1", False),
        ("AccessionNumber", {"not": "A1"}, True),
        ("SOPClassUID", "1.2.840.10008.5.1.4.1.1.2", True),
        ("SOPClassUID", "1.2.840.10008.5.1.4.1.1.*", True),
        ("AvailableTransferSyntaxUID", EXPLICIT, True),
        ("calling_title", "CT*", True),
        ("calling_title", {"not": "CT1"}, False),
        ("network", "10.1.0.0/16", True),
        ("network", ["192.168.0.0/16", "10.0.0.0/8"], True),
        ("network", {"not": "10.1.2.3"}, False),
        ("network", "fd00::/8", False),
    ],
)
def test_what_a_condition_accepts(name: str, wanted: Any, is_met: bool) -> None:
    assert accepts({name: wanted}) is is_met


def test_all_conditions_have_to_be_met() -> None:
    assert accepts({"Modality": "CT", "Rows": 512})
    assert not accepts({"Modality": "CT", "Rows": 256})
    assert accepts({})


def test_an_address_may_be_mapped_or_missing() -> None:
    assert accepts({"network": "10.1.0.0/16"}, address="::ffff:10.1.2.3")
    assert not accepts({"network": "10.1.0.0/16"}, address="")


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({"Modalty": "CT"}, "Modalty: this is no attribute that the index has as text or number"),
        ({"ReferencedStudySequence": "1"}, "ReferencedStudySequence: this is no attribute"),
        ({"Rows": "many"}, "Rows: not a number"),
        ({"Rows": True}, "Rows: True is neither a text nor a number"),
        ({"Rows": {"from": "a"}}, "Rows: an end of the range is not a number"),
        ({"Rows": {"least": 5}}, 'Rows: a table has the key "not", or "from" and "to"'),
        ({"Rows": {"not": 5, "from": 1}}, 'Rows: a table with "not" has no other keys'),
        ({"Modality": {"from": "A"}}, "Modality: only numbers, dates and times have a range"),
        ({"Modality": []}, "Modality: the list is empty"),
        ({"StudyDate": "2026"}, "StudyDate: neither a date nor a range"),
        ({"StudyInstanceUID": "one"}, "StudyInstanceUID: not a UID"),
        ({"network": "10.1.2.3/8"}, "network: 10.1.2.3/8 has host bits set"),
    ],
)
def test_what_is_no_condition(table: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(said)}"):
        conditions_of(table)


def test_why_an_object_is_not_accepted() -> None:
    conditions = conditions_of({"Modality": ["MR"], "AccessionNumber": "A*", "Rows": 512})
    assert list(failing(conditions, entry())) == [
        "Modality is 'CT', which does not fit ['MR']",
        "AccessionNumber is missing, which does not fit 'A*'",
    ]
