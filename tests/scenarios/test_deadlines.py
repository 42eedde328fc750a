"""Every wait has a deadline with a name, and what passes it says so.

What begins a deadline anew, and what does not, is tested by a fake clock in tests/threaded and
tests/aio.
"""

from __future__ import annotations

import socket
from contextlib import suppress

import pytest
from scenario import (
    ABORTED,
    RELEASED,
    Recorder,
    in_background,
    make_ct,
    raw_acceptor,
    soon_full,
    state,
)

from dicomwire import AssociationAborted, AssociationTimeout, evt
from dicomwire.protocol.command import Command, Message
from dicomwire.protocol.pdu import Abort, AssociateAC, ReleaseRP, ReleaseRQ
from raw_peer import VERIFICATION, WAIT, RawPeer, message_pdu, store_request

SHORT = 0.05


def answer(request, status=0):
    return Message(
        Command(request.command | 0x8000),
        MessageIDBeingRespondedTo=request.MessageID,
        AffectedSOPClassUID=request.AffectedSOPClassUID,
        Status=status,
    )


def test_no_response_in_time(face, caplog):
    log = Recorder(evt.EVT_ABORTED)
    with raw_acceptor(face, *log.handlers, dimse_timeout=SHORT) as (assoc, peer):
        assert "Status" not in assoc.send_c_echo()
        peer.receive_message()
        assert peer.receive() == Abort(0, 0)
        assert peer.at_end()
    assert state(assoc) == ABORTED
    assert isinstance(assoc.failure, AssociationTimeout)
    assert assoc.failure.stage == "response"
    assert assoc.failure.peer == f"127.0.0.1:{assoc.acceptor.port}"
    assert log.names == ["ABORTED"]
    assert "DIMSE timeout reached while waiting for message" in caplog.messages


def test_forever_is_forever(face):
    with raw_acceptor(face, dimse_timeout=None) as (assoc, peer):
        with in_background(assoc.send_c_echo) as sending:
            request, _ = peer.receive_message()
            peer.send_message(answer(request))
            assert sending.result(WAIT).Status == 0
        assoc.abort()


@pytest.mark.parametrize("timeout", [1e7, 1e12, float("inf")])
def test_a_very_long_time_is_no_error(face, timeout):
    server = face.serve(network_timeout=timeout, acse_timeout=timeout)
    settings = ("acse_timeout", "dimse_timeout", "network_timeout", "connection_timeout")
    ae = face.ae()
    for name in settings:
        setattr(ae, name, timeout)
    with face.associate(server, ae=ae) as assoc:
        for name in settings:
            setattr(assoc, name, timeout)
        assert assoc.send_c_echo().Status == 0
        assert assoc.send_c_store(make_ct()).Status == 0xC211
    assert state(assoc) == RELEASED


def test_nothing_comes_for_too_long(face):
    """The requestor says nothing: the acceptor's network timeout aborts."""
    log = Recorder(evt.EVT_ABORTED, evt.EVT_ACSE_SENT)
    server = face.serve(log.handlers, network_timeout=SHORT)
    with RawPeer.connect(server.server_address[1]) as peer:
        assert isinstance(peer.associate(), AssociateAC)
        assert peer.receive() == Abort(0, 0)
        assert peer.at_end()
    acceptor = log.wait_for(evt.EVT_ABORTED).assoc
    assert isinstance(acceptor.failure, AssociationTimeout)
    assert acceptor.failure.stage == "idle"
    assert log.names == ["ACSE_SENT", "ACSE_SENT", "ABORTED"]


def test_nothing_comes_for_too_long_on_the_requestors_side(face):
    log = Recorder(evt.EVT_ABORTED)
    server = face.serve(log.handlers)
    assoc = face.associate(server, network_timeout=SHORT)
    log.wait_for(evt.EVT_ABORTED)
    assoc.join(WAIT)
    assert state(assoc) == ABORTED
    assert assoc.failure.stage == "idle"


def test_a_network_timeout_may_release(face):
    log = Recorder(evt.EVT_RELEASED, evt.EVT_ACSE_SENT)

    def prefer_release(event):
        event.assoc.network_timeout_response = "A-RELEASE"

    server = face.serve([*log.handlers, (evt.EVT_REQUESTED, prefer_release)], network_timeout=SHORT)
    with RawPeer.connect(server.server_address[1]) as peer:
        peer.associate()
        assert isinstance(peer.receive(), ReleaseRQ)
        peer.send(ReleaseRP())
        assert peer.at_end()
    acceptor = log.wait_for(evt.EVT_RELEASED).assoc
    acceptor.join(WAIT)
    assert state(acceptor) == RELEASED
    assert log.names == ["ACSE_SENT", "ACSE_SENT", "RELEASED"]


def test_no_network_timeout(face):
    server = face.serve(network_timeout=None)
    with face.associate(server, network_timeout=None) as assoc:
        assert assoc.send_c_echo().Status == 0


def test_a_timeout_of_the_ae_reaches_its_associations(face):
    server = face.serve()
    ae = face.ae()
    assoc = face.associate(server, ae=ae)
    acceptor = server.active_associations[0]
    for name in ("acse_timeout", "dimse_timeout", "network_timeout", "connection_timeout"):
        setattr(ae, name, 12)
        setattr(server.ae, name, 34)
        assert getattr(assoc, name) == 12
        assert getattr(acceptor, name) == 34
        setattr(assoc, name, 56)
        assert getattr(ae, name) == 12
        assert getattr(assoc, name) == 56
    log = Recorder(evt.EVT_ABORTED)
    assoc.bind(evt.EVT_ABORTED, log)
    server.ae.network_timeout = SHORT  # also for those that are waiting already
    log.wait_for(evt.EVT_ABORTED)
    acceptor.join(WAIT)
    assert acceptor.failure.stage == "idle"


def test_the_peer_takes_nothing_in(face):
    with raw_acceptor(face, write_timeout=SHORT) as (assoc, peer):
        assert "Status" not in assoc.send_c_store(make_ct(32 << 20))
        assert peer.receive_bytes(1) == b"\x04"
    assert state(assoc) == ABORTED
    assert isinstance(assoc.failure, AssociationTimeout)
    assert assoc.failure.stage == "write"


def test_the_peer_takes_nothing_in_of_a_response(face):
    """A provider must not wait for ever for those who do not read what they asked for."""
    log = Recorder(evt.EVT_ABORTED)
    server = face.serve(log.handlers, write_timeout=SHORT)
    soon_full(server)
    with RawPeer.connect(server.server_address[1]) as peer:
        peer.associate()
        peer.socket.settimeout(60)  # for all of it, as long as the server takes it in
        peer.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)  # of responses
        echo = Message(Command.C_ECHO_RQ, MessageID=1, AffectedSOPClassUID=VERIFICATION)
        requests = message_pdu(1, echo) * 200_000
        with suppress(OSError):
            peer.send(requests)
    acceptor = log.wait_for(evt.EVT_ABORTED).assoc
    assert acceptor.failure.stage == "write"


def test_a_message_that_does_not_end(face):
    """Its sender falls silent in mid-dataset; that is idle too, and the slot comes free."""
    log = Recorder(evt.EVT_ABORTED)
    server = face.serve(log.handlers, network_timeout=SHORT)
    with RawPeer.connect(server.server_address[1]) as peer:
        peer.associate()
        store = store_request("1.2")
        peer.send_message(store)
        assert peer.receive() == Abort(0, 0)
    acceptor = log.wait_for(evt.EVT_ABORTED).assoc
    assert acceptor.failure.stage == "idle"
    acceptor.join(WAIT)
    assert not server.active_associations


def test_an_unexpected_response_aborts(face):
    log = Recorder(evt.EVT_ABORTED)
    with raw_acceptor(face, *log.handlers) as (assoc, peer):
        request = Message(Command.C_ECHO_RQ, MessageID=9, AffectedSOPClassUID=VERIFICATION)
        peer.send_message(answer(request))
        assert peer.receive() == Abort(0, 0)
        log.wait_for(evt.EVT_ABORTED)
    assert isinstance(assoc.failure, AssociationAborted)
    assert not assoc.failure.by_peer
    assert "C-ECHO-RSP" in str(assoc.failure)


def test_a_response_of_another_kind_aborts(face):
    with raw_acceptor(face) as (assoc, peer):
        with in_background(assoc.send_c_echo) as sending:
            request, _ = peer.receive_message()
            peer.send_message(
                Message(Command.C_STORE_RSP, MessageIDBeingRespondedTo=request.MessageID, Status=0)
            )
            assert "Status" not in sending.result(WAIT)
        assert peer.receive() == Abort(0, 0)
    assert state(assoc) == ABORTED
    assert "C-STORE-RSP" in str(assoc.failure)


def test_a_response_without_status_aborts(face):
    with raw_acceptor(face) as (assoc, peer):
        with in_background(assoc.send_c_echo) as sending:
            peer.receive_message()
            command = bytes.fromhex(
                "00000000 04000000 1e000000 00000001 02000000 3080"  # C-ECHO-RSP to 1
                "00002001 02000000 0100 00000008 02000000 0101"
            )
            peer.send(b"\x04\x00" + (len(command) + 6).to_bytes(4, "big"))
            peer.send((len(command) + 2).to_bytes(4, "big") + b"\x01\x03" + command)
            assert "Status" not in sending.result(WAIT)
        assert peer.receive() == Abort(0, 0)
    assert state(assoc) == ABORTED
