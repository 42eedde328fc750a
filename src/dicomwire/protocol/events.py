"""What the protocol tells the face that drives it, as plain data.

Chunks of a dataset are views into the bytes last given to `receive_data`: use or copy them first.
"""

from __future__ import annotations

from dataclasses import dataclass

from dicomwire.errors import RemoteProtocolError
from dicomwire.protocol.command import Message
from dicomwire.protocol.pdu import Abort, AssociateAC, AssociateRJ, AssociateRQ


@dataclass(slots=True)
class AssociateRequested:
    """The peer asks for an association: answer with `accept` or `reject`."""

    pdu: AssociateRQ


@dataclass(slots=True)
class AssociateAccepted:
    """The peer accepted our request."""

    pdu: AssociateAC


@dataclass(slots=True)
class AssociateRejected:
    """The peer rejected our request; the connection is to be closed."""

    pdu: AssociateRJ


@dataclass(slots=True)
class CommandReceived:
    """A command set is complete; `DataReceived` follows if `message.has_dataset`."""

    context_id: int
    message: Message


@dataclass(slots=True)
class DataReceived:
    """Bytes of the dataset of the last `CommandReceived`, in order; `complete` with the last."""

    chunks: list[memoryview]
    complete: bool


@dataclass(slots=True)
class ReleaseRequested:
    """The peer wishes to release the association: answer with `respond_release`."""


@dataclass(slots=True)
class ReleaseConfirmed:
    """The release is agreed (a collision of two requests is resolved by the protocol itself)."""


@dataclass(slots=True)
class PeerAborted:
    """The peer sent A-ABORT; the connection is to be closed."""

    pdu: Abort


@dataclass(slots=True)
class ProtocolViolated:
    """The peer broke the protocol and the A-ABORT that answers it is ready to be sent."""

    error: RemoteProtocolError


@dataclass(slots=True)
class ConnectionClosed:
    """The transport connection ended without a release or an abort."""


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
