"""Pool threads that serve associations; each ends after `IDLE_TIME` seconds without a task.

Their number has no bound here: callers limit how many tasks they submit at a time.
"""

from __future__ import annotations

import contextvars
import os
import threading
from collections import deque
from collections.abc import Callable

from dicomwire.logs import LOGGER

IDLE_TIME = 2.0
"""Seconds after which an idle thread ends. Pauses between two associations are mostly shorter."""


class Flag:
    """What `threading.Event` is, for one that is set once: made in a tenth of the time."""

    __slots__ = ("_is_set", "_lock")

    def __init__(self) -> None:
        self._is_set = False
        # Held until the flag is set. Waiters pass it on; none takes another lock under it.
        self._lock = threading.Lock()
        self._lock.acquire()

    def is_set(self) -> bool:
        """Return whether it has been set."""
        return self._is_set

    def set(self) -> None:
        """Set it, and wake all waiters; once, or again by the thread that has set it."""
        if not self._is_set:
            self._is_set = True
            self._lock.release()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it is set, `timeout` seconds at most; return whether it is."""
        if self._lock.acquire(timeout=-1 if timeout is None else max(timeout, 0)):
            self._lock.release()
        return self._is_set


class ThreadPool:
    """Runs each submitted task on an idle thread, or on a new one if none is idle."""

    def __init__(self) -> None:
        # Guards all fields; no lock is taken under it (`threaded.link` has the order). No
        # SimpleQueue: in CPython 3.11 its `get` may wait for ever in spite of a timeout, when
        # another thread takes the item that it was woken for.
        self._changed = threading.Condition(threading.Lock())
        self._tasks: deque[Callable[[], object]] = deque()
        self._idle = 0  # idle threads less waiting tasks
        self._threads = 0
        self._names = 0

    def submit(self, task: Callable[[], object]) -> None:
        """Run `task` soon: on its own thread, as long as the system allows new threads."""
        with self._changed:
            is_thread_wanted = self._idle <= 0
            self._idle -= 1
            self._tasks.append(task)
            self._changed.notify()
        if is_thread_wanted:
            self._start()

    def is_short(self) -> bool:
        """Return whether tasks wait and there is no thread to run them."""
        return bool(self._tasks) and not self._threads

    def start_if_short(self) -> bool:
        """If tasks wait without a thread, try to start one; return whether they still wait."""
        if self.is_short():
            self._start()
        return self.is_short()

    def _start(self) -> None:
        with self._changed:
            self._threads += 1
            self._names += 1
            name = f"dicomwire-pool-{self._names}"
        try:
            threading.Thread(target=self._run, name=name, daemon=True).start()
        except RuntimeError:  # no more threads: a busy one runs the task later
            with self._changed:
                self._threads -= 1
            if self.is_short():
                LOGGER.error("No thread can be started; associations wait for one")
                if _on_shortage is not None:
                    _on_shortage()

    def _run(self) -> None:
        while (task := self._next()) is not None:
            try:
                contextvars.Context().run(task)
            except BaseException:  # the thread must not end: tasks may count on it
                LOGGER.exception("A task of a pool thread failed with an internal error")
            del task  # so that its objects are freed while this thread waits

    def _next(self) -> Callable[[], object] | None:
        with self._changed:
            self._idle += 1
            # `submit` wakes one waiting thread for each task.
            if self._changed.wait_for(lambda: self._tasks, IDLE_TIME):
                return self._tasks.popleft()
            self._idle -= 1
            self._threads -= 1
            return None


_pool = ThreadPool()
_on_shortage: Callable[[], None] | None = None


def submit(task: Callable[[], object]) -> None:
    """Run `task` on a pool thread of this process."""
    _pool.submit(task)


def start_if_short() -> bool:
    """Try to start a thread if tasks have none; return whether they still have none."""
    return _pool.start_if_short()


def call_when_short(call: Callable[[], None]) -> None:
    """Set the function that is called, on any thread, when tasks wait and no thread can start."""
    global _on_shortage
    _on_shortage = call


def _forget_parent() -> None:
    global _pool
    _pool = ThreadPool()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_parent)
