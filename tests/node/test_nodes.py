"""The registry of nodes: who is in it, and what becomes of those that die.

The clock stands still unless a test moves it.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from backends import Backend
from fake_clock import Clock
from sqlalchemy import update

from dicomwire.node.index.schema import node
from dicomwire.node.index.writer import Index
from dicomwire.node.nodes import Membership, registered
from dicomwire.node.tasks.queue import LEASE, NewTask, Queue

PLACE = ("127.0.0.1", 11112)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def index(tmp_path: Path, backend: Backend) -> Iterator[Index]:
    with Index(backend.database(tmp_path)) as opened:
        yield opened


@pytest.fixture
def queue(index: Index, clock: Clock) -> Queue:
    return Queue(index, "here", clock)


def names(index: Index) -> list[str]:
    return [each.id for each in registered(index)]


def change(index: Index, name: str, **values: Any) -> None:
    with index.writing() as writer:
        writer.connection.execute(update(node).where(node.c.id == name).values(values))


def dead_node(index: Index, clock: Clock, **values: Any) -> Queue:
    """Return the queue of a node that has died without removing its row."""
    queue = Queue(index, "dead", clock)
    with Membership(queue, PLACE, "DEAD"):
        row = {**next(registered(index))._asdict(), **values}
    with index.writing() as writer:
        writer.connection.execute(node.insert(), row)
        queue.add(writer, [NewTask("count", {})])
    assert queue.take("count", 1)
    return queue


def test_a_node_is_registered_while_it_runs(queue: Queue, clock: Clock) -> None:
    with Membership(queue, PLACE, "HERE", lambda: {"associations": 3}):
        (row,) = registered(queue.index)
        assert (row.id, row.pid, row.address, row.port) == ("here", os.getpid(), *PLACE)
        assert (row.state, row.facts) == ("serving", {"associations": 3})
        assert row.is_alive(clock.now)
    assert names(queue.index) == []


def test_a_heartbeat_renews_row_and_leases(queue: Queue, clock: Clock) -> None:
    with queue.index.writing() as writer:
        queue.add(writer, [NewTask("count", {})])
    with Membership(queue, PLACE, "HERE") as membership:
        assert queue.take("count", 1)
        clock.now += LEASE - 1
        membership.beat()
        clock.now += LEASE - 1
        assert next(registered(queue.index)).is_alive(clock.now)
        assert Queue(queue.index, "other", clock).take("count", 1) == []


def test_a_node_that_stops_says_so(queue: Queue) -> None:
    with Membership(queue, PLACE, "HERE") as membership:
        membership.stopping()
        assert next(registered(queue.index)).state == "stopping"


def test_a_lost_row_is_made_again(queue: Queue) -> None:
    with Membership(queue, PLACE, "HERE") as membership:
        change(queue.index, "here", id="gone")
        membership.beat()
        assert "here" in names(queue.index)


def test_a_failing_heartbeat_is_logged(queue: Queue, caplog: pytest.LogCaptureFixture) -> None:
    def fail() -> None:
        raise OSError("the disk is full")

    with Membership(queue, PLACE, "HERE", prepare=fail) as membership:
        membership.beat()
    assert "The registry of nodes cannot be written: the disk is full" in caplog.text


def test_tasks_of_a_silent_node_are_released_and_its_row_stays_a_day(
    queue: Queue, clock: Clock
) -> None:
    dead_node(queue.index, clock, host="elsewhere")
    with Membership(queue, PLACE, "HERE") as membership:
        assert queue.take("count", 1) == []
        clock.now += LEASE + 1
        membership.beat()
        assert queue.take("count", 1)
        assert names(queue.index) == ["dead", "here"]
        clock.now += 24 * 3600
        membership.beat()
        assert names(queue.index) == ["here"]


def test_a_start_clears_up_after_a_dead_process_of_this_machine_at_once(
    queue: Queue, clock: Clock
) -> None:
    ended = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], stdout=-1)
    dead_node(queue.index, clock, pid=int(ended.stdout))
    with Membership(queue, PLACE, "HERE"):
        assert names(queue.index) == ["here"]
        assert queue.take("count", 1)


def test_a_start_clears_up_after_its_predecessor_in_a_container(queue: Queue, clock: Clock) -> None:
    """Both have the process id 1 and the same host name."""
    dead_node(queue.index, clock)
    with Membership(queue, PLACE, "HERE"):
        assert names(queue.index) == ["here"]


@pytest.mark.parametrize("values", [{"host": "elsewhere", "pid": 0}, {"pid": os.getppid()}])
def test_a_start_leaves_nodes_that_may_live(
    queue: Queue, clock: Clock, values: dict[str, Any]
) -> None:
    dead_node(queue.index, clock, **values)
    with Membership(queue, PLACE, "HERE"):
        assert names(queue.index) == ["dead", "here"]


def test_nodes_of_one_process_leave_each_other_alone(queue: Queue, clock: Clock) -> None:
    with (
        Membership(queue, PLACE, "HERE"),
        Membership(Queue(queue.index, "there", clock), PLACE, "THERE"),
    ):
        assert names(queue.index) == ["here", "there"]
