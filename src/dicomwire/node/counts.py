"""Counts what a node does, in all of its processes: operations by service and outcome, and times.

The counts are in memory that the processes share. Each process writes a part of its own, so that
none waits for another one, and what a dead process has counted stays. `web.metrics` shows them.

Operations and their times are counted by the log line that each of them has, since that is written
for every service, also for requests that are refused, and has the status. Above the level INFO
there is none.
"""

from __future__ import annotations

import logging
import mmap
import tempfile
import threading
from bisect import bisect_left
from contextlib import suppress
from time import perf_counter
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
STEPS = ("objects", "index")
"""The steps of the commit of a batch whose times are counted."""
BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0)
"""The upper limits of the classes of times, in seconds; a last class has those above."""

_OF_TIMES = len(SERVICES) * len(OUTCOMES)
_WIDTH = len(BUCKETS) + 2
"""The numbers of one kind of times: those of its classes, and their sum in microseconds."""
_OF_STEPS = _OF_TIMES + len(TIMED) * len(OUTCOMES) * _WIDTH
_OF_ASSOCIATIONS = _OF_STEPS + len(STEPS) * _WIDTH
_SIZE = _OF_ASSOCIATIONS + 1
_BYTES = 8
"""The size of a number, which is a signed integer."""
_TIMES = {
    service: _OF_TIMES + number * len(OUTCOMES) * _WIDTH for number, service in enumerate(TIMED)
}
"""Where the times of a service begin: those of each outcome."""
_STEPS = [_OF_STEPS + number * _WIDTH for number in range(len(STEPS))]
"""Where the times of a step begin."""
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
    times: dict[tuple[str, str], Times]
    """By service and outcome."""
    steps: dict[str, Times]
    """Of the commits of batches, by step."""
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
        self._begun = (
            threading.local()
        )  # `request`: the Message ID that a thread serves, since when

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

    def began(self, message_id: int) -> None:
        """Note when this thread begins to serve a request, whose line in the log is the end."""
        self._begun.request = message_id, perf_counter()

    def handle(self, record: logging.LogRecord) -> bool:
        """Count an operation by its line in the log; see `logs.log_operation`."""
        facts = getattr(record, "dicom", None)
        if facts is not None and record.levelno == logging.INFO:
            service = facts.get("service")
            place = _PLACES.get(service)
            if place is not None:
                outcome = _OUTCOMES.get(code_to_category(int(facts["status"], 16)), 2)
                message_id, begin = self._begun.__dict__.pop("request", (None, 0.0))
                with self._counting:
                    self._own[place + outcome] += 1
                    if service in _TIMES and message_id == facts["message_id"]:
                        seconds, at = perf_counter() - begin, _TIMES[service] + outcome * _WIDTH
                        self._own[at + bisect_left(BUCKETS, seconds)] += 1
                        self._own[at + _WIDTH - 1] += int(seconds * 1e6)
        return True

    def committed(self, *seconds: float) -> None:
        """Count the times of `STEPS` of the commit of a batch."""
        with self._counting:
            own = self._own
            for at, each in zip(_STEPS, seconds, strict=True):
                own[at + bisect_left(BUCKETS, each)] += 1
                own[at + _WIDTH - 1] += int(each * 1e6)

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
        times = {
            (service, outcome): _times(sums, at + number * _WIDTH)
            for service, at in _TIMES.items()
            for number, outcome in enumerate(OUTCOMES)
        }
        steps = {step: _times(sums, at) for step, at in zip(STEPS, _STEPS, strict=True)}
        return Totals(operations, times, steps, sums[_OF_ASSOCIATIONS])


def _times(sums: list[int], at: int) -> Times:
    *classes, microseconds = sums[at : at + _WIDTH]
    return Times(tuple(classes), microseconds / 1e6)
