"""An index in a file of SQLite: nothing to install, for processes on one machine."""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from operator import itemgetter
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, bindparam, create_engine, event
from sqlalchemy.dialects import sqlite
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError

from dicomwire.node.files import ProcessLock, sync_file
from dicomwire.node.index.database import Numbers
from dicomwire.node.index.schema import instance, rejection
from dicomwire.node.index.statements import ADD_INSTANCE, BY_UID, NEW_TASK, REJECTED

BUSY_TIMEOUT = 5.0
"""Seconds to wait while another program has locked the database."""
_PRAGMAS = (
    "journal_mode = WAL",  # readers need not wait for the writer
    "synchronous = FULL",  # a committed transaction is on the disk
    "foreign_keys = ON",
    # In pages: a log of 64 MB. A checkpoint in the background (`sync`) begins long before it is so
    # long; beyond, a transaction makes it.
    "wal_autocheckpoint = 16384",
)
_LONG_LOG = 4096
"""In pages: so long may the log be, 16 MB, before writers are stopped for the moment that it takes
to complete a checkpoint, after which the log begins anew."""
_A_MOMENT = 100
"""Milliseconds that such a checkpoint waits for readers and writers."""

_DIALECT = sqlite.dialect()
_BY_UID = str(BY_UID.compile(dialect=_DIALECT))
_WITH_REJECTED = f"{_BY_UID} UNION ALL " + str(
    REJECTED.where(rejection.c.sop_instance_uid == bindparam("uid")).compile(dialect=_DIALECT)
)
_ADD_INSTANCE = str(ADD_INSTANCE.compile(dialect=_DIALECT))
_in_order = itemgetter(*instance.c.keys())
"""Returns the values of a row in the order in which `_ADD_INSTANCE` has them."""
_ADD_TASK = f"INSERT INTO task ({', '.join(NEW_TASK)}) VALUES (?, ?, ?, ?, ?)"
_OWNED = "SELECT count(*) FROM task WHERE owner = ? AND id IN (SELECT value FROM json_each(?))"
_task_in_order = itemgetter(*NEW_TASK)
_NUMBERS = (
    "SELECT last_id, max(ifnull((SELECT max(id) FROM instance), 0), last_id) AS last FROM removal"
)
_NOTE_CHANGE = f"UPDATE removal SET last_id = (SELECT last FROM ({_NUMBERS}))"


class Sqlite:
    """A database in a file; see `database.Database`.

    Its locks admit one transaction that writes at a time, of all processes.
    """

    begin_reading = "BEGIN"  # Python's driver begins one only before a change
    begin_alone = "BEGIN IMMEDIATE"

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path).absolute()
        self._path = str(self.path)
        self._write_lock = ProcessLock(str(lock_of(self.path)))
        self._is_journaled = False
        """Whether the connection that writes is set so; there is only one."""
        self._last_cursor: tuple[Connection | None, Any] = None, None
        """The connection that was used last, and a cursor of the driver: to make one takes as long
        as some statements."""

    def engine(self, is_reader: bool) -> Engine:
        self._is_journaled &= is_reader
        engine = create_engine(
            URL.create("sqlite", database=str(self.path)),
            connect_args={"timeout": BUSY_TIMEOUT, "isolation_level": None},
            hide_parameters=True,  # keep patient data out of error texts
        )

        @event.listens_for(engine, "connect")
        def prepare(connection: Any, _record: object) -> None:
            for pragma in ("query_only = ON",) if is_reader else _PRAGMAS:
                connection.execute(f"PRAGMA {pragma}").close()

        if not is_reader:
            event.listen(engine, "engine_disposed", lambda _engine: self._write_lock.close())
        return engine

    def _cursor(self, connection: Connection) -> Any:
        """Return a cursor of Python's driver; its last statement must have returned all rows."""
        last, cursor = self._last_cursor
        if last is not connection:
            cursor = connection.connection.cursor()
            self._last_cursor = connection, cursor
        return cursor

    def prepare(self) -> None:
        """Make an empty database that only its owner may read, if there is none."""
        with contextlib.suppress(FileExistsError):
            os.close(os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))

    def check(self, connection: Connection) -> None:
        """Accept it: every file that can be opened will do."""

    def identity(self) -> tuple[int, int] | None:
        """Return device and inode of the file: SQLite does not notice a deleted file."""
        try:
            status = os.stat(self._path)
        except OSError:
            return None
        return status.st_dev, status.st_ino

    def clear_replaced(self) -> None:
        """Remove the logs of the old file, which SQLite would apply to the new one."""
        for log in logs_of(self.path):
            log.unlink(missing_ok=True)

    def lock(self, connection: Connection, names: Sequence[str]) -> None:
        """Do nothing: there is only one transaction that writes."""

    # The following use the driver: SQLAlchemy takes several times as long as SQLite for them.

    def writing(
        self, connection: Connection, *, is_alone: bool, is_journaled: bool
    ) -> _Transaction:
        """Return a transaction.

        SQLite does not wait for another process: it tries again, after some milliseconds. So
        processes wait for each other before, by a lock. Without it, all is as correct, and slower.
        """
        cursor = self._cursor(connection)
        if is_journaled is not self._is_journaled:
            try:
                cursor.execute(f"PRAGMA synchronous = {'NORMAL' if is_journaled else 'FULL'}")
            except sqlite3.Error as error:
                raise _translated(error) from error
            self._is_journaled = is_journaled
        return _Transaction(connection, cursor, self._write_lock)

    def find(
        self, connection: Connection, uids: Sequence[str], with_rejected: bool = False
    ) -> Iterator[Sequence[Any]]:
        """Yield the values of all copies of instances."""
        execute = self._cursor(connection).execute
        for uid in uids:
            # All rows at once, so that the cursor can be used again.
            if with_rejected:
                yield from execute(_WITH_REJECTED, (uid, uid)).fetchall()
            else:
                yield from execute(_BY_UID, (uid,)).fetchall()

    def add(self, connection: Connection, rows: list[dict[str, Any]]) -> None:
        """Add instances."""
        for row in rows:
            row.setdefault("id", None)
        self._cursor(connection).executemany(_ADD_INSTANCE, map(_in_order, rows))

    def add_tasks(self, connection: Connection, rows: list[dict[str, Any]]) -> None:
        """Add tasks."""
        for row in rows:
            if not isinstance(row["payload"], str):
                row["payload"] = json.dumps(row["payload"])
        self._cursor(connection).executemany(_ADD_TASK, map(_task_in_order, rows))

    def owned(self, connection: Connection, owner: str, tasks: Iterable[int]) -> int:
        """Return how many of these tasks an owner has."""
        values = owner, json.dumps([*tasks])
        return int(self._cursor(connection).execute(_OWNED, values).fetchone()[0])

    def numbers(self, connection: Connection) -> Numbers:
        """Return what the last removal has noted, and the highest id that there has been.

        SQLite gives the id of a removed row to a new one if it was the highest.
        """
        found: tuple[int, int] = self._cursor(connection).execute(_NUMBERS).fetchone()
        return Numbers(*found)

    def note_change(self, connection: Connection) -> None:
        """Note the highest id.

        That is another one than before for a process that remembers a series: it has added an
        instance of it meanwhile.
        """
        self._cursor(connection).execute(_NOTE_CHANGE)

    def sync(self, engine: Engine) -> None:
        """Sync the log, and bring what is in it into the database."""
        with contextlib.suppress(FileNotFoundError):  # all is in the database already
            sync_file(str(logs_of(self.path)[0]))
        with engine.connect() as connection:
            execute = self._cursor(connection).execute
            try:
                _, length, _ = execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
                if length >= _LONG_LOG:
                    execute(f"PRAGMA busy_timeout = {_A_MOMENT}")
                    execute("PRAGMA wal_checkpoint(FULL)").fetchone()
                    execute(f"PRAGMA busy_timeout = {int(BUSY_TIMEOUT * 1000)}")
            except sqlite3.Error as error:
                raise _translated(error) from error


class _Transaction:
    """A transaction that writes, for a `with` block; `lock` is held meanwhile."""

    __slots__ = ("_connection", "_cursor", "_lock")

    def __init__(self, connection: Connection, cursor: Any, lock: ProcessLock) -> None:
        self._connection = connection
        self._cursor = cursor
        self._lock = lock

    def __enter__(self) -> None:
        self._lock.__enter__()
        try:
            self._cursor.execute(Sqlite.begin_alone)
        except BaseException as error:
            self._fail(error)
            raise

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: object) -> None:
        if error is None:
            try:
                self._cursor.execute("COMMIT")
            except BaseException as failure:
                self._fail(failure)
                raise
            self._end()
        else:
            self._fail(error)

    def _fail(self, error: BaseException) -> None:
        """Undo the transaction; raise an error of the driver as SQLAlchemy would."""
        if self._cursor.connection.in_transaction:  # after some errors, SQLite ends it by itself
            with contextlib.suppress(sqlite3.Error):
                self._cursor.execute("ROLLBACK")
        self._end()
        if isinstance(error, sqlite3.Error):
            raise _translated(error) from error

    def _end(self) -> None:
        self._lock.__exit__()
        if self._connection.in_transaction():  # by the account of SQLAlchemy
            self._connection.rollback()


def _translated(error: sqlite3.Error) -> BaseException:
    """Return an error of the driver as SQLAlchemy would raise it."""
    return DBAPIError.instance(None, None, error, sqlite3.Error, hide_parameters=True)


def logs_of(path: Path) -> list[Path]:
    """Return the paths of the log files that SQLite keeps beside a database in use."""
    return [path.with_name(f"{path.name}{suffix}") for suffix in ("-wal", "-shm", "-journal")]


def lock_of(path: Path) -> Path:
    """Return the path of the file by whose lock processes write a database one after the other."""
    return path.with_name(f"{path.name}-turn")
