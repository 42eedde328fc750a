"""`node status` and `node tasks`: show the nodes of an index and their tasks, and change tasks."""

from __future__ import annotations

import json
from argparse import Namespace
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from dicomwire.apps.archive import needing_extra
from dicomwire.apps.console import Console, Misuse, Stop
from dicomwire.logs import counted, escaped
from dicomwire.node.configuration import Configuration

if TYPE_CHECKING:
    from dicomwire.node.index.reader import IndexReader

ACTIONS = ("list", "retry", "drop")
STATES = ("waiting", "running", "dead")
_KIBI = 1024.0


@contextmanager
def explaining_index() -> Iterator[None]:
    """Say in one line why the index cannot be used, without the SQL statement that failed."""
    from dicomwire.node.index.database import IndexFailure, reason_of

    try:
        yield
    except IndexFailure as error:
        raise Stop(f"The index cannot be used: {reason_of(error)}") from error


def show_status(configuration: Configuration, options: Namespace) -> int:
    """Show all nodes, the numbers of tasks and of objects; return 1 if no node lives."""
    with needing_extra("node"):
        from dicomwire.node.index.opening import open_existing
        from dicomwire.node.index.reader import IndexReader
        from dicomwire.node.overview import DEAD, status

    database = open_existing(configuration.index, configuration.folder)
    with explaining_index(), IndexReader(database) as index:
        found = status(index)
    print(json.dumps(found) if options.json else "\n".join(_lines(found)))
    return 0 if any(node["state"] != DEAD for node in found["nodes"]) else 1


def _lines(found: dict[str, Any]) -> Iterator[str]:
    from dicomwire.node.overview import DEAD

    for node in found["nodes"]:
        workers = counted(len(node["workers"]), "worker") if node["workers"] else "no workers"
        associations = counted(node["associations"], "association")
        is_dead = node["state"] == DEAD
        yield (
            f"{node['ae_title']} at {node['address'] or '*'}, port {node['port']}: {node['state']}"
            f"{'' if is_dead else ' since ' + node['started']} on {escaped(node['host'])}, "
            f"process {node['pid']}, version {node['version']}"
        )
        yield f"  last heartbeat at {node['heartbeat']}"
        yield (
            f"  {'' if is_dead else f'{workers}, {associations}, '}spool: {_size(node['spool'])}, "
            f"journal: {_size(node['journal'])}"
        )
        free = {} if is_dead else node.get("free", {})
        for folder, size in free.items():
            yield f"  {human_size(size)} free on the disk of {escaped(folder)}"
    if not found["nodes"]:
        yield "no node runs"
    for kind, numbers in found["tasks"].items():
        told = ", ".join(f"{number} {state}" for state, number in numbers.items())
        yield f"tasks {kind}: {told}"
    yield _in_archive(found["objects"])


def show_statistics(configuration: Configuration, options: Namespace, console: Console) -> int:
    """Show numbers of the objects in the archive; return the exit code."""
    with needing_extra("node"):
        from dicomwire.node.index.opening import open_existing
        from dicomwire.node.index.reader import IndexReader
        from dicomwire.node.statistics import statistics

    database = open_existing(configuration.index, configuration.folder)
    with explaining_index(), IndexReader(database) as index:
        found = statistics(index)
    print(json.dumps(found) if options.json else "\n".join(_statistics(found)))
    return 0


def _statistics(found: dict[str, Any]) -> Iterator[str]:
    yield _in_archive(found)
    for title, table, name in (
        ("By modality:", "modalities", "modality"),
        ("By day of receipt, the last ones first:", "days", "day"),
        ("The largest studies:", "largest_studies", "study"),
    ):
        yield title
        for row in found[table]:
            instances, size = counted(row["instances"], "instance"), human_size(row["bytes"])
            yield f"  {escaped(row[name]) or '(none)'}: {instances}, {size}"


def _in_archive(found: dict[str, Any]) -> str:
    return ", ".join(
        (
            counted(found["patients"], "patient"),
            counted(found["studies"], "study", "studies"),
            counted(found["series"], "series", "series"),
            counted(found["instances"], "instance"),
            human_size(found["bytes"]),
        )
    )


def _size(size: dict[str, int]) -> str:
    return f"{counted(size['files'], 'file')}, {human_size(size['bytes'])}"


def human_size(number: float) -> str:
    """Return a number of bytes for people."""
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if number < _KIBI:
            return f"{number:.0f} {unit}" if unit == "bytes" else f"{number:.1f} {unit}"
        number /= _KIBI
    return f"{number:.1f} TiB"


def run_tasks(configuration: Configuration, options: Namespace) -> int:
    """List tasks, repeat them now, or remove them; return the exit code."""
    with needing_extra("node"):
        from dicomwire.node.index.opening import open_existing
        from dicomwire.node.index.reader import IndexReader
        from dicomwire.node.index.writer import Index
        from dicomwire.node.tasks.queue import Queue, State

    action = options.tasks or "list"
    states = [State(state) for state in options.state or ()]
    database = open_existing(configuration.index, configuration.folder)
    with explaining_index():
        if action == "list":
            with IndexReader(database) as index:
                _list(index, options, states, configuration.destinations)
            return 0
        if State.RUNNING in states:
            raise Misuse("a running task can be neither repeated nor removed")
        with Index(database) as index:
            queue = Queue(index, "")
            change = queue.retry if action == "retry" else queue.drop
            done = change(options.kind, states or [State.DEAD])
    told = f"{'Repeated' if action == 'retry' else 'Removed'} {counted(done, 'task')}"
    print(json.dumps({"tasks": done}) if options.json else told)
    return 0


def _line_of(destination: dict[str, Any]) -> str:
    """Return a line about the objects that wait for a destination."""
    parts = [f"{counted(destination['waiting'], 'object')} waiting"]
    if destination["held"]:
        parts.append(f"{destination['held']} until their series or study is quiet")
    if destination["dead"]:
        parts.append(f"{destination['dead']} were given up")
    if destination["is_sending"]:
        parts.append("some are being sent")
    if destination["next_attempt"] is not None:
        parts.append(f"next attempt at {destination['next_attempt']}")
    if not destination["is_known"]:
        parts.append("it is not in the configuration")
    error = f": {escaped(destination['error'])}" if destination["error"] else ""
    return f"to {escaped(destination['name'])}: {', '.join(parts)}{error}"


def _list(index: IndexReader, options: Namespace, states: list[Any], known: Iterable[str]) -> None:
    from dicomwire.node.forwarding.sending import DESTINATION
    from dicomwire.node.forwarding.state import destinations
    from dicomwire.node.overview import described, time_of
    from dicomwire.node.routing import SEND
    from dicomwire.node.tasks.queue import listed

    # There may be a million objects to send: they are counted, unless somebody asks for them.
    is_short = options.kind is None and not states
    if is_short:
        for state in filter(None, destinations(index, known)):
            facts = {**state._asdict(), "next_attempt": time_of(state.next_attempt)}
            print(json.dumps({"destination": facts}) if options.json else _line_of(facts))
    for task in listed(index, options.kind, states):
        if is_short and task.kind.startswith((SEND, DESTINATION)):
            continue
        if options.json:
            print(json.dumps(described(task)))
            continue
        key = f" of {escaped(task.key)}" if task.key else ""
        error = f": {escaped(task.error)}" if task.error else ""
        attempts = counted(task.attempts, "attempt")
        print(f"{task.id} {task.kind}{key} {task.state}, {attempts}{error}")
