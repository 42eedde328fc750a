"""Threads that serve associations: as many as have something to do, and a few that rest.

Which work there is, and how much of it at once, is decided by those who submit it.
"""

from __future__ import annotations

import contextvars
import os
import threading
from collections import deque
from collections.abc import Callable

from dicomwire.logs import LOGGER

REST = 2.0
"""Seconds after which an idle thread ends."""


class Workers:
    """Runs each submitted task on an idle thread, or on a new one where none is idle."""

    def __init__(self) -> None:
        # No SimpleQueue: its `get` may wait for ever in spite of a timeout, when another thread
        # takes what it was woken for (CPython 3.11).
        self._changed = threading.Condition(threading.Lock())
        self._tasks: deque[Callable[[], None]] = deque()
        self._idle = 0  # resting threads less waiting tasks
        self._threads = 0
        self._names = 0

    def submit(self, task: Callable[[], None]) -> None:
        """Run `task` soon; it waits behind no other task, while there are threads to be had."""
        with self._changed:
            is_thread_wanted = self._idle <= 0
            self._idle -= 1
            self._tasks.append(task)
            self._changed.notify()
        if is_thread_wanted:
            self._start()

    def is_short(self) -> bool:
        """Return whether tasks wait and no thread is there to run them."""
        return bool(self._tasks) and not self._threads

    def relieve(self) -> None:
        """Try once more to start a thread for the tasks that wait."""
        if self.is_short():
            self._start()

    def _start(self) -> None:
        with self._changed:
            self._threads += 1
            self._names += 1
            name = f"dicomwire-worker-{self._names}"
        try:
            threading.Thread(target=self._run, name=name, daemon=True).start()
        except RuntimeError:  # the system has no more: a thread that is busy runs the task later
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
            except BaseException:  # a thread that ended here could leave a task to nobody
                LOGGER.exception("A worker thread met an internal error")
            del task  # what it holds is not to stay while this thread rests

    def _next(self) -> Callable[[], None] | None:
        with self._changed:
            self._idle += 1
            if self._changed.wait_for(lambda: self._tasks, REST):
                return self._tasks.popleft()
            self._idle -= 1
            self._threads -= 1
            return None


_workers = Workers()
_on_shortage: Callable[[], None] | None = None


def submit(task: Callable[[], None]) -> None:
    """Run `task` on a worker thread of this process."""
    _workers.submit(task)


def relieve() -> bool:
    """Help tasks that no thread is there for; return whether some still wait for one."""
    if _workers.is_short():
        _workers.relieve()
    return _workers.is_short()


def call_when_short(call: Callable[[], None]) -> None:
    """Have `call` called, on any thread, when a task waits and no thread can be started."""
    global _on_shortage
    _on_shortage = call


def _forget_parent() -> None:
    global _workers
    _workers = Workers()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_parent)
