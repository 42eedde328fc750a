"""The events that `AssociationProtocol.next_event` returns, as plain data.

Chunks of a dataset are views of the bytes that were passed to `receive_data`: use or copy them
before the next call of it.
"""

from __future__ import annotations

from dataclasses import dataclass

from dicomwire.errors import RemoteProtocolError
from dicomwire.protocol.command import Message
from dicomwire.protocol.pdu import Abort, AssociateAC, AssociateRJ, AssociateRQ


@dataclass(slots=True)
class AssociateRequested:
    """The peer requests an association; answer with `accept` or `reject`."""

    pdu: AssociateRQ


@dataclass(slots=True)
class AssociateAccepted:
    """The peer accepted our request."""

    pdu: AssociateAC


@dataclass(slots=True)
class AssociateRejected:
    """The peer rejected our request; close the connection."""

    pdu: AssociateRJ


@dataclass(slots=True)
class DataReceived:
    """The next bytes of the dataset of the last `CommandReceived`; `complete` if they end it."""

    chunks: list[memoryview]
    complete: bool


@dataclass(slots=True)
class CommandReceived:
    """A complete command set, with the bytes of its dataset that arrived together with it, if any.

    `DataReceived` events follow if `message.has_dataset`, unless `data` is all of it.
    """

    context_id: int
    message: Message
    data: DataReceived | None = None


@dataclass(slots=True)
class ReleaseRequested:
    """The peer requests the release of the association; answer with `respond_release`."""


@dataclass(slots=True)
class ReleaseConfirmed:
    """The association is released; the protocol has resolved a release collision, if any."""


@dataclass(slots=True)
class PeerAborted:
    """The peer sent A-ABORT; close the connection."""

    pdu: Abort


@dataclass(slots=True)
class ProtocolViolated:
    """The peer violated the protocol; an A-ABORT is queued for sending."""

    error: RemoteProtocolError


@dataclass(slots=True)
class ConnectionClosed:
    """The transport connection was closed without a release or an abort."""


Event = (
    AssociateRequested
    | AssociateAccepted
    | AssociateRejected
    | CommandReceived
    | DataReceived
    | ReleaseRequested
    | ReleaseConfirmed
    | PeerAborted
    | ProtocolViolated
    | ConnectionClosed
)
