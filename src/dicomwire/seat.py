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
from socket import socket as Socket
from typing import Any

from dicomwire.listening import BACKLOG
from dicomwire.logs import LOGGER

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
    lock of a process that dies.
    """

    PID, CONNECTIONS, ASSOCIATIONS, RESTARTS = range(4)

    def __init__(self, places: int) -> None:
        self.file = tempfile.TemporaryFile(prefix="dicomwire-")  # noqa: SIM115
        self._places = places
        size = places * 4 * 8
        self.file.truncate(size)
        self._numbers = memoryview(mmap.mmap(self.file.fileno(), size)).cast("q")

    def get(self, place: int, column: int) -> int:
        return int(self._numbers[place * 4 + column])

    def set(self, place: int, column: int, value: int) -> None:
        self._numbers[place * 4 + column] = value

    def add(self, place: int, column: int, change: int) -> None:
        self._numbers[place * 4 + column] += change

    def total(self, column: int) -> int:
        return sum(self._numbers[column::4])


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
        self, channel: Socket, board: Board, place: int, slots: int, address: tuple[Any, ...]
    ) -> None:
        self.address = address
        self._channel = channel
        self._board = board
        self._place = place
        self._slots = slots
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

    def take_slot(self) -> bool:
        """Count an association, unless there are as many as the whole server may have."""
        with self._lock:  # locks of files are not between the threads of a process
            fcntl.lockf(self._board.file, fcntl.LOCK_EX)
            try:
                if self._board.total(Board.ASSOCIATIONS) >= self._slots:
                    return False
                self._board.add(self._place, Board.ASSOCIATIONS, 1)
                return True
            finally:
                fcntl.lockf(self._board.file, fcntl.LOCK_UN)

    def give_slot(self) -> None:
        """Note that an association is over."""
        self._count(Board.ASSOCIATIONS, -1)

    def _count(self, column: int, change: int) -> None:
        with self._lock:
            self._board.add(self._place, column, change)
