"""Matches as they are shown on standard output: a table, lines of text, or JSON.

Which of them is wanted, and where matches come from, is up to the application.
"""

from __future__ import annotations

import json
import shutil
import sys
import unicodedata
from collections.abc import Iterable, Iterator

from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.valuerep import VR

from dicomwire.apps.console import LIBRARY, Console
from dicomwire.apps.identifier import path_of
from dicomwire.logs import escaped

_ROWS = 100
_GAP = "  "
_SELF_EVIDENT = ("QueryRetrieveLevel", "SpecificCharacterSet")


class Display:
    """Shows nothing; the other classes show matches.

    Parameters
    ----------
    console : Console
        What else is shown on the terminal.
    """

    def __init__(self, console: Console) -> None:
        self._console = console

    def add(self, match: Dataset) -> None:
        """Show a match, now or soon."""

    def close(self) -> None:
        """Show what has not been shown yet: this comes last."""

    def _write(self, text: str) -> None:
        """Write to standard output at once, with escapes for what its encoding does not have."""
        self._console.clear()
        encoding = sys.stdout.encoding or "utf-8"
        sys.stdout.write(text.encode(encoding, "backslashreplace").decode(encoding))
        sys.stdout.flush()

    def _write_lines(self, elements: Iterable[tuple[str, str]]) -> None:
        self._write("".join(f"{path}: {text}\n" for path, text in elements) + "\n")


class Lines(Display):
    """A line for each element, with its path and its value, and an empty one after each match."""

    def add(self, match: Dataset) -> None:
        """Show a match."""
        self._write_lines(flattened(match))


class Table(Display):
    """A row for each match as far as that fits the terminal, else lines.

    Attributes
    ----------
    width : int
        Columns that the terminal has.
    """

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self.width = shutil.get_terminal_size().columns
        self._rows: list[dict[str, str]] = []

    def add(self, match: Dataset) -> None:
        """Take a match; there is a heading over each so many."""
        self._rows.append(dict(flattened(match)))
        if len(self._rows) == _ROWS:
            self.close()

    def close(self) -> None:
        """Show the matches that have been taken."""
        rows, self._rows = self._rows, []
        if not rows:
            return
        paths = list(dict.fromkeys(path for row in rows for path in row))
        grid = [paths, *([row.get(path, "") for path in paths] for row in rows)]
        widths = [max(map(_width, column)) for column in zip(*grid, strict=True)]
        if sum(widths) + len(_GAP) * (len(widths) - 1) > self.width:
            for row in rows:
                self._write_lines(row.items())
            return
        grid.insert(1, ["-" * width for width in widths])
        for cells in grid:
            padded = [
                cell + " " * (width - _width(cell))
                for cell, width in zip(cells, widths, strict=True)
            ]
            self._write(_GAP.join(padded).rstrip() + "\n")
        self._write("\n")


class JsonArray(Display):
    """The DICOM JSON Model (PS3.18 Annex F): an array with an object for each match."""

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self._before = "[\n"

    def add(self, match: Dataset) -> None:
        """Show a match."""
        self._write(self._before + _json(match))
        self._before = ",\n"

    def close(self) -> None:
        """End the array."""
        self._write("[]\n" if self._before == "[\n" else "\n]\n")


# --- Elements ---------------------------------------------------------------------------------


def flattened(match: Dataset) -> Iterator[tuple[str, str]]:
    """Yield the elements of a match, those in sequences too, as path and value in one line.

    What says nothing of the match is left out: its level, and the character set it came in.
    """
    for path, text in _flattened(match, ""):
        if path not in _SELF_EVIDENT:
            yield path, escaped(text)


def _flattened(ds: Dataset, prefix: str) -> Iterator[tuple[str, str]]:
    for tag in sorted(ds.keys()):
        path = prefix + path_of(tag)
        try:
            element = ds[tag]
            is_sequence = element.VR == VR.SQ
            text = "" if is_sequence else _text(element)
        except Exception:  # a peer may send any value
            yield path, "(cannot be understood)"
            continue
        if not is_sequence or not element.value:
            yield path, text
            continue
        for index, item in enumerate(element.value):
            yield from _flattened(item, f"{path}[{index}].")


def _text(element: DataElement) -> str:
    value = element.value
    if isinstance(value, bytes):
        return f"({len(value)} bytes)" if value else ""
    if isinstance(value, MultiValue | list):
        return "\\".join(map(str, value))
    return "" if value is None else str(value)


def _json(match: Dataset) -> str:
    members = []
    for tag in sorted(match.keys()):
        try:
            member = json.dumps(match[tag].to_json_dict(None, 0), allow_nan=False)
        except Exception as error:  # a peer may send any value
            LIBRARY.warning("A match is shown without %s, which cannot be understood", tag)
            LIBRARY.debug("%s: %s", tag, escaped(str(error)))
            continue
        members.append(f'"{tag:08X}": {member}')
    return f"{{{', '.join(members)}}}"


def _width(text: str) -> int:
    """Return the columns of a terminal that `text` takes."""
    if text.isascii():
        return len(text)
    return sum(
        2 if unicodedata.east_asian_width(each) in "WF" else not unicodedata.combining(each)
        for each in text
    )
