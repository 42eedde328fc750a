"""A node that is there to be killed: ``python crashing_node.py FOLDER`` prints its port."""

from __future__ import annotations

import sys
from pathlib import Path

from dicomwire.node.configuration import Configuration
from dicomwire.node.server import Node

if __name__ == "__main__":
    configuration = Configuration(folder=Path(sys.argv[1]), port=0)
    with Node(configuration) as node:
        sys.stdout.write(f"{node.address[1]}\n")
        sys.stdout.flush()
        sys.stdin.read()
