"""The peer goes away without a word, in whatever it was in the midst of."""

from __future__ import annotations

import socket
import threading

import pytest
from scenario import (
    ABORTED,
    RELEASED,
    Recorder,
    eventually,
    in_background,
    make_ct,
    raw_acceptor,
    raw_answer,
    state,
)

from dicomwire import ConnectionLost, evt
from dicomwire.protocol.command import Command, Message
from dicomwire.protocol.pdu import Abort, ReleaseRQ
from raw_peer import (
    CT,
    VERIFICATION,
    WAIT,
    RawPeer,
    accept_pdu,
    context,
    message_pdu,
    request_pdu,
    store_request,
)

ECHO = Message(Command.C_ECHO_RQ, MessageID=1, AffectedSOPClassUID=VERIFICATION)
STORE = store_request()


@pytest.fixture(params=[RawPeer.close, RawPeer.reset], ids=["closed", "reset"])
def leave(request):
    return request.param


# --- From an acceptor ---

REQUEST = request_pdu(context(1, VERIFICATION), context(3, CT)).encode()
STORE_PDUS = message_pdu(3, STORE, bytes(5000))

BEFORE_ASSOCIATION = {
    "nothing": b"",
    "a byte": REQUEST[:1],
    "a PDU header": REQUEST[:6],
    "half a request": REQUEST[: len(REQUEST) // 2],
    "all but a byte": REQUEST[:-1],
}
IN_ASSOCIATION = {
    "nothing": b"",
    "a byte of a message": STORE_PDUS[:1],
    "a PDU header": STORE_PDUS[:6],
    "half a command": STORE_PDUS[:40],
    "a command without its dataset": message_pdu(3, STORE),
    "half a dataset": STORE_PDUS[:2000],
    "all but a byte": STORE_PDUS[:-1],
    "half a release": ReleaseRQ().encode()[:5],
}


@pytest.mark.parametrize("sent", BEFORE_ASSOCIATION.values(), ids=BEFORE_ASSOCIATION)
@pytest.mark.parametrize("watched", [True, False])
def test_before_the_association(face, leave, sent, watched):
    log = Recorder()
    server = face.serve(log.handlers if watched else ())
    peer = RawPeer.connect(server.server_address[1])
    peer.send(sent)
    leave(peer)
    assert face.is_quiet(server)
    if watched and log.events:  # a reset may come before the connection was accepted
        log.wait_for(evt.EVT_CONN_CLOSE)
        assert "REQUESTED" not in log.names
    with face.associate(server) as assoc:
        assert assoc.send_c_echo().Status == 0


def test_right_after_the_request(face, leave):
    log = Recorder()
    server = face.serve(log.handlers)
    for _ in range(10):
        peer = RawPeer.connect(server.server_address[1])
        peer.send(REQUEST)
        leave(peer)
    face.associate(server).abort()  # it is taken in after them
    assert face.is_quiet(server)
    assert log.names.count("CONN_OPEN") == log.names.count("CONN_CLOSE")
    assert log.names.count("ESTABLISHED") == log.names.count("ABORTED")


@pytest.mark.parametrize("sent", IN_ASSOCIATION.values(), ids=IN_ASSOCIATION)
def test_in_the_association(face, leave, sent):
    log = Recorder(evt.EVT_ABORTED, evt.EVT_CONN_CLOSE)
    server = face.serve([*log.handlers, (evt.EVT_C_STORE, lambda event: 0)])
    peer = RawPeer.connect(server.server_address[1])
    peer.send(REQUEST)
    peer.receive()
    peer.send(sent)
    leave(peer)
    acceptor = log.wait_for(evt.EVT_ABORTED).assoc
    acceptor.join(WAIT)
    assert state(acceptor) == ABORTED
    assert isinstance(acceptor.failure, ConnectionLost)
    assert acceptor.failure.stage == "data"
    assert log.names == ["CONN_CLOSE", "ABORTED"]
    assert not server.active_associations
    assert face.is_quiet(server)


def test_after_more_requests_than_can_be_answered(face):
    """That it is gone is what is told, not that its requests were too many."""
    log = Recorder(evt.EVT_ABORTED)
    gone = threading.Event()
    server = face.serve([*log.handlers, (evt.EVT_C_ECHO, lambda event: gone.wait(WAIT) and 0)])
    peer = RawPeer.connect(server.server_address[1])
    peer.associate()
    peer.send(message_pdu(1, ECHO) * 4000)
    peer.close()
    gone.set()
    acceptor = log.wait_for(evt.EVT_ABORTED).assoc
    assert isinstance(acceptor.failure, ConnectionLost)


def test_while_a_handler_runs(face, leave):
    """The handler may ask whether anybody still waits for its answer."""
    busy, gone = threading.Event(), []

    def handle(event):
        assert not event.peer_gone
        busy.set()
        gone.append(eventually(lambda: event.peer_gone))
        return 0

    log = Recorder(evt.EVT_ABORTED, evt.EVT_DIMSE_SENT)
    server = face.serve([(evt.EVT_C_ECHO, handle), *log.handlers])
    peer = RawPeer.connect(server.server_address[1])
    peer.associate()
    peer.send_message(ECHO)
    assert busy.wait(WAIT)
    leave(peer)
    log.wait_for(evt.EVT_ABORTED)
    assert eventually(lambda: gone)
    assert gone == [True]
    assert log.names == ["ABORTED"]


def test_while_a_handler_runs_that_does_not_look(face, leave):
    busy, go_on = threading.Event(), threading.Event()

    def handle(event):
        busy.set()
        assert go_on.wait(WAIT)
        return 0

    log = Recorder(evt.EVT_ABORTED)
    server = face.serve([(evt.EVT_C_ECHO, handle), *log.handlers])
    peer = RawPeer.connect(server.server_address[1])
    peer.associate()
    peer.send_message(ECHO)
    assert busy.wait(WAIT)
    leave(peer)
    go_on.set()
    acceptor = log.wait_for(evt.EVT_ABORTED).assoc
    acceptor.join(WAIT)
    assert isinstance(acceptor.failure, ConnectionLost)


def test_while_it_should_answer_our_release(face, leave):
    server = face.serve()
    peer = RawPeer.connect(server.server_address[1])
    peer.associate()
    (acceptor,) = server.active_associations
    with in_background(acceptor.release) as releasing:
        assert isinstance(peer.receive(), ReleaseRQ)
        leave(peer)
        releasing.result(WAIT)
    assert state(acceptor) == ABORTED
    assert acceptor.failure.stage == "release"


def test_after_its_release(face, leave):
    """It has said all that it had to say: that is a release."""
    log = Recorder(evt.EVT_RELEASED, evt.EVT_CONN_CLOSE)
    server = face.serve(log.handlers)
    peer = RawPeer.connect(server.server_address[1])
    peer.associate()
    peer.send(ReleaseRQ())
    peer.receive()
    leave(peer)
    log.wait_for(evt.EVT_CONN_CLOSE)
    assert log.names == ["RELEASED", "CONN_CLOSE"]
    assert state(log.events[0].assoc) == RELEASED
    assert face.is_quiet(server)


def test_an_open_half_is_no_open_connection(face):
    """The peer shuts its side down for writing and waits: that is the end as well."""
    log = Recorder(evt.EVT_ABORTED)
    server = face.serve(log.handlers)
    with RawPeer.connect(server.server_address[1]) as peer:
        peer.associate()
        peer.socket.shutdown(socket.SHUT_WR)
        assert peer.at_end()
    log.wait_for(evt.EVT_ABORTED)


def test_a_peer_that_never_closes(face):
    """We have ended the association; our patience with the connection is limited (Sta13)."""
    server = face.serve(close_timeout=0.05)
    with RawPeer.connect(server.server_address[1]) as peer:
        peer.associate()
        peer.send(ReleaseRQ())
        peer.receive()
        assert face.is_quiet(server)


# --- From a requestor ---


def test_while_it_should_answer_the_request(face, leave):
    with raw_answer(face) as (associating, peer):
        leave(peer)
        assoc = associating.result(WAIT)
    assert state(assoc) == ABORTED
    assert assoc.failure.stage == "associate"


def test_with_half_an_answer(face, leave):
    answer = accept_pdu(request_pdu(context(1, VERIFICATION))).encode()
    with raw_answer(face) as (associating, peer):
        peer.send(answer[:-3])
        leave(peer)
        assoc = associating.result(WAIT)
    assert state(assoc) == ABORTED
    assert assoc.failure.stage == "associate"


def test_while_the_association_is_idle(face, leave):
    log = Recorder(evt.EVT_ABORTED)
    with raw_acceptor(face, *log.handlers) as (assoc, peer):
        leave(peer)
        log.wait_for(evt.EVT_ABORTED)
        assoc.join(WAIT)
    assert isinstance(assoc.failure, ConnectionLost)
    assert assoc.failure.stage == "data"
    with pytest.raises(RuntimeError, match="closed the connection"):
        assoc.send_c_echo()


def test_while_it_should_respond(face, leave):
    with raw_acceptor(face) as (assoc, peer), in_background(assoc.send_c_echo) as sending:
        peer.receive_message()
        leave(peer)
        assert "Status" not in sending.result(WAIT)
    assert state(assoc) == ABORTED
    assert isinstance(assoc.failure, ConnectionLost)


def test_with_half_a_response(face, leave):
    with raw_acceptor(face) as (assoc, peer), in_background(assoc.send_c_echo) as sending:
        request, _ = peer.receive_message()
        response = message_pdu(
            1,
            Message(
                Command.C_ECHO_RSP,
                MessageIDBeingRespondedTo=request.MessageID,
                AffectedSOPClassUID=VERIFICATION,
                Status=0,
            ),
        )
        peer.send(response[:-1])
        leave(peer)
        assert "Status" not in sending.result(WAIT)
    assert state(assoc) == ABORTED


def test_while_we_send(face, leave):
    with (
        raw_acceptor(face) as (assoc, peer),
        in_background(lambda: assoc.send_c_store(make_ct(32 << 20))) as sending,
    ):
        peer.receive_bytes(100_000)
        leave(peer)
        assert "Status" not in sending.result(WAIT)
    assert state(assoc) == ABORTED
    assert isinstance(assoc.failure, ConnectionLost)
    assert assoc.failure.stage in ("write", "data")


def test_while_we_send_but_it_said_why(face):
    """It aborts in the middle of our dataset: that is the reason, not the broken connection."""
    with (
        raw_acceptor(face) as (assoc, peer),
        in_background(lambda: assoc.send_c_store(make_ct(32 << 20))) as sending,
    ):
        peer.receive_bytes(100_000)
        peer.send(Abort(2, 6))
        peer.close()
        assert "Status" not in sending.result(WAIT)
    assert state(assoc) == ABORTED
    assert isinstance(assoc.failure, ConnectionLost) or assoc.failure.by_peer


def test_while_it_should_agree_to_our_release(face, leave):
    with raw_acceptor(face) as (assoc, peer), in_background(assoc.release) as releasing:
        assert isinstance(peer.receive(), ReleaseRQ)
        leave(peer)
        releasing.result(WAIT)
    assert state(assoc) == ABORTED
    assert assoc.failure.stage == "release"
