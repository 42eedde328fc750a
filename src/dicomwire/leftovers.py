"""Finds and removes incomplete files that a killed process has left.

The callers know the folders; `data.sinks` writes such files.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import time
from collections.abc import Callable

from dicomwire.logs import counted, escaped

LOGGER = logging.getLogger("dicomwire")

ABANDONED_AFTER = 3600.0
"""Seconds after the last write from which a file counts as abandoned.

No deadline of an association is so long, so that no process still writes the file.
"""

is_part = re.compile(r"\.[0-9a-f]{32}\.part").fullmatch
"""Returns a match for the names that `sinks.FileSink` gives to incomplete files."""


def remove_leftovers(
    folder: str | os.PathLike[str],
    is_ours: Callable[[str], object] = is_part,
    age: float = ABANDONED_AFTER,
) -> None:
    """Remove files that an earlier process left in a folder. It never raises.

    It removes only regular files of the folder itself: no links, no folders, nothing below it.

    Parameters
    ----------
    is_ours : callable
        Returns whether a name is one that we give to such files.
    age : float
        The least number of seconds since the last write to the file. If other processes may be
        writing to the folder, it must be longer than any pause between their writes.
    """
    latest = time.time() - age
    removed = 0
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if is_ours(entry.name) and entry.is_file(follow_symlinks=False):
                with contextlib.suppress(OSError):  # another process may have removed it
                    if entry.stat(follow_symlinks=False).st_mtime <= latest:
                        os.unlink(entry.path)
                        removed += 1
    if removed:
        LOGGER.info(
            "Removed %s of an earlier process from %s",
            counted(removed, "incomplete file"),
            escaped(os.fspath(folder)),
        )
