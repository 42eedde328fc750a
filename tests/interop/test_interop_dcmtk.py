"""DCMTK's clients with our SCP, and our SCU with DCMTK's servers."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from pathlib import Path

import pydicom
import pytest
from archive import (
    LOCALHOST,
    Archive,
    Destination,
    assert_same,
    files_in,
    make_image,
    make_images,
    query,
)
from peers import Peers, run, serving
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    CTImageStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    MRImageStorage,
)

from dicomwire import AE, Association, build_context, build_role, evt
from dicomwire.sop_class import (
    ModalityWorklistInformationFind,
    PatientRootQueryRetrieveInformationModelFind,
    PatientRootQueryRetrieveInformationModelGet,
    PatientRootQueryRetrieveInformationModelMove,
    StudyRootQueryRetrieveInformationModelFind,
    Verification,
)
from free_ports import free_port

pytestmark = pytest.mark.usefixtures("our_face")

# --- DCMTK's clients with our SCP -------------------------------------------------------------


def keys(**values: object) -> list[str]:
    """Return the arguments for the keys of a query."""
    return [each for name, value in values.items() for each in ("-k", f"{name}={value}")]


def test_echoscu(peers: Peers, port: int) -> None:
    output = run(peers.dcmtk("echoscu"), "-v", "--repeat", 3, LOCALHOST, port)
    assert output.count("Received Echo Response (Success)") == 3


@pytest.mark.parametrize("proposed", [1, 128])
def test_echoscu_with_as_many_contexts(peers: Peers, port: int, proposed: int) -> None:
    run(peers.dcmtk("echoscu"), "-pts", 38, "-ppc", proposed, LOCALHOST, port)


FINDS = {
    "patients": ("-P", "PATIENT", {"PatientID": "", "PatientName": "Doe*"}, ["P1", "P2"]),
    "one-patient": ("-P", "PATIENT", {"PatientID": "P2", "PatientName": ""}, ["P2"]),
    "no-patient": ("-P", "PATIENT", {"PatientID": "P3"}, []),
    "studies": ("-S", "STUDY", {"StudyInstanceUID": "", "PatientID": ""}, ["P1", "P1", "P2"]),
    "series": (
        "-S",
        "SERIES",
        {"StudyInstanceUID": "1.2.3.1.1", "PatientID": "", "SeriesInstanceUID": ""},
        ["P1", "P1"],
    ),
    "images": (
        "-S",
        "IMAGE",
        {
            "StudyInstanceUID": "1.2.3.1.1",
            "SeriesInstanceUID": "1.2.3.1.1.2",
            "SOPInstanceUID": "",
            "PatientID": "",
        },
        ["P1", "P1"],
    ),
    "patient-study-only": ("-O", "STUDY", {"PatientID": "P1", "StudyID": ""}, ["P1", "P1"]),
}


@pytest.mark.parametrize("syntax", ["-xe", "-xb", "-xi", "-xd"])
@pytest.mark.parametrize("find", FINDS)
def test_findscu(peers: Peers, port: int, tmp_path: Path, find: str, syntax: str) -> None:
    model, level, wanted, patients = FINDS[find]
    arguments = [model, syntax, "-X", "-od", tmp_path, *keys(QueryRetrieveLevel=level, **wanted)]
    run(peers.dcmtk("findscu"), *arguments, LOCALHOST, port)
    found = [pydicom.dcmread(path, force=True) for path in tmp_path.iterdir()]
    assert sorted(ds.PatientID for ds in found) == patients
    assert all(keyword in ds for ds in found for keyword in wanted)


def test_findscu_cancels(peers: Peers, archive: Archive, port: int) -> None:
    for number in range(1000):
        ds = make_image(number, 1, 1, 1)
        archive.objects[ds.SOPInstanceUID] = ds
    wanted = keys(QueryRetrieveLevel="PATIENT", PatientID="")
    output = run(peers.dcmtk("findscu"), "-v", "-P", "--cancel", 2, *wanted, LOCALHOST, port)
    assert "Received Final Find Response (Cancel" in output
    assert 2 <= output.count("(Pending)") < 1000


def test_findscu_of_a_worklist(peers: Peers, archive: Archive, port: int, tmp_path: Path) -> None:
    archive.worklist = [make_worklist_item(number) for number in range(3)]
    wanted = ["-k", "PatientName", "-k", "ScheduledProcedureStepSequence[0].Modality=CT"]
    run(peers.dcmtk("findscu"), "-W", "-X", "-od", tmp_path, *wanted, LOCALHOST, port)
    found = [pydicom.dcmread(path, force=True) for path in tmp_path.iterdir()]
    assert len(found) == 3
    assert {ds.ScheduledProcedureStepSequence[0].Modality for ds in found} == {"CT"}


@pytest.mark.parametrize("syntax", ["+xe", "+xb", "+xi"])
def test_movescu(peers: Peers, archive: Archive, port: int, tmp_path: Path, syntax: str) -> None:
    archive.destinations["MOVESCU"] = back = free_port()
    wanted = keys(QueryRetrieveLevel="STUDY", StudyInstanceUID="1.2.3.1.1")
    arguments = ["-S", "+P", back, syntax, "-od", tmp_path, *wanted]
    run(peers.dcmtk("movescu"), *arguments, LOCALHOST, port)
    assert_same(files_in(tmp_path), make_images()[:4])


def test_movescu_to_storescp(peers: Peers, archive: Archive, port: int, tmp_path: Path) -> None:
    files, storescp = tmp_path / "files", peers.dcmtk("storescp")
    files.mkdir()
    wanted = keys(QueryRetrieveLevel="PATIENT", PatientID="P1")
    with serving(tmp_path, lambda port: [storescp, "+B", "-od", files, port]) as destination:
        archive.destinations["STORESCP"] = destination
        run(peers.dcmtk("movescu"), "-P", "-aem", "STORESCP", *wanted, LOCALHOST, port)
    assert_same(files_in(files), make_images()[:5])


def test_movescu_to_nowhere(peers: Peers, port: int) -> None:
    wanted = keys(QueryRetrieveLevel="PATIENT", PatientID="P1")
    arguments = ["-v", "-P", "-aem", "NOWHERE", *wanted]
    output = run(peers.dcmtk("movescu"), *arguments, LOCALHOST, port, codes=[69])
    assert "Refused: MoveDestinationUnknown" in output


def test_movescu_cancels(peers: Peers, archive: Archive, port: int) -> None:
    archive.destinations["MOVESCU"] = back = free_port()
    for number in range(500):
        ds = make_image(3, 1, 1, number % 256)
        ds.SOPInstanceUID = f"{ds.SOPInstanceUID}.{number}"
        archive.objects[ds.SOPInstanceUID] = ds
    wanted = keys(QueryRetrieveLevel="PATIENT", PatientID="P3")
    arguments = ["-v", "-P", "+P", back, "--ignore", "--cancel", 2, *wanted]
    output = run(peers.dcmtk("movescu"), *arguments, LOCALHOST, port)
    assert "Received Final Move Response (Cancel" in output
    assert archive.cancelled == 1


@pytest.mark.parametrize("syntax", ["+xe", "+xb", "+xi"])
def test_getscu(peers: Peers, port: int, tmp_path: Path, syntax: str) -> None:
    wanted = keys(QueryRetrieveLevel="STUDY", StudyInstanceUID="1.2.3.1.1")
    arguments = ["-v", "-S", syntax, "-od", tmp_path, *wanted]
    output = run(peers.dcmtk("getscu"), *arguments, LOCALHOST, port)
    assert re.search(r"Completed Suboperations *: 4\b", output)
    assert_same(files_in(tmp_path), make_images()[:4])


def test_getscu_of_nothing(peers: Peers, port: int, tmp_path: Path) -> None:
    wanted = keys(QueryRetrieveLevel="STUDY", StudyInstanceUID="1.2.3.9")
    run(peers.dcmtk("getscu"), "-S", "-od", tmp_path, *wanted, LOCALHOST, port)
    assert not list(tmp_path.iterdir())


# --- Our SCU with DCMTK's servers -------------------------------------------------------------

MANY = 300
FIND = PatientRootQueryRetrieveInformationModelFind
GET = PatientRootQueryRetrieveInformationModelGet
MOVE = PatientRootQueryRetrieveInformationModelMove
STUDY_FIND = StudyRootQueryRetrieveInformationModelFind

DCMQRSCP = """\
NetworkTCPPort = {port}
MaxPDUSize = 16384
MaxAssociations = 16
HostTable BEGIN
destination = (DESTINATION, localhost, {destination})
HostTable END
VendorTable BEGIN
VendorTable END
AETable BEGIN
QRSCP {folder} RW (1000, 1024mb) ANY
AETable END
"""


@pytest.fixture(scope="module")
def destination() -> Iterator[tuple[Destination, int]]:
    destination = Destination()
    with destination.serving() as port:
        yield destination, port


@pytest.fixture(scope="module")
def qrscp(
    peers: Peers,
    destination: tuple[Destination, int],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[int]:
    """Serve our images, and those of many patients more."""
    program = peers.dcmtk("dcmqrscp")
    folder = tmp_path_factory.mktemp("qrscp")
    database = folder / "database"
    database.mkdir()
    config = folder / "dcmqrscp.cfg"

    def command(port: int) -> list[object]:
        values = {"port": port, "destination": destination[1], "folder": database}
        config.write_text(DCMQRSCP.format(**values))
        return [program, "-c", config]

    with serving(folder, command) as port:
        contexts = [build_context(uid) for uid in (CTImageStorage, MRImageStorage)]
        with AE().associate(LOCALHOST, port, contexts, ae_title="QRSCP") as assoc:
            for ds in [*make_images(), *(make_image(n, 1, 1, 1) for n in range(10, MANY))]:
                assert assoc.send_c_store(ds).Status == 0x0000
        yield port


def associate(port: int, *contexts: object, **options: object) -> Association:
    """Return an association with dcmqrscp."""
    proposed = [build_context(each) if isinstance(each, str) else each for each in contexts]
    association = AE("CLIENT").associate(LOCALHOST, port, proposed, ae_title="QRSCP", **options)
    assert association.is_established
    return association


def test_echo_to_dcmqrscp(qrscp: int) -> None:
    with associate(qrscp, Verification) as assoc:
        assert assoc.send_c_echo().Status == 0x0000


@pytest.mark.parametrize(
    ("model", "identifier", "patients"),
    [
        (FIND, query("PATIENT", PatientID="P1", PatientName=""), ["P1"]),
        (FIND, query("PATIENT", PatientID="", PatientName="Doe^Patient ?"), ["P1", "P2"]),
        (FIND, query("STUDY", PatientID="P1", StudyInstanceUID=""), ["P1", "P1"]),
        (STUDY_FIND, query("STUDY", PatientID="", AccessionNumber="A1*"), None),
        (STUDY_FIND, query("STUDY", PatientID="P404", StudyInstanceUID=""), []),
    ],
    ids=["one", "wildcard", "studies", "many", "none"],
)
def test_find_in_dcmqrscp(
    qrscp: int, model: str, identifier: Dataset, patients: list[str] | None
) -> None:
    with associate(qrscp, model) as assoc:
        *pending, last = assoc.send_c_find(identifier, model)
    assert {status.Status for status, _ in pending} <= {0xFF00, 0xFF01}
    assert last[0].Status == 0x0000
    found = sorted(ds.PatientID.strip() for _, ds in pending if ds is not None)
    assert found == patients if patients is not None else len(found) > 100


def test_cancelled_find_in_dcmqrscp(qrscp: int) -> None:
    with associate(qrscp, FIND) as assoc:

        def is_cancelled(message_id: int) -> bool:
            responses = assoc.send_c_find(query("PATIENT", PatientID=""), FIND, msg_id=message_id)
            assoc.send_c_cancel(message_id, query_model=FIND)
            *pending, last = responses
            assert last[0].Status in (0xFE00, 0x0000)
            return last[0].Status == 0xFE00 and len(pending) < MANY - 10

        # On a busy machine it can have answered in full before it is told to stop.
        assert any(is_cancelled(message_id) for message_id in range(7, 30))
        assert len(list(assoc.send_c_find(query("PATIENT", PatientID="P1"), FIND))) == 2


def test_get_from_dcmqrscp(qrscp: int) -> None:
    classes = (CTImageStorage, MRImageStorage)
    roles = [build_role(uid, scp_role=True) for uid in classes]
    received: dict[str, Dataset] = {}

    def keep(event: evt.Event) -> int:
        received[event.dataset.SOPInstanceUID] = event.dataset
        return 0x0000

    handlers = [(evt.EVT_C_STORE, keep)]
    with associate(qrscp, GET, *classes, ext_neg=roles, evt_handlers=handlers) as assoc:
        *pending, last = assoc.send_c_get(query("PATIENT", PatientID="P1"), GET)
    assert last[0].Status == 0x0000
    assert last[0].NumberOfCompletedSuboperations == 5
    assert [status.Status for status, _ in pending] == [0xFF00] * 5
    assert_same(received, make_images()[:5])


def test_move_from_dcmqrscp(qrscp: int, destination: tuple[Destination, int]) -> None:
    receiver, _ = destination
    receiver.received.clear()
    with associate(qrscp, MOVE) as assoc:
        identifier = query("STUDY", PatientID="P1", StudyInstanceUID="1.2.3.1.1")
        *_, last = assoc.send_c_move(identifier, "DESTINATION", MOVE)
    assert last[0].Status == 0x0000
    assert last[0].NumberOfCompletedSuboperations == 4
    assert_same(receiver.received, make_images()[:4])


def test_move_from_dcmqrscp_to_nowhere(qrscp: int) -> None:
    with associate(qrscp, MOVE) as assoc:
        responses = list(assoc.send_c_move(query("PATIENT", PatientID="P1"), "NOWHERE", MOVE))
    assert [status.Status for status, _ in responses] == [0xA801]


def test_cancelled_move_from_dcmqrscp(qrscp: int, destination: tuple[Destination, int]) -> None:
    """The first object is answered only when the cancellation has been sent."""
    receiver, _ = destination
    arrived, cancelled = threading.Event(), threading.Event()

    def hold(event: evt.Event) -> None:
        arrived.set()
        cancelled.wait(20)

    receiver.on_store = hold
    try:
        with associate(qrscp, MOVE) as assoc:
            identifier = query("PATIENT", PatientID="P1")
            responses = assoc.send_c_move(identifier, "DESTINATION", MOVE, msg_id=9)
            assert arrived.wait(20)
            assoc.send_c_cancel(9, query_model=MOVE)
            cancelled.set()
            *_, last = responses
    finally:
        receiver.on_store = None
    assert last[0].Status == 0xFE00
    assert last[0].NumberOfCompletedSuboperations < 5


# --- Worklists --------------------------------------------------------------------------------


def make_worklist_item(number: int) -> Dataset:
    step = Dataset()
    step.ScheduledStationAETitle = "SCANNER"
    step.ScheduledProcedureStepStartDate = f"2020010{number + 1}"
    step.ScheduledProcedureStepStartTime = "120000"
    step.Modality = "CT"
    step.ScheduledPerformingPhysicianName = "Roe^Jane"
    step.ScheduledProcedureStepDescription = f"Step {number}"
    step.ScheduledProcedureStepID = f"STEP{number}"
    item = Dataset()
    item.AccessionNumber = f"A{number}"
    item.PatientName = f"Doe^Patient {number}"
    item.PatientID = f"P{number}"
    item.PatientBirthDate = "19700101"
    item.PatientSex = "O"
    item.StudyInstanceUID = f"1.2.3.{number + 1}"
    item.RequestedProcedureDescription = "Procedure"
    item.RequestedProcedureID = f"REQ{number}"
    item.ScheduledProcedureStepSequence = Sequence([step])
    return item


@pytest.fixture(scope="module")
def worklist_server(peers: Peers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """Serve three worklist items to those who call WORKLIST."""
    program = peers.dcmtk("wlmscpfs")
    folder = tmp_path_factory.mktemp("worklist")
    items = folder / "WORKLIST"
    items.mkdir()
    (items / "lockfile").touch()
    for number in range(3):
        ds = make_worklist_item(number)
        ds.save_as(
            items / f"item{number}.wl",
            implicit_vr=False,
            little_endian=True,
        )
    with serving(folder, lambda port: [program, "-s", "-dfp", folder, port]) as port:
        yield port


@pytest.mark.parametrize(
    "syntax",
    [ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian],
    ids=["implicit", "explicit", "big-endian"],
)
@pytest.mark.parametrize(
    ("date", "found"),
    [("", ["P0", "P1", "P2"]), ("20200102", ["P1"]), ("20200102-", ["P1", "P2"]), ("19991231", [])],
    ids=["all", "day", "from-day-on", "none"],
)
def test_worklist(worklist_server: int, date: str, found: list[str], syntax: str) -> None:
    step = Dataset()
    step.ScheduledProcedureStepStartDate = date
    step.Modality = "CT"
    step.ScheduledProcedureStepID = ""
    identifier = Dataset()
    identifier.PatientID = ""
    identifier.PatientName = ""
    identifier.ScheduledProcedureStepSequence = Sequence([step])
    model = ModalityWorklistInformationFind
    ae = AE("SCANNER")
    contexts = [build_context(model, syntax)]
    with ae.associate(LOCALHOST, worklist_server, contexts, ae_title="WORKLIST") as assoc:
        assert assoc.is_established
        *pending, last = assoc.send_c_find(identifier, model)
    assert last[0].Status == 0x0000
    items = [ds for _, ds in pending if ds is not None]
    assert sorted(ds.PatientID.strip() for ds in items) == found
    assert all("ScheduledProcedureStepID" in ds.ScheduledProcedureStepSequence[0] for ds in items)
