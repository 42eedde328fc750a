"""Sends objects by C-STORE with several outstanding (PS3.7 Annex D.3.3.3), and returns results.

Each face waits for the results in its own way.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterable, Collection, Iterable, Iterator
from typing import TYPE_CHECKING, Any, TypeAlias

from dicomwire.data.new_files import Buffer
from dicomwire.data.sources import FileSource
from dicomwire.data.storable import Opened, instance_uid_of
from dicomwire.errors import AssociationFailure
from dicomwire.protocol.command import Command, Message, decode_command
from dicomwire.protocol.dimse import OVERHEAD
from dicomwire.protocol.exchanges import SUCCESS, Exchanges
from dicomwire.protocol.limits import MIB
from dicomwire.services import scu
from dicomwire.services.port import END, Incoming
from dicomwire.session.operation import Operation
from dicomwire.session.requests import IN_MEMORY, Requesting
from dicomwire.session.sending import Begun
from dicomwire.status import STATUS_SUCCESS, STATUS_WARNING, code_to_category

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

Items: TypeAlias = Iterable[Any] | AsyncIterable[Any]

LARGEST_WINDOW = 64
"""Outstanding objects at most if the peer allows any number: more do not hide the round trip
better."""
LAST_MESSAGE_ID = 65535
_STORED = int(Command.C_STORE_RSP)
_SMALL = 64 * 1024
"""After an object of more bytes, look at responses before sending the next."""
_MOST_IN_FLIGHT = 2 * MIB
"""Bytes of outstanding objects at most: four slices of a CT. With more than the buffers of the
sockets hold, large objects take longer than one at a time."""


class Sent:
    """The result of sending an object; unpacks into `item` and `status`.

    Attributes
    ----------
    item : object
        The item that was to be sent.
    sop_instance_uid : str
        Its SOP Instance UID; empty if it could not be read.
    failure : Exception or None
        Why there was no response: an `AssociationFailure`, or an error of the object, such as a
        ValueError if no context was accepted for it, or an OSError.
    is_resumed : bool
        Whether it was not sent now, since the ledger has it as stored in an earlier run.
    """

    __slots__ = ("_answer", "failure", "is_resumed", "item", "sop_instance_uid")

    def __init__(
        self,
        item: Any,
        sop_instance_uid: str = "",
        response: Message | bytes | None = None,
        failure: Exception | None = None,
        is_resumed: bool = False,
    ) -> None:
        self.item = item
        self.sop_instance_uid = sop_instance_uid
        self._answer = response  # bytes if it reports success in the usual way
        self.failure = failure
        self.is_resumed = is_resumed

    def __repr__(self) -> str:
        return (
            f"Sent(item={self.item!r}, sop_instance_uid={self.sop_instance_uid!r}, "
            f"failure={self.failure!r}, is_resumed={self.is_resumed!r})"
        )

    @property
    def response(self) -> Message | None:
        """The C-STORE-RSP; None if there was none."""
        answer = self._answer
        if isinstance(answer, bytes):
            answer = self._answer = decode_command(answer[OVERHEAD:])
        return answer

    @property
    def code(self) -> int | None:
        """The status of the response as a number; None without a response."""
        answer = self._answer
        if isinstance(answer, bytes):
            return SUCCESS
        return None if answer is None else answer.Status

    @property
    def status(self) -> Dataset:
        """The status of the response, as `send_c_store` returns it; empty without a response."""
        from dicomwire.services.results import status_dataset

        return status_dataset(self.response)

    @property
    def is_stored(self) -> bool:
        """Whether the peer has stored the object, perhaps with a warning."""
        code = self.code
        return code is not None and (not code or stored_with(code))

    def __iter__(self) -> Iterator[Any]:
        yield self.item
        yield self.status


def stored_with(status: int) -> bool:
    """Return whether a peer that answers with `status` has stored the object."""
    return not status or code_to_category(status) in (STATUS_SUCCESS, STATUS_WARNING)


class _Ready:
    """An item with the object that was opened for it, or with the reason why it cannot be sent.

    Attributes
    ----------
    number : int
        The message ID.
    data : bytes, Source or Begun
        The dataset; the first bytes of a large one may have been read.
    exchange : (bytes, bytes) or None
        For a usual request: it as PDUs, with a small dataset, and the response that is expected.
    error : Exception or None
        Why it cannot be sent; then there is none of the above.
    """

    __slots__ = ("context_id", "data", "error", "exchange", "item", "number", "opened", "uid")

    opened: Opened
    context_id: int
    number: int
    data: Any
    exchange: tuple[bytes, bytes] | None

    def __init__(self, item: Any, uid: str, error: Exception | None = None) -> None:
        self.item = item
        self.uid = uid
        self.error = error

    def close(self) -> None:
        """Close the object."""
        # A small file was closed before, and needs no call.
        if self.error is None and not self.opened.is_small_file:
            self.opened.close()


class Pipeline:
    """Sends objects, keeps as many outstanding as allowed, and matches the responses to them.

    Objects are taken from `items` when there is room for them; of a collection, the next one is
    opened while the responses to those before it are awaited. If an object cannot be sent, its
    result has the exception. If the association ends, the outstanding objects have its failure as
    their results, and no others follow. From the first call of `next` until `close`, the network
    timeout of the association is suspended.

    A usual request goes from the template to the socket, and a usual response is compared with what
    was expected, where nobody looks at messages (`SendingEngine.is_unobserved`). Neither becomes a
    message. Any other response goes through the protocol, which has all requests as operations.

    Parameters
    ----------
    items : iterable or async iterable
        Paths and datasets.

    Attributes
    ----------
    port : SendingEngine
        The port of the association.
    has_begun : bool
        Whether objects have been sent, and `close` must be called.
    """

    def __init__(
        self, association: Requesting, items: Items | ItemReader, priority: int = 2
    ) -> None:
        association.check_established()
        self._association = association
        self.port = association._port
        self._items = items if isinstance(items, ItemReader) else ItemReader(items)
        self._priority = priority
        self._window = association.own_window or LARGEST_WINDOW
        self._operation: Operation | None = None
        self._exchanges: dict[tuple[int, str], Exchanges] = {}  # by context and SOP class
        # Item, SOP Instance UID, bytes, and the expected response if it is usual, by message id,
        # in sending order.
        self._outstanding: dict[int, tuple[Any, str, int, bytes | None]] = {}
        self._in_flight = 0  # bytes of the outstanding objects
        self._results: deque[Sent] = deque()
        self._ready: _Ready | None = None  # the next object, if it was read ahead
        self._number = 0
        self.has_begun = False
        self._is_exhausted = False
        self._error: Exception | None = None  # raised by the iterable

    def at_hand(self) -> Sent | None:
        """Return the next result, if there is one and it is not time to send; otherwise None."""
        if self._results and not self._wants_more:
            return self._results.popleft()
        return None

    @property
    def _wants_more(self) -> bool:
        """Whether to send: once half the window is free, so that many objects are sent together."""
        return (
            not self._is_exhausted
            and len(self._outstanding) * 2 <= self._window
            and self._in_flight * 2 <= _MOST_IN_FLIGHT
        )

    def usual(self) -> Sent | None:
        """Send a small object and return its result, if all about it is usual; otherwise None.

        This is `next` for one outstanding object on the threaded face, in as few calls as possible.
        After None, `next` continues, also in the middle.
        """
        operation = self._operation
        if operation is None or self._window > 1 or self._results or self._outstanding:
            return None
        ready = self._ready
        if ready is None and not self._is_exhausted:
            ready = self._ready = self._take_now()
        if ready is None or ready.error is not None or not isinstance(ready.data, IN_MEMORY):
            return None
        port, exchange, number, item = self.port, ready.exchange, ready.number, ready.item
        if exchange is None or not port.begin_usual():
            return None
        expected = exchange[1]
        self._ready = None
        is_answered = False
        try:
            port.write(exchange[0])
            if self._items.reads_ahead:
                self._ready = self._take_now()  # while the peer stores the one before
            is_answered = port.receive_usual(expected)
        except AssociationFailure as failure:
            self._association.failed(failure)
            self._results.append(Sent(item, ready.uid, failure=self._association.failure))
            self._lose(failure)
            is_answered = True
        finally:
            if not is_answered:  # `next` continues; after a KeyboardInterrupt, `close`
                self._outstanding[number] = item, ready.uid, len(ready.data), None
                port.expect((_STORED, number), operation)
                operation.deadline = port.response_deadline
            port.end_usual()
        if self._results:
            return self._results.popleft()
        return Sent(item, ready.uid, expected) if is_answered else None

    async def next(self) -> Sent | None:
        """Return the next result; None when there are no more.

        Raises
        ------
        Exception
            An exception of the iterable, after the results of the objects before it.
        """
        with self.port as port:
            if not self.has_begun:
                self.has_begun = True
                port.hold()
            try:
                self._collect()
                if not self._results or self._wants_more:
                    await self._fill()
                if not self._results and self._outstanding:
                    if self._items.reads_ahead and not self._is_exhausted and self._ready is None:
                        # While the peer stores the one before.
                        self._ready = await self._take(reads=True)
                    self._receive_usual()
                    if not self._results:
                        assert self._operation is not None
                        self._note(await self._operation.response())
                        self._collect()
            except AssociationFailure as failure:
                self._association.failed(failure)
                self._lose(self._association.failure or failure)
        if self._results:
            return self._results.popleft()
        error, self._error = self._error, None
        if error is not None:
            raise error
        return None

    def close(self) -> None:
        """Send no more objects, and discard the remaining responses."""
        self._is_exhausted = True
        self._outstanding.clear()
        self._results.clear()
        self._drop_ready()
        if self._operation is not None:
            self._operation.abandon()
        if self.has_begun:
            self.has_begun = False
            self.port.unhold()

    # --- Requests ---

    async def _fill(self) -> None:
        """Send as many objects as may be outstanding."""
        if self._window > 1:
            self._collect_usual()
        while not self._is_exhausted and self._has_room:
            ready, self._ready = self._ready, None
            if ready is None:
                if self._items.may_wait:
                    await self.port.flushed()  # taking the next item may block
                ready = await self._take()
            if ready is None:
                break
            if ready.error is not None:
                self._results.append(Sent(ready.item, ready.uid, failure=ready.error))
            elif await self._send(ready) > _SMALL:
                self._collect()
                if self._results:  # return them before sending the next large object
                    break
        if self._window > 1:
            await self.port.flushed()  # not in a `finally`: it would replace the first exception

    def _collect_usual(self) -> None:
        """Have small objects sent together, as long as all about them is usual.

        Once for all of them, the port says whether their requests may pass without the protocol.
        That does not change: nothing is sent or received here, and the items are at hand, so that
        the program does nothing either.
        """
        port, operation, outstanding = self.port, self._operation, self._outstanding
        if operation is None or not port.is_unobserved(len(outstanding)):
            return
        while not self._is_exhausted and self._has_room:
            if self._ready is None and self._items.is_at_hand:
                self._ready = self._take_now()
            ready = self._ready
            if ready is None or ready.error is not None or not isinstance(ready.data, IN_MEMORY):
                return
            exchange, number = ready.exchange, ready.number
            if exchange is None:
                return
            if not port.collect_usual((_STORED, number), operation, exchange[0]):
                return
            self._ready = None
            size = len(ready.data)
            outstanding[number] = ready.item, ready.uid, size, exchange[1]
            self._in_flight += size
            ready.close()

    @property
    def _has_room(self) -> bool:
        return (
            len(self._outstanding) < self._window
            and len(self._results) < self._window
            and self._in_flight < _MOST_IN_FLIGHT
        )

    async def _take(self, *, reads: bool = False) -> _Ready | None:
        """Take the next item, open and perhaps read it; None if there are no more."""
        try:
            item = await self._items.take()
        except Exception as error:
            self._error = error
            item = END
        return self._prepare(item, reads)

    def _take_now(self) -> _Ready | None:
        """Do the same, from an iterable that is not asynchronous."""
        try:
            item = next(self._items.iterator, END)
        except Exception as error:
            self._error = error
            item = END
        return self._prepare(item, True)

    def _prepare(self, item: Any, reads: bool) -> _Ready | None:
        if item is END:
            self._is_exhausted = True
            return None
        try:
            opened, context_id, data = self._association.open_object(self.storable_of(item))
        except Exception as error:  # of any kind: the other objects are sent nevertheless
            return _Ready(item, instance_uid_of(item), error)
        uid = opened.sop_instance_uid
        ready = _Ready(item, uid)
        ready.opened, ready.context_id, ready.data = opened, context_id, data
        while True:
            self._number = number = self._number % LAST_MESSAGE_ID + 1
            if number not in self._outstanding:
                break
        ready.number = number
        try:
            exchanges = self._exchanges.get((context_id, opened.sop_class_uid))
            if exchanges is None:
                exchanges = self._association.exchanges(context_id, self._request_for(ready))
                self._exchanges[context_id, opened.sop_class_uid] = exchanges
            if isinstance(data, IN_MEMORY):
                ready.exchange = exchanges.with_dataset(number, uid, data)
            else:
                ready.exchange = exchanges.of(number, uid)
                if reads and isinstance(data, FileSource):
                    ready.data = self._read_ahead(ready)
        except Exception as error:
            opened.close()
            return _Ready(item, uid, error)
        return ready

    def _request_for(self, ready: _Ready) -> Message:
        uids = ready.opened.sop_class_uid, ready.uid
        return scu.store_request(ready.number, *uids, self._priority, None, None)

    def _read_ahead(self, ready: _Ready) -> Begun:
        context_id, packed = ready.context_id, ready.exchange and ready.exchange[0]
        if packed is None:
            packed = self.port.protocol.pack(context_id, self._request_for(ready))
        return self.port.read_ahead(context_id, packed, ready.data)

    async def _send(self, ready: _Ready) -> int:
        """Send an object; return the number of bytes."""
        item, uid, number, data = ready.item, ready.uid, ready.number, ready.data
        port, operation, more = self.port, self._operation, self._window > 1
        exchange = ready.exchange
        if not (
            operation and port.compares_responses and port.is_unobserved(len(self._outstanding))
        ):
            exchange = None
        expected = exchange and exchange[1]
        self._outstanding[number] = item, uid, 0, expected
        try:
            if exchange is None or operation is None:
                request = self._request_for(ready)
                self._operation = await port.request(
                    ready.context_id, request, data, join=operation, more=more
                )
            else:
                source = None if isinstance(data, Buffer) else data
                await port.request_packed(
                    (_STORED, number), operation, ready.context_id, exchange[0], source, more
                )
            # A stream knows its length only now.
            size = len(data) if isinstance(data, Buffer) else data.length
            self._outstanding[number] = item, uid, size, expected
            self._in_flight += size
            return size
        except AssociationFailure:
            raise
        except Exception as error:
            del self._outstanding[number]
            self._results.append(Sent(item, uid, failure=error))
            port.check()  # if the message was sent in part, the association has ended
            return 0
        finally:
            ready.close()

    def _drop_ready(self) -> None:
        if self._ready is not None:
            self._ready.close()
            self._ready = None

    def storable_of(self, item: Any) -> Any:
        """Return the object to send for an item."""
        return item

    # --- Responses ---

    def _receive_usual(self) -> None:
        """Wait for responses, and take those that are as expected; leave the others in `port`.

        Without an expected response, or if somebody looks at messages, nothing is received.
        """
        port, outstanding, operation = self.port, self._outstanding, self._operation
        oldest = next(iter(outstanding.values()))
        if oldest[3] is None or operation is None:
            return
        if not (port.compares_responses and port.is_unobserved()):
            return
        received, size = port.receive()
        at = 0
        while outstanding:
            number = next(iter(outstanding))
            item, uid, length, expected = outstanding[number]
            if expected is None or not received.startswith(expected, at, size):
                break
            at += len(expected)
            del outstanding[number]
            port.answered((_STORED, number), operation)
            self._in_flight -= length
            self._results.append(Sent(item, uid, expected))
        port.leave(at, size)
        operation.deadline = None if at else port.response_deadline

    def _collect(self) -> None:
        """Turn the responses that went through the protocol into results."""
        operation = self._operation
        while operation is not None and operation.responses and self._outstanding:
            self._note(operation.take())

    def _note(self, incoming: Incoming) -> None:
        response = incoming.message
        assert response.MessageIDBeingRespondedTo is not None
        item, uid, size, _ = self._outstanding.pop(response.MessageIDBeingRespondedTo)
        self._in_flight -= size
        self._results.append(Sent(item, uid, response))

    def _lose(self, failure: AssociationFailure) -> None:
        """After the end of the association, give the outstanding objects their results."""
        self._is_exhausted = True
        self._drop_ready()
        self._collect()
        for item, uid, _, _ in self._outstanding.values():
            self._results.append(Sent(item, uid, failure=failure))
        self._outstanding.clear()


class ResultReader:
    """The pipeline of the iterator of a face, and its end."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline: Pipeline | None = pipeline

    def _give_up(self) -> None:
        """Send no more objects; the peer may still store those that were sent."""
        pipeline, self._pipeline = self._pipeline, None
        if pipeline is not None and pipeline.has_begun:
            with pipeline.port:
                pipeline.close()

    def __del__(self) -> None:
        # This may run on any thread, also while it holds a lock, so it must not wait for one.
        if self._pipeline is not None and self._pipeline.has_begun:
            self._pipeline.port.call_soon(self._give_up)


class ItemReader:
    """Takes items one by one from an iterable or an asynchronous iterable.

    Attributes
    ----------
    may_wait : bool
        Whether taking an item may block; false for collections such as a list.
    reads_ahead : bool
        Whether an item may be taken before there is room for it: not from a generator, which may
        do something else when its item is sent.
    """

    def __init__(self, items: Items) -> None:
        self.may_wait: bool = getattr(items, "may_wait", not isinstance(items, Collection))
        self.reads_ahead: bool = getattr(items, "reads_ahead", isinstance(items, Collection))
        self._is_async = isinstance(items, AsyncIterable)
        self.iterator: Any = aiter(items) if isinstance(items, AsyncIterable) else iter(items)

    @property
    def is_at_hand(self) -> bool:
        """Whether `iterator` has the next item, without waiting or running code of the program."""
        return self.reads_ahead

    async def take(self) -> Any:
        """Return the next item, or END."""
        if self._is_async:
            return await anext(self.iterator, END)
        return next(self.iterator, END)
