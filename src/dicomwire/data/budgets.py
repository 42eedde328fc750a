"""Limits the bytes of received datasets that all associations of an AE hold at a time.

`sinks` and `payloads` hold the bytes; the services answer requests for which there is no room.
"""

from __future__ import annotations

import errno
import threading

from dicomwire.errors import DicomwireError
from dicomwire.protocol.limits import KIB

UNCOUNTED = 64 * KIB
"""Bytes that an association may always hold, whatever others hold: more than a query needs."""


class BudgetSpent(DicomwireError, OSError):
    """The budget has no room for a dataset."""

    status = 0xA700
    """Refused: Out of Resources (PS3.4 Table B.2-1)."""

    def __init__(self) -> None:
        super().__init__(errno.ENOBUFS, "the datasets of other requests use up the budget")


class Budget:
    """The bytes of datasets that the associations of an AE may hold at a time.

    Attributes
    ----------
    ceiling : int or None
        The most bytes; None for no limit.
    held : int
        The bytes held now, without the first `UNCOUNTED` bytes of each association.
    lock : threading.Lock
        Guards `held` and the counts of all `Share` objects. No other lock is taken while it is
        held.
    """

    __slots__ = ("ceiling", "held", "lock")

    def __init__(self, ceiling: int | None) -> None:
        self.ceiling = ceiling
        self.held = 0
        self.lock = threading.Lock()


class Share:
    """The part of a budget that one association holds; its sinks and payloads count, on any thread.

    The first `UNCOUNTED` bytes are free, so that a small request is served whatever others hold.
    """

    __slots__ = ("_budget", "_held")

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._held = 0

    def take(self, size: int) -> bool:
        """Count `size` more bytes if there is room for them; return whether there is."""
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
        """Count `size` bytes less; after `close` this does nothing."""
        budget = self._budget
        with budget.lock:
            held = max(self._held - size, 0)
            if self._held > UNCOUNTED:
                budget.held -= self._held - max(held, UNCOUNTED)
            self._held = held

    def close(self) -> None:
        """Count no bytes any more: the association is over."""
        if self._held:
            self.give(self._held)


def take(share: Share | None, size: int) -> bool:
    """Count `size` more bytes in `share`, if there is one; return whether there is room."""
    return share is None or share.take(size)


def give(share: Share | None, size: int) -> None:
    """Count `size` bytes less in `share`, if there is one."""
    if share is not None:
        share.give(size)
