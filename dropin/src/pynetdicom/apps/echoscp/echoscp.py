"""`echoscp` of dicomwire."""

from dicomwire.apps.echoscp import main as main

if __name__ == "__main__":
    raise SystemExit(main())
