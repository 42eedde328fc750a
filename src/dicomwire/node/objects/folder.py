"""Objects in files of a folder, under generated names; other programs can read them, too."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from io import BufferedReader
from pathlib import Path

from dicomwire.node.heads import Origin
from dicomwire.node.objects.files import is_missing, remove, sync_folder
from dicomwire.node.objects.spool import Spooled

OBJECTS = "objects"
_BEGIN = f"{OBJECTS}/"
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
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder).absolute()
        self._root = os.path.join(self.folder, "")
        self._current = ""
        self._room = 0

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
        """Complete an object's file in the spool, and sync it."""
        spooled.seal(origin)

    def put(self, objects: Sequence[Spooled]) -> list[str]:
        """Move sealed files to the folder of objects, durably; return their names.

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
        """Undo `put`, also if it stopped half-way: move the files back to the spool."""
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
            for changed in (parent, OBJECTS, ""):
                sync_folder(self._root + changed)
            self._current, self._room = current, FILES_PER_FOLDER
        return self._current

    def copy(self, path: Path, digits: str) -> str:
        """Copy the whole file of an object to the folder, durably."""
        folder = f"{OBJECTS}/{digits[:2]}/{digits[2:4]}"
        name = f"{folder}/{digits}.dcm"
        os.makedirs(self._root + folder, exist_ok=True)
        new = f"{self._root}{folder}/{digits}.part"
        try:
            with path.open("rb") as source, open(new, "wb", opener=_private) as file:
                shutil.copyfileobj(source, file)
                file.flush()
                os.fsync(file.fileno())
            os.rename(new, self._root + name)
        except BaseException:
            remove(new)
            raise
        for changed in (folder, folder[: -len("/cd")], OBJECTS, ""):
            sync_folder(self._root + changed)
        return name

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
