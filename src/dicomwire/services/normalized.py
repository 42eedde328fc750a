"""The N-services as provider (PS3.7 Section 10): the operations of each service, and their answers.

The program's handlers implement the managed objects.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dicomwire import events as evt
from dicomwire.data.encodings import DatasetError
from dicomwire.errors import AssociationFailure
from dicomwire.protocol.command import Command, Message
from dicomwire.protocol.context import UID_LENGTH, quick_uid
from dicomwire.registry.services import Service, SOPClass
from dicomwire.services.answers import (
    PROGRAM_FAILED,
    SUCCESS,
    answer,
    ask,
    conclude,
    log_failure,
    respond,
    set_status,
)
from dicomwire.services.port import Incoming, Port, Server
from dicomwire.status import STATUS_SUCCESS, STATUS_WARNING, code_to_category

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

PROCESSING_FAILURE = 0x0110


_EVENTS = {
    Command.N_EVENT_REPORT_RQ: evt.EVT_N_EVENT_REPORT,
    Command.N_GET_RQ: evt.EVT_N_GET,
    Command.N_SET_RQ: evt.EVT_N_SET,
    Command.N_ACTION_RQ: evt.EVT_N_ACTION,
    Command.N_CREATE_RQ: evt.EVT_N_CREATE,
    Command.N_DELETE_RQ: evt.EVT_N_DELETE,
}


async def serve(port: Port, incoming: Incoming, sop_class: SOPClass) -> None:
    """Serve an N-request. The handler returns (status, dataset or None); for N-DELETE, a status.

    The dataset is sent only with Success and Warning. If the handler fails, or its dataset cannot
    be encoded, the status is 0x0110.
    """
    request = incoming.message
    response = answer(request, SUCCESS)
    _echo_types(request, response)
    reply: bytes | None = None
    try:
        reply = await _handle(port, incoming, response, sop_class)
    except AssociationFailure:
        raise
    except Exception as error:
        log_failure(port, incoming, request.name, error)
        conclude(response, PROCESSING_FAILURE, PROGRAM_FAILED)
    await respond(port, incoming, response, reply)


def _echo_types(request: Message, response: Message) -> None:
    """Copy the event type or action type of the request into the response."""
    if request.command is Command.N_EVENT_REPORT_RQ:
        response.EventTypeID = request.EventTypeID
    elif request.command is Command.N_ACTION_RQ:
        response.ActionTypeID = request.ActionTypeID


async def _handle(
    port: Port, incoming: Incoming, response: Message, sop_class: SOPClass
) -> bytes | None:
    """Call the handler, put its status into the response, and return its dataset, encoded."""
    command = incoming.message.command
    result = await ask(port, _EVENTS[command], incoming)
    if command is Command.N_DELETE_RQ:  # its handler returns a status without a dataset
        set_status(response, result, sop_class)
        return None
    status, dataset = result
    if not set_status(response, status, sop_class):
        return None
    category = code_to_category(response.Status or 0)
    if category not in (STATUS_SUCCESS, STATUS_WARNING):
        return None
    if command is Command.N_CREATE_RQ and response.AffectedSOPInstanceUID is None:
        dataset = _take_instance_uid(response, dataset)
    if dataset is None or not len(dataset):
        return None
    from dicomwire.data.codec import encode_dataset

    return encode_dataset(dataset, incoming.context.transfer_syntax[0])


def _take_instance_uid(response: Message, dataset: Any) -> Dataset:
    """Move the UID of the created instance from the handler's dataset to the response."""
    from pydicom.dataset import Dataset

    if not isinstance(dataset, Dataset) or "AffectedSOPInstanceUID" not in dataset:
        raise DatasetError("neither it nor the request has an AffectedSOPInstanceUID")
    rest = Dataset()
    rest.update(dataset)
    uid = str(rest.AffectedSOPInstanceUID or "")
    if not 0 < len(uid) <= UID_LENGTH:
        raise DatasetError(f"its AffectedSOPInstanceUID has {len(uid)} characters")
    response.AffectedSOPInstanceUID = quick_uid(uid)
    del rest.AffectedSOPInstanceUID
    return rest


_ALL = tuple(_EVENTS)
_SERVICES: dict[Service, tuple[Command, ...]] = {
    Service.APPLICATION_EVENT_LOGGING: (Command.N_ACTION_RQ,),
    Service.DISPLAY_SYSTEM: (Command.N_GET_RQ,),
    Service.INSTANCE_AVAILABILITY: (Command.N_CREATE_RQ,),
    Service.MEDIA_CREATION: (Command.N_ACTION_RQ, Command.N_CREATE_RQ, Command.N_GET_RQ),
    Service.PRINT_MANAGEMENT: _ALL,
    Service.PROCEDURE_STEP: (
        Command.N_CREATE_RQ,
        Command.N_EVENT_REPORT_RQ,
        Command.N_GET_RQ,
        Command.N_SET_RQ,
    ),
    Service.RT_MACHINE_VERIFICATION: _ALL,
    Service.STORAGE_COMMITMENT: (Command.N_ACTION_RQ, Command.N_EVENT_REPORT_RQ),
    Service.STORAGE_MANAGEMENT: (
        Command.N_ACTION_RQ,
        Command.N_EVENT_REPORT_RQ,
        Command.N_GET_RQ,
    ),
    Service.UNIFIED_PROCEDURE_STEP: (
        Command.N_ACTION_RQ,
        Command.N_CREATE_RQ,
        Command.N_EVENT_REPORT_RQ,
        Command.N_GET_RQ,
        Command.N_SET_RQ,
    ),
}

NORMALIZED: dict[tuple[Service, Command], Server] = {
    (service, command): serve for service, commands in _SERVICES.items() for command in commands
}
"""The operations of each service class (PS3.4 Annexes F, H, J, N, P, R, S, CC, DD, KK)."""
