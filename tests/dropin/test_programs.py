"""Programs as the documentation of pynetdicom shows them, for each service: unchanged, as drop-in.

Each is a pair of a server, which blocks until Ctrl-C, and a client.
"""

from __future__ import annotations

import pytest
from conftest import PROGRAMS, finish, free_port, start
from pydicom import dcmread
from pydicom.data import get_testdata_file

DIALOGUES = {
    "find": """\
C-FIND: 0xFF00 Berg^Olaf
C-FIND: 0xFF00 Bruhn^Maria
C-FIND: 0x0000 None
['0xC000']
""",
    "get": """\
stored 1.2.3.1
C-GET: 0xFF00 1
stored 1.2.3.2
C-GET: 0xFF00 2
C-GET: 0x0000 2
""",
    "worklist": """\
Anders^Ida CT CTSCANNER
Berg^Olaf CT CTSCANNER
C-FIND: 0x0000
""",
    "mpps": """\
0x0000 Success IN PROGRESS
0x0111 Failure None
0x0000 Success COMPLETED
0x0112 Failure None
""",
    "display": """\
0x0000 Monitors
0x0117 None unknown display system
""",
    "relevant_patient": """\
C-FIND: 0xFF00 Anders^Ida
C-FIND: 0x0000 None
C-FIND: 0x0000 None
""",
}


def client(program: str, *args: object) -> str:
    """Run a client program and return what it prints."""
    return finish(start(PROGRAMS / program, *args))


@pytest.mark.parametrize("service", DIALOGUES)
def test_service(serve, service):
    server = serve(f"{service}_scp.py")
    assert client(f"{service}_scu.py", server.port) == DIALOGUES[service]
    assert server.stop() == ""


def test_verification(serve):
    server = serve("echo_scp.py")
    assert client("echo_scu.py", server.port) == "C-ECHO: 0x0000\nTrue False\n"
    told = server.stop().splitlines()
    assert told[-4:] == [
        "connected from 127.0.0.1",
        "accepted PYNETDICOM at 127.0.0.1",
        "echo 1 on Verification SOP Class",
        "server stopped",
    ]


def test_the_log_of_a_server(serve):
    server = serve("echo_scp.py")
    client("echo_scu.py", server.port)
    server.process.send_signal(2)
    log = server.process.communicate()[1]
    for line in ("I: Accepting Association", "D: Accept Parameters", "I: Association Released"):
        assert f"\n{line}" in log
    assert "INCOMING A-ASSOCIATE-RQ PDU" in log
    assert "OUTGOING DIMSE MESSAGE" in log


def test_storage(serve, tmp_path):
    path = get_testdata_file("CT_small.dcm")
    server = serve("store_scp.py", tmp_path)
    assert client("store_scu.py", server.port, path) == """\
106 contexts accepted
C-STORE: 0x0000
C-STORE: 0x0000
"""
    line = "C-STORE CT Image Storage {}\n"
    assert server.stop() == line.format(1) + line.format(2) * 2
    sent = dcmread(path)
    assert dcmread(tmp_path / "decoded.dcm") == sent
    assert dcmread(tmp_path / "raw.dcm") == sent
    assert (tmp_path / "raw.dcm").read_bytes().endswith((tmp_path / "dataset").read_bytes())


def test_move(serve):
    storage = free_port()
    server = serve("move_scp.py", storage)
    assert client("move_scu.py", server.port, storage) == """\
stored 1.2.3.1 7
C-MOVE: 0xFF00 1
stored 1.2.3.2 7
C-MOVE: 0xFF00 2
C-MOVE: 0x0000 2
C-MOVE: 0xA801 None
"""
    assert server.stop() == ""


def test_print(serve):
    server = serve("print_scp.py")
    assert client("print_scu.py", server.port) == """\
0x0000 NORMAL
0x0000
0x0000 ['STANDARD', '1,1']
0x0000
0x0000
0x0000
"""
    assert server.stop() == """\
N-GET of ['(2110,0010)']
N-CREATE of Basic Film Session SOP Class
N-CREATE of Basic Film Box SOP Class
N-SET with 1 image
N-ACTION 1 1
"""


def test_storage_commitment(serve):
    reports = free_port()
    server = serve("commitment_scp.py", reports)
    assert client("commitment_scu.py", server.port, reports) == """\
N-ACTION: 0x0000
event 2: ['1.2.3.1'] ['0x112']
True
"""
    assert server.stop() == "N-EVENT-REPORT: 0x0000\n"
