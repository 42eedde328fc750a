"""How many pool threads serve associations at the same time in one process.

A thread gives the interpreter's lock away at each call of the system, and wants it back. With 25
threads that serve at the same time, this takes longer than to serve a small message.
"""

from __future__ import annotations

import os
import threading

PATIENCE = 0.05
"""Seconds that a thread waits for a place: far longer than it takes to serve what has arrived."""


class Room:
    """Lets one pool thread serve at a time."""

    def __init__(self) -> None:
        # Held by the thread that serves; the first lock that it takes. `leave` wakes the next.
        self.lock = threading.Lock()

    def renew(self, lock: threading.Lock) -> None:
        """Let others serve, since `lock` was not released in time."""
        if self.lock is lock:
            self.lock = threading.Lock()


_rooms = [Room(), Room()]  # two, since calls of the system run side by side


class Place:
    """The place of the thread that serves one association.

    The thread leaves it before it waits for the peer or calls a handler of the program. If it is
    held up otherwise, for example by a slow disk, the others wait once, and get a new place.
    """

    __slots__ = ("_lock",)

    def __init__(self) -> None:
        self._lock: threading.Lock | None = None

    def take(self, number: int) -> None:
        """Wait for the place of the association with this number; go without it after a while."""
        room = _rooms[number % len(_rooms)]
        lock = room.lock
        if lock.acquire(timeout=PATIENCE):
            self._lock = lock
        else:
            room.renew(lock)

    def leave(self) -> bool:
        """Let another thread serve; return whether there was a place to leave."""
        lock, self._lock = self._lock, None
        if lock is None:
            return False
        lock.release()
        return True


def serve_one_at_a_time() -> None:
    """Have one place only, in a worker process: other workers use the other processors."""
    _rooms[:] = [Room()]


def _forget_parent() -> None:
    _rooms[:] = [Room() for _ in _rooms]


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_parent)
