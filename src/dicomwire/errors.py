"""Every fault that dicomwire reports, each with the wire code it maps to.

One tree: what the caller did wrong, what the peer did wrong, and how an association ended.
"""

from __future__ import annotations

from enum import IntEnum


class AbortSource(IntEnum):
    """Source field of an A-ABORT PDU (PS3.8 Table 9-26)."""

    SERVICE_USER = 0
    SERVICE_PROVIDER = 2


class AbortReason(IntEnum):
    """Reason field of an A-ABORT PDU sent by the service provider (PS3.8 Table 9-26)."""

    NOT_SPECIFIED = 0
    UNRECOGNIZED_PDU = 1
    UNEXPECTED_PDU = 2
    UNRECOGNIZED_PDU_PARAMETER = 4
    UNEXPECTED_PDU_PARAMETER = 5
    INVALID_PDU_PARAMETER = 6


class DicomwireError(Exception):
    """Base of every exception that dicomwire defines."""


class LocalProtocolError(DicomwireError, RuntimeError):
    """The program asked for something that the protocol does not allow now."""


class RemoteProtocolError(DicomwireError):
    """The peer broke the protocol; the answer is an A-ABORT with `source` and `reason`.

    `source` is the Upper Layer for a bad PDU, and the service user for a bad DIMSE message,
    which the Upper Layer has no reason code for.
    """

    def __init__(
        self,
        text: str,
        reason: AbortReason = AbortReason.INVALID_PDU_PARAMETER,
        source: AbortSource = AbortSource.SERVICE_PROVIDER,
    ) -> None:
        super().__init__(text)
        self.reason = reason
        self.source = source


class AssociationFailure(DicomwireError):
    """Why an association ended, or never began.

    Attributes
    ----------
    stage : str
        What was going on: "connect", "tls", "associate", "write", "response", "idle",
        "release" or "data".
    peer : str
        The peer's "host:port", or an empty string where it is not known.
    """

    def __init__(self, text: str, *, stage: str, peer: str = "") -> None:
        super().__init__(f"{text} ({stage}{', ' + peer if peer else ''})")
        self.text = text
        self.stage = stage
        self.peer = peer


class AssociationRejected(AssociationFailure):
    """The acceptor answered with A-ASSOCIATE-RJ (PS3.8 Section 9.3.4)."""

    def __init__(
        self, text: str, result: int, source: int, diagnostic: int, peer: str = ""
    ) -> None:
        super().__init__(text, stage="associate", peer=peer)
        self.result = result
        self.source = source
        self.diagnostic = diagnostic


class AssociationAborted(AssociationFailure):
    """An A-ABORT was sent (`by_peer` false) or received (`by_peer` true) (PS3.8 Section 9.3.8)."""

    def __init__(
        self,
        text: str,
        *,
        source: int,
        reason: int,
        by_peer: bool,
        stage: str = "data",
        peer: str = "",
    ) -> None:
        super().__init__(text, stage=stage, peer=peer)
        self.source = source
        self.reason = reason
        self.by_peer = by_peer


class AssociationTimeout(AssociationFailure):
    """A named deadline passed; `stage` names it."""


class ConnectionLost(AssociationFailure):
    """The transport connection failed, or the peer closed it without A-RELEASE or A-ABORT."""
