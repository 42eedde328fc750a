"""`node send` and `node routes`: send objects to a destination; show the routes, and try them."""

from __future__ import annotations

import json
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dicomwire.apps.archive import needing_extra
from dicomwire.apps.console import Console, Stop
from dicomwire.apps.deleting import add_selection, is_served, selection_of
from dicomwire.apps.operating import explaining_index
from dicomwire.logs import counted, escaped
from dicomwire.node.configuration import (
    Configuration,
    Route,
    When,
    route_label,
)

if TYPE_CHECKING:
    from dicomwire.node.ingest import Entry


def add_send(parser: ArgumentParser) -> None:
    """Add the arguments of `send`."""
    add_selection(parser)
    parser.add_argument(
        "--to",
        metavar="NAME",
        required=True,
        help="a destination of the configuration",
    )


def add_routes(parser: ArgumentParser) -> None:
    """Add the arguments of `routes`."""
    parser.add_argument(
        "--try",
        dest="file",
        metavar="FILE",
        type=Path,
        help="say of each route whether it matches the object of this DICOM file, and why not",
    )
    parser.add_argument(
        "--from-title", metavar="TITLE", default="", help="with --try: the AE title of its sender"
    )
    parser.add_argument(
        "--from-address",
        metavar="ADDRESS",
        default="",
        help="with --try: the network address of its sender",
    )


def run_send(configuration: Configuration, options: Namespace, console: Console) -> int:
    """Add the tasks that send objects; return the exit code."""
    with needing_extra("node"):
        from dicomwire.node.forwarding.requests import send
        from dicomwire.node.index.opening import open_existing
        from dicomwire.node.index.writer import Index
        from dicomwire.node.tasks.queue import Queue

    level, uids, study_uid = selection_of(options)
    name = options.to
    if name not in configuration.destinations:
        known = ", ".join(configuration.destinations) or "none"
        raise Stop(f"There is no destination {name!r} in the configuration; there are: {known}")
    database = open_existing(configuration.index, configuration.folder)
    with explaining_index(), Index(database) as index:
        number = send(Queue(index, ""), level, uids, name, study_uid=study_uid)
        is_soon = is_served(index)
    if options.json:
        print(json.dumps({"objects": number, "destination": name}))
    elif not number:
        print("The archive has no such objects")
    else:
        when = "now" if is_soon else "when the archive serves"
        print(f"{counted(number, 'object')} will be sent to {name} {when}; see: node tasks")
    return 0 if number else 1


def run_routes(configuration: Configuration, options: Namespace, console: Console) -> int:
    """Show the routes, and which of them match an object; return the exit code."""
    entry = None
    if options.file is not None:
        with needing_extra("node"):
            entry = _entry_of(options)
    found = list(_results(configuration, entry))
    for each in found:
        print(json.dumps(each) if options.json else "\n".join(_lines(each)))
    if not found and not options.json:
        print("The configuration has no routes")
    return 0 if any(each["matches"] is not False for each in found) else 1


def _entry_of(options: Namespace) -> Entry:
    from dicomwire.node.ingest import Unacceptable
    from dicomwire.node.reading import entry_of_file

    try:
        with options.file.open("rb") as file:
            return entry_of_file(file, options.from_title, options.from_address)
    except OSError as error:
        raise Stop(f"{escaped(str(options.file))}: {error.strerror or error}") from None
    except (ValueError, Unacceptable) as error:
        raise Stop(f"{escaped(str(options.file))}: {error}") from None


def _results(configuration: Configuration, entry: Entry | None) -> Iterator[dict[str, Any]]:
    """Yield the lines that describe a route."""
    taken: dict[str, str] = {}
    for number, route in enumerate(configuration.routes):
        label = route_label(route.name, number)
        result: dict[str, Any] = {"route": label, "to": route.to, "when": _when(route)}
        if entry is None:
            yield {**result, "matches": None, "reasons": []}
            continue
        from dicomwire.node.conditions import failing

        reasons = list(failing(route.conditions, entry))
        if reasons:
            yield {**result, "to": [], "matches": False, "reasons": reasons}
            continue
        reasons = [
            f"{title} gets the object by {taken[title]}" for title in route.to if title in taken
        ]
        to = [title for title in route.to if title not in taken]
        taken.update(dict.fromkeys(to, label))
        yield {**result, "to": to, "matches": True, "reasons": reasons}


def _lines(result: dict[str, Any]) -> Iterator[str]:
    to = f"to {', '.join(result['to']) or 'no destination'}, {result['when']}"
    if result["matches"] is None:
        yield f"{result['route']}: {to}"
    elif result["matches"]:
        yield f"{result['route']}: matches: {to}"
    else:
        yield f"{result['route']}: does not match"
    yield from (f"  {escaped(reason)}" for reason in result["reasons"])


def _when(route: Route) -> str:
    if route.when is When.OBJECT:
        return "each object at once"
    return f"when its {route.when} has been quiet for {route.quiet:g} s"
