"""`findscu` of dicomwire."""

from dicomwire.apps.findscu import main as main

if __name__ == "__main__":
    raise SystemExit(main())
