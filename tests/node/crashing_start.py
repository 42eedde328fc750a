"""A node with workers, to be killed while it prepares its folder: it prints a line when it does so.

The process that prepares the folder goes on when the node is dead.
"""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path
from typing import Any

from dicomwire.node import server
from dicomwire.node.archive import Archive
from dicomwire.node.configuration import Configuration


def main(folder: str) -> None:
    """Start the node."""
    node = os.getpid()

    class Late(Archive):
        def __init__(self, *arguments: Any) -> None:
            sys.stdout.write("preparing\n")
            sys.stdout.flush()
            moment = threading.Event()
            while os.getppid() == node:
                moment.wait(0.01)
            super().__init__(*arguments)

    server.Archive = Late
    server.Node(Configuration(folder=Path(folder), port=0, workers=2)).start()
