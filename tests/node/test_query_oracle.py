"""Every kind of matching on a generated archive, against the oracle.

NODE_ARCHIVE_INSTANCES has the size of the archive, of 50 instances a study; by default it is small.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import islice
from typing import Any

import pytest
from archive_of import MR, Archive
from asking import PATIENT_ROOT, STUDY_ROOT, Keys, find, identifier
from backends import Backend
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from oracle import Oracle, texts_of
from oracle_queries import COMBINED, FUZZY, KINDS, NOTHING, E, S
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue

from dicomwire.node.index.writer import Index
from dicomwire.node.keys import QUERY_KEYS, UNIQUE, Level

INSTANCES = int(os.environ.get("NODE_ARCHIVE_INSTANCES", "1500"))
PER_STUDY = 50 if INSTANCES >= 10_000 else 10
VR = {key.keyword: key.vr for key in QUERY_KEYS.values()}


@pytest.fixture(scope="module")
def archive() -> Archive:
    return Archive(INSTANCES // PER_STUDY, INSTANCES)


@pytest.fixture(scope="module")
def index(
    archive: Archive, module_backend: Backend, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Index]:
    with archive.insert(module_backend.database(tmp_path_factory.mktemp("node"))) as index:
        yield index


def check(archive: Archive, index: Index, level: Level, keys: Keys, **negotiated: bool) -> int:
    """Compare the answers to a relational query with the oracle's; return how many there are."""
    unique = UNIQUE[level].keyword
    asked = identifier(level.value, **{unique: "", **keys})
    model = PATIENT_ROOT if level is Level.PATIENT else STUDY_ROOT
    answers = list(find(index, model, asked, relational=True, **negotiated))
    assert {status for status, _ in answers} <= {0xFF00}
    found = [match for _, match in answers if match is not None]
    oracle = Oracle(
        archive,
        fuzzy=negotiated.get("fuzzy", False),
        combined=negotiated.get("combined_datetime", False),
    )
    shown = [unique, *(keyword for keyword in keys if keyword != unique and VR[keyword] != "SQ")]
    expected = sorted(
        ["\\".join(texts_of(entity, keyword)) for keyword in shown]
        for entity in oracle.find(level, keys)
    )
    assert sorted(_said(match, shown) for match in found) == expected
    return len(found)


def _said(match: Dataset, keywords: list[str]) -> list[str]:
    said = []
    for keyword in keywords:
        value = match[keyword].value
        values = value if isinstance(value, MultiValue) else [value]
        said.append("\\".join("" if each is None else str(each) for each in values))
    return said


@pytest.mark.parametrize(("kind", "level", "keys"), KINDS, ids=[kind for kind, _, _ in KINDS])
def test_kinds_of_matching(
    archive: Archive, index: Index, kind: str, level: Level, keys: Keys
) -> None:
    found = check(archive, index, level, keys)
    assert (found == 0) == (kind in NOTHING)


@pytest.mark.parametrize("name", FUZZY)
def test_fuzzy_names(archive: Archive, index: Index, name: str) -> None:
    check(archive, index, Level.STUDY, {"PatientName": name}, fuzzy=True)


@pytest.mark.parametrize("keys", [each[1] for each in COMBINED], ids=[c[0] for c in COMBINED])
def test_combined_dates_and_times(archive: Archive, index: Index, keys: Keys) -> None:
    check(archive, index, Level.STUDY, keys, combined_datetime=True)
    check(archive, index, Level.STUDY, keys)


def test_a_list_longer_than_a_statement_takes(archive: Archive, index: Index) -> None:
    uids = [str(entity.own["SOPInstanceUID"]) for entity in archive.entities(Level.IMAGE)][:1200]
    keys = {"SOPInstanceUID": "\\".join(uids), "SOPClassUID": MR}
    assert 0 < check(archive, index, Level.IMAGE, keys) < len(uids)


# --- Queries made by chance -------------------------------------------------------------------

TEXTS = ["StudyDescription", "SeriesDescription", "PatientID", "AccessionNumber", "Modality"]
WORDS = ["PatientName", "ReferringPhysicianName", "OtherPatientNames"]


@st.composite
def patterns(draw: st.DrawFn, values: list[str]) -> str:
    """Return one of some values, with parts of it replaced by wildcards."""
    value = draw(st.sampled_from(values))
    for _ in range(draw(st.integers(0, 2))):
        at = draw(st.integers(0, len(value)))
        until = draw(st.integers(at, len(value)))
        value = value[:at] + draw(st.sampled_from("*?")) + value[until:]
    return value.replace("\\", "")


@st.composite
def queries(draw: st.DrawFn, archive: Archive) -> tuple[Level, Any]:
    """Return a level and keys that have something to do with what is in an archive."""
    level = draw(st.sampled_from([S, E]))
    entity = draw(st.sampled_from(list(islice(archive.entities(Level.IMAGE), 500))))
    known = [
        keyword
        for keyword in (*TEXTS, *WORDS, "StudyDate", "StudyTime")
        if next(key for key in QUERY_KEYS.values() if key.keyword == keyword).level.depth
        <= level.depth
    ]
    keys = {}
    for keyword in draw(st.lists(st.sampled_from(known), min_size=1, max_size=3, unique=True)):
        values = texts_of(entity, keyword) or [""]
        if keyword in (*TEXTS, *WORDS):
            keys[keyword] = draw(patterns(values))
        elif len(values[0]) != 4 or keyword == "StudyTime":
            keys[keyword] = values[0] + draw(st.sampled_from(["", "-"] if values[0] else [""]))
    return level, keys


@settings(
    max_examples=20 if INSTANCES >= 10_000 else 75,
    suppress_health_check=list(HealthCheck),
)
@given(data=st.data())
def test_queries_made_by_chance(archive: Archive, index: Index, data: st.DataObject) -> None:
    level, keys = data.draw(queries(archive))
    check(archive, index, level, keys, fuzzy=data.draw(st.booleans()))
