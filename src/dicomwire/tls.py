"""TLS: contexts for the secure transport profiles of PS3.15 Annex B, and errors in plain words.

The faces perform the handshakes and move the data.
"""

from __future__ import annotations

import os
import socket
import ssl
import threading
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, TypeAlias

from dicomwire.errors import TLSConfigurationError, TLSFailure, TLSFault

PORT = 2762
"""The registered port of DICOM over TLS, "dicom-tls" (PS3.15 Annex B)."""

StrPath: TypeAlias = str | os.PathLike[str]
Password: TypeAlias = str | bytes | Callable[[], str | bytes]


# --- Profiles ---------------------------------------------------------------------------------


class Profile(Enum):
    """A secure transport connection profile of PS3.15 Annex B; the value is its name in options.

    The standard has retired some of them; use those only for peers that support nothing else.
    """

    BCP195 = "bcp195"
    """B.12, BCP 195 RFC 8996, 9325: TLS 1.2 and 1.3 with the cipher suites of RFC 9325."""
    MODIFIED_BCP195 = "modified-bcp195"
    """B.13, Modified BCP 195 RFC 8996, 9325: only forward secrecy with AEAD ciphers."""
    RETIRED_BASIC = "retired-basic"
    """B.1, Basic: Triple DES, which current builds of OpenSSL do not include."""
    RETIRED_AES = "retired-aes"
    """B.3, AES: TLS 1.0 and newer, RSA key exchange, AES in CBC mode."""
    RETIRED_BCP195 = "retired-bcp195"
    """B.9, BCP 195 as of RFC 7525: falls back to the versions and ciphers of the AES profile."""
    RETIRED_NON_DOWNGRADING_BCP195 = "retired-non-downgrading-bcp195"
    """B.10, Non-Downgrading BCP 195: TLS 1.2 and newer."""
    RETIRED_EXTENDED_BCP195 = "retired-extended-bcp195"
    """B.11, Extended BCP 195: TLS 1.2 with a closed list of cipher suites."""

    @property
    def section(self) -> str:
        """The section of PS3.15 that defines the profile, or defined it."""
        return _RULES[self].section

    @property
    def is_retired(self) -> bool:
        """Whether the standard has retired the profile."""
        return self.value.startswith("retired-")


@dataclass(frozen=True, slots=True)
class _Rules:
    """The TLS versions, ciphers and security level that a profile allows.

    `ciphers` lists cipher suites of TLS 1.2 and older, in order of preference; TLS 1.3 has
    separate ones, which every profile may use. Security level 2 of OpenSSL refuses RSA and DH keys
    below 2048 bits, elliptic curves below 224 bits, and signatures with SHA-1.
    """

    section: str
    ciphers: tuple[str, ...]
    minimum: ssl.TLSVersion = ssl.TLSVersion.TLSv1_2
    maximum: ssl.TLSVersion = ssl.TLSVersion.MAXIMUM_SUPPORTED
    security_level: int = 2


_ECDHE_GCM = (
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-RSA-AES256-GCM-SHA384",
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-RSA-AES128-GCM-SHA256",
)  # RFC 9325 Section 4.2
_DHE_GCM = ("DHE-RSA-AES256-GCM-SHA384", "DHE-RSA-AES128-GCM-SHA256")
_CHACHA = ("ECDHE-ECDSA-CHACHA20-POLY1305", "ECDHE-RSA-CHACHA20-POLY1305")
_CCM = (
    "ECDHE-ECDSA-AES256-CCM",
    "ECDHE-ECDSA-AES128-CCM",
    "DHE-RSA-AES256-CCM",
    "DHE-RSA-AES128-CCM",
)
_AES_AND_3DES = ("AES128-SHA", "DES-CBC3-SHA")
# Level 0, because TLS versions before 1.2 sign with SHA-1.
_OLD: dict[str, Any] = {"minimum": ssl.TLSVersion.TLSv1, "security_level": 0}

_RULES = {
    Profile.BCP195: _Rules("B.12", _ECDHE_GCM),
    Profile.MODIFIED_BCP195: _Rules("B.13", (*_ECDHE_GCM, *_CHACHA, *_DHE_GCM, *_CCM)),
    Profile.RETIRED_BASIC: _Rules("B.1", ("DES-CBC3-SHA",), **_OLD),
    Profile.RETIRED_AES: _Rules("B.3", _AES_AND_3DES, **_OLD),
    Profile.RETIRED_BCP195: _Rules("B.9", (*_ECDHE_GCM, *_DHE_GCM, *_AES_AND_3DES), **_OLD),
    Profile.RETIRED_NON_DOWNGRADING_BCP195: _Rules("B.10", (*_ECDHE_GCM, *_DHE_GCM, *_CHACHA)),
    Profile.RETIRED_EXTENDED_BCP195: _Rules(
        "B.11", (*_ECDHE_GCM, *_DHE_GCM), maximum=ssl.TLSVersion.TLSv1_2
    ),
}

_DH_PARAMETERS = Path(__file__).with_name("ffdhe2048.pem")
"""The group ffdhe2048 (RFC 7919). Parameters of a group are public: its size makes it strong."""


# --- Contexts ---------------------------------------------------------------------------------


def client_context(
    profile: Profile = Profile.BCP195,
    ca: StrPath | None = None,
    certificate: StrPath | None = None,
    key: StrPath | None = None,
    password: Password | None = None,
    verify: bool = True,
    check_hostname: bool = True,
) -> ssl.SSLContext:
    """Return a context for `AE.associate`, as the first of its ``tls_args``.

    The context keeps TLS sessions and resumes them with the same peer.

    Parameters
    ----------
    profile : Profile
        Which versions of TLS and which ciphers to use.
    ca : path, optional
        The certificate authorities to trust: a PEM file, or a folder of PEM files that OpenSSL
        has indexed. Default: those of the operating system.
    certificate, key : path, optional
        PEM files of our own certificate, followed by intermediate certificates, and of its key,
        which may be in the same file. Used for peers that request a certificate.
    password : str, bytes or callable, optional
        The password of an encrypted key; a callable is called only for such a key.
    verify : bool
        Whether to verify the peer's certificate. Without verification, any host can pose as the
        peer.
    check_hostname : bool
        Whether the certificate must name the host that we connect to.

    Raises
    ------
    TLSConfigurationError
        If a file cannot be used, or the local OpenSSL does not support the profile.
    """
    context = _ClientContext(ssl.PROTOCOL_TLS_CLIENT)
    _apply(context, profile)
    context.check_hostname = verify and check_hostname
    context.verify_mode = ssl.CERT_REQUIRED if verify else ssl.CERT_NONE
    if ca is not None:
        _trust(context, ca)
    elif verify:
        context.load_default_certs(ssl.Purpose.SERVER_AUTH)
    if certificate is not None:
        _load_own_certificate(context, certificate, key, password)
    elif key is not None:
        raise TLSConfigurationError("a key needs its certificate")
    return context


def server_context(
    certificate: StrPath,
    key: StrPath | None = None,
    password: Password | None = None,
    client_ca: StrPath | None = None,
    profile: Profile = Profile.BCP195,
) -> ssl.SSLContext:
    """Return a context for `AE.start_server`, as its ``ssl_context``.

    Parameters
    ----------
    certificate, key, password
        The server's certificate, as for `client_context`.
    client_ca : path, optional
        The certificate authorities to trust for clients, as a file or folder. If given, every
        client must present a certificate (mutual authentication).
    profile : Profile
        Which versions of TLS and which ciphers to use.

    Raises
    ------
    TLSConfigurationError
        If a file cannot be used, or the local OpenSSL does not support the profile.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _apply(context, profile)
    if any(name.startswith("DHE-") for name in _RULES[profile].ciphers):
        context.load_dh_params(str(_DH_PARAMETERS))
    _load_own_certificate(context, certificate, key, password)
    if client_ca is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        _trust(context, client_ca)
    return context


def _apply(context: ssl.SSLContext, profile: Profile) -> None:
    rules = _RULES[profile]
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    try:
        with warnings.catch_warnings():  # Python warns of TLS 1.0; the program chose the profile
            warnings.simplefilter("ignore", DeprecationWarning)
            context.minimum_version = rules.minimum
        context.maximum_version = rules.maximum
        context.set_ciphers(":".join((*rules.ciphers, f"@SECLEVEL={rules.security_level}")))
    except (ssl.SSLError, ValueError):
        raise TLSConfigurationError(
            f"{ssl.OPENSSL_VERSION} does not support the TLS profile {profile.value} "
            f"(PS3.15 {rules.section}): it has none of {', '.join(rules.ciphers)}"
        ) from None


def _trust(context: ssl.SSLContext, authorities: StrPath) -> None:
    is_folder = os.path.isdir(authorities)
    if not is_folder:
        _check_readable(authorities, "authorities")
    try:
        if is_folder:
            context.load_verify_locations(capath=authorities)
        else:
            context.load_verify_locations(cafile=authorities)
    except ssl.SSLError:
        raise TLSConfigurationError(
            f"{os.fspath(authorities)} holds no PEM certificate of an authority"
        ) from None


def _load_own_certificate(
    context: ssl.SSLContext,
    certificate: StrPath,
    key: StrPath | None,
    password: Password | None,
) -> None:
    _check_readable(certificate, "certificate")
    if key is not None:
        _check_readable(key, "key")
    place = os.fspath(certificate if key is None else key)

    def ask() -> str | bytes:  # without it, OpenSSL prompts on the terminal and a server hangs
        if password is None:
            raise TLSConfigurationError(f"the key in {place} is encrypted: it needs a password")
        return password() if callable(password) else password

    try:
        context.load_cert_chain(certificate, key, ask)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            reason = f"the key in {place} does not belong to the certificate"
        elif error.reason in _TOO_WEAK:
            reason = f"the certificate in {os.fspath(certificate)} is too weak for the profile"
        else:
            reason = (
                f"there is no PEM certificate in {os.fspath(certificate)}, no key in {place}, "
                "or the password is wrong"
            )
        raise TLSConfigurationError(reason) from None


_TOO_WEAK = ("EE_KEY_TOO_SMALL", "CA_KEY_TOO_SMALL", "CA_MD_TOO_WEAK")


def _check_readable(path: StrPath, what: str) -> None:
    """Raise an error that names the file; OpenSSL does not say which file it could not read."""
    try:
        with open(path, "rb"):
            pass
    except OSError as error:
        raise TLSConfigurationError(
            f"cannot read the {what}: {os.fspath(path)}: {error.strerror}"
        ) from None


# --- Sessions ---------------------------------------------------------------------------------

_MOST_SESSIONS = 256
"""The most sessions that a context keeps: many more than a program has peers, some MB at most."""

_Peer: TypeAlias = tuple[Any, ...]


class _ClientSocket(ssl.SSLSocket):
    peer: _Peer = ()

    def close(self) -> None:
        if self.version() is not None:  # the handshake was completed
            _keep_session(self)
        super().close()


class _ClientObject(ssl.SSLObject):
    peer: _Peer = ()

    def read(self, len: int = 1024, buffer: Any = None) -> Any:
        read = super().read(len, buffer)
        if self.peer:  # asyncio does not report the close; after a read there is a session
            _keep_session(self)
        return read


def _keep_session(connection: _ClientSocket | _ClientObject) -> None:
    """Keep the session of a connection for the next one to its peer, once."""
    if connection.peer:
        assert isinstance(connection.context, _ClientContext)
        connection.context.keep_session(connection.peer, connection.session)
        connection.peer = ()


class _ClientContext(ssl.SSLContext):
    """Keeps the TLS sessions of its connections; resumes them with the same peer (RFC 9325, 3.6).

    A session is kept when its connection is closed or has been read from, because TLS 1.3 sends
    sessions after the handshake. Each is used once (RFC 8446 Appendix C.4), so that a session
    which the peer refuses is not tried again.
    """

    sslsocket_class = _ClientSocket
    sslobject_class = _ClientObject

    def __init__(self, protocol: int) -> None:
        self._sessions: dict[_Peer, ssl.SSLSession] = {}
        # Guards `_sessions`: connections of all threads share the context. No other lock is taken
        # while it is held.
        self._lock = threading.Lock()

    def wrap_socket(self, sock: socket.socket, *args: Any, **options: Any) -> ssl.SSLSocket:
        """Return a TLS connection on `sock` that resumes the session kept for its peer."""
        peer = (options.get("server_hostname"), sock.getpeername())
        options.setdefault("session", self.take_session(peer))
        wrapped = super().wrap_socket(sock, *args, **options)
        assert isinstance(wrapped, _ClientSocket)
        wrapped.peer = peer
        return wrapped

    def wrap_bio(self, *args: Any, **options: Any) -> ssl.SSLObject:
        """Return a TLS connection of asyncio, which tells us only the peer's host name."""
        peer = (options.get("server_hostname"),)
        options.setdefault("session", self.take_session(peer))
        wrapped = super().wrap_bio(*args, **options)
        assert isinstance(wrapped, _ClientObject)
        wrapped.peer = peer
        return wrapped

    def take_session(self, peer: _Peer) -> ssl.SSLSession | None:
        """Remove and return the session kept for `peer`, if there is one."""
        with self._lock:
            return self._sessions.pop(peer, None)

    def keep_session(self, peer: _Peer, session: ssl.SSLSession | None) -> None:
        """Keep `session`, if it can be resumed, for the next connection to `peer`."""
        if session is None or not session.has_ticket:
            return
        with self._lock:
            self._sessions.pop(peer, None)
            self._sessions[peer] = session
            if len(self._sessions) > _MOST_SESSIONS:
                del self._sessions[next(iter(self._sessions))]


# --- Failures ---------------------------------------------------------------------------------

_EXPIRED = (9, 10)  # X509_V_ERR_CERT_NOT_YET_VALID, X509_V_ERR_CERT_HAS_EXPIRED
_UNKNOWN_AUTHORITY = (2, 18, 19, 20, 21)  # the issuer is missing or not trusted
_OTHER_NAME = (62, 64)  # host name, IP address

_NOT_TLS = (
    TLSFault.NOT_TLS,
    "the peer does not use TLS on this connection: use TLS on both sides, or on neither",
)
_INCOMPATIBLE = (
    TLSFault.INCOMPATIBLE,
    "the two sides have no TLS version or cipher suite in common: compare their profiles",
)
_REFUSED = (TLSFault.CERTIFICATE_REFUSED, "the peer refused our certificate")

_REASONS: dict[str, tuple[TLSFault, str]] = {
    # Faults that we found.
    "WRONG_VERSION_NUMBER": _NOT_TLS,
    "HTTP_REQUEST": _NOT_TLS,
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": (
        TLSFault.CERTIFICATE_MISSING,
        "the peer did not present a certificate",
    ),
    "NO_SHARED_CIPHER": _INCOMPATIBLE,
    "UNSUPPORTED_PROTOCOL": _INCOMPATIBLE,
    "VERSION_TOO_LOW": _INCOMPATIBLE,
    "DH_KEY_TOO_SMALL": _INCOMPATIBLE,
    # Faults that the peer reported in an alert.
    "TLSV13_ALERT_CERTIFICATE_REQUIRED": (
        TLSFault.CERTIFICATE_MISSING,
        "the peer requires a certificate of ours, and we presented none",
    ),
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": (
        TLSFault.CERTIFICATE_EXPIRED,
        "the peer refused our certificate: it has expired",
    ),
    "TLSV1_ALERT_UNKNOWN_CA": (
        TLSFault.UNKNOWN_AUTHORITY,
        "the peer refused our certificate: it does not trust the authority",
    ),
    "SSLV3_ALERT_BAD_CERTIFICATE": _REFUSED,
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN": _REFUSED,
    "SSLV3_ALERT_UNSUPPORTED_CERTIFICATE": _REFUSED,
    "SSLV3_ALERT_CERTIFICATE_REVOKED": _REFUSED,
    "TLSV1_ALERT_ACCESS_DENIED": _REFUSED,
    "TLSV1_ALERT_PROTOCOL_VERSION": _INCOMPATIBLE,
    "TLSV1_ALERT_INSUFFICIENT_SECURITY": _INCOMPATIBLE,
    "SSLV3_ALERT_HANDSHAKE_FAILURE": (
        TLSFault.INCOMPATIBLE,
        "the peer found no TLS version or cipher suite in common, or it requires a "
        "certificate of ours",
    ),
}


def tls_failure(error: Exception, peer: str = "") -> TLSFailure:
    """Return the failure that describes an error of TLS, in the handshake or later.

    Parameters
    ----------
    error : Exception
        The exception of the `ssl` module: an ssl.SSLError, or another OSError.
    peer : str
        The peer as "host:port".
    """
    fault, reason = _understand(error)
    by_peer = "_ALERT_" in _reason(error)
    return TLSFailure(f"TLS failed: {reason}", fault=fault, by_peer=by_peer, peer=peer)


def _reason(error: Exception) -> str:
    """Return OpenSSL's name of the error; empty if it has none."""
    return getattr(error, "reason", None) or ""


def _understand(error: Exception) -> tuple[TLSFault, str]:
    if isinstance(error, ssl.SSLCertVerificationError):
        return _verification_fault(error), (
            f"the peer's certificate was not accepted: {error.verify_message}"
        )
    if isinstance(error, (ssl.SSLEOFError, ssl.SSLZeroReturnError, ConnectionError)):
        return TLSFault.CLOSED, ("the peer closed the connection: it may not use TLS on this port")
    reason = _reason(error)
    if reason:
        return _REASONS.get(reason) or (TLSFault.OTHER, reason.lower().replace("_", " "))
    text = error.strerror if isinstance(error, OSError) else None
    return TLSFault.OTHER, text or str(error) or type(error).__name__


def _verification_fault(error: ssl.SSLCertVerificationError) -> TLSFault:
    code = error.verify_code
    if code in _EXPIRED:
        return TLSFault.CERTIFICATE_EXPIRED
    if code in _UNKNOWN_AUTHORITY:
        return TLSFault.UNKNOWN_AUTHORITY
    return TLSFault.OTHER_HOST if code in _OTHER_NAME else TLSFault.CERTIFICATE_REFUSED
