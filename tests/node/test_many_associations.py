"""64 associations at once, one object in twenty a duplicate: nothing acknowledged is lost.

The same with worker processes, and with two nodes on one index.

``TEST_OBJECTS=100000`` asks for more than the few of every day; with ``-s``, each test tells how
far it is, and at its end what it has checked. In a bucket they take 3 GB of the temporary folder.
"""

from __future__ import annotations

import hashlib
import os
import random
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from datetime import datetime
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest
from backends import Backend, configuration_of, of_folder
from buckets import new_url, write_variables
from node_processes import node_process
from postgres_server import PostgresServer
from running_node import FIND, study_of
from spooling import CT, EXPLICIT, OpenArchive, all_at_once, sized

from dicomwire import AE
from dicomwire.data.codec import encode_dataset
from dicomwire.node.carrying import names_to_remove
from dicomwire.node.configuration import Duplicates
from dicomwire.node.server import Node
from dicomwire.node.statuses import DUPLICATE, SUCCESS

OBJECTS = int(os.environ.get("TEST_OBJECTS", "320"))
FEWER = int(os.environ.get("TEST_OBJECTS", "160"))
"""For several processes, whose locks take longer."""
ASSOCIATIONS = 64
PORTION = max(OBJECTS // 100, 1_000)
"""After so many objects, a test tells how far it is."""

pytestmark = pytest.mark.timeout(120 + OBJECTS // 10)

Work = tuple[str, str, int]
"""UID, note, and bytes of pixel data."""
Outcome = tuple[str, str, int]
"""UID, digest, and status of the response."""


def shares(number: int) -> list[list[Work]]:
    """Return what each association is to send; half of the second ones of a UID are changed."""
    chance = random.Random(5)
    works = [(f"1.2.{each}", "first", (0, 0, 3_000, 100_000)[each % 4]) for each in range(number)]
    for uid, _, pixels in chance.sample(works, number // 20):
        works.append((uid, chance.choice(["first", "changed"]), pixels))
    chance.shuffle(works)
    return [works[start::ASSOCIATIONS] for start in range(ASSOCIATIONS)]


def send(port: int, share: list[Work], outcomes: list[Outcome]) -> None:
    """Send a share on an association; note UID, digest and status of each."""
    ae = AE()
    ae.add_requested_context(CT, EXPLICIT)
    assoc = ae.associate("127.0.0.1", port)
    assert assoc.is_established
    for uid, note, pixels in share:
        ds = sized(uid, note, pixels)
        digest = hashlib.sha256(encode_dataset(ds, EXPLICIT)).hexdigest()
        status = assoc.send_c_store(ds)
        assert "Status" in status, f"no answer for {uid}, on an association with port {port}"
        outcomes.append((uid, digest, status.Status))
        if len(outcomes) % PORTION == 0:
            tell(f"{len(outcomes)} objects are answered")
    assoc.release()


def tell(text: str) -> None:
    """Tell those who wait for a large number of objects."""
    sys.stdout.write(f"{datetime.now():%H:%M:%S} {text}\n")
    sys.stdout.flush()


def keys_of(policy: Duplicates) -> dict[str, Any]:
    """Return the keys of a configuration that admits all of them."""
    limits = ("max_associations", "max_per_address", "max_per_title")
    return {"duplicates": policy, **dict.fromkeys(limits, ASSOCIATIONS)}


@pytest.mark.parametrize("policy", Duplicates)
def test_64_associations_lose_nothing(tmp_path: Path, policy: Duplicates) -> None:
    with Node(configuration_of(tmp_path, **keys_of(policy))) as node:
        outcomes = send_all([node.address[1]], OBJECTS)
    assert_kept(outcomes, tmp_path, policy)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no worker processes")
def test_64_associations_with_workers_lose_nothing(tmp_path: Path) -> None:
    policy = Duplicates.KEEP_BOTH
    with node_process(tmp_path, workers=3, **keys_of(policy)) as node:
        outcomes = send_all([node.port], FEWER)
        node.terminate()
        assert node.process.wait(60) == 0
    assert_kept(outcomes, tmp_path, policy)


@pytest.mark.only_with("folder", "both nodes use one")
@pytest.mark.parametrize("policy", [Duplicates.KEEP_FIRST, Duplicates.REPLACE])
def test_64_associations_with_two_nodes_lose_nothing(
    tmp_path: Path, postgres_server: PostgresServer, policy: Duplicates
) -> None:
    url = postgres_server.new_database()
    keys = {"index": url, **keys_of(policy)}
    with node_process(tmp_path, **keys) as first, node_process(tmp_path, **keys) as second:
        outcomes = send_all([first.port, second.port], FEWER)
        uids = {uid for uid, _, _ in outcomes}
        for node in (first, second):
            assert set(instances_found(node.port)) == uids
            tell(f"The node on port {node.port} finds {len(uids)} objects")
            node.terminate()
            assert node.process.wait(60) == 0
    assert_kept(outcomes, tmp_path, policy, Backend(index=url))


@pytest.mark.parametrize(
    "policy", [Duplicates.KEEP_FIRST, Duplicates.REPLACE, Duplicates.KEEP_BOTH]
)
def test_64_associations_with_two_nodes_and_a_bucket_lose_nothing(
    tmp_path: Path, postgres_server: PostgresServer, seaweedfs_port: int, policy: Duplicates
) -> None:
    """As on two machines: they share no folder."""
    url, objects = postgres_server.new_database(), new_url()
    file = write_variables(tmp_path / "variables", seaweedfs_port)
    keys = {"index": url, "objects": objects, "objects_variables": file, **keys_of(policy)}
    one, other = tmp_path / "one", tmp_path / "other"
    with node_process(one, **keys) as first, node_process(other, **keys) as second:
        outcomes = send_all([first.port, second.port], FEWER)
        uids = {uid for uid, _, _ in outcomes}
        for node in (first, second):
            assert set(instances_found(node.port)) == uids
            tell(f"The node on port {node.port} finds {len(uids)} objects")
            node.terminate()
            assert node.process.wait(60) == 0
    assert_kept(outcomes, one, policy, Backend(url, objects, file))


def instances_found(port: int) -> Iterator[str]:
    """Yield the SOP Instance UIDs of all objects that a node finds."""
    ae = AE()
    ae.add_requested_context(FIND)
    with ae.associate("127.0.0.1", port) as assoc:
        identifier = study_of("")
        identifier.QueryRetrieveLevel, identifier.SOPInstanceUID = "IMAGE", ""
        identifier.SeriesInstanceUID = ""
        for status, match in assoc.send_c_find(identifier, FIND):
            assert status.Status in (0xFF00, 0x0000)
            if match is not None:
                yield match.SOPInstanceUID


def send_all(ports: Sequence[int], number: int) -> list[Outcome]:
    """Send all objects at once, to each node as many."""
    outcomes: list[Outcome] = []
    all_at_once(
        [
            lambda share=share, port=port: send(port, share, outcomes)
            for share, port in zip(shares(number), cycle(ports), strict=False)
        ]
    )
    assert len(outcomes) == number + number // 20
    return outcomes


def assert_kept(
    outcomes: list[Outcome], folder: Path, policy: Duplicates, backend: Backend | None = None
) -> None:
    """Assert that a stopped node has what it acknowledged, as the policy says."""
    sent: dict[str, set[str]] = defaultdict(set)
    acknowledged: dict[str, set[str]] = defaultdict(set)
    for uid, digest, status in outcomes:
        assert status in ((SUCCESS, DUPLICATE) if policy is Duplicates.KEEP_FIRST else (SUCCESS,))
        sent[uid].add(digest)
        if status == SUCCESS:
            acknowledged[uid].add(digest)

    with OpenArchive(folder, policy, backend) as archive:
        # Every object is there, and has the digest of its row.
        assert (backend or of_folder(folder)).findings(folder) == []
        kept: dict[str, set[str]] = defaultdict(set)
        for number, (uid, data) in enumerate(archive.contents(), 1):
            kept[uid].add(hashlib.sha256(data).hexdigest())
            if number % PORTION == 0:
                tell(f"{number} objects are read")
        # A store may remove replaced objects later, by tasks.
        files = len(set(archive.objects()) - names_to_remove(archive.index))
    assert kept.keys() == sent.keys()
    if policy in (Duplicates.REPLACE, Duplicates.IGNORE):
        assert all(len(kept[uid]) == 1 and kept[uid] <= sent[uid] for uid in sent)
    else:
        assert kept == acknowledged
    assert files == sum(map(len, kept.values()))
    versions = Counter(len(each) for each in kept.values())
    assert set(versions) == ({1, 2} if policy is Duplicates.KEEP_BOTH else {1})
    tell(
        f"Checked ({policy}): {len(outcomes)} objects of {len(sent)} UIDs were sent over "
        f"{ASSOCIATIONS} associations, {sum(map(len, acknowledged.values()))} different ones were "
        f"acknowledged, and {files} are kept, each once, whole, and as the policy says"
    )
