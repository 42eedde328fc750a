"""Spreads many objects over several associations, repeats failed ones, and collects the results.

The faces provide associations, waiting and the clock (`Face`). A sender sends on one association
at a time; the face runs as many senders as associations are allowed. `next` returns the results.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Container, Sized
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol, Self

from dicomwire.bulk.ledger import Ledger
from dicomwire.bulk.pipeline import ItemReader, Items, Sent
from dicomwire.bulk.tasks import ContextKey, Feed, SendingAssociation, Task
from dicomwire.data.storable import open_storable
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

MOST_CONTEXTS = 128
"""Presentation contexts of one association at most (PS3.8 Section 9.3.2.2)."""
LOOK_AHEAD = 256
"""Objects that are opened ahead to find the contexts that an association needs."""
_TAKEN_AT_ONCE = 16
"""Objects that a sender takes at a time, at most."""
_READ_AT_ONCE = 16
"""Items of a collection that are taken at a time, with one wake-up of the other senders."""
_MOST_RESULTS = 1024
"""Results that wait for the program; with so many, sending pauses, so that memory is bounded."""
_TRANSIENT = 2
"""Result of a rejection (PS3.8 Table 9-21)."""


@dataclass(frozen=True, slots=True)
class Retry:
    """When to send an object again that was not stored, and to request an association again.

    The wait begins with `delay` and doubles each time. If an association is lost, only the oldest
    outstanding object counts as tried, since the peer serves them in order. If the very first
    association fails, no other is requested, unless the peer rejected it as transient.

    Attributes
    ----------
    attempts : int
        How often to try one object in all, and how many associations in a row may fail.
    delay, longest_delay : float
        Seconds to wait before the second attempt, and at most.
    statuses : container of int
        The temporary failures; by default Refused: Out of Resources (PS3.4 Table B.2-1).
    """

    attempts: int = 5
    delay: float = 1.0
    longest_delay: float = 30.0
    statuses: Container[int] = range(0xA700, 0xA800)

    def wait(self, attempts: int) -> float:
        """Return how many seconds to wait after so many attempts."""
        return min(self.delay * 2.0 ** (attempts - 1), self.longest_delay)


class Monitor(Protocol):
    """The common interface of `threading.Condition` and `asyncio.Condition`."""

    async def __aenter__(self) -> Self:
        """Acquire it."""

    async def __aexit__(self, *_: object) -> None:
        """Release it."""

    async def wait(self, timeout: float | None = None) -> None:
        """Release it until `notify_all` is called or `timeout` seconds have passed."""

    def notify_all(self) -> None:
        """Wake all waiters."""


class Face:
    """The part of the dispatcher that each face implements."""

    monitor: Callable[[], Monitor]
    """Returns a new monitor."""
    now: Callable[[], float]
    """Returns the time in seconds; it never goes back."""

    async def associate(
        self, keys: list[ContextKey], feed: Feed, priority: int
    ) -> SendingAssociation:
        """Return an association with contexts for `keys`, to send the tasks of `feed` on it.

        Raises
        ------
        AssociationFailure
            When it cannot be established.
        """
        raise NotImplementedError

    async def note(self, ledger: Ledger, sent: Sent) -> None:
        """Have `ledger` note the result of an object."""
        ledger.note(sent)

    def start(self) -> None:
        """Begin; called once, before the first association."""

    def stop(self) -> None:
        """Send no more objects; outstanding ones may still be answered."""

    def abort(self) -> None:
        """Abort all associations."""

    def close(self) -> None:
        """End; called once, after the last association."""


@dataclass(slots=True)
class _Sender:
    """A sequence of associations, one at a time."""

    keys: frozenset[ContextKey] = frozenset()
    failures: int = 0  # associations in a row without any response
    lost: int = 0  # objects that were outstanding when the association ended
    reason: AssociationFailure | None = None  # why the association ended
    has_given_up: bool = False


class Dispatcher:
    """Spreads objects over associations.

    Parameters
    ----------
    items : iterable or async iterable
        Objects for `storable.open_storable`. They are taken when needed, and some ahead.
    senders : int
        How many associations to have at a time: the face calls `run` that often.
    transfer_syntax : str, optional
        The transfer syntax to propose for all objects, instead of that of each object.

    Attributes
    ----------
    associations : int
        How many were established so far.
    """

    def __init__(
        self,
        face: Face,
        items: Items,
        senders: int,
        priority: int = 2,
        retry: Retry | None = None,
        ledger: Ledger | None = None,
        transfer_syntax: str | None = None,
    ) -> None:
        self._face = face
        self._monitor = face.monitor()
        self._items = ItemReader(items)
        self._ahead = LOOK_AHEAD if isinstance(items, Sized) else 1  # an iterator may block
        self._senders = senders  # senders that have not ended
        self._trying = senders  # senders that have not given up
        self._priority = priority
        self._retry = retry or Retry()
        self._ledger = ledger
        self._syntax = transfer_syntax
        self._waiting: deque[Task] = deque()
        self._later: list[tuple[float, int, Task]] = []  # by the time of the next attempt, a heap
        self._admitted = 0  # tasks so far
        self._open = 0  # tasks that senders have taken and not returned
        self._known: dict[ContextKey, None] = {}
        self._refused: dict[ContextKey, AssociationFailure] = {}
        self._results: deque[Sent] = deque()
        self.associations = 0
        self._is_reading = False  # a sender is taking items; only one does at a time
        self._is_exhausted = False
        self._is_stopped = False
        self._error: BaseException | None = None

    # --- The results ---

    def at_hand(self) -> Sent | None:
        """Return the next result if there is one, and nobody waits for room for another."""
        results = self._results
        if results and len(results) < _MOST_RESULTS:
            with suppress(IndexError):  # another thread may have taken the last one
                return results.popleft()
        return None

    async def next(self) -> Sent | None:
        """Return the next result; None when there are no more.

        Raises
        ------
        Exception
            An exception of the iterable, after the results of the items before it.
        """
        async with self._monitor as monitor:
            while not self._results and self._senders:
                await monitor.wait()  # for `_deliver`, or the end of a sender
            if self._results:
                if len(self._results) == _MOST_RESULTS:
                    monitor.notify_all()
                return self._results.popleft()
            error, self._error = self._error, None
            if error is not None:
                raise error
            return None

    async def stop(self) -> None:
        """Send no more objects; outstanding ones may still be answered."""
        async with self._monitor as monitor:
            self._is_stopped = True
            monitor.notify_all()

    async def ended(self, timeout: float) -> bool:
        """Return whether all senders end within `timeout` seconds."""
        deadline = self._face.now() + timeout
        async with self._monitor as monitor:
            while self._senders and (left := deadline - self._face.now()) > 0:
                await monitor.wait(left)  # for the end of a sender
            return not self._senders

    # --- A sender ---

    async def run(self) -> None:
        """Associate and send until all objects are sent, or associating has failed too often."""
        sender = _Sender()
        try:
            while not sender.has_given_up and await self._has_work(sender):
                await self._send_some(sender)
        except BaseException as error:
            self._error = error
            self._is_stopped = True
            raise
        finally:
            async with self._monitor as monitor:
                self._senders -= 1
                monitor.notify_all()

    async def _has_work(self, sender: _Sender) -> bool:
        """Wait until there is an object to send; false when no more can follow."""
        while True:
            async with self._monitor as monitor:
                if self._is_stopped:
                    return False
                self._move_due()
                is_enough = self._is_exhausted or len(self._waiting) >= self._ahead
                if is_enough and self._waiting:
                    sender.keys = self._keys_to_propose()
                    return True
                if is_enough and not self._later and not self._open:
                    return False
                if is_enough or self._is_reading:
                    await monitor.wait(self._until_due())
                    continue
                self._is_reading = True
            await self._read_items()

    async def _send_some(self, sender: _Sender) -> None:
        """Establish one association, and send on it the objects that its contexts allow."""
        sender.lost = 0
        feed = Feed(self, sender)
        try:
            association = await self._face.associate(sorted(sender.keys), feed, self._priority)
        except AssociationFailure as failure:
            await self._not_associated(sender, failure)
            return
        try:
            async with self._monitor:
                self.associations += 1
            while (first := await association.next()) is not None:
                await self._take_results(sender, [first, *iter(association.at_hand, None)])
        except BaseException:
            association.abort()
            raise
        finally:
            await self._take_back(feed.tasks)
        await association.end()
        if sender.lost:
            sender.failures += 1
            await self._wait_after(sender, sender.reason)

    async def _not_associated(self, sender: _Sender, failure: AssociationFailure) -> None:
        if _accepts_nothing(failure):
            async with self._monitor:
                self._refused.update(dict.fromkeys(sender.keys, failure))
                waiting, self._waiting = self._waiting, deque()
                for task in waiting:
                    if task.key in sender.keys:
                        await self._conclude(Sent(task.item, task.uid, failure=failure))
                    else:
                        self._waiting.append(task)
            return
        is_worthwhile = self.associations or isinstance(failure, AssociationRejected)
        may_pass = is_worthwhile and _may_pass(failure)
        sender.failures = sender.failures + 1 if may_pass else self._retry.attempts
        await self._wait_after(sender, failure)

    async def _wait_after(self, sender: _Sender, failure: AssociationFailure | None) -> None:
        """Wait after a failed association; give up after too many in a row.

        A sender whose process has died gives up at once.
        """
        is_dead = failure is not None and failure.stage == "process"
        if is_dead or sender.failures >= self._retry.attempts:
            sender.has_given_up = True
            async with self._monitor:
                self._trying -= 1
                have_all_given_up = not self._trying
            if have_all_given_up:
                await self._fail_all(failure)
            return
        delay = self._retry.wait(sender.failures)
        LOGGER.warning("Associating again in %.1f s: %s", delay, failure)
        until = self._face.now() + delay
        async with self._monitor as monitor:
            while not self._is_stopped and (left := until - self._face.now()) > 0:
                await monitor.wait(left)

    async def _fail_all(self, failure: AssociationFailure | None) -> None:
        """Give all remaining objects the result `failure`."""
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
                self._is_reading = True  # the other senders have given up
            await self._read_items()

    async def _read_items(self) -> None:
        """Take more items and make tasks of them; the caller has set `_is_reading`.

        The monitor is not held meanwhile, since the iterable may block.
        """
        items: list[Any] = []
        is_exhausted = True
        try:
            wanted = 1 if self._items.may_wait else _READ_AT_ONCE
            while len(items) < wanted and (item := await self._items.take()) is not END:
                items.append(item)
            is_exhausted = len(items) < wanted
        except Exception as error:
            self._error = error
        finally:
            async with self._monitor as monitor:
                self._is_reading = False
                self._is_exhausted = is_exhausted
                for item in items:
                    if not self._is_stopped:
                        await self._admit(item)
                monitor.notify_all()

    # --- Tasks; the caller holds the monitor, except for coroutines that begin with `take` ---

    async def _admit(self, item: Any) -> None:
        """Make a waiting task of an item, unless it is stored already or cannot be sent."""
        try:
            opened = open_storable(item)
            uid = str(opened.sop_instance_uid)
            key = (str(opened.sop_class_uid), self._syntax or str(opened.transfer_syntax_uid))
            if not opened.is_small_file:
                opened.close()
        except Exception as error:  # of any kind: the other items are sent nevertheless
            await self._conclude(Sent(item, failure=error))
            return
        status = self._ledger.status_of(uid) if self._ledger is not None else None
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
        self._admitted += 1
        small = opened if opened.is_small_file else None
        self._waiting.append(Task(self._admitted, item, uid, key, small))

    def _keys_to_propose(self) -> frozenset[ContextKey]:
        """Return the contexts for the waiting objects, and those for earlier kinds of objects."""
        keys = dict.fromkeys(task.key for task in self._waiting)
        keys.update((key, None) for key in reversed(self._known) if key not in self._refused)
        return frozenset(list(keys)[:MOST_CONTEXTS])

    @property
    def may_wait(self) -> bool:
        """Whether taking the next object may block."""
        return self._items.may_wait

    @property
    def is_stopped(self) -> bool:
        """Whether no more objects are to be sent."""
        return self._is_stopped

    async def take(self, sender: _Sender) -> deque[Task]:
        """Return the next tasks for a sender; none if there are none now.

        Several at a time, since waiting for the monitor takes long; not so many that another sender
        would be left without.
        """
        while True:
            async with self._monitor as monitor:
                if self._is_stopped:
                    return deque()
                self._move_due()
                waiting = self._waiting
                if self._is_exhausted or self._is_reading or len(waiting) >= self._ahead:
                    tasks = self._next_for(sender)
                    if tasks or self._is_exhausted or len(waiting) >= LOOK_AHEAD:
                        self._open += len(tasks)
                        return tasks
                    if self._is_reading:
                        await monitor.wait(self._until_due())
                        continue
                self._is_reading = True
            await self._read_items()

    def _next_for(self, sender: _Sender) -> deque[Task]:
        """Take waiting tasks for which a sender has proposed contexts."""
        tasks: deque[Task] = deque()
        waiting = self._waiting
        most = min(len(waiting) // (2 * self._senders), _TAKEN_AT_ONCE)
        while waiting and waiting[0].key in sender.keys and len(tasks) <= most:
            tasks.append(waiting.popleft())
        if not tasks:
            other = next((each for each in waiting if each.key in sender.keys), None)
            if other is not None:
                waiting.remove(other)
                tasks.append(other)
        return tasks

    async def _take_back(self, tasks: deque[Task]) -> None:
        """Have other associations send the tasks that a sender took and did not send."""
        if tasks:
            async with self._monitor as monitor:
                self._open -= len(tasks)
                self._waiting.extendleft(reversed(tasks))
                monitor.notify_all()

    def _move_due(self) -> None:
        """Move postponed tasks that are due to the waiting ones."""
        while self._later and self._later[0][0] <= self._face.now():
            self._waiting.append(heapq.heappop(self._later)[2])

    def _until_due(self) -> float | None:
        return max(self._later[0][0] - self._face.now(), 0) if self._later else None

    async def _take_results(self, sender: _Sender, results: list[Sent]) -> None:
        """Deliver results, or have the objects sent again."""
        async with self._monitor as monitor:
            may_wait = False  # whether another sender may wait for what changes here
            for sent in results:
                self._open -= 1
                may_wait |= not await self._take_result(sender, sent)
            if may_wait or not self._open:
                monitor.notify_all()

    async def _take_result(self, sender: _Sender, sent: Sent) -> bool:
        """Deliver a result, or have the object sent again; return whether it was delivered."""
        task: Task = sent.item
        if isinstance(sent.failure, AssociationFailure):
            is_lasting = False
            sender.reason = sent.failure
            sender.lost += 1
        elif sent.failure is not None:
            is_lasting = True
        else:
            sender.failures = 0
            is_lasting = not sent.code or sent.code not in self._retry.statuses
        if not is_lasting and sender.lost > 1:
            self._waiting.append(task)  # not the oldest one, so it does not count as tried
        elif not is_lasting and task.attempts + 1 < self._retry.attempts:
            task.attempts += 1
            due = self._face.now() + self._retry.wait(task.attempts)
            heapq.heappush(self._later, (due, task.number, task))
        else:
            sent.item = task.item
            await self._conclude(sent)
            return True
        return False

    async def _conclude(self, sent: Sent) -> None:
        if self._ledger is not None:
            await self._face.note(self._ledger, sent)
        await self._deliver(sent)

    async def _deliver(self, sent: Sent) -> None:
        """Append a result for the program, when there is room for it."""
        while len(self._results) >= _MOST_RESULTS and not self._is_stopped:
            await self._monitor.wait()  # for `next` or `stop`
        self._results.append(sent)
        if len(self._results) == 1:  # otherwise the waiter in `next` was woken before
            self._monitor.notify_all()


def _accepts_nothing(failure: AssociationFailure) -> bool:
    """Return whether the peer accepted the association, but none of its contexts."""
    return (
        isinstance(failure, AssociationAborted)
        and failure.stage == "associate"
        and not failure.by_peer
        and failure.source == AbortSource.SERVICE_PROVIDER
    )


def _may_pass(failure: AssociationFailure) -> bool:
    """Return whether requesting the association again may succeed."""
    if isinstance(failure, AssociationRejected):
        return failure.result == _TRANSIENT
    return not isinstance(failure, TLSFailure) or failure.fault is TLSFault.CLOSED
