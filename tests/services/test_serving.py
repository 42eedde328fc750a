"""Which service serves a request, what its handler's status becomes, and C-ECHO and C-STORE."""

from __future__ import annotations

import pytest
from fake_port import LOST, FakePort, context, image, keys, received
from pydicom.dataset import Dataset
from pydicom.tag import Tag

from dicomwire import evt
from dicomwire.data.payloads import FilePayload, MemoryPayload
from dicomwire.errors import ConnectionLost
from dicomwire.protocol.command import Command
from dicomwire.registry.services import Service
from dicomwire.sop_class import (
    BasicFilmSession,
    BasicGrayscalePrintManagementMeta,
    CTImageStorage,
    HangingProtocolStorage,
    ModalityPerformedProcedureStep,
    PatientRootQueryRetrieveInformationModelFind,
    StorageCommitmentPushModel,
    UnifiedProcedureStepPull,
    UnifiedProcedureStepPush,
    Verification,
)
from dicomwire.sop_class import StudyRootQueryRetrieveInformationModelFind as STUDY_ROOT_FIND

ECHO = received(Command.C_ECHO_RQ, Verification)


def echo(handler):
    (sent,) = FakePort((evt.EVT_C_ECHO, handler)).serve(received(Command.C_ECHO_RQ, Verification))
    return sent


def store(handler, **how):
    request = received(Command.C_STORE_RQ, CTImageStorage, image(), **how)
    (sent,) = FakePort((evt.EVT_C_STORE, handler)).serve(request)
    return sent


def fail(event):
    raise ValueError("on purpose")


# --- Which service ---


def test_a_response_says_what_it_responds_to():
    sent = echo(lambda event: 0)
    assert sent.context_id == 5
    assert sent.message.command is Command.C_ECHO_RSP
    assert sent.message.MessageIDBeingRespondedTo == 7
    assert sent.message.AffectedSOPClassUID == Verification
    assert sent.data is None


@pytest.mark.parametrize(
    ("command", "sop_class"),
    [
        (Command.C_STORE_RQ, Verification),
        (Command.C_ECHO_RQ, CTImageStorage),
        (Command.C_GET_RQ, "1.2.840.10008.5.1.4.31"),  # a worklist can only be queried
        (Command.N_DELETE_RQ, ModalityPerformedProcedureStep),
        (Command.C_FIND_RQ, "1.2.3.4.5"),
    ],
)
def test_an_operation_that_the_service_does_not_have(command, sop_class):
    (sent,) = FakePort().serve(received(command, sop_class, keys(PatientID="1")))
    assert sent.status == 0x0211
    assert sent.message.command == command | 0x8000


def test_a_request_in_a_context_where_we_are_not_the_provider():
    request = received(Command.C_STORE_RQ, CTImageStorage, image())
    request.context._as_scp = False
    (sent,) = FakePort((evt.EVT_C_STORE, lambda event: 0)).serve(request)
    assert sent.status == 0x0122
    assert sent.message.AffectedSOPInstanceUID == "1.2.3"


@pytest.mark.parametrize(
    ("command", "abstract_syntax", "asked"),
    [
        (Command.C_ECHO_RQ, Verification, CTImageStorage),
        (Command.C_STORE_RQ, CTImageStorage, "1.2.840.10008.5.1.4.1.1.4"),
        (Command.C_STORE_RQ, CTImageStorage, "1.2.3.4.5"),
        (Command.C_FIND_RQ, PatientRootQueryRetrieveInformationModelFind, STUDY_ROOT_FIND),
        (Command.N_SET_RQ, ModalityPerformedProcedureStep, StorageCommitmentPushModel),
        (Command.N_SET_RQ, BasicGrayscalePrintManagementMeta, ModalityPerformedProcedureStep),
    ],
)
def test_a_request_for_another_sop_class_than_that_of_its_context(command, abstract_syntax, asked):
    (sent,) = FakePort().serve(requested(command, abstract_syntax, asked))
    assert sent.status == 0x0122


@pytest.mark.parametrize(
    ("abstract_syntax", "asked"),
    [
        (BasicGrayscalePrintManagementMeta, BasicFilmSession),
        (UnifiedProcedureStepPull, UnifiedProcedureStepPush),
    ],
)
def test_a_context_for_several_sop_classes(abstract_syntax, asked):
    port = FakePort((evt.EVT_N_SET, lambda event: (0, None)))
    (sent,) = port.serve(requested(Command.N_SET_RQ, abstract_syntax, asked))
    assert sent.status == 0x0000


def requested(command, abstract_syntax, asked):
    """Return a request for the SOP class `asked` on a context for `abstract_syntax`."""
    request = received(command, asked, keys(PatientID="1"))
    request.context = context(abstract_syntax)
    return request


def test_event_reports_go_to_the_user():
    request = received(Command.N_EVENT_REPORT_RQ, StorageCommitmentPushModel)
    request.context._as_scp, request.context._as_scu = False, True
    (sent,) = FakePort((evt.EVT_N_EVENT_REPORT, lambda event: (0, None))).serve(request)
    assert sent.status == 0x0000


def test_negotiation_may_redirect_a_sop_class():
    port = FakePort((evt.EVT_C_STORE, lambda event: 0))
    port.redirected["1.2.3.4.5"] = Service.STORAGE
    (sent,) = port.serve(received(Command.C_STORE_RQ, "1.2.3.4.5", image()))
    assert sent.status == 0x0000


def test_the_payload_is_let_go_of_whatever_happens(monkeypatch):
    discarded = []
    monkeypatch.setattr(MemoryPayload, "discard", lambda self: discarded.append(self))
    store(lambda event: 0)
    store(fail)
    port = FakePort((evt.EVT_C_STORE, lambda event: 0))
    port.is_over = True
    assert port.serve(received(Command.C_STORE_RQ, CTImageStorage, image())) == []
    assert len(discarded) == 3


def test_nothing_is_sent_after_the_handler_ended_the_association():
    port = FakePort()
    port.handlers.bind(evt.EVT_C_ECHO, lambda event: setattr(port, "is_over", True) or 0)
    assert port.serve(ECHO) == []


@pytest.mark.parametrize(
    ("event", "request_", "sop_class"),
    [
        (evt.EVT_C_ECHO, Command.C_ECHO_RQ, Verification),
        (evt.EVT_C_STORE, Command.C_STORE_RQ, CTImageStorage),
        (evt.EVT_C_FIND, Command.C_FIND_RQ, PatientRootQueryRetrieveInformationModelFind),
        (evt.EVT_C_GET, Command.C_GET_RQ, "1.2.840.10008.5.1.4.1.2.1.3"),
        (evt.EVT_N_SET, Command.N_SET_RQ, ModalityPerformedProcedureStep),
    ],
)
def test_the_end_of_the_association_is_no_failure_of_the_handler(event, request_, sop_class):
    def handler(event):
        raise LOST

    port = FakePort((event, handler))
    with pytest.raises(ConnectionLost):
        port.serve(received(request_, sop_class, keys(PatientID="1")))
    assert port.sent == []


# --- Statuses ---


@pytest.mark.parametrize(
    "status", [0x0000, 0xB000, 0xA700, 0xC123, 0x0124, 0xFE00, 0xFF00, 0xFFFF, 0x1234]
)
def test_a_status_is_sent_as_it_is_as_int_or_dataset(status):
    assert store(lambda event: status).status == status
    assert store(lambda event: keys(Status=status)).status == status
    assert echo(lambda event: status).status == status


def test_a_status_that_the_service_does_not_define_is_warned_of(caplog):
    store(lambda event: 0xB000)
    assert not caplog.records
    store(lambda event: 0xFFF0)
    assert "0xFFF0 is not defined for Storage" in caplog.text


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        (keys(ErrorComment="no status"), 0xC001),
        (keys(Status=None), 0xC001),
        (None, 0xC002),
        ("0000", 0xC002),
        (0.0, 0xC002),
        ((0, None), 0xC002),
        (-1, 0xC002),
        (0x10000, 0xC002),
        (keys(Status=[0, 1]), 0xC002),
    ],
)
def test_what_is_no_status(answer, status):
    assert store(lambda event: answer).status == status
    assert echo(lambda event: answer).status == 0x0000  # we are here, whatever the handler says


def test_a_status_dataset_may_name_another_class_and_instance():
    status = keys(Status=0, AffectedSOPClassUID="1.2.3.4", AffectedSOPInstanceUID="1.2.3.5")
    sent = store(lambda event: status)
    assert sent.message.AffectedSOPClassUID == "1.2.3.4"
    assert sent.message.AffectedSOPInstanceUID == "1.2.3.5"
    assert echo(lambda event: status).message.AffectedSOPClassUID == "1.2.3.4"


def test_a_status_dataset_with_a_uid_that_no_element_can_hold(caplog):
    status = Dataset()
    status.Status = 0
    for keyword in ("AffectedSOPClassUID", "AffectedSOPInstanceUID"):
        setattr(status, keyword, "")
    sent = store(lambda event: status)
    assert sent.message.AffectedSOPClassUID == CTImageStorage
    assert sent.message.AffectedSOPInstanceUID == "1.2.3"
    assert len(caplog.records) == 2


def test_a_comment_that_pydicom_takes_for_several_values_is_one():
    status = keys(Status=0xA700, ErrorComment="No room in D:\\images")
    assert store(lambda event: status).message.ErrorComment == "No room in D:?images"


def test_what_a_status_dataset_adds():
    status = keys(
        Status=0xA900,
        ErrorComment="does not match",
        OffendingElement=[0x00100010, 0x00100020],
    )
    sent = store(lambda event: status)
    assert sent.message.ErrorComment == "does not match"
    assert sent.message.OffendingElement == [Tag(0x00100010), Tag(0x00100020)]
    sent = store(lambda event: keys(Status=0xC000, ErrorID=7, OffendingElement=0x00100010))
    assert sent.message.ErrorID == 7
    assert sent.message.OffendingElement == [Tag(0x00100010)]


@pytest.mark.parametrize(
    "extra",
    [
        {"PatientID": "1"},
        {"ErrorComment": ""},
        {"ErrorComment": None},
        {"ErrorID": None},
        {"ErrorID": [1, 2]},
        {"OffendingElement": None},
        {"OffendingElement": []},
        {"AttributeIdentifierList": [0x00100010]},  # only N-responses have it
    ],
)
def test_what_cannot_be_sent_of_a_status_dataset_is_warned_of(extra, caplog):
    sent = store(lambda event: keys(Status=0xC000, **extra))
    assert sent.status == 0xC000
    assert sent.message.ErrorComment is None
    assert sent.message.ErrorID is None
    assert sent.message.OffendingElement is None
    assert "is not sent" in caplog.text


def test_a_comment_is_cut_where_it_is_too_long():
    sent = store(lambda event: keys(Status=0xC000, ErrorComment=["x" * 40, "y" * 40]))
    assert len(sent.message.ErrorComment) == 64


# --- C-ECHO and C-STORE ---


def test_echo_always_succeeds_when_its_handler_fails():
    assert echo(fail).status == 0x0000
    assert FakePort().serve(ECHO)[0].status == 0x0000


def test_a_store_without_handler_or_with_one_that_fails():
    assert store(fail).status == 0xC211
    (sent,) = FakePort().serve(received(Command.C_STORE_RQ, CTImageStorage, image()))
    assert sent.status == 0xC211
    assert sent.message.AffectedSOPInstanceUID == "1.2.3"


def test_a_dataset_that_cannot_be_decoded_fails_the_handler_that_asks_for_it():
    request = received(Command.C_STORE_RQ, CTImageStorage, b"\x10\0\x10\0\xff\xff\0\0")
    (sent,) = FakePort((evt.EVT_C_STORE, lambda event: event.dataset and 0)).serve(request)
    assert sent.status == 0xC211


def test_a_store_whose_dataset_could_not_be_kept_asks_no_handler():
    called = []
    request = received(Command.C_STORE_RQ, CTImageStorage, image(), refusal=0xA700)
    (sent,) = FakePort((evt.EVT_C_STORE, called.append)).serve(request)
    assert sent.status == 0xA700
    assert not called


@pytest.mark.parametrize("sop_class", [CTImageStorage, HangingProtocolStorage])
def test_what_is_filed_needs_no_handler(sop_class):
    port = FakePort()
    port.keeps_stored = True
    (sent,) = port.serve(received(Command.C_STORE_RQ, sop_class, image()))
    assert sent.status == 0x0000


def test_a_handler_of_what_is_filed_decides_still(caplog, tmp_path):
    port = FakePort((evt.EVT_C_STORE, lambda event: 0xA700))
    port.keeps_stored = True
    incoming = received(Command.C_STORE_RQ, CTImageStorage, image())
    incoming.payload = FilePayload(str(tmp_path / "filed.dcm"), 0, 2)
    (sent,) = port.serve(incoming)
    assert sent.status == 0xA700
    assert "received file is kept" in caplog.text


def test_what_a_sink_of_the_program_keeps_is_its_own_affair(caplog):
    port = FakePort((evt.EVT_C_STORE, lambda event: 0xA700))
    port.keeps_stored = True
    (sent,) = port.serve(received(Command.C_STORE_RQ, CTImageStorage, image()))
    assert sent.status == 0xA700
    assert "received file is kept" not in caplog.text
