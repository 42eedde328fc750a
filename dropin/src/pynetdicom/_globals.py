"""Constants that programs import from here."""

from __future__ import annotations

from typing import TypeAlias

from pydicom.uid import UID

from dicomwire.pdu_primitives import DEFAULT_MAX_LENGTH as DEFAULT_MAX_LENGTH
from dicomwire.presentation import (
    ALL_TRANSFER_SYNTAXES as ALL_TRANSFER_SYNTAXES,
    DEFAULT_TRANSFER_SYNTAXES as DEFAULT_TRANSFER_SYNTAXES,
)
from dicomwire.protocol import pdu as _pdu
from dicomwire.session.ends import MODE_ACCEPTOR as MODE_ACCEPTOR, MODE_REQUESTOR as MODE_REQUESTOR
from dicomwire.status import (
    STATUS_CANCEL as STATUS_CANCEL,
    STATUS_FAILURE as STATUS_FAILURE,
    STATUS_PENDING as STATUS_PENDING,
    STATUS_SUCCESS as STATUS_SUCCESS,
    STATUS_UNKNOWN as STATUS_UNKNOWN,
    STATUS_WARNING as STATUS_WARNING,
)

APPLICATION_CONTEXT_NAME = UID(_pdu.APPLICATION_CONTEXT_NAME)

OptionalUIDType: TypeAlias = str | bytes | UID | None
