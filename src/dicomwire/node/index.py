"""The index: which objects there are, in a database that is written by one and read by many.

What is a duplicate and what to do about it is not decided here; objects' files are not touched.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from alembic import command
from alembic.config import Config
from sqlalchemy import (
    Connection,
    Engine,
    Table,
    bindparam,
    create_engine,
    delete,
    event,
    exists,
    func,
    insert,
    null,
    select,
    update,
)
from sqlalchemy.engine import URL
from sqlalchemy.exc import SQLAlchemyError

from dicomwire.node.ingest import Entry
from dicomwire.node.keys import Level
from dicomwire.node.names import fold_name
from dicomwire.node.schema import instance, patient, series, study

BUSY_TIMEOUT = 5.0
"""Seconds to wait for another program that has the database."""
_MOST_KNOWN = 50_000
"""How many series are remembered, so that a further instance of one costs a single statement."""
_MOST_VARIABLES = 500
"""How many values one statement looks for; SQLite takes 32,766, older ones 999."""
_T = TypeVar("_T")
_MIGRATIONS = Path(__file__).parent / "migrations"

IndexFailure = SQLAlchemyError
"""What is raised when the database cannot be read or written: locked, full, damaged."""


class Stored(NamedTuple):
    """An instance in the index."""

    id: int
    sop_instance_uid: str
    copy: int
    file: str
    digest: str
    received: str


class Placed(NamedTuple):
    """An instance to be put into the index."""

    entry: Entry
    file: str
    size: int
    """Of the file in bytes."""
    digest: str
    """In hex."""
    received: int
    """Microseconds since 1970."""
    copy: int = 0
    replaces: bool = False
    """Whether its patient, study and series are to be as it says, though they are known."""


_STORED = select(
    instance.c.id,
    instance.c.sop_instance_uid,
    instance.c.copy,
    instance.c.file,
    instance.c.digest,
    instance.c.received,
)
_BY_UID = _STORED.where(instance.c.sop_instance_uid == bindparam("uid"))
_BY_UIDS = _STORED.where(instance.c.sop_instance_uid.in_(bindparam("uids", expanding=True)))
_ADD_INSTANCE = insert(instance)
_SERIES_OF = select(instance.c.series).where(instance.c.id.in_(bindparam("ids", expanding=True)))
_REMOVE = delete(instance).where(instance.c.id.in_(bindparam("ids", expanding=True)))


class _Parent(NamedTuple):
    """A level above instances: its table, the columns that are its key, and the levels about."""

    level: Level
    table: Table
    key: tuple[str, ...]
    above: str | None
    below: Table


_PARENTS = {
    "series": _Parent(Level.SERIES, series, ("series_instance_uid",), "study", instance),
    "study": _Parent(Level.STUDY, study, ("study_instance_uid",), "patient", series),
    "patient": _Parent(Level.PATIENT, patient, ("patient_id", "issuer_of_patient_id"), None, study),
}


class Index:
    """The database of a node, made if it is not there, its schema brought up to date.

    Raises
    ------
    IndexFailure
        When the database cannot be used.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path).absolute()
        self._lock = threading.Lock()
        self._open()

    def _open(self) -> None:
        self._known: dict[str, int] = {}  # series by UID, only what is committed
        self.engine = _engine(self.path, "BEGIN")
        """For reading, from any thread."""
        self._writing = _engine(self.path, "BEGIN IMMEDIATE")
        try:
            self._connection = self._writing.connect()
            self._migrate(self._connection)
            self._identity = _identity(self.path)
        except BaseException:
            self.close()
            raise

    def _migrate(self, connection: Connection) -> None:
        config = Config()
        # Alembic reads it as the text of an INI file, where % begins a reference.
        config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
        connection.commit()

    def __enter__(self) -> Index:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections that are not in use."""
        with contextlib.suppress(AttributeError):
            self._connection.close()
        self._writing.dispose()
        self.engine.dispose()

    @property
    def is_lost(self) -> bool:
        """Whether the database was deleted or another put in its place, which SQLite ignores."""
        return _identity(self.path) != self._identity

    def reopen(self) -> None:
        """Open what is at the path now, or make a new database there."""
        self.close()
        if self.is_lost:
            # They are the old one's still, and would be applied to the new one.
            for log in logs_of(self.path):
                log.unlink(missing_ok=True)
        self._open()

    @contextlib.contextmanager
    def reading(self) -> Iterator[Connection]:
        """Give a connection that sees one state of the database, for as long as it is open."""
        with self.engine.connect() as connection:
            yield connection

    def stored(self) -> Iterator[Stored]:
        """Iterate over all instances in the order of their files' names, as they are now."""
        with self.reading() as connection:
            query = _STORED.order_by(instance.c.file)
            for row in connection.execution_options(yield_per=1000).execute(query):
                yield Stored(*row)

    def last_id(self) -> int:
        """Return a number that no instance's id is above now, and the ids to come all are."""
        with self.reading() as connection:
            return connection.execute(select(func.max(instance.c.id))).scalar() or 0

    def find(self, uids: Sequence[str]) -> dict[str, list[Stored]]:
        """Return the copies there are of instances now, by SOP Instance UID."""
        with self.reading() as connection:
            return _find(connection, uids)

    @contextlib.contextmanager
    def writing(self) -> Iterator[Writer]:
        """Give what changes the index: all of it at the end of the block, or nothing.

        What was changed is on the disk when the block has ended.

        Raises
        ------
        IndexFailure
            When it cannot be written to; then nothing is changed.
        """
        with self._lock:
            with self._connection.begin():
                writer = Writer(self._connection, self._known)
                yield writer
            if writer.removed:
                self._known.clear()
            elif len(self._known) + len(writer.learned) <= _MOST_KNOWN:
                self._known.update(writer.learned)
            else:
                self._known = writer.learned


class Writer:
    """Changes the index within one transaction."""

    def __init__(self, connection: Connection, known: dict[str, int]) -> None:
        self._connection = connection
        self._series = known
        self._emptied: dict[str, set[int]] = {name: set() for name in _PARENTS}
        self.learned: dict[str, int] = {}
        self.removed = False

    def find(self, uids: Sequence[str]) -> dict[str, list[Stored]]:
        """Return the copies there are of instances, by SOP Instance UID."""
        return _find(self._connection, uids)

    def add(self, objects: Sequence[Placed]) -> None:
        """Add instances, and what is not known yet of the levels above them.

        Of a known series, study or patient the attributes stay as its first object had them.
        """
        rows = [self._row(placed) for placed in objects]
        if rows:
            self._connection.execute(_ADD_INSTANCE, rows)

    def remove(self, ids: Sequence[int]) -> None:
        """Remove instances; what is left without any goes with `prune`."""
        self.removed = True
        for some in _portions(ids):
            of_these = self._connection.execute(_SERIES_OF, {"ids": some}).scalars()
            self._emptied["series"].update(of_these)
            self._connection.execute(_REMOVE, {"ids": some})

    def prune(self) -> None:
        """Remove the series, studies and patients of which something went, and nothing is left."""
        for name, parent in _PARENTS.items():
            table = parent.table
            is_empty = ~exists().where(parent.below.c[name] == table.c.id)
            for some in _portions(list(self._emptied[name])):
                if parent.above is not None:
                    higher = select(table.c[parent.above]).where(table.c.id.in_(some))
                    self._emptied[parent.above].update(self._connection.execute(higher).scalars())
                self._connection.execute(delete(table).where(table.c.id.in_(some), is_empty))

    def _row(self, placed: Placed) -> dict[str, Any]:
        entry = placed.entry
        columns, attributes = entry.row(Level.IMAGE)
        columns["transfer_syntax_uid"] = entry.origin.transfer_syntax_uid
        return {
            **columns,
            "series": self._series_of(placed),
            "copy": placed.copy,
            "file": placed.file,
            "size": placed.size,
            "digest": placed.digest,
            "received": iso(placed.received),
            "attributes": attributes,
        }

    def _series_of(self, placed: Placed) -> int:
        entry = placed.entry
        known = None
        if not placed.replaces:
            known = self._series.get(entry.series_uid) or self.learned.get(entry.series_uid)
        if known is None:
            known = self._id_of("series", entry, placed.replaces, None)
            self.learned[entry.series_uid] = known
        return known

    def _id_of(self, name: str, entry: Entry, replace: bool, current: int | None) -> int:
        """Return the id of what the object belongs to; it is added, or, to `replace`, changed.

        Parameters
        ----------
        name : str
            Of the table.
        current : int or None
            What the object's study, for one, belongs to by now.
        """
        parent = _PARENTS[name]
        table = parent.table
        columns, attributes = entry.row(parent.level)
        values: dict[str, Any] = {**columns, "attributes": attributes}
        found, found_above = self._known_as(parent, columns, current)
        if found is not None and not replace:
            return found
        if parent.above is None:
            values["patient_name_key"] = fold_name(columns["patient_name"])
        else:
            above = self._id_of(parent.above, entry, replace, found_above)
            values[parent.above] = above
            if found_above not in (None, above):
                self._emptied[parent.above].add(found_above)  # that may have been its last
        if found is None:
            result = self._connection.execute(insert(table), values)
            assert result.inserted_primary_key is not None
            return int(result.inserted_primary_key[0])
        self._connection.execute(update(table).where(table.c.id == found), values)
        return found

    def _known_as(
        self, parent: _Parent, columns: dict[str, str], current: int | None
    ) -> tuple[int | None, int | None]:
        """Return the id of what has the key that `columns` have, and of what that belongs to.

        An empty Patient ID is nobody's: a patient without one is that of one study.
        """
        table = parent.table
        key = [table.c[name] == columns[name] for name in parent.key]
        if parent.above is None and not columns["patient_id"]:
            if current is None:
                return None, None
            key.append(table.c.id == current)
        above = table.c[parent.above] if parent.above is not None else null()
        row = self._connection.execute(select(table.c.id, above).where(*key)).first()
        return (row[0], row[1]) if row is not None else (None, None)


def _find(connection: Connection, uids: Sequence[str]) -> dict[str, list[Stored]]:
    found: dict[str, list[Stored]] = {}
    if len(uids) == 1:  # as for each object of a single association: it takes a third of the time
        copies = [Stored(*row) for row in connection.execute(_BY_UID, {"uid": uids[0]})]
        return {uids[0]: copies} if copies else {}
    for some in _portions(uids):
        for row in connection.execute(_BY_UIDS, {"uids": some}):
            found.setdefault(row.sop_instance_uid, []).append(Stored(*row))
    return found


def _portions(values: Sequence[_T]) -> Iterator[Sequence[_T]]:
    """Iterate over as many values at a time as a statement may have."""
    for start in range(0, len(values), _MOST_VARIABLES):
        yield values[start : start + _MOST_VARIABLES]


def iso(microseconds: int) -> str:
    """Return a moment, in microseconds since 1970, as UTC in ISO 8601."""
    return datetime.fromtimestamp(microseconds / 1e6, UTC).isoformat(timespec="microseconds")


def logs_of(path: Path) -> list[Path]:
    """Return the files that SQLite keeps beside a database while that is in use."""
    return [path.with_name(f"{path.name}{suffix}") for suffix in ("-wal", "-shm", "-journal")]


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _engine(path: Path, begin: str) -> Engine:
    """Return an engine whose transactions begin with `begin`, as SQLite's own driver's do not."""
    engine = create_engine(
        URL.create("sqlite", database=str(path)),
        connect_args={"timeout": BUSY_TIMEOUT, "isolation_level": None},
    )

    @event.listens_for(engine, "connect")
    def prepare(connection: Any, _record: object) -> None:
        for pragma in (
            "journal_mode = WAL",  # readers go on while the writer writes
            "synchronous = FULL",  # what is committed is on the disk
            "foreign_keys = ON",
        ):
            connection.execute(f"PRAGMA {pragma}").close()

    @event.listens_for(engine, "begin")
    def start(connection: Connection) -> None:
        connection.exec_driver_sql(begin)

    return engine
