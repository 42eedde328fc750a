"""What is measured: the table of cells, and the ways of timing a run.

The clock stands at the end that is the same for all, and does not see a competitor start:

- a server is fed by dcmsend, whose log says when its first object left and its last one was
  answered; echoscu is timed as a command, and associations by the script that makes them;
- a client is let in at a gate, which hands its connection to a fresh storescp: the clock runs
  from there until that storescp has ended. What the client did before it connected (starting,
  reading its files' headers) is in the time of the whole command, which is reported beside it;
- a query is timed as the client's command, from its start to its end.

Only clients that associate again and again time themselves.
"""

from __future__ import annotations

import re
import shutil
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter

from benchmarks import competitors as who
from benchmarks.measure import (
    HOST,
    START_LIMIT,
    Ended,
    RunFailedError,
    free_port,
    serving,
    start,
    stop,
    tail,
    watch,
)
from benchmarks.workload import CT, MULTI_FRAME, SMALL, Workload, check_received

FEEDER_LOG = re.compile(
    r"^(?P<first>[\d.]+) sending SOP instances.*"
    r"^(?P<last>[\d.]+) Status Summary.*with status SUCCESS\s*: (?P<count>\d+)",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class Sample:
    """One run of one competitor: objects a second, and peak memory in KiB.

    `processor` is its processor time in seconds: of a client's whole command, of a server while
    it served. `command_rate` counts the whole command of a client, from its start to its end.
    `note` is what else was seen, `figures` are medians that were taken meanwhile.
    """

    count: int
    seconds: float
    peak: int
    command_seconds: float | None = None
    note: str | None = None
    processor: float | None = None
    figures: Mapping[str, float] = field(default_factory=dict)

    @property
    def rate(self) -> float:
        return self.count / self.seconds

    @property
    def command_rate(self) -> float | None:
        return self.count / self.command_seconds if self.command_seconds else None


@dataclass(frozen=True, slots=True)
class Cell:
    """One row of comparisons: what is counted, who takes part, and how a run is timed."""

    name: str
    title: str
    count: int
    competitors: who.Commands
    run: Callable[[Run], Sample]
    workload: Workload | None = None
    check: Callable[[Run], None] | None = None

    @property
    def size(self) -> int:
        """Bytes of pixel data that a run moves, at most."""
        return self.count * self.workload.pixel_bytes if self.workload else 0


@dataclass(frozen=True, slots=True)
class Run:
    """One competitor's turn: its command, how many objects, and an empty folder to work in."""

    name: str
    command: who.Command
    count: int
    folder: Path
    pdu: int
    objects: Path | None = None

    @property
    def sent(self) -> Path:
        """Where the objects to send are."""
        assert self.objects is not None
        return self.objects

    def fill(self, command: who.Command, port: int, folder: Path) -> list[str]:
        """Return a command line with its blanks filled in."""
        values = {"port": port, "pdu": self.pdu, "count": self.count, "folder": folder}
        return [word.format_map(values) for word in command]

    def log(self, name: str) -> Path:
        return self.folder / f"{name}.log"

    def received(self) -> Path:
        """Return the folder for received objects, emptied."""
        folder = self.folder / "received"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        return folder


def finish(command: list[str], log: Path) -> Ended:
    """Run a command to its end; it has to succeed."""
    (ended,) = watch(start(command, log))
    _expect_success(ended, log)
    return ended


def _expect_success(ended: Ended, log: Path) -> None:
    if ended.code != 0:
        raise RunFailedError(f"{log.stem} ended with {ended.code}: {tail(log)}")


def _store_to_server(run: Run, *, kept: bool) -> Sample:
    port, received, log = free_port(), run.received(), run.log("feeder")
    with serving(run.fill(run.command, port, received), port, run.log("server")) as server:
        finish(run.fill(who.FEEDER, port, run.sent), log)
        peak, processor = server.peak(), server.processor()
    times = FEEDER_LOG.search(log.read_text())
    if times is None or int(times["count"]) != run.count:
        raise RunFailedError(f"not all were stored: {tail(log)}")
    if kept and (fault := check_received(received, run.sent, run.count)):
        raise RunFailedError(fault)
    return Sample(
        run.count, float(times["last"]) - float(times["first"]), peak, processor=processor
    )


def store_to_keeping_server(run: Run) -> Sample:
    return _store_to_server(run, kept=True)


def store_to_discarding_server(run: Run) -> Sample:
    return _store_to_server(run, kept=False)


def echo_to_server(run: Run) -> Sample:
    port = free_port()
    with serving(run.fill(run.command, port, run.folder), port, run.log("server")) as server:
        began = perf_counter()
        ended = finish(run.fill(who.ECHO_FEEDER, port, run.folder), run.log("feeder"))
        seconds = ended.at - began
        return Sample(run.count, seconds, server.peak(), processor=server.processor())


def associate_with_server(run: Run) -> Sample:
    port, log = free_port(), run.log("feeder")
    with serving(run.fill(run.command, port, run.folder), port, run.log("server")) as server:
        finish(run.fill(who.KNOCKER, port, run.folder), log)
        seconds = float(log.read_text())
        return Sample(run.count, seconds, server.peak(), processor=server.processor())


def associate_from_client(run: Run) -> Sample:
    port, log = free_port(), run.log("client")
    with serving(run.fill(who.RECEIVER, port, run.folder), port, run.log("receiver")):
        ended = finish(run.fill(run.command, port, run.folder), log)
    seconds = float(log.read_text())
    return Sample(run.count, seconds, ended.peak, processor=ended.processor)


def _through_gate(run: Run, receiver: who.Command, objects: Path, received: Path) -> Sample:
    with socket.create_server((HOST, 0)) as gate:
        gate.settimeout(START_LIMIT)
        port: int = gate.getsockname()[1]
        began = perf_counter()
        client = start(run.fill(run.command, port, objects), run.log("client"))
        try:
            connection, _ = gate.accept()
        except TimeoutError:
            stop(client)
            raise RunFailedError(f"no connection: {tail(run.log('client'))}") from None
        admitted = perf_counter()
        with connection:
            command = run.fill(receiver, port, received)
            other_end = start(command, run.log("receiver"), stdin=connection.fileno())
        ended, received_all = watch(client, other_end)
    _expect_success(ended, run.log("client"))
    _expect_success(received_all, run.log("receiver"))
    seconds, whole = received_all.at - admitted, ended.at - began
    return Sample(run.count, seconds, ended.peak, whole, processor=ended.processor)


def store_from_client(run: Run) -> Sample:
    return _through_gate(run, who.DISCARDING_ONCE, run.sent, run.folder)


def echo_from_client(run: Run) -> Sample:
    return _through_gate(run, who.DISCARDING_ONCE, run.folder, run.folder)


def check_client(run: Run) -> None:
    """Send once, untimed, to a receiver that keeps the objects, and look at them."""
    received = run.received()
    _through_gate(run, who.STORING_ONCE, run.sent, received)
    if fault := check_received(received, run.sent, run.count):
        raise RunFailedError(fault)


def _query(run: Run, server: who.Command, client: who.Command, *, of_server: bool) -> Sample:
    """Time the client's command; memory and processor time are those of one end."""
    port = free_port()
    with serving(run.fill(server, port, run.folder), port, run.log("server")) as serves:
        began = perf_counter()
        ended = finish(run.fill(client, port, run.folder), run.log("client"))
        seconds = ended.at - began
        if of_server:
            return Sample(run.count, seconds, serves.peak(), processor=serves.processor())
    return Sample(run.count, seconds, ended.peak, processor=ended.processor)


def query_server(run: Run) -> Sample:
    return _query(run, run.command, who.QUERIER, of_server=True)


def query_from_client(run: Run) -> Sample:
    return _query(run, who.ANSWERER, run.command, of_server=False)


def _storage_cells(workload: Workload, count: int) -> list[Cell]:
    return [
        Cell(
            f"scp-store-{workload.name}",
            f"{count:,} x {workload.name} from dcmsend to a server that keeps them",
            count,
            who.STORING,
            store_to_keeping_server,
            workload,
        ),
        Cell(
            f"scp-ignore-{workload.name}",
            f"{count:,} x {workload.name} from dcmsend to a server that discards them",
            count,
            who.DISCARDING,
            store_to_discarding_server,
            workload,
        ),
        Cell(
            f"scu-store-{workload.name}",
            f"{count:,} x {workload.name} from files to storescp --ignore",
            count,
            who.SENDING,
            store_from_client,
            workload,
            check_client,
        ),
    ]


def cells(*, quick: bool) -> list[Cell]:
    """Return the table of cells; a quick one has a tenth of the objects."""
    part = 10 if quick else 1
    echoes, associations = 20_000 // part, 4_000 // part
    return [
        Cell(
            "scp-echo",
            f"{echoes:,} C-ECHOs from echoscu to a server",
            echoes,
            who.VERIFYING,
            echo_to_server,
        ),
        Cell(
            "scu-echo",
            f"{echoes:,} C-ECHOs from a client to storescp",
            echoes,
            who.ECHOING,
            echo_from_client,
        ),
        Cell(
            "scp-associate",
            f"{associations:,} associations, set up and released, with a server",
            associations,
            who.VERIFYING,
            associate_with_server,
        ),
        Cell(
            "scp-find",
            f"a C-FIND with {echoes:,} matches from findscu to a server",
            echoes,
            who.ANSWERING,
            query_server,
        ),
        Cell(
            "scu-find",
            f"a C-FIND with {echoes:,} matches from a client to dicomwire",
            echoes,
            who.QUERYING,
            query_from_client,
        ),
        Cell(
            "scu-associate",
            f"{associations:,} associations, set up and released, with storescp",
            associations,
            who.ASSOCIATING,
            associate_from_client,
        ),
        *_storage_cells(SMALL, 20_000 // part),
        *_storage_cells(CT, 2_000 // part),
        *_storage_cells(MULTI_FRAME, 1 if quick else 5),
    ]
