"""The same queries to our node, DCMTK's dcmqrscp and Orthanc, with the same objects in all."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from archive import LOCALHOST, make_image, query
from peers import Peers, run, serving
from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, MRImageStorage

from dicomwire import AE, build_context
from dicomwire.data.file_meta import file_head
from dicomwire.node.configuration import Configuration
from dicomwire.node.server import Node
from dicomwire.sop_class import (
    PatientRootQueryRetrieveInformationModelFind as PATIENT_ROOT,
)
from dicomwire.sop_class import (
    StudyRootQueryRetrieveInformationModelFind as STUDY_ROOT,
)
from free_ports import free_port
from odd_objects import OddObjects

Address = tuple[int, str]
"""The port of an archive, and its AE title."""

QRSCP = """\
NetworkTCPPort = {port}
MaxPDUSize = 16384
MaxAssociations = 16
HostTable BEGIN
HostTable END
VendorTable BEGIN
VendorTable END
AETable BEGIN
QRSCP {folder} RW (1000, 1024mb) ANY
AETable END
"""
ODD_OBJECTS = 60
NAMES = ["Doe^John", "Doe^Jane", "Doering^Johanna", "Smith^Anna^Q"]
UNIQUE = {
    "PATIENT": "PatientID",
    "STUDY": "StudyInstanceUID",
    "SERIES": "SeriesInstanceUID",
    "IMAGE": "SOPInstanceUID",
}


def make_objects() -> list[Dataset]:
    """Return the images of four patients, of which each has studies on two days."""
    objects = []
    for patient, name in enumerate(NAMES, 1):
        for study in (1, 2):
            for series, number in ((1, 1), (1, 2), (2, 1)):
                ds = make_image(patient, study, series, number)
                ds.PatientName = name
                ds.StudyDate = f"20200{patient}0{study}"
                ds.StudyTime = f"1{patient}3000"
                ds.StudyDescription = "CT Thorax" if study == 1 else "MR Knie_links"
                objects.append(ds)
    return objects


def fill(port: int, title: str) -> None:
    """Store the objects in an archive."""
    contexts = [build_context(uid) for uid in (CTImageStorage, MRImageStorage)]
    with AE("TESTER").associate(LOCALHOST, port, contexts, ae_title=title) as assoc:
        assert assoc.is_established
        for ds in make_objects():
            assert assoc.send_c_store(ds).Status == 0x0000


def found(address: Address, model: str, identifier: Dataset) -> list[str]:
    """Return the unique keys of what an archive finds."""
    port, title = address
    unique = UNIQUE[identifier.QueryRetrieveLevel]
    contexts = [build_context(model)]
    with AE("TESTER").associate(LOCALHOST, port, contexts, ae_title=title) as assoc:
        assert assoc.is_established
        *matches, (last, _) = assoc.send_c_find(identifier, model)
    assert last.Status == 0x0000
    return sorted(str(match[unique].value).strip() for _, match in matches if match is not None)


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Address]:
    folder = tmp_path_factory.mktemp("node")
    with Node(Configuration(port=0, folder=folder, ae_title="NODE")) as node:
        fill(node.address[1], "NODE")
        yield node.address[1], "NODE"


@pytest.fixture(scope="module")
def dcmqrscp(peers: Peers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Address]:
    program = peers.dcmtk("dcmqrscp")
    folder = tmp_path_factory.mktemp("dcmqrscp")
    database = folder / "database"
    database.mkdir()
    config = folder / "dcmqrscp.cfg"

    def command(port: int) -> list[object]:
        config.write_text(QRSCP.format(port=port, folder=database))
        return [program, "-c", config]

    with serving(folder, command) as port:
        fill(port, "QRSCP")
        yield port, "QRSCP"


@pytest.fixture(scope="module")
def orthanc(peers: Peers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Address]:
    program = peers.program("Orthanc", "orthanc")
    folder: Path = tmp_path_factory.mktemp("orthanc")
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
        }
        path = folder / "orthanc.json"
        path.write_text(json.dumps(config))
        return [program, path]

    with serving(folder, command):
        fill(dicom, "ORTHANC")
        yield dicom, "ORTHANC"


STUDY_1 = {"PatientID": "P1", "StudyInstanceUID": "1.2.3.1.1"}
QUERIES = {
    "patients": (PATIENT_ROOT, query("PATIENT", PatientID="")),
    "patient": (PATIENT_ROOT, query("PATIENT", PatientID="P2")),
    "nobody": (PATIENT_ROOT, query("PATIENT", PatientID="P404")),
    "begin of a name": (PATIENT_ROOT, query("PATIENT", PatientID="", PatientName="Doe*")),
    "family name": (PATIENT_ROOT, query("PATIENT", PatientID="", PatientName="Doe^*")),
    "given name": (PATIENT_ROOT, query("PATIENT", PatientID="", PatientName="*^J*n")),
    "letter": (PATIENT_ROOT, query("PATIENT", PatientID="", PatientName="Doe^J???")),
    "studies of a patient": (PATIENT_ROOT, query("STUDY", PatientID="P1", StudyInstanceUID="")),
    "series": (PATIENT_ROOT, query("SERIES", **STUDY_1, SeriesInstanceUID="")),
    "modality": (PATIENT_ROOT, query("SERIES", **STUDY_1, SeriesInstanceUID="", Modality="MR")),
    "images": (
        PATIENT_ROOT,
        query("IMAGE", **STUDY_1, SeriesInstanceUID="1.2.3.1.1.1", SOPInstanceUID=""),
    ),
    "list of images": (
        PATIENT_ROOT,
        query(
            "IMAGE",
            **STUDY_1,
            SeriesInstanceUID="1.2.3.1.1.1",
            SOPInstanceUID=["1.2.3.1.1.1.2", "1.2.3.1.1.1.9"],
        ),
    ),
    "studies": (STUDY_ROOT, query("STUDY", StudyInstanceUID="")),
    "list of studies": (
        STUDY_ROOT,
        query("STUDY", StudyInstanceUID=["1.2.3.1.1", "1.2.3.3.2", "1.2.3.9"]),
    ),
    "date": (STUDY_ROOT, query("STUDY", StudyInstanceUID="", StudyDate="20200201")),
    "dates": (STUDY_ROOT, query("STUDY", StudyInstanceUID="", StudyDate="20200102-20200301")),
    "until": (STUDY_ROOT, query("STUDY", StudyInstanceUID="", StudyDate="-20200201")),
    "since": (STUDY_ROOT, query("STUDY", StudyInstanceUID="", StudyDate="20200302-")),
    "times": (STUDY_ROOT, query("STUDY", StudyInstanceUID="", StudyTime="113000-123000")),
    "accession number": (STUDY_ROOT, query("STUDY", StudyInstanceUID="", AccessionNumber="A12")),
    "accession numbers": (STUDY_ROOT, query("STUDY", StudyInstanceUID="", AccessionNumber="A?2")),
    "name and date": (
        STUDY_ROOT,
        query("STUDY", StudyInstanceUID="", PatientName="Doe*", StudyDate="20200201-"),
    ),
    "description": (
        STUDY_ROOT,
        query("STUDY", StudyInstanceUID="", StudyDescription="MR Knie_links"),
    ),
    "description with wildcards": (
        STUDY_ROOT,
        query("STUDY", StudyInstanceUID="", StudyDescription="*K???_l*"),
    ),
    "injection": (
        STUDY_ROOT,
        query("STUDY", StudyInstanceUID="", AccessionNumber="' OR 1=1"),
    ),
}


@pytest.mark.parametrize("name", QUERIES)
def test_as_dcmqrscp_finds(node: Address, dcmqrscp: Address, name: str) -> None:
    assert found(node, *QUERIES[name]) == found(dcmqrscp, *QUERIES[name])


@pytest.mark.parametrize("name", QUERIES)
def test_as_orthanc_finds(node: Address, orthanc: Address, name: str) -> None:
    assert found(node, *QUERIES[name]) == found(orthanc, *QUERIES[name])


def test_what_is_counted_as_orthanc_counts(node: Address, orthanc: Address) -> None:
    keys = ("NumberOfStudyRelatedSeries", "NumberOfStudyRelatedInstances", "ModalitiesInStudy")
    identifier = query("STUDY", StudyInstanceUID="1.2.3.1.1", **dict.fromkeys(keys, ""))
    contexts = [build_context(STUDY_ROOT)]
    answers = []
    for port, title in (node, orthanc):
        with AE("TESTER").associate(LOCALHOST, port, contexts, ae_title=title) as assoc:
            (_, match), _ = assoc.send_c_find(identifier, STUDY_ROOT)
        assert match is not None
        modalities = sorted(match.ModalitiesInStudy)
        answers.append([*(int(match[key].value) for key in keys[:2]), modalities])
    assert answers[0] == answers[1] == [2, 3, ["CT", "MR"]]


def test_queries_find_something(node: Address) -> None:
    nothing = {name for name, asked in QUERIES.items() if not found(node, *asked)}
    assert nothing == {"nobody", "injection"}


@pytest.mark.parametrize(
    ("level", "keys"),
    [
        ("STUDY", {"StudyInstanceUID": ""}),
        ("SERIES", {"PatientID": "P1", "SeriesInstanceUID": ""}),
        ("SERIES", {"StudyInstanceUID": "1.2.3.1.1", "SeriesInstanceUID": "", "PatientID": "*"}),
        ("IMAGE", {"SeriesInstanceUID": "1.2.3.1.1.1", "SOPInstanceUID": ""}),
    ],
)
def test_what_is_missing_above_is_universal_as_for_orthanc(
    node: Address, orthanc: Address, level: str, keys: dict[str, str]
) -> None:
    asked = PATIENT_ROOT, query(level, **keys)
    assert found(node, *asked) == found(orthanc, *asked) != []


def test_dcmqrscp_refuses_what_a_strict_node_refuses(dcmqrscp: Address, tmp_path: Path) -> None:
    """A query without a unique key of the levels above."""
    contexts = [build_context(PATIENT_ROOT)]
    identifier = query("SERIES", PatientID="P1", SeriesInstanceUID="")
    statuses = []
    with Node(Configuration(port=0, folder=tmp_path, strict_queries=True)) as strict:
        for port, title in ((strict.address[1], "DICOMWIRE"), dcmqrscp):
            with AE("TESTER").associate(LOCALHOST, port, contexts, ae_title=title) as assoc:
                [(status, match)] = assoc.send_c_find(identifier, PATIENT_ROOT)
            assert match is None
            statuses.append(status.Status)
    assert statuses == [0xA900, 0xC000]


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Address]:
    """A node with objects whose sequences have what they should not have."""
    folder = tmp_path_factory.mktemp("odd")
    objects = OddObjects(1)
    context = build_context(CTImageStorage, ExplicitVRLittleEndian)
    with Node(Configuration(port=0, folder=folder / "archive")) as node:
        with AE("TESTER").associate(*node.address, [context]) as assoc:
            for number in range(ODD_OBJECTS):
                head = file_head(CTImageStorage, f"1.9.{number}.1.1", ExplicitVRLittleEndian)
                status = assoc.send_c_store(head + objects.make(number)).Status
                assert status == 0x0000
        yield node.address


@pytest.mark.parametrize("syntax", ["-xi", "-xe", "-xb", "-xd"])
@pytest.mark.parametrize(
    "codes",
    [
        ["ProcedureCodeSequence"],
        [
            "ProcedureCodeSequence[0].CodeValue",
            "ProcedureCodeSequence[0].(0008,0121)[0].CodeMeaning",
            "ProcedureCodeSequence[0].(0008,0124)[0].CodeValue",
        ],
    ],
    ids=["all", "some"],
)
def test_odd_objects_spoil_nobodys_answers(
    peers: Peers, odd: Address, syntax: str, codes: list[str]
) -> None:
    keys = ["QueryRetrieveLevel=STUDY", "StudyInstanceUID", "PatientID", *codes]
    asked = [each for key in keys for each in ("-k", key)]
    printed = run(peers.dcmtk("findscu"), "-S", syntax, *odd, *asked)
    assert sorted(re.findall(r"\(0010,0020\) LO \[P(\d+) ?\]", printed), key=int) == [
        str(number) for number in range(ODD_OBJECTS)
    ]
    assert not re.search("^[EFW]:", printed, re.MULTILINE), printed
