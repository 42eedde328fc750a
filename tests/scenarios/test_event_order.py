"""Which events both ends are told of, in which order, and who is told."""

from __future__ import annotations

import logging
import threading

import pytest
from scenario import Recorder, in_background, make_ct, raw_acceptor, raw_answer

from dicomwire import build_role, evt
from dicomwire.events import get_default_handler
from dicomwire.protocol.command import Command
from dicomwire.protocol.items import UserIdentityNegotiation
from dicomwire.protocol.pdu import (
    Abort,
    AssociateAC,
    AssociateRJ,
    AssociateRQ,
    PDataTF,
    ReleaseRP,
    ReleaseRQ,
)
from raw_peer import CT, VERIFICATION, WAIT, RawPeer

WIRE = [each for each in evt.__dict__.values() if isinstance(each, evt.NotificationEvent)]
WIRE.remove(evt.EVT_FSM_TRANSITION)

SENT = ["DATA_SENT", "PDU_SENT"]
RECEIVED = ["DATA_RECV", "PDU_RECV"]
REQUESTOR_BEGINS = [
    *["ACSE_SENT", "REQUESTED", "CONN_OPEN"],
    *SENT,
    *RECEIVED,
    *["ACSE_RECV", "ACCEPTED", "ESTABLISHED"],
]
ACCEPTOR_BEGINS = [
    "CONN_OPEN",
    *RECEIVED,
    *["ACSE_RECV", "REQUESTED", "ACSE_SENT", "ACCEPTED", "ESTABLISHED"],
    *SENT,
]


@pytest.fixture
def ends(face):
    """A requestor and a server with an eye on all that happens, but for state transitions."""
    theirs, ours = Recorder(*WIRE), Recorder(*WIRE)
    server = face.serve(theirs.handlers)
    return face.associate(server, ours.handlers), server, ours, theirs


def test_echo_and_release(ends):
    assoc, _, ours, theirs = ends
    assoc.send_c_echo()
    assoc.release()
    theirs.wait_for(evt.EVT_CONN_CLOSE)
    assert ours.names == [
        *REQUESTOR_BEGINS,
        *["DIMSE_SENT", *SENT, *RECEIVED, "DIMSE_RECV"],
        *["ACSE_SENT", *SENT, *RECEIVED, "ACSE_RECV", "RELEASED", "CONN_CLOSE"],
    ]
    assert theirs.names == [
        *ACCEPTOR_BEGINS,
        *[*RECEIVED, "DIMSE_RECV", "DIMSE_SENT", *SENT],
        *[*RECEIVED, "ACSE_RECV", "ACSE_SENT", "RELEASED", *SENT, "CONN_CLOSE"],
    ]


def test_an_abort(ends):
    assoc, _, ours, theirs = ends
    assoc.abort()
    theirs.wait_for(evt.EVT_ABORTED)
    assert ours.names == [*REQUESTOR_BEGINS, "ACSE_SENT", "ABORTED", *SENT, "CONN_CLOSE"]
    assert theirs.names == [*ACCEPTOR_BEGINS, *RECEIVED, "CONN_CLOSE", "ACSE_RECV", "ABORTED"]


def test_an_abort_by_another_thread_is_told_the_same(face):
    ours = Recorder(*WIRE)
    waiting = threading.Event()
    with raw_acceptor(face, *ours.handlers) as (assoc, peer):

        def abort():
            waiting.wait(WAIT)
            assoc.abort()

        thread = threading.Thread(target=abort)
        thread.start()
        assoc.bind(evt.EVT_PDU_SENT, lambda event: waiting.set())
        assert "Status" not in assoc.send_c_echo()
        thread.join(WAIT)
        peer.receive_message()
        assert isinstance(peer.receive(), Abort)
    assert ours.names == [
        *[*REQUESTOR_BEGINS, "DIMSE_SENT", *SENT],
        *["ACSE_SENT", "ABORTED", *SENT, "CONN_CLOSE"],
    ]


def test_a_rejection(face):
    ours, theirs = Recorder(*WIRE), Recorder(*WIRE)
    server = face.serve(theirs.handlers)
    server.ae.require_called_aet = True
    face.associate(server, ours.handlers)
    theirs.wait_for(evt.EVT_CONN_CLOSE)
    assert ours.names == [
        *["ACSE_SENT", "REQUESTED", "CONN_OPEN", *SENT, *RECEIVED],
        *["ACSE_RECV", "REJECTED", "CONN_CLOSE"],
    ]
    assert theirs.names == [
        *["CONN_OPEN", *RECEIVED, "ACSE_RECV", "REQUESTED"],
        *["ACSE_SENT", "REJECTED", *SENT, "CONN_CLOSE"],
    ]


def test_no_context_accepted(face):
    ours, theirs = Recorder(*WIRE), Recorder(*WIRE)
    server = face.serve(theirs.handlers, supported=[CT])
    face.associate(server, ours.handlers, contexts=[VERIFICATION])
    theirs.wait_for(evt.EVT_ABORTED)
    assert ours.names == [
        *REQUESTOR_BEGINS[:-1],
        *["ACSE_SENT", "ABORTED", *SENT, "CONN_CLOSE"],
    ]
    assert theirs.names == [*ACCEPTOR_BEGINS, *RECEIVED, "CONN_CLOSE", "ACSE_RECV", "ABORTED"]


def test_no_answer_in_time(face):
    ours = Recorder(*WIRE)
    with raw_answer(face, *ours.handlers, acse_timeout=0.05) as (associating, _):
        associating.result(WAIT)
    assert ours.names == [
        *["ACSE_SENT", "REQUESTED", "CONN_OPEN", *SENT],
        *["ACSE_SENT", "ABORTED", *SENT, "CONN_CLOSE"],
    ]


def test_the_end_of_the_connection(face):
    theirs = Recorder(*WIRE)
    server = face.serve(theirs.handlers)
    with RawPeer.connect(server.server_address[1]) as peer:
        peer.associate()
    theirs.wait_for(evt.EVT_ABORTED)
    assert theirs.names == [*ACCEPTOR_BEGINS, "CONN_CLOSE", "ACSE_RECV", "ABORTED"]


def test_what_breaks_the_protocol(face):
    theirs = Recorder(*WIRE)
    server = face.serve(theirs.handlers)
    with RawPeer.connect(server.server_address[1]) as peer:
        peer.associate()
        peer.send(AssociateRJ(1, 1, 1))
        assert peer.receive() == Abort(2, 2)
        assert peer.at_end()
    theirs.wait_for(evt.EVT_CONN_CLOSE)
    assert theirs.names == [
        *ACCEPTOR_BEGINS,
        *RECEIVED,
        "ACSE_RECV",
        "ABORTED",
        *SENT,
        "CONN_CLOSE",
    ]


def test_a_store(ends):
    """The fragments of a dataset may come in any pieces, but a message is told of once."""
    assoc, _, ours, theirs = ends
    assoc.send_c_store(make_ct(100))
    assoc.release()
    theirs.wait_for(evt.EVT_CONN_CLOSE)
    names = ours.names[len(REQUESTOR_BEGINS) :]
    assert names == [
        *["DIMSE_SENT", "DATA_SENT", "PDU_SENT", "PDU_SENT", *RECEIVED, "DIMSE_RECV"],
        *["ACSE_SENT", *SENT, *RECEIVED, "ACSE_RECV", "RELEASED", "CONN_CLOSE"],
    ]
    assert theirs.names.count("DIMSE_RECV") == theirs.names.count("DIMSE_SENT") == 1
    assert theirs.names.count("PDU_RECV") == 4


# --- What they carry ---


def test_what_events_carry(ends):
    assoc, server, ours, theirs = ends
    assoc.send_c_echo(7)
    assoc.release()
    theirs.wait_for(evt.EVT_CONN_CLOSE)
    for log in (ours, theirs):
        assert len({id(event.assoc) for event in log.events}) == 1
        assert [each.timestamp for each in log.events] == sorted(
            each.timestamp for each in log.events
        )
    assert ours.events[0].assoc is assoc
    (opened,) = ours.of(evt.EVT_CONN_OPEN)
    assert opened.address == server.server_address == ours.of(evt.EVT_CONN_CLOSE)[0].address
    (opened,) = theirs.of(evt.EVT_CONN_OPEN)
    assert opened.address == ("127.0.0.1", assoc.requestor.port)

    def kinds(log, event, attribute):
        return [type(getattr(each, attribute)) for each in log.of(event)]

    sent = kinds(ours, evt.EVT_PDU_SENT, "pdu")
    assert sent == [AssociateRQ, PDataTF, ReleaseRQ]
    assert kinds(theirs, evt.EVT_PDU_RECV, "pdu") == sent
    received = kinds(ours, evt.EVT_PDU_RECV, "pdu")
    assert received == [AssociateAC, PDataTF, ReleaseRP]
    assert kinds(theirs, evt.EVT_PDU_SENT, "pdu") == received
    assert kinds(ours, evt.EVT_ACSE_SENT, "primitive") == [AssociateRQ, ReleaseRQ]
    assert kinds(ours, evt.EVT_ACSE_RECV, "primitive") == [AssociateAC, ReleaseRP]
    assert kinds(theirs, evt.EVT_ACSE_RECV, "primitive") == [AssociateRQ, ReleaseRQ]
    assert kinds(theirs, evt.EVT_ACSE_SENT, "primitive") == [AssociateAC, ReleaseRP]
    data = b"".join(each.data for each in ours.of(evt.EVT_DATA_SENT))
    assert data == b"".join(each.data for each in theirs.of(evt.EVT_DATA_RECV))
    assert data == b"".join(each.pdu.encode() for each in ours.of(evt.EVT_PDU_SENT))
    (message,) = theirs.of(evt.EVT_DIMSE_RECV)
    assert message.message.command is Command.C_ECHO_RQ
    assert message.message.MessageID == 7
    assert message.context_id == 1
    (message,) = ours.of(evt.EVT_DIMSE_RECV)
    assert message.message.command is Command.C_ECHO_RSP
    assert message.message.MessageIDBeingRespondedTo == 7


def test_state_transitions(face):
    ours, theirs = Recorder(evt.EVT_FSM_TRANSITION), Recorder(evt.EVT_FSM_TRANSITION)
    server = face.serve([*theirs.handlers, (evt.EVT_CONN_CLOSE, closed := Recorder())])
    with face.associate(server, ours.handlers) as assoc:
        assoc.send_c_echo()
    closed.wait_for(evt.EVT_CONN_CLOSE)

    def steps(log):
        return [
            f"{e.current_state} + {e.fsm_event} -> {e.action} -> {e.next_state}" for e in log.events
        ]

    assert steps(ours) == [
        "Sta1 + Evt1 -> AE-1 -> Sta4",
        "Sta4 + Evt2 -> AE-2 -> Sta5",
        "Sta5 + Evt3 -> AE-3 -> Sta6",
        "Sta6 + Evt9 -> DT-1 -> Sta6",
        "Sta6 + Evt10 -> DT-2 -> Sta6",
        "Sta6 + Evt11 -> AR-1 -> Sta7",
        "Sta7 + Evt13 -> AR-3 -> Sta1",
    ]
    assert steps(theirs)[:7] == [
        "Sta1 + Evt5 -> AE-5 -> Sta2",
        "Sta2 + Evt6 -> AE-6 -> Sta3",
        "Sta3 + Evt7 -> AE-7 -> Sta6",
        "Sta6 + Evt10 -> DT-2 -> Sta6",
        "Sta6 + Evt9 -> DT-1 -> Sta6",
        "Sta6 + Evt12 -> AR-2 -> Sta8",
        "Sta8 + Evt14 -> AR-4 -> Sta13",
    ]


# --- Who is told ---


def test_an_open_connection_is_told_of_at_once(face):
    log = Recorder(evt.EVT_CONN_OPEN, evt.EVT_CONN_CLOSE)
    server = face.serve(log.handlers)
    peer = RawPeer.connect(server.server_address[1])
    event = log.wait_for(evt.EVT_CONN_OPEN)
    assert event.address == peer.socket.getsockname()
    assert event.assoc.is_acceptor
    assert event.assoc.requestor.port == event.address[1]
    assert not server.active_associations
    peer.close()
    assert log.wait_for(evt.EVT_CONN_CLOSE).assoc is event.assoc
    assert event.assoc.failure.stage == "associate"


def test_arguments_of_handlers(face):
    told, asked = [], []

    def tell(event, *args):
        told.append(args)

    def ask(event, *args):
        asked.append(args)
        return 0

    server = face.serve(
        [
            (evt.EVT_ESTABLISHED, tell),
            (evt.EVT_REQUESTED, tell, ["one", 2]),
            (evt.EVT_C_ECHO, ask, [{"three": 3}]),
        ]
    )
    with face.associate(server) as assoc:
        assoc.send_c_echo()
        server.bind(evt.EVT_C_ECHO, ask, ["four"])
        assoc.send_c_echo()
    assert told == [("one", 2), ()]
    assert asked == [({"three": 3},), ("four",)]


def test_binding_to_a_server_reaches_its_associations(face):
    server = face.serve()
    with face.associate(server) as assoc:
        log = Recorder()
        for event, handler in log.handlers:
            server.bind(event, handler)
        assert server.get_handlers(evt.EVT_DIMSE_RECV)[-1] == (log, None)
        assert server.active_associations[0].get_handlers(evt.EVT_DATA_SENT) == [(log, None)]
        server.bind(evt.EVT_C_ECHO, lambda event: 0xB000)
        assert assoc.send_c_echo().Status == 0xB000
        log.wait_for(evt.EVT_PDU_SENT)
        assert set(log.names) == {
            *("DATA_RECV", "PDU_RECV", "DIMSE_RECV", "DIMSE_SENT", "DATA_SENT", "PDU_SENT"),
            "FSM_TRANSITION",
        }
        for event, handler in log.handlers:
            server.unbind(event, handler)
        server.unbind(evt.EVT_C_ECHO, server.get_handlers(evt.EVT_C_ECHO)[0])
        count = len(log.events)
        assert assoc.send_c_echo().Status == 0
    assert len(log.events) == count
    with face.associate(server) as assoc:
        assert assoc.send_c_echo().Status == 0
    assert len(log.events) == count


def test_binding_to_a_server_reaches_an_association_that_is_being_negotiated(face):
    verifying, go_on = threading.Event(), threading.Event()
    log = Recorder(evt.EVT_ESTABLISHED)

    def verify(event):
        verifying.set()
        assert go_on.wait(WAIT)
        return True, None

    server = face.serve([(evt.EVT_USER_ID, verify), (evt.EVT_ACCEPTED, log)])
    identity = UserIdentityNegotiation(1, False, b"somebody", b"")
    with in_background(lambda: face.associate(server, ext_neg=[identity])) as associating:
        assert verifying.wait(WAIT)
        server.bind(evt.EVT_C_ECHO, lambda event: 0xB000)
        server.bind(evt.EVT_ESTABLISHED, log)
        server.unbind(evt.EVT_ACCEPTED, log)
        go_on.set()
        with associating.result(WAIT) as assoc:
            assert assoc.send_c_echo().Status == 0xB000
    assert log.names == ["ESTABLISHED"]


def test_binding_to_one_association(face):
    log = Recorder(evt.EVT_DIMSE_SENT)
    server = face.serve()
    with face.associate(server) as one, face.associate(server) as other:
        one.bind(evt.EVT_DIMSE_SENT, log)
        one.send_c_echo()
        other.send_c_echo()
        assert len(log.events) == 1
        one.unbind(evt.EVT_DIMSE_SENT, log)
        one.send_c_echo()
        assert len(log.events) == 1


def test_a_handler_binds_and_unbinds_itself(face):
    told = []

    def once(event):
        told.append(event)
        event.assoc.unbind(evt.EVT_DIMSE_RECV, once)

    server = face.serve([(evt.EVT_DIMSE_RECV, once)])
    with face.associate(server) as assoc:
        assoc.send_c_echo()
        assoc.send_c_echo()
    assert len(told) == 1


def test_a_handler_that_fails_stops_nobody(face, caplog):
    log = Recorder()

    def fail(event):
        raise ZeroDivisionError("in a handler")

    failing = [(event, fail) for event, _ in log.handlers]
    server = face.serve([*failing, *log.handlers])
    with face.associate(server, [*failing, *log.handlers]) as assoc:
        assert assoc.send_c_echo().Status == 0
    assert assoc.is_released
    log.wait_for(evt.EVT_CONN_CLOSE, 2)
    errors = [each for each in caplog.records if each.levelno == logging.ERROR]
    assert len(errors) == len(log.events)
    assert all("fail" in each.getMessage() and each.exc_info for each in errors)


def test_default_handlers(face):
    server = face.serve()
    assoc = face.associate(server)
    for each in (server, assoc):
        for event in (
            evt.EVT_PDU_RECV,
            evt.EVT_PDU_SENT,
            evt.EVT_DIMSE_RECV,
            evt.EVT_DIMSE_SENT,
        ):
            assert len(each.get_handlers(event)) == 1
        assert each.get_handlers(evt.EVT_DATA_RECV) == []
        assert each.get_handlers(evt.EVT_C_ECHO) == (get_default_handler(evt.EVT_C_ECHO), None)
        assert evt.EVT_PDU_RECV in each.get_events()
    silent = face.serve(log_pdus=False)
    assert silent.get_handlers(evt.EVT_PDU_RECV) == []
    assert face.associate(silent, log_pdus=False).get_handlers(evt.EVT_DIMSE_SENT) == []


def test_everything_is_dumped_at_debug_level_and_no_patient_above(face, caplog):
    caplog.set_level(logging.DEBUG, "dicomwire")
    closed = Recorder(evt.EVT_CONN_CLOSE)
    server = face.serve([(evt.EVT_C_STORE, lambda event: 0), *closed.handlers])
    with face.associate(server) as assoc:
        assoc.send_c_echo()
        assoc.send_c_store(make_ct(100))
    closed.wait_for(evt.EVT_CONN_CLOSE)
    text = "\n".join(each.getMessage() for each in caplog.records)
    for name in ("A-ASSOCIATE-RQ", "A-ASSOCIATE-AC", "A-RELEASE-RQ", "A-RELEASE-RP"):
        assert f"OUTGOING {name} PDU" in text
        assert f"INCOMING {name} PDU" in text
    for name in ("C-ECHO-RQ", "C-ECHO-RSP", "C-STORE-RQ", "C-STORE-RSP"):
        assert name in text
    above = [each.getMessage() for each in caplog.records if each.levelno > logging.DEBUG]
    assert "Association Accepted" in above
    assert "Association Released" in above
    assert not any("Doe" in each for each in above)


@pytest.mark.threaded_only("plain handlers of notifications are on the loop")
def test_nothing_is_sent_by_a_handler_of_what_passes(face):
    errors = []

    def send(event):
        try:
            event.assoc.send_c_echo()
        except RuntimeError as error:
            errors.append(str(error))

    server = face.serve()
    with face.associate(server, [(evt.EVT_PDU_SENT, send), (evt.EVT_DATA_RECV, send)]) as assoc:
        del errors[:]
        assert assoc.send_c_echo().Status == 0
        assert len(errors) == 2
        assert "cannot send messages" in errors[0]


@pytest.mark.threaded_only("plain handlers of notifications are on the loop")
def test_an_established_association_can_be_used_by_the_handler_that_is_told(face):
    statuses = []
    used = threading.Event()

    def use(event):
        statuses.append(event.assoc.send_c_echo().Status)
        used.set()

    ae = face.ae("SCP")
    ae.add_supported_context(VERIFICATION, scu_role=True, scp_role=True)
    role = build_role(VERIFICATION, scu_role=True, scp_role=True)
    with face.associate(face.serve(), [(evt.EVT_ESTABLISHED, use)]):
        assert statuses == [0]
    used.clear()
    server = face.serve([(evt.EVT_ESTABLISHED, use)], ae=ae)
    with face.associate(server, contexts=[VERIFICATION], ext_neg=[role]):
        assert used.wait(WAIT)
    assert statuses == [0, 0]
