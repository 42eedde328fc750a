"""Processes that decode and encode pixels: a peer's image can end them, and not the node.

Codecs are native code that is fed with what anybody stored. Each process has a ceiling of memory
and each task an end in time; whatever a codec does beyond is the failure of that task alone. How an
object is converted is in `transcode`.
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
"""The most that run at a time, so that a few retrievals do not take all cores and memory."""
MEMORY = 4 * 2**30
"""Bytes of address space of a process: four times the pixel data that is decoded at the most
(`transcode.LARGEST`), which is there compressed, decoded, as an array and encoded."""
TASK_TIMEOUT = 120.0
"""Seconds for one object: pixel data of 1 GiB in JPEG 2000 takes about one minute."""

_Process = subprocess.Popen[bytes]


class Converters:
    """A few processes for the tasks of all associations, each started when it is needed.

    From any thread. A process is used again until it dies, or a task of its takes too long.

    Parameters
    ----------
    make_file : callable
        Returns a new, empty file for a converted object, which is removed after use.
    timeout : float
        Seconds that a task may take, and before that wait for a process.
    memory : int
        Bytes of address space of each process; where the system has no such limit, none.
    """

    def __init__(
        self, make_file: Callable[[], Path], timeout: float = TASK_TIMEOUT, memory: int = MEMORY
    ) -> None:
        self._make_file = make_file
        self._timeout = timeout
        self._memory = memory
        self._places = threading.BoundedSemaphore(PROCESSES)
        self._lock = threading.Lock()  # for the three below
        self._idle: list[_Process] = []
        self._busy: set[_Process] = set()
        self._is_closed = False

    def close(self) -> None:
        """End all processes; tasks that are under way, and later ones, fail."""
        with self._lock:
            self._is_closed = True
            idle, self._idle = self._idle, []
            for process in self._busy:
                process.kill()  # whoever waits for it reads the end of its output, and reaps it
        for process in idle:
            _end(process)

    @contextlib.contextmanager
    def converted(self, path: Path, target: str) -> Iterator[Path]:
        """Give a file with the object of another one in the transfer syntax `target`.

        Raises
        ------
        CannotTranscode
            When that is not possible; the text says why, without values of the object.
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
        """Return a digest of the decoded samples of a DICOM file; raises as `converted`."""
        return self._ask("digest", path)

    def _ask(self, *task: object) -> str:
        if not self._places.acquire(timeout=self._timeout):
            raise CannotTranscode("all converters are busy")
        try:
            process = self._take()
            try:
                return self._answer(process, json.dumps([str(part) for part in task]).encode())
            finally:
                self._give_back(process)
        finally:
            self._places.release()

    def _take(self) -> _Process:
        """Return a process that is idle, or a new one."""
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
                stderr=subprocess.DEVNULL,  # codecs print what they make of a peer's bytes
                env={
                    **os.environ,
                    "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
                    # A pool of threads takes address space for each core of the machine.
                    "OPENBLAS_NUM_THREADS": "1",
                    "OMP_NUM_THREADS": "1",
                },
            )
        except OSError as error:
            raise CannotTranscode(f"no converter can be started: {error.strerror}") from None

    def _answer(self, process: _Process, task: bytes) -> str:
        """Have a task done; a process that fails to answer is dead when this raises."""
        assert process.stdin is not None
        assert process.stdout is not None
        ending = time.monotonic() + self._timeout
        watchdog = threading.Timer(self._timeout, process.kill)
        watchdog.start()
        try:
            process.stdin.write(task + b"\n")
            process.stdin.flush()
            line = process.stdout.readline()  # which ends with an answer, or with the process
            answer: dict[str, str] = json.loads(line)
        except (OSError, ValueError):
            process.kill()
            code = process.wait()
            if time.monotonic() >= ending:
                reason = f"takes more than {self._timeout:g} seconds"
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
    """Kill a process, if it lives, and release what it takes."""
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout):
        assert pipe is not None
        with contextlib.suppress(OSError):  # what was never written to it
            pipe.close()


# --- In the process ---------------------------------------------------------------------------


def main() -> None:
    """Do one task after the other, until there are no more; each is a line of JSON."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the node, which ends this
    _limit(int(sys.argv[1]))
    # What a codec prints must not get between the answers.
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
    """Bound the address space, and leave no core file, which would hold a patient's image."""
    try:
        import resource
    except ImportError:  # Windows
        return
    for limit, wanted in ((resource.RLIMIT_AS, memory), (resource.RLIMIT_CORE, 0)):
        _, most = resource.getrlimit(limit)
        bound = wanted if most == resource.RLIM_INFINITY else min(wanted, most)
        with contextlib.suppress(OSError, ValueError):  # macOS refuses the former
            resource.setrlimit(limit, (bound, bound))


if __name__ == "__main__":
    main()
