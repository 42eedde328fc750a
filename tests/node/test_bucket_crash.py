"""Processes of a node with a bucket: workers, and kill -9 of the node and of the bucket's server.

``TEST_CRASHES=200`` asks for more than the few of every day.
"""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from backends import Backend, configuration_of
from buckets import FaultProxy, new_url, seaweedfs, write_variables
from living_archive import LivingArchive
from node_processes import node_process
from running_node import make_object
from spooling import CT, EXPLICIT
from test_crash import SENDERS, Load

from dicomwire import AE
from dicomwire.data.codec import encode_dataset
from dicomwire.node.configuration import Configuration
from dicomwire.node.index.opening import open_database
from dicomwire.node.index.reader import IndexReader
from dicomwire.node.maintenance import check
from dicomwire.node.objects.opening import open_objects

CRASHES = int(os.environ.get("TEST_CRASHES", "1"))
SOON = 30.0

pytestmark = pytest.mark.timeout(120 + 30 * CRASHES)


def wait_for(condition: Callable[[], bool]) -> None:
    """Wait until something is true that happens in another process."""
    moment, deadline = threading.Event(), time.monotonic() + SOON
    while not condition():
        assert time.monotonic() < deadline
        moment.wait(0.05)


def verify(configuration: Configuration, acknowledged: dict[str, bytes]) -> None:
    """Check that what was acknowledged is in index and bucket, and nothing else."""
    with LivingArchive(configuration):
        pass  # a start removes what was being stored
    objects = open_objects(configuration)
    assert [*check(configuration.folder, index=configuration.index, objects=objects)] == []
    with IndexReader(open_database(configuration.index, configuration.folder)) as index:
        stored = index.find(list(acknowledged))
        for uid, data in acknowledged.items():
            (only,) = stored[uid]
            with objects.open(only.file) as file:
                assert file.read().endswith(data)


def store_one(port: int, uid_number: int) -> int:
    """Send a small object; return the status."""
    ae = AE()
    ae.add_requested_context(CT, EXPLICIT)
    with ae.associate("127.0.0.1", port) as assoc:
        return int(assoc.send_c_store(make_object(uid_number)).Status)


def test_what_was_acknowledged_survives_kill_9_of_the_node(
    seaweedfs_port: int, backend: Backend, tmp_path: Path
) -> None:
    keys = {
        "index": backend.index,
        "objects": new_url(),
        "objects_variables": write_variables(tmp_path / "variables", seaweedfs_port),
    }
    configuration = configuration_of(tmp_path / "node", **keys)
    acknowledged: dict[str, bytes] = {}
    for crash in range(CRASHES):
        with node_process(configuration.folder, **keys) as node:
            load = Load(node.port, f"1.4.{crash + 1}", random.Random(crash))
            load.wait()
            node.kill()
        load.end()
        acknowledged |= load.acknowledged
    verify(configuration, acknowledged)
    with node_process(configuration.folder, **keys) as node:
        assert store_one(node.port, 1) == 0x0000


def test_what_was_acknowledged_survives_kill_9_of_the_server_of_the_bucket(tmp_path: Path) -> None:
    (tmp_path / "seaweedfs").mkdir()
    with seaweedfs(tmp_path / "seaweedfs") as server:
        keys = {
            "objects": new_url(),
            "objects_variables": write_variables(tmp_path / "variables", server.port),
        }
        configuration = configuration_of(tmp_path / "node", **keys)
        acknowledged: dict[str, bytes] = {}
        with node_process(configuration.folder, **keys) as node:
            for crash in range(CRASHES):
                load = Load(node.port, f"1.4.{crash + 1}", random.Random(crash))
                load.wait()
                server.kill()
                server.start()
                load.wait(more=SENDERS)  # it resumes by itself
                load.stop()
                acknowledged |= load.acknowledged
        verify(configuration, acknowledged)


def test_what_was_spooled_is_uploaded_after_kill_9(seaweedfs_port: int, tmp_path: Path) -> None:
    sent = [make_object(number) for number in range(5)]
    with FaultProxy(seaweedfs_port) as proxy:
        keys = {
            "objects": new_url(),
            "objects_variables": write_variables(tmp_path / "variables", proxy.server_port),
            "acknowledge": "spooled",
        }
        configuration = configuration_of(tmp_path / "node", **keys)
        with node_process(configuration.folder, **keys) as node:
            proxy.fail_always("503", method="PUT")
            assert [store_one(node.port, number) for number in range(5)] == [0x0000] * 5
            node.kill()
        objects = open_objects(configuration)
        assert len([name for name in objects.names() if name.startswith("spooled:")]) == 5
        proxy.fail_always(None)
        database = open_database(configuration.index, configuration.folder)
        with node_process(configuration.folder, **keys), IndexReader(database) as index:
            wait_for(lambda: all(each.file.startswith("bucket:") for each in index.stored()))
        verify(configuration, {ds.SOPInstanceUID: encode_dataset(ds, EXPLICIT) for ds in sent})


def test_worker_processes_use_the_bucket(seaweedfs_port: int, tmp_path: Path) -> None:
    keys = {
        "objects": new_url(),
        "objects_variables": write_variables(tmp_path / "variables", seaweedfs_port),
        "workers": 2,
    }
    with node_process(tmp_path / "node", **keys) as node:
        assert [store_one(node.port, number) for number in range(4)] == [0x0000] * 4
    configuration = configuration_of(tmp_path / "node", **keys)
    assert len([*open_objects(configuration).names()]) == 4
