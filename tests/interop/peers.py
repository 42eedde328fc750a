"""The peers: other implementations of DICOM, each in processes of its own.

Where they are found, how their servers are started and ended, and what to do when one is missing.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Container, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import pytest

from free_ports import free_port

HERE = Path(__file__).parent
CHECKOUT = HERE.parents[1]
DEADLINE = 30.0
"""Seconds after which a peer that was to start, answer or end has failed the test."""
_TRIES = 4
_PYNETDICOM = "PYNETDICOM_PYTHON"
_NODE_MODULES = "DICOMWIRE_PEER_NODE_MODULES"


class Peers:
    """The programs of the peers that this machine has.

    To ask for one that is missing skips the test, or fails it where none may be missing: in
    continuous integration, which sets CI.
    """

    def program(self, name: str, package: str) -> str:
        """Return the path of a program that comes with a package of Debian."""
        path = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/local/sbin:/usr/sbin")
        return path or _missing(f"{name} is not installed (Debian: {package})")

    def file(self, path: str, package: str) -> str:
        """Return the path of a file that comes with a package of Debian."""
        return path if Path(path).exists() else _missing(f"no {path} (Debian: {package})")

    def dcmtk(self, name: str) -> str:
        """Return the path of one of DCMTK's programs."""
        return self.program(name, "dcmtk")

    def pynetdicom(self) -> str:
        """Return the Python that has pynetdicom."""
        default = CHECKOUT / ".venv-peer" / "bin" / "python"
        path = os.environ.get(_PYNETDICOM, str(default))
        if not os.access(path, os.X_OK):
            _missing(f"there is no {path} with pynetdicom (set {_PYNETDICOM})")
        return path

    def dcmjs(self, script: str) -> list[str]:
        """Return the command that runs a script of this folder with dcmjs-dimse."""
        folder = os.environ.get(_NODE_MODULES, str(CHECKOUT / ".peers" / "node_modules"))
        if not Path(folder, "dcmjs-dimse").is_dir():
            _missing(f"there is no dcmjs-dimse in {folder} (set {_NODE_MODULES})")
        return [self.program("node", "nodejs"), str(HERE / script), f"{folder}/dcmjs-dimse"]


def _missing(reason: str) -> NoReturn:
    if os.environ.get("CI", "").lower() in ("true", "1"):
        pytest.fail(f"a peer is missing: {reason}", pytrace=False)
    pytest.skip(f"a peer is missing: {reason}")


def run(*command: object, codes: Container[int] = (0,)) -> str:
    """Run a program to its end and return what it printed; its exit code must be in `codes`."""
    result = subprocess.run(
        [str(each) for each in command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        timeout=DEADLINE,
        check=False,
    )
    assert result.returncode in codes, f"{result.args}: {result.returncode}\n{result.stdout}"
    return result.stdout


def until(condition: Callable[[], object]) -> None:
    """Wait for what tells nobody that it has come; fail after some time."""
    moment = threading.Event()
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline
        moment.wait(0.05)


@contextmanager
def serving(folder: Path, command: Callable[[int], Sequence[object]]) -> Iterator[int]:
    """Run the server that `command` starts on a port, and give the port once it accepts.

    It runs in `folder`, which also gets its log. Should somebody else have taken the port in the
    meantime, there is another.
    """
    log = folder / "server.log"
    for _ in range(_TRIES):
        port = free_port()
        with log.open("wb") as output:
            process = subprocess.Popen(
                [str(each) for each in command(port)],
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        try:
            if _accepts(process, port):
                yield port
                return
        finally:
            _end(process)
    pytest.fail(f"{process.args!r} does not serve:\n{log.read_text(errors='replace')}")


def _accepts(process: subprocess.Popen[bytes], port: int) -> bool:
    """Wait until somebody accepts connections on `port`; false when `process` has ended."""
    deadline = time.monotonic() + DEADLINE
    while time.monotonic() < deadline:
        if _connects(port):
            return process.poll() is None
        try:
            process.wait(0.01)
        except subprocess.TimeoutExpired:
            continue
        return False
    return False


def _connects(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), 1) as sock:
            # A socket may by chance be given this very port, and then connects to itself.
            return sock.getsockname() != sock.getpeername()  # type: ignore[no-any-return]
    except OSError:
        return False


def _end(process: subprocess.Popen[Any]) -> None:
    process.terminate()
    try:
        process.wait(DEADLINE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(DEADLINE)


class Conversation:
    """A script of ours that a peer runs: it is asked in lines of JSON, and answers in such lines.

    What it says once it is ready is in `greeting`.
    """

    def __init__(self, *command: object) -> None:
        self._process = subprocess.Popen(
            [str(each) for each in command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )
        self.greeting = self._answer()

    def __enter__(self) -> Conversation:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()  # by which it knows that it may end
        try:
            self._process.wait(DEADLINE)
        except subprocess.TimeoutExpired:
            _end(self._process)
            raise
        finally:
            self._process.stdout.close()

    def ask(self, question: object) -> Any:
        """Return the answer to `question`."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(question) + "\n")
        return self._answer()

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, f"{self._process.args!r} ended: {self._process.wait(DEADLINE)}"
        return json.loads(line)
