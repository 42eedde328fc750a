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
from selectors import EVENT_READ
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
from sqlalchemy.exc import DBAPIError, InvalidatePoolError

from dicomwire.node.index.database import InDoubt, Numbers, Unusable, reason_of
from dicomwire.node.index.pipeline import Pipeline, Selector, checked
from dicomwire.node.index.schema import instance
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
_COLUMNS = [column.name for column in instance.c if column.name != "id"]
_in_order = itemgetter(*_COLUMNS)
"""Returns the values of a row in the order of `_COLUMNS`."""
_task_in_order = itemgetter(*NEW_TASK)
_TO_BE_ALONE = f"SELECT pg_advisory_xact_lock({_LOCK}, 0)"
_BEGIN, _LOCK_SHARED, _LOCK_ALONE, _COMMIT = b"begin", b"lock shared", b"lock alone", b"commit"
_KNOWN, _ADD, _ADD_TASK, _OWNED = b"known", b"add", b"add task", b"owned"


def _insertion(table: str, columns: Sequence[str]) -> str:
    """Return the statement that inserts one row; each column is a parameter."""
    places = ", ".join(f"${place}" for place in range(1, len(columns) + 1))
    return f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({places})"


_PREPARED = {
    _BEGIN: "BEGIN",
    _LOCK_SHARED: f"SELECT pg_advisory_xact_lock_shared({_LOCK}, 0)",
    _LOCK_ALONE: _TO_BE_ALONE,
    _COMMIT: "COMMIT",
    # The UIDs are the only parameter. In a subquery, the planner knows nothing of them, and makes
    # one plan for all. Otherwise, it would plan each execution anew for the number of its UIDs.
    _KNOWN: " UNION ALL ".join(
        f"{query.compile(dialect=_DIALECT)} WHERE sop_instance_uid = ANY ((SELECT $1)::text[])"
        for query in (STORED, REJECTED)
    ),
    _ADD: _insertion("instance", _COLUMNS),
    _ADD_TASK: _insertion("task", NEW_TASK),
    _OWNED: "SELECT count(*) FROM task WHERE owner = $1 AND id = ANY($2::bigint[])",
}
"""The statements of each batch, by the names under which the writing connection prepares them."""
_needs_escape = re.compile(r'["\\]').search
"""Whether a text in an array has characters to escape; few have."""
_is_not_accepted = re.compile(r"\\u0000|\\ud|NaN|Infinity").search
"""Finds what JSON in ASCII has where jsonb may not accept it; texts may have some of it, too."""
_NO_NUMBERS = Numbers(0, None)


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
    begin_alone = f"BEGIN; {_TO_BE_ALONE}"

    def __init__(self, url: str) -> None:
        if find_spec("psycopg") is None:
            raise Unusable("PostgreSQL needs psycopg: pip install 'dicomwire[postgres]'")
        self._url = make_url(url).set(drivername="postgresql+psycopg")
        self._pipeline: Pipeline | None = None
        """That of the connection that writes, or of the one before it."""

    def engine(self, is_reader: bool) -> Engine:
        # The driver is in autocommit mode: it would take a round trip to begin a transaction.
        engine = create_engine(
            self._url,
            connect_args={"autocommit": True, **_without(_CONNECTING, self._url)},
            pool_size=MOST_READING if is_reader else 1,
            max_overflow=0,
            pool_timeout=_WAIT,
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
            # To compile a statement takes longer than to run it for a page.
            connection.execute("SET jit = off")
            if not is_reader:
                connection.execute(f"SET idle_in_transaction_session_timeout = '{_LONGEST_PAUSE}'")
                # There is an index for all that it looks for. A plan that was made while a table
                # was small would read all of it, and is used until the server analyzes the table.
                connection.execute("SET enable_seqscan = off")
            else:
                # A plan for any pattern may be a hundred times slower than one for this pattern.
                connection.execute("SET plan_cache_mode = force_custom_plan")
                connection.execute("SET default_transaction_read_only = on")
            # A committed transaction is on the disk, whatever the server's default.
            connection.execute(
                "SELECT set_config('synchronous_commit', 'on', false)"
                " WHERE current_setting('synchronous_commit') = 'off'"
            )

        if is_reader:
            event.listen(engine, "checkout", _replace_if_ended)
        else:
            event.listen(engine, "before_cursor_execute", self._await)
            event.listen(engine, "commit", self._await)
            event.listen(engine, "rollback", self._give_up)
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

    # --- What is done for each batch ---

    @contextlib.contextmanager
    def writing(
        self, connection: Connection, *, is_alone: bool, is_journaled: bool
    ) -> Iterator[None]:
        """Run the block in a transaction, which is always durable at its end.

        It begins together with the first statement of the block, unless it is to be alone.
        """
        from psycopg import Error

        driver = _driver(connection)
        is_committing = False
        try:
            pipeline = self._pipeline_on(connection)
            pipeline.send(_BEGIN)
            pipeline.send(_LOCK_ALONE if is_alone else _LOCK_SHARED)
            if is_alone:
                pipeline.results()
            yield
            is_committing = True
            pipeline.send(_COMMIT)
            pipeline.results()
        except BaseException as error:
            self._roll_back(driver)
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

    def _roll_back(self, driver: Any) -> None:
        """Undo a transaction; if that is not possible, close the connection, which does it, too."""
        from psycopg import Error

        self._give_up()
        try:
            # The driver's own `rollback` would also forget the prepared statements.
            checked(driver.pgconn.exec_(b"ROLLBACK"))
        except Error:
            driver.close()

    def _pipeline_on(self, connection: Connection) -> Pipeline:
        """Return the pipeline of the connection that writes."""
        pgconn = _driver(connection).pgconn
        if self._pipeline is None or self._pipeline.pgconn is not pgconn:
            self._pipeline = None
            self._pipeline = Pipeline(pgconn, _PREPARED)
        return self._pipeline

    def _await(self, *_: object) -> None:
        """Wait for what was sent before another statement."""
        if self._pipeline is not None:
            self._pipeline.results()

    def _give_up(self, *_: object) -> None:
        """Wait for what was sent, whatever the results are."""
        if self._pipeline is not None:
            self._pipeline.give_up()

    def find(
        self, connection: Connection, uids: Sequence[str], with_rejected: bool = False
    ) -> Iterator[Sequence[Any]]:
        """Yield the values of all copies of instances."""
        if not with_rejected:
            yield from connection.execute(_FOUND, {"uids": list(uids)})
            return
        pipeline = self._pipeline_on(connection)
        pipeline.send(_KNOWN, [_array(uids)])
        found = pipeline.results()[-1]
        for row in range(found.ntuples):
            number, uid, copy, *texts = (found.get_value(row, at).decode() for at in range(6))
            yield int(number), uid, int(copy), *texts

    def add(self, connection: Connection, rows: list[dict[str, Any]]) -> None:
        """Let the server add instances; errors are raised by the next statement, or the commit."""
        pipeline = self._pipeline_on(connection)
        for row in rows:
            row["attributes"] = _jsonb(row["attributes"])
            pipeline.send(_ADD, [str(value).encode() for value in _in_order(row)])
        pipeline.start()

    def add_tasks(self, connection: Connection, rows: list[dict[str, Any]]) -> None:
        """Let the server add tasks, as `add` does."""
        pipeline = self._pipeline_on(connection)
        for row in rows:
            if not isinstance(row["payload"], str):
                row["payload"] = _json_text(row["payload"])
            values = _task_in_order(row)
            pipeline.send(_ADD_TASK, [None if v is None else str(v).encode() for v in values])
        pipeline.start()

    def owned(self, connection: Connection, owner: str, tasks: Iterable[int]) -> int:
        """Return how many of these tasks an owner has."""
        pipeline = self._pipeline_on(connection)
        pipeline.send(_OWNED, [owner.encode(), _array(map(str, tasks))])
        return int(pipeline.results()[-1].get_value(0, 0))

    def numbers(self, connection: Connection) -> Numbers:
        """Return constants: an id is never used again."""
        return _NO_NUMBERS

    def note_change(self, connection: Connection) -> None:
        """Do nothing."""

    def sync(self, engine: Engine) -> None:
        """Do nothing: each transaction is durable when it is committed."""


def _replace_if_ended(driver: Any, *_: object) -> None:
    """Let SQLAlchemy make its connections for reading anew if the server has ended this one.

    Then its socket has something to read, which costs no round trip to find out. The writer
    repeats its transaction instead.
    """
    selector = Selector()
    selector.register(driver.pgconn.socket, EVENT_READ)
    if selector.select(0):
        raise InvalidatePoolError("the server has ended a connection")


def _driver(connection: Connection) -> Any:
    """Return the connection of psycopg."""
    return connection.connection.driver_connection


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
