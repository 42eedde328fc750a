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
SPOOLED = "spooled:"
"""The beginning of the prefix of objects on the disk of a node, which follows."""
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
        The store where objects are to be, and those where others are.
    spooled : Place, optional
        The store of new objects, until they are copied to the first of `places`.
    """

    def __init__(self, places: Sequence[Place], spooled: Place | None = None) -> None:
        self._places = {place.prefix: place for place in (*places, *filter(None, [spooled]))}
        self.home = places[0]
        self.first = spooled or places[0]

    @property
    def disks(self) -> list[Place]:
        """The places of objects that are to be uploaded."""
        places = self._places.values()
        return [place for place in places if place.prefix.startswith(SPOOLED)]

    @property
    def can_wait(self) -> bool:
        """Whether new objects are stored while their home cannot be reached."""
        return self.first is not self.home

    def place_of(self, name: str) -> Place:
        """Return the place of an object; `Elsewhere` if it is none of these."""
        prefix = name[: name.rfind(":") + 1]
        place = self._places.get(prefix)
        if place is None:
            if prefix.startswith(SPOOLED):
                node = prefix.removeprefix(SPOOLED).rstrip(":")
                raise Elsewhere(f"it is still on the disk of the node {node}")
            raise Elsewhere(f"it is in a {prefix.rstrip(':')}, which this node does not have")
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
            if part is not None and (place is self.home or next(part.names(), None) is not None):
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
        """Return whether an object is where its name says; True if this node cannot see that."""
        try:
            objects, own = self._find(name)
        except Elsewhere:
            return True
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

    def new_names(self, objects: Sequence[Spooled]) -> list[str]:
        """Return the names that objects will have in the first place."""
        return [self.first.prefix + name for name in self.first.objects.new_names(objects)]

    def put(self, objects: Sequence[Spooled], names: Sequence[str], batch: Batch) -> None:
        """Make kept objects part of the first place."""
        self.first.objects.put(objects, self._own(names), batch)

    def finish(self, objects: Sequence[Spooled], names: Sequence[str]) -> None:
        """Complete `put`."""
        self.first.objects.finish(objects, self._own(names))

    def take_back(self, objects: Sequence[Spooled], names: Sequence[str]) -> None:
        """Undo `put`."""
        self.first.objects.take_back(objects, self._own(names))

    def _own(self, names: Sequence[str]) -> list[str]:
        """Return names as the first place has them."""
        return [name.removeprefix(self.first.prefix) for name in names]

    def name_of(self, digits: str) -> str:
        """Return the name of a copy where objects are to be."""
        return self.home.prefix + self.home.objects.name_of(digits)

    def copy(self, path: Path, digits: str) -> str:
        """Store the whole file of an object where objects are to be."""
        return self.home.prefix + self.home.objects.copy(path, digits)

    def remove(self, names: Iterable[str]) -> None:
        """Remove objects where they are."""
        for objects, own in self._by_place(names):
            objects.remove(own)

    def withdraw(self, names: Iterable[str]) -> None:
        """Remove objects where they are. It never raises."""
        for objects, own in self._by_place(names):
            objects.withdraw(own)

    def _by_place(self, names: Iterable[str]) -> list[tuple[Objects, list[str]]]:
        found: dict[str, list[str]] = {}
        for name in names:
            if self.owns(name):
                prefix = self.place_of(name).prefix
                found.setdefault(prefix, []).append(name.removeprefix(prefix))
        return [(self._places[prefix].objects, own) for prefix, own in found.items()]
