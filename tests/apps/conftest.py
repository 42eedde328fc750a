"""A server application that runs in a thread, a peer for client applications, and small files."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from queue import Queue
from ssl import SSLContext
from typing import Any

import pydicom.data
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from dicomwire import (
    AE,
    ALL_TRANSFER_SYNTAXES,
    AllStoragePresentationContexts,
    Association,
    QueryRetrievePresentationContexts,
    StoragePresentationContexts,
    VerificationPresentationContexts,
    build_context,
    evt,
)
from dicomwire.sop_class import Verification
from dicomwire.threaded.server import AssociationServer
from free_ports import free_port

IN_WHEEL = Path(pydicom.data.__file__).parent / "test_files"
PATIENCE = 20.0


@dataclass
class App:
    """A server application, in a thread."""

    server: AssociationServer
    port: int
    _stop: threading.Event
    _thread: threading.Thread
    _codes: list[int]

    def associate(self, *contexts: Any, **kwargs: Any) -> Association:
        """Return an association with it; for Verification unless said otherwise."""
        proposed = list(contexts) or [build_context(Verification)]
        return AE("TESTER").associate("127.0.0.1", self.port, proposed, **kwargs)

    def stop(self) -> int:
        """End it by Ctrl-C and return its exit code."""
        self._stop.set()
        self._thread.join(PATIENCE)
        return self._codes[0]


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., App]]:
    """Return what starts the `main` of a server application, with arguments after the port."""
    servers: Queue[AssociationServer] = Queue()
    stop = threading.Event()
    started: list[App] = []

    def serve_forever(server: AssociationServer) -> None:
        servers.put(server)
        stop.wait()
        raise KeyboardInterrupt

    def start(main: Callable[[list[str]], int], *args: str) -> App:
        codes: list[int] = []
        arguments = ["0", "-ba", "127.0.0.1", *args]
        if not {"-v", "-d", "-q", "-ll"}.intersection(args):
            arguments += ["-ll", "error"]  # what goes wrong is all that most tests look at
        thread = threading.Thread(target=lambda: codes.append(main(arguments)))
        thread.start()
        server = servers.get(timeout=PATIENCE)
        started.append(App(server, server.server_address[1], stop, thread, codes))
        return started[-1]

    monkeypatch.setattr(AssociationServer, "serve_forever", serve_forever)
    yield start
    for app in started:
        app.stop()


@dataclass
class Peer:
    """A server of the library, and what it was asked."""

    port: int = 0
    status: Callable[[evt.Event], Any] = lambda event: 0x0000
    proposed: list[list[Any]] = field(default_factory=list)
    requestors: list[Any] = field(default_factory=list)
    received: list[Any] = field(default_factory=list)
    bytes_received: list[bytes] = field(default_factory=list)
    ended: Queue[str] = field(default_factory=Queue)

    def how_it_ended(self) -> str:
        """Wait for the end of the next association to end: "released" or "aborted"."""
        return self.ended.get(timeout=20)

    @property
    def address(self) -> list[str]:
        return ["127.0.0.1", str(self.port)]

    @property
    def syntaxes(self) -> list[tuple[str, list[str]]]:
        """Abstract and transfer syntaxes that the last association proposed."""
        return [(each.abstract_syntax, each.transfer_syntax) for each in self.proposed[-1]]

    def requested(self, event: evt.Event) -> None:
        self.proposed.append(event.assoc.requestor.primitive.presentation_contexts)
        self.requestors.append(event.assoc.requestor)

    def asked(self, event: evt.Event) -> Any:
        self.received.append(event.request)
        if event.event is evt.EVT_C_STORE:
            self.bytes_received.append(event.encoded_dataset(include_meta=False))
        return self.status(event)


@pytest.fixture
def start_peer() -> Iterator[Callable[..., Peer]]:
    """Return what starts a peer that takes everything, or only some contexts."""
    started: list[AE] = []

    def start(
        contexts: list[Any] | None = None,
        handlers: list[Any] | None = None,
        tls: SSLContext | None = None,
        **settings: Any,
    ) -> Peer:
        peer, ae = Peer(), AE("PEER")
        for name, value in settings.items():
            setattr(ae, name, value)
        server = ae.start_server(
            ("127.0.0.1", 0),
            block=False,
            contexts=contexts or everything(),
            ssl_context=tls,
            evt_handlers=[
                (evt.EVT_REQUESTED, peer.requested),
                (evt.EVT_C_ECHO, peer.asked),
                (evt.EVT_C_STORE, peer.asked),
                (evt.EVT_RELEASED, lambda event: peer.ended.put("released")),
                (evt.EVT_ABORTED, lambda event: peer.ended.put("aborted")),
                *(handlers or ()),
            ],
        )
        peer.port = server.server_address[1]
        started.append(ae)
        return peer

    yield start
    for ae in started:
        ae.shutdown()


@pytest.fixture
def peer(start_peer: Callable[..., Peer]) -> Peer:
    return start_peer()


def everything() -> list[Any]:
    contexts = deepcopy([*AllStoragePresentationContexts, *StoragePresentationContexts])
    contexts += deepcopy(VerificationPresentationContexts)
    for context in contexts:
        context.transfer_syntax[:] = ALL_TRANSFER_SYNTAXES
    return contexts


@pytest.fixture
def every_context() -> list[Any]:
    """The contexts of storage, verification, query and retrieval."""
    return [*everything(), *QueryRetrievePresentationContexts]


class Terminal(io.StringIO):
    """A stream that somebody looks at."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


@pytest.fixture
def new_terminal() -> type[Terminal]:
    """Return what makes a stream for somebody who looks at it."""
    return Terminal


@pytest.fixture
def wheel() -> Path:
    """The folder with the DICOM files that come with pydicom."""
    return IN_WHEEL


@pytest.fixture
def write_file(tmp_path: Path) -> Callable[..., Path]:
    """Return what writes a small DICOM file."""

    def write(
        name: str,
        sop_instance: str = "1.2.3",
        sop_class: str = CTImageStorage,
        syntax: str = ExplicitVRLittleEndian,
    ) -> Path:
        ds = Dataset()
        ds.file_meta = FileMetaDataset()
        ds.file_meta.TransferSyntaxUID = syntax
        ds.SOPClassUID, ds.SOPInstanceUID = sop_class, sop_instance
        ds.PatientName = "Nobody^At All"
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        ds.save_as(path, enforce_file_format=True)
        return path

    return write


@pytest.fixture
def closed_port() -> int:
    return free_port()
