"""Objects in files of a folder, under generated names; other programs can read them, too."""

from __future__ import annotations

import contextlib
import os
import shutil
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from io import BufferedReader
from pathlib import Path
from typing import BinaryIO, TypeVar

from dicomwire.data.new_files import Buffer, write_all
from dicomwire.node.files import (
    CAN_SYNC_FILE_SYSTEM,
    is_missing,
    remove,
    sync_file,
    sync_file_system,
    sync_folder,
)
from dicomwire.node.heads import Origin
from dicomwire.node.journal import Batch, Journal
from dicomwire.node.objects.spool import Spooled

_T = TypeVar("_T")
OBJECTS = "objects"
_BEGIN = f"{OBJECTS}/"
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
FILES_PER_FOLDER = 1000
"""The number of files in a folder before the next one is begun.

The objects of a batch go to one folder, which takes one sync. (If the name of each file chose the
folder, each object would take one: with eight objects at a time, that doubles the time.)
"""


class FolderObjects:
    """The objects in a node's folder; see `port.Objects`.

    A name is the path relative to the folder, with "/": objects/ab/cd/<32 hex digits>.dcm

    Parameters
    ----------
    folder : Path
        The node's folder; nothing is made in it before the first object.
    journal : Journal, optional
        Of this process; needed to store objects. The caller closes it.
    """

    def __init__(self, folder: str | os.PathLike[str], journal: Journal | None = None) -> None:
        self.folder = Path(folder).absolute()
        self._root = os.path.join(self.folder, "")
        self.journal = journal
        self._current = ""
        self._room = 0
        self._is_noted = False
        """Whether the last batch that was put is in the journal."""
        self._devices: dict[int, int] = {}
        """An open folder of each file system that has files written without a sync."""
        self._made: set[str] = set()
        """The folders that `write` has made, durably, or found."""
        self._making = threading.Lock()
        """Guards `_made`; who waits for it finds the folder durable."""

    can_wait = False

    def owns(self, name: str) -> bool:
        """Return whether a name is one of a file in the folder."""
        return name.startswith(_BEGIN)

    def unsure(self) -> FolderObjects:
        """Return all objects: a crash leaves files that are not in the index."""
        return self

    # --- Reading ---

    def path(self, name: str) -> Path:
        """Return the path of an object's file."""
        return Path(self._root + name)

    def open(self, name: str) -> BufferedReader:
        """Open an object's file."""
        return open(self._root + name, "rb")

    @contextlib.contextmanager
    def local(self, name: str) -> Iterator[Path]:
        """Yield the path of an object's file."""
        yield self.path(name)

    def exists(self, name: str) -> bool:
        """Return whether an object's file exists."""
        return not is_missing(self.path(name))

    def names(self) -> Iterator[str]:
        """Yield the names of all files, sorted; only the names of one folder are in memory."""
        for first in _names(self._root + OBJECTS, "/"):
            for second in _names(f"{self._root}{OBJECTS}/{first}", "/"):
                folder = f"{OBJECTS}/{first}/{second}"
                for name in _names(self._root + folder, ""):
                    if name.endswith(".dcm"):
                        yield f"{folder}/{name}"

    # --- Writing ---

    def keep(self, spooled: Spooled, origin: Origin) -> None:
        """Complete an object's file; a large one is in the spool, and is synced there."""
        spooled.seal(origin)

    @property
    def is_journaled(self) -> bool:
        """Whether there is a journal, which is needed to store objects."""
        return self.journal is not None

    def new_names(self, objects: Sequence[Spooled]) -> list[str]:
        """Return a name for each object, in one folder, which is made if it is missing."""
        self._is_noted = False
        return [self._new_name() for _ in objects]

    def put(self, objects: Sequence[Spooled], names: Sequence[str], batch: Batch) -> None:
        """Write a record of the journal, with the small objects.

        A large object is not in the journal. `seal` has synced its file before this renames it, so
        that a published file is complete, also after a power failure. All files of a batch go to
        one folder, and for large ones it is synced once.
        """
        assert self.journal is not None
        files = [spooled.content for spooled in objects]
        if not all(files):
            self._move_large(objects, names)
        self.journal.append(batch, names, files)
        self._is_noted = True

    def finish(self, objects: Sequence[Spooled], names: Sequence[str]) -> None:
        """Write the files of the small objects."""
        for spooled, name in zip(objects, names, strict=True):
            content = spooled.content
            if content:
                self._in_its_folder(name, _write_new, content)

    def _move_large(self, objects: Sequence[Spooled], names: Sequence[str]) -> None:
        """Rename the files of large objects, durably."""
        folders = set()
        for spooled, name in zip(objects, names, strict=True):
            if not spooled.content:
                self._in_its_folder(name, Spooled.move, spooled)
                folders.add(name.rpartition("/")[0])
        for folder in folders:
            sync_folder(self._root + folder)

    def take_back(self, objects: Sequence[Spooled], names: Sequence[str]) -> None:
        """Undo `put`: large files go back to the spool."""
        for spooled, name in zip(objects, names, strict=False):
            if spooled.content:
                remove(self._root + name)
            else:
                spooled.move_back(self._root + name)
        # Afterwards: a start removes the rest of a file only if the journal has its name.
        if self._is_noted:
            self._is_noted = False
            assert self.journal is not None
            self.journal.take_back()

    def _new_name(self) -> str:
        """Return a new name in the current folder."""
        if not self._room:
            digits = os.urandom(2).hex()
            self._current, self._room = f"{OBJECTS}/{digits[:2]}/{digits[2:]}", FILES_PER_FOLDER
            self._make_folder(self._current)
        self._room -= 1
        return f"{self._current}/{os.urandom(16).hex()}.dcm"

    def _make_folder(self, folder: str) -> None:
        """Make a folder for files, durably."""
        os.makedirs(self._root + folder, exist_ok=True)
        for changed in (folder.rpartition("/")[0], OBJECTS, ""):
            sync_folder(self._root + changed)
        if CAN_SYNC_FILE_SYSTEM:
            device = os.stat(self._root + folder).st_dev
            if device not in self._devices:
                # Kept open, since by it `sync` learns of errors from now on.
                self._devices[device] = os.open(self._root + folder, os.O_RDONLY)

    def _in_its_folder(self, name: str, make: Callable[[_T, str], None], of: _T) -> None:
        """Make a file of something; if its folder has been removed, make that first."""
        path = self._root + name
        try:
            make(of, path)
        except FileNotFoundError:
            if os.path.isdir(os.path.dirname(path)):
                raise
            self._make_folder(name.rpartition("/")[0])
            make(of, path)

    def sync(self, names: Iterable[str]) -> None:
        """Make all files durable that were written without a sync; `names` are those.

        Raises
        ------
        OSError
            When that fails. The system may have dropped what it could not write, and would not
            tell again. So the files have to be restored.
        """
        if CAN_SYNC_FILE_SYSTEM:
            for descriptor in self._devices.values():
                sync_file_system(descriptor)
            return
        folders = set()
        for name in names:
            folders.add(name.rpartition("/")[0])
            with contextlib.suppress(FileNotFoundError):  # it has been replaced
                sync_file(self._root + name)
        for folder in folders:
            with contextlib.suppress(FileNotFoundError):
                sync_folder(self._root + folder)

    def restore(self, name: str, content: bytes) -> None:
        """Write a file anew, without a sync; those who are reading the old one can go on."""
        path = self._root + name
        self._make_folder(name.rpartition("/")[0])
        remove(f"{path}.new")
        _write_new([content], f"{path}.new")
        os.replace(f"{path}.new", path)

    def close(self) -> None:
        """Close what `sync` needs."""
        while self._devices:
            os.close(self._devices.popitem()[1])

    def name_of(self, digits: str) -> str:
        """Return the name of a copy."""
        return f"{OBJECTS}/{digits[:2]}/{digits[2:4]}/{digits}.dcm"

    def copy(self, path: Path, digits: str) -> str:
        """Copy the whole file of an object to the folder, durably."""
        with path.open("rb") as source:
            return self.write(source, self.name_of(digits).rpartition("/")[0], digits)

    def write(self, source: BinaryIO, folder: str, digits: str) -> str:
        """Write the whole file of an object, durably; return its name. Any thread may do this."""
        with self._making:
            if folder not in self._made or not os.path.isdir(self._root + folder):
                os.makedirs(self._root + folder, exist_ok=True)
                for changed in (folder.rpartition("/")[0], OBJECTS, ""):
                    sync_folder(self._root + changed)
                self._made.add(folder)
        name = f"{folder}/{digits}.dcm"
        new = f"{self._root}{folder}/{digits}.part"
        try:
            with open(new, "wb", opener=_private) as file:
                shutil.copyfileobj(source, file)
                file.flush()
                os.fsync(file.fileno())
            os.rename(new, self._root + name)
        except BaseException:
            remove(new)
            raise
        sync_folder(self._root + folder)
        return name

    def remove(self, names: Iterable[str]) -> None:
        """Remove published files, those that exist, durably."""
        folders = set()
        for name in names:
            self.path(name).unlink(missing_ok=True)
            folders.add(name.rpartition("/")[0])
        for folder in folders:
            with contextlib.suppress(FileNotFoundError):
                sync_folder(self._root + folder)

    def withdraw(self, names: Iterable[str]) -> None:
        """Remove published files. It never raises: the next start finds those that remain."""
        for name in names:
            remove(self._root + name)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _names(folder: str, then: str) -> list[str]:
    """Return the names in a folder, in the order of the paths that they and `then` begin."""
    try:
        return sorted(os.listdir(folder), key=lambda name: name + then)
    except (NotADirectoryError, FileNotFoundError):
        return []


def _write_new(content: Sequence[Buffer], path: str) -> None:
    descriptor = os.open(path, _NEW_FILE, 0o600)
    try:
        write_all(descriptor, content)
    finally:
        os.close(descriptor)
