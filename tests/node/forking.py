"""Processes that need not import the archive: they are forked from one that has.

As a program it is that one: each message on the socket given by its argument names a module of
this folder, whose `main` a new process runs.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import traceback
from typing import NoReturn

MODULES = ("living_archive", "dicomwire.node.server", "dicomwire.node.importing.work", "psycopg")
"""What takes a second to import."""


class Origin:
    """The process that others are forked from: started for the first of them."""

    def __init__(self) -> None:
        self._control: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def fork(self, message: str, files: list[int]) -> None:
        """Have a process run `message` with these files; see `_serve`."""
        if self._control is None:
            self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            with theirs:
                self._process = subprocess.Popen(
                    [sys.executable, __file__, str(theirs.fileno())],
                    env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
                    pass_fds=[theirs.fileno()],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                )
        socket.send_fds(self._control, [message.encode()], files)

    def stop(self) -> None:
        """End it; those that were forked go on."""
        if self._control is not None and self._process is not None:
            self._control.close()
            self._process.wait()
            self._control = None


ORIGIN = Origin()


class Forked:
    """A process that runs `main` of a module of this folder; used like a `subprocess.Popen`.

    Parameters
    ----------
    module : str
        Its name.
    arguments : str
        Those of `main`.
    """

    def __init__(self, module: str, *arguments: str) -> None:
        pipes = [os.pipe() for _ in range(3)]
        (input_end, to_input), (from_output, output_end), (from_parent, parent_end) = pipes
        theirs = [input_end, output_end, parent_end]
        ORIGIN.fork(json.dumps([module, *arguments]), theirs)
        for file in theirs:
            os.close(file)
        self.stdin = os.fdopen(to_input, "w")
        self.stdout = os.fdopen(from_output)
        self._parent = os.fdopen(from_parent)
        self.pid = int(self._parent.readline())
        self._code: int | None = None

    def __enter__(self) -> Forked:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        self.communicate()

    def send_signal(self, number: int) -> None:
        """Send a signal; nothing happens if it has ended."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def kill(self) -> None:
        """End it at once."""
        self.send_signal(signal.SIGKILL)

    def wait(self, timeout: float) -> int:
        """Return its exit code, when it has ended."""
        if self._code is None:
            ready, _, _ = select.select([self._parent], [], [], timeout)
            assert ready, "the process does not end"
            self._code = int(self._parent.readline())
        return self._code

    def communicate(self) -> None:
        """Close its input, and wait until it and its workers have ended."""
        if self.stdout.closed:
            return
        with contextlib.suppress(BrokenPipeError):
            self.stdin.close()
        self.stdout.read()
        self.stdout.close()
        self.wait(60)
        self._parent.close()


def _serve(control: socket.socket) -> None:
    """Fork a process for each message, with the files that came with it; see `_run`."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the parents of those processes
    while True:
        message, files, _, _ = socket.recv_fds(control, 65536, 3)
        if not message:
            return
        if os.fork() == 0:
            control.close()
            _run(json.loads(message), *files)
        for file in files:
            os.close(file)


def _run(call: list[str], input_end: int, output_end: int, parent_end: int) -> NoReturn:
    """Fork again, and tell the process id and then the exit code by `parent_end`."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    process = os.fork()
    if process == 0:
        os.dup2(input_end, 0)
        os.dup2(output_end, 1)
        for file in (input_end, output_end, parent_end):
            os.close(file)
        os._exit(_code_of(*call))
    os.close(input_end)
    os.close(output_end)
    os.write(parent_end, f"{process}\n".encode())
    _, status = os.waitpid(process, 0)
    with contextlib.suppress(BrokenPipeError):
        os.write(parent_end, f"{os.waitstatus_to_exitcode(status)}\n".encode())
    os._exit(0)


def _code_of(module: str, *arguments: str) -> int:
    sys.stdin, sys.stdout = os.fdopen(0), os.fdopen(1, "w")
    try:
        importlib.import_module(module).main(*arguments)
        sys.stdout.flush()
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


if __name__ == "__main__":
    for name in MODULES:
        importlib.import_module(name)
    gc.freeze()  # the pages of what is imported stay shared
    _serve(socket.socket(fileno=int(sys.argv[1])))
