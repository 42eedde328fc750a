"""The node with everybody's programs: DCMTK's, pynetdicom's and ours send, find and fetch."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest
from archive import assert_same, files_in, make_images
from peers import DEADLINE, Peers, free_port, run, serving
from pydicom.filewriter import dcmwrite

STUDY = ("QueryRetrieveLevel=STUDY", "StudyInstanceUID=1.2.3.1.1")
OURS = [sys.executable, "-m", "dicomwire"]


class Node:
    """A node in a process of its own, that knows HERE.

    Attributes
    ----------
    address : list of str
        Host and port.
    receiver : int
        The port that it sends to when it is to send HERE.
    """

    def __init__(self, folder: Path) -> None:
        self.receiver = free_port()
        command = [*OURS, "node", "--json", "--port", "0", "--folder", str(folder)]
        self._process = subprocess.Popen(
            [*command, "--destination", f"HERE=127.0.0.1:{self.receiver}"],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        facts = json.loads(self._process.stdout.readline())
        self.address = [facts["address"], str(facts["port"])]

    def stop(self) -> None:
        """Stop it by Ctrl-C."""
        self._process.send_signal(signal.SIGINT)
        self._process.communicate(timeout=30)
        assert self._process.returncode == 0


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    node = Node(tmp_path / "archive")
    yield node
    node.stop()


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """A folder of files: two patients, three studies."""
    folder = tmp_path / "images"
    folder.mkdir()
    for number, ds in enumerate(make_images()):
        dcmwrite(folder / f"{number}.dcm", ds, enforce_file_format=True)
    return folder


@pytest.fixture
def fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, which is the current one."""
    folder = tmp_path / "fetched"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def keys(*pairs: str) -> list[str]:
    return [each for pair in pairs for each in ("-k", pair)]


def is_whole_study(folder: Path) -> None:
    assert_same(files_in(folder), make_images()[:4])


def dcmtk(peers: Peers, node: Node, images: Path, fetched: Path) -> str:
    run(peers.dcmtk("storescu"), *node.address, "+sd", images)
    found = run(peers.dcmtk("findscu"), "-S", *node.address, *keys(*STUDY, "PatientName"))
    run(peers.dcmtk("getscu"), "-S", *node.address, *keys(*STUDY))
    is_whole_study(fetched)
    for file in fetched.iterdir():
        file.unlink()
    move = [peers.dcmtk("movescu"), "-S", *node.address, "-aem", "HERE", "--port", node.receiver]
    run(*move, *keys(*STUDY))
    return found


def pynetdicom(peers: Peers, node: Node, images: Path, fetched: Path) -> str:
    peer = [peers.pynetdicom(), "-m", "pynetdicom"]
    run(*peer, "storescu", *node.address, images)
    found = run(*peer, "findscu", *node.address, "-S", *keys(*STUDY, "PatientName"))
    run(*peer, "getscu", *node.address, "-S", *keys(*STUDY), "-od", fetched)
    is_whole_study(fetched)
    for file in fetched.iterdir():
        file.unlink()
    receiver = ["--store", "--store-aet", "HERE", "--store-port", node.receiver, "-aem", "HERE"]
    run(*peer, "movescu", *node.address, "-S", *keys(*STUDY), *receiver, "-od", fetched)
    return found


def ours(peers: Peers, node: Node, images: Path, fetched: Path) -> str:
    run(*OURS, "storescu", *node.address, images, "--strict")
    found = run(*OURS, "findscu", *node.address, "-S", *keys(*STUDY, "PatientName"), "--strict")
    run(*OURS, "getscu", *node.address, "-S", *keys(*STUDY), "-od", fetched, "--strict")
    is_whole_study(fetched)
    for file in fetched.iterdir():
        file.unlink()
    receiver = ["--store", "--store-aet", "HERE", "--store-port", node.receiver]
    run(*OURS, "movescu", *node.address, "-S", *keys(*STUDY), *receiver, "-od", fetched, "--strict")
    return found


@pytest.mark.parametrize("programs", [dcmtk, pynetdicom, ours])
def test_send_find_fetch(
    programs: Callable[..., str], peers: Peers, node: Node, images: Path, fetched: Path
) -> None:
    found = programs(peers, node, images, fetched)
    assert "Doe^Patient 1" in found
    assert "Doe^Patient 2" not in found
    is_whole_study(fetched)


def test_orthanc(peers: Peers, node: Node, images: Path, tmp_path: Path) -> None:
    """Orthanc asks the node for a study, and has it sent to itself."""
    program = peers.program("Orthanc", "orthanc")
    run(*OURS, "storescu", *node.address, images, "--strict")
    host, port = node.address
    config = tmp_path / "orthanc.json"

    def command(http: int) -> list[object]:
        settings = {
            "StorageDirectory": str(tmp_path / "orthanc"),
            "HttpPort": http,
            "AuthenticationEnabled": False,
            "DicomAet": "HERE",
            "DicomPort": node.receiver,
            "DicomModalities": {"node": ["DICOMWIRE", host, int(port)]},
        }
        config.write_text(json.dumps(settings))
        return [program, config]

    with serving(tmp_path, command) as http:
        wanted = {"Level": "Study", "Query": {"StudyInstanceUID": "1.2.3.1.1"}}
        path = rest(http, "/modalities/node/query", wanted)["Path"]
        assert len(rest(http, f"{path}/answers")) == 1
        rest(http, f"{path}/retrieve", {"TargetAet": "HERE", "Synchronous": True})
        assert len(rest(http, "/instances")) == 4


def rest(port: int, path: str, body: object = None) -> Any:
    """Return what Orthanc's REST interface answers: to a GET, or to a POST if there is a body."""
    data = json.dumps(body).encode() if body is not None else None
    with urlopen(Request(f"http://127.0.0.1:{port}{path}", data), timeout=DEADLINE) as answer:
        return json.load(answer)
