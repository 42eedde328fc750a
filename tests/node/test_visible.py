"""Which studies a user sees: the conditions in SQL against the same rules in Python."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from archive_of import Archive, Entity, row_of
from asking import PATIENT_ROOT, STUDY_ROOT, find, identifier
from backends import Backend
from sqlalchemy import select

from dicomwire.node.index.schema import study
from dicomwire.node.index.sqlite import Sqlite
from dicomwire.node.index.writer import Index
from dicomwire.node.ingest import Row
from dicomwire.node.keys import UNIQUE, Level
from dicomwire.node.query import instances
from dicomwire.node.visible import StudyFilter, VisibleIndex

FILTERS = [
    ("PatientSex=F",),
    ("PatientID=P*",),
    ("PatientID=%*", "PatientID=X_*"),
    ("IssuerOfPatientID=HOSPITAL A", "StudyDate=20200101-20201231"),
    ("ModalitiesInStudy=CT",),
    ("ModalitiesInStudy=MR", "ModalitiesInStudy=US", "StudyDescription=CT*"),
    ("StudyInstanceUID=1.2.3.7",),
    ("AccessionNumber=no such number",),
]


class Described:
    """An object as its index entry describes it, made of an entity of the generated archive."""

    def __init__(self, series: Entity, study_uid: str = "", instance_uid: str = "9") -> None:
        self._series = series
        assert series.above is not None
        self.study_uid = study_uid or series.above.own["StudyInstanceUID"]
        self.instance_uid = instance_uid

    def row(self, level: Level) -> Row:
        entity: Any = self._series
        while entity.level is not level:
            entity = entity.above
        return Row(row_of(level, entity.own), {})


@pytest.fixture(scope="module")
def archive() -> Archive:
    return Archive(40, 400)


@pytest.fixture(scope="module")
def index(
    archive: Archive, module_backend: Backend, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Index]:
    with archive.insert(module_backend.database(tmp_path_factory.mktemp("node"))) as index:
        yield index


def visible(archive: Archive, studies: StudyFilter) -> list[Entity]:
    """Return the studies for which one of the series is admitted."""
    return [
        study
        for study in archive.entities(Level.STUDY)
        if any(studies.admits(Described(series)) for series in study.below)
    ]


def found(index: VisibleIndex, level: Level, **keys: str) -> list[Any]:
    model = PATIENT_ROOT if level is Level.PATIENT else STUDY_ROOT
    asked = identifier(level.value, **{UNIQUE[level].keyword: "", **keys})
    answers = find(index, model, asked, relational=True)
    return [match for _, match in answers if match is not None]


@pytest.mark.parametrize("texts", FILTERS, ids=" and ".join)
def test_each_level_has_the_visible_studies_only(
    archive: Archive, index: Index, texts: tuple[str, ...]
) -> None:
    studies = StudyFilter(texts)
    expected = visible(archive, studies)
    seen = VisibleIndex(index, studies)
    for level in (Level.STUDY, Level.SERIES, Level.IMAGE):
        keyword = UNIQUE[level].keyword
        uids = [each.own[keyword] for study in expected for each in study.descendants(level)]
        assert sorted(each[keyword].value for each in found(seen, level)) == sorted(uids)
    patients = {id(study.above): study.above for study in expected}
    names = sorted(each.own["PatientID"] for each in patients.values() if each)
    assert sorted(each.PatientID for each in found(seen, Level.PATIENT)) == names


@pytest.mark.parametrize("texts", FILTERS, ids=" and ".join)
def test_a_patient_has_as_many_studies_as_are_visible(
    archive: Archive, index: Index, texts: tuple[str, ...]
) -> None:
    studies = StudyFilter(texts)
    count = "NumberOfPatientRelatedStudies"
    seen = found(VisibleIndex(index, studies), Level.PATIENT, **{count: ""})
    assert sum(int(each[count].value) for each in seen) == len(visible(archive, studies))


def test_objects_to_send_are_those_of_visible_studies(archive: Archive, index: Index) -> None:
    studies = StudyFilter(("ModalitiesInStudy=CT",))
    expected = [study.own["StudyInstanceUID"] for study in visible(archive, studies)]
    everything = [study.own["StudyInstanceUID"] for study in archive.entities(Level.STUDY)]
    assert 0 < len(expected) < len(everything)
    for uid in everything:
        asked = identifier("STUDY", StudyInstanceUID=uid)
        sent = instances(VisibleIndex(index, studies), STUDY_ROOT, asked)
        assert bool(list(sent)) == (uid in expected)


def test_an_object_is_stored_in_a_visible_study_or_as_the_first_of_one(
    archive: Archive, index: Index
) -> None:
    studies = StudyFilter(("PatientSex=F",))
    shown = visible(archive, studies)
    hidden = [each for each in archive.entities(Level.STUDY) if each not in shown]
    ours, theirs = shown[0].below[0], hidden[0].below[0]
    uid = hidden[0].own["StudyInstanceUID"]
    taken = next(hidden[0].descendants(Level.IMAGE)).own["SOPInstanceUID"]
    with index.reading() as connection:
        assert studies.may_store(connection, Described(ours))
        assert studies.may_store(connection, Described(ours, "1.2.9"))
        assert not studies.may_store(connection, Described(theirs))
        assert not studies.may_store(connection, Described(theirs, "1.2.9"))
        assert not studies.may_store(connection, Described(ours, uid))
        assert not studies.may_store(connection, Described(ours, instance_uid=taken))


def test_sqlite_looks_up_the_series_of_a_study_and_not_all_of_a_modality(
    archive: Archive, tmp_path: Path
) -> None:
    database = Sqlite(tmp_path / "index.sqlite")
    database.prepare()
    conditions = StudyFilter(("ModalitiesInStudy=CT",)).conditions()
    query = select(study.c.id).where(*conditions)
    with archive.insert(database) as index, index.reading() as connection:
        statement = query.compile(connection, compile_kwargs={"literal_binds": True})
        plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}").all()
    assert any("ix_series_study " in step.detail for step in plan), plan


@pytest.mark.parametrize(
    "text",
    [
        "PatientName=Doe",
        "PatientID",
        "PatientID=",
        "PatientID=*",
        "PatientID=a*b",
        "PatientID=a?",
        "PatientID=" + 65 * "1",
        "PatientID=a\0",
        "StudyDate=2020-2021",
        "StudyDate=20200101-",
    ],
)
def test_a_text_that_is_no_condition_is_an_error(text: str) -> None:
    with pytest.raises(ValueError, match="is not"):
        StudyFilter((text,))


def test_a_filter_without_conditions_is_an_error() -> None:
    with pytest.raises(ValueError, match="no condition"):
        StudyFilter(())
