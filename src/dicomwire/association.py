"""An association as programs use it: requests sent, results back, events bound.

How it begins and ends is in `threaded.lifecycle`, what it does for peers in `services.scp`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import UID, ExplicitVRBigEndian, ImplicitVRLittleEndian

from dicomwire import datasets
from dicomwire.errors import AssociationFailure, LocalProtocolError
from dicomwire.events import Binding, EventType, Handlers
from dicomwire.logs import LOGGER, News
from dicomwire.payloads import (
    BytesSource,
    FileSink,
    FileSource,
    MemorySink,
    Sink,
    Source,
    SpoolSink,
)
from dicomwire.protocol.command import Command, Message
from dicomwire.protocol.context import PresentationContext
from dicomwire.protocol.negotiation import choose_context
from dicomwire.service_user import MODE_ACCEPTOR, MODE_REQUESTOR, ServiceUser
from dicomwire.services import scu
from dicomwire.services.port import Incoming, run_blocking
from dicomwire.settings import Settings
from dicomwire.sop_class import Verification
from dicomwire.threaded.lifecycle import Lifecycle
from dicomwire.threaded.opening import Target

if TYPE_CHECKING:
    from dicomwire.ae import ApplicationEntity
    from dicomwire.threaded.server import AssociationServer

ReceiveTo = str | Path | Callable[[Message], str | Path]
"""Where received objects are filed: a folder, or a function from the C-STORE-RQ to a path."""


class Association(Lifecycle):
    """An association with a peer; made by `AE.associate`, or by a server for each that it accepts.

    As a context manager it is released at the end of the block, or aborted after an exception.

    Attributes
    ----------
    requestor, acceptor : ServiceUser
        The two ends, and what they said in negotiation.
    is_established, is_released, is_aborted, is_rejected : bool
        How far it has come; one of the last three is true once it is over.
    network_timeout_response : str
        What ends an association on which nothing came for too long: "A-ABORT" or "A-RELEASE".
    receive_to : ReceiveTo or None
        Where objects received by C-STORE are filed as they come.
    server : AssociationServer or None
        The server that accepted it.
    """

    def __init__(
        self,
        ae: ApplicationEntity,
        mode: str,
        *,
        handlers: Handlers | None = None,
        settings: Settings | None = None,
        server: AssociationServer | None = None,
    ) -> None:
        if mode not in (MODE_REQUESTOR, MODE_ACCEPTOR):
            raise ValueError(f"mode is 'requestor' or 'acceptor', not {mode!r}")
        super().__init__(ae, mode, handlers or Handlers(), settings or ae.settings)
        self.server = server
        self.receive_to: ReceiveTo | None = server.receive_to if server is not None else None
        self._chosen: dict[tuple[str, str], PresentationContext] = {}

    def __enter__(self) -> Association:
        return self

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        if kind is None:
            self.release()
        else:
            self.abort()

    # --- What it is ---

    @property
    def ae(self) -> ApplicationEntity:
        """The AE that this end belongs to."""
        return self._ae

    @property
    def is_requestor(self) -> bool:
        """Whether this end asked for the association."""
        return self._mode == MODE_REQUESTOR

    @property
    def is_acceptor(self) -> bool:
        """Whether this end was asked for the association."""
        return self._mode == MODE_ACCEPTOR

    @property
    def _ends(self) -> tuple[ServiceUser, ServiceUser]:
        if self.is_requestor:
            return self.requestor, self.acceptor
        return self.acceptor, self.requestor

    @property
    def local(self) -> dict[str, Any]:
        """What is known of this end; see `ServiceUser.info`."""
        return self._ends[0].info

    @property
    def remote(self) -> dict[str, Any]:
        """What is known of the peer; see `ServiceUser.info`."""
        return self._ends[1].info

    @property
    def accepted_contexts(self) -> list[PresentationContext]:
        """The contexts that messages may use, by id."""
        return sorted(self._port.contexts.values(), key=lambda context: context.context_id or 0)

    @property
    def rejected_contexts(self) -> list[PresentationContext]:
        """The contexts that were asked for in vain, with the reason in `result`."""
        return [context for context in self._contexts if context.result != 0]

    @property
    def peer_gone(self) -> bool:
        """Whether the association has ended; looks for what has come, without waiting."""
        if self._port.has_turn:
            self._port.look()
        return self._port.is_over

    # --- Settings ---

    @property
    def settings(self) -> Settings:
        """Limits, deadlines and switches of this association."""
        return self._port.settings

    def update_settings(self, **changes: Any) -> None:
        """Change settings of this association alone; see `Settings`."""
        port = self._port
        port.settings = replace(port.settings, **changes)
        port.deadline_changed()

    @property
    def acse_timeout(self) -> float | None:
        """Seconds to wait for an answer to an association or release request."""
        return self._port.settings.acse_timeout

    @acse_timeout.setter
    def acse_timeout(self, value: float | None) -> None:
        self.update_settings(acse_timeout=value)

    @property
    def connection_timeout(self) -> float | None:
        """Seconds to wait for the TCP connection."""
        return self._port.settings.connection_timeout

    @connection_timeout.setter
    def connection_timeout(self, value: float | None) -> None:
        self.update_settings(connection_timeout=value)

    @property
    def dimse_timeout(self) -> float | None:
        """Seconds to wait for each DIMSE message."""
        return self._port.settings.dimse_timeout

    @dimse_timeout.setter
    def dimse_timeout(self, value: float | None) -> None:
        self.update_settings(dimse_timeout=value)

    @property
    def network_timeout(self) -> float | None:
        """Seconds without anything received after which the association ends."""
        return self._port.settings.network_timeout

    @network_timeout.setter
    def network_timeout(self, value: float | None) -> None:
        self.update_settings(network_timeout=value)

    # --- Events ---

    def bind(self, event: EventType, handler: Callable[..., Any], args: Any = None) -> None:
        """Bind `handler` to `event`, from now on; see `events.Handlers.bind`."""
        self.handlers.bind(event, handler, args)
        self._port.observe()

    def unbind(self, event: EventType, handler: Callable[..., Any]) -> None:
        """Undo the binding of `handler` to `event`."""
        self.handlers.unbind(event, handler)
        self._port.observe()

    def get_handlers(self, event: EventType) -> list[Binding] | Binding:
        """Return what is bound to `event`: a list, or one pair for an intervention event."""
        return self.handlers.get_handlers(event)

    def get_events(self) -> list[EventType]:
        """Return the events that have a handler, sorted by name."""
        return self.handlers.get_events()

    def is_cancelled(self, message_id: int) -> bool:
        """Return, once, whether the peer cancelled the operation `message_id`."""
        return self._port.is_cancelled(message_id)

    # --- Life ---

    def request(self, target: Target, called_ae_title: str) -> None:
        """Connect and request the association; the outcome is in the flags and `failure`."""
        self.start_request(target, called_ae_title)

    def kill(self) -> None:
        """End the association without waiting for anything."""
        self.abort(block=False)

    def is_alive(self) -> bool:
        """Return whether the association is neither over nor still to be requested."""
        return self._conn_open_told and not self._port.ended.is_set()

    def join(self, timeout: float | None = None) -> None:
        """Wait until the association is over, `timeout` seconds at most."""
        self._port.ended.wait(timeout)

    @property
    def files_stored(self) -> bool:  # type: ignore[override]  # read-only is enough
        """Whether objects received by C-STORE are filed without a handler's help."""
        return self.receive_to is not None

    def _left(self) -> None:
        self._ae.forget(self)

    # --- What comes in ---

    def open_sink(self, incoming: Incoming) -> Sink:
        """Return where the dataset of `incoming` is to go."""
        settings, request = self._port.settings, incoming.message
        if request.command is not Command.C_STORE_RQ:
            return MemorySink(settings.limits.identifier)
        if self.receive_to is None:
            return SpoolSink(settings.spool_threshold, settings.store_ceiling)
        head = datasets.file_head(
            str(request.AffectedSOPClassUID),
            str(request.AffectedSOPInstanceUID),
            str(incoming.context.transfer_syntax[0]),
        )
        if callable(self.receive_to):
            path = Path(self.receive_to(request))
            return FileSink(path.parent, path.name, head, settings.store_ceiling)
        return FileSink(Path(self.receive_to), None, head, settings.store_ceiling)

    # --- C-ECHO and C-STORE ---

    def send_c_echo(self, msg_id: int = 1) -> Dataset:
        """Send a C-ECHO request (PS3.7 Section 9.1.5).

        Returns
        -------
        Dataset
            The response's status; empty when there was none: `failure` then says why.

        Raises
        ------
        RuntimeError
            When the association is not established.
        ValueError
            When no accepted presentation context is for Verification.
        """
        self._check_established()
        context = self._context_for(Verification, None)
        return self._perform(context, scu.echo_request(msg_id))

    def send_c_store(
        self,
        dataset: str | Path | Dataset,
        msg_id: int = 1,
        priority: int = 2,
        originator_aet: str | None = None,
        originator_id: int | None = None,
    ) -> Dataset:
        """Send a C-STORE request (PS3.7 Section 9.1.1).

        Parameters
        ----------
        dataset : str, Path or Dataset
            A DICOM file, which is sent from disk as it is, or a dataset with `file_meta`.
        msg_id : int
            Message ID, 0 to 65535.
        priority : int
            0 medium, 1 high, 2 low.
        originator_aet, originator_id : str and int, optional
            Who asked for this by which C-MOVE.

        Returns
        -------
        Dataset
            The response's status; empty when there was none: `failure` then says why.

        Raises
        ------
        RuntimeError
            When the association is not established.
        ValueError
            When no accepted presentation context fits; the text lists proposed and accepted ones.
        AttributeError
            When the dataset lacks a UID that is needed.
        """
        self._check_established()
        if isinstance(dataset, Dataset):
            sop_class, sop_instance, context, source = self._dataset_source(dataset)
        else:
            sop_class, sop_instance, context, source = self._file_source(Path(dataset))
        try:
            request = scu.store_request(
                msg_id, sop_class, sop_instance, priority, originator_aet, originator_id
            )
            return self._perform(context, request, source)
        finally:
            source.close()

    def _file_source(self, path: Path) -> tuple[str, str, PresentationContext, Source]:
        """Return what is to be sent of a file: as it is, if its syntax was accepted."""
        head, source = FileSource.of_dicom_file(path)
        try:
            context = self._choose(head.sop_class_uid, head.transfer_syntax_uid)
        except ValueError:
            source.close()
            raise
        if context.transfer_syntax[0] == head.transfer_syntax_uid:
            return head.sop_class_uid, head.sop_instance_uid, context, source
        source.close()
        return self._dataset_source(dcmread(path))

    def _dataset_source(self, ds: Dataset) -> tuple[str, str, PresentationContext, Source]:
        for keyword in ("SOPClassUID", "SOPInstanceUID"):
            if keyword not in ds:
                raise AttributeError(f"the dataset has no {keyword}")
        syntax = _syntax_of(ds)
        context = self._choose(ds.SOPClassUID, syntax)
        data = datasets.encode_dataset(ds, context.transfer_syntax[0])
        return ds.SOPClassUID, ds.SOPInstanceUID, context, BytesSource(data)

    # --- What all requests share ---

    def _check_established(self) -> None:
        if not self.is_established:
            raise LocalProtocolError(
                "the association is not established" + (f": {self.failure}" if self.failure else "")
            )

    def _choose(self, abstract_syntax: str, transfer_syntax: str) -> PresentationContext:
        """Return the context for an object; remembered, since thousands are alike."""
        key = (abstract_syntax, transfer_syntax)
        context = self._chosen.get(key)
        if context is None:
            context = self._chosen[key] = self._context_for(abstract_syntax, transfer_syntax)
        return context

    def _context_for(
        self, abstract_syntax: str, transfer_syntax: str | None
    ) -> PresentationContext:
        context = choose_context(self.accepted_contexts, abstract_syntax, transfer_syntax, "scu")
        if context is None:
            raise ValueError(self._no_context(abstract_syntax, transfer_syntax))
        return context

    def _no_context(self, abstract_syntax: str, transfer_syntax: str | None) -> str:
        needed = _named(abstract_syntax)
        if transfer_syntax is not None:
            needed += f" with transfer syntax {_named(transfer_syntax)}"
        accepted = [
            f"{_named(str(each.abstract_syntax))} with {_named(each.transfer_syntax[0])}"
            + ("" if each.as_scu else " (as SCP only)")
            for each in self.accepted_contexts
        ]
        rejected = [
            f"{_named(str(each.abstract_syntax))} ({each.status})"
            for each in self.rejected_contexts
        ]
        return (
            f"no accepted presentation context is for {needed}; "
            f"accepted: {', '.join(accepted) or 'none'}; "
            f"rejected: {', '.join(rejected) or 'none'}"
        )

    def _perform(
        self, context: PresentationContext, request: Message, source: Source | None = None
    ) -> Dataset:
        """Send a request that has one response, and return the status in it."""
        port = self._port
        with port:
            try:
                response = run_blocking(scu.perform(port, context, request, source))
            except AssociationFailure as failure:
                self._failed(failure)
                return Dataset()
            finally:
                port.forget(request)
        return status_dataset(response.message)

    def _failed(self, failure: AssociationFailure) -> None:
        if failure.stage == "response":
            LOGGER.error(News.DIMSE_TIMEOUT)
        self._port.fail(failure)


def status_dataset(response: Message) -> Dataset:
    """Return what the response says of the outcome, as programs get it (PS3.7 Annex C)."""
    status = Dataset()
    status.Status = response.Status
    for keyword in ("ErrorComment", "OffendingElement", "ErrorID"):
        value = getattr(response, keyword)
        if value is not None:
            setattr(status, keyword, value)
    return status


def _syntax_of(ds: Dataset) -> UID:
    """Return the transfer syntax that `ds` is in; that of its `file_meta`, if they agree."""
    try:
        syntax: UID = ds.file_meta.TransferSyntaxUID
    except AttributeError:
        raise AttributeError("the dataset has no file_meta.TransferSyntaxUID") from None
    encoding = ds.original_encoding
    implicit, little, _ = datasets.encoding_of(syntax)
    if None in encoding or encoding == (implicit, little):
        return syntax
    actual = {(True, True): ImplicitVRLittleEndian, (False, False): ExplicitVRBigEndian}.get(
        encoding  # type: ignore[arg-type]
    )
    if actual is None:
        raise AttributeError(f"the dataset is not encoded as its file_meta says ({_named(syntax)})")
    LOGGER.warning("The dataset is not encoded as its file_meta says, but in %s", actual.name)
    return actual


def _named(uid: str) -> str:
    name = getattr(uid, "name", uid)
    return uid if name == uid else f"{uid} ({name})"
