"""Starts programs that import `pynetdicom`, in processes where that is the drop-in or the real one.

The test process imports neither of them.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import time
from functools import cached_property
from pathlib import Path

from forked_programs import Forker, Program
from free_ports import free_port

ROOT = Path(__file__).resolve().parents[2]
PROGRAMS = Path(__file__).with_name("programs")
WAIT = 60
IMPORTED = ("pynetdicom", "pynetdicom.sop_class", "pynetdicom.dsutils", "pynetdicom.status")


class Implementation:
    """One of those who provide the name `pynetdicom`."""

    def __init__(self, name: str, python: str, *options: str, path: str) -> None:
        self.name = name
        self.python = python
        self._command = [python, "-u", *options]
        self._path = {"PYTHONPATH": path}

    @cached_property
    def forker(self) -> Forker:
        """What programs are forked from, with all that they import."""
        return Forker(self._command, ("pydicom.data", "pydicom.filewriter", *IMPORTED), self._path)

    def start(self, *args: object) -> Program:
        """Start Python with `args`."""
        return self.forker.start(*args)

    def run(self, *args: object, code: int = 0) -> str:
        """Run Python with `args`, and return what it printed."""
        return finish(self.start(*args), code)[0]


DROP_IN = Implementation(
    "drop-in",
    sys.executable,
    "-W",
    "error",
    path=os.pathsep.join(str(ROOT / folder) for folder in ("dropin/src", "src")),
)
REAL = Implementation(
    "real",
    os.environ.get("PYNETDICOM_PYTHON", str(ROOT / ".venv-peer" / "bin" / "python")),
    path="",
)


def finish(process: Program, code: int = 0, within: float = WAIT) -> tuple[str, str]:
    """Return what `process` printed and logged, when it is over."""
    try:
        printed, log = process.communicate(timeout=within)
    finally:
        end(process)
    assert process.returncode == code, printed + log
    return printed, log


def end(process: Program) -> None:
    """Kill `process` if it still runs, and take what it printed."""
    process.kill()
    process.communicate()


class Server:
    """A program that serves until it is interrupted."""

    def __init__(self, implementation: Implementation, program: str, *args: object) -> None:
        self.port = free_port()
        self.process = implementation.start(PROGRAMS / program, self.port, *args)
        try:
            self._wait()
        except BaseException:
            end(self.process)
            raise

    def _wait(self) -> None:
        """Wait until the program listens."""
        moment, deadline = threading.Event(), time.monotonic() + WAIT
        while self.process.poll() is None:
            try:
                socket.create_connection(("127.0.0.1", self.port)).close()
                return
            except ConnectionRefusedError:
                moment.wait(0.01)
            assert time.monotonic() < deadline
        raise AssertionError(self.process.communicate()[1])

    def stop(self) -> tuple[str, str]:
        """Interrupt the program, and return what it printed and logged."""
        self.process.send_signal(signal.SIGINT)
        return finish(self.process)
