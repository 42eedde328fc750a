"""The objects that wait to be sent to one destination: rows of the table of tasks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy import bindparam, delete, select, update

from dicomwire.node.index.reader import IndexReader
from dicomwire.node.index.schema import instance, task
from dicomwire.node.index.statements import portions
from dicomwire.node.index.writer import Writer
from dicomwire.node.query import Found
from dicomwire.node.routing import DIGITS
from dicomwire.node.tasks.queue import LONGEST_ERROR

MOST = 500
"""The most objects that are read, and then removed, in one transaction: each takes some 10 ms then,
for which receiving may have to wait."""
MOST_BYTES = 64 * 1024 * 1024
"""The bytes from which on a batch is complete, so that after a crash no more is sent again."""

_INSTANCES = select(
    instance.c.sop_class_uid,
    instance.c.sop_instance_uid,
    instance.c.transfer_syntax_uid,
    instance.c.file,
    instance.c.digest,
    instance.c.size,
    instance.c.series,
).where(instance.c.sop_instance_uid.in_(bindparam("uids", expanding=True)))
_REMOVE = delete(task).where(task.c.id.in_(bindparam("ids", expanding=True)))
_FAIL = (
    update(task)
    .where(task.c.id == bindparam("of"))
    .values(attempts=bindparam("failures"), due=bindparam("next"), error=bindparam("reason"))
)


class Pending(NamedTuple):
    """An object to send."""

    id: int
    """The id of its task."""
    attempts: int
    """How often that has failed."""
    payload: Mapping[str, Any]
    found: Found
    series: int
    """A number of its series: objects of one series are sent in order."""

    @property
    def uid(self) -> str:
        """Its SOP Instance UID."""
        return self.found.sop_instance_uid


class DueObjects(NamedTuple):
    """Some of the objects that are due."""

    objects: Sequence[Pending]
    gone: Sequence[int]
    """The ids of tasks whose objects were deleted or replaced: there is nothing to send."""


class Failure(NamedTuple):
    """An object that could not be sent."""

    id: int
    attempts: int
    due: float | None
    """When it is sent again; None: never."""
    error: str


def due_objects(index: IndexReader, kind: str, now: float) -> DueObjects:
    """Return the first objects of a kind of tasks that are due."""
    query = (
        select(task.c.id, task.c.attempts, task.c.payload)
        .where(task.c.kind == kind, task.c.due <= now)
        .order_by(task.c.due, task.c.id)
        .limit(MOST)
    )
    with index.reading() as connection:
        tasks = connection.execute(query).all()
        found: dict[tuple[str, str], Any] = {}
        for uids in portions(list({each.payload["uid"] for each in tasks})):
            for row in connection.execute(_INSTANCES, {"uids": uids}):
                found[row.sop_instance_uid, row.digest[:DIGITS]] = row
    objects: list[Pending] = []
    gone: list[int] = []
    size = 0
    for id, attempts, payload in tasks:
        stored = found.get((payload["uid"], payload["digest"]))
        if stored is None:
            gone.append(id)
            continue
        objects.append(Pending(id, attempts, payload, Found(*stored[:4]), stored.series))
        size += stored.size
        if size >= MOST_BYTES:
            break
    return DueObjects(objects, gone)


def next_due(index: IndexReader, kind: str) -> float | None:
    """Return when the next object of a kind of tasks is due; None if there is none."""
    query = select(task.c.due).where(task.c.kind == kind, task.c.due.is_not(None))
    with index.reading() as connection:
        return connection.execute(query.order_by(task.c.due).limit(1)).scalar()


def remove(writer: Writer, ids: Sequence[int]) -> None:
    """Remove tasks that are done."""
    for some in portions(ids):
        writer.connection.execute(_REMOVE, {"ids": some})


def note_failures(writer: Writer, failures: Sequence[Failure]) -> None:
    """Let tasks run again later, or never."""
    if failures:
        rows = [
            {
                "of": each.id,
                "failures": each.attempts,
                "next": each.due,
                "reason": each.error[:LONGEST_ERROR],
            }
            for each in failures
        ]
        writer.connection.execute(_FAIL, rows)


def give_up_old(writer: Writer, kind: str, before: float, error: str) -> int:
    """Give up the tasks of a kind that are older than that; return how many."""
    old = update(task).where(task.c.kind == kind, task.c.due.is_not(None), task.c.created < before)
    return int(
        writer.connection.execute(old.values(due=None, error=error[:LONGEST_ERROR])).rowcount
    )
