"""Reads the index: which instances it has, and connections for `search`.

`writer` changes it, `database` opens it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple, Self, TypeVar

from sqlalchemy import Connection, func, select

from dicomwire.node.index.database import Database, check_revision, transaction
from dicomwire.node.index.schema import instance, patient, series, study
from dicomwire.node.index.statements import STORED

_MOST_VARIABLES = 500
"""The most values in one statement; SQLite allows 32,766, and old versions 999."""
_T = TypeVar("_T")


class Stored(NamedTuple):
    """An instance in the index."""

    id: int
    sop_instance_uid: str
    copy: int
    file: str
    digest: str
    received: str


class Described(NamedTuple):
    """To which patient, study and series an instance belongs, for people."""

    patient_id: str
    patient_name: str
    study_instance_uid: str
    series_instance_uid: str
    sop_instance_uid: str


_DESCRIBED = select(
    patient.c.patient_id,
    patient.c.patient_name,
    study.c.study_instance_uid,
    series.c.series_instance_uid,
    instance.c.sop_instance_uid,
).select_from(instance.join(series.join(study.join(patient))))


class IndexReader:
    """The database of a node for reading, also while another process writes it.

    Raises
    ------
    IndexFailure
        When the database cannot be used; `WrongRevision` if another version made it.

    Attributes
    ----------
    studies : None
        All studies are searched; `visible.VisibleIndex` restricts them.
    """

    studies = None

    def __init__(self, database: Database) -> None:
        self.database = database
        self.engine = database.engine(is_reader=True)
        """Gives connections for reading, to any thread."""
        try:
            with self.reading() as connection:
                check_revision(connection)
        except BaseException:
            self.close()
            raise

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
        with (
            self.reading_once() as connection,
            transaction(connection, self.database.begin_reading),
        ):
            yield connection

    def reading_once(self) -> AbstractContextManager[Connection]:
        """Yield a connection for one statement, which needs no transaction around it."""
        return self.engine.connect()

    def stored(self) -> Iterator[Stored]:
        """Yield all instances in the order of their file names, in one state of the database."""
        with self.reading() as connection:
            query = STORED.order_by(instance.c.file)
            streamed = {"yield_per": 1000}
            with connection.execute(query, execution_options=streamed) as result:
                for row in result:
                    yield Stored(*row)

    def stored_after(self, last_id: int, most: int) -> list[Stored]:
        """Return instances in the order of their ids, which are higher than `last_id`."""
        with self.reading_once() as connection:
            query = STORED.where(instance.c.id > last_id).order_by(instance.c.id).limit(most)
            return [Stored(*row) for row in connection.execute(query)]

    def last_id(self) -> int:
        """Return the highest id of an instance; all later ones get higher ids."""
        with self.reading_once() as connection:
            return connection.execute(select(func.max(instance.c.id))).scalar() or 0

    def find(self, uids: Sequence[str]) -> dict[str, list[Stored]]:
        """Return the copies of instances in the index, by SOP Instance UID."""
        with self.reading() as connection:
            return by_uid(self.database.find(connection, uids))

    def described(self, id: int) -> Described | None:
        """Return what an instance is part of; None if it is no longer in the index."""
        with self.reading_once() as connection:
            row = connection.execute(_DESCRIBED.where(instance.c.id == id)).first()
        return Described(*row) if row is not None else None


def by_uid(rows: Iterable[Sequence[Any]]) -> dict[str, list[Stored]]:
    """Return rows of `Database.find` by SOP Instance UID."""
    found: dict[str, list[Stored]] = {}
    for row in rows:
        stored = Stored._make(row)
        found.setdefault(stored.sop_instance_uid, []).append(stored)
    return found
