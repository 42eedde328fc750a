"""The node with everybody's programs: DCMTK's, pynetdicom's and ours send, find and fetch."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from pathlib import Path

import pytest
from archive import WHEEL, assert_same, files_in, make_images
from orthanc import orthanc, rest
from peers import Peers, run
from pydicom.filewriter import dcmwrite

from dicomwire.__main__ import main
from dicomwire.node.configuration import Configuration, Destination
from dicomwire.node.server import Node as RunningNode
from free_ports import free_port

STUDY = ("QueryRetrieveLevel=STUDY", "StudyInstanceUID=1.2.3.1.1")


class Node:
    """A node that knows HERE.

    Attributes
    ----------
    address : list of str
        Host and port.
    receiver : int
        The port that it sends to when it is to send HERE.
    """

    def __init__(self, running: RunningNode, receiver: int) -> None:
        self.receiver = receiver
        self.known_as = running.address  # for configurations
        self.address = [str(each) for each in running.address]
        self._folder = running.configuration.folder

    def objects(self) -> list[Path]:
        """Return the files that it has."""
        return list((self._folder / "objects").rglob("*.dcm"))


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    receiver = free_port()
    destinations = {"HERE": Destination("127.0.0.1", receiver)}
    folder = tmp_path / "archive"
    with RunningNode(Configuration(port=0, folder=folder, destinations=destinations)) as running:
        yield Node(running, receiver)


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


def ours_says(*arguments: object) -> str:
    """Run a program of ours in this process, and return its output."""
    said = io.StringIO()
    with redirect_stdout(said):
        assert main([str(each) for each in arguments]) == 0, said.getvalue()
    return said.getvalue()


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
    ours_says("storescu", *node.address, images, "--strict")
    found = ours_says("findscu", *node.address, "-S", *keys(*STUDY, "PatientName"), "--strict")
    ours_says("getscu", *node.address, "-S", *keys(*STUDY), "-od", fetched, "--strict")
    is_whole_study(fetched)
    for file in fetched.iterdir():
        file.unlink()
    receiver = ["--store", "--store-aet", "HERE", "--store-port", node.receiver]
    ours_says("movescu", *node.address, "-S", *keys(*STUDY), *receiver, "-od", fetched, "--strict")
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
    ours_says("storescu", *node.address, images, "--strict")
    with orthanc(peers, node.known_as, node.receiver, tmp_path) as http:
        wanted = {"Level": "Study", "Query": {"StudyInstanceUID": "1.2.3.1.1"}}
        path = rest(http, "/modalities/node/query", wanted)["Path"]
        assert len(rest(http, f"{path}/answers")) == 1
        rest(http, f"{path}/retrieve", {"TargetAet": "HERE", "Synchronous": True})
        assert len(rest(http, "/instances")) == 4


SENT_TWICE = [
    WHEEL / f"{name}.dcm"
    for name in (
        "CT_small",
        "ExplVR_BigEnd",
        "JPEG2000",
        "MR_small_implicit",
        "SC_rgb_rle_2frame",
        "examples_ybr_color",
        "image_dfl",
        "liver_1frame",
        "reportsi",
    )
]


def test_what_comes_back_from_orthanc_is_there_already(
    peers: Peers, node: Node, tmp_path: Path
) -> None:
    """Orthanc writes what it receives anew, and sends it in a transfer syntax of its choice."""
    with orthanc(peers, node.known_as, node.receiver, tmp_path) as http:
        ours_says("storescu", *node.address, *SENT_TWICE, "--strict")
        ours_says("storescu", "127.0.0.1", node.receiver, *SENT_TWICE, "--strict")
        everything = {"Resources": rest(http, "/instances"), "Synchronous": True}
        answer = rest(http, "/modalities/node/store", everything)
    counts = answer["InstancesCount"], answer["FailedInstancesCount"]
    assert counts == (len(SENT_TWICE), 0)
    assert len(node.objects()) == len(SENT_TWICE)


ENCODINGS = [
    ["dcmconv", "+te", "+e"],  # lengths of sequences
    ["dcmconv", "+te", "-e"],  # or delimiters
    ["dcmconv", "+te", "+g"],  # group lengths
    ["dcmconv", "+te", "-g"],
    ["dcmconv", "+te", "+p", "512", "64"],  # padding, in items too
    ["dcmconv", "+ti"],
    ["dcmconv", "+ti", "-e"],
    ["dcmconv", "+tb"],
    ["dcmconv", "+td"],
    ["dcmcrle"],
    ["dcmcjpls"],
]


@pytest.mark.parametrize("name", ["CT_small", "MR_small_implicit", "examples_rgb_color"])
def test_what_dcmtk_encodes_anew_is_there_already(
    peers: Peers, node: Node, tmp_path: Path, name: str
) -> None:
    path = WHEEL / f"{name}.dcm"
    files = []
    for number, (program, *options) in enumerate(ENCODINGS):
        files.append(tmp_path / f"{number}.dcm")
        run(peers.dcmtk(program), *options, path, files[-1])
    ours_says("storescu", *node.address, path, *files, "--strict")
    assert len(node.objects()) == 1
