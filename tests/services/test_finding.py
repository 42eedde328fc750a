"""C-FIND as provider: matches, statuses, cancellation, and handlers that do as they like."""

from __future__ import annotations

import pytest
from fake_port import EXPLICIT, FakePort, keys, received, unencodable, yielding

from dicomwire import evt
from dicomwire.data.codec import decode_for, encode_dataset
from dicomwire.protocol.command import Command
from dicomwire.sop_class import (
    BreastImagingRelevantPatientInformationQuery,
    ColorPaletteQueryRetrieveInformationModelFind,
    DefinedProcedureProtocolInformationModelFind,
    GenericImplantTemplateInformationModelFind,
    HangingProtocolInformationModelFind,
    InventoryFind,
    ModalityWorklistInformationModelFind,
    PatientRootQueryRetrieveInformationModelFind,
    ProductCharacteristicsQuery,
    ProtocolApprovalInformationModelFind,
    RepositoryQuery,
    UnifiedProcedureStepPull,
)

MODEL = PatientRootQueryRetrieveInformationModelFind
SERVICES = [
    MODEL,
    HangingProtocolInformationModelFind,
    ColorPaletteQueryRetrieveInformationModelFind,
    GenericImplantTemplateInformationModelFind,
    DefinedProcedureProtocolInformationModelFind,
    ProtocolApprovalInformationModelFind,
    InventoryFind,
    ModalityWorklistInformationModelFind,
    ProductCharacteristicsQuery,
    UnifiedProcedureStepPull,
]
PENDING, MORE_PENDING, SUCCESS, CANCEL = 0xFF00, 0xFF01, 0x0000, 0xFE00
A, B, C = keys(PatientID="A"), keys(PatientID="B"), keys(PatientID="C")


def request(model=MODEL, **how):
    return received(Command.C_FIND_RQ, model, keys(PatientID="*"), **how)


def find(*results, model=MODEL):
    """Return (status, Patient ID or None) of all responses."""
    return told(FakePort((evt.EVT_C_FIND, yielding(*results))).serve(request(model)))


def told(sent):
    return [
        (each.status, None if each.dataset is None else each.dataset.PatientID) for each in sent
    ]


@pytest.mark.parametrize("model", SERVICES)
def test_matches_and_success_after_them(model):
    assert find((PENDING, A), (MORE_PENDING, B), model=model) == [
        (PENDING, "A"),
        (MORE_PENDING, "B"),
        (SUCCESS, None),
    ]


def test_no_matches():
    assert find() == [(SUCCESS, None)]


def test_responses_are_in_the_context_and_syntax_of_the_request():
    port = FakePort((evt.EVT_C_FIND, yielding((PENDING, A))))
    match, last = port.serve(request(transfer_syntax=EXPLICIT))
    assert decode_for(match.data, EXPLICIT).PatientID == "A"
    assert match.message.command is Command.C_FIND_RSP
    assert match.message.AffectedSOPClassUID == MODEL
    assert {match.message.MessageIDBeingRespondedTo, last.message.MessageIDBeingRespondedTo} == {7}
    assert (match.context_id, last.context_id) == (5, 5)


def test_the_handler_gets_the_request():
    seen = []
    port = FakePort()
    port.handlers.bind(
        evt.EVT_C_FIND,
        lambda event, *args: (
            seen.append((event.identifier.PatientID, event.message_id, event.context, args)) or []
        ),
        ["more"],
    )
    port.serve(request())
    (identifier, message_id, context, args) = seen[0]
    assert (identifier, message_id, args) == ("*", 7, ("more",))
    assert context.abstract_syntax == MODEL


@pytest.mark.parametrize("answer", [[(PENDING, A)], ((PENDING, A),), iter([(PENDING, A)])])
def test_a_handler_need_not_be_a_generator(answer):
    port = FakePort((evt.EVT_C_FIND, lambda event: answer))
    assert told(port.serve(request())) == [(PENDING, "A"), (SUCCESS, None)]


@pytest.mark.parametrize("status", [SUCCESS, CANCEL, 0xA700, 0xA900, 0xC000, 0x0122, 0x1234])
@pytest.mark.parametrize("model", [MODEL, ModalityWorklistInformationModelFind])
def test_a_final_status_ends_the_operation(status, model):
    assert find((PENDING, A), (status, B), (PENDING, C), model=model) == [
        (PENDING, "A"),
        (status, None),
    ]


def test_a_status_dataset_of_a_match_and_of_the_end():
    results = [
        (keys(Status=PENDING, ErrorComment="odd"), A),
        (keys(Status=0xA700, ErrorID=3), None),
    ]
    match, last = FakePort((evt.EVT_C_FIND, yielding(*results))).serve(request())
    assert (match.message.ErrorComment, last.message.ErrorComment) == ("odd", None)
    assert (match.message.ErrorID, last.message.ErrorID) == (None, 3)
    match, last = FakePort((evt.EVT_C_FIND, yielding(results[0]))).serve(request())
    assert (match.message.ErrorComment, last.message.ErrorComment) == ("odd", None)


@pytest.mark.parametrize("model", [RepositoryQuery, MODEL])
def test_a_warning_is_sent_and_matches_go_on(model):
    assert find((PENDING, A), (0xB001, B), (PENDING, C), model=model) == [
        (PENDING, "A"),
        (0xB001, None),
        (PENDING, "C"),
        (SUCCESS, None),
    ]


def test_a_warning_with_nothing_after_it_is_the_last_response():
    assert find((PENDING, A), (0xB001, None)) == [(PENDING, "A"), (0xB001, None)]
    assert find((0xB001, None)) == [(0xB001, None)]
    status = keys(Status=0xB001, ErrorComment="more")
    (sent,) = FakePort((evt.EVT_C_FIND, yielding((status, None)))).serve(request())
    assert sent.message.ErrorComment == "more"


def test_a_warning_that_the_service_does_not_have_ends_the_operation():
    assert find((PENDING, A), (0xB000, None), (PENDING, B)) == [(PENDING, "A"), (0xB000, None)]


def test_the_users_of_repository_query_await_success_after_the_warning():
    assert find((PENDING, A), (0xB001, None), model=RepositoryQuery) == [
        (PENDING, "A"),
        (0xB001, None),
        (SUCCESS, None),
    ]


def test_a_handler_that_fails_after_a_warning_has_one_last_response():
    assert find((0xB001, None), ValueError("on purpose")) == [(0xC311, None)]


# --- Handlers that go wrong ---


@pytest.mark.parametrize(
    "results",
    [
        [ValueError("on purpose")],
        [PENDING],
        [(PENDING,)],
        [(PENDING, A, B)],
        [None],
    ],
)
def test_a_handler_that_fails(results):
    assert find(*results) == [(0xC311, None)]
    assert find((PENDING, A), *results, (PENDING, B)) == [(PENDING, "A"), (0xC311, None)]


@pytest.mark.parametrize("model", SERVICES)
def test_a_handler_that_returns_none_has_no_matches(model):
    port = FakePort((evt.EVT_C_FIND, lambda event: None))
    assert told(port.serve(request(model))) == [(SUCCESS, None)]


@pytest.mark.parametrize("answer", [5, PENDING])
def test_a_handler_that_yields_nothing_at_all(answer):
    port = FakePort((evt.EVT_C_FIND, lambda event: answer))
    assert told(port.serve(request())) == [(0xC311, None)]


def test_no_handler():
    assert told(FakePort().serve(request())) == [(0xC311, None)]


def test_a_request_that_cannot_be_decoded():
    port = FakePort((evt.EVT_C_FIND, lambda event: [(PENDING, event.identifier)]))
    broken = received(Command.C_FIND_RQ, MODEL, b"\x10\0\x10\0\xff\xff\0\0")
    assert told(port.serve(broken)) == [(0xC311, None)]


def test_a_match_that_is_encoded_already_is_sent_as_it_is(caplog):
    caplog.set_level("DEBUG", "dicomwire")
    encoded = encode_dataset(A, EXPLICIT)
    results = (PENDING, encoded), (PENDING, b"not a dataset")
    port = FakePort((evt.EVT_C_FIND, yielding(*results)))
    first, second, _ = port.serve(request(transfer_syntax=EXPLICIT))
    assert (first.data, second.data) == (encoded, b"not a dataset")
    logged = [each.getMessage() for each in caplog.records if hasattr(each, "patient_data")]
    assert sum("Matching Identifier" in each for each in logged) == 1


@pytest.mark.parametrize("status", [None, "FF00", -1])
def test_no_status(status):
    assert find((PENDING, A), (status, B), (PENDING, C)) == [(PENDING, "A"), (0xC002, None)]
    assert find((keys(ErrorID=1), B)) == [(0xC001, None)]


@pytest.mark.parametrize("identifier", [None, "PatientID", {"PatientID": "1"}, unencodable()])
def test_a_match_that_cannot_be_sent(identifier):
    assert find((PENDING, A), (PENDING, identifier), (PENDING, C)) == [
        (PENDING, "A"),
        (0xC312, None),
    ]


def test_a_request_whose_identifier_could_not_be_kept():
    port = FakePort((evt.EVT_C_FIND, yielding((PENDING, A))))
    assert told(port.serve(request(refusal=0xA700))) == [(0xA700, None)]


def test_a_handler_is_ended_with_its_last_result_and_may_fail_then(caplog):
    ended = []

    def handler(event):
        try:
            yield 0xA700, None
        finally:
            ended.append(True)
            raise ValueError("on purpose")

    assert told(FakePort((evt.EVT_C_FIND, handler)).serve(request())) == [(0xA700, None)]
    assert ended
    assert "failed when its generator was closed" in caplog.text


# --- Cancellation, and the peer's end ---


def test_a_handler_that_looks_says_how_it_ends():
    port = FakePort()

    def handler(event):
        looked.append(event.is_cancelled)
        yield PENDING, A
        port.cancelled.add(7)
        looked.append(event.is_cancelled)
        looked.append(event.is_cancelled)
        yield CANCEL, None

    looked = []
    port.handlers.bind(evt.EVT_C_FIND, handler)
    assert told(port.serve(request())) == [(PENDING, "A"), (CANCEL, None)]
    assert looked == [False, True, False]


def test_a_handler_that_looks_may_go_on():
    port = FakePort()

    def handler(event):
        port.cancelled.add(7)
        assert event.is_cancelled
        yield PENDING, A
        yield PENDING, B

    port.handlers.bind(evt.EVT_C_FIND, handler)
    assert told(port.serve(request())) == [(PENDING, "A"), (PENDING, "B"), (SUCCESS, None)]


def test_a_handler_that_does_not_look_is_ended():
    ended = []
    port = FakePort()

    def handler(event):
        try:
            yield PENDING, A
            port.cancelled.add(7)
            while True:
                yield PENDING, B
        finally:
            ended.append(True)

    port.handlers.bind(evt.EVT_C_FIND, handler)
    # It could not have looked before its first result after the cancel, which therefore goes out.
    assert told(port.serve(request())) == [(PENDING, "A"), (PENDING, "B"), (CANCEL, None)]
    assert ended


def test_a_cancel_that_comes_with_the_request():
    port = FakePort((evt.EVT_C_FIND, lambda event: [(PENDING, A), (PENDING, B)]))
    port.cancelled.add(7)
    assert told(port.serve(request())) == [(CANCEL, None)]


def test_a_cancel_that_comes_too_late_changes_nothing():
    port = FakePort()

    def handler(event):
        yield PENDING, A
        port.cancelled.add(7)

    port.handlers.bind(evt.EVT_C_FIND, handler)
    assert told(port.serve(request())) == [(PENDING, "A"), (SUCCESS, None)]


def test_a_cancel_of_another_operation_is_not_ours():
    port = FakePort((evt.EVT_C_FIND, yielding((PENDING, A))))
    port.cancelled.add(8)
    assert told(port.serve(request())) == [(PENDING, "A"), (SUCCESS, None)]


def test_a_handler_is_ended_when_the_peer_is_gone():
    ended = []
    port = FakePort()

    def handler(event):
        try:
            yield PENDING, A
            port.is_over = True
            while True:
                yield PENDING, B
        finally:
            ended.append(True)

    port.handlers.bind(evt.EVT_C_FIND, handler)
    assert told(port.serve(request())) == [(PENDING, "A")]
    assert ended


# --- Relevant Patient Information Query ---


RELEVANT = BreastImagingRelevantPatientInformationQuery


def test_only_one_patient_is_relevant():
    assert find((PENDING, A), (PENDING, B), model=RELEVANT) == [(PENDING, "A"), (SUCCESS, None)]
    assert find(model=RELEVANT) == [(SUCCESS, None)]


@pytest.mark.parametrize("status", [SUCCESS, CANCEL, 0xA700, 0xA900, 0xC100, 0xC200, 0x0107])
def test_what_else_comes_first_is_the_end(status):
    assert find((status, A), (PENDING, B), model=RELEVANT) == [(status, None)]


def test_what_goes_wrong_there():
    assert find((PENDING, None), (PENDING, B), model=RELEVANT) == [(0xC312, None)]
    assert find(ValueError(), model=RELEVANT) == [(0xC311, None)]
