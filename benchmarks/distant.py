"""Sending over a link with a long way: what waiting for each response costs, and what helps.

The link is a process between client and server that delays every byte (programs/delay.py). In each
run it is checked before and after: an association through it has to take its round trip, and not
much more. The server is ours for all. The clock runs from the client's first connection to the end
of its last, as the link sees them: what the client did before is in the time of its command.
"""

from __future__ import annotations

import socket
from time import perf_counter

from benchmarks import competitors as who
from benchmarks.cells import Cell, Run, Sample, finish
from benchmarks.measure import HOST, RunFailedError, free_port, serving
from benchmarks.programs import knock
from benchmarks.workload import CT, SMALL, Workload

ONE_WAY = 0.025
"""Seconds; the round trip is 50 ms."""
_TOLERANCE = 0.015
"""Seconds that a round trip, with the server's answer, may take beyond that."""
_TRIES = 5
_LARGEST_WINDOW = 32


def store_at_a_distance(run: Run) -> Sample:
    port, far = free_port(), free_port()
    server = (*who.DISCARDING["dicomwire"], "--window", str(_LARGEST_WINDOW))
    link = [*who.LINK, str(far), str(port), str(ONE_WAY)]
    with (
        serving(run.fill(server, port, run.folder), port, run.log("server")),
        serving(link, far, run.log("link")),
    ):
        _check(far)
        began = perf_counter()
        ended = finish(run.fill(run.command, far, run.sent), run.log("client"))
        _check(far)
        carried = [each for each in _carried(run) if began <= each[0] <= ended.at]
    seconds = max(end for _, end in carried) - min(begin for begin, _ in carried)
    return Sample(run.count, seconds, ended.peak, ended.at - began)


def _check(port: int) -> None:
    """Fail if a round trip does not take as long as it should, the best of a few."""
    times = []
    for _ in range(_TRIES):
        with (
            socket.create_connection((HOST, port)) as connection,
            connection.makefile("rb") as stream,
        ):
            began = perf_counter()
            connection.sendall(knock.ASSOCIATE_RQ)
            knock.expect(stream, knock.ASSOCIATE_AC)
            times.append(perf_counter() - began)
            connection.sendall(knock.RELEASE_RQ)
            knock.expect(stream, knock.RELEASE_RP)
    if not 2 * ONE_WAY <= min(times) <= 2 * ONE_WAY + _TOLERANCE:
        raise RunFailedError(f"the link's round trip takes {min(times):.4f} s")


def _carried(run: Run) -> list[tuple[float, float]]:
    """Return the connections that are over: their begin and end."""
    lines = run.log("link").read_text().splitlines()
    return [(float(begin), float(end)) for begin, end in map(str.split, lines)]


def _cells(workload: Workload, count: int) -> list[Cell]:
    ours = who.SENDING["dicomwire"]
    theirs = {name: who.SENDING[name] for name in ("DCMTK storescu", "DCMTK dcmsend")}
    alone = {"dicomwire, one at a time": ours}
    windows = {
        "dicomwire": (*ours, "--window", "32"),
        "dicomwire --window 8": (*ours, "--window", "8"),
    }
    parallel = {
        "dicomwire": (*ours, "--parallel", "8"),
        "dicomwire --parallel 8 --window 8": (*ours, "--parallel", "8", "--window", "8"),
    }
    return [
        Cell(
            f"distant-{name}-{workload.name}",
            f"{count:,} x {workload.name} over a link with a round trip of 50 ms, {option}",
            count,
            competitors | alone | theirs,
            store_at_a_distance,
            workload,
        )
        for name, option, competitors in (
            ("window", "--window 32", windows),
            ("parallel", "--parallel 8", parallel),
        )
    ]


def distant_cells(*, quick: bool) -> list[Cell]:
    """Return the cells of a distant server: few objects, since each takes its time."""
    return [*_cells(SMALL, 100 if quick else 500), *_cells(CT, 20 if quick else 100)]
