"""Queries of a running node: what is negotiated, refused and cancelled."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from archive_of import Archive
from asking import PATIENT_ROOT, PATIENT_STUDY_ONLY, STUDY_ROOT, identifier
from backends import of_folder
from pydicom.dataset import Dataset
from running_node import FIND, associate, find, make_object, running, store

from dicomwire.node.server import Node
from dicomwire.pdu_primitives import SOPClassExtendedNegotiation

RELATIONAL, COMBINED, FUZZY = b"\1", b"\0\1", b"\0\0\1"


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """A node with two studies of a patient, of two days."""
    with running(tmp_path_factory.mktemp("node")) as node:
        first = make_object(1, StudyTime="230000", PatientName="Müller^Jörg")
        second = make_object(1, study="1.2.4", StudyDate="20250403", StudyTime="010000")
        assert store(node, first, second) == [0, 0]
        yield node


def found(node: Node, asked: Dataset, application_information: bytes = b"") -> list[Dataset]:
    """Return the matches, with what is asked for in SOP class extended negotiation."""
    items = []
    if application_information:
        items.append(SOPClassExtendedNegotiation())
        items[0].sop_class_uid = FIND
        items[0].service_class_application_information = application_information
    *matches, (last, _) = find(node, asked, ext_neg=items)
    assert last.Status == 0x0000, last
    return [match for _, match in matches if match is not None]


def test_fuzzy_names_where_negotiated(node: Node) -> None:
    asked = identifier("STUDY", PatientName="jorg muller")
    assert found(node, asked) == []
    match, _ = found(node, asked, FUZZY)
    assert match.PatientName == "Müller^Jörg"


def test_combined_dates_and_times_where_negotiated(node: Node) -> None:
    asked = identifier("STUDY", StudyDate="20250402-20250403", StudyTime="2200-0200")
    assert found(node, asked) == []
    assert len(found(node, asked, COMBINED)) == 2


@pytest.mark.parametrize("keyword", ["StudyDate", "StudyTime", "StudyInstanceUID", "StudyID"])
def test_an_asterisk_matches_all(node: Node, keyword: str) -> None:
    assert len(found(node, identifier("STUDY", **{keyword: "*"}))) == 2


@pytest.mark.parametrize(
    ("model", "level", "keys", "count"),
    [
        (PATIENT_ROOT, "STUDY", {}, 2),
        (PATIENT_ROOT, "STUDY", {"PatientID": "P*"}, 2),
        (PATIENT_ROOT, "SERIES", {"StudyInstanceUID": "1.2.4"}, 1),
        (PATIENT_ROOT, "IMAGE", {"SeriesInstanceUID": "1.2.4.1\\1.2.3.1"}, 2),
        (STUDY_ROOT, "SERIES", {"Modality": "CT"}, 2),
        (PATIENT_STUDY_ONLY, "STUDY", {"PatientID": ""}, 2),
    ],
)
def test_a_unique_key_above_that_is_missing_is_universal(
    node: Node, model: str, level: str, keys: dict[str, str], count: int
) -> None:
    with associate(node, model) as assoc:
        *matches, (last, _) = assoc.send_c_find(identifier(level, **keys), model)
    assert (last.Status, len(matches)) == (0x0000, count)


def test_strict_queries_have_all_unique_keys_above_unless_relational(tmp_path: Path) -> None:
    asked = identifier("SERIES", Modality="CT", SeriesInstanceUID="")
    with running(tmp_path, strict_queries=True) as node:
        assert store(node, make_object(1)) == [0]
        assert len(found(node, asked, RELATIONAL)) == 1
        [(status, match)] = find(node, asked)
    assert match is None
    assert status.Status == 0xA900
    assert status.OffendingElement == 0x0020000D
    assert status.ErrorComment == "StudyInstanceUID must have one value"


def test_answers_come_in_the_asker_s_character_set(node: Node) -> None:
    for character_set in ("ISO_IR 100", "ISO_IR 192"):
        asked = identifier("STUDY", character_set, PatientName="MÜLLER*")
        match, _ = found(node, asked)
        assert match.SpecificCharacterSet == character_set
        assert str(match.PatientName) == "Müller^Jörg"


def test_a_query_is_cancelled(tmp_path: Path) -> None:
    with running(tmp_path) as node, associate(node, FIND) as assoc:
        Archive(2_000, 2_000).insert(of_folder(tmp_path).database(tmp_path)).close()
        statuses = []
        for status, _ in assoc.send_c_find(identifier("STUDY"), FIND, msg_id=7):
            statuses.append(status.Status)
            if len(statuses) == 5:
                assoc.send_c_cancel(7, query_model=FIND)
    assert statuses[-1] == 0xFE00
    assert len(statuses) < 1_500
