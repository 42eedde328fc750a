"""Queries and retrievals of an index: identifiers, levels, answers, and what is hostile in them."""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest
from archive_of import Archive, Entity
from asking import PATIENT_ROOT, PATIENT_STUDY_ONLY, STUDY_ROOT, element, encoded, find, identifier
from backends import EMBEDDED, Backend
from postgres_server import PostgresServer
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.tag import BaseTag
from sqlalchemy import Connection, event

from dicomwire.data.codec import DatasetError, decode, encode_dataset
from dicomwire.node import query
from dicomwire.node.index.postgres import Postgres
from dicomwire.node.index.writer import Index
from dicomwire.node.keys import Level
from dicomwire.node.query import InvalidIdentifier, instances

EXPLICIT_VR_LITTLE_ENDIAN = "1.2.840.10008.1.2.1"
MOVE = "1.2.840.10008.5.1.4.1.2.2.2"
PATIENT_ROOT_GET = "1.2.840.10008.5.1.4.1.2.1.3"
Statuses = list[int]


def entity(level: Level, above: Entity | None, number: int, **values: Any) -> Entity:
    if level is Level.PATIENT:
        own = {
            "PatientID": f"P{number}",
            "IssuerOfPatientID": "",
            "PatientName": "Müller^Jörg",
            "PatientBirthDate": "19700101",
            "PatientSex": "O",
        }
        return Entity(level, own | values)
    assert above is not None
    uid = f"{above.own.get('StudyInstanceUID') or above.own.get('SeriesInstanceUID') or '1.2'}"
    own = {
        Level.STUDY: {
            "StudyInstanceUID": f"1.2.{number}",
            "StudyDate": "20200101",
            "StudyTime": "101112",
            "AccessionNumber": f"A{number}",
            "StudyID": "1",
            "StudyDescription": "CT Thorax",
            "ReferringPhysicianName": "",
        },
        Level.SERIES: {
            "SeriesInstanceUID": f"{uid}.{number}",
            "Modality": "CT",
            "SeriesNumber": number,
        },
        Level.IMAGE: {
            "SOPInstanceUID": f"{uid}.{number}",
            "SOPClassUID": "1.2.840.10008.5.1.4.1.1.2",
            "InstanceNumber": number,
            "AvailableTransferSyntaxUID": EXPLICIT_VR_LITTLE_ENDIAN,
        },
    }[level]
    return above.add(level, own | values)


def archive_with(*patients: Entity) -> Archive:
    archive = Archive(0, 0)
    archive.patients.extend(patients)
    return archive


def patient_with_study(number: int = 1, **values: Any) -> Entity:
    """Return a patient with a study of two series of two instances; `values` are the study's."""
    patient = entity(Level.PATIENT, None, number)
    study = entity(Level.STUDY, patient, number, **values)
    for modality, place in (("CT", 1), ("MR", 2)):
        series = entity(Level.SERIES, study, place, Modality=modality)
        entity(Level.IMAGE, series, 1)
        entity(Level.IMAGE, series, 2)
    return patient


Opened = Callable[..., Index]


@pytest.fixture
def opened(backend: Backend, tmp_path: Path) -> Iterator[Opened]:
    """What opens an index of patients."""
    indexes: list[Index] = []

    def open_index(*patients: Entity) -> Index:
        indexes.append(archive_with(*patients).insert(backend.database(tmp_path)))
        return indexes[-1]

    yield open_index
    for index in indexes:
        index.close()


@pytest.fixture(scope="module")
def index(module_backend: Backend, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Index]:
    patients = [patient_with_study(1), patient_with_study(2)]
    database = module_backend.database(tmp_path_factory.mktemp("node"))
    with archive_with(*patients).insert(database) as index:
        yield index


def ask(index: Index, model: str, asked: Dataset, **options: Any) -> list[tuple[Any, Any]]:
    return list(find(index, model, asked, **options))


def matches(index: Index, model: str, asked: Dataset, **options: Any) -> list[Dataset]:
    answers = ask(index, model, asked, **options)
    assert all(status in (0xFF00, 0xFF01) for status, _ in answers), answers
    return [match for _, match in answers]


def refusal(index: Index, model: str, asked: Dataset, **options: Any) -> Dataset:
    [(status, match)] = ask(index, model, asked, **options)
    assert match is None
    assert isinstance(status, Dataset)
    assert status.Status == 0xA900
    assert len(status.ErrorComment) <= 64
    return status


# --- Levels and models ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "level", "keys", "count"),
    [
        (PATIENT_ROOT, "PATIENT", {}, 2),
        (PATIENT_ROOT, "STUDY", {"PatientID": "P1"}, 1),
        (PATIENT_ROOT, "SERIES", {"PatientID": "P1", "StudyInstanceUID": "1.2.1"}, 2),
        (
            PATIENT_ROOT,
            "IMAGE",
            {"PatientID": "P1", "StudyInstanceUID": "1.2.1", "SeriesInstanceUID": "1.2.1.1"},
            2,
        ),
        (STUDY_ROOT, "STUDY", {}, 2),
        (STUDY_ROOT, "SERIES", {"StudyInstanceUID": "1.2.2"}, 2),
        (STUDY_ROOT, "IMAGE", {"StudyInstanceUID": "1.2.2", "SeriesInstanceUID": "1.2.2.2"}, 2),
        (PATIENT_STUDY_ONLY, "PATIENT", {}, 2),
        (PATIENT_STUDY_ONLY, "STUDY", {"PatientID": "P2"}, 1),
        (PATIENT_ROOT, "SERIES", {"PatientID": "P2", "StudyInstanceUID": "1.2.1"}, 0),
    ],
)
def test_hierarchical_queries(
    index: Index, model: str, level: str, keys: dict[str, str], count: int
) -> None:
    found = matches(index, model, identifier(level, **keys))
    assert len(found) == count
    assert all(match.QueryRetrieveLevel == level for match in found)
    assert all(match.RetrieveAETitle == "NODE" for match in found)


@pytest.mark.parametrize(
    ("model", "level"),
    [
        (STUDY_ROOT, "PATIENT"),
        (PATIENT_STUDY_ONLY, "SERIES"),
        (PATIENT_STUDY_ONLY, "IMAGE"),
        (PATIENT_ROOT, "study"),
        (PATIENT_ROOT, "WORKLIST"),
        (PATIENT_ROOT, ""),
        (PATIENT_ROOT, "STUDY\\SERIES"),
        (PATIENT_ROOT, None),
    ],
)
def test_levels_that_the_model_does_not_have(index: Index, model: str, level: str | None) -> None:
    status = refusal(index, model, identifier(level))
    assert "QueryRetrieveLevel" in status.ErrorComment
    assert status.OffendingElement == 0x00080052


@pytest.mark.parametrize(
    ("model", "level", "keys", "offending"),
    [
        (PATIENT_ROOT, "STUDY", {}, 0x00100020),
        (PATIENT_ROOT, "STUDY", {"PatientID": ""}, 0x00100020),
        (PATIENT_ROOT, "STUDY", {"PatientID": "P*"}, 0x00100020),
        (PATIENT_ROOT, "STUDY", {"PatientID": "P1\\P2"}, 0x00100020),
        (PATIENT_ROOT, "SERIES", {"StudyInstanceUID": "1.2.1"}, 0x00100020),
        (STUDY_ROOT, "SERIES", {"PatientID": "P1"}, 0x0020000D),
        (STUDY_ROOT, "SERIES", {"StudyInstanceUID": "1.2.1\\1.2.2"}, 0x0020000D),
        (STUDY_ROOT, "IMAGE", {"StudyInstanceUID": "1.2.1"}, 0x0020000E),
    ],
)
def test_unique_keys_above_are_needed(
    index: Index, model: str, level: str, keys: dict[str, str], offending: int
) -> None:
    assert refusal(index, model, identifier(level, **keys)).OffendingElement == offending
    assert matches(index, model, identifier(level, **keys), relational=True) is not None


def test_relational_queries(index: Index) -> None:
    asked = identifier("IMAGE", PatientName="müller*", Modality="MR", SOPInstanceUID="")
    found = matches(index, PATIENT_ROOT, asked, relational=True)
    assert [match.SOPInstanceUID for match in found] == [
        "1.2.1.2.1",
        "1.2.1.2.2",
        "1.2.2.2.1",
        "1.2.2.2.2",
    ]


def test_patients_are_part_of_studies_in_study_root(index: Index) -> None:
    asked = identifier("STUDY", PatientName="", PatientID="P2", NumberOfPatientRelatedStudies="")
    [match] = matches(index, STUDY_ROOT, asked)
    assert match.PatientName == "Müller^Jörg"
    assert match.NumberOfPatientRelatedStudies == "1"


@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        ("StudyDate", "2020"),
        ("StudyDate", "20200101-*"),
        ("StudyTime", "99"),
        ("StudyInstanceUID", "1.2.*"),
        ("NumberOfStudyRelatedSeries", "many"),
        ("PatientBirthDate", "1.1.1970"),
        ("ProcedureCodeSequence", {"ContextGroupVersion": "once"}),
    ],
)
def test_malformed_keys(index: Index, keyword: str, value: Any) -> None:
    status = refusal(index, STUDY_ROOT, identifier("STUDY", **{keyword: value}))
    assert keyword in status.ErrorComment or keyword == "ProcedureCodeSequence"
    assert isinstance(status.OffendingElement, BaseTag)


def test_identifiers_that_programs_made(index: Index) -> None:
    asked = Dataset()
    asked.QueryRetrieveLevel = "SERIES"
    asked.StudyInstanceUID = "1.2.1"
    asked.SeriesInstanceUID = ["1.2.1.1", "1.2.1.2"]
    asked.SeriesNumber = None
    asked.PatientName = "Müller*"
    assert len(matches(index, STUDY_ROOT, asked)) == 2


# --- Answers ----------------------------------------------------------------------------------


def test_answers_have_the_keys_that_were_asked_for(index: Index) -> None:
    asked = identifier(
        "STUDY", PatientID="P1", StudyDate="", ReferringPhysicianName="", InstanceAvailability=""
    )
    [match] = matches(index, STUDY_ROOT, asked)
    assert {element.keyword for element in match} == {
        "QueryRetrieveLevel",
        "RetrieveAETitle",
        "InstanceAvailability",
        "PatientID",
        "StudyDate",
        "ReferringPhysicianName",
    }
    assert match.ReferringPhysicianName == ""
    assert match.InstanceAvailability == "ONLINE"


@pytest.mark.parametrize("unknown", ["PixelSpacing", "Modality", "00091001", "SeriesInstanceUID"])
def test_keys_that_are_not_supported_do_not_count(index: Index, unknown: str) -> None:
    """PS3.4 C.2.2.1.3: they are not returned, and the status says so."""
    asked = identifier("STUDY", PatientID="P1", **{unknown: "1.2"})
    [(status, match)] = ask(index, STUDY_ROOT, asked)
    assert status == 0xFF01
    assert sorted(element.keyword for element in match) == [
        "PatientID",
        "QueryRetrieveLevel",
        "RetrieveAETitle",
    ]


def test_what_is_counted(index: Index) -> None:
    asked = identifier(
        "STUDY",
        PatientID="P1",
        NumberOfStudyRelatedSeries="",
        NumberOfStudyRelatedInstances="",
        ModalitiesInStudy="MR",
        SOPClassesInStudy="",
    )
    [match] = matches(index, STUDY_ROOT, asked)
    assert match.NumberOfStudyRelatedSeries == "2"
    assert match.NumberOfStudyRelatedInstances == "4"
    assert match.ModalitiesInStudy == ["CT", "MR"]
    assert match.SOPClassesInStudy == "1.2.840.10008.5.1.4.1.1.2"


def test_sequences_come_with_what_was_asked_for(opened: Opened) -> None:
    code = {"CodeValue": "X1", "CodingSchemeDesignator": "99L", "CodeMeaning": "Röntgen"}
    index = opened(patient_with_study(ProcedureCodeSequence=[code, {"CodeValue": "X2"}]))
    asked = identifier("STUDY", ProcedureCodeSequence={"CodeValue": "X1", "CodeMeaning": ""})
    [match] = matches(index, STUDY_ROOT, asked)
    first, second = match.ProcedureCodeSequence
    assert {element.keyword for element in first} == {"CodeValue", "CodeMeaning"}
    assert first.CodeMeaning == "Röntgen"
    assert (second.CodeValue, second.CodeMeaning) == ("X2", "")
    [match] = matches(index, STUDY_ROOT, identifier("STUDY", ProcedureCodeSequence=b""))
    assert match.ProcedureCodeSequence[0].CodingSchemeDesignator == "99L"


def test_a_sequence_key_has_one_item(index: Index) -> None:
    items = element(0xFFFEE000, b"") * 2
    refusal(index, STUDY_ROOT, identifier("STUDY", ProcedureCodeSequence=items))


@pytest.mark.parametrize(
    ("name", "asked", "answered"),
    [
        ("Doe^John", "", None),
        ("Doe^John", "ISO_IR 100", None),
        ("Müller^Jörg", "", "ISO_IR 192"),
        ("Müller^Jörg", "ISO_IR 100", "ISO_IR 100"),
        ("Müller^Jörg", "ISO_IR 192", "ISO_IR 192"),
        ("Müller^Jörg", "ISO_IR 144", "ISO_IR 192"),
        ("Müller^Jörg", "\\ISO 2022 IR 87", "ISO_IR 192"),
        ("Müller^Jörg", "ISO_IR 999", "ISO_IR 192"),
        ("Иванов^Иван", "ISO_IR 144", "ISO_IR 144"),
        ("Иванов^Иван", "ISO_IR 100", "ISO_IR 192"),
        ("Yamada^Tarou=山田^太郎", "\\ISO 2022 IR 87", ["", "ISO 2022 IR 87"]),
        ("Yamada^Tarou=山田^太郎", "ISO_IR 13", "ISO_IR 192"),
        ("ﾔﾏﾀﾞ^ﾀﾛｳ", "ISO_IR 13", "ISO_IR 13"),
        ("王^小东", "GB18030", "GB18030"),
        ("Hong^Gildong=洪^吉洞", "\\ISO 2022 IR 149", ["", "ISO 2022 IR 149"]),
    ],
)
def test_character_sets(opened: Opened, name: str, asked: str, answered: Any) -> None:
    """The asker's, if it has all that is to be said, and otherwise UTF-8."""
    patient = patient_with_study()
    patient.own["PatientName"] = name
    index = opened(patient)
    data = element(0x00080052, b"STUDY") + element(0x00100010, b"")
    if asked:
        data = element(0x00080005, asked.encode()) + data
    asked_for = Dataset()
    if asked != "ISO_IR 999":
        asked_for = decode(data, True, True)
    else:
        asked_for.SpecificCharacterSet, asked_for.QueryRetrieveLevel = asked, "STUDY"
        asked_for.PatientName = ""
    [match] = matches(index, STUDY_ROOT, asked_for)
    received = decode(encode_dataset(match, EXPLICIT_VR_LITTLE_ENDIAN), False, True)
    assert str(received.PatientName) == name
    assert received.get("SpecificCharacterSet") == answered


def test_keys_are_read_in_their_character_set(opened: Opened) -> None:
    index = opened(patient_with_study())
    for character_set in ("ISO_IR 100", "ISO_IR 192"):
        asked = identifier("STUDY", character_set, PatientName="MÜLLER*")
        assert len(matches(index, STUDY_ROOT, asked)) == 1
    wrong = identifier("STUDY", "ISO_IR 192", PatientName="MÜLLER*".encode("latin-1"))
    assert refusal(index, STUDY_ROOT, wrong).OffendingElement == 0x00100010


def test_values_that_objects_should_not_have_do_not_spoil_answers(opened: Opened) -> None:
    code = {"CodeValue": "X\ufffd"}
    patient = patient_with_study(StudyDate="2020\ufffd", ProcedureCodeSequence=[code])
    image = next(patient.descendants(Level.IMAGE))
    image.own |= {"Rows": 70_000, "Modality": "C\ufffdT"}
    index = opened(patient)
    asked = identifier(
        "IMAGE", SOPInstanceUID="", Rows=b"", StudyDate="", ProcedureCodeSequence=b""
    )
    for match in matches(index, STUDY_ROOT, asked, relational=True):
        received = decode(encode_dataset(match, EXPLICIT_VR_LITTLE_ENDIAN), False, True)
        assert received.Rows is None
        assert received.get_item("StudyDate").value == b"2020?  ".strip() + b" "


# --- Streaming --------------------------------------------------------------------------------


class Watched:
    """An index that counts its readers."""

    studies = None

    def __init__(self, index: Index) -> None:
        self._index = index
        self.reads = self.readers = 0

    def reading_once(self) -> AbstractContextManager[Connection]:
        return self._reading()

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        self.reads += 1
        self.readers += 1
        try:
            with self._index.reading_once() as connection:
                yield connection
        finally:
            self.readers -= 1


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Index]:
    """An index of 5,000 studies with an instance each."""
    database = EMBEDDED.database(tmp_path_factory.mktemp("large"))
    with Archive(5_000, 5_000).insert(database) as index:
        yield index


@pytest.fixture(scope="module")
def large_postgres(postgres_server: PostgresServer) -> Iterator[Index]:
    """The same in PostgreSQL, which has looked at what its tables have."""
    url = postgres_server.new_database()
    with Archive(5_000, 5_000).insert(Postgres(url)) as index:
        with index.writing() as writer:
            writer.connection.exec_driver_sql("ANALYZE")
        yield index
    postgres_server.drop(url)


def test_answers_are_streamed_and_no_reader_is_held(large: Index) -> None:
    watched = Watched(large)
    answers = find(watched, STUDY_ROOT, identifier("STUDY", PatientName=""))
    next(answers)
    assert (watched.reads, watched.readers) == (1, 0)
    assert sum(1 for _ in answers) == 4_999
    assert 5 <= watched.reads <= 12


def test_each_match_is_answered_once_whatever_is_stored_meanwhile(large: Index) -> None:
    asked = identifier("STUDY", StudyInstanceUID="")
    uids = [match.StudyInstanceUID for match in matches(large, STUDY_ROOT, asked)]
    assert len(uids) == len(set(uids)) == 5_000


def test_memory_is_flat(large: Index) -> None:
    asked = identifier("STUDY", PatientName="", StudyInstanceUID="", ModalitiesInStudy="")
    peaks = []
    for most in (1_500, 5_000):
        tracemalloc.start()
        answers = find(large, STUDY_ROOT, asked)
        for _, _answer in zip(range(most), answers, strict=False):
            pass
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.3 * peaks[0] < 8_000_000


def test_cancel_is_honoured_before_the_next_match(large: Index) -> None:
    wants_no_more: list[bool] = []
    answers = find(
        large,
        STUDY_ROOT,
        identifier("STUDY"),
        cancelled=lambda: bool(wants_no_more),
    )
    for _ in range(70):
        assert next(answers)[0] == 0xFF00
    wants_no_more.append(True)
    assert list(answers) == [(0xFE00, None)]


def test_cancel_is_honoured_before_the_next_row_that_does_not_match(large: Index) -> None:
    asked = identifier("STUDY", StudyTime="000000.1-000000.2")
    looks = iter([False] * 10)
    answers = find(large, STUDY_ROOT, asked, cancelled=lambda: next(looks, True))
    assert list(answers) == [(0xFE00, None)]
    assert next(looks, None) is None


def test_large_rows_make_small_pages(opened: Opened) -> None:
    patient = entity(Level.PATIENT, None, 1)
    for number in range(200):
        history = [f"{number}".ljust(9000, "x")] * 20
        entity(Level.STUDY, patient, number, AdditionalPatientHistory=history)
    watched = Watched(opened(patient))
    asked = identifier("STUDY", StudyInstanceUID="", AdditionalPatientHistory="")
    tracemalloc.start()
    answers = find(watched, STUDY_ROOT, asked)
    uids = [match.StudyInstanceUID for _, match in answers if match is not None]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert uids == [f"1.2.{number}" for number in range(200)]
    assert watched.reads >= 200 * 180_000 / 2**22
    assert peak < 12_000_000


def test_collected_values_are_cut_to_what_they_may_have(opened: Opened) -> None:
    study = entity(Level.STUDY, entity(Level.PATIENT, None, 1), 1)
    for number in range(20):
        entity(Level.SERIES, study, number, Modality=f"{number}".ljust(10_000, "x"))
    index = opened(study.above)
    [match] = matches(index, STUDY_ROOT, identifier("STUDY", ModalitiesInStudy="7*"))
    assert [len(modality) for modality in match.ModalitiesInStudy] == [64] * 20


def test_cancel_is_honoured_where_nothing_matches(large: Index) -> None:
    asked = identifier("STUDY", ReferringPhysicianName="no^one")
    answers = list(find(large, STUDY_ROOT, asked, cancelled=lambda: True))
    assert answers == [(0xFE00, None)]


# --- Hostile identifiers ----------------------------------------------------------------------

INJECTIONS = [
    "'; DROP TABLE study; --",
    '" OR 1=1 --',
    "%' OR '%'='",
    "%",
    "_____",
    "../../etc/passwd",
    "A\0B",
    "):;--",
]


@pytest.mark.parametrize("value", INJECTIONS)
@pytest.mark.parametrize("keyword", ["PatientID", "PatientName", "AccessionNumber"])
def test_values_are_never_statements(index: Index, keyword: str, value: str) -> None:
    for text in (value, f"{value}*", f"*{value}?"):
        assert ask(index, STUDY_ROOT, identifier("STUDY", **{keyword: text})) == []
    assert len(matches(index, STUDY_ROOT, identifier("STUDY"))) == 2


def test_ten_thousand_keys(index: Index) -> None:
    asked = encoded("STUDY", PatientID="P1") + b"".join(
        element(0x00110000 + number, b"x") for number in range(0x1000, 0x1000 + 10_000)
    )
    began = time.perf_counter()
    [(status, _)] = ask(index, STUDY_ROOT, decode(asked, True, True))
    assert status == 0xFF01
    assert time.perf_counter() - began < 15


@pytest.mark.parametrize(
    ("keyword", "filling"),
    [
        *(("PatientName", filling) for filling in ("x", "*", "?", "\\x", "1-", " *x", "=", "^")),
        *(("StudyDate", filling) for filling in ("x", "\\x", "1-")),
        *(("StudyID", filling) for filling in ("x", "*", " *x")),
        ("PatientComments", "x"),
    ],
)
def test_ten_megabytes_of_value(index: Index, keyword: str, filling: str) -> None:
    value = filling * (10_000_000 // len(filling))
    began = time.perf_counter()
    for fuzzy in (False, True):
        answers = ask(index, STUDY_ROOT, identifier("STUDY", **{keyword: value}), fuzzy=fuzzy)
        assert not answers or answers[0][0] in (0xFF00,) or answers[0][0].Status == 0xA900
    assert time.perf_counter() - began < 30


def test_ten_megabytes_of_uids(index: Index) -> None:
    uids = "\\".join(["1.2.1", *(f"1.2.840.{number}" for number in range(800_000))])
    [match] = matches(
        index, STUDY_ROOT, identifier("STUDY", StudyInstanceUID=uids[:10_000_000].rstrip("\\."))
    )
    assert match.StudyInstanceUID == "1.2.1"


def test_sequences_nested_a_thousand_deep(index: Index) -> None:
    value = b""
    for _ in range(1000):
        value = element(0x00081032, element(0xFFFEE000, value))
    data = encoded("STUDY") + value
    with pytest.raises(DatasetError):
        ask(index, STUDY_ROOT, decode(data, True, True))
    asked = Dataset()
    for _ in range(1000):
        outer = Dataset()
        outer.ProcedureCodeSequence = Sequence([asked])
        asked = outer
    asked.QueryRetrieveLevel = "STUDY"
    refusal(index, STUDY_ROOT, asked)


def test_sequences_that_are_none(index: Index) -> None:
    for value in (b"no items", b"\xfe\xff\x00\xe0\xff\xff\xff\x7f"):
        try:
            asked = identifier("STUDY", ProcedureCodeSequence=value)
        except DatasetError:
            continue
        refusal(index, STUDY_ROOT, asked)


def test_a_sequence_where_there_should_be_none(index: Index) -> None:
    asked = Dataset()
    asked.QueryRetrieveLevel = "STUDY"
    asked.add_new(0x00100020, "SQ", [Dataset()])
    assert refusal(index, STUDY_ROOT, asked).ErrorComment == "PatientID: must not be a sequence"


# --- Speed ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "keys", "table"),
    [
        (STUDY_ROOT, {"StudyInstanceUID": "1.2.3.4"}, "study_instance_uid=?"),
        (STUDY_ROOT, {"PatientID": "P100"}, "patient_id=?"),
        (STUDY_ROOT, {"PatientID": "P10*"}, "patient_id>? AND patient_id<?"),
        (STUDY_ROOT, {"AccessionNumber": "A100"}, "accession_number=?"),
        (STUDY_ROOT, {"StudyDate": "20200101"}, "study_date=?"),
    ],
)
def test_selections_use_an_index(
    large: Index, model: str, keys: dict[str, str], table: str
) -> None:
    statements = statements_of(large, identifier("STUDY", StudyDescription="", **keys), model)
    statement, parameters = statements[0]
    with large.reading() as connection:
        plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters).all()
    assert any(table in row[3] for row in plan), plan


@pytest.mark.parametrize(
    "keys",
    [
        {"StudyInstanceUID": "1.2.3.4"},
        {"PatientID": "P100"},
        {"PatientID": "P10*"},
        {"AccessionNumber": "A100"},
        {"StudyDate": "20200101"},
    ],
    ids=lambda keys: "".join(keys),
)
def test_selections_use_an_index_of_postgresql(large_postgres: Index, keys: dict[str, str]) -> None:
    """No table is read as a whole, neither for the matches nor for what is said of them."""
    statements = statements_of(large_postgres, identifier("STUDY", StudyDescription="", **keys))
    for statement, parameters in statements:
        with large_postgres.reading() as connection:
            rows = connection.exec_driver_sql(f"EXPLAIN {statement}", parameters).scalars().all()
        assert not [row for row in rows if "Seq Scan" in row], rows


def statements_of(index: Index, asked: Dataset, model: str = STUDY_ROOT) -> list[tuple[str, Any]]:
    """Return the SELECT statements of a query, with their parameters."""
    statements: list[tuple[str, Any]] = []

    @event.listens_for(index.engine, "before_cursor_execute")
    def remember(_c: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        statements.append((statement, parameters))

    ask(index, model, asked)
    event.remove(index.engine, "before_cursor_execute", remember)
    return [each for each in statements if each[0].startswith(("SELECT", "WITH"))]


# --- Retrieval --------------------------------------------------------------------------------


def sent(index: Index, model: str, asked: Dataset, **options: Any) -> list[str]:
    return [found.sop_instance_uid for found in instances(index, model, asked, **options)]


@pytest.mark.parametrize(
    ("model", "level", "keys", "count"),
    [
        (MOVE, "STUDY", {"StudyInstanceUID": "1.2.1"}, 4),
        (MOVE, "STUDY", {"StudyInstanceUID": "1.2.1\\1.2.2\\1.2.3"}, 8),
        (MOVE, "SERIES", {"StudyInstanceUID": "1.2.1", "SeriesInstanceUID": "1.2.1.2"}, 2),
        (
            MOVE,
            "IMAGE",
            {
                "StudyInstanceUID": "1.2.1",
                "SeriesInstanceUID": "1.2.1.2",
                "SOPInstanceUID": "1.2.1.2.1\\1.2.1.2.2\\1.2.2.1.1",
            },
            2,
        ),
        (PATIENT_ROOT_GET, "PATIENT", {"PatientID": "P1"}, 4),
        (PATIENT_ROOT_GET, "STUDY", {"PatientID": "P1", "StudyInstanceUID": "1.2.1\\1.2.2"}, 4),
        (MOVE, "STUDY", {"StudyInstanceUID": "9.9"}, 0),
        (MOVE, "STUDY", {"StudyInstanceUID": "1.2.1", "Modality": "MR", "StudyDate": "x"}, 4),
    ],
)
def test_retrieval(index: Index, model: str, level: str, keys: dict[str, str], count: int) -> None:
    assert len(sent(index, model, identifier(level, **keys))) == count


def test_what_is_found_to_be_sent(index: Index) -> None:
    asked = identifier(
        "IMAGE", StudyInstanceUID="1.2.1", SeriesInstanceUID="1.2.1.1", SOPInstanceUID="1.2.1.1.1"
    )
    [found] = instances(index, MOVE, asked)
    assert found == query.Found(
        "1.2.840.10008.5.1.4.1.1.2",
        "1.2.1.1.1",
        EXPLICIT_VR_LITTLE_ENDIAN,
        "objects/1.dcm",
    )


@pytest.mark.parametrize(
    ("model", "level", "keys"),
    [
        (MOVE, None, {}),
        (MOVE, "PATIENT", {"PatientID": "P1"}),
        (MOVE, "STUDY", {}),
        (MOVE, "STUDY", {"StudyInstanceUID": ""}),
        (MOVE, "STUDY", {"StudyInstanceUID": "*"}),
        (MOVE, "STUDY", {"PatientID": "P1"}),
        (MOVE, "SERIES", {"SeriesInstanceUID": "1.2.1.1"}),
        (MOVE, "STUDY", {"StudyInstanceUID": "1.2.1", "SeriesInstanceUID": "1.2.1.1"}),
        (PATIENT_ROOT_GET, "PATIENT", {"PatientID": "P*"}),
        (PATIENT_ROOT_GET, "PATIENT", {"PatientID": "P1\\P2"}),
        (PATIENT_ROOT_GET, "STUDY", {"StudyInstanceUID": "1.2.1"}),
    ],
)
def test_identifiers_of_retrieval_that_are_refused(
    index: Index, model: str, level: str | None, keys: dict[str, str]
) -> None:
    """At once, before anything is iterated over."""
    with pytest.raises(InvalidIdentifier) as caught:
        instances(index, model, identifier(level, **keys))
    assert caught.value.status.Status == 0xA900


def test_relational_retrieval(index: Index) -> None:
    asked = identifier("SERIES", SeriesInstanceUID="1.2.1.1\\1.2.2.2")
    assert len(sent(index, MOVE, asked, relational=True)) == 4
    asked = identifier("SERIES", StudyInstanceUID="1.2.2", SeriesInstanceUID="1.2.1.1\\1.2.2.2")
    assert len(sent(index, MOVE, asked, relational=True)) == 2


def test_patients_of_two_issuers(opened: Opened) -> None:
    patients = [patient_with_study(number) for number in (1, 2)]
    for patient, issuer in zip(patients, "AB", strict=True):
        patient.own |= {"PatientID": "P", "IssuerOfPatientID": issuer}
    index = opened(*patients)
    assert len(sent(index, PATIENT_ROOT_GET, identifier("PATIENT", PatientID="P"))) == 8
    asked = identifier("PATIENT", PatientID="P", IssuerOfPatientID="B")
    assert len(sent(index, PATIENT_ROOT_GET, asked)) == 4
