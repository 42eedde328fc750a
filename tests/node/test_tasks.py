"""Tasks: when they run, in which order, how often, and what a failure or a death does to them.

The clock stands still unless a test moves it.
"""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from backends import Backend
from fake_clock import Clock

from dicomwire.node.index.writer import Index
from dicomwire.node.tasks.queue import (
    LEASE,
    ListedTask,
    NewTask,
    Queue,
    State,
    Task,
    counts,
    listed,
    name_in_process,
)
from dicomwire.node.tasks.threads import GiveUp, Kind, TaskThreads, Unfinished


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def index(tmp_path: Path, backend: Backend) -> Iterator[Index]:
    with Index(backend.database(tmp_path)) as opened:
        yield opened


@pytest.fixture
def queue(index: Index, clock: Clock) -> Queue:
    return Queue(index, "one", clock)


def add(queue: Queue, *tasks: NewTask) -> None:
    with queue.index.writing() as writer:
        queue.add(writer, tasks)


def numbered(*numbers: int, key: str = "", delay: float = 0) -> list[NewTask]:
    return [NewTask("count", {"number": number}, key, delay) for number in numbers]


def only(queue: Queue) -> ListedTask:
    """Return the only task that there is."""
    (task,) = listed(queue.index)
    return task


class Run:
    """What a kind does: notes the numbers, and fails for those that are to fail."""

    def __init__(self) -> None:
        self.calls: list[list[int]] = []
        self.failing: Mapping[int, Exception] = {}

    def __call__(self, tasks: Sequence[Task]) -> dict[Task, Exception]:
        numbers = [int(task.payload["number"]) for task in tasks]
        self.calls.append(numbers)
        pairs = zip(tasks, numbers, strict=True)
        return {task: self.failing[number] for task, number in pairs if number in self.failing}


@pytest.fixture
def run() -> Run:
    return Run()


def task_threads(queue: Queue, run: Callable[..., Any], **kind: Any) -> tuple[TaskThreads, Kind]:
    counting = Kind("count", run, **{"batch": 10, **kind})
    return TaskThreads(queue, [counting], jitter=lambda: 0.0), counting


def step_all(queue: Queue, run: Run, **kind: Any) -> float:
    """Run what is due; return the seconds until the next step."""
    threads, counting = task_threads(queue, run, **kind)
    while (seconds := threads.step(counting)) == 0:
        pass
    return seconds


# --- Which run, and when ----------------------------------------------------------------------


def test_tasks_run_in_order_and_are_removed(queue: Queue, run: Run) -> None:
    add(queue, *numbered(1, 2, 3))
    step_all(queue, run)
    assert run.calls == [[1, 2, 3]]
    assert list(listed(queue.index)) == []


def test_an_owner_has_the_tasks_that_it_took(queue: Queue) -> None:
    with queue.index.writing() as writer:
        number = queue.begin(writer, NewTask("kind", {})).id
        assert writer.owned("one", [number, number + 1]) == 1
        assert writer.owned("other", [number]) == 0


def test_a_batch_has_a_limit(queue: Queue, run: Run) -> None:
    add(queue, *numbered(1, 2, 3, 4, 5))
    step_all(queue, run, batch=2)
    assert run.calls == [[1, 2], [3, 4], [5]]


def test_a_kind_leaves_others_alone(queue: Queue, run: Run) -> None:
    add(queue, NewTask("other", {}), *numbered(1))
    step_all(queue, run)
    assert [task.kind for task in listed(queue.index)] == ["other"]


def test_a_task_is_undone_with_its_transaction(queue: Queue, run: Run) -> None:
    def add_and_fail() -> None:
        with queue.index.writing() as writer:
            queue.add(writer, numbered(1))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        add_and_fail()
    step_all(queue, run)
    assert run.calls == []


def test_a_task_waits_for_its_delay(queue: Queue, run: Run, clock: Clock) -> None:
    add(queue, *numbered(1, delay=10))
    assert step_all(queue, run) == 10
    clock.now += 10
    step_all(queue, run)
    assert run.calls == [[1]]


def test_without_tasks_the_wait_is_bounded(queue: Queue, run: Run) -> None:
    """Another process may add some."""
    assert step_all(queue, run) == 15
    add(queue, *numbered(1, delay=1000))
    assert step_all(queue, run) == 15


def test_a_task_that_becomes_due_during_a_step_does_not_wait(
    queue: Queue, run: Run, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(queue, *numbered(1, delay=1))
    take = queue.take

    def take_slowly(kind: str, most: int) -> list[Task]:
        tasks = take(kind, most)
        clock.now += 1
        return tasks

    threads, counting = task_threads(queue, run)
    monkeypatch.setattr(queue, "take", take_slowly)
    assert threads.step(counting) <= 0
    threads.step(counting)
    assert run.calls == [[1]]


# --- Failures ---------------------------------------------------------------------------------


def test_what_fails_is_repeated_later_and_later(queue: Queue, run: Run, clock: Clock) -> None:
    add(queue, *numbered(1, 2))
    run.failing = {1: OSError("no route to host")}
    delays = []
    for _ in range(11):
        step_all(queue, run)
        (task,) = listed(queue.index)
        assert task.state is State.WAITING
        assert task.due is not None
        delays.append(task.due - clock.now)
        clock.now = task.due
    assert delays == [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]
    assert task.error == "no route to host"
    run.failing = {}
    step_all(queue, run)
    assert list(listed(queue.index)) == []
    assert run.calls == [[1, 2], *[[1]] * 11]


def test_jitter_takes_up_to_half_of_a_delay(queue: Queue, run: Run, clock: Clock) -> None:
    add(queue, *numbered(1))
    run.failing = {1: OSError()}
    kind = Kind("count", run)
    TaskThreads(queue, [kind], jitter=lambda: 1.0).step(kind)
    (task,) = listed(queue.index)
    assert task.due == clock.now + 0.5


def test_an_exception_is_a_failure_of_all(queue: Queue) -> None:
    def fail(tasks: Sequence[Task]) -> None:
        raise GiveUp("no such destination")

    add(queue, *numbered(1, 2))
    threads, kind = task_threads(queue, fail)
    threads.step(kind)
    assert [task.error for task in listed(queue.index)] == ["no such destination"] * 2


def test_an_error_that_may_quote_a_value_is_told_without_its_text(
    queue: Queue, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(tasks: Sequence[Task]) -> None:
        raise ValueError("invalid value 'Doe^Jane'")

    add(queue, *numbered(1))
    threads, kind = task_threads(queue, fail)
    with caplog.at_level(logging.INFO, "dicomwire"):
        threads.step(kind)
    assert str(only(queue).error).startswith("ValueError in dicomwire.node.tasks.threads, line ")
    assert "Doe" not in caplog.text


def test_after_its_time_a_task_is_dead(queue: Queue, run: Run, clock: Clock) -> None:
    add(queue, *numbered(1))
    run.failing = {1: OSError("refused")}
    step_all(queue, run, retry_for=7)
    while (task := only(queue)).due is not None:
        clock.now = task.due
        step_all(queue, run, retry_for=7)
    assert task.state is State.DEAD
    assert task.attempts == 4  # 1 + 2 + 4 seconds
    clock.now += 1e9
    step_all(queue, run)
    assert len(run.calls) == 4


def test_time_without_a_process_is_not_used_up(queue: Queue, run: Run, clock: Clock) -> None:
    add(queue, *numbered(1))
    clock.now += 1e6
    run.failing = {1: OSError()}
    step_all(queue, run, retry_for=7)
    assert only(queue).state is State.WAITING


def test_a_task_can_be_repeated_for_ever() -> None:
    kind = Kind("count", lambda tasks: None, retry_for=math.inf)
    assert kind.delay_of(100_000) == 300


def test_giving_up_is_at_once(queue: Queue, run: Run) -> None:
    add(queue, *numbered(1))
    run.failing = {1: GiveUp("there is no such destination")}
    step_all(queue, run)
    assert only(queue)[3:7] == (State.DEAD, 1, None, "there is no such destination")


# --- Keys -------------------------------------------------------------------------------------


def test_a_failure_holds_back_those_of_its_key_only(queue: Queue, run: Run, clock: Clock) -> None:
    add(queue, *numbered(1, 2, key="a"), *numbered(3, 4, key="b"))
    run.failing = {1: OSError()}
    step_all(queue, run, batch=1)
    assert run.calls == [[1], [3], [4]]
    add(queue, *numbered(5, key="a"))
    step_all(queue, run)
    assert len(run.calls) == 3
    run.failing = {}
    clock.now += 1
    step_all(queue, run)
    assert run.calls[3:] == [[1, 2], [5]]


def test_a_dead_task_holds_back_nothing(queue: Queue, run: Run) -> None:
    add(queue, *numbered(1, 2, key="a"))
    run.failing = {1: GiveUp("never")}
    step_all(queue, run, batch=1)
    assert run.calls == [[1], [2]]


def test_tasks_of_a_key_run_in_one_process_at_a_time(queue: Queue, clock: Clock) -> None:
    add(queue, *numbered(1, 2, key="a"), *numbered(3))
    other = Queue(queue.index, "two", clock)
    (first,) = queue.take("count", 1)
    assert [task.payload["number"] for task in other.take("count", 10)] == [3]
    with queue.index.writing() as writer:
        queue.finish(writer, [first])
    assert [task.payload["number"] for task in other.take("count", 10)] == [2]


# --- Processes --------------------------------------------------------------------------------


def test_the_lease_of_a_dead_process_ends(queue: Queue, run: Run, clock: Clock) -> None:
    add(queue, *numbered(1))
    (taken,) = Queue(queue.index, "dead", clock).take("count", 1)
    assert step_all(queue, run) == 15
    clock.now += LEASE
    step_all(queue, run)
    assert run.calls == [[1]]
    assert taken.attempts == 1


def test_a_living_process_keeps_its_tasks(queue: Queue, run: Run, clock: Clock) -> None:
    add(queue, *numbered(1))
    other = Queue(queue.index, "other", clock)
    other.take("count", 1)
    clock.now += LEASE / 2
    with queue.index.writing() as writer:
        other.renew(writer)
    clock.now += LEASE / 2
    step_all(queue, run)
    assert run.calls == []


def test_tasks_of_a_process_that_has_ended_are_released(queue: Queue, run: Run) -> None:
    add(queue, *numbered(1))
    Queue(queue.index, "dead").take("count", 1)
    with queue.index.writing() as writer:
        queue.release(writer, ["dead"])
    step_all(queue, run)
    assert run.calls == [[1]]


def test_a_process_that_lost_its_lease_changes_nothing(queue: Queue, clock: Clock) -> None:
    add(queue, *numbered(1))
    slow = Queue(queue.index, "slow", clock)
    taken = slow.take("count", 1)
    clock.now += LEASE
    assert queue.take("count", 1)
    with queue.index.writing() as writer:
        slow.finish(writer, taken)
        slow.fail(writer, taken[0], "too late", None)
    assert only(queue).state is State.RUNNING


# --- Tasks of one process ---------------------------------------------------------------------


def begin(queue: Queue, new: NewTask) -> Task:
    with queue.index.writing() as writer:
        return queue.begin(writer, new)


def claim(queue: Queue, task: Task) -> bool:
    with queue.index.writing() as writer:
        return queue.claim(writer, task)


def test_a_process_can_add_a_task_and_run_it_itself(queue: Queue, run: Run, clock: Clock) -> None:
    part = Queue(queue.index, name_in_process(queue.owner), clock)
    task = begin(part, *numbered(1))
    step_all(queue, run)
    assert run.calls == []
    with queue.index.writing() as writer:
        part.finish(writer, [task])
    assert list(listed(queue.index)) == []


def test_a_heartbeat_does_not_keep_the_tasks_of_one_process(
    queue: Queue, run: Run, clock: Clock
) -> None:
    part = Queue(queue.index, name_in_process(queue.owner), clock)
    task = begin(part, *numbered(1))
    clock.now += LEASE / 2
    with queue.index.writing() as writer:
        queue.renew(writer)
        part.hold(writer, task, LEASE)
    clock.now += LEASE / 2
    step_all(queue, run)
    assert run.calls == []
    clock.now += LEASE / 2
    step_all(queue, run)
    assert run.calls == [[1]]


def test_what_a_dead_node_leaves_includes_the_tasks_of_its_processes(
    queue: Queue, run: Run
) -> None:
    begin(Queue(queue.index, name_in_process("dead")), *numbered(1))
    add(queue, *numbered(2, delay=100))
    with queue.index.writing() as writer:
        queue.release(writer, ["dead"])
    step_all(queue, run)
    assert run.calls == [[1]]


def test_a_task_that_nobody_runs_can_be_claimed(queue: Queue, clock: Clock) -> None:
    other = Queue(queue.index, "other", clock)
    task = begin(queue, *numbered(1, key="a"))
    assert not claim(other, task)
    with queue.index.writing() as writer:
        queue.fail(writer, task, "never", None)
        assert queue.of_key(writer, "count", "a") == [task]
        assert queue.of_key(writer, "count", "b") == []
    assert claim(other, task)
    clock.now += LEASE
    assert claim(queue, task)


def test_an_unfinished_task_goes_on_after_others(queue: Queue, clock: Clock) -> None:
    calls = []

    def run(tasks: Sequence[Task]) -> None:
        (task,) = tasks
        number = int(task.payload["number"])
        calls.append(number)
        clock.now += 1
        assert task.attempts == 1
        if number < 3:
            raise Unfinished({"number": number + 2})

    add(queue, *numbered(1), *numbered(2))
    threads, kind = task_threads(queue, run, batch=1)
    while threads.step(kind) == 0:
        pass
    assert calls == [1, 2, 3, 4]


# --- Operators --------------------------------------------------------------------------------


def test_dead_tasks_can_be_tried_again(queue: Queue, run: Run) -> None:
    add(queue, *numbered(1, 2))
    run.failing = {1: GiveUp("refused"), 2: GiveUp("refused")}
    step_all(queue, run)
    assert counts(queue.index) == {"count": {State.WAITING: 0, State.RUNNING: 0, State.DEAD: 2}}
    run.failing = {}
    assert queue.retry("count", [State.DEAD], ids=[1]) == 1
    step_all(queue, run)
    assert run.calls[1:] == [[1]]


def test_running_tasks_cannot_be_dropped(queue: Queue) -> None:
    add(queue, *numbered(1, 2), NewTask("other", {}))
    queue.take("count", 1)
    assert queue.drop("count") == 1
    assert [task.state for task in listed(queue.index)] == [State.RUNNING, State.WAITING]


# --- Threads ----------------------------------------------------------------------------------


def test_no_failure_ends_a_thread(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    done, failed = threading.Event(), threading.Event()
    take = queue.take

    def fail_once(kind: str, most: int) -> list[Task]:
        monkeypatch.setattr(queue, "take", take)
        failed.set()
        raise RuntimeError("unforeseen")

    monkeypatch.setattr(queue, "take", fail_once)
    threads, _ = task_threads(queue, lambda tasks: done.set())
    threads.start()
    try:
        assert failed.wait(10)
        add(queue, *numbered(1))
        assert done.wait(10)
    finally:
        threads.stop(10)


def test_a_commit_wakes_the_threads(queue: Queue) -> None:
    ran: list[int] = []
    done = threading.Semaphore(0)

    def run(tasks: Sequence[Task]) -> None:
        ran.extend(task.payload["number"] for task in tasks)
        done.release(len(tasks))

    threads, _ = task_threads(queue, run, threads=2, batch=1)
    threads.start()
    try:
        for number in range(3):
            add(queue, *numbered(number))
            assert done.acquire(timeout=10)
    finally:
        threads.stop(10)
    assert ran == [0, 1, 2]
    assert list(listed(queue.index)) == []
