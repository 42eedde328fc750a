"""What the watcher waits with, on systems with epoll and without."""

from __future__ import annotations

import select
import socket
from collections.abc import Iterator

import pytest

from dicomwire.threaded.selector import (
    READ,
    WRITE,
    EpollSelector,
    Registration,
    Selector,
    new_selector,
)

KINDS = [Selector, EpollSelector] if hasattr(select, "epoll") else [Selector]


@pytest.fixture(params=KINDS)
def selector(request: pytest.FixtureRequest) -> Iterator[Selector]:
    made: Selector = request.param()
    yield made
    made.close()


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


def test_the_owner_of_what_is_ready(selector: Selector, pair: tuple[socket.socket, ...]) -> None:
    ours, theirs = pair
    selector.add(ours.fileno(), READ, "ours")
    assert selector.wait(0) == []
    theirs.send(b"x")
    assert selector.wait(10) == ["ours"]
    assert selector.remove(ours.fileno()) == "ours"
    assert selector.wait(0) == []


def test_what_can_be_written_to(selector: Selector, pair: tuple[socket.socket, ...]) -> None:
    selector.add(pair[0].fileno(), WRITE, None)
    assert selector.wait(10) == [None]


def test_what_is_watched(selector: Selector, pair: tuple[socket.socket, ...]) -> None:
    numbers = [each.fileno() for each in pair]
    for number in numbers:
        selector.add(number, READ, f"owner of {number}")
    expected = [Registration(number, READ, f"owner of {number}") for number in numbers]
    assert [selector.get(number) for number in numbers] == expected
    assert sorted(selector.all()) == sorted(expected)
    assert selector.get(selector.fileno()) is None


def test_a_descriptor_is_watched_once(selector: Selector, pair: tuple[socket.socket, ...]) -> None:
    number = pair[0].fileno()
    selector.add(number, READ, "first")
    with pytest.raises(KeyError):
        selector.add(number, READ, "second")
    selector.remove(number)
    with pytest.raises(KeyError):
        selector.remove(number)


def test_a_closed_descriptor(selector: Selector) -> None:
    ours, theirs = socket.socketpair()
    number = ours.fileno()
    selector.add(number, READ, "ours")
    ours.close()
    theirs.close()
    assert selector.remove(number) == "ours"
    with pytest.raises((OSError, ValueError)):
        selector.add(-1, READ, "nobody")
    assert selector.all() == []


def test_the_best_of_this_system() -> None:
    selector = new_selector()
    assert type(selector) is KINDS[-1]
    selector.close()


def test_a_descriptor_gets_another_owner(
    selector: Selector, pair: tuple[socket.socket, ...]
) -> None:
    ours, theirs = pair
    selector.add(ours.fileno(), READ, "first")
    selector.replace(ours.fileno(), "second")
    theirs.send(b"x")
    assert selector.wait(10) == ["second"]
