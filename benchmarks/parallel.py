"""Many associations at the same time: what a server makes of all processors.

The sender is one process of the harness that takes as little of them as can be (programs/feed.py).
As many dcmsend processes take two to four times what the servers do, so that on a small machine all
servers would look alike.
"""

from __future__ import annotations

from benchmarks import competitors as who
from benchmarks.cells import Cell, Run, Sample, finish
from benchmarks.measure import RunFailedError, free_port, serving, watching_memory
from benchmarks.workload import CT, check_received

ASSOCIATIONS = 50


def _store(run: Run, *, kept: bool) -> Sample:
    port, received, log = free_port(), run.received(), run.log("feeder")
    with (
        serving(run.fill(run.command, port, received), port, run.log("server")) as server,
        watching_memory(server.pid) as most,
    ):
        finish([*run.fill(who.CROWD_FEEDER, port, run.sent), str(ASSOCIATIONS)], log)
        processor = server.processor()
    if kept and (fault := check_received(received, run.sent, run.count)):
        raise RunFailedError(fault)
    return Sample(run.count, float(log.read_text()), most[0], processor=processor)


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
