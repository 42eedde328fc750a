"""`echoscu` of dicomwire, with the exit codes of pynetdicom's."""

from __future__ import annotations

from dicomwire.apps import echoscu
from pynetdicom.apps import with_exit_codes


def main(args: list[str] | None = None) -> int:
    """Run echoscu and return its exit code; see ``python -m pynetdicom echoscu --help``."""
    return echoscu.main(with_exit_codes(args))


if __name__ == "__main__":
    raise SystemExit(main())
