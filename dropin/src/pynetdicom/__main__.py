"""``python -m pynetdicom APP``: runs the application of dicomwire that has the same name."""

from __future__ import annotations

import sys

from dicomwire.__main__ import APPS, main as _main

_ALL = {"echoscp", "echoscu", "findscu", "getscu", "movescu", "qrscp", "storescp", "storescu"}


def main(args: list[str] | None = None) -> int:
    """Run the application that the first argument names; return its exit code."""
    args = sys.argv[1:] if args is None else args
    if args and args[0] in _ALL.difference(APPS):
        sys.stderr.write(f"pynetdicom: dicomwire has no {args[0]} yet\n")
        return 2
    return _main(args)


if __name__ == "__main__":
    sys.exit(main())
