"""The service class provider: finds the service for a request, serves or refuses it, and responds.

C-ECHO and C-STORE are here; queries, retrieval and the N-services have modules of their own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dicomwire.data.payloads import FilePayload
from dicomwire.errors import AssociationFailure
from dicomwire.event_types import StatusEvent
from dicomwire.events import EVT_C_ECHO, EVT_C_STORE
from dicomwire.logs import LOGGER, escaped, log_refusal
from dicomwire.protocol.command import RESPONSE_BIT, Command, Message
from dicomwire.registry.services import QUERY_RETRIEVE, Service, SOPClass, sop_class_of
from dicomwire.services.answers import (
    PROGRAM_FAILED,
    SUCCESS,
    answer,
    ask,
    conclude,
    log_failure,
    may_ask,
    refusal_of,
    respond,
    set_status,
)
from dicomwire.services.normalized import NORMALIZED, PROCESSING_FAILURE
from dicomwire.services.port import Incoming, Port, Server
from dicomwire.status import STATUS_FAILURE, code_to_category

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

SOP_CLASS_NOT_SUPPORTED = 0x0122
UNRECOGNIZED_OPERATION = 0x0211
STORE_HANDLER_FAILED = 0xC211

REQUESTS = frozenset(command for command in Command if not command & RESPONSE_BIT) - {
    Command.C_CANCEL_RQ
}
"""The messages that a provider answers."""


def admit(port: Port, incoming: Incoming) -> None:
    """Set the `service` of a request, or its `refusal`.

    Called when the command has arrived, so that the dataset of a refused request is not kept.
    """
    context, request = incoming.context, incoming.message
    sop_class = sop_class_of(str(context.abstract_syntax))
    service = port.service_of(sop_class)
    server = _SERVERS.get((service, request.command))
    unusable = refusal_of(request) if request.unusable else None
    if unusable is not None:
        _refuse(port, incoming, unusable, "an element is missing or cannot be read")
    elif not may_ask(incoming):
        _refuse(port, incoming, SOP_CLASS_NOT_SUPPORTED, "the peer does not have the role for it")
    elif server is None:
        _refuse(port, incoming, UNRECOGNIZED_OPERATION, "there is no such operation")
    elif not _is_of(request, sop_class, service):
        _refuse(port, incoming, SOP_CLASS_NOT_SUPPORTED, "the request is for another SOP class")
    elif server is _store and not (port.keeps_stored or port.bound(EVT_C_STORE)):
        _refuse(port, incoming, STORE_HANDLER_FAILED, "no handler is bound to evt.EVT_C_STORE")
    else:
        event = _ASKED.get(server)
        is_asked = event is None or port.bound(event)
        incoming.service = server if is_asked else succeed, sop_class
        if context.scp_unanswered:
            LOGGER.warning(
                "%s is served for %s, though the peer did not answer whether we may serve it",
                request.name,
                escaped(str(context.abstract_syntax)),
            )
            context.become_scp()  # so that the warning is logged once


def _is_of(request: Message, sop_class: SOPClass, service: Service) -> bool:
    """Return whether a request is for the SOP class of its context, or one that shares it."""
    uid = str(request.AffectedSOPClassUID or request.RequestedSOPClassUID)
    if uid == sop_class:
        return True
    return service in _SHARED_CONTEXTS and sop_class_of(uid).service_class is service


def _refuse(port: Port, incoming: Incoming, status: int, reason: str) -> None:
    log_refusal(port.between, incoming.context, incoming.message, reason)
    incoming.refusal, incoming.reason = status, reason


def _failure(incoming: Incoming, refusal: int | Dataset) -> Message:
    """Return the response that refuses a request; a Dataset may have more elements than Status."""
    if isinstance(refusal, int):
        response = answer(incoming.message, refusal)
        response.ErrorComment = incoming.reason or None
        return response
    response = answer(incoming.message, PROCESSING_FAILURE)
    set_status(response, refusal, sop_class_of(str(incoming.context.abstract_syntax)))
    return response


async def serve(port: Port, incoming: Incoming) -> None:
    """Serve one request, or refuse it, and respond."""
    try:
        if incoming.refusal is not None:
            await respond(port, incoming, _failure(incoming, incoming.refusal))
        elif incoming.service is not None:
            server, sop_class = incoming.service
            await server(port, incoming, sop_class)
    finally:
        incoming.discard()


async def succeed(port: Port, incoming: Incoming, sop_class: SOPClass) -> None:
    """Serve a C-ECHO, or a C-STORE whose object is kept, for which no handler is bound."""
    await port.succeed(incoming)


async def _echo(port: Port, incoming: Incoming, sop_class: SOPClass) -> None:
    """Serve C-ECHO (PS3.7 Section 9.1.5): Success also if the handler fails, since we are there."""
    status: Any = SUCCESS
    try:
        status = await ask(port, EVT_C_ECHO, incoming)
    except AssociationFailure:
        raise
    except Exception as error:
        log_failure(port, incoming, "evt.EVT_C_ECHO", error)
    if _is_success(status):
        await port.succeed(incoming)
        return
    response = answer(incoming.message, SUCCESS)
    if not set_status(response, status, sop_class):
        response.Status = SUCCESS
    await respond(port, incoming, response)


async def _store(port: Port, incoming: Incoming, sop_class: SOPClass) -> None:
    """Serve C-STORE (PS3.7 Section 9.1.1, PS3.4 Annex B)."""
    status: Any = SUCCESS
    has_failed = False
    try:
        status = await ask(port, EVT_C_STORE, incoming)
    except AssociationFailure:
        raise
    except Exception as error:
        log_failure(port, incoming, "evt.EVT_C_STORE", error)
        has_failed = True
    if incoming.is_answered:
        return
    if _is_success(status) and not has_failed:
        await port.succeed(incoming)
        return
    response = answer(incoming.message, SUCCESS)
    if has_failed:
        conclude(response, STORE_HANDLER_FAILED, PROGRAM_FAILED)
    else:
        set_status(response, status, sop_class)
    if (
        response.Status != SUCCESS
        and port.keeps_stored
        and isinstance(incoming.payload, FilePayload)  # not a sink of the program
        and code_to_category(response.Status or 0) == STATUS_FAILURE
    ):
        LOGGER.warning("The received file is kept, though the handler returned a failure")
    await respond(port, incoming, response)


def _is_success(status: Any) -> bool:
    """Return whether a handler returned the status 0x0000, without other elements."""
    return isinstance(status, int) and not status


# Queries and retrieval need pydicom, which takes long to import, so they come when asked for.


async def _find(port: Port, incoming: Incoming, sop_class: SOPClass) -> None:
    from dicomwire.services.query import find

    await find(port, incoming, sop_class)


async def _find_one(port: Port, incoming: Incoming, sop_class: SOPClass) -> None:
    """Serve a Relevant Patient Information Query, with at most one match (PS3.4 Annex Q)."""
    from dicomwire.services.query import find

    await find(port, incoming, sop_class, only_one=True)


async def _retrieve(port: Port, incoming: Incoming, sop_class: SOPClass) -> None:
    from dicomwire.services.retrieve import Retrieval

    await Retrieval(port, incoming, sop_class).run()


_ASKED: dict[Server, StatusEvent] = {_echo: EVT_C_ECHO, _store: EVT_C_STORE}
"""The handlers that are asked, of services that succeed without one; others fail."""

_QUERY_ONLY = (
    Service.BASIC_WORKLIST,
    Service.SUBSTANCE_ADMINISTRATION,
    Service.UNIFIED_PROCEDURE_STEP,
)

_SHARED_CONTEXTS = (Service.PRINT_MANAGEMENT, Service.UNIFIED_PROCEDURE_STEP)
"""Services of which one context serves several SOP classes (PS3.4 Sections H.3.1 and CC.3.1)."""

_SERVERS: dict[tuple[Service, Command], Server] = {
    (Service.VERIFICATION, Command.C_ECHO_RQ): _echo,
    (Service.STORAGE, Command.C_STORE_RQ): _store,
    (Service.NON_PATIENT_OBJECT_STORAGE, Command.C_STORE_RQ): _store,
    (Service.RELEVANT_PATIENT, Command.C_FIND_RQ): _find_one,
    **{(service, Command.C_FIND_RQ): _find for service in (*QUERY_RETRIEVE, *_QUERY_ONLY)},
    **{(service, Command.C_GET_RQ): _retrieve for service in QUERY_RETRIEVE},
    **{(service, Command.C_MOVE_RQ): _retrieve for service in QUERY_RETRIEVE},
    **NORMALIZED,
}
