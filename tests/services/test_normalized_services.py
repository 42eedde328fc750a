"""The N-services as provider: what each service has, statuses, datasets, created instances."""

from __future__ import annotations

import pytest
from fake_port import EXPLICIT, FakePort, keys, received, unencodable
from pydicom.tag import Tag

from dicomwire import evt
from dicomwire.data.codec import decode_for
from dicomwire.protocol.command import Command
from dicomwire.sop_class import (
    BasicFilmBox,
    BasicGrayscalePrintManagementMeta,
    DisplaySystem,
    InstanceAvailabilityNotification,
    InventoryCreation,
    MediaCreationManagement,
    ModalityPerformedProcedureStep,
    ModalityPerformedProcedureStepNotification,
    ModalityPerformedProcedureStepRetrieve,
    ProceduralEventLogging,
    RTConventionalMachineVerification,
    StorageCommitmentPushModel,
    SubstanceAdministrationLogging,
    UnifiedProcedureStepEvent,
    UnifiedProcedureStepPush,
)

EVENT_REPORT, GET, SET = Command.N_EVENT_REPORT_RQ, Command.N_GET_RQ, Command.N_SET_RQ
ACTION, CREATE, DELETE = Command.N_ACTION_RQ, Command.N_CREATE_RQ, Command.N_DELETE_RQ
EVENT = {
    EVENT_REPORT: evt.EVT_N_EVENT_REPORT,
    GET: evt.EVT_N_GET,
    SET: evt.EVT_N_SET,
    ACTION: evt.EVT_N_ACTION,
    CREATE: evt.EVT_N_CREATE,
    DELETE: evt.EVT_N_DELETE,
}
INSTANCE = {each: {"AffectedSOPInstanceUID": "1.2.3"} if each is CREATE else {} for each in EVENT}
WITH_REPLY = [EVENT_REPORT, GET, SET, ACTION, CREATE]

SERVED = {
    ModalityPerformedProcedureStep: {CREATE, SET, GET, EVENT_REPORT},
    ModalityPerformedProcedureStepRetrieve: {CREATE, SET, GET, EVENT_REPORT},
    ModalityPerformedProcedureStepNotification: {CREATE, SET, GET, EVENT_REPORT},
    BasicFilmBox: set(EVENT),
    BasicGrayscalePrintManagementMeta: set(EVENT),
    RTConventionalMachineVerification: set(EVENT),
    StorageCommitmentPushModel: {ACTION, EVENT_REPORT},
    InventoryCreation: {ACTION, GET, EVENT_REPORT},
    ProceduralEventLogging: {ACTION},
    SubstanceAdministrationLogging: {ACTION},
    DisplaySystem: {GET},
    InstanceAvailabilityNotification: {CREATE},
    MediaCreationManagement: {ACTION, CREATE, GET},
    UnifiedProcedureStepPush: {ACTION, CREATE, GET, SET, EVENT_REPORT},
    UnifiedProcedureStepEvent: {ACTION, CREATE, GET, SET, EVENT_REPORT},
}
PRINT = BasicFilmBox
"""Of a service that has all operations."""

REPLY = keys(PatientID="reply")


def serve(command, answer, sop_class=PRINT, dataset=None, **how):
    """Serve a request whose handler returns `answer` or, if it is a function, what that does."""
    handler = answer if callable(answer) else lambda event: answer
    port = FakePort((EVENT[command], handler))
    (sent,) = port.serve(received(command, sop_class, dataset, **how))
    return sent


def fail(event):
    raise ValueError("on purpose")


@pytest.mark.parametrize("sop_class", SERVED)
@pytest.mark.parametrize("command", EVENT)
def test_what_each_service_has(sop_class, command):
    answer = 0 if command is DELETE else (0, None)
    dataset = None if command in (GET, DELETE) else keys(PatientID="request")
    sent = serve(command, answer, sop_class, dataset, **INSTANCE[command])
    assert sent.status == (0x0000 if command in SERVED[sop_class] else 0x0211)


@pytest.mark.parametrize("command", EVENT)
def test_the_response_says_what_it_is_of(command):
    sent = serve(command, 0 if command is DELETE else (0, None), **INSTANCE[command])
    message = sent.message
    assert message.command == command | 0x8000
    assert message.MessageIDBeingRespondedTo == 7
    assert (message.AffectedSOPClassUID, message.AffectedSOPInstanceUID) == (PRINT, "1.2.3")
    assert message.EventTypeID == (1 if command is EVENT_REPORT else None)
    assert message.ActionTypeID == (1 if command is ACTION else None)
    assert sent.data is None
    assert sent.context_id == 5


def test_what_handlers_get():
    seen = {}

    def handler(event):
        seen[event.event] = event
        return 0, None

    tags = [Tag(0x00100010), Tag(0x00100020)]
    serve(GET, handler, AttributeIdentifierList=tags)
    serve(SET, handler, dataset=keys(PatientID="set"))
    serve(ACTION, handler, dataset=keys(PatientID="action"), ActionTypeID=3)
    serve(CREATE, handler, dataset=keys(PatientID="create"), AffectedSOPInstanceUID="1.2")
    serve(EVENT_REPORT, handler, dataset=keys(PatientID="event"), EventTypeID=2)
    assert seen[evt.EVT_N_GET].attribute_identifiers == tags
    assert seen[evt.EVT_N_SET].modification_list.PatientID == "set"
    assert seen[evt.EVT_N_ACTION].action_information.PatientID == "action"
    assert seen[evt.EVT_N_ACTION].action_type == 3
    assert seen[evt.EVT_N_CREATE].attribute_list.PatientID == "create"
    assert seen[evt.EVT_N_EVENT_REPORT].event_information.PatientID == "event"
    assert seen[evt.EVT_N_EVENT_REPORT].event_type == 2
    assert {event.message_id for event in seen.values()} == {7}


# --- Statuses and datasets ---


@pytest.mark.parametrize("command", WITH_REPLY)
@pytest.mark.parametrize("status", [0x0000, 0x0107, 0x0116, 0xB600, 0x0001])
def test_a_dataset_goes_out_with_success_and_warnings(command, status):
    sent = serve(command, (status, REPLY), **INSTANCE[command])
    assert sent.status == status
    assert sent.dataset.PatientID == "reply"


@pytest.mark.parametrize("command", WITH_REPLY)
@pytest.mark.parametrize("status", [0x0110, 0x0112, 0xC600, 0xFE00, 0xFF00, 0x1234])
def test_no_dataset_goes_out_with_anything_else(command, status):
    sent = serve(command, (status, REPLY), **INSTANCE[command])
    assert sent.status == status
    assert sent.data is None


@pytest.mark.parametrize("command", WITH_REPLY)
@pytest.mark.parametrize("reply", [None, keys()])
def test_there_need_be_no_dataset(command, reply):
    sent = serve(command, (0, reply), **INSTANCE[command])
    assert (sent.status, sent.data) == (0, None)


def test_the_dataset_is_encoded_for_the_context():
    sent = serve(GET, (0, REPLY), transfer_syntax=EXPLICIT)
    assert decode_for(sent.data, EXPLICIT).PatientID == "reply"


@pytest.mark.parametrize("status", [0x0000, 0x0112, 0x0119, 0x0107])
def test_delete_has_a_status_alone(status):
    sent = serve(DELETE, status)
    assert (sent.status, sent.data) == (status, None)
    assert serve(DELETE, keys(Status=status, ErrorID=3)).message.ErrorID == 3


def test_a_status_dataset():
    status = keys(
        Status=0x0107,
        ErrorComment="not known",
        ErrorID=3,
        AttributeIdentifierList=[0x00100010],
    )
    sent = serve(GET, (status, REPLY))
    assert sent.message.ErrorComment == "not known"
    assert sent.message.ErrorID == 3
    assert sent.message.AttributeIdentifierList == [Tag(0x00100010)]
    assert sent.dataset.PatientID == "reply"


# --- Handlers that go wrong ---


@pytest.mark.parametrize("command", EVENT)
def test_a_handler_that_fails(command):
    assert serve(command, fail).status == 0x0110
    (sent,) = FakePort().serve(received(command, PRINT))
    assert sent.status == 0x0110


@pytest.mark.parametrize("command", WITH_REPLY)
@pytest.mark.parametrize("answer", [None, 0, (0,), (0, None, None)])
def test_what_is_no_pair(command, answer):
    assert serve(command, answer).status == 0x0110


@pytest.mark.parametrize("command", EVENT)
def test_what_is_no_status(command):
    def answered(status):
        return serve(command, status if command is DELETE else (status, REPLY))

    assert answered(None).status == 0xC002
    assert answered("0").status == 0xC002
    assert answered(0x10000).status == 0xC002
    assert answered(keys(ErrorID=3)).status == 0xC001
    assert answered(None).data is None
    assert serve(DELETE, (0, None)).status == 0xC002


@pytest.mark.parametrize("command", WITH_REPLY)
@pytest.mark.parametrize("reply", [unencodable(), "reply", {"PatientID": "reply"}, [1]])
def test_a_dataset_that_cannot_be_encoded(command, reply):
    sent = serve(command, (0, reply), **INSTANCE[command])
    assert (sent.status, sent.data) == (0x0110, None)


def test_a_request_that_cannot_be_decoded():
    sent = serve(
        SET, lambda event: (0, event.modification_list), dataset=b"\x10\0\x10\0\xff\xff\0\0"
    )
    assert sent.status == 0x0110


# --- The instance that N-CREATE creates ---


def test_the_peer_may_name_the_instance():
    sent = serve(CREATE, (0, REPLY), AffectedSOPInstanceUID="1.2.9")
    assert sent.message.AffectedSOPInstanceUID == "1.2.9"


@pytest.mark.parametrize("status", [0x0000, 0x0107])
def test_the_handler_names_the_instance_where_the_peer_does_not(status):
    reply = keys(AffectedSOPInstanceUID="1.2.9", PatientID="reply")
    sent = serve(CREATE, (status, reply))
    assert sent.message.AffectedSOPInstanceUID == "1.2.9"
    assert "AffectedSOPInstanceUID" not in sent.dataset
    assert sent.dataset.PatientID == "reply"
    assert reply.AffectedSOPInstanceUID == "1.2.9"  # the handler's own is left as it is
    sent = serve(CREATE, (status, keys(AffectedSOPInstanceUID="1.2.9")))
    assert (sent.message.AffectedSOPInstanceUID, sent.data) == ("1.2.9", None)


@pytest.mark.parametrize("reply", [None, keys(), REPLY, "1.2.9"])
def test_an_instance_that_nobody_named(reply):
    sent = serve(CREATE, (0, reply))
    assert (sent.status, sent.data) == (0x0110, None)
    assert sent.message.AffectedSOPInstanceUID is None


@pytest.mark.parametrize("uid", ["", "1" * 65, None])
def test_a_name_that_is_no_uid(uid):
    reply = keys(AffectedSOPInstanceUID="1.2")
    reply["AffectedSOPInstanceUID"]._value = uid
    assert serve(CREATE, (0, reply)).status == 0x0110


def test_what_was_not_created_needs_no_name():
    sent = serve(CREATE, (0x0111, None))
    assert sent.status == 0x0111
