"""Kill -9 while a node receives and forwards: every acknowledged object arrives in the end.

Each second time, the process that sends is killed before the node.

``TEST_CRASHES=100`` asks for more than the few of every day.
"""

from __future__ import annotations

import hashlib
import os
import random
import signal
import threading
from collections import Counter
from contextlib import suppress
from pathlib import Path

import pytest
from backends import of_folder
from node_processes import NodeProcess, Senders, eventually, node_process
from spooling import CT, EXPLICIT

from dicomwire import AE, build_context, evt
from dicomwire.node.forwarding.pending import MOST
from dicomwire.node.index.reader import IndexReader
from dicomwire.node.tasks.queue import listed

CRASHES = int(os.environ.get("TEST_CRASHES", "3"))

pytestmark = pytest.mark.timeout(120 + 20 * CRASHES)


class Destination:
    """Notes what arrives, and aborts an association now and then.

    Attributes
    ----------
    arrived : Counter
        How often each object arrived, by UID and digest.
    """

    def __init__(self, chance: random.Random) -> None:
        self.arrived: Counter[tuple[str, str]] = Counter()
        self._chance = chance
        self._lock = threading.Lock()  # guards the others

    def store(self, event: evt.Event) -> int:
        digest = hashlib.sha256(event.encoded_dataset(include_meta=False)).hexdigest()
        with self._lock:
            if self._chance.random() < 0.01:
                event.assoc.abort()
                return 0xA700
            self.arrived[str(event.request.AffectedSOPInstanceUID), digest] += 1
        return 0x0000


def test_what_was_acknowledged_arrives_whenever_the_node_is_killed(tmp_path: Path) -> None:
    chance = random.Random(11)
    destination = Destination(chance)
    ae = AE("DESTINATION")
    server = ae.start_server(
        ("127.0.0.1", 0),
        block=False,
        contexts=[build_context(CT, EXPLICIT)],
        evt_handlers=[(evt.EVT_C_STORE, destination.store)],
    )
    assert server is not None
    port = server.server_address[1]
    keys = {
        "destinations": {"WS1": {"host": "127.0.0.1", "port": port, "window": 4}},
        "routes": [{"to": ["WS1"]}],
    }
    folder = tmp_path / "node"
    acknowledged: set[tuple[str, str]] = set()
    for crash in range(CRASHES):
        with node_process(folder, **keys) as node:
            with Senders([node.port], f"1.2.{crash + 1}", 4) as load:
                load.wait(chance.randrange(5, 200))
                if crash % 2 == 0:
                    kill_senders(node)
                    load.wait(20)
                node.kill()
            acknowledged |= set(load.acknowledged.items())
    # After each abort, the node waits up to a second: what has gathered takes so many seconds.
    patience = 30 + 3 * CRASHES
    with node_process(folder, **keys):
        assert eventually(lambda: acknowledged <= set(destination.arrived), patience)
        with IndexReader(of_folder(folder).database(folder)) as index:
            assert eventually(
                lambda: not [task for task in listed(index) if task.kind.startswith("send:")],
                patience,
            )
    ae.shutdown()
    # What was sent when a process was killed, but not noted as sent, arrives again.
    again = sum(number - 1 for number in destination.arrived.values())
    assert again <= (MOST + 1) * 2 * CRASHES


def kill_senders(node: NodeProcess) -> None:
    """Kill the process that sends, if there is one now."""
    for pid in node.task_process():
        with suppress(ProcessLookupError):  # it has ended by itself
            os.kill(pid, signal.SIGKILL)
