"""DICOM files as the applications name and find them.

A name is made of a UID only as far as the UID is one; what is in a file is not known here.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from dicomwire.sop_class import (
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
    """Return two or three letters for a SOP class."""
    return _PREFIXES.get(sop_class_uid, _OTHER)


def file_name(sop_class_uid: str | None, sop_instance_uid: str | None) -> str:
    """Return the name for the file of an instance: a plain one, whatever the UID is made of."""
    uid = sop_instance_uid or ""
    if not _ORDINARY(uid):
        uid = _tamed(uid)
    return f"{_PREFIXES.get(sop_class_uid, _OTHER)}.{uid}"


def _tamed(uid: str) -> str:
    """Return digits, dots and underscores, no more than a UID has and no dot at the end."""
    tamed = _NOT_IN_UIDS.sub(lambda match: "_" * len(match[0]), uid)
    if len(tamed) <= _UID_LENGTH:
        return tamed or "_"
    digest = int(hashlib.sha256(uid.encode("utf-8", "surrogatepass")).hexdigest()[:16], 16)
    return f"{tamed[: _UID_LENGTH - 21]}_{digest:020}"


def expand(paths: Iterable[str], recurse: bool) -> tuple[list[str], list[str], set[str]]:
    """Find the files at `paths`, each of which is a file or a folder of files.

    Returns
    -------
    list of str
        The files, sorted, none twice.
    list of str
        Which of `paths` (or folders in them) cannot be accessed.
    set of str
        Those of the files that are in `paths` themselves.
    """
    named: set[str] = set()
    found: set[str] = set()
    lost: list[str] = []
    for path in map(_normal, paths):
        if os.path.isfile(path):
            named.add(path)
        elif os.path.isdir(path):
            found.update(_files_in(path, recurse, lost))
        else:
            lost.append(path)
    return sorted(named | found), lost, named


def _normal(path: str) -> str:
    return str(Path(path))


def _files_in(folder: str, recurse: bool, lost: list[str]) -> Iterator[str]:
    """Yield the files in `folder`, and of its folders if `recurse`; links to folders are passed."""
    try:
        entries = list(os.scandir(folder))
    except OSError:
        lost.append(folder)
        return
    for entry in entries:
        if entry.is_file():
            yield entry.path
        elif recurse and entry.is_dir(follow_symlinks=False):
            yield from _files_in(entry.path, recurse, lost)
