"""Ten thousand associations that do nothing, on one asyncio server, and a client beside them.

What they cost: memory for each, processor time, and what is left of the client's echo rate.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter

from benchmarks import competitors as who
from benchmarks.cells import Cell, Run, Sample, finish
from benchmarks.measure import (
    ENVIRONMENT,
    Process,
    RunFailedError,
    free_port,
    serving,
    stop,
    watch_for,
)

ECHOES = 5_000
IDLE_SECONDS = 10.0
CROWD = str(who.HERE / "programs" / "crowd.py")


def _memory(pid: int) -> int:
    """Return the resident memory of a process in bytes."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


@contextmanager
def _crowd(port: int, count: int) -> Iterator[None]:
    """Have `count` idle associations with the server on `port` as long as the block lasts."""
    process: Process = subprocess.Popen(
        [sys.executable, CROWD, str(port), str(count)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=ENVIRONMENT,
    )
    try:
        assert process.stdout is not None
        if process.stdout.readline().strip() != b"ready":
            raise RunFailedError("the idle associations could not all be had")
        yield
    finally:
        stop(process)


def _echo_beside(run: Run, count: int) -> Sample:
    port = free_port()
    with serving(run.fill(run.command, port, run.folder), port, run.log("server")) as server:
        before = _memory(server.pid)
        with _crowd(port, count):
            each = (_memory(server.pid) - before) / max(count, 1)
            used = server.processor()
            watch_for(server.process, IDLE_SECONDS)
            busy = (server.processor() - used) / IDLE_SECONDS
            began = perf_counter()
            echoes = run.fill((*who.ECHO_FEEDER,), port, run.folder)
            ended = finish(echoes, run.log("feeder"))
            note = f"{each / 1024:.1f} KiB an association, {busy:.2%} of a processor"
            return Sample(run.count, ended.at - began, server.peak(), note=note if count else None)


def crowd_cell(*, quick: bool) -> Cell:
    """Return the cell: an echo rate beside a crowd, and that of the same server without one."""
    count = 1_000 if quick else 10_000
    return Cell(
        "idle",
        f"{ECHOES:,} C-ECHOs beside {count:,} idle associations on one asyncio server",
        ECHOES,
        {"dicomwire": (*who.ASYNCIO_SERVER,), "dicomwire without a crowd": who.ASYNCIO_SERVER},
        lambda run: _echo_beside(run, 0 if run.name.endswith("without a crowd") else count),
    )
