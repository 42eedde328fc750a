"""Runs the tasks of the queue: each kind in threads of its own, failed ones again and again.

`queue` has the statements.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dicomwire.logs import counted, escaped
from dicomwire.node.failures import log_unexpected, told
from dicomwire.node.index.database import IndexFailure, reason_of
from dicomwire.node.index.writer import Writer
from dicomwire.node.tasks.queue import NewTask, Queue, Task

LOGGER = logging.getLogger("dicomwire.node")

_FIRST_DELAY = 1.0
LONGEST_DELAY = 300.0
"""In seconds: the delay after a failure, which doubles each time, and its limit."""
LONGEST_WAIT = 15.0
"""Seconds after which a thread looks for tasks that nothing told it of: those of other processes,
and those whose lease has ended."""
_THREE_DAYS = 3 * 24 * 3600.0


class GiveUp(Exception):
    """A task that fails in a way that no repetition changes; the text says why."""


class Unfinished(Exception):
    """A task that has not failed, but goes on later, with the state that its new payload has.

    Attributes
    ----------
    payload : mapping
    delay : float
        Seconds until it may run.
    """

    def __init__(self, payload: Mapping[str, Any], delay: float = 0.0) -> None:
        super().__init__("it goes on later")
        self.payload = payload
        self.delay = delay


class Succeeded(Exception):
    """A task that has succeeded, and leaves others to do.

    Attributes
    ----------
    then : sequence of NewTask
        Added in the transaction that removes the task.
    """

    def __init__(self, then: Sequence[NewTask]) -> None:
        super().__init__("it has succeeded")
        self.then = then


@dataclass(frozen=True)
class Kind:
    """How to run the tasks of one kind.

    Attributes
    ----------
    name : str
    run : callable
        Called with tasks that are due, the first ones first; a task that comes with others of its
        key comes after those before it. Returns the tasks that have failed, each with the reason,
        or raises if all have; the others are removed. It may be called again with a task that has
        succeeded, if the process dies before the task is removed: running a task twice must do no
        more than running it once. `GiveUp` as the reason makes the task dead at once, and
        `Unfinished` and `Succeeded` are no failures.
    batch : int
        The most tasks for one call.
    threads : int
        How many calls run at a time, in each process.
    retry_for : float
        Seconds during which a task is repeated before it is dead; `math.inf` is for ever.
    """

    name: str
    run: Callable[[Sequence[Task]], Mapping[Task, Exception] | None]
    batch: int = 1
    threads: int = 1
    retry_for: float = _THREE_DAYS

    def delay_of(self, attempts: int) -> float | None:
        """Return the seconds to wait after the last of `attempts`, which failed; None: give up.

        The limit is counted in delays and not by the clock: while no process runs, no time is
        used up.
        """
        return delay_after(attempts, self.retry_for)


def delay_after(attempts: int, retry_for: float) -> float | None:
    """Return what `Kind.delay_of` does, for a kind that is repeated for `retry_for` seconds."""
    used = sum(map(_delay, range(1, attempts)))
    return _delay(attempts) if used < retry_for else None


def _delay(attempts: int) -> float:
    return min(_FIRST_DELAY * 2.0 ** min(attempts - 1, 16), LONGEST_DELAY)


class Bell:
    """Wakes the threads of a kind when there may be tasks for them."""

    def __init__(self) -> None:
        self._condition = threading.Condition()  # guards `_rung`; `ring` notifies
        self._rung = 0

    @property
    def rung(self) -> int:
        """How often it was rung."""
        return self._rung

    def ring(self) -> None:
        with self._condition:
            self._rung += 1
            self._condition.notify_all()

    def wait(self, rung: int, seconds: float) -> None:
        """Wait until it was rung more often than `rung` times, at most for `seconds`."""
        with self._condition:
            self._condition.wait_for(lambda: self._rung != rung, seconds)


class TaskThreads:
    """The threads of a process that run tasks.

    Parameters
    ----------
    queue : Queue
    kinds : sequence of Kind
        Tasks of other kinds are left to other processes.
    jitter : callable
        Gives a random number from 0 to 1: up to half of a delay is left out, so that tasks which
        failed together do not all come back together.
    """

    def __init__(
        self,
        queue: Queue,
        kinds: Sequence[Kind],
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._queue = queue
        self._kinds = kinds
        self._jitter = jitter
        self._bells = {kind.name: Bell() for kind in kinds}
        self._threads: list[threading.Thread] = []
        self._is_stopping = False
        queue.on_added = self.wake

    @property
    def names(self) -> list[str]:
        """The kinds whose threads can be woken, those of others included; see `bell`."""
        return list(self._bells)

    def start(self) -> None:
        """Start the threads."""
        for kind in self._kinds:
            for number in range(kind.threads):
                name = f"tasks-{kind.name}-{number}"
                thread = threading.Thread(target=self._serve, args=(kind,), name=name, daemon=True)
                self._threads.append(thread)
                thread.start()

    def stop(self, timeout: float) -> None:
        """Take no more tasks; wait up to `timeout` seconds for those that run.

        If some still run then, others take them when the lease ends.
        """
        self._is_stopping = True
        self.wake(self.names)
        deadline = time.monotonic() + timeout
        for thread in self._threads:
            thread.join(max(deadline - time.monotonic(), 0))

    def wake(self, kinds: Iterable[str]) -> None:
        """Let the threads of these kinds look for tasks now."""
        for name in kinds:
            if name in self._bells:
                self._bells[name].ring()

    def bell(self, kind: str) -> Bell:
        """Return what is rung when tasks of a kind are added that others run."""
        return self._bells.setdefault(kind, Bell())

    def step(self, kind: Kind) -> float:
        """Run the tasks that are due, up to one batch; return the seconds until the next step."""
        before = self._queue.clock()  # a task may become due while this looks for others
        tasks = self._queue.take(kind.name, kind.batch)
        if tasks:
            self._run(kind, tasks)
            return 0.0
        due = self._queue.next_due(kind.name, before)
        return LONGEST_WAIT if due is None else min(due - self._queue.clock(), LONGEST_WAIT)

    def _serve(self, kind: Kind) -> None:
        bell = self._bells[kind.name]
        while not self._is_stopping:
            rung = bell.rung
            try:
                seconds = self.step(kind)
            except IndexFailure as error:
                text = "The tasks %r cannot be taken or ended: %s"
                LOGGER.error(text, kind.name, reason_of(error))
                seconds = LONGEST_WAIT
            except Exception as error:  # whatever it is, the thread must go on
                log_unexpected(LOGGER, error, "The tasks %r cannot be taken or ended", kind.name)
                seconds = LONGEST_WAIT
            if seconds > 0:
                bell.wait(rung, seconds)

    def _run(self, kind: Kind, tasks: Sequence[Task]) -> None:
        try:
            failed = kind.run(tasks) or {}
        except Exception as error:  # whatever it is, the thread must go on
            LOGGER.debug("The traceback of tasks that failed", exc_info=error)
            failed = dict.fromkeys(tasks, error)
        with self._queue.index.writing() as writer:
            self._queue.finish(writer, [each for each in tasks if each not in failed])
            for each, reason in failed.items():
                if isinstance(reason, Unfinished):
                    self._queue.put_back(writer, each, reason.payload, reason.delay)
                elif isinstance(reason, Succeeded):
                    self._queue.finish(writer, [each])
                    self._queue.add(writer, reason.then)
                else:
                    self._fail(writer, kind, each, reason)

    def _fail(self, writer: Writer, kind: Kind, failed: Task, reason: Exception) -> None:
        delay = None if isinstance(reason, GiveUp) else kind.delay_of(failed.attempts)
        error = told(reason)
        if delay is None:
            text = "Task %d (%s) is given up after %s: %s"
            attempts = counted(failed.attempts, "attempt")
            LOGGER.error(text, failed.id, kind.name, attempts, escaped(error))
        else:
            delay -= delay * self._jitter() / 2
            text = "Task %d (%s) has failed, and is repeated in %.1f s: %s"
            LOGGER.warning(text, failed.id, kind.name, delay, escaped(error))
        self._queue.fail(writer, failed, error, delay)
