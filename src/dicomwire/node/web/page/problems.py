"""What an operator has to look at, the worst first; and the state of each destination."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from typing import Any, NamedTuple

from dicomwire.node.forwarding.state import destinations
from dicomwire.node.objects.opening import folder_of
from dicomwire.node.overview import DEAD, nodes, status, time_of
from dicomwire.node.tasks.queue import counts
from dicomwire.node.web.endpoints import Site
from dicomwire.node.web.page.people import count, size

_LITTLE = 0.05
"""The part of the disk that is to be free."""


class Problem(NamedTuple):
    """Something to look at."""

    level: str
    """ "bad": something does not work; "warn": it will not."""
    title: str
    text: str


_OFTEN = 5.0
"""Seconds for which the state of the archive counts as present, on pages that show only a part."""


def state_of(site: Site) -> dict[str, Any]:
    """Return what `node.overview` does, with totals that may be some seconds old."""
    index = site.archive.index
    totals = site.operations.recent("totals", _OFTEN, lambda: status(index)["objects"])
    return {
        "nodes": nodes(index),
        "tasks": counts(index),
        "objects": totals,
    }


def problems_now(site: Site) -> list[Problem]:
    """Return what an operator has to look at, as of a moment ago."""
    return site.operations.recent(
        "problems", _OFTEN, lambda: problems_of(site, state_of(site), destinations_of(site))
    )


def destinations_of(site: Site) -> list[dict[str, Any]]:
    """Return the destinations, and the state of what is sent to each, for JSON."""
    known = site.archive.configuration.destinations
    found = []
    for state in sorted(destinations(site.archive.index, known)):
        each = known.get(state.name)
        where = {"host": each.host, "port": each.port, "tls": each.tls} if each else {}
        facts = state._asdict() | {"next_attempt": time_of(state.next_attempt)}
        found.append(facts | {"address": where or None})
    return found


def problems_of(site: Site, found: dict[str, Any], states: list[dict[str, Any]]) -> list[Problem]:
    """Return what is wrong, by the facts of `node.overview` and the states of destinations."""
    told = [
        *_destinations(states),
        *_nodes(found),
        *_tasks(found, states),
        *_disk(site),
    ]
    return sorted(told, key=lambda each: each.level)


def _destinations(states: list[dict[str, Any]]) -> Iterator[Problem]:
    for each in states:
        name, waiting = each["name"], count(each["waiting"])
        if not each["is_known"]:
            yield Problem(
                "warn",
                f"Objects waiting for {name}, which is not configured: {waiting}",
                f"Add [destinations.{name}] to the configuration, or drop the tasks below.",
            )
        elif each["failures"]:
            text = f"Objects waiting for it: {waiting}. Last error: {each['error']}"
            yield Problem("bad", f"The destination {name} is down", text)
        elif each["dead"]:
            yield Problem(
                "bad",
                f"Objects that were not sent to {name}: {count(each['dead'])}",
                f"Retry them below, when the cause is gone. Last error: {each['error']}",
            )


def _nodes(found: dict[str, Any]) -> Iterator[Problem]:
    for node in found["nodes"]:
        if node["state"] == DEAD:
            where = f"{node['host']}, port {node['port']}"
            yield Problem("bad", f"The node on {where} is dead", f"Last seen {node['heartbeat']}.")


def _tasks(found: dict[str, Any], states: list[dict[str, Any]]) -> Iterator[Problem]:
    told = {f"send:{each['name']}" for each in states}
    for kind, numbers in found["tasks"].items():
        if numbers["dead"] and kind not in told:
            yield Problem(
                "warn",
                f"Failed tasks of the kind {kind}: {count(numbers['dead'])}",
                "They were tried for too long. Retry them below, when the cause is gone.",
            )


def _disk(site: Site) -> Iterator[Problem]:
    disk = shutil.disk_usage(folder_of(site.configuration))
    if disk.free < disk.total * _LITTLE:
        yield Problem(
            "warn",
            "The disk is nearly full",
            f"{size(disk.free)} of {size(disk.total)} are free. When none is left, the archive"
            " refuses objects.",
        )
