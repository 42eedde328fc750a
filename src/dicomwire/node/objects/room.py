"""Free space on the disks of a node, looked at now and then."""

from __future__ import annotations

import errno
import logging
import shutil
import time
from collections.abc import Callable, Iterable
from pathlib import Path

LOGGER = logging.getLogger("dicomwire.node")

_EVERY = 1.0
"""Seconds between two looks: what is received meanwhile is less than usual limits."""


def free_space(folder: Path) -> int:
    """Return the bytes that are free on the disk of a folder, for this user."""
    return shutil.disk_usage(folder).free


class Room:
    """Whether there is room for more objects. Safe to use from any thread.

    Parameters
    ----------
    folders : iterable of Path
        Each must be on a disk that has so much free space.
    least : int
        In bytes; 0 is no limit.
    """

    def __init__(
        self,
        folders: Iterable[Path],
        least: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._folders = [*dict.fromkeys(folders)]
        self._least = least
        self._clock = clock
        self._next = 0.0
        self._is_short = False

    def check(self) -> None:
        """Raise OSError if a disk has too little free space."""
        if not self._least:
            return
        now = self._clock()
        if now >= self._next:
            self._next = now + _EVERY  # two threads may look at a time, which does no harm
            self._look()
        if self._is_short:
            raise OSError(errno.ENOSPC, "the disk has less free space than min_free_space")

    def _look(self) -> None:
        was_short = self._is_short
        try:
            free = min(map(free_space, self._folders))
        except OSError as error:
            LOGGER.error("The free space of the disk is not known: %s", error.strerror)
            return
        self._is_short = free < self._least
        if self._is_short and not was_short:
            text = "No object is stored: %d bytes are free, and min_free_space is %d"
            LOGGER.error(text, free, self._least)
        elif was_short and not self._is_short:
            LOGGER.warning("Objects are stored again: %d bytes are free", free)
