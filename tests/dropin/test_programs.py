"""Programs for pynetdicom, of the kind that its documentation shows for each service.

Each is a pair of a server, which blocks until Ctrl-C, and a client. They run on the drop-in and on
the real pynetdicom, and print the same there.
"""

from __future__ import annotations

import pytest
from pydicom import dcmread
from pydicom.data import get_testdata_file

from free_ports import free_port

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


@pytest.mark.parametrize("service", DIALOGUES)
def test_service(serve, client, service):
    server = serve(f"{service}_scp.py")
    assert client(f"{service}_scu.py", server.port) == DIALOGUES[service]
    assert server.stop() == ("", "")


def test_verification(serve, client):
    server = serve("echo_scp.py")
    assert client("echo_scu.py", server.port) == "C-ECHO: 0x0000\nTrue\n"
    printed, log = server.stop()
    assert printed.splitlines()[-4:] == [
        "connected from 127.0.0.1",
        "accepted PYNETDICOM at 127.0.0.1",
        "echo 1 on Verification SOP Class",
        "server stopped",
    ]
    for line in ("I: Accepting Association", "D: Accept Parameters", "I: Association Released"):
        assert f"\n{line}" in log
    for title in ("INCOMING A-ASSOCIATE-RQ PDU", "INCOMING DIMSE MESSAGE"):
        assert f"= {title} =" in log


def test_storage(serve, client, tmp_path):
    path = get_testdata_file("CT_small.dcm")
    server = serve("store_scp.py", tmp_path)
    assert (
        client("store_scu.py", server.port, path)
        == """\
106 contexts accepted
C-STORE: 0x0000
C-STORE: 0x0000
C-STORE: 0x0000
"""
    )
    line = "C-STORE CT Image Storage {}\n"
    assert server.stop()[0] == line.format(1) + line.format(2) * 2
    sent = dcmread(path)
    assert dcmread(tmp_path / "decoded.dcm") == sent
    assert dcmread(tmp_path / "raw.dcm") == sent
    assert (tmp_path / "raw.dcm").read_bytes().endswith((tmp_path / "dataset").read_bytes())


def test_move(serve, client):
    storage = free_port()
    server = serve("move_scp.py", storage)
    assert (
        client("move_scu.py", server.port, storage)
        == """\
C-MOVE: 0xFF00 1
C-MOVE: 0xFF00 2
C-MOVE: 0x0000 2
C-MOVE: 0xA801 None
[('1.2.3.1', 7), ('1.2.3.2', 7)]
"""
    )
    assert server.stop() == ("", "")


def test_print(serve, client):
    server = serve("print_scp.py")
    assert (
        client("print_scu.py", server.port)
        == """\
0x0000 NORMAL
0x0000
0x0000 STANDARD\\1,1
0x0000
0x0000
0x0000
"""
    )
    assert (
        server.stop()[0]
        == """\
N-GET of ['(2110,0010)']
N-CREATE of Basic Film Session SOP Class
N-CREATE of Basic Film Box SOP Class
N-SET with 1 image
N-ACTION 1 1
"""
    )


def test_storage_commitment(serve, client):
    reports = free_port()
    server = serve("commitment_scp.py", reports)
    assert (
        client("commitment_scu.py", server.port, reports)
        == """\
N-ACTION: 0x0000
True
event 2: ['1.2.3.1'] ['0x112']
"""
    )
    assert server.stop()[0] == "N-EVENT-REPORT: 0x0000\n"
