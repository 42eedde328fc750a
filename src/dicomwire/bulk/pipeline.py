"""Sends objects by C-STORE with several outstanding (PS3.7 Annex D.3.3.3), and returns results.

Each face waits for the results in its own way.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterable, Collection, Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from dicomwire.data.new_files import Buffer
from dicomwire.data.sources import FileSource
from dicomwire.data.storable import Opened, instance_uid_of
from dicomwire.errors import AssociationFailure
from dicomwire.protocol.command import Message
from dicomwire.protocol.limits import MIB
from dicomwire.services import scu
from dicomwire.services.port import END, Incoming, Operation
from dicomwire.session.requests import Requesting
from dicomwire.status import STATUS_SUCCESS, STATUS_WARNING, code_to_category

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

Items: TypeAlias = Iterable[Any] | AsyncIterable[Any]

LARGEST_WINDOW = 64
"""Outstanding objects at most if the peer allows any number: more do not hide the round trip
better."""
LAST_MESSAGE_ID = 65535
_SMALL = 64 * 1024
"""After an object of more bytes, look at responses before sending the next."""
_MOST_IN_FLIGHT = 2 * MIB
"""Bytes of outstanding objects at most: four slices of a CT. With more than the buffers of the
sockets hold, large objects take longer than one at a time."""


@dataclass(frozen=True, slots=True)
class Sent:
    """The result of sending an object; unpacks into `item` and `status`.

    Attributes
    ----------
    item : object
        The item that was to be sent.
    sop_instance_uid : str
        Its SOP Instance UID; empty if it could not be read.
    response : Message or None
        The C-STORE-RSP; None if there was none.
    failure : Exception or None
        Why there was no response: an `AssociationFailure`, or an error of the object, such as a
        ValueError if no context was accepted for it, or an OSError.
    is_resumed : bool
        Whether it was not sent now, since the ledger has it as stored in an earlier run.
    """

    item: Any
    sop_instance_uid: str = ""
    response: Message | None = field(default=None, repr=False)
    failure: Exception | None = None
    is_resumed: bool = False

    @property
    def code(self) -> int | None:
        """The status of the response as a number; None without a response."""
        return None if self.response is None else self.response.Status

    @property
    def status(self) -> Dataset:
        """The status of the response, as `send_c_store` returns it; empty without a response."""
        from dicomwire.services.results import status_dataset

        return status_dataset(self.response)

    @property
    def is_stored(self) -> bool:
        """Whether the peer has stored the object, perhaps with a warning."""
        return self.code is not None and stored_with(self.code)

    def __iter__(self) -> Iterator[Any]:
        yield self.item
        yield self.status


def stored_with(status: int) -> bool:
    """Return whether a peer that answers with `status` has stored the object."""
    return not status or code_to_category(status) in (STATUS_SUCCESS, STATUS_WARNING)


class _Ready(NamedTuple):
    """An item with the object that was opened for it, or with the reason why it cannot be sent."""

    item: Any
    uid: str
    opened: Opened | None = None
    context_id: int = 0
    request: Message | None = None
    data: Any = None
    error: Exception | None = None

    def close(self) -> None:
        """Close the object."""
        # A small file was closed before, and needs no call.
        if self.opened is not None and not self.opened.is_small_file:
            self.opened.close()


class Pipeline:
    """Sends objects, keeps as many outstanding as allowed, and matches the responses to them.

    Objects are taken from `items` when there is room for them; of a collection, the next one is
    opened while the responses to those before it are awaited. If an object cannot be sent, its
    result has the exception. If the association ends, the outstanding objects have its failure as
    their results, and no others follow. From the first call of `next` until `close`, the network
    timeout of the association is suspended.

    Parameters
    ----------
    items : iterable or async iterable
        Paths and datasets.

    Attributes
    ----------
    port : Sender
        The port of the association.
    has_begun : bool
        Whether objects have been sent, and `close` must be called.
    """

    def __init__(self, association: Requesting, items: Items, priority: int = 2) -> None:
        association.check_established()
        self._association = association
        self.port = association._port
        self._items = ItemReader(items)
        self._priority = priority
        self._window = association.own_window or LARGEST_WINDOW
        self._operation: Operation | None = None
        # Item, SOP Instance UID and bytes, by message id, in sending order.
        self._outstanding: dict[int, tuple[Any, str, int]] = {}
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
                    assert self._operation is not None
                    if self._items.reads_ahead and not self._is_exhausted and self._ready is None:
                        # While the peer stores the one before.
                        self._ready = await self._take(reads=True)
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
        while not self._is_exhausted and self._has_room:
            ready, self._ready = self._ready, None
            if ready is None:
                if self._items.may_wait:
                    await self.port.flushed()  # taking the next item may block
                ready = await self._take()
            if ready is not None and await self._send(ready) > _SMALL:
                self._collect()
                if self._results:  # return them before sending the next large object
                    break
        if self._window > 1:
            await self.port.flushed()  # not in a `finally`: it would replace the first exception

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
        if item is END:
            self._is_exhausted = True
            return None
        try:
            opened, context_id, found = self._association.open_object(self.storable_of(item))
        except Exception as error:  # of any kind: the other objects are sent nevertheless
            return _Ready(item, instance_uid_of(item), error=error)
        uid = opened.sop_instance_uid
        number = self._next_number()
        try:
            request = scu.store_request(
                number, opened.sop_class_uid, uid, self._priority, None, None
            )
            data: Any = found
            if reads and isinstance(found, FileSource):
                data = self.port.read_ahead(context_id, request, found)
        except Exception as error:
            opened.close()
            return _Ready(item, uid, error=error)
        return _Ready(item, uid, opened, context_id, request, data)

    async def _send(self, ready: _Ready) -> int:
        """Send an object; return the number of bytes."""
        item, uid, _, context_id, request, data, failure = ready
        if request is None:
            self._results.append(Sent(item, uid, failure=failure))
            return 0
        number = request.MessageID
        self._outstanding[number] = item, uid, 0
        size = 0
        try:
            self._operation = await self.port.request(
                context_id, request, data, join=self._operation, more=self._window > 1
            )
            # A stream knows its length only now.
            size = len(data) if isinstance(data, Buffer) else data.length
            self._outstanding[number] = item, uid, size
            self._in_flight += size
        except AssociationFailure:
            raise
        except Exception as error:
            del self._outstanding[number]
            self._results.append(Sent(item, uid, failure=error))
            self.port.check()  # if the message was sent in part, the association has ended
        finally:
            ready.close()
        return size

    def _drop_ready(self) -> None:
        if self._ready is not None:
            self._ready.close()
            self._ready = None

    def storable_of(self, item: Any) -> Any:
        """Return the object to send for an item."""
        return item

    def _next_number(self) -> int:
        while True:
            self._number = self._number % LAST_MESSAGE_ID + 1
            if self._number not in self._outstanding:
                return self._number

    # --- Responses ---

    def _collect(self) -> None:
        """Turn the received responses into results."""
        operation = self._operation
        while operation is not None and operation.has_response and self._outstanding:
            self._note(operation.take())

    def _note(self, incoming: Incoming) -> None:
        response = incoming.message
        assert response.MessageIDBeingRespondedTo is not None
        item, uid, size = self._outstanding.pop(response.MessageIDBeingRespondedTo)
        self._in_flight -= size
        self._results.append(Sent(item, uid, response))

    def _lose(self, failure: AssociationFailure) -> None:
        """After the end of the association, give the outstanding objects their results."""
        self._is_exhausted = True
        self._drop_ready()
        self._collect()
        for item, uid, _ in self._outstanding.values():
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
        self._iterator: Any = aiter(items) if isinstance(items, AsyncIterable) else iter(items)

    async def take(self) -> Any:
        """Return the next item, or END."""
        if self._is_async:
            return await anext(self._iterator, END)
        return next(self._iterator, END)
