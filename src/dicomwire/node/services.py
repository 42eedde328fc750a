"""The DIMSE services of a node: handlers that store, find and send the objects of its archive.

They delegate to the other modules of this package; `access` decides which peers may use them.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from functools import partial
from itertools import chain, islice, repeat
from ssl import SSLContext
from typing import Any

from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian

from dicomwire import (
    ALL_TRANSFER_SYNTAXES,
    AllStoragePresentationContexts,
    Association,
    StoragePresentationContexts,
    VerificationPresentationContexts,
    build_context,
    evt,
)
from dicomwire.data.codec import DatasetError, message_elements
from dicomwire.data.scanner import Elements
from dicomwire.data.sinks import SinkRefused
from dicomwire.dimse_primitives import Command, Message
from dicomwire.logs import counted, escaped
from dicomwire.node import query
from dicomwire.node.access import Guard, address_of
from dicomwire.node.archive import Archive
from dicomwire.node.commitment.references import SYNTAXES
from dicomwire.node.configuration import Configuration, Destination, Right
from dicomwire.node.counts import Counts
from dicomwire.node.heads import Origin
from dicomwire.node.identifier import InvalidIdentifier
from dicomwire.node.index.database import IndexFailure, reason_of
from dicomwire.node.retention import note_use
from dicomwire.node.retrieve import (
    DestinationContexts,
    Syntaxes,
    accepted_by,
    contexts_for,
    sub_operations,
)
from dicomwire.node.statuses import NOT_AUTHORIZED, NOT_STORED, OUT_OF_RESOURCES, failure
from dicomwire.presentation import PresentationContext
from dicomwire.sop_class import (
    PatientRootQueryRetrieveInformationModelFind,
    PatientRootQueryRetrieveInformationModelGet,
    PatientRootQueryRetrieveInformationModelMove,
    PatientStudyOnlyQueryRetrieveInformationModelFind,
    PatientStudyOnlyQueryRetrieveInformationModelGet,
    PatientStudyOnlyQueryRetrieveInformationModelMove,
    StorageCommitmentPushModel,
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelGet,
    StudyRootQueryRetrieveInformationModelMove,
)

LOGGER = logging.getLogger("dicomwire.node")

UNABLE_TO_PROCESS = 0xC000
UNKNOWN_DESTINATION = 0xA801
MATCHES_UNKNOWN = 0xA701
"""Refused: Out of resources - unable to calculate number of matches (PS3.4 Table C.4-2)."""
FIND_MODELS = (
    PatientRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelFind,
    PatientStudyOnlyQueryRetrieveInformationModelFind,
)
RETRIEVE_MODELS = (
    PatientRootQueryRetrieveInformationModelGet,
    StudyRootQueryRetrieveInformationModelGet,
    PatientStudyOnlyQueryRetrieveInformationModelGet,
    PatientRootQueryRetrieveInformationModelMove,
    StudyRootQueryRetrieveInformationModelMove,
    PatientStudyOnlyQueryRetrieveInformationModelMove,
)
_EXTENSIONS = {
    **dict.fromkeys(FIND_MODELS, b"\1\1\1\0\0"),
    **dict.fromkeys(RETRIEVE_MODELS, b"\1\0"),
}
"""Service class application information: bytes of 1 are features that the node supports.

C-FIND: relational queries, combined date-time matching and fuzzy names, but neither time zone
adjustment nor enhanced multi-frame conversion (PS3.4 C.5.1.1). C-GET and C-MOVE: relational
retrieval, but no conversion (C.5.2.1).
"""
_RIGHTS = {
    Command.C_ECHO_RQ: Right.ECHO,
    Command.C_STORE_RQ: Right.STORE,
    Command.C_FIND_RQ: Right.QUERY,
    Command.C_GET_RQ: Right.RETRIEVE,
    Command.C_MOVE_RQ: Right.RETRIEVE,
    Command.N_ACTION_RQ: Right.STORE,
}
_MOST_SUB_OPERATIONS = 65535
"""The highest number of sub-operations that a response can state (VR US)."""
_PREFERRED = [ExplicitVRLittleEndian, *ALL_TRANSFER_SYNTAXES]


class Services:
    """The handlers of a node's AE.

    Parameters
    ----------
    configuration : Configuration
    guard : Guard
        Decides which peers may use which service.
    tls : SSLContext, optional
        For destinations that need it.
    counts : Counts
        Counts associations and times.

    Attributes
    ----------
    archive : Archive
        What this process has open. A worker process sets it when it has started.
    """

    archive: Archive

    def __init__(
        self, configuration: Configuration, guard: Guard, tls: SSLContext | None, counts: Counts
    ) -> None:
        self._counts = counts
        self._configuration = configuration
        self._guard = guard
        self._tls = tls

    def handlers(self) -> list[evt.EventHandlerType]:
        """Return the handlers to bind, for all services but C-STORE; see `_accepted`."""
        handlers: list[evt.EventHandlerType] = [
            (evt.EVT_CONN_OPEN, self._connected),
            (evt.EVT_ACCEPTED, self._accepted),
            (evt.EVT_SOP_EXTENDED, _negotiate),
            (evt.EVT_C_FIND, self._find),
            (evt.EVT_C_GET, self._get),
            (evt.EVT_C_MOVE, self._move),
            (evt.EVT_N_ACTION, self._commit),
            (evt.EVT_N_EVENT_REPORT, self._committed),
        ]
        return handlers

    def use(self, configuration: Configuration, tls: SSLContext | None) -> None:
        """Use another configuration from now on, with the TLS context for its destinations."""
        self._guard.use(configuration)
        self._configuration = configuration
        self._tls = tls

    # --- Handlers ---

    def _connected(self, event: evt.Event) -> None:
        guard = self._guard
        if not (guard.admits_strangers or guard.knows_address(event.address[0])):
            text = "The connection from %s is closed: its network is not known"
            LOGGER.warning(text, event.address[0])
            event.assoc.abort()

    def _accepted(self, event: evt.Event) -> None:
        event.assoc.refuse = partial(self._refusal_of, event.assoc)
        # Title and address are looked up here, once for all objects.
        sender = event.assoc.requestor.ae_title, address_of(event.assoc)
        event.assoc.bind(evt.EVT_C_STORE, self._store, sender)
        event.assoc.receive_to = self.archive.spool.sink
        self._counts.accepted()

    def _refusal_of(self, association: Association, request: Message) -> Dataset | None:
        """Return the status that refuses a request; None if the peer has the right to it."""
        right = _RIGHTS.get(request.command)
        if right is None or self._guard.may(association, right):
            return None
        return failure(NOT_AUTHORIZED, f"not allowed to {right}")

    def _store(self, event: evt.Event, title: str, address: str) -> int | Dataset:
        request = event.request
        self._counts.began(request.MessageID)
        origin = Origin(
            str(request.AffectedSOPClassUID),
            str(request.AffectedSOPInstanceUID),
            str(event.context.transfer_syntax),
            title,
            address,
        )
        respond = event.assoc.respond_early
        status = self.archive.committer.store(event.payload, origin, respond)
        reason = NOT_STORED.get(status)
        return status if reason is None else failure(status, reason)

    def _find(self, event: evt.Event) -> Iterator[Any]:
        self._counts.began(event.request.MessageID)
        try:
            identifier = _identifier_of(event)
        except _Refused as refusal:
            yield refusal.status, None
            return
        model = event.context.abstract_syntax
        relational, combined, fuzzy = islice(_granted(event), 3)
        try:
            yield from query.find(
                self.archive.index,
                model,
                identifier,
                ae_title=self._configuration.ae_title,
                transfer_syntax=event.context.transfer_syntax,
                relational=relational or not self._configuration.strict_queries,
                combined_datetime=combined,
                fuzzy=fuzzy,
                cancelled=lambda: event.is_cancelled,
            )
        except IndexFailure as error:
            yield _index_failed(OUT_OF_RESOURCES, error).status, None

    def _get(self, event: evt.Event) -> Iterator[Any]:
        self._counts.began(event.request.MessageID)
        try:
            found = self._found(event)
        except _Refused as refusal:
            yield refusal.status, None
            return
        accepted = accepted_by(event.assoc)
        yield from self._sub_operations(found, lambda: accepted)

    def _move(self, event: evt.Event) -> Iterator[Any]:
        self._counts.began(event.request.MessageID)
        try:
            found = self._found(event)
            destination = self._destination(event)
        except _Refused as refusal:
            yield refusal.status, None
            return
        # The log line of the operation, at its end, does not name the destination.
        objects = counted(len(found), "object")
        LOGGER.info("Sending %s to %s", objects, escaped(event.move_destination))
        destination_contexts = DestinationContexts()
        options = {
            "contexts": contexts_for(found),
            "max_pdu": self._configuration.max_pdu,
            "evt_handlers": destination_contexts.handlers,
            "tls_args": (self._tls, None) if destination.tls else None,
        }
        yield destination.host, destination.port, options
        yield from self._sub_operations(found, lambda: destination_contexts.accepted)

    def _commit(self, event: evt.Event) -> tuple[int | Dataset, None]:
        return self.archive.commitment_provider.request(event)

    def _committed(self, event: evt.Event) -> tuple[int | Dataset, None]:
        return self.archive.commitments.report(event)

    # --- For several handlers ---

    def _sub_operations(
        self, found: list[query.Found], accepted: Callable[[], Syntaxes]
    ) -> Iterator[Any]:
        archive = self.archive
        if self._configuration.retention.has_limits:
            note_use(archive.index, found)
        yield from sub_operations(
            found, accepted, archive.objects, archive.converters, archive.name_of_moved
        )

    def _found(self, event: evt.Event) -> list[query.Found]:
        """Return the instances for a C-GET or C-MOVE; _Refused if the request fails."""
        identifier = _identifier_of(event)
        model = event.context.abstract_syntax
        relational = next(_granted(event)) or not self._configuration.strict_queries
        try:
            found = query.instances(self.archive.index, model, identifier, relational=relational)
        except InvalidIdentifier as error:
            raise _Refused(error.status.Status, str(error), error.status) from None
        try:
            # With one more than allowed, the library answers with a failure.
            return list(islice(found, _MOST_SUB_OPERATIONS + 1))
        except IndexFailure as error:
            raise _index_failed(MATCHES_UNKNOWN, error) from None

    def _destination(self, event: evt.Event) -> Destination:
        """Return the destination of a C-MOVE; _Refused if it is not configured."""
        destination = self._guard.destination(event.move_destination)
        if destination is None:
            title = escaped(event.move_destination or "")
            raise _Refused(UNKNOWN_DESTINATION, f"no destination {title!r}")
        return destination


class _Refused(Exception):
    """A request to answer with a failure only.

    Attributes
    ----------
    status : Dataset
        The status of the response, with the reason as its Error Comment.
    """

    def __init__(self, code: int, reason: str, status: Dataset | None = None) -> None:
        super().__init__(reason)
        LOGGER.warning("A request is answered with 0x%04X: %s", code, escaped(reason))
        self.status = failure(code, reason) if status is None else status


def _identifier_of(event: evt.Event) -> Elements:
    """Return the identifier of a request; _Refused if it cannot be decoded."""
    if event.payload is None:
        return {}
    limits = event.assoc.settings.limits
    try:
        return message_elements(event.payload, event.context.transfer_syntax, limits)
    except DatasetError as error:
        raise _Refused(UNABLE_TO_PROCESS, str(error)) from None


def _index_failed(code: int, error: IndexFailure) -> _Refused:
    LOGGER.error("The index cannot be read: %s", reason_of(error))
    return _Refused(code, "the index cannot be read")


def contexts() -> list[PresentationContext]:
    """Return the supported contexts. Storage has both roles: a peer that uses C-GET is its SCP."""
    contexts = [build_context(model) for model in (*FIND_MODELS, *RETRIEVE_MODELS)]
    storage = [*AllStoragePresentationContexts, *StoragePresentationContexts]
    # The transfer syntaxes are checked once: for each context it takes 20 ms of every start.
    syntaxes = build_context(FIND_MODELS[0], list(dict.fromkeys(_PREFERRED))).transfer_syntax
    for each in (*VerificationPresentationContexts, *storage):
        context = build_context(str(each.abstract_syntax), syntaxes[0])
        context.transfer_syntax[:] = syntaxes
        context.scu_role = context.scp_role = True
        contexts.append(context)
    # Both roles: a peer that reports on an association of its own is the SCP.
    commitment = build_context(StorageCommitmentPushModel, SYNTAXES)
    commitment.scu_role = commitment.scp_role = True
    contexts.append(commitment)
    return contexts


def _negotiate(event: evt.Event) -> dict[Any, bytes]:
    """Answer SOP class extended negotiation: the proposed features that the node supports."""
    return {
        uid: bytes(asked & ours for asked, ours in zip(info, _EXTENSIONS[uid], strict=False))
        for uid, info in event.app_info.items()
        if uid in _EXTENSIONS
    }


def _granted(event: evt.Event) -> Iterator[bool]:
    """Yield whether each feature was granted for the SOP class of a request; then endless False."""
    granted = event.assoc.acceptor.sop_class_extended.get(event.context.abstract_syntax, b"")
    return chain(map(bool, granted), repeat(False))


def refuse(request: Any) -> Any:
    """Refuse an object: the association has not been accepted yet."""
    raise SinkRefused("the sender is not allowed to store", NOT_AUTHORIZED)
