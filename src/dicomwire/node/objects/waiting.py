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
from dicomwire.node.objects.folder import FolderObjects
from dicomwire.node.objects.spool import Spooled


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
            name = self.write(source, os.urandom(16).hex())
        spooled.lend(name, partial(self.withdraw, [name]))

    def put(self, objects: Sequence[Spooled], batch: Batch) -> list[str]:
        """Leave the files where they are; return their names."""
        for spooled in objects:
            spooled.give()
        return [spooled.name for spooled in objects]

    def take_back(self, objects: Sequence[Spooled], names: Sequence[str]) -> None:
        """Undo `put`."""
        for spooled, name in zip(objects, names, strict=False):
            spooled.lend(name, partial(self.withdraw, [name]))
