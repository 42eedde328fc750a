"""A command of `dicomwire node` in a process of its own, which ends with 0 if the command does.

`move-objects` prints a line after each portion, and waits for one before the next.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

from dicomwire.apps.node import main as node
from dicomwire.node import carrying

_move_objects = carrying.move_objects


def in_steps(*arguments: Any) -> Iterator[carrying.Moved]:
    for moved in _move_objects(*arguments):
        yield moved
        sys.stdout.write(f"{moved}\n")
        sys.stdout.flush()
        sys.stdin.readline()


def main(*arguments: str) -> None:
    carrying.move_objects = in_steps
    assert node([*arguments]) == 0
