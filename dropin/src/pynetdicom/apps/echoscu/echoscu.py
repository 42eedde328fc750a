"""`echoscu` of dicomwire."""

from dicomwire.apps.echoscu import main as main

if __name__ == "__main__":
    raise SystemExit(main())
