"""The service classes that use C-services, as names to register SOP classes with.

They provide nothing: dicomwire does. A service class is a member of `dicomwire.sop_class.Service`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, TypeAlias

from pydicom.dataset import Dataset
from pydicom.uid import UID

from dicomwire.sop_class import Service
from pynetdicom._globals import (
    STATUS_CANCEL as STATUS_CANCEL,
    STATUS_FAILURE as STATUS_FAILURE,
    STATUS_PENDING as STATUS_PENDING,
    STATUS_SUCCESS as STATUS_SUCCESS,
    STATUS_WARNING as STATUS_WARNING,
)
from pynetdicom.status import StatusDictType as StatusDictType

DatasetType: TypeAlias = Dataset | None
DestinationType: TypeAlias = tuple[str, int] | tuple[str, int, dict[str, Any]]
StatusType: TypeAlias = int | Dataset


class _Statuses:
    """The statuses of a service class."""

    def __get__(self, service: Any, owner: type[ServiceClass]) -> Mapping[int, tuple[str, str]]:
        return owner.service.statuses()


class ServiceClass:
    """The service class of unknown SOP classes."""

    service: ClassVar[Service] = Service.UNKNOWN
    statuses = _Statuses()


class VerificationServiceClass(ServiceClass):
    """PS3.4 Annex A."""

    service = Service.VERIFICATION


class StorageServiceClass(ServiceClass):
    """PS3.4 Annex B."""

    service = Service.STORAGE
    uid = UID("1.2.840.10008.4.2")


class NonPatientObjectStorageServiceClass(StorageServiceClass):
    """PS3.4 Annex GG."""

    service = Service.NON_PATIENT_OBJECT_STORAGE


class QueryRetrieveServiceClass(ServiceClass):
    """PS3.4 Annex C."""

    service = Service.QUERY_RETRIEVE


class BasicWorklistManagementServiceClass(QueryRetrieveServiceClass):
    """PS3.4 Annex K."""

    service = Service.BASIC_WORKLIST


class HangingProtocolQueryRetrieveServiceClass(QueryRetrieveServiceClass):
    """PS3.4 Annex U."""

    service = Service.HANGING_PROTOCOL


class SubstanceAdministrationQueryServiceClass(QueryRetrieveServiceClass):
    """PS3.4 Annex V."""

    service = Service.SUBSTANCE_ADMINISTRATION


class ColorPaletteQueryRetrieveServiceClass(QueryRetrieveServiceClass):
    """PS3.4 Annex X."""

    service = Service.COLOR_PALETTE


class ImplantTemplateQueryRetrieveServiceClass(QueryRetrieveServiceClass):
    """PS3.4 Annex BB."""

    service = Service.IMPLANT_TEMPLATE


class DefinedProcedureProtocolQueryRetrieveServiceClass(QueryRetrieveServiceClass):
    """PS3.4 Annex HH."""

    service = Service.DEFINED_PROCEDURE_PROTOCOL


class ProtocolApprovalQueryRetrieveServiceClass(QueryRetrieveServiceClass):
    """PS3.4 Annex II."""

    service = Service.PROTOCOL_APPROVAL


class InventoryQueryRetrieveServiceClass(QueryRetrieveServiceClass):
    """PS3.4 Annex JJ."""

    service = Service.INVENTORY


class RelevantPatientInformationQueryServiceClass(ServiceClass):
    """PS3.4 Annex Q."""

    service = Service.RELEVANT_PATIENT


def __getattr__(name: str) -> Any:
    from pynetdicom import status

    return getattr(status, name)
