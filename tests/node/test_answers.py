"""Answers to a query, of values that objects should not have had: every asker can decode them."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import pytest
from pydicom.dataset import Dataset
from pydicom.tag import Tag
from pydicom.uid import (
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from dicomwire.data.codec import decode_for, encode_dataset
from dicomwire.node.answers import Answer, Answers
from dicomwire.node.heads import Origin
from dicomwire.node.identifier import Nested
from dicomwire.node.ingest import Entry
from dicomwire.node.keys import Level
from odd_objects import OddObjects

# pydicom warns of values where our tests decode them.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")

SYNTAXES = [
    ImplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    DeflatedExplicitVRLittleEndian,
]
CODES = Tag("ProcedureCodeSequence")
ALL = Nested({}, None)
CODE_AND_MORE = Nested(
    {
        "00080100": (Tag(0x00080100), "SH", None),
        "00080121": (
            Tag(0x00080121),
            "SQ",
            Nested({"00080104": (Tag(0x00080104), "LO", None)}, None),
        ),
        "00080124": (Tag(0x00080124), "SQ", ALL),
        "00189073": (Tag(0x00189073), "FD", None),
    },
    None,
)


def answer(
    items: list[Any],
    nested: Nested = ALL,
    character_sets: list[str] | None = None,
    syntax: str = ExplicitVRLittleEndian,
) -> Dataset:
    """Return an answer that has a sequence of items, which are in the DICOM JSON model."""
    return _decoded([Answer(CODES, "SQ", list, nested)], character_sets, items, syntax)


def answer_of(
    keyword: str, vr: str, values: list[Any], syntax: str = ExplicitVRLittleEndian
) -> Dataset:
    """Return an answer that has one other element."""
    return _decoded([Answer(Tag(keyword), vr, list)], None, values, syntax)


def _decoded(
    answers: list[Answer], character_sets: list[str] | None, row: list[Any], syntax: str
) -> Dataset:
    constants = [(0x00080052, "CS", "STUDY")]
    made = Answers(constants, answers, character_sets or ["ISO_IR 192"], syntax).make(row)
    ds = decode_for(made, syntax)
    assert encode_dataset(ds, syntax) == made  # in the order, and of the form, that pydicom writes
    return ds


def tags(ds: Dataset) -> list[Any]:
    """Return the tags of a dataset, each sequence with those of its items."""
    return [
        (element.tag, [tags(item) for item in element.value] if element.VR == "SQ" else None)
        for element in ds
    ]


@cache
def odd_items(number: int) -> list[Any]:
    """Return what an index has of the sequence of an odd object."""
    origin = Origin(CTImageStorage, f"1.9.{number}.1.1", ExplicitVRLittleEndian)
    entry = Entry(origin, memoryview(OddObjects(number).make(number)))
    row = json.loads(json.dumps(entry.row(Level.STUDY).attributes))
    items: list[Any] = row.get("00081032", {}).get("Value", [])
    return items


@pytest.mark.parametrize("nested", [ALL, CODE_AND_MORE], ids=["all", "some"])
@pytest.mark.parametrize("character_set", ["ISO_IR 192", "ISO_IR 100", "\\ISO 2022 IR 87"])
def test_an_answer_is_the_same_in_all_syntaxes(nested: Nested, character_set: str) -> None:
    kept = 0
    for number in range(120):
        sets = character_set.split("\\")
        found = [tags(answer(odd_items(number), nested, sets, syntax)) for syntax in SYNTAXES]
        assert found == found[:1] * len(SYNTAXES), number
        kept += str(found).count("None")
    assert kept > 200  # odd as they are, there is something to answer


def test_elements_of_items_have_the_vr_of_the_dictionary() -> None:
    item = {
        "00080100": {"vr": "UT", "Value": ["X1"]},
        "00080104": {"vr": "PN", "Value": [{"Alphabetic": "Doe^J"}]},
        "00080301": {"vr": "UL", "Value": [7, 70_000]},
        "00189073": {"vr": "FL", "Value": [1.5]},
    }
    [found] = answer([item], syntax=ImplicitVRLittleEndian)[CODES].value
    assert (found.CodeValue, found.CodeMeaning) == ("X1", "Doe^J")
    assert (found.PrivateGroupReference, found.AcquisitionDuration) == (7, 1.5)


@pytest.mark.parametrize(
    ("tag", "element"),
    [
        ("00080124", {"vr": "PN", "Value": [{"Alphabetic": "Doe^J"}]}),
        ("00080124", {"vr": "LO", "Value": ["Doe^J"]}),
        ("00080100", {"vr": "SQ", "Value": [{"00080100": {"vr": "SH", "Value": ["X1"]}}]}),
        ("00080100", {"vr": "US", "Value": [1]}),
        ("00080301", {"vr": "LO", "Value": ["1"]}),
        ("00080301", {"vr": "UN", "InlineBinary": "AAAA"}),
        ("00080301", {"vr": "AT", "Value": ["00100010"]}),
        ("00091001", {"vr": "LO", "Value": ["private"]}),
        ("00090010", {"vr": "LO", "Value": ["CREATOR"]}),
        ("00080000", {"vr": "UL", "Value": [4]}),
        ("00020010", {"vr": "UI", "Value": ["1.2"]}),
        ("00080005", {"vr": "CS", "Value": ["ISO_IR 100"]}),
        ("7FE00010", {"vr": "OW", "InlineBinary": "AAAA"}),
        ("00280106", {"vr": "LO", "Value": ["x"]}),
    ],
)
def test_what_does_not_fit_the_dictionary_is_left_out(tag: str, element: dict[str, Any]) -> None:
    item = {tag: element, "00080102": {"vr": "SH", "Value": ["99L"]}}
    [found] = answer([item])[CODES].value
    assert [each.keyword for each in found] == ["CodingSchemeDesignator"]
    wanted = {tag: (Tag(int(tag, 16)), "SQ" if tag == "00080124" else "SH", ALL)}
    if tag in ("00080124", "00080100"):  # what was asked for is there, and empty
        [found] = answer([item], Nested(wanted, None))[CODES].value
        assert found[int(tag, 16)].is_empty


@pytest.mark.parametrize(
    ("keyword", "values", "said"),
    [
        ("SeriesNumber", ["1e400"], ""),
        ("SeriesNumber", ["one"], ""),
        ("SeriesNumber", ["1.5"], ""),
        ("SeriesNumber", ["9" * 400], ""),
        ("SeriesNumber", [7], "7"),
        ("SeriesNumber", ["+07"], "+07"),
        ("SeriesNumber", ["7.0"], "7.0"),
        ("SliceLocation", ["x", "-1.50e3"], "-1.50e3"),
        ("SliceLocation", ["NaN"], ""),
        ("SliceLocation", [1.5, None, ".5"], "1.5\\.5"),
    ],
)
def test_numbers_that_are_text_are_numbers(keyword: str, values: list[Any], said: str) -> None:
    made = answer_of(keyword, "IS" if keyword == "SeriesNumber" else "DS", values)
    assert (made.get_item(keyword).value or b"").decode().rstrip() == said


@pytest.mark.parametrize(
    ("tag", "vr", "values"),
    [
        ("00080104", "UT", ["é" * 60_000]),
        ("00080104", "UC", ["é" * 100] * 600),
        ("00100010", "LO", ["é" * 100] * 600),
        ("00189073", "US", [1] * 30_000),
    ],
)
def test_values_that_are_too_long_for_their_vr_are_left_out(
    tag: str, vr: str, values: list[Any]
) -> None:
    for syntax in SYNTAXES:
        made = answer([{tag: {"vr": vr, "Value": values}}], syntax=syntax)
        assert len(made[CODES].value) == 1


def test_collected_values_are_no_more_than_fit() -> None:
    modalities = [*(f"{number}" * 5000 for number in range(9)), "CT", "MR"]
    for syntax in SYNTAXES:
        made = answer_of("ModalitiesInStudy", "CS", modalities, syntax)
        assert made.ModalitiesInStudy[-2:] == ["CT", "MR"]
        assert len(encode_dataset(made, syntax)) < 20_000
