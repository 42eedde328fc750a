"""Small objects are durable in the index at first; here their files follow them, many at a time.

To sync a file costs the disk a flush, and its folder another: for a small object that is most of
the time it takes. The index needs a flush in any case, so it holds the bytes as well, for a while.
"""

from __future__ import annotations

import logging
import threading

from dicomwire.node.index import Index, IndexFailure
from dicomwire.node.storage import Storage

LOGGER = logging.getLogger("dicomwire")

SETTLE_AFTER = 1.0
"""Seconds that an object is held while nothing presses."""
ENOUGH = 8 << 20
"""How many bytes are not held for so long."""
MOST = 64 << 20
"""How many bytes are held at the most; while there are more, files are synced at once."""


def restore(storage: Storage, index: Index) -> None:
    """Write the files that the index still holds, after a crash that they may not have survived.

    Raises
    ------
    IndexFailure, OSError
        When they cannot be; all of them are held on then.
    """
    names = index.names_held()
    if not names:
        return
    _write_again(storage, index)
    storage.sync([name for _, name in names])
    with index.writing() as writer:
        writer.let_go(names[-1][0])
    LOGGER.info("%d files that were held in the index are in their places", len(names))


def _write_again(storage: Storage, index: Index) -> None:
    for held in index.held():
        storage.restore(held.file, held.content)


class Settler:
    """Syncs the files of what the index holds, in a thread of its own, and lets go of it.

    Parameters
    ----------
    storage, index
        Of one folder.
    changing : threading.Lock
        Held by whoever changes both, or opens the index again.
    """

    def __init__(self, storage: Storage, index: Index, changing: threading.Lock) -> None:
        self._storage = storage
        self._index = index
        self._changing = changing
        self._thread: threading.Thread | None = None
        self._size = 0
        self._is_closed = False
        self._is_suspect = False
        self._opened = 0
        self._changed = threading.Condition()  # for the five above

    def has_room(self, size: int) -> bool:
        """Return whether so many more bytes may be held."""
        return self._size + size <= MOST and not self._is_suspect

    def held(self, size: int) -> None:
        """Note that so many more bytes are held."""
        with self._changed:
            was_empty = not self._size
            self._size += size
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="settler", daemon=True)
                self._thread.start()
            if was_empty or self._size >= ENOUGH:  # for each object it would cost more than a sync
                self._changed.notify()

    def forget(self) -> None:
        """Note that the index is another one, which holds nothing; called with `changing` held."""
        self._opened += 1

    def close(self) -> None:
        """Settle what there is, and end."""
        with self._changed:
            self._is_closed = True
            self._changed.notify()
            thread = self._thread
        if thread is not None:
            thread.join()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._size or self._is_closed)
                self._changed.wait_for(
                    lambda: self._is_closed or (self._size >= ENOUGH and not self._is_suspect),
                    SETTLE_AFTER,
                )
                is_last = self._is_closed
            try:
                self._settle()
            except (OSError, IndexFailure) as error:
                cause = getattr(error, "orig", None) or error
                LOGGER.error("Files that the index holds cannot be synced: %s", cause)
            if is_last:
                return

    def _settle(self) -> None:
        size, opened = self._size, self._opened
        if not size:
            return
        names = self._index.names_held()
        if names:
            self._sync([name for _, name in names])
            with self._changing:
                if self._opened != opened:
                    return
                with self._index.writing() as writer:
                    writer.let_go(names[-1][0])
        with self._changed:
            self._size -= size

    def _sync(self, names: list[str]) -> None:
        """Sync files. Where that failed the system may have thrown away what it was to write."""
        try:
            if self._is_suspect:
                with self._changing:
                    _write_again(self._storage, self._index)
            self._storage.sync(names)
        except OSError:
            self._is_suspect = True
            raise
        self._is_suspect = False
