"""Many associations at the same time: what a server, or a client, makes of all processors.

The server of the client is DCMTK's, which takes the least of them. The sender to the servers is one
process of the harness that takes as little of them as can be (programs/feed.py): as many dcmsend
processes take two to four times what the servers do, so that on a small machine all servers would
look alike.
"""

from __future__ import annotations

from time import perf_counter

from benchmarks import competitors as who
from benchmarks.cells import Cell, Run, Sample, finish
from benchmarks.measure import RunFailedError, free_port, serving, watching_memory
from benchmarks.workload import CT, SMALL, check_received

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


def _send(run: Run) -> Sample:
    port, server = free_port(), who.DISCARDING_FOR_MANY["DCMTK storescp --fork --ignore"]
    with serving(run.fill(server, port, run.folder), port, run.log("server")):
        began = perf_counter()
        ended = finish(run.fill(run.command, port, run.sent), run.log("client"))
    return Sample(run.count, ended.at - began, ended.peak, processor=ended.processor)


def parallel_cells(*, quick: bool) -> list[Cell]:
    """Return the cells: a server that keeps what comes, one that discards it, and a client."""
    small = 2_000 if quick else 20_000
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
        Cell(
            "scu-parallel-small",
            f"{small:,} x {SMALL.name}, whole commands, with --parallel 4 to a server that forks",
            small,
            who.SENDING_IN_PARALLEL,
            _send,
            SMALL,
        ),
    ]
