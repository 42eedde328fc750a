"""How little the applications import that need no dataset: pydicom alone takes 0.3 s."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

HEAVY = {"asyncio", "numpy", "pydicom", "requests"}
IMPORTED = re.compile(r"^import time:.*\| +([\w.]+)$", re.MULTILINE)
COMMAND = [sys.executable, "-X", "importtime", "-m", "dicomwire"]


class Running:
    """An application, and what it imports."""

    def __init__(self, *args: str) -> None:
        self.process = subprocess.Popen([*COMMAND, *args], stderr=subprocess.PIPE, text=True)
        self.log = ""

    def listening(self) -> str:
        """Wait until it listens; return its port."""
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.log += line
            found = re.search(r"listens on .*port (\d+)", line)
            if found:
                return found[1]
        raise AssertionError(self.log)

    def ended(self) -> set[str]:
        """Wait until it has ended; return the packages that it imported."""
        self.log += self.process.communicate(timeout=60)[1]
        return {name.partition(".")[0] for name in IMPORTED.findall(self.log)}


@pytest.fixture
def start() -> Iterator[Callable[..., Running]]:
    running: list[Running] = []

    def begin(*args: str) -> Running:
        running.append(Running(*args))
        return running[-1]

    yield begin
    for each in running:
        if each.process.poll() is None:
            each.process.kill()
            each.process.communicate()


@pytest.mark.parametrize("how", [[], ["--window", "4"], ["--parallel", "2"]])
def test_echoing_and_storing_files_import_no_pydicom(
    how: list[str],
    write_file: Callable[..., Path],
    tmp_path: Path,
    start: Callable[..., Running],
) -> None:
    received = tmp_path / "received"
    server = start("storescp", "0", "-ba", "127.0.0.1", "-v", "-od", str(received))
    port = server.listening()
    echoing = start("echoscu", "127.0.0.1", port, "-v")
    assert not HEAVY & echoing.ended()
    assert "Received Echo Response (Status: 0x0000 - Success)" in echoing.log
    storing = start("storescu", "127.0.0.1", port, "-v", str(write_file("a.dcm")), *how)
    assert not HEAVY & storing.ended()
    assert "1 sent (0 with a warning), 0 failed" in storing.log
    server.process.send_signal(signal.SIGINT)
    assert not HEAVY & server.ended()
    assert len(list(received.iterdir())) == 1
