"""The documented API of pynetdicom, walked with the drop-in and with the real one side by side.

What differs is on the migration page, whose last table the test reads: neither may there be a
difference that the table does not have, nor an entry in it that is none.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from fnmatch import fnmatchcase
from itertools import zip_longest
from pathlib import Path
from typing import Any

import pytest
from dropin_processes import DROP_IN, PROGRAMS, REAL, ROOT, Implementation, Server, end, finish

from forked_programs import Program

PAGE = ROOT / "docs" / "migration.md"
HEADING = "## Every difference of the drop-in"

LONG = 180
"""The real one takes half a minute when nothing else runs."""

PARTS = ("unbound", "single", "normalized", "find", "retrieve")


Start = Callable[..., Program]


@pytest.fixture
def start() -> Iterator[Start]:
    """Give what starts a program that walks; those that run at the end of the test are killed."""
    with ExitStack() as processes:

        def begin(implementation: Implementation, program: str, *args: object) -> Program:
            # What is done wrong on purpose may be warned of.
            process = implementation.start("-W", "ignore", PROGRAMS / program, *args)
            processes.callback(end, process)
            return process

        yield begin


def walk(start: Start, tmp_path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what the walk finds with the drop-in, and with the real one."""
    running = {
        each: [
            start(each, "walk_values.py"),
            start(each, "walk_calls.py"),
            *(start(each, "walk_services.py", part) for part in PARTS),
        ]
        for each in (REAL, DROP_IN)
    }
    theirs, _ = finish(start(REAL, "walk_names.py"), within=LONG)
    names = tmp_path / "names.json"
    names.write_text(theirs)
    found = {REAL: json.loads(theirs), DROP_IN: {}}
    for each, result in found.items():
        result |= walk_qrscp(start, each, tmp_path / each.name)
    running[DROP_IN].append(start(DROP_IN, "walk_names.py", names))
    for each, processes in running.items():
        for process in processes:
            found[each] |= json.loads(finish(process, within=LONG)[0])
    return found[DROP_IN], found[REAL]


def walk_qrscp(start: Start, implementation: Implementation, folder: Path) -> dict[str, Any]:
    """Return what the application is found to answer."""
    folder.mkdir()
    server = Server(implementation, "qrscp_scp.py", folder)
    try:
        printed, _ = finish(start(implementation, "walk_qrscp.py", server.port), within=LONG)
    finally:
        end(server.process)
    found: dict[str, Any] = json.loads(printed)
    return found


def differs(ours: Any, theirs: Any) -> bool:
    """Return whether a program could see that `ours` is not `theirs`."""
    if theirs == "attribute to be read" and ours == "attribute":
        return False
    if isinstance(ours, list) and isinstance(theirs, list) and theirs == ours[: len(theirs)]:
        # What a call takes besides, and may be left out, is no difference.
        return not all(
            isinstance(more, str) and set(more) & set("=*") for more in ours[len(theirs) :]
        )
    return bool(ours != theirs)


def without_our_comments(ours: Any, theirs: Any) -> Any:
    """Return `ours` without the comments that we add to failures, as the page says in one place."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        return {
            name: without_our_comments(value, theirs.get(name))
            for name, value in ours.items()
            if name in theirs or name != "ErrorComment"
        }
    if isinstance(ours, list) and isinstance(theirs, list):
        pairs = zip_longest(ours, theirs[: len(ours)])
        return [without_our_comments(*pair) for pair in pairs]
    return ours


def differences(ours: dict[str, Any], theirs: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Return what differs, by path; what is not there at all is told once."""
    found: dict[str, tuple[Any, Any]] = {}
    for path, value in theirs.items():
        whole = (f"{path.partition(':')[0]}:", path.partition(".")[0])
        if any(found.get(each, [""])[0] == "missing" for each in whole):
            continue
        if differs(without_our_comments(ours.get(path), value), value):
            found[path] = ours.get(path), value
    return found


def listed() -> Iterator[str]:
    """Yield the patterns in the first column of the table on the page."""
    for line in PAGE.read_text().partition(HEADING)[2].splitlines():
        if line.startswith("| `"):
            yield from re.findall(r"`([^`]+)`", line.split(" | ")[0])


@pytest.mark.timeout(2 * LONG)
def test_every_difference_is_on_the_migration_page_and_no_other(start, tmp_path):
    if not os.access(REAL.python, os.X_OK):
        missing = pytest.fail if os.environ.get("CI", "").lower() in ("true", "1") else pytest.skip
        missing(f"{REAL.python}, PYNETDICOM_PYTHON: no Python")
    found = differences(*walk(start, tmp_path))
    patterns = list(listed())
    unlisted = {
        path: pair
        for path, pair in found.items()
        if not any(fnmatchcase(path, pattern) for pattern in patterns)
    }
    assert unlisted == {}
    stale = [each for each in patterns if not any(fnmatchcase(path, each) for path in found)]
    assert stale == []
