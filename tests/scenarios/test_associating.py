"""Associations begin, or do not, and either end knows why."""

from __future__ import annotations

import socket
from contextlib import suppress

import pytest
from scenario import (
    ABORTED,
    ESTABLISHED,
    REJECTED,
    RELEASED,
    Recorder,
    eventually,
    raw_answer,
    state,
)

from dicomwire import (
    AssociationAborted,
    AssociationRejected,
    AssociationTimeout,
    ConnectionLost,
    build_context,
    build_role,
    evt,
)
from dicomwire.protocol.items import UserIdentityNegotiation
from dicomwire.protocol.pdu import Abort, AssociateRJ
from raw_peer import (
    CT,
    EXPLICIT,
    IMPLICIT,
    VERIFICATION,
    WAIT,
    RawPeer,
    RawServer,
    context,
    request_pdu,
)


def test_an_association_is_accepted(face):
    server = face.serve(supported=[VERIFICATION])
    assoc = face.associate(server, contexts=[VERIFICATION, CT])
    assert state(assoc) == ESTABLISHED
    assert assoc.failure is None
    assert [(each.context_id, each.abstract_syntax) for each in assoc.accepted_contexts] == [
        (1, VERIFICATION)
    ]
    assert [(each.context_id, each.result) for each in assoc.rejected_contexts] == [(3, 3)]
    (acceptor,) = server.active_associations
    assert state(acceptor) == ESTABLISHED
    assert acceptor.is_acceptor
    assert assoc.is_requestor
    assert acceptor.remote["ae_title"] == "SCU"
    assert assoc.remote["ae_title"] == "ANY-SCP"
    assert assoc.acceptor.port == server.server_address[1]
    assert acceptor.requestor.port == assoc.requestor.port
    assoc.release()
    assert state(assoc) == RELEASED
    assert assoc.failure is None


def test_counts_are_right_at_once(face):
    server = face.serve()
    ae = face.ae()
    for _ in range(20):
        assoc = face.associate(server, ae=ae)
        assert ae.active_associations == [assoc]
        assert [each.is_established for each in server.active_associations] == [True]
        assert server.active_associations == server.ae.active_associations
        assoc.release()
        assert not ae.active_associations
        assert not server.active_associations


def test_the_acceptor_releases_and_the_requestor_knows_at_once(face):
    server = face.serve()
    for _ in range(20):
        assoc = face.associate(server)
        server.active_associations[0].release()
        assert state(assoc) == RELEASED
        assert not server.active_associations


def test_the_end_of_a_block_releases(face):
    server = face.serve()
    with face.associate(server) as assoc:
        assert state(assoc) == ESTABLISHED
    assert state(assoc) == RELEASED


def test_a_block_may_end_the_association_itself(face):
    server = face.serve()
    with face.associate(server) as assoc:
        assoc.release()
    assert state(assoc) == RELEASED
    with face.associate(server) as assoc:
        assoc.abort()
    assert state(assoc) == ABORTED


def test_what_an_association_says_of_itself(face):
    server = face.serve()
    ae = face.ae("MODALITY")
    with face.associate(server, ae=ae, ae_title="ARCHIVE") as assoc:
        (acceptor,) = server.active_associations
        assert (assoc.mode, acceptor.mode) == ("requestor", "acceptor")
        assert (assoc.ae, acceptor.ae) == (ae, server.ae)
        assert acceptor.server is server
        assert assoc.is_alive()
        assert acceptor.is_alive()
        assert assoc.local["ae_title"] == acceptor.remote["ae_title"] == "MODALITY"
        assert assoc.remote["ae_title"] == acceptor.local["ae_title"] == "ARCHIVE"
        assert assoc.local["port"] == acceptor.remote["port"]
        assert not assoc.peer_gone
    assert not assoc.is_alive()
    assert assoc.peer_gone
    assoc.join()


def test_an_exception_in_a_block_aborts(face):
    log = Recorder(evt.EVT_ABORTED)
    server = face.serve(log.handlers)
    with pytest.raises(ZeroDivisionError), face.associate(server) as assoc:
        raise ZeroDivisionError
    assert state(assoc) == ABORTED
    ended = log.wait_for(evt.EVT_ABORTED).assoc
    assert ended.failure.by_peer


def test_a_block_around_what_never_began(face):
    with face.associate(_free_port()) as assoc:
        assert state(assoc) == ABORTED
        with pytest.raises(RuntimeError, match="not established: cannot connect"):
            assoc.send_c_echo()
    assert state(assoc) == ABORTED


# --- Rejections ---


def rejection(assoc):
    failure = assoc.failure
    assert isinstance(failure, AssociationRejected)
    assert failure.stage == "associate"
    assert failure.peer == f"127.0.0.1:{assoc.acceptor.port}"
    return failure.result, failure.source, failure.diagnostic


@pytest.fixture
def rejected(face):
    """Request an association that is to be rejected, and look at both ends of that."""

    def request(server, log, **options):
        assoc = face.associate(server, **options)
        assert state(assoc) == REJECTED
        acceptor = log.wait_for(evt.EVT_CONN_CLOSE).assoc
        assert state(acceptor) == REJECTED
        assert rejection(assoc) == (
            acceptor.failure.result,
            acceptor.failure.source,
            acceptor.failure.diagnostic,
        )
        assert not server.active_associations
        return rejection(assoc)

    return request


def test_rejected_for_the_called_title(face, rejected):
    log = Recorder()
    server = face.serve(log.handlers)
    server.ae.require_called_aet = True
    assert rejected(server, log) == (1, 1, 7)
    assert state(face.associate(server, ae_title="SCP")) == ESTABLISHED


def test_rejected_for_the_calling_title(face, rejected):
    log = Recorder()
    server = face.serve(log.handlers)
    server.ae.require_calling_aet = ["OTHER", "MODALITY"]
    assert rejected(server, log) == (1, 1, 3)
    assert state(face.associate(server, ae=face.ae("MODALITY"))) == ESTABLISHED


def test_rejected_for_the_local_limit_until_there_is_room(face, rejected):
    log = Recorder()
    server = face.serve(log.handlers)
    server.ae.maximum_associations = 2
    first, second = face.associate(server), face.associate(server)
    for _ in range(3):
        assoc = face.associate(server)
        assert state(assoc) == REJECTED
        assert rejection(assoc) == (2, 3, 2)
    first.release()
    third = face.associate(server)
    assert state(third) == ESTABLISHED
    second.abort()
    log.wait_for(evt.EVT_ABORTED)
    assert eventually(lambda: len(server.active_associations) == 1)
    assert state(face.associate(server)) == ESTABLISHED


def test_the_limit_is_that_of_the_ae_over_all_of_its_servers(face):
    ae = face.ae("SCP", supported=[VERIFICATION], maximum_associations=1)
    one, two = face.serve(ae=ae), face.serve(ae=ae)
    first = face.associate(one)
    assert rejection(face.associate(two)) == (2, 3, 2)
    first.release()
    assert state(face.associate(two)) == ESTABLISHED


def test_rejected_for_the_application_context(face):
    server = face.serve()
    with RawPeer.connect(server.server_address[1]) as peer:
        answer = peer.associate(application_context_name="1.2.840.10008.3.1.1.2")
        assert (answer.result, answer.source, answer.diagnostic) == (1, 1, 2)
        assert peer.at_end()


def test_rejected_for_the_protocol_version(face):
    server = face.serve()
    with RawPeer.connect(server.server_address[1]) as peer:
        answer = peer.associate(protocol_version=2)
        assert (answer.result, answer.source, answer.diagnostic) == (1, 2, 2)
        assert peer.at_end()


def test_other_versions_beside_ours_are_welcome(face):
    server = face.serve()
    with RawPeer.connect(server.server_address[1]) as peer:
        assert peer.associate(protocol_version=3).protocol_version == 1


def refuse(event):
    return False, None


def stumble(event):
    raise ZeroDivisionError("no such user")


@pytest.mark.parametrize("handler", [refuse, stumble])
def test_rejected_for_the_user_identity(face, rejected, handler):
    log = Recorder()
    server = face.serve([*log.handlers, (evt.EVT_USER_ID, handler)])
    identity = UserIdentityNegotiation(1, False, b"nobody", b"")
    assert rejected(server, log, ext_neg=[identity]) == (2, 2, 1)
    assert state(face.associate(server)) == ESTABLISHED


def test_rejected_by_the_peer_for_the_time_being(face):
    log = Recorder(evt.EVT_REJECTED, evt.EVT_ACSE_RECV)
    with raw_answer(face, *log.handlers) as (associating, peer):
        peer.send(AssociateRJ(2, 3, 1))
        assert peer.at_end()
        assoc = associating.result(WAIT)
    assert state(assoc) == REJECTED
    assert rejection(assoc) == (2, 3, 1)
    assert "temporary congestion" in str(assoc.failure).lower()
    assert log.names == ["ACSE_RECV", "REJECTED"]
    assert isinstance(log.events[0].primitive, AssociateRJ)


# --- No contexts ---


def test_a_requestor_aborts_when_no_context_was_accepted(face):
    log = Recorder(evt.EVT_ACSE_RECV, evt.EVT_ABORTED)
    server = face.serve(log.handlers, supported=[VERIFICATION])
    assoc = face.associate(server, contexts=[CT])
    assert state(assoc) == ABORTED
    assert isinstance(assoc.failure, AssociationAborted)
    assert not assoc.failure.by_peer
    assert assoc.failure.source == 2
    assert assoc.failure.stage == "associate"
    assert f"{CT} " in str(assoc.failure)
    log.wait_for(evt.EVT_ABORTED)
    assert log.of(evt.EVT_ACSE_RECV)[-1].primitive.source == 2


def test_an_acceptor_accepts_though_it_rejects_every_context(face):
    server = face.serve(supported=[VERIFICATION])
    with RawPeer.connect(server.server_address[1]) as peer:
        answer = peer.associate(context(1, CT), context(3, VERIFICATION, "1.2.840.10008.1.2.4.50"))
        assert [each.result for each in answer.presentation_contexts] == [3, 4]
        assert state(server.active_associations[0]) == ESTABLISHED


def test_the_error_for_a_missing_context_says_what_there_is(face):
    server = face.serve(supported=[CT])
    contexts = [
        build_context(VERIFICATION),
        build_context(CT, EXPLICIT),
        build_context("1.2.840.10008.5.1.4.1.1.4"),
    ]
    with face.associate(server, contexts=contexts) as assoc:
        with pytest.raises(ValueError, match="no accepted presentation context") as caught:
            assoc.send_c_echo()
        text = str(caught.value)
        needed, accepted, rejected = text.split(";")
        assert VERIFICATION in needed
        assert "Verification SOP Class" in needed
        assert CT in accepted
        assert EXPLICIT in accepted
        assert VERIFICATION in rejected
        assert "1.2.840.10008.5.1.4.1.1.4" in rejected


# --- What is wrong before anything is sent ---


def test_mistakes_of_the_program_are_raised(face):
    ae = face.ae()
    with pytest.raises(RuntimeError, match="no presentation context"):
        ae.associate("127.0.0.1", 104)
    ae.add_requested_context(VERIFICATION)
    for addr in (None, 5, b"127.0.0.1", ("127.0.0.1", 0)):
        with pytest.raises(TypeError, match="addr"):
            ae.associate(addr, 104)
    with pytest.raises(TypeError, match="port"):
        ae.associate("127.0.0.1", "104")
    with pytest.raises(TypeError, match="bind_address"):
        ae.associate("127.0.0.1", 104, bind_address="127.0.0.1")
    with pytest.raises(ValueError, match="128"):
        ae.associate("127.0.0.1", 104, contexts=[build_context(CT)] * 129)
    with pytest.raises(ValueError, match="ae_title"):
        ae.associate("127.0.0.1", 104, ae_title="A" * 17)
    with pytest.raises(TypeError, match="negotiation"):
        ae.associate("127.0.0.1", 104, ext_neg=["role"])
    assert not ae.active_associations


def test_an_item_that_cannot_be_encoded_is_an_error_and_leaves_nothing(face):
    server = face.serve()
    ae = face.ae()
    with pytest.raises(ValueError, match="role"):
        face.associate(server, ae=ae, ext_neg=[build_role(CT)])
    assert not ae.active_associations
    assert face.is_quiet(server)


def test_the_contexts_of_the_caller_stay_as_they_are(face):
    server = face.serve()
    mine = build_context(VERIFICATION)
    with face.associate(server, contexts=[mine, mine]) as assoc:
        assert [each.context_id for each in assoc.accepted_contexts] == [1, 3]
    assert mine.context_id is None
    assert mine.result is None


# --- What fails on the way ---


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def test_nobody_listens(face):
    port = _free_port()
    log = Recorder()
    assoc = face.associate(port, log.handlers)
    assert state(assoc) == ABORTED
    assert isinstance(assoc.failure, ConnectionLost)
    assert assoc.failure.stage == "connect"
    assert assoc.failure.peer == f"127.0.0.1:{port}"
    assert "refused" in assoc.failure.text
    assert [name for name in log.names if name != "FSM_TRANSITION"] == [
        "ACSE_SENT",
        "REQUESTED",
        "ACSE_RECV",
        "ABORTED",
    ]
    assert not assoc.ae.active_associations


@pytest.mark.parametrize("host", ["host.invalid", "x" * 300, "a..b"])
def test_no_such_host(face, host):
    assoc = face.associate(104, host=host)
    assert state(assoc) == ABORTED
    assert isinstance(assoc.failure, ConnectionLost)
    assert assoc.failure.stage == "connect"


def test_no_such_port(face):
    assoc = face.associate(99_999)
    assert state(assoc) == ABORTED
    assert assoc.failure.stage == "connect"


def test_no_connection_in_time(face):
    # A backlog that is full: the system does not answer any more.
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        port = full.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)):
            assoc = face.associate(port, connection_timeout=0.05)
    assert state(assoc) == ABORTED
    assert isinstance(assoc.failure, AssociationTimeout)
    assert assoc.failure.stage == "connect"


def test_no_answer_in_time(face):
    log = Recorder(evt.EVT_ACSE_SENT, evt.EVT_ABORTED)
    with RawServer() as listener:
        assoc = face.associate(listener.port, log.handlers, acse_timeout=0.05)
        with listener.take() as peer:
            peer.receive()
            assert isinstance(peer.receive(), Abort)
            assert peer.at_end()
    assert state(assoc) == ABORTED
    assert isinstance(assoc.failure, AssociationTimeout)
    assert assoc.failure.stage == "associate"
    assert log.names == ["ACSE_SENT", "ACSE_SENT", "ABORTED"]


def test_the_peer_aborts_instead_of_answering(face):
    with raw_answer(face) as (associating, peer):
        peer.send(Abort(2, 6))
        assert peer.at_end()
        assoc = associating.result(WAIT)
    assert state(assoc) == ABORTED
    assert isinstance(assoc.failure, AssociationAborted)
    assert assoc.failure.by_peer
    assert (assoc.failure.source, assoc.failure.reason) == (2, 6)
    assert assoc.failure.stage == "associate"


@pytest.mark.parametrize("leave", [RawPeer.close, RawPeer.reset])
def test_the_peer_leaves_instead_of_answering(face, leave):
    with raw_answer(face) as (associating, peer):
        leave(peer)
        assoc = associating.result(WAIT)
    assert state(assoc) == ABORTED
    assert isinstance(assoc.failure, ConnectionLost)
    assert assoc.failure.stage == "associate"


def test_the_peer_answers_with_noise(face):
    with raw_answer(face) as (associating, peer):
        peer.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        answer = peer.receive()
        assert isinstance(answer, Abort)
        assert (answer.source, answer.reason) == (2, 1)
        assert peer.at_end()
        assoc = associating.result(WAIT)
    assert state(assoc) == ABORTED
    assert isinstance(assoc.failure, AssociationAborted)
    assert not assoc.failure.by_peer
    assert assoc.failure.stage == "associate"
    assert assoc.failure.reason == 1


def test_artim_closes_a_silent_connection(face):
    server = face.serve(acse_timeout=0.05)
    with RawPeer.connect(server.server_address[1]) as peer:
        assert peer.at_end()
    assert face.is_quiet(server)


def test_artim_is_not_put_off_by_a_drip(face):
    log = Recorder(evt.EVT_CONN_CLOSE)
    server = face.serve(log.handlers, acse_timeout=0.1)
    with RawPeer.connect(server.server_address[1]) as peer:
        peer.socket.settimeout(0.02)
        for byte in request_pdu().encode():
            with suppress(OSError):
                peer.send(bytes([byte]))
            with suppress(TimeoutError):
                assert peer.at_end()
                break
        else:
            pytest.fail("a byte every 20 ms kept the connection open")
    log.wait_for(evt.EVT_CONN_CLOSE)
    assert not log.events[0].assoc.is_established


def test_a_connection_that_is_slow_but_in_time_is_served(face):
    server = face.serve()
    with RawPeer.connect(server.server_address[1]) as peer:
        data = request_pdu().encode()
        for start in range(0, len(data), 7):
            peer.send(data[start : start + 7])
        assert len(peer.receive().presentation_contexts) == 1


def test_transfer_syntax_is_the_first_of_the_acceptors_own(face):
    ae = face.ae("SCP")
    ae.add_supported_context(CT, [EXPLICIT, IMPLICIT])
    server = face.serve(ae=ae)
    with face.associate(server, contexts=[build_context(CT, [IMPLICIT, EXPLICIT])]) as assoc:
        assert assoc.accepted_contexts[0].transfer_syntax == [EXPLICIT]


def test_connecting_from_a_given_address(face):
    server = face.serve()
    port = _free_port()
    with face.associate(server, bind_address=("127.0.0.1", port)) as assoc:
        assert state(assoc) == ESTABLISHED
        assert assoc.requestor.port == port


def test_maximum_lengths_are_told_both_ways(face):
    ae = face.ae("SCP", supported=[VERIFICATION])
    ae.maximum_pdu_size = 12345
    server = face.serve(ae=ae)
    with face.associate(server, max_pdu=0) as assoc:
        assert assoc.acceptor.maximum_length == 12345
        assert assoc.requestor.maximum_length == 0
        (acceptor,) = server.active_associations
        assert acceptor.requestor.maximum_length == 0
        assert acceptor.acceptor.maximum_length == 12345
