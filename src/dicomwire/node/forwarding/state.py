"""What waits for each destination, for operators."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

from sqlalchemy import case, func, select

from dicomwire.node.forwarding.sending import DESTINATION
from dicomwire.node.index.reader import IndexReader
from dicomwire.node.index.schema import task
from dicomwire.node.routing import SEND


class DestinationState(NamedTuple):
    """A destination, and its queue."""

    name: str
    is_known: bool
    """Whether it is in the configuration; otherwise what waits for it is not sent."""
    waiting: int = 0
    """Objects that are sent as soon as it takes them."""
    held: int = 0
    """Objects that wait until their series or study is quiet."""
    dead: int = 0
    """Objects that were given up; `Queue.retry` sends them again."""
    is_sending: bool = False
    failures: int = 0
    """How often it could not be reached since it was reached last."""
    next_attempt: float | None = None
    """When it is tried again, in seconds since 1970; None if it can be reached."""
    error: str = ""
    """Why it could not be reached, or why the last object that failed was not sent."""

    def __bool__(self) -> bool:
        """Whether there is something to say: objects that are not sent yet, or a failure."""
        return self != DestinationState(self.name, self.is_known)


def destinations(index: IndexReader, known: Iterable[str]) -> list[DestinationState]:
    """Return the state of the `known` destinations, and of others for which objects wait.

    It counts the tasks, which takes a tenth of a second for a million of them.
    """
    names = [*known]
    found = {name: DestinationState(name, True) for name in names}
    is_dead, is_held = task.c.due.is_(None), task.c.due == math.inf
    kinds = (
        select(
            task.c.kind,
            func.sum(case((is_dead, 1), else_=0)),
            func.sum(case((is_held, 1), else_=0)),
            func.count(),
            func.max(case((task.c.error != "", task.c.id))),
        )
        .where(task.c.kind.startswith(SEND, autoescape=True))
        .group_by(task.c.kind)
    )
    rows = select(task.c.key, task.c.owner, task.c.attempts, task.c.due, task.c.error).where(
        task.c.kind.startswith(DESTINATION, autoescape=True)
    )
    with index.reading() as connection:
        for kind, dead, held, total, failed in connection.execute(kinds).all():
            name = kind.removeprefix(SEND)
            error = connection.execute(select(task.c.error).where(task.c.id == failed)).scalar()
            found[name] = DestinationState(
                *(name, name in names, total - dead - held, held, dead), error=error or ""
            )
        for name, owner, attempts, due, error in connection.execute(rows):
            state = found.get(name, DestinationState(name, name in names))
            if owner:
                state = state._replace(is_sending=True)
            else:
                state = state._replace(failures=attempts, next_attempt=due, error=error)
            found[name] = state
    return list(found.values())
