"""The pool of threads, and the flag that threads wait for: each race as a sequence of calls."""

from __future__ import annotations

import contextvars
import random
import sys
import weakref
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stage import Actor, Stage

from dicomwire.threaded import threads
from dicomwire.threaded.threads import IDLE_TIME, Flag, ThreadPool


@contextmanager
def staged() -> Iterator[Stage]:
    """Put `threads` on a stage, where all threads end some time after the test."""
    stage = Stage()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(threads, "threading", stage.module)
        try:
            yield stage
            stage.is_full = False
            stage.run()
            stage.pass_time(IDLE_TIME)
            assert stage.able() == stage.actors == []
        finally:
            stage.close()


@pytest.fixture
def stage() -> Iterator[Stage]:
    with staged() as stage:
        yield stage


class Tasks:
    """A pool, and what has been done by it."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self.pool = ThreadPool()
        self.done: list[int] = []

    def submit(self, number: int) -> None:
        self.pool.submit(lambda: self.done.append(number))

    def begin(self, number: int) -> Actor:
        """Submit a task, and return the thread that has begun it."""

        def task() -> None:
            self._stage.stop(lambda: True)
            self.done.append(number)

        self.pool.submit(task)
        return self._stage.able()[-1].go().go()  # to the pool's lock; into the task


@pytest.fixture
def tasks(stage: Stage) -> Tasks:
    return Tasks(stage)


# --- The pool ---


def test_a_task_runs_on_a_thread_that_is_idle(stage: Stage, tasks: Tasks) -> None:
    tasks.submit(1)
    stage.run()
    tasks.submit(2)
    stage.run()
    assert tasks.done == [1, 2]
    assert stage.started == 1


def test_a_task_does_not_wait_for_another(stage: Stage, tasks: Tasks) -> None:
    tasks.begin(1)
    tasks.begin(2)
    stage.run()
    assert stage.started == 2


def test_tasks_that_come_together_have_a_thread_each(stage: Stage, tasks: Tasks) -> None:
    tasks.submit(1)
    stage.run()
    tasks.submit(2)
    tasks.submit(3)
    assert stage.started == 2
    stage.run()
    assert tasks.done == [1, 2, 3]


def test_an_idle_thread_ends(stage: Stage, tasks: Tasks) -> None:
    tasks.submit(1)
    stage.run()
    stage.pass_time(IDLE_TIME - 0.1)
    assert len(stage.actors) == 1
    stage.pass_time(0.1)
    assert stage.able() == stage.actors == []
    tasks.submit(2)
    stage.run()
    assert tasks.done == [1, 2]


def test_a_thread_whose_time_is_over_takes_a_task_that_has_just_come(
    stage: Stage, tasks: Tasks
) -> None:
    tasks.submit(1)
    stage.run()
    stage.now += IDLE_TIME
    tasks.submit(2)
    stage.run()
    assert tasks.done == [1, 2]
    assert stage.started == 1


def test_a_task_that_comes_after_the_last_thread_has_ended_has_a_new_one(
    stage: Stage, tasks: Tasks
) -> None:
    tasks.submit(1)
    stage.run()
    stage.now += IDLE_TIME
    (idle,) = stage.actors
    idle.go()
    assert idle.is_over
    tasks.submit(2)
    stage.run()
    assert stage.started == 2


def test_a_thread_goes_on_waiting_if_another_has_taken_its_task(stage: Stage, tasks: Tasks) -> None:
    busy = tasks.begin(1)
    tasks.submit(2)
    idle = stage.actors[-1]
    while idle.can_go():
        idle.go()
    tasks.submit(3)
    assert idle.can_go()
    busy.go().go()
    assert tasks.done == [2, 1, 3]
    idle.go()
    assert not idle.can_go()
    tasks.submit(4)
    stage.run()
    assert tasks.done == [2, 1, 3, 4]
    assert stage.started == 2


def test_without_a_thread_a_task_waits_and_somebody_is_told(
    stage: Stage, tasks: Tasks, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    told: list[bool] = []
    monkeypatch.setattr(threads, "_on_shortage", lambda: told.append(tasks.pool.is_short()))
    stage.is_full = True
    tasks.submit(1)
    assert told == [True]
    assert caplog.messages == ["No thread can be started; associations wait for one"]
    stage.is_full = False
    tasks.pool.start_if_short()
    stage.run()
    assert tasks.done == [1]
    assert not tasks.pool.is_short()


def test_without_a_further_thread_a_task_waits_for_another(stage: Stage, tasks: Tasks) -> None:
    tasks.begin(1)
    stage.is_full = True
    tasks.submit(2)
    assert not tasks.pool.is_short()
    stage.run()
    assert tasks.done == [1, 2]


def test_a_task_that_fails_ends_no_thread(
    stage: Stage, tasks: Tasks, caplog: pytest.LogCaptureFixture
) -> None:
    tasks.pool.submit(lambda: sys.exit("a handler has had enough"))
    tasks.submit(2)
    stage.run()
    tasks.submit(3)
    stage.run()
    assert tasks.done == [2, 3]
    assert stage.started == 2
    assert [each.exc_info is not None for each in caplog.records] == [True]


def test_an_idle_thread_keeps_nothing_of_its_task(stage: Stage, tasks: Tasks) -> None:
    class Task:
        def __call__(self) -> None:
            """Do nothing."""

    task = Task()
    gone = weakref.ref(task)
    tasks.pool.submit(task)
    del task
    stage.run()
    assert gone() is None


def test_a_task_has_a_context_of_its_own(stage: Stage, tasks: Tasks) -> None:
    variable = contextvars.ContextVar("variable", default=0)
    seen: list[int] = []

    def task() -> None:
        seen.append(variable.get())
        variable.set(1)

    for _ in range(2):
        tasks.pool.submit(task)
        stage.run()
    assert stage.started == 1
    assert seen == [0, 0]


@given(st.integers(1, 3), st.integers(1, 3), st.integers(0, 1 << 32))
def test_no_task_waits_for_another_in_whatever_order_threads_go_on(
    submitters: int, each: int, seed: int
) -> None:
    begun: list[int] = []
    chance = random.Random(seed)
    with staged() as stage:
        pool = ThreadPool()
        may_end = False

        def task() -> None:
            begun.append(1)
            stage.stop(lambda: may_end)

        def submit() -> None:
            for _ in range(each):
                pool.submit(task)

        pool.submit(lambda: None)  # so that a thread may be idle, or about to end
        while chance.random() < 0.8 and (able := stage.able()):
            chance.choice(able).go()
        stage.now += chance.choice([0, IDLE_TIME])
        for _ in range(submitters):
            stage.add(submit)
        stage.run(chance.choice)
        assert len(begun) == submitters * each
        may_end = True
    assert (pool._threads, pool._idle) == (0, 0)
    assert stage.started <= 1 + submitters * each


# --- The flag ---


def waiting(stage: Stage, flag: Flag, timeout: float | None = None) -> Actor:
    """Return a thread that waits for the flag."""
    actor = stage.add(lambda: flag.wait(timeout))
    actor.go()
    return actor


def test_all_who_wait_go_on_when_the_flag_is_set(stage: Stage) -> None:
    flag = Flag()
    actors = [waiting(stage, flag) for _ in range(3)]
    assert stage.able() == []
    flag.set()
    stage.run()
    assert [each.result for each in actors] == [True] * 3


def test_a_wait_ends_at_its_deadline(stage: Stage) -> None:
    flag = Flag()
    actor = waiting(stage, flag, 5)
    stage.pass_time(4)
    assert not actor.is_over
    stage.pass_time(1)
    assert actor.result is False
    assert not flag.is_set()


@pytest.mark.parametrize("timeout", [None, 0, 5, -1])
def test_nobody_waits_for_a_flag_that_is_set(stage: Stage, timeout: float | None) -> None:
    flag = Flag()
    flag.set()
    assert flag.is_set()
    assert flag.wait(timeout)


@pytest.mark.parametrize("timeout", [0, -1])
def test_without_time_nobody_waits(stage: Stage, timeout: float) -> None:
    assert not Flag().wait(timeout)


def test_the_flag_is_set_while_a_deadline_passes(stage: Stage) -> None:
    flag = Flag()
    actor = waiting(stage, flag, 5)
    stage.now += 5
    flag.set()
    stage.run()
    assert actor.result is True


def test_one_who_looks_while_another_is_about_to_set_it(stage: Stage) -> None:
    flag = Flag()
    setting = stage.add(flag.set).go()  # it says so, and has woken nobody
    assert flag.is_set()
    assert flag.wait(0)
    waiter = waiting(stage, flag)
    assert not waiter.can_go()
    setting.go()
    stage.run()
    assert waiter.result is True


def test_one_who_looks_while_another_passes_it_on(stage: Stage) -> None:
    flag = Flag()
    first, second = waiting(stage, flag), waiting(stage, flag)
    flag.set()
    first.go()
    assert flag.wait(0)
    assert not second.can_go()
    first.go()
    stage.run()
    assert second.result is True


def test_setting_it_again_changes_nothing(stage: Stage) -> None:
    flag = Flag()
    flag.set()
    flag.set()
    assert flag.wait()
