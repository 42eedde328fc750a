"""Presentation contexts, lists of them, and role selections, for programs to build.

`protocol.negotiation` has the rules of negotiation.
"""

from __future__ import annotations

from typing import TypeAlias

from pydicom.uid import UID

from dicomwire.protocol.context import PresentationContext, PresentationContextTuple, as_uid
from dicomwire.protocol.items import SCP_SCU_RoleSelectionNegotiation
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
from dicomwire.registry.tables import CONTEXT_LISTS, DEFAULT_TRANSFER_SYNTAXES

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

ListCXType: TypeAlias = list[PresentationContext]


def build_context(
    abstract_syntax: str | UID,
    transfer_syntax: str | UID | list[str | UID] | None = None,
) -> PresentationContext:
    """Return a context to propose or support (PS3.8 Section 7.1.1.13).

    Parameters
    ----------
    abstract_syntax : str or UID
        The abstract syntax, usually a SOP class.
    transfer_syntax : str or UID or list of them, optional
        The transfer syntaxes in order of preference; default `DEFAULT_TRANSFER_SYNTAXES`.

    Raises
    ------
    ValueError
        For a UID that is empty, longer than 64 characters, or not ASCII.
    """
    context = PresentationContext()
    context.abstract_syntax = abstract_syntax
    if transfer_syntax is None:
        transfer_syntax = [*DEFAULT_TRANSFER_SYNTAXES]
    elif isinstance(transfer_syntax, str):
        transfer_syntax = [transfer_syntax]
    context.transfer_syntax = transfer_syntax
    return context


def build_role(
    uid: str | UID, scu_role: bool = False, scp_role: bool = False
) -> SCP_SCU_RoleSelectionNegotiation:
    """Return a proposal of the requestor's roles for a SOP class (PS3.7 Annex D.3.3.4).

    At least one role must be true when the proposal is sent.
    """
    return SCP_SCU_RoleSelectionNegotiation(as_uid(uid, "uid"), scu_role, scp_role)


def _contexts(name: str) -> list[PresentationContext]:
    """Return the list `name` of the tables, whose UIDs need no checks."""
    return [
        PresentationContext.from_wire(None, uid, [*DEFAULT_TRANSFER_SYNTAXES])
        for uid in CONTEXT_LISTS[f"{name}PresentationContexts"]
    ]


AllStoragePresentationContexts = _contexts("AllStorage")
ApplicationEventLoggingPresentationContexts = _contexts("ApplicationEventLogging")
BasicWorklistManagementPresentationContexts = _contexts("BasicWorklistManagement")
ColorPalettePresentationContexts = _contexts("ColorPalette")
DefinedProcedureProtocolPresentationContexts = _contexts("DefinedProcedureProtocol")
DisplaySystemPresentationContexts = _contexts("DisplaySystem")
HangingProtocolPresentationContexts = _contexts("HangingProtocol")
ImplantTemplatePresentationContexts = _contexts("ImplantTemplate")
InstanceAvailabilityPresentationContexts = _contexts("InstanceAvailability")
MediaCreationManagementPresentationContexts = _contexts("MediaCreationManagement")
MediaStoragePresentationContexts = _contexts("MediaStorage")
ModalityPerformedPresentationContexts = _contexts("ModalityPerformed")
NonPatientObjectPresentationContexts = _contexts("NonPatientObject")
PrintManagementPresentationContexts = _contexts("PrintManagement")
ProcedureStepPresentationContexts = _contexts("ProcedureStep")
ProtocolApprovalPresentationContexts = _contexts("ProtocolApproval")
QueryRetrievePresentationContexts = _contexts("QueryRetrieve")
RTMachineVerificationPresentationContexts = _contexts("RTMachineVerification")
RelevantPatientInformationPresentationContexts = _contexts("RelevantPatientInformation")
StorageCommitmentPresentationContexts = _contexts("StorageCommitment")
StoragePresentationContexts = _contexts("Storage")
SubstanceAdministrationPresentationContexts = _contexts("SubstanceAdministration")
UnifiedProcedurePresentationContexts = _contexts("UnifiedProcedure")
VerificationPresentationContexts = _contexts("Verification")
