"""Programs that import `pynetdicom`, run in processes where that is the drop-in."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROGRAMS = Path(__file__).with_name("programs")
PATH = os.pathsep.join(str(ROOT / folder) for folder in ("dropin/src", "src"))
WAIT = 20

Run = Callable[..., str]


def start(*args: object, **options: object) -> subprocess.Popen[str]:
    """Start Python with `args`, finding the drop-in."""
    command = [sys.executable, "-u", "-W", "error", *map(str, args)]
    return subprocess.Popen(
        command,
        env=os.environ | {"PYTHONPATH": PATH},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def finish(process: subprocess.Popen[str], code: int = 0) -> str:
    """Return what `process` printed, when it is over."""
    try:
        printed, log = process.communicate(timeout=WAIT)
    finally:
        process.kill()
    assert process.returncode == code, log
    return printed


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def wait_for(port: int, process: subprocess.Popen[str]) -> None:
    """Wait until `process` listens on `port`."""
    moment, deadline = threading.Event(), time.monotonic() + WAIT
    while time.monotonic() < deadline and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except ConnectionRefusedError:
            moment.wait(0.01)
        else:
            return
    process.kill()
    raise AssertionError(process.communicate()[1])


@pytest.fixture
def run() -> Run:
    """Give what runs a line of Python or more in a process, and returns what it prints."""
    return lambda code, *args: finish(start("-c", code, *args))


class Server:
    """A program that serves until it is interrupted."""

    def __init__(self, program: str, *args: object) -> None:
        self.port = free_port()
        self.process = start(PROGRAMS / program, self.port, *args)
        wait_for(self.port, self.process)

    def stop(self) -> str:
        """Interrupt the program, and return what it printed."""
        self.process.send_signal(signal.SIGINT)
        return finish(self.process)


@pytest.fixture
def serve() -> Iterator[Callable[..., Server]]:
    """Give what starts a server program."""
    servers = []

    def begin(program: str, *args: object) -> Server:
        servers.append(Server(program, *args))
        return servers[-1]

    yield begin
    for server in servers:
        server.process.kill()
        server.process.communicate()
