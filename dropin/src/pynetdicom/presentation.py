"""Presentation contexts and the lists of them, which are dicomwire's."""

from __future__ import annotations

from pydicom.uid import UID

from dicomwire import presentation as _presentation
from dicomwire.presentation import *
from dicomwire.presentation import PresentationContext as PresentationContext
from pynetdicom import _config
from pynetdicom.pdu_primitives import SCP_SCU_RoleSelectionNegotiation


def build_context(
    abstract_syntax: str | UID, transfer_syntax: str | UID | list[str | UID] | None = None
) -> PresentationContext:
    """Return a context to propose or support; see `dicomwire.build_context`."""
    context = _presentation.build_context(abstract_syntax, transfer_syntax)
    _config.check_contexts([context])
    return context


def build_role(
    uid: str | UID, scu_role: bool = False, scp_role: bool = False
) -> SCP_SCU_RoleSelectionNegotiation:
    """Return a proposal of the requestor's roles; see `dicomwire.build_role`."""
    _config.check("UI", uid, "uid")
    role = _presentation.build_role(uid, scu_role, scp_role)
    return SCP_SCU_RoleSelectionNegotiation(role.sop_class_uid, role.scu_role, role.scp_role)
