"""The generated tables: up to date, complete and in order."""

from __future__ import annotations

import runpy
import sys
from collections.abc import Callable
from pathlib import Path

import pydicom
import pytest
from pydicom.uid import UID

from dicomwire import sop_class
from dicomwire.registry import tables
from dicomwire.registry.services import Service
from dicomwire.registry.tables import (
    ALL_TRANSFER_SYNTAXES,
    CONTEXT_LISTS,
    DEFAULT_TRANSFER_SYNTAXES,
)
from dicomwire.sop_class import SOPClass

ROOT = Path(__file__).parents[2]
GENERATOR = ROOT / "tools" / "make_tables.py"
MADE_WITH_THIS_PYDICOM = f"pydicom {pydicom.__version__}.\n" in Path(tables.__file__).read_text()

CONTEXT_COUNTS = {
    "AllStoragePresentationContexts": 170,
    "ApplicationEventLoggingPresentationContexts": 2,
    "BasicWorklistManagementPresentationContexts": 1,
    "ColorPalettePresentationContexts": 3,
    "DefinedProcedureProtocolPresentationContexts": 3,
    "DisplaySystemPresentationContexts": 1,
    "HangingProtocolPresentationContexts": 3,
    "ImplantTemplatePresentationContexts": 9,
    "InstanceAvailabilityPresentationContexts": 1,
    "MediaCreationManagementPresentationContexts": 1,
    "MediaStoragePresentationContexts": 1,
    "ModalityPerformedPresentationContexts": 3,
    "NonPatientObjectPresentationContexts": 9,
    "PrintManagementPresentationContexts": 11,
    "ProcedureStepPresentationContexts": 3,
    "ProtocolApprovalPresentationContexts": 3,
    "QueryRetrievePresentationContexts": 13,
    "RTMachineVerificationPresentationContexts": 2,
    "RelevantPatientInformationPresentationContexts": 3,
    "StorageCommitmentPresentationContexts": 1,
    "StoragePresentationContexts": 120,
    "SubstanceAdministrationPresentationContexts": 2,
    "UnifiedProcedurePresentationContexts": 5,
    "VerificationPresentationContexts": 1,
}


def sop_classes_by_keyword() -> dict[str, SOPClass]:
    return {name: value for name, value in vars(sop_class).items() if isinstance(value, SOPClass)}


@pytest.fixture
def generate(monkeypatch: pytest.MonkeyPatch) -> Callable[..., object]:
    """Run a generator, and return its exit code."""

    def run(program: Path, *arguments: str) -> object:
        monkeypatch.setattr(sys, "argv", [str(program), *arguments])
        with pytest.raises(SystemExit) as end:
            runpy.run_path(str(program), run_name="__main__")
        return end.value.code

    return run


@pytest.mark.skipif(not MADE_WITH_THIS_PYDICOM, reason="made with another dictionary of UIDs")
def test_the_committed_tables_are_what_the_generator_writes(
    generate: Callable[..., object],
) -> None:
    assert generate(GENERATOR, "--check") == 0


def test_the_check_notices_stale_tables(
    generate: Callable[..., object], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / "tools" / GENERATOR.name
    stale = tmp_path / "src" / "dicomwire" / "registry" / "tables.py"
    copy.parent.mkdir()
    stale.parent.mkdir(parents=True)
    copy.write_text(GENERATOR.read_text())
    stale.write_text(Path(tables.__file__).read_text() + "\n")

    assert generate(copy, "--check") == 1
    assert "stale" in capsys.readouterr().err
    assert generate(copy) == 0
    assert generate(copy, "--check") == 0


def test_context_lists_have_the_known_lengths() -> None:
    assert {name: len(uids) for name, uids in CONTEXT_LISTS.items()} == CONTEXT_COUNTS


@pytest.mark.parametrize("name", CONTEXT_COUNTS)
def test_a_context_list_is_in_the_order_of_its_uids(name: str) -> None:
    uids = CONTEXT_LISTS[name]
    assert list(uids) == sorted(set(uids))


def test_the_common_storage_classes_leave_room_for_others_in_a_request() -> None:
    common = CONTEXT_LISTS["StoragePresentationContexts"]
    assert len(common) + 8 == 128
    assert {uid.service_class for uid in common} == {Service.STORAGE}


def test_all_storage_is_not_retired() -> None:
    assert not [
        uid for uid in CONTEXT_LISTS["AllStoragePresentationContexts"] if UID(uid).is_retired
    ]


def test_transfer_syntaxes() -> None:
    assert DEFAULT_TRANSFER_SYNTAXES == [
        "1.2.840.10008.1.2",
        "1.2.840.10008.1.2.1",
        "1.2.840.10008.1.2.1.99",
        "1.2.840.10008.1.2.2",
    ]
    assert len(ALL_TRANSFER_SYNTAXES) == 45
    assert ALL_TRANSFER_SYNTAXES[:4] == DEFAULT_TRANSFER_SYNTAXES
    numbers = [[int(part) for part in uid.split(".")] for uid in ALL_TRANSFER_SYNTAXES]
    assert numbers == sorted(numbers)
    assert {"1.2.840.10008.1.2.4.110", "1.2.840.10008.1.2.8.1"} <= set(ALL_TRANSFER_SYNTAXES)


def test_every_uid_is_valid_and_has_the_keyword_of_the_standard() -> None:
    for name, uid in sop_classes_by_keyword().items():
        assert uid.is_valid
        assert getattr(sop_class, uid.keyword) is uid, name
        standard = UID(uid).keyword
        assert uid.keyword == (standard or name)


def test_keywords_that_differ_from_the_standard_are_aliases() -> None:
    aliases = {name for name, uid in sop_classes_by_keyword().items() if uid.keyword != name}
    assert len(aliases) == 9
    known = sop_class.ModalityWorklistInformationFind
    assert known is sop_class.ModalityWorklistInformationModelFind


@pytest.mark.parametrize(
    ("name", "uid"),
    [
        ("DisplaySystemInstance", "1.2.840.10008.5.1.1.40.1"),
        ("PrinterConfigurationRetrievalInstance", "1.2.840.10008.5.1.1.17.376"),
        ("PrinterInstance", "1.2.840.10008.5.1.1.17"),
        ("ProceduralEventLoggingInstance", "1.2.840.10008.1.40.1"),
        ("StorageCommitmentPushModelInstance", "1.2.840.10008.1.20.1.1"),
        ("StorageManagementInstance", "1.2.840.10008.5.1.4.1.1.201.1.1"),
        ("SubstanceAdministrationLoggingInstance", "1.2.840.10008.1.42.1"),
        ("UPSFilteredGlobalSubscriptionInstance", "1.2.840.10008.5.1.4.34.5.1"),
        ("UPSGlobalSubscriptionInstance", "1.2.840.10008.5.1.4.34.5"),
    ],
)
def test_well_known_instances(name: str, uid: str) -> None:
    instance = getattr(sop_class, name)
    assert instance == uid
    assert isinstance(instance, UID)
