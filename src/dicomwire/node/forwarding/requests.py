"""Sends what an operator asks for: the same tasks as those of routes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, select, update

from dicomwire.node.index.schema import instance, series, study, task
from dicomwire.node.index.statements import portions
from dicomwire.node.keys import Level
from dicomwire.node.routing import DIGITS, FORWARDED, SEND
from dicomwire.node.tasks.queue import NewTask, Queue

_AT_A_TIME = 5000
"""The most tasks of one transaction, for which receiving has to wait some 50 ms."""
_UIDS = {
    Level.STUDY: study.c.study_instance_uid,
    Level.SERIES: series.c.series_instance_uid,
    Level.IMAGE: instance.c.sop_instance_uid,
}


def send(queue: Queue, level: Level, uids: Sequence[str], name: str, *, study_uid: str = "") -> int:
    """Have studies, series or instances sent to a destination; return the number of objects.

    They are sent while a node runs, in the order in which they were received.

    Parameters
    ----------
    level : Level
        STUDY, SERIES or IMAGE; those of the UIDs.
    uids : sequence of str
        Those that the archive does not have are passed over.
    name : str
        A destination of the configuration.
    study_uid : str
        Only what is in this study: some programs use one Series Instance UID in two.

    Raises
    ------
    IndexFailure
        When the index cannot be read or written.
    """
    sent = last = 0
    while True:
        with queue.index.writing() as writer:
            found = _after(writer.connection, level, uids, last, study_uid)
            payloads: dict[tuple[str, str], dict[str, Any]] = {}
            for _, uid, digest in found:
                payload = {"uid": uid, "digest": digest[:DIGITS]}
                payloads[uid, payload["digest"]] = payload
            _wait_for(writer.connection, payloads, name)
            queue.add(writer, [NewTask(SEND + name, payload) for payload in payloads.values()])
        sent += len(found)
        if len(found) < _AT_A_TIME:
            return sent
        last = found[-1][0]


def _wait_for(
    connection: Connection, payloads: Mapping[tuple[str, str], dict[str, Any]], name: str
) -> None:
    """Let objects that are to be deleted after forwarding stay until they are sent here, too."""
    for uids in portions([uid for uid, _ in payloads]):
        notes = select(task).where(task.c.kind == FORWARDED, task.c.key.in_(uids))
        for note in connection.execute(notes).all():
            payload = payloads.get((note.key, note.payload["digest"]))
            if payload is not None:
                payload["settles"] = True
                to = {"digest": note.payload["digest"], "to": [*note.payload["to"], name]}
                change = update(task).where(task.c.id == note.id)
                connection.execute(change.values(payload=to))


def _after(
    connection: Connection, level: Level, uids: Sequence[str], last: int, study_uid: str
) -> list[tuple[int, str, str]]:
    """Return id, UID and digest of the instances after one, in the order of their ids."""
    columns = select(instance.c.id, instance.c.sop_instance_uid, instance.c.digest)
    levels = columns.select_from(instance.join(series.join(study))).where(instance.c.id > last)
    if study_uid:
        levels = levels.where(study.c.study_instance_uid == study_uid)
    found: list[tuple[int, str, str]] = []
    for some in portions(uids):
        query = levels.where(_UIDS[level].in_(some)).order_by(instance.c.id).limit(_AT_A_TIME)
        found += [tuple(row) for row in connection.execute(query)]
    return sorted(found)[:_AT_A_TIME]
