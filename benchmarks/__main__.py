"""Run the benchmarks: `python -m benchmarks [--quick] [--rounds N] [--cells NAME …]`.

The competitors of a cell take turns (A B C, B C A, …), so that what disturbs the machine
disturbs all of them; a competitor that is not installed, or fails, is reported and left out.
With `--save`, RESULTS.md and the README's table show the cells of this run, and of all others
what they showed.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import sys
import tempfile
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.archives import archive_cells
from benchmarks.both_ends import both_ends_cells
from benchmarks.cells import Cell, Run, cells
from benchmarks.competitors import HERE, PROBES, family, share, unavailable
from benchmarks.crowds import crowd_cell
from benchmarks.distant import distant_cells
from benchmarks.growth import growth_cells
from benchmarks.huge import huge_cells
from benchmarks.measure import NotInstalledError, RunFailedError, warm_memory
from benchmarks.parallel import parallel_cells
from benchmarks.report import Result, header, line
from benchmarks.saved import TABLE, save
from benchmarks.secured import tls_cells

TMPFS = Path("/dev/shm")
MAXIMUM_PDU = 131072
"""The largest that DCMTK speaks; every competitor and every other end is given the same."""
HEADROOM = 500_000_000
"""Bytes of memory made ready for a run, beyond what it may store."""


def main() -> int:
    # So that a run that is ended ends its servers, too.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    arguments = _arguments()
    absent = {owner: why for owner in PROBES if (why := unavailable(owner))}
    if "DCMTK" in absent:
        print(f"every cell has DCMTK at its other end: {absent['DCMTK']}", file=sys.stderr)
        return 1
    table = _table(quick=arguments.quick, with_million=arguments.million)
    chosen = [
        cell
        for cell in table
        if not arguments.cells or any(part in cell.name for part in arguments.cells)
    ]
    results: list[Result] = []
    shown: list[str] = []
    for cell in chosen:
        result = _measure(cell, absent, arguments)
        rows = result.rows()
        if list(rows[0]) != shown:
            shown = list(rows[0])
            print(f"\n{header(rows[0])}")
        print("\n".join(map(line, rows)), flush=True)
        results.append(result)
    print(f"\nwritten to {_write(results, arguments)}")
    if arguments.save:
        save(results, _when_and_where(arguments), _names())
    return 1 if any(result.failed for result in results) else 0


def _names() -> list[str]:
    """Return the names of all cells, in their order."""
    return [cell.name for cell in _table(quick=False, with_million=True)]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--rounds", type=int, help="runs of each competitor (5; quick: 2)")
    parser.add_argument("--quick", action="store_true", help="a tenth of the objects")
    parser.add_argument("--cells", nargs="+", metavar="NAME", help="cells whose names hold this")
    parser.add_argument("--without", nargs="+", default=[], metavar="WHO", help="leave these out")
    parser.add_argument(
        "--million", action="store_true", help="growth at 1,000,000 instances too (minutes)"
    )
    parser.add_argument(
        "--save", action="store_true", help=f"show the results in {TABLE.name} and the README"
    )
    parser.add_argument("--pdu", type=int, default=MAXIMUM_PDU, help="maximum PDU of all")
    parser.add_argument(
        "--work",
        type=Path,
        default=(TMPFS if TMPFS.is_dir() else Path(tempfile.gettempdir())) / "dicomwire-bench",
        help="where the objects are, and are received (%(default)s)",
    )
    arguments = parser.parse_args()
    if arguments.save and arguments.quick:
        parser.error("the saved results are those of whole cells: --save without --quick")
    arguments.rounds = arguments.rounds or (2 if arguments.quick else 5)
    return arguments


def _table(*, quick: bool, with_million: bool) -> list[Cell]:
    """Return all cells."""
    return [
        *cells(quick=quick),
        *both_ends_cells(quick=quick),
        *parallel_cells(quick=quick),
        *tls_cells(quick=quick),
        *huge_cells(quick=quick),
        *distant_cells(quick=quick),
        crowd_cell(quick=quick),
        *archive_cells(quick=quick),
        *growth_cells(quick=quick, with_million=with_million),
    ]


def _measure(cell: Cell, absent: dict[str, str], arguments: argparse.Namespace) -> Result:
    """Run a cell's competitors in turn, round after round."""
    result = Result(cell)
    taking_part = deque[str]()
    for name in cell.competitors:
        if family(name) in absent:
            result.missing[name] = absent[family(name)]
        elif family(name) not in arguments.without:
            taking_part.append(name)
    if cell.check:
        for name in taking_part:
            with _turn(result, name, arguments) as run:
                cell.check(run)
    for _ in range(arguments.rounds):
        for name in [name for name in taking_part if name not in result.missing | result.failed]:
            with _turn(result, name, arguments) as run:
                sample = cell.run(run)
                result.samples.setdefault(name, []).append(sample)
        taking_part.rotate(-1)
    return result


@contextmanager
def _turn(result: Result, name: str, arguments: argparse.Namespace) -> Iterator[Run]:
    """Prepare one competitor's run; if it fails, note it, so that the others go on."""
    cell = result.cell
    count = max(1, cell.count // share(name))
    objects = cell.workload.folder(arguments.work, count) if cell.workload else None
    arguments.work.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=arguments.work) as folder:
        warm_memory(Path(folder), cell.size + HEADROOM)
        try:
            yield Run(name, cell.competitors[name], count, Path(folder), arguments.pdu, objects)
        except NotInstalledError as error:
            result.missing[name] = str(error)
        except RunFailedError as error:
            result.failed[name] = str(error)


def _when_and_where(arguments: argparse.Namespace) -> str:
    """Return when the results were made, how, and on what machine."""
    return (
        f"{datetime.now(UTC):%Y-%m-%d}, rounds: {arguments.rounds}, "
        f"maximum PDU {arguments.pdu}, Python {platform.python_version()}, "
        f"{os.cpu_count()} processors ({_model()}), {platform.system()} {platform.release()}"
    )


def _model() -> str:
    """Return the name of the processor, as the system gives it."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.machine()


def _write(results: list[Result], arguments: argparse.Namespace) -> Path:
    """Write all that was measured, and on what machine, to a file named by the time."""
    now = datetime.now(UTC)
    path = HERE / "results" / f"{now:%Y%m%d-%H%M%S}.json"
    path.parent.mkdir(exist_ok=True)
    report = {
        "made": now.isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "system": platform.platform(),
        "processors": os.cpu_count(),
        "maximum_pdu": arguments.pdu,
        "rounds": arguments.rounds,
        "cells": [result.as_json() for result in results],
    }
    path.write_text(json.dumps(report, indent=2) + "\n")
    return path


if __name__ == "__main__":
    sys.exit(main())
