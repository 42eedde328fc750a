"""Sends requests on an association: chooses the context, encodes the dataset, gets the response.

`services.scu` makes the requests; each face waits for responses in its own way.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from typing import TYPE_CHECKING, Any

from dicomwire.data.sources import Data
from dicomwire.data.storable import Opened, Storable, instance_uid_of, open_storable
from dicomwire.errors import AssociationFailure, LocalProtocolError
from dicomwire.logs import LOGGER, Progress, escaped, log_identifier
from dicomwire.protocol.command import Command, Message
from dicomwire.protocol.context import PresentationContext
from dicomwire.protocol.exchanges import Exchanges, success_of
from dicomwire.protocol.negotiation import choose_context
from dicomwire.registry.services import Service, SOPClass, service_of
from dicomwire.registry.tables import Verification
from dicomwire.registry.uids import looked_up
from dicomwire.services import scu
from dicomwire.services.port import Incoming, Storer
from dicomwire.session.ends import MODE_ACCEPTOR
from dicomwire.session.lifecycle import Lifecycle
from dicomwire.session.operation import Operation
from dicomwire.session.sending import SendingEngine
from dicomwire.utils import set_ae

if TYPE_CHECKING:
    from pydicom.dataset import Dataset
    from pydicom.uid import UID

_MOST_KINDS = 256
"""Kinds of requests whose template is remembered: one for each context, and as many again."""
IN_MEMORY = (memoryview, bytes, bytearray)  # as `Buffer`, which takes longer to test for
_STORAGE_SERVICE_CLASS = "1.2.840.10008.4.2"


class Requesting(Lifecycle):
    """An association that sends requests and receives their responses."""

    _may_await = False
    """Whether the chunks of a `Stream` may have to be awaited."""
    _port: SendingEngine

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        # Context id and transfer syntax, by SOP class and the transfer syntax of the object.
        self._chosen: dict[tuple[str, str | None], tuple[int, UID]] = {}
        self._services: dict[SOPClass, Service] = {}
        # Templates, by context, SOP class and priority.
        self._exchanges: dict[tuple[int, str | None, int | None], Exchanges] = {}

    @property
    def accepted_contexts(self) -> list[PresentationContext]:
        """The contexts that messages may use, by id."""
        return sorted(self._port.contexts.values(), key=lambda context: context.context_id or 0)

    @property
    def rejected_contexts(self) -> list[PresentationContext]:
        """The contexts that the acceptor rejected, with the reason in `result`."""
        return [context for context in self._contexts if context.result != 0]

    # --- Contexts ---

    def check_established(self) -> None:
        """Raise LocalProtocolError if no request can be sent."""
        if not self.is_established:
            raise LocalProtocolError(
                "the association is not established" + (f": {self.failure}" if self.failure else "")
            )
        if self._port.reporting and self._port.is_reporting:
            raise LocalProtocolError(
                "a handler of bytes, PDUs or transitions cannot send messages, "
                "and neither can one that is called while a message is being sent"
            )

    def _choose(self, abstract_syntax: str, transfer_syntax: str | None = None) -> tuple[int, UID]:
        """Return id and transfer syntax of the context for a request of ours as SCU.

        It is remembered for requests of the same kind.

        Raises
        ------
        ValueError
            When there is none; the text lists those that there are.
        """
        key = (abstract_syntax, transfer_syntax)
        chosen = self._chosen.get(key)
        if chosen is None:
            chosen = self._chosen[key] = self._context_for(abstract_syntax, transfer_syntax)
        return chosen

    def _context_for(
        self, abstract_syntax: str, transfer_syntax: str | None = None, any_role: bool = False
    ) -> tuple[int, UID]:
        context = choose_context(
            self.accepted_contexts, abstract_syntax, transfer_syntax, as_scu=not any_role
        )
        if context is None:
            raise ValueError(self._no_context(abstract_syntax, transfer_syntax))
        assert context.context_id is not None
        return context.context_id, context.transfer_syntax[0]

    def _no_context(self, abstract_syntax: str, transfer_syntax: str | None) -> str:
        needed = _named(abstract_syntax)
        if transfer_syntax is not None:
            needed += f" with transfer syntax {_named(transfer_syntax)}"
        accepted = [
            f"{_named(each.abstract_syntax or '')} with {_named(each.transfer_syntax[0])}"
            + ("" if each.as_scu else " (as SCP only)")
            for each in self.accepted_contexts
        ]
        rejected = [
            f"{_named(each.abstract_syntax or '')} ({each.status})"
            for each in self.rejected_contexts
        ]
        return (
            f"no accepted presentation context is for {needed}; "
            f"accepted: {', '.join(accepted) or 'none'}; "
            f"rejected: {', '.join(rejected) or 'none'}"
        )

    def service_of(self, sop_class: SOPClass) -> Service:
        """Return the service that serves `sop_class` on this association.

        Common extended negotiation may define it (PS3.7 Annex D.3.3.6). With unrestricted storage,
        an unknown SOP class is served as Storage.
        """
        service = self._services.get(sop_class)
        if service is None:
            service = self._services[sop_class] = self._find_service(sop_class)
        return service

    def _find_service(self, sop_class: SOPClass) -> Service:
        accepted = self.acceptor.accepted_common_extended.get(sop_class)
        if accepted is not None:
            if accepted[0] == _STORAGE_SERVICE_CLASS:
                return Service.STORAGE
            return service_of(accepted[0])
        service = sop_class.service_class
        if (
            service is Service.UNKNOWN
            and self.mode == MODE_ACCEPTOR
            and self._port.settings.unrestricted_storage
        ):
            return Service.STORAGE
        return service

    # --- Requests with one response ---

    async def perform(
        self, context_id: int, request: Message, data: Data | None = None
    ) -> Incoming:
        """Send a request and return its one response; AssociationFailure if there is none."""
        with self._port as port:
            try:
                exchange = None
                if port.is_unobserved(0):
                    exchange = self._usual_exchange(context_id, request, data)
                if exchange is None:
                    operation = await port.request(context_id, request, data)
                elif (unanswered := await port.exchange(request, *exchange)) is None:
                    return Incoming(port.contexts[context_id], success_of(request))
                else:
                    operation = unanswered
                return await operation.response()
            except AssociationFailure as failure:
                self.failed(failure)
                raise

    def _usual_exchange(
        self, context_id: int, request: Message, data: Data | None
    ) -> tuple[bytes, bytes] | None:
        """Return a usual C-STORE or C-ECHO and its response, packed; None for all others."""
        number, uid = request.MessageID or 0, request.AffectedSOPInstanceUID
        if request.command is Command.C_ECHO_RQ:
            return self.exchanges(context_id, request).of(number)
        if (
            request.command is not Command.C_STORE_RQ
            or request.MoveOriginatorMessageID is not None
            or request.MoveOriginatorApplicationEntityTitle is not None
            or not isinstance(data, IN_MEMORY)
            or uid is None
        ):
            return None
        return self.exchanges(context_id, request).with_dataset(number, uid, data)

    def exchanges(self, context_id: int, request: Message) -> Exchanges:
        """Return the template for a C-STORE-RQ without originator, or C-ECHO-RQ."""
        key = (context_id, request.AffectedSOPClassUID, request.Priority)
        made = self._exchanges.get(key)
        if made is None:
            made = Exchanges(context_id, request, self._port.protocol.maximum_length)
            if len(self._exchanges) >= _MOST_KINDS:
                self._exchanges.clear()
            self._exchanges[key] = made
        return made

    def failed(self, failure: AssociationFailure) -> None:
        """End the association because of `failure`."""
        if failure.stage == "response":
            LOGGER.error(Progress.DIMSE_TIMEOUT)
        self._port.fail(failure)

    async def echo(self, message_id: int) -> Message:
        """Send a C-ECHO request; return its response."""
        self.check_established()
        context_id, _ = self._choose(Verification)
        return (await self.perform(context_id, scu.echo_request(message_id))).message

    async def normalized(
        self, request: Message, meta_uid: str | None, dataset: Dataset | None
    ) -> tuple[Dataset, Dataset | None]:
        """Send an N-request; return the status and dataset of its response."""
        from dicomwire.services.results import normalized_result

        incoming = await self._perform_normalized(request, meta_uid, dataset)
        return normalized_result(request, incoming, self._port.settings.limits)

    async def delete(self, request: Message, meta_uid: str | None) -> Message:
        """Send an N-DELETE request; return its response."""
        return (await self._perform_normalized(request, meta_uid, None)).message

    async def _perform_normalized(
        self, request: Message, meta_uid: str | None, dataset: Dataset | None
    ) -> Incoming:
        from dicomwire.data import codec

        self.check_established()
        class_uid = request.AffectedSOPClassUID or request.RequestedSOPClassUID
        assert class_uid is not None
        any_role = request.command is Command.N_EVENT_REPORT_RQ  # an SCP sends it
        context_id, syntax = self._context_for(meta_uid or class_uid, any_role=any_role)
        data = None
        if dataset is not None:
            request.has_dataset = True
            data = codec.encode_dataset(dataset, syntax)
        return await self.perform(context_id, request, data)

    async def query(self, request: Message, identifier: Dataset) -> Operation:
        """Send a C-FIND, C-GET or C-MOVE request; return the operation, with its responses.

        The network timeout is suspended: call `unhold` of the port when the responses are taken.
        """
        from dicomwire.data import codec
        from dicomwire.data.characters import check_keys

        self.check_established()
        assert request.AffectedSOPClassUID is not None
        context_id, syntax = self._choose(request.AffectedSOPClassUID)
        check_keys(identifier)
        data = codec.encode_dataset(identifier, syntax)
        log_identifier(request, identifier)
        with self._port as port:
            try:
                operation = await port.request(context_id, request, data)
            except AssociationFailure as failure:
                self.failed(failure)
                raise
            port.hold()
            return operation

    def cancel_context(self, context_id: int | None, query_model: str | None) -> int:
        """Return the context of an operation to cancel: as given, or that of its query model."""
        self.check_established()
        if context_id is not None:
            return context_id
        if query_model is None:
            raise ValueError("give the context_id or the query_model of the operation")
        return self._choose(query_model)[0]

    # --- Objects ---

    async def store_object(
        self,
        value: Storable | Opened,
        message_id: int,
        priority: int = 2,
        originator: tuple[str | None, int | None] = (None, None),
    ) -> Message:
        """Send an object by C-STORE; return the response, AssociationFailure if there is none."""
        self.check_established()
        opened, context_id, data = self.open_object(value)
        try:
            uids = opened.sop_class_uid, opened.sop_instance_uid
            request = scu.store_request(message_id, *uids, priority, *originator)
            return (await self.perform(context_id, request, data)).message
        finally:
            if not opened.is_small_file:  # else it was closed before, and needs no call
                opened.close()

    def open_object(self, value: Storable | Opened) -> tuple[Opened, int, Data]:
        """Open an object; return it, the id of the context for it, and its dataset."""
        opened = open_storable(value)
        try:
            sop_class, own_syntax = opened.sop_class_uid, opened.transfer_syntax_uid
            chosen = self._chosen.get((sop_class, own_syntax))
            context_id, syntax = chosen or self._choose(sop_class, own_syntax)
            if syntax != own_syntax and not opened.is_convertible:
                raise ValueError(self._no_context(sop_class, own_syntax))
            if opened.is_asynchronous and not self._may_await:
                raise TypeError("chunks that have to be awaited are for the asyncio face")
            data = opened.encoded_in(syntax)
        except BaseException:
            opened.close()
            raise
        if opened.differing:
            LOGGER.warning(
                "%s is sent with the values of its dataset; the meta information has another %s",
                escaped(opened.sop_instance_uid),
                " and ".join(opened.differing),
            )
        return opened, context_id, data

    def own_storer(self, reduce: Callable[[Dataset], Dataset] | None = None) -> Storer:
        """Return the storer that sends retrieved objects on this association (C-GET)."""
        return ObjectStorer(self, reduce=reduce)


class ObjectStorer:
    """Sends retrieved objects: on the association of the request, or on a separate one.

    Parameters
    ----------
    mover : str, optional
        The requestor of a C-MOVE; then `association` is a separate one.
    reduce : callable, optional
        Returns the dataset to send in place of a dataset.
    """

    def __init__(
        self,
        association: Requesting,
        mover: str | None = None,
        reduce: Callable[[Dataset], Dataset] | None = None,
    ) -> None:
        self._association = association
        self._is_separate = mover is not None
        self._mover = _as_title(mover) if mover is not None else None
        self._reduce = reduce

    async def store(self, value: Any, message_id: int, request: Message) -> tuple[str, int | None]:
        """Send an object; see `services.port.Storer`."""
        originator = (self._mover, request.MessageID) if self._is_separate else (None, None)
        try:
            if self._reduce is not None:
                with closing(open_storable(value)) as opened:
                    value = self._reduce(opened.decoded())
            opened = open_storable(value)
            response = await self._association.store_object(
                opened, message_id, originator=originator
            )
        except Exception as error:
            if isinstance(error, AssociationFailure) and not self._is_separate:
                raise
            LOGGER.error("A sub-operation failed: %s", error)
            return instance_uid_of(value), None
        return opened.sop_instance_uid, response.Status

    async def close(self) -> None:
        """Release the association, if it is a separate one."""
        if self._is_separate:
            await self._association.end()


def _as_title(title: str) -> str | None:
    """Return a peer's title if an element of VR AE can hold it; None if it cannot.

    Peers call themselves what they like, also beyond ASCII. The Move Originator is optional: no
    object fails for it (PS3.7 Section 9.1.1.1.9).
    """
    try:
        return set_ae(title, "title") or None
    except ValueError:
        return None


def _named(uid: str) -> str:
    name = looked_up(uid).name
    return uid if name == uid else f"{uid} ({name})"
