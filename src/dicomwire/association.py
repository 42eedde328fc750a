"""An association as programs use it: requests sent, results back, events bound.

How it begins and ends is in `threaded.lifecycle`, what it does for peers in `services.scp`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydicom.dataset import Dataset
from pydicom.tag import BaseTag, Tag
from pydicom.uid import UID

from dicomwire import datasets
from dicomwire.errors import AssociationFailure
from dicomwire.events import Binding, EventType, Handlers
from dicomwire.logs import LOGGER
from dicomwire.payloads import FileSink, MemorySink, Sink, SinkRefused, SpoolSink
from dicomwire.protocol.command import Command, Message
from dicomwire.protocol.context import quick_uid
from dicomwire.service_user import MODE_ACCEPTOR, MODE_REQUESTOR, ServiceUser
from dicomwire.services import scp, scu
from dicomwire.services.port import Incoming
from dicomwire.settings import Settings
from dicomwire.sop_class import Verification
from dicomwire.threaded.opening import Target
from dicomwire.threaded.sending import Responses, Sending

if TYPE_CHECKING:
    from dicomwire.ae import ApplicationEntity
    from dicomwire.threaded.server import AssociationServer

ReceiveTo = str | Path | Callable[[Message], str | Path | Sink]
"""Where received objects go: a folder, or a function from the C-STORE-RQ to a path or a `Sink`."""

_is_uid = re.compile(r"[0-9]+(\.[0-9]+)*").fullmatch


class Association(Sending):
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
        uids = str(request.AffectedSOPClassUID), str(request.AffectedSOPInstanceUID)
        syntax = str(incoming.context.transfer_syntax[0])
        if not callable(self.receive_to):
            head = datasets.file_head(*uids, syntax)
            return FileSink(self.receive_to, None, head, settings.store_ceiling)
        if not all(map(_is_uid, uids)):
            request = _with_harmless_uids(request)
        try:
            place = self.receive_to(request)
            if not isinstance(place, (str, Path)):
                return place
            directory, name = os.path.split(place)
            head = datasets.file_head(*uids, syntax)
            return FileSink(directory, name, head, settings.store_ceiling)
        except OSError:
            raise
        except Exception as error:
            LOGGER.exception("The function that says where to file an object failed")
            raise SinkRefused(type(error).__name__, scp.STORE_HANDLER_FAILED) from None

    # --- C-services ---

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
        context = self._context_for(Verification)
        try:
            return scu.status_dataset(self._perform(context, scu.echo_request(msg_id)).message)
        except AssociationFailure:
            return Dataset()

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
            When no accepted presentation context fits (the text lists those there are), or the
            dataset cannot be encoded.
        AttributeError
            When the dataset lacks a UID that is needed.
        OSError
            When the file cannot be read; in the midst of sending that aborts the association.
        """
        originator = (originator_aet, originator_id)
        try:
            _, response = self.store_object(dataset, msg_id, priority, originator)
        except AssociationFailure:
            return Dataset()
        return scu.status_dataset(response)

    def send_c_find(
        self, dataset: Dataset, query_model: str | UID, msg_id: int = 1, priority: int = 2
    ) -> Responses:
        """Send a C-FIND request (PS3.7 Section 9.1.2), at once.

        Parameters
        ----------
        dataset : Dataset
            The Identifier: what to match, and what to return.
        query_model : str or UID
            The SOP class, such as `PatientRootQueryRetrieveInformationModelFind`.
        msg_id : int
            Message ID, 0 to 65535.
        priority : int
            0 medium, 1 high, 2 low.

        Returns
        -------
        Responses
            An iterator over (status, identifier): pending ones with a match each, and the last.

        Raises
        ------
        RuntimeError
            When the association is not established.
        ValueError
            When no accepted presentation context fits, or the Identifier cannot be encoded.
        """
        model = quick_uid(query_model)
        return self._query(scu.query_request(Command.C_FIND_RQ, msg_id, model, priority), dataset)

    def send_c_get(
        self, dataset: Dataset, query_model: str | UID, msg_id: int = 1, priority: int = 2
    ) -> Responses:
        """Send a C-GET request (PS3.7 Section 9.1.3), at once.

        The objects come on this association while the responses are taken: bind a handler to
        evt.EVT_C_STORE, and request the contexts of the objects with the SCP role
        (`build_role`). Parameters, results and errors are as for `send_c_find`; the statuses
        have the sub-operation counts.
        """
        model = quick_uid(query_model)
        return self._query(scu.query_request(Command.C_GET_RQ, msg_id, model, priority), dataset)

    def send_c_move(
        self,
        dataset: Dataset,
        move_aet: str,
        query_model: str | UID,
        msg_id: int = 1,
        priority: int = 2,
    ) -> Responses:
        """Send a C-MOVE request (PS3.7 Section 9.1.4), at once.

        Parameters, results and errors are as for `send_c_find`; the statuses have the
        sub-operation counts.

        Parameters
        ----------
        move_aet : str
            The AE title that the objects are to be sent to, which the peer must know.
        """
        model = quick_uid(query_model)
        return self._query(
            scu.query_request(Command.C_MOVE_RQ, msg_id, model, priority, move_aet), dataset
        )

    def send_c_cancel(
        self,
        msg_id: int,
        context_id: int | None = None,
        query_model: str | UID | None = None,
    ) -> None:
        """Ask the peer to end a C-FIND, C-GET or C-MOVE (PS3.7 Section 9.3.2.3).

        Go on taking the responses: the last has the status Cancel, if the peer could comply.

        Parameters
        ----------
        msg_id : int
            The Message ID of the operation.
        context_id : int, optional
            The presentation context that the operation uses; or
        query_model : str or UID, optional
            its SOP class.

        Raises
        ------
        RuntimeError
            When the association is not established.
        ValueError
            When neither is given, or no accepted context is for the SOP class.
        """
        self._check_established()
        if context_id is None:
            if query_model is None:
                raise ValueError("give the context_id or the query_model of the operation")
            context_id = self._context_for(query_model).context_id
            assert context_id is not None
        cancel = scu.cancel_request(msg_id)
        if not self._port.without_waiting(lambda: self._send_alone(context_id, cancel)):
            self._port.send_between(context_id, cancel)

    # --- N-services ---

    def send_n_event_report(
        self,
        dataset: Dataset | None,
        event_type: int,
        class_uid: str | UID,
        instance_uid: str | UID,
        msg_id: int = 1,
        meta_uid: str | UID | None = None,
    ) -> tuple[Dataset, Dataset | None]:
        """Send an N-EVENT-REPORT request (PS3.7 Section 10.1.1); see `send_n_get`."""
        request = Message(
            Command.N_EVENT_REPORT_RQ,
            MessageID=msg_id,
            AffectedSOPClassUID=quick_uid(class_uid),
            AffectedSOPInstanceUID=quick_uid(instance_uid),
            EventTypeID=event_type,
        )
        return self._perform_normalized(request, class_uid, meta_uid, dataset, any_role=True)

    def send_n_get(
        self,
        identifier_list: list[BaseTag],
        class_uid: str | UID,
        instance_uid: str | UID,
        msg_id: int = 1,
        meta_uid: str | UID | None = None,
    ) -> tuple[Dataset, Dataset | None]:
        """Send an N-GET request (PS3.7 Section 10.1.2).

        Parameters
        ----------
        identifier_list : list of tags
            The attributes to return; empty for all.
        class_uid, instance_uid : str or UID
            The SOP class and the SOP instance.
        msg_id : int
            Message ID, 0 to 65535.
        meta_uid : str or UID, optional
            The Meta SOP class whose presentation context is to be used.

        Returns
        -------
        tuple of Dataset and (Dataset or None)
            The status, empty when there was no response (`failure` then says why); and what the
            response held: for Success and Warning always a dataset, else None.

        Raises
        ------
        RuntimeError
            When the association is not established.
        ValueError
            When no accepted presentation context fits, or a dataset cannot be encoded.
        """
        request = Message(
            Command.N_GET_RQ,
            MessageID=msg_id,
            RequestedSOPClassUID=quick_uid(class_uid),
            RequestedSOPInstanceUID=quick_uid(instance_uid),
            AttributeIdentifierList=[Tag(tag) for tag in identifier_list or ()] or None,
        )
        return self._perform_normalized(request, class_uid, meta_uid, None)

    def send_n_set(
        self,
        dataset: Dataset,
        class_uid: str | UID,
        instance_uid: str | UID,
        msg_id: int = 1,
        meta_uid: str | UID | None = None,
    ) -> tuple[Dataset, Dataset | None]:
        """Send an N-SET request (PS3.7 Section 10.1.3); see `send_n_get`."""
        request = Message(
            Command.N_SET_RQ,
            MessageID=msg_id,
            RequestedSOPClassUID=quick_uid(class_uid),
            RequestedSOPInstanceUID=quick_uid(instance_uid),
        )
        return self._perform_normalized(request, class_uid, meta_uid, dataset)

    def send_n_action(
        self,
        dataset: Dataset | None,
        action_type: int,
        class_uid: str | UID,
        instance_uid: str | UID,
        msg_id: int = 1,
        meta_uid: str | UID | None = None,
    ) -> tuple[Dataset, Dataset | None]:
        """Send an N-ACTION request (PS3.7 Section 10.1.4); see `send_n_get`."""
        request = Message(
            Command.N_ACTION_RQ,
            MessageID=msg_id,
            RequestedSOPClassUID=quick_uid(class_uid),
            RequestedSOPInstanceUID=quick_uid(instance_uid),
            ActionTypeID=action_type,
        )
        return self._perform_normalized(request, class_uid, meta_uid, dataset)

    def send_n_create(
        self,
        dataset: Dataset | None,
        class_uid: str | UID,
        instance_uid: str | UID | None = None,
        msg_id: int = 1,
        meta_uid: str | UID | None = None,
    ) -> tuple[Dataset, Dataset | None]:
        """Send an N-CREATE request (PS3.7 Section 10.1.5); see `send_n_get`.

        Without `instance_uid` the peer chooses the SOP instance's UID.
        """
        request = Message(
            Command.N_CREATE_RQ,
            MessageID=msg_id,
            AffectedSOPClassUID=quick_uid(class_uid),
            AffectedSOPInstanceUID=quick_uid(instance_uid) if instance_uid is not None else None,
        )
        return self._perform_normalized(request, class_uid, meta_uid, dataset)

    def send_n_delete(
        self,
        class_uid: str | UID,
        instance_uid: str | UID,
        msg_id: int = 1,
        meta_uid: str | UID | None = None,
    ) -> Dataset:
        """Send an N-DELETE request (PS3.7 Section 10.1.6) and return the status alone."""
        request = Message(
            Command.N_DELETE_RQ,
            MessageID=msg_id,
            RequestedSOPClassUID=quick_uid(class_uid),
            RequestedSOPInstanceUID=quick_uid(instance_uid),
        )
        return self._perform_normalized(request, class_uid, meta_uid, None)[0]


def _with_harmless_uids(request: Message) -> Message:
    """Return a copy for naming a file: what is in no UID, and could lead anywhere, becomes "_"."""
    harmless = {
        keyword: quick_uid(re.sub(r"[^0-9.]|\.(?=\.)", "_", str(getattr(request, keyword))))
        for keyword in ("AffectedSOPClassUID", "AffectedSOPInstanceUID")
    }
    return replace(request, **harmless)  # type: ignore[arg-type]
