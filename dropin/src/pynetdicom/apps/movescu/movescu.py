"""`movescu` of dicomwire, with the exit codes of pynetdicom's."""

from __future__ import annotations

from dicomwire.apps import movescu
from pynetdicom.apps import with_exit_codes


def main(args: list[str] | None = None) -> int:
    """Run movescu and return its exit code; see ``python -m pynetdicom movescu --help``."""
    return movescu.main(with_exit_codes(args))


if __name__ == "__main__":
    raise SystemExit(main())
