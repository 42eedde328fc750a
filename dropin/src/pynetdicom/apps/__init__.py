"""The applications of dicomwire under the names of pynetdicom's."""

from __future__ import annotations

import sys


def with_exit_codes(args: list[str] | None) -> list[str]:
    """Return `args`, or those of the process, with the option for pynetdicom's exit codes."""
    return ["--lenient", *(sys.argv[1:] if args is None else args)]
