"""The library's log lines at INFO and above, and its dumps of PDUs and messages at DEBUG.

Patient data are logged at DEBUG only, passcodes and tokens never.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from enum import StrEnum
from functools import cache, partial
from typing import TYPE_CHECKING, Any, NamedTuple

from dicomwire import events as evt
from dicomwire.protocol.command import CARRIED, Message
from dicomwire.protocol.context import PresentationContext, Result
from dicomwire.protocol.items import (
    AsynchronousOperationsWindowNegotiation,
    ImplementationClassUIDNotification,
    ImplementationVersionNameNotification,
    MaximumLengthNotification,
    SCP_SCU_RoleSelectionNegotiation,
    SOPClassCommonExtendedNegotiation,
    SOPClassExtendedNegotiation,
    UserIdentityNegotiation,
    UserItem,
)
from dicomwire.protocol.pdu import (
    Abort,
    AssociateAC,
    AssociateRJ,
    AssociateRQ,
    PDataTF,
    ReleaseRP,
    ReleaseRQ,
)
from dicomwire.registry import tables
from dicomwire.registry.uids import looked_up
from dicomwire.status import StatusTable, described

if TYPE_CHECKING:
    from pydicom.dataset import Dataset
    from pydicom.uid import UID

LOGGER = logging.getLogger("dicomwire")

_WIDTH = 76
_SHOWN_BYTES = 32
_SHOWN_VALUES = 8


class Progress(StrEnum):
    """The log lines that report the progress of an association, without variable parts."""

    REQUESTING = "Requesting Association"
    ACCEPTING = "Accepting Association"
    REJECTING = "Rejecting Association"
    ACCEPTED = "Association Accepted"
    REJECTED = "Association Rejected"
    RELEASING = "Releasing Association"
    RELEASED = "Association Released"
    ABORTING = "Aborting Association"
    ABORTED = "Association Aborted"
    CANNOT_CONNECT = "Association request failed: unable to connect to remote"
    ACSE_TIMEOUT = "ACSE timeout reached while waiting for response"
    DIMSE_TIMEOUT = "DIMSE timeout reached while waiting for message"


def debug_logger() -> None:
    """Log all of dicomwire's records to standard error; this replaces its other handlers."""
    for handler in list(LOGGER.handlers):
        LOGGER.removeHandler(handler)
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(levelname).1s: %(message)s"))
    LOGGER.addHandler(handler)
    LOGGER.setLevel(logging.DEBUG)


def escaped(text: str) -> str:
    """Return `text` from a peer in a form that cannot break a log line or control a terminal.

    Characters that are not printable (controls, line ends, changes of writing direction, lone
    surrogates) become Python escapes such as ``\\x1b``.
    """
    if text.isprintable():
        return text
    return "".join(
        each if each.isprintable() else each.encode("unicode_escape").decode("ascii")
        for each in text
    )


def counted(number: int, noun: str, plural: str = "") -> str:
    """Return a number with its noun: "1 object", "2 objects", or the given plural."""
    return f"{number} {noun if number == 1 else plural or noun + 's'}"


def log_identifier(subject: str | Message, identifier: Dataset) -> None:
    """Log the Identifier of a C-FIND, C-GET or C-MOVE at DEBUG, since it holds patient data.

    `subject` is the message that it belongs to, or a title. The log records have an attribute
    `patient_data`, so that a filter can drop them.
    """
    if LOGGER.isEnabledFor(logging.DEBUG):
        from dicomwire.data import pretty

        title = subject if isinstance(subject, str) else f"{subject.name} Identifier"
        _log_block(title, pretty.pretty_dataset(identifier), {"patient_data": True})


# --- Operations -------------------------------------------------------------------------------


class Between(NamedTuple):
    """The association that a line of the log is about.

    Attributes
    ----------
    number : int
        The number of the association in this process, from 1.
    is_requestor : bool
        Whether this end requested it.
    title, address : str
        The AE title of the peer, and its "host:port".
    """

    number: int
    is_requestor: bool
    title: str
    address: str

    def __str__(self) -> str:
        way = "to" if self.is_requestor else "from"
        return f"{way} {self.peer}"

    @property
    def peer(self) -> str:
        """The peer, and the number of the association."""
        return f"{escaped(self.title)}@{self.address} (association {self.number})"

    @property
    def fields(self) -> dict[str, Any]:
        """The values for logs as JSON."""
        return {"association": self.number, "peer": self.title, "address": self.address}


def described_request(between: Between, context: PresentationContext, request: Message) -> str:
    """Return a request of the peer in words: service, peer, SOP class and SOP instance."""
    sop_class, instance = _objects(context, request)
    uid = f", {escaped(instance)}" if instance else ""
    name = request.name.removesuffix("-RQ")
    return f"{name} from {between.peer}: {escaped(_keywords().get(sop_class, sop_class))}{uid}"


@cache
def _keywords() -> dict[str, str]:
    """Return the keywords of SOP classes, such as "CTImageStorage", without pydicom."""
    return {uid: name for name, uid in vars(tables).items() if isinstance(uid, str)}


def request_fields(
    between: Between, context: PresentationContext, request: Message
) -> dict[str, Any]:
    """Return the values of a request for logs as JSON."""
    sop_class, instance = _objects(context, request)
    return {
        **between.fields,
        "service": request.name.removesuffix("-RQ"),
        "message_id": request.MessageID,
        "sop_class": sop_class,
        "sop_instance": instance,
    }


def _objects(context: PresentationContext, request: Message) -> tuple[str, str]:
    sop_class = request.AffectedSOPClassUID or request.RequestedSOPClassUID
    instance = request.AffectedSOPInstanceUID or request.RequestedSOPInstanceUID
    return str(sop_class or context.abstract_syntax), str(instance or "")


def log_operation(
    between: Between,
    context: PresentationContext,
    request: Message,
    response: Message,
    statuses: StatusTable,
) -> None:
    """Log at INFO how a request of the peer was answered, in one line.

    Call it only if the level is enabled: then nothing is formatted in vain.
    """
    code: int = response.Status or 0
    status = described(code, statuses)
    counts = [
        f"{count} {name.lower()}"
        for name in ("Completed", "Failed", "Warning", "Remaining")
        if (count := getattr(response, f"NumberOf{name}Suboperations")) is not None
    ]
    comment = f" ({escaped(response.ErrorComment)})" if response.ErrorComment else ""
    more = f"; {', '.join(counts)}" if counts else ""
    LOGGER.info(
        "%s: %s%s%s",
        described_request(between, context, request),
        status,
        comment,
        more,
        extra={
            "dicom": {
                **request_fields(between, context, request),
                "status": f"0x{code:04X}",
                "meaning": status.partition(" - ")[2],
            }
        },
    )


def log_refusal(
    between: Between,
    context: PresentationContext,
    request: Message,
    reason: object,
    exc_info: Exception | None = None,
) -> None:
    """Log at ERROR why a request of the peer is refused."""
    LOGGER.error(
        "%s: refused: %s",
        described_request(between, context, request),
        escaped(str(reason)),
        exc_info=exc_info,
        extra={"dicom": request_fields(between, context, request)},
    )


# --- The handlers -----------------------------------------------------------------------------


def _log_block(title: str, lines: Iterable[str], extra: dict[str, Any] | None = None) -> None:
    LOGGER.debug(f" {title} ".center(_WIDTH, "="), extra=extra)
    for line in lines:
        LOGGER.debug(escaped(line), extra=extra)
    LOGGER.debug(f" END {title.partition(' ')[2]} ".center(_WIDTH, "="), extra=extra)


def _log_pdu(direction: str, event: evt.Event) -> None:
    if not LOGGER.isEnabledFor(logging.DEBUG):
        return
    pdu = event.pdu
    if isinstance(pdu, PDataTF):  # a dataset may need thousands: one line each
        values = "; ".join(_value(*each) for each in pdu.values[:_SHOWN_VALUES])
        more = f"; {len(pdu.values)} in all" if len(pdu.values) > _SHOWN_VALUES else ""
        LOGGER.debug(f"{direction} P-DATA-TF PDU: {values}{more}")
    else:
        name, lines = _PDUS[type(pdu)]
        _log_block(f"{direction} {name} PDU", lines(pdu, event.assoc))


def _log_message(direction: str, event: evt.Event) -> None:
    if not LOGGER.isEnabledFor(logging.DEBUG):
        return
    _log_block(f"{direction} DIMSE MESSAGE", _message_lines(event.message, event))


DEFAULT_LOG_HANDLERS: list[tuple[evt.NotificationEvent, Callable[[evt.Event], None]]] = [
    (evt.EVT_DIMSE_RECV, partial(_log_message, "INCOMING")),
    (evt.EVT_DIMSE_SENT, partial(_log_message, "OUTGOING")),
    (evt.EVT_PDU_RECV, partial(_log_pdu, "INCOMING")),
    (evt.EVT_PDU_SENT, partial(_log_pdu, "OUTGOING")),
]
"""The `log_handlers` of `Handlers`, unless `Settings.log_pdus` is off."""


# --- The lines of the dumps -------------------------------------------------------------------


def _field(name: str, value: object) -> str:
    return f"{name:<24}: {value}"


def _uid(uid: UID | None) -> str:
    """Return `uid` with its name, if it has one, in front."""
    if uid is None:
        return "(none)"
    name = looked_up(uid).name
    return str(uid) if name == uid else f"{name} ({uid})"


def _hex(data: bytes | None) -> str:
    """Return the beginning of `data` in hexadecimal, and its length."""
    data = data or b""
    more = " ..." if len(data) > _SHOWN_BYTES else ""
    return f"{data[:_SHOWN_BYTES].hex(' ')}{more} ({len(data)} bytes)"


def _value(context_id: int, control: int, data: bytes) -> str:
    """Return a presentation data value in words (PS3.8 Annex E.2)."""
    kind = "command" if control & 1 else "dataset"
    last = ", last" if control & 2 else ""
    return f"context {context_id}, {kind}{last}, {len(data)} bytes"


def _request_lines(pdu: AssociateRQ, assoc: Any) -> Iterator[str]:
    yield "Request Parameters"
    yield from _associate_lines(pdu)
    for context in pdu.presentation_contexts:
        yield f"Presentation context {context.context_id}: {_uid(context.abstract_syntax)}"
        for syntax in context.transfer_syntax:
            yield f"    {_uid(syntax)}"


def _accept_lines(pdu: AssociateAC, assoc: Any) -> Iterator[str]:
    yield "Accept Parameters"
    yield from _associate_lines(pdu)
    proposed = _proposed(assoc)
    for context in pdu.presentation_contexts:
        abstract_syntax = context.abstract_syntax or proposed.get(context.context_id)
        yield f"Presentation context {context.context_id}: {_uid(abstract_syntax)}"
        yield f"    {_outcome(context)}"


def _proposed(assoc: Any) -> dict[int | None, UID | None]:
    """Return the abstract syntaxes of the proposed contexts by ID; an A-ASSOCIATE-AC omits them."""
    request = getattr(getattr(assoc, "requestor", None), "primitive", None)
    if not isinstance(request, AssociateRQ):
        return {}
    return {each.context_id: each.abstract_syntax for each in request.presentation_contexts}


def _outcome(context: PresentationContext) -> str:
    if context.result == Result.ACCEPTANCE:
        return f"accepted, {_uid(next(iter(context.transfer_syntax), None))}"
    return f"rejected, {context.status}"


def _associate_lines(pdu: AssociateRQ | AssociateAC) -> Iterator[str]:
    yield _field("Calling AE title", pdu.calling_ae_title)
    yield _field("Called AE title", pdu.called_ae_title)
    yield _field("Application context", _uid(pdu.application_context_name))
    for item in pdu.user_information:
        yield _field(*_item(item))


def _item(item: UserItem) -> tuple[str, str]:
    """Return name and value of a user information item (PS3.7 Annex D.3.3)."""
    match item:
        case MaximumLengthNotification():
            return "Maximum PDU length", str(item.maximum_length_received or "unlimited")
        case ImplementationClassUIDNotification():
            return "Implementation class", _uid(item.implementation_class_uid)
        case ImplementationVersionNameNotification():
            return "Implementation version", item.implementation_version_name or ""
        case AsynchronousOperationsWindowNegotiation():
            invoked = item.maximum_number_operations_invoked or "any number"
            performed = item.maximum_number_operations_performed or "any number"
            return "Asynchronous operations", f"{invoked} invoked, {performed} performed"
        case SCP_SCU_RoleSelectionNegotiation():
            roles = f"SCU {_yes(item.scu_role)}, SCP {_yes(item.scp_role)}"
            return "Role selection", f"{roles}, {_uid(item.sop_class_uid)}"
        case SOPClassExtendedNegotiation():
            information = _hex(item.service_class_application_information)
            return "Extended negotiation", f"{_uid(item.sop_class_uid)}: {information}"
        case SOPClassCommonExtendedNegotiation():
            service = _uid(item.service_class_uid)
            return "Common extended", f"{_uid(item.sop_class_uid)}, service class {service}"
        case UserIdentityNegotiation():
            return "User identity", _identity(item)


def _yes(role: bool | None) -> str:
    return "yes" if role else "no"


_IDENTITIES = {
    1: "user name",
    2: "user name and passcode",
    3: "Kerberos ticket",
    4: "SAML assertion",
    5: "JSON web token",
}


def _identity(item: UserIdentityNegotiation) -> str:
    """Describe `item` without the passcode, ticket or token, which must not get into a log."""
    if item.server_response is not None:
        return f"confirmed, {len(item.server_response)} bytes of response"
    kind = _IDENTITIES.get(item.user_identity_type or 0, f"type {item.user_identity_type}")
    answer = ", response requested" if item.positive_response_requested else ""
    return f"{kind}{answer}"


def _reject_lines(pdu: AssociateRJ, assoc: Any) -> Iterator[str]:
    yield _field("Result", pdu.result_str)
    yield _field("Source", pdu.source_str)
    yield _field("Reason", pdu.reason_str)


def _abort_lines(pdu: Abort, assoc: Any) -> Iterator[str]:
    yield _field("Source", pdu.source_str)
    yield _field("Reason", pdu.reason_str)


def _no_lines(pdu: ReleaseRQ | ReleaseRP, assoc: Any) -> Iterator[str]:
    return iter(())


_PDUS: dict[type, tuple[str, Callable[[Any, Any], Iterator[str]]]] = {
    AssociateRQ: ("A-ASSOCIATE-RQ", _request_lines),
    AssociateAC: ("A-ASSOCIATE-AC", _accept_lines),
    AssociateRJ: ("A-ASSOCIATE-RJ", _reject_lines),
    ReleaseRQ: ("A-RELEASE-RQ", _no_lines),
    ReleaseRP: ("A-RELEASE-RP", _no_lines),
    Abort: ("A-ABORT", _abort_lines),
}

_PRIORITIES = {0: "medium", 1: "high", 2: "low"}


def _message_lines(message: Message, event: evt.Event) -> Iterator[str]:
    yield _field("Message", message.name)
    context_id: int | None = getattr(event, "context_id", None)
    if context_id is not None:
        yield _field("Presentation context", context_id)
    carried = CARRIED[message.command]
    for keyword in (*carried.required, *carried.optional):
        value = getattr(message, keyword)
        if value is not None:
            yield _field(keyword, _element(keyword, value))
    # Names the pydicom function that reads a command set, for readers who search the log for it.
    yield _field("Command set", "implicit VR little endian, as for pydicom.read_dataset()")
    yield _field("Dataset", "present" if message.has_dataset else "none")


def _element(keyword: str, value: Any) -> str:
    """Return the value of a command element in its usual notation."""
    if keyword == "Status":
        return f"0x{value:04X}"
    if keyword == "Priority":
        return _PRIORITIES.get(value, str(value))
    if keyword.endswith("UID"):
        return _uid(value)
    if isinstance(value, list):
        return " ".join(str(tag) for tag in value)
    return str(value)
