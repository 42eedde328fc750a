"""``python -m pynetdicom APP``: runs the application of that name, this package's if it has one."""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.util import find_spec

from dicomwire.__main__ import APPS, main as run_dicomwire


def main() -> int:
    """Run the application that the first argument names; return its exit code."""
    name, *rest = sys.argv[1:] or [""]
    if name not in APPS or find_spec(f"pynetdicom.apps.{name}") is None:
        return run_dicomwire()
    code: int = import_module(f"pynetdicom.apps.{name}.{name}").main(rest)
    return code


if __name__ == "__main__":
    sys.exit(main())
