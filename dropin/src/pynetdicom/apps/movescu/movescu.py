"""`movescu` of dicomwire."""

from dicomwire.apps.movescu import main as main

if __name__ == "__main__":
    raise SystemExit(main())
