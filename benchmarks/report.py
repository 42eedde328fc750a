"""Rates, medians and ratios: as rows for people, as JSON for programs.

A ratio is dicomwire's rate by the peer's in the same round; of the rounds' ratios the median is
given, with the smallest and the largest. Above 1, dicomwire is the faster.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from statistics import median
from typing import Any

from benchmarks.cells import Cell, Sample

BASE = "dicomwire"
MEGABYTE = 1_000_000

Row = dict[str, str]
"""A row of a table: its texts by the names of the columns."""
WHO, RATIO = "who", "dicomwire is"


@dataclass(slots=True)
class Result:
    """What one cell gave: samples by competitor and round, or why there are none.

    `missing` has competitors that are not installed, `failed` those that did not do their work.
    """

    cell: Cell
    samples: dict[str, list[Sample]] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)

    def ratios(self, peer: str) -> list[float]:
        """Return the ratios of dicomwire to a peer, one for each round both took part in."""
        pairs = zip(self.samples.get(BASE, []), self.samples[peer], strict=False)
        return [ours.rate / theirs.rate for ours, theirs in pairs]

    def rows(self) -> list[Row]:
        """Return the cell's rows, all with the same columns."""
        rows = [self._row(name) for name in self.cell.competitors if name in self.samples]
        columns = list(rows[0]) if rows else ["cell", WHO, RATIO]
        for who, why in (self.missing | self.failed).items():
            texts = {"cell": self.cell.name, WHO: who, columns[-1]: why.replace("|", "/")}
            rows.append({column: texts.get(column, "-") for column in columns})
        return rows

    def _row(self, name: str) -> Row:
        samples = self.samples[name]
        rate = median(sample.rate for sample in samples)
        used = [sample.processor / sample.count for sample in samples if sample.processor]
        row = {"cell": self.cell.name, WHO: name, "objects/s": _number(rate)}
        if not samples[0].figures:
            row |= self._columns_of_messages(rate, samples)
        row["processor, µs/object"] = _number(median(used) * 1e6) if used else "-"
        row["memory, MB"] = _number(max(sample.peak for sample in samples) * 1024 / MEGABYTE)
        if samples[0].figures:
            for figure in samples[0].figures:
                row[figure] = f"{median(sample.figures[figure] for sample in samples):.1f}"
        else:
            notes = [sample.note for sample in samples if sample.note]
            row[RATIO] = notes[-1] if notes else self._ratio(name)
        return row

    def _columns_of_messages(self, rate: float, samples: list[Sample]) -> Row:
        size = self.cell.workload.pixel_bytes if self.cell.workload else None
        commands = [sample.command_rate for sample in samples if sample.command_rate]
        return {
            "MB/s": _number(rate * size / MEGABYTE) if size else "-",
            "whole command, objects/s": _number(median(commands)) if commands else "-",
        }

    def _ratio(self, name: str) -> str:
        ratios = [] if name == BASE else self.ratios(name)
        if not ratios:
            return "-"
        return f"{median(ratios):.2f}x ({min(ratios):.2f}-{max(ratios):.2f})"

    def as_json(self) -> dict[str, Any]:
        """Return all that was measured."""
        return {
            "cell": self.cell.name,
            "title": self.cell.title,
            "pixel_bytes": self.cell.workload.pixel_bytes if self.cell.workload else None,
            "missing": self.missing,
            "failed": self.failed,
            "competitors": {
                name: {
                    "median_rate": median(sample.rate for sample in samples),
                    "peak_memory_kib": max(sample.peak for sample in samples),
                    "median_ratio": median(ratios) if (ratios := self.ratios(name)) else None,
                    "ratios": ratios,
                    "samples": [
                        {
                            "count": sample.count,
                            "seconds": sample.seconds,
                            "command_seconds": sample.command_seconds,
                            "processor_seconds": sample.processor,
                            "peak_memory_kib": sample.peak,
                            "note": sample.note,
                            "figures": sample.figures,
                        }
                        for sample in samples
                    ],
                }
                for name, samples in self.samples.items()
            },
        }


def header(row: Row) -> str:
    """Return the first two lines of the table that has such rows."""
    return f"| {' | '.join(row)} |\n|---|---|{'--:|' * (len(row) - 2)}"


def line(row: Row) -> str:
    """Return a row as a line of its table."""
    return f"| {' | '.join(row.values())} |"


def _number(value: float) -> str:
    if not value:
        return "-"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
