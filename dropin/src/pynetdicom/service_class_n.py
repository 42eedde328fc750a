"""The service classes that use N-services, as names to register SOP classes with."""

from __future__ import annotations

from typing import Any

from dicomwire.sop_class import Service
from pynetdicom.service_class import ServiceClass


class ProcedureStepServiceClass(ServiceClass):
    """PS3.4 Annex F."""

    service = Service.PROCEDURE_STEP


class PrintManagementServiceClass(ServiceClass):
    """PS3.4 Annex H."""

    service = Service.PRINT_MANAGEMENT


class StorageCommitmentServiceClass(ServiceClass):
    """PS3.4 Annex J."""

    service = Service.STORAGE_COMMITMENT


class ApplicationEventLoggingServiceClass(ServiceClass):
    """PS3.4 Annex P."""

    service = Service.APPLICATION_EVENT_LOGGING


class InstanceAvailabilityNotificationServiceClass(ServiceClass):
    """PS3.4 Annex R."""

    service = Service.INSTANCE_AVAILABILITY


class MediaCreationManagementServiceClass(ServiceClass):
    """PS3.4 Annex S."""

    service = Service.MEDIA_CREATION


class UnifiedProcedureStepServiceClass(ServiceClass):
    """PS3.4 Annex CC."""

    service = Service.UNIFIED_PROCEDURE_STEP


class RTMachineVerificationServiceClass(ServiceClass):
    """PS3.4 Annex DD."""

    service = Service.RT_MACHINE_VERIFICATION


class DisplaySystemManagementServiceClass(ServiceClass):
    """PS3.4 Annex EE."""

    service = Service.DISPLAY_SYSTEM


class StorageManagementServiceClass(ServiceClass):
    """PS3.4 Annex KK."""

    service = Service.STORAGE_MANAGEMENT


def __getattr__(name: str) -> Any:
    from pynetdicom import status

    return getattr(status, name)
