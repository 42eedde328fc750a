"""What waits for a destination is sent once, in order, whatever the destination does.

The clock stands still unless a test moves it. The destination is a fake one; see
`test_forwarding` for real ones.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from backends import Backend
from fake_clock import Clock
from spooling import OpenArchive, encoded

from dicomwire.node.configuration import Duplicates, Route
from dicomwire.node.forwarding import pending
from dicomwire.node.forwarding.pending import Pending
from dicomwire.node.forwarding.sending import Sender
from dicomwire.node.forwarding.transports import Refused, Result
from dicomwire.node.index.writer import Writer
from dicomwire.node.outgoing import Unreachable
from dicomwire.node.statuses import SUCCESS
from dicomwire.node.tasks.queue import ListedTask, Queue, State, listed

HOUR = 3600.0


class Destination:
    """A destination, and the way to it."""

    def __init__(self) -> None:
        self.arrived: list[str] = []
        self.calls = 0
        self.rests = 0
        self.is_down = False
        self.refused: set[str] = set()
        self.deadly: set[str] = set()
        """Objects that make it abort the association."""
        self.most = math.inf
        """After how many objects it aborts the association."""
        self.during: Callable[[], object] = lambda: None

    def send(self, objects: Sequence[Pending]) -> Iterator[Result]:
        self.calls += 1
        self.during()
        if self.is_down:
            raise Unreachable("connection refused")
        for number, each in enumerate(objects):
            if number >= self.most:
                raise Unreachable("aborted")
            if each.uid in self.deadly:
                yield Result(each, Unreachable("aborted"))
                raise Unreachable("aborted")
            if each.uid in self.refused:
                yield Result(each, Refused("the response is 0xA900"))
            else:
                self.arrived.append(each.uid)
                yield Result(each, None)

    def rest(self) -> None:
        self.rests += 1

    def stop(self) -> None:
        pass

    def abort(self) -> None:
        pass


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def archive(tmp_path: Path, backend: Backend, clock: Clock) -> Iterator[OpenArchive]:
    route = Route(("WS1",))
    with OpenArchive(tmp_path, Duplicates.REPLACE, backend, routes=[route]) as opened:
        opened.queue.clock = clock
        yield opened


@pytest.fixture
def destination() -> Destination:
    return Destination()


def sender(archive: OpenArchive, destination: Destination, retry_for: float = 24 * HOUR) -> Sender:
    def settle(writer: Writer, name: str, objects: Sequence[Pending]) -> None:
        assert name == "WS1"

    queue = archive.queue
    return Sender("WS1", retry_for, destination, queue, settle, jitter=lambda: 0.0)


def store(archive: OpenArchive, *numbers: int, series: str = "1.2.3.4") -> list[str]:
    """Store objects; return their UIDs."""
    uids = [f"1.9.{number}" for number in numbers]
    for uid in uids:
        data = encoded(uid, SeriesInstanceUID=series)
        assert archive.store(data, uid) == SUCCESS
    return uids


def tasks(archive: OpenArchive) -> list[ListedTask]:
    return list(listed(archive.index))


def pass_time(sending: Sender, clock: Clock, seconds: float) -> None:
    """Let a sender run for a while."""
    end = clock.now + seconds
    while clock.now < end:
        clock.now += max(sending.step(), 0.1)


def test_objects_are_sent_in_order(archive: OpenArchive, destination: Destination) -> None:
    uids = store(archive, 1, 2, 3)
    sender(archive, destination).step()
    assert destination.arrived == uids
    assert tasks(archive) == []
    assert (destination.calls, destination.rests) == (1, 1)


def test_nothing_is_done_without_objects(archive: OpenArchive, destination: Destination) -> None:
    assert sender(archive, destination).step() > 0
    assert destination.calls == destination.rests == 0


def test_many_objects_are_read_in_portions(
    archive: OpenArchive, destination: Destination, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pending, "MOST", 2)
    uids = store(archive, 1, 2, 3, 4, 5)
    sender(archive, destination).step()
    assert destination.arrived == uids
    assert (destination.calls, destination.rests) == (3, 1)


def test_large_objects_are_read_in_small_portions(
    archive: OpenArchive, destination: Destination, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pending, "MOST_BYTES", 1000)
    store(archive, 1, 2, 3, 4)
    sender(archive, destination).step()
    assert destination.calls == 2


def test_a_destination_that_is_down_for_an_hour(
    archive: OpenArchive, destination: Destination, clock: Clock
) -> None:
    destination.is_down = True
    uids = store(archive, 1, 2, 3)
    sending = sender(archive, destination)
    pass_time(sending, clock, HOUR)
    assert 10 <= destination.calls <= 25
    (turn,) = [each for each in tasks(archive) if each.kind == "destination:WS1"]
    assert (turn.error, turn.attempts) == ("connection refused", destination.calls)
    assert [each.attempts for each in tasks(archive) if each is not turn][:3] == [0, 0, 0]
    uids += store(archive, 4)
    destination.is_down = False
    pass_time(sending, clock, HOUR)
    assert destination.arrived == uids
    assert tasks(archive) == []


def test_a_process_that_ends_while_it_sends_lengthens_no_wait(
    archive: OpenArchive, destination: Destination
) -> None:
    def end() -> None:
        raise SystemExit

    store(archive, 1)
    destination.during = end
    for _ in range(10):
        with pytest.raises(SystemExit):
            sender(archive, destination).step()
        with archive.index.writing() as writer:
            archive.queue.free(writer)
    destination.during = lambda: None
    destination.is_down = True
    assert sender(archive, destination).step() <= 1.0


def test_a_destination_that_took_an_object_is_tried_again_soon_also_by_another_process(
    archive: OpenArchive, destination: Destination, clock: Clock
) -> None:
    store(archive, 1, 2)
    destination.is_down = True
    pass_time(sender(archive, destination), clock, HOUR)
    destination.is_down = False
    destination.most = 1
    clock.now += HOUR
    assert sender(archive, destination).step() <= 1.0
    assert destination.arrived == ["1.9.1"]
    (turn,) = [each for each in tasks(archive) if each.kind == "destination:WS1"]
    assert turn.attempts == 1


def test_an_operator_can_have_it_tried_at_once(
    archive: OpenArchive, destination: Destination, clock: Clock
) -> None:
    destination.is_down = True
    uids = store(archive, 1)
    sending = sender(archive, destination)
    pass_time(sending, clock, HOUR)
    destination.is_down = False
    archive.queue.retry("destination:WS1", [State.WAITING])
    sending.step()
    assert destination.arrived == uids


def test_after_too_long_a_time_objects_are_given_up(
    archive: OpenArchive, destination: Destination, clock: Clock
) -> None:
    destination.is_down = True
    store(archive, 1, 2)
    sending = sender(archive, destination, retry_for=HOUR)
    pass_time(sending, clock, HOUR / 2)
    store(archive, 3)
    pass_time(sending, clock, HOUR * 0.7)
    states = {each.payload["uid"]: each.state for each in tasks(archive) if each.payload}
    assert states == {"1.9.1": State.DEAD, "1.9.2": State.DEAD, "1.9.3": State.WAITING}
    destination.is_down = False
    assert archive.queue.retry(states=[State.DEAD]) == 2
    pass_time(sending, clock, HOUR)
    assert sorted(destination.arrived) == ["1.9.1", "1.9.2", "1.9.3"]


def test_a_destination_that_refuses_an_object_gets_the_others(
    archive: OpenArchive, destination: Destination, clock: Clock
) -> None:
    store(archive, 1, 2, 3)
    destination.refused = {"1.9.2"}
    sending = sender(archive, destination)
    pass_time(sending, clock, 60)
    assert destination.arrived == ["1.9.1", "1.9.3"]
    (task,) = tasks(archive)
    assert (task.state, task.error) == (State.WAITING, "the response is 0xA900")
    destination.refused = set()
    pass_time(sending, clock, HOUR)
    assert destination.arrived == ["1.9.1", "1.9.3", "1.9.2"]
    assert tasks(archive) == []


def test_an_object_that_is_always_refused_is_given_up(
    archive: OpenArchive, destination: Destination, clock: Clock
) -> None:
    store(archive, 1)
    destination.refused = {"1.9.1"}
    sending = sender(archive, destination, retry_for=600)
    pass_time(sending, clock, HOUR)
    (task,) = tasks(archive)
    assert (task.state, task.due) == (State.DEAD, None)


def test_a_destination_that_aborts_again_and_again_gets_each_object_once(
    archive: OpenArchive, destination: Destination, clock: Clock
) -> None:
    uids = store(archive, *range(10))
    destination.most = 3
    sending = sender(archive, destination)
    pass_time(sending, clock, 60)
    assert destination.arrived == uids
    assert tasks(archive) == []


def test_an_object_that_ends_the_association_does_not_keep_others_from_it(
    archive: OpenArchive, destination: Destination, clock: Clock
) -> None:
    store(archive, 1, 2, 3)
    destination.deadly = {"1.9.1"}
    sending = sender(archive, destination)
    pass_time(sending, clock, 60)
    assert destination.arrived == ["1.9.2", "1.9.3"]
    assert {each.kind for each in tasks(archive)} >= {"send:WS1"}


def test_objects_that_are_gone_are_not_sent(archive: OpenArchive, destination: Destination) -> None:
    store(archive, 1, 2)
    with archive.index.writing() as writer:
        writer.remove([stored.id for stored in archive.index.find(["1.9.1"])["1.9.1"]])
    sender(archive, destination).step()
    assert destination.arrived == ["1.9.2"]
    assert tasks(archive) == []


def test_of_an_object_that_was_replaced_only_the_new_one_is_sent(
    archive: OpenArchive, destination: Destination
) -> None:
    for note in ("old", "new"):
        assert archive.store(encoded("1.9.1", note), "1.9.1") == SUCCESS
    sender(archive, destination).step()
    assert destination.arrived == ["1.9.1"]


def test_only_one_node_sends_to_a_destination(
    archive: OpenArchive, destination: Destination, clock: Clock
) -> None:
    other_queue = Queue(archive.index, "another process", clock)
    other_destination = Destination()
    other = Sender("WS1", HOUR, other_destination, other_queue, lambda *_: None)
    destination.during = other.step
    uids = store(archive, 1, 2)
    sender(archive, destination).step()
    assert (destination.arrived, other_destination.arrived) == (uids, [])
    store(archive, 3)
    other.step()
    assert other_destination.arrived == ["1.9.3"]


def test_what_arrives_meanwhile_is_sent_over_the_same_association(
    archive: OpenArchive, destination: Destination
) -> None:
    numbers = iter([2, 3])

    def store_one_more() -> None:
        for number in numbers:
            store(archive, number)
            break

    destination.during = store_one_more
    store(archive, 1)
    sender(archive, destination).step()
    assert destination.arrived == ["1.9.1", "1.9.2", "1.9.3"]
    assert destination.rests == 1
