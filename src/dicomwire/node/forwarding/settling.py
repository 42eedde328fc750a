"""What follows when a destination has an object: its commitment, and the object's deletion here.

An object that is to be deleted has a task that is never due (`FORWARDED`), with the destinations
that do not have it yet. Each that has it adds a task (`SETTLED`).
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence

from sqlalchemy import delete, insert, update

from dicomwire.logs import counted, escaped
from dicomwire.node.archive import Archive
from dicomwire.node.commitment.requesting import Wanted
from dicomwire.node.deletion import Protected
from dicomwire.node.deletion import delete as delete_objects
from dicomwire.node.forwarding.pending import Pending
from dicomwire.node.index.schema import task
from dicomwire.node.index.writer import Writer
from dicomwire.node.keys import Level
from dicomwire.node.routing import DIGITS, FORWARDED, SEND
from dicomwire.node.tasks.queue import NewTask, Task
from dicomwire.node.tasks.threads import LONGEST_DELAY, Kind, delay_after

LOGGER = logging.getLogger("dicomwire.node")

SETTLED = "settled"
_MOST_COMMITMENTS = 20
"""How often an object is sent that the destination stores, but does not commit to: with the delays
between them, for about an hour."""


class Settling:
    """Does what routes say of objects that were sent.

    Parameters
    ----------
    archive : Archive
    """

    def __init__(self, archive: Archive) -> None:
        self._archive = archive
        self._queue = archive.queue

    def __call__(self, writer: Writer, destination: str, objects: Sequence[Pending]) -> None:
        """Ask for commitment, or note that the destination has the objects."""
        wanted: list[Wanted] = []
        done: list[NewTask] = []
        for each in objects:
            then = []
            if each.payload.get("settles"):
                about = {"digest": each.payload["digest"], "destination": destination}
                then = [NewTask(SETTLED, about, each.uid)]
            if not each.payload.get("commit"):
                done += then
            elif each.payload.get("commitments", 0) < _MOST_COMMITMENTS:
                wanted.append(_wanted(destination, each, then))
            else:
                self._give_up(writer, destination, each)
        if wanted:
            self._archive.commitments.want(writer, wanted)
        self._queue.add(writer, done)

    def _give_up(self, writer: Writer, destination: str, sent: Pending) -> None:
        """Leave a task that is dead, for an operator."""
        error = f"the destination has not committed to it {_MOST_COMMITMENTS} times"
        LOGGER.error("%s is not sent to %s any more: %s", escaped(sent.uid), destination, error)
        row = {
            "kind": SEND + destination,
            "payload": {**sent.payload, "commitments": 0},
            "due": None,
            "error": error,
            "created": self._queue.clock(),
        }
        writer.connection.execute(insert(task), row)

    def kinds(self) -> list[Kind]:
        """Return the kinds of tasks that a node runs for this."""
        return [Kind(SETTLED, self._settle, batch=500)]

    def _settle(self, tasks: Sequence[Task]) -> None:
        """Delete the objects that all destinations have."""
        has_it: dict[tuple[str, str], set[str]] = {}
        for each in tasks:
            object = each.key, each.payload["digest"]
            has_it.setdefault(object, set()).add(each.payload["destination"])
        complete: list[Task] = []
        with self._queue.index.writing() as writer:
            for (uid, digest), destinations in has_it.items():
                for noted in self._queue.of_key(writer, FORWARDED, uid):
                    if noted.payload["digest"] != digest:
                        continue
                    left = [name for name in noted.payload["to"] if name not in destinations]
                    if left:
                        payload = {**noted.payload, "to": left}
                        change = update(task).where(task.c.id == noted.id)
                        writer.connection.execute(change.values(payload=payload))
                    else:
                        complete.append(noted)
        if complete:
            self._delete(complete)

    def _delete(self, complete: Sequence[Task]) -> None:
        """Delete objects, and then their notes; in between, it can be repeated."""
        copies = self._queue.index.find([each.key for each in complete])
        uids = []
        for each in complete:
            if any(s.digest[:DIGITS] != each.payload["digest"] for s in copies.get(each.key, ())):
                text = (
                    "%s was forwarded and stays, since the archive has another object of this UID"
                )
                LOGGER.warning(text, escaped(each.key))
            else:
                uids.append(each.key)
        try:
            delete_objects(self._queue, Level.IMAGE, uids)
        except Protected:
            for uid in uids:
                self._delete_one(uid)
        ids = [each.id for each in complete]
        with self._queue.index.writing() as writer:
            writer.connection.execute(delete(task).where(task.c.id.in_(ids)))
        LOGGER.info("Deleted %s, which all destinations have", counted(len(uids), "object"))

    def _delete_one(self, uid: str) -> None:
        try:
            delete_objects(self._queue, Level.IMAGE, [uid])
        except Protected:
            LOGGER.info("%s was forwarded, and stays: its study is protected", escaped(uid))


def _wanted(destination: str, sent: Pending, then: Iterable[NewTask]) -> Wanted:
    times = sent.payload.get("commitments", 0) + 1
    again = NewTask(
        SEND + destination,
        {**sent.payload, "commitments": times},
        delay=delay_after(times, float("inf")) or LONGEST_DELAY,
    )
    return Wanted(destination, sent.found.sop_class_uid, sent.uid, [*then], again)
