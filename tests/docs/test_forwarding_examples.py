"""The configurations of the pages about forwarding, with archives and destinations that run."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from dicomwire import AE, build_context, evt
from dicomwire.apps.node import main
from dicomwire.node.configuration import Configuration, load
from dicomwire.node.forwarding import sending
from dicomwire.node.server import Node
from dicomwire.sop_class import BasicTextSRStorage, CTImageStorage

DOCS = Path(__file__).resolve().parents[2] / "docs"
EXAMPLES = DOCS / "examples"
WAIT = 20


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sending, "GATHER", 0.01)
    monkeypatch.setattr(sending, "LINGER", 0.05)


def image(number: int, **values: Any) -> Dataset:
    ds = Dataset()
    ds.SOPClassUID, ds.SOPInstanceUID = CTImageStorage, f"1.2.3.1.{number}"
    ds.StudyInstanceUID, ds.SeriesInstanceUID = "1.2.3", "1.2.3.1"
    ds.PatientID, ds.PatientName, ds.Modality = "P1", "Doe^Jane", "CT"
    ds.BodyPartExamined = "CHEST"
    for keyword, value in values.items():
        setattr(ds, keyword, value)
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return ds


def send(address: tuple[str, int], *objects: Dataset) -> None:
    contexts = [build_context(CTImageStorage, ExplicitVRLittleEndian)]
    with AE("CT1").associate(*address, contexts) as assoc:
        for each in objects:
            assert assoc.send_c_store(each).Status == 0x0000


class Sink:
    """A destination that notes what arrives."""

    def __init__(self) -> None:
        self.uids: list[str] = []
        self._changed = threading.Condition()  # guards `uids`; each new one notifies

    def _take(self, event: evt.Event) -> int:
        with self._changed:
            self.uids.append(str(event.request.AffectedSOPInstanceUID))
            self._changed.notify_all()
        return 0x0000

    def has(self, number: int) -> bool:
        with self._changed:
            return self._changed.wait_for(lambda: len(self.uids) >= number, WAIT)

    @contextmanager
    def listening(self) -> Iterator[int]:
        ae = AE()
        ae.add_supported_context(CTImageStorage, ExplicitVRLittleEndian)
        handlers: list[evt.EventHandlerType] = [(evt.EVT_C_STORE, self._take)]
        server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
        assert server is not None
        yield server.server_address[1]
        ae.shutdown()


def example(name: str, folder: Path, **ports: int) -> Configuration:
    """Return the configuration of an example, with other ports, and less time for quiet."""
    found = load(EXAMPLES / name)
    destinations = {
        title: replace(destination, port=ports[title])
        for title, destination in found.destinations.items()
    }
    routes = tuple(replace(route, quiet=1.0) for route in found.routes)
    return replace(
        found, port=0, folder=folder / "archive", destinations=destinations, routes=routes
    )


def test_the_example_of_forwarding(tmp_path: Path) -> None:
    pacs, reading = Sink(), Sink()
    with pacs.listening() as first, reading.listening() as second:
        configuration = example("forward.toml", tmp_path, PACS=first, READING=second)
        with Node(configuration) as node:
            test = image(3, StudyInstanceUID="1.2.4", PatientID="TEST1")
            send(node.address, image(1), image(2), test)
            assert pacs.has(3)
            assert reading.has(2)
    assert reading.uids == ["1.2.3.1.1", "1.2.3.1.2"]


def test_the_routes_are_tried_as_the_page_says(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "image.dcm"
    image(1).save_as(path, enforce_file_format=True)
    page = (DOCS / "howto" / "forward.md").read_text()
    (said,) = re.findall(
        r"\$ dicomwire node routes .*? --try image.dcm (.*?)\n(.*?)```", page, re.S
    )
    config = str(EXAMPLES / "forward.toml")
    assert main(["routes", "-c", config, "--try", str(path), *said[0].split()]) == 0
    assert capsys.readouterr().out == said[1]


def test_images_go_to_the_ai_service_and_its_report_comes_back(tmp_path: Path) -> None:
    spec = spec_from_file_location("ai_service_with_archive", EXAMPLES / "ai_service.py")
    assert spec is not None
    assert spec.loader is not None
    ai = module_from_spec(spec)
    spec.loader.exec_module(ai)
    received = tmp_path / "received"
    received.mkdir()
    address: list[Any] = ["127.0.0.1", 0]
    service = ai.Service(address, ai.infer)
    server = ai.serve(service, received, port=0, block=False)
    configuration = example("ai_routes.toml", tmp_path, AISERVICE=server.server_address[1])
    stored = threading.Event()
    with Node(configuration) as node:
        address[1] = node.address[1]
        store_all = node.archive.committer.store_all

        def note(objects: Any, *respond: Any) -> list[int]:
            statuses = store_all(objects, *respond)
            if any(each.entry.origin.sop_class_uid == BasicTextSRStorage for each in objects):
                stored.set()
            return statuses

        node.archive.committer.store_all = note  # type: ignore[method-assign]
        send(node.address, image(1), image(2))
        assert stored.wait(WAIT)
        assert len(list(node.archive.index.stored())) == 3
        service.close()
        server.ae.shutdown()
