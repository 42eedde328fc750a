"""Objects on the disk of a node that are acknowledged, and wait to be uploaded.

`carrying` uploads them. They have no journal: it would not know of their uploads.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from io import BytesIO
from typing import BinaryIO

from dicomwire.node.heads import Origin
from dicomwire.node.journal import Batch
from dicomwire.node.objects.folder import OBJECTS, FolderObjects
from dicomwire.node.objects.spool import Spooled

_FOLDER = f"{OBJECTS}/00/00"
"""One folder is enough for files that stay so shortly."""


class WaitingObjects(FolderObjects):
    """The objects in such a folder; see `port.Objects`.

    The thread that received an object writes and syncs its file, before the batch.
    """

    is_journaled = False

    def keep(self, spooled: Spooled, origin: Origin) -> None:
        """Write the file of an object, durably."""
        spooled.seal(origin)
        source: BinaryIO = BytesIO(b"".join(spooled.content))
        if not spooled.content:
            assert spooled.path is not None
            source = spooled.path.open("rb")
        with source:
            digits = os.urandom(16).hex()
            name = self.write(source, _FOLDER, digits)
        spooled.lend(name, partial(self.withdraw, [name]))

    def new_names(self, objects: Sequence[Spooled]) -> list[str]:
        """Return the names that `keep` has given the objects."""
        return [spooled.name for spooled in objects]

    def put(self, objects: Sequence[Spooled], names: Sequence[str], batch: Batch) -> None:
        """Leave the files where they are."""
        for spooled in objects:
            spooled.give()

    def finish(self, objects: Sequence[Spooled], names: Sequence[str]) -> None:
        """Nothing: `put` has done all."""

    def take_back(self, objects: Sequence[Spooled], names: Sequence[str]) -> None:
        """Undo `put`."""
        for spooled in objects:
            spooled.take_back()
