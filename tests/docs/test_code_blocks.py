"""The Python on the pages of the documentation and in the README: all of it is run.

The blocks of a page are run one after the other, in one namespace. Ports that they name stand for
free ones, servers that would block do not, and something answers on port 11112.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partialmethod
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.filewriter import dcmwrite
from pydicom.uid import ExplicitVRLittleEndian

from dicomwire import AE, AllStoragePresentationContexts, aio, build_context, evt, sop_class, web
from dicomwire.association import Association
from dicomwire.logs import LOGGER
from dicomwire.node.configuration import Configuration
from dicomwire.node.server import Node
from dicomwire.pdu_primitives import UserIdentityNegotiation
from dicomwire.registry.services import REGISTRY
from dicomwire.threaded.server import AssociationServer

ROOT = Path(__file__).resolve().parents[2]
README = ROOT / "README.md"
DOCS = ROOT / "docs"
OTHERS = {DOCS / "howto" / "dicomweb.md"}
"""Pages that `test_dicomweb` runs, with the archive that they need."""
PAGES = [page for page in sorted({*DOCS.rglob("*.md")} - OTHERS) if "```python" in page.read_text()]
PORT = 11112
WAIT = 20


class Block(NamedTuple):
    """A block of a page."""

    text: str
    line: int


def blocks(page: Path, language: str) -> list[Block]:
    text = page.read_text()
    found = re.finditer(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [Block(each[1], text.count("\n", 0, each.start(1))) for each in found]


def run(page: Path, block: Block, namespace: dict[str, Any]) -> None:
    """Run `block`; a traceback tells the line of the page."""
    exec(compile("\n" * block.line + block.text, str(page), "exec"), namespace)


def plain(text: str) -> str:
    return " ".join(text.split())


class Network:
    """What stands between the code of a page and the network of the machine."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.entities: dict[AE, None] = {}
        self.servers: list[AssociationServer] = []
        self._ports: dict[int, int] = {}
        make_server, start_server, associate = AE.make_server, AE.start_server, AE.associate

        def free_port(ae: AE, address: Any, *args: Any, **options: Any) -> Any:
            self.entities[ae] = None
            server = make_server(ae, ("127.0.0.1", 0), *args, **options)
            self.servers.append(server)
            self._ports[address[1]] = server.server_address[1]
            return server

        def not_blocking(ae: AE, address: Any, block: bool = True, **options: Any) -> Any:
            server = start_server(ae, address, block=False, **options)
            return None if block else server

        def real_port(ae: AE, host: str, port: int, *args: Any, **options: Any) -> Association:
            self.entities[ae] = None
            return associate(ae, host, self._ports.get(port, port), *args, **options)

        associate_awaited = aio.AE.associate

        def real_port_awaited(ae: aio.AE, host: str, port: int, *args: Any, **options: Any) -> Any:
            return associate_awaited(ae, host, self._ports.get(port, port), *args, **options)

        patch.setattr(aio.AE, "associate", real_port_awaited)
        patch.setattr(AE, "make_server", free_port)
        patch.setattr(AE, "start_server", not_blocking)
        patch.setattr(AE, "associate", real_port)

    def close(self) -> None:
        for ae in self.entities:
            associations = ae.active_associations
            ae.shutdown()
            for association in associations:
                association.join(WAIT)


def answer_anything(ae: AE) -> None:
    """Start a server that has whatever the clients on the pages look for."""

    def find(event: evt.Event) -> Iterator[tuple[int, Dataset | None]]:
        for _ in range(20):
            yield 0xFF00, Dataset(event.identifier)

    ae.supported_contexts = AllStoragePresentationContexts
    ae.add_supported_context(sop_class.Verification)
    ae.add_supported_context(sop_class.StudyRootQueryRetrieveInformationModelFind)
    ae.add_supported_context(sop_class.StudyRootQueryRetrieveInformationModelGet)
    ae.add_supported_context(sop_class.CTImageStorage, scu_role=True, scp_role=True)
    handlers = [(evt.EVT_C_STORE, lambda event: 0x0000), (evt.EVT_C_FIND, find)]
    ae.start_server(("127.0.0.1", PORT), block=False, evt_handlers=handlers)


def visit(server: AssociationServer) -> None:
    """Have a server of a page do what it can, so that its handlers are run too."""
    jane = UserIdentityNegotiation(2, False, b"jane", b"secret")
    contexts = [build_context(uid) for uid in (sop_class.Verification, sop_class.CTImageStorage)]
    port = server.server_address[1]
    with AE("VISITOR").associate("127.0.0.1", port, contexts, ext_neg=[jane]) as assoc:
        assert assoc.is_established, assoc.failure
        for context in assoc.accepted_contexts:
            is_echo = context.abstract_syntax == sop_class.Verification
            status = assoc.send_c_echo() if is_echo else assoc.send_c_store("ct.dcm")
            assert status.Status == 0x0000


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> Iterator[Network]:
    network = Network(monkeypatch)
    yield network
    network.close()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder: with an image in it, and one for those that are received."""
    ds = Dataset()
    ds.SOPClassUID = sop_class.CTImageStorage
    ds.SOPInstanceUID = "1.2.3"
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dcmwrite(tmp_path / "ct.dcm", ds, enforce_file_format=True)
    (tmp_path / "received").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(autouse=True)
def _nothing_stays_behind() -> Iterator[None]:
    """Undo what pages do to the process: handlers of logs, SOP classes."""
    handlers, level, registered = LOGGER.handlers[:], LOGGER.level, dict(REGISTRY)
    names = set(vars(sop_class))
    yield
    LOGGER.handlers[:] = handlers
    LOGGER.setLevel(level)
    REGISTRY.clear()
    REGISTRY.update(registered)
    for name in set(vars(sop_class)) - names:
        delattr(sop_class, name)


def openssl(*arguments: str) -> None:
    subprocess.run(["openssl", *arguments], check=True, capture_output=True, timeout=WAIT)


def make_certificates(folder: Path) -> None:
    """Make ca.pem, and server.pem and client.pem that it has signed."""
    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
    openssl("req", "-x509", *key, "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=CA")
    (folder / "names").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1")
    for who in ("server", "client"):
        request = ("req", *key, "-keyout", f"{who}.key", "-out", f"{who}.csr")
        openssl(*request, "-subj", f"/CN={who}")
        signed = ("x509", "-req", "-in", f"{who}.csr", "-out", f"{who}.pem", "-extfile", "names")
        openssl(*signed, "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial")


@contextmanager
def archive_on_the_web(folder: Path, patch: pytest.MonkeyPatch) -> Iterator[None]:
    """Run an archive with one image, and let it stand for that of a page."""
    ds = Dataset()
    ds.SOPClassUID = sop_class.CTImageStorage
    ds.StudyInstanceUID, ds.SeriesInstanceUID = "1.2.3", "1.2.3.4"
    ds.SOPInstanceUID = "1.2.3.4.5"
    ds.PatientName, ds.PatientID, ds.Modality = "Doe^Jane", "P1", "CT"
    ds.Rows = ds.Columns = 8
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.BitsAllocated = ds.BitsStored = 16
    ds.HighBit, ds.PixelRepresentation = 15, 0
    ds.PixelData = bytes(range(128))
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dcmwrite(folder / "ct.dcm", ds, enforce_file_format=True)
    with Node(Configuration(port=0, http=0, folder=folder / "archive")) as node:
        assert node.http_address is not None
        url = f"http://127.0.0.1:{node.http_address[1]}/dicom-web"
        for kind in (web.Client, web.AsyncClient):
            patch.setattr(kind, "__init__", partialmethod(reached_at, kind.__init__, url))
        yield


def reached_at(client: Any, begin: Any, real: str, url: str, **options: Any) -> None:
    """Make a client of a page, which names a server on this machine."""
    begin(client, url.replace("http://localhost:8042/dicom-web", real), **options)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(DOCS)))
def test_the_code_on_a_page_runs(
    page: Path,
    network: Network,
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if page.name == "tls.md":
        if shutil.which("openssl") is None:
            pytest.skip("openssl makes the certificates, and there is none")
        make_certificates(folder)
    answer_anything(AE("ANYTHING"))
    namespace: dict[str, Any] = {"__name__": "page"}
    with ExitStack() as opened:
        if page.name == "dicomweb_client.md":
            opened.enter_context(archive_on_the_web(folder, monkeypatch))
        for block in blocks(page, "python"):
            run(page, block, namespace)
    for server in network.servers:
        is_up = server.socket.fileno() >= 0
        if is_up and server.ssl_context is None and not server.ae.require_calling_aet:
            visit(server)
    printed = plain(capsys.readouterr().out)
    for block in blocks(page, "text"):  # what is said to be printed
        assert plain(block.text) in printed


def test_the_server_and_the_client_of_the_readme(
    network: Network, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    client, server, awaited = blocks(README, "python")
    assert "start_server" in server.text
    run(README, server, {})
    run(README, client, {})
    assert capsys.readouterr().out.split("\n") == ["0", "MY_SCU 1.2.3", "0", ""]
    (folder / "study").mkdir()
    shutil.copy(folder / "ct.dcm", folder / "study")
    run(README, awaited, {})
    assert capsys.readouterr().out.split("\n") == ["MY_SCU 1.2.3", "study/ct.dcm 0", ""]


def test_every_event_is_in_the_reference() -> None:
    reference = (DOCS / "reference" / "handlers.md").read_text()
    names = [name for name in vars(evt) if name.startswith("EVT_")]
    kinds = (evt.NotificationEvent, evt.InterventionEvent)
    assert all(isinstance(getattr(evt, name), kinds) for name in names)
    assert [name for name in names if not re.search(rf"(### |\| `){name}\b", reference)] == []


def test_what_an_event_has_is_in_the_reference() -> None:
    reference = (DOCS / "reference" / "handlers.md").read_text()
    public = {name for name in (*vars(evt.Event), *evt.Event.__annotations__) if name[0] != "_"}
    assert {name for name in public if not re.search(rf"`{name}\b", reference)} == set()


def test_links_of_the_readme_lead_somewhere() -> None:
    links = re.findall(r"\]\(([^)#:]+)\)", README.read_text())
    assert [link for link in links if not os.path.exists(ROOT / link)] == []


def test_logging_is_quiet_without_configuration(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What the page on logging says first: nothing is printed but exceptions."""
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    monkeypatch.setattr(LOGGER, "handlers", LOGGER.handlers[:1])
    LOGGER.error("a failure")
    assert capsys.readouterr().err == ""
    try:
        raise KeyError("a bug")
    except KeyError:
        LOGGER.exception("A handler failed")
    printed = capsys.readouterr().err
    assert printed.startswith("A handler failed\nTraceback")
    monkeypatch.setattr(LOGGER, "handlers", [*LOGGER.handlers, logging.NullHandler()])
    LOGGER.error("another", exc_info=KeyError("a bug"))
    assert capsys.readouterr().err == ""
