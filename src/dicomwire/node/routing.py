"""Which tasks an object causes: sending it to the destinations of the routes that match it.

The tasks are written in the transaction that stores the object, and are in the journal's record of
its batch. `sending` runs them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, and_, exists, select, update

from dicomwire.node.conditions import Conditions
from dicomwire.node.configuration import Configuration, Route, Then, When, check_routes
from dicomwire.node.index.schema import task
from dicomwire.node.index.writer import Writer
from dicomwire.node.ingest import Entry
from dicomwire.node.keys import Level
from dicomwire.node.tasks.queue import NewTask, Queue, Task
from dicomwire.node.tasks.threads import Kind

SEND = "send:"
"""The kinds of the tasks for one object and one destination; its name follows."""
FORWARDED = "forwarded"
"""The kind of the note that an object is to be deleted when all destinations have it."""
QUIET = "quiet"
"""The kind of the timers: each is due when its series or study has been quiet for long enough."""
DIGITS = 16
"""How many digits of an object's digest a task has: enough to tell the copies of a UID apart."""
_LEVELS = {When.SERIES: Level.SERIES, When.STUDY: Level.STUDY}
_LATE = 0.1
"""By which part of its seconds a timer may be late, so that most objects of a series need not
postpone it: their transactions have one statement less."""
_MOST_TIMERS = 10_000
"""The most timers to remember; a study that is forgotten postpones its timer with each object."""


class Watch(NamedTuple):
    """A request to be called when a series or study has become quiet."""

    name: str
    """A name of its own."""
    level: Level
    seconds: float
    """For how long no object must have arrived."""
    conditions: Conditions
    """An object that meets them starts the timer, or postpones it."""
    on_quiet: Callable[[Writer, str], None]
    """Called with the UID, in the transaction that ends the timer: once, also after a crash."""


class _Rule(NamedTuple):
    """A route."""

    conditions: Conditions
    kinds: tuple[str, ...]
    """The kinds of its tasks, one for each destination."""
    commits: bool
    """Whether the destinations are asked to commit."""
    deletes: bool
    """Whether the object is deleted when all have it."""
    level: Level | None
    """Whose quiet it waits for; None to send each object at once."""
    seconds: float


class Routing:
    """The routes of a node, for one process.

    Each destination gets an object once: by the first route that names it and matches.

    Parameters
    ----------
    configuration : Configuration
    queue : Queue

    Raises
    ------
    ConfigurationError
        When a route names a destination that there is not.
    """

    def __init__(self, configuration: Configuration, queue: Queue) -> None:
        self._queue = queue
        self._watches: dict[str, Watch] = {}
        self._written: dict[str, float] = {}
        """When timers were written last, by key; only the thread that stores a batch uses it."""
        self.reload(configuration)

    def reload(self, configuration: Configuration) -> None:
        """Use other routes from now on; raises as the class does, and then keeps the old ones."""
        check_routes(configuration)
        self._kinds = [SEND + name for name in configuration.destinations]
        self._rules = tuple(map(_rule, configuration.routes))

    def watch(self, watch: Watch) -> None:
        """Tell someone of series or studies that become quiet, from now on."""
        self._watches[watch.name] = watch

    # --- For the threads that store ---

    @property
    def has_rules(self) -> bool:
        """Whether there may be objects that cause tasks."""
        return bool(self._rules or self._watches)

    def tasks_of(self, entry: Entry, digest: str) -> Sequence[NewTask]:
        """Return the tasks that an object causes, if it is stored.

        Parameters
        ----------
        digest : str
            Of its dataset, in hex.
        """
        sends: dict[str, tuple[_Rule, str]] = {}
        timers: dict[str, NewTask] = {}
        for rule in self._rules:
            kinds = [kind for kind in rule.kinds if kind not in sends]
            if kinds and _holds(rule.conditions, entry):
                key = ""
                if rule.level is not None:
                    key = _timer_key(rule.level, rule.seconds, entry)
                    timers[key] = _timer(key, rule.seconds)
                sends.update(dict.fromkeys(kinds, (rule, key)))
        for watch in self._watches.values():
            if _holds(watch.conditions, entry):
                key = _timer_key(watch.level, watch.seconds, entry, watch.name)
                timers[key] = _timer(key, watch.seconds)
        return [*_sending(sends, entry.instance_uid, digest[:DIGITS]), *timers.values()]

    def of_batch(self, caused: Iterable[Sequence[NewTask]]) -> list[NewTask]:
        """Return the tasks of a batch, which its objects have `caused`: each timer once, and only
        if it has to be postponed."""
        now = self._queue.clock()
        tasks: list[NewTask] = []
        timers: dict[str, NewTask] = {}
        for own in caused:
            for each in own:
                if not each.is_only:
                    tasks.append(each)
                else:
                    timers[each.key] = each
        for key, each in list(timers.items()):
            early = each.delay * _LATE / (1 + _LATE)
            if 0 <= now - self._written.get(key, -math.inf) < early:
                del timers[key]
        return [*tasks, *timers.values()]

    def add(self, writer: Writer, tasks: Sequence[NewTask]) -> None:
        """Add the tasks of a batch in its transaction."""
        self._queue.add(writer, tasks)
        timers = [each.key for each in tasks if each.is_only]
        if timers:
            now = self._queue.clock()
            writer.after_commit.append(lambda: self._note(timers, now))

    def _note(self, timers: Sequence[str], now: float) -> None:
        if len(self._written) > _MOST_TIMERS:
            self._written.clear()
        self._written.update(dict.fromkeys(timers, now))

    # --- Series and studies that have become quiet ---

    def kinds(self) -> list[Kind]:
        """Return the kinds of tasks that a node does for this: the timers."""
        return [Kind(QUIET, self._end_timers, batch=100)]

    def recover(self) -> None:
        """Start the timers that are missing, since an operator has removed them."""
        other = task.alias("other")
        has_timer = exists().where(other.c.kind == QUIET, other.c.key == task.c.key)
        query = select(task.c.key).where(_waits(self._kinds), task.c.key != "", ~has_timer)
        with self._queue.index.writing() as writer:
            keys = writer.connection.execute(query.distinct()).scalars().all()
            self._queue.add(writer, [_timer(key, 0.0) for key in keys])

    def _end_timers(self, tasks: Sequence[Task]) -> Mapping[Task, Exception]:
        failed: dict[Task, Exception] = {}
        for each in tasks:
            try:
                with self._queue.index.writing() as writer:
                    # A timer that an object has postponed meanwhile is not this process's any more.
                    if self._queue.finish(writer, [each]):
                        self._end(writer, each.key)
            except Exception as error:  # whatever it is, it concerns this one alone
                failed[each] = error
        return failed

    def _end(self, writer: Writer, key: str) -> None:
        """Send what waits for a timer, or call the one that watches."""
        _, _, uid, name = key.split(" ", 3)
        watch = self._watches.get(name)
        if watch is not None:
            watch.on_quiet(writer, uid)
        elif not name:
            waiting = update(task).where(_waits(self._kinds), task.c.key == key)
            writer.connection.execute(waiting.values(due=self._queue.clock(), key=""))
            writer.after_commit.append(lambda: self._queue.on_added(set(self._kinds)))


def _rule(route: Route) -> _Rule:
    kinds = tuple(SEND + name for name in route.to)
    deletes = route.then is Then.DELETE
    level = _LEVELS.get(route.when)
    return _Rule(route.conditions, kinds, route.commit, deletes, level, route.quiet)


def _sending(sends: Mapping[str, tuple[_Rule, str]], uid: str, digest: str) -> list[NewTask]:
    """Return the tasks that send an object, by kind the rule and the key of its timer."""
    payload: dict[str, Any] = {"uid": uid, "digest": digest}
    tasks: list[NewTask] = []
    if any(rule.deletes for rule, _ in sends.values()):
        payload["settles"] = True
        note = {"digest": digest, "to": [kind.removeprefix(SEND) for kind in sends]}
        tasks.append(NewTask(FORWARDED, note, uid, math.inf))
    texts = {False: json.dumps(payload)}
    for kind, (rule, key) in sends.items():
        if rule.commits not in texts:
            texts[rule.commits] = json.dumps({**payload, "commit": True})
        tasks.append(NewTask(kind, texts[rule.commits], key, math.inf if key else 0.0))
    return tasks


def _waits(kinds: Sequence[str]) -> ColumnElement[bool]:
    """Return the condition on tasks that wait for a timer."""
    return and_(task.c.kind.in_(kinds), task.c.due == math.inf)


def _holds(conditions: Conditions, entry: Entry) -> bool:
    return all(each.accepts(entry) for each in conditions)


def _timer_key(level: Level, seconds: float, entry: Entry, name: str = "") -> str:
    uid = entry.study_uid if level is Level.STUDY else entry.series_uid
    return f"{level.value} {seconds:g} {uid} {name}"


def _timer(key: str, seconds: float) -> NewTask:
    return NewTask(QUIET, {}, key, seconds * (1 + _LATE), is_only=True)
