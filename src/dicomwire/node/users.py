"""The users of an archive over HTTP: their rights, and the file that holds them.

Passwords are kept as scrypt digests, tokens as SHA-256, since they are random. `web` asks for
them in requests.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
import os
import secrets
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Annotated

from pydantic import (
    ConfigDict,
    StringConstraints,
    TypeAdapter,
    ValidationError,
    with_config,
)

from dicomwire.node.configuration import Configuration
from dicomwire.node.files import FileLock, sync_file, sync_folder
from dicomwire.node.visible import StudyFilter

USERS = "users.json"
"""The name of the file in the folder of the archive."""
SHORTEST_PASSWORD = 8
"""In characters (NIST SP 800-63B 5.1.1.2)."""
_LONGEST_PASSWORD = 1024
"""In characters: hashing more would only cost time."""
_LONGEST_NAME = 64
_COST = 2**15
"""The cost N of scrypt, with r = 8 and p = 1: 32 MB and a tenth of a second for each password."""
_BLOCK = 8
_TOKEN = "dw_"
"""The beginning of each token, by which a scanner for secrets recognizes it."""


class UserRight(StrEnum):
    """What a user may do over HTTP."""

    SEE = "see"
    STORE = "store"
    SEND = "send"
    DELETE = "delete"
    ADMINISTER = "administer"
    WATCH = "watch"
    """See the numbers of the archive (metrics), which tell of no patient."""


@dataclass(frozen=True)
class User:
    """Who makes a request.

    Attributes
    ----------
    name : str
        Empty for anyone on this machine.
    rights : frozenset of UserRight
    studies : StudyFilter or None
        The studies that exist for this user; None for all.
    """

    name: str
    rights: frozenset[UserRight]
    studies: StudyFilter | None = None


NOBODY = User("", frozenset())
"""Who has told nothing, or is not asked."""
ANYONE_HERE = User("", frozenset(UserRight))
"""Anyone on this machine, while the archive has no users."""


class UsersFailure(Exception):
    """The file of users cannot be used or changed; the text says why."""


@with_config(ConfigDict(extra="forbid"))
@dataclass(frozen=True)
class Token:
    """A token of a user: its digest, and when it expires, in seconds since 1970."""

    digest: str
    expires: float


@with_config(ConfigDict(extra="forbid"))
@dataclass(frozen=True)
class Account:
    """A user as the file has it.

    Attributes
    ----------
    password : str
        Its digest: the cost, the salt and the result of scrypt. Empty: a user with tokens only.
    """

    rights: tuple[UserRight, ...]
    studies: tuple[str, ...] = ()
    password: Annotated[
        str, StringConstraints(pattern=r"^(scrypt\$\d{1,7}\$[0-9a-f]{32}\$[0-9a-f]{128})?$")
    ] = ""
    tokens: tuple[Token, ...] = ()

    def user(self, name: str) -> User:
        """Return the user; ValueError if its filter is invalid."""
        studies = StudyFilter(self.studies) if self.studies else None
        if studies is not None and UserRight.ADMINISTER in self.rights:
            # Tasks, destinations and the log are of all studies.
            raise ValueError("a user with the right to administer sees all studies")
        return User(name, frozenset(self.rights), studies)


_CHECKED = TypeAdapter(dict[str, Account])


class _Read:
    """The accounts of one version of the file."""

    def __init__(self, accounts: Mapping[str, Account]) -> None:
        self.accounts = accounts
        self.users = {name: account.user(name) for name, account in accounts.items()}
        self.tokens = {
            token.digest: (name, token.expires)
            for name, account in accounts.items()
            for token in account.tokens
        }


class Users:
    """The users in a file, which is read again when it has changed.

    Parameters
    ----------
    path : Path
        The file; while there is none, there are no users.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()  # guards _version and _read, which belong together
        self._version: tuple[int, ...] = ()
        self._read = _Read({})

    def __bool__(self) -> bool:
        return bool(self._current().accounts)

    @property
    def accounts(self) -> Mapping[str, Account]:
        """All users by name."""
        return self._current().accounts

    def user(self, name: str) -> User | None:
        """Return a user; None if there is none of this name."""
        return self._current().users.get(name)

    def of_token(self, token: str) -> User | None:
        """Return the user of a token; None if it is unknown or has expired."""
        current = self._current()
        # Looked up by its digest, so that the time tells nothing of the tokens.
        name, expires = current.tokens.get(_digest(token), ("", 0.0))
        return current.users[name] if time.time() < expires else None

    def of_password(self, name: str, password: str) -> User | None:
        """Return a user if the password is right. It takes a tenth of a second, always."""
        account = self.accounts.get(name)
        digest = account.password if account else ""
        is_right = _is_password(password, digest or _no_password())
        return self.user(name) if is_right and digest else None

    def _current(self) -> _Read:
        with self._lock:
            version = self._version_now()
            if version != self._version:
                self._read = _read(self.path) if version else _Read({})
                self._version = version
            return self._read

    def _version_now(self) -> tuple[int, ...]:
        try:
            found = os.stat(self.path)
        except FileNotFoundError:
            return ()
        except OSError as error:
            raise UsersFailure(f"{self.path} cannot be read: {error.strerror}") from None
        return found.st_ino, found.st_mtime_ns, found.st_size

    # --- Changes ---

    def add(
        self,
        name: str,
        rights: tuple[UserRight, ...],
        studies: tuple[str, ...] = (),
        password: str = "",
    ) -> None:
        """Add a user, or change rights and filter of one; without password, that stays.

        Raises
        ------
        UsersFailure
            When name, filter or password cannot be used, or the file cannot be written.
        """
        if not name or len(name) > _LONGEST_NAME or not name.isprintable() or name != name.strip():
            raise UsersFailure(f"a name has 1 to {_LONGEST_NAME} printable characters")
        try:
            Account(rights, studies).user(name)
        except ValueError as error:
            raise UsersFailure(str(error)) from None
        digest = digest_of(password) if password else ""
        with self._changing() as accounts:
            known = accounts.get(name, Account(()))
            accounts[name] = replace(
                known, rights=rights, studies=studies, password=digest or known.password
            )

    def set_password(self, name: str, password: str) -> None:
        """Set the password of a user, which ends the sessions of the user."""
        digest = digest_of(password)
        with self._changing() as accounts:
            accounts[name] = replace(_known(accounts, name), password=digest)

    def remove(self, name: str) -> None:
        """Remove a user with all tokens, which ends the sessions of the user."""
        with self._changing() as accounts:
            _known(accounts, name)
            del accounts[name]

    def add_token(self, name: str, seconds: float) -> str:
        """Return a new token for a user, which nobody can get again; expired ones are removed."""
        token = _TOKEN + secrets.token_urlsafe(32)
        now = time.time()
        with self._changing() as accounts:
            known = _known(accounts, name)
            valid = [each for each in known.tokens if each.expires > now]
            tokens = (*valid, Token(_digest(token), now + seconds))
            accounts[name] = replace(known, tokens=tokens)
        return token

    def revoke(self, name: str) -> int:
        """Remove all tokens of a user; return how many."""
        with self._changing() as accounts:
            known = _known(accounts, name)
            accounts[name] = replace(known, tokens=())
        return len(known.tokens)

    @contextlib.contextmanager
    def _changing(self) -> Iterator[dict[str, Account]]:
        """Yield the accounts, and write them after the block; one process at a time does this."""
        try:
            self.path.parent.mkdir(0o700, parents=True, exist_ok=True)
            with FileLock(f"{self.path}.lock", wait=True):
                accounts = dict(_read(self.path).accounts) if self.path.exists() else {}
                yield accounts
                self._write(accounts)
        except OSError as error:
            raise UsersFailure(f"{self.path} cannot be changed: {error.strerror}") from None

    def _write(self, accounts: dict[str, Account]) -> None:
        folder = str(self.path.parent.absolute())
        # mkstemp makes the file with mode 0600.
        descriptor, temporary = tempfile.mkstemp(prefix=f".{self.path.name}.", dir=folder)
        try:
            with open(descriptor, "w", encoding="utf-8") as file:
                values = {name: asdict(account) for name, account in accounts.items()}
                json.dump(values, file, indent=1)
            sync_file(temporary)
            os.replace(temporary, self.path)
            sync_folder(folder)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise


def file_of(configuration: Configuration) -> Path:
    """Return the path of the file with the users of an archive."""
    return Path(configuration.users) if configuration.users else configuration.folder / USERS


def _known(accounts: Mapping[str, Account], name: str) -> Account:
    account = accounts.get(name)
    if account is None:
        raise UsersFailure(f"there is no user {name!r}")
    return account


def _read(path: Path) -> _Read:
    try:
        return _Read(_CHECKED.validate_json(path.read_bytes()))
    except OSError as error:
        raise UsersFailure(f"{path} cannot be read: {error.strerror}") from None
    except ValidationError as error:
        where = ".".join(map(str, error.errors()[0]["loc"][1:])) or "it"
        raise UsersFailure(f"{path} is not a file of users: {where} is invalid") from None
    except ValueError as error:
        raise UsersFailure(f"{path}: {error}") from None


# --- Passwords and tokens ---------------------------------------------------------------------


def digest_of(password: str) -> str:
    """Return the digest of a password, with cost and salt; UsersFailure if it is too short."""
    if not SHORTEST_PASSWORD <= len(password) <= _LONGEST_PASSWORD:
        least, most = SHORTEST_PASSWORD, _LONGEST_PASSWORD
        raise UsersFailure(f"a password has {least} to {most} characters")
    salt = secrets.token_bytes(16)
    return f"scrypt${_COST}${salt.hex()}${_scrypt(password, _COST, salt).hex()}"


def _scrypt(password: str, cost: int, salt: bytes) -> bytes:
    data = password.encode(errors="surrogatepass")
    # OpenSSL needs a little more than the 128 * N * r bytes of the algorithm.
    memory = 2 * 128 * cost * _BLOCK + 2**20
    return hashlib.scrypt(data, salt=salt, n=cost, r=_BLOCK, p=1, maxmem=memory)


def _is_password(password: str, digest: str) -> bool:
    _, cost, salt, expected = digest.split("$")
    if len(password) > _LONGEST_PASSWORD:
        return False
    found = _scrypt(password, int(cost), bytes.fromhex(salt))
    return hmac.compare_digest(found.hex(), expected)


def _no_password() -> str:
    """Return a digest that no password has: an unknown name takes as long as a known one."""
    return f"scrypt${_COST}${bytes(16).hex()}${bytes(64).hex()}"


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode(errors="surrogatepass")).hexdigest()
