"""The server applications with `--workers`, as people run them."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from dicomwire import AE, Association
from dicomwire.apps import echoscp
from dicomwire.sop_class import Verification

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="no processes to be forked")

COMMAND = [sys.executable, "-m", "dicomwire"]


class Server:
    """A server application with two workers, in a process group of its own."""

    def __init__(self, *args: str) -> None:
        self.process = subprocess.Popen(
            [*COMMAND, *args, "0", "-ba", "127.0.0.1", "-v", "--workers", "2"],
            stderr=subprocess.PIPE,
            text=True,
            pipesize=4096,  # so that it cannot get far ahead of who reads its log
            start_new_session=True,
        )
        self.seen = ""
        # Different processes log these lines, so that they come in any order.
        begun = [self.wait_for(r"listens on .*port (\d+)|Worker (\d+) serves") for _ in range(3)]
        (self.port,) = (int(each[1]) for each in begun if each[1])
        self.workers = [int(each[2]) for each in begun if each[2]]

    def wait_for(self, pattern: str) -> re.Match[str]:
        """Return the match in the next line that has one."""
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.seen += line
            if found := re.search(pattern, line):
                return found
        raise AssertionError(self.seen)

    def associate(self) -> Association:
        ae = AE("TESTER")
        ae.add_requested_context(Verification)
        return ae.associate("127.0.0.1", self.port)

    def end(self) -> tuple[int, str]:
        """Return the exit code and what is logged until all processes have ended."""
        assert self.process.stderr is not None
        self.seen += self.process.stderr.read()  # workers have the other end, too
        return self.process.wait(timeout=60), self.seen


@pytest.fixture
def start() -> Iterator[Callable[..., Server]]:
    servers: list[Server] = []

    def start_server(*args: str) -> Server:
        servers.append(Server(*args))
        return servers[-1]

    yield start_server
    for server in servers:
        if server.process.poll() is None:
            server.process.kill()
        server.end()
        assert server.process.stderr is not None
        server.process.stderr.close()


def test_ctrl_c_ends_all_processes(start: Callable[..., Server]) -> None:
    server = start("echoscp")
    with server.associate() as association:
        assert association.send_c_echo().Status == 0x0000
    association = server.associate()
    os.killpg(server.process.pid, signal.SIGINT)
    code, logged = server.end()
    assert code == 0
    assert "C-ECHO from " in logged
    assert "Stopping" in logged
    assert "Traceback" not in logged
    association.join(10)
    assert association.is_aborted


def test_sigterm_lets_associations_end(start: Callable[..., Server]) -> None:
    server = start("echoscp")
    association = server.associate()
    server.process.send_signal(signal.SIGTERM)
    server.wait_for("Waiting for associations to end")
    assert association.send_c_echo().Status == 0x0000
    association.release()
    code, logged = server.end()
    assert code == -signal.SIGTERM
    assert "aborted" not in logged
    assert "Traceback" not in logged


def test_a_second_signal_ends_the_draining(start: Callable[..., Server]) -> None:
    server = start("echoscp")
    association = server.associate()
    server.process.send_signal(signal.SIGTERM)
    server.wait_for("Waiting for associations to end")
    server.process.send_signal(signal.SIGTERM)
    code, logged = server.end()
    assert code == -signal.SIGTERM
    assert "Aborting associations that have not ended: 1" in logged
    assert "Traceback" not in logged
    association.join(10)
    assert association.is_aborted


def test_a_dead_worker_is_replaced(start: Callable[..., Server]) -> None:
    server = start("echoscp")
    os.kill(server.workers[0], signal.SIGKILL)
    server.wait_for(rf"E: Worker {server.workers[0]} was killed by signal 9; another is started")
    server.wait_for(r"I: Worker \d+ serves")
    for _ in range(4):
        with server.associate() as association:
            assert association.send_c_echo().Status == 0x0000


def test_files_of_all_workers_come_into_the_folder(
    start: Callable[..., Server], tmp_path: Path, write_file: Callable[..., Path]
) -> None:
    folder = tmp_path / "received"
    server = start("storescp", "-od", str(folder))
    for number in range(4):
        path = write_file(f"{number}.dcm", f"1.2.{number}")
        command = [*COMMAND, "storescu", "127.0.0.1", str(server.port), str(path)]
        assert subprocess.run(command, timeout=60).returncode == 0
    assert sorted(os.listdir(folder)) == [f"CT.1.2.{number}" for number in range(4)]
    server.process.send_signal(signal.SIGTERM)
    assert server.end()[0] == -signal.SIGTERM


def test_a_sender_with_a_ledger_loses_nothing_to_a_worker_that_is_killed(
    start: Callable[..., Server], tmp_path: Path, write_file: Callable[..., Path]
) -> None:
    """The associations of the other worker go on; what was under way is sent again."""
    folder = tmp_path / "received"
    server = start("storescp", "-od", str(folder), "--window", "8")
    for number in range(300):
        write_file(f"many/{number:03}", f"1.2.{number}")
    ledger = tmp_path / "ledger"
    sender = subprocess.Popen(
        [
            *(*COMMAND, "storescu", "127.0.0.1", str(server.port), str(tmp_path / "many")),
            *("--resume", str(ledger), "--parallel", "4", "--window", "8", "--json"),
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    for _ in range(40):
        server.wait_for(" I: C-STORE from ")
    os.kill(server.workers[0], signal.SIGKILL)
    with ThreadPoolExecutor(1) as pool:  # so that nobody waits for the server's log to be read
        ended = pool.submit(server.end)
        shown, _ = sender.communicate(timeout=60)
        server.process.send_signal(signal.SIGTERM)
        assert ended.result()[0] == -signal.SIGTERM
    assert sender.returncode == 0
    result = json.loads(shown)
    assert (result["sent"], result["failed"]) == (300, 0)
    assert result["associations"] > 1  # a fast one sends all before the fourth has begun
    stored = [name for name in os.listdir(folder) if not name.startswith(".")]
    assert sorted(stored) == sorted(f"CT.1.2.{number}" for number in range(300))
    assert ledger.read_bytes().count(b'"status": 0') == 300


@pytest.mark.parametrize("number", ["0", "-1", "two"])
def test_a_wrong_number_of_workers(number: str, capsys: Any) -> None:
    with pytest.raises(SystemExit):
        echoscp.main(["0", "--workers", number])
    assert "argument --workers" in capsys.readouterr().err


def test_where_there_is_no_fork(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.delattr(os, "fork")
    assert echoscp.main(["0", "-ba", "127.0.0.1", "--workers", "2"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert " E: workers need os.fork" in line
