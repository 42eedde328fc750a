"""`Association`: dicomwire's, with what programs of pynetdicom expect of a thread."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydicom.uid import (
    ExplicitVRBigEndian as ExplicitVRBigEndian,
    ImplicitVRLittleEndian as ImplicitVRLittleEndian,
)

from dicomwire.association import Association as _Association
from dicomwire.pdu_primitives import AssociateAC, AssociateRJ, AssociateRQ
from dicomwire.session.ends import ServiceUser as _ServiceUser
from pynetdicom._globals import (
    DEFAULT_MAX_LENGTH as DEFAULT_MAX_LENGTH,
    MODE_ACCEPTOR as MODE_ACCEPTOR,
    MODE_REQUESTOR as MODE_REQUESTOR,
)
from pynetdicom.pdu_primitives import primitive_of
from pynetdicom.sop_class import (
    RepositoryQuery as RepositoryQuery,
    UnifiedProcedureStepEvent as UnifiedProcedureStepEvent,
    UnifiedProcedureStepPull as UnifiedProcedureStepPull,
    UnifiedProcedureStepPush as UnifiedProcedureStepPush,
    UnifiedProcedureStepQuery as UnifiedProcedureStepQuery,
    UnifiedProcedureStepWatch as UnifiedProcedureStepWatch,
    Verification as Verification,
)
from pynetdicom.status import (
    STATUS_CANCEL as STATUS_CANCEL,
    STATUS_FAILURE as STATUS_FAILURE,
    STATUS_PENDING as STATUS_PENDING,
    STATUS_SUCCESS as STATUS_SUCCESS,
    STATUS_WARNING as STATUS_WARNING,
)


class ServiceUser(_ServiceUser):
    """The requestor or the acceptor of an association; see `dicomwire.association.ServiceUser`."""

    @property
    def primitive(self) -> Any:
        """The A-ASSOCIATE primitive that this end sent, once it is sent or received."""
        return self._primitive

    @primitive.setter
    def primitive(self, pdu: AssociateRQ | AssociateAC | AssociateRJ | None) -> None:
        self._primitive = primitive_of(pdu)


class Association(_Association):
    """An association with a peer; see `dicomwire.Association`.

    It is no thread, but can be joined, and has a name that can be set.
    """

    daemon = True
    end_class = ServiceUser

    def __init__(self, ae: Any, mode: str, **options: Any) -> None:
        super().__init__(ae, mode, **options)
        self.name = f"{mode.capitalize()}Thread@{datetime.now():%Y%m%d%H%M%S}"


def __getattr__(name: str) -> Any:
    from pynetdicom import status

    return getattr(status, name)
