"""What a service class provider does with each request: call the handler, judge it, answer.

How the request came and how the answer leaves is the port's business.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from pydicom.dataset import Dataset

from dicomwire.errors import AssociationFailure
from dicomwire.events import EVT_C_ECHO, EVT_C_STORE, InterventionEvent
from dicomwire.logs import LOGGER
from dicomwire.protocol.command import Command, Message
from dicomwire.services.port import Incoming, Port
from dicomwire.sop_class import uid_to_sop_class
from dicomwire.uids import Service, SOPClass

SUCCESS = 0x0000
SOP_CLASS_NOT_SUPPORTED = 0x0122
UNRECOGNIZED_OPERATION = 0x0211
CANNOT_UNDERSTAND_NO_STATUS = 0xC001
CANNOT_UNDERSTAND_BAD_STATUS = 0xC002
STORE_HANDLER_FAILED = 0xC211

_RESPONSE_BIT = 0x8000
_STATUS_ELEMENTS = ("ErrorComment", "OffendingElement", "ErrorID")
"""What a handler's status dataset may add to the response (PS3.7 Annex C)."""


def answer(request: Message, status: int) -> Message:
    """Return the response to `request` that says `status`."""
    return Message(
        Command(request.command | _RESPONSE_BIT),
        MessageIDBeingRespondedTo=request.MessageID,
        AffectedSOPClassUID=request.AffectedSOPClassUID,
        AffectedSOPInstanceUID=request.AffectedSOPInstanceUID,
        Status=status,
    )


def set_status(response: Message, status: Any, sop_class: SOPClass) -> None:
    """Put what a handler returned as status, an int or a Dataset, into `response`.

    What is neither is answered with 0xC002, a Dataset without Status with 0xC001; a status that
    the service class does not define is sent as it is, with a warning.
    """
    if isinstance(status, Dataset):
        if "Status" not in status:
            LOGGER.error("The handler returned a status Dataset without (0000,0900) Status")
            response.Status = CANNOT_UNDERSTAND_NO_STATUS
            return
        for element in status:
            if element.keyword == "Status" or element.keyword in _STATUS_ELEMENTS:
                setattr(response, element.keyword, element.value)
            else:
                LOGGER.warning("The status Dataset's %s is not sent", element.tag)
    elif isinstance(status, int):
        response.Status = status
    else:
        LOGGER.error("The handler returned a status of type %s", type(status).__name__)
        response.Status = CANNOT_UNDERSTAND_BAD_STATUS
        return
    if response.Status not in sop_class.statuses:
        service = sop_class.service_class.value
        LOGGER.warning("Status 0x%04X is not one that %s defines", response.Status, service)


async def serve(port: Port, incoming: Incoming) -> None:
    """Serve one request, from its arrival to its response."""
    try:
        sop_class = uid_to_sop_class(str(incoming.context.abstract_syntax))
        server = _SERVERS.get((sop_class.service_class, incoming.message.command), _refuse)
        await server(port, incoming, sop_class)
    finally:
        if incoming.payload is not None:
            incoming.payload.discard()


async def _refuse(port: Port, incoming: Incoming, sop_class: SOPClass) -> None:
    request = incoming.message
    LOGGER.error("%s is not an operation of %s", request.name, sop_class.name)
    await _respond(port, incoming, answer(request, UNRECOGNIZED_OPERATION))


async def _respond(port: Port, incoming: Incoming, response: Message) -> None:
    """Send the response, unless the handler (or the peer) ended the association meanwhile."""
    if port.is_over:
        return
    assert incoming.context.context_id is not None
    await port.send(incoming.context.context_id, response)


async def _ask(port: Port, event: InterventionEvent, incoming: Incoming) -> Any:
    return await port.intervene(
        event,
        {
            "request": incoming.message,
            "context": incoming.context.as_tuple,
            "payload": incoming.payload,
        },
    )


async def _echo(port: Port, incoming: Incoming, sop_class: SOPClass) -> None:
    """C-ECHO (PS3.7 Section 9.1.5): whatever is wrong with the handler, we are here."""
    response = answer(incoming.message, SUCCESS)
    try:
        status = await _ask(port, EVT_C_ECHO, incoming)
    except AssociationFailure:
        raise
    except Exception:
        LOGGER.exception("The handler of evt.EVT_C_ECHO failed")
    else:
        if isinstance(status, int | Dataset):
            set_status(response, status, sop_class)
            if isinstance(status, Dataset) and "Status" not in status:
                response.Status = SUCCESS
        else:
            LOGGER.error("The handler of evt.EVT_C_ECHO returned %s", type(status).__name__)
    await _respond(port, incoming, response)


async def _store(port: Port, incoming: Incoming, sop_class: SOPClass) -> None:
    """C-STORE (PS3.7 Section 9.1.1, PS3.4 Annex B)."""
    response = answer(incoming.message, SUCCESS)
    if incoming.refusal is not None:
        response.Status = incoming.refusal
    elif port.bound(EVT_C_STORE) or not port.keeps_stored:
        try:
            set_status(response, await _ask(port, EVT_C_STORE, incoming), sop_class)
        except AssociationFailure:
            raise
        except Exception:
            LOGGER.exception("The handler of evt.EVT_C_STORE failed")
            response.Status = STORE_HANDLER_FAILED
    await _respond(port, incoming, response)


_Server = Callable[[Port, Incoming, SOPClass], Awaitable[None]]

_SERVERS: dict[tuple[Service, Command], _Server] = {
    (Service.VERIFICATION, Command.C_ECHO_RQ): _echo,
    (Service.STORAGE, Command.C_STORE_RQ): _store,
    (Service.NON_PATIENT_OBJECT_STORAGE, Command.C_STORE_RQ): _store,
}
