"""The DICOM files of pydicom's wheel that a storage class covers go to and from the peers.

It arrives byte for byte where the sender sends files as they are, or else element for element.
"""

from __future__ import annotations

import io
import json
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

import pydicom
import pydicom.data
import pytest
from peers import HERE, Conversation, Peers, run, serving
from pydicom.dataelem import DataElement
from pydicom.tag import BaseTag
from pydicom.uid import (
    JPEG2000,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

from dicomwire import AE, AllStoragePresentationContexts, build_context
from dicomwire.apps import storescu
from dicomwire.data.file_meta import FileFormatError, FileHead, parse_file_meta

# --- The files --------------------------------------------------------------------------------


class Sample(NamedTuple):
    """A file of the wheel."""

    name: str
    path: Path
    head: FileHead

    @property
    def syntax(self) -> str:
        return self.head.transfer_syntax_uid


def head_of(path: Path) -> FileHead:
    """Return what the file meta information says."""
    with io.FileIO(path) as file:
        return parse_file_meta(file)


def identity_of(sample: Sample) -> tuple[str, str]:
    """Return the UIDs to send a file under: those of its dataset, which some files' heads deny."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ds = pydicom.dcmread(sample.path, stop_before_pixels=True)
    said = sample.head.sop_class_uid, sample.head.sop_instance_uid
    return ds.get("SOPClassUID", said[0]), ds.get("SOPInstanceUID", said[1])


def dataset_of(path: Path) -> bytes:
    """Return what follows the file meta information."""
    return path.read_bytes()[head_of(path).offset :]


def _samples() -> Iterator[Sample]:
    folder = Path(pydicom.data.__file__).parent / "test_files"
    covered = {context.abstract_syntax for context in AllStoragePresentationContexts}
    for path in sorted(folder.rglob("*")):
        if path.is_dir():
            continue
        try:
            head = head_of(path)
        except FileFormatError:
            continue
        if head.sop_class_uid in covered:
            yield Sample(path.relative_to(folder).as_posix(), path, head)


SAMPLES = list(_samples())
CONTEXTS = sorted({(each.head.sop_class_uid, each.syntax) for each in SAMPLES})


def differences(one: Path, other: Path) -> list[BaseTag]:
    """Return the tags of the elements in which two files differ.

    Group lengths and trailing padding are not looked at, which any encoder may add or leave out,
    and encapsulated pixel data counts as OB (PS3.5 Section A.4), though files have it as OW.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        first, second = _elements(one), _elements(other)
        return [tag for tag in sorted(first | second) if first.get(tag) != second.get(tag)]


def _elements(path: Path) -> dict[BaseTag, DataElement]:
    ds = pydicom.dcmread(path)
    found = {each.tag: each for each in ds if each.tag.element and each.tag != 0xFFFCFFFC}
    if "PixelData" in ds and ds.file_meta.TransferSyntaxUID.is_encapsulated:
        found[ds["PixelData"].tag].VR = "OB"
    return found


# --- The servers ------------------------------------------------------------------------------

Receiver = Callable[[Peers, Path, Path, str], AbstractContextManager[int]]
"""Starts a server, given a folder to work in, one for the files, and what ours is to prefer."""

# dcmsend proposes several transfer syntaxes in a context, and converts to what we choose.
_PREFERENCES = {ImplicitVRLittleEndian: "-xi", ExplicitVRBigEndian: "-xb"}


@contextmanager
def our_storescp(peers: Peers, work: Path, files: Path, preference: str) -> Iterator[int]:
    command = [sys.executable, "-m", "dicomwire", "storescp", preference, "-od", files]
    with serving(work, lambda port: [*command, port]) as port:
        yield port


@contextmanager
def dcmtk_storescp(peers: Peers, work: Path, files: Path, preference: str) -> Iterator[int]:
    program = peers.dcmtk("storescp")
    with serving(work, lambda port: [program, "+B", "+xa", "-od", files, port]) as port:
        yield port


@contextmanager
def pynetdicom_scp(peers: Peers, work: Path, files: Path, preference: str) -> Iterator[int]:
    script = (peers.pynetdicom(), HERE / "peer_storage.py", "receive", files)
    classes = sorted({uid for uid, _ in CONTEXTS})
    with Conversation(*script, json.dumps(classes)) as server:
        yield server.greeting


# --- The clients ------------------------------------------------------------------------------

Send = Callable[[Sample, int], object]
"""Sends a file to a port."""

Sender = Callable[[Peers, ExitStack], Send]
"""Gets a client ready; what it has to be rid of at the end, the stack is told."""


def dcmtk_dcmsend(peers: Peers, stack: ExitStack) -> Send:
    program = peers.dcmtk("dcmsend")
    # -nuc: the UIDs of some files are not valid.
    return lambda sample, port: run(program, "-dn", "-nuc", "127.0.0.1", port, sample.path)


_PROPOSALS = {
    ImplicitVRLittleEndian: "-xi",
    ExplicitVRLittleEndian: "-xe",
    ExplicitVRBigEndian: "-xb",
    DeflatedExplicitVRLittleEndian: "-xd",
    RLELossless: "-xr",
    JPEGBaseline8Bit: "-xy",
    JPEGExtended12Bit: "-xx",
    JPEGLosslessSV1: "-xs",
    JPEGLSLossless: "-xt",
    JPEGLSNearLossless: "-xu",
    JPEG2000Lossless: "-xv",
    JPEG2000: "-xw",
}


def dcmtk_storescu(peers: Peers, stack: ExitStack) -> Send:
    program = peers.dcmtk("storescu")
    return lambda sample, port: run(
        program, "-R", _PROPOSALS[sample.syntax], "127.0.0.1", port, sample.path
    )


def pynetdicom_scu(peers: Peers, stack: ExitStack) -> Send:
    clients: dict[int, Conversation] = {}

    def send(sample: Sample, port: int) -> None:
        if port not in clients:
            script = (peers.pynetdicom(), HERE / "peer_storage.py", "send", port)
            clients[port] = stack.enter_context(Conversation(*script, json.dumps(CONTEXTS)))
        assert clients[port].ask(str(sample.path)) == 0x0000

    return send


def our_storescu(peers: Peers, stack: ExitStack) -> Send:
    def send(sample: Sample, port: int) -> None:
        assert storescu.main(["127.0.0.1", str(port), str(sample.path), "--strict"]) == 0

    return send


def our_dataset(peers: Peers, stack: ExitStack) -> Send:
    def send(sample: Sample, port: int) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ds = pydicom.dcmread(sample.path)
            context = build_context(ds.SOPClassUID, sample.syntax)
            with AE().associate("127.0.0.1", port, [context]) as association:
                assert association.send_c_store(ds).Status == 0x0000

    return send


# --- What goes where --------------------------------------------------------------------------

# What a peer that decodes what it sends cannot read, all or some of it.
CUT_OFF = {"MR_truncated.dcm", "SC_rgb_jpeg.dcm", "rtplan_truncated.dcm"}
WITHOUT_UIDS = {"UN_sequence.dcm", "no_meta_group_length.dcm", "priv_SQ.dcm"}
# Their UIDs have the VR UN, which DCMTK reads as hexadecimal text: it finds none, or sends "31".
UIDS_AS_UN = {"rtdose_rle.dcm", "rtdose_rle_1frame.dcm"}


class Route(NamedTuple):
    """Who sends to whom, and the files that the sender cannot read and so not send.

    Attributes
    ----------
    every : bool
        Whether all files are sent; otherwise one of each SOP class and transfer syntax,
        where the files go through code of ours that a route with all files has been through.
    """

    sender: Sender
    receiver: Receiver
    unreadable: set[str] = set()
    as_is: bool = True
    every: bool = True

    @property
    def samples(self) -> list[Sample]:
        """The files to send."""
        readable = [each for each in SAMPLES if each.name not in self.unreadable]
        if self.every:
            return readable
        return list({(each.head.sop_class_uid, each.syntax): each for each in readable}.values())


ROUTES = {
    "dcmsend-to-ours": Route(
        dcmtk_dcmsend, our_storescp, CUT_OFF | WITHOUT_UIDS | UIDS_AS_UN, as_is=False
    ),
    "storescu-to-ours": Route(
        dcmtk_storescu,
        our_storescp,
        CUT_OFF | WITHOUT_UIDS | UIDS_AS_UN,
        as_is=False,
        every=False,
    ),
    "ours-to-storescp": Route(our_storescu, dcmtk_storescp),
    "our-datasets-to-storescp": Route(
        our_dataset,
        dcmtk_storescp,
        {"SC_rgb_jpeg.dcm", "rtplan_truncated.dcm"} | WITHOUT_UIDS,
        as_is=False,
    ),
    # In the end: idle, it takes a tenth of a processor.
    "pynetdicom-to-ours": Route(
        pynetdicom_scu,
        our_storescp,
        {"SC_rgb_jpeg.dcm"} | WITHOUT_UIDS,
        as_is=False,
        every=False,
    ),
    "ours-to-pynetdicom": Route(our_storescu, pynetdicom_scp, every=False),
}


class Deliveries:
    """Sends files and gives what arrives; clients and servers run from their first use on."""

    def __init__(self, peers: Peers, folder: Path, stack: ExitStack) -> None:
        self._peers = peers
        self._folder = folder
        self._stack = stack
        self._senders: dict[str, Send] = {}
        self._servers: dict[tuple[Receiver, str], tuple[int, Path]] = {}

    def send(self, route: Route, sample: Sample) -> Path:
        """Send a file and return the one that was made of it."""
        port, files = self._server(route.receiver, _PREFERENCES.get(sample.syntax, "-x="))
        for old in files.iterdir():
            old.unlink()
        self._sender(route.sender)(sample, port)
        (received,) = files.iterdir()
        return received

    def _sender(self, sender: Sender) -> Send:
        name = sender.__name__
        if name not in self._senders:
            self._senders[name] = sender(self._peers, self._stack)
        return self._senders[name]

    def _server(self, receiver: Receiver, preference: str) -> tuple[int, Path]:
        key = receiver, preference
        if key not in self._servers:
            folder = self._folder / f"{receiver.__name__}{preference}"
            files = folder / "files"
            files.mkdir(parents=True, exist_ok=True)  # a peer may have been missing
            server = receiver(self._peers, folder, files, preference)
            self._servers[key] = self._stack.enter_context(server), files
        return self._servers[key]


@pytest.fixture(scope="module")
def deliveries(peers: Peers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deliveries]:
    with ExitStack() as stack:
        yield Deliveries(peers, tmp_path_factory.mktemp("deliveries"), stack)


def test_the_files_have_all_transfer_syntaxes() -> None:
    assert {each.syntax for each in SAMPLES} == _PROPOSALS.keys()


@pytest.mark.parametrize(
    ("route", "sample"),
    [
        pytest.param(route, sample, id=f"{name}-{sample.name}")
        for name, route in ROUTES.items()
        for sample in route.samples
    ],
)
def test_every_file_arrives(deliveries: Deliveries, route: Route, sample: Sample) -> None:
    received = deliveries.send(route, sample)
    head, sent = head_of(received), dataset_of(sample.path)
    assert head.transfer_syntax_uid == sample.syntax
    if route.as_is:
        # What is sent is of even length (PS3.5 Annex A.5), which not all of the files are.
        assert dataset_of(received) == sent + b"\0" * (len(sent) % 2)
        assert head[:2] == identity_of(sample)
    elif dataset_of(received) != sent:
        assert not differences(received, sample.path)
