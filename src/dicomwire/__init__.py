"""DICOM networking (PS3.7, PS3.8) for Python: the names that programs import."""

import logging as _logging

from pydicom._uid_dict import UID_dictionary
from pydicom.uid import UID

from dicomwire import events as evt
from dicomwire.bulk.dispatcher import Retry
from dicomwire.bulk.ledger import Ledger, LedgerError
from dicomwire.bulk.pipeline import Sent
from dicomwire.data.streams import Stream
from dicomwire.errors import (
    AssociationAborted,
    AssociationFailure,
    AssociationRejected,
    AssociationTimeout,
    ConnectionLost,
    DicomwireError,
    LocalProtocolError,
    RemoteProtocolError,
    TLSConfigurationError,
    TLSFailure,
    TLSFault,
)
from dicomwire.implementation import (
    IMPLEMENTATION_CLASS_UID,
    IMPLEMENTATION_VERSION_NAME,
    UID_PREFIX,
)
from dicomwire.logs import debug_logger
from dicomwire.presentation import (
    AllStoragePresentationContexts,
    ApplicationEventLoggingPresentationContexts,
    BasicWorklistManagementPresentationContexts,
    ColorPalettePresentationContexts,
    DefinedProcedureProtocolPresentationContexts,
    DisplaySystemPresentationContexts,
    HangingProtocolPresentationContexts,
    ImplantTemplatePresentationContexts,
    InstanceAvailabilityPresentationContexts,
    MediaCreationManagementPresentationContexts,
    MediaStoragePresentationContexts,
    ModalityPerformedPresentationContexts,
    NonPatientObjectPresentationContexts,
    PrintManagementPresentationContexts,
    ProcedureStepPresentationContexts,
    ProtocolApprovalPresentationContexts,
    QueryRetrievePresentationContexts,
    RelevantPatientInformationPresentationContexts,
    RTMachineVerificationPresentationContexts,
    StorageCommitmentPresentationContexts,
    StoragePresentationContexts,
    SubstanceAdministrationPresentationContexts,
    UnifiedProcedurePresentationContexts,
    VerificationPresentationContexts,
    build_context,
    build_role,
)
from dicomwire.registry.tables import ALL_TRANSFER_SYNTAXES, DEFAULT_TRANSFER_SYNTAXES
from dicomwire.settings import Settings
from dicomwire.sop_class import register_uid
from dicomwire.threaded.ae import AE
from dicomwire.threaded.association import Association
from dicomwire.threaded.bulk import SendMany, send_many

__version__ = "0.1.0"

_logging.getLogger("dicomwire").addHandler(_logging.NullHandler())

__all__ = [
    "AE",
    "ALL_TRANSFER_SYNTAXES",
    "DEFAULT_TRANSFER_SYNTAXES",
    "IMPLEMENTATION_CLASS_UID",
    "IMPLEMENTATION_VERSION_NAME",
    "UID",
    "UID_PREFIX",
    "AllStoragePresentationContexts",
    "ApplicationEventLoggingPresentationContexts",
    "Association",
    "AssociationAborted",
    "AssociationFailure",
    "AssociationRejected",
    "AssociationTimeout",
    "BasicWorklistManagementPresentationContexts",
    "ColorPalettePresentationContexts",
    "ConnectionLost",
    "DefinedProcedureProtocolPresentationContexts",
    "DicomwireError",
    "DisplaySystemPresentationContexts",
    "HangingProtocolPresentationContexts",
    "ImplantTemplatePresentationContexts",
    "InstanceAvailabilityPresentationContexts",
    "Ledger",
    "LedgerError",
    "LocalProtocolError",
    "MediaCreationManagementPresentationContexts",
    "MediaStoragePresentationContexts",
    "ModalityPerformedPresentationContexts",
    "NonPatientObjectPresentationContexts",
    "PrintManagementPresentationContexts",
    "ProcedureStepPresentationContexts",
    "ProtocolApprovalPresentationContexts",
    "QueryRetrievePresentationContexts",
    "RTMachineVerificationPresentationContexts",
    "RelevantPatientInformationPresentationContexts",
    "RemoteProtocolError",
    "Retry",
    "SendMany",
    "Sent",
    "Settings",
    "Stream",
    "StorageCommitmentPresentationContexts",
    "StoragePresentationContexts",
    "SubstanceAdministrationPresentationContexts",
    "TLSConfigurationError",
    "TLSFailure",
    "TLSFault",
    "UID_dictionary",
    "UnifiedProcedurePresentationContexts",
    "VerificationPresentationContexts",
    "build_context",
    "build_role",
    "debug_logger",
    "evt",
    "register_uid",
    "send_many",
]
