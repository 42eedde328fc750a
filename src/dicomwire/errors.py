"""Every fault that dicomwire reports, each with the wire code it maps to.

One tree: what the caller did wrong, what the peer did wrong, and how an association ended.
"""

from __future__ import annotations

from enum import Enum, IntEnum


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


class TLSConfigurationError(DicomwireError, ValueError):
    """A certificate, a key or a profile cannot be used for TLS."""


class TLSFault(Enum):
    """What is wrong where two ends do not come to speak TLS."""

    CERTIFICATE_EXPIRED = "certificate expired"
    """Or it is not valid yet."""
    UNKNOWN_AUTHORITY = "unknown authority"
    """The certificate is from nobody who is trusted."""
    OTHER_HOST = "other host"
    """The certificate is for another host than the one that was called."""
    CERTIFICATE_MISSING = "certificate missing"
    """The requestor has to show one, and did not."""
    CERTIFICATE_REFUSED = "certificate refused"
    """For another reason."""
    NOT_TLS = "not TLS"
    """One end speaks TLS, and the other does not."""
    INCOMPATIBLE = "incompatible"
    """The ends have no version of TLS or no cipher suite in common."""
    CLOSED = "closed"
    """The peer hung up without a reason, as many do that do not expect TLS."""
    OTHER = "other"


class TLSFailure(ConnectionLost):
    """TLS did not come about, or broke; `stage` is "tls".

    Attributes
    ----------
    fault : TLSFault
    by_peer : bool
        Whether it is the peer who found fault with us.
    """

    def __init__(self, text: str, *, fault: TLSFault, by_peer: bool, peer: str = "") -> None:
        super().__init__(text, stage="tls", peer=peer)
        self.fault = fault
        self.by_peer = by_peer
