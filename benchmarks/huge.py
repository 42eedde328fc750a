"""One object of 4 GB, and the memory that either end takes for it, on both faces.

The object is a sparse file, so that making it costs nothing. The peers are not asked: DCMTK's
sender holds an object in memory.
"""

from __future__ import annotations

import struct
from dataclasses import replace
from pathlib import Path
from time import perf_counter

from benchmarks import competitors as who
from benchmarks.cells import Cell, Run, Sample, finish
from benchmarks.measure import HOST, RunFailedError, free_port, serving
from benchmarks.workload import MULTI_FRAME

GIB = 1024**3
SENDERS: who.Commands = {
    "dicomwire": (
        *(*who.OURS, "storescu", HOST, "{port}", "{folder}", "-pdu", "{pdu}", "--strict"),
    ),
    "dicomwire asyncio": (*who.ASYNCIO_CLIENT, "{folder}"),
}
KEEPERS: who.Commands = {
    "dicomwire": (*who.OUR_SERVER, "-od", "{folder}"),
    "dicomwire asyncio": (*who.ASYNCIO_SERVER, "{folder}"),
}


def make_object(folder: Path, small: Path, size: int) -> Path:
    """Make a multi-frame image of `size` bytes out of a small one, with pixels of zeros."""
    data = small.read_bytes()
    at = data.index(struct.pack("<HH2s2xL", 0x7FE0, 0x0010, b"OW", MULTI_FRAME.pixel_bytes))
    path = folder / small.name
    with path.open("wb") as file:
        file.write(data[:at])
        pixels = size - at - 12 & ~1
        file.write(struct.pack("<HH2s2xL", 0x7FE0, 0x0010, b"OW", pixels))
        file.truncate(at + 12 + pixels)
    return path


def _send(run: Run, size: int, *, of_server: bool) -> Sample:
    folder = run.folder / "object"
    folder.mkdir()
    path = make_object(folder, next(run.sent.iterdir()), size)
    received = run.received()
    server = run.command if of_server else KEEPERS["dicomwire"]
    client = SENDERS["dicomwire"] if of_server else run.command
    port = free_port()
    with serving(run.fill(server, port, received), port, run.log("server")) as server_process:
        began = perf_counter()
        ended = finish(run.fill(client, port, folder), run.log("client"))
        peak = server_process.peak() if of_server else ended.peak
    sizes = [each.stat().st_size for each in received.iterdir()]
    if len(sizes) != 1 or abs(sizes[0] - path.stat().st_size) > 1024:  # its file meta is its own
        raise RunFailedError(f"what arrived has {sizes} bytes")
    return Sample(1, ended.at - began, peak)


def huge_cells(*, quick: bool) -> list[Cell]:
    """Return the cells: the memory of a server that keeps the object, and that of its sender."""
    size = GIB // 4 if quick else 4 * GIB - 2
    workload = replace(MULTI_FRAME, pixel_bytes=size)  # made of a small one, when it is sent
    title = f"one object of {size / GIB:.2g} GiB"
    return [
        Cell(
            "scp-huge",
            f"{title} to a server that keeps it",
            1,
            KEEPERS,
            lambda run: _send(run, size, of_server=True),
            workload,
        ),
        Cell(
            "scu-huge",
            f"{title} from a file",
            1,
            SENDERS,
            lambda run: _send(run, size, of_server=False),
            workload,
        ),
    ]
