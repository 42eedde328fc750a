"""Sends what waits for the destinations: a thread for each, so that none waits for another.

A destination has a task of its own while objects are sent to it, or cannot be sent: its lease keeps
other nodes from sending at the same time, which would mix the order of a series, and it counts the
failures. The tasks of the objects are not taken one by one, but removed when they are done.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from dicomwire.logs import counted, escaped
from dicomwire.node.archive import Archive
from dicomwire.node.configuration import Destination
from dicomwire.node.failures import log_unexpected
from dicomwire.node.forwarding.pending import (
    DueObjects,
    Failure,
    Pending,
    due_objects,
    give_up_old,
    next_due,
    note_failures,
    remove,
)
from dicomwire.node.forwarding.transports import DicomTransport, Result, Transport
from dicomwire.node.forwarding.web_transport import WebTransport
from dicomwire.node.index.database import IndexFailure, reason_of
from dicomwire.node.index.writer import Writer
from dicomwire.node.outgoing import Unreachable
from dicomwire.node.routing import SEND
from dicomwire.node.tasks.queue import LONGEST_ERROR, NewTask, Queue, Task
from dicomwire.node.tasks.threads import LONGEST_DELAY, LONGEST_WAIT, Bell, TaskThreads, delay_after

LOGGER = logging.getLogger("dicomwire.node")
_GIVEN_UP = "%s not sent to %s, and given up: %s"

DESTINATION = "destination:"
"""The kind of the task of a destination; its name follows."""
GATHER = 0.5
"""Seconds to wait when objects begin to come, so that several share a transaction."""
LINGER = 2.0
"""Seconds for which associations stay open for further objects: a modality that sends as it
acquires leaves about a second between two of them."""


class Settle(Protocol):
    """Does what is to follow when objects were sent."""

    def __call__(self, writer: Writer, destination: str, objects: Sequence[Pending]) -> None:
        """Do it, in the transaction that removes the tasks of the objects."""


class Sender:
    """Sends what waits for one destination.

    Parameters
    ----------
    name : str
    retry_for : float
        Seconds for which an object is repeated that cannot be sent.
    transport : Transport
    queue : Queue
    settle : Settle
    bell : Bell, optional
        Is rung when there are objects to send.
    retry : Bell, optional
        Is rung when an operator wants the destination to be tried now.
    gather, linger : float
        See `GATHER` and `LINGER`.
    jitter : callable
        As for `TaskThreads`.
    """

    def __init__(
        self,
        name: str,
        retry_for: float,
        transport: Transport,
        queue: Queue,
        settle: Settle,
        bell: Bell | None = None,
        retry: Bell | None = None,
        *,
        gather: float = 0.0,
        linger: float = 0.0,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self.name = name
        self._kind = SEND + name
        self._retry_for = retry_for
        self._transport = transport
        self._queue = queue
        self._settle = settle
        self._bell = bell or Bell()
        self._retry = retry or Bell()
        self._is_waiting = False
        """Whether the destination cannot be reached: then new objects make no difference."""
        self._gather = gather
        self._linger = linger
        self._jitter = jitter
        self._has_ended = threading.Event()
        self._thread: threading.Thread | None = None
        self._lease: Task | None = None
        """The task of the destination while this process has it.

        Its `attempts` count failed tries since an object was last sent. The end of a process is not
        a failed try.
        """

    # --- The thread ---

    def start(self) -> None:
        """Start the thread."""
        self._thread = threading.Thread(target=self._serve, name=f"send-{self.name}", daemon=True)
        self._thread.start()

    def stop(self, deadline: float) -> None:
        """End it after the present object; break the association at the deadline (monotonic)."""
        self.stopping()
        if self._thread is not None:
            self._thread.join(max(deadline - time.monotonic(), 0))
            self._transport.abort()
            self._thread.join(1.0)

    def stopping(self) -> None:
        """Let the thread take no more objects."""
        self._has_ended.set()
        self._transport.stop()
        self._bell.ring()
        self._retry.ring()

    def _serve(self) -> None:
        while not self._has_ended.is_set():
            rung, retried = self._bell.rung, self._retry.rung
            try:
                seconds = self.step()
            except IndexFailure as error:
                LOGGER.error("What waits for %s cannot be read: %s", self.name, reason_of(error))
                seconds = LONGEST_WAIT
            except Exception as error:  # whatever it is, the thread must go on
                log_unexpected(LOGGER, error, "What waits for %s cannot be sent", self.name)
                seconds = LONGEST_WAIT
            if seconds > 0 and self._is_waiting:
                self._retry.wait(retried, min(seconds, LONGEST_WAIT))
            elif seconds > 0:
                self._bell.wait(rung, seconds)
                self._has_ended.wait(self._gather)
        self._transport.abort()

    # --- What it does ---

    def step(self) -> float:
        """Send all that is due; return the seconds until there may be more."""
        self._is_waiting = False
        due = next_due(self._queue.index, self._kind)
        if due is None or due > self._queue.clock():
            return self._until(due)
        lease, seconds = self._take_lease()
        if lease is None:
            return seconds
        self._lease = lease
        try:
            while not self._has_ended.is_set():
                found = due_objects(self._queue.index, self._kind, self._queue.clock())
                if found.objects or found.gone:
                    self._send(found)
                elif not self._has_more():
                    break
            self._transport.rest()
        except Unreachable as error:
            return self._wait(self._lease, str(error))
        except BaseException:
            self._transport.rest()
            raise
        with self._queue.index.writing() as writer:
            self._queue.finish(writer, [lease])
        return self._until(next_due(self._queue.index, self._kind))

    def _until(self, due: float | None) -> float:
        """Return the seconds until a time, as long as a thread waits without being told."""
        seconds = LONGEST_WAIT if due is None else due - self._queue.clock()
        return max(min(seconds, LONGEST_WAIT), 0.0)

    def _take_lease(self) -> tuple[Task | None, float]:
        """Take the task of the destination; None if it is not due, with the seconds until then."""
        kind = DESTINATION + self.name
        taken = self._queue.take(kind, 1, is_attempt=False)
        if not taken:
            due = next_due(self._queue.index, kind)
            if due is not None:
                self._is_waiting = True
                return None, max(self._until(due), 0.1)
            with self._queue.index.writing() as writer:
                self._queue.add(writer, [NewTask(kind, {}, self.name)])
            taken = self._queue.take(kind, 1, is_attempt=False)
        return (taken[0], 0.0) if taken else (None, 1.0)

    def _has_more(self) -> bool:
        """Wait for further objects while the association is open; return whether there are some."""
        rung = self._bell.rung
        deadline = time.monotonic() + self._linger
        while (left := deadline - time.monotonic()) > 0 and not self._has_ended.is_set():
            self._bell.wait(rung, left)
            if self._bell.rung != rung:
                rung = self._bell.rung
                self._has_ended.wait(self._gather)
                due = next_due(self._queue.index, self._kind)
                if due is not None and due <= self._queue.clock():
                    return True
        return False

    def _send(self, due: DueObjects) -> None:
        """Send objects that are due, and note the results."""
        results: list[Result] = []
        try:
            for result in self._transport.send(due.objects):
                results.append(result)
        finally:
            self._note(due.gone, results)

    def _note(self, gone: Sequence[int], results: Sequence[Result]) -> None:
        """Remove the tasks of the objects that were sent; let the others run again later."""
        sent = [each.object for each in results if each.error is None]
        failures = [self._failure(*each) for each in results if each.error is not None]
        done = [*gone, *(each.id for each in sent)]
        if not (done or failures):
            return
        # Without a sync, for which receiving would have to wait: what a power failure undoes is
        # sent again.
        with self._queue.index.writing(is_journaled=True) as writer:
            remove(writer, done)
            note_failures(writer, failures)
            self._settle(writer, self.name, sent)
            if sent and self._lease is not None and self._lease.attempts:
                self._queue.count_anew(writer, self._lease)
                self._lease = self._lease._replace(attempts=0)
        self._warn(failures)

    def _failure(self, failed: Pending, error: Exception | None) -> Failure:
        attempts = failed.attempts + 1
        delay = delay_after(attempts, self._retry_for)
        due = None if delay is None else self._queue.clock() + self._shortened(delay)
        reason = str(error) or type(error).__name__
        return Failure(failed.id, attempts, due, reason[:LONGEST_ERROR])

    def _warn(self, failures: Sequence[Failure]) -> None:
        """Log failures: a line for all that have the same reason, since there may be thousands."""
        for is_dead in (False, True):
            reasons = Counter(each.error for each in failures if (each.due is None) is is_dead)
            for reason, number in reasons.items():
                objects = counted(number, "object")
                if is_dead:
                    LOGGER.error(_GIVEN_UP, objects, self.name, escaped(reason))
                else:
                    text = "%s could not be sent to %s, and will be sent again: %s"
                    LOGGER.warning(text, objects, self.name, escaped(reason))

    def _wait(self, lease: Task, error: str) -> float:
        """Note that the destination cannot be reached; return the seconds until the next try."""
        self._is_waiting = True
        attempts = lease.attempts + 1
        delay = delay_after(attempts, self._retry_for)
        given_up = 0
        with self._queue.index.writing() as writer:
            if delay is None:
                delay = LONGEST_DELAY
                before = self._queue.clock() - self._retry_for
                given_up = give_up_old(writer, self._kind, before, error)
            delay = self._shortened(delay)
            self._queue.fail(writer, lease, error, delay, attempts)
        text = "%s cannot be reached, and is tried again in %.1f s: %s"
        LOGGER.warning(text, self.name, delay, escaped(error))
        if given_up:
            objects = counted(given_up, "object")
            LOGGER.error(_GIVEN_UP, objects, self.name, "it cannot be reached")
        return delay

    def _shortened(self, delay: float) -> float:
        return delay - delay * self._jitter() / 2


class Senders:
    """The senders of a node, one for each destination.

    Parameters
    ----------
    archive : Archive
    threads : TaskThreads
        They tell of objects that are to be sent.
    settle : Settle
    """

    def __init__(self, archive: Archive, threads: TaskThreads, settle: Settle) -> None:
        self._archive = archive
        self._threads = threads
        self._settle = settle
        self._senders: dict[str, tuple[Destination, Sender]] = {}

    def start(self) -> None:
        """Send what waits."""
        self.reload(self._archive.configuration.destinations)

    def reload(self, destinations: Mapping[str, Destination], timeout: float = 5.0) -> None:
        """Send to these destinations from now on, as they are configured now.

        Those that have changed end after the present object, at the latest after `timeout` seconds.
        """
        old = {
            name: pair for name, pair in self._senders.items() if destinations.get(name) != pair[0]
        }
        self._end([sender for _, sender in old.values()], timeout)
        for name in old:
            del self._senders[name]
        for name, destination in destinations.items():
            if name not in self._senders:
                sender = self._sender(name, destination)
                self._senders[name] = destination, sender
                sender.start()

    def _sender(self, name: str, destination: Destination) -> Sender:
        return Sender(
            name,
            destination.retry_for,
            self._transport(name, destination),
            self._archive.queue,
            self._settle,
            self._threads.bell(SEND + name),
            self._threads.bell(DESTINATION + name),
            gather=GATHER,
            linger=LINGER,
        )

    def _transport(self, name: str, destination: Destination) -> Transport:
        if destination.url:
            return WebTransport(destination, self._archive)
        return DicomTransport(name, destination, self._archive)

    def stop(self, timeout: float) -> None:
        """End all, at the latest after `timeout` seconds; what is left is sent later."""
        self._end([sender for _, sender in self._senders.values()], timeout)

    def _end(self, senders: Sequence[Sender], timeout: float) -> None:
        for each in senders:
            each.stopping()
        deadline = time.monotonic() + timeout
        for each in senders:
            each.stop(deadline)
