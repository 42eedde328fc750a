"""The user identity that a requestor sends (PS3.7 Annex D.3.3.7), and the file of known users.

Passcodes and tokens are sent as they are: only TLS encrypts them.
"""

from __future__ import annotations

import logging
import os
from argparse import ArgumentParser, Namespace
from typing import NamedTuple

from dicomwire import events as evt
from dicomwire.apps.console import Misuse, Stop
from dicomwire.apps.security import read_secret, secret_source
from dicomwire.logs import escaped
from dicomwire.pdu_primitives import UserIdentityNegotiation

_NAME, _NAME_AND_PASSCODE, _KERBEROS, _SAML, _JWT = range(1, 6)  # PS3.7 Table D.3-14
_TOKENS = {"kerberos": _KERBEROS, "saml": _SAML, "jwt": _JWT}


# --- Requestor -------------------------------------------------------------------------------


def add_user_options(parser: ArgumentParser) -> None:
    """Add the options for the user identity of a requestor; see `user_identity`."""
    group = parser.add_argument_group("user identity, which only TLS encrypts")
    who = group.add_mutually_exclusive_group()
    who.add_argument("--user", metavar="NAME", help="name of the user")
    who.add_argument("--jwt", metavar="FILE", help="JSON web token of the user")
    who.add_argument("--saml", metavar="FILE", help="SAML assertion of the user")
    who.add_argument("--kerberos", metavar="FILE", help="Kerberos service ticket of the user")
    secret = group.add_mutually_exclusive_group()
    secret.add_argument(
        "--password",
        metavar="TEXT",
        help="passcode of the user, which other users of this machine can see",
    )
    secret.add_argument(
        "--password-from",
        metavar="SOURCE",
        type=secret_source,
        help="where the passcode is: env:VARIABLE or file:PATH",
    )


def user_identity(options: Namespace) -> list[UserIdentityNegotiation]:
    """Return the user identity to negotiate: one, or none if no option asks for it."""
    password = options.password
    if options.password_from is not None:
        password = read_secret(options.password_from)
    if options.user is not None:
        name = options.user.encode()
        if password is None:
            return [UserIdentityNegotiation(_NAME, False, name)]
        return [UserIdentityNegotiation(_NAME_AND_PASSCODE, False, name, password.encode())]
    if password is not None:
        raise Misuse("A passcode needs --user; see --help")
    for option, kind in _TOKENS.items():
        path = getattr(options, option)
        if path is not None:
            token = _token(path)
            return [UserIdentityNegotiation(kind, False, token.strip() if kind == _JWT else token)]
    return []


def _token(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            token = file.read()
    except OSError as error:
        raise Stop(f"Cannot read {path}: {error.strerror}") from None
    if not token.strip():
        raise Stop(f"{path} is empty")
    return token


# --- Acceptor ------------------------------------------------------------------------------

_COST = 14  # n = 2**14: each check takes 16 MiB and about 50 ms
_SALT = 16


class _Entry(NamedTuple):
    """The scrypt digest of a passcode, with its parameters (RFC 7914)."""

    cost: int
    salt: bytes
    digest: bytes

    def fits(self, passcode: bytes) -> bool:
        """Return whether `passcode` has this digest; the time it takes does not depend on that."""
        import hmac

        return hmac.compare_digest(self.digest, _digest(passcode, self.salt, self.cost))


_NOBODY = _Entry(_COST, bytes(_SALT), bytes(32))


def _digest(passcode: bytes, salt: bytes, cost: int) -> bytes:
    import hashlib

    return hashlib.scrypt(passcode, salt=salt, n=1 << cost, r=8, p=1, dklen=32)


def user_line(name: str, passcode: str) -> str:
    """Return the line for a user in a file of users; the passcode cannot be computed from it."""
    from base64 import b64encode

    salt = os.urandom(_SALT)
    digest = _digest(passcode.encode(), salt, _COST)
    fields = (b64encode(each).decode() for each in (salt, digest))
    return ":".join((name, "scrypt", str(_COST), *fields))


class Users:
    """The users in a file, and handlers that refuse everybody else.

    Attributes
    ----------
    handlers : list
        For a server.
    """

    def __init__(self, path: str, logger: logging.Logger) -> None:
        self._logger = logger
        self._entries = _read(path)
        self.handlers: list[evt.EventHandlerType] = [
            (evt.EVT_REQUESTED, self._requested),
            (evt.EVT_USER_ID, self._identify),
        ]

    def _requested(self, event: evt.Event) -> None:
        if event.assoc.requestor.user_identity is None:
            self._logger.warning("A request without user identity is refused")
            event.assoc.abort()

    def _identify(self, event: evt.Event) -> tuple[bool, bytes | None]:
        name = (event.primary_field or b"").decode(errors="replace")
        if event.user_id_type != _NAME_AND_PASSCODE:
            self._logger.warning("User identity of type %d is not accepted", event.user_id_type)
            return False, None
        entry = self._entries.get(name)
        # Checked for unknown names, too, so that the time does not tell which names exist.
        fits = (entry or _NOBODY).fits(event.secondary_field or b"")
        if entry is None or not fits:
            self._logger.warning("User '%s' is unknown, or the passcode is wrong", escaped(name))
            return False, None
        self._logger.info("User '%s'", escaped(name))
        return True, None


def _read(path: str) -> dict[str, _Entry]:
    try:
        with open(path, encoding="utf-8") as file:
            lines = file.read().splitlines()
    except (OSError, UnicodeError) as error:
        raise Stop(f"Cannot read {path}: {getattr(error, 'strerror', error)}") from None
    from base64 import b64decode

    entries: dict[str, _Entry] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith("#"):
            continue
        try:
            name, method, cost, *rest = line.strip().rsplit(":", 4)
            salt, digest = (b64decode(each, validate=True) for each in rest)
            if method != "scrypt" or not name or not 10 <= int(cost) <= _COST:
                raise ValueError
        except ValueError:  # binascii.Error is one
            raise Stop(
                f"{path}, line {number}: this is not a line that dicomwire users prints"
            ) from None
        entries[name] = _Entry(int(cost), salt, digest)
    return entries


def add_users_option(parser: ArgumentParser) -> None:
    """Add the option for a file of users; see `users_handlers`."""
    parser.add_argument_group("user identity").add_argument(
        "--users",
        metavar="FILE",
        help="serve only the users in this file, whose lines dicomwire users prints",
    )


def users_handlers(options: Namespace, logger: logging.Logger) -> list[evt.EventHandlerType]:
    """Return the handlers that check users; none without ``--users``."""
    return [] if options.users is None else Users(options.users, logger).handlers
