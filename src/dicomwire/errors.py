"""Every exception that dicomwire raises, each with the code that it has in a PDU.

One tree of classes: faults of the program, faults of the peer, and ends of an association.
"""

from __future__ import annotations

from enum import Enum, IntEnum
from typing import Any


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
    """Base of every exception that dicomwire defines. All can be copied and pickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _restored, (type(self), self.args, self.__dict__)


def _restored(kind: type[DicomwireError], args: Any, attributes: dict[str, Any]) -> DicomwireError:
    """Return a copy of an exception, without the checks and texts of its `__init__`."""
    error = kind.__new__(kind, *args)
    error.__dict__.update(attributes)
    return error


class LocalProtocolError(DicomwireError, RuntimeError):
    """The program requested an action that the protocol does not allow in the present state."""


class RemoteProtocolError(DicomwireError):
    """The peer broke the protocol; the answer is an A-ABORT with `source` and `reason`.

    `source` is the service provider (the Upper Layer) for an invalid PDU, and the service user for
    an invalid DIMSE message, for which the Upper Layer has no reason code.
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
    """The reason why an association ended or was not established.

    Attributes
    ----------
    stage : str
        The stage at which it failed: "connect", "tls", "associate", "write", "response", "idle",
        "release" or "data"; or "process" if the process died that had the association.
    peer : str
        The peer's "host:port"; empty if it is not known.
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
    """Why a TLS connection failed."""

    CERTIFICATE_EXPIRED = "certificate expired"
    """The certificate has expired or is not valid yet."""
    UNKNOWN_AUTHORITY = "unknown authority"
    """The authority that issued the certificate is not trusted."""
    OTHER_HOST = "other host"
    """The certificate does not name the host that we connected to."""
    CERTIFICATE_MISSING = "certificate missing"
    """The requestor must present a certificate and did not."""
    CERTIFICATE_REFUSED = "certificate refused"
    """The certificate was refused for another reason."""
    NOT_TLS = "not TLS"
    """Only one side uses TLS."""
    INCOMPATIBLE = "incompatible"
    """The two sides have no version of TLS or no cipher suite in common."""
    CLOSED = "closed"
    """The peer closed the connection without an alert; many peers without TLS do so."""
    OTHER = "other"


class TLSFailure(ConnectionLost):
    """The TLS handshake failed, or TLS failed later; `stage` is "tls".

    Attributes
    ----------
    fault : TLSFault
    by_peer : bool
        Whether the peer found the fault, and reported it in an alert.
    """

    def __init__(self, text: str, *, fault: TLSFault, by_peer: bool, peer: str = "") -> None:
        super().__init__(text, stage="tls", peer=peer)
        self.fault = fault
        self.by_peer = by_peer
