"""Processes that serve one port: a supervisor and its workers.

The supervisor accepts connections, gives each to a worker, and restarts workers that die. It does
not read from the connections; `serve`, which the face passes in, is all that a worker does.
"""

from __future__ import annotations

import errno
import logging
import os
import selectors
import signal
import socket
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from math import inf
from socket import socket as Socket

from dicomwire.errors import LocalProtocolError
from dicomwire.session.admission import AssociationLimits
from dicomwire.workers.forking import fork, ignore
from dicomwire.workers.worker_end import CONNECTION, READY, Order, SharedCounts, WorkerEnd

QUICK_DEATH = 5.0
"""A worker that dies within so many seconds is restarted with a delay: its successor may die too.

Long enough for a worker to start, so that a fault at its start does not make a busy loop.
"""
FIRST_DELAY, LONGEST_DELAY = 0.1, 30.0
"""Seconds; the delay doubles from one quick death to the next."""
GRACE = 5.0
"""Seconds that a worker has to end after the order to quit; then it is killed."""
PENDING = 64
"""The most connections sent to a worker that it has not taken yet.

Each holds a file descriptor here; a worker that is slow to take them gets no more.
"""
_PAUSE = 0.5
"""Seconds without accepting after the process ran out of file descriptors.

Until one is free the listener stays readable, and each attempt would fail at once.
"""
_OUT_OF_FILES = (errno.EMFILE, errno.ENFILE)

STOPPED = b"stopped"
"""A line for the caller: the listener is closed. The others are a log level and a text."""

Serve = Callable[[WorkerEnd], None]
"""Serves the connections that a `WorkerEnd` receives here; returns when all have ended."""


class _WorkerRecord:
    """The supervisor's record of one worker, kept when the worker is replaced."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.pid = 0
        self.is_ready = False
        self.channel: Socket | None = None
        self.pending: deque[Socket] = deque()  # sent to the worker, which has not taken them yet
        self.began = 0.0
        self.start_at: float | None = None
        self.quick_deaths = 0
        self.last_passed_on = 0

    @property
    def is_open(self) -> bool:
        return self.is_ready and len(self.pending) < PENDING


class Supervisor:
    """The process that accepts connections and sends each to a worker.

    It never has more than one thread, so that it can fork safely at any time.
    """

    def __init__(
        self,
        listener: Socket,
        control: Socket,
        counts: SharedCounts,
        serve: Serve,
        ceilings: AssociationLimits,
        drain_timeout: float,
    ) -> None:
        self._listener = listener
        self._address = listener.getsockname()
        self._control = control
        self._counts = counts
        self._serve = serve
        self._ceilings = ceilings
        self._drain_timeout = drain_timeout
        self._records: list[_WorkerRecord] = []
        self._waiting: deque[Socket] = deque()  # accepted connections that no worker could take yet
        self._passed_on = 0
        self._is_watching = False
        self._accept_at = 0.0
        self._is_stopping = False
        self._quit_at = self._kill_at = inf

    def run(self, count: int) -> None:
        """Supervise `count` workers until the server is stopped and all workers have ended."""
        self.begin(count)
        while not self.is_over:
            self.look(self._time_to_wait())

    def begin(self, count: int) -> None:
        """Start `count` workers."""
        self._selector = selectors.DefaultSelector()
        self._woken, self._wake = socket.socketpair()
        self._woken.setblocking(False)
        self._wake.setblocking(False)
        signal.set_wakeup_fd(self._wake.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, ignore)
        self._control.setblocking(False)
        self._listener.setblocking(False)
        self._selector.register(self._woken, selectors.EVENT_READ, self._on_signal)
        self._selector.register(self._control, selectors.EVENT_READ, self._on_control)
        self._records = [_WorkerRecord(number) for number in range(count)]
        for record in self._records:
            self._start(record)

    @property
    def is_over(self) -> bool:
        """Whether the server is stopped and all workers have ended."""
        return self._is_stopping and not any(record.pid for record in self._records)

    def look(self, timeout: float | None) -> None:
        """Wait for input, `timeout` seconds at most; then do all that there is to do."""
        self._watch_listener()
        for key, _ in self._selector.select(timeout):
            key.data()
        self._do_what_is_due()
        self._pass_on()

    def _log(self, level: int, text: str) -> None:
        """Send a line for the caller to log; the line is lost if the caller does not read."""
        with suppress(OSError):
            self._control.send(f"{level} {text}\n".encode())

    # --- Input ---

    def _on_signal(self) -> None:
        numbers = self._woken.recv(4096)
        if signal.SIGTERM in numbers:
            self._log(logging.INFO, f"SIGTERM: draining for at most {self._drain_timeout} s")
            self._stop(self._drain_timeout)
        if signal.SIGCHLD in numbers:
            for record in self._records:
                self._reap(record)

    def _on_control(self) -> None:
        try:
            data = self._control.recv(4096)
        except OSError:
            data = b""
        if not data:  # the caller has ended, or has dropped this server (`_forget_parent`)
            self._selector.unregister(self._control)
            self._stop(0)
        for line in data.splitlines():
            self._stop(float(line))

    def _on_connection(self) -> None:
        self._accept()

    def _accept(self) -> bool:
        """Accept a connection; return whether there was one."""
        try:
            connection, _ = self._listener.accept()
        except OSError as error:
            if error.errno in _OUT_OF_FILES:
                self._log(logging.ERROR, "No file descriptors are left for new connections")
                self._accept_at = time.monotonic() + _PAUSE
            return False
        self._waiting.append(connection)
        return True

    def _on_answer(self, record: _WorkerRecord) -> None:
        if record.channel is None:
            return  # an event of the same `select`; the channel was closed since
        try:
            answers = record.channel.recv(4096)
        except OSError:
            answers = b""
        if not answers:
            self._close_channel(record)  # the worker is about to end
        for number in answers:
            if number == READY[0]:
                record.is_ready = True
                self._log(logging.INFO, f"Worker {record.pid} serves")
            else:
                record.pending.popleft().close()

    # --- Giving connections to workers ---

    def _watch_listener(self) -> None:
        """Accept only while a worker can take a connection.

        A connection that is not accepted stays in the listener's backlog, where it cannot be lost
        by the death of a process.
        """
        wanted = (
            not self._is_stopping
            and not self._waiting
            and time.monotonic() >= self._accept_at
            and any(record.is_open for record in self._records)
        )
        if wanted and not self._is_watching:
            self._selector.register(self._listener, selectors.EVENT_READ, self._on_connection)
        elif self._is_watching and not wanted:
            self._selector.unregister(self._listener)
        self._is_watching = wanted

    def _pass_on(self) -> None:
        """Send each accepted connection to the worker with the fewest connections."""
        while self._waiting:
            records = [record for record in self._records if record.is_open]
            if not records:
                return
            record = min(records, key=self._load)
            assert record.channel is not None
            connection = self._waiting[0]
            try:
                socket.send_fds(record.channel, [CONNECTION], [connection.fileno()])
            except OSError:
                record.is_ready = False  # the worker is about to end
                continue
            self._passed_on += 1
            record.last_passed_on = self._passed_on
            record.pending.append(self._waiting.popleft())

    def _load(self, record: _WorkerRecord) -> tuple[int, int]:
        taken = self._counts.get(record.number, SharedCounts.CONNECTIONS)
        return taken + len(record.pending), record.last_passed_on

    # --- Start and end of workers ---

    def _start(self, record: _WorkerRecord) -> None:
        record.began, record.start_at = time.monotonic(), None
        try:
            record.channel, theirs = socket.socketpair()
            record.channel.setblocking(False)
            on_answer = partial(self._on_answer, record)
            self._selector.register(record.channel, selectors.EVENT_READ, on_answer)
            with theirs:
                record.pid = fork(partial(self._work, record, theirs))
        except OSError as error:  # too many files or processes
            self._ended(record, f"A worker cannot be started: {error.strerror}")
        else:
            self._counts.set(record.number, SharedCounts.PID, record.pid)

    def _work(self, record: _WorkerRecord, channel: Socket) -> None:
        """Run the worker, in its process: close the supervisor's files, then serve."""
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        self._selector.close()
        pending = [connection for each in self._records for connection in each.pending]
        channels = [each.channel for each in self._records if each.channel is not None]
        ours = [self._woken, self._wake, self._control, self._listener]
        for each in (*ours, *channels, *pending, *self._waiting):
            each.close()
        channel.setblocking(False)
        self._serve(WorkerEnd(channel, self._counts, record.number, self._ceilings, self._address))

    def _reap(self, record: _WorkerRecord) -> None:
        if not record.pid:
            return
        pid, status = os.waitpid(record.pid, os.WNOHANG)
        if pid:
            code = os.waitstatus_to_exitcode(status)
            how = f"was killed by signal {-code}" if code < 0 else f"ended with code {code}"
            self._on_answer(record)  # its last TAKEN: those connections ended with it
            self._ended(record, f"Worker {pid} {how}")

    def _ended(self, record: _WorkerRecord, how: str) -> None:
        """Note that a worker has ended, and set the time to start the next."""
        self._close_channel(record)
        # The worker had not read from these connections: another one can serve them.
        self._waiting.extendleft(reversed(record.pending))
        record.pending.clear()
        record.pid = 0
        for column in (SharedCounts.PID, SharedCounts.CONNECTIONS, SharedCounts.ASSOCIATIONS):
            self._counts.set(record.number, column, 0)
        self._counts.free_slots(record.number)
        if self._is_stopping:
            self._drop_waiting()
            return
        now, delay = time.monotonic(), 0.0
        if now - record.began < QUICK_DEATH:
            delay = min(FIRST_DELAY * 2**record.quick_deaths, LONGEST_DELAY)
            record.quick_deaths += 1
        else:
            record.quick_deaths = 0
        record.start_at = now + delay
        when = f"in {delay:g} s" if delay else "now"
        self._log(logging.ERROR, f"{how}; another is started {when}")

    def _close_channel(self, record: _WorkerRecord) -> None:
        record.is_ready = False
        if record.channel is not None:
            self._selector.unregister(record.channel)
            record.channel.close()
            record.channel = None

    # --- Stopping ---

    def _stop(self, timeout: float) -> None:
        """Take no more connections; order the workers to quit after `timeout` seconds.

        If there is time, those that wait in the system's queue are passed on before.
        """
        self._quit_at = min(self._quit_at, time.monotonic() + timeout)
        if self._is_stopping:
            return
        while timeout > 0 and self._accept():
            self._pass_on()
        self._is_stopping = True
        self._watch_listener()
        self._listener.close()
        self._drop_waiting()
        for record in self._records:
            record.start_at = None
        self._order(Order.STOP)
        with suppress(OSError):
            self._control.send(STOPPED + b"\n")

    def _drop_waiting(self) -> None:
        while self._waiting:
            self._waiting.popleft().close()

    def _order(self, order: Order) -> None:
        for record in self._records:
            if record.channel is not None:
                with suppress(OSError):  # the worker is about to end
                    record.channel.send(order.value)

    # --- Deadlines ---

    def _time_to_wait(self) -> float | None:
        moments = [self._quit_at, self._kill_at]
        moments += [record.start_at for record in self._records if record.start_at is not None]
        now = time.monotonic()
        if self._accept_at > now:
            moments.append(self._accept_at)
        first = min(moments)
        return None if first == inf else max(first - now, 0)

    def _do_what_is_due(self) -> None:
        now = time.monotonic()
        for record in self._records:
            if record.start_at is not None and record.start_at <= now:
                self._counts.add(record.number, SharedCounts.RESTARTS, 1)
                self._start(record)
        if self._quit_at <= now:
            self._quit_at, self._kill_at = inf, now + GRACE
            if left := self._counts.total(SharedCounts.ASSOCIATIONS):
                self._log(logging.WARNING, f"Aborting associations that have not ended: {left}")
            self._order(Order.QUIT)
        if self._kill_at <= now:
            self._kill_at = inf
            for record in self._records:
                if record.pid:
                    self._log(logging.ERROR, f"Worker {record.pid} does not end and is killed")
                    os.kill(record.pid, signal.SIGKILL)


def check_platform() -> None:
    """Raise LocalProtocolError on a platform that cannot have worker processes."""
    if not hasattr(os, "fork"):
        raise LocalProtocolError(
            "workers need os.fork, which this platform does not have: "
            "start several servers, each on a different port"
        )
