"""Several stores as one: new objects go to the first, and each of the others is still read.

The name of an object in the index says where it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from io import BufferedReader
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from dicomwire.node.heads import Origin
from dicomwire.node.journal import Batch
from dicomwire.node.objects.folder import OBJECTS
from dicomwire.node.objects.port import Objects
from dicomwire.node.objects.spool import Spooled

BUCKET = "bucket:"
"""The prefix of objects in a bucket. It does not say in which: so a bucket can be copied to another
one, and the index stays right."""
FOLDER = ""


class Elsewhere(OSError):
    """An object is in no place that this node can read; the text says where it is."""


class Place(NamedTuple):
    """A store, and the prefix in the index of the names of its objects."""

    prefix: str
    objects: Objects


class Places:
    """Stores as one; see `port.Objects`.

    Parameters
    ----------
    places : sequence of Place
        The store of new objects, and those of others.
    """

    def __init__(self, places: Sequence[Place]) -> None:
        self._places = {place.prefix: place for place in places}
        self.first = places[0]

    def place_of(self, name: str) -> Place:
        """Return the place of an object; `Elsewhere` if it is none of these."""
        prefix = name[: name.rfind(":") + 1]
        place = self._places.get(prefix)
        if place is None:
            raise Elsewhere(f"it is in {prefix.rstrip(':')!r}, which this node does not have")
        return place

    def objects_of(self, prefix: str) -> Objects:
        """Return the store of a place."""
        return self._places[prefix].objects

    def _find(self, name: str) -> tuple[Objects, str]:
        place = self.place_of(name)
        return place.objects, name.removeprefix(place.prefix)

    def owns(self, name: str) -> bool:
        """Return whether an object is in one of the places."""
        try:
            objects, own = self._find(name)
        except Elsewhere:
            return False
        return objects.owns(own)

    def unsure(self) -> Objects | None:
        """Return those to compare with the index; of the further places, those with objects."""
        unsure = []
        for place in self._places.values():
            part = place.objects.unsure()
            if part is not None and (place is self.first or next(part.names(), None) is not None):
                unsure.append(Place(place.prefix, part))
        return Places(unsure) if unsure else None

    # --- Reading ---

    def path(self, name: str) -> Path | None:
        """Return the path of an object that is a local file."""
        objects, own = self._find(name)
        return objects.path(own)

    def open(self, name: str) -> BufferedReader:
        """Open an object where it is."""
        objects, own = self._find(name)
        return objects.open(own)

    def local(self, name: str) -> AbstractContextManager[Path]:
        """Return a context manager that gives a local file with an object."""
        objects, own = self._find(name)
        return objects.local(own)

    def exists(self, name: str) -> bool:
        """Return whether an object is where its name says."""
        objects, own = self._find(name)
        return objects.exists(own)

    def names(self) -> Iterator[str]:
        """Yield the names of all objects, sorted."""
        places = sorted(self._places.values(), key=lambda place: place.prefix or OBJECTS)
        return chain.from_iterable(
            (place.prefix + name for name in place.objects.names()) for place in places
        )

    # --- Writing ---

    def keep(self, spooled: Spooled, origin: Origin) -> None:
        """Make an object durable."""
        self.first.objects.keep(spooled, origin)

    @property
    def is_journaled(self) -> bool:
        """Whether the first place has a journal."""
        return self.first.objects.is_journaled

    def put(self, objects: Sequence[Spooled], batch: Batch) -> list[str]:
        """Make kept objects part of the first place."""
        return [self.first.prefix + name for name in self.first.objects.put(objects, batch)]

    def take_back(self, objects: Sequence[Spooled], names: Sequence[str]) -> None:
        """Undo `put`."""
        own = [name.removeprefix(self.first.prefix) for name in names]
        self.first.objects.take_back(objects, own)

    def copy(self, path: Path, digits: str) -> str:
        """Store the whole file of an object in the first place."""
        return self.first.prefix + self.first.objects.copy(path, digits)

    def withdraw(self, names: Iterable[str]) -> None:
        """Remove objects where they are."""
        by_place: dict[str, list[str]] = {}
        for name in names:
            if self.owns(name):
                prefix = self.place_of(name).prefix
                by_place.setdefault(prefix, []).append(name.removeprefix(prefix))
        for prefix, own in by_place.items():
            self._places[prefix].objects.withdraw(own)
