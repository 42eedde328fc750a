"""Contexts for TLS, put to the test in memory: two ends shake hands, and say what is wrong."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509 import CertificateBuilder, Name, NameAttribute
from cryptography.x509.oid import NameOID

from certificates import PASSWORD, Certificates
from dicomwire import tls
from dicomwire.errors import ConnectionLost, TLSConfigurationError, TLSFault
from dicomwire.tls import Profile, client_context, server_context, tls_failure

CURRENT = [Profile.BCP195, Profile.MODIFIED_BCP195]
RETIRED = [profile for profile in Profile if profile not in CURRENT]
WITHOUT_TRIPLE_DES = [profile for profile in Profile if profile is not Profile.RETIRED_BASIC]


class End:
    """One end of a connection in memory."""

    def __init__(self, context: ssl.SSLContext, **options: Any) -> None:
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing, **options)
        self.error: ssl.SSLError | None = None
        self.is_open = False

    def go_on(self) -> None:
        try:
            if self.is_open:
                self.tls.read(1)
            else:
                self.tls.do_handshake()
                self.is_open = True
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError as error:
            self.error = self.error or error


def shake_hands(
    client: ssl.SSLContext, server: ssl.SSLContext, name: str = "localhost"
) -> tuple[End, End]:
    """Let a client and a server shake hands, and read what else there is; return the two."""
    ends = End(client, server_hostname=name), End(server, server_side=True)
    for _ in range(6):
        for one, other in (ends, ends[::-1]):
            one.go_on()
            other.incoming.write(one.outgoing.read())
    return ends


def fault(end: End) -> tuple[TLSFault, bool]:
    """Return what went wrong at `end`, and whether the peer had to say so."""
    assert end.error is not None
    failure = tls_failure(end.error, "peer:2762")
    assert isinstance(failure, ConnectionLost)
    assert failure.stage == "tls"
    assert failure.text.startswith("TLS failed: ")
    return failure.fault, failure.by_peer


@pytest.fixture
def server(certificates: Certificates) -> ssl.SSLContext:
    return server_context(*certificates.server)


@pytest.fixture
def client(certificates: Certificates) -> ssl.SSLContext:
    return client_context(ca=certificates.ca)


# --- Profiles ---------------------------------------------------------------------------------


def test_names_say_which_profiles_are_retired() -> None:
    assert [profile for profile in Profile if profile.is_retired] == RETIRED
    assert all(profile.name.startswith("RETIRED_") for profile in RETIRED)
    sections = [profile.section for profile in Profile]
    assert sections == ["B.12", "B.13", "B.1", "B.3", "B.9", "B.10", "B.11"]


@pytest.mark.parametrize("profile", CURRENT)
def test_current_profiles_prefer_tls_1_3(profile: Profile, certificates: Certificates) -> None:
    ends = shake_hands(
        client_context(profile, certificates.ca),
        server_context(*certificates.server, profile=profile),
    )
    assert [end.tls.version() for end in ends] == ["TLSv1.3"] * 2


@pytest.mark.parametrize(
    ("profile", "pair"),
    [
        *((profile, "server") for profile in WITHOUT_TRIPLE_DES),
        *((profile, "elliptic") for profile in WITHOUT_TRIPLE_DES if "AES" not in profile.name),
    ],
)
def test_every_profile_can_do_tls_1_2(
    profile: Profile, pair: str, certificates: Certificates
) -> None:
    client = client_context(profile, certificates.ca)
    client.maximum_version = ssl.TLSVersion.TLSv1_2
    server = server_context(*getattr(certificates, pair), profile=profile)
    ends = shake_hands(client, server)
    assert [end.tls.version() for end in ends] == ["TLSv1.2"] * 2
    name, _, bits = ends[0].tls.cipher()
    if profile is Profile.RETIRED_AES:
        assert name == "AES128-SHA"
    else:
        assert (name[:5], name[-10:], bits) == ("ECDHE", "GCM-SHA384", 256)


@pytest.mark.parametrize("profile", CURRENT)
@pytest.mark.parametrize("cipher", ["AES128-SHA", "ECDHE-RSA-AES128-SHA256", "AES128-GCM-SHA256"])
def test_current_profiles_have_no_weak_ciphers(
    profile: Profile, cipher: str, certificates: Certificates
) -> None:
    """Neither CBC mode nor a key exchange without forward secrecy."""
    client = client_context(Profile.RETIRED_AES, certificates.ca)
    client.maximum_version = ssl.TLSVersion.TLSv1_2
    client.set_ciphers(cipher)
    ends = shake_hands(client, server_context(*certificates.server, profile=profile))
    assert fault(ends[1]) == (TLSFault.INCOMPATIBLE, False)
    assert fault(ends[0]) == (TLSFault.INCOMPATIBLE, True)


@pytest.mark.parametrize("profile", CURRENT)
def test_current_profiles_refuse_old_versions(profile: Profile, certificates: Certificates) -> None:
    for old, new in ((Profile.RETIRED_AES, profile), (profile, Profile.RETIRED_AES)):
        client = client_context(old, certificates.ca)
        server = server_context(*certificates.server, profile=new)
        with pytest.warns(DeprecationWarning, match="deprecated"):
            (client if old is not profile else server).maximum_version = ssl.TLSVersion.TLSv1_1
        ends = shake_hands(client, server)
        assert {fault(end)[0] for end in ends} == {TLSFault.INCOMPATIBLE}


def test_the_extended_profile_has_nothing_but_its_list(certificates: Certificates) -> None:
    profile = Profile.RETIRED_EXTENDED_BCP195
    server = server_context(*certificates.server, profile=profile)
    ends = shake_hands(client_context(ca=certificates.ca), server)
    assert ends[0].tls.version() == "TLSv1.2"
    old = {each["name"] for each in server.get_ciphers() if each["protocol"] == "TLSv1.2"}
    assert {name.replace("ECDSA", "RSA") for name in old} == {
        *("ECDHE-RSA-AES256-GCM-SHA384", "ECDHE-RSA-AES128-GCM-SHA256"),
        *("DHE-RSA-AES256-GCM-SHA384", "DHE-RSA-AES128-GCM-SHA256"),
    }


@pytest.mark.parametrize(
    "profile",
    [
        Profile.MODIFIED_BCP195,
        Profile.RETIRED_NON_DOWNGRADING_BCP195,
        Profile.RETIRED_EXTENDED_BCP195,
    ],
)
def test_servers_can_do_finite_field_diffie_hellman(
    profile: Profile, certificates: Certificates
) -> None:
    client = client_context(profile, certificates.ca)
    client.maximum_version = ssl.TLSVersion.TLSv1_2
    client.set_ciphers("DHE-RSA-AES128-GCM-SHA256")
    ends = shake_hands(client, server_context(*certificates.server, profile=profile))
    assert ends[0].tls.cipher()[0] == "DHE-RSA-AES128-GCM-SHA256"


def test_a_profile_that_cannot_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    profile = Profile.RETIRED_BASIC
    rules = tls._Rules("B.1", ("NOT-A-CIPHER",))
    monkeypatch.setitem(tls._RULES, profile, rules)
    with pytest.raises(TLSConfigurationError) as caught:
        client_context(profile)
    told = str(caught.value)
    assert "does not support the TLS profile retired-basic (PS3.15 B.1)" in told
    assert "NOT-A-CIPHER" in told


def test_triple_des_or_a_clear_error(certificates: Certificates) -> None:
    try:
        client = client_context(Profile.RETIRED_BASIC, certificates.ca)
    except TLSConfigurationError:
        with pytest.raises(TLSConfigurationError, match="none of DES-CBC3-SHA"):
            server_context(*certificates.server, profile=Profile.RETIRED_BASIC)
    else:
        assert "DES-CBC3-SHA" in {each["name"] for each in client.get_ciphers()}


@pytest.mark.parametrize("profile", WITHOUT_TRIPLE_DES)
def test_no_compression_and_no_renegotiation(profile: Profile, certificates: Certificates) -> None:
    for context in (client_context(profile), server_context(*certificates.server, profile=profile)):
        assert context.options & ssl.OP_NO_COMPRESSION
        assert context.options & ssl.OP_NO_RENEGOTIATION


# --- Who the other end is ---------------------------------------------------------------------


def test_host_names_and_addresses(client: ssl.SSLContext, server: ssl.SSLContext) -> None:
    for name in ("localhost", "127.0.0.1", "::1"):
        assert all(end.is_open for end in shake_hands(client, server, name))
    ends = shake_hands(client, server, "pacs.example")
    assert fault(ends[0]) == (TLSFault.OTHER_HOST, False)
    assert "pacs.example" in str(tls_failure(ends[0].error or OSError()))


def test_another_host_may_do(certificates: Certificates) -> None:
    client = client_context(ca=certificates.ca, check_hostname=False)
    assert shake_hands(client, server_context(*certificates.elsewhere))[0].is_open
    ends = shake_hands(client, server_context(*certificates.stranger))
    assert fault(ends[0]) == (TLSFault.UNKNOWN_AUTHORITY, False)
    assert fault(ends[1]) == (TLSFault.UNKNOWN_AUTHORITY, True)


def test_expired(client: ssl.SSLContext, certificates: Certificates) -> None:
    ends = shake_hands(client, server_context(*certificates.expired))
    assert fault(ends[0]) == (TLSFault.CERTIFICATE_EXPIRED, False)
    assert fault(ends[1]) == (TLSFault.CERTIFICATE_EXPIRED, True)
    assert "expired" in str(tls_failure(ends[0].error or OSError()))


def test_without_any_check(certificates: Certificates) -> None:
    client = client_context(verify=False)
    for pair in (certificates.stranger, certificates.expired, certificates.elsewhere):
        assert all(end.is_open for end in shake_hands(client, server_context(*pair)))


def test_the_authorities_of_the_system_are_the_default(server: ssl.SSLContext) -> None:
    assert fault(shake_hands(client_context(), server)[0]) == (TLSFault.UNKNOWN_AUTHORITY, False)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_both_ends_show_certificates(version: ssl.TLSVersion, certificates: Certificates) -> None:
    server = server_context(*certificates.server, client_ca=certificates.ca)
    server.maximum_version = version

    def outcome(pair: Any) -> list[Any]:
        ends = shake_hands(client_context(Profile.BCP195, certificates.ca, *pair), server)
        return [fault(end) if end.error else None for end in ends]

    assert outcome(certificates.client) == [None, None]
    refused = [(TLSFault.UNKNOWN_AUTHORITY, True), (TLSFault.UNKNOWN_AUTHORITY, False)]
    assert outcome(certificates.stranger) == refused
    expired = [(TLSFault.CERTIFICATE_EXPIRED, True), (TLSFault.CERTIFICATE_EXPIRED, False)]
    assert outcome(certificates.expired) == expired
    told, found = outcome(())
    assert found == (TLSFault.CERTIFICATE_MISSING, False)
    if version is ssl.TLSVersion.TLSv1_3:
        assert told == (TLSFault.CERTIFICATE_MISSING, True)
    else:  # which has no alert for it
        assert told == (TLSFault.INCOMPATIBLE, True)


# --- Files ------------------------------------------------------------------------------------


@pytest.mark.parametrize("password", [PASSWORD, PASSWORD.encode(), lambda: PASSWORD])
def test_a_key_with_a_password(
    password: Any, client: ssl.SSLContext, certificates: Certificates
) -> None:
    server = server_context(*certificates.locked, password=password)
    assert shake_hands(client, server)[0].is_open


def test_a_password_is_asked_for_only_when_needed(certificates: Certificates) -> None:
    def ask() -> str:
        raise AssertionError

    server_context(*certificates.server, password=ask)


def test_certificate_and_key_in_one_file(certificates: Certificates, tmp_path: Path) -> None:
    both = tmp_path / "both.pem"
    both.write_bytes(b"".join(each.read_bytes() for each in certificates.server))
    server_context(both)
    client_context(certificate=str(both))


def test_authorities_in_a_folder(certificates: Certificates, tmp_path: Path) -> None:
    assert client_context(ca=tmp_path).verify_mode == ssl.CERT_REQUIRED


def test_files_that_will_not_do(certificates: Certificates, tmp_path: Path) -> None:
    ours, key = certificates.server
    empty, missing = tmp_path / "empty", tmp_path / "missing"
    empty.touch()

    def told(make: Any, *args: Any, **options: Any) -> str:
        with pytest.raises(TLSConfigurationError) as caught:
            make(*args, **options)
        assert isinstance(caught.value, ValueError)
        return str(caught.value)

    assert (
        told(server_context, missing)
        == f"cannot read the certificate: {missing}: No such file or directory"
    )
    assert told(server_context, ours, missing).startswith(f"cannot read the key: {missing}: ")
    assert told(client_context, ca=missing).startswith(f"cannot read the authorities: {missing}: ")
    assert "no PEM certificate of an authority" in told(client_context, ca=empty)
    assert "no PEM certificate" in told(server_context, empty)
    assert "or the password is wrong" in told(
        server_context, *certificates.locked, password="something else"
    )
    assert told(server_context, *certificates.locked) == (
        f"the key in {certificates.locked.key} is encrypted: it needs a password"
    )
    assert told(server_context, ours, certificates.client.key) == (
        f"the key in {certificates.client.key} does not belong to the certificate"
    )
    assert "a key needs its certificate" in told(client_context, key=key)


def test_a_key_that_is_too_short(tmp_path: Path) -> None:
    key = rsa.generate_private_key(65537, 1024)
    name = Name([NameAttribute(NameOID.COMMON_NAME, "short")])
    now = datetime.now(UTC)
    made = (
        CertificateBuilder(name, name, key.public_key(), 1, now, now + timedelta(days=1))
        .sign(key, SHA256())
        .public_bytes(Encoding.PEM)
    )
    both = tmp_path / "short.pem"
    both.write_bytes(made + key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    with pytest.raises(TLSConfigurationError, match="is too weak for the profile"):
        server_context(both)
    server_context(both, profile=Profile.RETIRED_AES)


# --- Sessions ---------------------------------------------------------------------------------


def reused(client: ssl.SSLContext, server: ssl.SSLContext, name: str = "localhost") -> bool:
    """Connect, say something, and return whether a session was resumed."""
    ends = shake_hands(client, server, name)
    ends[1].tls.write(b"hello")
    ends[0].incoming.write(ends[1].outgoing.read())
    assert ends[0].tls.read(9) == b"hello"
    return bool(ends[0].tls.session_reused)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_sessions_are_resumed_with_the_same_peer(
    version: ssl.TLSVersion, client: ssl.SSLContext, server: ssl.SSLContext
) -> None:
    server.maximum_version = version
    assert [reused(client, server) for _ in range(4)] == [False, True, True, True]
    assert [reused(client, server, "127.0.0.1") for _ in range(2)] == [False, True]


def test_a_session_of_another_server_does_no_harm(
    client: ssl.SSLContext, server: ssl.SSLContext, certificates: Certificates
) -> None:
    other = server_context(*certificates.server)
    assert not reused(client, server)
    assert not reused(client, other)
    assert not reused(client, server)
    assert reused(client, server)


def test_a_session_is_not_for_other_names(server: ssl.SSLContext, client: ssl.SSLContext) -> None:
    """The certificate is not looked at again when a session is resumed."""
    assert not reused(client, server)
    assert fault(shake_hands(client, server, "pacs.example")[0])[0] is TLSFault.OTHER_HOST


def test_the_number_of_sessions_is_bounded(
    client: Any, server: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tls, "_MOST_SESSIONS", 2)
    names = ["localhost", "127.0.0.1", "::1"]
    assert [reused(client, server, name) for name in names] == [False] * 3
    assert [client.take_session((name,)) is None for name in names] == [True, False, False]


# --- What failures are called -----------------------------------------------------------------


def test_what_is_no_tls(server: ssl.SSLContext, client: ssl.SSLContext) -> None:
    for sent in (b"\1\0\0\0\0\xcd\0\1" + bytes(200), b"GET / HTTP/1.1\r\n\r\n"):
        end = End(server, server_side=True)
        end.incoming.write(sent)
        end.go_on()
        assert fault(end) == (TLSFault.NOT_TLS, False)
    end = End(client, server_hostname="localhost")
    end.go_on()
    end.incoming.write(b"\7\0\0\0\0\4\0\0\2\0")  # an A-ABORT
    end.go_on()
    assert fault(end) == (TLSFault.NOT_TLS, False)


@pytest.mark.parametrize(
    ("error", "kind", "text"),
    [
        (ConnectionResetError(104, "reset"), TLSFault.CLOSED, "may not use TLS on this port"),
        (ssl.SSLEOFError(8, "EOF"), TLSFault.CLOSED, "may not use TLS on this port"),
        (OSError(113, "No route to host"), TLSFault.OTHER, "TLS failed: No route to host"),
        (OSError(), TLSFault.OTHER, "TLS failed: OSError"),
        (ssl.SSLError(1, "what?"), TLSFault.OTHER, "TLS failed: what?"),
    ],
)
def test_other_errors(error: OSError, kind: TLSFault, text: str) -> None:
    failure = tls_failure(error)
    assert failure.fault is kind
    assert text in str(failure)
    assert not failure.by_peer


def test_a_reason_that_is_not_known(client: ssl.SSLContext) -> None:
    error = ssl.SSLError(1, "?")
    error.reason = "TLSV1_ALERT_DECODE_ERROR"
    failure = tls_failure(error)
    assert (failure.fault, failure.by_peer) == (TLSFault.OTHER, True)
    assert failure.text == "TLS failed: tlsv1 alert decode error"
