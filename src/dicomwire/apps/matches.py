"""Shows matches on standard output: as a table, as lines of text, as CSV or as JSON.

The application chooses one of these, and hands in the matches.
"""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
import sys
import unicodedata
from argparse import ArgumentParser, Namespace
from collections.abc import Iterable, Iterator
from operator import itemgetter
from typing import Any

from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.valuerep import VR

from dicomwire.apps.console import LIBRARY, Console, Stop
from dicomwire.apps.identifier import path_of, set_element
from dicomwire.logs import escaped

_GAP = "  "
_CUT = "\N{HORIZONTAL ELLIPSIS}"
_NARROWEST = 8
"""Columns are made no narrower than that: shorter texts tell too little."""
_INDEX = re.compile(r"\[[0-9]+\]")
_NUMBER = re.compile("([0-9]+)")
_UID = re.compile(r"[0-9]+(\.[0-9]+)+").fullmatch
_SELF_EVIDENT = ("QueryRetrieveLevel", "SpecificCharacterSet")


class Display:
    """Shows matches; the base class.

    Parameters
    ----------
    console : Console
        The log and the progress on the terminal, which the matches must not overwrite.
    """

    def __init__(self, console: Console) -> None:
        self._console = console

    def add(self, match: Dataset) -> None:
        """Show a match, now or in `close`."""

    def close(self) -> None:
        """Show the matches that have not been shown yet; the caller adds no more."""

    def _write(self, text: str) -> None:
        """Write to standard output at once; escape characters that its encoding does not have."""
        self._console.clear()
        encoding = sys.stdout.encoding or "utf-8"
        sys.stdout.write(text.encode(encoding, "backslashreplace").decode(encoding))
        sys.stdout.flush()

    def _write_lines(self, elements: Iterable[tuple[str, str]]) -> None:
        self._write("".join(f"{path}: {text}\n" for path, text in elements) + "\n")


class Lines(Display):
    """A line with path and value for each element, and an empty line after each match."""

    def add(self, match: Dataset) -> None:
        """Show a match."""
        self._write_lines(flattened(match))


class Grid(Display):
    """Collects the matches as rows, with a column for each key of the query.

    Parameters
    ----------
    asked : list of str
        What `asked_for` returns for the identifier.
    """

    def __init__(self, console: Console, asked: list[str]) -> None:
        super().__init__(console)
        self._asked = asked
        self._rows: list[dict[str, str]] = []

    def add(self, match: Dataset) -> None:
        """Take a match; `close` shows it."""
        self._rows.append(dict(flattened(match)))

    def _columns(self) -> list[str]:
        """Return the paths of the columns: for a sequence there may be several."""
        paths = list(dict.fromkeys(path for row in self._rows for path in row))
        columns = []
        for asked in self._asked:
            answered = [path for path in paths if _is_within(path, asked)]
            columns += answered or [asked]
        return columns or paths


class Table(Grid):
    """A table that fits the terminal, and the number of matches.

    Texts are shortened if the table would be wider than the terminal. If even that does not make it
    fit, each element has a line.
    """

    def close(self) -> None:
        """Show the table."""
        columns = self._columns()
        count = len(self._rows)
        if count:
            grid = [_headings(columns)]
            grid += [[row.get(path, "") for path in columns] for row in self._rows]
            widths = _fitting(
                [max(map(_width, column)) for column in zip(*grid, strict=True)],
                shutil.get_terminal_size().columns,
            )
            if widths is None:
                for row in self._rows:
                    self._write_lines(row.items())
            else:
                self._write_table(grid, widths)
        self._write(f"{count} {'match' if count == 1 else 'matches'}\n")

    def _write_table(self, grid: list[list[str]], widths: list[int]) -> None:
        grid.insert(1, ["-" * width for width in widths])
        lines = []
        for cells in grid:
            cut = (_cut(cell, width) for cell, width in zip(cells, widths, strict=True))
            padded = (
                cell + " " * (width - _width(cell)) for cell, width in zip(cut, widths, strict=True)
            )
            lines.append(_GAP.join(padded).rstrip() + "\n")
        self._write("".join(lines) + "\n")


class Csv(Grid):
    """Comma-separated values (RFC 4180, with line feeds), under a line with the paths."""

    def close(self) -> None:
        """Show the lines."""
        columns = self._columns()
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows([row.get(path, "") for path in columns] for row in self._rows)
        self._write(text.getvalue())


class Sorted(Display):
    """Hands the matches to another display when all have arrived, in order.

    Parameters
    ----------
    keys : list of str
        What `asked_for` returns for the elements to sort by. Numbers in texts are compared as
        numbers.
    """

    def __init__(self, console: Console, display: Display, keys: list[str]) -> None:
        super().__init__(console)
        self._display = display
        self._keys = keys
        self._matches: list[tuple[list[Any], Dataset]] = []

    def add(self, match: Dataset) -> None:
        """Take a match."""
        texts: dict[str, str] = {}
        for path, text in flattened(match):
            texts.setdefault(_INDEX.sub("", path), text)
        self._matches.append(([_comparable(texts.get(key, "")) for key in self._keys], match))

    def close(self) -> None:
        """Hand the matches on."""
        self._matches.sort(key=itemgetter(0))
        for _, match in self._matches:
            self._display.add(match)
        self._display.close()


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


# --- The form of the output -------------------------------------------------------------------


def add_forms(parser: ArgumentParser) -> None:
    """Add the options for the form in which matches are shown; see `display_for`."""
    group = parser.add_argument_group("output")
    one = group.add_mutually_exclusive_group()
    one.add_argument(
        "--csv", action="store_true", help="comma-separated values, with a line of headings"
    )
    one.add_argument("--json", action="store_true", help="an array in the DICOM JSON Model")
    group.add_argument(
        "--sort",
        metavar="KEY",
        action="append",
        default=[],
        help="sort by this element, when all matches have arrived; may be repeated (default: a "
        "table and CSV by the keys of the query)",
    )


def display_for(options: Namespace, console: Console, asked: list[str]) -> Display:
    """Return the display of the matches; `asked` are the paths of the identifier."""
    display: Display
    keys = _sort_keys(options)
    if options.json:
        display = JsonArray(console)
    elif options.csv or sys.stdout.isatty():
        display = Csv(console, asked) if options.csv else Table(console, asked)
        keys = keys or asked
    else:
        display = Lines(console)
    return Sorted(console, display, keys) if keys else display


def _sort_keys(options: Namespace) -> list[str]:
    """Return the paths of the elements to sort by."""
    keys = Dataset()
    for key in options.sort:
        try:
            set_element(keys, key)
        except ValueError as error:
            raise Stop(f"--sort: {error}") from None
    return asked_for(keys)


# --- Elements ---------------------------------------------------------------------------------


def asked_for(identifier: Dataset, prefix: str = "") -> list[str]:
    """Return the paths of the elements of an identifier, in its order, without numbers of items."""
    paths: list[str] = []
    for tag in identifier.keys():  # noqa: SIM118  # a Dataset iterates over its elements
        path = prefix + path_of(tag)
        element = identifier[tag]
        if element.VR == VR.SQ and element.value:
            for item in element.value:
                paths += asked_for(item, f"{path}.")
        elif path not in _SELF_EVIDENT:
            paths.append(path)
    return list(dict.fromkeys(paths))


def _is_within(path: str, asked: str) -> bool:
    """Return whether `path` is of the element that was asked for, or in that sequence."""
    general = _INDEX.sub("", path)
    return general == asked or general.startswith(f"{asked}.")


def flattened(match: Dataset) -> Iterator[tuple[str, str]]:
    """Yield path and value of each element of a match, also of elements in sequences.

    The level of the query and the character set are left out: they say nothing about the match.
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
            yield path, "(cannot be decoded)"
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
            LIBRARY.warning("A match is shown without %s, which cannot be decoded", tag)
            LIBRARY.debug("%s: %s", tag, escaped(str(error)))
            continue
        members.append(f'"{tag:08X}": {member}')
    return f"{{{', '.join(members)}}}"


def _comparable(text: str) -> list[str | tuple[int, str]]:
    """Return the sort key of `text`: its texts and numbers by turns."""
    parts: list[Any] = _NUMBER.split(text)
    for index in range(1, len(parts), 2):
        digits = parts[index].lstrip("0")
        parts[index] = (len(digits), digits)
    return parts


def _headings(columns: list[str]) -> list[str]:
    """Return the last part of each path, or the path where that would not be unique."""
    short = [path.rpartition(".")[2] for path in columns]
    return [
        heading if short.count(heading) == 1 else path
        for heading, path in zip(short, columns, strict=True)
    ]


def _fitting(widths: list[int], room: int) -> list[int] | None:
    """Return widths of columns that fit into `room`, the widest made narrower; None if none do."""
    widths = list(widths)
    excess = sum(widths) + len(_GAP) * (len(widths) - 1) - room
    while excess > 0:
        widest = max(widths)
        if widest <= _NARROWEST:
            return None
        widths[widths.index(widest)] -= 1
        excess -= 1
    return widths


def _cut(text: str, width: int) -> str:
    """Return `text` in `width` columns: its beginning, or the end of a UID, which tells more."""
    if _width(text) <= width:
        return text
    if _UID(text):
        return _CUT + text[1 - width :]
    while _width(text) >= width:
        text = text[:-1]
    return text + _CUT


def _width(text: str) -> int:
    """Return how many columns of a terminal `text` takes."""
    if text.isascii():
        return len(text)
    return sum(
        2 if unicodedata.east_asian_width(each) in "WF" else not unicodedata.combining(each)
        for each in text
    )
