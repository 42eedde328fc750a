"""The registry: which nodes serve an index, and whether they live.

A node is one running ``dicomwire node``, with all of its worker processes. It has a row in the
index and renews it, together with the leases of its tasks. What a node leaves that dies, others
take over.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, Self

from sqlalchemy import delete, insert, select, update

from dicomwire import __version__
from dicomwire.node.failures import log_unexpected
from dicomwire.node.index.database import IndexFailure, reason_of
from dicomwire.node.index.reader import IndexReader
from dicomwire.node.index.schema import node
from dicomwire.node.index.writer import Writer
from dicomwire.node.tasks.queue import LEASE, Queue

LOGGER = logging.getLogger("dicomwire.node")

_EVERY = LEASE / 4
"""Seconds between two renewals: three of them may fail before others take the tasks."""
_REMEMBERED = 24 * 3600.0
"""Seconds for which the row of a dead node stays, for an operator to see it."""
SERVING, STOPPING = "serving", "stopping"
_here: set[str] = set()
"""The ids of the nodes of this process."""


class Registered(NamedTuple):
    """A node, as its row says."""

    id: str
    host: str
    pid: int
    address: str
    port: int
    ae_title: str
    version: str
    started: float
    heartbeat: float
    state: str
    facts: Mapping[str, Any]
    """What the node tells of itself: its workers, associations and spool."""

    def is_alive(self, now: float) -> bool:
        """Return whether it has renewed its row in time."""
        return now - self.heartbeat < LEASE


def registered(index: IndexReader) -> Iterator[Registered]:
    """Yield all nodes, the oldest first."""
    with index.reading() as connection:
        for row in connection.execute(select(node).order_by(node.c.started)).all():
            yield Registered(**row._mapping)


class Membership:
    """The entry of this process's node in the registry, while the block of `with` runs.

    Parameters
    ----------
    queue : Queue
        The tasks of this node; its owner is the id of the node.
    address : tuple
        Host and port that the node listens on.
    ae_title : str
    facts : callable
        Returns what `Registered.facts` is to say.
    prepare : callable
        Called before each renewal: opens the index again if it was deleted.

    Raises
    ------
    IndexFailure
        From `__enter__`, when the registry cannot be written.
    """

    def __init__(
        self,
        queue: Queue,
        address: tuple[str, int],
        ae_title: str,
        facts: Callable[[], Mapping[str, Any]] = dict,
        prepare: Callable[[], object] = lambda: None,
    ) -> None:
        self.id = queue.owner
        self._queue = queue
        self._index = queue.index
        self._facts = facts
        self._prepare = prepare
        self._clock = queue.clock
        self._row: dict[str, Any] = {
            "id": self.id,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "address": address[0],
            "port": address[1],
            "ae_title": ae_title,
            "version": __version__,
            "started": queue.clock(),
            "state": SERVING,
        }
        self._has_ended = threading.Event()  # leaving the context sets it, and wakes the thread
        self._thread = threading.Thread(target=self._keep_alive, name="node-heartbeat", daemon=True)

    def __enter__(self) -> Self:
        with self._index.writing() as writer:
            self._bury(writer, [each.id for each in registered(self._index) if self._died(each)])
            self._beat(writer)
        _here.add(self.id)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._has_ended.set()
        self._thread.join()
        _here.discard(self.id)
        try:
            with self._index.writing() as writer:
                self._bury(writer, [self.id])
        except IndexFailure as error:
            LOGGER.warning("The node cannot be removed from the registry: %s", reason_of(error))

    def stopping(self) -> None:
        """Show others that the node stops."""
        self._row["state"] = STOPPING
        self.beat()

    def beat(self) -> None:
        """Renew the row and the leases of the tasks; release the tasks of nodes that died."""
        try:
            self._prepare()
            late = self._clock() - LEASE
            with self._index.writing() as writer:
                self._beat(writer)
                rows = writer.connection.execute(select(node.c.id).where(node.c.heartbeat < late))
                self._queue.release(writer, list(rows.scalars()))
                forgotten = self._clock() - _REMEMBERED
                writer.connection.execute(delete(node).where(node.c.heartbeat < forgotten))
        except (IndexFailure, OSError) as error:
            LOGGER.error("The registry of nodes cannot be written: %s", reason_of(error))

    def _beat(self, writer: Writer) -> None:
        row = {**self._row, "heartbeat": self._clock(), "facts": dict(self._facts())}
        mine = update(node).where(node.c.id == self.id).values(row)
        if not writer.connection.execute(mine).rowcount:  # at the start, or the index is a new one
            writer.connection.execute(insert(node), row)
        self._queue.renew(writer)

    def _bury(self, writer: Writer, ids: list[str]) -> None:
        self._queue.release(writer, ids)
        writer.connection.execute(delete(node).where(node.c.id.in_(ids)))

    def _died(self, other: Registered) -> bool:
        """Return whether a node of this machine has ended without removing its row.

        Containers may have the same name and process id as the ones that they replace.
        """
        if other.host != self._row["host"] or os.name == "nt":  # kill would end it there
            return False
        if other.pid == self._row["pid"]:
            return other.id not in _here
        try:
            os.kill(other.pid, 0)
        except ProcessLookupError:
            return True
        except OSError:
            return False
        return False

    def _keep_alive(self) -> None:
        while not self._has_ended.wait(_EVERY):
            try:
                self.beat()
            except Exception as error:  # without this thread, others would take the node for dead
                log_unexpected(LOGGER, error, "The heartbeat of the node failed")
