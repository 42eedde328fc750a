"""storescu --parallel with many files: several processes send them, whatever becomes of these."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from certificates import Certificates
from dicomwire.apps import storing_many
from dicomwire.tls import server_context

COUNT = 2000
LAST = str(10000 + COUNT - 1)
PATIENCE = 30.0

needs_processors = pytest.mark.skipif(
    not hasattr(os, "sched_getaffinity") or len(os.sched_getaffinity(0)) < 2,
    reason="a system without fork, or with one processor",
)


@pytest.fixture
def folder(write_file: Callable[..., Path], tmp_path: Path) -> Path:
    first = write_file("many/10000", "1.2.10000").read_bytes()
    for number in range(10001, 10000 + COUNT):
        path = tmp_path / "many" / str(number)
        path.write_bytes(first.replace(b"1.2.10000", b"1.2.%d" % number))
    return tmp_path / "many"


class Sender:
    """storescu in a process of its own, which sends in several processes."""

    def __init__(self, peer: Any, *args: object) -> None:
        command = [
            sys.executable,
            "-W",
            "error",
            "-m",
            "dicomwire",
            "storescu",
            *peer.address,
            *map(str, args),
        ]
        self.process = subprocess.Popen(
            [*command, "--parallel", "3", "--json"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    @property
    def children(self) -> list[int]:
        pid = self.process.pid
        return [*map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())]

    def finish(self, code: int) -> tuple[dict[str, Any], str]:
        """Wait for the end of all its processes; return the summary and the log."""
        shown, log = self.process.communicate(timeout=PATIENCE)  # all have these pipes
        assert self.process.returncode == code, log
        assert not re.search("Traceback|Warning", log)
        return json.loads(shown or "{}"), log


@pytest.fixture
def send() -> Iterator[Callable[..., Sender]]:
    started: list[Sender] = []

    def start(*args: Any) -> Sender:
        started.append(Sender(*args))
        return started[-1]

    yield start
    for each in started:
        each.process.kill()
        each.process.communicate()


class Gate:
    """The answers of a peer, of which some wait until it is open."""

    def __init__(self, peer: Any, after: int = 100) -> None:
        self._left = iter(range(after))
        self._is_open, self._is_reached = threading.Event(), threading.Event()
        peer.status = self._answer

    def _answer(self, event: Any) -> int:
        if next(self._left, None) is None:
            self._is_reached.set()
            self._is_open.wait(PATIENCE)
        return 0

    def wait(self) -> None:
        assert self._is_reached.wait(PATIENCE)

    def open(self) -> None:
        self._is_open.set()


def stored(peer: Any) -> Counter[str]:
    return Counter(str(each.AffectedSOPInstanceUID) for each in peer.received)


def once() -> dict[str, int]:
    return {f"1.2.{number}": 1 for number in range(10000, 10000 + COUNT)}


@needs_processors
def test_all_is_sent_once(peer: Any, folder: Path, send: Callable[..., Sender]) -> None:
    gate = Gate(peer)
    sender = send(peer, folder, "-v", "--window", "8", "-aet", "ME", "-pdu", "0")
    gate.wait()
    assert len(sender.children) == 2
    gate.open()
    result, log = sender.finish(0)
    assert stored(peer) == once()
    assert (result["sent"], result["failed"]) == (COUNT, 0)
    assert result["bytes"] == sum(path.stat().st_size for path in folder.iterdir())
    assert result["associations"] == len(peer.requestors) == 3
    assert {peer.how_it_ended() for _ in range(3)} == {"released"}
    assert log.count("I: Association Accepted\n") == 3
    assert log.count("I: Received Store Response (Status: 0x0000 - Success): ") == COUNT
    assert log.endswith("MB/s\n")
    assert {each.ae_title for each in peer.requestors} == {"ME"}
    assert {each.maximum_length for each in peer.requestors} == {0}


@needs_processors
def test_each_process_has_tls_of_its_own(
    start_peer: Callable[..., Any],
    folder: Path,
    send: Callable[..., Sender],
    certificates: Certificates,
) -> None:
    peer = start_peer(tls=server_context(*certificates.server, client_ca=certificates.ca))
    options = ["--tls", "--tls-ca", certificates.ca]
    result, _ = send(peer, folder, *options).finish(3)
    assert (result["sent"], result["failed"]) == (0, COUNT)
    client = certificates.client
    options += ["--tls-cert", client.certificate, "--tls-key", client.key]
    result, _ = send(peer, folder, *options).finish(0)
    assert (result["sent"], result["associations"]) == (COUNT, 3)
    assert stored(peer) == once()


@needs_processors
def test_failures_have_their_files_and_reasons(
    peer: Any, folder: Path, send: Callable[..., Sender]
) -> None:
    gone = folder / LAST

    def answer(event: Any) -> int:
        gone.unlink(missing_ok=True)
        return 0xC123 if event.request.AffectedSOPInstanceUID == "1.2.10007" else 0

    peer.status = answer
    result, log = send(peer, folder).finish(1)
    assert (result["sent"], result["failed"]) == (COUNT - 2, 2)
    failures = {each["path"]: (each["status"], each["reason"]) for each in result["failures"]}
    assert failures.keys() == {str(folder / "10007"), str(gone)}
    assert failures[str(folder / "10007")][0] == 0xC123
    assert "No such file" in failures[str(gone)][1]
    assert log.count("E: Not stored: ") == 2


@needs_processors
def test_the_others_send_what_a_killed_process_had(
    peer: Any, folder: Path, send: Callable[..., Sender], tmp_path: Path
) -> None:
    gate = Gate(peer)
    ledger = tmp_path / "sent"
    sender = send(peer, folder, "--resume", ledger)
    gate.wait()
    os.kill(sender.children[0], signal.SIGKILL)
    gate.open()
    result, log = sender.finish(0)
    assert (result["sent"], result["failed"]) == (COUNT, 0)
    assert stored(peer).keys() == once().keys()
    assert "E: A sending process was killed by signal 9\n" in log
    again, _ = send(peer, folder, "--resume", ledger).finish(0)
    assert (again["resumed"], again["sent"], again["associations"]) == (COUNT, 0, 0)


@needs_processors
def test_without_any_process_the_rest_fails(
    peer: Any, folder: Path, send: Callable[..., Sender]
) -> None:
    gate = Gate(peer)
    sender = send(peer, folder)
    gate.wait()
    for child in sender.children:
        os.kill(child, signal.SIGKILL)
    gate.open()
    result, _ = sender.finish(1)
    assert result["sent"] < len(peer.received)
    assert result["sent"] + result["failed"] == COUNT
    reasons = {each["reason"] for each in result["failures"]}
    assert reasons == {"the sending process was killed by signal 9 (process)"}


@needs_processors
def test_a_peer_that_allows_one_association(
    start_peer: Callable[..., Any], folder: Path, send: Callable[..., Sender]
) -> None:
    peer = start_peer(maximum_associations=1)
    result, _ = send(peer, folder).finish(0)
    assert (result["sent"], result["failed"]) == (COUNT, 0)
    assert stored(peer) == once()


@needs_processors
def test_a_peer_that_does_not_want_us(
    start_peer: Callable[..., Any], folder: Path, send: Callable[..., Sender]
) -> None:
    peer = start_peer(require_called_aet=True)
    result, log = send(peer, folder).finish(3)
    assert (result["sent"], result["failed"]) == (0, COUNT)
    assert "Called AE title not recognised" in result["failures"][0]["reason"]
    assert log.count("Association Rejected") == 3


@needs_processors
def test_ctrl_c(peer: Any, folder: Path, send: Callable[..., Sender]) -> None:
    gate = Gate(peer)
    sender = send(peer, folder)
    gate.wait()
    for pid in (sender.process.pid, *sender.children):  # a terminal sends it to all
        os.kill(pid, signal.SIGINT)
    gate.open()
    result, log = sender.finish(130)
    assert result["sent"] + result["failed"] == COUNT
    assert len(peer.received) < COUNT
    assert "interrupted" in log
    assert {peer.how_it_ended() for _ in peer.requestors} == {"released"}


@needs_processors
def test_ctrl_c_while_the_peer_hangs(peer: Any, folder: Path, send: Callable[..., Sender]) -> None:
    gate = Gate(peer)
    sender = send(peer, folder)
    gate.wait()
    sender.process.send_signal(signal.SIGINT)
    result, _ = sender.finish(130)
    assert result["sent"] + result["failed"] == COUNT
    gate.open()
    # An association that has just begun, or has nothing outstanding, is released.
    assert "aborted" in {peer.how_it_ended() for _ in peer.requestors}


@needs_processors
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_no_process_outlives_the_first(
    number: signal.Signals, peer: Any, folder: Path, send: Callable[..., Sender]
) -> None:
    gate = Gate(peer)
    sender = send(peer, folder)
    gate.wait()
    sender.process.send_signal(number)
    sender.finish(-number)
    gate.open()
    assert peer.how_it_ended() == "aborted"


def test_processes_are_for_many_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    assert [storing_many._processes(4, count) for count in (0, 1999, 2000, 10**6)] == [1, 1, 2, 4]
    assert storing_many._processes(16, 10**6) == 8
    monkeypatch.delattr(os, "sched_getaffinity")
    assert storing_many._processes(4, 10**6) == 1
