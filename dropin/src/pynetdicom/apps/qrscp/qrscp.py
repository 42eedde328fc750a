"""`qrscp` of dicomwire."""

from dicomwire.apps.qrscp import main as main

if __name__ == "__main__":
    raise SystemExit(main())
