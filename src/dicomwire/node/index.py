"""The index: a database of all stored objects, with one writer at a time and many readers.

`commit` decides what a duplicate is and what to do with it; this module does not touch the files
of objects.
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
"""Seconds to wait while another program has locked the database."""
_MOST_KNOWN = 50_000
"""The most series to remember; a further instance of one of them takes a single statement. They
take some 25 MB of memory."""
_MOST_VARIABLES = 500
"""The most values in one statement; SQLite allows 32,766, and old versions 999."""
_PRAGMAS = (
    "journal_mode = WAL",  # readers need not wait for the writer
    "synchronous = FULL",  # a committed transaction is on the disk
    "foreign_keys = ON",
)
_T = TypeVar("_T")
_MIGRATIONS = Path(__file__).parent / "migrations"

IndexFailure = SQLAlchemyError
"""The error of a database that cannot be read or written: locked, full or damaged."""


class Stored(NamedTuple):
    """An instance in the index."""

    id: int
    sop_instance_uid: str
    copy: int
    file: str
    digest: str
    received: str


class Placed(NamedTuple):
    """An instance with a published file, to be added to the index."""

    entry: Entry
    file: str
    size: int
    """The size of the file in bytes."""
    digest: str
    """The digest of its dataset in hex."""
    received: int
    """The time of receipt in microseconds since 1970."""
    copy: int = 0
    replaces: bool = False
    """Whether its attributes replace those of its patient, study and series in the index."""


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
    """A level above instances: its table, and its neighbouring levels."""

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
    """The Patient ID of its study."""


_Series = dict[tuple[str, str], _Known]
"""Series by Study and Series Instance UID: several studies may have a series of the same UID."""


class WrongRevision(IndexFailure):
    """The tables are not those of this version of the program; the text says what to do."""


class IndexReader:
    """The database of a node for reading, also while another process writes it.

    Raises
    ------
    IndexFailure
        When the database cannot be used; `WrongRevision` if another version made it.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path).absolute()
        self.engine = _engine(self.path, "BEGIN", ["query_only = ON"])
        """Gives connections for reading, to any thread."""
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
                f"the index has revision {found}, not {needed}: start the node to bring an older "
                "one up to date, or make a new one (reindex)"
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
        """Yield a connection; all its statements see the same state of the database."""
        with self.engine.connect() as connection:
            yield connection

    def stored(self) -> Iterator[Stored]:
        """Yield all instances in the order of their file names, in one state of the database."""
        with self.reading() as connection:
            query = _STORED.order_by(instance.c.file)
            for row in connection.execution_options(yield_per=1000).execute(query):
                yield Stored(*row)

    def last_id(self) -> int:
        """Return the highest id of an instance; all later ones get higher ids."""
        with self.reading() as connection:
            return connection.execute(select(func.max(instance.c.id))).scalar() or 0

    def find(self, uids: Sequence[str]) -> dict[str, list[Stored]]:
        """Return the copies of instances in the index, by SOP Instance UID."""
        with self.reading() as connection:
            return _find(connection, uids)


class Index(IndexReader):
    """The database of a node. It is made if it is missing, and its schema is brought up to date.

    Raises
    ------
    IndexFailure, OSError
        When the database cannot be used.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path).absolute()
        self._lock = threading.Lock()  # guards _connection and _known; one writer at a time
        self._identity: tuple[int, int] | None = None
        """Device and inode of the database, by which `is_lost` notices a replacement."""
        self._open()

    def _open(self) -> None:
        # None until it is open: a new file may get the inode of the deleted one.
        self._identity = None
        self._known: _Series = {}  # contains committed series only
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
        except CommandError as error:  # a later version of the program made it
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
        """Whether its file was deleted or replaced, which SQLite does not notice."""
        return self._identity is None or _identity(self.path) != self._identity

    def reopen(self) -> None:
        """Open the database that is at the path now; make a new one if there is none."""
        self.close()
        if self._identity is not None and self.is_lost:
            # The logs belong to the old database, and SQLite would apply them to the new one.
            for log in logs_of(self.path):
                log.unlink(missing_ok=True)
        self._open()

    def knows(self, entry: Entry) -> bool:
        """Return whether the object's series is remembered: then only its instance row is read."""
        return (entry.study_uid, entry.series_uid) in self._known

    @contextlib.contextmanager
    def writing(self) -> Iterator[Writer]:
        """Yield a writer; the end of the block commits all of its changes in one transaction.

        They are on the disk after the block. An exception in it undoes them.

        Raises
        ------
        IndexFailure
            When the database cannot be written; then nothing is changed.
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
        """Return the copies of instances, by SOP Instance UID."""
        return _find(self._connection, uids)

    def add(self, objects: Sequence[Placed]) -> list[Placed]:
        """Add instances, and those of their series, studies and patients that are new.

        A known series, study or patient keeps the attributes of its first object, and a known
        study keeps its patient. Returns the objects whose Patient ID is not that of their study.
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
        """Remove instances; `prune` then removes the levels above that have become empty."""
        self.removed = True
        self._series = {}  # a replacement may change the patients of studies
        for some in _portions(ids):
            of_these = self._connection.execute(_SERIES_OF, {"ids": some}).scalars()
            self._emptied["series"].update(of_these)
            self._connection.execute(_REMOVE, {"ids": some})

    def prune(self) -> None:
        """Remove the series, studies and patients that `remove` or `add` has made empty."""
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
            self.learned.clear()  # the study may get another patient, also for known series
        else:
            known = self._series.get(key) or self.learned.get(key)
        if known is None:
            known = self.learned[key] = self._place(entry, placed.replaces)
        return known

    def _place(self, entry: Entry, replace: bool) -> _Known:
        """Return the object's series; add it if it is new, and the levels above it.

        With `replace`, the object's attributes replace those of the series and the levels above.
        """
        study_id, patient_id = self._study_of(entry, replace)
        values = {**_values(entry, Level.SERIES), "study": study_id}
        uid = values["series_instance_uid"]
        query = select(series.c.id).where(
            series.c.study == study_id, series.c.series_instance_uid == uid
        )
        found = self._connection.execute(query).scalar()
        return _Known(self._put(series, found, values, replace), patient_id)

    def _study_of(self, entry: Entry, replace: bool) -> tuple[int, str]:
        """Return the id of the object's study, and the Patient ID of this study."""
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
            self._emptied["patient"].add(current)  # this may have been the patient's last study
        study_id = self._put(study, found.id if found is not None else None, values, replace)
        return study_id, entry.patient_id

    def _patient_of(self, entry: Entry, replace: bool, current: int | None) -> int:
        """Return the id of the object's patient; `current` is the present patient of its study.

        An empty Patient ID identifies nobody: each study without one has a patient of its own.
        """
        values = _values(entry, Level.PATIENT)
        values["patient_name_key"] = fold_name(values["patient_name"])
        key = [patient.c[name] == values[name] for name in ("patient_id", "issuer_of_patient_id")]
        if not values["patient_id"]:
            key.append(patient.c.id == current)
        found = self._connection.execute(select(patient.c.id).where(*key)).scalar()
        return self._put(patient, found, values, replace)

    def _put(self, table: Table, found: int | None, values: dict[str, Any], replace: bool) -> int:
        """Return the id of a row: insert it unless it was `found`; with `replace`, update it."""
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
    if len(uids) == 1:  # the usual case with one association; this takes a third of the time
        copies = [Stored(*row) for row in connection.execute(_BY_UID, {"uid": uids[0]})]
        return {uids[0]: copies} if copies else {}
    for some in _portions(uids):
        for row in connection.execute(_BY_UIDS, {"uids": some}):
            found.setdefault(row.sop_instance_uid, []).append(Stored(*row))
    return found


def _portions(values: Sequence[_T]) -> Iterator[Sequence[_T]]:
    """Yield the values in portions that fit into one statement."""
    for start in range(0, len(values), _MOST_VARIABLES):
        yield values[start : start + _MOST_VARIABLES]


def iso(microseconds: int) -> str:
    """Return a time, given in microseconds since 1970, as UTC in ISO 8601."""
    return datetime.fromtimestamp(microseconds / 1e6, UTC).isoformat(timespec="microseconds")


def logs_of(path: Path) -> list[Path]:
    """Return the paths of the log files that SQLite keeps beside a database in use."""
    return [path.with_name(f"{path.name}{suffix}") for suffix in ("-wal", "-shm", "-journal")]


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _migrations() -> Config:
    config = Config()
    # Alembic interpolates it as in an INI file, where % has a meaning.
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    return config


def _create(path: Path) -> None:
    """Make an empty database that only its owner may read, if there is none."""
    with contextlib.suppress(FileExistsError):
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))


def _engine(path: Path, begin: str, pragmas: Sequence[str]) -> Engine:
    """Return an engine whose transactions begin with the statement `begin`.

    Python's driver begins one only before a change; a reader would not see one state.
    """
    engine = create_engine(
        URL.create("sqlite", database=str(path)),
        connect_args={"timeout": BUSY_TIMEOUT, "isolation_level": None},
        hide_parameters=True,  # keep patient data out of error texts
    )

    @event.listens_for(engine, "connect")
    def prepare(connection: Any, _record: object) -> None:
        for pragma in pragmas:
            connection.execute(f"PRAGMA {pragma}").close()

    @event.listens_for(engine, "begin")
    def start(connection: Connection) -> None:
        connection.exec_driver_sql(begin)

    return engine
