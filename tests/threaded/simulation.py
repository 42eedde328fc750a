"""The threaded face in one thread: with fake sockets, a fake clock, and no thread of the library.

A test decides what happens, and when. The clock stands still until it is moved: by the test, or
because a thread waits for longer than anything is to happen. `World.later` says what is to happen
while a thread waits; without that, waiting without a deadline is a failure.
"""

from __future__ import annotations

import itertools
import select
import socket
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "scenarios"))

from dicomwire.threaded import ae as ae_module
from dicomwire.threaded import connection, link, opening, port, server, threads, watcher
from dicomwire.threaded.connection import Connection
from dicomwire.threaded.selector import READ, Registration, Selector

ADDRESS = ("192.0.2.1", 11112)
_MODULES = (ae_module, connection, link, opening, port, server, watcher)


class FakeSocket:
    """Our end of a connection; what the peer and the system do is up to the test.

    Attributes
    ----------
    incoming : bytearray
        Bytes that have arrived and were not read.
    outgoing : bytearray
        All bytes that were sent.
    has_ended, was_reset, takes_nothing : bool
        Whether the peer has closed or reset the connection; whether sending fails.
    room : int or None
        How many bytes the system takes before sending blocks; None for any number.
    closed : int
        How often it was closed.
    """

    _numbers = itertools.count(1_000_000)

    def __init__(self, world: World) -> None:
        self._world = world
        self._number = next(self._numbers)
        self.incoming = bytearray()
        self.outgoing = bytearray()
        self.has_ended = self.was_reset = self.takes_nothing = self.is_shut = False
        self.room: int | None = None
        self.closed = 0
        self.sent: Callable[[], None] = lambda: None
        world.sockets[self._number] = self

    @property
    def is_open(self) -> bool:
        return not self.closed

    @property
    def is_readable(self) -> bool:
        return bool(self.incoming or self.has_ended or self.was_reset or self.is_shut)

    @property
    def is_writable(self) -> bool:
        return self.room != 0 or self.was_reset or self.takes_nothing or self.is_shut

    # --- For the peer ---

    def arrive(self, data: bytes) -> None:
        """Have bytes of the peer arrive."""
        self.incoming += data

    def end(self) -> None:
        """Have the peer close the connection."""
        self.has_ended = True

    # --- For the library ---

    def fileno(self) -> int:
        return self._number if self.is_open else -1

    def getsockname(self) -> tuple[str, int]:
        return ("192.0.2.2", 50_000)

    def getpeername(self) -> tuple[str, int]:
        return ADDRESS

    def gettimeout(self) -> float:
        return 0.0

    def setblocking(self, flag: bool) -> None:
        assert not flag

    def setsockopt(self, *_: object) -> None:
        """Take any option."""

    def recv_into(self, buffer: Any) -> int:
        data = self.recv(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def recv(self, size: int) -> bytes:
        self._world.step("read")
        if not self.is_open:
            raise OSError("closed")
        if self.was_reset:
            raise ConnectionResetError
        if self.is_shut or (self.has_ended and not self.incoming):
            return b""
        if not self.incoming:
            raise BlockingIOError
        data = bytes(self.incoming[:size])
        del self.incoming[:size]
        return data

    def send(self, data: Any, flags: int = 0) -> int:
        self._world.step("send")
        if not self.is_open or self.was_reset or self.takes_nothing or self.is_shut:
            raise BrokenPipeError
        if self.room == 0:
            raise BlockingIOError
        size = len(data) if self.room is None else min(self.room, len(data))
        if self.room is not None:
            self.room -= size
        self.outgoing += bytes(data[:size])
        self.sent()
        return size

    def shutdown(self, how: int) -> None:
        if how == socket.SHUT_RDWR:
            self.is_shut = True

    def close(self) -> None:
        self._world.step("close")
        self.closed += self.is_open
        self._world.selector.forget(self._number)

    def detach(self) -> None:
        self.closed += self.is_open


class FakeListener(FakeSocket):
    """A listening socket."""

    before_close: Callable[[], object] | None = None

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.queue: deque[FakeSocket] = deque()

    @property
    def is_readable(self) -> bool:
        return bool(self.queue)

    def getsockname(self) -> tuple[str, int]:
        return ADDRESS

    def accept(self) -> tuple[FakeSocket, tuple[str, int]]:
        if not self.queue:
            raise BlockingIOError
        return self.queue.popleft(), ("192.0.2.3", 40_000)

    def close(self) -> None:
        leave, self.before_close = self.before_close, None
        if leave is not None:
            leave()
        for each in self.queue:
            each.close()  # the system resets them
        super().close()


class FakeSelector(Selector):
    """Watches fake sockets; waits for nothing."""

    sees_changes = True

    def __init__(self, world: World) -> None:
        self._world = world
        self._watched: dict[int, Registration] = {}

    def fileno(self) -> int:
        return -1

    def get(self, number: int) -> Registration | None:
        return self._watched.get(number)

    def all(self) -> list[Registration]:
        return list(self._watched.values())

    def add(self, number: int, events: int, owner: Any) -> None:
        if number < 0:
            raise ValueError(number)
        if number in self._watched:
            raise KeyError(number)
        self._watched[number] = Registration(number, events, owner)

    def replace(self, number: int, owner: Any) -> None:
        self._watched[number] = self._watched[number]._replace(owner=owner)

    def remove(self, number: int) -> Any:
        return self._watched.pop(number).owner

    def forget(self, number: int) -> None:
        """Stop watching a socket that is closed, as epoll does; its owner is to have left."""
        assert number not in self._watched, "a socket is closed while it is watched"

    def wait(self, timeout: float) -> list[Any]:
        ready = self.ready
        self._world.step("select")  # what happens now happens to owners that count as ready
        return ready

    @property
    def ready(self) -> list[Any]:
        """The owners whose sockets are ready."""
        return [each.owner for each in self._watched.values() if self._is_ready(each)]

    def _is_ready(self, watched: Registration) -> bool:
        if watched.owner is None:
            return not self._world.watcher._calls.empty()
        sock = self._world.sockets[watched.number]
        return sock.is_readable if watched.events == READ else sock.is_writable

    @property
    def owners(self) -> list[Any]:
        """Who is watched."""
        return [each.owner for each in self._watched.values() if each.owner is not None]


class FakePoll:
    """What a thread waits with for one socket."""

    def __init__(self, world: World) -> None:
        self._world = world

    def register(self, sock: FakeSocket, events: int) -> None:
        self._socket, self._events = sock, events

    def poll(self, milliseconds: float | None = None) -> list[int]:
        seconds = None if milliseconds is None else milliseconds / 1000
        return [1] if self._world.wait(self._is_ready, self._socket, seconds) else []

    def _is_ready(self) -> bool:
        sock, events = self._socket, self._events
        return bool(
            (events & select.POLLIN and sock.is_readable)
            or (events & select.POLLOUT and sock.is_writable)
        )


class World:
    """Clock, network, system and scheduler.

    Attributes
    ----------
    now : float
        The time.
    later : deque
        What happens, one by one, when a thread waits and nothing else can go on.
    takes : int or None
        How many bytes the system takes anew when sending has blocked; None for none.
    tasks : deque
        What a pool thread would do next.
    steps : list
        What the library has done with the system so far.
    """

    def __init__(self) -> None:
        self.now = 1000.0
        self.later: deque[Callable[[], object]] = deque()
        self.takes: int | None = None
        self.tasks: deque[Callable[[], None]] = deque()
        self.sockets: dict[int, FakeSocket] = {}
        self.steps: list[str] = []
        self._interference: tuple[int, Callable[[], object]] | None = None
        self.selector = FakeSelector(self)
        self.watcher: watcher.Watcher
        self.next_socket: Callable[[], FakeSocket]

    # --- The course of things ---

    def step(self, name: str) -> None:
        """Count a call of the library; what a test wants to happen at this one happens first."""
        self.steps.append(name)
        if self._interference is not None and self._interference[0] == len(self.steps):
            _, happens = self._interference
            self._interference = None
            happens()

    def at_step(self, number: int, happens: Callable[[], object]) -> None:
        """Have something happen just before the call with this number, from 1."""
        self._interference = number, happens

    def wait(self, is_ready: Callable[[], bool], sock: FakeSocket, seconds: float | None) -> bool:
        """Wait as a thread does: things happen, or else time passes; false at the deadline."""
        self.step("wait")
        deadline = None if seconds is None else self.now + seconds
        while not is_ready():
            if deadline is not None and self.now >= deadline:
                return False
            if self.later:
                self.later.popleft()()
            elif sock.room == 0 and self.takes is not None:
                sock.room = self.takes
            elif deadline is not None:
                self.now = deadline
                return is_ready()
            else:
                raise AssertionError("a thread would wait for ever")
        return True

    def run(self) -> None:
        """Do what the watcher and the pool threads have to do, until there is nothing."""
        for _ in range(10_000):
            if self.tasks:
                self.step("task")
                self.tasks.popleft()()
            elif self.selector.ready or self._is_due:
                self.watcher.look()
            else:
                return
        raise AssertionError("it never comes to rest")

    @property
    def _is_due(self) -> bool:
        heap = self.watcher._heap
        return bool(heap) and heap[0][0] <= self.now

    def pass_time(self, seconds: float) -> None:
        """Move the clock, and do what is due then."""
        self.now += seconds
        self.run()

    @staticmethod
    def elsewhere(call: Callable[[], object]) -> None:
        """Call something on another thread, which must not have to wait for this one."""
        thread = threading.Thread(target=call)
        thread.start()
        thread.join(10)
        assert not thread.is_alive(), "the other thread waits for this one"

    # --- Connections ---

    def connect(self, served: Any) -> FakeSocket:
        """Have a peer connect to a server; return the server's end."""
        sock = FakeSocket(self)
        served.socket.queue.append(sock)
        return sock


@contextmanager
def another_world() -> Iterator[World]:
    """Put the threaded face into a world of its own."""
    with pytest.MonkeyPatch.context() as patch:
        world = World()
        clock = SimpleNamespace(monotonic=lambda: world.now, perf_counter=time.perf_counter)
        for module in _MODULES:
            if hasattr(module, "time"):
                patch.setattr(module, "time", clock)
        patch.setattr(threads, "submit", world.tasks.append)
        patch.setattr(threads, "start_if_short", lambda: False)
        patch.setattr(threads, "call_when_short", lambda call: None)
        patch.setattr(watcher, "new_selector", lambda: world.selector)
        world.watcher = watcher.Watcher()
        patch.setattr(watcher, "_watcher", world.watcher)
        polling = {name: getattr(select, name) for name in ("POLLIN", "POLLOUT")}
        patch.setattr(
            connection, "select", SimpleNamespace(poll=lambda: FakePoll(world), **polling)
        )
        patch.setattr(connection, "socket", _socket_module())
        patch.setattr(link, "_ABORT_WAIT", 0)
        patch.setattr(link, "open_connection", lambda *_: Connection(world.next_socket()))
        patch.setattr(server, "listen", lambda address: FakeListener(world))
        yield world
        world.watcher._wake_in.close()
        world.watcher._wake_out.close()


@pytest.fixture
def world() -> Iterator[World]:
    """Put the threaded face into a world of its own."""
    with another_world() as world:
        yield world


def _socket_module() -> SimpleNamespace:
    names = {name: getattr(socket, name) for name in dir(socket) if name.isupper()}
    return SimpleNamespace(**{**names, "socket": FakeSocket})
