"""One thread that waits for everything that nobody is serving, with one selector and one heap.

It never blocks on a guest and runs no user's code: what takes time is handed to `threads`.
"""

from __future__ import annotations

import heapq
import itertools
import os
import queue
import selectors
import socket
import threading
import time
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable

from dicomwire.logs import LOGGER
from dicomwire.threaded import threads

_READ, _WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE
_CHANGES_SEEN_WHILE_WAITING = {"EpollSelector", "KqueueSelector"}
"""Selectors to which a registration from another thread takes effect at once."""

_RELIEF = 0.5
"""Seconds until a thread is asked for again that the system did not have."""
_LONGEST_SLEEP = 86_400.0
"""Seconds; the system could not reckon with all that programs may ask for."""


class Guest(ABC):
    """Something with a socket that waits in the lobby.

    Attributes
    ----------
    deadline : float or None
        When `on_deadline` is due, by `time.monotonic`; None for never.
    """

    deadline: float | None = None
    _inside: bool = False
    _number: int = -1  # the file descriptor that the selector has of it
    _entry: float | None = None  # when the heap's one live entry for this guest is due

    @abstractmethod
    def fileno(self) -> int:
        """Return the file descriptor to wait for."""

    @abstractmethod
    def on_ready(self) -> None:
        """Called on the lobby's thread; it may be called without cause, and must not block."""

    @abstractmethod
    def on_deadline(self) -> None:
        """Called on the lobby's thread when the deadline has passed; it must not block."""

    @abstractmethod
    def on_gone(self) -> None:
        """Called, on any thread, once it is outside since the program closed its descriptor.

        It must not block, for the lobby is locked, nor close the descriptor: what is opened next
        gets its number.
        """

    def on_failure(self) -> None:
        """Called after one of the others has raised something: it may be of no more use."""
        lobby().leave(self)


class Lobby:
    """The waiting room of the process; see `lobby`.

    A program may close any descriptor by mistake, that of a guest or one of the lobby's own, and
    the system gives its number to what is opened next. Whoever loses by that, others do not.
    """

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._broken: list[selectors.BaseSelector] = []  # to close them could close another file
        self._must_wake = type(self._selector).__name__ not in _CHANGES_SEEN_WHILE_WAITING
        # Guards the selector, the heap, and who is inside. Guests that are gone are told with it.
        self._lock = threading.RLock()
        # Weak, so that a guest that has gone for good does not stay until it would be due.
        self._heap: list[tuple[float, int, weakref.ref[Guest]]] = []
        self._counter = itertools.count()
        self._sleeps_until = float("inf")
        self._calls: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._open_pair()
        threads.call_when_short(self._wake)
        threading.Thread(target=self._run, name="dicomwire-lobby", daemon=True).start()

    def enter(self, guest: Guest, deadline: float | None, *, write: bool = False) -> None:
        """Watch `guest` until it leaves: for reading, or for writing."""
        with self._lock:
            self._watch(guest, _WRITE if write else _READ)
            wake = guest._inside and self._schedule(guest, deadline)
        if wake:
            self._wake()

    def change(self, guest: Guest, deadline: float | None, *, write: bool = False) -> None:
        """Watch `guest` with another deadline, for reading or writing, if it has not left."""
        with self._lock:
            if not guest._inside:
                return
            self._selector.unregister(guest._number)
            self._watch(guest, _WRITE if write else _READ)
            wake = guest._inside and self._schedule(guest, deadline)
        if wake:
            self._wake()

    def _schedule(self, guest: Guest, deadline: float | None) -> bool:
        """Note when `guest` is due; return whether the lobby has to be woken for it."""
        guest.deadline = deadline
        if deadline is None or (guest._entry is not None and guest._entry <= deadline):
            return self._must_wake
        self._push(guest)
        if deadline >= self._sleeps_until:
            return self._must_wake
        self._sleeps_until = deadline  # once it is woken, nobody else has to for later ones
        return True

    def _push(self, guest: Guest) -> None:
        assert guest.deadline is not None
        guest._entry = guest.deadline
        entry = (guest.deadline, next(self._counter), weakref.ref(guest))
        heapq.heappush(self._heap, entry)

    def leave(self, guest: Guest) -> bool:
        """Stop watching `guest`; false if it was not inside."""
        if not guest._inside:  # mostly so, and nobody but the caller could let it in just now
            return False
        with self._lock:
            if not guest._inside:
                return False
            guest._inside = False
            self._selector.unregister(guest._number)
        if self._must_wake:
            self._wake()
        return True

    def call(self, task: Callable[[], None]) -> None:
        """Have a worker run `task`; for where no lock may be waited for, as in `__del__`."""
        self._calls.put(task)
        self._wake()

    def abandon(self) -> None:
        """Let go of all sockets inside, in a child of the process whose lobby this is.

        What the parent closes would stay open otherwise. The numbers stay taken: objects that the
        child will never use may close them some day.
        """
        with open(os.devnull, "rb") as nothing:
            watched = [key.fd for key in self._selector.get_map().values()]
            for number in (*watched, self._wake_out.fileno()):
                os.dup2(nothing.fileno(), number, inheritable=False)
        self._selector.close()

    def _wake(self) -> None:
        # It may be the lobby's own thread that is here, which would wait for itself to read.
        try:
            self._wake_out.send(b"\0")
        except BlockingIOError:
            pass
        except OSError:
            self._renew_pair()

    def _woken(self) -> None:
        try:
            is_open = bool(self._wake_in.recv(4096))
        except BlockingIOError:
            is_open = True
        except OSError:
            is_open = False
        if not is_open:
            self._renew_pair()
        while not self._calls.empty():
            threads.submit(self._calls.get())

    def _run(self) -> None:
        while True:
            with self._lock:
                while self._heap and self._heap[0][2]() is None:
                    heapq.heappop(self._heap)  # nobody is there to be woken for
                self._sleeps_until = self._heap[0][0] if self._heap else float("inf")
            longest = _RELIEF if threads.relieve() else _LONGEST_SLEEP
            timeout = min(max(self._sleeps_until - time.monotonic(), 0), longest)
            for key, _ in self._select(timeout):
                if key.data is None:
                    self._woken()
                else:
                    self._call(key.data, key.data.on_ready)
                del key  # what it holds is not to stay while nothing happens
            self._expire()

    def _select(self, timeout: float) -> list[tuple[selectors.SelectorKey, int]]:
        selector = self._selector
        try:
            return selector.select(timeout)
        except (OSError, ValueError):
            with self._lock:
                if selector is self._selector:
                    self._renew_selector()
            return []

    # --- Descriptors that the program closed; all of this with the lock ---

    def _watch(self, guest: Guest, events: int) -> None:
        guest._number = guest.fileno()
        guest._inside = self._register(guest._number, events, guest)
        if not guest._inside:
            guest.on_gone()

    def _register(
        self, number: int, events: int, guest: Guest | None, *, is_new: bool = False
    ) -> bool:
        """Have the selector watch a descriptor; return false if it is closed.

        Where that is not why it cannot, the selector is broken, unless it `is_new`.
        """
        while True:
            try:
                self._selector.register(number, events, guest)
            except KeyError:
                self._forget(number)
            except (OSError, ValueError):
                if is_new or not _is_open(number):
                    return False
                self._renew_selector()
                is_new = True
            else:
                return True

    def _forget(self, number: int) -> None:
        """Stop watching what had a number that something else has now."""
        guest = self._selector.unregister(number).data
        if guest is None:
            self._renew_pair()
        else:
            guest._inside = False
            guest.on_gone()

    def _renew_selector(self) -> None:
        """Begin anew with another selector."""
        LOGGER.error("The program closed a file descriptor of the library, which opens another")
        known = list(self._selector.get_map().values())
        self._broken.append(self._selector)
        self._selector = selectors.DefaultSelector()
        for key in known:
            if not self._register(key.fd, key.events, key.data, is_new=True):
                if key.data is None:
                    self._renew_pair()
                else:
                    key.data._inside = False
                    key.data.on_gone()
        self._wake()  # the lobby's thread may still wait for the old one

    def _renew_pair(self) -> None:
        """Begin anew with another pair of sockets to be woken by."""
        LOGGER.error("The program closed a file descriptor of the library, which opens another")
        with self._lock:
            known = self._selector.get_map().get(self._wake_in.fileno())
            if known is not None and known.data is None:
                self._selector.unregister(known.fd)
            for each in (self._wake_in, self._wake_out):
                each.detach()  # and not closed: something else may have the number
            self._open_pair()
        self._wake()

    def _open_pair(self) -> None:
        self._wake_in, self._wake_out = socket.socketpair()
        self._wake_in.setblocking(False)
        self._wake_out.setblocking(False)
        self._register(self._wake_in.fileno(), _READ, None)

    def _expire(self) -> None:
        now = time.monotonic()
        while True:
            with self._lock:
                if not self._heap or self._heap[0][0] > now:
                    return
                due, _, reference = heapq.heappop(self._heap)
                guest = reference()
                if guest is None or due != guest._entry:
                    continue  # gone, or a later entry that an earlier deadline made superfluous
                guest._entry = None
                if not guest._inside or guest.deadline is None:
                    continue
                if guest.deadline > now:
                    # The deadline was put off since; nobody is woken for that, we look again.
                    self._push(guest)
                    continue
            self._call(guest, guest.on_deadline)

    def _call(self, guest: Guest, method: object) -> None:
        if not guest._inside:
            return
        try:
            method()  # type: ignore[operator]
        except Exception:
            LOGGER.exception("A connection is dropped after an internal error")
            guest.on_failure()


def _is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


_lobby: Lobby | None = None
_creation = threading.Lock()


def lobby() -> Lobby:
    """Return the lobby of this process, made when it is first needed."""
    global _lobby
    if _lobby is None:
        with _creation:
            if _lobby is None:
                _lobby = Lobby()
    return _lobby


def abandoning() -> Callable[[], None]:
    """Return what is to be called in a child process; see `Lobby.abandon`."""
    parents = _lobby
    return parents.abandon if parents is not None else lambda: None


def _forget_parent() -> None:
    global _lobby, _creation
    _lobby = None
    _creation = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_parent)
