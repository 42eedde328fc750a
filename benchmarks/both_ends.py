"""Both ends of one family: our client to our server, beside DCMTK's pair and the floor.

A run is the client's whole command, from its start to its end; the server is there before. The
floor (programs/floor.py) is what plain CPython can do: what is lost to it, our library costs.
"""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter

from benchmarks import competitors as who
from benchmarks.cells import Cell, Run, Sample, finish
from benchmarks.measure import RunFailedError, free_port, serving
from benchmarks.workload import CT, MULTI_FRAME, SMALL, Workload, check_received

SMALL_WINDOW = 32
LARGE_WINDOW = 4
STARTS = 20


def _store(clients: who.Commands) -> Callable[[Run], Sample]:
    def run_once(run: Run) -> Sample:
        port, received = free_port(), run.received()
        client = clients[run.name]
        with serving(run.fill(run.command, port, received), port, run.log("server")) as server:
            began = perf_counter()
            ended = finish(run.fill(client, port, run.sent), run.log("client"))
            peak = max(server.peak(), ended.peak)
            processor = server.processor() + ended.processor
        if fault := check_received(received, run.sent, run.count):
            raise RunFailedError(fault)
        return Sample(run.count, ended.at - began, peak, processor=processor)

    return run_once


def _cell(workload: Workload, count: int, window: int = 1) -> Cell:
    suffix = f"-window-{window}" if window > 1 else ""
    how = f"{window} outstanding" if window > 1 else "one at a time"
    clients = who.sending_with_window(window) if window > 1 else who.SENDING_TO_OWN
    return Cell(
        f"both-{workload.name}{suffix}",
        f"{count:,} x {workload.name}, {how}, both ends of one family, whole commands",
        count,
        who.STORING_FROM_OWN,
        _store(clients),
        workload,
    )


def _start(run: Run) -> Sample:
    port = free_port()
    with serving(run.fill(who.RECEIVER, port, run.folder), port, run.log("receiver")):
        began, processor = perf_counter(), 0.0
        for _ in range(run.count):
            ended = finish(run.fill(run.command, port, run.folder), run.log("client"))
            processor += ended.processor
        return Sample(run.count, ended.at - began, ended.peak, processor=processor)


def both_ends_cells(*, quick: bool) -> list[Cell]:
    """Return the cells, and the one of how long a command takes to start."""
    part = 10 if quick else 1
    return [
        _cell(SMALL, 20_000 // part),
        _cell(SMALL, 20_000 // part, SMALL_WINDOW),
        _cell(CT, 2_000 // part),
        _cell(CT, 2_000 // part, LARGE_WINDOW),
        _cell(MULTI_FRAME, 1 if quick else 5),
        Cell(
            "start-echoscu",
            f"{STARTS} echoscu commands in a row (the floor: a bare Python process)",
            STARTS,
            who.STARTING,
            _start,
        ),
    ]
