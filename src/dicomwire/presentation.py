"""Presentation contexts, lists of them, and role selections, for programs to build.

`protocol.negotiation` has the rules of negotiation.
"""

from __future__ import annotations

from typing import TypeAlias

from dicomwire import sop_class as _  # noqa: F401  # from here on UIDs are those of pydicom
from dicomwire.protocol.context import PresentationContext, PresentationContextTuple
from dicomwire.protocol.negotiation import (
    BOTH_SCU_SCP_ROLE,
    CONTEXT_REJECTED,
    DEFAULT_ROLE,
    INVERTED_ROLE,
    SCP_SCU_ROLES,
    negotiate_as_acceptor,
    negotiate_as_requestor,
    negotiate_unrestricted,
)
from dicomwire.registry import tables as _tables
from dicomwire.registry.uids import quick_uid
from dicomwire.session.contexts import build_context, build_role, listed_contexts

__all__ = [
    "PresentationContext",
    "PresentationContextTuple",
    "ListCXType",
    "build_context",
    "build_role",
    "negotiate_as_acceptor",
    "negotiate_as_requestor",
    "negotiate_unrestricted",
    "SCP_SCU_ROLES",
    "DEFAULT_ROLE",
    "BOTH_SCU_SCP_ROLE",
    "INVERTED_ROLE",
    "CONTEXT_REJECTED",
    "DEFAULT_TRANSFER_SYNTAXES",
    "AllStoragePresentationContexts",
    "ApplicationEventLoggingPresentationContexts",
    "BasicWorklistManagementPresentationContexts",
    "ColorPalettePresentationContexts",
    "DefinedProcedureProtocolPresentationContexts",
    "DisplaySystemPresentationContexts",
    "HangingProtocolPresentationContexts",
    "ImplantTemplatePresentationContexts",
    "InstanceAvailabilityPresentationContexts",
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
    "StorageCommitmentPresentationContexts",
    "StoragePresentationContexts",
    "SubstanceAdministrationPresentationContexts",
    "UnifiedProcedurePresentationContexts",
    "VerificationPresentationContexts",
]

DEFAULT_TRANSFER_SYNTAXES = [quick_uid(uid) for uid in _tables.DEFAULT_TRANSFER_SYNTAXES]
ALL_TRANSFER_SYNTAXES = [quick_uid(uid) for uid in _tables.ALL_TRANSFER_SYNTAXES]

ListCXType: TypeAlias = list[PresentationContext]


AllStoragePresentationContexts = listed_contexts("AllStorage")
ApplicationEventLoggingPresentationContexts = listed_contexts("ApplicationEventLogging")
BasicWorklistManagementPresentationContexts = listed_contexts("BasicWorklistManagement")
ColorPalettePresentationContexts = listed_contexts("ColorPalette")
DefinedProcedureProtocolPresentationContexts = listed_contexts("DefinedProcedureProtocol")
DisplaySystemPresentationContexts = listed_contexts("DisplaySystem")
HangingProtocolPresentationContexts = listed_contexts("HangingProtocol")
ImplantTemplatePresentationContexts = listed_contexts("ImplantTemplate")
InstanceAvailabilityPresentationContexts = listed_contexts("InstanceAvailability")
MediaCreationManagementPresentationContexts = listed_contexts("MediaCreationManagement")
MediaStoragePresentationContexts = listed_contexts("MediaStorage")
ModalityPerformedPresentationContexts = listed_contexts("ModalityPerformed")
NonPatientObjectPresentationContexts = listed_contexts("NonPatientObject")
PrintManagementPresentationContexts = listed_contexts("PrintManagement")
ProcedureStepPresentationContexts = listed_contexts("ProcedureStep")
ProtocolApprovalPresentationContexts = listed_contexts("ProtocolApproval")
QueryRetrievePresentationContexts = listed_contexts("QueryRetrieve")
RTMachineVerificationPresentationContexts = listed_contexts("RTMachineVerification")
RelevantPatientInformationPresentationContexts = listed_contexts("RelevantPatientInformation")
StorageCommitmentPresentationContexts = listed_contexts("StorageCommitment")
StoragePresentationContexts = listed_contexts("Storage")
SubstanceAdministrationPresentationContexts = listed_contexts("SubstanceAdministration")
UnifiedProcedurePresentationContexts = listed_contexts("UnifiedProcedure")
VerificationPresentationContexts = listed_contexts("Verification")
