"""What an archive does beside C-STORE: `python -m benchmarks.exchange [--rounds N] [NAME …]`.

Import, STOW-RS and forwarding are compared with C-STORE in the same round, each with an archive of
its own; searching, rendering and one large object stand alone. Archives are on the disk.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from time import perf_counter
from typing import NamedTuple

import httpx

from benchmarks.archives import DISK
from benchmarks.cells import finish
from benchmarks.competitors import OUR_SERVER, OURS
from benchmarks.huge import GIB, make_object
from benchmarks.measure import HOST, RunFailedError, Server, free_port, serving
from benchmarks.workload import CT, MULTI_FRAME, SMALL, STUDIES

ROUTES = """
[[routes]]
name = "all"
to = ["FIRST", "SECOND", "DEAD"]
"""
PDU = "131072"
LOOK_EVERY = 0.02
"""Seconds between two looks at what has arrived."""
LONGEST = 300.0


class Archive(NamedTuple):
    """A running archive."""

    port: int
    http: str
    folder: Path
    server: Server


class Place:
    """Where a round works: its folder, its logs, and the objects to send."""

    def __init__(self, folder: Path, objects: Path) -> None:
        self.folder = folder
        self.objects = objects

    @contextmanager
    def archive(self, name: str, toml: str = "") -> Iterator[Archive]:
        """Run an archive; `toml` is added to its configuration."""
        folder, port, http = self.folder / name, free_port(), free_port()
        file = self.folder / f"{name}.toml"
        file.write_text(toml)
        command = [*OURS, "node", "-q", "-c", str(file), "--folder", str(folder)]
        command += ["--port", str(port), "--http", str(http)]
        with serving(command, port, self.folder / f"{name}.log") as server:
            yield Archive(port, f"http://{HOST}:{http}/dicom-web", folder, server)

    def run(self, *command: str) -> tuple[float, int]:
        """Run a dicomwire command; return its seconds and its peak memory in KiB."""
        began = perf_counter()
        ended = finish([*OURS, *command], self.folder / f"{command[0]}.log")
        return ended.at - began, ended.peak

    def store(self, archive: Archive) -> float:
        """Send all objects by C-STORE; return the seconds."""
        return self.run("storescu", HOST, str(archive.port), str(self.objects), "-pdu", PDU)[0]


def imported(place: Place) -> float:
    with place.archive("one") as archive:
        stored = place.store(archive)
    with place.archive("two") as archive:
        folder = str(archive.folder)
        return stored / place.run("node", "import", "--folder", folder, str(place.objects))[0]


def stowed(place: Place) -> float:
    with place.archive("one") as archive:
        stored = place.store(archive)
    with place.archive("two") as archive:
        return stored / place.run("stowrs", archive.http, str(place.objects))[0]


def forwarded(place: Place) -> tuple[float, float]:
    """Return how much longer receiving took, and until two of three destinations had all."""
    with place.archive("one") as archive:
        alone = place.store(archive)
    with ExitStack() as opened:
        ports = {"DEAD": free_port()}
        received = []
        for name in ("FIRST", "SECOND"):
            folder = place.folder / name
            folder.mkdir()
            received.append(folder)
            ports[name] = port = free_port()
            command = [
                word.format(port=port, pdu=PDU, count=0, folder=folder)
                for word in (*OUR_SERVER, "-od", "{folder}")
            ]
            opened.enter_context(serving(command, port, place.folder / f"{name}.log"))
        tables = (f'[destinations.{n}]\nhost = "{HOST}"\nport = {p}\n' for n, p in ports.items())
        archive = opened.enter_context(place.archive("two", "\n".join(tables) + ROUTES))
        count, began = len(list(place.objects.iterdir())), perf_counter()
        seconds = place.store(archive)
        while any(sum(1 for _ in folder.glob("*")) < count for folder in received):
            if perf_counter() - began > LONGEST:
                raise RunFailedError("not all objects were forwarded")
            time.sleep(LOOK_EVERY)
        return seconds / alone, (perf_counter() - began) / alone


def searched(place: Place) -> tuple[float, float]:
    """Return the milliseconds until the first byte of all studies, and until the last."""
    with place.archive("one") as archive:
        place.run("node", "import", "--folder", str(archive.folder), str(place.objects))
        with httpx.Client(timeout=60) as client:
            client.get(f"{archive.http}/studies?limit=1").raise_for_status()
            began = perf_counter()
            with client.stream("GET", f"{archive.http}/studies?limit=100000") as response:
                pieces = response.iter_raw()
                next(pieces)
                first = perf_counter() - began
                for _ in pieces:
                    pass
        return first * 1e3, (perf_counter() - began) * 1e3


def rendered(place: Place) -> tuple[float, float]:
    """Return the rendered frames a second, and those of a second of processor time."""
    with place.archive("one") as archive, httpx.Client(timeout=60) as client:
        place.store(archive)
        found = client.get(f"{archive.http}/instances?limit=1000").raise_for_status().json()
        paths = [
            f"/studies/{_uid(one, '0020000D')}/series/{_uid(one, '0020000E')}"
            f"/instances/{_uid(one, '00080018')}/rendered"
            for one in found
        ]
        client.get(archive.http + paths[0]).raise_for_status()  # starts the process that renders
        began, used = perf_counter(), archive.server.processor()
        for path in paths[1:]:
            client.get(archive.http + path).raise_for_status()
        seconds = perf_counter() - began
        used = archive.server.processor() - used
        return (len(paths) - 1) / seconds, (len(paths) - 1) / used


def _uid(model: dict[str, dict[str, list[str]]], tag: str) -> str:
    return model[tag]["Value"][0]


def large(place: Place) -> tuple[float, float, float]:
    """Return the peak memory in MiB of the archive, and of both clients, for 4 GB."""
    folder = place.folder / "large"
    folder.mkdir()
    made = make_object(folder, next(place.objects.iterdir()), 4 * GIB - 2)
    with place.archive("one") as archive, httpx.Client(timeout=60) as client:
        _, sender = place.run("stowrs", archive.http, str(folder), "--timeout", "300")
        (found,) = client.get(f"{archive.http}/instances").raise_for_status().json()
        uids = [_uid(found, tag) for tag in ("0020000D", "0020000E", "00080018")]
        received = place.folder / "received"
        _, receiver = place.run(
            "wadors", archive.http, *uids, "-od", str(received), "--timeout", "300"
        )
        (path,) = (each for each in received.rglob("*") if each.is_file())
        if abs(path.stat().st_size - made.stat().st_size) > 1024:
            raise RunFailedError(f"what arrived has {path.stat().st_size} bytes")
        peak = archive.server.peak()
    return peak / 1024, sender / 1024, receiver / 1024


CELLS: dict[str, tuple[str, Callable[[Place], float | tuple[float, ...]], Callable[[Path], Path]]]
CELLS = {
    "import": (
        "10,000 x 4KB: the time of storescu, divided by that of `node import`",
        imported,
        lambda root: SMALL.folder(root, 10_000),
    ),
    "stow": (
        "1,000 x 4KB: the time of storescu, divided by that of stowrs",
        stowed,
        lambda root: SMALL.folder(root, 1_000),
    ),
    "forward": (
        "10,000 x 4KB to three destinations, of which one is dead: the time of storescu, and "
        "until the others have all, divided by the time of storescu without routes",
        forwarded,
        lambda root: SMALL.folder(root, 10_000),
    ),
    "qido": (
        "QIDO-RS of 10,000 studies: milliseconds to the first byte, and to the last",
        searched,
        lambda root: STUDIES.folder(root, 10_000),
    ),
    "rendered": (
        "rendered CT frames of 512 x 512: a second, and a second of processor time",
        rendered,
        lambda root: CT.folder(root, 300),
    ),
    "large": (
        "an object of 4 GB by STOW-RS and WADO-RS: MiB of the archive, stowrs and wadors",
        large,
        lambda root: MULTI_FRAME.folder(root, 1),
    ),
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.exchange", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("names", nargs="*", choices=[*CELLS, []], metavar="NAME")
    arguments = parser.parse_args()
    objects = Path("/dev/shm/dicomwire-bench")
    for name in arguments.names or CELLS:
        title, run, made = CELLS[name]
        results = []
        for _ in range(1 if name == "large" else arguments.rounds):
            folder = Path(tempfile.mkdtemp(prefix="dicomwire-exchange-", dir=DISK))
            try:
                values = run(Place(folder, made(objects)))
            finally:
                shutil.rmtree(folder)
            results.append(values if isinstance(values, tuple) else (values,))
        medians = [statistics.median(column) for column in zip(*results, strict=True)]
        print(f"{name}: {title}: {', '.join(f'{value:.2f}' for value in medians)}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
