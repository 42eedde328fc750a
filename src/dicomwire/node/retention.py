"""Deletes studies that are too old, or unused for long, or for which there is no room.

The oldest of the nodes of an index does this. What it deletes goes the way of every deletion, so
that retrievals that have begun can end.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple, Self

from sqlalchemy import Select, func, insert, select, update

from dicomwire.logs import counted, escaped
from dicomwire.node.configuration import Retention
from dicomwire.node.deletion import Protected, delete
from dicomwire.node.failures import log_unexpected
from dicomwire.node.index.database import IndexFailure, reason_of
from dicomwire.node.index.schema import instance, protection, series, study, study_use
from dicomwire.node.index.statements import portions
from dicomwire.node.index.writer import Conflict, Index
from dicomwire.node.keys import Level
from dicomwire.node.nodes import registered
from dicomwire.node.objects.folder import FolderObjects
from dicomwire.node.objects.port import Objects
from dicomwire.node.objects.room import free_space
from dicomwire.node.query import Found
from dicomwire.node.reading import read_object
from dicomwire.node.tasks.queue import Clock, Queue

LOGGER = logging.getLogger("dicomwire.node")

_DAY = 24 * 3600.0
_FIRST = 60.0
"""Seconds until the first look, when a node that has just started is in the registry."""
_NOTED = 3600.0
"""Seconds during which a further use of a study is not noted."""


class Aged(NamedTuple):
    """A study, as retention sees it."""

    uid: str
    size: int
    received: float
    """When its last object has arrived, in seconds since 1970."""
    used: float
    """When it has arrived or was retrieved last."""


class Removed(NamedTuple):
    """What a look has deleted."""

    studies: int
    instances: int
    bytes: int


class Retaining:
    """Looks for studies to delete, and deletes them.

    Parameters
    ----------
    rules : Retention
    queue : Queue
        The tasks of the index.
    objects : Objects
    folder : Path
        Whose disk has the objects.
    """

    def __init__(self, rules: Retention, queue: Queue, objects: Objects, folder: Path) -> None:
        self._rules = rules
        self._queue = queue
        self._index = queue.index
        self._objects = objects
        self._folder = folder
        self._has_ended = threading.Event()
        """Set at the end, which wakes the thread."""
        self._thread = threading.Thread(target=self._run, name="retention", daemon=True)

    def __enter__(self) -> Self:
        if self._rules.min_free and not isinstance(self._objects, FolderObjects):
            LOGGER.warning("min_free has no effect: the objects are not on the disk of this node")
        if self._rules.has_limits:
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._has_ended.set()
        if self._rules.has_limits:
            self._thread.join()

    def _run(self) -> None:
        seconds = _FIRST
        while not self._has_ended.wait(seconds):
            seconds = self._rules.every
            try:
                if self._leads():
                    self.look()
            except (IndexFailure, OSError) as error:
                LOGGER.error("Studies cannot be deleted by retention: %s", reason_of(error))
            except Exception as error:  # whatever it is, the thread must go on
                log_unexpected(LOGGER, error, "Studies cannot be deleted by retention")

    def _leads(self) -> bool:
        """Return whether this node is the oldest one of its index that lives."""
        now = self._queue.clock()
        alive = [each for each in registered(self._index) if each.is_alive(now)]
        return bool(alive) and alive[0].id == self._queue.owner  # the oldest comes first

    def look(self) -> Removed:
        """Delete what the rules say; return what was deleted.

        Raises
        ------
        IndexFailure, OSError
            When the index cannot be read or written.
        """
        removed = [0, 0, 0]
        for each, reason in self._chosen():
            if self._has_ended.is_set():
                break
            if self._current(each.uid) != each:
                continue  # it got more objects, was used, or is gone
            try:
                done = delete(self._queue, Level.STUDY, [each.uid])
            except Protected:
                continue
            LOGGER.warning("The study %s is deleted by retention: %s", escaped(each.uid), reason)
            removed = [a + b for a, b in zip(removed, done, strict=True)]
        if removed[1]:
            text = "Retention has deleted %s with %s, %d bytes"
            studies, objects, size = removed
            both = counted(studies, "study", "studies"), counted(objects, "object")
            LOGGER.warning(text, *both, size)
        return Removed(*removed)

    def _chosen(self) -> Iterator[tuple[Aged, str]]:
        """Yield the studies to delete, those unused for longest first, with the reasons."""
        rules, now = self._rules, self._queue.clock()
        studies = self._studies()
        excess = sum(each.size for each in studies) - rules.max_size if rules.max_size else 0
        lack = self._lack()
        for each in studies:
            reason = ""
            if now - each.received > rules.max_age * _DAY:
                reason = f"its last object has arrived more than {rules.max_age:g} days ago"
            elif now - each.used > rules.max_unused * _DAY:
                reason = f"it was not used for more than {rules.max_unused:g} days"
            elif excess > 0:
                reason = f"all objects have more than {rules.max_size} bytes"
            elif lack > 0:
                reason = f"the disk has less than {rules.min_free} bytes free"
            if reason and not self._is_kept(each.uid):
                excess -= each.size
                lack -= each.size
                yield each, reason
        for bytes_left, name in ((excess, "max_size"), (lack, "min_free")):
            if bytes_left > 0:
                text = "Retention cannot meet %s: %d bytes are missing, and all else is kept"
                LOGGER.error(text, name, bytes_left)

    def _lack(self) -> int:
        """Return how many bytes must become free."""
        if not self._rules.min_free or not isinstance(self._objects, FolderObjects):
            return 0
        return self._rules.min_free - free_space(self._folder)

    def _studies(self) -> list[Aged]:
        """Return all studies that are not protected, those unused for longest first."""
        query = _query().where(
            study.c.study_instance_uid.not_in(select(protection.c.study_instance_uid))
        )
        with self._index.reading() as connection:
            found = [_aged(row) for row in connection.execute(query)]
        return sorted(found, key=lambda each: (each.used, each.uid))

    def _current(self, uid: str) -> Aged | None:
        query = _query().where(study.c.study_instance_uid == uid)
        with self._index.reading() as connection:
            row = connection.execute(query).first()
        return None if row is None else _aged(row)

    def _is_kept(self, uid: str) -> bool:
        """Return whether the first object of a study meets the conditions of what is kept."""
        conditions = self._rules.keep
        if not conditions:
            return False
        levels = instance.join(series.join(study))
        query = select(instance.c.file).select_from(levels).order_by(instance.c.id)
        with self._index.reading() as connection:
            own = query.where(study.c.study_instance_uid == uid).limit(1)
            file = connection.execute(own).scalar()
        if file is None:
            return True  # it is gone
        try:
            entry = read_object(self._objects, file).entry
        except (OSError, ValueError) as error:
            text = "The study %s is kept: its first object cannot be read: %s"
            LOGGER.error(text, escaped(uid), error)
            return True
        return all(each.accepts(entry) for each in conditions)


def _query() -> Select[Any]:
    uid = study.c.study_instance_uid
    levels = study.join(series).join(instance)
    used = study_use.c.used
    columns = uid, func.sum(instance.c.size), func.max(instance.c.received), used
    joined = levels.outerjoin(study_use, study_use.c.study_instance_uid == uid)
    return select(*columns).select_from(joined).group_by(uid, used)


def _aged(row: Sequence[Any]) -> Aged:
    uid, size, received, used = row
    arrived = datetime.fromisoformat(received).timestamp()
    return Aged(uid, int(size), arrived, max(arrived, used or 0.0))


def note_use(index: Index, found: Iterable[Found], clock: Clock = time.time) -> None:
    """Note that the studies of instances are used now; a failure is only logged."""
    uids = [each.sop_instance_uid for each in found]
    try:
        studies = {uid for some in portions(uids) for uid in _not_noted(index, some, clock())}
        if studies:
            _note(index, studies, clock())
    except Conflict:
        pass  # another process has noted it at the same time
    except (IndexFailure, OSError) as error:
        LOGGER.warning("The use of studies cannot be noted: %s", reason_of(error))


def _not_noted(index: Index, uids: Sequence[str], now: float) -> set[str]:
    """Return the studies of instances that have no recent use noted."""
    uid = study.c.study_instance_uid
    levels = instance.join(series).join(study)
    joined = levels.outerjoin(study_use, study_use.c.study_instance_uid == uid)
    is_old = func.coalesce(study_use.c.used, 0.0) < now - _NOTED
    query = select(uid).select_from(joined).distinct()
    with index.reading() as connection:
        own = query.where(instance.c.sop_instance_uid.in_(uids), is_old)
        return set(connection.execute(own).scalars())


def _note(index: Index, studies: set[str], now: float) -> None:
    own = study_use.c.study_instance_uid
    with index.writing() as writer:
        for uid in sorted(studies):
            changed = update(study_use).where(own == uid).values(used=now)
            if not writer.connection.execute(changed).rowcount:
                row = {"study_instance_uid": uid, "used": now}
                writer.connection.execute(insert(study_use), row)
