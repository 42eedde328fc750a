"""The process of a node that runs its tasks, so that receiving need not share its time with them.

This module starts the process, and connects it with the others; `background` says what it does. It
is a fork, like the workers, since it needs the configuration and the log levels of the node. It is
forked by a process that has only one thread, the keeper: so another one can be forked when it dies,
whatever the node does meanwhile.
"""

from __future__ import annotations

import json
import logging
import mmap
import os
import select
import signal
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Self

from dicomwire.node.failures import log_unexpected

LOGGER = logging.getLogger("dicomwire.node")

_LOOK, _RELOAD, _STOP = "look", "reload", "stop"
"""The orders: to look for tasks, to read the configuration again, to end."""
_TOGETHER = 0.25
"""Seconds from an order to look until that is done: what is added meanwhile needs no order, which
would take a call of the system for each object that is received, and looking at all kinds a part
of the processor."""
NICENESS = 10
"""By how much the priority is lower. Where two processes want one processor, Linux gives the one
that is nicer by 10 a tenth of the time of the other: receiving hardly notices, and it goes on."""
_APART = 5.0
"""Seconds between the starts of two processes: one that fails when it starts takes little time."""
_GRACE = 5.0
"""Seconds that the process may take to end, besides what it was told."""
_HELD_BACK = (signal.SIGINT, signal.SIGTERM)
_MOST = 64 * 1024
"""The bytes that are read at a time."""


class Orders:
    """What the other processes of the node tell the one that runs the tasks: lines in a pipe.

    Parameters
    ----------
    reader : int
        The pipe.
    told : memoryview
        A byte that the processes share: whether the order to look was given.
    """

    def __init__(self, reader: int, told: memoryview) -> None:
        self._reader = reader
        self._told = told
        self._rest = b""

    def follow(self, look: Callable[[], object], reload: Callable[[], object]) -> None:
        """Do what is ordered; return when the process is to stop.

        Parameters
        ----------
        look : callable
            Called when tasks may have been added.
        reload : callable
            Called when the configuration is to be read again.
        """
        orders = {_LOOK}  # whoever gave it may have had a process that died
        while _STOP not in orders:
            if _RELOAD in orders:
                reload()
            if _LOOK in orders:
                orders = self.read(_TOGETHER)
                self._told[0] = 0  # first: what is added from now on needs an order again
                look()
            else:
                orders = self.read()

    def read(self, timeout: float | None = None) -> set[str]:
        """Wait for orders, and return them; none after `timeout` seconds.

        If the node has died, this ends the process at once: all that it does can be repeated.
        """
        if not select.select([self._reader], [], [], timeout)[0]:
            return set()
        data = os.read(self._reader, _MOST)
        if not data:
            os._exit(0)
        *lines, self._rest = (self._rest + data).split(b"\n")
        return {line.decode() for line in lines}


class TaskProcess:
    """The process that runs the tasks, as the others of the node see it. As a context manager, it
    is gone after the block.

    Make it before the node opens anything or starts a thread. The process starts with the first
    order, and is started again when it dies.

    Parameters
    ----------
    run : callable
        What the process does, until `Orders.follow` returns. It may raise SystemExit.

    Attributes
    ----------
    pid : int or None
        The id of the process, while it runs.
    """

    def __init__(self, run: Callable[[Orders], None]) -> None:
        self.pid: int | None = None
        self._run = run
        self._told = memoryview(mmap.mmap(-1, 1))  # see `Orders`
        self._reader, self._writer = os.pipe()
        reports, self._reports = os.pipe()
        os.set_blocking(self._writer, False)
        self._is_stopping = False
        self._has_ended = threading.Event()  # `_listen` sets it, when keeper and process are gone
        self._keeper = self._fork(self._keep)
        os.setpgid(self._keeper, self._keeper)  # Ctrl-C is for the node; `_kill` is for the group
        for each in (self._reader, self._reports):
            os.close(each)
        self._thread = threading.Thread(
            target=self._listen, args=(reports,), name="task-process", daemon=True
        )
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if not self._has_ended.is_set():
            self._is_stopping = True
            self._kill()
            self._has_ended.wait()
        self._thread.join()
        os.waitpid(self._keeper, 0)
        os.close(self._writer)

    # --- For the other processes of the node ---

    def look(self) -> None:
        """Let the process look for tasks."""
        if not self._told[0]:
            self._told[0] = 1
            self._order(_LOOK)

    def reload(self) -> None:
        """Let the process read the configuration again, if it runs."""
        if self.pid is not None and not self._order(_RELOAD):
            LOGGER.error("The process that runs the tasks does not read its configuration again")

    def stop(self, timeout: float) -> None:
        """Let the process end; kill it if it has not ended `timeout` seconds later, and some."""
        self._is_stopping = True
        if not (self._order(_STOP) and self._has_ended.wait(timeout + _GRACE)):
            LOGGER.warning("The process that runs the tasks does not end, and is killed")
            self._kill()
            self._has_ended.wait()

    def _order(self, order: str) -> bool:
        """Write an order; return whether that was possible.

        The pipe has room for thousands. If it is full, the process does not read, and is killed
        when the node stops.
        """
        try:
            os.write(self._writer, f"{order}\n".encode())
        except OSError:
            return False
        return True

    def _kill(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._keeper, signal.SIGKILL)

    def _listen(self, reports: int) -> None:
        """Take the reports of keeper and process, until both are gone."""
        with open(reports, "rb") as lines:
            for line in lines:
                try:
                    self._take(**json.loads(line))
                except ValueError:
                    pass  # the process died while it wrote the line
                except Exception as error:  # whatever it is, the thread must go on
                    log_unexpected(LOGGER, error, "A report of the task process cannot be read")
        self.pid = None
        self._has_ended.set()
        if not self._is_stopping:
            LOGGER.error("No process runs the tasks any more: restart the node")

    def _take(
        self,
        pid: int | None = None,
        ended: str = "",
        logged: Mapping[str, Any] | None = None,
    ) -> None:
        if pid is not None:
            self.pid = pid
        if ended:
            self.pid = None
            LOGGER.error("The process that runs the tasks %s; another one is started", ended)
        if logged is not None:
            record = logging.makeLogRecord(logged)
            logging.getLogger(record.name).handle(record)

    # --- In the keeper ---

    def _keep(self) -> None:
        """Start the process when there is an order, and whenever it has died."""
        orders = Orders(self._reader, self._told)
        told = orders.read()
        while _STOP not in told:
            began = time.monotonic()
            _, status = os.waitpid(self._fork(self._work), 0)
            code = os.waitstatus_to_exitcode(status)
            if code == 0:
                return
            self._report(ended=f"has ended with {_exit(code)}")
            # It looks for all tasks when it starts, so that other orders need not be kept.
            while _STOP not in told and (left := began + _APART - time.monotonic()) > 0:
                told = orders.read(left)

    def _work(self) -> None:
        """Be the process that runs the tasks."""
        with suppress(OSError):
            os.nice(NICENESS)
        self._report(pid=os.getpid())
        self._run(Orders(self._reader, self._told))

    def _fork(self, run: Callable[[], None]) -> int:
        """Start a process that calls `run` and ends; return its id."""
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _HELD_BACK)
        try:
            pid = os.fork()
            if pid == 0:
                self._run_and_exit(run)
            return pid
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def _run_and_exit(self, run: Callable[[], None]) -> None:
        code = 1
        try:
            self._forget_node()
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _HELD_BACK)
            run()
            code = 0
        except SystemExit as end:  # it has said why
            code = end.code if isinstance(end.code, int) else 1
        except BaseException as error:
            log_unexpected(LOGGER, error, "The process that runs the tasks has failed")
        finally:
            os._exit(code)  # without the exit handlers, which belong to the node's own process

    def _forget_node(self) -> None:
        """In a fork, keep nothing of the node's own process but the pipes and the log."""
        for held in (*_HELD_BACK, signal.SIGHUP):
            signal.signal(held, _ignore)
        null = os.open(os.devnull, os.O_RDWR)
        # What is open stays open in the fork, too, as a port that has been closed. A closed number
        # would be used again, and then closed by the object that had it before.
        kept = {0, 1, 2, self._reader, self._reports}
        for number in {int(name) for name in os.listdir("/dev/fd")} - kept:
            with suppress(OSError):  # that of the list itself
                os.dup2(null, number, inheritable=False)
        for name in (None, *logging.root.manager.loggerDict):
            logger = logging.getLogger(name)
            logger.handlers.clear()
            logger.propagate = True
        logging.root.addHandler(_Reporting(self._report))

    def _report(self, **report: object) -> None:
        """Tell the node's own process something, on a line of its own."""
        with suppress(OSError):  # that process has died
            os.write(self._reports, b"\n" + json.dumps(report, default=str).encode() + b"\n")


class _Reporting(logging.Handler):
    """Lets the node's own process log what is logged here."""

    def __init__(self, report: Callable[..., None]) -> None:
        super().__init__()
        self._report = report

    def emit(self, record: logging.LogRecord) -> None:
        try:
            logged = {**record.__dict__, "msg": record.getMessage(), "args": None}
            if record.exc_info:
                logged["exc_text"] = logging.Formatter().formatException(record.exc_info)
                logged["exc_info"] = None
            self._report(logged=logged)
        except Exception:
            self.handleError(record)


def _exit(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    return signal.Signals(-code).name


def _ignore(number: int, frame: object) -> None:
    """Ignore a signal; unlike SIG_IGN, programs that this process starts do not inherit this."""
