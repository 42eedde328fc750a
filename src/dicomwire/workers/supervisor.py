"""Processes that serve one port: one hands out the connections, and restarts workers that die.

What is spoken on a connection is not known here, nor the face that a worker serves it with.
"""

from __future__ import annotations

import errno
import logging
import os
import selectors
import signal
import socket
import sys
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from math import inf
from socket import socket as Socket

from dicomwire.errors import LocalProtocolError
from dicomwire.logs import LOGGER
from dicomwire.session.admission import Ceilings
from dicomwire.workers.seat import CONNECTION, READY, Board, Order, Seat, Worker

QUICK_DEATH = 5.0
"""A worker that lives for fewer seconds may die again at once, and is restarted with a delay."""
FIRST_DELAY, LONGEST_DELAY = 0.1, 30.0
"""Seconds; from one quick death to the next the delay doubles."""
GRACE = 5.0
"""Seconds for a worker to leave when it may wait for nothing any more; then it is killed."""
PENDING = 64
"""Connections handed to a worker that it has not taken yet."""
_PAUSE = 0.5
"""Seconds without accepting after there was no file descriptor for a connection."""
_OUT_OF_FILES = (errno.EMFILE, errno.ENFILE)

# From the supervisor to the caller: lines, of a level and a text for the log; or this one.
_STOPPED = b"stopped"

_HELD_BACK = (signal.SIGINT, signal.SIGTERM)


Serve = Callable[[Seat], None]
"""Serves what comes to a seat in this process, until it is ordered to end, and has ended."""


class Crew:
    """The processes that serve a listening socket, as the program that started them sees them.

    They are forked at once: a supervisor, and by that the workers. All end when this process does.

    Parameters
    ----------
    listener : socket
        A listening socket; it is the supervisor's from now on, and closed here.
    serve : callable
        What a worker does; see `Serve`. It runs in the main thread of a process of its own.
    forget : callable
        Called first in the new process: closes what belongs to this one.
    on_end : callable
        Called here when all processes have ended, on a thread of its own.
    count : int
        How many workers.
    ceilings : Ceilings
        How many associations they may have, all together.
    drain_timeout : float
        Seconds for running associations to end after SIGTERM came to the supervisor.
    """

    def __init__(
        self,
        listener: Socket,
        serve: Serve,
        forget: Callable[[], None],
        on_end: Callable[[], None],
        *,
        count: int,
        ceilings: Ceilings,
        drain_timeout: float,
    ) -> None:
        self._board = Board(count, ceilings.total)
        self._count = count
        self._on_end = on_end
        self._control, control = socket.socketpair()
        self._stopped, self._ended = threading.Event(), threading.Event()
        self._is_lost = False
        supervisor = _Supervisor(listener, control, self._board, serve, ceilings, drain_timeout)

        def supervise() -> None:
            self._control.close()
            forget()
            supervisor.run(count)

        try:
            self.pid = _fork(supervise)
        except BaseException:
            self._control.close()
            self._board.file.close()
            raise
        finally:
            control.close()
            listener.close()
        _crews.add(self)
        threading.Thread(target=self._listen, name="dicomwire-crew", daemon=True).start()

    @property
    def workers(self) -> list[Worker]:
        """The workers that live now."""
        found = []
        for place in range(self._count):
            get = partial(self._board.get, place)
            if pid := get(Board.PID):
                counts = get(Board.CONNECTIONS), get(Board.ASSOCIATIONS), get(Board.RESTARTS)
                found.append(Worker(pid, *counts))
        return found

    @property
    def restarts(self) -> int:
        """How often a worker that had died was replaced."""
        return self._board.total(Board.RESTARTS)

    def stop(self, timeout: float = inf) -> None:
        """Stop listening; after `timeout` seconds, what still goes on is aborted.

        It returns when nobody listens any more. It may be called again, with a shorter time.
        """
        with suppress(OSError):  # it has ended
            self._control.send(b"%r\n" % timeout)
        self._stopped.wait()

    def wait_stopped(self) -> None:
        """Wait until nobody listens any more.

        Raises
        ------
        RuntimeError
            When that is so because the supervisor died.
        """
        self._stopped.wait()
        if self._is_lost:
            raise LocalProtocolError("the supervisor of the workers died")

    def wait_ended(self, timeout: float | None = None) -> bool:
        """Wait until all processes have ended; false if they have not after `timeout` seconds."""
        return self._ended.wait(timeout)

    def _listen(self) -> None:
        """Log what the supervisor tells, until its end."""
        rest = b""
        with suppress(OSError):
            while data := self._control.recv(4096):
                *lines, rest = (rest + data).split(b"\n")
                for line in lines:
                    if line == _STOPPED:
                        self._stopped.set()
                    else:
                        level, _, text = line.partition(b" ")
                        LOGGER.log(int(level), "%s", text.decode())
        with suppress(ChildProcessError):  # the program reaps all children itself
            os.waitpid(self.pid, 0)
        if not self._stopped.is_set():
            self._is_lost = True
            LOGGER.error("The supervisor of the workers died; nobody serves any more")
        for place in range(self._count):
            self._board.set(place, Board.PID, 0)
        self._control.close()
        self._board.file.close()
        self._on_end()
        self._stopped.set()
        self._ended.set()


class _Place:
    """A worker's place at the supervisor: who has it, and what is between the two."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.pid = 0
        self.is_ready = False
        self.channel: Socket | None = None
        self.pending: deque[Socket] = deque()  # handed over, but not taken yet
        self.began = 0.0
        self.start_at: float | None = None
        self.quick_deaths = 0
        self.last_handed = 0

    @property
    def is_open(self) -> bool:
        return self.is_ready and len(self.pending) < PENDING


class _Supervisor:
    """The process that accepts connections and hands them to workers, and does nothing else.

    It has one thread from its birth on, so that it may fork at any time.
    """

    def __init__(
        self,
        listener: Socket,
        control: Socket,
        board: Board,
        serve: Serve,
        ceilings: Ceilings,
        drain_timeout: float,
    ) -> None:
        self._listener = listener
        self._address = listener.getsockname()
        self._control = control
        self._board = board
        self._serve = serve
        self._ceilings = ceilings
        self._drain_timeout = drain_timeout
        self._places: list[_Place] = []
        self._waiting: deque[Socket] = deque()  # accepted, for the next worker that is open
        self._handed = 0
        self._is_watching = False
        self._accept_at = 0.0
        self._is_stopping = False
        self._quit_at = self._kill_at = inf

    def run(self, count: int) -> None:
        """Supervise `count` workers, until all have ended after a stop."""
        self._selector = selectors.DefaultSelector()
        self._woken, self._wake = socket.socketpair()
        self._woken.setblocking(False)
        self._wake.setblocking(False)
        signal.set_wakeup_fd(self._wake.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, _ignore)
        self._control.setblocking(False)
        self._listener.setblocking(False)
        self._selector.register(self._woken, selectors.EVENT_READ, self._on_signal)
        self._selector.register(self._control, selectors.EVENT_READ, self._on_control)
        self._places = [_Place(number) for number in range(count)]
        for place in self._places:
            self._start(place)
        while not self._is_stopping or any(place.pid for place in self._places):
            self._watch_listener()
            for key, _ in self._selector.select(self._time_to_wait()):
                key.data()
            self._do_what_is_due()
            self._hand_out()

    def _tell(self, level: int, text: str) -> None:
        """Have the caller log `text`; if it does not read, that is lost."""
        with suppress(OSError):
            self._control.send(f"{level} {text}\n".encode())

    # --- What comes in ---

    def _on_signal(self) -> None:
        numbers = self._woken.recv(4096)
        if signal.SIGTERM in numbers:
            self._tell(logging.INFO, f"SIGTERM: draining, for {self._drain_timeout} s at most")
            self._stop(self._drain_timeout)
        if signal.SIGCHLD in numbers:
            for place in self._places:
                self._reap(place)

    def _on_control(self) -> None:
        try:
            data = self._control.recv(4096)
        except OSError:
            data = b""
        if not data:  # the caller is gone, or has nothing to do with us any more
            self._selector.unregister(self._control)
            self._stop(0)
        for line in data.splitlines():
            self._stop(float(line))

    def _on_connection(self) -> None:
        try:
            connection, _ = self._listener.accept()
        except OSError as error:
            if error.errno in _OUT_OF_FILES:
                self._tell(logging.ERROR, "No file descriptors are left for new connections")
                self._accept_at = time.monotonic() + _PAUSE
            return
        self._waiting.append(connection)

    def _on_answer(self, place: _Place) -> None:
        if place.channel is None:
            return  # what is noted just now is that it has died
        try:
            answers = place.channel.recv(4096)
        except OSError:
            answers = b""
        if not answers:
            self._close_channel(place)  # it is about to end
        for number in answers:
            if number == READY[0]:
                place.is_ready = True
                self._tell(logging.INFO, f"Worker {place.pid} serves")
            else:
                place.pending.popleft().close()

    # --- Handing out ---

    def _watch_listener(self) -> None:
        """Accept where there is somebody to serve; what is not accepted is never lost."""
        wanted = (
            not self._is_stopping
            and not self._waiting
            and time.monotonic() >= self._accept_at
            and any(place.is_open for place in self._places)
        )
        if wanted and not self._is_watching:
            self._selector.register(self._listener, selectors.EVENT_READ, self._on_connection)
        elif self._is_watching and not wanted:
            self._selector.unregister(self._listener)
        self._is_watching = wanted

    def _hand_out(self) -> None:
        """Give each connection to the worker with the fewest."""
        while self._waiting:
            places = [place for place in self._places if place.is_open]
            if not places:
                return
            place = min(places, key=self._load)
            assert place.channel is not None
            connection = self._waiting[0]
            try:
                socket.send_fds(place.channel, [CONNECTION], [connection.fileno()])
            except OSError:
                place.is_ready = False  # it is about to end
                continue
            self._handed += 1
            place.last_handed = self._handed
            place.pending.append(self._waiting.popleft())

    def _load(self, place: _Place) -> tuple[int, int]:
        taken = self._board.get(place.number, Board.CONNECTIONS)
        return taken + len(place.pending), place.last_handed

    # --- The life of workers ---

    def _start(self, place: _Place) -> None:
        place.began, place.start_at = time.monotonic(), None
        try:
            place.channel, theirs = socket.socketpair()
            place.channel.setblocking(False)
            on_answer = partial(self._on_answer, place)
            self._selector.register(place.channel, selectors.EVENT_READ, on_answer)
            with theirs:
                place.pid = _fork(partial(self._work, place, theirs))
        except OSError as error:  # too many files or processes
            self._ended(place, f"A worker cannot be started: {error.strerror}")
        else:
            self._board.set(place.number, Board.PID, place.pid)

    def _work(self, place: _Place, channel: Socket) -> None:
        """Be a worker (in its process)."""
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        self._selector.close()
        pending = [connection for each in self._places for connection in each.pending]
        channels = [each.channel for each in self._places if each.channel is not None]
        ours = [self._woken, self._wake, self._control, self._listener]
        for each in (*ours, *channels, *pending, *self._waiting):
            each.close()
        channel.setblocking(False)
        self._serve(Seat(channel, self._board, place.number, self._ceilings, self._address))

    def _reap(self, place: _Place) -> None:
        if not place.pid:
            return
        pid, status = os.waitpid(place.pid, os.WNOHANG)
        if pid:
            code = os.waitstatus_to_exitcode(status)
            how = f"was killed by signal {-code}" if code < 0 else f"ended with code {code}"
            self._on_answer(place)  # what it has taken was its own
            self._ended(place, f"Worker {pid} {how}")

    def _ended(self, place: _Place, how: str) -> None:
        """Note that there is no worker any more, and when to start the next."""
        self._close_channel(place)
        self._waiting.extendleft(reversed(place.pending))  # it had not even looked at them
        place.pending.clear()
        place.pid = 0
        for column in (Board.PID, Board.CONNECTIONS, Board.ASSOCIATIONS):
            self._board.set(place.number, column, 0)
        self._board.free_slots(place.number)
        if self._is_stopping:
            self._drop_waiting()
            return
        now, delay = time.monotonic(), 0.0
        if now - place.began < QUICK_DEATH:
            delay = min(FIRST_DELAY * 2**place.quick_deaths, LONGEST_DELAY)
            place.quick_deaths += 1
        else:
            place.quick_deaths = 0
        place.start_at = now + delay
        when = f"in {delay:g} s" if delay else "now"
        self._tell(logging.ERROR, f"{how}; another is started {when}")

    def _close_channel(self, place: _Place) -> None:
        place.is_ready = False
        if place.channel is not None:
            self._selector.unregister(place.channel)
            place.channel.close()
            place.channel = None

    # --- The end ---

    def _stop(self, timeout: float) -> None:
        """Take no more connections; after `timeout` seconds, the workers have to quit."""
        self._quit_at = min(self._quit_at, time.monotonic() + timeout)
        if self._is_stopping:
            return
        self._is_stopping = True
        self._watch_listener()
        self._listener.close()
        self._drop_waiting()
        for place in self._places:
            place.start_at = None
        self._order(Order.STOP)
        with suppress(OSError):
            self._control.send(_STOPPED + b"\n")

    def _drop_waiting(self) -> None:
        while self._waiting:
            self._waiting.popleft().close()

    def _order(self, order: Order) -> None:
        for place in self._places:
            if place.channel is not None:
                with suppress(OSError):  # it is about to end
                    place.channel.send(order.value)

    # --- What is due ---

    def _time_to_wait(self) -> float | None:
        moments = [self._quit_at, self._kill_at]
        moments += [place.start_at for place in self._places if place.start_at is not None]
        now = time.monotonic()
        if self._accept_at > now:
            moments.append(self._accept_at)
        first = min(moments)
        return None if first == inf else max(first - now, 0)

    def _do_what_is_due(self) -> None:
        now = time.monotonic()
        for place in self._places:
            if place.start_at is not None and place.start_at <= now:
                self._board.add(place.number, Board.RESTARTS, 1)
                self._start(place)
        if self._quit_at <= now:
            self._quit_at, self._kill_at = inf, now + GRACE
            if left := self._board.total(Board.ASSOCIATIONS):
                self._tell(logging.WARNING, f"Associations that have not ended are aborted: {left}")
            self._order(Order.QUIT)
        if self._kill_at <= now:
            self._kill_at = inf
            for place in self._places:
                if place.pid:
                    self._tell(logging.ERROR, f"Worker {place.pid} does not end, and is killed")
                    os.kill(place.pid, signal.SIGKILL)


def check_platform() -> None:
    """Raise an error where there can be no worker processes."""
    if not hasattr(os, "fork"):
        raise LocalProtocolError(
            "workers need os.fork, which this platform does not have: "
            "start several servers, each on a port of its own"
        )


def _fork(run: Callable[[], None]) -> int:
    """Have a new process do `run` and end; return the id of that process.

    Ctrl-C goes to all processes of a terminal, and service managers may send SIGTERM to all:
    what is to be done then is decided by the first of them, so the new process ignores both.
    """
    _flush()  # what is in a buffer would be written twice
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _HELD_BACK)
    try:
        pid = os.fork()
        if pid == 0:
            _run_and_exit(run)
        return pid
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _run_and_exit(run: Callable[[], None]) -> None:
    code = 1
    try:
        for number in _HELD_BACK:
            signal.signal(number, _ignore)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _HELD_BACK)
        run()
        code = 0
    except BaseException:
        LOGGER.exception("A server process met an internal error")
    finally:
        _flush()
        os._exit(code)  # what the caller registered to be done at its exit is not for us


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError, OSError, ValueError):  # there may be none, or a closed one
            stream.flush()


def _ignore(number: int, frame: object) -> None:
    """Handle a signal by nothing; unlike SIG_IGN, this is not inherited by other programs."""


_crews: weakref.WeakSet[Crew] = weakref.WeakSet()


def _forget_parent() -> None:
    """Leave crews to the process that started them: it is its end that ends them."""
    for crew in _crews:
        crew._control.close()
    _crews.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_parent)
