"""Two nodes on one PostgreSQL and one bucket, as on two machines: one is restarted or dies.

Each has a folder of its own. ``TEST_CRASHES=200`` asks for more than the few of every day.
"""

from __future__ import annotations

import hashlib
import os
import random
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from backends import Backend
from living_archive import LivingArchive
from node_processes import (
    NodeProcess,
    Readers,
    Senders,
    ThreadsAtWork,
    eventually,
    node_process,
    retrieve,
)
from pydicom.dataset import Dataset
from running_node import Receiver, make_object, store
from spooling import CT, EXPLICIT, sized

from dicomwire import AE, Association, evt
from dicomwire.data.codec import encode_dataset
from dicomwire.node.carrying import GRACE, names_to_remove

CRASHES = int(os.environ.get("TEST_CRASHES", "3"))
RESTARTS = max(CRASHES // 10, 2)

pytestmark = [
    pytest.mark.timeout(120 + 40 * CRASHES),
    pytest.mark.parametrize("pair", ["postgres-bucket"], indirect=True),
]


class TwoNodes:
    """Two nodes, the second one with worker processes; `ports` has those of the present ones."""

    def __init__(self, folder: Path, pair: Backend, opened: ExitStack, **keys: Any) -> None:
        self._keys = keys
        self.configurations = [pair.configuration(folder / name) for name in ("one", "other")]
        self._opened = opened
        self.nodes = [self._start(number) for number in (0, 1)]
        self.ports = [node.port for node in self.nodes]

    def _start(self, number: int) -> NodeProcess:
        configuration = self.configurations[number]
        names = "index", "objects", "objects_variables"
        keys = {name: getattr(configuration, name) for name in names} | self._keys
        # An association that is being served ends by itself.
        node = node_process(configuration.folder, stop_timeout=60, workers=1 + number, **keys)
        return self._opened.enter_context(node)

    def kill(self, number: int) -> None:
        """Let a node die."""
        self.nodes[number].kill()

    def stop(self, number: int) -> None:
        """Stop a node as a service manager does, and wait for its end."""
        self.nodes[number].terminate()
        assert self.nodes[number].process.wait(60) == 0

    def start(self, number: int) -> None:
        """Start a node in the place of one that has ended."""
        self.nodes[number] = self._start(number)
        self.ports[number] = self.nodes[number].port

    def assert_served(self, acknowledged: dict[str, str]) -> None:
        """Assert that both nodes send each object once, as it was acknowledged.

        They may have more: objects that were stored when the node died, and not answered.
        """
        for port in self.ports:
            sent = retrieve(port)
            assert sent is not None
            assert len({uid for uid, _ in sent}) == len(sent)
            assert acknowledged.items() <= dict(sent).items()

    def assert_whole(self) -> None:
        """Assert that, when both have ended, index and bucket agree and no disk keeps anything."""
        for configuration in self.configurations:
            with LivingArchive(configuration) as archive:  # its start removes what a crash left
                for _ in range(2):  # those of dead nodes look a second time for what they uploaded
                    archive.run_tasks(after=GRACE + 1)
            left = (configuration.folder / "spool").rglob("*.*")
            assert [*left, *(configuration.folder / "objects").rglob("*.dcm")] == []
        with LivingArchive(self.configurations[0]) as archive:  # it sees all that both have stored
            assert names_to_remove(archive.index) == set()
            assert archive.is_whole()


class Peers(ThreadsAtWork):
    """Threads with one short association after the other, with any node that listens.

    Attributes
    ----------
    acknowledged : dict of str to str
        The digests of encoded datasets by UID.
    failed : list of str
        What became of associations that did not end as they should.
    """

    def __init__(self, ports: Sequence[int], number: int = 8) -> None:
        self.acknowledged: dict[str, str] = {}
        self.failed: list[str] = []
        self._ports = ports
        self._served = threading.Semaphore(0)
        super().__init__(
            threading.Thread(target=self._run, args=(f"1.2.{each}", random.Random(each)))
            for each in range(number)
        )

    def wait(self, number: int) -> None:
        """Wait until that many more associations have ended."""
        for _ in range(number):
            assert self._served.acquire(timeout=60), self.failed

    def _run(self, prefix: str, chance: random.Random) -> None:
        ae = AE()
        ae.add_requested_context(CT, EXPLICIT)
        number = 0
        moment = threading.Event()
        while not self._is_over:
            moment.wait(0.03)  # others need the processor, too
            assoc = ae.associate("127.0.0.1", chance.choice(self._ports))
            if not assoc.is_established:
                # As a load balancer does, which then tries the other node.
                if assoc.failure is None or assoc.failure.stage != "connect":
                    self.failed.append(f"not established: {assoc.failure}")
                continue
            for _ in range(chance.randrange(1, 8)):
                number += 1
                uid = f"{prefix}.{number}"
                self._store(assoc, sized(uid, uid, chance.choice([0, 0, 1_000, 200_000])))
            assoc.release()
            if not assoc.is_released:
                self.failed.append("not released")
            self._served.release()

    def _store(self, assoc: Association, ds: Dataset) -> None:
        try:
            status = assoc.send_c_store(ds)
        except RuntimeError as error:
            self.failed.append(f"not stored: {error}")
            return
        if status.get("Status") == 0x0000:
            digest = hashlib.sha256(encode_dataset(ds, EXPLICIT)).hexdigest()
            self.acknowledged[ds.SOPInstanceUID] = digest
        else:
            self.failed.append(f"not stored: {status}")


@pytest.fixture
def nodes(tmp_path: Path, pair: Backend) -> Iterator[TwoNodes]:
    with ExitStack() as opened:
        yield TwoNodes(tmp_path, pair, opened)


def test_either_of_two_nodes_is_killed_and_nothing_is_lost(nodes: TwoNodes) -> None:
    chance = random.Random(4)
    with (
        Senders(nodes.ports, "1.2", 6, pause=0.03) as senders,
        Readers(nodes.ports, senders.acknowledged) as readers,
    ):
        for _ in range(CRASHES):
            senders.wait(chance.randrange(5, 60))
            dead = chance.randrange(2)
            nodes.kill(dead)
            senders.wait(20)
            nodes.start(dead)
        senders.wait(20)
        readers.wait(5)
    nodes.assert_served(senders.acknowledged)
    for number in (0, 1):
        nodes.stop(number)
    nodes.assert_whole()


def test_nodes_are_restarted_one_after_the_other_and_no_association_fails(nodes: TwoNodes) -> None:
    with Peers(nodes.ports) as peers, Readers(nodes.ports, peers.acknowledged) as readers:
        for restart in range(RESTARTS):
            peers.wait(20)
            nodes.stop(restart % 2)
            peers.wait(5)  # by the other
            nodes.start(restart % 2)
        peers.wait(20)
        readers.wait(5)
    assert peers.failed == []
    nodes.assert_served(peers.acknowledged)
    for number in (0, 1):
        nodes.stop(number)
    nodes.assert_whole()


class SlowReceiver(Receiver):
    """A receiver that answers nothing until it is let go on."""

    def __init__(self) -> None:
        super().__init__()
        self.has_begun, self.may_go_on = threading.Event(), threading.Event()

    def _take(self, event: evt.Event) -> int:
        self.has_begun.set()
        assert self.may_go_on.wait(60)
        return super()._take(event)


def test_what_a_dead_node_was_sending_another_one_sends(tmp_path: Path, pair: Backend) -> None:
    receiver = SlowReceiver()
    with ExitStack() as opened:
        port = opened.enter_context(receiver.listening(CT))
        opened.callback(receiver.may_go_on.set)
        keys = {
            "destinations": {"THERE": {"host": "127.0.0.1", "port": port}},
            "routes": [{"to": ["THERE"]}],
            "lease": 2.0,
        }
        nodes = TwoNodes(tmp_path, pair, opened, **keys)
        objects = [make_object(number) for number in range(5)]
        assert store(nodes.nodes[0], *objects) == [0x0000] * 5
        assert receiver.has_begun.wait(60)
        nodes.kill(0)
        receiver.may_go_on.set()
        expected = {each.SOPInstanceUID for each in objects}
        assert eventually(lambda: expected <= {uid for uid, _, _ in receiver.objects})
