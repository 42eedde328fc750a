"""The same searches to the node and to Orthanc's DICOMweb plug-in, with the same objects."""

from __future__ import annotations

import json
from collections.abc import Iterator
from http.client import HTTPConnection
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import quote
from urllib.request import Request, urlopen

import pytest
from archive import LOCALHOST
from orthanc import dicomweb, orthanc
from peers import DEADLINE, Peers
from pydicom import dcmwrite
from test_node_query import fill, make_objects

from dicomwire.node.configuration import Configuration
from dicomwire.node.server import Node
from free_ports import free_port

Keys = dict[str, str]
Results = dict[str, dict[str, Any]]
"""By UID."""
Server = tuple[str, int]

UNIQUE = {"studies": "0020000D", "series": "0020000E", "instances": "00080018"}
OWN = {"00080005", "00081190"}
"""Attributes of a server: Specific Character Set and Retrieve URL."""


def _alone(text: str) -> list[Keys]:
    """Return queries with one key; each line has the key, then its values."""
    lines = (line.split(" ", 1) for line in text.strip().splitlines())
    return [{key.strip(): value} for key, values in lines for value in values.split(" | ")]


STUDY_KEYS = [
    *_alone(
        r"""
PatientID P1 | P9 | P* | ?1 | P1\P2 | p1
PatientName Doe^John | DOE^JOHN | Doe* | doe* | *John | *an* | D?e^J* | Smith^Anna^Q | Smith | Doe^*
StudyDate 20200101 | 20200101-20200201 | -20200201 | 20200302- | 20200201-20200101 | 20190101
StudyTime 113000 | 11-13 | -1230 | 133000- | 1130-1230
StudyDescription CT Thorax | ct thorax | CT* | MR Knie?links | *_* | *
AccessionNumber A11 | A?1 | A1* | a11 | *
StudyInstanceUID 1.2.3.1.1 | 1.2.3.1.1,1.2.3.2.1 | 1.2.3.1.1\1.2.3.2.1 | 9.9
ModalitiesInStudy CT | MR | US | CT\US | C*
StudyID 1 | 2 | 3
"""
    ),
    {},
    {"PatientSex": ""},
    {"StudyDate": "20200101-20200301", "PatientName": "Doe*"},
    {"StudyDate": "20200101-20200301", "PatientName": "Smith*"},
    {"PatientID": "P1", "StudyID": "2"},
    {"PatientID": "P2", "ModalitiesInStudy": "MR"},
    {"0020000D": "1.2.3.2.2"},
    {"00100020": "P3"},
    {"00081030": "CT*"},
    {"00080061": "MR"},
]
SERIES_KEYS = [
    *_alone(
        r"""
Modality CT | MR | US | ?T | CT\MR | ct
SeriesNumber 1 | 2 | 01 | 7
SeriesInstanceUID 1.2.3.1.1.1 | 1.2.3.1.1.1,1.2.3.1.1.2
"""
    ),
    {"Modality": "CT", "PatientID": "P1"},
]
INSTANCE_KEYS = _alone(
    """
InstanceNumber 1 | 2 | 3
SOPInstanceUID 1.2.3.1.1.1.1 | 1.2.3.1.1.1.1,1.2.3.1.1.1.2
SOPClassUID 1.2.840.10008.5.1.4.1.1.2 | 1.2.840.10008.5.1.4.1.1.4
Rows 16
Columns 17
"""
)


def _queries() -> Iterator[tuple[str, Keys]]:
    for keys in STUDY_KEYS:
        yield "/studies", keys
    for keys in [*SERIES_KEYS, *STUDY_KEYS[::2]]:
        yield "/series", keys
    for keys in [*INSTANCE_KEYS, *SERIES_KEYS, *STUDY_KEYS[::2]]:
        yield "/instances", keys
    for patient in range(1, 5):
        for number in (1, 2):
            study = f"/studies/1.2.3.{patient}.{number}"
            series = f"{study}/series/1.2.3.{patient}.{number}.1"
            for keys in ({}, {"Modality": "MR"}):
                yield f"{study}/series", keys
            for keys in ({}, {"InstanceNumber": "2"}):
                yield f"{study}/instances", keys
                yield f"{series}/instances", keys


QUERIES = [*_queries()]


def difference(path: str, keys: Keys) -> str:
    """Return why Orthanc finds something else, with the standard's word on it; "" if it does not.

    Its plug-in is 1.7, as Debian has it.
    """
    if any(set(value) & set(" \\") for value in keys.values()):
        return "it does not decode %20 and %5C: RFC 3986 Section 2.1, which PS3.18 6.1 refers to"
    if {"p1", "a11", "ct"} & set(keys.values()):
        return "it ignores the case: PS3.4 C.2.2.2.1 allows that for names alone"
    if keys.get("StudyTime") in ("11-13", "-1230", "1130-1230"):
        return "it compares times as text: 123000 is within 1130-1230 (PS3.4 C.2.2.2.5.2)"
    if keys.get("SeriesNumber") == "01":
        return "it compares numbers as text: PS3.4 C.2.2.2.1 compares their values"
    if path != "/studies" and {"ModalitiesInStudy", "00080061"} & set(keys):
        return "below the study, it looks for it in objects: it is of studies (PS3.4 C.3.4)"
    return ""


@pytest.fixture(scope="module")
def servers(
    peers: Peers, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Server, Server]]:
    """The node and Orthanc, with the same objects."""
    folder = tmp_path_factory.mktemp("dicomweb")
    (folder / "orthanc").mkdir()
    with Node(Configuration(port=0, http=0, folder=folder / "node")) as node:
        fill(node.address[1], "DICOMWIRE")
        settings = dicomweb(peers)
        with orthanc(peers, node.address, free_port(), folder, **settings) as port:
            for ds in make_objects():
                file = BytesIO()
                dcmwrite(file, ds, enforce_file_format=True)
                url = f"http://{LOCALHOST}:{port}/instances"
                urlopen(Request(url, file.getvalue()), timeout=DEADLINE).close()
            assert node.http_address is not None
            yield node.http_address, (LOCALHOST, port)


def search(server: Server, path: str, keys: Keys) -> Results:
    """Return the results of a search.

    Orthanc does not decode the characters that need no percent-encoding in practice.
    """
    query = "&".join(f"{name}={quote(value, safe='*?^,-_')}" for name, value in keys.items())
    connection = HTTPConnection(*server, timeout=DEADLINE)
    try:
        headers = {"Accept": "application/dicom+json"}
        connection.request("GET", f"/dicom-web{path}?{query}", headers=headers)
        answer = connection.getresponse()
        assert answer.status == 200, (path, keys)
        found = json.loads(answer.read())
    finally:
        connection.close()
    unique = UNIQUE[Path(path).name]
    return {result[unique]["Value"][0]: result for result in found}


def test_two_hundred_searches(servers: tuple[Server, Server]) -> None:
    assert len(QUERIES) >= 200
    found_something = 0
    for path, keys in QUERIES:
        ours, theirs = (search(server, path, keys) for server in servers)
        found_something += bool(ours)
        if difference(path, keys):
            assert set(ours) != set(theirs) or not ours, (path, keys)
            continue
        assert set(ours) == set(theirs), (path, keys)
        for uid, result in ours.items():
            common = (set(result) & set(theirs[uid])) - OWN
            different = {tag for tag in common if result[tag] != theirs[uid][tag]}
            assert not different, (path, keys, uid, different)
    assert found_something > 150


@pytest.mark.parametrize("path", ["/studies", "/series", "/instances"])
def test_no_attribute_of_orthanc_is_missing(servers: tuple[Server, Server], path: str) -> None:
    ours, theirs = (search(server, path, {}) for server in servers)
    for uid, result in theirs.items():
        assert set(result) <= set(ours[uid])
