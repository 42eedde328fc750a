"""An index in PostgreSQL: for any number of processes, on any number of machines."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import math
import struct
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
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
from dicomwire.node.index.statements import ADD_INSTANCE, NEW_TASK, REJECTED, STORED

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


_DIALECT = PGDialect_psycopg()  # type: ignore[no-untyped-call]
_ANY_UID = any_(bindparam("uids", type_=ARRAY(String(collation="C"))))
_FOUND = STORED.where(instance.c.sop_instance_uid == _ANY_UID)
_REJECTED = REJECTED.where(rejection.c.sop_instance_uid == _ANY_UID)
_BY_UIDS = str(_FOUND.compile(dialect=_DIALECT))
_WITH_REJECTED = f"{_BY_UIDS} UNION ALL {_REJECTED.compile(dialect=_DIALECT)}"
_NOT_ACCEPTED = ("\\u0000", "\\ud", "NaN", "Infinity")
"""What JSON in ASCII has where jsonb may not accept it; texts may have some of it, too."""
_NO_NUMBERS = Numbers(0, None)
_COLUMNS: dict[str, Any] = {
    column.name: bindparam(column.name) for column in instance.c if column.name != "id"
}
_ADD_INSTANCE = str(ADD_INSTANCE.values(_COLUMNS).inline().compile(dialect=_DIALECT))
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
            connection.execute("SET lock_timeout = '30s'")
            if is_reader:
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

    # The following use the driver: SQLAlchemy takes several times as long for them.

    @contextlib.contextmanager
    def writing(
        self, connection: Connection, *, is_alone: bool, is_journaled: bool
    ) -> Iterator[None]:
        """Run the block in a transaction, which is always durable at its end."""
        from psycopg import Error

        driver = _driver(connection)
        is_committing = False
        try:
            driver.execute(self.begin_alone if is_alone else self._begin_writing)
            yield
            is_committing = True
            driver.commit()
        except BaseException as error:
            with contextlib.suppress(Error):  # the connection is lost
                driver.rollback()
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
        statement = _WITH_REJECTED if with_rejected else _BY_UIDS
        yield from _driver(connection).execute(statement, {"uids": list(uids)})

    def add(self, connection: Connection, rows: list[dict[str, Any]]) -> None:
        """Add instances."""
        for row in rows:
            row["attributes"] = _jsonb(row["attributes"])
        with _driver(connection).cursor() as cursor:
            if len(rows) == 1:
                cursor.execute(_ADD_INSTANCE, rows[0])
            else:
                cursor.executemany(_ADD_INSTANCE, rows)

    def add_tasks(self, connection: Connection, rows: list[dict[str, Any]]) -> None:
        """Add tasks."""
        for row in rows:
            if not isinstance(row["payload"], str):
                row["payload"] = _json_text(row["payload"])
        with _driver(connection).cursor() as cursor:
            cursor.executemany(_ADD_TASK, rows)

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
    if any(part in text for part in _NOT_ACCEPTED):
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
