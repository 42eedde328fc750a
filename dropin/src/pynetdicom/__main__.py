"""``python -m pynetdicom APP``: runs the application of dicomwire that has the same name."""

from __future__ import annotations

import sys

from dicomwire.__main__ import main

if __name__ == "__main__":
    sys.exit(main())
