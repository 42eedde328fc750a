"""How many bytes of received datasets all associations of an AE may hold at a time.

`sinks` and `payloads` hold the bytes; the services answer where there is no room.
"""

from __future__ import annotations

import errno
import threading

from dicomwire.errors import DicomwireError
from dicomwire.protocol.limits import KIB

UNCOUNTED = 64 * KIB
"""Bytes that an association may hold whatever others do: more than a query needs."""


class BudgetSpent(DicomwireError, OSError):
    """There is no room for a dataset beside all that is held."""

    status = 0xA700
    """Refused: Out of Resources (PS3.4 Table B.2-1)."""

    def __init__(self) -> None:
        super().__init__(errno.ENOBUFS, "too much is held for other requests")


class Budget:
    """How many bytes of datasets the associations of an AE may hold at a time.

    Attributes
    ----------
    ceiling : int or None
        The most; None for no ceiling.
    held : int
        What they hold, without the first bytes of each.
    lock : threading.Lock
        Guards `held`, and what each `Share` has of it.
    """

    __slots__ = ("ceiling", "held", "lock")

    def __init__(self, ceiling: int | None) -> None:
        self.ceiling = ceiling
        self.held = 0
        self.lock = threading.Lock()


class Share:
    """What one association holds of a budget; its sinks and payloads count it, on any thread.

    Its first bytes count for nothing: a small request is served however much others hold.
    """

    __slots__ = ("_budget", "_held")

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._held = 0

    def take(self, size: int) -> bool:
        """Hold `size` bytes more, if there is room for them; return whether there is."""
        budget = self._budget
        with budget.lock:
            held = self._held + size
            if held > UNCOUNTED:
                counted = held - max(self._held, UNCOUNTED)
                if budget.ceiling is not None and budget.held + counted > budget.ceiling:
                    return False
                budget.held += counted
            self._held = held
        return True

    def give(self, size: int) -> None:
        """Hold `size` bytes less; after `close` nothing is held anyway."""
        budget = self._budget
        with budget.lock:
            held = max(self._held - size, 0)
            if self._held > UNCOUNTED:
                budget.held -= self._held - max(held, UNCOUNTED)
            self._held = held

    def close(self) -> None:
        """Give back all: the association is over."""
        self.give(self._held)


def take(share: Share | None, size: int) -> bool:
    """Have `share`, if there is one, hold `size` bytes more; return whether there is room."""
    return share is None or share.take(size)


def give(share: Share | None, size: int) -> None:
    """Have `share`, if there is one, hold `size` bytes less."""
    if share is not None:
        share.give(size)
