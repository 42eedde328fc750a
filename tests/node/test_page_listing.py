"""The statements of the list on each kind of index: the same studies as a search in Python finds.

TEST_LISTED=100000 tries so long a list.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import pytest
from archive_of import Archive, Entity
from backends import Backend

from dicomwire.node.keys import Level
from dicomwire.node.names import fold_name
from dicomwire.node.visible import StudyFilter, VisibleIndex
from dicomwire.node.web.page.details import instances_of, study_of
from dicomwire.node.web.page.listing import Wanted, existing, modalities, studies, uids

STUDIES = 120
MODALITY = "CT"


@pytest.fixture(scope="module")
def archive() -> Archive:
    return Archive(STUDIES, 3 * STUDIES)


@pytest.fixture(scope="module")
def index(
    archive: Archive, module_backend: Backend, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[VisibleIndex]:
    with archive.insert(module_backend.database(tmp_path_factory.mktemp("node"))) as opened:
        yield VisibleIndex(opened, None)


def has_word(study: Entity, word: str) -> bool:
    """Return whether a study has a word, by the attributes that the list shows."""
    values = study.values
    texts = [values["PatientID"], values["AccessionNumber"], values["StudyDescription"]]
    is_in_text = any(word.lower() in text.lower() for text in texts)
    is_in_name = fold_name(word) in fold_name(values["PatientName"])
    return is_in_text or is_in_name or word == values["StudyInstanceUID"]


@pytest.mark.parametrize("words", ["", "doe", "DOE jane", "muller", "山田", "a1", "50%", "1.2.3.7"])
def test_words_find_what_a_search_in_python_finds(
    archive: Archive, index: VisibleIndex, words: str
) -> None:
    expected = [
        each.own["StudyInstanceUID"]
        for each in archive.entities(Level.STUDY)
        if all(has_word(each, word) for word in words.split())
    ]
    found = studies(index, Wanted(words, sort="received"), most=STUDIES)
    assert sorted(each.study_instance_uid for each in found.studies) == sorted(expected)
    assert found.total == len(expected)
    assert uids(index, Wanted(words), STUDIES) != [] or not expected


@pytest.mark.parametrize("sort", ["date", "patient", "accession", "received"])
def test_pages_have_each_study_once_in_either_order(index: VisibleIndex, sort: str) -> None:
    def all_of(order: str) -> list[str]:
        pages = [studies(index, Wanted(sort=order), start, 50) for start in (0, 50, 100)]
        assert {page.total for page in pages} == {STUDIES}
        return [each.study_instance_uid for page in pages for each in page.studies]

    up, down = all_of(sort), all_of(f"-{sort}")
    assert len({*up}) == STUDIES
    assert up == down[::-1]


def test_a_user_sees_a_part(archive: Archive, index: VisibleIndex) -> None:
    mine = VisibleIndex(index._index, StudyFilter(("ModalitiesInStudy=CT", "StudyDate=2020*")))
    found = studies(mine, Wanted(), most=STUDIES)
    assert 0 < found.total < STUDIES
    assert all(MODALITY in each.modalities for each in found.studies)
    assert all(each.study_date.startswith("2020") for each in found.studies)
    seen = [each.study_instance_uid for each in found.studies]
    everything = [each.own["StudyInstanceUID"] for each in archive.entities(Level.STUDY)]
    assert sorted(existing(mine, everything)) == sorted(seen)
    hidden = next(uid for uid in everything if uid not in seen)
    assert study_of(mine, hidden) is None
    assert instances_of(mine, hidden, f"{hidden}.0") == []
    assert MODALITY in modalities(mine)


def test_a_study_in_detail(archive: Archive, index: VisibleIndex) -> None:
    for entity in list(archive.entities(Level.STUDY))[:10]:
        uid = entity.own["StudyInstanceUID"]
        study = study_of(index, uid)
        assert study is not None
        assert len(study.series) == len(entity.below)
        assert study.instances == len(list(entity.descendants(Level.IMAGE)))
        for series in study.series:
            listed = instances_of(index, uid, series.series_instance_uid)
            assert len(listed) == series.instances
            assert [each.frames for each in listed] == [1] * series.instances


def test_a_long_list_opens_in_half_a_second(backend: Backend, tmp_path: Path) -> None:
    number = int(os.environ.get("TEST_LISTED", "200"))
    with Archive(number, 2 * number).insert(backend.database(tmp_path)) as opened:
        index = VisibleIndex(opened, None)
        for words, sort in product(("", "doe", "yamada tar", "nobody"), ("-date", "patient")):
            times = []
            for _ in range(3):
                began = time.perf_counter()
                studies(index, Wanted(words, sort=sort))
                modalities(index)
                times.append(time.perf_counter() - began)
            assert min(times) < 0.5
