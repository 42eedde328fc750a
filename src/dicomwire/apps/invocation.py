"""How the user can run another application: for the commands that applications print."""

from __future__ import annotations

import os
import shlex
import shutil
import sys


def program() -> str:
    """Return the beginning of a command line that runs ``dicomwire`` of this environment.

    That is its name if the shell finds it, otherwise its path, from the current folder if it is
    there. Without such a file, it is the module.
    """
    beside = os.path.join(os.path.dirname(sys.executable), "dicomwire")
    found = shutil.which("dicomwire")
    if not os.path.exists(beside):
        return f"{_shown(sys.executable)} -m dicomwire"
    if found is not None and os.path.samefile(found, beside):
        return "dicomwire"
    return _shown(beside)


def _shown(path: str) -> str:
    """Return a path for a shell, relative to the current folder if it is in there."""
    relative = os.path.relpath(path)
    return shlex.quote(path if relative.startswith(os.pardir) else relative)
