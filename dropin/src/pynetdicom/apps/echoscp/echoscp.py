"""`echoscp` of dicomwire."""

from dicomwire.apps import echoscp


def main(args: list[str] | None = None) -> int:
    """Run echoscp; it logs only errors unless told otherwise."""
    return echoscp.main(args, verbose=False)


if __name__ == "__main__":
    raise SystemExit(main())
