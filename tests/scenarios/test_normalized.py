"""The N-services between two ends, an exchange of every service class, and event reports."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from pydicom.dataset import Dataset
from pydicom.tag import Tag
from scenario import (
    ABORTED,
    RELEASED,
    eventually,
    in_background,
    make_ct,
    raw_acceptor,
    state,
)

from dicomwire import build_context, evt
from dicomwire.data.codec import encode_dataset
from dicomwire.protocol.command import Command, Message
from dicomwire.sop_class import (
    BasicFilmBox,
    BasicFilmSession,
    BasicGrayscaleImageBox,
    BasicGrayscalePrintManagementMeta,
    DisplaySystem,
    DisplaySystemInstance,
    InstanceAvailabilityNotification,
    InventoryCreation,
    MediaCreationManagement,
    ModalityPerformedProcedureStep,
    ModalityPerformedProcedureStepNotification,
    ModalityPerformedProcedureStepRetrieve,
    PatientRootQueryRetrieveInformationModelFind,
    Printer,
    PrinterInstance,
    PrintJob,
    ProceduralEventLogging,
    ProceduralEventLoggingInstance,
    RTConventionalMachineVerification,
    StorageCommitmentPushModel,
    StorageCommitmentPushModelInstance,
    StorageManagementInstance,
    SubstanceAdministrationLogging,
    UnifiedProcedureStepPull,
    UnifiedProcedureStepPush,
    UnifiedProcedureStepWatch,
    UPSGlobalSubscriptionInstance,
)
from raw_peer import CT, IMPLICIT, VERIFICATION, WAIT, RawPeer, context

MPPS = ModalityPerformedProcedureStep
COMMITMENT = StorageCommitmentPushModel
FIND = PatientRootQueryRetrieveInformationModelFind
CLASSES = [
    MPPS,
    ModalityPerformedProcedureStepRetrieve,
    ModalityPerformedProcedureStepNotification,
    COMMITMENT,
    BasicGrayscalePrintManagementMeta,
    PrintJob,
    DisplaySystem,
    InstanceAvailabilityNotification,
    MediaCreationManagement,
    RTConventionalMachineVerification,
    ProceduralEventLogging,
    SubstanceAdministrationLogging,
    InventoryCreation,
    UnifiedProcedureStepPush,
    UnifiedProcedureStepWatch,
    FIND,
    CT,
    VERIFICATION,
]
SUCCESS = 0x0000
EVENTS = [
    evt.EVT_N_ACTION,
    evt.EVT_N_CREATE,
    evt.EVT_N_DELETE,
    evt.EVT_N_EVENT_REPORT,
    evt.EVT_N_GET,
    evt.EVT_N_SET,
]


def keys(**values):
    ds = Dataset()
    for keyword, value in values.items():
        setattr(ds, keyword, value)
    return ds


GIVEN = keys(PatientID="given")
REPLY = keys(PatientID="reply")
FAILED = keys(Status=0x0110, ErrorComment="The program failed to process the request")
NO_OPERATION = keys(Status=0x0211, ErrorComment="there is no such operation")


class Provider:
    """Answers every N-request alike, and notes what it was asked."""

    def __init__(self, status=SUCCESS, reply=REPLY):
        self.answer = (status, reply)
        self.events = []
        self.bindings = [(event, self) for event in EVENTS]

    def __call__(self, event):
        self.events.append(event)
        event._decoded()  # before its data are let go of
        return self.answer[0] if event.event is evt.EVT_N_DELETE else self.answer


def serve(face, handlers=(), supported=CLASSES, **settings):
    return face.serve(handlers, supported=supported, **settings)


def ask(face, server, *handlers, contexts=CLASSES, **options):
    return face.associate(server, handlers, contexts=contexts, **options)


# --- An exchange of every service ---

REQUESTS = {
    "MPPS begins": lambda assoc: assoc.send_n_create(GIVEN, MPPS, "1.2.3"),
    "MPPS ends": lambda assoc: assoc.send_n_set(GIVEN, MPPS, "1.2.3"),
    "MPPS is retrieved": lambda assoc: assoc.send_n_get(
        [0x00100020], ModalityPerformedProcedureStepRetrieve, "1.2.3"
    ),
    "MPPS is notified": lambda assoc: assoc.send_n_event_report(
        GIVEN, 1, ModalityPerformedProcedureStepNotification, "1.2.3"
    ),
    "storage commitment": lambda assoc: assoc.send_n_action(
        GIVEN, 1, COMMITMENT, StorageCommitmentPushModelInstance
    ),
    "film session": lambda assoc: assoc.send_n_create(
        GIVEN, BasicFilmSession, "1.2.3", meta_uid=BasicGrayscalePrintManagementMeta
    ),
    "film box": lambda assoc: assoc.send_n_create(
        GIVEN, BasicFilmBox, "1.2.3", meta_uid=BasicGrayscalePrintManagementMeta
    ),
    "image box": lambda assoc: assoc.send_n_set(
        GIVEN, BasicGrayscaleImageBox, "1.2.3", meta_uid=BasicGrayscalePrintManagementMeta
    ),
    "print": lambda assoc: assoc.send_n_action(
        None, 1, BasicFilmBox, "1.2.3", meta_uid=BasicGrayscalePrintManagementMeta
    ),
    "printer": lambda assoc: assoc.send_n_get(
        [], Printer, PrinterInstance, meta_uid=BasicGrayscalePrintManagementMeta
    ),
    "print job": lambda assoc: assoc.send_n_get([0x21000020], PrintJob, "1.2.3"),
    "printer status": lambda assoc: assoc.send_n_event_report(
        GIVEN, 3, Printer, PrinterInstance, meta_uid=BasicGrayscalePrintManagementMeta
    ),
    "display": lambda assoc: assoc.send_n_get([], DisplaySystem, DisplaySystemInstance),
    "availability": lambda assoc: assoc.send_n_create(
        GIVEN, InstanceAvailabilityNotification, "1.2.3"
    ),
    "media": lambda assoc: assoc.send_n_create(GIVEN, MediaCreationManagement, "1.2.3"),
    "media begins": lambda assoc: assoc.send_n_action(GIVEN, 1, MediaCreationManagement, "1.2.3"),
    "media status": lambda assoc: assoc.send_n_get([], MediaCreationManagement, "1.2.3"),
    "machine": lambda assoc: assoc.send_n_create(GIVEN, RTConventionalMachineVerification, "1.2.3"),
    "machine verifies": lambda assoc: assoc.send_n_action(
        GIVEN, 1, RTConventionalMachineVerification, "1.2.3"
    ),
    "machine reports": lambda assoc: assoc.send_n_event_report(
        GIVEN, 1, RTConventionalMachineVerification, "1.2.3"
    ),
    "event log": lambda assoc: assoc.send_n_action(
        GIVEN, 1, ProceduralEventLogging, ProceduralEventLoggingInstance
    ),
    "substance log": lambda assoc: assoc.send_n_action(
        GIVEN, 1, SubstanceAdministrationLogging, "1.2.840.10008.1.42.1"
    ),
    "inventory": lambda assoc: assoc.send_n_action(
        GIVEN, 11, InventoryCreation, StorageManagementInstance
    ),
    "inventory status": lambda assoc: assoc.send_n_get(
        [], InventoryCreation, StorageManagementInstance
    ),
    "UPS": lambda assoc: assoc.send_n_create(GIVEN, UnifiedProcedureStepPush, "1.2.3"),
    "UPS is changed": lambda assoc: assoc.send_n_action(
        GIVEN, 1, UnifiedProcedureStepPush, "1.2.3"
    ),
    "UPS is watched": lambda assoc: assoc.send_n_action(
        GIVEN, 3, UnifiedProcedureStepWatch, UPSGlobalSubscriptionInstance
    ),
}
WITHOUT_DATASET = {
    "MPPS is retrieved",
    "print",
    "printer",
    "print job",
    "display",
    "media status",
    "inventory status",
}


@pytest.mark.parametrize("what", REQUESTS)
def test_an_exchange_of_every_service(face, what):
    provider = Provider()
    server = serve(face, provider.bindings)
    with ask(face, server) as assoc:
        status, reply = REQUESTS[what](assoc)
    assert (status.Status, reply) == (SUCCESS, REPLY)
    (event,) = provider.events
    assert event._decoded() == (Dataset() if what in WITHOUT_DATASET else GIVEN)
    assert state(assoc) == RELEASED


@pytest.mark.parametrize(
    ("what", "status"),
    [
        ("MPPS begins", 0x0107),
        ("MPPS ends", 0x0116),
        ("print", 0xB600),
        ("printer", 0x0001),
        ("printer status", 0x0107),
    ],
)
def test_a_warning(face, what, status):
    server = serve(face, Provider(status).bindings)
    with ask(face, server) as assoc:
        answer, reply = REQUESTS[what](assoc)
        assert (answer.Status, reply) == (status, REPLY)
        server.active_associations[0].bind(evt.EVT_N_GET, lambda event: (status, None))
        assert REQUESTS["printer"](assoc) == (keys(Status=status), Dataset())


@pytest.mark.parametrize(
    ("what", "status"),
    [
        ("MPPS begins", 0x0110),
        ("MPPS ends", 0x0112),
        ("print", 0xC600),
        ("printer", 0xFF00),
        ("printer status", 0x1234),
    ],
)
def test_no_dataset_comes_with_a_failure(face, what, status):
    server = serve(face, Provider(status).bindings)
    with ask(face, server) as assoc:
        assert REQUESTS[what](assoc) == (keys(Status=status), None)


def delete(assoc):
    return assoc.send_n_delete(
        BasicFilmBox, "1.2.3", msg_id=9, meta_uid=BasicGrayscalePrintManagementMeta
    )


def test_a_deletion(face):
    provider = Provider()
    server = serve(face, provider.bindings)
    with ask(face, server) as assoc:
        assert delete(assoc) == keys(Status=SUCCESS)
        provider.answer = (keys(Status=0x0112, ErrorComment="unknown"), None)
        assert delete(assoc) == keys(Status=0x0112, ErrorComment="unknown")
    request = provider.events[0].request
    assert (request.MessageID, request.RequestedSOPInstanceUID) == (9, "1.2.3")
    assert request.RequestedSOPClassUID == BasicFilmBox


def test_what_the_provider_is_asked(face):
    provider = Provider()
    server = serve(face, provider.bindings)
    with ask(face, server) as assoc:
        assoc.send_n_get([0x00100010, (0x0010, 0x0020), "PatientSex"], MPPS, "1.2.3", msg_id=7)
        assoc.send_n_action(GIVEN, 3, COMMITMENT, "1.2.3", msg_id=8)
        assoc.send_n_event_report(GIVEN, 2, COMMITMENT, "1.2.3", msg_id=9)
    get, action, report = provider.events
    assert get.attribute_identifiers == [Tag(0x00100010), Tag(0x00100020), Tag(0x00100040)]
    assert [each.message_id for each in provider.events] == [7, 8, 9]
    assert (action.action_type, report.event_type) == (3, 2)
    assert get.context.abstract_syntax == MPPS


def test_what_a_status_dataset_tells(face):
    status = keys(
        Status=0x0107,
        ErrorComment="unknown attribute",
        ErrorID=3,
        AttributeIdentifierList=[0x00100010, 0x00100020],
    )
    with ask(face, serve(face, Provider(status).bindings)) as assoc:
        answer, _ = assoc.send_n_get([], MPPS, "1.2.3")
    assert answer == status


def test_handlers_that_go_wrong_cost_no_association(face):
    def fails(event):
        raise ValueError("on purpose")

    broken = keys(PatientID="1", Rows=1)
    broken["Rows"]._value = "many"
    outcomes = {
        fails: 0x0110,
        (lambda event: None): 0x0110,
        (lambda event: SUCCESS): 0x0110,
        (lambda event: (SUCCESS, broken)): 0x0110,
        (lambda event: (SUCCESS, "reply")): 0x0110,
        (lambda event: (None, REPLY)): 0xC002,
        (lambda event: (keys(ErrorID=1), REPLY)): 0xC001,
    }
    server = serve(face)
    with ask(face, server) as assoc:
        for request in REQUESTS.values():
            assert request(assoc) == (FAILED, None)
        for handler, status in outcomes.items():
            server.bind(evt.EVT_N_GET, handler)
            answer, reply = assoc.send_n_get([], MPPS, "1.2.3")
            assert (answer.Status, reply) == (status, None)
        assert delete(assoc) == FAILED
        assert assoc.send_c_echo().Status == SUCCESS


def test_an_operation_that_the_service_does_not_have(face):
    with ask(face, serve(face, Provider().bindings)) as assoc:
        assert assoc.send_n_delete(MPPS, "1.2.3") == NO_OPERATION
        assert assoc.send_n_create(GIVEN, DisplaySystem, "1.2.3") == (NO_OPERATION, None)


# --- Instances that N-CREATE creates ---


def test_the_provider_names_the_instance(face):
    reply = keys(AffectedSOPInstanceUID="1.2.9", PatientID="reply")
    with ask(face, serve(face, Provider(reply=reply).bindings)) as assoc:
        status, created = assoc.send_n_create(GIVEN, MPPS)
        assert status == keys(Status=SUCCESS, AffectedSOPInstanceUID="1.2.9")
        assert created == REPLY


def test_the_provider_does_not_name_it(face):
    with ask(face, serve(face, Provider().bindings)) as assoc:
        assert assoc.send_n_create(GIVEN, MPPS) == (FAILED, None)
        assert assoc.send_n_create(GIVEN, MPPS, "1.2.3") == (keys(Status=SUCCESS), REPLY)
        assert assoc.send_n_create(None, MPPS, "1.2.3") == (keys(Status=SUCCESS), REPLY)


# --- Contexts ---


def test_ups_push_goes_in_the_context_of_another_ups_class(face):
    provider = Provider()
    server = serve(face, provider.bindings)
    contexts = [UnifiedProcedureStepWatch]
    with ask(face, server, contexts=contexts) as assoc:
        status, _ = assoc.send_n_create(GIVEN, UnifiedProcedureStepPush, "1.2.3")
        assert status.Status == SUCCESS
        with pytest.raises(ValueError, match=r"no accepted presentation context"):
            assoc.send_n_get([], UnifiedProcedureStepPull, "1.2.3")
    (event,) = provider.events
    assert event.request.AffectedSOPClassUID == UnifiedProcedureStepPush
    assert event.context.abstract_syntax == UnifiedProcedureStepWatch


def test_a_meta_class_has_to_be_named(face):
    with ask(face, serve(face, Provider().bindings)) as assoc:
        with pytest.raises(ValueError, match=r"Basic Film Box"):
            assoc.send_n_create(GIVEN, BasicFilmBox, "1.2.3")
        with pytest.raises(ValueError, match=r"Basic Color Print Management Meta"):
            assoc.send_n_create(GIVEN, BasicFilmBox, "1.2.3", meta_uid="1.2.840.10008.5.1.1.18")


@pytest.mark.parametrize(
    "request_",
    [
        lambda assoc, **how: assoc.send_n_create(GIVEN, MPPS, "1.2.3", **how),
        lambda assoc, **how: assoc.send_n_set(GIVEN, MPPS, "1.2.3", **how),
        lambda assoc, **how: assoc.send_n_get([], MPPS, "1.2.3", **how),
        lambda assoc, **how: assoc.send_n_action(GIVEN, 1, COMMITMENT, "1.2.3", **how),
        lambda assoc, **how: assoc.send_n_event_report(GIVEN, 1, COMMITMENT, "1.2.3", **how),
        lambda assoc, **how: assoc.send_n_delete(MPPS, "1.2.3", **how),
    ],
)
def test_a_request_that_cannot_be(face, request_):
    assoc = ask(face, serve(face, Provider().bindings))
    with pytest.raises(ValueError, match=r"MessageID"):
        request_(assoc, msg_id=65536)
    assert request_(assoc, msg_id=65535)
    assoc.release()
    with pytest.raises(RuntimeError, match=r"not established"):
        request_(assoc)


def test_a_dataset_that_cannot_be_encoded(face):
    broken = keys(PatientID="1", Rows=1)
    broken["Rows"]._value = "many"
    with ask(face, serve(face, Provider().bindings)) as assoc:
        with pytest.raises(ValueError, match=r"cannot encode the dataset"):
            assoc.send_n_set(broken, MPPS, "1.2.3")
        assert assoc.send_n_set(GIVEN, MPPS, "1.2.3")[0].Status == SUCCESS


# --- Peers that go, or say what they should not ---


def answer_to(command, status=SUCCESS, dataset=False):
    return Message(
        Command(command | 0x8000),
        MessageIDBeingRespondedTo=1,
        Status=status,
        has_dataset=dataset,
    )


@pytest.mark.parametrize("leave", ["abort", "close", "reset", "stay"])
@pytest.mark.parametrize("what", ["MPPS begins", "MPPS ends", "printer", "print", "printer status"])
def test_the_provider_does_not_answer(face, leave, what):
    contexts = [MPPS, BasicGrayscalePrintManagementMeta]
    timeout = 0.2 if leave == "stay" else WAIT
    with raw_acceptor(face, contexts=contexts, dimse_timeout=timeout) as (assoc, peer):
        with in_background(lambda: REQUESTS[what](assoc)) as asking:
            peer.receive_message()
            if leave == "abort":
                peer.send(b"\x07\0\0\0\0\4\0\0\0\0")
            elif leave != "stay":
                getattr(peer, leave)()
            assert asking.result(WAIT) == (Dataset(), None)
        assert assoc.failure.stage == ("response" if leave == "stay" else "data")
    assert state(assoc) == ABORTED


def test_a_deletion_that_is_not_answered(face):
    contexts = [BasicGrayscalePrintManagementMeta]
    with raw_acceptor(face, contexts=contexts, dimse_timeout=0.2) as (assoc, _):
        assert delete(assoc) == Dataset()
    assert state(assoc) == ABORTED


@pytest.mark.parametrize("status", [SUCCESS, 0x0107])
def test_a_dataset_that_cannot_be_decoded(face, status):
    with (
        raw_acceptor(face, contexts=[MPPS]) as (assoc, peer),
        in_background(lambda: assoc.send_n_get([], MPPS, "1.2.3")) as asking,
    ):
        peer.receive_message()
        peer.send_message(answer_to(Command.N_GET_RQ, status, True), b"\x10\0\x20\0\xff\xff\0\0")
        assert asking.result(WAIT) == (keys(Status=0x0110), None)
        assert assoc.is_established


def test_a_response_to_something_else(face):
    with (
        raw_acceptor(face, contexts=[MPPS]) as (assoc, peer),
        in_background(lambda: assoc.send_n_get([], MPPS, "1.2.3")) as asking,
    ):
        peer.receive_message()
        peer.send_message(answer_to(Command.N_SET_RQ))
        assert asking.result(WAIT) == (Dataset(), None)
    assert "unexpected N-SET-RSP" in str(assoc.failure)


# --- Storage commitment: the report comes by N-EVENT-REPORT ---


class Reports:
    """Notes the event reports that come, on the user's side."""

    def __init__(self, answer=(SUCCESS, None)):
        self.binding = (evt.EVT_N_EVENT_REPORT, self)
        self.answer = answer
        self.events = []
        self.threads = []
        self.came = threading.Semaphore(0)

    def __call__(self, event):
        self.events.append((event.event_type, event.event_information))
        self.threads.append(threading.current_thread())
        self.came.release()
        return self.answer(event) if callable(self.answer) else self.answer

    def wait(self):
        assert self.came.acquire(timeout=WAIT)


def report(assoc, **how):
    return assoc.send_n_event_report(
        GIVEN, 1, COMMITMENT, StorageCommitmentPushModelInstance, **how
    )


def commit(assoc):
    return assoc.send_n_action(GIVEN, 1, COMMITMENT, StorageCommitmentPushModelInstance)


def test_a_report_out_of_the_handler_of_the_request(face):
    """It comes while the user waits for the response to its request."""
    answers = []

    def handler(event):
        answers.append(report(event.assoc))
        return SUCCESS, None

    reports = Reports()
    server = serve(face, [(evt.EVT_N_ACTION, handler)])
    with ask(face, server, reports.binding) as assoc:
        assert commit(assoc) == (keys(Status=SUCCESS), Dataset())
    assert reports.events == [(1, GIVEN)]
    assert answers == [(keys(Status=SUCCESS), Dataset())]


def test_a_report_from_another_thread(face):
    with ThreadPoolExecutor(1) as pool:
        answers = []

        def handler(event):
            answers.append(pool.submit(report, event.assoc))
            return SUCCESS, None

        reports = Reports((SUCCESS, REPLY))
        server = serve(face, [(evt.EVT_N_ACTION, handler)])
        with ask(face, server, reports.binding) as assoc:
            assert commit(assoc) == (keys(Status=SUCCESS), Dataset())
            reports.wait()
            assert answers[0].result(WAIT) == (keys(Status=SUCCESS), REPLY)
            assert state(assoc)[0]
    assert reports.events == [(1, GIVEN)]


def test_a_report_while_nothing_is_asked(face):
    reports = Reports()
    server = serve(face)
    with ask(face, server, reports.binding) as assoc:
        acceptor = server.active_associations[0]
        for _ in range(3):
            assert report(acceptor) == (keys(Status=SUCCESS), Dataset())
        assert assoc.send_c_echo().Status == SUCCESS
    assert reports.events == [(1, GIVEN)] * 3


@pytest.mark.parametrize(
    ("event", "request_"),
    [
        (evt.EVT_C_ECHO, lambda assoc: assoc.send_c_echo()),
        (evt.EVT_C_STORE, lambda assoc: assoc.send_c_store(make_ct(syntax=IMPLICIT))),
        (evt.EVT_C_FIND, lambda assoc: list(assoc.send_c_find(GIVEN, FIND))),
        (evt.EVT_N_GET, lambda assoc: assoc.send_n_get([], MPPS, "1.2.3")),
    ],
)
def test_a_report_while_something_else_is_asked(face, event, request_):
    """The user answers it at once: the provider does not go on before."""
    answers = []

    def handler(received):
        answers.append(report(received.assoc))
        return [] if event is evt.EVT_C_FIND else SUCCESS

    reports = Reports()
    server = serve(face, [(event, handler)])
    with ask(face, server, reports.binding) as assoc:
        request_(assoc)
        assert assoc.send_c_echo(3).Status == SUCCESS
    assert answers[0] == (keys(Status=SUCCESS), Dataset())


def test_a_report_between_the_matches_of_a_query(face):
    answers = []

    def handler(event):
        for _ in range(3):
            answers.append(report(event.assoc)[0].Status)
            yield 0xFF00, GIVEN

    reports = Reports()
    server = serve(face, [(evt.EVT_C_FIND, handler)])
    with ask(face, server, reports.binding) as assoc:
        responses = assoc.send_c_find(GIVEN, FIND)
        assert [status.Status for status, _ in responses] == [0xFF00] * 3 + [SUCCESS]
    assert answers == [SUCCESS] * 3


def test_reports_to_users_that_do_not_want_them(face):
    server = serve(face)
    with ask(face, server) as assoc:
        acceptor = server.active_associations[0]
        assert report(acceptor) == (FAILED, None)
        assert assoc.send_c_echo().Status == SUCCESS


@pytest.mark.parametrize("answer", [(0x0112, None), (0x0107, REPLY)])
def test_what_the_user_answers_to_a_report(face, answer):
    server = serve(face)
    with ask(face, server, Reports(answer).binding):
        acceptor = server.active_associations[0]
        assert report(acceptor) == (keys(Status=answer[0]), answer[1])


def test_a_report_to_which_the_user_replies_with_a_request(face):
    """With the message id of what it is asking already, and of the report."""
    provider = Provider()

    def handler(event):
        report(event.assoc)
        return SUCCESS, None

    reports = Reports(lambda event: (event.assoc.send_c_echo().Status, None))
    server = serve(face, [*provider.bindings, (evt.EVT_N_ACTION, handler)], dimse_timeout=1)
    with ask(face, server, reports.binding, dimse_timeout=0.3) as assoc:
        # The provider, in its handler, cannot serve the echo: it ends, and nothing hangs.
        assert commit(assoc) == (Dataset(), None)
    assert state(assoc) == ABORTED


def test_a_report_from_a_thread_to_which_the_user_replies_with_a_request(face):
    reports = Reports(lambda event: (event.assoc.send_c_echo().Status, None))
    server = serve(face)
    with ask(face, server, reports.binding):
        acceptor = server.active_associations[0]
        assert report(acceptor) == (keys(Status=SUCCESS), Dataset())


def test_a_report_on_an_association_of_the_provider(face):
    """The other way round: the one that commits is the requestor, and reports (PS3.4 Annex J)."""
    reports = Reports()
    server = serve(face, [reports.binding])
    with ask(face, server, contexts=[COMMITMENT]) as assoc:
        assert report(assoc) == (keys(Status=SUCCESS), Dataset())
    assert reports.events == [(1, GIVEN)]


def test_a_peer_that_reports_out_of_the_blue(face):
    request = Message(
        Command.N_EVENT_REPORT_RQ,
        MessageID=7,
        AffectedSOPClassUID=COMMITMENT,
        AffectedSOPInstanceUID="1.2.3",
        EventTypeID=2,
        has_dataset=True,
    )
    reports = Reports((SUCCESS, REPLY))
    with raw_acceptor(face, reports.binding, contexts=[COMMITMENT]) as (assoc, peer):
        peer.send_message(request, encode_dataset(GIVEN, IMPLICIT))
        message, data = peer.receive_message()
        assert (message.command, message.MessageIDBeingRespondedTo) == (
            Command.N_EVENT_REPORT_RSP,
            7,
        )
        assert (message.Status, message.EventTypeID) == (SUCCESS, 2)
        assert data == encode_dataset(REPLY, IMPLICIT)
        assert assoc.is_established


def test_requests_that_are_not_the_users_to_serve(face):
    provider = Provider()
    with raw_acceptor(face, *provider.bindings, contexts=[COMMITMENT]) as (_, peer):
        request = Message(
            Command.N_ACTION_RQ,
            MessageID=7,
            RequestedSOPClassUID=COMMITMENT,
            RequestedSOPInstanceUID="1.2.3",
            ActionTypeID=1,
        )
        peer.send_message(request)
        message, _ = peer.receive_message()
        assert (message.command, message.Status) == (Command.N_ACTION_RSP, 0x0122)
    assert provider.events == []


# --- Many requests that come at once ---


def test_requests_are_served_one_by_one_in_their_order(face):
    running = []
    most = []
    order = []

    def handler(event):
        running.append(1)
        most.append(len(running))
        order.append(event.message_id)
        running.pop()
        return SUCCESS, None

    server = serve(face, [(evt.EVT_N_GET, handler)])
    with RawPeer.connect(server.server_address[1]) as peer:
        peer.associate(context(1, MPPS))
        for number in range(1, 101):
            peer.send_message(
                Message(
                    Command.N_GET_RQ,
                    MessageID=number,
                    RequestedSOPClassUID=MPPS,
                    RequestedSOPInstanceUID="1.2.3",
                )
            )
        answered = [peer.receive_message()[0].MessageIDBeingRespondedTo for _ in range(100)]
    assert order == answered == list(range(1, 101))
    assert max(most) == 1


def test_many_associations_at_once(face):
    provider = Provider()
    server = serve(face, provider.bindings, maximum_associations=100)
    ae = face.ae()

    def create(number):
        with ask(face, server, ae=ae, contexts=[build_context(MPPS)]) as assoc:
            begun = assoc.send_n_create(GIVEN, MPPS, f"1.2.{number}")
            return begun, assoc.send_n_set(GIVEN, MPPS, f"1.2.{number}")

    with ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(create, range(100)))
    assert answers == [((keys(Status=SUCCESS), REPLY),) * 2] * 100
    assert len(provider.events) == 200
    assert eventually(lambda: not server.active_associations)
