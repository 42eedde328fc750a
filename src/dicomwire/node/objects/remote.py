"""The objects of a node in a bucket, with a cache on the local disk if there is one.

`bucket` makes the requests.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from io import BufferedReader
from pathlib import Path

from dicomwire.logs import counted
from dicomwire.node.files import remove
from dicomwire.node.heads import Origin
from dicomwire.node.journal import Batch
from dicomwire.node.objects.bucket import Bucket, name_of
from dicomwire.node.objects.cache import Cache
from dicomwire.node.objects.reader import LONGEST, is_key
from dicomwire.node.objects.spool import Spool, Spooled

LOGGER = logging.getLogger("dicomwire")


class RemoteObjects:
    """The objects in a bucket; see `port.Objects`.

    An object is uploaded by the thread that received it, before the batch: uploads take long, and
    this way as many overlap as there are associations. If the object does not become part of the
    archive (a duplicate, for example), it is removed again. Until either is done, the spool has a
    note of it: a crash before that leaves it in the bucket, complete and without a row in the
    index, and the next start removes it (see `carrying.settle`). With several nodes, the index has
    its name, too, so that another one can remove it (see `uploads`).

    Parameters
    ----------
    bucket : Bucket
    cache : Cache or None
    spool : Spool or None
        For local copies, and notes of uploads; without it, nothing can be stored.
    """

    def __init__(self, bucket: Bucket, cache: Cache | None, spool: Spool | None) -> None:
        self._bucket = bucket
        self._cache = cache
        self._spool = spool
        self._make_file = _temporary_file if spool is None else spool.make_file

    can_wait = False

    def owns(self, name: str) -> bool:
        """Return whether a name is one of an object in a bucket."""
        return is_key(name) is not None

    def unsure(self) -> None:
        """Return None: to list a bucket takes long, and other nodes are uploading to it."""

    # --- Reading ---

    def path(self, name: str) -> None:
        """Return None: a copy in the cache may be removed at any time."""

    def open(self, name: str) -> BufferedReader:
        """Open an object: its copy in the cache, or the object in the bucket."""
        if self._cache is not None:
            return self._cache.open(name)
        return BufferedReader(self._bucket.open(name))

    @contextlib.contextmanager
    def local(self, name: str) -> Iterator[Path]:
        """Yield a temporary copy of an object."""
        path = self._make_file()
        try:
            with self.open(name) as file, path.open("wb") as copy:
                shutil.copyfileobj(file, copy, LONGEST)
            yield path
        finally:
            path.unlink(missing_ok=True)

    def exists(self, name: str) -> bool:
        """Return whether the bucket has an object."""
        return self._bucket.exists(name)

    def names(self) -> Iterator[str]:
        """Yield the names of all objects, sorted."""
        return self._bucket.names()

    # --- Writing ---

    def keep(self, spooled: Spooled, origin: Origin) -> None:
        """Upload an object."""
        assert self._spool is not None
        note = self._spool.begin_upload()
        # If it fails, the note stays: the bucket may have the object all the same.
        name = self._bucket.upload(spooled.whole(origin), note.stem)
        spooled.lend(name, partial(self._take_away, name, note), note)

    is_journaled = False

    def new_names(self, objects: Sequence[Spooled]) -> list[str]:
        """Return the names that `keep` has given the objects."""
        return [spooled.name for spooled in objects]

    def put(self, objects: Sequence[Spooled], names: Sequence[str], batch: Batch) -> None:
        """Leave uploaded objects in the bucket."""
        for spooled in objects:
            spooled.give()

    def finish(self, objects: Sequence[Spooled], names: Sequence[str]) -> None:
        """Nothing: `put` has done all."""

    def take_back(self, objects: Sequence[Spooled], names: Sequence[str]) -> None:
        """Undo `put`."""
        for spooled in objects:
            spooled.take_back()

    def _take_away(self, name: str, note: Path) -> None:
        """Remove an object, and then its note. It never raises."""
        if self._removed([name]):
            remove(str(note))

    def name_of(self, digits: str) -> str:
        """Return the name of a copy."""
        return name_of(digits)

    def copy(self, path: Path, digits: str) -> str:
        """Upload the whole file of an object."""
        return self._bucket.upload(path, digits)

    def remove(self, names: Iterable[str]) -> None:
        """Remove objects, those that exist, and their copies in the cache of this node."""
        names = [*names]
        self._bucket.remove(names)
        if self._cache is not None:
            for name in names:
                self._cache.remove(name)

    def withdraw(self, names: Iterable[str]) -> None:
        """Remove objects. It never raises; those that remain are in no index."""
        self._removed([*names])

    def _removed(self, names: Sequence[str]) -> bool:
        try:
            if names:
                self.remove(names)
        except OSError as error:
            LOGGER.error("%s cannot be removed: %s", counted(len(names), "object"), error)
            return False
        return True


def _temporary_file() -> Path:
    descriptor, path = tempfile.mkstemp(prefix="dicomwire-")
    os.close(descriptor)
    return Path(path)
