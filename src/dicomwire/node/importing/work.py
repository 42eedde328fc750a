"""Brings files into an archive, on the way that received objects take, many at a time.

It may run beside nodes that serve the archive, as one more of their processes would.
"""

from __future__ import annotations

import errno
import logging
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from typing import BinaryIO

from pydicom.uid import MediaStorageDirectoryStorage

from dicomwire.data.codec import DatasetError
from dicomwire.logs import escaped
from dicomwire.node.archive import Archive
from dicomwire.node.batches import Arrived
from dicomwire.node.heads import read_head
from dicomwire.node.importing.progress import ImportCounts, Progress
from dicomwire.node.importing.sources import Candidate, Failure, PassedOver, Source
from dicomwire.node.ingest import Unacceptable
from dicomwire.node.objects.spool import KEPT_IN_MEMORY
from dicomwire.node.statuses import COERCED, NOT_STORED, OUT_OF_RESOURCES, SUCCESS

LOGGER = logging.getLogger("dicomwire.node")

_GROUP = 64
"""The files that a thread takes at a time; small ones share a sync and a transaction."""
_GROUP_BYTES = 4 * 2**20
"""So many bytes in memory end a batch: a quarter of what a part of the journal is for."""
_BEGIN = 64 * 1024
"""The bytes that must have the file meta information."""
_PIECE = 256 * 1024
_PREFIX = slice(128, 132)

Report = Callable[[Candidate, str], None]
"""Called for each file that failed, with the reason."""


class CannotStore(Exception):
    """The archive cannot store objects now; the import can go on later."""


class Import:
    """The import of one source.

    Parameters
    ----------
    archive : Archive
    source : Source
    progress : Progress
        Where to begin; it is kept up to date.
    report : callable
        Called in one thread at a time.
    moves : bool
        Whether to remove each file whose object is in the archive.
    """

    def __init__(
        self,
        archive: Archive,
        source: Source,
        progress: Progress,
        report: Report,
        moves: bool = False,
    ) -> None:
        self._archive = archive
        self._source = source
        self._progress = progress
        self._report = report
        self._moves = moves

    def run(self, threads: int) -> Iterator[ImportCounts]:
        """Import all files; yield the numbers after each group of them.

        Raises
        ------
        CannotStore
            When the archive has no room, or its index cannot be written, for example.
        OSError
            When the progress cannot be written.
        """
        candidates = self._source.candidates(self._progress.position)
        waiting: deque[tuple[Candidate, Future[_Done]]] = deque()
        with ThreadPoolExecutor(threads, "import") as pool:
            try:
                while group := [*islice(candidates, _GROUP)]:
                    waiting.append((group[-1], pool.submit(self._bring, group)))
                    if len(waiting) > 2 * threads:  # enough that no thread waits for this one
                        yield self._conclude(*waiting.popleft())
                while waiting:
                    yield self._conclude(*waiting.popleft())
            finally:
                pool.shutdown(wait=True, cancel_futures=True)
        self._progress.forget()

    def _conclude(self, last: Candidate, future: Future[_Done]) -> ImportCounts:
        """Wait for the oldest group; note that all files up to its last one are done."""
        done = future.result()
        for candidate, reason in done.failures:
            self._report(candidate, reason)
        self._progress.counts.add(done.counts)
        self._progress.position = last.position
        self._progress.save()
        return self._progress.counts

    # --- On the threads of the pool ---

    def _bring(self, group: Sequence[Candidate]) -> _Done:
        done = _Done()
        batch: list[tuple[Candidate, Arrived]] = []
        try:
            in_memory = 0
            for candidate in group:
                arrived = self._read(candidate, done)
                if arrived is not None:
                    batch.append((candidate, arrived))
                    in_memory += min(arrived.spooled.size, KEPT_IN_MEMORY)
                if in_memory >= _GROUP_BYTES:
                    self._store(batch, done)
                    in_memory = 0
            self._store(batch, done)
        finally:
            for _, arrived in batch:
                arrived.spooled.discard()
        return done

    def _read(self, candidate: Candidate, done: _Done) -> Arrived | None:
        """Return the object in a file; None if it has none, which is noted."""
        try:
            with self._source.open(candidate) as (file, size):
                return self._spooled(file, size)
        except PassedOver as reason:
            LOGGER.debug("%s is passed over: %s", escaped(candidate.label), reason)
            done.counts.passed_over += 1
        except Unacceptable as error:
            done.fail(candidate, str(error))
        except OSError as error:
            if error.errno == errno.ENOSPC:  # also if it is less than `min_free_space`
                raise CannotStore(error.strerror) from None
            done.fail(candidate, error.strerror or str(error))
        except (Failure, DatasetError) as error:
            done.fail(candidate, str(error))
        return None

    def _spooled(self, file: BinaryIO, size: int) -> Arrived:
        begin = file.read(_BEGIN)
        if begin[_PREFIX] != b"DICM":
            raise PassedOver("it is no DICOM file")
        origin, offset, seal = read_head(begin, size)
        if origin.sop_class_uid == MediaStorageDirectoryStorage:
            raise PassedOver("it is a DICOMDIR")
        sink = self._archive.spool.sink()
        try:
            sink.write([memoryview(begin)[offset:]])
            while piece := file.read(_PIECE):
                sink.write([memoryview(piece)])
        except BaseException:
            sink.discard()
            raise
        spooled = sink.finish()
        try:
            if seal is not None and spooled.digest(origin.transfer_syntax_uid) != seal.digest:
                raise Failure("it is damaged: its digest differs from that in its head")
            title = self._archive.configuration.ae_title
            return self._archive.committer.read(spooled, origin._replace(source_ae=title))
        except BaseException:
            spooled.discard()
            raise

    def _store(self, batch: list[tuple[Candidate, Arrived]], done: _Done) -> None:
        """Store objects in one batch, and empty it."""
        statuses = self._archive.committer.store_all([arrived for _, arrived in batch])
        if OUT_OF_RESOURCES in statuses:
            raise CannotStore(NOT_STORED[OUT_OF_RESOURCES])
        for (candidate, arrived), status in zip(batch, statuses, strict=True):
            if status not in (SUCCESS, COERCED):
                done.fail(candidate, NOT_STORED.get(status, f"status 0x{status:04X}"))
                continue
            done.counts.stored += arrived.is_new
            done.counts.known += not arrived.is_new
            if self._moves and not arrived.is_discarded:
                self._remove(candidate, done)
        for _, arrived in batch:
            arrived.spooled.discard()
        batch.clear()

    def _remove(self, candidate: Candidate, done: _Done) -> None:
        try:
            self._source.remove(candidate)
            done.counts.removed += 1
        except OSError as error:
            done.failures.append((candidate, f"it is stored, but not removed: {error.strerror}"))


@dataclass
class _Done:
    """The result of a group."""

    counts: ImportCounts = field(default_factory=ImportCounts)
    failures: list[tuple[Candidate, str]] = field(default_factory=list)

    def fail(self, candidate: Candidate, reason: str) -> None:
        self.counts.failed += 1
        self.failures.append((candidate, reason))
