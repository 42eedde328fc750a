"""Sessions of users who have logged in, and the delays of those who try passwords.

Both are in memory, and bounded: a restart of the node ends all sessions.
"""

from __future__ import annotations

import hashlib
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from ipaddress import IPv6Address, ip_address, ip_network
from typing import NamedTuple

from dicomwire.node.users import User, Users

COOKIE = "dicomwire-session"
LONGEST = 12 * 3600.0
"""Seconds after which a user has to log in again: a working day."""
_MOST_SESSIONS = 10_000
_MOST_COUNTED = 10_000
"""The most names and addresses whose failures are counted: a few MB."""
_FORGOTTEN_AFTER = 3600.0
"""Seconds after which earlier failures count no more."""


class _Session(NamedTuple):
    name: str
    password: str
    """The digest of the password then: when it is changed, the session ends."""
    expires: float


class Sessions:
    """Who has logged in. Only the event loop uses it."""

    def __init__(self, users: Users, clock: Callable[[], float] = time.monotonic) -> None:
        self._users = users
        self._clock = clock
        self._sessions: OrderedDict[str, _Session] = OrderedDict()
        self.throttle = Throttle(clock)

    def begin(self, user: User) -> str:
        """Return the secret of a new session, for the cookie."""
        secret = secrets.token_urlsafe(32)
        while len(self._sessions) >= _MOST_SESSIONS:
            self._sessions.popitem(last=False)
        password = self._users.accounts[user.name].password
        session = _Session(user.name, password, self._clock() + LONGEST)
        self._sessions[_key(secret)] = session
        return secret

    def user(self, secret: str) -> User | None:
        """Return the user of a session; None if there is none, or it has ended."""
        session = self._sessions.get(_key(secret))
        if session is None:
            return None
        account = self._users.accounts.get(session.name)
        is_valid = account is not None and account.password == session.password
        if not is_valid or self._clock() >= session.expires:
            self.end(secret)
            return None
        return self._users.user(session.name)

    def end(self, secret: str) -> None:
        """End a session, if there is one."""
        self._sessions.pop(_key(secret), None)


def _key(secret: str) -> str:
    """Return the digest of a secret: a look-up by it tells nothing of the secret by its time."""
    return hashlib.sha256(secret.encode(errors="surrogatepass")).hexdigest()


class _Failures(NamedTuple):
    number: int
    last: float
    until: float
    """When the next attempt is allowed."""


class Throttle:
    """Delays attempts to log in after failures: by address, and less by name.

    An address may be that of many users, and many addresses may try the name of one user, whom
    they must not keep out: so neither is ever refused for long.
    """

    _FREE, _LONGEST = 5, 60.0
    """Failures of an address without a delay, and its longest delay in seconds."""
    _FREE_OF_NAME, _LONGEST_OF_NAME = 10, 5.0
    """The same for a name: with 5 seconds, a year has 6 million attempts, which try no password
    that is not on a list."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._failures: OrderedDict[tuple[str, str], _Failures] = OrderedDict()

    def delay(self, name: str, address: str) -> float:
        """Return the seconds until the next attempt is allowed; 0 if that is now.

        An attempt counts as a failure until `succeeded` is called, so that many at once do not
        get past the limit.
        """
        now = self._clock()
        keys = _keys_of(name, address)
        wait = max((self._failures[key].until - now for key in self._known(keys)), default=0.0)
        if wait > 0:
            return wait
        limits = (self._FREE_OF_NAME, self._LONGEST_OF_NAME), (self._FREE, self._LONGEST)
        for key, (free, longest) in zip(keys, limits, strict=True):
            number, last, _ = self._failures.pop(key, _Failures(0, now, now))
            number = 1 if now - last > _FORGOTTEN_AFTER else number + 1
            pause = min(2.0 ** min(number - free, 16), longest) if number > free else 0.0
            self._failures[key] = _Failures(number, now, now + pause)
        while len(self._failures) > _MOST_COUNTED:
            self._failures.popitem(last=False)
        return 0.0

    def succeeded(self, name: str, address: str) -> None:
        """Forget the failures of a name and an address."""
        for key in self._known(_keys_of(name, address)):
            del self._failures[key]

    def _known(self, keys: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
        return [key for key in keys if key in self._failures]


def _keys_of(name: str, address: str) -> tuple[tuple[str, str], tuple[str, str]]:
    """Return the keys of a name and an address; one host may have all of an IPv6 network."""
    try:
        found = ip_address(address.partition("%")[0])
    except ValueError:
        return ("name", name[:100]), ("address", "")
    network = str(ip_network((found, 64), strict=False)) if isinstance(found, IPv6Address) else ""
    return ("name", name[:100]), ("address", network or address)
