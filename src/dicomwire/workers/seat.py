"""What a worker process has of its server: the connections it is handed, and what all may count.

Who hands them out, and starts the processes, is in `supervisor`.
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
from dicomwire.session.admission import Ceilings, Party
from dicomwire.session.listening import BACKLOG

try:
    import fcntl
except ImportError:  # nor is there a fork on Windows
    fcntl = None  # type: ignore[assignment]

# Between supervisor and worker pass single bytes, of which CONNECTION carries a file descriptor.
CONNECTION, STOP, QUIT = b"c", b"s", b"q"
READY, TAKEN = b"r", b"t"


class Order(Enum):
    """What a worker is told, beside being handed connections."""

    STOP = STOP
    """No more will come: end when those there are have ended."""
    QUIT = QUIT
    """End now; who does not is killed after `GRACE` seconds."""


@dataclass(frozen=True, slots=True)
class Worker:
    """A worker process: its id, what it serves, and how often its predecessors died."""

    pid: int
    connections: int
    associations: int
    restarts: int


class Board:
    """Numbers in memory that all processes of a server see; each is written by one process.

    The file below it is what they lock, to count associations exactly: the system releases the
    lock of a process that dies. An association takes a slot, which says what place has it, and for
    which address and title, as numbers that hardly ever are the same for two of them.
    """

    PID, CONNECTIONS, ASSOCIATIONS, RESTARTS = range(4)

    def __init__(self, places: int, slots: int) -> None:
        self.file = tempfile.TemporaryFile(prefix="dicomwire-")  # noqa: SIM115
        size = (places * 4 + slots * 3) * 8
        self.file.truncate(size)
        numbers = memoryview(mmap.mmap(self.file.fileno(), size)).cast("q")
        self._numbers = numbers[: places * 4]
        columns = numbers[places * 4 :]
        self._owners = columns[:slots]  # the number of the place, from 1; 0 where a slot is free
        self._addresses = columns[slots : 2 * slots]
        self._titles = columns[2 * slots :]

    def get(self, place: int, column: int) -> int:
        return int(self._numbers[place * 4 + column])

    def set(self, place: int, column: int, value: int) -> None:
        self._numbers[place * 4 + column] = value

    def add(self, place: int, column: int, change: int) -> None:
        self._numbers[place * 4 + column] += change

    def total(self, column: int) -> int:
        return sum(self._numbers[column::4])

    def counts(self, address: int, title: int) -> tuple[int, int, int]:
        """Return how many slots are taken: in all, for an address, and for a title."""
        owners = self._owners.tolist()
        taken = len(owners) - owners.count(0)
        return taken, self._addresses.tolist().count(address), self._titles.tolist().count(title)

    def take_slot(self, place: int, address: int, title: int) -> int:
        """Take a free slot, of which there has to be one, and return its number."""
        slot = self._owners.tolist().index(0)
        self._owners[slot] = place + 1  # first, so that it is freed if the process dies here
        self._addresses[slot], self._titles[slot] = address, title
        return slot

    def free_slot(self, slot: int) -> None:
        """Give a slot back."""
        self._addresses[slot] = self._titles[slot] = 0
        self._owners[slot] = 0  # last, since another process may take it now

    def free_slots(self, place: int) -> None:
        """Give all slots of a place back."""
        for slot, owner in enumerate(self._owners.tolist()):
            if owner == place + 1:
                self.free_slot(slot)


class Seat:
    """What a worker process has of its server; made by the supervisor.

    Who serves watches `fileno` for reading, calls `ready`, then `take_in` whenever there is
    something, and tells of each end of a connection.

    Attributes
    ----------
    address : tuple
        The address that is listened on.
    """

    def __init__(
        self,
        channel: Socket,
        board: Board,
        place: int,
        ceilings: Ceilings,
        address: tuple[Any, ...],
    ) -> None:
        self.address = address
        self._channel = channel
        self._board = board
        self._place = place
        self._ceilings = ceilings
        self._slots: dict[object, int] = {}  # of our associations
        self._lock = threading.Lock()

    def fileno(self) -> int:
        """Return the file descriptor that is readable when there is something to receive."""
        return self._channel.fileno()

    def ready(self) -> None:
        """Tell that connections may come."""
        self._channel.send(READY)

    def take_in(
        self,
        welcome: Callable[[Socket, Any], bool],
        obey: Callable[[Order], None],
        make_room: Callable[[], object],
    ) -> None:
        """Take in what has come, without blocking.

        Parameters
        ----------
        welcome : callable
            Lets a connection in, given the peer's address too; returns whether it did.
        obey : callable
            Does what is ordered; called once at the most.
        make_room : callable
            Gives file descriptors back, of which there are no more.
        """
        for _ in range(BACKLOG):
            try:
                received = self.receive()
            except OSError:
                LOGGER.error("No file descriptor is left for a connection, which is lost")
                make_room()
                return
            if received is None:
                return
            if isinstance(received, Order):
                obey(received)
                return
            try:
                is_in = welcome(received, received.getpeername())
            except OSError:  # reset already
                is_in = False
            if not is_in:
                received.close()
                self.connection_closed()

    def receive(self) -> Socket | Order | None:
        """Return a connection, or an order, or None if neither has come; never blocks.

        Raises
        ------
        OSError
            When there was no file descriptor for a connection, which is lost then.
        """
        flags = getattr(socket, "MSG_CMSG_CLOEXEC", 0)
        try:
            kind, files, _, _ = socket.recv_fds(self._channel, 1, 1, flags)
        except BlockingIOError:
            return None
        except ConnectionError:
            kind = b""
        if kind != CONNECTION:
            return Order(kind or QUIT)  # nobody is there any more, who could tell
        if files:
            self._count(Board.CONNECTIONS, 1)  # before the supervisor counts it no longer
        with suppress(OSError):
            self._channel.send(TAKEN)
        if not files:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        os.set_inheritable(files[0], False)  # where there is no flag for that
        return Socket(fileno=files[0])

    def connection_closed(self) -> None:
        """Note that a connection is closed."""
        self._count(Board.CONNECTIONS, -1)

    def admit(self, association: object, party: Party) -> str | None:
        """Count `association`, or return why the whole server may have no more of its party."""
        board = self._board
        address, title = _number(party.address), _number(party.title)
        with self._lock:  # locks of files are not between the threads of a process
            fcntl.lockf(board.file, fcntl.LOCK_EX)
            try:
                objection = self._ceilings.objection(party, *board.counts(address, title))
                if objection is None:
                    self._slots[association] = board.take_slot(self._place, address, title)
                    board.add(self._place, Board.ASSOCIATIONS, 1)
                return objection
            finally:
                fcntl.lockf(board.file, fcntl.LOCK_UN)

    def dismiss(self, association: object) -> None:
        """Note that `association` is over, if it was counted."""
        with self._lock:
            slot = self._slots.pop(association, None)
            if slot is not None:
                self._board.free_slot(slot)
                self._board.add(self._place, Board.ASSOCIATIONS, -1)

    def _count(self, column: int, change: int) -> None:
        with self._lock:
            self._board.add(self._place, column, change)


def _number(text: str) -> int:
    """Return a number for an address or a title, which is not 0."""
    digest = blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True) or 1
