"""What a node does now: throughput and disk over time, open associations, its last log lines.

All of it is in memory and bounded. The totals of the archive are those of `node.overview`.
"""

from __future__ import annotations

import logging
import shutil
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Self, TypeVar

from sqlalchemy import func, select

from dicomwire.logs import escaped
from dicomwire.node.archive import Archive
from dicomwire.node.failures import log_unexpected
from dicomwire.node.index.database import IndexFailure
from dicomwire.node.index.schema import instance
from dicomwire.node.objects.opening import folder_of

LOGGER = logging.getLogger("dicomwire.node")
_T = TypeVar("_T")

EVERY = 10.0
"""Seconds between two samples."""
_FINE, _COARSE = 360, 288
"""The samples that are kept: each of the last hour, and an average of `_TOGETHER` for a day."""
_TOGETHER = 30
_LINES = 500
"""The last log lines that are kept."""
_LONGEST_LINE = 500
"""In characters."""


class Peer(NamedTuple):
    """The other end of an open association."""

    ae_title: str
    address: str


class Sample(NamedTuple):
    """What was measured in the seconds before a moment."""

    time: float
    objects: float
    """Stored a second, by all nodes."""
    bytes: float
    """Stored a second, by all nodes."""
    associations: float
    disk_used: float
    disk_size: float
    """Of the file system with the folder, in bytes."""


class LogLine(NamedTuple):
    """A line of the log."""

    time: float
    level: str
    text: str


class Operations:
    """Measures and remembers while the node serves.

    Parameters
    ----------
    archive : Archive
    associations : callable
        Returns the number of open associations, and the peers of those in this process.
    """

    def __init__(
        self, archive: Archive, associations: Callable[[], tuple[int, Sequence[Peer]]]
    ) -> None:
        self.associations = associations
        self._archive = archive
        self._folder = folder_of(archive.configuration)
        self._fine: deque[Sample] = deque(maxlen=_FINE)
        self._coarse: deque[Sample] = deque(maxlen=_COARSE)
        self._lines = _Lines()
        self._recent: dict[str, tuple[float, Any]] = {}
        self._last: tuple[float, int] | None = None
        """When was measured last, and the highest id of an instance then."""
        self._has_ended = threading.Event()  # leaving the context sets it, and wakes the thread
        self._thread = threading.Thread(target=self._run, name="node-samples", daemon=True)

    def __enter__(self) -> Self:
        logging.getLogger("dicomwire").addHandler(self._lines)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._has_ended.set()
        self._thread.join()
        logging.getLogger("dicomwire").removeHandler(self._lines)

    def recent(self, name: str, seconds: float, make: Callable[[], _T]) -> _T:
        """Return what `make` returns, or has returned in the last seconds, for this name.

        What takes long is made less often: a twentieth of the time is spent on it.
        """
        until, value = self._recent.get(name, (0.0, None))
        began = time.monotonic()
        if began >= until:
            value = make()
            now = time.monotonic()
            self._recent[name] = now + max(seconds, (now - began) * 20), value
        return value  # type: ignore[no-any-return]

    def samples(self, is_day: bool = False) -> list[Sample]:
        """Return what was measured in the last hour, or day, the oldest first."""
        return list(self._coarse if is_day else self._fine)

    def log(self) -> list[LogLine]:
        """Return the last log lines, the oldest first."""
        return list(self._lines.kept)

    def measure(self) -> None:
        """Take a sample."""
        now = time.time()
        last = self._last
        with self._archive.index.reading() as connection:
            newest = connection.execute(select(func.max(instance.c.id))).scalar() or 0
            number = size = 0
            if last is not None and newest > last[1]:
                added = select(func.count(), func.sum(instance.c.size))
                number, size = connection.execute(added.where(instance.c.id > last[1])).one()
        self._last = now, newest
        if last is None:
            return
        seconds = max(now - last[0], 1e-3)
        disk = shutil.disk_usage(self._folder)
        open_now, _ = self.associations()
        rates = number / seconds, int(size or 0) / seconds
        self._fine.append(Sample(now, *rates, open_now, disk.used, disk.total))
        self._average(now)

    def _average(self, now: float) -> None:
        since = self._coarse[-1].time if self._coarse else 0.0
        part = [each for each in self._fine if each.time > since]
        if len(part) >= _TOGETHER:
            means = [sum(values) / len(part) for values in zip(*part, strict=True)]
            self._coarse.append(Sample(now, *means[1:]))

    def _run(self) -> None:
        while True:
            try:
                self.measure()
            except (IndexFailure, OSError):
                pass  # the heartbeat of the node says so in the log
            except Exception as error:
                log_unexpected(LOGGER, error, "A sample cannot be taken")
            if self._has_ended.wait(EVERY):
                return


class _Lines(logging.Handler):
    """Keeps the last lines; none below INFO, since those may have patient data."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.kept: deque[LogLine] = deque(maxlen=_LINES)

    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = escaped(record.getMessage())[:_LONGEST_LINE]
        except Exception:
            self.handleError(record)
            return
        self.kept.append(LogLine(record.created, record.levelname, text))


def described(sample: Sample) -> dict[str, Any]:
    """Return a sample for JSON."""
    return {name: round(value, 3) for name, value in sample._asdict().items()}
