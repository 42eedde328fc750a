"""GDCM's client with our SCP.

The gdcmscu of GDCM 3.0.21 does its work, releases the association and then always ends with
SIGABRT, whichever server it talked to, without having printed what it found. So it is asked for a
log, and our end for what happened.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from archive import LOCALHOST, WHEEL, Archive, assert_same, files_in, make_images
from peers import Peers, run
from pydicom import dcmread

from free_ports import free_port

EXIT_CODES = (0, -6)


def gdcmscu(peers: Peers, port: int, *arguments: object) -> str:
    """Run gdcmscu and return its log."""
    unbuffered = (peers.program("stdbuf", "coreutils"), "-o0")
    program = peers.program("gdcmscu", "libgdcm-tools")
    return run(*unbuffered, program, "-D", *arguments, LOCALHOST, port, codes=EXIT_CODES)


def test_echo(peers: Peers, archive: Archive, port: int) -> None:
    gdcmscu(peers, port, "--echo")
    assert archive.released == 1


@pytest.mark.parametrize("name", ["MR_small.dcm", "MR_small_implicit.dcm", "JPEG2000.dcm"])
def test_store(peers: Peers, archive: Archive, port: int, name: str) -> None:
    expected = dcmread(WHEEL / name)
    archive.objects.clear()
    gdcmscu(peers, port, "--store", "-i", WHEEL / name)
    assert archive.released == 1
    assert_same(archive.objects, [expected])


@pytest.mark.parametrize(
    ("arguments", "matches"),
    [
        (["--patientroot", "--patient", "--key", "10,10=Doe*", "--key", "10,20="], 2),
        (["--patientroot", "--study", "--key", "10,20=P1", "--key", "20,d="], 2),
        (["--studyroot", "--study", "--key", "20,d="], 3),
        (["--patientroot", "--patient", "--key", "10,20=P404"], 0),
    ],
    ids=["patients", "studies-of-patient", "studies", "none"],
)
def test_find(
    peers: Peers, archive: Archive, port: int, arguments: list[str], matches: int
) -> None:
    log = gdcmscu(peers, port, "--find", *arguments)
    assert archive.released == 1
    assert log.count("(US) 65280 ") == 2 * matches  # each status is logged twice
    assert log.count("(US) 0 ") == 2


def test_move(peers: Peers, archive: Archive, port: int, tmp_path: Path) -> None:
    archive.destinations["GDCM"] = back = free_port()
    receive = ["--aetitle", "GDCM", "--port-scp", back, "-o", tmp_path]
    gdcmscu(peers, port, "--move", "--patientroot", "--patient", *receive, "--key", "10,20=P1")
    assert archive.released == 1
    assert_same(files_in(tmp_path), make_images()[:5])
