"""The selector of the watcher: waits for descriptors.

The module `selectors` does the same, but needs some ten calls each time that a descriptor is
added or removed; with epoll, this module needs one.
"""

from __future__ import annotations

import math
import select
import selectors
from typing import Any, NamedTuple

READ, WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE


class Registration(NamedTuple):
    """A watched descriptor, for READ or WRITE, and its owner."""

    number: int
    events: int
    owner: Any


class Selector:
    """Watches descriptors by `selectors`, on systems without epoll.

    Attributes
    ----------
    sees_changes : bool
        Whether `wait` sees descriptors that another thread adds meanwhile.
    """

    sees_changes = selectors.DefaultSelector.__name__ in ("EpollSelector", "KqueueSelector")

    def __init__(self) -> None:
        self._selector: Any = selectors.DefaultSelector()

    def fileno(self) -> int:
        """Return the descriptor of the selector itself."""
        number: int = self._selector.fileno()
        return number

    def get(self, number: int) -> Registration | None:
        """Return the watched descriptor with this number; None if there is none."""
        key = self._selector.get_map().get(number)
        return None if key is None else Registration(key.fd, key.events, key.data)

    def all(self) -> list[Registration]:
        """Return all watched descriptors."""
        return [
            Registration(key.fd, key.events, key.data) for key in self._selector.get_map().values()
        ]

    def add(self, number: int, events: int, owner: Any) -> None:
        """Watch a descriptor; KeyError if it is watched, OSError or ValueError if it cannot be."""
        self._selector.register(number, events, owner)

    def replace(self, number: int, owner: Any) -> None:
        """Give a watched descriptor another owner."""
        self._selector.modify(number, self._selector.get_key(number).events, owner)

    def remove(self, number: int) -> Any:
        """Stop watching a descriptor, which may be closed, and return its owner, or KeyError."""
        return self._selector.unregister(number).data

    def wait(self, timeout: float) -> list[Any]:
        """Wait `timeout` seconds at most; return the owners of the descriptors that are ready."""
        return [key.data for key, _ in self._selector.select(timeout)]

    def close(self) -> None:
        """Close the descriptor of the selector."""
        self._selector.close()


class EpollSelector(Selector):
    """Watches descriptors by epoll."""

    sees_changes = True

    def __init__(self) -> None:
        self._selector = select.epoll()
        self._watched: dict[int, tuple[int, Any]] = {}

    def get(self, number: int) -> Registration | None:
        known = self._watched.get(number)
        return None if known is None else Registration(number, *known)

    def all(self) -> list[Registration]:
        return [Registration(number, *known) for number, known in self._watched.copy().items()]

    def add(self, number: int, events: int, owner: Any) -> None:
        if number in self._watched:
            raise KeyError(number)
        self._selector.register(number, select.EPOLLIN if events == READ else select.EPOLLOUT)
        self._watched[number] = events, owner

    def replace(self, number: int, owner: Any) -> None:
        self._watched[number] = self._watched[number][0], owner

    def remove(self, number: int) -> Any:
        owner = self._watched.pop(number)[1]
        try:
            self._selector.unregister(number)
        except OSError:  # it was closed, and epoll removed it then
            return owner
        return owner

    def wait(self, timeout: float) -> list[Any]:
        # Round up to whole milliseconds: after too short a wait, the watcher would wait once more.
        try:
            ready = self._selector.poll(math.ceil(timeout * 1000) / 1000, len(self._watched) or 1)
        except InterruptedError:
            return []
        found = []
        for number, _ in ready:
            known = self._watched.get(number)
            if known is not None:
                found.append(known[1])
        return found


def new_selector() -> Selector:
    """Return the fastest selector of this system."""
    return EpollSelector() if hasattr(select, "epoll") else Selector()
