"""storescu with a window, over parallel associations, and resumed after whatever happened."""

from __future__ import annotations

import json
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
from pydicom.uid import ImplicitVRLittleEndian, MRImageStorage

from dicomwire import StoragePresentationContexts
from dicomwire.apps import storescu
from dicomwire.data.file_meta import parse_file_meta

Capture = pytest.CaptureFixture[str]
WriteFile = Callable[..., Path]

COMMAND = [sys.executable, "-m", "dicomwire"]


@pytest.fixture
def folder(write_file: WriteFile, tmp_path: Path) -> Path:
    for number in range(12):
        write_file(f"folder/{number:02}", f"1.2.{number}")
    return tmp_path / "folder"


def summary(capsys: Capture) -> dict[str, Any]:
    result: dict[str, Any] = json.loads(capsys.readouterr().out)
    return result


def received(peer: Any) -> Counter[str]:
    return Counter(str(each.AffectedSOPInstanceUID) for each in peer.received)


@pytest.mark.parametrize(
    "options", [["--window", "4"], ["--parallel", "3"], ["--window", "8", "--parallel", "2"]]
)
def test_all_is_sent(options: list[str], peer: Any, folder: Path, capsys: Capture) -> None:
    assert storescu.main([*peer.address, str(folder), *options, "--json"]) == 0
    assert received(peer) == {f"1.2.{number}": 1 for number in range(12)}
    result = summary(capsys)
    assert (result["sent"], result["failed"], result["resumed"]) == (12, 0, 0)
    assert 1 <= result["associations"] <= 3
    assert result["bytes"] == sum(path.stat().st_size for path in folder.iterdir())
    assert result["seconds"] > 0


def test_what_is_asked_for(peer: Any, folder: Path) -> None:
    arguments = ["-aet", "ME", "-aec", "YOU", "-pdu", "0", "-xi", "--window", "7"]
    assert storescu.main([*peer.address, str(folder), *arguments]) == 0
    requestor = peer.requestors[0]
    assert requestor.ae_title == "ME"
    assert requestor.primitive.called_ae_title == "YOU"
    assert requestor.maximum_length == 0
    assert requestor.asynchronous_operations == (7, 1)
    assert [syntaxes for _, syntaxes in peer.syntaxes] == [[ImplicitVRLittleEndian]]


def test_nothing_is_asked_for_without_the_option(peer: Any, folder: Path) -> None:
    assert storescu.main([*peer.address, str(folder), "--parallel", "2"]) == 0
    assert not peer.requestors[0].extended_negotiation


def test_verbose(peer: Any, folder: Path, capsys: Capture) -> None:
    assert storescu.main([*peer.address, str(folder), "--window", "2", "-v"]) == 0
    shown = capsys.readouterr().err
    for expected in (
        "I: Requesting Association\n",
        "I: Association Accepted\n",
        f"I: Received Store Response (Status: 0x0000 - Success): {folder / '00'}\n",
        "I: Releasing Association\n",
        "I: 12 sent (0 with a warning), 0 failed",
    ):
        assert expected in shown


def test_failures_and_warnings(
    peer: Any, folder: Path, write_file: WriteFile, capsys: Capture
) -> None:
    write_file("folder/mr", "1.2.99", MRImageStorage)
    codes = {"1.2.3": 0xB000, "1.2.5": 0xC123}
    peer.status = lambda event: codes.get(str(event.request.AffectedSOPInstanceUID), 0)
    arguments = [*peer.address, str(folder), str(folder / "none"), "--parallel", "2", "--json"]
    assert storescu.main(arguments) == 1
    shown = capsys.readouterr()
    result = json.loads(shown.out)
    assert (result["sent"], result["warned"], result["failed"]) == (12, 1, 2)
    assert [(each["path"], each["status"]) for each in result["failures"]] == [
        (str(folder / "none"), None),
        (str(folder / "05"), 0xC123),
    ]
    assert f"E: Not stored: {folder / '05'}: 0xC123" in shown.err
    assert storescu.main([*arguments]) == 1


def test_nobody_there(closed_port: int, folder: Path, capsys: Capture) -> None:
    address = ["127.0.0.1", str(closed_port)]
    assert storescu.main([*address, str(folder), "--parallel", "2", "--json"]) == 3
    shown = capsys.readouterr()
    assert json.loads(shown.out)["failed"] == 12
    assert "unable to connect to remote" in shown.err


def test_a_peer_that_takes_other_kinds(
    start_peer: Callable[..., Any], folder: Path, capsys: Capture
) -> None:
    contexts = [each for each in StoragePresentationContexts if each.abstract_syntax[-2:] == ".4"]
    peer = start_peer(contexts)
    assert storescu.main([*peer.address, str(folder), "--window", "2", "--json"]) == 3
    shown = capsys.readouterr()
    assert len(json.loads(shown.out)["failures"]) == 12
    assert "no presentation context" in shown.err


@pytest.mark.parametrize(
    "options",
    [["--window", "0"], ["--window", "65536"], ["--parallel", "0"], ["--window", "many"]],
)
def test_numbers_that_make_no_sense(options: list[str], folder: Path, capsys: Capture) -> None:
    with pytest.raises(SystemExit) as stop:
        storescu.main(["127.0.0.1", "104", str(folder), *options])
    assert stop.value.code == 2


# --- The ledger ---


def test_nothing_is_sent_twice(peer: Any, folder: Path, tmp_path: Path, capsys: Capture) -> None:
    ledger = tmp_path / "sent"
    peer.status = lambda event: 0xC000 if event.request.AffectedSOPInstanceUID == "1.2.7" else 0
    arguments = [*peer.address, str(folder), "--resume", str(ledger), "--json"]
    assert storescu.main(arguments) == 1
    first = summary(capsys)
    assert (first["sent"], first["failed"], first["resumed"]) == (11, 1, 0)
    peer.status = lambda event: 0
    assert storescu.main([*arguments, "-v"]) == 0
    shown = capsys.readouterr()
    second = json.loads(shown.out)
    assert (second["sent"], second["failed"], second["resumed"]) == (1, 0, 11)
    assert "I: 11 sent earlier, 1 sent" in shown.err
    assert received(peer) == {
        **{f"1.2.{number}": 1 for number in range(12)},
        "1.2.7": 2,
    }


def test_files_that_are_no_ledger(peer: Any, folder: Path, tmp_path: Path, capsys: Capture) -> None:
    image = folder / "00"
    before = image.read_bytes()
    assert storescu.main([*peer.address, str(folder), "--resume", str(image)]) == 1
    assert "no ledger" in capsys.readouterr().err
    assert image.read_bytes() == before
    assert storescu.main([*peer.address, str(folder), "--resume", str(tmp_path)]) == 1
    assert peer.received == []
    ledger = tmp_path / "sent"
    arguments = [*peer.address, str(folder), "--resume", str(ledger)]
    assert storescu.main(arguments) == 0
    assert storescu.main([*arguments, "-aec", "OTHER"]) == 1
    assert "ledger of 'ANY-SCP" in capsys.readouterr().err


# --- Processes that are killed ---


class Archive:
    """A storescp in a process of its own, which files what it receives.

    Until it `may_run` it cannot get far ahead of who reads its log, for which there is little room.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        self.port = "0"
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen(
            [
                *(*COMMAND, "storescp", self.port, "-ba", "127.0.0.1", "-v", "--window", "8"),
                *("-od", str(self.folder)),
            ],
            stderr=subprocess.PIPE,
            text=True,
            pipesize=4096,
        )
        self._reading: threading.Thread | None = None
        self._wait_for(r"listens on .*port (\d+)")

    def _wait_for(self, pattern: str) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            if found := re.search(pattern, line):
                self.port = found[1] if found.groups() else self.port
                return
        raise AssertionError("it ended")

    def wait_for_objects(self, count: int) -> None:
        for _ in range(count):
            self._wait_for(" I: C-STORE from ")

    def may_run(self) -> None:
        """Let it go on without anybody to wait for."""
        assert self.process.stderr is not None
        self._reading = threading.Thread(target=self.process.stderr.read)
        self._reading.start()

    def kill(self) -> None:
        self.process.kill()
        if self._reading is not None:
            self._reading.join()
        self.process.communicate()

    def uids(self) -> list[str]:
        names = [path for path in self.folder.iterdir() if not path.name.startswith(".")]
        return [parse_file_meta(path.read_bytes()).sop_instance_uid for path in names]


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[Archive]:
    archive = Archive(tmp_path / "received")
    yield archive
    archive.kill()


@pytest.fixture
def many(write_file: WriteFile, tmp_path: Path) -> Path:
    for number in range(400):
        write_file(f"many/{number:03}", f"1.2.{number}")
    return tmp_path / "many"


def sender(archive: Archive, many: Path, ledger: Path, *options: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [
            *(*COMMAND, "storescu", "127.0.0.1", archive.port, str(many), "--json"),
            *("--resume", str(ledger), *options),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str], code: int = 0) -> dict[str, Any]:
    shown, errors = process.communicate(timeout=60)
    assert process.returncode == code, errors
    result: dict[str, Any] = json.loads(shown)
    return result


@pytest.mark.parametrize("after", [1, 40, 200])
def test_a_sender_that_is_killed_is_resumed(
    after: int, archive: Archive, many: Path, tmp_path: Path
) -> None:
    ledger = tmp_path / "sent"
    killed = sender(archive, many, ledger, "--window", "8", "--parallel", "2")
    archive.wait_for_objects(after)
    killed.kill()
    killed.communicate()
    archive.may_run()
    known = ledger.read_bytes().count(b'"status": 0')
    result = finish(sender(archive, many, ledger, "--window", "8", "--parallel", "2"))
    assert result["resumed"] == known
    assert result["resumed"] + result["sent"] == 400
    assert result["failed"] == 0
    assert sorted(archive.uids()) == sorted(f"1.2.{number}" for number in range(400))
    again = finish(sender(archive, many, ledger))
    assert (again["resumed"], again["sent"], again["associations"]) == (400, 0, 0)


def test_a_server_that_is_killed_and_comes_back(
    archive: Archive, many: Path, tmp_path: Path
) -> None:
    """The sender goes on where the response was lost; the files are named by the UIDs."""
    sending = sender(archive, many, tmp_path / "sent", "--window", "8", "--parallel", "2")
    archive.wait_for_objects(60)
    archive.kill()
    archive.start()
    archive.may_run()
    result = finish(sending)
    assert (result["sent"], result["failed"]) == (400, 0)
    assert result["associations"] >= 3
    assert sorted(archive.uids()) == sorted(f"1.2.{number}" for number in range(400))


def test_ctrl_c(archive: Archive, many: Path, tmp_path: Path) -> None:
    ledger = tmp_path / "sent"
    interrupted = sender(archive, many, ledger, "--window", "8")
    archive.wait_for_objects(20)
    interrupted.send_signal(signal.SIGINT)
    archive.may_run()
    first = finish(interrupted, 130)
    assert first["sent"] + first["failed"] == 400
    second = finish(sender(archive, many, ledger, "--window", "8"))
    assert second["resumed"] >= first["sent"]
    assert second["resumed"] + second["sent"] == 400
    assert sorted(archive.uids()) == sorted(f"1.2.{number}" for number in range(400))
