"""The node forwards to Orthanc, and to a storescp of DCMTK that dies in the middle."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from archive import make_images
from orthanc import orthanc, rest
from peers import Peers, until
from pydicom import Dataset
from pydicom.uid import generate_uid

from dicomwire import AE, build_context
from dicomwire.node.configuration import Configuration, Destination, Route, Then
from dicomwire.node.forwarding import sending
from dicomwire.node.server import Node
from dicomwire.node.tasks.queue import State, listed
from free_ports import free_port


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sending, "GATHER", 0.05)
    monkeypatch.setattr(sending, "LINGER", 0.1)


def send(node: Node, images: list[Dataset]) -> None:
    kinds = {(each.SOPClassUID, each.file_meta.TransferSyntaxUID) for each in images}
    contexts = [build_context(*kind) for kind in sorted(kinds)]
    with AE("MODALITY").associate(*node.address, contexts) as assoc:
        for each in images:
            assert assoc.send_c_store(each).Status == 0x0000


@contextmanager
def forwarding(folder: Path, port: int, **route: object) -> Iterator[Node]:
    """Run a node with a route HERE."""
    routes = (Route(("HERE",), **route),)  # type: ignore[arg-type]
    destinations = {"HERE": Destination("127.0.0.1", port)}
    with Node(
        Configuration(port=0, folder=folder, destinations=destinations, routes=routes)
    ) as node:
        yield node


def test_orthanc_gets_all_objects_and_commits_to_them(peers: Peers, tmp_path: Path) -> None:
    receiver = free_port()
    images = make_images()
    with forwarding(tmp_path / "node", receiver, commit=True, then=Then.DELETE) as node:
        send(node, images)
        with orthanc(peers, node.address, receiver, tmp_path) as http:
            node.archive.queue.retry("destination:HERE", [State.WAITING])
            until(lambda: len(ids(http)) == len(images))
            until(lambda: not list(node.archive.index.stored()))
            tags = [
                rest(http, f"/instances/{each}/simplified-tags")
                for each in rest(http, "/instances")
            ]
    assert {each["SOPInstanceUID"] for each in tags} == {each.SOPInstanceUID for each in images}


def ids(http: int) -> list[str]:
    """Return Orthanc's names of all instances that it has."""
    found: list[str] = rest(http, "/instances")
    return found


class StoreScp:
    """A storescp of DCMTK on a port, which may die and come back."""

    def __init__(self, peers: Peers, folder: Path, port: int) -> None:
        self._command = [peers.dcmtk("storescp"), "-od", str(folder), str(port)]
        self._port = port
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._process = subprocess.Popen(
            self._command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        until(self._accepts)

    def _accepts(self) -> bool:
        with suppress(OSError), socket.create_connection(("127.0.0.1", self._port), 1):
            return True
        return False

    def die(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()


def test_a_storescp_that_dies_in_the_middle_gets_all_objects(peers: Peers, tmp_path: Path) -> None:
    files = tmp_path / "files"
    files.mkdir()
    port = free_port()
    destination = StoreScp(peers, files, port)
    images = [make_images()[0] for _ in range(60)]
    for each in images:
        each.SOPInstanceUID = each.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    destination.start()
    try:
        with forwarding(tmp_path / "node", port) as node:
            send(node, images[:30])
            until(lambda: len(list(files.iterdir())) >= 5)
            destination.die()
            send(node, images[30:])
            until(lambda: any(task.error for task in listed(node.archive.index)))
            destination.start()
            node.archive.queue.retry("destination:HERE", [State.WAITING])
            until(lambda: not list(listed(node.archive.index)))
    finally:
        destination.die()
    uids = {path.name.partition(".")[2] for path in files.iterdir()}
    assert uids == {each.SOPInstanceUID for each in images}
