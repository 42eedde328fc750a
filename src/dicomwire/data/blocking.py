"""Runs a coroutine to its end on a thread that blocks instead of suspending.

The threaded face uses it to run the coroutines that the asyncio face awaits.
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
        If it suspends; then an operation of its port did not block, which is a programming error.
    """
    try:
        coroutine.send(None)
    except StopIteration as stop:
        result: T = stop.value
        return result
    coroutine.close()
    raise RuntimeError("a coroutine suspended on a thread that must block")
