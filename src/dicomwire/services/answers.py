"""What all services share on the provider's side: asking the handler, judging it, answering.

Which handler is asked, and what its answer means, is each service's own affair.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.tag import BaseTag, Tag
from pydicom.uid import UID

from dicomwire.data.codec import DatasetError
from dicomwire.data.sources import BytesSource
from dicomwire.events import InterventionEvent, NoHandler
from dicomwire.logs import LOGGER
from dicomwire.protocol.command import (
    CARRIED,
    ELEMENTS,
    RESPONSE_BIT,
    Command,
    Message,
    is_sendable_uid,
)
from dicomwire.protocol.context import quick_uid
from dicomwire.registry.services import SOPClass
from dicomwire.services.port import Incoming, Port

SUCCESS = 0x0000
PENDING = 0xFF00
CANCELLED = 0xFE00
NO_STATUS = 0xC001
BAD_STATUS = 0xC002

_HIGHEST = 0xFFFF


_RESPONSES: dict[Command, Command] = {
    command: Command(command | RESPONSE_BIT)
    for command in Command
    if not command & RESPONSE_BIT and command is not Command.C_CANCEL_RQ
}
"""The command of the response to each request."""


def answer(request: Message, status: int) -> Message:
    """Return the response to `request` that says `status`."""
    return Message(
        _RESPONSES[request.command],
        MessageIDBeingRespondedTo=request.MessageID,
        AffectedSOPClassUID=request.AffectedSOPClassUID or request.RequestedSOPClassUID,
        AffectedSOPInstanceUID=request.AffectedSOPInstanceUID or request.RequestedSOPInstanceUID,
        Status=status,
    )


_INVALID_INSTANCE = 0x0117
_UNUSABLE = {
    "AffectedSOPClassUID": _INVALID_INSTANCE,
    "RequestedSOPClassUID": _INVALID_INSTANCE,
    "AffectedSOPInstanceUID": _INVALID_INSTANCE,
    "RequestedSOPInstanceUID": _INVALID_INSTANCE,
    "MoveDestination": 0xA801,  # unknown
    "EventTypeID": 0x0113,  # no such event type
    "ActionTypeID": 0x0123,  # no such action type
    "AttributeIdentifierList": 0x0110,  # processing failure
}
"""The status of a request in which an element is missing or cannot be read (PS3.7 Annex C)."""


def refusal_of(request: Message) -> int | None:
    """Return the status to refuse `request` with, if it lacks what it takes to serve it."""
    for keyword in request.unusable:
        if keyword in _UNUSABLE:
            return _UNUSABLE[keyword]
    return None


def set_status(response: Message, status: Any, sop_class: SOPClass) -> bool:
    """Put what a handler returned as status, an int or a Dataset, into `response`.

    What is neither is answered with 0xC002, a Dataset without Status with 0xC001, and then the
    result is false; a status that the service does not define is sent as it is, with a warning.
    """
    conclude(response, BAD_STATUS)
    if isinstance(status, Dataset):
        elements, status = status, status.get("Status")
        if status is None:
            LOGGER.error("The handler gave a status Dataset without (0000,0900) Status")
            response.Status = NO_STATUS
            return False
        take_elements(response, elements)
    if not isinstance(status, int):
        LOGGER.error("The handler gave a status of type %s", type(status).__name__)
        return False
    if not 0 <= status <= _HIGHEST:
        LOGGER.error("The handler gave the status %d, which is none", status)
        return False
    response.Status = int(status)
    if status and status not in sop_class.statuses:  # 0x0000 is defined by all
        service = sop_class.service_class.value
        LOGGER.warning("Status 0x%04X is not one that %s defines", status, service)
    return True


def conclude(response: Message, status: int) -> None:
    """Put a status of our own into `response`, without what a handler added to an earlier one."""
    response.Status = status
    response.ErrorComment = response.ErrorID = None
    response.OffendingElement = response.AttributeIdentifierList = None


def take_elements(response: Message, status: Dataset) -> None:
    """Put what else a status dataset says into `response`, as far as that may carry it."""
    carried = CARRIED[response.command].optional
    for element in status:
        keyword = element.keyword
        if keyword == "Status":
            continue
        value = _ADDED[keyword](element.value) if keyword in carried and keyword in _ADDED else None
        if value is None:
            LOGGER.warning("The status Dataset's %s is not sent", element.tag)
        else:
            setattr(response, keyword, value)


def _comment(value: Any) -> str | None:
    if isinstance(value, MultiValue):  # what pydicom makes of a text with a backslash
        value = "\\".join(map(str, value))
    return str(value) or None if value is not None else None


def _uid(value: Any) -> UID | None:
    return quick_uid(value) if isinstance(value, str) and is_sendable_uid(value) else None


def _number(value: Any) -> int | None:
    return value if isinstance(value, int) and 0 <= value <= _HIGHEST else None


def _tags(value: Any) -> list[BaseTag] | None:
    if value is None:
        return None
    return [Tag(each) for each in ([value] if isinstance(value, int) else value)] or None


_READERS: dict[str, Callable[[Any], Any]] = {
    "LO": _comment,
    "US": _number,
    "AT": _tags,
    "UI": _uid,
}
_ADDED = {
    keyword: _READERS[ELEMENTS[keyword].vr]
    for command, carried in CARRIED.items()
    if command & RESPONSE_BIT
    for keyword in carried.optional
}
"""What a handler's status dataset may add to the response (PS3.7 Annex C), and how it is read:
None is what cannot be sent."""


def may_ask(incoming: Incoming) -> bool:
    """Return whether the peer has the role to make a request; SCPs make event reports alone.

    It may believe to have it, where it answered none of the roles that we proposed. A C-CANCEL is
    no request of its own.
    """
    context, command = incoming.context, incoming.message.command
    if command is Command.C_CANCEL_RQ:
        return False
    return bool(context.as_scp) or context.scp_unanswered or command is Command.N_EVENT_REPORT_RQ


def log_failure(handler: str, error: Exception) -> None:
    """Log that a handler raised `error`: in a line, where it is the peer's fault or nobody's."""
    if isinstance(error, NoHandler):
        LOGGER.error("%s: %s", handler, error)
    elif isinstance(error, DatasetError):
        LOGGER.error("The handler of %s failed: %s", handler, error)
    else:
        LOGGER.exception("The handler of %s failed", handler)


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


async def end_handler(port: Port, results: Any) -> None:
    """End the handler behind `results` if it still runs; what it raises then is only logged."""
    try:
        await port.close_results(results)
    except Exception:
        LOGGER.exception("A handler failed when it was ended")


async def respond(
    port: Port, incoming: Incoming, response: Message, dataset: bytes | None = None
) -> None:
    """Send the response, unless the handler (or the peer) ended the association meanwhile."""
    if port.is_over:
        return
    context_id = incoming.context.context_id
    assert context_id is not None
    response.has_dataset = dataset is not None
    source = BytesSource(dataset) if dataset is not None else None
    await port.send(context_id, response, source)
