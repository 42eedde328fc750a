"""The interface of a store of objects; the node uses no other.

`folder` is one. An object in it is a DICOM file with the head that `heads` makes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from io import BufferedReader
from pathlib import Path
from typing import Protocol

from dicomwire.node.heads import Origin
from dicomwire.node.journal import Batch
from dicomwire.node.objects.spool import Spooled


class Objects(Protocol):
    """A store of objects. Names are made by it, and contain no text of a peer.

    Any thread may use all methods at any time, except that only one thread at a time stores
    (`put`, `finish`, `take_back`, `withdraw`).
    """

    @property
    def is_journaled(self) -> bool:
        """Whether `put` writes a journal."""

    @property
    def can_wait(self) -> bool:
        """Whether new objects are stored while a part of the store cannot be reached."""

    def owns(self, name: str) -> bool:
        """Return whether a name is one that this store makes."""

    def unsure(self) -> Objects | None:
        """Return the part of the store to compare with the index at each start; None for none.

        Only this part may differ from the index after a crash, and listing it is quick.
        """

    def keep(self, spooled: Spooled, origin: Origin) -> None:
        """Make an object durable, but not yet part of the store; OSError if that fails.

        The thread of each association does this for its own object. So large objects do not delay
        small ones, and syncs and transfers of several overlap.
        """

    def new_names(self, objects: Sequence[Spooled]) -> list[str]:
        """Return the names for the index that kept objects will have in the store.

        Raises
        ------
        OSError
            When the store cannot have them.
        """

    def put(self, objects: Sequence[Spooled], names: Sequence[str], batch: Batch) -> None:
        """Make kept objects part of the store, durably, under these of `new_names`.

        This takes little time: the index is locked meanwhile. A store that `is_journaled` notes
        `batch` in its journal, so that the index can be made durable later. It need not have the
        files before `finish`.

        Raises
        ------
        OSError
            When it fails for one of them; then `take_back` is to be called.
        """

    def finish(self, objects: Sequence[Spooled], names: Sequence[str]) -> None:
        """Complete `put`, so that the objects can be opened.

        Raises
        ------
        OSError
            When it fails for one of them; then `take_back` is to be called, or the journal redone.
        """

    def take_back(self, objects: Sequence[Spooled], names: Sequence[str]) -> None:
        """Undo `put`, also one that has failed or was not called, so that it can be called again.

        It never raises.
        """

    def name_of(self, digits: str) -> str:
        """Return the name of a copy; see `copy`."""

    def copy(self, path: Path, digits: str) -> str:
        """Store the whole DICOM file of an object, durably; return its name.

        The name has the 32 hex `digits`, and `name_of` returns it. So a copy that is made again,
        since nothing is known of the first one after a crash, replaces that.

        Raises
        ------
        OSError
            When it cannot be read or stored.
        """

    def remove(self, names: Iterable[str]) -> None:
        """Remove objects, those that exist; OSError if one cannot be removed."""

    def withdraw(self, names: Iterable[str]) -> None:
        """Remove objects. It never raises; `reconcile` or `check` finds those that remain."""

    def exists(self, name: str) -> bool:
        """Return whether the store has an object; OSError if that cannot be determined."""

    def path(self, name: str) -> Path | None:
        """Return the path of an object that is a local file; None if it is not.

        There may be no file any more.
        """

    def open(self, name: str) -> BufferedReader:
        """Open an object for reading: from its first byte, seekable, to be closed by the caller.

        Raises
        ------
        FileNotFoundError
            When there is no such object.
        OSError
            When it cannot be read.
        """

    def local(self, name: str) -> AbstractContextManager[Path]:
        """Return a context manager that gives a local file with an object; raises as `open`.

        A file of the folder need not exist any more.
        """

    def names(self) -> Iterator[str]:
        """Return an iterator over the names of all objects, sorted by code points."""
