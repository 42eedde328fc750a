"""Presentation contexts, lists of them, and role selections, for programs to build.

`protocol.negotiation` has the rules of negotiation.
"""

from __future__ import annotations

from dicomwire import sop_class as _  # noqa: F401  # from here on UIDs are those of pydicom
from dicomwire.protocol.context import PresentationContext as PresentationContext
from dicomwire.protocol.context import PresentationContextTuple as PresentationContextTuple
from dicomwire.protocol.negotiation import BOTH_SCU_SCP_ROLE as BOTH_SCU_SCP_ROLE
from dicomwire.protocol.negotiation import CONTEXT_REJECTED as CONTEXT_REJECTED
from dicomwire.protocol.negotiation import DEFAULT_ROLE as DEFAULT_ROLE
from dicomwire.protocol.negotiation import INVERTED_ROLE as INVERTED_ROLE
from dicomwire.protocol.negotiation import SCP_SCU_ROLES as SCP_SCU_ROLES
from dicomwire.protocol.negotiation import negotiate_as_acceptor as negotiate_as_acceptor
from dicomwire.protocol.negotiation import negotiate_as_requestor as negotiate_as_requestor
from dicomwire.protocol.negotiation import negotiate_unrestricted as negotiate_unrestricted
from dicomwire.registry import tables as _tables
from dicomwire.registry.uids import quick_uid as _quick_uid
from dicomwire.session.contexts import build_context as build_context
from dicomwire.session.contexts import build_role as build_role
from dicomwire.session.contexts import listed_contexts

DEFAULT_TRANSFER_SYNTAXES = [_quick_uid(uid) for uid in _tables.DEFAULT_TRANSFER_SYNTAXES]
ALL_TRANSFER_SYNTAXES = [_quick_uid(uid) for uid in _tables.ALL_TRANSFER_SYNTAXES]

ListCXType = list[PresentationContext]

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
