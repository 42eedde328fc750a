"""Starts processes that are forks of this one, and leaves to this one what signals mean."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress

from dicomwire.logs import LOGGER

_HELD_BACK = (signal.SIGINT, signal.SIGTERM)


def fork(run: Callable[[], None]) -> int:
    """Start a process that calls `run` and ends; return its process ID.

    The new process ignores SIGINT and SIGTERM. A terminal sends Ctrl-C to all processes, and a
    service manager may send SIGTERM to all: the program's first process decides how to end.
    """
    _flush()  # both processes would write out the content of a buffer
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
            signal.signal(number, ignore)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _HELD_BACK)
        run()
        code = 0
    except SystemExit as end:  # from `worker_context`, which has said why
        code = end.code if isinstance(end.code, int) else 1
    except BaseException:
        LOGGER.exception("A forked process failed with an internal error")
    finally:
        _flush()
        os._exit(code)  # without the exit handlers, which belong to the caller's process


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError, OSError, ValueError):  # a stream may be None or closed
            stream.flush()


def ignore(number: int, frame: object) -> None:
    """Ignore a signal; unlike SIG_IGN, programs that this process starts do not inherit this."""
