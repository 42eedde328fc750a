"""The examples of the documentation, each pair run against each other as people would run it.

What they do is asserted by its outcome; how they are written is for readers.
"""

from __future__ import annotations

import asyncio
import importlib.util
import inspect
import os
import queue
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from pydicom import Dataset, dcmread
from pydicom.dataset import FileMetaDataset
from pydicom.filewriter import dcmwrite
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, generate_uid

from dicomwire import AE, Association, build_context, evt
from dicomwire.sop_class import BasicTextSRStorage, CTImageStorage, MRImageStorage
from free_ports import free_port

DOCS = Path(__file__).resolve().parents[2] / "docs"
EXAMPLES = DOCS / "examples"
WAIT = 20

Serve = Callable[..., tuple[ModuleType, int]]


def load(name: str) -> ModuleType:
    """Return the example `name`, imported anew: some keep what they are told in globals."""
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Start the server of an example; return the example and its port."""
    servers: list[Any] = []

    def start(name: str, **options: Any) -> tuple[ModuleType, int]:
        module = load(name)
        server = module.serve(port=0, block=False, **options)
        servers.append(server)
        return module, server.server_address[1]

    yield start
    for server in servers:
        associations = server.active_associations
        server.ae.shutdown()
        for association in associations:
            association.join(WAIT)


def make_object(sop_class: str, patient: str, study: str) -> Dataset:
    ds = Dataset()
    ds.SOPClassUID = sop_class
    ds.SOPInstanceUID = generate_uid()
    ds.PatientID = ds.PatientName = patient
    ds.StudyDate = "20250402"
    ds.StudyInstanceUID = study
    ds.SeriesInstanceUID = f"{study}.1"
    ds.Rows = ds.Columns = 16
    ds.BitsAllocated = 8
    ds.add_new("PixelData", "OB", bytes(256))
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return ds


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """A folder with two objects of Ann's study, and one of Bob's."""
    folder = tmp_path / "archive"
    folder.mkdir()
    for sop_class, patient, study in (
        (CTImageStorage, "Ann", "1.2.3"),
        (MRImageStorage, "Ann", "1.2.3"),
        (CTImageStorage, "Bob", "1.2.4"),
    ):
        ds = make_object(sop_class, patient, study)
        dcmwrite(folder / f"{ds.SOPInstanceUID}.dcm", ds, enforce_file_format=True)
    return folder


def test_verification(serve: Serve, capsys: pytest.CaptureFixture[str]) -> None:
    _, port = serve("echo_scp")
    assert load("echo_scu").echo(port=port)
    assert capsys.readouterr().out == "C-ECHO from ECHOSCU\n"


def test_verification_of_nobody(capsys: pytest.CaptureFixture[str]) -> None:
    assert not load("echo_scu").echo(port=free_port())
    assert "No association: cannot connect" in capsys.readouterr().out


def test_asyncio(archive: Path, tmp_path: Path) -> None:
    folder = tmp_path / "received"
    folder.mkdir()
    files = sorted(archive.iterdir())

    async def both() -> tuple[list[str], list[int]]:
        async with await load("asyncio_scp").start(folder, port=0) as server:
            return await load("asyncio_scu").main(files, port=server.server_address[1])

    assert asyncio.run(both()) == (["Ann", "Bob"], [0, 0, 0])
    assert len(list(folder.iterdir())) == 3


def test_storage(serve: Serve, archive: Path, tmp_path: Path) -> None:
    _, port = serve("store_scp", folder=tmp_path / "received")
    files = sorted(archive.iterdir())
    assert load("store_scu").send(files, port=port) == dict.fromkeys(files, "Success")
    for file in files:
        assert dcmread(tmp_path / "received" / file.name) == dcmread(file)


def test_storage_of_many_objects(serve: Serve, archive: Path, tmp_path: Path) -> None:
    _, port = serve("store_scp", folder=tmp_path / "received")
    files = sorted(archive.iterdir())
    example = load("store_many_scu")
    assert example.send(files, tmp_path / "ledger", port=port) == {"stored": 3}
    assert example.send(files, tmp_path / "ledger", port=port) == {"stored already": 3}
    assert len(list((tmp_path / "received").iterdir())) == 3


def test_storage_straight_into_files(
    serve: Serve, archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, port = serve("store_to_folder_scp", folder=tmp_path / "received")
    load("store_scu").send(sorted(archive.iterdir()), port=port)
    received = [str(path) for path in (tmp_path / "received").iterdir()]
    told = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert len(received) == 3
    assert sorted(told) == sorted(received)


def test_query(serve: Serve, archive: Path) -> None:
    _, port = serve("find_scp", folder=archive)
    studies = load("find_scu").find_studies("An*", port=port)
    assert [(each.PatientID, each.StudyInstanceUID) for each in studies] == [("Ann", "1.2.3")]
    assert len(load("find_scu").find_studies("*", port=port)) == 2


def test_retrieval_with_get(serve: Serve, archive: Path) -> None:
    _, port = serve("get_scp", folder=archive)
    received = load("get_scu").fetch("1.2.3", port=port)
    assert {each.SOPClassUID for each in received} == {CTImageStorage, MRImageStorage}


def test_retrieval_with_move(serve: Serve, archive: Path, tmp_path: Path) -> None:
    scp, port = serve("move_scp", folder=archive)
    own_port = free_port()
    scp.DESTINATIONS["MOVESCU"] = ("127.0.0.1", own_port)
    folder = tmp_path / "fetched"
    status = load("move_scu").fetch("1.2.3", folder=folder, port=port, own_port=own_port)
    assert (status.Status, status.NumberOfCompletedSuboperations) == (0x0000, 2)
    assert len(list(folder.iterdir())) == 2


def test_retrieval_with_move_to_a_stranger(serve: Serve, archive: Path, tmp_path: Path) -> None:
    scp, port = serve("move_scp", folder=archive)
    scp.DESTINATIONS.clear()
    status = load("move_scu").fetch("1.2.3", folder=tmp_path / "in", port=port, own_port=0)
    assert status.Status == 0xA801


def test_worklist(serve: Serve) -> None:
    _, port = serve("worklist_scp")
    entries = load("worklist_scu").query("CT", "20250402", port=port)
    assert [entry.PatientID for entry in entries] == ["1001"]
    assert len(load("worklist_scu").query("CT", "", port=port)) == 2


def test_mpps(serve: Serve) -> None:
    scp, port = serve("mpps_scp")
    assert load("mpps_scu").perform(port=port) == [0x0000, 0x0000]
    (step,) = scp.STEPS.values()
    assert step.PerformedProcedureStepStatus == "COMPLETED"
    assert len(step.PerformedSeriesSequence[0].ReferencedImageSequence) == 3


def test_print(serve: Serve) -> None:
    scp, port = serve("print_scp")
    scu = load("print_scu")
    film = scu.print_image(scu.image(16, 16, bytes(256)), port=port)
    assert [film] == scp.PRINTED


@pytest.mark.parametrize("hang_up", [False, True])
def test_storage_commitment(serve: Serve, archive: Path, hang_up: bool) -> None:
    scp, port = serve("commitment_scp", folder=archive)
    own_port = free_port()
    scp.REQUESTORS["COMMITSCU"] = ("127.0.0.1", own_port)
    kept = [path.stem for path in sorted(archive.iterdir())]
    committed = load("commitment_scu").commit(
        [*kept, "1.2.3.4"], port=port, own_port=own_port, wait=WAIT, hang_up=hang_up
    )
    assert committed == kept


def test_unified_procedure_steps(serve: Serve) -> None:
    _, port = serve("ups_scp")
    done, states = load("ups_scu").demonstrate(port=port)
    assert done == "Segment the liver"
    assert states == ["SCHEDULED", "IN PROGRESS", "COMPLETED"]


def test_relevant_patient(serve: Serve) -> None:
    _, port = serve("relevant_patient_scp")
    found = load("relevant_patient_scu").ask("1001", port=port)
    assert found.ContentSequence[0].ConceptCodeSequence[0].CodeMeaning == "Shellfish allergy"
    assert load("relevant_patient_scu").ask("1002", port=port) is None


def test_display_system(serve: Serve) -> None:
    _, port = serve("display_scp")
    ask = load("display_scu").ask
    assert ask("Manufacturer", port=port).Manufacturer == "Example"
    assert len(ask("Manufacturer", "PatientID", port=port)) == 1
    assert ask(port=port).DisplaySubsystemSequence[0].DisplaySubsystemName == "Left"


def test_media_creation(serve: Serve) -> None:
    _, port = serve("media_scp")
    progress = load("media_scu").write_disc(["1.2.3"], port=port)
    assert progress.ExecutionStatus == "DONE"
    assert progress.TotalNumberOfPiecesOfMediaCreated == 2


def test_instance_availability(serve: Serve) -> None:
    scp, port = serve("availability_scp")
    assert load("availability_scu").notify(["1.2.3", "1.2.4"], port=port) == 0x0000
    assert scp.AVAILABLE == {"1.2.3": "ONLINE", "1.2.4": "ONLINE"}


def test_rt_machine_verification(serve: Serve) -> None:
    scp, port = serve("rt_verification_scp")
    assert load("rt_verification_scu").verify_beam(port=port, wait=WAIT) == "VERIFIED"
    assert scp.INSTANCES == {}


def test_hanging_protocols(serve: Serve) -> None:
    _, port = serve("hanging_protocol_scp")
    (protocol,) = load("hanging_protocol_scu").demonstrate(port=port)
    assert protocol.HangingProtocolName == "Chest CT"


def test_substance_administration(serve: Serve) -> None:
    _, port = serve("substance_scp")
    ask = load("substance_scu").ask
    assert ask("5012345678900", "1001", port=port) == ("Contrast 300", "APPROVED")
    assert ask("0", "1001", port=port) is None


def test_event_logging(serve: Serve) -> None:
    scp, port = serve("event_log_scp")
    assert load("event_log_scu").log_event("1001", port=port) == 0x0000
    ((who, entry),) = scp.LOG
    assert (who, entry.PerformedLocation) == ("ANGIO2", "Angiography 2")
    assert load("event_log_scu").log_event("", port=port) == 0xC110


def test_inventory(serve: Serve) -> None:
    _, port = serve("inventory_scp")
    inventory = load("inventory_scu").take_inventory(port=port, wait=WAIT)
    assert inventory.InventoryCompletionStatus == "COMPLETE"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no processes to be forked")
def test_several_processes(tmp_path: Path) -> None:
    """In a process of its own, as the one of the tests has threads that a fork would not copy."""
    port = free_port()
    call = f"import workers_scp; workers_scp.serve({port}, {str(tmp_path / 'received')!r}, 2)"
    command = [sys.executable, "-c", call]
    environment = {**os.environ, "PYTHONPATH": str(EXAMPLES), "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        image = make_object(CTImageStorage, "Doe^Jane", "1.2.3")
        image.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
        associations: dict[str, Association] = {}
        count = 0
        while len(associations) < 2:  # the second worker may take longer to start than the first
            association = AE().associate("127.0.0.1", port, [build_context(CTImageStorage)])
            if association.is_established:
                assert association.send_c_store(image).Status == 0x0000
                count += 1
                said = re.match(r"worker (\d+) has received", process.stdout.readline())
                assert said is not None
                if said[1] in associations:
                    association.release()
                else:
                    associations[said[1]] = association
            assert process.poll() is None
        for association in associations.values():
            association.release()
        process.terminate()
        process.communicate(timeout=WAIT)
    assert process.returncode == -signal.SIGTERM
    assert len(list((tmp_path / "received").iterdir())) == count


@pytest.mark.parametrize("example", sorted(path.stem for path in EXAMPLES.glob("*.py")))
def test_every_example_is_shown_and_can_be_started(example: str) -> None:
    shown = f"literalinclude}} ../examples/{example}.py"
    assert any(shown in page.read_text() for page in DOCS.glob("*/*.md"))
    module = load(example)
    functions = [each for _, each in inspect.getmembers(module, inspect.isfunction)]
    assert any("port" in inspect.signature(function).parameters for function in functions)
    assert '\nif __name__ == "__main__":\n' in inspect.getsource(module)


def test_the_ai_service(tmp_path: Path) -> None:
    """A study of two images goes in, and a report on it comes out."""
    reports: queue.Queue[Dataset] = queue.Queue()

    def keep(event: evt.Event) -> int:
        reports.put(event.dataset)
        return 0x0000

    example = load("ai_service")
    archive = AE("ARCHIVE")
    archive.add_supported_context(BasicTextSRStorage, ExplicitVRLittleEndian)
    kept = archive.start_server(
        ("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, keep)]
    )
    service = example.Service(("127.0.0.1", kept.server_address[1]), example.infer)
    server = example.serve(service, tmp_path, port=0, block=False)
    images = [make_object(CTImageStorage, "Nobody", "1.2.840.1") for _ in range(2)]
    contexts = [build_context(CTImageStorage, ExplicitVRLittleEndian)]
    port = server.server_address[1]
    with AE("MODALITY").associate("127.0.0.1", port, contexts) as assoc:
        for image in images:
            assert assoc.send_c_store(image).Status == 0x0000
    sr = reports.get(timeout=WAIT)
    service.close()
    server.ae.shutdown()
    archive.shutdown()
    assert sr.StudyInstanceUID == "1.2.840.1"
    assert sr.PatientID == "Nobody"
    assert sr.ContentSequence[0].TextValue == "2 images of 1 sizes: no finding"
    assert list(tmp_path.iterdir()) == []
