"""One thread that watches all sockets that no other thread is using, with a selector and a heap.

It never blocks on a socket and runs no code of the program: `threads` does all longer work.
`threaded.link` has the order of the locks.
"""

from __future__ import annotations

import heapq
import itertools
import os
import queue
import socket
import threading
import time
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable

from dicomwire.logs import LOGGER
from dicomwire.threaded import threads
from dicomwire.threaded.selector import READ, WRITE, Selector, new_selector

_RELIEF = 0.5
"""Seconds until the watcher tries again to start a thread, after the system refused one."""
_FEW_ENTRIES = 1024
"""Entries of the heap that are not worth looking through."""
_LONGEST_SLEEP = 86_400.0
"""Seconds that the selector waits at most: systems reject very long timeouts."""


class Watched(ABC):
    """An object with a socket that the watcher watches.

    Attributes
    ----------
    deadline : float or None
        When `on_deadline` is due, by `time.monotonic`; None for never.
    opened : int
        A number from `count_opened`: greater than that of all descriptors that were opened before.
    """

    deadline: float | None = None
    opened: int = 0
    _is_watched: bool = False
    _is_paused: bool = False  # not watched for a while; `on_deadline` is called at the end of that
    _number: int = -1  # the file descriptor that is registered in the selector
    _entry: float | None = None  # the time in its one valid entry in the heap

    @abstractmethod
    def fileno(self) -> int:
        """Return the file descriptor to wait for."""

    @abstractmethod
    def on_ready(self) -> None:
        """Called on the watcher's thread, sometimes without data to read; it must not block."""

    @abstractmethod
    def on_deadline(self) -> None:
        """Called on the watcher's thread when the deadline has passed; it must not block.

        Also at the end of a pause, to have the object watched again or to prolong the pause.
        """

    @abstractmethod
    def on_gone(self) -> None:
        """Called on any thread after the program closed the descriptor: it is watched no more.

        It must not block, since the watcher's lock is held. It must not close the descriptor: its
        number may belong to another file now.
        """

    def on_failure(self) -> None:
        """Called after another of these methods raised an exception; stops watching it."""
        watcher().forget(self)


count_opened = itertools.count(1).__next__
"""Returns the next number for `Watched.opened`."""


class Watcher:
    """Watches the sockets of the process that no thread is using; see `watcher`.

    A program may by mistake close the descriptor of a watched object or of the watcher, and the
    system then gives its number to another file. That ends this object at most, and no other.
    """

    def __init__(self) -> None:
        self._selector = new_selector()
        self._broken: list[Selector] = []  # kept: closing one may close another file
        self._must_wake = not self._selector.sees_changes
        # Guards the selector, the heap, `_paused`, and `_is_watched`, `_is_paused`, `_number` and
        # `_entry` of all watched objects.
        # Taken after the turn or a server's lock; under it, `on_gone` may take that of `threads`.
        self._lock = threading.RLock()
        self._paused: set[Watched] = set()  # kept in memory, as those in the selector
        # Weak references, so that the heap keeps no object in memory until its deadline.
        self._heap: list[tuple[float, int, weakref.ref[Watched]]] = []
        self._most_entries = _FEW_ENTRIES  # with more, those that are not valid are removed
        self._counter = itertools.count()
        self._sleeps_until = float("inf")
        self._thread: int | None = None  # the watcher's own
        self._calls: queue.SimpleQueue[Callable[[], object]] = queue.SimpleQueue()
        self._open_pair()
        threads.call_when_short(self._wake)

    def start(self) -> None:
        """Start the thread that watches."""
        threading.Thread(target=self._run, name="dicomwire-watcher", daemon=True).start()

    def add(self, watched: Watched, deadline: float | None, *, write: bool = False) -> None:
        """Watch an object for reading, or for writing, until it is removed."""
        events = WRITE if write else READ
        with self._lock:
            if watched._is_paused:
                self._end_pause(watched)
            number = watched._number = watched.fileno()
            try:
                self._selector.add(number, events, watched)
                watched._is_watched = True
            except (KeyError, OSError, ValueError):
                self._watch(watched, events)
            if watched._is_watched:
                self._schedule(watched, deadline)

    def pause(self, watched: Watched, until: float) -> None:
        """Call `on_deadline` at the time `until`, for an object that is not watched.

        Threads use its descriptor meanwhile without a call of `remove` and `add` for each use,
        since these are calls of the system.
        """
        with self._lock:
            watched._is_paused = True
            self._paused.add(watched)
            self._schedule(watched, until)

    def prolong(self, watched: Watched, until: float) -> None:
        """Move the end of a pause, if it has not ended. For the watcher's own thread."""
        with self._lock:
            if watched._is_paused:
                self._schedule(watched, until)

    def forget(self, watched: Watched) -> None:
        """Stop watching an object, and end its pause."""
        self.remove(watched)
        if watched._is_paused:
            with self._lock:
                self._end_pause(watched)

    def _end_pause(self, watched: Watched) -> None:
        watched._is_paused = False
        self._paused.discard(watched)

    def change(self, watched: Watched, deadline: float | None, *, write: bool = False) -> None:
        """Watch an object with another deadline, for reading or writing, if it is still watched."""
        with self._lock:  # so that no other thread stops watching it in between
            if self.remove(watched):
                self.add(watched, deadline, write=write)

    def hurry(self, watched: Watched, deadline: float) -> None:
        """Bring the deadline of an object forward to this one, if it has a later one or none."""
        with self._lock:
            if watched._is_watched and (watched.deadline is None or watched.deadline > deadline):
                self._schedule(watched, deadline)

    def replace(self, watched: Watched, successor: Watched, deadline: float | None) -> None:
        """Watch the descriptor of `watched` for `successor` from now on, for reading."""
        with self._lock:
            if not watched._is_watched:
                self.add(successor, deadline)
                return
            watched._is_watched = False
            successor._number, successor._is_watched = watched._number, True
            self._selector.replace(watched._number, successor)
            self._schedule(successor, deadline)

    def _schedule(self, watched: Watched, deadline: float | None) -> None:
        """Set the deadline of an object; wake the watcher's thread if it would sleep too long."""
        watched.deadline = deadline
        must_wake = self._must_wake
        if deadline is not None and (watched._entry is None or watched._entry > deadline):
            self._push(watched)
            # The watcher's own thread looks at the heap before it waits.
            if deadline < self._sleeps_until and threading.get_ident() != self._thread:
                self._sleeps_until = deadline  # so that later deadlines do not wake it again
                must_wake = True
        if must_wake:
            self._wake()

    def _push(self, watched: Watched) -> None:
        assert watched.deadline is not None
        watched._entry = watched.deadline
        entry = (watched.deadline, next(self._counter), weakref.ref(watched))
        heapq.heappush(self._heap, entry)
        if len(self._heap) > self._most_entries:
            self._clear_out()

    def _clear_out(self) -> None:
        """Remove the entries that are not valid, at most once for each doubling."""
        self._heap = [
            entry
            for entry in self._heap
            if (watched := entry[2]()) is not None and watched._entry == entry[0]
        ]
        heapq.heapify(self._heap)
        self._most_entries = max(2 * len(self._heap), _FEW_ENTRIES)

    def remove(self, watched: Watched) -> bool:
        """Stop watching an object; false if it was not watched."""
        if not watched._is_watched:  # the usual case; only the caller could add it now
            return False
        with self._lock:
            if not watched._is_watched:
                return False
            watched._is_watched = False
            self._selector.remove(watched._number)
        if self._must_wake:
            self._wake()
        return True

    def call(self, task: Callable[[], object]) -> None:
        """Have a pool thread run `task`. Takes no lock, and so may be called in `__del__`."""
        self._calls.put(task)
        self._wake()

    def abandon(self) -> None:
        """Close the copies of all watched sockets, in a child of the process that has this watcher.

        Otherwise, connections that the parent closes would stay open. The numbers remain in use,
        for /dev/null: copies of the parent's objects may close them later.
        """
        with open(os.devnull, "rb") as nothing:
            watched = [each.number for each in self._selector.all()]
            watched += [number for each in self._paused if (number := each.fileno()) >= 0]
            for number in (*watched, self._wake_out.fileno()):
                os.dup2(nothing.fileno(), number, inheritable=False)
        self._selector.close()

    def _wake(self) -> None:
        # This must not block: the watcher's own thread, which reads these bytes, may call it.
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
        self._thread = threading.get_ident()
        while True:
            self.look()

    def look(self) -> None:
        """Wait for one of the sockets or for the first deadline, and call what waits for it."""
        with self._lock:
            while self._heap and self._heap[0][2]() is None:
                heapq.heappop(self._heap)  # the object is gone: do not wake for its deadline
            self._sleeps_until = self._heap[0][0] if self._heap else float("inf")
        longest = _RELIEF if threads.start_if_short() else _LONGEST_SLEEP
        timeout = min(max(self._sleeps_until - time.monotonic(), 0), longest)
        # A watched socket ends this wait, or `_wake`: after a change, a call, or a shortage
        # of threads.
        for watched in self._select(timeout):
            if watched is None:
                self._woken()
            else:
                self._call(watched, watched.on_ready)
            del watched  # so that it is freed while the thread waits
        if self._heap and self._heap[0][0] <= time.monotonic():
            self._expire()

    def _select(self, timeout: float) -> list[Watched | None]:
        selector = self._selector
        try:
            return selector.wait(timeout)
        except (OSError, ValueError):
            with self._lock:
                if selector is self._selector:
                    self._renew_selector()
            return []

    # --- Descriptors that the program closed; the caller holds the lock ---

    def _watch(self, watched: Watched, events: int) -> None:
        watched._number = watched.fileno()
        known = self._selector.get(watched._number)
        if known is not None and known.owner is not None and known.owner.opened > watched.opened:
            watched.on_gone()  # closed while it was not watched; the number is another's now
            return
        watched._is_watched = self._register(watched._number, events, watched)
        if not watched._is_watched:
            watched.on_gone()

    def _register(
        self, number: int, events: int, watched: Watched | None, *, is_new: bool = False
    ) -> bool:
        """Have the selector watch a descriptor; return false if it is closed.

        If registering fails for another reason, the selector is broken, unless it `is_new`.
        """
        while True:
            try:
                self._selector.add(number, events, watched)
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
        """Stop watching the object that had `number` before another file got it."""
        self._lose(self._selector.remove(number))

    def _lose(self, watched: Watched | None) -> None:
        """Note that the descriptor of an object, or of the pair that wakes, is closed."""
        if watched is None:
            self._renew_pair()
        else:
            watched._is_watched = False
            watched.on_gone()

    def _renew_selector(self) -> None:
        """Replace the selector, and register all watched objects in the new one."""
        LOGGER.error("The program closed a file descriptor of the library; it is replaced")
        known = self._selector.all()
        self._broken.append(self._selector)
        self._selector = new_selector()
        for number, events, watched in known:
            if not self._register(number, events, watched, is_new=True):
                self._lose(watched)
        self._wake()  # the watcher's thread may be waiting in the old one

    def _renew_pair(self) -> None:
        """Replace the pair of sockets that wakes the watcher's thread."""
        LOGGER.error("The program closed a file descriptor of the library; it is replaced")
        with self._lock:
            known = self._selector.get(self._wake_in.fileno())
            if known is not None and known.owner is None:
                self._selector.remove(known.number)
            for each in (self._wake_in, self._wake_out):
                each.detach()  # not closed: another file may have the number
            self._open_pair()
        self._wake()

    def _open_pair(self) -> None:
        self._wake_in, self._wake_out = socket.socketpair()
        self._wake_in.setblocking(False)
        self._wake_out.setblocking(False)
        self._register(self._wake_in.fileno(), READ, None)

    def _expire(self) -> None:
        now = time.monotonic()
        while True:
            with self._lock:
                if not self._heap or self._heap[0][0] > now:
                    return
                due, _, reference = heapq.heappop(self._heap)
                watched = reference()
                if watched is None or due != watched._entry:
                    continue  # the object is gone, or an entry with an earlier time replaced this
                watched._entry = None
                if watched.deadline is None or not (watched._is_watched or watched._is_paused):
                    continue
                if watched.deadline > now:
                    # The deadline was moved later, which does not change the heap until now.
                    self._push(watched)
                    continue
            self._call(watched, watched.on_deadline)

    def _call(self, watched: Watched, method: object) -> None:
        if not (watched._is_watched or watched._is_paused):
            return
        try:
            method()  # type: ignore[operator]
        except Exception:
            LOGGER.exception("A connection is dropped after an internal error")
            watched.on_failure()


def _is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


_watcher: Watcher | None = None
_creation = threading.Lock()  # so that two threads do not make two; taken before `Watcher._lock`


def watcher() -> Watcher:
    """Return the watcher of this process; the first call makes it."""
    global _watcher
    if _watcher is None:
        with _creation:
            if _watcher is None:
                made = Watcher()
                made.start()  # first: without a thread, it is of no use to others
                _watcher = made
    return _watcher


def abandoning() -> Callable[[], None]:
    """Return a function to call in a child process after a fork; see `Watcher.abandon`."""
    parents = _watcher
    return parents.abandon if parents is not None else lambda: None


def _forget_parent() -> None:
    global _watcher, _creation
    _watcher = None
    _creation = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_parent)
