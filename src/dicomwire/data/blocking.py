"""Coroutines run to their end by a thread that blocks instead of suspending.

The threaded face runs with it what the asyncio face awaits.
"""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


def run_blocking(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine that never suspends, and return its result.

    Raises
    ------
    RuntimeError
        When it does suspend: a port that was to block did not.
    """
    try:
        coroutine.send(None)
    except StopIteration as stop:
        result: T = stop.value
        return result
    coroutine.close()
    raise RuntimeError("a service suspended on a port that blocks")
