"""The registry of SOP classes and their service classes, without pydicom.

`tables` fills the registry with the UIDs; programs use it through `sop_class`.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, NamedTuple

from dicomwire import status
from dicomwire.status import StatusTable

if TYPE_CHECKING:
    from pydicom.uid import UID as _Text  # for programs, `sop_class` makes it this
else:
    _Text = str


class Service(Enum):
    """The service classes of PS3.4 whose SOP classes are used on the network."""

    VERIFICATION = "Verification"
    STORAGE = "Storage"
    QUERY_RETRIEVE = "Query/Retrieve"
    PROCEDURE_STEP = "Procedure Step"
    PRINT_MANAGEMENT = "Print Management"
    MEDIA_STORAGE = "Media Storage"
    STORAGE_COMMITMENT = "Storage Commitment"
    BASIC_WORKLIST = "Basic Worklist Management"
    APPLICATION_EVENT_LOGGING = "Application Event Logging"
    RELEVANT_PATIENT = "Relevant Patient Information Query"
    INSTANCE_AVAILABILITY = "Instance Availability Notification"
    MEDIA_CREATION = "Media Creation Management"
    HANGING_PROTOCOL = "Hanging Protocol Query/Retrieve"
    SUBSTANCE_ADMINISTRATION = "Substance Administration Query"
    COLOR_PALETTE = "Color Palette Query/Retrieve"
    IMPLANT_TEMPLATE = "Implant Template Query/Retrieve"
    UNIFIED_PROCEDURE_STEP = "Unified Procedure Step"
    RT_MACHINE_VERIFICATION = "RT Machine Verification"
    DISPLAY_SYSTEM = "Display System Management"
    NON_PATIENT_OBJECT_STORAGE = "Non-Patient Object Storage"
    DEFINED_PROCEDURE_PROTOCOL = "Defined Procedure Protocol Query/Retrieve"
    PROTOCOL_APPROVAL = "Protocol Approval Query/Retrieve"
    INVENTORY = "Inventory Query/Retrieve"
    STORAGE_MANAGEMENT = "Storage Management"
    UNKNOWN = "Unknown"
    """The service of a UID that is not a registered SOP class."""

    @property
    def sop_classes(self) -> tuple[SOPClass, ...]:
        """The SOP classes of the service in the order of their UIDs, without legacy ones."""
        return tuple(
            sorted(
                entry.sop_class
                for entry in REGISTRY.values()
                if entry.service is self and not entry.is_legacy
            )
        )

    def statuses(self, dimse_msg_type: str = "") -> StatusTable:
        """Return the statuses that a response of the service may have.

        Parameters
        ----------
        dimse_msg_type : str
            "C-FIND", "C-GET" or "C-MOVE"; the statuses of a query/retrieve service depend on it.
        """
        if self in QUERY_RETRIEVE:
            return _QUERY_RETRIEVE_STATUSES.get(dimse_msg_type, status.GENERAL_STATUS)
        return _STATUSES.get(self, status.GENERAL_STATUS)


class SOPClass(_Text):
    """The UID of a SOP class."""

    __slots__ = ()

    @property
    def service_class(self) -> Service:
        """The service class that the SOP class belongs to."""
        return service_of(self)

    @property
    def dimse_msg_type(self) -> str:
        """The operation of a query/retrieve SOP class ("C-FIND", "C-GET", "C-MOVE"), else ""."""
        entry = REGISTRY.get(self)
        return entry.dimse_msg_type if entry is not None else ""

    @property
    def statuses(self) -> StatusTable:
        """The statuses that a response of the SOP class may have."""
        entry = REGISTRY.get(self)
        return entry.statuses if entry is not None else status.GENERAL_STATUS


class Entry(NamedTuple):
    """The entry of a SOP class in the registry."""

    sop_class: SOPClass
    service: Service
    dimse_msg_type: str
    keyword: str
    name: str
    is_legacy: bool
    statuses: StatusTable


REGISTRY: dict[str, Entry] = {}


def define(
    uid: str,
    service: Service,
    dimse_msg_type: str = "",
    *,
    keyword: str = "",
    name: str = "",
    is_legacy: bool = False,
) -> SOPClass:
    """Register a SOP class; this replaces an earlier definition of `uid`.

    Parameters
    ----------
    keyword, name : str
        The keyword and name of a UID that is not in pydicom's dictionary.
    is_legacy : bool
        True for a retired SOP class; it is served, but `Service.sop_classes` omits it.
    """
    sop_class = SOPClass(uid)
    statuses = service.statuses(dimse_msg_type)
    REGISTRY[sop_class] = Entry(
        sop_class, service, dimse_msg_type, keyword, name, is_legacy, statuses
    )
    return sop_class


def sop_class_of(uid: str) -> SOPClass:
    """Return `uid` as a SOPClass, known or not."""
    entry = REGISTRY.get(uid)
    return entry.sop_class if entry is not None else SOPClass(uid)


def service_of(uid: str) -> Service:
    """Return the service class of a SOP class, and for any other UID `Service.UNKNOWN`."""
    entry = REGISTRY.get(uid)
    return entry.service if entry is not None else Service.UNKNOWN


QUERY_RETRIEVE = (
    Service.QUERY_RETRIEVE,
    Service.HANGING_PROTOCOL,
    Service.COLOR_PALETTE,
    Service.IMPLANT_TEMPLATE,
    Service.DEFINED_PROCEDURE_PROTOCOL,
    Service.PROTOCOL_APPROVAL,
    Service.INVENTORY,
)
"""The services with queries and retrieval."""

_QUERY_RETRIEVE_STATUSES = {
    "C-FIND": status.QR_FIND_SERVICE_CLASS_STATUS,
    "C-GET": status.QR_GET_SERVICE_CLASS_STATUS,
    "C-MOVE": status.QR_MOVE_SERVICE_CLASS_STATUS,
}

_STATUSES = {
    Service.STORAGE: status.STORAGE_SERVICE_CLASS_STATUS,
    Service.PROCEDURE_STEP: status.PROCEDURE_STEP_STATUS,
    Service.PRINT_MANAGEMENT: status.PRINT_JOB_MANAGEMENT_SERVICE_CLASS_STATUS,
    Service.BASIC_WORKLIST: status.MODALITY_WORKLIST_SERVICE_CLASS_STATUS,
    Service.APPLICATION_EVENT_LOGGING: status.APPLICATION_EVENT_LOGGING_SERVICE_CLASS_STATUS,
    Service.RELEVANT_PATIENT: status.RELEVANT_PATIENT_SERVICE_CLASS_STATUS,
    Service.MEDIA_CREATION: status.MEDIA_CREATION_MANAGEMENT_SERVICE_CLASS_STATUS,
    Service.SUBSTANCE_ADMINISTRATION: status.SUBSTANCE_ADMINISTRATION_SERVICE_CLASS_STATUS,
    Service.UNIFIED_PROCEDURE_STEP: status.UNIFIED_PROCEDURE_STEP_SERVICE_CLASS_STATUS,
    Service.RT_MACHINE_VERIFICATION: status.RT_MACHINE_VERIFICATION_SERVICE_CLASS_STATUS,
    Service.NON_PATIENT_OBJECT_STORAGE: status.NON_PATIENT_SERVICE_CLASS_STATUS,
    Service.STORAGE_MANAGEMENT: status.STORAGE_MANAGEMENT_SERVICE_CLASS_STATUS,
}
