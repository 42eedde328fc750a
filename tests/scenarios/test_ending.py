"""Associations end: by release or abort, from either end, from any thread and any handler."""

from __future__ import annotations

import signal
import threading
from contextlib import suppress

import pytest
from scenario import (
    ABORTED,
    INTERVENTIONS,
    NOTIFICATIONS,
    RELEASED,
    Recorder,
    eventually,
    in_background,
    make_ct,
    raw_acceptor,
    raw_answer,
    state,
)

from dicomwire import AssociationAborted, ConnectionLost, build_role, evt
from dicomwire.protocol.command import Command, Message
from dicomwire.protocol.items import (
    AsynchronousOperationsWindowNegotiation,
    SOPClassCommonExtendedNegotiation,
    SOPClassExtendedNegotiation,
    UserIdentityNegotiation,
)
from dicomwire.protocol.pdu import Abort, AssociateAC, ReleaseRP, ReleaseRQ
from raw_peer import CT, VERIFICATION, WAIT, RawPeer, RawServer, context, message_pdu, store_request


def echo(message_id=1):
    return Message(Command.C_ECHO_RQ, MessageID=message_id, AffectedSOPClassUID=VERIFICATION)


# --- Release ---


def test_release_by_the_requestor(face):
    log = Recorder(evt.EVT_RELEASED)
    server = face.serve(log.handlers)
    assoc = face.associate(server, log.handlers)
    acceptor = server.active_associations[0]
    assoc.release()
    assert state(assoc) == RELEASED
    acceptor.join(WAIT)
    assert state(acceptor) == RELEASED
    assert {id(each.assoc) for each in log.events} == {id(assoc), id(acceptor)}


def test_release_by_the_acceptor(face):
    server = face.serve()
    assoc = face.associate(server)
    acceptor = server.active_associations[0]
    acceptor.release()
    assert state(acceptor) == RELEASED
    assert state(assoc) == RELEASED
    with pytest.raises(RuntimeError, match="not established"):
        assoc.send_c_echo()


def test_what_is_over_cannot_be_ended_again(face):
    log = Recorder(evt.EVT_RELEASED, evt.EVT_ABORTED, evt.EVT_CONN_CLOSE, evt.EVT_ACSE_SENT)
    server = face.serve()
    assoc = face.associate(server, log.handlers)
    assoc.release()
    told = list(log.names)
    assoc.release()
    assoc.abort()
    assoc.kill()
    assert state(assoc) == RELEASED
    assert log.names == told

    other = Recorder(evt.EVT_RELEASED, evt.EVT_ABORTED, evt.EVT_CONN_CLOSE, evt.EVT_ACSE_SENT)
    assoc = face.associate(server, other.handlers)
    assoc.abort()
    told = list(other.names)
    assoc.abort()
    assoc.release()
    assert state(assoc) == ABORTED
    assert other.names == told


def test_both_release_at_the_same_time(face):
    server = face.serve()
    for _ in range(20):
        assoc = face.associate(server)
        acceptor = server.active_associations[0]
        start = threading.Barrier(2)

        def release(which, start=start):
            start.wait()
            which.release()

        with in_background(lambda: release(acceptor)) as releasing:  # noqa: B023
            release(assoc)
            releasing.result(WAIT)
        assert state(assoc) == state(acceptor) == RELEASED


def test_a_release_collision_for_the_requestor(face):
    with raw_acceptor(face) as (assoc, peer), in_background(assoc.release) as releasing:
        assert isinstance(peer.receive(), ReleaseRQ)
        peer.send(ReleaseRQ())
        assert isinstance(peer.receive(), ReleaseRP)  # the requestor's comes first (AR-9)
        peer.send(ReleaseRP())
        releasing.result(WAIT)
    assert state(assoc) == RELEASED


def test_a_release_collision_for_the_acceptor(face):
    server = face.serve()
    with RawPeer.connect(server.server_address[1]) as peer:
        peer.associate()
        acceptor = server.active_associations[0]
        with in_background(acceptor.release) as releasing:
            assert isinstance(peer.receive(), ReleaseRQ)
            peer.send(ReleaseRQ())
            peer.socket.settimeout(0.05)
            with pytest.raises(TimeoutError):
                peer.receive()  # the acceptor waits for the requestor's answer (AR-8)
            peer.socket.settimeout(WAIT)
            peer.send(ReleaseRP())
            assert isinstance(peer.receive(), ReleaseRP)
            releasing.result(WAIT)
        assert peer.at_end()
    assert state(acceptor) == RELEASED


def test_a_message_that_crosses_our_release_is_ignored(face, caplog):
    log = Recorder(evt.EVT_C_ECHO)
    server = face.serve([(evt.EVT_C_ECHO, lambda event: log(event) or 0)])
    with RawPeer.connect(server.server_address[1]) as peer:
        peer.associate()
        acceptor = server.active_associations[0]
        with in_background(acceptor.release) as releasing:
            assert isinstance(peer.receive(), ReleaseRQ)
            peer.send_message(echo())
            peer.send(ReleaseRP())
            releasing.result(WAIT)
        assert peer.at_end()
    assert state(acceptor) == RELEASED
    assert not log.events
    assert any("C-ECHO-RQ" in each.getMessage() for each in caplog.records)


def test_nobody_answers_the_release(face):
    with raw_acceptor(face) as (assoc, peer):
        assoc.acse_timeout = 0.05
        assoc.release()
        assert isinstance(peer.receive(), ReleaseRQ)
        assert isinstance(peer.receive(), Abort)
        assert peer.at_end()
    assert state(assoc) == ABORTED
    assert assoc.failure.stage == "release"


@pytest.mark.parametrize("handlers", [[], [(evt.EVT_C_STORE, lambda event: 0)]])
def test_requests_that_arrive_with_the_release_are_answered_in_order_before_it(
    face, handlers, tmp_path
):
    server = face.serve(handlers, receive_to=None if handlers else tmp_path)
    store = store_request(number=2)
    with RawPeer.connect(server.server_address[1]) as peer:
        peer.associate(context(1, VERIFICATION), context(3, CT))
        requests = (
            message_pdu(1, echo(1)),
            message_pdu(3, store, bytes(8)),
            message_pdu(1, echo(3)),
        )
        peer.send(*requests, ReleaseRQ())
        responses = [peer.receive_message()[0] for _ in requests]
        assert [each.MessageIDBeingRespondedTo for each in responses] == [1, 2, 3]
        assert {each.Status for each in responses} == {0x0000}
        assert isinstance(peer.receive(), ReleaseRP)


def test_release_in_the_middle_of_a_message_is_a_violation(face):
    server = face.serve()
    with RawPeer.connect(server.server_address[1]) as peer:
        peer.associate()
        (acceptor,) = server.active_associations
        peer.send(b"\x04\x00\x00\x00\x00\x08\x00\x00\x00\x04\x01\x01\x00\x00", ReleaseRQ())
        answer = peer.receive()
        assert isinstance(answer, Abort)
        assert peer.at_end()
    acceptor.join(WAIT)
    assert state(acceptor) == ABORTED
    assert not acceptor.failure.by_peer


# --- Abort ---


def test_abort_by_the_requestor(face):
    log = Recorder(evt.EVT_ABORTED, evt.EVT_ACSE_RECV)
    server = face.serve(log.handlers)
    assoc = face.associate(server)
    assoc.abort()
    assert state(assoc) == ABORTED
    assert isinstance(assoc.failure, AssociationAborted)
    assert not assoc.failure.by_peer
    acceptor = log.wait_for(evt.EVT_ABORTED).assoc
    assert log.of(evt.EVT_ACSE_RECV)[-1].primitive == Abort(0, 0)
    acceptor.join(WAIT)
    assert state(acceptor) == ABORTED
    assert acceptor.failure.by_peer
    assert (acceptor.failure.source, acceptor.failure.reason) == (0, 0)
    assert acceptor.failure.stage == "data"


def test_abort_by_the_acceptor(face):
    log = Recorder(evt.EVT_ABORTED)
    server = face.serve()
    assoc = face.associate(server, log.handlers)
    acceptor = server.active_associations[0]
    acceptor.abort()
    assert state(acceptor) == ABORTED
    assert not server.active_associations
    log.wait_for(evt.EVT_ABORTED)
    assoc.join(WAIT)
    assert state(assoc) == ABORTED
    assert assoc.failure.by_peer


def test_kill_does_not_wait(face):
    assoc = face.associate(face.serve())
    assoc.kill()
    assoc.join(WAIT)
    assert state(assoc) == ABORTED


def test_shutdown_aborts(face):
    server = face.serve()
    ae = face.ae()
    associations = [face.associate(server, ae=ae) for _ in range(3)]
    acceptors = server.active_associations
    server.ae.shutdown()
    assert [state(each) for each in acceptors] == [ABORTED] * 3
    for each in associations:
        each.join(WAIT)
        assert state(each) == ABORTED
    assert server.socket.fileno() == -1
    assert not server.ae.active_associations


@pytest.mark.threaded_only("the other drains them when it is closed")
def test_a_server_that_is_shut_down_leaves_associations_alone(face):
    server = face.serve()
    port = server.server_address[1]
    with face.associate(server) as assoc:
        server.shutdown()
        assert server.socket.fileno() == -1
        assert assoc.send_c_echo().Status == 0
        assert state(face.associate(port)) == ABORTED
        server.shutdown()


@pytest.mark.threaded_only("the other drains them when it is closed")
def test_a_server_that_drains_serves_a_peer_that_has_connected(face):
    server = face.serve()
    with (
        RawPeer.connect(server.server_address[1]) as peer,
        in_background(lambda: server.drain(WAIT)) as drained,
    ):
        server.serve_forever()  # until it listens no more
        assert isinstance(peer.associate(), AssociateAC)
        peer.send_message(echo())
        peer.receive_message()
        assert not drained.done()
        peer.send(ReleaseRQ())
        assert isinstance(peer.receive(), ReleaseRP)
        peer.close()
        drained.result(WAIT)


@pytest.mark.threaded_only("the other drains them when it is closed")
def test_a_server_that_drains_does_not_wait_for_a_silent_peer(face, monkeypatch):
    monkeypatch.setattr("dicomwire.threaded.server._LAST_REQUESTS", 0.01)
    server = face.serve()
    with RawPeer.connect(server.server_address[1]) as peer:
        assert eventually(lambda: len(server._new_connections) == 1)
        server.drain(10 * WAIT)
        assert peer.at_end()


class Gate:
    """A handler that waits until it is let go on."""

    def __init__(self, answer=0):
        self.answer = answer
        self.reached, self.opened = threading.Event(), threading.Event()

    def __call__(self, event):
        self.reached.set()
        assert self.opened.wait(WAIT)
        return self.answer


def test_abort_from_another_thread_while_waiting_for_a_response(face):
    gate = Gate()
    server = face.serve([(evt.EVT_C_ECHO, gate)])
    log = Recorder(evt.EVT_ABORTED)
    assoc = face.associate(server, log.handlers)
    acceptor = server.active_associations[0]
    with in_background(assoc.send_c_echo) as sending:
        assert gate.reached.wait(WAIT)
        assoc.abort()
        assert state(assoc) == ABORTED
        assert "Status" not in sending.result(WAIT)
    assert log.names == ["ABORTED"]
    assert not assoc.failure.by_peer
    gate.opened.set()
    acceptor.join(WAIT)
    assert state(acceptor) == ABORTED
    assert acceptor.failure.by_peer


def test_abort_from_another_thread_while_sending(face):
    """The peer reads nothing, so that the socket fills up and sending has to wait."""
    with (
        raw_acceptor(face) as (assoc, peer),
        in_background(lambda: assoc.send_c_store(make_ct(64 << 20))) as sending,
    ):
        peer.receive_bytes(1)
        assoc.abort()
        assert "Status" not in sending.result(WAIT)
    assert state(assoc) == ABORTED
    assert not assoc.failure.by_peer


def test_abort_from_another_thread_while_a_handler_runs(face):
    gate = Gate()
    log = Recorder(evt.EVT_ABORTED, evt.EVT_DIMSE_SENT)
    server = face.serve([(evt.EVT_C_ECHO, gate), *log.handlers])
    assoc = face.associate(server)
    acceptor = server.active_associations[0]
    with in_background(assoc.send_c_echo) as sending:
        assert gate.reached.wait(WAIT)
        acceptor.abort(block=False)
        # The peer knows at once, though the handler still runs.
        assert "Status" not in sending.result(WAIT)
        assert assoc.failure.by_peer
        gate.opened.set()
    acceptor.join(WAIT)
    assert state(acceptor) == ABORTED
    assert not acceptor.failure.by_peer
    assert log.names == ["ABORTED"]  # and no response


def test_abort_from_another_thread_while_connecting(face):
    ae = face.ae()
    with raw_answer(face, ae=ae) as (associating, peer):
        ae.active_associations[0].abort()
        assoc = associating.result(WAIT)
        assert isinstance(peer.receive(), Abort)
        assert peer.at_end()
    assert state(assoc) == ABORTED
    assert assoc.failure.stage == "associate"


# --- In handlers ---

EVERYTHING = [
    build_role(CT, scu_role=True, scp_role=True),
    AsynchronousOperationsWindowNegotiation(2, 2),
    SOPClassExtendedNegotiation(CT, b"\x01"),
    SOPClassCommonExtendedNegotiation(CT, "1.2.840.10008.4.2", []),
    UserIdentityNegotiation(1, False, b"somebody", b""),
]

ANSWERS = {
    evt.EVT_USER_ID: (True, None),
    evt.EVT_SOP_EXTENDED: {},
    evt.EVT_SOP_COMMON: {},
    evt.EVT_ASYNC_OPS: None,
    evt.EVT_C_ECHO: 0,
    evt.EVT_C_STORE: 0,
}
ASKED = [each for each in INTERVENTIONS if each in ANSWERS]
HAPPENING = [
    each for each in NOTIFICATIONS if each not in (evt.EVT_REJECTED,)
]  # in what `everything` does


def everything(face, server, handlers=()):
    """Do all that has events: negotiate, echo, store, release."""
    assoc = face.associate(server, handlers, ext_neg=EVERYTHING)
    with suppress(RuntimeError):  # over already
        assoc.send_c_echo()
        assoc.send_c_store(make_ct(64))
    assoc.release()
    return assoc


def watched(log):
    """Return handlers for all that can be asked, which note that they were called."""
    return [(event, lambda e, answer=answer: answer) for event, answer in ANSWERS.items()]


class Doing:
    """A handler that does something to its association when it is told the `nth` time.

    It leaves all associations but the first that it is told of alone.
    """

    def __init__(self, what, answer=None, nth=1):
        self.what, self.answer, self.left = what, answer, nth
        self.done = threading.Event()
        self.errors = []
        self.assoc = None

    def __call__(self, event):
        self.assoc = self.assoc or event.assoc
        self.left -= 1
        if self.left == 0 and event.assoc is self.assoc:
            try:
                getattr(event.assoc, self.what)()
            except BaseException as error:
                self.errors.append(error)
            self.done.set()
        return self.answer


def check_the_end(face, server, log, assoc):
    """Both ends are over, told so once, and the server serves the next one."""
    assert face.is_quiet(server)
    assert not assoc.ae.active_associations
    assert sum(state(assoc)) == 1
    assert not assoc.is_established
    for each in {id(event.assoc): event.assoc for event in log.events}.values():
        each.join(WAIT)
        own = [event for event in log.events if event.assoc is each]
        names = [event.event.name.removeprefix("EVT_") for event in own]
        assert names.count("CONN_OPEN") == names.count("CONN_CLOSE"), names
        assert names.count("ABORTED") + names.count("RELEASED") <= 1, names
        assert "ESTABLISHED" not in names[names.index("ABORTED") :] if "ABORTED" in names else True
    with face.associate(server) as other:
        assert other.send_c_echo().Status == 0


TWICE = (evt.EVT_PDU_RECV, evt.EVT_PDU_SENT, evt.EVT_DIMSE_SENT, evt.EVT_DATA_RECV)
"""Happen also between what has been asked and its answer."""


@pytest.mark.parametrize(
    ("event", "nth"), [*((each, 1) for each in HAPPENING), *((each, 2) for each in TWICE)], ids=str
)
@pytest.mark.parametrize("what", ["abort", "release"])
@pytest.mark.parametrize("side", ["requestor", "acceptor"])
def test_ending_in_a_notification_handler(face, side, what, event, nth):
    doing = Doing(what, nth=nth)
    log = Recorder()
    ours = [*log.handlers, (event, doing)]
    theirs = list(watched(log))
    if side == "requestor":
        server = face.serve(theirs)
        assoc = everything(face, server, ours)
    else:
        server = face.serve([*theirs, *ours])
        assoc = everything(face, server)
    assert not doing.errors
    check_the_end(face, server, log, assoc)
    ended = [each.assoc for each in log.of(event)]
    if (
        doing.done.is_set()
        and what == "abort"
        and event
        not in (
            evt.EVT_ABORTED,
            evt.EVT_RELEASED,
            evt.EVT_CONN_CLOSE,
        )
    ):
        assert eventually(lambda: sum(state(ended[0])) == 1)


@pytest.mark.parametrize("event", ASKED, ids=str)
@pytest.mark.parametrize("what", ["abort", "release"])
def test_ending_in_an_intervention_handler(face, event, what):
    doing = Doing(what, ANSWERS[event])
    log = Recorder()
    server = face.serve([*log.handlers, *watched(log), (event, doing)])
    assoc = everything(face, server)
    assert doing.done.wait(WAIT)
    assert not doing.errors
    check_the_end(face, server, log, assoc)
    acceptor = log.events[0].assoc
    if what == "abort":
        assert state(acceptor) == ABORTED
        assert not acceptor.failure.by_peer
        assert state(assoc) == ABORTED
        assert assoc.failure.by_peer
    elif event in (evt.EVT_C_ECHO, evt.EVT_C_STORE):
        assert state(acceptor) == state(assoc) == RELEASED
    else:
        assert state(acceptor) == state(assoc) == RELEASED  # that was too early to release


@pytest.mark.parametrize("what", ["abort", "release"])
def test_ending_in_a_handler_of_the_requestor(face, what):
    """It is the provider here: the acceptor stores on it."""
    ae = face.ae("SCP")
    ae.add_supported_context(CT, scu_role=True, scp_role=True)
    server = face.serve(ae=ae)
    doing = Doing(what, 0)
    assoc = face.associate(
        server,
        [(evt.EVT_C_STORE, doing)],
        contexts=[CT],
        ext_neg=[build_role(CT, scu_role=True, scp_role=True)],
    )
    (acceptor,) = server.active_associations
    assert "Status" not in acceptor.send_c_store(make_ct())
    assert doing.done.wait(WAIT)
    assert not doing.errors
    assoc.join(WAIT)
    assert state(assoc) == state(acceptor) == (ABORTED if what == "abort" else RELEASED)
    assert face.is_quiet(server)


@pytest.mark.parametrize("what", ["abort", "release"])
@pytest.mark.parametrize("event", [evt.EVT_REJECTED, evt.EVT_ACSE_SENT, evt.EVT_ACSE_RECV], ids=str)
@pytest.mark.parametrize("side", ["requestor", "acceptor"])
def test_ending_while_being_rejected(face, side, event, what):
    doing = Doing(what, nth=1)
    log = Recorder()
    ours = [*log.handlers, (event, doing)]
    server = face.serve(ours if side == "acceptor" else [])
    server.ae.require_called_aet = True
    assoc = face.associate(server, ours if side == "requestor" else [])
    assert doing.done.wait(WAIT)
    assert not doing.errors
    assert face.is_quiet(server)
    assert sum(state(assoc)) == 1
    assert not assoc.is_established
    assert not server.ae.active_associations
    assert log.names.count("ABORTED") + log.names.count("REJECTED") == 1


def test_an_abort_in_a_handler_sends_no_response(face):
    log = Recorder(evt.EVT_DIMSE_SENT)
    server = face.serve([(evt.EVT_C_ECHO, Doing("abort", 0)), *log.handlers])
    assoc = face.associate(server)
    assert "Status" not in assoc.send_c_echo()
    assert state(assoc) == ABORTED
    assert assoc.failure.by_peer
    assert not log.events


def test_a_second_thread_aborts_while_the_first_one_does(face):
    for _ in range(20):
        server = face.serve()
        log = Recorder(evt.EVT_ABORTED)
        assoc = face.associate(server, log.handlers)
        start = threading.Barrier(2)

        def abort(assoc=assoc, start=start):
            start.wait()
            assoc.abort()

        with in_background(abort) as aborting:
            abort()
            aborting.result(WAIT)
        assoc.join(WAIT)
        assert state(assoc) == ABORTED
        assert log.names == ["ABORTED"]


def test_a_release_meets_the_peers_abort(face):
    with raw_acceptor(face) as (assoc, peer), in_background(assoc.release) as releasing:
        assert isinstance(peer.receive(), ReleaseRQ)
        peer.send(Abort(0, 0))
        releasing.result(WAIT)
    assert state(assoc) == ABORTED
    assert assoc.failure.by_peer
    assert assoc.failure.stage == "release"


def test_a_release_meets_the_end_of_the_connection(face):
    with raw_acceptor(face) as (assoc, peer), in_background(assoc.release) as releasing:
        assert isinstance(peer.receive(), ReleaseRQ)
        peer.close()
        releasing.result(WAIT)
    assert state(assoc) == ABORTED
    assert isinstance(assoc.failure, ConnectionLost)
    assert assoc.failure.stage == "release"


# --- Interrupts ---


def interrupt(event):
    signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
    return 0


@pytest.fixture
def interrupts():
    if threading.current_thread() is not threading.main_thread():
        pytest.skip("signals come to the main thread alone")
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_an_interrupt_while_a_response_is_awaited(face, interrupts):
    """The association can be used again; the response that nobody took is not taken for another."""
    moment = threading.Event()
    server = face.serve([(evt.EVT_C_ECHO, lambda event: moment.wait(0.1) or interrupt(event))])
    with face.associate(server) as assoc:
        with pytest.raises(KeyboardInterrupt):
            assoc.send_c_echo(5)
        server.bind(evt.EVT_C_ECHO, lambda event: 0xB000)
        assert assoc.send_c_echo(5).Status == 0xB000
        assert assoc.send_c_echo(6).Status == 0xB000
    assert state(assoc) == RELEASED


@pytest.mark.threaded_only("an interrupt cancels the main task")
def test_an_interrupt_while_an_object_is_sent(face, interrupts):
    with raw_acceptor(face) as (assoc, peer):

        def interrupt_later():
            peer.receive_bytes(1)
            interrupt(None)

        with in_background(interrupt_later), pytest.raises(KeyboardInterrupt):
            assoc.send_c_store(make_ct(64 << 20))
    assert state(assoc) == ABORTED
    assert "interrupt" in str(assoc.failure).lower()


@pytest.mark.threaded_only("an interrupt cancels the main task")
def test_an_interrupt_while_an_association_is_requested(face, interrupts):
    ae = face.ae()
    with RawServer() as listener, pytest.raises(KeyboardInterrupt):
        face.associate(listener.port, [(evt.EVT_PDU_SENT, interrupt)], ae=ae)
    assert not ae.active_associations
