"""dcmjs-dimse as client of our SCP, and as server for our SCU."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from archive import LOCALHOST, Archive, assert_same, files_in, make_images, query
from peers import Peers, run, serving
from pydicom.uid import CTImageStorage, MRImageStorage

from dicomwire import AE, build_context
from dicomwire.sop_class import StudyRootQueryRetrieveInformationModelFind, Verification

pytestmark = pytest.mark.usefixtures("our_face")

FIND = StudyRootQueryRetrieveInformationModelFind


def ask(peers: Peers, port: int, *operation: object) -> list[tuple[int, Any]]:
    """Return the statuses and datasets of the responses that the client gets."""
    output = run(*peers.dcmjs("dcmjs_client.js"), port, *operation)
    responses: list[tuple[int, Any]] = json.loads(output.rstrip().rsplit("\n", 1)[-1])
    return [(status, elements) for status, elements in responses]


def test_dcmjs_echoes(peers: Peers, archive: Archive, port: int) -> None:
    assert ask(peers, port, "echo") == [(0x0000, None)]
    assert archive.released == 1


def test_dcmjs_stores(peers: Peers, archive: Archive, port: int, tmp_path: Path) -> None:
    archive.objects.clear()
    files = [tmp_path / f"{ds.SOPInstanceUID}.dcm" for ds in make_images()]
    for path, ds in zip(files, make_images(), strict=True):
        ds.save_as(path, enforce_file_format=True)
    assert ask(peers, port, "store", *files) == [(0x0000, None)] * len(files)
    assert_same(archive.objects, make_images())


def test_dcmjs_finds(peers: Peers, port: int) -> None:
    keys = {"PatientID": "P1", "StudyInstanceUID": ""}
    *pending, last = ask(peers, port, "find", json.dumps(keys))
    assert last == (0x0000, None)
    found = [(status, elements["StudyInstanceUID"]) for status, elements in pending]
    assert found == [(0xFF00, "1.2.3.1.1"), (0xFF00, "1.2.3.1.2")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the server stores into."""
    return tmp_path_factory.mktemp("files")


@pytest.fixture(scope="module")
def server(peers: Peers, folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    command = [*peers.dcmjs("dcmjs_server.js"), folder]
    with serving(tmp_path_factory.mktemp("work"), lambda port: [*command, port]) as port:
        yield port


def test_we_echo(server: int) -> None:
    with AE().associate(LOCALHOST, server, [build_context(Verification)]) as assoc:
        assert assoc.send_c_echo().Status == 0x0000


def test_we_store(server: int, folder: Path) -> None:
    contexts = [build_context(uid) for uid in (CTImageStorage, MRImageStorage)]
    with AE().associate(LOCALHOST, server, contexts) as assoc:
        for ds in make_images():
            assert assoc.send_c_store(ds).Status == 0x0000
    assert_same(files_in(folder), make_images())


def test_we_find(server: int) -> None:
    with AE().associate(LOCALHOST, server, [build_context(FIND)]) as assoc:
        responses = list(assoc.send_c_find(query("STUDY", PatientID="P7"), FIND))
    assert [status.Status for status, _ in responses] == [0xFF00, 0xFF00, 0x0000]
    names = [(ds.PatientName, ds.PatientID) for _, ds in responses if ds is not None]
    assert names == [("Doe^Jane", "P7"), ("Doe^John", "P7")]
