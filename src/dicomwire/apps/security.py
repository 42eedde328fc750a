"""How an application gets TLS: its options, and the contexts made from them.

Which profiles there are, and what they mean, is in `dicomwire.tls`.
"""

from __future__ import annotations

import os
import ssl
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from functools import lru_cache
from typing import Literal

from dicomwire.apps.console import Misuse, Stop
from dicomwire.errors import TLSConfigurationError
from dicomwire.tls import Profile, client_context, server_context

Role = Literal["client", "server", "both"]

_CERTIFICATE = {
    "client": "my certificate, if the peer wants one",
    "server": "my certificate",
    "both": "my certificate",
}
_AUTHORITIES = {
    "client": "trust these authorities, not those of the system",
    "server": "let in only who has a certificate of these authorities",
    "both": "trust these authorities, not those of the system; who calls must have a certificate "
    "of theirs",
}
_NO_VERIFY = {
    "client": "do not check who the peer is: anybody may read and change what is sent",
    "server": "let in those without a certificate, whatever --tls-ca says",
    "both": "check nobody's certificate: anybody may read and change what is sent",
}


def secret_source(text: str) -> str:
    """Return where a secret is: the argument itself would be seen by all users of the machine."""
    kind, _, place = text.partition(":")
    if kind not in ("env", "file") or not place:
        raise ArgumentTypeError(f"{text!r} is neither env:VARIABLE nor file:PATH")
    return text


def read_secret(source: str) -> str:
    """Return the secret that `source` leads to: a variable, or the first line of a file."""
    kind, _, place = source.partition(":")
    if kind == "env":
        if place not in os.environ:
            raise Stop(f"The environment has no {place}")
        return os.environ[place]
    try:
        with open(place, encoding="utf-8") as file:
            return file.readline().rstrip("\r\n")
    except (OSError, UnicodeError) as error:
        raise Stop(f"Cannot read {place}: {getattr(error, 'strerror', error)}") from None


def add_tls_options(parser: ArgumentParser, role: Role) -> None:
    """Add the options for TLS: for what calls peers, what is called by them, or does both."""
    profiles = [profile.value for profile in Profile]
    group = parser.add_argument_group("TLS (PS3.15 Annex B)")
    group.add_argument("--tls", action="store_true", help="use TLS")
    group.add_argument("--tls-cert", metavar="FILE", help=f"{_CERTIFICATE[role]} (PEM)")
    group.add_argument("--tls-key", metavar="FILE", help="its key, if that is in another file")
    group.add_argument(
        "--tls-key-password",
        metavar="SOURCE",
        type=secret_source,
        help="where the key's password is: env:VARIABLE or file:PATH",
    )
    group.add_argument(
        "--tls-ca", metavar="FILE", help=f"{_AUTHORITIES[role]} (PEM, or a folder of it)"
    )
    group.add_argument(
        "--tls-profile",
        metavar="PROFILE",
        choices=profiles,
        default=Profile.BCP195.value,
        help=f"{', '.join(profiles)} (default: %(default)s)",
    )
    group.add_argument("--tls-no-verify", action="store_true", help=_NO_VERIFY[role])


def client_tls(options: Namespace) -> tuple[ssl.SSLContext, str | None] | None:
    """Return the ``tls_args`` for `AE.associate` that the options ask for: None without TLS."""
    if not _is_wanted(options):
        return None
    password = options.tls_key_password
    return _client_context(
        options.tls_profile,
        options.tls_ca,
        options.tls_cert,
        options.tls_key,
        None if password is None else read_secret(password),
        not options.tls_no_verify,
    ), None


@lru_cache(maxsize=4)  # so that the associations of one application resume their TLS sessions
def _client_context(
    profile: str,
    ca: str | None,
    certificate: str | None,
    key: str | None,
    password: str | None,
    verify: bool,
) -> ssl.SSLContext:
    try:
        return client_context(Profile(profile), ca, certificate, key, password, verify)
    except TLSConfigurationError as error:
        raise Stop(f"No TLS: {error}") from None


def server_tls(options: Namespace) -> ssl.SSLContext | None:
    """Return the ``ssl_context`` for `AE.start_server` that the options ask for: None without."""
    if not _is_wanted(options):
        return None
    if options.tls_cert is None:
        raise Misuse("A server needs a certificate for TLS: give --tls-cert; see --help")
    password = options.tls_key_password
    try:
        return server_context(
            options.tls_cert,
            options.tls_key,
            None if password is None else read_secret(password),
            None if options.tls_no_verify else options.tls_ca,
            Profile(options.tls_profile),
        )
    except TLSConfigurationError as error:
        raise Stop(f"No TLS: {error}") from None


def _is_wanted(options: Namespace) -> bool:
    given = {
        "--tls-cert": options.tls_cert,
        "--tls-key": options.tls_key,
        "--tls-key-password": options.tls_key_password,
        "--tls-ca": options.tls_ca,
        "--tls-no-verify": options.tls_no_verify,
    }
    if not options.tls:
        for option, value in given.items():
            if value:
                raise Misuse(f"{option} needs --tls; see --help")
    wanted: bool = options.tls
    return wanted
