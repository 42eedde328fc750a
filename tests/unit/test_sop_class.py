"""SOP classes by keyword, their service classes, and registering one more."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Iterator

import pytest
from pydicom.uid import UID

from dicomwire import sop_class, status
from dicomwire.registry import services
from dicomwire.sop_class import (
    CTImageStorage,
    LabelMapSegmentationStorage,
    MediaStorageDirectoryStorage,
    ModalityWorklistInformationFind,
    PatientRootQueryRetrieveInformationModelFind,
    Service,
    SOPClass,
    UltrasoundImageStorageRetired,
    Verification,
    register_uid,
    uid_to_service_class,
    uid_to_sop_class,
)

COUNTS = {
    Service.VERIFICATION: 1,
    Service.STORAGE: 170,
    Service.QUERY_RETRIEVE: 13,
    Service.PROCEDURE_STEP: 3,
    Service.PRINT_MANAGEMENT: 11,
    Service.MEDIA_STORAGE: 1,
    Service.STORAGE_COMMITMENT: 1,
    Service.BASIC_WORKLIST: 1,
    Service.APPLICATION_EVENT_LOGGING: 2,
    Service.RELEVANT_PATIENT: 3,
    Service.INSTANCE_AVAILABILITY: 1,
    Service.MEDIA_CREATION: 1,
    Service.HANGING_PROTOCOL: 3,
    Service.SUBSTANCE_ADMINISTRATION: 2,
    Service.COLOR_PALETTE: 3,
    Service.IMPLANT_TEMPLATE: 9,
    Service.UNIFIED_PROCEDURE_STEP: 5,
    Service.RT_MACHINE_VERIFICATION: 2,
    Service.DISPLAY_SYSTEM: 1,
    Service.NON_PATIENT_OBJECT_STORAGE: 9,
    Service.DEFINED_PROCEDURE_PROTOCOL: 3,
    Service.PROTOCOL_APPROVAL: 3,
    Service.INVENTORY: 3,
    Service.STORAGE_MANAGEMENT: 1,
    Service.UNKNOWN: 0,
}


@pytest.fixture
def registry() -> Iterator[None]:
    """Undo what a test registers."""
    entries = dict(services.REGISTRY)
    names = set(vars(sop_class))
    yield
    services.REGISTRY.clear()
    services.REGISTRY.update(entries)
    for name in vars(sop_class).keys() - names:
        delattr(sop_class, name)


def test_sop_classes_per_service() -> None:
    assert {service: len(service.sop_classes) for service in Service} == COUNTS


def test_a_sop_class_is_a_uid_with_a_service() -> None:
    assert CTImageStorage == "1.2.840.10008.5.1.4.1.1.2"
    assert isinstance(CTImageStorage, UID)
    assert isinstance(CTImageStorage, SOPClass)
    assert CTImageStorage.service_class is Service.STORAGE
    assert CTImageStorage.name == "CT Image Storage"
    assert CTImageStorage.keyword == "CTImageStorage"
    assert CTImageStorage.dimse_msg_type == ""


def test_names_of_those_that_pydicom_does_not_know() -> None:
    assert LabelMapSegmentationStorage.name == "Label Map Segmentation Storage"
    assert LabelMapSegmentationStorage.keyword == "LabelMapSegmentationStorage"
    assert LabelMapSegmentationStorage.service_class is Service.STORAGE


def test_the_keyword_that_users_know_is_the_same_sop_class() -> None:
    assert ModalityWorklistInformationFind.keyword == "ModalityWorklistInformationModelFind"
    assert ModalityWorklistInformationFind.service_class is Service.BASIC_WORKLIST


def test_a_retired_storage_class_is_served_but_not_counted() -> None:
    assert UltrasoundImageStorageRetired.service_class is Service.STORAGE
    assert UltrasoundImageStorageRetired not in Service.STORAGE.sop_classes


def test_the_service_survives_copies() -> None:
    assert copy.deepcopy(Verification).service_class is Service.VERIFICATION
    assert pickle.loads(pickle.dumps(Verification)).service_class is Service.VERIFICATION
    assert SOPClass("1.2.840.10008.1.1").service_class is Service.VERIFICATION


def test_dir_lists_the_keywords() -> None:
    assert {"CTImageStorage", "PrinterInstance", "register_uid"} <= set(dir(sop_class))


@pytest.mark.parametrize(
    ("uid", "service"),
    [
        (Verification, Service.VERIFICATION),
        (UID(CTImageStorage), Service.STORAGE),
        (str(CTImageStorage), Service.STORAGE),
        (MediaStorageDirectoryStorage, Service.MEDIA_STORAGE),
        ("1.2.840.10008.1.2", Service.UNKNOWN),
        ("1.2.3", Service.UNKNOWN),
        ("", Service.UNKNOWN),
    ],
)
def test_uid_to_service_class(uid: str, service: Service) -> None:
    assert uid_to_service_class(uid) is service
    assert uid_to_sop_class(uid) == uid
    assert uid_to_sop_class(uid).service_class is service


def test_a_uid_that_no_standard_allows_is_looked_up_in_silence() -> None:
    unknown = uid_to_sop_class("not a UID")
    assert unknown.service_class is Service.UNKNOWN
    assert unknown.name == "not a UID"
    assert unknown.keyword == ""
    assert unknown.dimse_msg_type == ""


@pytest.mark.parametrize(
    ("sop_class", "table"),
    [
        (Verification, status.GENERAL_STATUS),
        (CTImageStorage, status.STORAGE_SERVICE_CLASS_STATUS),
        (PatientRootQueryRetrieveInformationModelFind, status.QR_FIND_SERVICE_CLASS_STATUS),
        (SOPClass("1.2.840.10008.5.1.4.1.2.2.2"), status.QR_MOVE_SERVICE_CLASS_STATUS),
        (SOPClass("1.2.840.10008.5.1.4.39.4"), status.QR_GET_SERVICE_CLASS_STATUS),
        (ModalityWorklistInformationFind, status.MODALITY_WORKLIST_SERVICE_CLASS_STATUS),
        (SOPClass("1.2.3"), status.GENERAL_STATUS),
    ],
)
def test_statuses_of_a_sop_class(sop_class: SOPClass, table: status.StatusTable) -> None:
    assert sop_class.statuses is table


def test_statuses_of_query_retrieve_depend_on_the_message() -> None:
    assert Service.INVENTORY.statuses("C-MOVE") is status.QR_MOVE_SERVICE_CLASS_STATUS
    assert Service.INVENTORY.statuses() is status.GENERAL_STATUS
    assert Service.STORAGE.statuses("C-STORE") is status.STORAGE_SERVICE_CLASS_STATUS


@pytest.mark.usefixtures("registry")
def test_register_a_private_sop_class() -> None:
    register_uid("1.2.3.4", "PrivateStorage", Service.STORAGE)
    private = vars(sop_class)["PrivateStorage"]
    assert private == "1.2.3.4"
    assert private.name == private.keyword == "PrivateStorage"
    assert uid_to_sop_class("1.2.3.4") is private
    assert uid_to_service_class("1.2.3.4") is Service.STORAGE
    assert private in Service.STORAGE.sop_classes


@pytest.mark.usefixtures("registry")
def test_register_for_query_retrieve() -> None:
    register_uid("1.2.3.5", "PrivateFind", Service.QUERY_RETRIEVE, "C-FIND")
    private = uid_to_sop_class("1.2.3.5")
    assert private.dimse_msg_type == "C-FIND"
    assert private.statuses is status.QR_FIND_SERVICE_CLASS_STATUS


@pytest.mark.usefixtures("registry")
def test_the_last_registration_wins() -> None:
    register_uid("1.2.3.4", "Private", Service.STORAGE)
    register_uid("1.2.3.4", "Private", Service.NON_PATIENT_OBJECT_STORAGE)
    register_uid(MediaStorageDirectoryStorage, "MediaDirectory", Service.STORAGE)
    assert uid_to_service_class("1.2.3.4") is Service.NON_PATIENT_OBJECT_STORAGE
    assert MediaStorageDirectoryStorage.service_class is Service.STORAGE
    assert MediaStorageDirectoryStorage.keyword == "MediaStorageDirectoryStorage"


@pytest.mark.parametrize(
    ("uid", "keyword", "dimse_msg_type"),
    [
        ("", "Private", "C-FIND"),
        ("1.2.x", "Private", "C-FIND"),
        ("1" * 65, "Private", "C-FIND"),
        ("1.2.3", "", "C-FIND"),
        ("1.2.3", "Two Words", "C-FIND"),
        ("1.2.3", "for", "C-FIND"),
        ("1.2.3", "CTImageStorage", "C-FIND"),
        ("1.2.3", "register_uid", "C-FIND"),
        ("1.2.3", "Private", ""),
        ("1.2.3", "Private", "C-STORE"),
    ],
)
def test_invalid_registrations(uid: str, keyword: str, dimse_msg_type: str) -> None:
    with pytest.raises(ValueError, match=r"UID|keyword|dimse_msg_type"):
        register_uid(uid, keyword, Service.QUERY_RETRIEVE, dimse_msg_type)
    assert uid_to_service_class("1.2.3") is Service.UNKNOWN
    assert "Private" not in vars(sop_class)


def test_a_registration_needs_a_service() -> None:
    with pytest.raises(TypeError, match="Service"):
        register_uid("1.2.3", "Private", str)  # type: ignore[arg-type]
