"""Our findscu, getscu and movescu with DCMTK's archive."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from archive import LOCALHOST, assert_same, files_in, make_images
from peers import Peers, serving
from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage, MRImageStorage

from dicomwire import AE, build_context
from dicomwire.apps import findscu, getscu, movescu
from free_ports import free_port

CONFIGURATION = """\
NetworkTCPPort = {port}
MaxPDUSize = 16384
MaxAssociations = 16
HostTable BEGIN
mine = (MINE, localhost, {destination})
HostTable END
VendorTable BEGIN
VendorTable END
AETable BEGIN
QRSCP {folder} RW (1000, 1024mb) ANY
AETable END
"""
STUDY = ["-S", "-k", "QueryRetrieveLevel=STUDY", "-k", "StudyInstanceUID=1.2.3.1.1"]


@pytest.fixture(scope="module")
def destination() -> int:
    """The port that dcmqrscp sends to when it is to send to MINE."""
    return free_port()


@pytest.fixture(scope="module")
def qrscp(
    peers: Peers, destination: int, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[list[str]]:
    """Serve our images; give the arguments by which dcmqrscp is reached."""
    program = peers.dcmtk("dcmqrscp")
    folder = tmp_path_factory.mktemp("qrscp")
    database = folder / "database"
    database.mkdir()
    config = folder / "dcmqrscp.cfg"

    def command(port: int) -> list[object]:
        values = {"port": port, "destination": destination, "folder": database}
        config.write_text(CONFIGURATION.format(**values))
        return [program, "-c", config]

    with serving(folder, command) as port:
        contexts = [build_context(uid) for uid in (CTImageStorage, MRImageStorage)]
        with AE().associate(LOCALHOST, port, contexts, ae_title="QRSCP") as assoc:
            for ds in make_images():
                assert assoc.send_c_store(ds).Status == 0x0000
        yield [LOCALHOST, str(port), "-aec", "QRSCP", "--strict"]


def test_our_findscu(qrscp: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    keys = ["-k", "QueryRetrieveLevel=PATIENT", "-k", "PatientID", "-k", "PatientName=Doe*"]
    assert findscu.main([*qrscp, *keys, "--json"]) == 0
    found = [Dataset.from_json(each) for each in json.loads(capsys.readouterr().out)]
    assert sorted(str(ds.PatientID) for ds in found) == ["P1", "P2"]


def test_our_getscu(qrscp: list[str], tmp_path: Path) -> None:
    assert getscu.main([*qrscp, *STUDY, "-od", str(tmp_path)]) == 0
    assert_same(files_in(tmp_path), make_images()[:4])


def test_our_movescu(qrscp: list[str], destination: int, tmp_path: Path) -> None:
    receiver = ["--store", "--store-aet", "MINE", "--store-port", str(destination)]
    assert movescu.main([*qrscp, *STUDY, *receiver, "-od", str(tmp_path)]) == 0
    assert_same(files_in(tmp_path), make_images()[:4])
