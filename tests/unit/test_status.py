"""Status tables, categories, and statuses as data sets."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicomwire import status
from dicomwire.status import (
    GENERAL_STATUS,
    STATUS_CANCEL,
    STATUS_FAILURE,
    STATUS_PENDING,
    STATUS_SUCCESS,
    STATUS_UNKNOWN,
    STATUS_WARNING,
    STORAGE_SERVICE_CLASS_STATUS,
    Status,
    StatusTable,
    code_to_category,
    code_to_status,
)

COUNTS = {  # Success and Cancel are one each; then Failure, Warning and Pending
    "GENERAL_STATUS": (20, 2, 0),
    "VERIFICATION_SERVICE_CLASS_STATUS": (20, 2, 0),
    "STORAGE_SERVICE_CLASS_STATUS": (4628, 5, 0),
    "QR_FIND_SERVICE_CLASS_STATUS": (4119, 3, 2),
    "QR_MOVE_SERVICE_CLASS_STATUS": (4125, 3, 1),
    "QR_GET_SERVICE_CLASS_STATUS": (4124, 3, 1),
    "MODALITY_WORKLIST_SERVICE_CLASS_STATUS": (4118, 2, 2),
    "RELEVANT_PATIENT_SERVICE_CLASS_STATUS": (25, 2, 1),
    "SUBSTANCE_ADMINISTRATION_SERVICE_CLASS_STATUS": (4118, 2, 2),
    "NON_PATIENT_SERVICE_CLASS_STATUS": (23, 2, 0),
    "PROCEDURE_STEP_STATUS": (20, 3, 0),
    "PRINT_JOB_MANAGEMENT_SERVICE_CLASS_STATUS": (27, 10, 0),
    "STORAGE_COMMITMENT_SERVICE_CLASS_STATUS": (20, 2, 0),
    "STORAGE_MANAGEMENT_SERVICE_CLASS_STATUS": (20, 3, 0),
    "APPLICATION_EVENT_LOGGING_SERVICE_CLASS_STATUS": (27, 5, 0),
    "MEDIA_CREATION_MANAGEMENT_SERVICE_CLASS_STATUS": (24, 3, 0),
    "UNIFIED_PROCEDURE_STEP_SERVICE_CLASS_STATUS": (4118, 8, 2),
    "RT_MACHINE_VERIFICATION_SERVICE_CLASS_STATUS": (28, 2, 0),
}
TABLES: dict[str, StatusTable] = {name: getattr(status, name) for name in COUNTS}


@pytest.mark.parametrize("name", COUNTS)
def test_tables_have_the_known_number_of_codes_of_each_category(name: str) -> None:
    table = TABLES[name]
    counts = Counter(category for category, _ in table.values())
    failure, warning, pending = COUNTS[name]
    expected = {
        STATUS_SUCCESS: 1,
        STATUS_CANCEL: 1,
        STATUS_FAILURE: failure,
        STATUS_WARNING: warning,
        STATUS_PENDING: pending,
    }
    assert counts == {category: count for category, count in expected.items() if count}
    assert len(table) == len(set(table)) == counts.total()


@pytest.mark.parametrize("name", COUNTS)
def test_tables_agree_with_the_categories(name: str) -> None:
    for code, (category, description) in TABLES[name].items():
        assert code_to_category(code) == category
        assert description or category == STATUS_SUCCESS


@pytest.mark.parametrize("name", COUNTS)
def test_every_table_has_the_general_statuses(name: str) -> None:
    assert GENERAL_STATUS.items() <= TABLES[name].items()


def test_a_table_is_a_dict_to_its_readers() -> None:
    table = STORAGE_SERVICE_CLASS_STATUS
    assert table == dict(table)
    assert table != GENERAL_STATUS
    assert 0xA7FF in table
    assert 0xA800 not in table
    assert table[0xA700] == table[0xA7FF] == (STATUS_FAILURE, "Out of resources")
    assert table.get(0xB001) is None
    assert table.keys() >= {0x0000, 0xC000, 0xCFFF}
    with pytest.raises(KeyError):
        table[0xA800]
    with pytest.raises(TypeError):
        table[0xA800] = (STATUS_FAILURE, "")  # type: ignore[index]
    assert repr(table) == "<StatusTable of 4635 codes>"


def test_a_code_listed_by_itself_comes_before_its_range() -> None:
    table = StatusTable({range(1, 4): ("Failure", "range"), 2: ("Warning", "code")})
    assert dict(table) == {
        1: ("Failure", "range"),
        2: ("Warning", "code"),
        3: ("Failure", "range"),
    }
    assert len(table) == 3


@pytest.mark.parametrize(
    ("first", "last", "category"),
    [
        (0x0000, 0x0000, STATUS_SUCCESS),
        (0x0001, 0x0001, STATUS_WARNING),
        (0x0002, 0x0104, STATUS_UNKNOWN),
        (0x0105, 0x0106, STATUS_FAILURE),
        (0x0107, 0x0107, STATUS_WARNING),
        (0x0108, 0x010F, STATUS_UNKNOWN),
        (0x0110, 0x0115, STATUS_FAILURE),
        (0x0116, 0x0116, STATUS_WARNING),
        (0x0117, 0x0119, STATUS_FAILURE),
        (0x011A, 0x011F, STATUS_UNKNOWN),
        (0x0120, 0x0124, STATUS_FAILURE),
        (0x0125, 0x020F, STATUS_UNKNOWN),
        (0x0210, 0x0213, STATUS_FAILURE),
        (0x0214, 0x9FFF, STATUS_UNKNOWN),
        (0xA000, 0xAFFF, STATUS_FAILURE),
        (0xB000, 0xBFFF, STATUS_WARNING),
        (0xC000, 0xCFFF, STATUS_FAILURE),
        (0xD000, 0xFDFF, STATUS_UNKNOWN),
        (0xFE00, 0xFE00, STATUS_CANCEL),
        (0xFE01, 0xFEFF, STATUS_UNKNOWN),
        (0xFF00, 0xFF01, STATUS_PENDING),
        (0xFF02, 0x10000, STATUS_UNKNOWN),
    ],
)
def test_code_to_category(first: int, last: int, category: str) -> None:
    assert {code_to_category(code) for code in range(first, last + 1)} == {category}


@pytest.mark.parametrize("code", [-1, "0", None, 1.5])
def test_no_category_or_status_without_a_code(code: int) -> None:
    with pytest.raises(ValueError, match="status code"):
        code_to_category(code)
    with pytest.raises(ValueError, match="status code"):
        code_to_status(code)


@given(st.integers(min_value=0, max_value=0xFFFF))
def test_code_to_status(code: int) -> None:
    dataset = code_to_status(code)
    assert dataset.Status == code
    assert len(dataset) == 1


def test_code_to_status_refuses_what_does_not_fit() -> None:
    with pytest.raises(ValueError, match="65535"):
        code_to_status(0x10000)


def test_named_statuses() -> None:
    assert [(member.name, member.value) for member in Status] == [
        ("SUCCESS", 0x0000),
        ("CANCEL", 0xFE00),
        ("PENDING", 0xFF00),
        ("MOVE_DESTINATION_UNKNOWN", 0xA801),
    ]
    assert type(code_to_status(Status.CANCEL).Status) is int
    assert f"{Status.PENDING:#06x}" == "0xff00"


def test_add_a_named_status() -> None:
    Status.add("TEST_ONLY", 0xC123)
    try:
        assert Status.TEST_ONLY == 0xC123  # type: ignore[attr-defined]
    finally:
        del Status.TEST_ONLY  # type: ignore[attr-defined]
