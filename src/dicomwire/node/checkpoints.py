"""Makes durable, now and then, what is only in the journal; see `journal`."""

from __future__ import annotations

import contextlib
import errno
import logging
import threading
from collections.abc import Iterator

from dicomwire.node.index.database import IndexFailure, reason_of
from dicomwire.node.index.writer import Index
from dicomwire.node.journal import Journal
from dicomwire.node.objects.folder import FolderObjects
from dicomwire.node.replay import redo, replay

LOGGER = logging.getLogger("dicomwire")

INTERVAL = 10.0
"""Seconds after which a record is no longer needed, so that a start has little to replay."""
RETRY = 10.0
"""Seconds to wait after a checkpoint that failed, before another one."""


@contextlib.contextmanager
def journaling(objects: FolderObjects, index: Index) -> Iterator[None]:
    """Let a store have a journal during the block; first redo what a crash has interrupted.

    Raises
    ------
    IndexFailure, OSError
        When the folder or the index cannot be used.
    """
    try:
        replay(objects, index)
        objects.journal = Journal(str(objects.folder))
        try:
            yield
        finally:
            journal, objects.journal = objects.journal, None
            journal.close()
    finally:
        objects.close()


class Checkpoints:
    """The thread that makes checkpoints. As a context manager, it ends after a last one.

    Parameters
    ----------
    objects : FolderObjects
        The store, with a journal.
    index : Index
        The index whose transactions are committed after their records are in the journal.
    commit_lock : threading.Lock
        Held by those who store, from the record of a batch to the end of its transaction.
    """

    def __init__(self, objects: FolderObjects, index: Index, commit_lock: threading.Lock) -> None:
        assert objects.journal is not None
        self._journal = objects.journal
        self._objects = objects
        self._index = index
        self._commit_lock = commit_lock
        self._ending = threading.Event()  # leaving the context sets it, and wakes the thread
        self._thread = threading.Thread(target=self._run, name="checkpoints", daemon=True)

    def __enter__(self) -> Checkpoints:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        self._journal.end()
        self._thread.join()

    def _run(self) -> None:
        goes_on = True
        while goes_on:
            goes_on = self._journal.wait(INTERVAL)
            try:
                self.make()
            except (OSError, IndexFailure) as error:
                text = "Nothing is stored until the journal can be made durable: %s"
                LOGGER.error(text, reason_of(error))
                if goes_on:
                    self._ending.wait(RETRY)

    def make(self) -> None:
        """Make a checkpoint.

        Raises
        ------
        OSError, IndexFailure
            When files or index cannot be synced. `make` must be called again, before which no
            object can be stored.
        """
        try:
            self._make()
        except (OSError, IndexFailure) as error:
            self._journal.fail(OSError(errno.EIO, reason_of(error)))
            raise

    def _make(self) -> None:
        # Without the lock, if possible: the thread that holds it may be waiting for a free part.
        parts = self._journal.retired()
        if not parts:
            with self._commit_lock:
                parts = self._journal.retire()
                if self._journal.failure is not None:
                    # The system may have dropped what it could not write, and not tell again. Or a
                    # batch that the journal has could not be completed.
                    redo(parts, self._objects, self._index)
        records = (record for part in parts for record in part.records())
        self._objects.sync(name for record in records for name in record.names)
        self._index.sync()
        self._journal.free(parts)
