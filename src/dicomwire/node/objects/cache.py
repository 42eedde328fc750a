"""Copies of a bucket's objects on the local disk, so that those that are read often are near.

Losing it loses nothing. `bucket` has the objects.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import shutil
import threading
from collections.abc import Callable, Iterator
from io import BufferedReader
from pathlib import Path
from typing import NamedTuple

from dicomwire.leftovers import ABANDONED_AFTER, remove_leftovers
from dicomwire.node.files import Damaged
from dicomwire.node.heads import digest_of, read_head
from dicomwire.node.objects.reader import FIRST, LONGEST, RangeReader, is_key

LOGGER = logging.getLogger("dicomwire")

_SHARE = 32
"""Objects of more than this fraction of the cache are not kept. After the same fraction has been
written, a process looks how full the cache is."""
_KEPT = 7 / 8
"""The fraction of the cache that is kept when it is full. What is free then is enough for four
processes, until each of them looks again."""

_is_copy = re.compile(r"[0-9a-f]{30}\.dcm").fullmatch
_is_new = re.compile(r"[0-9a-f]{32}\.part").fullmatch


class Cache:
    """A folder of copies, of a bounded size. Safe to use from any thread and several processes.

    A copy is verified by the seal in its head whenever it is opened, since a crash or a bad sector
    may have damaged it. The ones that were not used for longest are removed first.

    Parameters
    ----------
    folder : Path
        Made if it is missing.
    size : int
        In bytes. It is exceeded only for the time in which more than four processes fill it.
    fetch : callable
        Opens an object in the bucket.

    Raises
    ------
    OSError
        When the folder cannot be made.
    """

    def __init__(self, folder: Path, size: int, fetch: Callable[..., RangeReader]) -> None:
        self._folder = folder
        self._size = size
        self._fetch = fetch
        self._written = size  # so that the first copy looks how full the cache is
        self._looking = threading.Lock()  # only one thread looks; the others go on
        self._is_reported = False
        folder.mkdir(0o700, parents=True, exist_ok=True)  # others must not read patient data

    def open(self, name: str) -> BufferedReader:
        """Return an object, open for reading: its copy, which is made if it is missing.

        Raises
        ------
        FileNotFoundError
            When the bucket does not have it.
        OSError
            When it cannot be read, or is `Damaged` in the bucket.
        """
        path = self._path(name)
        copy = self._open_copy(path)
        if copy is not None:
            return copy
        reader = self._fetch(name, first=min(LONGEST, self._size // _SHARE))
        if reader.size > self._size // _SHARE:
            return BufferedReader(reader)
        try:
            copy = self._copy(reader, path)
        except Damaged:
            raise
        except OSError as error:
            # Either the disk or the bucket failed; the reader raises the error of the latter.
            self._report(error)
            reader.seek(0)
            return BufferedReader(reader)
        reader.close()
        return copy

    def remove(self, name: str) -> None:
        """Remove the copy of an object that is removed from the bucket. It never raises."""
        with contextlib.suppress(OSError):
            self._path(name).unlink()

    def _path(self, name: str) -> Path:
        if not is_key(name):
            raise FileNotFoundError(f"{name} is no name of an object in a bucket")
        return self._folder / name

    def _open_copy(self, path: Path) -> BufferedReader | None:
        """Return a copy, positioned at its beginning; None if there is none that is intact."""
        try:
            file = path.open("rb")
        except OSError:
            return None
        try:
            if _is_intact(file):
                os.utime(path)  # it was used
                return file
            LOGGER.warning("The copy %s in the cache is damaged, and is removed", path.name)
            path.unlink()
        except OSError as error:
            if not isinstance(error, FileNotFoundError):  # another process has removed it
                self._report(error)
        file.close()
        return None

    def _copy(self, reader: RangeReader, path: Path) -> BufferedReader:
        """Write a copy; return it, open for reading."""
        path.parent.mkdir(0o700, exist_ok=True)
        new = self._folder / f"{os.urandom(16).hex()}.part"
        try:
            with open(new, "xb", opener=_private) as file:
                shutil.copyfileobj(reader, file, LONGEST)
            copy = new.open("rb")
            try:
                if not _is_intact(copy):
                    raise Damaged(f"{path.name} is damaged in the bucket")
                os.replace(new, path)
            except BaseException:
                copy.close()
                raise
        except BaseException:
            new.unlink(missing_ok=True)
            raise
        self._make_room(reader.size)
        return copy

    def _make_room(self, written: int) -> None:
        """Note that so many bytes were written; remove old copies if the cache may be full."""
        self._written += written
        if self._written < self._size // _SHARE or not self._looking.acquire(blocking=False):
            return
        try:
            self._written = 0
            remove_leftovers(str(self._folder), _is_new, ABANDONED_AFTER)
            copies = [*self._copies()]
            total = sum(copy.size for copy in copies)
            if total > self._size * _KEPT:
                for copy in sorted(copies):
                    with contextlib.suppress(OSError):
                        os.unlink(copy.path)
                    total -= copy.size
                    if total <= self._size * _KEPT:
                        break
        finally:
            self._looking.release()

    def _copies(self) -> Iterator[_Copy]:
        with os.scandir(self._folder) as folders:
            for folder in folders:
                if folder.is_dir(follow_symlinks=False):
                    with contextlib.suppress(FileNotFoundError), os.scandir(folder) as files:
                        for file in files:
                            if _is_copy(file.name):
                                status = file.stat(follow_symlinks=False)
                                yield _Copy(status.st_mtime_ns, status.st_size, file.path)

    def _report(self, error: OSError) -> None:
        """Log the first failure of the cache; each further object would have the same."""
        if not self._is_reported:
            self._is_reported = True
            LOGGER.error("The cache cannot be used: %s", error.strerror or error)


class _Copy(NamedTuple):
    """A file in the cache; sorted, the one that was used last is at the end."""

    used: int
    size: int
    path: str


def _is_intact(file: BufferedReader) -> bool:
    """Return whether a file is what its seal says; position it at its beginning."""
    try:
        size = os.fstat(file.fileno()).st_size
        origin, offset, seal = read_head(file.read(FIRST), size)
        is_intact = (
            seal is not None and digest_of(file, offset, origin.transfer_syntax_uid) == seal.digest
        )
    except ValueError:
        return False
    file.seek(0)
    return is_intact


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
