"""Rates, medians and ratios: as a table for people, as JSON for programs.

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
HEADER = (
    "| cell | who | objects/s | MB/s | whole command, objects/s | peak memory, MB | "
    "dicomwire is |\n|---|---|--:|--:|--:|--:|--:|"
)


@dataclass(slots=True)
class Result:
    """What one cell gave: samples by competitor and round, or why there are none."""

    cell: Cell
    samples: dict[str, list[Sample]] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)

    def ratios(self, peer: str) -> list[float]:
        """Return the ratios of dicomwire to a peer, one for each round both took part in."""
        pairs = zip(self.samples.get(BASE, []), self.samples[peer], strict=False)
        return [ours.rate / theirs.rate for ours, theirs in pairs]

    def rows(self) -> str:
        """Return the cell's lines of the table."""
        lines = [self._row(name) for name in self.cell.competitors if name in self.samples]
        lines += [
            f"| {self.cell.name} | {who} | - | - | - | - | {why.replace('|', '/')} |"
            for who, why in self.missing.items()
        ]
        return "\n".join(lines)

    def _row(self, name: str) -> str:
        samples = self.samples[name]
        rate = median(sample.rate for sample in samples)
        size = self.cell.workload.pixel_bytes if self.cell.workload else None
        commands = [sample.command_rate for sample in samples if sample.command_rate]
        ratios = [] if name == BASE else self.ratios(name)
        columns = [
            self.cell.name,
            name,
            _number(rate),
            _number(rate * size / MEGABYTE) if size else "-",
            _number(median(commands)) if commands else "-",
            _number(max(sample.peak for sample in samples) * 1024 / MEGABYTE),
            f"{median(ratios):.2f}x ({min(ratios):.2f}-{max(ratios):.2f})" if ratios else "-",
        ]
        notes = [sample.note for sample in samples if sample.note]
        if notes:
            columns[-1] = notes[-1]
        return f"| {' | '.join(columns)} |"

    def as_json(self) -> dict[str, Any]:
        """Return all that was measured."""
        return {
            "cell": self.cell.name,
            "title": self.cell.title,
            "pixel_bytes": self.cell.workload.pixel_bytes if self.cell.workload else None,
            "missing": self.missing,
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
                            "peak_memory_kib": sample.peak,
                            "note": sample.note,
                        }
                        for sample in samples
                    ],
                }
                for name, samples in self.samples.items()
            },
        }


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
