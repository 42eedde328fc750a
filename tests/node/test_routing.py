"""Which tasks the routes make of an object, in the transaction that stores it; quiet studies."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from backends import Backend
from fake_clock import Clock
from spooling import OpenArchive, digits_of, encoded

from dicomwire.node.conditions import conditions_of
from dicomwire.node.configuration import (
    STORESCP,
    Configuration,
    ConfigurationError,
    Duplicates,
    Route,
    When,
)
from dicomwire.node.index.writer import Writer
from dicomwire.node.keys import Level
from dicomwire.node.routing import QUIET, Routing, Watch
from dicomwire.node.statuses import SUCCESS
from dicomwire.node.tasks.queue import NewTask, listed
from dicomwire.node.tasks.threads import TaskThreads

Opener = Callable[..., OpenArchive]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def opened(tmp_path: Path, backend: Backend, clock: Clock) -> Iterator[Opener]:
    """Opens the archive with routes; the test may open it anew."""
    archives: list[OpenArchive] = []

    def open_with(*routes: Route, duplicates: Duplicates = Duplicates.KEEP_FIRST) -> OpenArchive:
        archive = OpenArchive(tmp_path, duplicates, backend, routes=routes)
        archive.queue.clock = clock
        archives.append(archive)
        return archive

    yield open_with
    for archive in archives:
        with archive:
            pass


def store(archive: OpenArchive, uid: str, note: str = "", **values: object) -> tuple[str, str]:
    """Store an object; return its UID and the digits of its digest."""
    data = encoded(uid, note, **values)
    assert archive.store(data, uid) == SUCCESS
    return uid, digits_of(data)


def due(archive: OpenArchive) -> dict[str, float]:
    """Return when each object is sent, by UID."""
    return {
        task.payload["uid"]: task.due or 0.0
        for task in listed(archive.index)
        if task.kind.startswith("send:")
    }


def end_timers(archive: OpenArchive) -> None:
    (kind,) = archive.routing.kinds()
    threads = TaskThreads(archive.queue, [kind])
    while threads.step(kind) == 0:
        pass


def test_an_object_has_a_task_for_each_destination(opened: Opener) -> None:
    archive = opened(Route(("WS1", "WS2")))
    stored = store(archive, "1.1")
    assert archive.queued() == {("WS1", *stored), ("WS2", *stored)}


def test_without_routes_there_are_no_tasks(opened: Opener) -> None:
    archive = opened()
    store(archive, "1.1")
    assert list(listed(archive.index)) == []


def test_only_objects_that_match_have_tasks(opened: Opener) -> None:
    archive = opened(Route(("WS1",), conditions=conditions_of({"PatientID": "P2"})))
    store(archive, "1.1")
    stored = store(archive, "1.2", PatientID="P2", StudyInstanceUID="1.2.4")
    assert archive.queued() == {("WS1", *stored)}


def test_the_first_route_that_matches_decides_for_a_destination(opened: Opener) -> None:
    archive = opened(Route(("WS1",)), Route(("WS1", "WS2"), when=When.STUDY))
    store(archive, "1.1")
    found = {task.kind: task.due for task in listed(archive.index)}
    assert found["send:WS1"] != math.inf
    assert found["send:WS2"] == math.inf


def test_an_object_that_the_archive_has_is_not_sent_again(opened: Opener) -> None:
    archive = opened(Route(("WS1",)))
    store(archive, "1.1")
    store(archive, "1.1")
    assert len(list(listed(archive.index))) == 1


def test_an_object_that_replaces_another_is_sent(opened: Opener) -> None:
    archive = opened(Route(("WS1",)), duplicates=Duplicates.REPLACE)
    first, second = store(archive, "1.1", "a"), store(archive, "1.1", "b")
    assert archive.queued() == {("WS1", *first), ("WS1", *second)}


def test_a_route_to_nowhere_is_refused(opened: Opener) -> None:
    archive = opened()
    configuration = Configuration(routes=(Route(("STORESCP",)), Route(("WS1",), "to WS1")))
    with pytest.raises(ConfigurationError, match=r"the route 'to WS1': to: .*\[destinations.WS1\]"):
        Routing(configuration, archive.queue)


def test_routes_change_while_the_archive_is_open(opened: Opener) -> None:
    archive = opened(Route(("WS1",)))
    archive.routing.reload(Configuration(destinations={"WS2": STORESCP}, routes=(Route(("WS2",)),)))
    stored = store(archive, "1.1")
    assert archive.queued() == {("WS2", *stored)}


# --- Series and studies that are sent when they are quiet -------------------------------------


STUDY = Route(("WS1",), when=When.STUDY, quiet=60)
SERIES = Route(("WS1",), when=When.SERIES, quiet=10)


def test_a_study_is_sent_when_it_has_been_quiet(opened: Opener, clock: Clock) -> None:
    archive = opened(STUDY)
    store(archive, "1.1")
    clock.now += 59
    store(archive, "1.2", SeriesInstanceUID="1.2.3.5")
    clock.now += 59
    end_timers(archive)
    assert due(archive) == {"1.1": math.inf, "1.2": math.inf}
    clock.now += 10
    end_timers(archive)
    assert due(archive) == {"1.1": clock.now, "1.2": clock.now}
    assert [task.kind for task in listed(archive.index)] == ["send:WS1"] * 2


def test_each_series_is_sent_by_itself(opened: Opener, clock: Clock) -> None:
    archive = opened(SERIES)
    store(archive, "1.1")
    clock.now += 8
    store(archive, "1.2", SeriesInstanceUID="1.2.3.5")
    clock.now += 4
    end_timers(archive)
    assert due(archive) == {"1.1": clock.now, "1.2": math.inf}


def test_objects_that_come_later_are_sent_without_the_others(opened: Opener, clock: Clock) -> None:
    archive = opened(SERIES)
    store(archive, "1.1")
    clock.now += 12
    end_timers(archive)
    sent = clock.now
    store(archive, "1.2")
    end_timers(archive)
    assert due(archive) == {"1.1": sent, "1.2": math.inf}
    clock.now += 12
    end_timers(archive)
    assert due(archive) == {"1.1": sent, "1.2": clock.now}


def test_objects_that_come_quickly_write_the_timer_once(opened: Opener, clock: Clock) -> None:
    archive = opened(STUDY)
    written: list[list[NewTask]] = []
    add = archive.routing.add

    def note(writer: Writer, tasks: list[NewTask]) -> None:
        written.append([task for task in tasks if task.kind == QUIET])
        add(writer, tasks)

    archive.routing.add = note  # type: ignore[method-assign, assignment]
    for number in range(1, 4):
        store(archive, f"1.{number}")
        clock.now += 1
    assert [len(timers) for timers in written] == [1, 0, 0]


def test_a_timer_that_was_removed_starts_again_with_the_node(opened: Opener, clock: Clock) -> None:
    archive = opened(STUDY)
    store(archive, "1.1")
    assert archive.queue.drop(QUIET) == 1
    archive.routing.recover()
    end_timers(archive)
    assert due(archive) == {"1.1": clock.now}


def test_who_watches_is_told_once(opened: Opener, clock: Clock) -> None:
    archive = opened()
    told: list[str] = []
    archive.routing.watch(
        Watch(
            "complete",
            Level.STUDY,
            30,
            conditions_of({"Modality": "CT"}),
            lambda writer, uid: told.append(uid),
        )
    )
    store(archive, "1.1")
    store(archive, "1.2", StudyInstanceUID="1.2.4", Modality="MR", SeriesInstanceUID="1.2.4.1")
    clock.now += 40
    end_timers(archive)
    end_timers(archive)
    assert told == ["1.2.3"]


def test_who_watches_is_told_again_after_a_failure(opened: Opener, clock: Clock) -> None:
    archive = opened()
    told: list[str] = []

    def fail_once(writer: Writer, uid: str) -> None:
        told.append(uid)
        if len(told) == 1:
            raise OSError("not now")

    archive.routing.watch(Watch("complete", Level.STUDY, 30, (), fail_once))
    store(archive, "1.1")
    for _ in range(3):
        clock.now += 40
        end_timers(archive)
    assert told == ["1.2.3", "1.2.3"]
