"""Processes that work with pixels, so that a peer's image cannot crash the node.

Codecs are native code, and their input comes from peers. Each process has a limit of memory and
each task a limit of time; when a codec exceeds one, only that task fails. A module that does such
tasks calls `serve` when it is run as a program; `Processes` starts it, and asks it.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import IO, Any

_Process = subprocess.Popen[bytes]
_PIPE = 2**20
"""In bytes, how much of a task or an answer a pipe may hold, where the system lets us say so: the
frame of a CT is passed on with one change of processes instead of eight."""
_F_SETPIPE_SZ = 1031
"""The number of Linux's command for that; the module `fcntl` has its name on Linux only."""


class TaskFailed(Exception):
    """A task failed; the text says why, without values of the object."""


class Processes:
    """A few processes for the tasks of all threads, each started when it is needed.

    Safe to use from any thread. A process serves further tasks until it dies, or one of its tasks
    takes too long.

    Parameters
    ----------
    module : str
        The name of the module that does the tasks.
    name : str
        What a process is, and what its tasks are, for texts: "converter", "conversion".
    most : int
        The most processes at a time.
    timeout : float
        Seconds that a task may take; also the longest wait for a free process before that.
    memory : int
        Limit of each process's address space in bytes, where the system has such a limit.
    """

    def __init__(
        self, module: str, name: tuple[str, str], most: int, timeout: float, memory: int
    ) -> None:
        self._module = module
        self._name, self._work = name
        self._timeout = timeout
        self._memory = memory
        # The finished task of another thread wakes a thread that waits for a free process.
        self._free = threading.BoundedSemaphore(most)
        self._lock = threading.Lock()  # guards _idle, _busy and _is_closed; taken after _free
        self._idle: list[_Process] = []
        self._busy: set[_Process] = set()
        self._is_closed = False

    def close(self) -> None:
        """End all processes; running and later tasks fail."""
        with self._lock:
            self._is_closed = True
            idle, self._idle = self._idle, []
            for process in self._busy:
                # The thread that waits for its answer reads the end of its output, and reaps it.
                process.kill()
        for process in idle:
            _end(process)

    def ask(self, task: Any, data: bytes = b"") -> tuple[Any, bytes]:
        """Have a task done; return its answer.

        Parameters
        ----------
        task : object
            What JSON can hold.
        data : bytes, optional

        Raises
        ------
        TaskFailed
        """
        if not self._free.acquire(timeout=self._timeout):
            raise TaskFailed(f"all {self._name}s are busy")
        try:
            process = self._take()
            try:
                return self._answer(process, task, data)
            finally:
                self._give_back(process)
        finally:
            self._free.release()

    def _take(self) -> _Process:
        """Return an idle process, or a new one."""
        with self._lock:
            if self._is_closed:
                raise TaskFailed("the node is being stopped")
            while self._idle:
                process = self._idle.pop()
                if process.poll() is None:
                    break
                _end(process)
            else:
                process = self._start()
            self._busy.add(process)
        return process

    def _give_back(self, process: _Process) -> None:
        with self._lock:
            self._busy.discard(process)
            is_usable = not self._is_closed and process.poll() is None
            if is_usable:
                self._idle.append(process)
        if not is_usable:
            _end(process)

    def _start(self) -> _Process:
        try:
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", self._module, str(self._memory)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,  # codecs may print values of a peer's object
                env={
                    **os.environ,
                    "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
                    # Their thread pools would take address space for each core of the machine.
                    "OPENBLAS_NUM_THREADS": "1",
                    "OMP_NUM_THREADS": "1",
                },
            )
        except OSError as error:
            raise TaskFailed(f"a {self._name} cannot be started: {error.strerror}") from None
        for pipe in (process.stdin, process.stdout):
            assert pipe is not None
            _enlarge(pipe)
        return process

    def _answer(self, process: _Process, task: Any, data: bytes) -> tuple[Any, bytes]:
        """Return the answer to a task; if the process gives none, it is dead when this raises."""
        assert process.stdin is not None
        assert process.stdout is not None
        ending = time.monotonic() + self._timeout
        watchdog = threading.Timer(self._timeout, process.kill)
        watchdog.start()
        try:
            _write(process.stdin, task, data)
            answer, result = _read(process.stdout)  # returns with the answer, or when it ends
        except (OSError, ValueError):
            process.kill()
            code = process.wait()
            if time.monotonic() >= ending:
                reason = f"its {self._work} takes more than {self._timeout:g} seconds"
            else:
                reason = f"its {self._work} ended with {_exit(code)}"
            raise TaskFailed(reason) from None
        finally:
            watchdog.cancel()
            watchdog.join()
        if "error" in answer:
            raise TaskFailed(answer["error"])
        return answer["value"], result


def _exit(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"


def _end(process: _Process) -> None:
    """Kill a process if it is alive, reap it, and close its pipes."""
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout):
        assert pipe is not None
        with contextlib.suppress(OSError):  # closing flushes a task that it never read
            pipe.close()


def _enlarge(pipe: IO[bytes]) -> None:
    try:
        import fcntl
    except ImportError:  # Windows
        return
    if sys.platform == "linux":
        with contextlib.suppress(OSError):  # a user may have enlarged too many already
            fcntl.fcntl(pipe.fileno(), _F_SETPIPE_SZ, _PIPE)


# --- Messages: a line of JSON with the number of bytes after it, and these --------------------


def _write(pipe: IO[bytes], value: Any, data: bytes) -> None:
    pipe.write(json.dumps([value, len(data)]).encode() + b"\n")
    pipe.write(data)
    pipe.flush()


def _read(pipe: IO[bytes]) -> tuple[Any, bytes]:
    """Return a message; ValueError if the pipe ends before its end."""
    value, size = json.loads(pipe.readline())
    data = pipe.read(size) if size else b""
    if len(data) != size:
        raise ValueError("the message is not complete")
    return value, data


# --- In the process ---------------------------------------------------------------------------


def serve(done: Callable[[Any, bytes], tuple[Any, bytes]]) -> None:
    """Do the tasks that come by standard input, until it is closed.

    Parameters
    ----------
    done : callable
        Does a task, and returns its answer; it raises TaskFailed, or a subclass.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the node, which ends this
    _limit(int(sys.argv[1]))
    # Keep text that a codec prints out of the answers.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    while True:
        try:
            task, data = _read(sys.stdin.buffer)
        except ValueError:  # it was closed
            return
        try:
            value, result = done(task, data)
        except TaskFailed as error:
            _write(answers, {"error": str(error)}, b"")
        else:
            _write(answers, {"value": value}, result)


def _limit(memory: int) -> None:
    """Limit the address space; forbid core files, which could contain a patient's image."""
    try:
        import resource
    except ImportError:  # Windows
        return
    for limit, wanted in ((resource.RLIMIT_AS, memory), (resource.RLIMIT_CORE, 0)):
        _, most = resource.getrlimit(limit)
        bound = wanted if most == resource.RLIM_INFINITY else min(wanted, most)
        with contextlib.suppress(OSError, ValueError):  # macOS refuses RLIMIT_AS
            resource.setrlimit(limit, (bound, bound))
