"""Objects of any size are sent and stored with little memory.

TEST_LARGE=4 in the environment takes objects of nearly 4 GiB, the longest that a value can have.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import numpy as np
import pytest
from backends import of_folder, options_of
from images import image_object
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from running_node import make_object, running, store, write

SIZE = min(int(float(os.environ.get("TEST_LARGE", "0.1")) * 2**30), 2**32 - 16)
"""Of the pixel data, in bytes."""
MOST_MEMORY = 150 * 2**20
INSTANCES = "/dicom-web/studies/1.2.3/series/1.2.3.1/instances"
OCTETS = {"Accept": "application/octet-stream"}
FRAME = 16


def _enlarge(path: Path) -> None:
    """Make the pixel data of a stored object `SIZE` bytes long, as a hole in its file."""
    data = path.read_bytes()
    at = data.rindex(b"\xe0\x7f\x10\x00")
    is_explicit = data[at + 4 : at + 6] == b"OB"
    start = at + (12 if is_explicit else 8)
    with path.open("wb") as file:
        file.write(data[: start - 4] + SIZE.to_bytes(4, "little") + data[start:])
        file.truncate(start + SIZE)


@contextmanager
def _node(folder: Path) -> Iterator[tuple[subprocess.Popen[str], httpx.Client]]:
    command = [sys.executable, "-m", "dicomwire", "node", "--json", *options_of(folder)]
    process = subprocess.Popen(
        [*command, "--port", "0", "--http", "0"], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        url = json.loads(process.stdout.readline())["dicomweb"].removesuffix("/dicom-web")
        with httpx.Client(base_url=url, trust_env=False, timeout=60) as client:
            yield process, client
    finally:
        process.terminate()
        process.communicate()


def _peak(process: subprocess.Popen[str]) -> int:
    """Return the most memory that a process has had, in bytes."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    assert found is not None
    return int(found[1]) * 1024


@pytest.mark.skipif(sys.platform != "linux", reason="the peak of memory is read from /proc")
@pytest.mark.timeout(600)
def test_large_objects_are_sent_with_little_memory(tmp_path: Path) -> None:
    pixels = np.full((1, 4, 4), 7, np.uint8)
    objects = [
        image_object(pixels, syntax, number, NumberOfFrames=SIZE // FRAME)
        for number, syntax in enumerate((ExplicitVRLittleEndian, ImplicitVRLittleEndian), 1)
    ]
    with running(tmp_path) as node:
        assert store(node, *objects) == [0, 0]
    behind = of_folder(tmp_path)
    for name in behind.contents(tmp_path):
        behind.edit(tmp_path, name, _enlarge)
    with _node(tmp_path) as (process, client):
        for number in (1, 2):
            path = f"{INSTANCES}/1.2.3.1.{number}"
            first, size = _sent(client, path)
            assert f"transfer-syntax={ExplicitVRLittleEndian}".encode() in first
            assert SIZE < size < SIZE + 4096
            frame = client.get(f"{path}/frames/1", headers=OCTETS)
            assert frame.content == pixels.tobytes()
            frame = client.get(f"{path}/frames/{SIZE // FRAME}", headers=OCTETS)
            assert frame.content == b"\0" * FRAME
        headers = {"Accept": "application/dicom", "Range": "bytes=-1000"}
        answer = client.get(f"{INSTANCES}/1.2.3.1.1", headers=headers)
        assert (answer.status_code, answer.content) == (206, b"\0" * 1000)
        assert _peak(process) < MOST_MEMORY


def _sent(client: httpx.Client, path: str) -> tuple[bytes, int]:
    """Return the beginning of a response, and the size of it."""
    first, size = b"", 0
    with client.stream("GET", path) as answer:
        assert answer.status_code == 200
        for piece in answer.iter_bytes():
            first = first or piece[:1000]
            size += len(piece)
    return first, size


@pytest.mark.skipif(sys.platform != "linux", reason="the peak of memory is that of Linux")
@pytest.mark.timeout(600)
def test_a_large_object_is_stored_and_retrieved_by_the_applications(tmp_path: Path) -> None:
    ds = make_object()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    file = write(tmp_path / "large.dcm", ds)
    with file.open("ab") as opened:
        opened.write(b"\xe0\x7f\x10\0OB\0\0" + SIZE.to_bytes(4, "little"))
        opened.truncate(opened.tell() + SIZE)
    with _node(tmp_path / "archive") as (process, client):
        url = str(client.base_url.join("/dicom-web"))
        assert _peak_of_application("stowrs", url, str(file)) < MOST_MEMORY
        folder = tmp_path / "received"
        arguments = ["wadors", url, ds.StudyInstanceUID, "-od", str(folder)]
        assert _peak_of_application(*arguments) < MOST_MEMORY
        [received] = folder.iterdir()
        assert received.stat().st_size > SIZE
        assert _peak(process) < MOST_MEMORY


_MEASURED = """
import runpy, sys
try:
    runpy.run_module("dicomwire", run_name="__main__", alter_sys=True)
finally:
    with open("/proc/self/status") as status:
        print(*(line for line in status if line.startswith("VmHWM:")), file=sys.stderr)
"""
"""Runs an application, and tells its peak. The system's own figure of an ended process has the
memory of the process that has started it, from the moment between fork and exec."""


def _peak_of_application(*arguments: str) -> int:
    """Run an application that succeeds; return the most memory that it has had, in bytes."""
    command = [sys.executable, "-c", _MEASURED, *arguments]
    done = subprocess.run(command, check=True, stderr=subprocess.PIPE, text=True)
    (peak,) = re.findall(r"^VmHWM:\s+(\d+) kB", done.stderr, re.MULTILINE)
    return int(peak) * 1024
