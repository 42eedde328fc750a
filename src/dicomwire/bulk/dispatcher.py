"""Many objects over several associations: which goes where, what is tried again, and the results.

Faces provide the associations, the waiting and the clock (`Outlet`); a lane is run for each of the
associations there may be at a time, and whoever wants the results takes them from `next`.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import AsyncIterator, Container, Sized
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol, Self, TypeAlias

from dicomwire.bulk.pipeline import Drawer, Items, Pipeline, Sent
from dicomwire.data.storable import Opened, open_storable
from dicomwire.errors import (
    AbortSource,
    AssociationAborted,
    AssociationFailure,
    AssociationRejected,
    TLSFailure,
    TLSFault,
)
from dicomwire.logs import LOGGER
from dicomwire.protocol.command import Command, Message
from dicomwire.registry.uids import quick_uid
from dicomwire.services.port import END
from dicomwire.session.requests import Requesting

ContextKey: TypeAlias = tuple[str, str]
"""SOP class and transfer syntax."""

MOST_CONTEXTS = 128
"""What one association can have (PS3.8 Section 9.3.2.2)."""
LOOK_AHEAD = 256
"""How many objects are looked at to find out which contexts an association needs."""
_DRAWN_AT_ONCE = 16
"""Items of a list or the like that are looked at in one go, once the first have been."""
_MOST_RESULTS = 1024
"""Results that wait to be taken before no more is sent."""
_TRANSIENT = 2
"""Result of a rejection (PS3.8 Table 9-21)."""


@dataclass(frozen=True, slots=True)
class Retry:
    """When an object is sent again that was not stored, and an association requested again.

    Waiting begins with `delay` and doubles each time. Of the objects that were outstanding when an
    association was lost, the one that was to be answered first counts as tried: the peer serves
    them in their order. Where the first association of all cannot be had, no other is asked for,
    unless the peer rejects it for the time being.

    Attributes
    ----------
    attempts : int
        How often one object is tried in all, and how many associations in a row may fail.
    delay, longest_delay : float
        Seconds to wait before the second attempt, and at most.
    statuses : container of int
        Those of the peer that will not last: Refused: Out of Resources (PS3.4 Table B.2-1).
    """

    attempts: int = 5
    delay: float = 1.0
    longest_delay: float = 30.0
    statuses: Container[int] = range(0xA700, 0xA800)

    def wait(self, attempts: int) -> float:
        """Return how many seconds to wait after so many attempts."""
        return min(self.delay * 2.0 ** (attempts - 1), self.longest_delay)


class Record(Protocol):
    """Remembers what was stored (see `ledger`)."""

    def status_of(self, sop_instance_uid: str) -> int | None:
        """Return the status that an object was stored with; None if it was not."""

    @property
    def waits_next(self) -> bool:
        """Whether the next call of `note` waits for the disk."""

    def note(self, sent: Sent) -> None:
        """Remember what became of an object."""


class Monitor(Protocol):
    """What `threading.Condition` and `asyncio.Condition` are both like."""

    async def __aenter__(self) -> Self:
        """Get hold of it."""

    async def __aexit__(self, *_: object) -> None:
        """Let go of it."""

    async def wait(self, timeout: float | None = None) -> None:
        """Let go of it until somebody calls `notify_all`, or `timeout` seconds have passed."""

    def notify_all(self) -> None:
        """Wake all who wait."""


class Results(Protocol):
    """Gives the results of a pipeline."""

    async def next(self) -> Sent | None:
        """Return the next one; None when there are no more."""


class Outlet(Protocol):
    """What the face does."""

    def monitor(self) -> Monitor:
        """Return a new monitor."""

    def now(self) -> float:
        """Return the time in seconds; it never goes back."""

    async def associate(self, keys: list[ContextKey]) -> Requesting:
        """Return an association with contexts for `keys`.

        Raises
        ------
        AssociationFailure
            When it cannot be had.
        """

    def results(self, association: Requesting, pipeline: Pipeline) -> Results:
        """Return what drives a pipeline."""

    async def release(self, association: Requesting) -> None:
        """Release an association, if it still is one."""

    async def note(self, record: Record, sent: Sent) -> None:
        """Have `record` remember what became of an object."""


@dataclass(slots=True)
class _Task:
    """An object to send."""

    item: Any
    uid: str
    key: ContextKey
    opened: Opened | None = None  # with its data, if it is small and was not tried yet
    attempts: int = 0


@dataclass(slots=True)
class _Lane:
    """One of the associations that there may be at a time."""

    keys: frozenset[ContextKey] = frozenset()
    failures: int = 0  # associations in a row on which nothing was answered
    lost: int = 0  # objects that were outstanding when the association ended
    reason: AssociationFailure | None = None  # why it did
    has_given_up: bool = False


class Dispatcher:
    """Spreads objects over associations.

    Parameters
    ----------
    items : iterable or async iterable
        What `storable.open_storable` takes. Items are taken as they are needed, and some ahead.
    lanes : int
        How many associations there may be at a time: call `run` so often.
    transfer_syntax : str, optional
        What to propose for all objects, instead of what they are in.
    """

    def __init__(
        self,
        outlet: Outlet,
        items: Items,
        lanes: int,
        priority: int = 2,
        retry: Retry | None = None,
        record: Record | None = None,
        transfer_syntax: str | None = None,
    ) -> None:
        self._outlet = outlet
        self._monitor = outlet.monitor()
        self._items = Drawer(items)
        self._ahead = LOOK_AHEAD if isinstance(items, Sized) else 1  # others may have to be awaited
        self._lanes = lanes  # that run, or are to
        self._hopeful = lanes  # that have not given up
        self._priority = priority
        self._retry = retry or Retry()
        self._record = record
        self._syntax = transfer_syntax
        self._waiting: deque[_Task] = deque()
        self._later: list[tuple[float, int, _Task]] = []  # a heap, by when they are due
        self._postponed = 0
        self._open = 0  # tasks that some lane has
        self._known: dict[ContextKey, None] = {}
        self._refused: dict[ContextKey, AssociationFailure] = {}
        self._results: deque[Sent] = deque()
        self._has_associated = False  # at least once
        self._is_drawing = False  # by one lane at a time
        self._is_exhausted = False
        self._is_stopped = False
        self._error: BaseException | None = None

    # --- Whoever wants the results ---

    async def next(self) -> Sent | None:
        """Return the next result; None when there are no more.

        Raises
        ------
        Exception
            What taking an item raised, after the results of those before it.
        """
        results = self._results
        if results and len(results) < _MOST_RESULTS:
            with suppress(IndexError):  # another may take the last one just now
                return results.popleft()
        async with self._monitor as monitor:
            while not self._results and self._lanes:
                await monitor.wait()
            if self._results:
                if len(self._results) == _MOST_RESULTS:
                    monitor.notify_all()
                return self._results.popleft()
            error, self._error = self._error, None
            if error is not None:
                raise error
            return None

    async def stop(self) -> None:
        """Send no more; what is outstanding may still be answered."""
        async with self._monitor as monitor:
            self._is_stopped = True
            monitor.notify_all()

    async def ended(self, timeout: float) -> bool:
        """Return whether all lanes end within `timeout` seconds."""
        deadline = self._outlet.now() + timeout
        async with self._monitor as monitor:
            while self._lanes and (left := deadline - self._outlet.now()) > 0:
                await monitor.wait(left)
            return not self._lanes

    # --- A lane ---

    async def run(self) -> None:
        """Associate and send until all is sent, or no association is to be had any more."""
        lane = _Lane()
        try:
            while not lane.has_given_up and await self._has_work(lane):
                await self._send_some(lane)
        except BaseException as error:
            self._error = error
            self._is_stopped = True
            raise
        finally:
            async with self._monitor as monitor:
                self._lanes -= 1
                monitor.notify_all()

    async def _has_work(self, lane: _Lane) -> bool:
        """Wait until there is something to send; false when there will be nothing any more."""
        while True:
            async with self._monitor as monitor:
                if self._is_stopped:
                    return False
                self._ripen()
                is_enough = self._is_exhausted or len(self._waiting) >= self._ahead
                if is_enough and self._waiting:
                    lane.keys = self._keys_to_propose()
                    return True
                if is_enough and not self._later and not self._open:
                    return False
                if is_enough or self._is_drawing:
                    await monitor.wait(self._until_due())
                    continue
                self._is_drawing = True
            await self._draw()

    async def _send_some(self, lane: _Lane) -> None:
        """Have one association, and send over it what it is good for."""
        lane.lost = 0
        try:
            association = await self._outlet.associate(sorted(lane.keys))
        except AssociationFailure as failure:
            await self._not_associated(lane, failure)
            return
        self._has_associated = True
        try:
            pipeline = _TaskPipeline(association, _Feed(self, lane), self._priority)
            results = self._outlet.results(association, pipeline)
            while (sent := await results.next()) is not None:
                await self._judge(lane, sent)
        except BaseException:
            association._port.abort()
            raise
        await self._outlet.release(association)
        if lane.lost:
            lane.failures += 1
            await self._rest(lane, lane.reason)

    async def _not_associated(self, lane: _Lane, failure: AssociationFailure) -> None:
        if _accepts_nothing(failure):
            async with self._monitor:
                self._refused.update(dict.fromkeys(lane.keys, failure))
                waiting, self._waiting = self._waiting, deque()
                for task in waiting:
                    if task.key in lane.keys:
                        await self._conclude(Sent(task.item, task.uid, failure=failure))
                    else:
                        self._waiting.append(task)
            return
        is_worthwhile = self._has_associated or isinstance(failure, AssociationRejected)
        may_pass = is_worthwhile and _may_pass(failure)
        lane.failures = lane.failures + 1 if may_pass else self._retry.attempts
        await self._rest(lane, failure)

    async def _rest(self, lane: _Lane, failure: AssociationFailure | None) -> None:
        """Wait after an association that failed; give up when too many have in a row."""
        if lane.failures >= self._retry.attempts:
            lane.has_given_up = True
            async with self._monitor:
                self._hopeful -= 1
                is_hopeless = not self._hopeful
            if is_hopeless:
                await self._fail_all(failure)
            return
        delay = self._retry.wait(lane.failures)
        LOGGER.warning("Associating again in %.1f s: %s", delay, failure)
        until = self._outlet.now() + delay
        async with self._monitor as monitor:
            while not self._is_stopped and (left := until - self._outlet.now()) > 0:
                await monitor.wait(left)

    async def _fail_all(self, failure: AssociationFailure | None) -> None:
        """Say of all that is left why it is not sent."""
        while True:
            async with self._monitor:
                later = [task for _, _, task in sorted(self._later)]
                self._later.clear()
                if self._is_stopped:
                    return
                for task in (*self._waiting, *later):
                    await self._conclude(Sent(task.item, task.uid, failure=failure))
                self._waiting.clear()
                if self._is_exhausted:
                    return
                self._is_drawing = True  # the other lanes have given up
            await self._draw()

    async def _draw(self) -> None:
        """Have more items wait, if there are any, for who has set `_is_drawing`.

        An item may be long in coming, so that the monitor is not held meanwhile.
        """
        items: list[Any] = []
        is_exhausted = True
        try:
            wanted = 1 if self._items.may_wait else _DRAWN_AT_ONCE
            while len(items) < wanted and (item := await self._items.take()) is not END:
                items.append(item)
            is_exhausted = len(items) < wanted
        except Exception as error:
            self._error = error
        finally:
            async with self._monitor as monitor:
                self._is_drawing = False
                self._is_exhausted = is_exhausted
                for item in items:
                    if not self._is_stopped:
                        await self._admit(item)
                monitor.notify_all()

    # --- Tasks; all of this with the monitor ---

    async def _admit(self, item: Any) -> None:
        """Have an item wait as a task, unless it needs not or cannot be sent."""
        try:
            opened = open_storable(item)
            uid = str(opened.sop_instance_uid)
            key = (str(opened.sop_class_uid), self._syntax or str(opened.transfer_syntax_uid))
            if not opened.is_small_file:
                opened.close()
        except Exception as error:  # whatever is wrong with it, there are others
            await self._conclude(Sent(item, failure=error))
            return
        status = self._record.status_of(uid) if self._record is not None else None
        if status is not None:
            response = Message(
                Command.C_STORE_RSP, AffectedSOPInstanceUID=quick_uid(uid), Status=status
            )
            await self._deliver(Sent(item, uid, response, is_resumed=True))
            return
        if key in self._refused:
            await self._conclude(Sent(item, uid, failure=self._refused[key]))
            return
        self._known[key] = None
        self._waiting.append(_Task(item, uid, key, opened if opened.is_small_file else None))

    def _keys_to_propose(self) -> frozenset[ContextKey]:
        """Return the contexts for what waits, and for what is like what came before."""
        keys = dict.fromkeys(task.key for task in self._waiting)
        keys.update((key, None) for key in reversed(self._known) if key not in self._refused)
        return frozenset(list(keys)[:MOST_CONTEXTS])

    @property
    def may_wait(self) -> bool:
        """Whether the next object may take its time."""
        return self._items.may_wait

    async def take(self, lane: _Lane) -> _Task | None:
        """Return the next task for a lane; None where there is none for now."""
        while True:
            async with self._monitor as monitor:
                if self._is_stopped:
                    return None
                self._ripen()
                for index, task in enumerate(self._waiting):
                    if task.key in lane.keys:
                        del self._waiting[index]
                        self._open += 1
                        return task
                if self._is_exhausted or len(self._waiting) >= LOOK_AHEAD:
                    return None
                if self._is_drawing:
                    await monitor.wait(self._until_due())
                    continue
                self._is_drawing = True
            await self._draw()

    def _ripen(self) -> None:
        """Have what was put off wait to be sent, as far as it is due."""
        while self._later and self._later[0][0] <= self._outlet.now():
            self._waiting.append(heapq.heappop(self._later)[2])

    def _until_due(self) -> float | None:
        return max(self._later[0][0] - self._outlet.now(), 0) if self._later else None

    async def _judge(self, lane: _Lane, sent: Sent) -> None:
        """Decide whether a result is one, or the object is sent again."""
        task: _Task = sent.item
        async with self._monitor as monitor:
            self._open -= 1
            if sent.response is not None:
                lane.failures = 0
                is_lasting = sent.code not in self._retry.statuses
            elif isinstance(sent.failure, AssociationFailure):
                is_lasting = False
                lane.reason = sent.failure
                lane.lost += 1
            else:
                is_lasting = True
            if not is_lasting and lane.lost > 1:
                self._waiting.append(task)  # it was behind what the association was lost over
            elif not is_lasting and task.attempts + 1 < self._retry.attempts:
                task.attempts += 1
                self._postponed += 1  # so that tasks are never compared
                due = self._outlet.now() + self._retry.wait(task.attempts)
                heapq.heappush(self._later, (due, self._postponed, task))
            else:
                await self._conclude(
                    Sent(task.item, sent.sop_instance_uid, sent.response, sent.failure)
                )
                if self._open:
                    return  # no lane waits for that
            monitor.notify_all()

    async def _conclude(self, sent: Sent) -> None:
        if self._record is not None:
            await self._outlet.note(self._record, sent)
        await self._deliver(sent)

    async def _deliver(self, sent: Sent) -> None:
        """Hand a result over, when there is room for it."""
        while len(self._results) >= _MOST_RESULTS and not self._is_stopped:
            await self._monitor.wait()
        self._results.append(sent)
        if len(self._results) == 1:  # else whoever takes results has been told
            self._monitor.notify_all()


class _Feed(AsyncIterator[_Task]):
    """The tasks of a lane, as a pipeline takes them."""

    def __init__(self, dispatcher: Dispatcher, lane: _Lane) -> None:
        self._dispatcher = dispatcher
        self._lane = lane
        self.may_wait = dispatcher.may_wait

    async def __anext__(self) -> _Task:
        task = await self._dispatcher.take(self._lane)
        if task is None:
            raise StopAsyncIteration
        return task


class _TaskPipeline(Pipeline):
    """Sends the items of tasks."""

    def _open(self, item: Any) -> Any:
        opened, item.opened = item.opened, None
        return super()._open(item.item if opened is None else opened)


def _accepts_nothing(failure: AssociationFailure) -> bool:
    """Return whether the peer is there, and takes none of what was proposed to it."""
    return (
        isinstance(failure, AssociationAborted)
        and failure.stage == "associate"
        and not failure.by_peer
        and failure.source == AbortSource.SERVICE_PROVIDER
    )


def _may_pass(failure: AssociationFailure) -> bool:
    """Return whether to ask for an association again makes sense."""
    if isinstance(failure, AssociationRejected):
        return failure.result == _TRANSIENT
    return not isinstance(failure, TLSFailure) or failure.fault is TLSFault.CLOSED
