"""A worker process's link to its server: it receives connections and counts associations.

`supervisor` starts the worker processes and sends them the connections.
"""

from __future__ import annotations

import errno
import mmap
import os
import socket
import tempfile
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from hashlib import blake2b
from socket import socket as Socket
from typing import Any

from dicomwire.logs import LOGGER
from dicomwire.session.admission import AssociationLimits, Peer
from dicomwire.session.listening import BACKLOG

try:
    import fcntl
except ImportError:  # Windows, which has no os.fork either: no workers there
    fcntl = None  # type: ignore[assignment]

# Supervisor and worker send each other single bytes; CONNECTION carries a file descriptor.
CONNECTION, STOP, QUIT = b"c", b"s", b"q"
READY, TAKEN = b"r", b"t"


class Order(Enum):
    """An order of the supervisor to a worker."""

    STOP = STOP
    """No connections will follow: end when the present ones have ended."""
    QUIT = QUIT
    """End now; the supervisor kills a worker that takes longer than `GRACE` seconds."""


@dataclass(frozen=True, slots=True)
class Worker:
    """A worker process: its process ID, its counts, and how often its predecessors died."""

    pid: int
    connections: int
    associations: int
    restarts: int


class SharedCounts:
    """Counts in memory that all processes of a server share.

    Each worker has four numbers, and only the worker and the supervisor write them.
    Each association takes a slot: the number of its worker, and hashes of its address and title.

    `file` backs the memory. A process locks it to read and take slots together, so that the count
    is exact; the operating system releases the lock of a process that dies.
    """

    PID, CONNECTIONS, ASSOCIATIONS, RESTARTS = range(4)

    def __init__(self, workers: int, slots: int) -> None:
        self.file = tempfile.TemporaryFile(prefix="dicomwire-")  # noqa: SIM115
        size = (workers * 4 + slots * 3) * 8
        self.file.truncate(size)
        numbers = memoryview(mmap.mmap(self.file.fileno(), size)).cast("q")
        self._numbers = numbers[: workers * 4]
        columns = numbers[workers * 4 :]
        self._owners = columns[:slots]  # the number of the slot's worker plus 1; 0: a free slot
        self._addresses = columns[slots : 2 * slots]
        self._titles = columns[2 * slots :]

    def get(self, number: int, column: int) -> int:
        return int(self._numbers[number * 4 + column])

    def set(self, number: int, column: int, value: int) -> None:
        self._numbers[number * 4 + column] = value

    def add(self, number: int, column: int, change: int) -> None:
        self._numbers[number * 4 + column] += change

    def total(self, column: int) -> int:
        return sum(self._numbers[column::4])

    def counts(self, address: int, title: int) -> tuple[int, int, int]:
        """Return the number of taken slots: in all, for an address, and for a title."""
        owners = self._owners.tolist()
        taken = len(owners) - owners.count(0)
        return taken, self._addresses.tolist().count(address), self._titles.tolist().count(title)

    def take_slot(self, number: int, address: int, title: int) -> int:
        """Take a free slot and return its number; the caller has checked that there is one."""
        slot = self._owners.tolist().index(0)
        # The owner comes first: if the process dies here, the supervisor finds the slot to free.
        self._owners[slot] = number + 1
        self._addresses[slot], self._titles[slot] = address, title
        return slot

    def free_slot(self, slot: int) -> None:
        """Free one slot."""
        self._addresses[slot] = self._titles[slot] = 0
        self._owners[slot] = 0  # last: from here on another process may take the slot

    def free_slots(self, number: int) -> None:
        """Free all slots of a worker."""
        for slot, owner in enumerate(self._owners.tolist()):
            if owner == number + 1:
                self.free_slot(slot)


class WorkerEnd:
    """A worker process's link to its server; the supervisor makes it.

    The worker calls `ready`, then `receive_waiting` each time `fileno` is readable, and
    `connection_closed` at the end of each connection.

    Attributes
    ----------
    address : tuple
        The address that the server listens on.
    """

    def __init__(
        self,
        channel: Socket,
        counts: SharedCounts,
        number: int,
        ceilings: AssociationLimits,
        address: tuple[Any, ...],
    ) -> None:
        self.address = address
        self._channel = channel
        self._counts = counts
        self._number = number
        self._ceilings = ceilings
        self._slots: dict[object, int] = {}  # by association, those of this worker
        # Guards `_slots` and this worker's numbers in the counts between the threads of the worker.
        # It is taken before the lock of the file of the counts.
        self._lock = threading.Lock()

    def fileno(self) -> int:
        """Return the file descriptor that is readable when a connection or an order waits."""
        return self._channel.fileno()

    def ready(self) -> None:
        """Tell the supervisor that this worker can take connections."""
        self._channel.send(READY)

    def receive_waiting(
        self,
        welcome: Callable[[Socket, Any], bool],
        obey: Callable[[Order], None],
        make_room: Callable[[], object],
    ) -> None:
        """Receive the waiting connections and orders, without blocking.

        Parameters
        ----------
        welcome : callable
            Called with a connection and the peer's address; returns whether it takes the
            connection.
        obey : callable
            Called with an order; at most once.
        make_room : callable
            Called when no file descriptor is left: closes connections that can be spared.
        """
        for _ in range(BACKLOG):
            try:
                received = self.receive()
            except OSError:
                LOGGER.error("A connection is lost: no file descriptor is left for it")
                make_room()
                return
            if received is None:
                return
            if isinstance(received, Order):
                obey(received)
                return
            try:
                is_in = welcome(received, received.getpeername())
            except OSError:  # the peer has reset the connection already
                is_in = False
            if not is_in:
                received.close()
                self.connection_closed()

    def receive(self) -> Socket | Order | None:
        """Return a connection or an order; None if neither waits. Never blocks.

        Raises
        ------
        OSError
            If there was no file descriptor for a connection; that connection is lost.
        """
        flags = getattr(socket, "MSG_CMSG_CLOEXEC", 0)
        try:
            kind, files, _, _ = socket.recv_fds(self._channel, 1, 1, flags)
        except BlockingIOError:
            return None
        except ConnectionError:
            kind = b""
        if kind != CONNECTION:
            return Order(kind or QUIT)  # no byte: the supervisor has ended
        if files:
            # Before TAKEN, at which the supervisor stops counting it, so that it is always counted.
            self._count(SharedCounts.CONNECTIONS, 1)
        with suppress(OSError):
            self._channel.send(TAKEN)
        if not files:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        os.set_inheritable(files[0], False)  # for systems without MSG_CMSG_CLOEXEC
        return Socket(fileno=files[0])

    def connection_closed(self) -> None:
        """Count one connection less."""
        self._count(SharedCounts.CONNECTIONS, -1)

    def admit(self, association: object, peer: Peer) -> str | None:
        """Count `association` and return None, or return which limit of the server forbids it."""
        counts = self._counts
        address, title = _number(peer.address), _number(peer.title)
        with self._lock:  # lockf does not keep apart the threads of one process
            fcntl.lockf(counts.file, fcntl.LOCK_EX)
            try:
                objection = self._ceilings.objection(peer, *counts.counts(address, title))
                if objection is None:
                    self._slots[association] = counts.take_slot(self._number, address, title)
                    counts.add(self._number, SharedCounts.ASSOCIATIONS, 1)
                return objection
            finally:
                fcntl.lockf(counts.file, fcntl.LOCK_UN)

    def dismiss(self, association: object) -> None:
        """Stop counting `association`, which has ended, if it was counted."""
        with self._lock:
            slot = self._slots.pop(association, None)
            if slot is not None:
                self._counts.free_slot(slot)
                self._counts.add(self._number, SharedCounts.ASSOCIATIONS, -1)

    def _count(self, column: int, change: int) -> None:
        with self._lock:
            self._counts.add(self._number, column, change)


def _number(text: str) -> int:
    """Return a hash of an address or a title of 64 bits, never 0 (0 marks a free slot)."""
    digest = blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True) or 1
