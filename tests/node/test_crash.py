"""Kill -9 under load: what was acknowledged is there, intact and found, and nothing is half there.

``TEST_CRASHES=200`` asks for more than the few of every day.
"""

from __future__ import annotations

import os
import random
import threading
import time
from pathlib import Path

import pytest
from backends import of_folder
from node_processes import node_process
from spooling import CT, EXPLICIT, OpenArchive, sized

from dicomwire import AE
from dicomwire.data.codec import encode_dataset
from dicomwire.node.heads import read_head
from dicomwire.node.statuses import SUCCESS

CRASHES = int(os.environ.get("TEST_CRASHES", "3"))
SENDERS = 8
QUICKLY = 15.0
"""Seconds that a start after a crash may take, most of which are imports."""

pytestmark = pytest.mark.timeout(120 + 20 * CRASHES)


class Load:
    """Senders that go on until the node dies, and note what was acknowledged.

    Attributes
    ----------
    acknowledged : dict of str to bytes
        The encoded datasets by UID.
    """

    def __init__(self, port: int, prefix: str, chance: random.Random) -> None:
        self.acknowledged: dict[str, bytes] = {}
        self._port = port
        self._is_stopped = False
        self._left = chance.randrange(5, 150)
        self._changed = threading.Condition()
        self._sizes = [0, 0, 1_000, 100_000, 300_000]
        self._threads = [
            threading.Thread(target=self._send, args=(f"{prefix}.{number}", chance.randrange(5)))
            for number in range(SENDERS)
        ]
        for thread in self._threads:
            thread.start()

    def _send(self, prefix: str, number: int) -> None:
        ae = AE()
        ae.add_requested_context(CT, EXPLICIT)
        assoc = ae.associate("127.0.0.1", self._port)
        while assoc.is_established and not self._is_stopped:
            number += 1
            uid = f"{prefix}.{number}"
            ds = sized(uid, uid, self._sizes[number % len(self._sizes)])
            try:
                status = assoc.send_c_store(ds)
            except RuntimeError:  # the association ended just before
                break
            if "Status" in status:
                assert status.Status == SUCCESS
                with self._changed:
                    self.acknowledged[uid] = encode_dataset(ds, EXPLICIT)
                    self._changed.notify_all()
        if assoc.is_established:
            assoc.release()

    def stop(self) -> None:
        """Let all senders end."""
        self._is_stopped = True
        self.end()

    def wait(self, more: int = 0) -> None:
        """Wait until a random number of objects has been acknowledged, or so many more."""
        with self._changed:
            least = len(self.acknowledged) + more if more else self._left
            assert self._changed.wait_for(lambda: len(self.acknowledged) >= least, 60)

    def end(self) -> None:
        """Wait until all senders have noticed that the node is dead."""
        for thread in self._threads:
            thread.join()


def whole_objects(archive: OpenArchive) -> list[bytes]:
    """Return all objects in the store, of which each must be whole."""
    contents = [archive.read(name) for name in archive.objects()]
    for content in contents:
        _, offset, seal = read_head(content, len(content))
        assert seal is not None
        assert len(content) == offset + seal.size
    return contents


@pytest.mark.only_with("folder", "a bucket has a test of its own, and its leftovers are tasks")
def test_what_was_acknowledged_survives_kill_9(tmp_path: Path) -> None:
    folder = tmp_path / "node"
    everything: dict[str, bytes] = {}
    for crash in range(CRASHES):
        chance = random.Random(crash)
        with node_process(folder) as node:
            load = Load(node.port, f"1.2.{crash + 1}", chance)
            load.wait()
            node.kill()
        load.end()
        everything |= load.acknowledged
        begin = time.monotonic()
        with OpenArchive(folder) as archive:
            assert time.monotonic() - begin < QUICKLY
            assert archive.spool() == []
            assert len(whole_objects(archive)) == archive.counts()[-1]
            found = archive.index.find(list(load.acknowledged))
            for uid, data in load.acknowledged.items():
                (stored,) = found[uid]
                assert archive.read(stored.file).endswith(data)
    assert of_folder(folder).findings(folder) == []
    with OpenArchive(folder) as archive:
        assert len(archive.index.find(list(everything))) == len(everything)


def test_a_node_starts_by_itself_after_a_crash(tmp_path: Path) -> None:
    folder = tmp_path / "node"
    with node_process(folder) as node:
        load = Load(node.port, "1.2", random.Random(7))
        load.wait()
        node.kill()
    load.end()
    with node_process(folder) as node:
        ae = AE()
        ae.add_requested_context(CT, EXPLICIT)
        assoc = ae.associate("127.0.0.1", node.port)
        for uid, data in load.acknowledged.items():
            ds = sized(uid, uid, 0)
            expected = SUCCESS if encode_dataset(ds, EXPLICIT) == data else 0x0111
            assert assoc.send_c_store(ds).Status == expected
        assoc.release()
