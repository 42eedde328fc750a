"""What an operator has to look at, the worst first; and the state of each destination."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from typing import Any, NamedTuple

from dicomwire.node.objects.opening import folder_of
from dicomwire.node.status import DEAD, described, nodes, status
from dicomwire.node.tasks.queue import State, counts, listed
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
    """Return nodes, tasks and totals as `node.status` does; the totals may be some seconds old."""
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
    index = site.archive.index
    numbers = counts(index)
    found = []
    for name, each in sorted(site.configuration.destinations.items()):
        own = next(listed(index, f"destination:{name}"), None)
        sending = numbers.get(f"send:{name}", {})
        facts = {
            "name": name,
            "host": each.host,
            "port": each.port,
            "tls": each.tls,
            "waiting": sending.get(State.WAITING, 0) + sending.get(State.RUNNING, 0),
            "dead": sending.get(State.DEAD, 0),
            "attempts": own.attempts if own else 0,
            "error": own.error if own else "",
            "next_attempt": own and described(own)["due"],
        }
        found.append(facts)
    return found


def problems_of(
    site: Site, found: dict[str, Any], destinations: list[dict[str, Any]]
) -> list[Problem]:
    """Return what is wrong, by the facts of `node.status` and the states of destinations."""
    told = [
        *_destinations(destinations),
        *_nodes(found),
        *_tasks(found, destinations),
        *_disk(site),
    ]
    return sorted(told, key=lambda each: each.level)


def _destinations(destinations: list[dict[str, Any]]) -> Iterator[Problem]:
    for each in destinations:
        if each["error"]:
            waiting = f"{count(each['waiting'])} objects wait for it. " if each["waiting"] else ""
            yield Problem(
                "bad",
                f"The destination {each['name']} is down",
                f"{waiting}Last error: {each['error']}",
            )
        elif each["dead"]:
            yield Problem(
                "bad",
                f"{count(each['dead'])} objects were not sent to {each['name']}",
                "They were tried for too long. Retry them below, when the cause is gone.",
            )


def _nodes(found: dict[str, Any]) -> Iterator[Problem]:
    for node in found["nodes"]:
        if node["state"] == DEAD:
            where = f"{node['host']}, port {node['port']}"
            yield Problem("bad", f"The node on {where} is dead", f"Last seen {node['heartbeat']}.")


def _tasks(found: dict[str, Any], destinations: list[dict[str, Any]]) -> Iterator[Problem]:
    told = {f"send:{each['name']}" for each in destinations}
    for kind, numbers in found["tasks"].items():
        if numbers["dead"] and kind not in told:
            yield Problem(
                "warn",
                f"{count(numbers['dead'])} tasks of the kind {kind} have failed",
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
