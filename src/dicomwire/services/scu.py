"""The requests of a service class user: what to send, what may come back (PS3.7 Sections 9 and 10).

Choosing the presentation context and opening the dataset's source is the caller's part.
"""

from __future__ import annotations

from dicomwire.payloads import Source
from dicomwire.protocol.command import Command, Message
from dicomwire.protocol.context import PresentationContext
from dicomwire.services.port import Incoming, Port
from dicomwire.sop_class import Verification


def echo_request(message_id: int) -> Message:
    """Return a C-ECHO-RQ (PS3.7 Section 9.3.5.1)."""
    return Message(Command.C_ECHO_RQ, MessageID=message_id, AffectedSOPClassUID=Verification)


def store_request(
    message_id: int,
    sop_class_uid: str,
    sop_instance_uid: str,
    priority: int,
    originator_aet: str | None,
    originator_id: int | None,
) -> Message:
    """Return a C-STORE-RQ (PS3.7 Section 9.3.1.1)."""
    return Message(
        Command.C_STORE_RQ,
        MessageID=message_id,
        AffectedSOPClassUID=sop_class_uid,  # type: ignore[arg-type]  # any str encodes the same
        AffectedSOPInstanceUID=sop_instance_uid,  # type: ignore[arg-type]
        Priority=priority,
        MoveOriginatorApplicationEntityTitle=originator_aet,
        MoveOriginatorMessageID=originator_id,
        has_dataset=True,
    )


async def perform(
    port: Port, context: PresentationContext, request: Message, source: Source | None = None
) -> Incoming:
    """Send `request` and return its one response."""
    assert context.context_id is not None
    assert request.MessageID is not None
    await port.send(context.context_id, request, source)
    return await port.response(request.MessageID)
