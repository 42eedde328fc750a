"""What the lobby waits with, on systems with epoll and without."""

from __future__ import annotations

import select
import socket
from collections.abc import Iterator

import pytest

from dicomwire.threaded.watching import READ, WRITE, EpollWatch, Watch, Watched, new_watch

KINDS = [Watch, EpollWatch] if hasattr(select, "epoll") else [Watch]


@pytest.fixture(params=KINDS)
def watch(request: pytest.FixtureRequest) -> Iterator[Watch]:
    made: Watch = request.param()
    yield made
    made.close()


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


def test_the_owner_of_what_is_ready(watch: Watch, pair: tuple[socket.socket, ...]) -> None:
    ours, theirs = pair
    watch.add(ours.fileno(), READ, "ours")
    assert watch.wait(0) == []
    theirs.send(b"x")
    assert watch.wait(10) == ["ours"]
    assert watch.remove(ours.fileno()) == "ours"
    assert watch.wait(0) == []


def test_what_can_be_written_to(watch: Watch, pair: tuple[socket.socket, ...]) -> None:
    watch.add(pair[0].fileno(), WRITE, None)
    assert watch.wait(10) == [None]


def test_what_is_watched(watch: Watch, pair: tuple[socket.socket, ...]) -> None:
    numbers = [each.fileno() for each in pair]
    for number in numbers:
        watch.add(number, READ, f"owner of {number}")
    expected = [Watched(number, READ, f"owner of {number}") for number in numbers]
    assert [watch.get(number) for number in numbers] == expected
    assert sorted(watch.all()) == sorted(expected)
    assert watch.get(watch.fileno()) is None


def test_a_descriptor_is_watched_once(watch: Watch, pair: tuple[socket.socket, ...]) -> None:
    number = pair[0].fileno()
    watch.add(number, READ, "first")
    with pytest.raises(KeyError):
        watch.add(number, READ, "second")
    watch.remove(number)
    with pytest.raises(KeyError):
        watch.remove(number)


def test_a_closed_descriptor(watch: Watch) -> None:
    ours, theirs = socket.socketpair()
    number = ours.fileno()
    watch.add(number, READ, "ours")
    ours.close()
    theirs.close()
    assert watch.remove(number) == "ours"
    with pytest.raises((OSError, ValueError)):
        watch.add(-1, READ, "nobody")
    assert watch.all() == []


def test_the_best_of_this_system() -> None:
    watch = new_watch()
    assert type(watch) is KINDS[-1]
    watch.close()
