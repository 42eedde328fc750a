"""A node with worker processes: what is acknowledged survives the death of any of its processes.

``TEST_CRASHES=200`` asks for more deaths than the few of every day.
"""

from __future__ import annotations

import hashlib
import os
import random
import signal
import socket
import time
from contextlib import ExitStack
from pathlib import Path

import pytest
from backends import Backend, configuration_of, of_folder
from buckets import new_url, write_variables
from forking import forked
from node_processes import NodeProcess, Senders, eventually, node_process
from postgres_server import PostgresServer
from running_node import associate, find, make_object, store, study_of
from spooling import CT, OpenArchive

from dicomwire.node.archive import FolderUnusable
from dicomwire.node.heads import read_head
from dicomwire.node.index.reader import IndexReader
from dicomwire.node.server import Node
from dicomwire.node.tasks.queue import ListedTask, listed

CRASHES = int(os.environ.get("TEST_CRASHES", "2"))
pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no worker processes"),
    pytest.mark.timeout(120 + 20 * CRASHES),
]


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def assert_stored(
    folder: Path, acknowledged: dict[str, str], backend: Backend | None = None
) -> None:
    """Assert that a stopped node has each acknowledged object once, and nothing is half there."""
    with OpenArchive(folder, backend=backend) as archive:
        found = archive.index.find(list(acknowledged))
        assert archive.spool() == []
        for uid, digest in acknowledged.items():
            (stored,) = found[uid]
            content = archive.read(stored.file)
            _, offset, _ = read_head(content, len(content))
            assert hashlib.sha256(content[offset:]).hexdigest() == digest
    assert (backend or of_folder(folder)).findings(folder) == []


def test_all_workers_store_and_find(tmp_path: Path, backend: Backend) -> None:
    with node_process(tmp_path, workers=2, index=backend.index) as node:
        with associate(node, CT) as first, associate(node, CT) as second:
            pids = node.workers()
            assert first.send_c_store(make_object(1)).Status == 0x0000
            assert second.send_c_store(make_object(2)).Status == 0x0000
        assert len(pids) == 2
        for _ in range(2):
            (_, match), _ = find(node, study_of(NumberOfStudyRelatedInstances=""))
            assert match.NumberOfStudyRelatedInstances == 2


def test_sigterm_lets_associations_end(tmp_path: Path) -> None:
    with node_process(tmp_path, workers=2, stop_timeout=60) as node:
        assoc = associate(node, CT)
        assert assoc.send_c_store(make_object(1)).Status == 0x0000
        node.terminate()
        assert eventually(lambda: refuses(node))
        assert assoc.send_c_store(make_object(2)).Status == 0x0000
        assoc.release()
        assert node.process.wait(30) == 0
    with OpenArchive(tmp_path) as archive:
        assert archive.counts()[-1] == 2


def refuses(node: NodeProcess) -> bool:
    try:
        socket.create_connection(node.address, 5).close()
    except ConnectionRefusedError:
        return True
    return False


@pytest.mark.only_with("sqlite", "with PostgreSQL there may be several")
def test_another_node_is_refused(tmp_path: Path) -> None:
    with node_process(tmp_path, workers=2), pytest.raises(FolderUnusable, match="another process"):
        Node(configuration_of(tmp_path)).start()


def test_killed_workers_are_replaced_and_nothing_is_lost(tmp_path: Path) -> None:
    chance = random.Random(1)
    with node_process(tmp_path, workers=2) as node:
        with Senders([node.port], "1.2", 4) as senders:
            for _ in range(CRASHES):
                senders.wait(chance.randrange(5, 50))
                os.kill(chance.choice(node.workers()), signal.SIGKILL)
            senders.wait(50)
        node.terminate()
        assert node.process.wait(30) == 0
    assert_stored(tmp_path, senders.acknowledged)


def test_a_killed_node_starts_again_and_nothing_is_lost(tmp_path: Path) -> None:
    chance = random.Random(2)
    acknowledged: dict[str, str] = {}
    for crash in range(CRASHES):
        with node_process(tmp_path, workers=2) as node:
            pids = node.workers()
            with Senders([node.port], f"1.{crash}", 4) as senders:
                senders.wait(chance.randrange(5, 100))
                node.kill()
            assert eventually(lambda: not any(map(is_alive, pids)))  # noqa: B023
        acknowledged |= senders.acknowledged
    with node_process(tmp_path, workers=2) as node:
        assert store(node, make_object()) == [0x0000]
    assert_stored(tmp_path, acknowledged)


def test_a_node_that_is_killed_while_it_starts_leaves_no_process(tmp_path: Path) -> None:
    with forked("crashing_start", str(tmp_path)) as starting:
        assert starting.stdout.readline() == "preparing\n"
        starting.kill()
        assert starting.stdout.read() == ""  # all that could write have ended
    with node_process(tmp_path, workers=2):
        pass


def test_what_a_worker_acknowledges_the_first_process_uploads_at_once(
    tmp_path: Path, seaweedfs_port: int
) -> None:
    """Without being told, it would look for tasks every 15 seconds."""
    bucket = {
        "objects": new_url(),
        "objects_variables": write_variables(tmp_path / "variables", seaweedfs_port),
        "acknowledge": "spooled",
    }
    folder = tmp_path / "node"
    with node_process(folder, workers=2, **bucket) as node:
        assert store(node, make_object(0)) == [0x0000]
        assert eventually(lambda: not waiting_uploads(folder))
        began = time.monotonic()
        assert store(node, *map(make_object, range(1, 4))) == [0x0000] * 3
        assert eventually(lambda: not waiting_uploads(folder))
        assert time.monotonic() - began < 10


def waiting_uploads(folder: Path) -> list[ListedTask]:
    with IndexReader(of_folder(folder).database(folder)) as index:
        return [task for task in listed(index) if task.kind.startswith("upload")]


@pytest.mark.only_with("folder", "both nodes use one")
def test_of_two_nodes_one_is_killed_and_nothing_is_lost(
    tmp_path: Path, postgres_server: PostgresServer
) -> None:
    chance = random.Random(3)
    url = postgres_server.new_database()
    with node_process(tmp_path, index=url) as first, ExitStack() as others:
        second = others.enter_context(node_process(tmp_path, index=url))
        ports = [first.port, second.port]
        with Senders(ports, "1.2", 4) as senders:
            for _ in range(CRASHES):
                senders.wait(chance.randrange(5, 100))
                second.kill()
                senders.wait(20)
                second = others.enter_context(node_process(tmp_path, index=url))
                ports[1] = second.port
            senders.wait(50)
        for node in (first, second):
            node.terminate()
            assert node.process.wait(30) == 0
    assert_stored(tmp_path, senders.acknowledged, Backend(index=url))
