"""`storescp` of dicomwire."""

from dicomwire.apps import storescp


def main(args: list[str] | None = None) -> int:
    """Run storescp; it logs only errors unless told otherwise."""
    return storescp.main(args, verbose=False)


if __name__ == "__main__":
    raise SystemExit(main())
