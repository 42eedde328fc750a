"""The steps that all services share as provider: call the handler, check its status, respond.

Each service chooses the handler, and interprets its result.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from dicomwire.data.encodings import DatasetError
from dicomwire.events import InterventionEvent, NoHandler
from dicomwire.logs import LOGGER, described_request, log_operation, request_fields
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
from dicomwire.status import GENERAL_STATUS, STATUS_PENDING, code_to_category

if TYPE_CHECKING:
    from pydicom.dataset import Dataset
    from pydicom.tag import BaseTag
    from pydicom.uid import UID

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
    """Return the response to `request` with `status`."""
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
    """Return the status to refuse `request` with, if an element that it needs is unusable."""
    for keyword in request.unusable:
        if keyword in _UNUSABLE:
            return _UNUSABLE[keyword]
    return None


def set_status(response: Message, status: Any, sop_class: SOPClass) -> bool:
    """Put the status that a handler returned, an int or a Dataset, into `response`.

    Any other type becomes 0xC002, a Dataset without Status 0xC001, and the result is false then.
    A status that the service does not define is sent unchanged, with a warning in the log.
    """
    conclude(response, BAD_STATUS)
    if not isinstance(status, int) and _is_dataset(status):
        elements, status = status, status.get("Status")
        if status is None:
            LOGGER.error("The handler returned a status Dataset without (0000,0900) Status")
            response.Status = NO_STATUS
            return False
        take_elements(response, elements)
    if not isinstance(status, int):
        LOGGER.error("The handler returned a status of type %s", type(status).__name__)
        return False
    if not 0 <= status <= _HIGHEST:
        LOGGER.error("The handler returned the status %d, which is out of range", status)
        return False
    response.Status = int(status)
    if status and status not in sop_class.statuses:  # all services define 0x0000
        service = sop_class.service_class.value
        LOGGER.warning("Status 0x%04X is not defined for %s", status, service)
    return True


def _is_dataset(value: Any) -> bool:
    from pydicom.dataset import Dataset

    return isinstance(value, Dataset)


def conclude(response: Message, status: int, comment: str | None = None) -> None:
    """Put `status` and `comment` into `response`, and remove what the handler added."""
    response.Status = status
    response.ErrorComment, response.ErrorID = comment, None
    response.OffendingElement = response.AttributeIdentifierList = None


def take_elements(response: Message, status: Dataset) -> None:
    """Copy the other elements of a status dataset into `response`, if it may have them."""
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
    from pydicom.multival import MultiValue

    if isinstance(value, MultiValue):  # pydicom splits a text at each backslash
        value = "\\".join(map(str, value))
    return str(value) or None if value is not None else None


def _uid(value: Any) -> UID | None:
    return quick_uid(value) if isinstance(value, str) and is_sendable_uid(value) else None


def _number(value: Any) -> int | None:
    return value if isinstance(value, int) and 0 <= value <= _HIGHEST else None


def _tags(value: Any) -> list[BaseTag] | None:
    if value is None:
        return None
    from pydicom.tag import Tag

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
"""The elements that a status dataset may add to the response (PS3.7 Annex C), each with a function
that returns the value to send, or None if it cannot be sent."""


def may_ask(incoming: Incoming) -> bool:
    """Return whether the peer has the role to send a request; an SCP sends only event reports.

    If the peer did not answer our role selection, it may assume that it has the role, so the
    request is allowed. A C-CANCEL is not a request in this sense.
    """
    context, command = incoming.context, incoming.message.command
    if command is Command.C_CANCEL_RQ:
        return False
    return bool(context.as_scp) or context.scp_unanswered or command is Command.N_EVENT_REPORT_RQ


PROGRAM_FAILED = "The program failed to process the request"
"""The comment of a response after an exception of the handler, whose text is only for the log."""


def log_failure(port: Port, incoming: Incoming, handler: str, error: Exception) -> None:
    """Log that a handler raised `error`: with the traceback, if it may be a bug of the handler."""
    about = described_request(port.between, incoming.context, incoming.message)
    extra = {"dicom": request_fields(port.between, incoming.context, incoming.message)}
    if isinstance(error, NoHandler):
        LOGGER.error("%s: %s", about, error, extra=extra)
    elif isinstance(error, DatasetError):
        LOGGER.error("%s: the handler of %s failed: %s", about, handler, error, extra=extra)
    else:
        LOGGER.exception("%s: the handler of %s failed", about, handler, extra=extra)


async def ask(port: Port, event: InterventionEvent, incoming: Incoming) -> Any:
    """Call the handler of `event` for a request, and return its result."""
    return await port.intervene(
        event,
        {
            "request": incoming.message,
            "context": incoming.context.as_tuple,
            "payload": incoming.payload,
        },
    )


async def end_handler(port: Port, results: Any) -> None:
    """Close the generator of a handler, if it still runs, and log any exception it raises."""
    try:
        await port.close_results(results)
    except Exception:
        LOGGER.exception("A handler failed when its generator was closed")


async def respond(
    port: Port, incoming: Incoming, response: Message, dataset: bytes | None = None
) -> None:
    """Send the response, unless the handler or the peer has ended the association."""
    if port.is_over:
        return
    context_id = incoming.context.context_id
    assert context_id is not None
    response.has_dataset = dataset is not None
    await port.send(context_id, response, dataset)
    if LOGGER.isEnabledFor(logging.INFO) and not incoming.reason:
        _log_answer(port, incoming, response)


def _log_answer(port: Port, incoming: Incoming, response: Message) -> None:
    """Log the last response to a request."""
    if code_to_category(response.Status or 0) == STATUS_PENDING:
        return
    statuses = GENERAL_STATUS if incoming.service is None else incoming.service[1].statuses
    log_operation(port.between, incoming.context, incoming.message, response, statuses)
