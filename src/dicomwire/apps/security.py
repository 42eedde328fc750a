"""The options for TLS, and the SSL contexts made from them.

The profiles are described in `dicomwire.tls`.
"""

from __future__ import annotations

import argparse
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
    "client": "my certificate, if the peer requires one",
    "server": "my certificate",
    "both": "my certificate",
}
_AUTHORITIES = {
    "client": "trust these certificate authorities instead of the authorities of the system",
    "server": "accept only peers with a certificate of these authorities",
    "both": "trust these certificate authorities instead of those of the system; peers that call "
    "need a certificate of theirs",
}
_NO_VERIFY = {
    "client": "do not check the certificate of the peer: anyone on the network path can read and "
    "change the data",
    "server": "accept peers without a certificate, even with --tls-ca",
    "both": "do not check certificates: anyone on the network path can read and change the data",
}


def secret_source(text: str) -> str:
    """Return the source of a secret, which is no argument: other users can see arguments."""
    kind, _, place = text.partition(":")
    if kind not in ("env", "file") or not place:
        raise ArgumentTypeError(f"{text!r} is neither env:VARIABLE nor file:PATH")
    return text


def read_secret(source: str) -> str:
    """Return the secret: the value of a variable, or the first line of a file; Stop if empty."""
    kind, _, place = source.partition(":")
    if kind == "env":
        if place not in os.environ:
            raise Stop(f"The environment has no variable {place}")
        secret = os.environ[place]
    else:
        secret = _first_line(place)
    if not secret:
        raise Stop(f"The secret of {source} is empty")
    return secret


def _first_line(place: str) -> str:
    try:
        with open(place, encoding="utf-8") as file:
            return file.readline().rstrip("\r\n")
    except (OSError, UnicodeError) as error:
        raise Stop(f"Cannot read {place}: {getattr(error, 'strerror', error)}") from None


def add_tls_options(parser: ArgumentParser, role: Role) -> None:
    """Add the options for TLS of an application that is a client, a server, or both."""
    group = parser.add_argument_group("TLS (PS3.15 Annex B)")
    group.add_argument("--tls", action="store_true", help="use TLS")
    add_tls_details(group, role)


def add_tls_details(group: argparse._ArgumentGroup, role: Role) -> None:
    """Add the options for TLS, except the one that turns it on."""
    profiles = [profile.value for profile in Profile]
    group.add_argument("--tls-cert", metavar="FILE", help=f"{_CERTIFICATE[role]} (PEM)")
    group.add_argument(
        "--tls-key", metavar="FILE", help="the key of the certificate, if it is in another file"
    )
    group.add_argument(
        "--tls-key-password",
        metavar="SOURCE",
        type=secret_source,
        help="where the key's password is: env:VARIABLE or file:PATH",
    )
    group.add_argument(
        "--tls-ca", metavar="FILE", help=f"{_AUTHORITIES[role]} (a PEM file, or a folder of them)"
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
    """Return ``tls_args`` for `AE.associate`, or None without TLS."""
    return (client_context_of(options), None) if _is_wanted(options) else None


def client_context_of(options: Namespace) -> ssl.SSLContext:
    """Return the context of a client; see `add_tls_details`."""
    password = options.tls_key_password
    return _client_context(
        options.tls_profile,
        options.tls_ca,
        options.tls_cert,
        options.tls_key,
        None if password is None else read_secret(password),
        not options.tls_no_verify,
    )


@lru_cache(maxsize=4)  # one context for all associations, which thereby resume TLS sessions
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
    """Return ``ssl_context`` for `AE.start_server`, or None without TLS."""
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
    if not options.tls:
        refuse_tls_details(options, "--tls")
    wanted: bool = options.tls
    return wanted


def refuse_tls_details(options: Namespace, needed: str) -> None:
    """Raise `Misuse` if an option of `add_tls_details` is given where there is no TLS."""
    given = {
        "--tls-cert": options.tls_cert,
        "--tls-key": options.tls_key,
        "--tls-key-password": options.tls_key_password,
        "--tls-ca": options.tls_ca,
        "--tls-no-verify": options.tls_no_verify,
    }
    for option, value in given.items():
        if value:
            raise Misuse(f"{option} needs {needed}; see --help")
