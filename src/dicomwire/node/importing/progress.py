"""How far imports have come, so that one that was killed goes on where it was."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from dicomwire.node.files import remove
from dicomwire.node.importing.sources import Position


@dataclass
class ImportCounts:
    """The numbers of files of an import."""

    stored: int = 0
    """Those that are new in the archive."""
    known: int = 0
    """Those that it had already, or has another object of."""
    passed_over: int = 0
    """Those that are no DICOM files, DICOMDIRs, links."""
    failed: int = 0
    removed: int = 0
    """Those that were removed from their folder, since the archive has them."""

    @property
    def seen(self) -> int:
        """All files that were looked at."""
        return self.stored + self.known + self.passed_over + self.failed

    def add(self, other: ImportCounts) -> None:
        """Add the numbers of others."""
        for field in fields(self):
            setattr(self, field.name, getattr(self, field.name) + getattr(other, field.name))


class Progress:
    """The progress of importing one source, in a file of the node's folder.

    It is written after the objects are durable, so that it never says more than is true; without
    a sync, since after a power failure an earlier position does no harm.

    Parameters
    ----------
    folder : Path
        The node's folder.
    identity : str
        That of the source.
    """

    def __init__(self, folder: Path, identity: str) -> None:
        digest = hashlib.sha256(identity.encode(errors="surrogateescape")).hexdigest()[:32]
        self._path = folder / "imports" / f"{digest}.json"
        self._identity = identity
        self.position: Position | None = None
        """The last file that is done, with all before it; None if there is none."""
        self.counts = ImportCounts()

    def load(self) -> None:
        """Go on from where an import of the same source was ended."""
        with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
            found = json.loads(self._path.read_text())
            if found["source"] == self._identity:
                self.counts = ImportCounts(**found["tally"])
                self.position = found["position"]

    def save(self) -> None:
        """Note position and numbers; OSError if they cannot be written."""
        self._path.parent.mkdir(mode=0o700, exist_ok=True)
        new = self._path.with_suffix(".new")
        text = {"source": self._identity, "position": self.position, "tally": asdict(self.counts)}
        with open(new, "w", opener=_private) as file:
            json.dump(text, file)
        os.replace(new, self._path)

    def forget(self) -> None:
        """Remove the file: the import is complete, or begins anew."""
        remove(str(self._path))


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
