"""Counts what a node does, in all of its processes: operations by service and outcome, and times.

The counts are in memory that the processes share. Each process writes a part of its own, so that
none waits for another one, and what a dead process has counted stays. `web.metrics` shows them.

Operations are counted by the log line that each of them has, since that is written for every
service, also for requests that are refused. Below the level INFO there is none.
"""

from __future__ import annotations

import logging
import mmap
import tempfile
import threading
import time
from bisect import bisect_left
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import NamedTuple

from dicomwire.status import STATUS_CANCEL, STATUS_SUCCESS, STATUS_WARNING, code_to_category

LOGGER = logging.getLogger("dicomwire")

SERVICES = (
    *("C-ECHO", "C-STORE", "C-FIND", "C-GET", "C-MOVE"),
    *("N-ACTION", "N-EVENT-REPORT", "N-CREATE", "N-SET", "N-GET", "N-DELETE"),
)
OUTCOMES = ("success", "warning", "failure", "cancel")
_OUTCOMES = {STATUS_SUCCESS: 0, STATUS_WARNING: 1, STATUS_CANCEL: 3}
TIMED = ("C-STORE", "C-FIND", "C-GET", "C-MOVE")
"""The services whose times are counted: from a complete request to the last response."""
BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0)
"""The upper limits of the classes of times, in seconds; a last class has those above."""

_OF_TIMES = len(SERVICES) * len(OUTCOMES)
_WIDTH = len(BUCKETS) + 2
"""The numbers of one kind of times: those of its classes, and their sum in microseconds."""
_OF_ASSOCIATIONS = _OF_TIMES + len(TIMED) * _WIDTH
_SIZE = _OF_ASSOCIATIONS + 1
_BYTES = 8
"""The size of a number, which is a signed integer."""
_TIMES = {service: _OF_TIMES + number * _WIDTH for number, service in enumerate(TIMED)}
_PLACES = {service: number * len(OUTCOMES) for number, service in enumerate(SERVICES)}
"""Where the numbers of a service begin."""


class Times(NamedTuple):
    """How often something took how long.

    Attributes
    ----------
    classes : tuple of int
        The number in each class of `BUCKETS`, and above.
    seconds : float
        The sum of all.
    """

    classes: tuple[int, ...]
    seconds: float


class Totals(NamedTuple):
    """The counts of all processes."""

    operations: dict[tuple[str, str], int]
    """By service and outcome."""
    times: dict[str, Times]
    """By service."""
    associations: int
    """Those that were accepted."""


class Counts(logging.Handler):
    """The counts of a node. It is made before the processes are; each calls `join`.

    Parameters
    ----------
    processes : int
        How many processes count at a time.
    """

    def __init__(self, processes: int = 1) -> None:
        super().__init__(logging.INFO)
        # A worker that is replaced may still be ending when the next one begins.
        self._slots = 2 * processes
        self._file = tempfile.TemporaryFile()  # noqa: SIM115
        self._file.truncate(self._slots * _SIZE * _BYTES)
        self._memory = mmap.mmap(self._file.fileno(), self._slots * _SIZE * _BYTES)
        self._all = memoryview(self._memory).cast("q")
        self._own = self._all[:_SIZE]
        self._counting = threading.Lock()  # guards the numbers of this process, between its threads

    def join(self) -> None:
        """Take a part of the memory for this process, and count the operations that it logs."""
        self._counting = threading.Lock()
        self._own = self._all[self._free_slot() * _SIZE :][:_SIZE]
        LOGGER.addHandler(self)

    def close(self) -> None:
        """Count no more, in this process."""
        LOGGER.removeHandler(self)
        super().close()
        with self._counting:
            self._own.release()
            # For a thread that is just about to count.
            self._own = memoryview(bytearray(_SIZE * _BYTES)).cast("q")
        self._all.release()
        self._memory.close()
        self._file.close()

    def _free_slot(self) -> int:
        """Lock a part; the system releases the locks of a process that ends."""
        with suppress(ImportError):  # Windows has no other processes of a node
            from fcntl import LOCK_EX, LOCK_NB, lockf

            for slot in range(self._slots):
                with suppress(OSError):
                    lockf(self._file, LOCK_EX | LOCK_NB, 1, slot)
                    return slot
        return 0

    # --- Counting ---

    def handle(self, record: logging.LogRecord) -> bool:
        """Count an operation by its line in the log; see `logs.log_operation`."""
        facts = getattr(record, "dicom", None)
        if facts is not None and record.levelno == logging.INFO:
            place = _PLACES.get(facts.get("service"))
            if place is not None:
                outcome = _OUTCOMES.get(code_to_category(int(facts["status"], 16)), 2)
                with self._counting:
                    self._own[place + outcome] += 1
        return True

    def took(self, service: str, seconds: float) -> None:
        """Count the time of a request."""
        at = _TIMES[service]
        with self._counting:
            self._own[at + bisect_left(BUCKETS, seconds)] += 1
            self._own[at + _WIDTH - 1] += int(seconds * 1e6)

    @contextmanager
    def timing(self, service: str) -> Iterator[None]:
        """Count the time of a block, which serves a request."""
        begin = time.perf_counter()
        try:
            yield
        finally:
            self.took(service, time.perf_counter() - begin)

    def accepted(self) -> None:
        """Count an association."""
        with self._counting:
            self._own[_OF_ASSOCIATIONS] += 1

    # --- Reading ---

    def totals(self) -> Totals:
        """Return the counts of all processes."""
        sums = [sum(self._all[at::_SIZE]) for at in range(_SIZE)]
        operations = {
            (service, outcome): sums[place + number]
            for service, place in _PLACES.items()
            for number, outcome in enumerate(OUTCOMES)
        }
        times = {}
        for service, at in _TIMES.items():
            *classes, microseconds = sums[at : at + _WIDTH]
            times[service] = Times(tuple(classes), microseconds / 1e6)
        return Totals(operations, times, sums[_OF_ASSOCIATIONS])
