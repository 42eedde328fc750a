"""Puts received objects into folders by patient, study and series, for storescp.

A folder has a UID as its name, or a Patient ID without the characters that make paths.
"""

from __future__ import annotations

import os
import re
import uuid
from collections.abc import Callable
from typing import Any

from dicomwire import events as evt
from dicomwire.apps.files import file_name, safe_uid

_KEYWORDS = ("PatientID", "StudyInstanceUID", "SeriesInstanceUID")
_UNKNOWN = "unknown"
_LONGEST = 64
"""Characters of the name of a patient's folder: of VR LO there may be as many."""
_UNSAFE = re.compile(r"[^A-Za-z0-9_-]")


def safe_name(text: str) -> str:
    """Return a name for a folder: letters, digits, `_` and `-` stay, each other becomes `%XX`.

    Two texts have the same name only if both are longer than 64 characters.
    """
    encoded = _UNSAFE.sub(lambda match: "".join(f"%{byte:02X}" for byte in _bytes(match[0])), text)
    return encoded[:_LONGEST] or _UNKNOWN


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


class Sorter:
    """Moves each received file into its folder, before the C-STORE is answered.

    The folder depends on the dataset, which is not known when its first byte is written. So the
    object is received into a file with a generated name, as it has until it is complete.

    Parameters
    ----------
    folder : str
        Contains all the others.
    depth : int
        How many levels of folders there are, 1 to 3.
    before_replacing : callable
        Called with the path before a file is put there.
    """

    def __init__(self, folder: str, depth: int, before_replacing: Callable[[str], None]) -> None:
        self._folder = folder
        self._depth = depth
        self._before_replacing = before_replacing

    def receive_to(self, request: Any) -> str:
        """Return the path for the object of a C-STORE request until it is complete."""
        return os.path.join(self._folder, f".{uuid.uuid4().hex}.part")

    def place(self, event: evt.Event) -> str:
        """Move the file of a C-STORE to its place, and return its path."""
        path = str(event.dataset_path)
        request = event.request
        name = file_name(request.AffectedSOPClassUID, request.AffectedSOPInstanceUID)
        folder = os.path.join(self._folder, *folders(path)[: self._depth])
        try:
            os.makedirs(folder, exist_ok=True)
            place = os.path.join(folder, name)
            self._before_replacing(place)
            os.replace(path, place)
        except OSError:
            os.unlink(path)
            raise
        return place


def folders(path: str) -> tuple[str, str, str]:
    """Return the names of the folders for a DICOM file, from the outermost to the innermost."""
    patient, study, series = identifiers(path)
    return safe_name(patient), _uid_name(study), _uid_name(series)


def _uid_name(uid: str) -> str:
    return safe_uid(uid) if uid else _UNKNOWN


def identifiers(path: str) -> tuple[str, str, str]:
    """Return Patient ID, Study and Series Instance UID of a DICOM file; empty where it has none."""
    from pydicom import dcmread

    try:
        found = dcmread(path, stop_before_pixels=True, specific_tags=list(_KEYWORDS))
        values = [_text(found.get_item(keyword)) for keyword in _KEYWORDS]
    except Exception:  # a peer may send anything; the object is kept all the same
        values = [""] * len(_KEYWORDS)
    return values[0], values[1], values[2]


def _text(element: Any) -> str:
    """Return the value of an element as it is in the file; pydicom would check it to decode it."""
    value = getattr(element, "value", None) or b""
    return bytes(value).decode("utf-8", "surrogateescape").strip(" \0")
