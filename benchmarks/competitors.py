"""Who is compared: the command line of every competitor in every part.

A name's first word says whose it is. `{port}`, `{pdu}`, `{folder}` and `{count}` are filled in
for each run. DCMTK runs as it comes but for TCP_NODELAY=1 (see measure.py) and the maximum PDU;
all prefer Explicit VR Little Endian, which the objects are in, so that nothing is converted.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TypeAlias

from benchmarks.measure import HOST

HERE = Path(__file__).resolve().parent
PEER_PYTHON = os.environ.get(
    "PYNETDICOM_PYTHON", str(HERE.parent / ".venv-peer" / "bin" / "python")
)

OURS = (sys.executable, "-m", "dicomwire")
OUR_SCRIPT = (sys.executable, str(HERE / "programs" / "scu.py"), "dicomwire")
PEER_SCRIPT = (PEER_PYTHON, str(HERE / "programs" / "scu.py"), "pynetdicom")
PEER_SERVER = (PEER_PYTHON, str(HERE / "programs" / "scp.py"), "{port}", "0")  # 0: no limit
OUR_SERVER = (*OURS, "storescp", "{port}", "-pdu", "{pdu}", "-xe", "-ll", "error")
ASYNCIO_SERVER = (sys.executable, str(HERE / "programs" / "asyncio_scp.py"), "{port}", "{pdu}")
ASYNCIO_WORKERS = (*ASYNCIO_SERVER[:2], "workers", *ASYNCIO_SERVER[2:])
ASYNCIO_CLIENT = (sys.executable, str(HERE / "programs" / "asyncio_scu.py"), "{port}", "{pdu}")
DCMTK_SERVER = ("storescp", "-dhl", "-pdu", "{pdu}")
FLOOR = (sys.executable, str(HERE / "programs" / "floor.py"))

Command: TypeAlias = tuple[str, ...]
Commands: TypeAlias = dict[str, Command]

PROBES: Commands = {
    "dicomwire": (*OURS, "storescp", "--version"),
    "DCMTK": ("storescp", "--version"),
    "pynetdicom": (PEER_PYTHON, "-c", "import pynetdicom"),
    "Orthanc": ("Orthanc", "--version"),
    "floor": (sys.executable, "--version"),
}
"""What succeeds where the competitor is installed."""

SHARE = {"pynetdicom": 40, "dicomwire, bucket": 10, "dicomwire, PostgreSQL and bucket": 10}
"""Who gets one object in so many, being slow, by how their names begin; rates are per object, so
they compare."""

STORING: Commands = {
    "dicomwire": (*OUR_SERVER, "-od", "{folder}"),
    "dicomwire asyncio": (*ASYNCIO_SERVER, "{folder}"),
    "DCMTK storescp +B": (*DCMTK_SERVER, "+B", "-od", "{folder}", "{port}"),
    "pynetdicom": (*PEER_SERVER, "{folder}"),
    "floor": (*FLOOR, "scp", "{port}", "{pdu}", "{folder}"),
}
"""Servers that write what they receive into a folder."""

DISCARDING: Commands = {
    "dicomwire": (*OUR_SERVER, "--ignore"),
    "dicomwire asyncio": ASYNCIO_SERVER,
    "DCMTK storescp --ignore": (*DCMTK_SERVER, "--ignore", "{port}"),
    "pynetdicom": PEER_SERVER,
}
"""Servers that receive, answer and forget."""

VERIFYING: Commands = {**DISCARDING, "floor": STORING["floor"]}
"""Servers that C-ECHO and associations are tried on."""

_FOR_MANY = (*OUR_SERVER, "--max-associations", "100")
_FORKING = (*DCMTK_SERVER, "--fork")

STORING_FOR_MANY: Commands = {
    "dicomwire": (*_FOR_MANY, "--workers", "2", "-od", "{folder}"),
    "dicomwire in one process": (*_FOR_MANY, "-od", "{folder}"),
    "dicomwire asyncio": (*ASYNCIO_WORKERS, "{folder}"),
    "dicomwire asyncio in one process": (*ASYNCIO_SERVER, "{folder}"),
    "DCMTK storescp --fork +B": (*_FORKING, "+B", "-od", "{folder}", "{port}"),
    "pynetdicom": (*PEER_SERVER, "{folder}"),
}
"""Servers that are to serve many associations at once, and write what they receive."""

DISCARDING_FOR_MANY: Commands = {
    "dicomwire": (*_FOR_MANY, "--workers", "2", "--ignore"),
    "dicomwire in one process": (*_FOR_MANY, "--ignore"),
    "dicomwire asyncio": ASYNCIO_WORKERS,
    "dicomwire asyncio in one process": ASYNCIO_SERVER,
    "DCMTK storescp --fork --ignore": (*_FORKING, "--ignore", "{port}"),
    "pynetdicom": PEER_SERVER,
}
"""The same, but they forget what they receive."""

SENDING: Commands = {
    "dicomwire": (*OURS, "storescu", HOST, "{port}", "{folder}", "-pdu", "{pdu}", "--strict"),
    "dicomwire asyncio": (*ASYNCIO_CLIENT, "{folder}"),
    "DCMTK dcmsend": ("dcmsend", "-pdu", "{pdu}", HOST, "{port}", "+sd", "{folder}"),
    "DCMTK storescu": ("storescu", "-R", "-pdu", "{pdu}", HOST, "{port}", "+sd", "{folder}"),
    "pynetdicom": (*PEER_SCRIPT, "store", "{port}", "{pdu}", "{folder}"),
    "floor": (*FLOOR, "scu", "{port}", "{pdu}", "{folder}"),
}
"""Clients that send the files of a folder, and fail if one of them is refused."""

SENDING_IN_PARALLEL: Commands = {
    "dicomwire": (*SENDING["dicomwire"], "--parallel", "4"),
    "dicomwire, one at a time": SENDING["dicomwire"],
    "DCMTK dcmsend, one at a time": SENDING["DCMTK dcmsend"],
}
"""Clients that may have several associations; DCMTK's have one."""

STORING_FROM_OWN: Commands = {
    "dicomwire": (*STORING["dicomwire"], "--window", "64"),
    "DCMTK": STORING["DCMTK storescp +B"],
    "floor": STORING["floor"],
}
"""Servers that write what they receive, from a client of the same family."""

SENDING_TO_OWN: Commands = {
    "dicomwire": SENDING["dicomwire"],
    "DCMTK": SENDING["DCMTK dcmsend"],
    "floor": SENDING["floor"],
}
"""The clients of those."""


def sending_with_window(window: int) -> Commands:
    """Return the clients with so many operations outstanding; DCMTK has one at a time."""
    return {
        **SENDING_TO_OWN,
        "dicomwire": (*SENDING["dicomwire"], "--window", str(window)),
        "floor": (*SENDING_TO_OWN["floor"], str(window)),
    }


STARTING: Commands = {
    "dicomwire": (*OURS, "echoscu", HOST, "{port}"),
    "DCMTK": ("echoscu", HOST, "{port}"),
    "floor": (sys.executable, "-c", "import socket, struct"),
}
"""Commands that do next to nothing, so that what takes time is their start."""

ECHOING: Commands = {
    "dicomwire": (*OUR_SCRIPT, "echo", "{port}", "{pdu}", "{count}"),
    "DCMTK echoscu": ("echoscu", "-pdu", "{pdu}", "--repeat", "{count}", HOST, "{port}"),
    "pynetdicom": (*PEER_SCRIPT, "echo", "{port}", "{pdu}", "{count}"),
    "floor": (*FLOOR, "echo", "{port}", "{pdu}", "{count}"),
}
"""Clients that send so many C-ECHOs over one association."""

ASSOCIATING: Commands = {
    "dicomwire": (*OUR_SCRIPT, "associate", "{port}", "{pdu}", "{count}"),
    "pynetdicom": (*PEER_SCRIPT, "associate", "{port}", "{pdu}", "{count}"),
}
"""Clients that associate and release so many times in one process; DCMTK has no such tool."""

FIND_SERVER = str(HERE / "programs" / "find_scp.py")

ANSWERING: Commands = {
    "dicomwire": (sys.executable, FIND_SERVER, "dicomwire", "{port}", "{count}"),
    "pynetdicom": (PEER_PYTHON, FIND_SERVER, "pynetdicom", "{port}", "{count}"),
}
"""Servers that answer any query with so many matches."""

QUERYING: Commands = {
    "dicomwire": (*OUR_SCRIPT, "find", "{port}", "{pdu}", "{count}"),
    "DCMTK findscu": (
        *("findscu", "-P", "-q", "-pdu", "{pdu}", "-k", "QueryRetrieveLevel=PATIENT"),
        *("-k", "PatientName", "-k", "PatientID", "-k", "PatientBirthDate", "-k", "PatientSex"),
        *(HOST, "{port}"),
    ),
    "pynetdicom": (*PEER_SCRIPT, "find", "{port}", "{pdu}", "{count}"),
}
"""Clients that send one query and take all its matches."""

ARCHIVING: Commands = {
    "dicomwire": (
        *(*OURS, "node", "-q", "--port", "{port}", "--folder", "{folder}/archive"),
        *("--max-pdu", "{pdu}"),
    ),
    "Orthanc": ("Orthanc", "{folder}/orthanc.json"),
    "DCMTK dcmqrscp": ("dcmqrscp", "-c", "{folder}/dcmqrscp.cfg", "{port}"),
    "pynetdicom": (PEER_PYTHON, "-m", "pynetdicom", "qrscp", "-c", "{folder}/qrscp.ini"),
}
"""Archives, whose configuration files are in their folder (see archives.py)."""

_ARCHIVE = ARCHIVING["dicomwire"]
_INDEX = ("--index", "{postgres}")
_OBJECTS = ("--objects", "{bucket}", "--objects-variables", "{variables}")
ORTHANC_IN_POSTGRESQL: Command = ("Orthanc", "{folder}/orthanc-postgres.json")
_OURS_IN_PAIRS: Commands = {
    "dicomwire": _ARCHIVE,
    "dicomwire, bucket": (*_ARCHIVE, *_OBJECTS),
    "dicomwire, PostgreSQL": (*_ARCHIVE, *_INDEX),
    "dicomwire, PostgreSQL and bucket": (*_ARCHIVE, *_INDEX, *_OBJECTS),
}
_ORTHANCS: Commands = {
    "Orthanc": ARCHIVING["Orthanc"],
    "Orthanc, PostgreSQL": ORTHANC_IN_POSTGRESQL,
}

PAIRS: Commands = _OURS_IN_PAIRS | _ORTHANCS
"""Archives on each pair of index and store: SQLite or PostgreSQL, the folder or a bucket."""

PAIRS_OF_WORKERS: Commands = {
    f"{name}, {count} workers" if count > 1 else name: (*command, "--workers", str(count))
    for name, command in _OURS_IN_PAIRS.items()
    for count in (1, 2, 4)
} | _ORTHANCS
"""The same, in one process and in several."""

# What stands at the other end, the same for every competitor.
QUERIER: Command = QUERYING["DCMTK findscu"]
ANSWERER: Command = ANSWERING["dicomwire"]
STUDY_QUERIER: Command = (
    *("findscu", "-S", "-pdu", "{pdu}", "-k", "QueryRetrieveLevel=STUDY", "-k", "PatientName"),
    *("-k", "StudyInstanceUID", "-k", "StudyDate", "-k", "AccessionNumber", HOST, "{port}"),
)
FEEDER: Command = (*SENDING["DCMTK dcmsend"], "-lc", str(HERE / "dcmsend.cfg"))
ECHO_FEEDER: Command = ECHOING["DCMTK echoscu"]
LINK: Command = (sys.executable, str(HERE / "programs" / "delay.py"))
CROWD_FEEDER: Command = (
    sys.executable,
    str(HERE / "programs" / "feed.py"),
    "{port}",
    "{pdu}",
    "{folder}",
)
KNOCKER: Command = (sys.executable, str(HERE / "programs" / "knock.py"), "{port}", "{count}")
RECEIVER: Command = DISCARDING["DCMTK storescp --ignore"]
DISCARDING_ONCE: Command = (*DCMTK_SERVER, "--inetd", "--ignore")
STORING_ONCE: Command = (*DCMTK_SERVER, "--inetd", "+B", "-od", "{folder}")


def family(name: str) -> str:
    """Return whose competitor it is."""
    return name.split()[0].rstrip(",")


def share(name: str) -> int:
    """Return how many objects there are for each one that a competitor gets."""
    return next((each for begin, each in SHARE.items() if name.startswith(begin)), 1)


def unavailable(owner: str) -> str | None:
    """Return why a family of competitors cannot run here, or None."""
    try:
        done = subprocess.run(PROBES[owner], capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        return f"{error.filename} is not installed"
    lines = done.stderr.strip().splitlines() or ["it printed nothing"]
    return None if done.returncode == 0 else lines[-1]
