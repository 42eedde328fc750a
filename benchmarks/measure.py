"""Processes under measurement: started, awaited, watched, and stopped by their own id.

Nothing here knows DICOM, or what is compared with what.
"""

from __future__ import annotations

import os
import select
import socket
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

HOST = "127.0.0.1"
START_LIMIT = 60.0
"""Seconds for a server to listen, or for a client to connect."""
RUN_LIMIT = 900.0
"""Seconds for one run."""
STOP_LIMIT = 15.0
"""Seconds for a server to leave when it is asked to."""
LOOK_EVERY = 0.05
"""Seconds between two looks at a process's peak memory."""
LOOK_AT_ALL_EVERY = 0.25
"""Seconds between two looks at the memory of a server's processes, which is slow to be told."""

MIB = 1024 * 1024

ENVIRONMENT = {**os.environ, "TCP_NODELAY": "1"}
"""DCMTK leaves Nagle's algorithm on unless told, and then waits for delayed acknowledgements."""
ENVIRONMENT.pop("PYTHONDONTWRITEBYTECODE", None)  # installed programs are compiled once

Process = subprocess.Popen[bytes]


class RunFailedError(Exception):
    """A run that did not do its work; the message says what was seen."""


class NotInstalledError(RunFailedError):
    """A run that cannot be done here, because something is not installed."""


@dataclass(frozen=True, slots=True)
class Ended:
    """How a watched process ended: when, and with what code.

    `peak` is its peak resident memory in KiB, `processor` its processor time in seconds.
    """

    at: float
    code: int
    peak: int
    processor: float


class Server:
    """A server that runs; `processor` counts from where it was made."""

    def __init__(self, process: Process) -> None:
        self.process = process
        self.pid = process.pid
        self._before = processor_time(process.pid)

    def peak(self) -> int:
        """Return its peak resident memory so far in KiB."""
        return peak_memory(self.pid)

    def processor(self) -> float:
        """Return the seconds of processor time that it and its children took."""
        return processor_time(self.pid) - self._before


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.create_server((HOST, 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def peak_memory(pid: int) -> int:
    """Return the peak resident memory of a process so far in KiB, 0 if it is gone."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    lines = (line.split() for line in status.splitlines())
    return next((int(line[1]) for line in lines if line[0] == "VmHWM:"), 0)


def family(pid: int) -> Iterator[int]:
    """Yield a process and its descendants."""
    yield pid
    with suppress(FileNotFoundError, ProcessLookupError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                yield from family(int(child))


def processor_time(pid: int) -> float:
    """Return the seconds of processor time of a process and its descendants, ended ones too."""
    ticks = 0
    for each in family(pid):
        with suppress(FileNotFoundError, ProcessLookupError):
            fields = Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split()
            ticks += sum(map(int, fields[11:15]))
    return ticks / os.sysconf("SC_CLK_TCK")


@contextmanager
def watching_memory(server: int) -> Iterator[list[int]]:
    """Give a list with the most memory that a server's processes had during the block, in KiB."""
    most, done = [0], threading.Event()

    def look() -> None:
        while not done.wait(LOOK_AT_ALL_EVERY):
            most[0] = max(most[0], sum(map(_memory, family(server))))

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield most
    finally:
        done.set()
        thread.join()


def _memory(pid: int) -> int:
    """Return the memory of a process in KiB, with its share of what it has with others."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))


def warm_memory(folder: Path, size: int) -> None:
    """Write a file of `size` bytes and delete it.

    A virtual machine gives idle memory back to its host, and gets it again at a quarter of the
    speed: without this, whoever runs first pays for all.
    """
    block = bytes(MIB)
    path = folder / "warm"
    with path.open("wb", buffering=0) as file:
        for _ in range(size // MIB):
            file.write(block)
    path.unlink()


def start(argv: Sequence[str], log: Path, stdin: int = subprocess.DEVNULL) -> Process:
    """Start a process in its log's folder, with all that it prints going to `log`."""
    with log.open("wb") as output:
        return subprocess.Popen(
            argv, stdin=stdin, stdout=output, stderr=output, cwd=log.parent, env=ENVIRONMENT
        )


def stop(process: Process) -> None:
    """Ask a process to leave, and make it if it does not."""
    process.terminate()
    try:
        process.wait(STOP_LIMIT)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def watch(*processes: Process) -> list[Ended]:
    """Wait until all have ended, looking at their memory meanwhile."""
    deadline = perf_counter() + RUN_LIMIT
    running = {os.pidfd_open(process.pid): process for process in processes}
    ended: dict[int, float] = {}
    peaks = {process.pid: 0 for process in processes}
    try:
        while running:
            ready, _, _ = select.select(list(running), [], [], LOOK_EVERY)
            now = perf_counter()
            for pidfd in ready:
                os.close(pidfd)
                ended[running.pop(pidfd).pid] = now
            for process in running.values():
                peaks[process.pid] = max(peaks[process.pid], peak_memory(process.pid))
            if now > deadline:
                raise RunFailedError(f"not done after {RUN_LIMIT:.0f} s")
    finally:
        for pidfd, process in running.items():
            os.close(pidfd)
            process.kill()
    return [_ended(process, ended[process.pid], peaks[process.pid]) for process in processes]


def _ended(process: Process, at: float, peak: int) -> Ended:
    """Take the exit code and the processor time of a process that has ended."""
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return Ended(at, process.returncode, peak, used.ru_utime + used.ru_stime)


def watch_for(process: Process, seconds: float) -> None:
    """Let a process run for so long; it must not end meanwhile."""
    pidfd = os.pidfd_open(process.pid)
    try:
        if select.select([pidfd], [], [], seconds)[0]:
            raise RunFailedError("it ended before its time")
    finally:
        os.close(pidfd)


@contextmanager
def serving(argv: Sequence[str], port: int, log: Path) -> Iterator[Server]:
    """Run a server for as long as the block lasts; it listens on `port` when the block begins."""
    process = start(argv, log)
    try:
        _wait_for_listener(process, port, log)
        yield Server(process)
    finally:
        stop(process)


def _wait_for_listener(process: Process, port: int, log: Path) -> None:
    deadline = perf_counter() + START_LIMIT
    pidfd = os.pidfd_open(process.pid)
    try:
        while perf_counter() < deadline:
            try:
                socket.create_connection((HOST, port), timeout=START_LIMIT).close()
                return
            except ConnectionRefusedError:
                if select.select([pidfd], [], [], LOOK_EVERY)[0]:
                    break
    finally:
        os.close(pidfd)
    raise RunFailedError(f"the server did not listen: {tail(log)}")


def tail(log: Path) -> str:
    """Return the last line of a log, for a message."""
    lines = log.read_text(errors="replace").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "it printed nothing")
