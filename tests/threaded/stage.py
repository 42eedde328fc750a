"""Threads of which one goes on at a time: that which the test chooses. The clock is fake, too.

A thread stops before it takes a lock, and before it frees one that others wait for. There the test
goes on. So a race is a sequence of calls in a test, or one that hypothesis chooses.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

WAIT = 10.0
"""Seconds in which a thread has to get to the place where it stops next."""


class Actor:
    """A thread, which runs when it is told to.

    Attributes
    ----------
    can_go : callable
        Whether what it waits for has come.
    result : Any
        What its function has returned.
    is_over : bool
        Whether that has happened.
    """

    def __init__(self, stage: Stage, call: Callable[[], object]) -> None:
        self.can_go: Callable[[], bool] = lambda: True
        self.result: Any = None
        self.is_over = False
        self._stage = stage
        self._call = call
        self._may_go, self._has_stopped = threading.Semaphore(0), threading.Semaphore(0)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def go(self) -> Actor:
        """Let it go on to the place where it stops next."""
        assert not self.is_over
        assert self.can_go(), "it still waits"
        self._stage.present = self
        self._may_go.release()
        assert self._has_stopped.acquire(timeout=WAIT), "it waits for something real"
        self._stage.present = None
        if self.is_over:
            self._thread.join(WAIT)
        return self

    def stop(self, can_go: Callable[[], bool]) -> None:
        """Stop (on its own thread) until the test lets it go on."""
        self.can_go = can_go
        self._has_stopped.release()
        self._may_go.acquire()
        if self._stage.is_closed:
            sys.exit()

    def _run(self) -> None:
        self._may_go.acquire()
        try:
            if not self._stage.is_closed:
                self.result = self._call()
        finally:
            self.is_over = True
            self._has_stopped.release()


class Stage:
    """All threads, and the clock.

    Attributes
    ----------
    actors : list of Actor
        The threads that were started and are not over.
    started : int
        How many threads the library has started.
    is_full : bool
        Whether the system allows no more threads.
    is_closed : bool
        Whether threads end instead of going on.
    """

    def __init__(self) -> None:
        self.now = 0.0
        self.actors: list[Actor] = []
        self.present: Actor | None = None
        self.started = 0
        self.is_full = self.is_closed = False

    @property
    def module(self) -> Any:
        """What the library gets for `threading`."""
        return SimpleNamespace(
            Lock=lambda: StagedLock(self),
            Condition=lambda lock: StagedCondition(self),
            Thread=lambda target, name, daemon: SimpleNamespace(start=lambda: self._start(target)),
        )

    def _start(self, target: Callable[[], object]) -> None:
        if self.is_full:
            raise RuntimeError("can't start new thread")
        self.started += 1
        self.add(target)

    def add(self, call: Callable[[], object]) -> Actor:
        """Start a thread; it waits at its beginning."""
        actor = Actor(self, call)
        self.actors.append(actor)
        return actor

    def close(self) -> None:
        """End all threads, after a test that has failed."""
        self.is_closed = True
        for actor in self.actors:
            while not actor.is_over:
                actor.can_go = lambda: True
                actor.go()

    def stop(self, can_go: Callable[[], bool]) -> None:
        """Stop the calling thread, if it is an actor."""
        if self.present is not None:
            self.present.stop(can_go)

    def able(self) -> list[Actor]:
        """Return the threads that can go on."""
        self.actors = [actor for actor in self.actors if not actor.is_over]
        return [actor for actor in self.actors if actor.can_go()]

    def run(self, choose: Callable[[list[Actor]], Actor] = lambda able: able[0]) -> None:
        """Let threads go on until all are over, or wait."""
        while able := self.able():
            choose(able).go()

    def pass_time(self, seconds: float) -> None:
        """Move the clock, and let threads go on."""
        self.now += seconds
        self.run()


class StagedLock:
    """A lock that one thread may take and another free."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._is_taken = False

    def acquire(self, timeout: float = -1) -> bool:
        until = float("inf") if timeout < 0 else self._stage.now + timeout
        self._stage.stop(lambda: not self._is_taken or self._stage.now >= until)
        if self._is_taken:
            return False
        self._is_taken = True
        return True

    def release(self) -> None:
        self._stage.stop(lambda: True)
        assert self._is_taken
        self._is_taken = False


class StagedCondition:
    """A condition. No thread stops while it has its lock, so that there is nothing to be held."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._waiting: list[object] = []

    def __enter__(self) -> None:
        self._stage.stop(lambda: True)

    def __exit__(self, *_: object) -> None:
        """Free the lock."""

    def notify(self) -> None:
        del self._waiting[:1]

    def wait_for(self, predicate: Callable[[], object], timeout: float) -> bool:
        until = self._stage.now + timeout
        while not predicate() and self._stage.now < until:
            me = object()
            self._waiting.append(me)
            self._stage.stop(lambda me=me: me not in self._waiting or self._stage.now >= until)
            if me in self._waiting:
                self._waiting.remove(me)
        return bool(predicate())
