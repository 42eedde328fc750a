"""Plots over time, as the outlines of SVG."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from dicomwire.node.operations import Sample
from dicomwire.node.web.page import people

WIDTH, HEIGHT = 360, 96
"""The units of the picture, whatever its size on the screen."""


class Plot(NamedTuple):
    """A value over time."""

    title: str
    now: str
    most: str
    line: str
    area: str
    """Both are `d` of an SVG path; "" if there is nothing to show yet."""


def plots_of(samples: Sequence[Sample]) -> list[Plot]:
    """Return the plots of throughput, associations and disk."""
    disk = max((each.disk_size for each in samples), default=0)
    return [
        _plot("Objects stored a second", [each.objects for each in samples], _number),
        _plot("Data stored a second", [each.bytes for each in samples], people.size),
        _plot("Associations", [each.associations for each in samples], _number),
        _plot("Disk in use", [each.disk_used for each in samples], people.size, disk),
    ]


def _number(value: float) -> str:
    return people.count(round(value)) if value >= 10 or value == int(value) else f"{value:.1f}"


def _plot(
    title: str, values: Sequence[float], write: Callable[[float], str], top: float = 0.0
) -> Plot:
    if len(values) < 2:
        return Plot(title, write(values[-1]) if values else "—", "", "", "")
    most = max(values)
    scale = (HEIGHT - 2) / (top or most or 1)
    step = WIDTH / (len(values) - 1)
    points = [
        f"{place * step:.1f} {HEIGHT - value * scale:.1f}" for place, value in enumerate(values)
    ]
    line = "M" + "L".join(points)
    shown = f"of {write(top)}" if top else f"at most {write(most)}"
    return Plot(title, write(values[-1]), shown, line, f"{line}V{HEIGHT}H0Z")
