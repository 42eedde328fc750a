"""Processes that decode and encode pixels, so that a peer's image cannot crash the node.

Codecs are native code, and their input comes from peers. Each process has a limit of memory and
each task a limit of time; when a codec exceeds one, only that task fails. `transcode` does the
conversion itself.
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
from collections.abc import Callable, Iterator
from pathlib import Path

from dicomwire.node.transcode import CannotTranscode, pixel_digest, write_transcoded

PROCESSES = 2
"""The most processes at a time, so that a few retrievals do not take all cores and memory."""
MEMORY = 4 * 2**30
"""The address space of a process in bytes: room for four copies of the largest pixel data
(`transcode.LARGEST`), which is in memory compressed, decoded, as an array and encoded."""
TASK_TIMEOUT = 120.0
"""Seconds for one object: twice the minute that 1 GiB of pixel data takes in JPEG 2000."""

_Process = subprocess.Popen[bytes]


class Converters:
    """A few processes for the tasks of all associations, each started when it is needed.

    Safe to use from any thread. A process serves further tasks until it dies, or one of its tasks
    takes too long.

    Parameters
    ----------
    make_file : callable
        Returns a new, empty file for a converted object, which is removed after use.
    timeout : float
        Seconds that a task may take; also the longest wait for a free process before that.
    memory : int
        Limit of each process's address space in bytes, where the system has such a limit.
    """

    def __init__(
        self, make_file: Callable[[], Path], timeout: float = TASK_TIMEOUT, memory: int = MEMORY
    ) -> None:
        self._make_file = make_file
        self._timeout = timeout
        self._memory = memory
        # The finished task of another thread wakes a thread that waits for a free process.
        self._free = threading.BoundedSemaphore(PROCESSES)
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

    @contextlib.contextmanager
    def converted(self, path: Path, target: str) -> Iterator[Path]:
        """Yield a file with the object of `path`, converted to the transfer syntax `target`.

        Raises
        ------
        CannotTranscode
            When it cannot be converted; the text says why, without values of the object.
        """
        try:
            output = self._make_file()
        except OSError as error:
            raise CannotTranscode(f"cannot be written: {error.strerror}") from None
        try:
            self._ask("convert", path, target, output)
            yield output
        finally:
            output.unlink(missing_ok=True)

    def pixel_digest(self, path: Path) -> str:
        """Return a digest of the decoded samples of a DICOM file; raises like `converted`."""
        return self._ask("digest", path)

    def _ask(self, *task: object) -> str:
        if not self._free.acquire(timeout=self._timeout):
            raise CannotTranscode("all converters are busy")
        try:
            process = self._take()
            try:
                return self._answer(process, json.dumps([str(part) for part in task]).encode())
            finally:
                self._give_back(process)
        finally:
            self._free.release()

    def _take(self) -> _Process:
        """Return an idle process, or a new one."""
        with self._lock:
            if self._is_closed:
                raise CannotTranscode("the node is being stopped")
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
            return subprocess.Popen(
                [sys.executable, "-P", "-m", __name__, str(self._memory)],
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
            raise CannotTranscode(f"a converter cannot be started: {error.strerror}") from None

    def _answer(self, process: _Process, task: bytes) -> str:
        """Return the answer to a task; if the process gives none, it is dead when this raises."""
        assert process.stdin is not None
        assert process.stdout is not None
        ending = time.monotonic() + self._timeout
        watchdog = threading.Timer(self._timeout, process.kill)
        watchdog.start()
        try:
            process.stdin.write(task + b"\n")
            process.stdin.flush()
            line = process.stdout.readline()  # returns with the answer, or when the process ends
            answer: dict[str, str] = json.loads(line)
        except (OSError, ValueError):
            process.kill()
            code = process.wait()
            if time.monotonic() >= ending:
                reason = f"its conversion takes more than {self._timeout:g} seconds"
            else:
                reason = f"its conversion ended with {_exit(code)}"
            raise CannotTranscode(reason) from None
        finally:
            watchdog.cancel()
            watchdog.join()
        if "error" in answer:
            raise CannotTranscode(answer["error"])
        return answer["value"]


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


# --- In the process ---------------------------------------------------------------------------


def main() -> None:
    """Do the tasks that come by standard input, each a line of JSON, until it is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the node, which ends this
    _limit(int(sys.argv[1]))
    # Keep text that a codec prints out of the answers.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    for line in sys.stdin.buffer:
        answers.write(json.dumps(_done(*json.loads(line))).encode() + b"\n")
        answers.flush()


def _done(task: str, path: str, *arguments: str) -> dict[str, str]:
    try:
        if task == "digest":
            return {"value": pixel_digest(Path(path))}
        target, output = arguments
        write_transcoded(Path(path), target, Path(output))
    except CannotTranscode as error:
        return {"error": str(error)}
    return {"value": ""}


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


if __name__ == "__main__":
    main()
