"""The node's files: received into the spool, made durable, then moved to the folder of objects.

This module does not use the index. File names are random; they contain no text of a peer.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from dicomwire.leftovers import ABANDONED_AFTER, remove_leftovers
from dicomwire.node.objects.files import lock, remove, sync_folder
from dicomwire.node.objects.spool import Spooled, SpoolSink, new_file

SPOOL = "spool"
OBJECTS = "objects"
FILES_PER_FOLDER = 1000
"""The number of files in a folder before the next one is begun.

The objects of a batch go to one folder, which takes one sync. (If the name of each file chose the
folder, each object would take one: with eight objects at a time, that doubles the time.)
"""

_is_spooled = re.compile(r"[0-9a-f]{32}\.(part|dcm)|dicomwire-[0-9a-f]{32}\.dcm").fullmatch
"""Whether a name is one that the node uses in the spool: for a file being received (part), one
moved back after a failure (dcm), or one that the library made for a handler (dicomwire-)."""


class Files:
    """Read access to the objects in a node's folder."""

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder).absolute()
        self._root = os.path.join(self.folder, "")

    def open_path(self, file: str) -> Path:
        """Return the path of `file`, a name as in the index."""
        return Path(self._root + file)

    def files(self) -> Iterator[str]:
        """Yield the names of all files, sorted; only the names of one folder are in memory."""
        for first in _names(self._root + OBJECTS, "/"):
            for second in _names(f"{self._root}{OBJECTS}/{first}", "/"):
                folder = f"{OBJECTS}/{first}/{second}"
                for name in _names(self._root + folder, ""):
                    if name.endswith(".dcm"):
                        yield f"{folder}/{name}"


class Storage(Files):
    """The folder of a node; only one process may use it at a time.

    Parameters
    ----------
    folder : Path
        Made if it is missing. Files that an earlier process left in the spool are removed.
    ceiling : int or None
        The most bytes of a dataset; larger ones are answered with 0xA700.

    Raises
    ------
    StorageInUse
        When another process uses it.
    OSError
        When it cannot be made or written to.
    """

    def __init__(self, folder: str | os.PathLike[str], ceiling: int | None = None) -> None:
        super().__init__(folder)
        self._spool = self._root + SPOOL
        self._ceiling = ceiling
        self._current = ""
        self._room = 0
        self.folder.mkdir(0o700, parents=True, exist_ok=True)  # others must not read patient data
        self._lock = lock(self._root + "lock")
        try:
            os.makedirs(self._spool, exist_ok=True)
            os.makedirs(self._root + OBJECTS, exist_ok=True)
            sync_folder(self._root)
            sync_folder(os.path.dirname(self.folder))
            # If the spool is a link, other programs may use the folder it points to: keep their
            # recent files. Otherwise, the lock guarantees that all files are left over.
            age = ABANDONED_AFTER if os.path.islink(self._spool) else 0.0
            remove_leftovers(self._spool, _is_spooled, age)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Storage:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Allow other processes to use the folder."""
        lock, self._lock = self._lock, -1
        if lock >= 0:
            os.close(lock)

    def sink(self, request: object = None) -> SpoolSink:
        """Return the sink for the dataset of a C-STORE request; for `receive_to`."""
        return SpoolSink(self._spool, self._ceiling)

    def make_file(self) -> Path:
        """Make an empty file in the spool, and return its path; the caller removes it."""
        path, descriptor = new_file(self._spool)
        os.close(descriptor)
        return Path(path)

    def publish(self, objects: Sequence[Spooled]) -> list[str]:
        """Move sealed files to the folder of objects, durably; return their names for the index.

        Only one thread may call this at a time. `seal` has synced each file before this renames
        it, so that each published file is complete, also after a power failure. All files go to
        one folder, which is synced once. (To rename before the sync would save some 80 µs of 400
        on ext4, where one commit of the journal then covers both, but a power failure could leave
        an incomplete file.)

        Raises
        ------
        OSError
            When it fails for one of them; then none is published.
        """
        names: list[str] = []
        try:
            for spooled in objects:
                names.append(self._place(spooled))
            for folder in {name.rpartition("/")[0] for name in names}:
                sync_folder(self._root + folder)
        except BaseException:
            self.take_back(objects, names)
            raise
        return names

    def take_back(self, objects: Sequence[Spooled], names: Sequence[str]) -> None:
        """Undo `publish`, also if it stopped half-way: move the files back to the spool."""
        for spooled, name in zip(objects, names, strict=False):
            spooled.move_back(self._root + name)

    def _place(self, spooled: Spooled) -> str:
        name = f"{self._folder()}/{os.urandom(16).hex()}.dcm"
        try:
            spooled.move(self._root + name)
        except FileNotFoundError:
            if os.path.isdir(self._root + self._current):
                raise
            self._room = 0  # the folder was removed
            name = f"{self._folder()}/{os.urandom(16).hex()}.dcm"
            spooled.move(self._root + name)
        self._room -= 1
        return name

    def _folder(self) -> str:
        """Return the current folder for new files; make a new one, durably, if it is full."""
        if not self._room:
            digits = os.urandom(2).hex()
            parent = f"{OBJECTS}/{digits[:2]}"
            current = f"{parent}/{digits[2:]}"
            os.makedirs(self._root + current, exist_ok=True)
            sync_folder(self._root + parent)
            sync_folder(self._root + OBJECTS)
            self._current, self._room = current, FILES_PER_FOLDER
        return self._current

    def withdraw(self, names: Iterable[str]) -> None:
        """Remove published files. It never raises: the next start finds those that remain."""
        for name in names:
            remove(self._root + name)


def _names(folder: str, then: str) -> list[str]:
    """Return the names in a folder, in the order of the paths that they and `then` begin."""
    try:
        return sorted(os.listdir(folder), key=lambda name: name + then)
    except (NotADirectoryError, FileNotFoundError):
        return []
