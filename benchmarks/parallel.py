"""Many associations at the same time: what a server makes of all processors.

The sender is one process of the harness that takes as little of them as can be (programs/feed.py).
As many dcmsend processes take two to four times what the servers do, so that on a small machine all
servers would look alike.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks import competitors as who
from benchmarks.cells import Cell, Run, Sample, finish
from benchmarks.measure import RunFailedError, free_port, serving
from benchmarks.workload import CT, check_received

ASSOCIATIONS = 50
LOOK_EVERY = 0.25
"""Seconds between two looks at the memory of a server's processes, which is slow to be told."""


@contextmanager
def _watching_memory(server: int) -> Iterator[list[int]]:
    """Give a list with the most memory that a server's processes had during the block, in KiB."""
    most, done = [0], threading.Event()

    def look() -> None:
        while not done.wait(LOOK_EVERY):
            most[0] = max(most[0], sum(map(_memory, _family(server))))

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield most
    finally:
        done.set()
        thread.join()


def _family(pid: int) -> Iterator[int]:
    """Yield a process and its descendants."""
    yield pid
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except (FileNotFoundError, ProcessLookupError):
        return
    for child in children:
        yield from _family(int(child))


def _memory(pid: int) -> int:
    """Return the memory of a process in KiB, with its share of what it has with others."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))


def _store(run: Run, *, kept: bool) -> Sample:
    port, received, log = free_port(), run.received(), run.log("feeder")
    with (
        serving(run.fill(run.command, port, received), port, run.log("server")) as server,
        _watching_memory(server.pid) as most,
    ):
        finish([*run.fill(who.CROWD_FEEDER, port, run.sent), str(ASSOCIATIONS)], log)
    if kept and (fault := check_received(received, run.sent, run.count)):
        raise RunFailedError(fault)
    return Sample(run.count, float(log.read_text()), most[0])


def parallel_cells(*, quick: bool) -> list[Cell]:
    """Return the cells: a server that keeps what comes, and one that discards it."""
    count = ASSOCIATIONS * (10 if quick else 100)
    title = f"{count:,} x {CT.name} over {ASSOCIATIONS} associations at once to a server that"
    return [
        Cell(
            "scp-parallel-store",
            f"{title} keeps them",
            count,
            who.STORING_FOR_MANY,
            lambda run: _store(run, kept=True),
            CT,
        ),
        Cell(
            "scp-parallel-ignore",
            f"{title} discards them",
            count,
            who.DISCARDING_FOR_MANY,
            lambda run: _store(run, kept=False),
            CT,
        ),
    ]
