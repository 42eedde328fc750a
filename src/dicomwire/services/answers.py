"""What all services share on the provider's side: asking the handler, judging it, answering.

Which handler is asked, and what its answer means, is each service's own affair.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from pydicom.dataset import Dataset

from dicomwire.events import InterventionEvent
from dicomwire.logs import LOGGER
from dicomwire.payloads import BytesSource
from dicomwire.protocol.command import Command, Message
from dicomwire.services.port import Incoming, Port
from dicomwire.uids import SOPClass

Server = Callable[[Port, Incoming, SOPClass], Awaitable[None]]
"""What serves one kind of request."""

SUCCESS = 0x0000
PENDING = 0xFF00
CANCELLED = 0xFE00
NO_STATUS = 0xC001
BAD_STATUS = 0xC002

_RESPONSE_BIT = 0x8000
_STATUS_ELEMENTS = ("ErrorComment", "OffendingElement", "ErrorID")
"""What a handler's status dataset may add to the response (PS3.7 Annex C)."""


def answer(request: Message, status: int) -> Message:
    """Return the response to `request` that says `status`."""
    return Message(
        Command(request.command | _RESPONSE_BIT),
        MessageIDBeingRespondedTo=request.MessageID,
        AffectedSOPClassUID=request.AffectedSOPClassUID or request.RequestedSOPClassUID,
        AffectedSOPInstanceUID=request.AffectedSOPInstanceUID or request.RequestedSOPInstanceUID,
        Status=status,
    )


def set_status(response: Message, status: Any, sop_class: SOPClass) -> bool:
    """Put what a handler returned as status, an int or a Dataset, into `response`.

    What is neither is answered with 0xC002, a Dataset without Status with 0xC001, and then the
    result is false; a status that the service does not define is sent as it is, with a warning.
    """
    for keyword in _STATUS_ELEMENTS:
        setattr(response, keyword, None)
    if isinstance(status, Dataset):
        if "Status" not in status:
            LOGGER.error("The handler gave a status Dataset without (0000,0900) Status")
            response.Status = NO_STATUS
            return False
        for element in status:
            if element.keyword == "OffendingElement":
                many = isinstance(element.value, list | tuple) or element.VM > 1
                response.OffendingElement = list(element.value) if many else [element.value]
            elif element.keyword == "Status" or element.keyword in _STATUS_ELEMENTS:
                setattr(response, element.keyword, element.value)
            else:
                LOGGER.warning("The status Dataset's %s is not sent", element.tag)
    elif isinstance(status, int):
        response.Status = int(status)
    else:
        LOGGER.error("The handler gave a status of type %s", type(status).__name__)
        response.Status = BAD_STATUS
        return False
    if response.Status not in sop_class.statuses:
        service = sop_class.service_class.value
        LOGGER.warning("Status 0x%04X is not one that %s defines", response.Status, service)
    return True


async def ask(port: Port, event: InterventionEvent, incoming: Incoming) -> Any:
    """Return what the handler of `event` answers to a request."""
    return await port.intervene(
        event,
        {
            "request": incoming.message,
            "context": incoming.context.as_tuple,
            "payload": incoming.payload,
        },
    )


async def respond(
    port: Port, incoming: Incoming, response: Message, dataset: bytes | None = None
) -> None:
    """Send the response, unless the handler (or the peer) ended the association meanwhile."""
    if port.is_over:
        return
    assert incoming.context.context_id is not None
    response.has_dataset = dataset is not None
    source = BytesSource(dataset) if dataset is not None else None
    await port.send(incoming.context.context_id, response, source)
