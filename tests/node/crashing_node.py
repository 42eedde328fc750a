"""A node that is there to be killed: it prints its port.

For the line "workers" of its input it prints the process ids of its workers, and for "tasks" that
of the process that runs its tasks. SIGTERM and the end of the input stop it. What it logs is in the
file "log" of its folder.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import threading
from pathlib import Path

from dicomwire.node import nodes
from dicomwire.node.configuration import Configuration, merged
from dicomwire.node.server import Node
from dicomwire.node.tasks import process, queue
from dicomwire.workers import supervisor


def answer(node: Node) -> None:
    for line in sys.stdin:
        pids = [worker.pid for worker in node.workers]
        if line.strip() == "tasks":
            pids = [node.task_process] if node.task_process else []
        tell(" ".join(map(str, pids)))
    signal.raise_signal(signal.SIGTERM)


def tell(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def main(folder: str, keys: str) -> None:
    """Run a node; `keys` is the JSON of keys of its configuration, and perhaps `lease`.

    `lease` is the number of seconds after which another node takes this one for dead.
    """
    Path(folder).mkdir(parents=True, exist_ok=True)
    with open(Path(folder, "log"), "ab") as log:
        os.dup2(log.fileno(), 2)
    logging.basicConfig(
        level=os.environ.get("TEST_LOG", "WARNING"),
        format="%(asctime)s %(process)d %(levelname)s %(message)s",
    )
    values = json.loads(keys)
    queue.LEASE = nodes.LEASE = values.pop("lease", queue.LEASE)
    nodes._EVERY = nodes.LEASE / 4
    configuration = merged(Configuration(folder=Path(folder), port=0), values)
    process.NICENESS = 0  # others wait for what it does
    supervisor.LONGEST_DELAY = supervisor.FIRST_DELAY  # a test kills many workers in a row
    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    with Node(configuration) as node:
        tell(str(node.address[1]))
        threading.Thread(target=answer, args=(node,), daemon=True).start()
        ended.wait()
