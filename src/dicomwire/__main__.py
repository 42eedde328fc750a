"""The `dicomwire` command: runs the application that its first argument names.

The applications are in `apps`, one module for each.
"""

from __future__ import annotations

import gc
import sys
from importlib import import_module

from dicomwire import __version__

APPS = {
    "echoscp": "answer C-ECHO requests",
    "echoscu": "ask whether a DICOM peer answers (C-ECHO)",
    "findscu": "query a peer (C-FIND)",
    "getscu": "retrieve objects over the same association (C-GET)",
    "movescu": "let a peer send objects to an AE (C-MOVE)",
    "node": "run an archive that receives, finds and sends objects",
    "qidors": "search a DICOMweb server (QIDO-RS)",
    "qrscp": "run that archive with the options and the INI file of pynetdicom",
    "storescp": "receive DICOM files (C-STORE)",
    "storescu": "send DICOM files and folders (C-STORE)",
    "stowrs": "send DICOM files and folders to a DICOMweb server (STOW-RS)",
    "users": "print a line for the file of users that --users reads",
    "wadors": "retrieve objects from a DICOMweb server (WADO-RS)",
}
_EXTRA_OF = {
    "annotated_types": ("pydantic", "node"),
    "pydantic": ("pydantic", "node"),
    "httpx": ("httpx", "webclient"),
}
"""By missing package: the package to install, and the extra that installs it."""


def _help() -> str:
    lines = [f"  {name:<12}{purpose}" for name, purpose in APPS.items()]
    return "\n".join(
        (
            "usage: dicomwire [-h] [--version] APP ...",
            "",
            "DICOM networking from the command line. The applications are:",
            *lines,
            "",
            "dicomwire help APP, or dicomwire APP --help, lists the options of an application.",
            "",
        )
    )


def _unknown(name: str) -> str:
    from difflib import get_close_matches

    nearest = " or ".join(get_close_matches(name, APPS, n=2, cutoff=0.6))
    advice = f" (did you mean {nearest}?)" if nearest else ""
    return f"dicomwire: there is no application {name!r}{advice}; see dicomwire --help\n"


def _run(name: str, args: list[str]) -> int:
    try:
        app = import_module(f"dicomwire.apps.{name}")
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in _EXTRA_OF:
            raise
        needed, extra = _EXTRA_OF[package]
        sys.stderr.write(f"E: {name} requires {needed}: pip install 'dicomwire[{extra}]'\n")
        return 1
    code: int = app.main(args)
    return code


def main(args: list[str] | None = None) -> int:
    """Run the application that the first argument names with the other arguments.

    Returns
    -------
    int
        The exit code of the application, or 2 if the first argument names none.
    """
    if args is None:  # this is the program of the process
        try:
            return main(sys.argv[1:])
        finally:
            # At its end, Python searches all objects for circles: 0.1 s after 10,000 files.
            gc.freeze()
    name, *rest = args or [""]
    if name == "help":
        name, rest = (rest[0], ["--help"]) if rest else ("--help", [])
    if name in APPS:
        return _run(name, rest)
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
