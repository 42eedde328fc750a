"""The association of the threaded face: sends requests, and waits for their responses.

`session.base` has the part that both faces share.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dicomwire.data.blocking import run_blocking
from dicomwire.data.storable import Storable
from dicomwire.errors import AssociationFailure, ConnectionLost
from dicomwire.events import Handlers
from dicomwire.protocol.command import Command, Message
from dicomwire.protocol.context import quick_uid
from dicomwire.protocol.states import Role
from dicomwire.services import scu
from dicomwire.services.port import Operation, Storer
from dicomwire.session import acceptance
from dicomwire.session.base import BaseAssociation
from dicomwire.session.entity import Entity
from dicomwire.session.requests import OtherStorer
from dicomwire.session.serving import BaseServer
from dicomwire.session.target import Target
from dicomwire.settings import Settings
from dicomwire.threaded.connection import Connection
from dicomwire.threaded.port import ThreadedPort

if TYPE_CHECKING:
    from pydicom.dataset import Dataset
    from pydicom.tag import BaseTag
    from pydicom.uid import UID

    from dicomwire.threaded.iterators import Responses, Sending


class Association(BaseAssociation):
    """An association with a peer; made by `AE.associate`, or by a server for each that it accepts.

    As a context manager it is released at the end of the block, or aborted after an exception.

    Attributes
    ----------
    requestor, acceptor : ServiceUser
        The two ends, with their values in the negotiation.
    is_established, is_released, is_aborted, is_rejected : bool
        The state; one of the last three is true once the association is over.
    network_timeout_response : str
        How the association ends after the network timeout: by "A-ABORT" or "A-RELEASE".
    receive_to : ReceiveTo or None
        Where to write objects received by C-STORE, while they arrive.
    server : AssociationServer or None
        The server that accepted it.
    """

    _ae: Entity[Any]
    _port: ThreadedPort

    def __init__(
        self,
        ae: Entity[Any],
        mode: str,
        *,
        handlers: Handlers | None = None,
        settings: Settings | None = None,
        server: BaseServer[Any] | None = None,
    ) -> None:
        receive_to = server.receive_to if server is not None else None
        super().__init__(ae, mode, handlers=handlers, settings=settings, receive_to=receive_to)
        self.server = server

    def _make_port(self, role: Role, settings: Settings) -> ThreadedPort:
        return ThreadedPort(self, role, settings)

    def __enter__(self) -> Association:
        return self

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        if kind is None:
            self.release()
        else:
            self.abort()

    @property
    def ae(self) -> Entity[Any]:
        """The AE that this end belongs to."""
        return self._ae

    # --- Its beginning ---

    def request(self, target: Target, called_ae_title: str) -> None:
        """Connect and request the association; the flags and `failure` tell the outcome."""
        self._port.target = target
        with self._port:
            run_blocking(self.begin(called_ae_title))

    def start_serving(self, connection: Connection, on_closed: Callable[[], None]) -> None:
        """Begin as the acceptor on a new connection, before the peer's request is known."""
        with self._port as port, port.ending_on_error():
            port.open(connection, on_closed)
            self.take_over(connection.local, connection.remote)

    def abandon(self, failure: AssociationFailure) -> None:
        """Close a connection on which no association request arrived."""
        with self._port:
            self.give_up(failure)

    def answer(self, received: bytes | bytearray, policy: acceptance.Policy) -> None:
        """Answer the `received` association request, and serve the requests that follow."""
        with self._port as port, port.ending_on_error():
            port.feed(bytes(received))
            run_blocking(self.answer_request(policy))

    # --- Its end ---

    def release(self) -> None:
        """Release the association, after the calls of other threads have ended.

        Does nothing if it is not established (PS3.8 Section 7.2). In a handler of bytes, PDUs or
        state transitions (such as EVT_DATA_RECV), the release follows after the current step.
        """
        if self.is_established:
            run_blocking(self.end())

    async def end(self) -> None:
        """Release the association, with the turn."""
        with self._port as port:
            if port.is_reporting:
                port.release_wanted = True
            else:
                await super().end()

    def release_soon(self) -> None:
        self.release()

    def abort(self, block: bool = True) -> None:
        """Abort the association: from any thread and any handler, and at any moment.

        Parameters
        ----------
        block : bool
            Whether to wait until the association has ended, if another thread is using it.
            A handler of the same association never waits.
        """
        port = self._port
        if port.is_over:
            return
        port.abort()
        if block and not port.has_turn:
            port.ended.wait(port.settings.close_timeout)

    def kill(self) -> None:
        """End the association without waiting for anything."""
        self.abort(block=False)

    def is_alive(self) -> bool:
        """Return whether the connection is open: not before the request, and not after the end."""
        return self._open_reported and not self._port.is_ended

    def join(self, timeout: float | None = None) -> None:
        """Wait until the association is over, `timeout` seconds at most."""
        self._port.ended.wait(timeout)

    @property
    def peer_gone(self) -> bool:
        """Whether the association has ended; reads what has arrived first, without waiting."""
        if self._port.has_turn:
            self._port.look()
        return self._port.is_over

    def is_cancelled(self, message_id: int) -> bool:
        """Return, once, whether the peer cancelled the operation `message_id`."""
        return self._port.is_cancelled(message_id)

    # --- Requests, with the turn ---

    def _query(self, request: Message, identifier: Dataset) -> Responses:
        """Send a C-FIND, C-GET or C-MOVE request at once; return an iterator over its responses."""
        from dicomwire.threaded.iterators import Responses

        operation: Operation | None = None
        with contextlib.suppress(AssociationFailure):
            operation = run_blocking(self.query(request, identifier))
        return Responses(self, request, operation)

    def _normalized(
        self, request: Message, meta_uid: str | UID | None, dataset: Dataset | None
    ) -> tuple[Dataset, Dataset | None]:
        """Send an N-request; return the status (empty without a response) and the dataset."""
        from dicomwire.services.results import status_dataset

        try:
            return run_blocking(self.normalized(request, meta_uid, dataset))
        except AssociationFailure:
            return status_dataset(None), None

    def _send_alone(self, context_id: int, message: Message) -> None:
        """Send a message that has no response."""
        try:
            run_blocking(self._port.send(context_id, message))
        except AssociationFailure as failure:
            self.failed(failure)

    async def storer_to(self, title: str, host: str, port: int, options: dict[str, Any]) -> Storer:
        """Return a storer that sends retrieved objects to another AE (C-MOVE)."""
        other = self._ae.associate(host, port, **{"ae_title": title, **options})
        if not other.is_established:
            raise other.failure or ConnectionLost("no association", stage="associate")
        return OtherStorer(other, self.requestor.ae_title)

    # --- C-services ---

    def send_c_echo(self, msg_id: int = 1) -> Dataset:
        """Send a C-ECHO request (PS3.7 Section 9.1.5).

        Returns
        -------
        Dataset
            The response's status; empty without a response: `failure` has the reason then.

        Raises
        ------
        RuntimeError
            When the association is not established.
        ValueError
            When no accepted presentation context is for Verification.
        """
        from dicomwire.services.results import status_dataset

        try:
            return status_dataset(run_blocking(self.echo(msg_id)))
        except AssociationFailure:
            return status_dataset(None)

    def send_c_store(
        self,
        dataset: Storable,
        msg_id: int = 1,
        priority: int = 2,
        originator_aet: str | None = None,
        originator_id: int | None = None,
    ) -> Dataset:
        """Send a C-STORE request (PS3.7 Section 9.1.1).

        Parameters
        ----------
        dataset : str, Path, Dataset, Stream, bytes or open file
            A DICOM file (by its path, in memory, or open), which is sent as it is; a dataset with
            `file_meta`; or a `Stream`, whose dataset comes in chunks.
        msg_id : int
            Message ID, 0 to 65535.
        priority : int
            0 medium, 1 high, 2 low.
        originator_aet, originator_id : str and int, optional
            The calling AE title and the Message ID of the C-MOVE request that this serves.

        Returns
        -------
        Dataset
            The response's status; empty without a response: `failure` has the reason then.

        Raises
        ------
        RuntimeError
            When the association is not established.
        ValueError
            When no accepted presentation context fits (the text lists those there are), or the
            dataset cannot be encoded.
        TypeError
            When `dataset` cannot be sent, such as a number.
        AttributeError
            When the dataset lacks a necessary UID.
        OSError
            When the file cannot be read; in the middle of sending, the association is aborted.
        """
        from dicomwire.services.results import status_dataset

        originator = (originator_aet, originator_id)
        try:
            _, response = run_blocking(self.store_object(dataset, msg_id, priority, originator))
        except AssociationFailure:
            return status_dataset(None)
        return status_dataset(response)

    def send_c_stores(self, items: Iterable[str | Path | Dataset], priority: int = 2) -> Sending:
        """Send objects by C-STORE, with as many outstanding as negotiated.

        That is one, unless the association was requested with a `window` and the peer granted it
        (`operations_window`). Items are taken from the iterable when they can be sent.

        Parameters
        ----------
        items : iterable
            DICOM files and datasets, as `send_c_store` takes them.
        priority : int
            0 medium, 1 high, 2 low.

        Returns
        -------
        Sending
            An iterator over the results, in the order of the responses; each `Sent` unpacks into
            the item and the status. If an item cannot be sent, its `failure` has the reason. If
            the association ends, so does the iterator: outstanding items have the `failure` of
            the association, and the others stay in the iterable.

        Raises
        ------
        RuntimeError
            When the association is not established.
        """
        from dicomwire.bulk.pipeline import Pipeline
        from dicomwire.threaded.iterators import Sending

        return Sending(self, Pipeline(self, items, priority))

    def send_c_find(
        self, dataset: Dataset, query_model: str | UID, msg_id: int = 1, priority: int = 2
    ) -> Responses:
        """Send a C-FIND request (PS3.7 Section 9.1.2), at once.

        Parameters
        ----------
        dataset : Dataset
            The Identifier: the keys to match, and those to return.
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

        The peer sends the objects on this association, while you take the responses: bind a
        handler to evt.EVT_C_STORE, and request the contexts of the objects with the SCP role
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
            The AE title of the destination of the objects, which the peer must know.
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

        Continue to take the responses: the last has the status Cancel, if the peer could comply.

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
        context_id = self.cancel_context(context_id, query_model)
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
        request = scu.event_report_request(msg_id, class_uid, instance_uid, event_type)
        return self._normalized(request, meta_uid, dataset)

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
            The status, empty without a response (`failure` has the reason then); and the dataset
            of the response: for Success and Warning always one, else None.

        Raises
        ------
        RuntimeError
            When the association is not established.
        ValueError
            When no accepted presentation context fits, or a dataset cannot be encoded.
        """
        request = scu.get_request(msg_id, class_uid, instance_uid, identifier_list)
        return self._normalized(request, meta_uid, None)

    def send_n_set(
        self,
        dataset: Dataset,
        class_uid: str | UID,
        instance_uid: str | UID,
        msg_id: int = 1,
        meta_uid: str | UID | None = None,
    ) -> tuple[Dataset, Dataset | None]:
        """Send an N-SET request (PS3.7 Section 10.1.3); see `send_n_get`."""
        request = scu.set_request(msg_id, class_uid, instance_uid)
        return self._normalized(request, meta_uid, dataset)

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
        request = scu.action_request(msg_id, class_uid, instance_uid, action_type)
        return self._normalized(request, meta_uid, dataset)

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
        request = scu.create_request(msg_id, class_uid, instance_uid)
        return self._normalized(request, meta_uid, dataset)

    def send_n_delete(
        self,
        class_uid: str | UID,
        instance_uid: str | UID,
        msg_id: int = 1,
        meta_uid: str | UID | None = None,
    ) -> Dataset:
        """Send an N-DELETE request (PS3.7 Section 10.1.6) and return the status alone."""
        request = scu.delete_request(msg_id, class_uid, instance_uid)
        return self._normalized(request, meta_uid, None)[0]
