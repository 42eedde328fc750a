"""Deletes objects while nodes serve, and says which may be neither deleted nor stored again.

Operators, retention, DICOMweb and routes all delete acknowledged objects by `delete`. One
transaction removes the rows and adds the tasks that remove the files later, so that a crash leaves
neither a file without an entry nor an entry without a file.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Select, exists, func, insert, select
from sqlalchemy import delete as deleting

from dicomwire.logs import counted, escaped
from dicomwire.node.carrying import DELETE, GRACE, StoreTasks, removals
from dicomwire.node.index.reader import IndexReader
from dicomwire.node.index.schema import instance, protection, rejection, series, study, study_use
from dicomwire.node.index.statements import portions
from dicomwire.node.index.writer import Conflict, Index, Writer
from dicomwire.node.keys import Level
from dicomwire.node.tasks.queue import Queue
from dicomwire.node.tasks.threads import TaskThreads

LOGGER = logging.getLogger("dicomwire.node")

_AT_A_TIME = 5000
"""The most instances of one transaction, during which no other process can write to SQLite: it
takes a quarter of a second."""
_FILES = 1000
"""The files that one task removes, as many as one request to a bucket."""
_MOST_CONFLICTS = 10
"""How often a transaction is repeated: each time, another process has stored something."""

_UID_COLUMNS = {
    Level.STUDY: study.c.study_instance_uid,
    Level.SERIES: series.c.series_instance_uid,
    Level.IMAGE: instance.c.sop_instance_uid,
}
_REJECTED_COLUMNS = {
    Level.STUDY: rejection.c.study_instance_uid,
    Level.SERIES: rejection.c.series_instance_uid,
    Level.IMAGE: rejection.c.sop_instance_uid,
}
_LEVELS = instance.join(series.join(study))


class Protected(Exception):
    """Studies are protected, and nothing was deleted.

    Attributes
    ----------
    uids : list of str
        Their Study Instance UIDs.
    """

    def __init__(self, uids: Sequence[str]) -> None:
        studies = counted(len(uids), "study is", "studies are")
        super().__init__(f"{studies} protected: {', '.join(uids[:5])}")
        self.uids = [*uids]


class Unknown(Exception):
    """The archive has no study of a UID; the text names it."""


class Deleted(NamedTuple):
    """What was deleted, or would be."""

    studies: int = 0
    """Studies that have lost instances."""
    instances: int = 0
    bytes: int = 0


def selected(index: IndexReader, level: Level, uids: Sequence[str], study_uid: str = "") -> Deleted:
    """Return what `delete` would delete."""
    studies: set[int] = set()
    instances = size = 0
    with index.reading() as connection:
        for wanted in _conditions(level, uids, study_uid):
            query = select(series.c.study, func.count(), func.sum(instance.c.size))
            query = query.select_from(_LEVELS).where(*wanted).group_by(series.c.study)
            for study_id, count, total in connection.execute(query):
                studies.add(study_id)
                instances += count
                size += int(total)
    return Deleted(len(studies), instances, size)


def delete(
    queue: Queue,
    level: Level,
    uids: Sequence[str],
    *,
    study_uid: str = "",
    rejects: bool = False,
    also_protected: bool = False,
    delay: float = GRACE,
) -> Deleted:
    """Delete objects; return what was deleted. Patients, studies and series without any go, too.

    Nobody finds the objects when this returns. Their files are removed by tasks later, so that
    retrievals that have found them can go on. Objects that come meanwhile stay. If it fails, a part
    of the objects may be deleted, and it can be repeated.

    Parameters
    ----------
    queue : Queue
        The tasks of the index to delete from.
    level : Level
        STUDY, SERIES or IMAGE; those of the UIDs.
    uids : sequence of str
        Those that the archive does not have are passed over.
    study_uid : str
        Delete in this study only: some programs use one Series Instance UID in two studies.
    rejects : bool
        Whether to refuse these instances when somebody sends them again; see `allow`.
    also_protected : bool
        Whether to delete in studies that are protected; one that has no instance any more is not
        protected any more.
    delay : float
        Seconds until the files are removed.

    Raises
    ------
    Protected
        When a study is protected; then nothing was deleted.
    IndexFailure
        When the index cannot be written.
    """
    last_id = queue.index.last_id()
    if not also_protected:
        _refuse_protected(queue.index, level, uids, study_uid)
    studies: set[str] = set()
    instances = size = 0
    for wanted in _conditions(level, uids, study_uid):
        query = _Portion.query(wanted, last_id)
        while True:
            portion = _delete_some(queue, query, rejects, also_protected, delay)
            studies |= portion.studies
            instances += len(portion.rows)
            size += portion.size
            if len(portion.rows) < _AT_A_TIME:
                break
    deleted = Deleted(len(studies), instances, size)
    if instances:
        _log(deleted, level, uids, rejects)
    return deleted


def _refuse_protected(
    index: IndexReader, level: Level, uids: Sequence[str], study_uid: str
) -> None:
    """Raise Protected if one of the studies is protected."""
    found: set[str] = set()
    with index.reading() as connection:
        for wanted in _conditions(level, uids, study_uid):
            found.update(connection.execute(_protected_of(wanted)).scalars())
    if found:
        raise Protected(sorted(found))


def _log(deleted: Deleted, level: Level, uids: Sequence[str], rejects: bool) -> None:
    told = escaped(", ".join(uids[:5])) + (", …" if len(uids) > 5 else "")
    objects = counted(deleted.instances, "object")
    of = counted(deleted.studies, "study", "studies")
    remark = "; they are refused when they are sent again" if rejects else ""
    text = "Deleted %s of %s (%d bytes): %s %s%s"
    LOGGER.info(text, objects, of, deleted.bytes, level.value, told, remark)


def _conditions(
    level: Level, uids: Sequence[str], study_uid: str
) -> Iterator[list[ColumnElement[bool]]]:
    """Yield the conditions of instances, for as many of the UIDs as fit into one statement."""
    for some in portions([*dict.fromkeys(uids)]):
        wanted: list[ColumnElement[bool]] = [_UID_COLUMNS[level].in_(some)]
        if study_uid:
            wanted.append(study.c.study_instance_uid == study_uid)
        yield wanted


def _protected_of(wanted: Sequence[ColumnElement[bool]]) -> Select[Any]:
    """Return the query for the UIDs of protected studies that instances belong to."""
    uid = protection.c.study_instance_uid
    joined = _LEVELS.join(protection, uid == study.c.study_instance_uid)
    return select(uid).select_from(joined).where(*wanted).distinct()


class _Portion(NamedTuple):
    """The instances that one transaction deletes."""

    rows: Sequence[Any]

    @staticmethod
    def query(wanted: Sequence[ColumnElement[bool]], last_id: int) -> Select[Any]:
        """Return the query for the rows; later instances than `last_id` are left out."""
        return (
            select(
                instance.c.id,
                instance.c.file,
                instance.c.size,
                instance.c.sop_instance_uid,
                series.c.series_instance_uid,
                study.c.study_instance_uid,
            )
            .select_from(_LEVELS)
            .where(*wanted, instance.c.id <= last_id)
            .limit(_AT_A_TIME)
            # Who moves an object to another place waits, and then finds that it is gone.
            .with_for_update(of=instance)
        )

    @property
    def studies(self) -> set[str]:
        return {row.study_instance_uid for row in self.rows}

    @property
    def size(self) -> int:
        return sum(row.size for row in self.rows)


def _delete_some(
    queue: Queue, query: Select[Any], rejects: bool, also_protected: bool, delay: float
) -> _Portion:
    for _ in range(_MOST_CONFLICTS):
        try:
            return _try_to_delete(queue, query, rejects, also_protected, delay)
        except Conflict as error:
            LOGGER.debug("A deletion is repeated: %s", error)
    return _try_to_delete(queue, query, rejects, also_protected, delay)


def _try_to_delete(
    queue: Queue, query: Select[Any], rejects: bool, also_protected: bool, delay: float
) -> _Portion:
    """Delete instances in one transaction."""
    # To reject, this must be alone: another transaction may have asked whether an instance is
    # rejected, and add it afterwards.
    with queue.index.writing(is_alone=rejects) as writer:
        execute = writer.connection.execute
        portion = _Portion(execute(query).all())
        if not portion.rows:
            return portion
        if not also_protected:
            own = protection.c.study_instance_uid
            protected = [
                uid
                for some in portions([*portion.studies])
                for uid in execute(select(own).where(own.in_(some))).scalars()
            ]
            if protected:
                raise Protected(protected)
        if rejects:
            _reject(writer, portion.rows)
        writer.remove([row.id for row in portion.rows])
        names = [row.file for row in portion.rows]
        for start in range(0, len(names), _FILES):
            queue.add(writer, removals(iter(names[start : start + _FILES]), delay))
        writer.prune()
        _forget(writer, portion.studies)
    return portion


def _reject(writer: Writer, rows: Sequence[Any]) -> None:
    own = rejection.c.sop_instance_uid
    now = time.time()
    new = {
        row.sop_instance_uid: {
            "sop_instance_uid": row.sop_instance_uid,
            "series_instance_uid": row.series_instance_uid,
            "study_instance_uid": row.study_instance_uid,
            "created": now,
        }
        for row in rows
    }
    for some in portions([*new]):
        writer.connection.execute(deleting(rejection).where(own.in_(some)))
    writer.connection.execute(insert(rejection), [*new.values()])


def _forget(writer: Writer, uids: set[str]) -> None:
    """Remove what is known of studies that do not exist any more."""
    for some in portions([*uids]):
        for table in (protection, study_use):
            own = table.c.study_instance_uid
            is_gone = ~exists().where(study.c.study_instance_uid == own)
            writer.connection.execute(deleting(table).where(own.in_(some), is_gone))


def remove_now(queue: Queue, tasks: StoreTasks) -> None:
    """Remove the files of deleted objects whose delay is over; for a program beside no node."""
    kinds = [kind for kind in tasks.kinds() if kind.name.startswith(DELETE)]
    threads = TaskThreads(queue, kinds)
    for kind in kinds:
        while threads.step(kind) == 0:
            pass


# --- Rejection and protection -----------------------------------------------------------------


def allow(index: Index, level: Level, uids: Sequence[str]) -> int:
    """Let rejected instances be stored again; return how many were rejected.

    Parameters
    ----------
    level : Level
        STUDY, SERIES or IMAGE: those of the UIDs that the instances had.
    """
    allowed = 0
    with index.writing() as writer:
        for some in portions(uids):
            condition = _REJECTED_COLUMNS[level].in_(some)
            allowed += writer.connection.execute(deleting(rejection).where(condition)).rowcount
    if allowed:
        LOGGER.info("%s may be stored again", counted(allowed, "rejected object"))
    return allowed


def protect(index: Index, uids: Sequence[str]) -> int:
    """Protect studies from being deleted; return how many were not protected before.

    Raises
    ------
    Unknown
        When there is no study of one of the Study Instance UIDs; then none is protected.
    """
    protected = 0
    with index.writing() as writer:
        execute = writer.connection.execute
        for some in portions([*dict.fromkeys(uids)]):
            own = study.c.study_instance_uid
            known = {*execute(select(own).where(own.in_(some))).scalars()}
            missing = [uid for uid in some if uid not in known]
            if missing:
                raise Unknown(f"the archive has no study {missing[0]}")
            own = protection.c.study_instance_uid
            known -= {*execute(select(own).where(own.in_(some))).scalars()}
            rows = [{"study_instance_uid": uid, "created": time.time()} for uid in known]
            if rows:
                execute(insert(protection), rows)
                protected += len(rows)
    LOGGER.info("Protected %s", counted(protected, "study", "studies"))
    return protected


def release(index: Index, uids: Sequence[str]) -> int:
    """Undo `protect`; return how many studies were protected."""
    released = 0
    with index.writing() as writer:
        for some in portions(uids):
            condition = protection.c.study_instance_uid.in_(some)
            released += writer.connection.execute(deleting(protection).where(condition)).rowcount
    LOGGER.info("Removed the protection of %s", counted(released, "study", "studies"))
    return released


def protected(index: IndexReader) -> list[str]:
    """Return the UIDs of all protected studies."""
    own = protection.c.study_instance_uid
    with index.reading() as connection:
        return [*connection.execute(select(own).order_by(own)).scalars()]
