"""The node: an AE whose handlers store, find and send the objects in its folder.

The handlers delegate to the other modules of this package; `access` decides which peers may use
them.
"""

from __future__ import annotations

import logging
import math
import secrets
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from functools import partial
from itertools import chain, islice, repeat
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian

from dicomwire import (
    AE,
    ALL_TRANSFER_SYNTAXES,
    AllStoragePresentationContexts,
    Association,
    Settings,
    StoragePresentationContexts,
    VerificationPresentationContexts,
    build_context,
    evt,
)
from dicomwire.data.codec import DatasetError, message_elements
from dicomwire.data.scanner import Elements
from dicomwire.data.sinks import SinkRefused
from dicomwire.dimse_primitives import Command, Message
from dicomwire.logs import escaped
from dicomwire.node import query
from dicomwire.node.access import NOT_AUTHORIZED, Guard, client_tls, server_tls
from dicomwire.node.carrying import StoreTasks, name_of_moved
from dicomwire.node.checkpoints import Checkpoints, journaling
from dicomwire.node.commit import DUPLICATE, Committer
from dicomwire.node.configuration import Configuration, Destination, Right
from dicomwire.node.converters import Converters
from dicomwire.node.heads import Origin
from dicomwire.node.identifier import InvalidIdentifier
from dicomwire.node.index.database import IndexFailure, reason_of
from dicomwire.node.index.opening import open_database
from dicomwire.node.index.writer import Index
from dicomwire.node.ingest import CANNOT_UNDERSTAND, INVALID_INSTANCE, MISMATCH
from dicomwire.node.journal import JOURNAL
from dicomwire.node.nodes import Membership
from dicomwire.node.objects.files import StorageInUse, StoreFailure
from dicomwire.node.objects.opening import folder_of, folder_within, open_objects
from dicomwire.node.objects.spool import SPOOL, Spool, lock_node, size_of
from dicomwire.node.retrieve import (
    LONGEST_COMMENT,
    DestinationContexts,
    Syntaxes,
    accepted_by,
    contexts_for,
    sub_operations,
)
from dicomwire.node.tasks.queue import Queue
from dicomwire.node.tasks.workers import OtherProcess, Workers
from dicomwire.presentation import PresentationContext
from dicomwire.sop_class import (
    PatientRootQueryRetrieveInformationModelFind,
    PatientRootQueryRetrieveInformationModelGet,
    PatientRootQueryRetrieveInformationModelMove,
    PatientStudyOnlyQueryRetrieveInformationModelFind,
    PatientStudyOnlyQueryRetrieveInformationModelGet,
    PatientStudyOnlyQueryRetrieveInformationModelMove,
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelGet,
    StudyRootQueryRetrieveInformationModelMove,
)

LOGGER = logging.getLogger("dicomwire.node")

UNABLE_TO_PROCESS = 0xC000
UNKNOWN_DESTINATION = 0xA801
OUT_OF_RESOURCES = 0xA700
MATCHES_UNKNOWN = 0xA701
"""Refused: Out of resources - unable to calculate number of matches (PS3.4 Table C.4-2)."""
_NOT_STORED = {
    OUT_OF_RESOURCES: "the archive cannot store now; send it again later",
    DUPLICATE: "the archive has another object of this UID",
    MISMATCH: "UIDs or Patient ID are invalid, or not those of the request",
    CANNOT_UNDERSTAND: "the dataset is missing or cannot be read",
    INVALID_INSTANCE: "the SOP Instance UID is invalid",
}
"""The comment of a C-STORE response for each failure: at most 64 characters. The log says more."""

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
}
_MOST_SUB_OPERATIONS = 65535
"""The highest number of sub-operations that a response can state (VR US)."""
_PREFERRED = [ExplicitVRLittleEndian, *ALL_TRANSFER_SYNTAXES]


class FolderUnusable(Exception):
    """The folder of a node, or its index, cannot be opened; the text says why."""


class Node:
    """An archive. As a context manager, it serves while the block runs.

    Parameters
    ----------
    configuration : Configuration

    Raises
    ------
    OSError
        From `start`, when it cannot listen on the address.
    FolderUnusable, TLSConfigurationError
        From `start`, when the folder or the certificates cannot be used.
    """

    def __init__(self, configuration: Configuration) -> None:
        self.configuration = configuration
        self._guard = Guard(configuration)
        self._open = ExitStack()
        self._server: Any = None
        self._id = secrets.token_hex(8)  # of the node, with all of its processes

    def __enter__(self) -> Node:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def address(self) -> tuple[str, int]:
        """Host and port that it listens on; for port 0, the port that the system chose."""
        host, port = self._server.server_address[:2]
        return host, port

    @property
    def workers(self) -> list[Any]:
        """Its worker processes; none if it serves in its own process."""
        return list(getattr(self._server, "workers", ()))

    def start(self) -> None:
        """Open the folder and serve."""
        configuration = self.configuration
        ssl_context = server_tls(configuration)
        self._tls = client_tls(configuration)
        workers: Any = configuration.workers if configuration.workers > 1 else None
        with ExitStack() as opened:
            self._lock_folder(opened)
            if workers is None:
                self._open_folder(opened)
            else:
                # In a process of its own: what is open, or was, in this one is useless in a fork.
                with ProcessPoolExecutor(1, get_context("fork")) as process:
                    process.submit(_prepare, configuration).result()
                self._task_process = opened.enter_context(OtherProcess())
            self._ae = self._entity()
            opened.callback(self._ae.shutdown)
            # Before the server is shut down: handlers may wait for a conversion.
            if workers is None:
                opened.callback(self._converters.close)
            self._server = self._ae.start_server(
                (configuration.address, configuration.port),
                block=False,
                contexts=_contexts(),
                ssl_context=ssl_context,
                evt_handlers=self._handlers(),
                receive_to=_refuse,  # until `_accepted` has set `refuse` and `receive_to`
                workers=workers,
                worker_context=self._in_worker,
            )
            if workers is not None:
                self._open_folder(opened, is_first=False)
            self._join_others(opened)
            self._open = opened.pop_all()

    def _lock_folder(self, opened: ExitStack) -> None:
        """Keep other nodes from a folder with an index of SQLite."""
        if not self.configuration.index:
            with _usable(self.configuration.folder):
                opened.enter_context(lock_node(self.configuration.folder))

    def _open_folder(self, opened: ExitStack, is_first: bool = True) -> None:
        """Open spool, objects and index for this process.

        The first process of the node to do so makes files and index agree.
        """
        configuration = self.configuration
        with _usable(configuration.folder):
            ceiling = configuration.max_object or None
            self._spool = opened.enter_context(Spool(folder_of(configuration), ceiling))
            self._converters = Converters(self._spool.make_file)
            self._objects = open_objects(configuration, self._spool.make_file, True)
            database = open_database(configuration.index, configuration.folder)
            self._index = opened.enter_context(Index(database))
            self._queue = Queue(self._index, self._id)
            folder = folder_within(self._objects)
            opened.enter_context(journaling(folder, self._index))
            self._store_tasks = StoreTasks(self._objects, self._index, self._queue)
            self._committer = Committer(
                *(self._objects, self._index, self._converters, configuration.duplicates),
                is_reconciled=not is_first,
                tasks=self._store_tasks,
            )
            opened.enter_context(Checkpoints(folder, self._index, self._committer.turn))
            opened.callback(self._committer.close)

    @contextmanager
    def _in_worker(self) -> Iterator[None]:
        """Open in a worker process what it needs to serve."""
        with ExitStack() as opened:
            try:
                self._open_folder(opened, is_first=False)
            except FolderUnusable as error:
                LOGGER.error("%s", error)
                raise SystemExit(1) from None  # the supervisor starts another worker
            opened.callback(self._converters.close)
            self._queue.on_added = self._task_process.wake
            yield

    def _join_others(self, opened: ExitStack) -> None:
        """Enter the registry, and run tasks; undo it in the right order when the node stops."""
        timeout = self.configuration.stop_timeout
        workers = Workers(self._queue, self._store_tasks.kinds())
        if self.configuration.workers > 1:
            self._task_process.listen(workers)
        membership = Membership(
            self._queue,
            self.address,
            self.configuration.ae_title,
            self._facts,
            prepare=self._committer.recover,
        )
        with _usable(self.configuration.folder):
            opened.enter_context(membership)
            self._store_tasks.recover()
        workers.start()
        opened.callback(workers.stop, timeout)
        opened.callback(self._server.drain, timeout)
        opened.callback(membership.stopping)

    def _facts(self) -> dict[str, Any]:
        """Return what the registry says of this node."""
        folder = folder_of(self.configuration)
        processes = [asdict(each) for each in self.workers]
        associations = sum(each["associations"] for each in processes)
        return {
            "workers": processes,
            "associations": associations or len(self._ae.active_associations),
            "spool": size_of(folder / SPOOL),
            "journal": size_of(folder / JOURNAL),
            "objects": self.configuration.objects,
        }

    def wait(self) -> None:
        """Wait until the server is shut down, for example by `stop` on another thread."""
        self._server.serve_forever()

    def stop(self) -> None:
        """Stop accepting, wait up to `stop_timeout` for open associations, close the folder."""
        self._open.close()

    def _entity(self) -> AE:
        configuration = self.configuration
        acse_timeout = _seconds(configuration.acse_timeout)
        ae = AE(
            configuration.ae_title,
            Settings(
                connection_timeout=acse_timeout,
                acse_timeout=acse_timeout,
                dimse_timeout=_seconds(configuration.dimse_timeout),
                network_timeout=_seconds(configuration.network_timeout),
                maximum_associations=configuration.max_associations,
                associations_per_address=configuration.max_per_address or None,
                associations_per_title=configuration.max_per_title or None,
            ),
        )
        ae.maximum_pdu_size = configuration.max_pdu
        ae.require_called_aet = configuration.access.called_title
        ae.require_calling_aet = self._guard.titles
        return ae

    def _handlers(self) -> list[evt.EventHandlerType]:
        handlers: list[evt.EventHandlerType] = [
            (evt.EVT_ACCEPTED, self._accepted),
            (evt.EVT_SOP_EXTENDED, _negotiate),
            (evt.EVT_C_STORE, self._store),
            (evt.EVT_C_FIND, self._find),
            (evt.EVT_C_GET, self._get),
            (evt.EVT_C_MOVE, self._move),
        ]
        if not self._guard.admits_strangers:
            handlers.append((evt.EVT_CONN_OPEN, self._connected))
        return handlers

    # --- Handlers ---

    def _connected(self, event: evt.Event) -> None:
        if not self._guard.knows_address(event.address[0]):
            text = "The connection from %s is closed: its network is not known"
            LOGGER.warning(text, event.address[0])
            event.assoc.abort()

    def _accepted(self, event: evt.Event) -> None:
        event.assoc.refuse = partial(self._refusal_of, event.assoc)
        event.assoc.receive_to = self._spool.sink

    def _refusal_of(self, association: Association, request: Message) -> Dataset | None:
        """Return the status that refuses a request; None if the peer has the right to it."""
        right = _RIGHTS.get(request.command)
        if right is None or self._guard.may(association, right):
            return None
        return _failure(NOT_AUTHORIZED, f"not allowed to {right}")

    def _store(self, event: evt.Event) -> int | Dataset:
        request = event.request
        origin = Origin(
            str(request.AffectedSOPClassUID),
            str(request.AffectedSOPInstanceUID),
            str(event.context.transfer_syntax),
            event.assoc.requestor.ae_title,
        )
        status = self._committer.store(event.payload, origin)
        reason = _NOT_STORED.get(status)
        return status if reason is None else _failure(status, reason)

    def _find(self, event: evt.Event) -> Iterator[Any]:
        try:
            identifier = _identifier_of(event)
        except _Refused as refusal:
            yield refusal.status, None
            return
        model = event.context.abstract_syntax
        relational, combined, fuzzy = islice(_granted(event), 3)
        try:
            yield from query.find(
                self._index,
                model,
                identifier,
                ae_title=self.configuration.ae_title,
                relational=relational or not self.configuration.strict_queries,
                combined_datetime=combined,
                fuzzy=fuzzy,
                cancelled=lambda: event.is_cancelled,
            )
        except IndexFailure as error:
            yield _index_failed(OUT_OF_RESOURCES, error).status, None

    def _get(self, event: evt.Event) -> Iterator[Any]:
        try:
            found = self._found(event)
        except _Refused as refusal:
            yield refusal.status, None
            return
        accepted = accepted_by(event.assoc)
        yield from self._sub_operations(found, lambda: accepted)

    def _move(self, event: evt.Event) -> Iterator[Any]:
        try:
            found = self._found(event)
            destination = self._destination(event)
        except _Refused as refusal:
            yield refusal.status, None
            return
        # The log line of the operation, at its end, does not name the destination.
        LOGGER.info("%d objects are sent to %s", len(found), escaped(event.move_destination))
        destination_contexts = DestinationContexts()
        options = {
            "contexts": contexts_for(found),
            "max_pdu": self.configuration.max_pdu,
            "evt_handlers": destination_contexts.handlers,
            "tls_args": (self._tls, None) if destination.tls else None,
        }
        yield destination.host, destination.port, options
        yield from self._sub_operations(found, lambda: destination_contexts.accepted)

    # --- For several handlers ---

    def _sub_operations(
        self, found: list[query.Found], accepted: Callable[[], Syntaxes]
    ) -> Iterator[Any]:
        moved = partial(name_of_moved, self._index)
        yield from sub_operations(found, accepted, self._objects, self._converters, moved)

    def _found(self, event: evt.Event) -> list[query.Found]:
        """Return the instances for a C-GET or C-MOVE; _Refused if the request fails."""
        identifier = _identifier_of(event)
        model = event.context.abstract_syntax
        relational = next(_granted(event)) or not self.configuration.strict_queries
        try:
            found = query.instances(self._index, model, identifier, relational=relational)
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
        self.status = _failure(code, reason) if status is None else status


def _prepare(configuration: Configuration) -> None:
    """Make the folder and the index ready: bring the index up to date, and let both agree."""
    with ExitStack() as opened:
        Node(configuration)._open_folder(opened)


@contextmanager
def _usable(folder: Path) -> Iterator[None]:
    """Say in one line why the folder or its index cannot be used."""
    try:
        yield
    except (StorageInUse, StoreFailure) as error:
        raise FolderUnusable(str(error)) from None
    except (OSError, IndexFailure) as error:
        reason = getattr(error, "strerror", None) or reason_of(error)
        raise FolderUnusable(f"{folder} cannot be used: {reason}") from error


def _failure(code: int, reason: str) -> Dataset:
    status = Dataset()
    status.Status = code
    status.ErrorComment = escaped(reason)[:LONGEST_COMMENT]
    return status


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


def _seconds(timeout: float) -> float | None:
    return None if math.isinf(timeout) else timeout


def _contexts() -> list[PresentationContext]:
    """Return the supported contexts. Storage has both roles: a peer that uses C-GET is its SCP."""
    contexts = [build_context(model) for model in (*FIND_MODELS, *RETRIEVE_MODELS)]
    syntaxes = list(dict.fromkeys(_PREFERRED))
    storage = [*AllStoragePresentationContexts, *StoragePresentationContexts]
    for each in (*VerificationPresentationContexts, *storage):
        context = build_context(str(each.abstract_syntax), [*syntaxes])
        context.scu_role = context.scp_role = True
        contexts.append(context)
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


def _refuse(request: Any) -> Any:
    raise SinkRefused("the sender is not allowed to store", NOT_AUTHORIZED)
