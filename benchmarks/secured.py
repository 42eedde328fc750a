"""What TLS costs: CT objects over one connection, with a certificate made for the run.

dcmsend has no TLS, so that DCMTK's storescu feeds the servers; a run is its whole command.
"""

from __future__ import annotations

import subprocess
from pathlib import Path
from time import perf_counter

from benchmarks import competitors as who
from benchmarks.cells import Cell, Run, Sample, finish
from benchmarks.measure import HOST, free_port, serving
from benchmarks.workload import CT

OBJECTS = 2_000
"""As many as other cells have of this size: a run is the whole command, with its start."""
_DCMTK = ("+tls", "{folder}/key.pem", "{folder}/cert.pem", "-ic")
_OURS = ("--tls", "--tls-cert", "{folder}/cert.pem", "--tls-key", "{folder}/key.pem")

SERVERS: who.Commands = {
    "dicomwire": (*who.OUR_SERVER, "--ignore", *_OURS),
    "DCMTK storescp": (*who.DCMTK_SERVER, "--ignore", *_DCMTK, "{port}"),
}
CLIENTS: who.Commands = {
    "dicomwire": (
        *(*who.OURS, "storescu", HOST, "{port}", "{objects}", "-pdu", "{pdu}", "--strict"),
        *(*_OURS, "--tls-no-verify"),
    ),
    "DCMTK storescu": (
        *("storescu", "-pdu", "{pdu}", *_DCMTK, HOST, "{port}", "+sd", "{objects}"),
    ),
    "floor": (*who.FLOOR, "scu-tls", "{port}", "{pdu}", "{objects}", "{folder}"),
}


def _fill(run: Run, command: who.Command, port: int) -> list[str]:
    folder, objects = str(run.folder), str(run.sent)
    return [word.format(port=port, pdu=run.pdu, folder=folder, objects=objects) for word in command]


def _make_certificate(folder: Path) -> None:
    request = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-days",
        "2",
        "-subj",
        "/CN=localhost",
    ]
    subprocess.run(
        [*request, "-keyout", "key.pem", "-out", "cert.pem"],
        cwd=folder,
        check=True,
        capture_output=True,
    )


def _run(run: Run, server: who.Command, client: who.Command, *, of_server: bool) -> Sample:
    _make_certificate(run.folder)
    port = free_port()
    with serving(_fill(run, server, port), port, run.log("server")) as serves:
        began = perf_counter()
        ended = finish(_fill(run, client, port), run.log("client"))
        seconds = ended.at - began
        if of_server:
            return Sample(run.count, seconds, serves.peak(), processor=serves.processor())
    return Sample(run.count, seconds, ended.peak, processor=ended.processor)


def tls_cells(*, quick: bool) -> list[Cell]:
    """Return the cells: a server and a client, each beside DCMTK's."""
    count = OBJECTS // (4 if quick else 1)
    return [
        Cell(
            "scp-tls",
            f"{count:,} x {CT.name} over TLS from storescu to a server that discards them",
            count,
            SERVERS,
            lambda run: _run(run, run.command, CLIENTS["DCMTK storescu"], of_server=True),
            CT,
        ),
        Cell(
            "scu-tls",
            f"{count:,} x {CT.name} over TLS from files to storescp --ignore",
            count,
            CLIENTS,
            lambda run: _run(run, SERVERS["DCMTK storescp"], run.command, of_server=False),
            CT,
        ),
    ]
