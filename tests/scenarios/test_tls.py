"""Associations over TLS: what works, and what is said when it does not."""

from __future__ import annotations

import ssl

import pytest
from scenario import (
    ABORTED,
    ESTABLISHED,
    RELEASED,
    Recorder,
    eventually,
    in_background,
    make_ct,
    state,
)

from dicomwire import AssociationTimeout, ConnectionLost, evt
from raw_peer import CT, WAIT, RawPeer, RawServer, request_pdu


@pytest.fixture
def serving(certificates):
    def make(name="server", client_ca=None, version=None):
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(*getattr(certificates, name))
        if client_ca:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(client_ca)
        if version:
            context.maximum_version = context.minimum_version = version
        return context

    return make


@pytest.fixture
def calling(certificates):
    def make(ca=None, own=None):
        context = ssl.create_default_context(cafile=ca or certificates.ca)
        if own:
            context.load_cert_chain(*getattr(certificates, own))
        return context

    return make


def check(assoc):
    """See whether messages of all sizes come through."""
    assert state(assoc) == ESTABLISHED
    assert assoc.send_c_echo().Status == 0
    for size in (10, 20_000, 3_000_000):
        assert assoc.send_c_store(make_ct(size)).Status == 0
    assoc.release()
    assert state(assoc) == RELEASED


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_both_ends_speak_tls(face, serving, calling, version):
    received = []

    def handle(event):
        received.append(len(event.dataset.PixelData))
        return 0

    log = Recorder(evt.EVT_RELEASED)
    server = face.serve(
        [(evt.EVT_C_STORE, handle), *log.handlers], ssl_context=serving(version=version)
    )
    check(face.associate(server, host="localhost", tls_args=(calling(), "localhost")))
    check(face.associate(server, tls_args=(calling(), "")))
    check(face.associate(server, tls_args=(calling(), None)))
    assert received == [10, 20_000, 3_000_000] * 3
    log.wait_for(evt.EVT_RELEASED, 3)
    assert face.is_quiet(server)


def test_both_ends_show_certificates(face, certificates, serving, calling):
    server = face.serve(
        [(evt.EVT_C_STORE, lambda event: 0)], ssl_context=serving(client_ca=certificates.ca)
    )
    check(face.associate(server, tls_args=(calling(own="client"), "localhost")))


def test_a_certificate_is_missing_or_not_trusted_by_the_server(
    face, certificates, serving, calling
):
    server = face.serve(
        [(evt.EVT_C_STORE, lambda event: 0)], ssl_context=serving(client_ca=certificates.other_ca)
    )
    for own in (None, "client"):
        assoc = face.associate(server, tls_args=(calling(own=own), "localhost"))
        assert state(assoc) == ABORTED
        assert isinstance(assoc.failure, ConnectionLost)
    assert face.is_quiet(server)


def lost_in_tls(assoc):
    assert state(assoc) == ABORTED
    assert isinstance(assoc.failure, ConnectionLost)
    assert assoc.failure.stage == "tls"
    return str(assoc.failure)


def test_the_wrong_authority(face, certificates, serving, calling):
    log = Recorder()
    server = face.serve(ssl_context=serving())
    assoc = face.associate(
        server, log.handlers, tls_args=(calling(certificates.other_ca), "localhost")
    )
    assert "certificate was not accepted" in lost_in_tls(assoc)
    assert log.names[-1] == "ABORTED"
    assert face.is_quiet(server)


def test_a_certificate_for_another_host(face, serving, calling):
    server = face.serve(ssl_context=serving("elsewhere"))
    assoc = face.associate(server, host="localhost", tls_args=(calling(), None))
    assert "localhost" in lost_in_tls(assoc)
    assoc = face.associate(server, tls_args=(calling(), "pacs.example"))
    assert state(assoc) == ESTABLISHED


def test_a_certificate_for_another_host_may_do(face, serving, calling):
    server = face.serve(ssl_context=serving("elsewhere"))
    context = calling()
    context.check_hostname = False
    assert state(face.associate(server, tls_args=(context, None))) == ESTABLISHED


def test_tls_to_a_plain_server(face, calling):
    server = face.serve()
    assoc = face.associate(server, tls_args=(calling(), None), tls_timeout=5)
    lost_in_tls(assoc)
    assert face.is_quiet(server)


def test_tls_to_a_server_that_says_nothing(face, calling):
    with RawServer() as listener:
        assoc = face.associate(listener.port, tls_args=(calling(), None), tls_timeout=0.05)
        listener.take().close()
    assert state(assoc) == ABORTED
    assert isinstance(assoc.failure, AssociationTimeout)
    assert assoc.failure.stage == "tls"


def test_tls_to_a_server_that_hangs_up(face, calling):
    with (
        RawServer() as listener,
        in_background(
            lambda: face.associate(listener.port, tls_args=(calling(), None))
        ) as associating,
    ):
        listener.take().close()
        lost_in_tls(associating.result(WAIT))


def test_a_plain_client_of_a_tls_server(face, serving, caplog):
    server = face.serve(ssl_context=serving())
    assoc = face.associate(server)
    assert state(assoc) == ABORTED
    assert face.is_quiet(server)
    assert any("TLS failed" in text for text in caplog.messages)


def test_a_silent_client_of_a_tls_server_delays_nobody(face, serving, calling):
    log = Recorder(evt.EVT_CONN_OPEN, evt.EVT_CONN_CLOSE)
    server = face.serve(log.handlers, ssl_context=serving())
    with RawPeer.connect(server.server_address[1]):
        log.wait_for(evt.EVT_CONN_OPEN)
        assoc = face.associate(server, tls_args=(calling(), None))
        assert state(assoc) == ESTABLISHED
    gone = log.wait_for(evt.EVT_CONN_CLOSE).assoc
    assert gone.failure.stage == "tls"


def test_a_request_that_drips_through_tls(face, serving, calling):
    """Records of one byte each; and the deadline is that of the whole request."""
    server = face.serve(ssl_context=serving())
    plain = RawPeer.connect(server.server_address[1])
    with RawPeer(calling().wrap_socket(plain.socket, server_hostname="127.0.0.1")) as peer:
        for byte in request_pdu().encode():
            peer.send(bytes([byte]))
        assert len(peer.receive().presentation_contexts) == 1


def test_abort_by_another_thread_over_tls(face, serving, calling):
    server = face.serve(
        [(evt.EVT_C_STORE, lambda event: 0)], ssl_context=serving(), maximum_associations=50
    )
    for _ in range(10):
        assoc = face.associate(server, contexts=[CT], tls_args=(calling(), None))
        sending = []

        def send(assoc=assoc, sending=sending):
            while assoc.is_established:
                try:
                    sending.append(assoc.send_c_store(make_ct(100_000)))
                except RuntimeError:
                    return

        with in_background(send):
            assert eventually(lambda: len(sending) > 2)  # noqa: B023
            assoc.abort()
        assoc.join(WAIT)
        assert state(assoc) == ABORTED
    assert eventually(lambda: not server.active_associations)
