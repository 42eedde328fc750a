"""`findscu` of dicomwire, with the exit codes and the log of pynetdicom's."""

from __future__ import annotations

from dicomwire.apps import findscu
from pynetdicom.apps import with_exit_codes


def main(args: list[str] | None = None) -> int:
    """Run findscu and return its exit code; see ``python -m pynetdicom findscu --help``."""
    return findscu.main(with_exit_codes(args), verbose=True)


if __name__ == "__main__":
    raise SystemExit(main())
