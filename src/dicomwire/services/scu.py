"""The service class user: makes requests, and reads their responses.

PS3.7 Sections 9 and 10. Callers choose the presentation context and open the datasets.
"""

from __future__ import annotations

from operator import attrgetter
from typing import Any

from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.tag import BaseTag, Tag
from pydicom.uid import UID

from dicomwire.data.codec import DatasetError, decode_message
from dicomwire.data.scanner import new_dataset
from dicomwire.data.sources import Source
from dicomwire.logs import LOGGER, log_identifier
from dicomwire.protocol.command import Command, Message
from dicomwire.protocol.context import PresentationContext, quick_uid
from dicomwire.protocol.limits import Limits
from dicomwire.services.port import Incoming, Port
from dicomwire.sop_class import RepositoryQuery, Verification
from dicomwire.status import (
    STATUS_FAILURE,
    STATUS_PENDING,
    STATUS_SUCCESS,
    STATUS_WARNING,
    code_to_category,
)

PROCESSING_FAILURE = 0x0110

_DEFAULT_LIMITS = Limits()
_STATUS_KEYWORDS = (
    "ErrorComment",
    "OffendingElement",
    "ErrorID",
    "AttributeIdentifierList",
    "NumberOfRemainingSuboperations",
    "NumberOfCompletedSuboperations",
    "NumberOfFailedSuboperations",
    "NumberOfWarningSuboperations",
)
_STATUS = BaseTag(0x00000900)
_COMMENT = BaseTag(0x00000902)
_status_values = attrgetter(*_STATUS_KEYWORDS)
_NO_VALUES = (None,) * len(_STATUS_KEYWORDS)
OF_MANY_RESPONSES = (Command.C_FIND_RQ, Command.C_GET_RQ, Command.C_MOVE_RQ)
_REPOSITORY_PARTIAL = 0xB001
"""Warning of Repository Query: there are more matches (PS3.4 Section C.4.1)."""


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


def query_request(
    command: Command,
    message_id: int,
    model: UID,
    priority: int,
    move_destination: str | None = None,
) -> Message:
    """Return a C-FIND-RQ, C-GET-RQ or C-MOVE-RQ (PS3.7 Sections 9.3.2 to 9.3.4)."""
    return Message(
        command,
        MessageID=message_id,
        AffectedSOPClassUID=model,
        Priority=priority,
        MoveDestination=move_destination,
        has_dataset=True,
    )


def cancel_request(message_id: int) -> Message:
    """Return a C-CANCEL-RQ (PS3.7 Section 9.3.2.3)."""
    return Message(Command.C_CANCEL_RQ, MessageIDBeingRespondedTo=message_id)


def event_report_request(
    message_id: int, class_uid: str, instance_uid: str, event_type: int
) -> Message:
    """Return an N-EVENT-REPORT-RQ (PS3.7 Section 10.3.1)."""
    return Message(
        Command.N_EVENT_REPORT_RQ,
        MessageID=message_id,
        AffectedSOPClassUID=quick_uid(class_uid),
        AffectedSOPInstanceUID=quick_uid(instance_uid),
        EventTypeID=event_type,
    )


def get_request(
    message_id: int, class_uid: str, instance_uid: str, tags: list[BaseTag] | None
) -> Message:
    """Return an N-GET-RQ for the attributes `tags`, or all (PS3.7 Section 10.3.2)."""
    request = _requested(Command.N_GET_RQ, message_id, class_uid, instance_uid)
    request.AttributeIdentifierList = [Tag(tag) for tag in tags or ()] or None
    return request


def set_request(message_id: int, class_uid: str, instance_uid: str) -> Message:
    """Return an N-SET-RQ (PS3.7 Section 10.3.3)."""
    return _requested(Command.N_SET_RQ, message_id, class_uid, instance_uid)


def action_request(message_id: int, class_uid: str, instance_uid: str, action_type: int) -> Message:
    """Return an N-ACTION-RQ (PS3.7 Section 10.3.4)."""
    request = _requested(Command.N_ACTION_RQ, message_id, class_uid, instance_uid)
    request.ActionTypeID = action_type
    return request


def create_request(message_id: int, class_uid: str, instance_uid: str | None) -> Message:
    """Return an N-CREATE-RQ; without `instance_uid` the peer chooses one (Section 10.3.5)."""
    return Message(
        Command.N_CREATE_RQ,
        MessageID=message_id,
        AffectedSOPClassUID=quick_uid(class_uid),
        AffectedSOPInstanceUID=quick_uid(instance_uid) if instance_uid is not None else None,
    )


def delete_request(message_id: int, class_uid: str, instance_uid: str) -> Message:
    """Return an N-DELETE-RQ (PS3.7 Section 10.3.6)."""
    return _requested(Command.N_DELETE_RQ, message_id, class_uid, instance_uid)


def _requested(command: Command, message_id: int, class_uid: str, instance_uid: str) -> Message:
    return Message(
        command,
        MessageID=message_id,
        RequestedSOPClassUID=quick_uid(class_uid),
        RequestedSOPInstanceUID=quick_uid(instance_uid),
    )


async def perform(
    port: Port, context: PresentationContext, request: Message, source: Source | None = None
) -> Incoming:
    """Send `request` and return its one response."""
    context_id = context.context_id
    assert context_id is not None
    exchange = await port.request(context_id, request, source)
    return await exchange.response()


def is_last(request: Message, response: Message) -> bool:
    """Return whether `response` is the last one to `request`.

    More follow after a pending response to C-FIND, C-GET or C-MOVE, and after the warning of
    Repository Query that there are more matches.
    """
    if request.command not in OF_MANY_RESPONSES:
        return True
    status = response.Status or 0
    if code_to_category(status) == STATUS_PENDING:
        return False
    return status != _REPOSITORY_PARTIAL or request.AffectedSOPClassUID != RepositoryQuery


def status_dataset(response: Message) -> Dataset:
    """Return the status elements of a response as a dataset for programs (PS3.7 Annex C)."""
    element = DataElement(_STATUS, "US", response.Status, already_converted=True)
    status = new_dataset({_STATUS: element})
    values = _status_values(response)
    if values == _NO_VALUES:  # nearly always
        return status
    for keyword, value in zip(_STATUS_KEYWORDS, values, strict=True):
        if keyword == "ErrorComment" and value is not None:
            # Not converted: pydicom would split the text at each backslash.
            status[_COMMENT] = DataElement(_COMMENT, "LO", value, already_converted=True)
        elif value is not None:
            setattr(status, keyword, value)
    return status


def query_result(
    request: Message, incoming: Incoming, limits: Limits = _DEFAULT_LIMITS
) -> tuple[Dataset, Dataset | None]:
    """Return the status and Identifier of a response to C-FIND, C-GET or C-MOVE."""
    response = incoming.message
    category = code_to_category(response.Status or 0)
    identifier: Dataset | None = None
    try:
        identifier = _decoded(incoming, limits)
    except DatasetError as error:
        LOGGER.error("The Identifier of a %s cannot be decoded: %s", response.name, error)
    if identifier is not None:
        log_identifier(f"{response.name} Identifier", identifier)
    elif category in (STATUS_WARNING, STATUS_FAILURE) and request.command is not Command.C_FIND_RQ:
        identifier = Dataset()
    return status_dataset(response), identifier


def normalized_result(
    request: Message, incoming: Incoming, limits: Limits = _DEFAULT_LIMITS
) -> tuple[Dataset, Dataset | None]:
    """Return the status and the dataset of an N-response; for success and warnings always both.

    If the peer chose the UID of an N-CREATE, the status has it as AffectedSOPInstanceUID.
    """
    response = incoming.message
    status = status_dataset(response)
    created = response.AffectedSOPInstanceUID
    if request.command is Command.N_CREATE_RQ and created not in (
        None,
        request.AffectedSOPInstanceUID,
    ):
        status.AffectedSOPInstanceUID = created
    category = code_to_category(response.Status or 0)
    try:
        reply = _decoded(incoming, limits)
    except DatasetError as error:
        LOGGER.error("The dataset of %s cannot be decoded: %s", response.name, error)
        status.Status = PROCESSING_FAILURE
        return status, None
    if category not in (STATUS_SUCCESS, STATUS_WARNING):
        return status, None
    return status, Dataset() if reply is None else reply


def _decoded(incoming: Incoming, limits: Limits) -> Dataset | None:
    payload: Any = incoming.payload
    if payload is None:
        return None
    try:
        return decode_message(payload, incoming.context.transfer_syntax[0], limits)
    finally:
        payload.discard()
