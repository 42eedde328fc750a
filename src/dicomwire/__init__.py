"""DICOM networking (PS3.7, PS3.8) for Python: the names that programs import.

Each name is imported from its module at its first use. Some need pydicom, and to import that takes
longer than the `dicomwire` command takes for a C-ECHO.
"""

from __future__ import annotations

import logging as _logging
from importlib import import_module as _import_module
from typing import TYPE_CHECKING, Any

from dicomwire.unconfigured import UnconfiguredHandler as _UnconfiguredHandler

if TYPE_CHECKING:
    from pydicom._uid_dict import UID_dictionary
    from pydicom.uid import UID

    from dicomwire import events as evt
    from dicomwire.ae import AE
    from dicomwire.association import Association
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
        ALL_TRANSFER_SYNTAXES,
        DEFAULT_TRANSFER_SYNTAXES,
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
        PresentationContext,
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
    from dicomwire.settings import Settings
    from dicomwire.sop_class import register_uid
    from dicomwire.threaded.bulk import SendMany, send_many
    from dicomwire.threaded.server import AssociationServer
    from dicomwire.workers.server import SupervisedServer

__version__ = "0.1.0"

_logging.getLogger("dicomwire").addHandler(_UnconfiguredHandler())

_NAMES = {
    "dicomwire.ae": "AE",
    "dicomwire.association": "Association",
    "dicomwire.bulk.dispatcher": "Retry",
    "dicomwire.bulk.ledger": "Ledger LedgerError",
    "dicomwire.bulk.pipeline": "Sent",
    "dicomwire.data.streams": "Stream",
    "dicomwire.errors": """
        AssociationAborted AssociationFailure AssociationRejected AssociationTimeout
        ConnectionLost DicomwireError LocalProtocolError RemoteProtocolError
        TLSConfigurationError TLSFailure TLSFault""",
    "dicomwire.implementation": "IMPLEMENTATION_CLASS_UID IMPLEMENTATION_VERSION_NAME UID_PREFIX",
    "dicomwire.logs": "debug_logger",
    "dicomwire.settings": "Settings",
    "dicomwire.sop_class": "register_uid",
    "dicomwire.threaded.bulk": "SendMany send_many",
    "dicomwire.threaded.server": "AssociationServer",
    "dicomwire.workers.server": "SupervisedServer",
    "pydicom._uid_dict": "UID_dictionary",
    "pydicom.uid": "UID",
}
"""The exported names by the module that defines them; all others are of `presentation`.

Those of the library are also imported above, for type checkers and editors."""

_MODULE_OF = {name: module for module, names in _NAMES.items() for name in names.split()}
_SUBMODULES = """
    ae aio association dimse_primitives dsutils errors events implementation logs pdu_primitives
    plain presentation settings sop_class status tls utils web"""


def __getattr__(name: str) -> Any:
    from dicomwire.registry.uids import use_pydicom

    if name == "evt":
        value = _import_module("dicomwire.events")
    elif name in __all__:
        use_pydicom()  # before the module below creates UIDs
        value = getattr(_import_module(_MODULE_OF.get(name, "dicomwire.presentation")), name)
    elif name in _SUBMODULES.split():
        return _import_module(f"dicomwire.{name}")
    else:
        raise AttributeError(f"module 'dicomwire' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


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
    "AssociationServer",
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
    "PresentationContext",
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
    "SupervisedServer",
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
