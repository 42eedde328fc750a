"""Processes that need not import the archive: they are forked from one that has.

`Forked` are programs of this folder, and `WorkingWithPixels` those of the node that convert objects
and render pictures.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from forked_programs import Forker, Program


class Origin:
    """A process that others are forked from: started for the first of them.

    Parameters
    ----------
    modules : str
        What it imports.
    """

    def __init__(self, *modules: str) -> None:
        self._modules = modules
        self._forker: Forker | None = None
        self._lock = threading.Lock()  # guards `_forker`

    def start(self, *arguments: str, **options: Any) -> Program:
        """Start Python with these arguments; see `Forker.start`."""
        with self._lock:
            if self._forker is None:
                path = os.pathsep.join(filter(None, sys.path))
                self._forker = Forker(modules=self._modules, environment={"PYTHONPATH": path})
        return self._forker.start(*arguments, **options)

    def end(self) -> None:
        """End it; those that were forked go on."""
        if self._forker is not None:
            self._forker.end()
            self._forker = None


OF_NODES = Origin(
    # What takes a second to import.
    *("living_archive", "dicomwire.node.server", "dicomwire.node.importing.work", "psycopg"),
    "alembic.command",
)
OF_PIXELS = Origin(
    *("dicomwire.node.processes", "dicomwire.node.transcode"),
    *("dicomwire.node.pixels.recoding", "dicomwire.node.pixels.rendering"),
)
_FOLDER = str(Path(__file__).parent)


def forked(module: str, *arguments: str) -> Program:
    """Start a process that runs `main` of a module of this folder."""
    # No thread of it, which may be about to read its input, holds up the end.
    program = (
        f"import os, sys, {module}; {module}.main(*sys.argv[1:]); sys.stdout.flush(); os._exit(0)"
    )
    return OF_NODES.start("-c", program, *arguments, stdin=True, stderr=subprocess.DEVNULL)


class QuickSubprocess:
    """Takes the place of `subprocess` for `dicomwire.node.processes`."""

    PIPE, DEVNULL = subprocess.PIPE, subprocess.DEVNULL

    @staticmethod
    def Popen(
        command: Sequence[str], *, stdin: int, stdout: int, stderr: int, env: dict[str, str]
    ) -> Program:
        """Start a process that works with pixels."""
        assert (stdin, stdout, command[0]) == (subprocess.PIPE, subprocess.PIPE, sys.executable)
        return OF_PIXELS.start(*command[1:], stdin=True, stderr=stderr, environment=env, kind="b")
