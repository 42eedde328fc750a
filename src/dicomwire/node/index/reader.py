"""Reads the index: which instances it has, and connections for `search`.

`writer` changes it, `database` opens it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple, Self, TypeVar

from sqlalchemy import Connection, bindparam, func, select

from dicomwire.node.index.database import Database, check_revision, transaction
from dicomwire.node.index.schema import instance

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


class IndexReader:
    """The database of a node for reading, also while another process writes it.

    Raises
    ------
    IndexFailure
        When the database cannot be used; `WrongRevision` if another version made it.
    """

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
            self.engine.connect() as connection,
            transaction(connection, self.database.begin_reading),
        ):
            yield connection

    def stored(self) -> Iterator[Stored]:
        """Yield all instances in the order of their file names, in one state of the database."""
        with self.reading() as connection:
            query = _STORED.order_by(instance.c.file)
            streamed = {"yield_per": 1000}
            with connection.execute(query, execution_options=streamed) as result:
                for row in result:
                    yield Stored(*row)

    def last_id(self) -> int:
        """Return the highest id of an instance; all later ones get higher ids."""
        with self.reading() as connection:
            return connection.execute(select(func.max(instance.c.id))).scalar() or 0

    def find(self, uids: Sequence[str]) -> dict[str, list[Stored]]:
        """Return the copies of instances in the index, by SOP Instance UID."""
        with self.reading() as connection:
            return find_in(connection, uids)


def find_in(connection: Connection, uids: Sequence[str]) -> dict[str, list[Stored]]:
    """Return the copies of instances, by SOP Instance UID."""
    found: dict[str, list[Stored]] = {}
    if len(uids) == 1:  # the usual case with one association; this takes a third of the time
        copies = [Stored(*row) for row in connection.execute(_BY_UID, {"uid": uids[0]})]
        return {uids[0]: copies} if copies else {}
    for some in portions(uids):
        for row in connection.execute(_BY_UIDS, {"uids": some}):
            found.setdefault(row.sop_instance_uid, []).append(Stored(*row))
    return found


def portions(values: Sequence[_T]) -> Iterator[Sequence[_T]]:
    """Yield the values in portions that fit into one statement."""
    for start in range(0, len(values), _MOST_VARIABLES):
        yield values[start : start + _MOST_VARIABLES]
