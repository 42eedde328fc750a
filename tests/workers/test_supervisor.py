"""The supervisor without processes: its forks, signals and clock are fakes, the sockets are real.

What a worker has to do with it, each test does by a `WorkerEnd` of its own.
"""

from __future__ import annotations

import logging
import os
import selectors
import signal
import socket
from collections.abc import Iterator
from contextlib import suppress
from types import SimpleNamespace
from typing import Any

import pytest

from dicomwire import Settings
from dicomwire.session.admission import AssociationLimits
from dicomwire.session.listening import listen
from dicomwire.workers import supervisor
from dicomwire.workers.worker_end import Order, SharedCounts, WorkerEnd

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="a system without workers")

CEILINGS = AssociationLimits.of(Settings())
DRAIN = 30.0


class FakeWorker:
    """A worker process: its end of the channel."""

    def __init__(self, pid: int, end: WorkerEnd, channel: socket.socket) -> None:
        self.pid = pid
        self.end = end
        self.channel = channel
        self.status: int | None = None  # how the process ended, as for waitpid

    def take_all(self) -> list[socket.socket]:
        """Take the connections that wait."""
        taken = []
        while isinstance(received := self.end.receive(), socket.socket):
            taken.append(received)
        assert received is None
        return taken


class World:
    """A supervisor, the processes that it believes to have, the network and the clock."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        self.workers: list[FakeWorker] = []
        self.killed: list[int] = []
        self._sockets: list[socket.socket] = []
        fake_os = SimpleNamespace(
            WNOHANG=os.WNOHANG,
            waitpid=self._waitpid,
            waitstatus_to_exitcode=os.waitstatus_to_exitcode,
            kill=lambda pid, number: self.killed.append(pid),
        )
        names = ("SIGTERM", "SIGCHLD", "SIGKILL", "SIG_DFL")
        fake_signal = SimpleNamespace(
            **{name: getattr(signal, name) for name in names},
            signal=lambda *_: None,
            set_wakeup_fd=lambda *_, **__: -1,
        )
        monkeypatch.setattr(supervisor, "os", fake_os)
        monkeypatch.setattr(supervisor, "signal", fake_signal)
        monkeypatch.setattr(supervisor, "time", SimpleNamespace(monotonic=lambda: self.now))
        monkeypatch.setattr(supervisor, "fork", self._fork)
        listener = listen(("127.0.0.1", 0))
        self.port = listener.getsockname()[1]
        self.control, control = socket.socketpair()
        self.control.setblocking(False)
        self.counts = SharedCounts(2, 10)
        self.supervisor = supervisor.Supervisor(
            listener, control, self.counts, lambda end: None, CEILINGS, DRAIN
        )
        self._sockets += [listener, control, self.control]

    def _fork(self, run: Any) -> int:
        record, theirs = run.args
        channel = socket.socket(fileno=os.dup(theirs.fileno()))
        channel.setblocking(False)
        self._sockets.append(channel)
        end = WorkerEnd(channel, self.counts, record.number, CEILINGS, ("127.0.0.1", self.port))
        self.workers.append(FakeWorker(100 + len(self.workers), end, channel))
        return self.workers[-1].pid

    def _waitpid(self, pid: int, flags: int) -> tuple[int, int]:
        (worker,) = [each for each in self.workers if each.pid == pid]
        return (0, 0) if worker.status is None else (pid, worker.status)

    def begin(self, count: int = 1, *, ready: bool = True) -> None:
        self.supervisor.begin(count)
        for worker in self.workers if ready else []:
            worker.end.ready()
        self.run()

    def run(self) -> None:
        """Let the supervisor do all that there is to do."""
        for _ in range(20):
            self.supervisor.look(0)

    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        self.run()

    def connect(self, *, accepted: bool = True) -> socket.socket:
        """Have a client connect."""
        client = socket.create_connection(("127.0.0.1", self.port), timeout=10)
        self._sockets.append(client)
        if accepted:
            self.run()
        return client

    def die(self, worker: FakeWorker, status: int = signal.SIGKILL) -> None:
        """Have a worker process end."""
        worker.status = status
        worker.channel.close()
        self.supervisor._wake.send(bytes([signal.SIGCHLD]))
        self.run()

    @property
    def said(self) -> list[str]:
        """What the supervisor has logged since this was asked before."""
        lines = b""
        with suppress(BlockingIOError):
            lines = self.control.recv(1 << 16)
        return lines.decode().splitlines()

    def close(self) -> None:
        for record in self.supervisor._records:
            if record.channel is not None:
                record.channel.close()
            for each in record.pending:
                each.close()
        for each in (*self.supervisor._waiting, *self._sockets):
            each.close()
        for each in (self.supervisor._woken, self.supervisor._wake):
            each.close()
        self.supervisor._selector.close()
        self.counts.file.close()


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    world = World(monkeypatch)
    yield world
    world.close()


def is_closed(client: socket.socket) -> bool:
    with selectors.DefaultSelector() as selector:
        selector.register(client, selectors.EVENT_READ)
        return bool(selector.select(0)) and client.recv(1) == b""


# --- Connections ---


def test_nothing_is_accepted_before_a_worker_is_ready(world: World) -> None:
    world.begin(2, ready=False)
    world.connect()
    assert not world.supervisor._waiting
    world.workers[1].end.ready()
    world.run()
    (taken,) = world.workers[1].take_all()
    taken.close()


def test_connections_go_to_the_worker_with_the_fewest(world: World) -> None:
    world.begin(2)
    for _ in range(6):
        world.connect()
    taken = [worker.take_all() for worker in world.workers]
    assert [len(each) for each in taken] == [3, 3]
    for each in taken[0]:
        world.workers[0].end.connection_closed()
        each.close()
    world.run()
    for _ in range(2):
        world.connect()
    more = [worker.take_all() for worker in world.workers]
    assert [len(each) for each in more] == [2, 0]
    for sock in (*taken[1], *more[0]):
        sock.close()


def test_a_worker_that_takes_none_gets_no_more_than_a_few(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "PENDING", 3)
    world.begin(1)
    for _ in range(5):
        world.connect()
    (record,) = world.supervisor._records
    assert (len(record.pending), len(world.supervisor._waiting)) == (3, 0)
    taken = world.workers[0].take_all()
    world.run()
    taken += world.workers[0].take_all()
    assert len(taken) == 5
    for each in taken:
        each.close()


def test_a_worker_dies_before_it_has_confirmed_a_connection(world: World) -> None:
    world.begin(2)
    client = world.connect()
    client.send(b"hello")
    (holder,) = [each for each in world.supervisor._records if each.pending]
    world.die(world.workers[holder.number])
    (other,) = [each for each in world.workers[:2] if each.status is None]
    (taken,) = other.take_all()
    assert taken.recv(5) == b"hello"  # nobody has read from it
    taken.close()
    assert world.counts.get(holder.number, SharedCounts.CONNECTIONS) == 0


def test_a_worker_dies_with_a_connection_that_it_has_confirmed(world: World) -> None:
    world.begin(1)
    client = world.connect()
    (taken,) = world.workers[0].take_all()
    taken.close()  # as the system does for a process that dies
    world.die(world.workers[0])
    assert is_closed(client)
    world.pass_time(1)
    world.workers[1].end.ready()
    world.run()
    assert world.workers[1].take_all() == []


def test_a_worker_confirms_a_connection_and_dies_at_once(world: World) -> None:
    """Its last word is read, although its death is noticed first."""
    world.begin(1)
    client = world.connect()
    (taken,) = world.workers[0].take_all()
    taken.close()
    worker = world.workers[0]
    worker.status = signal.SIGKILL
    world.supervisor._reap(world.supervisor._records[0])
    assert not world.supervisor._waiting
    assert is_closed(client)


# --- Death and restart ---


def test_workers_that_die_at_once_are_restarted_ever_more_slowly(world: World) -> None:
    world.begin(1)
    delays = []
    for _ in range(12):
        began, before = world.now, len(world.workers)
        world.die(world.workers[-1])
        while len(world.workers) == before:
            wait = world.supervisor._time_to_wait()
            assert wait is not None
            world.pass_time(wait)
        delays.append(round(world.now - began, 3))
    assert delays == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 30, 30, 30]
    assert world.counts.get(0, SharedCounts.RESTARTS) == 12


def test_a_worker_that_has_served_for_a_while_is_replaced_at_once(world: World) -> None:
    world.begin(1)
    world.die(world.workers[0])
    world.pass_time(0.1)
    world.pass_time(supervisor.QUICK_DEATH)
    assert world.said
    world.die(world.workers[1], status=3 << 8)
    assert len(world.workers) == 3
    assert f"{logging.ERROR} Worker 101 ended with code 3; another is started now" in world.said
    world.die(world.workers[2])
    assert any("in 0.1 s" in each for each in world.said)


def test_a_worker_that_closes_its_channel_gets_no_more(world: World) -> None:
    world.begin(2)
    world.workers[0].channel.close()
    world.run()
    world.connect()
    (taken,) = world.workers[1].take_all()
    taken.close()


# --- Stopping ---


def orders(worker: FakeWorker) -> list[Order]:
    found = []
    while isinstance(received := worker.end.receive(), Order):
        found.append(received)
    return found


def test_workers_are_told_to_stop_then_to_quit_and_then_killed(world: World) -> None:
    world.begin(2)
    world.control.send(b"10\n")
    world.run()
    assert "stopped" in world.said
    assert [orders(each) for each in world.workers] == [[Order.STOP]] * 2
    with pytest.raises(ConnectionRefusedError):
        world.connect()
    world.pass_time(9)
    assert [orders(each) for each in world.workers] == [[], []]
    world.pass_time(1)
    assert [orders(each) for each in world.workers] == [[Order.QUIT]] * 2
    world.die(world.workers[0], status=0)
    world.pass_time(supervisor.GRACE)
    assert world.killed == [world.workers[1].pid]
    assert not world.supervisor.is_over
    world.die(world.workers[1])
    assert world.supervisor.is_over
    assert len(world.workers) == 2  # none was started again


def test_a_shorter_time_to_stop_counts_and_a_longer_one_does_not(world: World) -> None:
    world.begin(1)
    world.control.send(b"100\n")
    world.run()
    world.control.send(b"5\n200\n")
    world.run()
    orders(world.workers[0])
    world.pass_time(5)
    assert orders(world.workers[0]) == [Order.QUIT]


def test_the_end_of_the_program_ends_all(world: World) -> None:
    world.begin(2)
    world.control.close()
    world.run()
    assert all(Order.QUIT in orders(each) for each in world.workers)


def test_sigterm_drains(world: World) -> None:
    world.begin(1)
    world.supervisor._wake.send(bytes([signal.SIGTERM]))
    world.run()
    assert any("SIGTERM: draining for at most 30.0 s" in each for each in world.said)
    orders(world.workers[0])
    world.pass_time(DRAIN)
    assert orders(world.workers[0]) == [Order.QUIT]


def test_connections_that_no_worker_has_taken_are_closed_when_it_stops(world: World) -> None:
    world.begin(1)
    client = world.connect()
    world.die(world.workers[0])  # the connection waits for the next worker
    assert len(world.supervisor._waiting) == 1
    world.control.send(b"0\n")
    world.run()
    assert is_closed(client)
    assert world.supervisor.is_over


def test_connections_in_the_queue_are_passed_on_before_it_stops(world: World) -> None:
    world.begin(1)
    clients = [world.connect(accepted=False) for _ in range(3)]
    world.supervisor._stop(DRAIN)
    end = world.workers[0].end
    taken = [end.receive() for _ in clients]
    assert end.receive() is Order.STOP
    for each, client in zip(taken, clients, strict=True):
        assert isinstance(each, socket.socket)
        assert each.getpeername() == client.getsockname()
        each.close()
