"""Names DICOM files after their UIDs, and finds the files in folders.

A name has nothing of a UID but its digits and dots. No file is opened here.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from dicomwire.registry.tables import (
    ComputedRadiographyImageStorage,
    CTImageStorage,
    EnhancedCTImageStorage,
    EnhancedMRImageStorage,
    EnhancedPETImageStorage,
    EnhancedUSVolumeStorage,
    EnhancedXAImageStorage,
    MRImageStorage,
    NuclearMedicineImageStorage,
    PositronEmissionTomographyImageStorage,
    RTDoseStorage,
    RTImageStorage,
    RTPlanStorage,
    RTStructureSetStorage,
    SecondaryCaptureImageStorage,
    UltrasoundImageStorage,
    XRayAngiographicImageStorage,
)

_PREFIXES: dict[str | None, str] = {
    CTImageStorage: "CT",
    EnhancedCTImageStorage: "CTE",
    MRImageStorage: "MR",
    EnhancedMRImageStorage: "MRE",
    PositronEmissionTomographyImageStorage: "PT",
    EnhancedPETImageStorage: "PTE",
    RTImageStorage: "RI",
    RTDoseStorage: "RD",
    RTPlanStorage: "RP",
    RTStructureSetStorage: "RS",
    ComputedRadiographyImageStorage: "CR",
    UltrasoundImageStorage: "US",
    EnhancedUSVolumeStorage: "USE",
    XRayAngiographicImageStorage: "XA",
    EnhancedXAImageStorage: "XAE",
    NuclearMedicineImageStorage: "NM",
    SecondaryCaptureImageStorage: "SC",
}
_OTHER = "UN"
_UID_LENGTH = 64
_ORDINARY = re.compile(r"[0-9.]{0,63}[0-9]").fullmatch
_NOT_IN_UIDS = re.compile(r"[^0-9.]|\.+$")


def short_name(sop_class_uid: str | None) -> str:
    """Return the two or three letters that stand for a SOP class in names of files."""
    return _PREFIXES.get(sop_class_uid, _OTHER)


def file_name(sop_class_uid: str | None, sop_instance_uid: str | None) -> str:
    """Return the name for the file of an instance, without a folder whatever the UID contains."""
    return f"{_PREFIXES.get(sop_class_uid, _OTHER)}.{safe_uid(sop_instance_uid or '')}"


def safe_uid(uid: str) -> str:
    """Return a UID as it can be part of a path, whatever it contains."""
    return uid if _ORDINARY(uid) else _tamed(uid)


def _tamed(uid: str) -> str:
    """Return digits, dots and underscores, 64 at most and without a dot at the end."""
    tamed = _NOT_IN_UIDS.sub(lambda match: "_" * len(match[0]), uid)
    if len(tamed) <= _UID_LENGTH:
        return tamed or "_"
    import hashlib

    digest = int(hashlib.sha256(uid.encode("utf-8", "surrogatepass")).hexdigest()[:16], 16)
    return f"{tamed[: _UID_LENGTH - 21]}_{digest:020}"


@dataclass(slots=True)
class Found:
    """The files at the paths that were given; see `find_files`.

    Attributes
    ----------
    files : set of str
        All of them.
    named : set of str
        The files whose paths were given, as opposed to files in folders.
    folders : dict
        The files of each folder that was given.
    lost : list of str
        The paths that cannot be accessed, and such folders within folders.
    not_opened : list of str
        The folders that have folders in them, which were not searched.
    """

    files: set[str] = field(default_factory=set)
    named: set[str] = field(default_factory=set)
    folders: dict[str, list[str]] = field(default_factory=dict)
    lost: list[str] = field(default_factory=list)
    not_opened: list[str] = field(default_factory=list)


def find_files(paths: Iterable[str], recurse: bool) -> Found:
    """Find the files at `paths`, each of which is a file or a folder of files."""
    found = Found()
    for path in map(_normal, paths):
        if os.path.isfile(path):
            found.named.add(path)
        elif os.path.isdir(path):
            found.folders[path] = list(_files_in(path, recurse, found))
        else:
            found.lost.append(path)
    found.files.update(found.named, *found.folders.values())
    return found


def _normal(path: str) -> str:
    return str(Path(path))


def _files_in(folder: str, recurse: bool, found: Found) -> Iterator[str]:
    """Yield the files in `folder`, and if `recurse` in its folders except links to folders."""
    try:
        entries = list(os.scandir(folder))
    except OSError:
        found.lost.append(folder)
        return
    folders = [entry for entry in entries if entry.is_dir(follow_symlinks=False)]
    yield from (entry.path for entry in entries if entry.is_file())
    if recurse:
        for entry in folders:
            yield from _files_in(entry.path, recurse, found)
    elif folders:
        found.not_opened.append(folder)
