"""The methods by which programs use the DIMSE services, on either face (PS3.7 Sections 9 and 10).

Each face turns the coroutines of `requests` into what its methods return: results, or awaitables.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import AsyncIterable, Callable, Coroutine, Iterable
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar

from dicomwire.data.storable import Storable
from dicomwire.protocol.command import Command, Message
from dicomwire.protocol.context import quick_uid
from dicomwire.services import scu
from dicomwire.session.base import BaseAssociation

if TYPE_CHECKING:
    from pydicom.dataset import Dataset
    from pydicom.tag import BaseTag
    from pydicom.uid import UID

P = ParamSpec("P")
# What the methods return: on the threaded face the result, on the asyncio face an awaitable of it.
Status = TypeVar("Status")
"""The status of a response, a Dataset."""
Reply = TypeVar("Reply")
"""The status and the dataset of a response, a tuple."""
Responses = TypeVar("Responses")
"""An iterator over the responses to a query or retrieval."""
Results = TypeVar("Results")
"""An iterator over the results of sent objects."""
Done = TypeVar("Done")
"""Nothing."""


class DimseServices(BaseAssociation, Generic[Status, Reply, Responses, Results, Done]):
    """An association by which a program uses the DIMSE services."""

    # --- Implemented by each face ---

    @abstractmethod
    def _status(
        self,
        perform: Callable[P, Coroutine[Any, Any, Message]],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> Status:
        """Return the status of the response to the request that `perform` sends."""

    @abstractmethod
    def _reply(self, request: Message, meta_uid: str | None, dataset: Dataset | None) -> Reply:
        """Return the status and the dataset of the response to an N-request."""

    @abstractmethod
    def _responses(self, request: Message, identifier: Dataset) -> Responses:
        """Return an iterator over the responses to a C-FIND, C-GET or C-MOVE."""

    @abstractmethod
    def _results(self, items: Iterable[Any] | AsyncIterable[Any], priority: int) -> Results:
        """Return an iterator that sends objects and yields their results."""

    @abstractmethod
    def _cancel(self, message_id: int, context_id: int | None, query_model: str | None) -> Done:
        """Send a C-CANCEL request."""

    # --- C-services ---

    def send_c_echo(self, msg_id: int = 1) -> Status:
        """Send a C-ECHO request (PS3.7 Section 9.1.5).

        Returns
        -------
        Dataset
            The response's status. Without a response: empty on the threaded face, and `failure`
            has the reason.

        Raises
        ------
        AssociationFailure
            On the asyncio face, when the association ends before the response.
        RuntimeError
            When the association is not established.
        ValueError
            When no accepted presentation context is for Verification.
        """
        return self._status(self.echo, msg_id)

    def send_c_store(
        self,
        dataset: Storable,
        msg_id: int = 1,
        priority: int = 2,
        originator_aet: str | None = None,
        originator_id: int | None = None,
    ) -> Status:
        """Send a C-STORE request (PS3.7 Section 9.1.1).

        Parameters
        ----------
        dataset : str, Path, Dataset, Stream, bytes or open file
            A DICOM file (by its path, in memory, or open), which is sent as it is; a dataset with
            `file_meta`; or a `Stream`, whose dataset comes in chunks (on the asyncio face also
            from an asynchronous iterator).
        msg_id : int
            Message ID, 0 to 65535.
        priority : int
            0 medium, 1 high, 2 low.
        originator_aet, originator_id : str and int, optional
            The calling AE title and the Message ID of the C-MOVE request that this serves.

        Returns
        -------
        Dataset
            The response's status. Without a response: empty on the threaded face, and `failure`
            has the reason.

        Raises
        ------
        AssociationFailure
            On the asyncio face, when the association ends before the response.
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
        originator = (originator_aet, originator_id)
        return self._status(self.store_object, dataset, msg_id, priority, originator)

    def send_c_stores(
        self, items: Iterable[Any] | AsyncIterable[Any], priority: int = 2
    ) -> Results:
        """Send objects by C-STORE, with as many outstanding as negotiated.

        That is one, unless the association was requested with a `window` and the peer granted it
        (`operations_window`). Items are taken from the iterable when they can be sent.

        Parameters
        ----------
        items : iterable
            Objects, each as for `send_c_store`; on the asyncio face also an asynchronous iterable.
            Of a collection, such as a list, the next object is read while one is being stored;
            from other iterables it is taken when it can be sent.
        priority : int
            0 medium, 1 high, 2 low.

        Returns
        -------
        Sending
            An iterator over the results (on the asyncio face an asynchronous one), in the order
            of the responses; each `Sent` unpacks into the item and the status. If an item cannot
            be sent, its `failure` has the reason. If the association ends, so does the iterator:
            outstanding items have the `failure` of the association, and the others stay in the
            iterable.

        Raises
        ------
        RuntimeError
            When the association is not established.
        """
        return self._results(items, priority)

    def send_c_find(
        self, dataset: Dataset, query_model: str | UID, msg_id: int = 1, priority: int = 2
    ) -> Responses:
        """Send a C-FIND request (PS3.7 Section 9.1.2).

        The threaded face sends it at once, the asyncio face when the iterator is first awaited.

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
            On the asyncio face it is an asynchronous one, and raises what `send_c_echo` does.

        Raises
        ------
        RuntimeError
            When the association is not established.
        ValueError
            When no accepted presentation context fits, or the Identifier cannot be encoded.
        """
        return self._query(Command.C_FIND_RQ, dataset, query_model, msg_id, priority)

    def send_c_get(
        self, dataset: Dataset, query_model: str | UID, msg_id: int = 1, priority: int = 2
    ) -> Responses:
        """Send a C-GET request (PS3.7 Section 9.1.3).

        The peer sends the objects on this association, while you take the responses: bind a
        handler to evt.EVT_C_STORE or set `receive_to`, and request the contexts of the objects
        with the SCP role (`build_role`). Parameters, results and errors are as for `send_c_find`;
        the statuses have the sub-operation counts.
        """
        return self._query(Command.C_GET_RQ, dataset, query_model, msg_id, priority)

    def send_c_move(
        self,
        dataset: Dataset,
        move_aet: str,
        query_model: str | UID,
        msg_id: int = 1,
        priority: int = 2,
    ) -> Responses:
        """Send a C-MOVE request (PS3.7 Section 9.1.4).

        Parameters, results and errors are as for `send_c_find`; the statuses have the
        sub-operation counts.

        Parameters
        ----------
        move_aet : str
            The AE title of the destination of the objects, which the peer must know.
        """
        return self._query(Command.C_MOVE_RQ, dataset, query_model, msg_id, priority, move_aet)

    def _query(
        self,
        command: Command,
        identifier: Dataset,
        model: str,
        message_id: int,
        priority: int,
        move_destination: str | None = None,
    ) -> Responses:
        request = scu.query_request(
            command, message_id, quick_uid(model), priority, move_destination
        )
        return self._responses(request, identifier)

    def send_c_cancel(
        self,
        msg_id: int,
        context_id: int | None = None,
        query_model: str | UID | None = None,
    ) -> Done:
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
        return self._cancel(msg_id, context_id, query_model)

    # --- N-services ---

    def send_n_event_report(
        self,
        dataset: Dataset | None,
        event_type: int,
        class_uid: str | UID,
        instance_uid: str | UID,
        msg_id: int = 1,
        meta_uid: str | UID | None = None,
    ) -> Reply:
        """Send an N-EVENT-REPORT request (PS3.7 Section 10.1.1); see `send_n_get`."""
        request = scu.normalized_request(
            Command.N_EVENT_REPORT_RQ, msg_id, class_uid, instance_uid, EventTypeID=event_type
        )
        return self._reply(request, meta_uid, dataset)

    def send_n_get(
        self,
        identifier_list: list[BaseTag],
        class_uid: str | UID,
        instance_uid: str | UID,
        msg_id: int = 1,
        meta_uid: str | UID | None = None,
    ) -> Reply:
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
            The status, and the dataset of the response: for Success and Warning always one, else
            None. Without a response, the threaded face returns an empty status; `failure` has the
            reason.

        Raises
        ------
        AssociationFailure
            On the asyncio face, when the association ends before the response.
        RuntimeError
            When the association is not established.
        ValueError
            When no accepted presentation context fits, or a dataset cannot be encoded.
        """
        from pydicom.tag import Tag

        tags = [Tag(tag) for tag in identifier_list or ()] or None
        request = scu.normalized_request(
            Command.N_GET_RQ, msg_id, class_uid, instance_uid, AttributeIdentifierList=tags
        )
        return self._reply(request, meta_uid, None)

    def send_n_set(
        self,
        dataset: Dataset,
        class_uid: str | UID,
        instance_uid: str | UID,
        msg_id: int = 1,
        meta_uid: str | UID | None = None,
    ) -> Reply:
        """Send an N-SET request (PS3.7 Section 10.1.3); see `send_n_get`."""
        request = scu.normalized_request(Command.N_SET_RQ, msg_id, class_uid, instance_uid)
        return self._reply(request, meta_uid, dataset)

    def send_n_action(
        self,
        dataset: Dataset | None,
        action_type: int,
        class_uid: str | UID,
        instance_uid: str | UID,
        msg_id: int = 1,
        meta_uid: str | UID | None = None,
    ) -> Reply:
        """Send an N-ACTION request (PS3.7 Section 10.1.4); see `send_n_get`."""
        request = scu.normalized_request(
            Command.N_ACTION_RQ, msg_id, class_uid, instance_uid, ActionTypeID=action_type
        )
        return self._reply(request, meta_uid, dataset)

    def send_n_create(
        self,
        dataset: Dataset | None,
        class_uid: str | UID,
        instance_uid: str | UID | None = None,
        msg_id: int = 1,
        meta_uid: str | UID | None = None,
    ) -> Reply:
        """Send an N-CREATE request (PS3.7 Section 10.1.5); see `send_n_get`.

        Without `instance_uid` the peer chooses the SOP instance's UID.
        """
        request = scu.normalized_request(Command.N_CREATE_RQ, msg_id, class_uid, instance_uid)
        return self._reply(request, meta_uid, dataset)

    def send_n_delete(
        self,
        class_uid: str | UID,
        instance_uid: str | UID,
        msg_id: int = 1,
        meta_uid: str | UID | None = None,
    ) -> Status:
        """Send an N-DELETE request (PS3.7 Section 10.1.6); results are as for `send_c_echo`."""
        request = scu.normalized_request(Command.N_DELETE_RQ, msg_id, class_uid, instance_uid)
        return self._status(self.delete, request, meta_uid)
