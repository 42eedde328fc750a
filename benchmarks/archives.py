"""Archives that answer for what they keep: objects stored durably and indexed, and queries of them.

They keep their files on a disk, where the other cells have memory: waiting for it is part of the
work. dcmqrscp does not wait, and pynetdicom's qrscp only for its database. Processor time and
memory are those of the archive's processes; those of PostgreSQL and of the bucket are not counted.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from time import perf_counter

from benchmarks import competitors as who
from benchmarks.bucket import bucket
from benchmarks.cells import FEEDER_LOG, Cell, Run, Sample, finish
from benchmarks.measure import (
    NotInstalledError,
    RunFailedError,
    Server,
    free_port,
    serving,
    start,
    watch,
    watching_memory,
)
from benchmarks.postgres import postgres
from benchmarks.workload import CT, SMALL, STUDIES, Workload

DISK = Path(os.environ.get("DICOMWIRE_BENCH_DISK", "/var/tmp"))
"""Where the archives are; it should be no memory."""

ORTHANC_PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancPostgreSQLIndex.so")
"""Where Debian has it."""

_QRSCP_INI = """\
[DEFAULT]
ae_title: ANY-SCP
port: {port}
max_pdu: {pdu}
acse_timeout: 30
dimse_timeout: 30
network_timeout: 30
bind_address: 127.0.0.1
instance_location: {folder}/instances
database_location: {folder}/instances.sqlite
"""
_DCMQRSCP_CFG = """\
MaxPDUSize = {pdu}
MaxAssociations = 64
HostTable BEGIN
HostTable END
VendorTable BEGIN
VendorTable END
AETable BEGIN
ANY-SCP {folder}/database RW (500, 1024mb) ANY
AETable END
"""


@contextmanager
def empty_folder() -> Iterator[Path]:
    """Make a folder for an archive, and remove it with all in it.

    ext4 does not use an inode again for some minutes after its file was removed, and looks at all
    of these anew for each file that it makes in the same block group: after a few runs, that takes
    longer than to store an object. Folders in one that is marked as the top of a hierarchy each
    get another block group, which their names choose.
    """
    with tempfile.TemporaryDirectory(prefix="dicomwire-bench-", dir=DISK) as top:
        with suppress(FileNotFoundError):
            # Where the file system is another one, this fails, and does not matter.
            subprocess.run(["chattr", "+T", top], capture_output=True, check=False)
        folder = Path(top, Path(top).name)
        folder.mkdir()
        for each in (folder, folder.parent):
            each.chmod(0o711)  # PostgreSQL is another user
        yield folder


@contextmanager
def _archive(run: Run) -> Iterator[tuple[int, Server]]:
    """Run an archive in a folder of its own; give its port too."""
    if run.command == who.ORTHANC_IN_POSTGRESQL and not ORTHANC_PLUGIN.exists():
        raise NotInstalledError("Orthanc's PostgreSQL plug-in is not installed")
    port = free_port()
    with ExitStack() as opened:
        folder = opened.enter_context(empty_folder())
        command = run.command
        if "{bucket}" in command:
            url, variables = opened.enter_context(bucket(folder / "bucket"))
            command = _with(_with(command, "{bucket}", url), "{variables}", str(variables))
        url = ""
        if "{postgres}" in command or command == who.ORTHANC_IN_POSTGRESQL:
            url = opened.enter_context(postgres(folder / "postgres"))
            command = _with(command, "{postgres}", url)
        _configure(folder, port, run.pdu, url)
        filled = run.fill(command, port, folder)
        yield port, opened.enter_context(serving(filled, port, run.log("server")))


def _with(command: who.Command, blank: str, value: str) -> who.Command:
    return tuple(word.replace(blank, value) for word in command)


def _configure(folder: Path, port: int, pdu: int, postgres_url: str) -> None:
    """Write the configuration files that archives other than ours take."""
    (folder / "database").mkdir()
    (folder / "instances").mkdir()
    values = {"port": port, "pdu": pdu, "folder": folder}
    (folder / "qrscp.ini").write_text(_QRSCP_INI.format(**values))
    (folder / "dcmqrscp.cfg").write_text(_DCMQRSCP_CFG.format(**values))
    orthanc = {
        "StorageDirectory": str(folder / "orthanc"),
        "IndexDirectory": str(folder / "orthanc"),
        "HttpServerEnabled": False,
        "DicomPort": port,
        "MaximumPduLength": pdu,
        "DicomAlwaysAllowFind": True,
    }
    (folder / "orthanc.json").write_text(json.dumps(orthanc))
    index = {
        "EnableIndex": True,
        "EnableStorage": False,
        "ConnectionUri": postgres_url.replace("+psycopg", ""),
    }
    in_postgresql = {"Plugins": [str(ORTHANC_PLUGIN)], "PostgreSQL": index}
    (folder / "orthanc-postgres.json").write_text(json.dumps({**orthanc, **in_postgresql}))


def _shares(run: Run, associations: int) -> list[Path]:
    """Return a folder for each association, with its part of the objects."""
    paths = sorted(run.sent.iterdir())
    folders = []
    for number in range(min(associations, run.count)):
        folder = run.folder / f"sent-{number}"
        folder.mkdir()
        for path in paths[number::associations]:
            os.link(path, folder / path.name)
        folders.append(folder)
    return folders


def _store(run: Run, associations: int) -> Sample:
    shares = _shares(run, associations)
    logs = [run.log(share.name) for share in shares]
    with _archive(run) as (port, server), watching_memory(server.pid) as most:
        commands = [run.fill(who.FEEDER, port, share) for share in shares]
        watch(*(start(command, log) for command, log in zip(commands, logs, strict=True)))
        processor = server.processor()
    times = [FEEDER_LOG.search(log.read_text()) for log in logs]
    stored = sum(int(found["count"]) for found in times if found)
    if stored != run.count:
        raise RunFailedError(f"{stored} of {run.count} were stored")
    first = min(float(found["first"]) for found in times if found)
    last = max(float(found["last"]) for found in times if found)
    return Sample(run.count, last - first, most[0], processor=processor)


def _query(run: Run) -> Sample:
    with _archive(run) as (port, server), watching_memory(server.pid) as most:
        finish(run.fill(who.FEEDER, port, run.sent), run.log("feeder"))
        began, before = perf_counter(), server.processor()
        ended = finish(run.fill(who.STUDY_QUERIER, port, run.folder), run.log("client"))
        seconds, processor = ended.at - began, server.processor() - before
    found = run.log("client").read_text(errors="replace").count("StudyInstanceUID")
    if found != run.count:
        raise RunFailedError(f"{found} of {run.count} studies were found")
    return Sample(run.count, seconds, most[0], processor=processor)


def _store_cell(
    workload: Workload,
    count: int,
    associations: int,
    name: str = "node-store",
    competitors: who.Commands = who.ARCHIVING,
) -> Cell:
    over = f"{associations} association{'s' if associations > 1 else ''}"
    return Cell(
        f"{name}-{workload.name}-{associations}",
        f"{count:,} x {workload.name} from dcmsend over {over} to an archive",
        count,
        competitors,
        lambda run: _store(run, associations),
        workload,
    )


def archive_cells(*, quick: bool) -> list[Cell]:
    """Return the cells: storing over 1 and 8 associations, on each pair too, and a query."""
    part = 10 if quick else 1
    studies = 100 if quick else 500  # the most that dcmqrscp keeps
    return [
        *(_store_cell(SMALL, 4_000 // part, associations) for associations in (1, 8)),
        *(_store_cell(CT, 1_000 // part, associations) for associations in (1, 8)),
        _store_cell(SMALL, 4_000 // part, 1, "node-pairs", who.PAIRS),
        _store_cell(SMALL, 4_000 // part, 8, "node-pairs", who.PAIRS_OF_WORKERS),
        _store_cell(CT, 1_000 // part, 8, "node-pairs", who.PAIRS),
        Cell(
            "node-find",
            f"a C-FIND with {studies:,} studies from findscu to an archive that has so many",
            studies,
            who.ARCHIVING,
            _query,
            STUDIES,
        ),
    ]
