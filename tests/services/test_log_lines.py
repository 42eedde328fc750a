"""What the log says of a request: one line, with the peer, the objects and the status."""

from __future__ import annotations

import logging

import pytest
from fake_port import FakePort, image, keys, received
from pydicom.dataset import Dataset

from dicomwire import evt
from dicomwire.protocol.command import Command
from dicomwire.sop_class import CTImageStorage, Verification
from dicomwire.sop_class import StudyRootQueryRetrieveInformationModelFind as STUDY_ROOT_FIND

PEER = "from ASKER@10.0.0.5:50412 (association 7)"


@pytest.fixture
def log(caplog):
    caplog.set_level(logging.INFO, "dicomwire")
    return caplog


def store(handler):
    request = received(Command.C_STORE_RQ, CTImageStorage, image())
    (sent,) = FakePort((evt.EVT_C_STORE, handler)).serve(request)
    return sent, request.message.AffectedSOPInstanceUID


def test_an_operation_is_one_line(log):
    _, uid = store(lambda event: 0x0000)
    (record,) = log.records
    assert record.getMessage() == f"C-STORE {PEER}: CTImageStorage, {uid}: 0x0000 - Success"
    assert record.dicom == {
        "association": 7,
        "peer": "ASKER",
        "address": "10.0.0.5:50412",
        "service": "C-STORE",
        "message_id": 7,
        "sop_class": CTImageStorage,
        "sop_instance": uid,
        "status": "0x0000",
        "meaning": "Success",
    }


def test_the_meaning_and_the_comment_of_a_failure(log):
    def full(event):
        status = Dataset()
        status.Status, status.ErrorComment = 0xA700, "The disk is full"
        return status

    store(full)
    (line,) = log.messages
    assert line.endswith(": 0xA700 - Failure: Out of resources (The disk is full)")


def test_pending_responses_are_not_logged(log):
    def find(event):
        yield 0xFF00, keys(PatientID="1")
        yield 0xFF00, keys(PatientID="2")

    FakePort((evt.EVT_C_FIND, find)).serve(received(Command.C_FIND_RQ, STUDY_ROOT_FIND, keys()))
    (line,) = log.messages
    model = "StudyRootQueryRetrieveInformationModelFind"
    assert line == f"C-FIND {PEER}: {model}: 0x0000 - Success"


def test_nothing_is_formatted_above_info(caplog):
    caplog.set_level(logging.WARNING, "dicomwire")
    port = FakePort((evt.EVT_C_ECHO, lambda event: 0))
    del port.between
    port.serve(received(Command.C_ECHO_RQ, Verification))
    assert not caplog.records


def test_a_refusal_has_its_reason_in_the_log_and_on_the_wire(log):
    request = received(Command.C_STORE_RQ, CTImageStorage, image())
    (sent,) = FakePort().serve(request)
    assert sent.message.ErrorComment == "no handler is bound to evt.EVT_C_STORE"
    (record,) = log.records
    uid = request.message.AffectedSOPInstanceUID
    assert record.levelno == logging.ERROR
    assert record.getMessage() == (
        f"C-STORE {PEER}: CTImageStorage, {uid}: refused: no handler is bound to evt.EVT_C_STORE"
    )


def test_a_failed_handler_is_named_without_its_text_on_the_wire(log):
    def fail(event):
        raise ValueError("Doe^Jane has no bed")

    sent, uid = store(fail)
    assert sent.message.ErrorComment == "The program failed to process the request"
    failed, answered = log.records
    assert failed.exc_info is not None
    assert failed.getMessage() == (
        f"C-STORE {PEER}: CTImageStorage, {uid}: the handler of evt.EVT_C_STORE failed"
    )
    assert "0xC211" in answered.getMessage()
