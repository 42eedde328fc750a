"""The example of the page about complete studies, run as it is written there."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import Queue
from types import ModuleType
from typing import Any

import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from dicomwire import AE, build_context, evt
from dicomwire.node.configuration import load
from dicomwire.node.server import Node
from dicomwire.sop_class import InstanceAvailabilityNotification

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGE = (DOCS / "howto" / "complete_studies.md").read_text()
WAIT = 20
SECRET = b"secret"
PROGRAM = f"""\
#!{sys.executable}
import sys
open(sys.argv[0] + ".out", "w").write(" ".join(sys.argv[1:]) + "\\n" + sys.stdin.read())
"""


def block(language: str) -> str:
    found = re.search(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    assert found is not None
    return found[1]


@pytest.fixture
def receiver() -> ModuleType:
    path = DOCS / "examples" / "webhook_receiver.py"
    spec = importlib.util.spec_from_file_location("webhook_receiver", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@contextmanager
def notified() -> Iterator[tuple[int, Queue[Dataset]]]:
    created: Queue[Dataset] = Queue()

    def create(event: evt.Event) -> tuple[int, None]:
        created.put(event.attribute_list)
        return 0x0000, None

    ae = AE("RIS")
    ae.add_supported_context(InstanceAvailabilityNotification)
    handlers = [(evt.EVT_N_CREATE, create)]
    server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
    yield server.server_address[1], created
    ae.shutdown()


def image() -> Dataset:
    ds = Dataset()
    ds.SOPClassUID, ds.SOPInstanceUID = CTImageStorage, "1.2.3.1.1"
    ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.Modality = "1.2.3", "1.2.3.1", "CT"
    ds.PatientID = "secret"
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return ds


def test_the_example_tells_in_all_three_ways(tmp_path: Path, receiver: ModuleType) -> None:
    posts: Queue[Any] = Queue()
    program = tmp_path / "analyse"
    program.write_text(PROGRAM)
    program.chmod(0o700)
    os.mkfifo(tmp_path / "analyse.out")
    (tmp_path / "webhook.secret").write_bytes(SECRET + b"\n")
    with notified() as (ris, created), receiver.serve(0, SECRET, posts.put) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        text = block("toml").replace("quiet = 60.0", "quiet = 1.0")
        text = text.replace("/usr/local/bin/analyse", str(program))
        text = text.replace("127.0.0.1:8000", f"127.0.0.1:{server.server_address[1]}")
        text = text.replace("ris.example.org", "127.0.0.1").replace("port = 104", f"port = {ris}")
        path = tmp_path / "node.toml"
        path.write_text(f"port = 0\nfolder = 'archive'\n{text}")
        with Node(load(path)) as node:
            contexts = [build_context(CTImageStorage, ExplicitVRLittleEndian)]
            with AE().associate(*node.address, contexts) as association:
                assert association.send_c_store(image()).Status == 0x0000
            assert created.get(timeout=WAIT).StudyInstanceUID == "1.2.3"
            notice = posts.get(timeout=WAIT)
            # Waits for the program, which a node ends when it stops.
            arguments, body = (tmp_path / "analyse.out").read_text().split("\n", 1)
        server.shutdown()
        thread.join()
    assert arguments == "--study 1.2.3"
    shown = json.loads(block("json"))
    assert notice.keys() == shown.keys() == json.loads(body).keys()
    assert notice["series"] == [{"series": "1.2.3.1", "modality": "CT", "instances": 1}]
    assert "secret" not in body


def test_the_receiver_takes_only_what_is_signed_now(receiver: ModuleType) -> None:
    from dicomwire.node.notices.webhooks import signature

    genuine = receiver.is_genuine
    now = str(int(receiver.time.time()))
    good = signature(SECRET, now, b"{}")
    assert genuine(SECRET, now, good, b"{}")
    assert not genuine(SECRET, now, good, b"{ }")
    assert not genuine(b"other", now, good, b"{}")
    assert not genuine(SECRET, "", "", b"{}")
    old = str(int(now) - 1000)
    assert not genuine(SECRET, old, signature(SECRET, old, b"{}"), b"{}")
