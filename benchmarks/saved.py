"""The latest results: kept by cell in latest.json, and shown in RESULTS.md and in the README.

A run replaces the cells that it measured. So cells may be of different days, and each section of
RESULTS.md says of which.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple, TypedDict

from benchmarks.report import RATIO, WHO, Result, Row, header, line

HERE = Path(__file__).resolve().parent
LATEST = HERE / "latest.json"
TABLE = HERE / "RESULTS.md"
README = HERE.parent / "README.md"
MARKS = "<!-- made by make bench BENCH=--save -->\n", "<!-- until here -->"
"""What encloses the table in the README."""


class Saved(TypedDict):
    """The latest results of a cell."""

    title: str
    run: str
    rows: list[Row]


Latest = dict[str, Saved]


class Section(NamedTuple):
    """A section of RESULTS.md: the cells whose names begin so."""

    title: str
    prefixes: tuple[str, ...]
    note: str = ""


SECTIONS = (
    Section("Servers and clients", ("scp-", "scu-")),
    Section("Both ends, and the start of a command", ("both-", "start-")),
    Section("At a distance", ("distant-",)),
    Section("Idle associations", ("idle",)),
    Section(
        "Archives",
        ("node-",),
        "Of archives that lost objects, only the runs count in which all were stored.",
    ),
    Section(
        "Archives as they grow",
        ("growth-",),
        "Objects of 4 KB stored one after the other, in process; queries for studies as C-FIND "
        "makes them, up to the last answer: medians in ms.",
    ),
)


class Line(NamedTuple):
    """A line of the README's table: cells, each with the peer that dicomwire stands beside."""

    work: str
    dcmtk: tuple[tuple[str, str], ...] = ()
    pynetdicom: tuple[str, ...] = ()
    orthanc: tuple[str, ...] = ()


def _storage(size: str) -> tuple[Line, ...]:
    server, ignoring, client = f"scp-store-{size}", f"scp-ignore-{size}", f"scu-store-{size}"
    name = f"{size[:-2]} {size[-2:]} objects"
    return (
        Line(
            f"{name}: server storing / discarding",
            ((server, "DCMTK storescp +B"), (ignoring, "DCMTK storescp --ignore")),
            (server, ignoring),
        ),
        Line(
            f"{name}: client (beside dcmsend / storescu)",
            ((client, "DCMTK dcmsend"), (client, "DCMTK storescu")),
            (client,),
        ),
    )


LINES = (
    Line(
        "C-ECHO, server / client",
        (("scp-echo", "DCMTK storescp --ignore"), ("scu-echo", "DCMTK echoscu")),
        ("scp-echo", "scu-echo"),
    ),
    *_storage("4KB"),
    *_storage("512KB"),
    *_storage("400MB"),
    Line(
        "C-FIND, 20,000 matches: client",
        (("scu-find", "DCMTK findscu"),),
        ("scu-find",),
    ),
    Line(
        "associations, server / client",
        (("scp-associate", "DCMTK storescp --ignore"),),
        ("scp-associate", "scu-associate"),
    ),
    Line(
        "4 KB objects, both ends: one at a time / window 32",
        (("both-4KB", "DCMTK"), ("both-4KB-window-32", "DCMTK")),
    ),
    Line(
        "512 KB objects, both ends: one at a time / window 4",
        (("both-512KB", "DCMTK"), ("both-512KB-window-4", "DCMTK")),
    ),
    Line(
        "TLS, 2,000 x 512 KB: server / client (whole commands)",
        (("scp-tls", "DCMTK storescp"), ("scu-tls", "DCMTK storescu")),
    ),
    Line(
        "round trip of 50 ms, 500 x 4 KB: window 32 / 8 associations, to storescu",
        (("distant-window-4KB", "DCMTK storescu"), ("distant-parallel-4KB", "DCMTK storescu")),
    ),
    Line(
        "the same, 100 x 512 KB",
        (("distant-window-512KB", "DCMTK storescu"), ("distant-parallel-512KB", "DCMTK storescu")),
    ),
    Line(
        "50 associations x 100 x 512 KB, 2 workers, to storescp --fork: storing / discarding",
        (
            ("scp-parallel-store", "DCMTK storescp --fork +B"),
            ("scp-parallel-ignore", "DCMTK storescp --fork --ignore"),
        ),
    ),
    Line(
        "archive on a disk, 4 KB objects over 1 / 8 associations",
        orthanc=("node-store-4KB-1", "node-store-4KB-8"),
    ),
    Line(
        "archive on a disk, 512 KB objects over 1 / 8 associations",
        orthanc=("node-store-512KB-1", "node-store-512KB-8"),
    ),
)


def latest() -> Latest:
    """Return what was saved."""
    saved: Latest = json.loads(LATEST.read_text()) if LATEST.exists() else {}
    return saved


def save(results: Iterable[Result], run: str, order: Iterable[str]) -> None:
    """Replace the saved results of these cells, and make the pages anew.

    Parameters
    ----------
    run : str
        When and how often they were measured, and on what machine.
    order : iterable of str
        The names of all cells that there are; what was saved of others is forgotten.
    """
    new: Latest = {
        result.cell.name: {"title": result.cell.title, "run": run, "rows": result.rows()}
        for result in results
    }
    known = latest() | new
    saved = {name: known[name] for name in order if name in known}
    LATEST.write_text(_encode(saved))
    TABLE.write_text(results_page(saved))
    README.write_text(with_table(README.read_text(), saved))


def _encode(saved: Latest) -> str:
    """Return JSON with a line for each row, so that a difference is seen."""

    def text(value: object) -> str:
        return json.dumps(value, ensure_ascii=False)

    cells = []
    for name, cell in saved.items():
        rows = ",\n".join(f"   {text(row)}" for row in cell["rows"])
        head = f'"title": {text(cell["title"])},\n  "run": {text(cell["run"])}'
        cells.append(f' {text(name)}: {{\n  {head},\n  "rows": [\n{rows}\n  ]\n }}')
    return "{\n" + ",\n".join(cells) + "\n}\n"


def results_page(saved: Latest) -> str:
    """Return RESULTS.md."""
    text = (
        "# Results\n\nMade by `make bench`. Only the ratios mean something on another machine; "
        "the [README](../README.md#speed) of the project says how to read them.\n"
    )
    for section in SECTIONS:
        cells = {name: cell for name, cell in saved.items() if name.startswith(section.prefixes)}
        if cells:
            text += f"\n## {section.title}\n\n{_made(cells)}\n{section.note}\n".rstrip() + "\n\n"
            text += _table(cells)
    return text


def _made(cells: Latest) -> str:
    """Say when the cells of a section were measured, and where."""
    runs: dict[str, list[str]] = {}
    for name, cell in cells.items():
        runs.setdefault(cell["run"], []).append(name)
    if len(runs) == 1:
        return f"{next(iter(runs))}."
    return "\n".join(f"- {run}: {', '.join(names)}." for run, names in runs.items())


def _table(cells: Latest) -> str:
    first = next(row for cell in cells.values() for row in cell["rows"])
    rows = [line(row) for cell in cells.values() for row in cell["rows"]]
    return "\n".join([header(first), *rows, ""])


def with_table(readme: str, saved: Latest) -> str:
    """Return the README's text with the table of ratios."""
    begin, rest = readme.split(MARKS[0])
    _, end = rest.split(MARKS[1])
    return f"{begin}{MARKS[0]}{_ratios(saved)}{MARKS[1]}{end}"


def _ratios(saved: Latest) -> str:
    rows: list[Row] = []
    for each in LINES:
        row = {
            "work": each.work,
            "to DCMTK": _beside(saved, each.dcmtk),
            "to pynetdicom": _beside(saved, ((cell, "pynetdicom") for cell in each.pynetdicom)),
            "to Orthanc": _beside(saved, ((cell, "Orthanc") for cell in each.orthanc)),
        }
        if {*row.values()} - {"", each.work}:
            rows.append(row)
    head = f"| {' | '.join(rows[0])} |\n|---|{'--:|' * (len(rows[0]) - 1)}"
    return "\n".join([head, *map(line, rows), ""])


def _beside(saved: Mapping[str, Saved], pairs: Iterable[tuple[str, str]]) -> str:
    """Return the ratios of dicomwire to these peers, in these cells; nothing if there are none."""
    ratios = [_ratio(saved[cell]["rows"] if cell in saved else [], who) for cell, who in pairs]
    return " / ".join(ratios) if {*ratios} - {"-"} else ""


def _ratio(rows: Iterable[Row], who: str) -> str:
    found = (row[RATIO] for row in rows if row[WHO] == who and "x (" in row[RATIO])
    ratio = next(found, "-").partition("x")[0]
    if ratio == "-":
        return ratio
    return f"{float(ratio):.0f}" if float(ratio) >= 10 else ratio
