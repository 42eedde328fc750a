"""TLS by profiles: what is agreed on, what is resumed, and whose fault it is when it fails."""

from __future__ import annotations

import socket
import ssl
from concurrent.futures import ThreadPoolExecutor

import pytest
from scenario import ABORTED, ESTABLISHED, RELEASED, Recorder, in_background, make_ct, state

from dicomwire import AssociationTimeout, TLSFailure, TLSFault, evt
from dicomwire.tls import Profile, client_context, server_context
from raw_peer import WAIT, RawPeer, RawServer

CURRENT = [Profile.BCP195, Profile.MODIFIED_BCP195]
HOST = "localhost"


@pytest.fixture
def calling(certificates):
    def make(pair=(), profile=Profile.BCP195, ca=None, **options):
        return client_context(profile, ca or certificates.ca, *pair, **options)

    return make


def refused(assoc, by_peer=False):
    """Return whose fault it is that there is no association, and what is said of it."""
    assert state(assoc) == ABORTED
    failure = assoc.failure
    assert isinstance(failure, TLSFailure), failure
    assert failure.stage == "tls"
    assert failure.by_peer is by_peer
    return failure.fault, str(failure)


def watched(face, **options):
    """Return a server, and the record of how its connections end."""
    log = Recorder(evt.EVT_CONN_OPEN, evt.EVT_CONN_CLOSE)
    return face.serve([(evt.EVT_C_STORE, lambda event: 0), *log.handlers], **options), log


def found_by_server(log, count=1):
    """Return what the server says of a connection that came to nothing."""
    failure = log.wait_for(evt.EVT_CONN_CLOSE, count).assoc.failure
    assert isinstance(failure, TLSFailure), failure
    return failure.fault, failure.by_peer


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("profile", CURRENT)
def test_mutual_authentication(face, certificates, calling, profile, version):
    server_tls = server_context(*certificates.server, client_ca=certificates.ca, profile=profile)
    server_tls.maximum_version = version
    server = face.serve([(evt.EVT_C_STORE, lambda event: 0)], ssl_context=server_tls)
    client_tls = calling(certificates.client, profile)
    assoc = face.associate(server, host=HOST, tls_args=(client_tls, None))
    assert state(assoc) == ESTABLISHED
    for size in (10, 1_000_000):
        assert assoc.send_c_store(make_ct(size)).Status == 0
    assoc.release()
    assert state(assoc) == RELEASED


def test_a_certificate_that_is_not_accepted(face, certificates, calling):
    cases = {
        "expired": (TLSFault.CERTIFICATE_EXPIRED, "expired"),
        "stranger": (TLSFault.UNKNOWN_AUTHORITY, "unable to get local issuer"),
        "elsewhere": (TLSFault.OTHER_HOST, "Hostname mismatch"),
    }
    for pair, (fault, text) in cases.items():
        server, log = watched(face, ssl_context=server_context(*getattr(certificates, pair)))
        assoc = face.associate(server, host=HOST, tls_args=(calling(), None))
        found, told = refused(assoc)
        assert found is fault
        assert text in told
        _, by_peer = found_by_server(log)
        assert by_peer
        assert face.is_quiet(server)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_client_that_the_server_does_not_let_in(face, certificates, calling, version):
    """Under TLS 1.3 a client hears of that when it believes to be connected already."""
    server_tls = server_context(*certificates.server, client_ca=certificates.ca)
    server_tls.maximum_version = version
    server, log = watched(face, ssl_context=server_tls)
    cases = {
        "expired": TLSFault.CERTIFICATE_EXPIRED,
        "stranger": TLSFault.UNKNOWN_AUTHORITY,
    }
    for count, (pair, fault) in enumerate(cases.items(), 1):
        client_tls = calling(getattr(certificates, pair))
        assoc = face.associate(server, host=HOST, tls_args=(client_tls, None))
        assert refused(assoc, by_peer=True)[0] is fault
        assert found_by_server(log, count) == (fault, False)
    assoc = face.associate(server, host=HOST, tls_args=(calling(), None))
    fault, told = refused(assoc, by_peer=True)
    assert "certificate of ours" in told
    assert found_by_server(log, 3) == (TLSFault.CERTIFICATE_MISSING, False)
    assert face.is_quiet(server)


def test_profiles_with_nothing_in_common(face, certificates, calling):
    server, log = watched(face, ssl_context=server_context(*certificates.server))
    client_tls = calling(profile=Profile.RETIRED_AES)
    client_tls.maximum_version = ssl.TLSVersion.TLSv1_2
    client_tls.set_ciphers("AES128-SHA")
    assoc = face.associate(server, host=HOST, tls_args=(client_tls, None))
    assert refused(assoc, by_peer=True)[0] is TLSFault.INCOMPATIBLE
    assert found_by_server(log) == (TLSFault.INCOMPATIBLE, False)


def test_a_plain_client_of_a_tls_server(face, certificates, caplog):
    server, log = watched(face, ssl_context=server_context(*certificates.server))
    assoc = face.associate(server)
    assert state(assoc) == ABORTED
    assert found_by_server(log) == (TLSFault.NOT_TLS, False)
    assert "does not use TLS on this connection" in caplog.text
    assert face.is_quiet(server)


def test_a_plain_client_of_a_tls_server_that_says_so(face):
    """Many a server sends its alert as it is."""
    with (
        RawServer() as listener,
        in_background(lambda: face.associate(listener.port)) as associating,
        listener.take() as peer,
    ):
        peer.receive()
        peer.send(bytes.fromhex("15030300020246"))
        failure = associating.result(WAIT).failure
    assert "the peer speaks TLS" in str(failure)


def test_a_tls_client_of_a_plain_server(face, calling, caplog):
    server = face.serve()
    assoc = face.associate(server, host=HOST, tls_args=(calling(), None))
    fault, told = refused(assoc)
    assert fault in (TLSFault.NOT_TLS, TLSFault.CLOSED)
    assert "TLS on this" in told
    assert face.is_quiet(server)
    assert ": the peer speaks TLS" in caplog.text


def test_a_handshake_that_drips(face, certificates):
    """The deadline is that of the whole handshake."""
    server, log = watched(face, ssl_context=server_context(*certificates.server), tls_timeout=0.3)
    hello, incoming = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = client_context(verify=False).wrap_bio(incoming, hello)
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    first = hello.read()
    with RawPeer.connect(server.server_address[1]) as peer:
        peer.socket.settimeout(0.02)
        for byte in first[:-1]:
            try:
                peer.send(bytes([byte]))
                if not peer.socket.recv(1):
                    break
            except TimeoutError:
                continue
            except OSError:
                break
    gone = log.wait_for(evt.EVT_CONN_CLOSE).assoc
    assert isinstance(gone.failure, AssociationTimeout)
    assert gone.failure.stage == "tls"


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_sessions_are_resumed(face, certificates, calling, version):
    server_tls = server_context(*certificates.server, client_ca=certificates.ca)
    server_tls.maximum_version = version
    server = face.serve(ssl_context=server_tls)
    client_tls = calling(certificates.client)
    for _ in range(3):
        assoc = face.associate(server, host=HOST, tls_args=(client_tls, None))
        assert assoc.send_c_echo().Status == 0
        assoc.release()
        assert state(assoc) == RELEASED
    assert face.is_quiet(server)
    assert server_tls.session_stats()["hits"] == 2
    other = face.serve(ssl_context=server_context(*certificates.server))
    assoc = face.associate(other, host=HOST, tls_args=(client_tls, None))
    assert state(assoc) == ESTABLISHED


def test_a_session_that_the_server_has_forgotten(face, certificates, calling):
    """Its keys for tickets are new after a restart."""
    client_tls = calling()
    address = ("127.0.0.1", 0)
    for _ in range(2):
        server = face.serve(ssl_context=server_context(*certificates.server), address=address)
        address = server.server_address[:2]
        for _ in range(2):
            assoc = face.associate(server, host=HOST, tls_args=(client_tls, None))
            assert assoc.send_c_echo().Status == 0
            assoc.release()
        assert face.is_quiet(server)
        server.shutdown()


def test_thirty_associations(face, certificates, calling):
    server_tls = server_context(*certificates.server, client_ca=certificates.ca)
    log = Recorder(evt.EVT_RELEASED)
    server = face.serve(
        [(evt.EVT_C_STORE, lambda event: 0), *log.handlers],
        ssl_context=server_tls,
        maximum_associations=200,
    )
    client_tls = calling(certificates.client)

    def store(number):
        assoc = face.associate(server, host=HOST, tls_args=(client_tls, None))
        assert state(assoc) == ESTABLISHED, assoc.failure
        return assoc, assoc.send_c_store(make_ct(50_000, f"1.2.3.{number}")).Status

    with ThreadPoolExecutor(20) as pool:
        stored = list(pool.map(store, range(30)))
        assert [status for _, status in stored] == [0] * 30
        assert len(server.active_associations) == 30
        list(pool.map(lambda each: each[0].release(), stored))
    log.wait_for(evt.EVT_RELEASED, 30)
    assert face.is_quiet(server)


def test_an_integrity_error_ends_the_association(face, certificates, calling):
    """As PS3.15 B.12 wants it: an A-P-ABORT on both sides."""
    log = Recorder(evt.EVT_ABORTED)
    server = face.serve(log.handlers, ssl_context=server_context(*certificates.server))
    with RawPeer.connect(server.server_address[1]) as plain:
        tls = calling().wrap_socket(plain.socket, server_hostname=HOST)
        peer = RawPeer(tls)
        assert peer.associate().presentation_contexts
        raw = socket.socket(fileno=tls.fileno())
        try:
            raw.sendall(bytes.fromhex("1703030020") + bytes(32))  # what nobody has encrypted
            gone = log.wait_for(evt.EVT_ABORTED).assoc
        finally:
            raw.detach()
            tls.close()
    fault, told = refused(gone)
    assert fault is TLSFault.OTHER
    assert "decryption failed" in told
