"""The applications as people run them: processes with signals, exit codes and two streams."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pydicom import dcmread

from dicomwire.apps.invocation import program

COMMAND = [sys.executable, "-m", "dicomwire"]


def run(*args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *args], capture_output=True, text=True, timeout=60)


class Server:
    """A server application in a process of its own, once it listens."""

    def __init__(self, *args: str) -> None:
        self.process = subprocess.Popen([*COMMAND, *args], stderr=subprocess.PIPE, text=True)
        assert self.process.stderr is not None
        for line in self.process.stderr:
            found = re.search(r"listens on .*port (\d+)", line)
            if found:
                self.port = found[1]
                return
        raise AssertionError("it does not listen")

    def stop(self, number: int) -> tuple[int, str]:
        """Send a signal; return the exit code and what was logged since it listened."""
        self.process.send_signal(number)
        assert self.process.stderr is not None
        logged = self.process.stderr.read()
        return self.process.wait(timeout=30), logged


@pytest.fixture
def start() -> Iterator[Callable[..., Server]]:
    servers: list[Server] = []

    def start_server(*args: str) -> Server:
        servers.append(Server(*args))
        return servers[-1]

    yield start_server
    for server in servers:
        assert server.process.stderr is not None
        if server.process.poll() is None:
            server.process.kill()
            server.process.wait()
        server.process.stderr.close()


@pytest.mark.parametrize("app", ["echoscp", "storescp"])
@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 0), (signal.SIGTERM, -signal.SIGTERM)]
)
def test_a_server_ends_orderly(
    app: str, number: int, code: int, start: Callable[..., Server]
) -> None:
    server = start(app, "0", "-ba", "127.0.0.1", "-v")
    assert run("echoscu", "127.0.0.1", server.port).returncode == 0
    returned, logged = server.stop(number)
    assert returned == code
    assert "C-ECHO from " in logged
    assert "Traceback" not in logged


def test_a_server_on_all_interfaces(start: Callable[..., Server]) -> None:
    server = start("echoscp", "0", "-v")
    assert run("echoscu", "localhost", server.port).returncode == 0
    _, logged = server.stop(signal.SIGINT)
    assert f"Try it with: {program()} echoscu localhost {server.port}\n" in logged


def test_a_folder_of_files_travels(
    wheel: Path, tmp_path: Path, start: Callable[..., Server]
) -> None:
    folder = tmp_path / "received"
    server = start("storescp", "0", "-ba", "127.0.0.1", "-v", "-od", str(folder))
    sent = [path for path in wheel.glob("MR_small*.dcm") if dcmread(path).file_meta]
    done = run("storescu", "127.0.0.1", server.port, *map(str, sent), "--json")
    assert done.stderr == ""
    assert json.loads(done.stdout)["sent"] == len(sent)
    assert done.returncode == 0
    code, logged = server.stop(signal.SIGINT)
    assert code == 0
    assert logged.count(" I: C-STORE from ") == len(sent)
    for path in folder.iterdir():
        assert dcmread(path).SOPInstanceUID == path.name.removeprefix("MR.")


def test_no_traceback_for_a_port_in_use(start: Callable[..., Server]) -> None:
    server = start("echoscp", "0", "-ba", "127.0.0.1", "-v")
    done = run("echoscp", server.port, "-ba", "127.0.0.1")
    assert done.returncode == 1
    assert done.stderr.startswith(f"E: Port {server.port} is in use: ")
    assert len(done.stderr.splitlines()) == 1


def test_exit_codes_of_the_command() -> None:
    assert run().returncode == 2
    assert run("nothing").returncode == 2
    assert run("echoscu").returncode == 2
    assert run("--version").returncode == 0
    assert run("storescu", "localhost", "1", "/nonexistent").returncode == 1
