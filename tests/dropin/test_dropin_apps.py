"""The applications under the names and paths of pynetdicom."""

from __future__ import annotations

import json
import re
import signal
import tomllib

import pytest
from dropin_processes import DROP_IN, ROOT, Server, finish
from pydicom.data import get_testdata_file

from dicomwire import AE, AllStoragePresentationContexts, StoragePresentationContexts, evt
from free_ports import free_port

APPS = ("echoscp", "echoscu", "findscu", "getscu", "movescu", "qrscp", "storescp", "storescu")


def test_every_application_is_a_script_and_a_module():
    project = tomllib.loads((ROOT / "dropin" / "pyproject.toml").read_text())["project"]
    assert project["scripts"] == {app: f"pynetdicom.apps.{app}.{app}:main" for app in APPS}
    mains = ", ".join(f"pynetdicom.apps.{app}.{app}.main" for app in APPS)
    imports = "; ".join(f"import pynetdicom.apps.{app}.{app}" for app in APPS)
    assert DROP_IN.run("-c", f"{imports}; print(len({{{mains}}}))") == f"{len(APPS)}\n"


def test_running_one(implementation):
    server = Server(implementation, "echo_scp.py")
    scu = DROP_IN.start("-m", "pynetdicom", "echoscu", "127.0.0.1", server.port, "-v")
    printed, log = finish(scu)
    assert printed == ""
    for line in (
        "I: Requesting Association",
        "I: Association Accepted",
        "I: Releasing Association",
    ):
        assert f"{line}\n" in log
    server.stop()


def test_the_archive(tmp_path):
    config = tmp_path / "qrscp.ini"
    config.write_text("[DEFAULT]\nae_title: HERE\nport: 0\nbind_address: 127.0.0.1\n")
    scp = DROP_IN.start("-m", "pynetdicom", "qrscp", "-c", config, "-v")
    for line in scp.stderr:
        listens = re.search(r"HERE listens on 127\.0\.0\.1, port (\d+)", line)
        if listens:
            break
    finish(DROP_IN.start("-m", "pynetdicom", "echoscu", "127.0.0.1", listens[1]))
    scp.send_signal(signal.SIGINT)
    finish(scp)
    assert (tmp_path / "instances").is_dir()


def test_the_version():
    assert DROP_IN.run("-m", "pynetdicom", "--version").startswith("dicomwire ")


UNCOMPRESSED = ["1.2.840.10008.1.2.1", "1.2.840.10008.1.2", "1.2.840.10008.1.2.1.99"]
UNCOMPRESSED.append("1.2.840.10008.1.2.2")
ALL_OF_STORAGE = {context.abstract_syntax: UNCOMPRESSED for context in StoragePresentationContexts}


@pytest.fixture
def proposals():
    """A server that takes everything, and what is proposed to it: address, list of contexts."""
    proposed = []

    def note(event):
        contexts = event.assoc.requestor.primitive.presentation_contexts
        proposed.extend((each.abstract_syntax, each.transfer_syntax) for each in contexts)

    ae = AE()
    for context in AllStoragePresentationContexts:
        ae.add_supported_context(context.abstract_syntax, [*UNCOMPRESSED, "1.2.840.10008.1.2.4.50"])
    handlers = [(evt.EVT_REQUESTED, note), (evt.EVT_C_STORE, lambda event: 0x0000)]
    server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
    yield ("127.0.0.1", str(server.server_address[1])), proposed
    ae.shutdown()


def test_storescu_proposes_all_of_storage(implementation, proposals):
    address, proposed = proposals
    path = get_testdata_file("CT_small.dcm")
    finish(implementation.start("-m", "pynetdicom", "storescu", *address, path))
    assert dict(proposed) == ALL_OF_STORAGE
    assert len(proposed) == len(ALL_OF_STORAGE)


def test_storescu_proposes_besides_what_files_need(proposals):
    address, proposed = proposals
    path = get_testdata_file("SC_rgb_dcmtk_+eb+cy+np.dcm")  # in JPEG Baseline
    done = DROP_IN.start("-m", "pynetdicom", "storescu", "--strict", *address, path)
    finish(done)
    assert proposed[-1] == ("1.2.840.10008.5.1.4.1.1.7", ["1.2.840.10008.1.2.4.50"])
    assert dict(proposed[:-1]) == ALL_OF_STORAGE


QUERY = ("-k", "QueryRetrieveLevel=PATIENT", "-k", "PatientID=1")


RUN = """\
import json, runpy, sys
for sys.argv[1:] in json.loads(sys.argv[1]):
    try:
        runpy.run_module("pynetdicom", run_name="__main__")
    except SystemExit as end:
        print(sys.argv[1], end.code)
"""
"""Runs applications one after the other: most of what one takes is to import pydicom."""


def test_an_association_that_cannot_be_had_is_exit_code_1(implementation):
    address = ("127.0.0.1", str(free_port()))
    path = get_testdata_file("CT_small.dcm")
    calls = [
        ("echoscu", *address),
        ("findscu", *address, *QUERY),
        ("getscu", *address, *QUERY),
        ("movescu", *address, *QUERY),
        ("storescu", *address, path),
    ]
    printed = implementation.run("-c", RUN, json.dumps(calls))
    assert printed.splitlines() == [f"{app} 1" for app, *_ in calls]


def test_an_echo_that_fails_is_exit_code_0(implementation):
    ae = AE()
    ae.add_supported_context("1.2.840.10008.1.1")
    handlers = [(evt.EVT_C_ECHO, lambda event: 0x0110)]
    server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
    try:
        address = ("127.0.0.1", server.server_address[1])
        finish(implementation.start("-m", "pynetdicom", "echoscu", *address))
    finally:
        ae.shutdown()


def test_storescu_with_cx_proposes_what_files_need(proposals):
    address, proposed = proposals
    path = get_testdata_file("CT_small.dcm")
    finish(DROP_IN.start("-m", "pynetdicom", "storescu", "-cx", *address, path))
    assert proposed == [("1.2.840.10008.5.1.4.1.1.2", ["1.2.840.10008.1.2.1"])]
