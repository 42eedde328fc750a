"""The programs that people begin with, written as they write them, and run against each other."""

from __future__ import annotations

import logging
import threading

import pytest
from pydicom import dcmread
from pydicom.filewriter import write_file_meta_info
from pydicom.uid import ExplicitVRLittleEndian
from scenario import make_ct

from dicomwire import (
    AE,
    ALL_TRANSFER_SYNTAXES,
    AllStoragePresentationContexts,
    StoragePresentationContexts,
    VerificationPresentationContexts,
    build_context,
    debug_logger,
    evt,
)
from dicomwire.sop_class import CTImageStorage, MRImageStorage, Verification

LOCAL = ("127.0.0.1", 0)


@pytest.fixture
def start():
    """Start servers as the programs do, and stop them after the test."""
    servers = []

    def start(ae, **options):
        servers.append(ae.start_server(LOCAL, block=False, **options))
        return servers[-1].server_address[1]

    yield start
    for server in servers:
        server.ae.shutdown()


@pytest.fixture
def verification_scp(start):
    ae = AE("ECHO_SCP")
    ae.add_supported_context(Verification)
    return start(ae)


def echo(port):
    """A Verification SCU, whole."""
    ae = AE()
    ae.add_requested_context(Verification)
    assoc = ae.associate("127.0.0.1", port)
    if not assoc.is_established:
        return "no association"
    status = assoc.send_c_echo()
    assoc.release()
    return f"0x{status.Status:04x}" if status else "no response"


def store(port, *datasets):
    """A Storage SCU, whole."""
    ae = AE(ae_title="STORE_SCU")
    ae.requested_contexts = StoragePresentationContexts
    with ae.associate("127.0.0.1", port) as assoc:
        return [assoc.send_c_store(ds).Status for ds in datasets]


def test_verification_scu(verification_scp):
    assert echo(verification_scp) == "0x0000"


def test_verification_scu_with_the_list_of_contexts(verification_scp):
    ae = AE()
    ae.requested_contexts = VerificationPresentationContexts
    assoc = ae.associate("127.0.0.1", verification_scp, ae_title="ECHO_SCP")
    assert assoc.is_established
    assert assoc.send_c_echo().Status == 0x0000
    assoc.release()
    assert assoc.is_released


def test_verification_scp_that_blocks():
    """The server that is the whole program, until it is stopped."""
    ports, started = [], threading.Event()

    def handle_open(event):
        ports.append(event.assoc.acceptor.port)

    class Program(AE):
        def make_server(self, *args, **kwargs):
            server = super().make_server(*args, **kwargs)
            ports.append(server.server_address[1])
            started.set()
            return server

    ae = Program()
    ae.add_supported_context(Verification)
    program = threading.Thread(
        target=ae.start_server,
        args=(LOCAL,),
        kwargs={"evt_handlers": [(evt.EVT_CONN_OPEN, handle_open)]},
    )
    program.start()
    assert started.wait(10)
    assert echo(ports[0]) == "0x0000"
    ae.shutdown()
    program.join(10)
    assert not program.is_alive()
    assert ports == [ports[0]] * 2
    assert echo(ports[0]) == "no association"


def test_verification_scp_with_a_handler_and_arguments(start):
    """A handler is bound with arguments of its own, and logs who calls."""
    calls = []

    def handle_echo(event, log, prefix):
        requestor = event.assoc.requestor
        log.append(f"{prefix}: {requestor.ae_title} at {requestor.address} {event.message_id}")
        return 0x0000

    ae = AE()
    ae.supported_contexts = VerificationPresentationContexts
    port = start(ae, evt_handlers=[(evt.EVT_C_ECHO, handle_echo, [calls, "echo"])])
    assert echo(port) == "0x0000"
    assert calls == ["echo: DICOMWIRE at 127.0.0.1 1"]


def test_storage_scp_that_keeps_what_it_decodes(start, tmp_path):
    def handle_store(event):
        ds = event.dataset
        ds.file_meta = event.file_meta
        ds.save_as(tmp_path / f"{ds.SOPInstanceUID}.dcm", enforce_file_format=True)
        return 0x0000

    ae = AE()
    ae.supported_contexts = AllStoragePresentationContexts
    port = start(ae, evt_handlers=[(evt.EVT_C_STORE, handle_store)])
    assert store(port, make_ct(instance="1.2.1"), make_ct(instance="1.2.2")) == [0, 0]
    assert sorted(each.name for each in tmp_path.iterdir()) == ["1.2.1.dcm", "1.2.2.dcm"]
    assert dcmread(tmp_path / "1.2.1.dcm").PatientName == "Doe^Jane"


def test_storage_scp_that_writes_the_bytes_as_they_came(start, tmp_path):
    """For every SOP class and transfer syntax, without decoding anything."""

    def handle_store(event, folder):
        if event.request.AffectedSOPInstanceUID == "1.2.666":
            return 0xA700
        path = folder / event.request.AffectedSOPInstanceUID
        path.write_bytes(event.encoded_dataset())
        return 0x0000

    ae = AE()
    for context in AllStoragePresentationContexts:
        ae.add_supported_context(context.abstract_syntax, ALL_TRANSFER_SYNTAXES)
    port = start(ae, evt_handlers=[(evt.EVT_C_STORE, handle_store, [tmp_path])])
    sent = make_ct(instance="1.2.3")
    assert store(port, sent, make_ct(instance="1.2.666")) == [0x0000, 0xA700]
    received = dcmread(tmp_path / "1.2.3")
    assert received.PixelData == sent.PixelData
    assert received.file_meta.MediaStorageSOPClassUID == CTImageStorage


def test_storage_scp_that_writes_headers_and_dataset_apart(start, tmp_path):
    """The way of programs that write the file meta themselves."""

    def handle_store(event):
        with (tmp_path / "one.dcm").open("wb") as file:
            file.write(b"\x00" * 128)
            file.write(b"DICM")
            write_file_meta_info(file, event.file_meta)
            file.write(event.encoded_dataset(include_meta=False))
        return 0x0000

    ae = AE()
    ae.add_supported_context(CTImageStorage, ExplicitVRLittleEndian)
    port = start(ae, evt_handlers=[(evt.EVT_C_STORE, handle_store)])
    assert store(port, make_ct()) == [0]
    assert dcmread(tmp_path / "one.dcm").SOPInstanceUID == "1.2.3.4"


def test_a_server_beside_the_rest_of_the_program(start):
    """It serves in the background, while the same AE asks others, and itself."""
    ae = AE("BOTH")
    ae.add_supported_context(Verification)
    ae.add_requested_context(Verification)
    port = start(ae)
    assoc = ae.associate("127.0.0.1", port)
    assert assoc.is_established
    assert len(ae.active_associations) == 2
    assert assoc.send_c_echo().Status == 0
    assoc.release()
    assert not ae.active_associations


def test_contexts_for_one_association_alone(start):
    ae = AE()
    ae.add_supported_context(CTImageStorage)
    ae.add_supported_context(MRImageStorage)
    ae.add_supported_context(Verification)
    port = start(ae)
    client = AE()
    client.add_requested_context(Verification)
    for contexts, expected in (
        ([build_context(CTImageStorage), build_context(MRImageStorage)], 2),
        ([build_context(CTImageStorage, "1.2.840.10008.1.2")], 1),
        (None, 1),
    ):
        assoc = client.associate("127.0.0.1", port, contexts=contexts)
        assert len(assoc.accepted_contexts) == expected
        assoc.release()
    assert len(client.requested_contexts) == 1


def test_different_contexts_on_different_servers(start):
    ae = AE()
    ports = [
        start(ae, contexts=[build_context(uid)], ae_title=title)
        for uid, title in ((CTImageStorage, "CT"), (MRImageStorage, "MR"))
    ]
    for port, accepted in zip(ports, (CTImageStorage, MRImageStorage), strict=True):
        client = AE()
        client.requested_contexts = StoragePresentationContexts
        with client.associate("127.0.0.1", port) as assoc:
            assert [each.abstract_syntax for each in assoc.accepted_contexts] == [accepted]


def test_a_handler_that_logs_connections(verification_scp, start, caplog):
    logger = logging.getLogger("my program")
    caplog.set_level(logging.INFO, "my program")

    def handle_open(event):
        logger.info("Connected with %s port %d at %s", *event.address, event.timestamp)

    def handle_requested(event, what):
        logger.info("%s by %s", what, event.assoc.requestor.ae_title)

    ae = AE()
    ae.add_supported_context(Verification)
    handlers = [
        (evt.EVT_CONN_OPEN, handle_open),
        (evt.EVT_REQUESTED, handle_requested, ["Requested"]),
    ]
    port = start(ae, evt_handlers=handlers)
    assert echo(port) == "0x0000"
    lines = [each.getMessage() for each in caplog.records if each.name == "my program"]
    assert lines[0].startswith("Connected with 127.0.0.1 port ")
    assert lines[1:] == ["Requested by DICOMWIRE"]


def test_handlers_bound_while_the_server_runs(start):
    calls = []

    def handle_accepted(event):
        calls.append(event.event.name)

    ae = AE()
    ae.add_supported_context(Verification)
    port = start(ae)
    server = ae._servers[0]
    echo(port)
    server.bind(evt.EVT_ACCEPTED, handle_accepted)
    echo(port)
    server.unbind(evt.EVT_ACCEPTED, handle_accepted)
    echo(port)
    assert calls == ["EVT_ACCEPTED"]


def test_the_debug_log(start, capsys):
    ae = AE("ECHO_SCP")
    ae.add_supported_context(Verification)
    port = start(ae)
    logger = logging.getLogger("dicomwire")
    before, level = list(logger.handlers), logger.level
    try:
        debug_logger()
        assert echo(port) == "0x0000"
        for assoc in ae.active_associations:
            assoc.join(10)  # it may still log, when the client has been released
    finally:
        logger.handlers[:] = before
        logger.setLevel(level)
    text = capsys.readouterr().err
    assert "I: Requesting Association" in text
    assert "A-ASSOCIATE-AC" in text
    assert "C-ECHO-RSP" in text
    assert "I: Association Released" in text


def test_who_wants_to_know_why_asks_for_the_failure():
    ae = AE()
    ae.add_requested_context(Verification)
    assoc = ae.associate("127.0.0.1", 1)
    assert assoc.is_aborted
    assert "connect" in str(assoc.failure)
