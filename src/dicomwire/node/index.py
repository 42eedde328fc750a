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
from typing import Any, NamedTuple, Self, TypeVar

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
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
_PRAGMAS = (
    "journal_mode = WAL",  # readers go on while the writer writes
    "synchronous = FULL",  # what is committed is on the disk
    "foreign_keys = ON",
)
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
    """A level above instances: its table, and the levels about."""

    table: Table
    above: str | None
    below: Table


_PARENTS = {
    "series": _Parent(series, "study", instance),
    "study": _Parent(study, "patient", series),
    "patient": _Parent(patient, None, study),
}


class _Known(NamedTuple):
    """A series in the index."""

    id: int
    patient_id: str
    """The Patient ID that its study has."""


_Series = dict[tuple[str, str], _Known]
"""By Study and Series Instance UID: one of the same UID may be in several studies."""


class WrongRevision(IndexFailure):
    """The tables are not those of this version; the text says what to do."""


class IndexReader:
    """The database of a node, to be read only, in whatever state another process has it.

    Raises
    ------
    IndexFailure
        When the database cannot be used; `WrongRevision` if it is of another version.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path).absolute()
        self.engine = _engine(self.path, "BEGIN", ["query_only = ON"])
        """For reading, from any thread."""
        try:
            self._check_revision()
        except BaseException:
            self.close()
            raise

    def _check_revision(self) -> None:
        with self.reading() as connection:
            found = MigrationContext.configure(connection).get_current_revision()
        needed = ScriptDirectory.from_config(_migrations()).get_current_head()
        if found != needed:
            raise WrongRevision(
                f"the index has revision {found}, and not {needed}: serving from the folder brings "
                "an older one up to date, and reindex makes a new one"
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections that are not in use."""
        self.engine.dispose()

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


class Index(IndexReader):
    """The database of a node, made if it is not there, its schema brought up to date.

    Raises
    ------
    IndexFailure, OSError
        When the database cannot be used.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path).absolute()
        self._lock = threading.Lock()
        self._identity: tuple[int, int] | None = None
        self._open()

    def _open(self) -> None:
        # Until it is open there is none: a new file may get the inode of the one that is gone.
        self._identity = None
        self._known: _Series = {}  # only what is committed
        self.engine = _engine(self.path, "BEGIN", _PRAGMAS)
        self._writing = _engine(self.path, "BEGIN IMMEDIATE", _PRAGMAS)
        try:
            _create(self.path)
            self._connection = self._writing.connect()
            self._migrate(self._connection)
            self._identity = _identity(self.path)
        except BaseException:
            self.close()
            raise

    def _migrate(self, connection: Connection) -> None:
        config = _migrations()
        config.attributes["connection"] = connection
        try:
            command.upgrade(config, "head")
        except CommandError as error:  # of a later version
            raise WrongRevision(f"the index cannot be brought up to date: {error}") from None
        connection.commit()

    def close(self) -> None:
        """Close all connections that are not in use."""
        with contextlib.suppress(AttributeError):
            self._connection.close()
        self._writing.dispose()
        super().close()

    @property
    def is_lost(self) -> bool:
        """Whether the database was deleted or another put in its place, which SQLite ignores."""
        return self._identity is None or _identity(self.path) != self._identity

    def reopen(self) -> None:
        """Open what is at the path now, or make a new database there."""
        self.close()
        if self._identity is not None and self.is_lost:
            # They are the old one's still, and would be applied to the new one.
            for log in logs_of(self.path):
                log.unlink(missing_ok=True)
        self._open()

    def knows(self, entry: Entry) -> bool:
        """Return whether the object's series is remembered: then nothing above it is looked at."""
        return (entry.study_uid, entry.series_uid) in self._known

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

    def __init__(self, connection: Connection, known: _Series) -> None:
        self._connection = connection
        self._series = known
        self._emptied: dict[str, set[int]] = {name: set() for name in _PARENTS}
        self.learned: _Series = {}
        self.removed = False

    def find(self, uids: Sequence[str]) -> dict[str, list[Stored]]:
        """Return the copies there are of instances, by SOP Instance UID."""
        return _find(self._connection, uids)

    def add(self, objects: Sequence[Placed]) -> list[Placed]:
        """Add instances, and what is not known yet of the levels above them.

        Of a known series, study or patient the attributes stay as its first object had them, and
        a known study stays its patient's. Returned are those that have another Patient ID.
        """
        rows, others = [], []
        for placed in objects:
            known = self._series_of(placed)
            rows.append(_row(placed, known.id))
            if placed.entry.patient_id != known.patient_id:
                others.append(placed)
        if rows:
            self._connection.execute(_ADD_INSTANCE, rows)
        return others

    def remove(self, ids: Sequence[int]) -> None:
        """Remove instances; what is left without any goes with `prune`."""
        self.removed = True
        self._series = {}  # what replaces them may change it
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

    def _series_of(self, placed: Placed) -> _Known:
        entry = placed.entry
        key = entry.study_uid, entry.series_uid
        known = None
        if placed.replaces:
            self.learned.clear()  # the study may get another patient
        else:
            known = self._series.get(key) or self.learned.get(key)
        if known is None:
            known = self.learned[key] = self._place(entry, placed.replaces)
        return known

    def _place(self, entry: Entry, replace: bool) -> _Known:
        """Return the object's series; it is added, or, to `replace`, changed, with all above it."""
        study_id, patient_id = self._study_of(entry, replace)
        values = {**_values(entry, Level.SERIES), "study": study_id}
        uid = values["series_instance_uid"]
        query = select(series.c.id).where(
            series.c.study == study_id, series.c.series_instance_uid == uid
        )
        found = self._connection.execute(query).scalar()
        return _Known(self._put(series, found, values, replace), patient_id)

    def _study_of(self, entry: Entry, replace: bool) -> tuple[int, str]:
        """Return the id of the object's study, and the Patient ID that this has."""
        values = _values(entry, Level.STUDY)
        uid = values["study_instance_uid"]
        query = select(study.c.id, study.c.patient, patient.c.patient_id)
        query = query.join_from(study, patient).where(study.c.study_instance_uid == uid)
        found = self._connection.execute(query).first()
        if found is not None and not replace:
            return found.id, found.patient_id
        current = found.patient if found is not None else None
        values["patient"] = self._patient_of(entry, replace, current)
        if current not in (None, values["patient"]):
            self._emptied["patient"].add(current)  # that may have been its last
        study_id = self._put(study, found.id if found is not None else None, values, replace)
        return study_id, entry.patient_id

    def _patient_of(self, entry: Entry, replace: bool, current: int | None) -> int:
        """Return the id of the object's patient; `current` is the one that its study has by now.

        An empty Patient ID is nobody's: a patient without one is that of one study.
        """
        values = _values(entry, Level.PATIENT)
        values["patient_name_key"] = fold_name(values["patient_name"])
        key = [patient.c[name] == values[name] for name in ("patient_id", "issuer_of_patient_id")]
        if not values["patient_id"]:
            key.append(patient.c.id == current)
        found = self._connection.execute(select(patient.c.id).where(*key)).scalar()
        return self._put(patient, found, values, replace)

    def _put(self, table: Table, found: int | None, values: dict[str, Any], replace: bool) -> int:
        """Return the id of a row: of a new one, or of the one found, changed to `replace` it."""
        if found is None:
            result = self._connection.execute(insert(table), values)
            assert result.inserted_primary_key is not None
            return int(result.inserted_primary_key[0])
        if replace:
            self._connection.execute(update(table).where(table.c.id == found), values)
        return found


def _values(entry: Entry, level: Level) -> dict[str, Any]:
    columns, attributes = entry.row(level)
    return {**columns, "attributes": attributes}


def _row(placed: Placed, series_id: int) -> dict[str, Any]:
    entry = placed.entry
    return {
        **_values(entry, Level.IMAGE),
        "transfer_syntax_uid": entry.origin.transfer_syntax_uid,
        "series": series_id,
        "copy": placed.copy,
        "file": placed.file,
        "size": placed.size,
        "digest": placed.digest,
        "received": iso(placed.received),
    }


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


def _migrations() -> Config:
    config = Config()
    # Alembic reads it as the text of an INI file, where % begins a reference.
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    return config


def _create(path: Path) -> None:
    """Make an empty database that nobody else may read, if there is none."""
    with contextlib.suppress(FileExistsError):
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))


def _engine(path: Path, begin: str, pragmas: Sequence[str]) -> Engine:
    """Return an engine whose transactions begin with `begin`, as SQLite's own driver's do not."""
    engine = create_engine(
        URL.create("sqlite", database=str(path)),
        connect_args={"timeout": BUSY_TIMEOUT, "isolation_level": None},
        hide_parameters=True,  # in errors: they are patients' data
    )

    @event.listens_for(engine, "connect")
    def prepare(connection: Any, _record: object) -> None:
        for pragma in pragmas:
            connection.execute(f"PRAGMA {pragma}").close()

    @event.listens_for(engine, "begin")
    def start(connection: Connection) -> None:
        connection.exec_driver_sql(begin)

    return engine
