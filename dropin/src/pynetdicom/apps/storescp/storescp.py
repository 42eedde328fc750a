"""`storescp` of dicomwire."""

from dicomwire.apps.storescp import main as main

if __name__ == "__main__":
    raise SystemExit(main())
