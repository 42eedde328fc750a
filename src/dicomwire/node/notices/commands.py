"""Runs the program of a notice: without a shell, for a limited time, with its output in the log."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import tempfile
import threading
from collections.abc import Sequence
from contextlib import suppress
from typing import IO

from dicomwire.logs import escaped

LOGGER = logging.getLogger("dicomwire.node")

_MOST_LINES = 100
_LONGEST_LINE = 500
"""In characters: what the log takes of a program's output. More is read, and left out."""
_CLOSING = 5.0
"""Seconds for the end of the output, after the program and all that it has started were killed."""


class CommandFailed(Exception):
    """A program could not be run, or did not succeed; the text says why."""


class Commands:
    """The programs that run now."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # guards _running and _is_closed
        self._running: set[subprocess.Popen[bytes]] = set()
        self._is_closed = False

    def close(self) -> None:
        """Kill all programs, and run no more: their tasks are repeated at the next start."""
        with self._lock:
            self._is_closed = True
            for process in self._running:
                _kill(process)

    def run(self, name: str, arguments: Sequence[str], data: bytes, timeout: float) -> None:
        """Run a program, and return when it has succeeded.

        Whatever it has started and left running ends with it.

        Parameters
        ----------
        name : str
            For the log.
        arguments : sequence of str
            The program, and its arguments.
        data : bytes
            Its standard input.
        timeout : float
            Seconds after which it is killed.

        Raises
        ------
        CommandFailed
        """
        with tempfile.TemporaryFile() as source:
            source.write(data)
            source.seek(0)
            process = self._start(arguments, source)
            assert process.stdout is not None
            output = _Output(name, process.stdout)
            ending = threading.Thread(target=_until_end, args=(process,), daemon=True)
            ending.start()
            ending.join(timeout)
            is_late = ending.is_alive()
            with self._lock:
                self._running.remove(process)
                _kill(process)
            ending.join()
            code = process.wait()
            output.end()
        if is_late:
            raise CommandFailed(f"it was killed after {timeout:g} s")
        if code:
            reason = f"signal {-code}" if code < 0 else f"exit code {code}"
            raise CommandFailed(f"{reason}: {output.last}" if output.last else reason)

    def _start(self, arguments: Sequence[str], source: IO[bytes]) -> subprocess.Popen[bytes]:
        with self._lock:
            if self._is_closed:
                raise CommandFailed("the node stops")
            try:
                process = subprocess.Popen(
                    arguments,
                    stdin=source,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,  # so that it can be killed with all that it starts
                )
            except OSError as error:
                raise CommandFailed(f"it cannot be run: {error.strerror or error}") from None
            self._running.add(process)
        return process


class _Output:
    """Reads the output of a program on a thread, which never waits for anything else.

    Attributes
    ----------
    last : str
        The last line that the log has got.
    """

    def __init__(self, name: str, file: IO[bytes]) -> None:
        self.last = ""
        self._name = escaped(name)
        self._file = file
        self._thread = threading.Thread(target=self._read, name="notice-output", daemon=True)
        self._thread.start()

    def end(self) -> None:
        """Wait for the end of the output."""
        self._thread.join(_CLOSING)
        if not self._thread.is_alive():  # else the thread still uses it, and it is collected later
            self._file.close()

    def _read(self) -> None:
        number = 0
        while line := self._file.readline(_LONGEST_LINE):
            text = line.decode(errors="replace").rstrip()
            if text and number < _MOST_LINES:
                self.last = escaped(text)
                LOGGER.info("Notice %s: %s", self._name, self.last)
                number += 1


def _until_end(process: subprocess.Popen[bytes]) -> None:
    """Wait for the end of a program, but leave it to be reaped: until then nothing else can get
    its number, which `_kill` uses."""
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)


def _kill(process: subprocess.Popen[bytes]) -> None:
    """Kill a program, and all of its session."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
