"""The table of keys, and that an index has them in its columns."""

from __future__ import annotations

import json

import pytest
from archive_of import TABLES, Archive, dataset_of, row_of
from pydicom.datadict import dictionary_has_tag

from dicomwire.data.codec import encode_dataset
from dicomwire.node.heads import Origin
from dicomwire.node.ingest import Entry
from dicomwire.node.keys import KEPT, QUERY_KEYS, UNIQUE, Level, Use
from dicomwire.node.names import fold_name

EXPLICIT_VR_LITTLE_ENDIAN = "1.2.840.10008.1.2.1"


def test_levels_are_in_order() -> None:
    assert [level.depth for level in Level] == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("level", "unique", "required"),
    [
        (Level.PATIENT, "PatientID", {"PatientName"}),
        (
            Level.STUDY,
            "StudyInstanceUID",
            {"StudyDate", "StudyTime", "AccessionNumber", "StudyID"},
        ),
        (Level.SERIES, "SeriesInstanceUID", {"Modality", "SeriesNumber"}),
        (Level.IMAGE, "SOPInstanceUID", {"InstanceNumber"}),
    ],
)
def test_unique_and_required_keys(level: Level, unique: str, required: set[str]) -> None:
    """PS3.4 Tables C.6-1 to C.6-4."""
    assert UNIQUE[level].keyword == unique
    of_level = [key for key in QUERY_KEYS.values() if key.level is level]
    assert {key.keyword for key in of_level if key.use is Use.REQUIRED} == required


def test_keys_are_standard_attributes_with_one_vr() -> None:
    for tag, key in QUERY_KEYS.items():
        assert dictionary_has_tag(tag)
        assert len(key.vr) == 2
        assert key.json_tag == f"{tag:08X}"


def test_columns_are_those_of_the_tables() -> None:
    for level, keys in KEPT.items():
        columns = {key.column for key in keys if key.column is not None}
        assert columns <= set(TABLES[level].c.keys())


def test_what_is_computed_is_not_kept() -> None:
    computed = [key for key in QUERY_KEYS.values() if key.use is Use.COMPUTED]
    assert {"ModalitiesInStudy", "NumberOfStudyRelatedInstances"} <= {k.keyword for k in computed}
    assert not {key for keys in KEPT.values() for key in keys} & set(computed)


def test_generated_rows_are_as_those_of_received_objects() -> None:
    """What the tests of queries are made with is what the index makes of objects."""
    for entity in Archive(12, 24).entities(Level.IMAGE):
        values = entity.values
        origin = Origin(
            values["SOPClassUID"], values["SOPInstanceUID"], EXPLICIT_VR_LITTLE_ENDIAN, "AE"
        )
        data = encode_dataset(dataset_of(values), EXPLICIT_VR_LITTLE_ENDIAN)
        entry = Entry(origin, memoryview(data))
        above = entity
        for level in reversed(Level):
            columns, attributes = entry.row(level)
            expected = row_of(level, above.own)
            assert _with_values(json.loads(attributes)) == _with_values(expected.pop("attributes"))
            if level is Level.PATIENT:
                columns["patient_name_key"] = fold_name(columns["patient_name"])
            columns["transfer_syntax_uid"] = expected.get("transfer_syntax_uid", "")
            assert {name: columns[name] for name in expected} == expected
            above = above.above or above


def _with_values(attributes: dict[str, dict[str, object]]) -> dict[str, object]:
    return {tag: element for tag, element in attributes.items() if element.get("Value")}
