"""What the lobby waits with: which descriptors are watched, and for whom.

The module `selectors` does the same for more kinds of things, with some ten calls each time that
something enters or leaves the lobby; here it takes one.
"""

from __future__ import annotations

import math
import select
import selectors
from typing import Any, NamedTuple

READ, WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE


class Watched(NamedTuple):
    """A descriptor that is watched, for READ or WRITE, and whose it is."""

    number: int
    events: int
    owner: Any


class Watch:
    """Watches descriptors by `selectors`, on systems without epoll.

    Attributes
    ----------
    sees_changes : bool
        Whether what another thread changes takes effect while one waits.
    """

    sees_changes = selectors.DefaultSelector.__name__ in ("EpollSelector", "KqueueSelector")

    def __init__(self) -> None:
        self._selector: Any = selectors.DefaultSelector()

    def fileno(self) -> int:
        """Return the descriptor of the watch itself."""
        number: int = self._selector.fileno()
        return number

    def get(self, number: int) -> Watched | None:
        """Return what is watched by that number."""
        key = self._selector.get_map().get(number)
        return None if key is None else Watched(key.fd, key.events, key.data)

    def all(self) -> list[Watched]:
        """Return all that is watched."""
        return [Watched(key.fd, key.events, key.data) for key in self._selector.get_map().values()]

    def add(self, number: int, events: int, owner: Any) -> None:
        """Watch a descriptor; KeyError if it is watched, OSError or ValueError if it cannot be."""
        self._selector.register(number, events, owner)

    def remove(self, number: int) -> Any:
        """Watch a descriptor no longer, which may be closed; return whose it was, or KeyError."""
        return self._selector.unregister(number).data

    def wait(self, timeout: float) -> list[Any]:
        """Return the owners of what is ready, once anything is or `timeout` seconds are over."""
        return [key.data for key, _ in self._selector.select(timeout)]

    def close(self) -> None:
        """Give up the descriptor of the watch."""
        self._selector.close()


class EpollWatch(Watch):
    """Watches descriptors by epoll."""

    sees_changes = True

    def __init__(self) -> None:
        self._selector = select.epoll()
        self._watched: dict[int, tuple[int, Any]] = {}

    def get(self, number: int) -> Watched | None:
        known = self._watched.get(number)
        return None if known is None else Watched(number, *known)

    def all(self) -> list[Watched]:
        return [Watched(number, *known) for number, known in self._watched.copy().items()]

    def add(self, number: int, events: int, owner: Any) -> None:
        if number in self._watched:
            raise KeyError(number)
        self._selector.register(number, select.EPOLLIN if events == READ else select.EPOLLOUT)
        self._watched[number] = events, owner

    def remove(self, number: int) -> Any:
        owner = self._watched.pop(number)[1]
        try:
            self._selector.unregister(number)
        except OSError:  # it was closed, and epoll removed it then
            return owner
        return owner

    def wait(self, timeout: float) -> list[Any]:
        # In whole milliseconds, rounded up: to wait too short would be to wait again and again.
        try:
            ready = self._selector.poll(math.ceil(timeout * 1000) / 1000, len(self._watched) or 1)
        except InterruptedError:
            return []
        found = map(self._watched.get, [number for number, _ in ready])
        return [known[1] for known in found if known is not None]


def new_watch() -> Watch:
    """Return what is best on this system."""
    return EpollWatch() if hasattr(select, "epoll") else Watch()
