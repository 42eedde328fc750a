"""Files that a process left half-written when it was killed: how they are told, and removed.

Who writes them, and where, is not known here.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import time
from collections.abc import Callable

from dicomwire.logs import escaped

LOGGER = logging.getLogger("dicomwire")

ABANDONED_AFTER = 3600.0
"""Seconds after which nobody writes a file any more: no deadline of an association is so long."""

is_part = re.compile(r"\.[0-9a-f]{32}\.part").fullmatch
"""Whether a name is one that `sinks.FileSink` gives to a file which is not complete."""


def remove_leftovers(
    folder: str | os.PathLike[str],
    is_ours: Callable[[str], object] = is_part,
    age: float = ABANDONED_AFTER,
) -> None:
    """Remove files that an earlier process left in a folder. It never raises.

    Only plain files of the folder itself are removed: no links, no folders, nothing below.

    Parameters
    ----------
    is_ours : callable
        Tells the names that we give from all others.
    age : float
        How many seconds ago a file has to have been written to last. Where others may be
        writing, they are busy with their files more often than that.
    """
    latest = time.time() - age
    removed = 0
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if is_ours(entry.name) and entry.is_file(follow_symlinks=False):
                with contextlib.suppress(OSError):  # another process may do the same
                    if entry.stat(follow_symlinks=False).st_mtime <= latest:
                        os.unlink(entry.path)
                        removed += 1
    if removed:
        LOGGER.info(
            "Removed %d incomplete files of an earlier process from %s",
            removed,
            escaped(os.fspath(folder)),
        )
