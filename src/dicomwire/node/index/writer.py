"""Changes the index: one writer at a time, each transaction for the objects of one batch.

`commit` decides what a duplicate is and what to do with it; this package does not touch the files
of objects.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from sqlalchemy import Connection, Table, bindparam, delete, exists, insert, select, update

from dicomwire.node.index.database import (
    PRAGMAS,
    create_file,
    identity_of,
    logs_of,
    migrate,
    new_engine,
)
from dicomwire.node.index.reader import IndexReader, Stored, find_in, portions
from dicomwire.node.index.schema import instance, patient, series, study
from dicomwire.node.ingest import Entry
from dicomwire.node.keys import Level
from dicomwire.node.names import fold_name

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
        self.engine = new_engine(self.path, "BEGIN", PRAGMAS)
        self._writing = new_engine(self.path, "BEGIN IMMEDIATE", PRAGMAS)
        try:
            create_file(self.path)
            self._connection = self._writing.connect()
            migrate(self._connection)
            self._identity = identity_of(self.path)
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
        """Whether its file was deleted or replaced, which SQLite does not notice."""
        return self._identity is None or identity_of(self.path) != self._identity

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
        for call in writer.after_commit:
            call()


class Writer:
    """Changes the index within one transaction."""

    def __init__(self, connection: Connection, known: _Series) -> None:
        self._connection = connection
        self._series = known
        self._emptied: dict[str, set[int]] = {name: set() for name in _PARENTS}
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
        return find_in(self._connection, uids)

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
        for some in portions(ids):
            of_these = self._connection.execute(_SERIES_OF, {"ids": some}).scalars()
            self._emptied["series"].update(of_these)
            self._connection.execute(_REMOVE, {"ids": some})

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


def iso(microseconds: int) -> str:
    """Return a time, given in microseconds since 1970, as UTC in ISO 8601."""
    return datetime.fromtimestamp(microseconds / 1e6, UTC).isoformat(timespec="microseconds")
