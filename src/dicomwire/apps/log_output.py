"""The log of applications as JSON, and in a file that is rotated; `console` has the rest."""

from __future__ import annotations

import json
import logging
import os
from contextlib import suppress
from datetime import datetime
from logging.handlers import WatchedFileHandler
from typing import Any, TextIO

try:
    import fcntl
except ImportError:  # Windows, where no processes share a log
    fcntl = None  # type: ignore[assignment]

LARGEST = 10_000_000
"""Bytes of a log file, after which it is rotated: an editor still opens it at once."""
KEPT = 5
"""Older files that are kept, so that all together take 60 MB at most."""


class JSONFormatter(logging.Formatter):
    """Writes a record as a JSON object in one line, with the values of its attribute `dicom`."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        values: dict[str, Any] = {
            "time": _time(record),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, "dicom", {}),
        }
        if record.exc_info:
            values["exception"] = self.formatException(record.exc_info)
        return json.dumps(values)


def _time(record: logging.LogRecord) -> str:
    """Return local time in ISO 8601, with its offset."""
    return datetime.fromtimestamp(record.created).astimezone().isoformat("T", "milliseconds")


class RotatedFile(WatchedFileHandler):
    """Appends to a file, which it renames to FILE.1 when it is large; FILE.1 becomes FILE.2.

    Several processes may write to it, such as the workers of a server: each notices if another
    has renamed the file, and a lock lets only one of them rename it.
    """

    def __init__(self, path: str, largest: int = LARGEST, kept: int = KEPT) -> None:
        super().__init__(path, encoding="utf-8", errors="backslashreplace")
        self._largest = largest
        self._kept = kept

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record, and rename the file if it is large."""
        super().emit(record)
        if self.stream is not None and self.stream.tell() > self._largest:
            with suppress(OSError):  # a log that cannot be rotated is still a log
                self._rotate(self.stream)

    def _rotate(self, stream: TextIO) -> None:
        # The lock is on the file itself: a process that gets it after the file was renamed sees
        # that the path leads to another file.
        if fcntl is not None:
            fcntl.flock(stream, fcntl.LOCK_EX)
        if os.path.samestat(os.fstat(stream.fileno()), os.stat(self.baseFilename)):
            for number in range(self._kept - 1, 0, -1):
                with suppress(FileNotFoundError):
                    os.replace(f"{self.baseFilename}.{number}", f"{self.baseFilename}.{number + 1}")
            os.replace(self.baseFilename, f"{self.baseFilename}.1")
        stream.close()  # this gives up the lock
        self.stream = self._open()
        self._statstream()
