"""The `dicomwire` command: finds the application that its first argument names, and runs it.

Which arguments an application takes, and what it does, is in `apps`.
"""

from __future__ import annotations

import sys
from importlib import import_module

from dicomwire import __version__

APPS = {
    "echoscp": "answer C-ECHO requests",
    "echoscu": "ask whether a DICOM peer answers (C-ECHO)",
    "findscu": "ask a peer what it has (C-FIND)",
    "getscu": "retrieve objects over the same association (C-GET)",
    "movescu": "have a peer send objects to some AE (C-MOVE)",
    "node": "be an archive: receive, find and send objects",
    "qrscp": "be an archive, with pynetdicom's options and INI file",
    "storescp": "receive DICOM files (C-STORE)",
    "storescu": "send DICOM files and folders of them (C-STORE)",
    "users": "make a line of a file of users, for --users",
}


def _help() -> str:
    lines = [f"  {name:<12}{purpose}" for name, purpose in APPS.items()]
    return "\n".join(
        (
            "usage: dicomwire [-h] [--version] APP ...",
            "",
            "DICOM networking from the command line. The applications are:",
            *lines,
            "",
            "dicomwire APP --help says what each of them takes.",
            "",
        )
    )


def _unknown(name: str) -> str:
    from difflib import get_close_matches

    nearest = " or ".join(get_close_matches(name, APPS, n=2, cutoff=0.6))
    meant = f"did you mean {nearest}?" if nearest else f"there are {', '.join(APPS)}"
    return f"dicomwire: there is no application {name!r}: {meant}\n"


def main(args: list[str] | None = None) -> int:
    """Run the application that the first argument names with the others.

    Returns
    -------
    int
        The exit code: that of the application, or 2 where none was named.
    """
    name, *rest = (sys.argv[1:] if args is None else args) or [""]
    if name in APPS:
        code: int = import_module(f"dicomwire.apps.{name}").main(rest)
        return code
    if name in ("-h", "--help"):
        sys.stdout.write(_help())
        return 0
    if name == "--version":
        sys.stdout.write(f"dicomwire {__version__}\n")
        return 0
    sys.stderr.write(_unknown(name) if name else _help())
    return 2


if __name__ == "__main__":
    sys.exit(main())
