"""Tells the other nodes which objects this process may have uploaded that the index does not have.

Tasks in the index have their names. If the node dies, the others take these tasks: see `carrying`,
which removes the objects.
"""

from __future__ import annotations

import logging
import math
import os
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from sqlalchemy import delete

from dicomwire.node.files import StoreFailure
from dicomwire.node.index.database import IndexFailure, reason_of
from dicomwire.node.index.schema import task
from dicomwire.node.index.writer import Conflict, Writer
from dicomwire.node.objects.spool import Spool
from dicomwire.node.tasks.queue import NewTask, Queue, name_in_process

LOGGER = logging.getLogger("dicomwire")

BEGUN = "begun"
"""The kind of the tasks. A node that lives keeps them: no other process takes them."""
PORTION = 128
"""Names in one task: one more transaction for so many objects, and after the death of a process two
requests for each of them."""


class Uploads:
    """The names of objects that this process uploads; safe to use from any thread.

    Parameters
    ----------
    queue : Queue
    spool : Spool
        It takes the names from here, and has a note of each upload that has not ended.
    name_of : callable
        Returns the name in the store of an object with these 32 hex digits.
    """

    def __init__(self, queue: Queue, spool: Spool, name_of: Callable[[str], str]) -> None:
        self._queue = Queue(queue.index, name_in_process(queue.owner), queue.clock)
        self._spool = spool
        self._name_of = name_of
        self._lock = threading.Lock()  # guards all that follows; held while names are reserved
        self._free: list[str] = []
        self._reserved: dict[int, list[str]] = {}
        """The digits of each task, those of `_free` included."""
        self._task_of: dict[str, int] = {}
        """The task of each name. Read without the lock: that of an upload in progress stays."""
        self._are_lost = False
        """Whether another node has taken the tasks."""
        spool.begin_upload = self.begin

    def begin(self) -> Path:
        """Return the note of a new upload in the spool, which has its 32 digits as its name.

        Raises
        ------
        StoreFailure
            When the index, which is to know the name, cannot be written.
        OSError
            When the note cannot be made.
        """
        with self._lock:
            if self._are_lost:
                for known in (self._free, self._reserved, self._task_of):
                    known.clear()
                self._are_lost = False
            if not self._free:
                try:
                    self._reserve()
                except Conflict:  # the connection was lost
                    self._reserve()
                except IndexFailure as error:
                    raise StoreFailure(f"no upload can begin: {reason_of(error)}") from None
            return self._spool.note(self._free.pop())

    def _reserve(self) -> None:
        digits = [os.urandom(16).hex() for _ in range(PORTION)]
        names = [self._name_of(each) for each in digits]
        ended = self._ended()
        with self._queue.index.writing() as writer:
            _forget(writer, ended)
            new = self._queue.begin(writer, NewTask(BEGUN, {"names": names}), lease=math.inf)
        for number in ended:
            for each in self._reserved.pop(number):
                del self._task_of[self._name_of(each)]
        self._reserved[new.id] = digits
        self._task_of.update(dict.fromkeys(names, new.id))
        self._free = digits.copy()

    def _ended(self) -> list[int]:
        """Return the tasks of which no upload is in progress, nor has failed."""
        return [
            number
            for number, digits in self._reserved.items()
            if not any(map(self._spool.has_note, digits))
        ]

    def verify(self, writer: Writer, names: Sequence[str]) -> None:
        """Verify in a transaction that no other node removes these objects.

        Raises
        ------
        StoreFailure
            When another one takes this node for dead: it was stopped, or had no time for its
            heartbeat.
        """
        numbers = {self._task_of.get(name, 0) for name in names}
        if writer.owned(self._queue.owner, numbers) != len(numbers):
            self._are_lost = True
            raise StoreFailure("another node takes this one for dead, and removes its uploads")

    def close(self) -> None:
        """Remove the tasks of which no upload is in progress. It never raises."""
        with self._lock:
            ended = self._ended()
            try:
                if ended:
                    with self._queue.index.writing() as writer:
                        _forget(writer, ended)
            except IndexFailure as error:
                LOGGER.warning("The names of ended uploads stay: %s", reason_of(error))
            for number in ended:
                del self._reserved[number]
            self._free = []


def _forget(writer: Writer, numbers: Sequence[int]) -> None:
    """Remove tasks, also if another node has taken them: there is nothing to do."""
    if numbers:
        writer.connection.execute(delete(task).where(task.c.id.in_(numbers)))
