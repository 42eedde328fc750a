"""Orthanc as server and as client, which its REST interface has it be."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any
from urllib.request import Request, urlopen

import pytest
from archive import (
    LOCALHOST,
    WHEEL,
    Archive,
    Destination,
    assert_same,
    make_image,
    make_images,
    query,
    same,
)
from peers import DEADLINE, Peers, serving
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import (
    CTImageStorage,
    MRImageStorage,
    generate_uid,
)

from dicomwire import AE, build_context, build_role, evt
from dicomwire.apps import storescu
from dicomwire.sop_class import (
    PatientRootQueryRetrieveInformationModelFind,
    PatientRootQueryRetrieveInformationModelGet,
    PatientRootQueryRetrieveInformationModelMove,
    StorageCommitmentPushModel,
    StorageCommitmentPushModelInstance,
    Verification,
)
from free_ports import free_port

FIND = PatientRootQueryRetrieveInformationModelFind
GET = PatientRootQueryRetrieveInformationModelGet
MOVE = PatientRootQueryRetrieveInformationModelMove
COMMITMENT = StorageCommitmentPushModelInstance


@dataclass
class Orthanc:
    """A running Orthanc, which knows our servers by the titles that they have here."""

    port: int
    http: int
    archive: Archive
    destination: Destination
    commitment: Commitment

    def rest(self, path: str, **body: Any) -> Any:
        """Return what the REST interface answers: to a GET, or to a POST if there is a body."""
        request = Request(
            f"http://{LOCALHOST}:{self.http}/{path}",
            data=json.dumps(body).encode() if body else None,
        )
        with urlopen(request, timeout=DEADLINE) as answer:
            return json.load(answer)


class Commitment:
    """Takes Orthanc's reports on its commitments to keep objects, and reports on its own."""

    def __init__(self) -> None:
        self.reports: SimpleQueue[tuple[int | None, Dataset]] = SimpleQueue()
        self.answers: SimpleQueue[Dataset] = SimpleQueue()
        self.orthanc = 0  # the port

    @contextmanager
    def serving(self) -> Iterator[int]:
        """Serve while the block runs; give the port."""
        ae = AE("COMMITTER")
        ae.add_supported_context(StorageCommitmentPushModel, scu_role=True, scp_role=True)
        handlers = [(evt.EVT_N_EVENT_REPORT, self._take), (evt.EVT_N_ACTION, self._promise)]
        server = ae.start_server((LOCALHOST, 0), block=False, evt_handlers=handlers)
        assert server is not None
        try:
            yield server.server_address[1]
        finally:
            ae.shutdown()

    def _take(self, event: evt.Event) -> tuple[int, None]:
        self.reports.put((event.event_type, event.event_information))
        return 0x0000, None

    def _promise(self, event: evt.Event) -> tuple[int, None]:
        threading.Thread(target=self._report, args=[event.action_information]).start()
        return 0x0000, None

    def _report(self, request: Dataset) -> None:
        """Report on an association of our own, on which we stay the SCP."""
        role = build_role(StorageCommitmentPushModel, scp_role=True)
        contexts = [build_context(StorageCommitmentPushModel)]
        arguments = (LOCALHOST, self.orthanc, contexts)
        with AE("COMMITTER").associate(*arguments, ae_title="ORTHANC", ext_neg=[role]) as assoc:
            status, _ = assoc.send_n_event_report(
                request, 1, StorageCommitmentPushModel, COMMITMENT
            )
        self.answers.put(status)


@pytest.fixture(scope="module")
def orthanc(peers: Peers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    program = peers.program("Orthanc", "orthanc")
    folder = tmp_path_factory.mktemp("orthanc")
    archive, destination, commitment = Archive(make_images()), Destination(), Commitment()
    dicom = 0

    def command(http: int) -> list[object]:
        nonlocal dicom
        dicom = free_port()
        config = {
            "StorageDirectory": str(folder),
            "IndexDirectory": str(folder),
            "Plugins": [],
            "HttpPort": http,
            "DicomPort": dicom,
            "DicomAet": "ORTHANC",
            "DicomAlwaysAllowFind": True,
            "DicomAlwaysAllowGet": True,
            "DicomAlwaysAllowMove": True,
            "DicomModalities": {
                "archive": ["ARCHIVE", LOCALHOST, archive_port],
                "destination": ["DESTINATION", LOCALHOST, destination_port],
                "committer": ["COMMITTER", LOCALHOST, commitment_port],
            },
        }
        path = folder / "orthanc.json"
        path.write_text(json.dumps(config))
        return [program, path]

    with (
        archive.serving() as archive_port,
        destination.serving() as destination_port,
        commitment.serving() as commitment_port,
        serving(folder, command) as http,  # opened after the other port
    ):
        archive.destinations["ORTHANC"] = commitment.orthanc = dicom
        yield Orthanc(dicom, http, archive, destination, commitment)


def associate(orthanc: Orthanc, *contexts: Any, title: str = "CLIENT", **options: Any) -> Any:
    proposed = [build_context(each) if isinstance(each, str) else each for each in contexts]
    association = AE(title).associate(
        LOCALHOST, orthanc.port, proposed, ae_title="ORTHANC", **options
    )
    assert association.is_established
    return association


# --- As server --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def filled(orthanc: Orthanc) -> Orthanc:
    """Store our images in it."""
    with associate(orthanc, CTImageStorage, MRImageStorage) as assoc:
        for ds in make_images():
            assert assoc.send_c_store(ds).Status == 0x0000
    return orthanc


def test_we_echo(orthanc: Orthanc) -> None:
    with associate(orthanc, Verification) as assoc:
        assert assoc.send_c_echo().Status == 0x0000


@pytest.mark.parametrize(
    ("identifier", "found"),
    [
        (query("PATIENT", PatientID="", PatientName="DOE^*"), ["P1", "P2"]),
        (query("STUDY", PatientID="P1", StudyInstanceUID=""), ["P1", "P1"]),
        (
            query("SERIES", PatientID="", StudyInstanceUID="1.2.3.1.1", SeriesInstanceUID=""),
            ["P1", "P1"],
        ),
        (query("IMAGE", PatientID="P2", SOPInstanceUID=""), ["P2"]),
        (query("STUDY", PatientID="P404"), []),
    ],
    ids=["patients", "studies", "series", "images", "none"],
)
def test_we_find(filled: Orthanc, identifier: Dataset, found: list[str]) -> None:
    with associate(filled, FIND) as assoc:
        *pending, (last, _) = assoc.send_c_find(identifier, FIND)
    assert last.Status == 0x0000
    assert sorted(ds.PatientID.strip() for _, ds in pending) == found


def test_we_get(filled: Orthanc) -> None:
    received: dict[str, Dataset] = {}

    def keep(event: evt.Event) -> int:
        received[event.dataset.SOPInstanceUID] = event.dataset
        return 0x0000

    classes = (CTImageStorage, MRImageStorage)
    roles = [build_role(uid, scp_role=True) for uid in classes]
    handlers = [(evt.EVT_C_STORE, keep)]
    with associate(filled, GET, *classes, ext_neg=roles, evt_handlers=handlers) as assoc:
        *_, (last, _) = assoc.send_c_get(query("PATIENT", PatientID="P1"), GET)
    assert last.Status == 0x0000
    assert_same(received, make_images()[:5])


def test_we_move(filled: Orthanc) -> None:
    filled.destination.received.clear()
    with associate(filled, MOVE) as assoc:
        *_, (last, _) = assoc.send_c_move(query("PATIENT", PatientID="P1"), "DESTINATION", MOVE)
    assert last.Status == 0x0000
    assert last.NumberOfCompletedSuboperations == 5
    assert_same(filled.destination.received, make_images()[:5])


@pytest.mark.parametrize(
    "name",
    ["MR_small_implicit.dcm", "ExplVR_BigEnd.dcm", "image_dfl.dcm", "JPEG2000.dcm"],
)
def test_we_store_and_move(orthanc: Orthanc, name: str) -> None:
    path = WHEEL / name
    assert storescu.main([LOCALHOST, str(orthanc.port), str(path), "--strict"]) == 0
    expected = dcmread(path)
    orthanc.destination.received.clear()
    identifier = query("IMAGE", SOPInstanceUID=expected.SOPInstanceUID)
    with associate(orthanc, MOVE) as assoc:
        *_, (last, _) = assoc.send_c_move(identifier, "DESTINATION", MOVE)
    assert last.Status == 0x0000
    assert same(orthanc.destination.received[expected.SOPInstanceUID], expected)


def test_we_ask_for_commitment(filled: Orthanc) -> None:
    """Orthanc reports on an association of its own, on which it stays the SCP."""
    request = Dataset()
    request.TransactionUID = generate_uid()
    request.ReferencedSOPSequence = [reference(ds) for ds in make_images()[:2]]
    request.ReferencedSOPSequence.append(reference(make_image(9, 9, 9, 9)))
    with associate(filled, StorageCommitmentPushModel, title="COMMITTER") as assoc:
        status, _ = assoc.send_n_action(request, 1, StorageCommitmentPushModel, COMMITMENT)
        assert status.Status == 0x0000
    event_type, report = filled.commitment.reports.get(timeout=DEADLINE)
    assert event_type == 2
    assert report.TransactionUID == request.TransactionUID
    assert len(report.ReferencedSOPSequence) == 2
    assert report.FailedSOPSequence[0].ReferencedSOPInstanceUID == "1.2.3.9.9.9.9"


def reference(ds: Dataset) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID = ds.SOPClassUID
    item.ReferencedSOPInstanceUID = ds.SOPInstanceUID
    return item


# --- As client --------------------------------------------------------------------------------


def test_orthanc_echoes(orthanc: Orthanc) -> None:
    orthanc.rest("modalities/archive/echo", Timeout=int(DEADLINE))


def test_orthanc_stores(filled: Orthanc) -> None:
    instances = filled.rest("instances")
    filled.destination.received.clear()
    answer = filled.rest("modalities/destination/store", Resources=instances, Synchronous=True)
    assert answer["FailedInstancesCount"] == 0
    for ds in make_images():
        assert same(filled.destination.received[ds.SOPInstanceUID], ds)


def test_orthanc_finds_and_moves(orthanc: Orthanc) -> None:
    ds = make_image(5, 1, 1, 1)
    ds.PatientName = "Roe^Richard"
    orthanc.archive.objects[ds.SOPInstanceUID] = ds
    wanted = {"PatientID": "P5", "StudyInstanceUID": ""}
    found = orthanc.rest("modalities/archive/query", Level="Study", Query=wanted)
    (answer,) = orthanc.rest(f"queries/{found['ID']}/answers?expand&simplify")
    assert answer["StudyInstanceUID"] == ds.StudyInstanceUID
    orthanc.rest(f"queries/{found['ID']}/retrieve", TargetAet="ORTHANC", Synchronous=True)
    (stored,) = orthanc.rest("tools/find", Level="Instance", Query={"PatientID": "P5"}, Expand=True)
    assert stored["MainDicomTags"]["SOPInstanceUID"] == ds.SOPInstanceUID


def test_orthanc_asks_for_commitment(orthanc: Orthanc) -> None:
    objects = [[ds.SOPClassUID, ds.SOPInstanceUID] for ds in make_images()]
    asked = orthanc.rest("modalities/committer/storage-commitment", DicomInstances=objects)
    assert orthanc.commitment.answers.get(timeout=DEADLINE).Status == 0x0000
    outcome = orthanc.rest(f"storage-commitment/{asked['ID']}")
    assert outcome["Status"] == "Success"
    assert len(outcome["Success"]) == len(objects)
