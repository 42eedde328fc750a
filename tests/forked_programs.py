"""Starts Python programs that need not import anew what takes longer than many tests.

A `Forker` is a process that has imported it, and forks for each program. A program has environment,
folder and arguments as if it were started with `python`, and modules of its own, but for those.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Self

FORKING = Path(__file__).with_name("forking_python.py")


class Program:
    """A program that runs, with the methods of `subprocess.Popen`."""

    def __init__(self, told: socket.socket, pipes: Sequence[IO[Any] | None]) -> None:
        self._told = told
        self.stdin, self.stdout, self.stderr = pipes
        self.pid = int(told.recv(100))
        self.returncode: int | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        self.communicate()

    def poll(self) -> int | None:
        """Return the exit code, or None while it runs."""
        return self._look(0)

    def _look(self, timeout: float | None) -> int | None:
        if self.returncode is None and select.select([self._told], [], [], timeout)[0]:
            self.returncode = int(self._told.recv(100))
            self._told.close()
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Return the exit code when it is over."""
        code = self._look(timeout)
        if code is None:
            raise subprocess.TimeoutExpired("a forked program", timeout or 0)
        return code

    def send_signal(self, number: int) -> None:
        """Send a signal, if it still runs."""
        if self.returncode is None:  # it is not asked for, since another thread may wait for it
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill(self) -> None:
        """Kill it, if it still runs."""
        self.send_signal(9)

    def terminate(self) -> None:
        """Ask it to end, if it still runs."""
        self.send_signal(15)

    def communicate(self, text: str | None = None, timeout: float | None = None) -> tuple[str, str]:
        """Write `text`, and return what it prints and logs until it is over."""
        found: dict[IO[str] | None, str] = {}

        def read(pipe: IO[str]) -> None:
            with pipe:
                found[pipe] = pipe.read()

        readers = [
            threading.Thread(target=read, args=(pipe,), daemon=True)
            for pipe in (self.stdout, self.stderr)
            if pipe is not None and not pipe.closed
        ]
        for reader in readers:
            reader.start()
        if self.stdin is not None and not self.stdin.closed:
            with contextlib.suppress(BrokenPipeError):
                self.stdin.write(text or "")
                self.stdin.close()
        self.wait(timeout)
        for reader in readers:
            reader.join(timeout)
        printed, log = (found.get(pipe, "") for pipe in (self.stdout, self.stderr))
        return printed, log


class Forker:
    """A process that has imported modules, and forks for each program.

    Parameters
    ----------
    command : sequence of str
        Python and its options.
    modules : sequence of str
        What it imports.
    environment : mapping, optional
        What its environment has besides.
    """

    def __init__(
        self,
        command: Sequence[str] = (sys.executable,),
        modules: Sequence[str] = ("pydicom",),
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._environment = dict(environment or {})
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [*command, str(FORKING), str(theirs.fileno()), *modules],
                # One that has threads, as of numpy's, is warned not to fork.
                env={**os.environ, **self._environment, "OPENBLAS_NUM_THREADS": "1"},
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
            )

    def start(
        self,
        *arguments: object,
        stdin: bool = False,
        stderr: Any = None,
        environment: Mapping[str, str] | None = None,
        kind: str = "",
    ) -> Program:
        """Start Python with `arguments`; its log goes into a pipe, unless to the file `stderr`.

        Its `environment` is the present one, if none is given; with the `kind` "b", its pipes are
        of bytes.
        """
        given = os.environ if environment is None else environment
        request = {
            "arguments": list(map(str, arguments)),
            "environment": {**given, **self._environment},
            "folder": os.getcwd(),
        }
        ours: list[IO[Any] | None] = [None, None, None]
        theirs = []
        if stdin:
            read, write = os.pipe()
            ours[0] = os.fdopen(write, f"w{kind}")
            theirs.append(read)
        else:
            theirs.append(os.open(os.devnull, os.O_RDONLY))
        for number in (1, 2):
            if number == 2 and stderr is not None:
                if stderr == subprocess.DEVNULL:
                    theirs.append(os.open(os.devnull, os.O_WRONLY))
                else:
                    theirs.append(os.dup(stderr.fileno()))
                continue
            read, write = os.pipe()
            ours[number] = os.fdopen(read, f"r{kind}")
            theirs.append(write)
        told, tells = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with tells:
            socket.send_fds(
                self._control, [json.dumps(request).encode()], [*theirs, tells.fileno()]
            )
        for descriptor in theirs:
            os.close(descriptor)
        return Program(told, ours)

    def end(self) -> None:
        """End the process; the programs go on."""
        self._control.close()
        self._process.wait()
