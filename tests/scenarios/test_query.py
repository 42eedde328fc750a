"""C-FIND between two ends: matches, statuses, iterators left early, peers that go, deadlines."""

from __future__ import annotations

import gc
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from pydicom.dataset import Dataset
from scenario import (
    ABORTED,
    ESTABLISHED,
    RELEASED,
    Recorder,
    eventually,
    in_background,
    raw_acceptor,
    state,
)

from dicomwire import build_context, evt
from dicomwire.data.codec import encode_dataset
from dicomwire.protocol.command import Command, Message
from dicomwire.protocol.pdu import Abort, ReleaseRQ
from dicomwire.sop_class import (
    GeneralRelevantPatientInformationQuery,
    InventoryFind,
    ModalityWorklistInformationModelFind,
    PatientRootQueryRetrieveInformationModelFind,
    ProductCharacteristicsQuery,
    ProtocolApprovalInformationModelFind,
    RepositoryQuery,
    UnifiedProcedureStepQuery,
)
from raw_peer import IMPLICIT, VERIFICATION, WAIT, RawPeer, context

FIND = PatientRootQueryRetrieveInformationModelFind
MODELS = [
    FIND,
    RepositoryQuery,
    ModalityWorklistInformationModelFind,
    GeneralRelevantPatientInformationQuery,
    ProductCharacteristicsQuery,
    ProtocolApprovalInformationModelFind,
    InventoryFind,
    UnifiedProcedureStepQuery,
]
PENDING, SUCCESS, CANCEL = 0xFF00, 0x0000, 0xFE00


def keys(**values):
    ds = Dataset()
    for keyword, value in values.items():
        setattr(ds, keyword, value)
    return ds


QUERY = keys(QueryRetrieveLevel="PATIENT", PatientID="*")


def match(number):
    return PENDING, keys(PatientID=str(number))


def matches(count):
    """Return a handler that has `count` matches."""
    return [(evt.EVT_C_FIND, lambda event: map(match, range(count)))]


def serve(face, handlers=(), **settings):
    return face.serve(handlers, supported=[VERIFICATION, *MODELS], **settings)


def ask(face, server, *handlers, **options):
    return face.associate(server, handlers, contexts=[VERIFICATION, *MODELS], **options)


def told(responses):
    """Return (status, Patient ID or None) of what comes; an empty status is None."""
    return [
        (status.get("Status"), identifier.PatientID if identifier else None)
        for status, identifier in responses
    ]


# --- The exchange ---


def test_matches_come_one_by_one(face):
    server = serve(face, matches(3))
    with ask(face, server) as assoc:
        responses = assoc.send_c_find(QUERY, FIND)
        assert iter(responses) is responses
        status, identifier = next(responses)
        assert (status.Status, identifier.PatientID) == (PENDING, "0")
        assert told(responses) == [(PENDING, "1"), (PENDING, "2"), (SUCCESS, None)]
        assert list(responses) == []
        responses.close()
        assert told(assoc.send_c_find(QUERY, FIND))[-1] == (SUCCESS, None)
    assert state(assoc) == RELEASED


def test_the_request_leaves_at_once(face):
    asked = threading.Event()
    server = serve(face, [(evt.EVT_C_FIND, lambda event: asked.set() or [])])
    with ask(face, server) as assoc:
        responses = assoc.send_c_find(QUERY, FIND)
        assert asked.wait(WAIT)
        assert told(responses) == [(SUCCESS, None)]


def test_what_the_provider_is_asked(face):
    seen = []

    def handler(event):
        seen.append((event.request, event.identifier.PatientID, event.context.transfer_syntax))
        return []

    server = serve(face, [(evt.EVT_C_FIND, handler)])
    with ask(face, server) as assoc:
        told(assoc.send_c_find(QUERY, FIND, msg_id=9, priority=1))
    ((request, patient, syntax),) = seen
    assert (request.MessageID, request.Priority, request.AffectedSOPClassUID) == (9, 1, FIND)
    assert (patient, syntax) == ("*", IMPLICIT)


@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2.1", "1.2.840.10008.1.2.1.99", IMPLICIT])
@pytest.mark.parametrize(
    "name", ["Doe^Jane", "M\u00fcller^J\u00f6rg", "Yamada^Tarou=\u5c71\u7530^\u592a\u90ce"]
)
def test_values_arrive_as_they_were(face, syntax, name):
    identifier = keys(SpecificCharacterSet="ISO_IR 192", PatientName=name, NumberOfFrames=3)
    identifier.OtherPatientIDsSequence = [keys(PatientID="1"), keys(PatientID="2")]
    server = serve(face, [(evt.EVT_C_FIND, lambda event: [(PENDING, event.identifier)])])
    with face.associate(server, contexts=[build_context(FIND, syntax)]) as assoc:
        (_, received), _ = assoc.send_c_find(identifier, FIND)
    assert received == identifier


def test_every_category_of_status(face):
    """What a service makes of each is tested over the fake port."""
    server = serve(face)
    with ask(face, server) as assoc:
        for status in (SUCCESS, CANCEL, 0xA700, 0xA900, 0xC123, 0x0122, 0x1234):
            results = [(status, None), match(1)]
            server.bind(evt.EVT_C_FIND, lambda event, results: results, [results])
            assert told(assoc.send_c_find(QUERY, FIND)) == [(status, None)]
        assert assoc.send_c_echo().Status == SUCCESS


def test_a_match_of_every_service(face):
    server = serve(face, matches(1))
    with ask(face, server) as assoc:
        for model in MODELS:
            assert told(assoc.send_c_find(QUERY, model)) == [(PENDING, "0"), (SUCCESS, None)]


def test_what_a_status_dataset_tells(face):
    failure = keys(Status=0xA900, ErrorComment="no such level", OffendingElement=[0x00080052])
    server = serve(face, [(evt.EVT_C_FIND, lambda event: [(failure, None)])])
    with ask(face, server) as assoc:
        ((status, identifier),) = assoc.send_c_find(QUERY, FIND)
    assert (status.ErrorComment, status.OffendingElement) == ("no such level", 0x00080052)
    assert identifier is None


def test_a_handler_that_returns_none_has_no_matches(face):
    server = serve(face, [(evt.EVT_C_FIND, lambda event: None)])
    with ask(face, server) as assoc:
        assert told(assoc.send_c_find(QUERY, FIND)) == [(SUCCESS, None)]


def test_a_warning_is_one_last_response(face):
    """A second one would be taken for the answer to what is asked next, or for no message."""
    server = serve(face, [(evt.EVT_C_FIND, lambda event: [match(1), (0xB001, None)])])
    with RawPeer.connect(server.server_address[1]) as peer:
        peer.associate(context(1, FIND), context(3, VERIFICATION))
        request = Message(
            Command.C_FIND_RQ,
            MessageID=1,
            AffectedSOPClassUID=FIND,
            Priority=2,
            has_dataset=True,
        )
        peer.send_message(request, encode_dataset(QUERY, IMPLICIT))
        statuses = [peer.receive_message()[0].Status for _ in range(2)]
        echo = Message(Command.C_ECHO_RQ, MessageID=2, AffectedSOPClassUID=VERIFICATION)
        peer.send_message(echo, on=3)
        assert (statuses, peer.receive_message()[0].command) == (
            [PENDING, 0xB001],
            Command.C_ECHO_RSP,
        )


def test_the_limit_of_a_repository_query(face):
    results = [match(1), (0xB001, None), match(2)]
    server = serve(face, [(evt.EVT_C_FIND, lambda event: results)])
    with ask(face, server) as assoc:
        assert told(assoc.send_c_find(QUERY, RepositoryQuery)) == [
            (PENDING, "1"),
            (0xB001, None),
            (PENDING, "2"),
            (SUCCESS, None),
        ]


def test_another_warning_is_the_last_that_the_user_takes(face):
    results = [match(1), (0xB000, None), match(2)]
    server = serve(face, [(evt.EVT_C_FIND, lambda event: results)])
    with ask(face, server) as assoc:
        # What the provider's handler yields after it is let pass by.
        assert told(assoc.send_c_find(QUERY, FIND)) == [(PENDING, "1"), (0xB000, None)]
        assert assoc.send_c_echo(2).Status == SUCCESS
        assert state(assoc) == ESTABLISHED


def test_handlers_that_go_wrong_cost_no_association(face):
    def fails(event):
        yield match(1)
        raise ValueError("on purpose")

    outcomes = {
        fails: [(PENDING, "1"), (0xC311, None)],
        (lambda event: 5): [(0xC311, None)],
        (lambda event: [PENDING]): [(0xC311, None)],
        (lambda event: [match(1), (PENDING, "2")]): [(PENDING, "1"), (0xC312, None)],
        (lambda event: [match(1), ("FF00", None)]): [(PENDING, "1"), (0xC002, None)],
        (lambda event: [(keys(ErrorID=1), None)]): [(0xC001, None)],
    }
    server = serve(face)
    with ask(face, server) as assoc:
        assert told(assoc.send_c_find(QUERY, FIND)) == [(0xC311, None)]
        for handler, outcome in outcomes.items():
            server.bind(evt.EVT_C_FIND, handler)
            assert told(assoc.send_c_find(QUERY, FIND)) == outcome
        assert assoc.send_c_echo().Status == SUCCESS


# --- What is asked wrongly ---


def test_a_query_without_a_context(face):
    server = serve(face, matches(1))
    with face.associate(server, contexts=[VERIFICATION, FIND]) as assoc:
        with pytest.raises(ValueError, match=r"no accepted presentation context") as raised:
            assoc.send_c_find(QUERY, ModalityWorklistInformationModelFind)
        text = str(raised.value)
        assert "1.2.840.10008.5.1.4.31 (Modality Worklist" in text
        assert "accepted: 1.2.840.10008.1.1 (Verification SOP Class) with" in text
        assert told(assoc.send_c_find(QUERY, FIND))[-1] == (SUCCESS, None)


def test_a_query_that_cannot_be_encoded(face):
    broken = keys(PatientID="1", Rows=1)
    broken["Rows"]._value = "many"
    with ask(face, serve(face, matches(1))) as assoc:
        with pytest.raises(ValueError, match=r"cannot encode the dataset"):
            assoc.send_c_find(broken, FIND)
        assert told(assoc.send_c_find(QUERY, FIND))[-1] == (SUCCESS, None)


@pytest.mark.parametrize("operation", ["send_c_find", "send_c_get", "send_c_move"])
def test_a_key_that_its_character_set_cannot_hold(face, operation):
    """It would go out as "?", which matches every character."""
    key = keys(SpecificCharacterSet="ISO_IR 100", PatientName="山田")
    item = keys(ScheduledPerformingPhysicianName="山田")
    arguments = ["ANYWHERE", MODELS[0]] if operation == "send_c_move" else [MODELS[0]]
    log = Recorder(evt.EVT_C_FIND)
    server = serve(face, [(evt.EVT_C_FIND, lambda event: log(event) or ())])
    with ask(face, server) as assoc:
        for wrong in (key, keys(ScheduledProcedureStepSequence=[item])):
            with pytest.raises(ValueError, match=r"Name has characters that its Specific"):
                list(getattr(assoc, operation)(wrong, *arguments))
        key.SpecificCharacterSet = ["", "ISO 2022 IR 87"]
        assert told(assoc.send_c_find(key, FIND)) == [(SUCCESS, None)]
    (event,) = log.events
    assert event.identifier.PatientName == "山田"


@pytest.mark.parametrize("wrong", [{"msg_id": 65536}, {"msg_id": -1}, {"priority": 3}])
def test_a_request_that_cannot_be(face, wrong):
    with ask(face, serve(face, matches(1))) as assoc:
        with pytest.raises(ValueError, match=r"MessageID|Priority"):
            assoc.send_c_find(QUERY, FIND, **wrong)
        assert told(assoc.send_c_find(QUERY, FIND))[-1] == (SUCCESS, None)


def test_no_query_without_an_association(face):
    assoc = ask(face, serve(face, matches(1)))
    assoc.release()
    with pytest.raises(RuntimeError, match=r"not established"):
        assoc.send_c_find(QUERY, FIND)


# --- Iterators, other requests beside them, and iterators that are left ---


def test_an_iterator_is_left_early_and_the_same_message_id_used_again(face):
    server = serve(face, matches(300))
    with ask(face, server) as assoc:
        for _ in range(5):
            for _ in assoc.send_c_find(QUERY, FIND):
                break
            assert len(told(assoc.send_c_find(QUERY, FIND))) == 301
        for _ in assoc.send_c_find(QUERY, FIND):
            break
        assert assoc.send_c_echo().Status == SUCCESS


def test_an_iterator_is_closed(face):
    server = serve(face, matches(300))
    with ask(face, server) as assoc:
        responses = assoc.send_c_find(QUERY, FIND)
        next(responses)
        responses.close()
        assert list(responses) == []
        assert assoc.send_c_echo().Status == SUCCESS
        assert len(told(assoc.send_c_find(QUERY, FIND))) == 301


def test_an_iterator_is_never_read(face):
    server = serve(face, matches(300))
    with ask(face, server) as assoc:
        assoc.send_c_find(QUERY, FIND)
        assert assoc.send_c_echo().Status == SUCCESS
        responses = assoc.send_c_find(QUERY, FIND, msg_id=7)
    assert state(assoc) == RELEASED
    assert set(told(responses)[-1:]) <= {(SUCCESS, None), (None, None)}


def test_an_iterator_in_a_cycle_is_collected(face):
    server = serve(face, matches(300))
    with ask(face, server) as assoc:
        cycle = [assoc.send_c_find(QUERY, FIND)]
        cycle.append(cycle)
        next(cycle[0])
        del cycle
        gc.collect()
        # The association is looked after again: it takes the responses, and sees the peer's end.
        server.active_associations[0].release()
        assoc.join(WAIT)
        assert state(assoc) == RELEASED


def test_other_requests_beside_an_open_iterator(face):
    server = serve(face, matches(50))
    with ask(face, server) as assoc:
        responses = assoc.send_c_find(QUERY, FIND)  # both with message id 1
        seen = []
        for status, _ in responses:
            seen.append(status.Status)
            if len(seen) % 10 == 1:
                assert assoc.send_c_echo().Status == SUCCESS
        assert seen == [PENDING] * 50 + [SUCCESS]


@pytest.mark.parametrize("other_id", [1, 2])
def test_two_queries_at_a_time(face, other_id):
    server = serve(face, matches(20))
    with ask(face, server) as assoc:
        first = assoc.send_c_find(QUERY, FIND)
        next(first)
        second = assoc.send_c_find(QUERY, FIND, msg_id=other_id)
        both = [told(second), told(first)]
    assert both == [
        [(PENDING, str(n)) for n in range(start, 20)] + [(SUCCESS, None)] for start in (0, 1)
    ]


def test_matches_arrive_also_when_the_handler_turns_slow(face):
    """Those that come quickly may be sent together, but not held back for long."""
    arrived = threading.Semaphore(0)
    waited = []

    def handler(event):
        for number in range(100):
            yield match(number)
        for number in range(100, 103):
            waited.append(all(arrived.acquire(timeout=WAIT) for _ in range(number - len(got))))
            got.extend([None] * (number - len(got)))
            yield match(number)

    got = []
    server = serve(face, [(evt.EVT_C_FIND, handler)])
    with ask(face, server) as assoc:
        for _ in assoc.send_c_find(QUERY, FIND):
            arrived.release()
    assert waited == [True] * 3


def test_a_slow_query_does_not_time_out_what_waits_behind_it(face):
    go_on = threading.Semaphore(0)

    def handler(event):
        for number in range(4):
            go_on.acquire(timeout=WAIT)
            yield match(number)

    server = serve(face, [(evt.EVT_C_FIND, handler)])
    log = Recorder(evt.EVT_DIMSE_RECV)
    with ask(face, server, *log.handlers, dimse_timeout=2) as assoc:
        responses = assoc.send_c_find(QUERY, FIND)
        with in_background(assoc.send_c_echo) as echo:
            for number in range(4):
                # Each match begins the echo's deadline anew, though it is not the echo's.
                assert not threading.Event().wait(0.6)
                go_on.release()
                log.wait_for(evt.EVT_DIMSE_RECV, number + 1)
            assert echo.result(WAIT).Status == SUCCESS
        assert len(told(responses)) == 5


def test_two_threads_with_one_association(face):
    server = serve(face, matches(20))
    with ask(face, server) as assoc, ThreadPoolExecutor(4) as pool:
        queries = [
            pool.submit(lambda n: told(assoc.send_c_find(QUERY, FIND, msg_id=n)), n % 5 + 1)
            for n in range(20)
        ]
        echoes = [pool.submit(assoc.send_c_echo) for _ in range(20)]
        assert [len(each.result(WAIT)) for each in queries] == [21] * 20
        assert {each.result(WAIT).Status for each in echoes} == {SUCCESS}


def test_a_handler_that_asks_another_server(face):
    behind = serve(face, matches(3))

    def relay(event):
        with ask(face, behind) as onward:
            for status, identifier in onward.send_c_find(event.identifier, FIND):
                yield status.Status, identifier

    server = serve(face, [(evt.EVT_C_FIND, relay)])
    with ask(face, server) as assoc:
        assert told(assoc.send_c_find(QUERY, FIND)) == [
            *((PENDING, str(n)) for n in range(3)),
            (SUCCESS, None),
        ]


# --- Peers that go, or say what they should not ---


def response(message_id=1, status=PENDING, command=Command.C_FIND_RSP):
    return Message(
        command,
        MessageIDBeingRespondedTo=message_id,
        AffectedSOPClassUID=FIND,
        Status=status,
        has_dataset=status == PENDING,
    )


ONE_MATCH = encode_dataset(keys(PatientID="1"), IMPLICIT)


def leave_by_abort(peer):
    peer.send(Abort(0, 0))


def leave_by_release(peer):
    peer.send(ReleaseRQ())
    peer.receive()


LEAVING = {
    "abort": leave_by_abort,
    "close": lambda peer: peer.close(),
    "reset": lambda peer: peer.reset(),
}


@pytest.mark.parametrize("way", LEAVING)
@pytest.mark.parametrize("matches_before", [0, 2])
def test_the_provider_goes_in_the_middle(face, way, matches_before):
    with raw_acceptor(face, contexts=[FIND]) as (assoc, peer):
        responses = assoc.send_c_find(QUERY, FIND)
        peer.receive_message()
        for _ in range(matches_before):
            peer.send_message(response(), ONE_MATCH)
            assert next(responses)[0].Status == PENDING
        LEAVING[way](peer)
        assert told(responses) == [(None, None)]
        assert list(responses) == []
    assert state(assoc) == ABORTED
    assert assoc.failure is not None


def test_the_provider_releases_in_the_middle(face):
    with raw_acceptor(face, contexts=[FIND]) as (assoc, peer):
        responses = assoc.send_c_find(QUERY, FIND)
        peer.receive_message()
        peer.send_message(response(), ONE_MATCH)
        with in_background(lambda: leave_by_release(peer)) as leaving:
            assert told(responses) == [(PENDING, "1"), (None, None)]
            leaving.result(WAIT)
    assert state(assoc) == RELEASED


@pytest.mark.parametrize("way", LEAVING)
def test_the_user_goes_in_the_middle(face, way):
    """The handler is ended, and is told when it asks."""
    gone, ended = [], threading.Event()
    go_on = threading.Event()

    def handler(event):
        try:
            yield match(1)
            go_on.wait(WAIT)
            while not event.peer_gone:
                yield match(2)
            gone.append(event.assoc)
        finally:
            ended.set()

    server = serve(face, [(evt.EVT_C_FIND, handler)])
    with RawPeer.connect(server.server_address[1]) as peer:
        peer.associate(context(1, FIND))
        request = Message(
            Command.C_FIND_RQ,
            MessageID=1,
            AffectedSOPClassUID=FIND,
            Priority=2,
            has_dataset=True,
        )
        peer.send_message(request, ONE_MATCH)
        peer.receive_message()
        acceptor = server.active_associations[0]
        LEAVING[way](peer)
        go_on.set()
        assert ended.wait(WAIT)
    acceptor.join(WAIT)
    assert state(acceptor) == ABORTED


def test_a_handler_may_see_that_the_peer_is_gone(face):
    resumed, seen = threading.Event(), threading.Event()

    def handler(event):
        yield match(1)
        resumed.set()
        assert eventually(lambda: event.peer_gone)
        seen.set()

    server = serve(face, [(evt.EVT_C_FIND, handler)])
    assoc = ask(face, server)
    next(assoc.send_c_find(QUERY, FIND))
    assert resumed.wait(WAIT)
    assoc.abort()
    assert seen.wait(WAIT)


@pytest.mark.parametrize("end", ["abort", "release"])
def test_a_handler_ends_the_association(face, end):
    def handler(event):
        yield match(1)
        getattr(event.assoc, end)()
        yield match(2)

    server = serve(face, [(evt.EVT_C_FIND, handler)])
    assoc = ask(face, server)
    # What was yielded just before may have left, or not.
    assert told(assoc.send_c_find(QUERY, FIND)) in ([(PENDING, "1"), (None, None)], [(None, None)])
    assert state(assoc) == (ABORTED if end == "abort" else RELEASED)


@pytest.mark.parametrize(
    "wrong",
    [
        response(command=Command.C_ECHO_RSP, status=SUCCESS),
        response(command=Command.C_GET_RSP, status=SUCCESS),
        response(message_id=2, status=SUCCESS),
    ],
)
def test_a_response_to_something_else(face, wrong):
    with raw_acceptor(face, contexts=[FIND]) as (assoc, peer):
        responses = assoc.send_c_find(QUERY, FIND)
        peer.receive_message()
        peer.send_message(wrong)
        assert told(responses) == [(None, None)]
        assert "unexpected" in str(assoc.failure)
    assert state(assoc) == ABORTED


def test_an_identifier_that_cannot_be_decoded(face):
    with raw_acceptor(face, contexts=[FIND]) as (assoc, peer):
        responses = assoc.send_c_find(QUERY, FIND)
        peer.receive_message()
        peer.send_message(response(), b"\x10\0\x20\0\xff\xff\0\0")
        peer.send_message(response(), ONE_MATCH)
        peer.send_message(response(status=SUCCESS))
        assert told(responses) == [(PENDING, None), (PENDING, "1"), (SUCCESS, None)]


def test_a_pending_response_without_identifier(face):
    with raw_acceptor(face, contexts=[FIND]) as (assoc, peer):
        responses = assoc.send_c_find(QUERY, FIND)
        peer.receive_message()
        bare = response()
        bare.has_dataset = False
        peer.send_message(bare)
        peer.send_message(response(status=SUCCESS))
        assert told(responses) == [(PENDING, None), (SUCCESS, None)]


# --- Deadlines ---


@pytest.mark.parametrize("matches_before", [0, 2])
def test_no_response_in_time(face, matches_before):
    with raw_acceptor(face, contexts=[FIND]) as (assoc, peer):
        responses = assoc.send_c_find(QUERY, FIND)
        peer.receive_message()
        for _ in range(matches_before):
            peer.send_message(response(), ONE_MATCH)
            assert next(responses)[0].Status == PENDING
        assoc.dimse_timeout = 0.2
        assert told(responses) == [(None, None)]
        assert assoc.failure.stage == "response"
    assert state(assoc) == ABORTED


def test_no_time_at_all(face):
    with raw_acceptor(face, contexts=[FIND], dimse_timeout=0) as (assoc, _):
        assert told(assoc.send_c_find(QUERY, FIND)) == [(None, None)]
        assert assoc.failure.stage == "response"


def test_a_query_waits_for_the_rest_of_one_that_was_left(face):
    with raw_acceptor(face, contexts=[FIND], dimse_timeout=0.2) as (assoc, peer):
        assoc.send_c_find(QUERY, FIND).close()
        peer.receive_message()
        assert told(assoc.send_c_find(QUERY, FIND)) == [(None, None)]
        assert assoc.failure.stage == "response"


# --- Many ---


def test_many_associations_at_once(face):
    count = 50
    server = serve(face, matches(30), maximum_associations=2 * count)
    ae = face.ae()
    start = threading.Barrier(count)

    def query(_):
        with ask(face, server, ae=ae) as assoc:
            start.wait(3 * WAIT)
            return len(told(assoc.send_c_find(QUERY, FIND)))

    with ThreadPoolExecutor(count) as pool:
        assert list(pool.map(query, range(count))) == [31] * count
    assert eventually(lambda: not server.active_associations)
