"""`getscu` of dicomwire."""

from dicomwire.apps.getscu import main as main

if __name__ == "__main__":
    raise SystemExit(main())
