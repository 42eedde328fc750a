"""Changes the index: one writer at a time, each transaction for the objects of one batch.

`commit` decides what a duplicate is and what to do with it; this package does not touch the files
of objects.
"""

from __future__ import annotations

import contextlib
import threading
from collections import defaultdict
from collections.abc import Callable, Container, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from functools import lru_cache
from operator import itemgetter
from typing import Any, NamedTuple, TypeVar

from sqlalchemy import Connection, Table, bindparam, delete, exists, insert, select, update
from sqlalchemy.exc import DBAPIError, IntegrityError, SQLAlchemyError

from dicomwire.node.index.database import Database, IndexFailure, migrate, reason_of, transaction
from dicomwire.node.index.dialects import MOST_INDEXED, indexed
from dicomwire.node.index.reader import IndexReader, Stored, by_uid
from dicomwire.node.index.schema import instance, patient, series, study
from dicomwire.node.index.statements import portions
from dicomwire.node.ingest import Entry
from dicomwire.node.keys import Level
from dicomwire.node.names import fold_name

_K = TypeVar("_K")
_V = TypeVar("_V")
_MOST_KNOWN = 50_000
"""The most series to remember; a further instance of one of them takes a single statement. They
take some 25 MB of memory."""


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


_SERIES_OF = select(instance.c.series).where(instance.c.id.in_(bindparam("ids", expanding=True)))
_MOVE = (
    update(instance)
    .where(instance.c.id == bindparam("of"), instance.c.file == bindparam("old"))
    .values(file=bindparam("new"))
)
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


class Conflict(IndexFailure):
    """Another process has changed what a transaction relies on, or the connection was lost."""


class Index(IndexReader):
    """The database of a node. It is made if it is missing, and its schema is brought up to date.

    Other processes may use the same database at the same time.

    Raises
    ------
    IndexFailure, OSError
        When the database cannot be used.
    """

    def __init__(self, database: Database) -> None:
        self.database = database
        self._lock = threading.Lock()  # guards what follows in `_open`; one writer at a time
        self._identity: Hashable = None
        """That of the database, by which `is_lost` notices a replacement."""
        self._holds_readers = False
        self._open()

    def _open(self) -> None:
        # None until it is open: a new file may get the inode of the deleted one.
        self._identity = None
        self._known: _Series = {}
        """Series that are in the index, unless `Numbers.changes` is another one than `_seen`."""
        self._seen = 0
        self.engine = self.database.engine(is_reader=True)
        self._writing = self.database.engine(is_reader=False)
        try:
            self.database.prepare()
            self._connection = self._writing.connect()
            migrate(self.database, self._connection)
            self._identity = self.database.identity()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close all connections that are not in use."""
        with contextlib.suppress(AttributeError):
            self._connection.close()
        self._writing.dispose()
        super().close()

    @property
    def is_lost(self) -> bool:
        """Whether the database was deleted or replaced by another one."""
        return self._identity is None or self.database.identity() != self._identity

    def reopen(self) -> None:
        """Open the database that is there now; make a new one if there is none."""
        self.close()
        if self._identity is not None and self.is_lost:
            self.database.clear_replaced()
        self._open()

    def knows(self, entry: Entry) -> bool:
        """Return whether the object's series is remembered: then only its instance row is read."""
        return (entry.study_uid, entry.series_uid) in self._known

    @contextlib.contextmanager
    def writing(self, is_alone: bool = False, is_journaled: bool = False) -> Iterator[Writer]:
        """Yield a writer; the end of the block commits all of its changes in one transaction.

        They are on the disk after the block. An exception in it undoes them.

        Parameters
        ----------
        is_alone : bool
            Whether no other process writes meanwhile.
        is_journaled : bool
            Whether they need not be on the disk before `sync`, since the journal has them, or
            since no harm is done if a power failure undoes them.

        Raises
        ------
        Conflict
            When the same transaction, from its beginning, may succeed if it is repeated.
        InDoubt
            When the connection is lost during the commit.
        IndexFailure
            When the database cannot be written; then nothing is changed.
        """
        with self._lock:
            try:
                if self._connection.closed:
                    self._connection = self._writing.connect()
                with self.database.writing(
                    self._connection, is_alone=is_alone, is_journaled=is_journaled
                ):
                    changes, last = self.database.numbers(self._connection)
                    if changes != self._seen:
                        self._known.clear()
                        self._seen = changes
                    writer = Writer(self.database, self._connection, self._known, last)
                    yield writer
            except SQLAlchemyError as error:
                self._known.clear()
                if self._connection.invalidated:
                    self._connection.close()  # its transaction can neither go on nor begin anew
                if isinstance(error, DBAPIError) and _is_conflict(error):
                    raise Conflict(reason_of(error)) from None  # the error has values of objects
                raise
            finally:
                self._holds_readers = False
            if writer.removed:
                self._known.clear()
            elif len(self._known) + len(writer.learned) <= _MOST_KNOWN:
                self._known.update(writer.learned)
            else:
                self._known = writer.learned
        for call in writer.after_commit:
            call()

    def hold_readers(self) -> None:
        """Let readers wait for the end of the transaction, whose objects have been acknowledged."""
        self._holds_readers = True

    def reading_once(self) -> AbstractContextManager[Connection]:
        """Yield a connection; see `IndexReader.reading_once`. It sees all acknowledged objects."""
        if self._holds_readers:
            with self._lock:
                pass
        return super().reading_once()

    def sync(self) -> None:
        """Make all that is committed durable; IndexFailure or OSError if that fails."""
        self.database.sync(self.engine)

    @contextlib.contextmanager
    def made_anew(self) -> Iterator[Index]:
        """Yield an index without objects, which takes the place of this one after the block.

        Until then, others read this one, and cannot write it. An exception undoes all.
        """
        with self._lock, transaction(self._connection, self.database.begin_alone):
            self.database.note_change(self._connection)
            for table in (instance, series, study, patient):
                self._connection.execute(delete(table))
            yield _MadeAnew(self.database, self._connection)
            self._known.clear()


class _MadeAnew(Index):
    """An index within one transaction of another, which is committed at the end."""

    def __init__(self, database: Database, connection: Connection) -> None:
        self.database = database
        self._connection = connection
        self._known = {}

    @contextlib.contextmanager
    def reading(self) -> Iterator[Connection]:
        yield self._connection

    reading_once = reading

    @contextlib.contextmanager
    def writing(self, is_alone: bool = False, is_journaled: bool = False) -> Iterator[Writer]:
        writer = Writer(self.database, self._connection, self._known)
        yield writer
        self._known = {} if writer.removed else writer.learned


_REPEATABLE = ("40001", "40P01")
"""The SQLSTATEs of PostgreSQL for a serialization failure and a deadlock."""


def _is_conflict(error: DBAPIError) -> bool:
    """Return whether another process, or a lost connection, made a transaction fail."""
    if isinstance(error, IntegrityError) or error.connection_invalidated:
        return True
    return getattr(error.orig, "sqlstate", None) in _REPEATABLE


class Writer:
    """Changes the index within one transaction."""

    def __init__(
        self,
        database: Database,
        connection: Connection,
        known: _Series,
        last: int | None = None,
    ) -> None:
        self._database = database
        self._connection = connection
        self._series = known
        self.last = last
        """The last number; None if the database chooses the ids. See `number`."""
        self._locked: set[str] = set()
        self._emptied: defaultdict[str, set[int]] = defaultdict(set)
        self.learned: _Series = {}
        self.removed = False
        self.after_commit: list[Callable[[], object]] = []
        """What to call when the transaction is committed."""

    @property
    def connection(self) -> Connection:
        """The connection of the transaction, for statements of other modules."""
        return self._connection

    def find(self, uids: Sequence[str]) -> dict[str, list[Stored]]:
        """Return the copies of instances, by SOP Instance UID."""
        return by_uid(self._database.find(self._connection, uids))

    def known(self, uids: Sequence[str]) -> tuple[dict[str, list[Stored]], Container[str]]:
        """Return the copies of instances, by SOP Instance UID, and the UIDs that are rejected."""
        found = list(self._database.find(self._connection, uids, with_rejected=True))
        if not found:
            return {}, ()
        rows = [Stored._make(row) for row in found]
        rejected = {row.sop_instance_uid for row in rows if not row.file}
        return by_uid(row for row in rows if row.file), rejected

    def number(self) -> int:
        """Return the number of the batch that this transaction adds.

        By its numbers, a replay of the journal knows which batches an index has: all up to the
        last number, since transactions come one after the other, and become durable in this order.
        A number is the id of the first instance that is added, so that nothing else is written.
        It is 0 if each transaction is durable by itself.
        """
        return 0 if self.last is None else self.last + 1

    def add(self, objects: Sequence[Placed]) -> list[Placed]:
        """Add instances, and those of their series, studies and patients that are new.

        A known series, study or patient keeps the attributes of its first object, and a known
        study keeps its patient. Returns the objects whose Patient ID is not that of their study.
        """
        rows: list[dict[str, Any]] = []
        others = []
        for placed in objects:
            if placed.replaces or self._series_of(placed.entry) is None:
                self._learn_series_of(objects)
                break
        for placed in objects:
            known = self._renewed(placed) if placed.replaces else self._series_of(placed.entry)
            if known is None:  # it was forgotten by `_renewed`
                self._learn({(placed.entry.study_uid, placed.entry.series_uid): placed.entry})
                known = self._series_of(placed.entry)
            assert known is not None
            rows.append(_row(placed, known.id))
            if placed.entry.patient_id != known.patient_id:
                others.append(placed)
        if len(rows) > 1:
            # In one order for all processes: two that add the same UIDs do not wait for each other.
            rows.sort(key=itemgetter("sop_instance_uid"))
        if self.last is not None:
            for row in rows:
                self.last += 1
                row["id"] = self.last
        if rows:
            self._database.add(self._connection, rows)
        return others

    def _learn_series_of(self, objects: Sequence[Placed]) -> None:
        """Find or add the series of objects, but for those that replace others."""
        if any(placed.replaces for placed in objects):
            self.lock([placed.entry for placed in objects])
        unknown = _firsts(
            ((placed.entry.study_uid, placed.entry.series_uid), placed.entry)
            for placed in objects
            if not placed.replaces and self._series_of(placed.entry) is None
        )
        if unknown:
            self._learn(unknown)

    def _renewed(self, placed: Placed) -> _Known:
        if not self.removed:
            self._change()  # the study may get another patient, also for known series
        self.learned.clear()
        return self._renew(placed.entry)

    def _series_of(self, entry: Entry) -> _Known | None:
        key = entry.study_uid, entry.series_uid
        return self._series.get(key) or self.learned.get(key)

    def move(self, objects: Sequence[tuple[Stored, str]]) -> set[str]:
        """Give objects new names in the store; return those of the new names that are in use.

        An object that was replaced or moved meanwhile keeps the name that it has.
        """
        moves = [{"of": each.id, "old": each.file, "new": name} for each, name in objects]
        self._connection.execute(_MOVE, moves)
        found = self.find([each.sop_instance_uid for each, _ in objects])
        files = {stored.file for copies in found.values() for stored in copies}
        return files.intersection(name for _, name in objects)

    def add_tasks(self, rows: list[dict[str, Any]]) -> None:
        """Add rows of the table of tasks; see `tasks.queue`."""
        self._database.add_tasks(self._connection, rows)

    def owned(self, owner: str, tasks: Iterable[int]) -> int:
        """Return how many of these tasks an owner has."""
        return self._database.owned(self._connection, owner, tasks)

    def remove(self, ids: Sequence[int]) -> None:
        """Remove instances; `prune` then removes the levels above that have become empty."""
        self._change()
        for some in portions(ids):
            of_these = self._connection.execute(_SERIES_OF, {"ids": some}).scalars()
            self._emptied["series"].update(of_these)
            self._connection.execute(_REMOVE, {"ids": some})

    def _change(self) -> None:
        """Let no process rely on the series that it remembers."""
        self.removed = True
        self._database.note_change(self._connection)
        self._series = {}

    def prune(self) -> None:
        """Remove the series, studies and patients that `remove` or `add` has made empty."""
        for name, parent in _PARENTS.items():
            table = parent.table
            is_empty = ~exists().where(parent.below.c[name] == table.c.id)
            for some in portions(list(self._emptied[name])):
                if parent.above is not None:
                    higher = select(table.c[parent.above]).where(table.c.id.in_(some))
                    self._emptied[parent.above].update(self._connection.execute(higher).scalars())
                self._connection.execute(delete(table).where(table.c.id.in_(some), is_empty))

    def lock(self, entries: Iterable[Entry]) -> None:
        """Keep other processes from adding or changing the studies and patients of objects.

        All that a transaction needs is locked at once, in one order, so that there is no deadlock.
        """
        names = {f"study {entry.study_uid}" for entry in entries}
        names.update(f"patient {entry.patient_id}" for entry in entries if entry.patient_id)
        if not names <= self._locked:
            self.lock_names([*names])
            self._locked |= names

    def lock_names(self, names: Sequence[str]) -> None:
        """Wait until no other process holds one of these names; hold them to the end."""
        self._database.lock(self._connection, names)

    def _learn(self, entries: Mapping[tuple[str, str], Entry]) -> None:
        """Find the series of objects, and add those that are new, with the levels above them.

        Each level takes one or two statements, whatever the number of objects.
        """
        self.lock(entries.values())
        studies = self._studies_of(_firsts((each.study_uid, each) for each in entries.values()))
        wanted = {(studies[key[0]].id, key[1]): key for key in entries}
        found: dict[tuple[int, str], int] = {}
        for some in portions(list(wanted)):
            query = select(series.c.study, series.c.series_instance_uid, series.c.id).where(
                series.c.study.in_([study_id for study_id, _ in some]),
                series.c.series_instance_uid.in_([uid for _, uid in some]),
            )
            for study_id, uid, series_id in self._connection.execute(query):
                found[study_id, uid] = series_id
        new = [each for each in wanted if each not in found]
        rows = [{**_values(entries[wanted[each]], Level.SERIES), "study": each[0]} for each in new]
        found.update(zip(new, self._insert(series, rows), strict=True))
        for each, key in wanted.items():
            self.learned[key] = _Known(found[each], studies[key[0]].patient_id)

    def _studies_of(self, entries: Mapping[str, Entry]) -> dict[str, _Known]:
        """Return the studies of objects, by UID; add those that are new."""
        found: dict[str, _Known] = {}
        for some in portions(list(entries)):
            query = select(study.c.study_instance_uid, study.c.id, patient.c.patient_id)
            query = query.join_from(study, patient).where(study.c.study_instance_uid.in_(some))
            for uid, study_id, patient_id in self._connection.execute(query):
                found[uid] = _Known(study_id, patient_id)
        new = {uid: entry for uid, entry in entries.items() if uid not in found}
        if new:
            patients = self._patients_of(new)
            rows = [
                {**_values(entry, Level.STUDY), "patient": patients[uid]}
                for uid, entry in new.items()
            ]
            for (uid, entry), study_id in zip(new.items(), self._insert(study, rows), strict=True):
                found[uid] = _Known(study_id, entry.patient_id)
        return found

    def _patients_of(self, entries: Mapping[str, Entry]) -> dict[str, int]:
        """Return the patients of studies, by the studies' UIDs; add those that are new."""
        keys = {uid: _patient_key(uid, entry) for uid, entry in entries.items()}
        found: dict[tuple[str, ...], int] = {}
        for some in portions([key[0] for key in keys.values() if key[0]]):
            query = select(patient.c.patient_id, patient.c.issuer_of_patient_id, patient.c.id)
            beginnings = [patient_id[:MOST_INDEXED] for patient_id in some]
            query = query.where(indexed(patient.c.patient_id).in_(beginnings))
            for patient_id, issuer, number in self._connection.execute(query):
                found[patient_id, issuer] = number
        new = _firsts((keys[uid], entry) for uid, entry in entries.items())
        new = {key: entry for key, entry in new.items() if key not in found}
        rows = [_patient_values(entry) for entry in new.values()]
        found.update(zip(new, self._insert(patient, rows), strict=True))
        return {uid: found[key] for uid, key in keys.items()}

    def _insert(self, table: Table, rows: list[dict[str, Any]]) -> list[int]:
        """Insert rows; return their ids."""
        if not rows:
            return []
        dialect = self._connection.dialect
        if len(rows) == 1 or not dialect.insert_executemany_returning_sort_by_parameter_order:
            return [self._insert_one(table, row) for row in rows]
        statement = insert(table).returning(table.c.id, sort_by_parameter_order=True)
        return list(self._connection.execute(statement, rows).scalars())

    def _insert_one(self, table: Table, row: dict[str, Any]) -> int:
        key = self._connection.execute(insert(table), row).inserted_primary_key
        assert key is not None
        return int(key[0])

    # --- Replacing: one object at a time ---

    def _renew(self, entry: Entry) -> _Known:
        """Return the object's series, and let the object's attributes replace those above it."""
        values = _values(entry, Level.STUDY)
        query = select(study.c.id, study.c.patient)
        found = self._connection.execute(
            query.where(study.c.study_instance_uid == entry.study_uid)
        ).first()
        current = found.patient if found is not None else None
        values["patient"] = self._renew_patient(entry, current)
        if current not in (None, values["patient"]):
            self._emptied["patient"].add(current)  # this may have been the patient's last study
        study_id = self._put(study, found.id if found is not None else None, values)
        values = {**_values(entry, Level.SERIES), "study": study_id}
        query_series = select(series.c.id).where(
            series.c.study == study_id, series.c.series_instance_uid == entry.series_uid
        )
        series_id = self._connection.execute(query_series).scalar()
        return _Known(self._put(series, series_id, values), entry.patient_id)

    def _renew_patient(self, entry: Entry, current: int | None) -> int:
        """Return the id of the object's patient; `current` is the present patient of its study.

        An empty Patient ID identifies nobody: each study without one has a patient of its own.
        """
        values = _patient_values(entry)
        key = [patient.c[name] == values[name] for name in ("patient_id", "issuer_of_patient_id")]
        if values["patient_id"]:
            key.append(indexed(patient.c.patient_id) == values["patient_id"][:MOST_INDEXED])
        else:
            key.append(patient.c.id == current)
        found = self._connection.execute(select(patient.c.id).where(*key)).scalar()
        return self._put(patient, found, values)

    def _put(self, table: Table, found: int | None, values: dict[str, Any]) -> int:
        """Update the row that was `found`, or insert one; return its id."""
        if found is None:
            return self._insert_one(table, values)
        self._connection.execute(update(table).where(table.c.id == found), values)
        return found


def _firsts(pairs: Iterable[tuple[_K, _V]]) -> dict[_K, _V]:
    """Return the first value of each key."""
    found: dict[_K, _V] = {}
    for key, value in pairs:
        found.setdefault(key, value)
    return found


def _patient_values(entry: Entry) -> dict[str, Any]:
    values = _values(entry, Level.PATIENT)
    values["patient_name_key"] = fold_name(values["patient_name"])
    return values


def _patient_key(study_uid: str, entry: Entry) -> tuple[str, ...]:
    """Return what identifies the patient of a study.

    An empty Patient ID identifies nobody: each study without one has a patient of its own.
    """
    columns = entry.row(Level.PATIENT).columns
    if not columns["patient_id"]:
        return "", "", study_uid
    return columns["patient_id"], columns["issuer_of_patient_id"]


def _values(entry: Entry, level: Level) -> dict[str, Any]:
    row = entry.row(level)
    return {**row.columns, "attributes": row.attributes}


def _row(placed: Placed, series_id: int) -> dict[str, Any]:
    entry = placed.entry
    columns, attributes = entry.row(Level.IMAGE)
    return {
        **columns,
        "attributes": attributes,
        "transfer_syntax_uid": entry.origin.transfer_syntax_uid,
        "series": series_id,
        "copy": placed.copy,
        "file": placed.file,
        "size": placed.size,
        "digest": placed.digest,
        "received": iso(placed.received),
    }


def iso(microseconds: int) -> str:
    """Return a time, given in microseconds since 1970, as UTC in ISO 8601."""
    seconds, rest = divmod(microseconds, 1_000_000)
    return f"{_to_the_second(seconds)}.{rest:06d}+00:00"


@lru_cache(maxsize=16)
def _to_the_second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).replace(tzinfo=None).isoformat()
