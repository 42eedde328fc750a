"""Storage commitment between the node and Orthanc, in both directions."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from archive import make_images
from orthanc import orthanc, rest
from peers import Peers, until
from pydicom.uid import CTImageStorage

from dicomwire import AE, build_context
from dicomwire.node.commitment.requesting import Wanted
from dicomwire.node.configuration import Configuration, Destination
from dicomwire.node.server import Node
from dicomwire.node.tasks.queue import NewTask, listed
from free_ports import free_port

MISSING = "1.2.3.9.9.9.9"
NO_SUCH_INSTANCE = 0x0112


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    """A node to which Orthanc is HERE."""
    destinations = {"HERE": Destination("127.0.0.1", free_port())}
    with Node(
        Configuration(port=0, folder=tmp_path / "archive", destinations=destinations)
    ) as node:
        yield node


def send(address: tuple[str, int], title: str) -> str:
    """Send an image, and return its UID."""
    image = make_images()[0]
    contexts = [build_context(image.SOPClassUID, image.file_meta.TransferSyntaxUID)]
    with AE().associate(*address, contexts, ae_title=title) as association:
        assert association.send_c_store(image).Status == 0x0000
    return str(image.SOPInstanceUID)


def test_orthanc_asks_the_node(peers: Peers, node: Node, tmp_path: Path) -> None:
    uid = send(node.address, "DICOMWIRE")
    port = node.configuration.destinations["HERE"].port
    with orthanc(peers, node.address, port, tmp_path) as http:
        objects = [[CTImageStorage, uid], [CTImageStorage, MISSING]]
        path = rest(http, "/modalities/node/storage-commitment", {"DicomInstances": objects})[
            "Path"
        ]
        until(lambda: rest(http, path)["Status"] != "Pending")
        report = rest(http, path)
    assert report["Status"] == "Failure"
    assert [each["SOPInstanceUID"] for each in report["Success"]] == [uid]
    failures = [(each["SOPInstanceUID"], each["FailureReason"]) for each in report["Failures"]]
    assert failures == [(MISSING, NO_SUCH_INSTANCE)]


def test_the_node_asks_orthanc(peers: Peers, node: Node, tmp_path: Path) -> None:
    port = node.configuration.destinations["HERE"].port
    with orthanc(peers, node.address, port, tmp_path):
        uid = send(("127.0.0.1", port), "HERE")
        wanted = [
            Wanted("HERE", CTImageStorage, each, [NewTask("sent", {"uid": each})],
                   NewTask("again", {"uid": each}, delay=60.0))
            for each in (uid, MISSING)
        ]  # fmt: skip
        with node.archive.index.writing() as writer:
            node.archive.commitments.want(writer, wanted)

        def outcome() -> dict[str, str]:
            return {each.kind: each.payload.get("uid") for each in listed(node.archive.index)}

        until(lambda: set(outcome()) == {"sent", "again"})
    assert outcome() == {"sent": uid, "again": MISSING}
