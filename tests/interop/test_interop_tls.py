"""TLS with DCMTK's ``+tls`` programs, as client and as server, and with ``openssl s_client``."""

from __future__ import annotations

import re
import ssl
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from queue import Queue
from typing import Any

import pytest
from archive import LOCALHOST, assert_same, files_in, make_images
from peers import Peers, run, serving
from pydicom.dataset import Dataset

from certificates import PASSWORD, Certificates, Pair
from dicomwire import AE, TLSFailure, TLSFault, evt
from dicomwire.apps import storescu
from dicomwire.apps.identity import Users, user_line
from dicomwire.sop_class import CTImageStorage, MRImageStorage, Verification
from dicomwire.tls import Profile, client_context, server_context

pytestmark = pytest.mark.usefixtures("our_face")

CURRENT = [Profile.BCP195, Profile.MODIFIED_BCP195]
OTHERS = {
    Profile.RETIRED_NON_DOWNGRADING_BCP195: "+py",
    Profile.RETIRED_BCP195: "+px",
    Profile.RETIRED_EXTENDED_BCP195: "+pz",
    Profile.RETIRED_AES: "+pa",
}
"""What DCMTK calls them. Releases that know of the current ones take them by default."""
MODERN = ["+py", "+px", "+pz"]
SOP_CLASSES = (Verification, CTImageStorage, MRImageStorage)

Serve = Callable[..., tuple[int, "Queue[Any]"]]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Return what starts a server of ours; it gives the port, and how its connections end."""
    started: list[AE] = []

    def start(context: ssl.SSLContext, *handlers: Any) -> tuple[int, Queue[Any]]:
        ended: Queue[Any] = Queue()
        ae = AE("OURS")
        for uid in SOP_CLASSES:
            ae.add_supported_context(uid)
        server = ae.start_server(
            (LOCALHOST, 0),
            block=False,
            ssl_context=context,
            evt_handlers=[
                (evt.EVT_CONN_CLOSE, lambda event: ended.put(event.assoc.failure)),
                *handlers,
            ],
        )
        assert server is not None
        started.append(ae)
        return server.server_address[1], ended

    yield start
    for ae in started:
        ae.shutdown()


def tls(pair: Pair, *authorities: Path) -> list[object]:
    """Return DCMTK's options for a certificate and who is to be trusted."""
    trusted = [each for ca in authorities for each in ("+cf", ca)]
    return ["+tls", pair.key, pair.certificate, *trusted]


def written(folder: Path, images: list[Dataset]) -> list[Path]:
    """Write images into files, and return these."""
    for number, image in enumerate(images):
        image.save_as(folder / f"{number}.dcm", enforce_file_format=True)
    return sorted(folder.glob("*.dcm"))


# --- DCMTK's clients with our server ----------------------------------------------------------


@pytest.mark.parametrize("theirs", MODERN)
@pytest.mark.parametrize("profile", CURRENT)
def test_echoscu(
    peers: Peers, serve: Serve, certificates: Certificates, profile: Profile, theirs: str
) -> None:
    context = server_context(*certificates.server, client_ca=certificates.ca, profile=profile)
    port, ended = serve(context)
    options = [*tls(certificates.client, certificates.ca), theirs]
    output = run(peers.dcmtk("echoscu"), "-v", *options, LOCALHOST, port)
    assert "Received Echo Response (Success)" in output
    assert ended.get(timeout=20) is None


@pytest.mark.parametrize(("profile", "theirs"), OTHERS.items())
def test_echoscu_with_retired_profiles(
    peers: Peers, serve: Serve, certificates: Certificates, profile: Profile, theirs: str
) -> None:
    port, _ = serve(server_context(*certificates.server, profile=profile))
    options = [*tls(certificates.client, certificates.ca), theirs]
    run(peers.dcmtk("echoscu"), *options, LOCALHOST, port)


def test_echoscu_without_a_certificate(
    peers: Peers, serve: Serve, certificates: Certificates
) -> None:
    anonymous = ["+tla", "+cf", certificates.ca]
    port, _ = serve(server_context(*certificates.server))
    run(peers.dcmtk("echoscu"), *anonymous, LOCALHOST, port)
    port, ended = serve(server_context(*certificates.server, client_ca=certificates.ca))
    run(peers.dcmtk("echoscu"), *anonymous, LOCALHOST, port, codes=range(1, 256))
    failure = ended.get(timeout=20)
    assert isinstance(failure, TLSFailure)
    assert (failure.fault, failure.by_peer) == (TLSFault.CERTIFICATE_MISSING, False)


def test_storescu(peers: Peers, serve: Serve, certificates: Certificates, tmp_path: Path) -> None:
    images = make_images()
    paths = written(tmp_path, images)
    received = {}

    def keep(event: evt.Event) -> int:
        received[event.dataset.SOPInstanceUID] = event.dataset
        return 0

    context = server_context(*certificates.server, client_ca=certificates.ca)
    port, _ = serve(context, (evt.EVT_C_STORE, keep))
    run(
        peers.dcmtk("storescu"), *tls(certificates.client, certificates.ca), LOCALHOST, port, *paths
    )
    assert_same(received, images)


def test_clients_that_are_refused(peers: Peers, serve: Serve, certificates: Certificates) -> None:
    echoscu = peers.dcmtk("echoscu")
    port, ended = serve(server_context(*certificates.server, client_ca=certificates.ca))
    for pair, authority, expected in (
        (certificates.expired, certificates.ca, (TLSFault.CERTIFICATE_EXPIRED, False)),
        (certificates.stranger, certificates.ca, (TLSFault.UNKNOWN_AUTHORITY, False)),
        (certificates.client, certificates.other_ca, (TLSFault.UNKNOWN_AUTHORITY, True)),
    ):
        run(echoscu, *tls(pair, authority), LOCALHOST, port, codes=range(1, 256))
        failure = ended.get(timeout=20)
        assert isinstance(failure, TLSFailure)
        assert (failure.fault, failure.by_peer) == expected
    run(echoscu, LOCALHOST, port, codes=range(1, 256))
    assert ended.get(timeout=20).fault is TLSFault.NOT_TLS


def test_users(peers: Peers, serve: Serve, certificates: Certificates, tmp_path: Path) -> None:
    known = tmp_path / "users"
    known.write_text(user_line("jane", "sesame"))
    (path,) = written(tmp_path, make_images()[:1])
    port, _ = serve(
        server_context(*certificates.server),
        (evt.EVT_C_STORE, lambda event: 0),
        *Users(str(known), storescu.LOGGER).handlers,
    )
    command = [peers.dcmtk("storescu"), *tls(certificates.client, certificates.ca)]
    run(*command, "-usr", "jane", "-pwd", "sesame", LOCALHOST, port, path)
    for options in (["-usr", "jane", "-pwd", "Sesame"], ["-usr", "jane"], []):
        run(*command, *options, LOCALHOST, port, path, codes=range(1, 256))


# --- Our client with DCMTK's servers ----------------------------------------------------------


@pytest.fixture
def store(peers: Peers, tmp_path: Path) -> Callable[..., Any]:
    """Return what runs DCMTK's storescp with some options for TLS."""
    folder = tmp_path / "received"
    folder.mkdir()
    program = peers.dcmtk("storescp")
    return lambda *options: serving(folder, lambda port: [program, *options, "+B", port])


def call(port: int, context: ssl.SSLContext | None, host: str = LOCALHOST) -> Any:
    """Return an association, and release it if there is one after an echo."""
    tls_args = None if context is None else (context, None)
    ae = AE("OURS")
    ae.add_requested_context(Verification)
    association = ae.associate(host, port, tls_args=tls_args)
    if association.is_established:
        assert association.send_c_echo().Status == 0
        association.release()
    return association


@pytest.mark.parametrize("theirs", MODERN)
@pytest.mark.parametrize("profile", CURRENT)
def test_storescp(
    store: Callable[..., Any],
    certificates: Certificates,
    profile: Profile,
    theirs: str,
    tmp_path: Path,
) -> None:
    images = make_images()
    paths = written(tmp_path, images)
    client, options = certificates.client, [*tls(certificates.server, certificates.ca), theirs]
    with store(*options) as port:
        arguments = [
            *("--tls", "--tls-ca", certificates.ca, "--tls-profile", profile.value),
            *("--tls-cert", client.certificate, "--tls-key", client.key, "--strict"),
        ]
        assert storescu.main([LOCALHOST, *map(str, [port, *paths, *arguments])]) == 0
    (tmp_path / "received" / "server.log").unlink()
    assert_same(files_in(tmp_path / "received"), images)


@pytest.mark.parametrize(("profile", "theirs"), OTHERS.items())
def test_storescp_with_retired_profiles(
    store: Callable[..., Any], certificates: Certificates, profile: Profile, theirs: str
) -> None:
    with store(*tls(certificates.server, certificates.ca), theirs) as port:
        assert call(
            port, client_context(profile, certificates.ca, *certificates.client)
        ).is_released


def test_storescp_resumes_sessions(store: Callable[..., Any], certificates: Certificates) -> None:
    context: Any = client_context(Profile.BCP195, certificates.ca, *certificates.client)
    with store(*tls(certificates.server, certificates.ca)) as port:
        for _ in range(3):
            assert call(port, context).is_released
            assert len(context._sessions) == 1


def test_servers_that_are_refused(store: Callable[..., Any], certificates: Certificates) -> None:
    own = certificates.client
    for pair, fault in (
        (certificates.expired, TLSFault.CERTIFICATE_EXPIRED),
        (certificates.stranger, TLSFault.UNKNOWN_AUTHORITY),
        (certificates.elsewhere, TLSFault.OTHER_HOST),
    ):
        with store(*tls(pair, certificates.ca)) as port:
            failure = call(port, client_context(Profile.BCP195, certificates.ca, *own)).failure
        assert isinstance(failure, TLSFailure)
        assert (failure.fault, failure.by_peer) == (fault, False)


def test_servers_that_refuse_us(store: Callable[..., Any], certificates: Certificates) -> None:
    with store(*tls(certificates.server, certificates.ca)) as port:
        for pair, faults in (
            ((), {TLSFault.CERTIFICATE_MISSING}),
            (certificates.stranger, {TLSFault.UNKNOWN_AUTHORITY}),
            (certificates.expired, {TLSFault.CERTIFICATE_EXPIRED}),
        ):
            failure = call(port, client_context(Profile.BCP195, certificates.ca, *pair)).failure
            assert isinstance(failure, TLSFailure), failure
            assert failure.by_peer
            assert failure.fault in faults
        assert call(port, None).is_aborted
    with store() as port:
        failure = call(port, client_context(ca=certificates.ca)).failure
        assert isinstance(failure, TLSFailure)
        assert failure.fault in (TLSFault.NOT_TLS, TLSFault.CLOSED)


def test_a_key_with_a_password(store: Callable[..., Any], certificates: Certificates) -> None:
    locked = certificates.locked
    with store(*tls(locked, certificates.ca), "+pw", PASSWORD) as port:
        context = client_context(Profile.BCP195, certificates.ca, *locked, password=PASSWORD)
        assert call(port, context).is_released


# --- openssl s_client with our server ---------------------------------------------------------


def s_client(peers: Peers, port: int, *options: object) -> str:
    """Return what openssl says of a connection that it closes at once."""
    command = [peers.program("openssl", "openssl"), "s_client", "-connect", f"localhost:{port}"]
    result = subprocess.run(
        [*map(str, [*command, *options])],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=30,
        check=False,
    )
    return result.stdout


@pytest.mark.parametrize(
    ("version", "suite"),
    [("-tls1_2", "ECDHE-RSA-AES256-GCM-SHA384"), ("-tls1_3", "TLS_AES_256_GCM_SHA384")],
)
@pytest.mark.parametrize("profile", CURRENT)
def test_s_client(
    peers: Peers,
    serve: Serve,
    certificates: Certificates,
    profile: Profile,
    version: str,
    suite: str,
) -> None:
    port, _ = serve(
        server_context(*certificates.server, client_ca=certificates.ca, profile=profile)
    )
    own = certificates.client
    told = s_client(
        peers,
        port,
        *("-CAfile", certificates.ca, "-verify_return_error", "-verify_hostname", "localhost"),
        *("-cert", own.certificate, "-key", own.key, version),
    )
    assert "Verification: OK" in told
    assert f"Cipher is {suite}" in told
    assert re.search("Secure Renegotiation IS|TLSv1.3", told)
    assert "Compression: NONE" in told


def test_s_client_resumes_sessions(
    peers: Peers, serve: Serve, certificates: Certificates, tmp_path: Path
) -> None:
    port, _ = serve(server_context(*certificates.server))
    session = tmp_path / "session"
    first = s_client(peers, port, "-tls1_2", "-sess_out", session)
    assert "New, TLSv1.2" in first
    assert "Reused, TLSv1.2" in s_client(peers, port, "-tls1_2", "-sess_in", session)


@pytest.mark.parametrize("options", [["-tls1_1"], ["-tls1_2", "-cipher", "AES128-SHA"]])
@pytest.mark.parametrize("profile", CURRENT)
def test_s_client_with_what_is_too_weak(
    peers: Peers, serve: Serve, certificates: Certificates, profile: Profile, options: list[str]
) -> None:
    port, ended = serve(server_context(*certificates.server, profile=profile))
    cipher = [] if "-cipher" in options else ["-cipher", "ALL:@SECLEVEL=0"]
    assert "Cipher is (NONE)" in s_client(peers, port, *options, *cipher)
    failure = ended.get(timeout=20)
    assert isinstance(failure, TLSFailure)
    assert failure.fault is TLSFault.INCOMPATIBLE
