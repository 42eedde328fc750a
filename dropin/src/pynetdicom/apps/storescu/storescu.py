"""`storescu` of dicomwire."""

from dicomwire.apps.storescu import main as main

if __name__ == "__main__":
    raise SystemExit(main())
