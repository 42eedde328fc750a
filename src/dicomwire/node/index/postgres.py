"""An index in PostgreSQL: for any number of processes, on any number of machines."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import math
import re
import struct
from collections.abc import Iterable, Iterator, Sequence
from importlib.util import find_spec
from operator import itemgetter
from typing import Any

from sqlalchemy import (
    BigInteger,
    Connection,
    Engine,
    String,
    any_,
    bindparam,
    cast,
    create_engine,
    event,
    func,
    select,
)
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import DBAPIError

from dicomwire.node.index.database import InDoubt, Numbers, Unusable, reason_of
from dicomwire.node.index.schema import instance, rejection
from dicomwire.node.index.statements import NEW_TASK, REJECTED, STORED

LOGGER = logging.getLogger("dicomwire.node")

OLDEST = 13
"""The oldest version with extensions that a user without special rights may install."""
MOST_READING = 8
"""The most connections for reading per process: each page of a query holds one for milliseconds.
One more is for writing. PostgreSQL allows 100 by default, for all processes."""
_WAIT = 30.0
"""Seconds that a query waits for one of these connections."""
_LOCK = 7_303_281
"""The number of the advisory lock of this index: shared by transactions that write, exclusive for
those that must be alone. The number has no meaning, but is in all nodes the same."""
_CONNECTING = {
    # Without these, a machine that is gone would be waited for as long as the system likes.
    "connect_timeout": 5,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,  # milliseconds
    "application_name": "dicomwire",
}
_LOCK_TIMEOUT = "30s"
_OF_SERVER = {
    # The same for the server, which would wait for two hours: what a machine has locked that is
    # gone, all others wait for.
    "tcp_keepalives_idle": "10",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": "20000",
    # From version 14 on: whether the client is there is also looked at during a statement, which
    # may be waiting for a lock.
    "client_connection_check_interval": "10s",
}
_LONGEST_PAUSE = "60s"
"""How long a transaction that writes may do nothing, until the server ends it: a process that was
stopped, or whose machine has no time for it, holds its locks. A transaction waits for a request to
the store of objects at the most, which takes 30 seconds."""


_DIALECT = PGDialect_psycopg(paramstyle="numeric_dollar")  # type: ignore[no-untyped-call]
_ANY_UID = any_(bindparam("uids", type_=ARRAY(String(collation="C"))))
_FOUND = STORED.where(instance.c.sop_instance_uid == _ANY_UID)
_REJECTED = REJECTED.where(rejection.c.sop_instance_uid == _ANY_UID)
_COLUMNS = [column for column in instance.c if column.name != "id"]
_NAMES = [column.name for column in _COLUMNS]
_in_order = itemgetter(*_NAMES)
"""Returns the values of a row in the order of `_COLUMNS`."""
_KNOWN, _ADD, _OWNED = b"known", b"add", b"owned"
_PREPARED = {
    # The UIDs are the only parameter.
    _KNOWN: f"{_FOUND.compile(dialect=_DIALECT)} UNION ALL {_REJECTED.compile(dialect=_DIALECT)}",
    _OWNED: "SELECT count(*) FROM task WHERE owner = $1 AND id = ANY($2::bigint[])",
    # Each parameter has the values of one column, for any number of instances.
    _ADD: f"INSERT INTO instance ({', '.join(_NAMES)}) SELECT "
    + ", ".join(f"new.{each.name}::{each.type.compile(_DIALECT)}" for each in _COLUMNS)
    + f" FROM unnest({', '.join(f'${place}::text[]' for place in range(1, len(_NAMES) + 1))})"
    + f" AS new ({', '.join(_NAMES)})",
}
"""The statements of each batch, by the names under which the writing connection prepares them."""
_SUCCEEDED = (1, 2)
"""PGRES_COMMAND_OK and PGRES_TUPLES_OK of libpq."""
_needs_escape = re.compile(r'["\\]').search
"""Whether a text in an array has characters to escape; few have."""
_is_not_accepted = re.compile(r"\\u0000|\\ud|NaN|Infinity").search
"""Finds what JSON in ASCII has where jsonb may not accept it; texts may have some of it, too."""
_NO_NUMBERS = Numbers(0, None)
_ADD_TASK = (
    f"INSERT INTO task ({', '.join(NEW_TASK)}) VALUES "
    "(%(kind)s, %(key)s, %(payload)s, %(due)s, %(created)s)"
)


class Postgres:
    """A database of PostgreSQL; see `database.Database`.

    Parameters
    ----------
    url : str
        Without a password, which libpq finds by itself.

    Raises
    ------
    Unusable
        When psycopg is not installed.
    """

    begin_reading = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
    _begin_writing = f"BEGIN; SELECT pg_advisory_xact_lock_shared({_LOCK}, 0)"
    begin_alone = f"BEGIN; SELECT pg_advisory_xact_lock({_LOCK}, 0)"

    def __init__(self, url: str) -> None:
        if find_spec("psycopg") is None:
            raise Unusable("PostgreSQL needs psycopg: pip install 'dicomwire[postgres]'")
        self._url = make_url(url).set(drivername="postgresql+psycopg")
        self._writing_on: Any = None
        self._prepared: set[bytes] = set()
        """Libpq's connection that writes, and the statements that it has prepared."""

    def engine(self, is_reader: bool) -> Engine:
        # The driver is in autocommit mode, so that `_begin_writing` takes no round trip of its own.
        engine = create_engine(
            self._url,
            connect_args={"autocommit": True, **_without(_CONNECTING, self._url)},
            pool_size=MOST_READING if is_reader else 1,
            max_overflow=0,
            pool_timeout=_WAIT,
            # A connection that was lost is replaced before it is used. That takes a round trip, and
            # the writer repeats its transaction instead.
            pool_pre_ping=is_reader,
            hide_parameters=True,  # keep patient data out of error texts
            json_serializer=_json_text,
        )

        @event.listens_for(engine, "connect")
        def prepare(connection: Any, _record: object) -> None:
            for name, value in _OF_SERVER.items():
                # Nothing happens if this version of the server does not know the setting.
                connection.execute(
                    "SELECT set_config(name, %s, false) FROM pg_settings WHERE name = %s",
                    (value, name),
                )
            connection.execute(f"SET lock_timeout = '{_LOCK_TIMEOUT}'")
            if not is_reader:
                connection.execute(f"SET idle_in_transaction_session_timeout = '{_LONGEST_PAUSE}'")
            else:
                # A plan for any pattern may be a hundred times slower than one for this pattern,
                # and to compile a statement takes longer than to run it for a page.
                connection.execute("SET plan_cache_mode = force_custom_plan")
                connection.execute("SET jit = off")
            # A committed transaction is on the disk, whatever the server's default.
            connection.execute(
                "SELECT set_config('synchronous_commit', 'on', false)"
                " WHERE current_setting('synchronous_commit') = 'off'"
            )

        return engine

    def prepare(self) -> None:
        """Do nothing: an administrator makes databases and users."""

    def check(self, connection: Connection) -> None:
        """Check version, encoding and safety of the server."""
        query = (
            "SELECT current_setting('server_version_num')::int,"
            " current_setting('server_encoding'), current_setting('fsync')"
        )
        version, encoding, fsync = connection.exec_driver_sql(query).one()
        if version < OLDEST * 10_000:
            text = f"PostgreSQL {version // 10_000} is too old: {OLDEST} or newer is needed"
            raise Unusable(text)
        if encoding != "UTF8":
            raise Unusable(f"the encoding of the database is {encoding}, not UTF8")
        if fsync == "off":
            LOGGER.warning("PostgreSQL runs with fsync = off: a power failure may lose the index")

    def identity(self) -> int:
        """Return a constant: clients of a server notice if it is gone."""
        return 0

    def clear_replaced(self) -> None:
        """Do nothing."""

    def lock(self, connection: Connection, names: Sequence[str]) -> None:
        """Take an advisory lock for each name, in one order for all processes."""
        keys = sorted({_hash(name) for name in names})
        key = func.unnest(cast(keys, ARRAY(BigInteger))).column_valued("key")
        connection.execute(select(func.pg_advisory_xact_lock(key)))

    # What each batch needs uses libpq, to which psycopg gives access: a statement takes 10 us of
    # processor time, but 50 or more with a cursor, and several times as much with SQLAlchemy.

    @contextlib.contextmanager
    def writing(
        self, connection: Connection, *, is_alone: bool, is_journaled: bool
    ) -> Iterator[None]:
        """Run the block in a transaction, which is always durable at its end."""
        from psycopg import Error

        driver = _driver(connection)
        is_committing = False
        try:
            begin = self.begin_alone if is_alone else self._begin_writing
            _checked(driver.pgconn.exec_(begin.encode()))
            yield
            is_committing = True
            _checked(driver.pgconn.exec_(b"COMMIT"))
        except BaseException as error:
            with contextlib.suppress(Error):  # the connection is lost
                # The driver's own `rollback` would also forget what `_execute` has prepared.
                driver.pgconn.exec_(b"ROLLBACK")
            if not isinstance(error, Error):
                raise
            if driver.closed:
                connection.invalidate(error)
                if is_committing:
                    text = f"the commit was interrupted: {reason_of(error)}"
                    raise InDoubt(text) from error
            raise DBAPIError.instance(
                None,
                None,
                error,
                Error,
                hide_parameters=True,
                connection_invalidated=driver.closed,
            ) from error
        finally:
            if connection.in_transaction():  # by the account of SQLAlchemy
                connection.rollback()

    def find(
        self, connection: Connection, uids: Sequence[str], with_rejected: bool = False
    ) -> Iterator[Sequence[Any]]:
        """Yield the values of all copies of instances."""
        if not with_rejected:
            yield from connection.execute(_FOUND, {"uids": list(uids)})
            return
        found = self._execute(connection, _KNOWN, [_array(uids)])
        for row in range(found.ntuples):
            number, uid, copy, *texts = (found.get_value(row, at).decode() for at in range(6))
            yield int(number), uid, int(copy), *texts

    def add(self, connection: Connection, rows: list[dict[str, Any]]) -> None:
        """Add instances."""
        for row in rows:
            row["attributes"] = _jsonb(row["attributes"])
        columns = zip(*map(_in_order, rows), strict=True)
        self._execute(connection, _ADD, [_array(map(str, each)) for each in columns])

    def _execute(self, connection: Connection, name: bytes, values: list[bytes]) -> Any:
        """Execute one of `_PREPARED` on the connection that writes; return the result of libpq."""
        pgconn = _driver(connection).pgconn
        if pgconn is not self._writing_on:
            self._writing_on, self._prepared = pgconn, set()
        if name not in self._prepared:
            _checked(pgconn.prepare(name, _PREPARED[name].encode()))
            self._prepared.add(name)
        return _checked(pgconn.exec_prepared(name, values))

    def add_tasks(self, connection: Connection, rows: list[dict[str, Any]]) -> None:
        """Add tasks."""
        for row in rows:
            if not isinstance(row["payload"], str):
                row["payload"] = _json_text(row["payload"])
        with _driver(connection).cursor() as cursor:
            cursor.executemany(_ADD_TASK, rows)

    def owned(self, connection: Connection, owner: str, tasks: Iterable[int]) -> int:
        """Return how many of these tasks an owner has."""
        found = self._execute(connection, _OWNED, [owner.encode(), _array(map(str, tasks))])
        return int(found.get_value(0, 0))

    def numbers(self, connection: Connection) -> Numbers:
        """Return constants: an id is never used again."""
        return _NO_NUMBERS

    def note_change(self, connection: Connection) -> None:
        """Do nothing."""

    def sync(self, engine: Engine) -> None:
        """Do nothing: each transaction is durable when it is committed."""


def _driver(connection: Connection) -> Any:
    """Return the connection of psycopg."""
    return connection.connection.driver_connection


def _checked(result: Any) -> Any:
    """Return a result of libpq; raise the error that it has."""
    if result.status in _SUCCEEDED:
        return result
    from psycopg import OperationalError
    from psycopg.errors import error_from_result

    error = error_from_result(result)
    # The server gives a state to each error; without one, the connection was lost.
    raise error if error.diag.sqlstate else OperationalError(str(error))


def _array(texts: Iterable[str]) -> bytes:
    """Return an array of texts as PostgreSQL reads it."""
    texts = list(texts)
    if not texts:
        return b"{}"
    if any(map(_needs_escape, texts)):
        texts = [text.replace("\\", "\\\\").replace('"', '\\"') for text in texts]
    return ('{"' + '","'.join(texts) + '"}').encode()


def _without(settings: dict[str, Any], url: URL) -> dict[str, Any]:
    """Return the settings that the URL does not have itself."""
    return {name: value for name, value in settings.items() if name not in url.query}


def _hash(name: str) -> int:
    (number,) = struct.unpack("q", hashlib.blake2b(name.encode(), digest_size=8).digest())
    return int(number)


def _json_text(value: Any) -> str:
    """Return a value as JSON that the type jsonb accepts."""
    return _jsonb(json.dumps(value))


def _jsonb(text: str) -> str:
    """Return JSON that the type jsonb accepts: no null characters, half surrogates, or NaN."""
    if _is_not_accepted(text):
        return json.dumps(_accepted(json.loads(text)))
    return text


def _accepted(value: Any) -> Any:
    if isinstance(value, dict):
        return {_accepted(name): _accepted(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_accepted(each) for each in value]
    if isinstance(value, str):
        return (
            value.replace("\0", "\ufffd")
            .encode("utf-16", "surrogatepass")
            .decode("utf-16", "replace")
        )
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
