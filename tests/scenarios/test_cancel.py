"""C-CANCEL before, during and after what it is for, from every side."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest
from pydicom.dataset import Dataset
from scenario import (
    Recorder,
    eventually,
    in_background,
    make_ct,
    raw_acceptor,
)

from dicomwire import build_context, build_role, evt
from dicomwire.data.codec import encode_dataset
from dicomwire.protocol.command import Command, Message
from dicomwire.sop_class import (
    ModalityWorklistInformationModelFind,
    PatientRootQueryRetrieveInformationModelFind,
    PatientRootQueryRetrieveInformationModelGet,
    PatientRootQueryRetrieveInformationModelMove,
)
from raw_peer import CT, EXPLICIT, IMPLICIT, VERIFICATION, WAIT, RawPeer, context, message_pdu

FIND = PatientRootQueryRetrieveInformationModelFind
GET = PatientRootQueryRetrieveInformationModelGet
MOVE = PatientRootQueryRetrieveInformationModelMove
PENDING, SUCCESS, CANCEL = 0xFF00, 0x0000, 0xFE00

QUERY = Dataset()
QUERY.PatientID = "*"
MATCH = (PENDING, QUERY)


def serve(face, *handlers, **settings):
    ae = face.ae("SCP", supported=[VERIFICATION, FIND, GET, MOVE], **settings)
    ae.add_supported_context(CT, [IMPLICIT, EXPLICIT], scu_role=True, scp_role=True)
    ae.requested_contexts = [build_context(CT)]
    return face.serve(handlers, ae=ae)


def ask(face, server, *handlers, **options):
    return face.associate(
        server,
        [(evt.EVT_C_STORE, lambda event: SUCCESS), *handlers],
        contexts=[VERIFICATION, FIND, GET, MOVE, build_context(CT)],
        ext_neg=[build_role(CT, scp_role=True)],
        **options,
    )


def statuses(responses):
    return [status.get("Status") for status, _ in responses]


class Handler:
    """A C-FIND handler that goes on when told, and looks whether it is cancelled if it is to."""

    def __init__(self, looks: bool, first: tuple = ()) -> None:
        self.looks = looks
        self.first = first
        self.go_on = threading.Semaphore(0)
        self.seen: list[bool] = []
        self.ended = threading.Event()

    def __call__(self, event):
        try:
            yield from self.first
            result = MATCH
            while True:
                assert self.go_on.acquire(timeout=WAIT)
                if self.looks:
                    self.seen.append(event.is_cancelled)
                    if self.seen[-1]:
                        yield CANCEL, None
                        return
                yield result
        finally:
            self.ended.set()


def request(message_id=1, model=FIND):
    return Message(
        Command.C_FIND_RQ,
        MessageID=message_id,
        AffectedSOPClassUID=model,
        Priority=2,
        has_dataset=True,
    )


def cancel(message_id=1):
    return Message(Command.C_CANCEL_RQ, MessageIDBeingRespondedTo=message_id)


KEYS = encode_dataset(QUERY, IMPLICIT)


# --- During ---


@pytest.mark.parametrize("looks", [True, False])
def test_a_query_is_cancelled_in_the_middle(face, looks):
    handler = Handler(looks)
    server = serve(face, (evt.EVT_C_FIND, handler))
    log = Recorder(evt.EVT_DIMSE_RECV)
    with ask(face, server) as assoc:
        server.active_associations[0].bind(evt.EVT_DIMSE_RECV, log)
        responses = assoc.send_c_find(QUERY, FIND, msg_id=3)
        handler.go_on.release()
        assert next(responses)[0].Status == PENDING
        assoc.send_c_cancel(3, query_model=FIND)
        handler.go_on.release(2 if looks else 200)  # some may be on their way before it comes
        received = statuses(responses)
        assert received[-1] == CANCEL
        assert handler.ended.wait(WAIT)
        assert handler.seen == ([False, True] if looks else [])
        assert set(received[:-1]) <= {PENDING}
        assert assoc.send_c_echo().Status == SUCCESS


def test_a_thread_cancels_while_another_waits_for_a_response(face):
    sent = Recorder(evt.EVT_DIMSE_SENT, evt.EVT_DATA_SENT, evt.EVT_PDU_SENT)
    with raw_acceptor(face, *sent.handlers, contexts=[FIND]) as (assoc, peer):
        peer_says = Message(
            Command.C_FIND_RSP,
            MessageIDBeingRespondedTo=1,
            AffectedSOPClassUID=FIND,
            Status=PENDING,
            has_dataset=True,
        )
        responses = assoc.send_c_find(QUERY, FIND)
        peer.receive_message()
        peer.send_message(peer_says, KEYS)
        next(responses)
        del sent.events[:]
        with in_background(lambda: statuses(responses)) as waiting:
            for _ in range(5):
                assoc.send_c_cancel(1, query_model=FIND)
                assert peer.receive_message()[0].command is Command.C_CANCEL_RQ
            peer.send_message(replace(peer_says, Status=CANCEL, has_dataset=False))
            assert waiting.result(WAIT) == [CANCEL]
        assert sent.names == ["DIMSE_SENT", "DATA_SENT", "PDU_SENT"] * 5


@pytest.mark.parametrize("looks", [True, False])
def test_a_get_is_cancelled_in_the_middle(face, looks):
    handler = Handler(looks, first=[5, (PENDING, make_ct(instance="1.2.1"))])
    server = serve(face, (evt.EVT_C_GET, handler))
    with ask(face, server) as assoc:
        responses = assoc.send_c_get(QUERY, GET, msg_id=3)
        status, _ = next(responses)
        assert (status.Status, status.NumberOfRemainingSuboperations) == (PENDING, 4)
        assoc.send_c_cancel(3, query_model=GET)
        handler.go_on.release(3)
        *_, (last, identifier) = responses
        assert last.Status == CANCEL
        assert last.NumberOfCompletedSuboperations >= 1
        done = sum(
            last[f"Number{each}Suboperations"].value
            for each in ("OfRemaining", "OfCompleted", "OfFailed", "OfWarning")
        )
        assert done == 5
        assert "FailedSOPInstanceUIDList" in identifier
        assert assoc.send_c_echo().Status == SUCCESS


@pytest.mark.parametrize("looks", [True, False])
def test_a_move_is_cancelled_in_the_middle(face, looks):
    received = []
    destination = face.serve([(evt.EVT_C_STORE, lambda event: received.append(event) or SUCCESS)])
    address = ("127.0.0.1", destination.server_address[1])
    handler = Handler(looks, first=[address, 5, (PENDING, make_ct(instance="1.2.1"))])
    server = serve(face, (evt.EVT_C_MOVE, handler))
    with ask(face, server) as assoc:
        responses = assoc.send_c_move(QUERY, "ANY-SCP", MOVE, msg_id=3)
        assert next(responses)[0].Status == PENDING
        assoc.send_c_cancel(3, query_model=MOVE)
        handler.go_on.release(3)
        *_, (last, _) = responses
        assert last.Status == CANCEL
        assert last.NumberOfCompletedSuboperations == len(received)
        assert last.NumberOfRemainingSuboperations >= 3
        assert eventually(lambda: not destination.active_associations)


def test_a_cancel_while_an_object_of_a_get_is_on_its_way(face):
    """It comes to the provider in place of the response that it waits for."""
    server = serve(face, (evt.EVT_C_GET, lambda event: iter([3, *[(PENDING, make_ct())] * 3])))

    def store(event):
        if not asked:
            asked.append(event.assoc.send_c_cancel(1, query_model=GET))
        return SUCCESS

    asked = []
    with ask(face, server, (evt.EVT_C_STORE, store)) as assoc:
        received = list(assoc.send_c_get(QUERY, GET))
    assert [status.Status for status, _ in received] == [PENDING, CANCEL]
    assert received[-1][0].NumberOfRemainingSuboperations == 2


def test_a_cancel_of_another_operation_changes_nothing(face):
    handler = Handler(True)
    server = serve(face, (evt.EVT_C_FIND, handler))
    with ask(face, server) as assoc:
        responses = assoc.send_c_find(QUERY, FIND, msg_id=3)
        for message_id in range(100, 130):
            assoc.send_c_cancel(message_id, query_model=FIND)
        handler.go_on.release()
        assert next(responses)[0].Status == PENDING
        assoc.send_c_cancel(3, query_model=FIND)
        handler.go_on.release(2)
        assert statuses(responses)[-1] == CANCEL


def test_a_thread_of_the_handler_may_look(face):
    looked = []

    def handler(event):
        looking = threading.Thread(target=lambda: looked.append(event.is_cancelled))
        looking.start()
        looking.join(WAIT)
        yield MATCH

    server = serve(face, (evt.EVT_C_FIND, handler))
    with ask(face, server) as assoc:
        assert statuses(assoc.send_c_find(QUERY, FIND)) == [PENDING, SUCCESS]
    assert looked == [False]


# --- Before and after ---


def test_a_cancel_right_behind_its_request(face):
    seen = []

    def handler(event):
        seen.append(event.is_cancelled)
        yield CANCEL, None

    server = serve(face, (evt.EVT_C_FIND, handler))
    with RawPeer.connect(server.server_address[1]) as peer:
        peer.associate(context(1, FIND))
        peer.send(message_pdu(1, request(), KEYS) + message_pdu(1, cancel()))
        assert peer.receive_message()[0].Status == CANCEL
    assert seen == [True]


def test_cancels_of_requests_that_wait_their_turn(face):
    """Two requests and the cancel of the second come while the first is being served."""
    handler = Handler(False)
    server = serve(face, (evt.EVT_C_FIND, handler))
    with RawPeer.connect(server.server_address[1]) as peer:
        peer.associate(context(1, FIND))
        log = Recorder(evt.EVT_DIMSE_RECV)
        server.active_associations[0].bind(evt.EVT_DIMSE_RECV, log)
        peer.send_message(request(1), KEYS)
        peer.send_message(request(2), KEYS)
        peer.send_message(cancel(2))
        peer.send_message(cancel(1))
        handler.go_on.release(200)
        received = []
        while len([each for each in received if each[1] == CANCEL]) < 2:
            message, _ = peer.receive_message()
            received.append((message.MessageIDBeingRespondedTo, message.Status))
        assert received[-1] == (2, CANCEL)
        assert (1, CANCEL) in received


def test_a_cancel_before_its_request_is_forgotten(face):
    server = serve(face, (evt.EVT_C_FIND, lambda event: [MATCH]))
    with ask(face, server) as assoc:
        assoc.send_c_cancel(1, query_model=FIND)
        assert statuses(assoc.send_c_find(QUERY, FIND)) == [PENDING, SUCCESS]


def test_a_cancel_after_the_end_is_forgotten(face):
    server = serve(face, (evt.EVT_C_FIND, lambda event: [MATCH]))
    log = Recorder(evt.EVT_DIMSE_RECV)
    with ask(face, server) as assoc:
        acceptor = server.active_associations[0]
        for _ in range(3):
            assert statuses(assoc.send_c_find(QUERY, FIND)) == [PENDING, SUCCESS]
            assoc.send_c_cancel(1, query_model=FIND)
        acceptor.bind(evt.EVT_DIMSE_RECV, log)
        assert assoc.send_c_echo().Status == SUCCESS


def test_a_cancel_that_the_handler_has_seen_is_used_up(face):
    seen = []

    def handler(event):
        yield MATCH
        assert eventually(lambda: event.is_cancelled)
        seen.append(event.is_cancelled)
        yield MATCH

    server = serve(face, (evt.EVT_C_FIND, handler))
    with ask(face, server) as assoc:
        responses = assoc.send_c_find(QUERY, FIND)
        next(responses)
        assoc.send_c_cancel(1, query_model=FIND)
        assert statuses(responses) == [PENDING, SUCCESS]
    assert seen == [False]


# --- The request itself ---


def test_what_a_cancel_looks_like(face):
    with raw_acceptor(face, contexts=[VERIFICATION, FIND]) as (assoc, peer):
        assoc.send_c_cancel(9, query_model=FIND)
        assert peer.receive_message() == (cancel(9), b"")
        assoc.send_c_cancel(10, context_id=3)
        assert peer.receive_message() == (cancel(10), b"")


def test_what_a_cancel_needs(face):
    server = serve(face)
    with ask(face, server) as assoc:
        with pytest.raises(ValueError, match=r"context_id or the query_model"):
            assoc.send_c_cancel(1)
        with pytest.raises(ValueError, match=r"no accepted presentation context"):
            assoc.send_c_cancel(1, query_model=ModalityWorklistInformationModelFind)
        with pytest.raises(ValueError, match=r"MessageIDBeingRespondedTo"):
            assoc.send_c_cancel(70000, query_model=FIND)
        assert assoc.send_c_echo().Status == SUCCESS
    with pytest.raises(RuntimeError, match=r"not established"):
        assoc.send_c_cancel(1, query_model=FIND)


def test_a_cancel_to_a_peer_that_has_gone(face):
    with raw_acceptor(face, contexts=[FIND]) as (assoc, peer):
        responses = assoc.send_c_find(QUERY, FIND)
        peer.receive_message()
        peer.reset()
        assoc.send_c_cancel(1, query_model=FIND)
        assert statuses(responses) == [None]
    assert assoc.is_aborted
