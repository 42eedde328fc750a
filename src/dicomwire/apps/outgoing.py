"""Determines the files that storescu sends, and the associations that they need.

Nothing is sent here.
"""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass, field
from typing import NamedTuple

from dicomwire.apps.files import Found, find_files
from dicomwire.data.encodings import DatasetError
from dicomwire.data.storable import open_storable
from dicomwire.logs import escaped
from dicomwire.plain import PresentationContext, build_context
from dicomwire.registry.tables import MediaStorageDirectoryStorage

MOST_CONTEXTS = 128
"""The presentation contexts that one association can have (PS3.8 Section 9.3.2.2)."""

ContextKey = tuple[str, str]
"""SOP class and transfer syntax."""


class Outgoing(NamedTuple):
    """A file to send."""

    path: str
    size: int
    context: ContextKey


@dataclass(slots=True)
class AssociationFiles:
    """The files of one association, and the presentation contexts for them."""

    contexts: list[PresentationContext] = field(default_factory=list)
    files: list[Outgoing] = field(default_factory=list)


class Unusable(NamedTuple):
    """A file or folder that was given and cannot be sent."""

    path: str
    reason: str


class FilesToSend:
    """The files at `paths`, in a group for each association.

    A presentation context is for one SOP class and one transfer syntax: that of the files, or
    `syntax`.

    Attributes
    ----------
    groups : list of AssociationFiles
    syntax : str or None
    unusable : list of Unusable
        The files and folders that were given and cannot be sent.
    skipped : int
        The number of files in folders that are not DICOM files, or are DICOMDIRs.
    """

    def __init__(
        self, paths: list[str], recurse: bool, syntax: str | None, logger: logging.Logger
    ) -> None:
        self.groups: list[AssociationFiles] = []
        self.unusable: list[Unusable] = []
        self.skipped = 0
        self.syntax = syntax
        self._logger = logger
        self._group_of: dict[ContextKey, AssociationFiles] = {}
        found = find_files(paths, recurse)
        for path in found.lost:
            logger.error("Cannot access path: %s", escaped(path))
            self.unusable.append(Unusable(path, "cannot be accessed"))
        for path in sorted(found.files):
            self._add(path, path in found.named)
        self._explain_folders(found)

    def proposed(self, group: AssociationFiles) -> list[PresentationContext]:
        """Return the presentation contexts to propose for `group`: those that its files need."""
        return group.contexts

    @property
    def count(self) -> int:
        """The number of files to send."""
        return sum(len(group.files) for group in self.groups)

    @property
    def size(self) -> int:
        """The number of bytes in these files."""
        return sum(file.size for group in self.groups for file in group.files)

    def _add(self, path: str, is_named: bool) -> None:
        try:
            opened = open_storable(path)
            if not opened.is_small_file:  # else it was closed before, and needs no call
                opened.close()
            sop_class, syntax = opened.sop_class_uid, opened.transfer_syntax_uid
            size = os.path.getsize(path)
            if sop_class == MediaStorageDirectoryStorage and not is_named:
                self._logger.info("Skipped a DICOMDIR: %s", escaped(path))
                self.skipped += 1
                return
            key = (sop_class, self.syntax or syntax)
            group = self._group_of.get(key) or self._group_for(key)
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            is_skipped = isinstance(error, DatasetError) and not is_named
            self._logger.log(
                logging.INFO if is_skipped else logging.ERROR,
                "Cannot read input file %s: %s",
                escaped(path),
                escaped(reason or str(error)),
            )
            if is_skipped:
                self.skipped += 1
            else:
                self.unusable.append(Unusable(path, reason or str(error)))
            return
        group.files.append(Outgoing(path, size, key))

    def _explain_folders(self, found: Found) -> None:
        """Log the folders that are not sent completely; each of them is a failure."""
        sendable = {file.path for group in self.groups for file in group.files}
        reported = {path for path, _ in self.unusable}
        for folder, files in found.folders.items():
            has_none = sendable.isdisjoint(files)
            if folder in found.not_opened:
                reason = "the folders in it need -r"
            elif not files:
                reason = "it has no files"
            else:
                reason = f"none of its files ({len(files)}) is a DICOM file to send"
                has_none = has_none and reported.isdisjoint(files)
            if folder in reported or not (has_none or folder in found.not_opened):
                continue
            what = "No suitable DICOM files found in" if has_none else "Not all files are sent of"
            self._logger.error("%s %s: %s", what, escaped(folder), reason)
            self.unusable.append(Unusable(folder, reason))

    def _group_for(self, key: ContextKey) -> AssociationFiles:
        """Add a presentation context for `key`, and return its group."""
        context = build_context(*key)
        if not self.groups or len(self.groups[-1].contexts) == MOST_CONTEXTS:
            self.groups.append(AssociationFiles())
        group = self._group_of[key] = self.groups[-1]
        group.contexts.append(context)
        return group
