"""Counts the calls of Python functions.

`benchmarks.calls` prints them; `tests/threaded/test_calls.py` holds the usual messages to a number.
"""

from __future__ import annotations

import threading
from collections import Counter, defaultdict
from types import CodeType, FrameType
from typing import Any


class CallCounter:
    """Counts Python calls: its method `note` is a function for `sys.setprofile`.

    Attributes
    ----------
    by_thread : dict
        How often each thread called each function.
    """

    def __init__(self) -> None:
        self.by_thread: defaultdict[int, Counter[CodeType]] = defaultdict(Counter)

    def note(self, frame: FrameType, event: str, _: Any) -> None:
        """Count a call."""
        if event == "call":
            self.by_thread[threading.get_ident()][frame.f_code] += 1
