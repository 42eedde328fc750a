"""The tasks in the index: deferred work, repeated until it succeeds.

A task is written in the transaction of what causes it, so that one is never there without the
other. `threads` runs the tasks.
"""

from __future__ import annotations

import math
import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import StrEnum
from typing import Any, NamedTuple

from sqlalchemy import (
    BindParameter,
    ColumnElement,
    Select,
    and_,
    bindparam,
    case,
    delete,
    func,
    insert,
    literal,
    or_,
    select,
    text,
    update,
)

from dicomwire.node.index.reader import IndexReader
from dicomwire.node.index.schema import task
from dicomwire.node.index.writer import Index, Writer

LEASE = 60.0
"""Seconds for which a process takes tasks. It renews the lease while it lives; if it dies, others
take its tasks when the lease ends. The clocks of machines may differ by much less than this."""
_TAKING = 7_303_285
"""The number of the advisory lock of PostgreSQL that lets one process take tasks at a time. It is
held for two statements; without it, two could take tasks of one key, each before it sees the
other's. The number has no meaning, but differs from the others in this database."""
LONGEST_ERROR = 1000
"""In characters: more is of no use in a list of tasks."""

_PART = "/"

Clock = Callable[[], float]
"""Gives the time in seconds since 1970."""


class State(StrEnum):
    """The state of a task."""

    WAITING = "waiting"
    RUNNING = "running"
    DEAD = "dead"
    """It failed for too long; only `Queue.retry` makes it wait again."""


class NewTask(NamedTuple):
    """A task to add."""

    kind: str
    payload: Mapping[str, Any] | str
    """What the kind needs to know: JSON, or its text, to encode what several tasks have once."""
    key: str = ""
    """Tasks of one kind and key are run in order, and in one process at a time; "" is no key."""
    delay: float = 0.0
    """Seconds until it may run; `math.inf`: not before its row is changed."""
    is_only: bool = False
    """Whether there is to be only one of this kind and key: if there is one, it is postponed, and
    none is added. If that one is running, its process loses it, and has to look for that before it
    finishes the task."""


class Task(NamedTuple):
    """A task that was taken, to be run by this process."""

    id: int
    kind: str
    key: str
    payload: Mapping[str, Any]
    attempts: int
    """How often it was taken, this time included."""

    def __hash__(self) -> int:
        return hash(self.id)


class ListedTask(NamedTuple):
    """A task as an operator sees it."""

    id: int
    kind: str
    key: str
    state: State
    attempts: int
    due: float | None
    """When it runs; when the lease ends, if it is running; None if it is dead."""
    error: str
    """Why it failed last; "" if it did not."""
    created: float
    payload: Mapping[str, Any]


_STATE = case(
    (task.c.due.is_(None), State.DEAD.value),
    (task.c.owner != "", State.RUNNING.value),
    else_=State.WAITING.value,
).label("state")
_TASK = (task.c.id, task.c.kind, task.c.key, task.c.payload, task.c.attempts)
_IS_TO_DO = or_(task.c.owner == "", task.c.due.is_(None), task.c.due < math.inf)
"""False for a task that a process keeps as long as it lives: others run it when it has died."""


def _where(
    kind: str | None, states: Sequence[State], ids: Sequence[int] = ()
) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = []
    if kind is not None:
        conditions.append(task.c.kind == kind)
    if states:
        conditions.append(_STATE.in_(states))
    if ids:
        conditions.append(task.c.id.in_(ids))
    return conditions


def listed(
    index: IndexReader, kind: str | None = None, states: Sequence[State] = ()
) -> Iterator[ListedTask]:
    """Yield what is to be done, in the order in which it was added."""
    columns = (task.c.id, task.c.kind, task.c.key, _STATE, task.c.attempts, task.c.due)
    query = select(*columns, task.c.error, task.c.created, task.c.payload)
    query = query.where(_IS_TO_DO, *_where(kind, states)).order_by(task.c.id)
    streamed = {"yield_per": 1000}
    with (
        index.reading() as connection,
        connection.execute(query, execution_options=streamed) as result,
    ):
        for row in result:
            yield ListedTask(*row)._replace(state=State(row.state))


def counts(index: IndexReader) -> dict[str, dict[State, int]]:
    """Return how much is to be done, by kind and state."""
    found: dict[str, dict[State, int]] = {}
    query = select(task.c.kind, _STATE, func.count()).where(_IS_TO_DO)
    query = query.group_by(task.c.kind, _STATE).order_by(task.c.kind)
    with index.reading() as connection:
        for kind, state, number in connection.execute(query):
            found.setdefault(kind, dict.fromkeys(State, 0))[State(state)] = number
    return found


def is_empty(index: IndexReader) -> bool:
    """Return whether nothing is to be done."""
    with index.reading() as connection:
        return connection.execute(select(task.c.id).where(_IS_TO_DO).limit(1)).first() is None


def add_tasks(writer: Writer, tasks: Sequence[NewTask], now: float) -> None:
    """Add tasks in a transaction of the index; `now` is the time from which delays count."""
    rows = [_row(new, now) for new in tasks if not new.is_only]
    # In one order for all processes, since each is locked.
    for new in sorted((new for new in tasks if new.is_only), key=lambda new: (new.kind, new.key)):
        writer.lock_names([f"task {new.kind} {new.key}"])
        same = update(task).where(task.c.kind == new.kind, task.c.key == new.key)
        found = writer.connection.execute(same.values(due=now + new.delay, owner=""))
        if not found.rowcount:
            rows.append(_row(new, now))
    if rows:
        writer.add_tasks(rows)


def _row(new: NewTask, now: float) -> dict[str, Any]:
    return {
        "kind": new.kind,
        "key": new.key,
        "payload": new.payload,
        "due": now + new.delay,
        "created": now,
    }


def name_in_process(owner: str) -> str:
    """Return the name of an owner for one process of a node, whose leases end with it.

    The heartbeat of the node does not renew them: the process may die alone.
    """
    return f"{owner}{_PART}{secrets.token_hex(4)}"


class Queue:
    """The tasks of an index, for one process.

    Parameters
    ----------
    index : Index
    owner : str
        Identifies the process in the tasks that it takes.
    clock : callable
        All processes need about the same time: they compare it with the leases of others.
    """

    def __init__(self, index: Index, owner: str, clock: Clock = time.time) -> None:
        self.index = index
        self.owner = owner
        self.clock = clock
        self.on_added: Callable[[set[str]], None] = lambda kinds: None
        """Called with the kinds of added tasks, after the commit of their transaction."""

    def add(self, writer: Writer, tasks: Sequence[NewTask]) -> None:
        """Add tasks in a transaction of the index."""
        if not tasks:
            return
        add_tasks(writer, tasks, self.clock())
        kinds = {new.kind for new in tasks}
        writer.after_commit.append(lambda: self.on_added(kinds))

    def take(self, kind: str, most: int, *, is_attempt: bool = True) -> list[Task]:
        """Take up to `most` tasks that are due, the first ones first, for `LEASE` seconds.

        Usually that counts as an attempt, so that a task which ends its process is dead some day.
        """
        now = self.clock()
        which = {"of_kind": kind, "now": now, "most": most}
        with self.index.reading() as connection:  # a change would wait for the one writer
            if connection.execute(_DUE, which).first() is None:
                return []
        with self.index.writing() as writer:
            connection = writer.connection
            if connection.dialect.name == "postgresql":
                connection.execute(text(f"SELECT pg_advisory_xact_lock({_TAKING})"))
            found = connection.execute(_DUE_AND_LOCKED, which).all()
            attempts = task.c.attempts + int(is_attempt)
            lease = {"owner": self.owner, "due": now + LEASE, "attempts": attempts}
            ids = [row.id for row in found]
            connection.execute(update(task).where(task.c.id.in_(ids)).values(lease))
        return [Task(*row)._replace(attempts=row.attempts + int(is_attempt)) for row in found]

    def begin(self, writer: Writer, new: NewTask, lease: float = LEASE) -> Task:
        """Add a task that this process has taken already, for so many seconds; see `add`."""
        now = self.clock()
        assert not isinstance(new.payload, str)
        row = {
            "kind": new.kind,
            "key": new.key,
            "payload": dict(new.payload),
            "attempts": 1,
            "due": now + lease,
            "owner": self.owner,
            "created": now,
        }
        added = insert(task).values(row).returning(task.c.id)
        number = writer.connection.execute(added).scalar_one()
        return Task(number, new.kind, new.key, new.payload, 1)

    def of_key(self, writer: Writer, kind: str, key: str) -> list[Task]:
        """Return the tasks of a key, in any state, in a transaction of the index."""
        query = select(*_TASK).where(task.c.kind == kind, task.c.key == key).order_by(task.c.id)
        return [Task(*row) for row in writer.connection.execute(query)]

    def claim(self, writer: Writer, found: Task) -> bool:
        """Take a task that no process runs, also a dead one; return whether it was taken."""
        now = self.clock()
        is_free = or_(task.c.owner == "", task.c.due <= now)
        free = update(task).where(task.c.id == found.id, is_free)
        return bool(
            writer.connection.execute(free.values(owner=self.owner, due=now + LEASE)).rowcount
        )

    def hold(self, writer: Writer, taken: Task, seconds: float = LEASE) -> bool:
        """Renew the lease of one task; return whether this process still has it."""
        mine = update(task).where(task.c.id == taken.id, task.c.owner == self.owner)
        return bool(writer.connection.execute(mine.values(due=self.clock() + seconds)).rowcount)

    def put_back(
        self, writer: Writer, taken: Task, payload: Mapping[str, Any], delay: float = 0.0
    ) -> None:
        """Let any process go on with a task, from the state that its new payload has.

        It has not failed: its attempts are counted anew.
        """
        mine = update(task).where(task.c.id == taken.id, task.c.owner == self.owner)
        values = {"owner": "", "due": self.clock() + delay, "attempts": 0, "error": ""}
        writer.connection.execute(mine.values(payload=dict(payload), **values))
        writer.after_commit.append(lambda: self.on_added({taken.kind}))

    def count_anew(self, writer: Writer, taken: Task) -> None:
        """Forget the attempts of a task of this process, which has got on."""
        mine = update(task).where(task.c.id == taken.id, task.c.owner == self.owner)
        writer.connection.execute(mine.values(attempts=0))

    def next_due(self, kind: str, after: float) -> float | None:
        """Return the first time after another one at which a task is due, or its lease ends."""
        with self.index.reading() as connection:
            time: float | None = connection.execute(
                _NEXT_DUE, {"of_kind": kind, "now": after}
            ).scalar()
            return time

    def renew(self, writer: Writer) -> None:
        """Renew the leases of all tasks of this process, in a transaction of the index."""
        mine = update(task).where(task.c.owner == self.owner)
        writer.connection.execute(mine.values(due=self.clock() + LEASE))

    def finish(self, writer: Writer, tasks: Sequence[Task]) -> int:
        """Remove tasks that have succeeded, in a transaction of the index; return how many.

        Others may have taken them meanwhile, or an operator has removed them.
        """
        ids = [each.id for each in tasks]
        mine = delete(task).where(task.c.id.in_(ids), task.c.owner == self.owner)
        return int(writer.connection.execute(mine).rowcount)

    def fail(
        self,
        writer: Writer,
        failed: Task,
        error: str,
        delay: float | None,
        attempts: int | None = None,
    ) -> None:
        """Let a task run again after `delay` seconds; with None it is dead.

        The tasks of its key that follow wait as long. With `attempts`, so many are noted.
        """
        due = None if delay is None else self.clock() + delay
        mine = update(task).where(task.c.id == failed.id, task.c.owner == self.owner)
        values = {"owner": "", "due": due, "error": error[:LONGEST_ERROR]}
        if attempts is not None:
            values["attempts"] = attempts
        writer.connection.execute(mine.values(values))
        if failed.key and due is not None:
            following = update(task).where(
                *(task.c.kind == failed.kind, task.c.key == failed.key, task.c.id > failed.id),
                *(task.c.owner == "", task.c.due < due),
            )
            writer.connection.execute(following.values(due=due))

    def free(self, writer: Writer) -> None:
        """Let all take the tasks of this owner: the process that ran them has ended."""
        mine = update(task).where(task.c.owner == self.owner)
        writer.connection.execute(mine.values(owner="", due=self.clock()))

    def release(self, writer: Writer, owners: Sequence[str]) -> None:
        """Let all take the tasks of owners that have ended, in a transaction of the index.

        The tasks of a process of theirs (see `name_in_process`) are among these.
        """
        parts = (task.c.owner.startswith(f"{owner}{_PART}") for owner in owners)
        theirs = update(task).where(or_(task.c.owner.in_(owners), *parts), task.c.owner != "")
        writer.connection.execute(theirs.values(owner="", due=self.clock()))

    def retry(
        self, kind: str | None = None, states: Sequence[State] = (), ids: Sequence[int] = ()
    ) -> int:
        """Let tasks that are not running run now, as if they had never failed; return how many."""
        values = {"due": self.clock(), "attempts": 0}
        kinds = select(task.c.kind).where(task.c.owner == "", *_where(kind, states, ids))
        with self.index.reading() as connection:
            waiting = set(connection.execute(kinds.distinct()).scalars())
        done = self._change(update(task).values(values), kind, states, ids)
        self.on_added(waiting)
        return done

    def drop(
        self, kind: str | None = None, states: Sequence[State] = (), ids: Sequence[int] = ()
    ) -> int:
        """Remove tasks that are not running; return how many."""
        return self._change(delete(task), kind, states, ids)

    def _change(
        self, statement: Any, kind: str | None, states: Sequence[State], ids: Sequence[int]
    ) -> int:
        conditions = [task.c.owner == "", *_where(kind, states, ids)]
        with self.index.writing() as writer:
            return int(writer.connection.execute(statement.where(*conditions)).rowcount)


def _due() -> Select[Any]:
    """Return the query for the first tasks, `most`, of a kind, `of_kind`, that may run `now`.

    A task waits for those before it in its key, and for a process that runs others of its key.
    """
    other = task.alias("other")
    now: BindParameter[float] = bindparam("now")
    blocking = (
        select(literal(1))
        .where(
            *(other.c.kind == task.c.kind, other.c.key == task.c.key),
            or_(
                and_(other.c.id < task.c.id, other.c.due > task.c.due),
                and_(other.c.owner != "", other.c.due > now),
            ),
        )
        .exists()
    )
    may_run = or_(task.c.key == "", ~blocking)
    query = select(*_TASK).where(task.c.kind == bindparam("of_kind"), task.c.due <= now, may_run)
    return query.order_by(task.c.due, task.c.id).limit(bindparam("most"))


# Made once: each kind of tasks asks for these whenever a task of any kind may have been added.
_DUE = _due()
_DUE_AND_LOCKED = _DUE.with_for_update(skip_locked=True)
_NEXT_DUE = select(func.min(task.c.due)).where(
    task.c.kind == bindparam("of_kind"), task.c.due > bindparam("now")
)
