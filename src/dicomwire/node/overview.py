"""What the nodes of an index do, in numbers: for operators, and for programs that watch them."""

from __future__ import annotations

import math
import time
from typing import Any

from dicomwire.node.index.reader import IndexReader
from dicomwire.node.index.writer import iso
from dicomwire.node.nodes import Registered, registered
from dicomwire.node.statistics import totals
from dicomwire.node.tasks.queue import ListedTask, counts

DEAD = "dead"
"""The state of a node that has not renewed its entry in the registry in time."""


def status(index: IndexReader) -> dict[str, Any]:
    """Return the nodes, the number of tasks by kind and state, and that of objects, for JSON.

    It adds up the sizes of all objects, which takes a second for a few millions.
    """
    return {
        "nodes": nodes(index),
        "tasks": counts(index),
        "objects": totals(index),
    }


def nodes(index: IndexReader) -> list[dict[str, Any]]:
    """Return the nodes for JSON."""
    now = time.time()
    return [_node(each, now) for each in registered(index)]


def described(task: ListedTask) -> dict[str, Any]:
    """Return a task for JSON."""
    return {**task._asdict(), "due": time_of(task.due), "created": time_of(task.created)}


def _node(node: Registered, now: float) -> dict[str, Any]:
    return {
        **{name: value for name, value in node._asdict().items() if name != "facts"},
        **node.facts,
        "started": time_of(node.started),
        "heartbeat": time_of(node.heartbeat),
        "state": node.state if node.is_alive(now) else DEAD,
    }


def time_of(seconds: float | None) -> str | None:
    """Return a time, in seconds since 1970, as text; None if it never comes."""
    return None if seconds is None or math.isinf(seconds) else iso(int(seconds * 1e6))
