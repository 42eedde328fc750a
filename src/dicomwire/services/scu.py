"""The requests of a service class user (PS3.7 Sections 9 and 10).

`results` reads the responses. Callers choose the presentation context and open the datasets.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dicomwire.protocol.command import Command, Message
from dicomwire.protocol.context import quick_uid
from dicomwire.registry import uids
from dicomwire.registry.tables import RepositoryQuery, Verification
from dicomwire.status import STATUS_PENDING, code_to_category

if TYPE_CHECKING:
    from pydicom.uid import UID

OF_MANY_RESPONSES = (Command.C_FIND_RQ, Command.C_GET_RQ, Command.C_MOVE_RQ)
_REPOSITORY_PARTIAL = 0xB001
"""Warning of Repository Query: there are more matches (PS3.4 Section C.4.1)."""


def echo_request(message_id: int) -> Message:
    """Return a C-ECHO-RQ (PS3.7 Section 9.3.5.1)."""
    verification: UID = str.__new__(uids.made_as, Verification)  # type: ignore[assignment]
    return Message(Command.C_ECHO_RQ, MessageID=message_id, AffectedSOPClassUID=verification)


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
        AffectedSOPClassUID=sop_class_uid,
        AffectedSOPInstanceUID=sop_instance_uid,
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


_AFFECTED = (Command.N_EVENT_REPORT_RQ, Command.N_CREATE_RQ)
"""The requests whose elements are Affected SOP Class UID and Instance UID, not Requested ones."""


def normalized_request(
    command: Command, message_id: int, class_uid: str, instance_uid: str | None, **more: Any
) -> Message:
    """Return an N-request with `more` elements (PS3.7 Section 10.3).

    Without `instance_uid`, the peer chooses that of an N-CREATE.
    """
    kind = "Affected" if command in _AFFECTED else "Requested"
    more[f"{kind}SOPClassUID"] = quick_uid(class_uid)
    if instance_uid is not None:
        more[f"{kind}SOPInstanceUID"] = quick_uid(instance_uid)
    return Message(command, MessageID=message_id, **more)


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
