"""Puts the drop-in before anything else by the name `pynetdicom`; a .pth file imports this."""

import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "dicomwire_pynetdicom"))
