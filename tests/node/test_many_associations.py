"""64 associations at once, one object in twenty a duplicate: nothing acknowledged is lost.

``DICOMWIRE_TEST_OBJECTS=100000`` asks for more than the few of every day.
"""

from __future__ import annotations

import hashlib
import os
import random
from collections import Counter, defaultdict
from pathlib import Path

import pytest
from spooling import CT, EXPLICIT, OpenArchive, all_at_once, sized

from dicomwire import AE
from dicomwire.data.codec import encode_dataset
from dicomwire.node.commit import DUPLICATE, SUCCESS
from dicomwire.node.configuration import Configuration, Duplicates
from dicomwire.node.maintenance import check
from dicomwire.node.server import Node

OBJECTS = int(os.environ.get("DICOMWIRE_TEST_OBJECTS", "1280"))
ASSOCIATIONS = 64

pytestmark = pytest.mark.timeout(120 + OBJECTS // 50)

Work = tuple[str, str, int]
"""UID, note, and bytes of pixel data."""


def shares() -> list[list[Work]]:
    """Return what each association is to send; half of the second ones of a UID are changed."""
    chance = random.Random(5)
    works = [
        (f"1.2.{number}", "first", (0, 0, 3_000, 100_000)[number % 4]) for number in range(OBJECTS)
    ]
    for uid, _, pixels in chance.sample(works, OBJECTS // 20):
        works.append((uid, chance.choice(["first", "changed"]), pixels))
    chance.shuffle(works)
    return [works[start::ASSOCIATIONS] for start in range(ASSOCIATIONS)]


def send(port: int, share: list[Work], outcomes: list[tuple[str, str, int]]) -> None:
    """Send a share on an association; note UID, digest and status of each."""
    ae = AE()
    ae.add_requested_context(CT, EXPLICIT)
    assoc = ae.associate("127.0.0.1", port)
    assert assoc.is_established
    for uid, note, pixels in share:
        ds = sized(uid, note, pixels)
        digest = hashlib.sha256(encode_dataset(ds, EXPLICIT)).hexdigest()
        outcomes.append((uid, digest, assoc.send_c_store(ds).Status))
    assoc.release()


@pytest.mark.parametrize("policy", Duplicates)
def test_64_associations_lose_nothing(tmp_path: Path, policy: Duplicates) -> None:
    outcomes: list[tuple[str, str, int]] = []
    configuration = Configuration(
        folder=tmp_path,
        port=0,
        duplicates=policy,
        max_associations=ASSOCIATIONS,
        max_per_address=ASSOCIATIONS,
        max_per_title=ASSOCIATIONS,
    )
    with Node(configuration) as node:
        port = node.address[1]
        all_at_once([lambda share=share: send(port, share, outcomes) for share in shares()])
    assert len(outcomes) == OBJECTS + OBJECTS // 20
    sent: dict[str, set[str]] = defaultdict(set)
    acknowledged: dict[str, set[str]] = defaultdict(set)
    for uid, digest, status in outcomes:
        assert status in ((SUCCESS, DUPLICATE) if policy is Duplicates.KEEP_FIRST else (SUCCESS,))
        sent[uid].add(digest)
        if status == SUCCESS:
            acknowledged[uid].add(digest)

    assert list(check(tmp_path)) == []  # every file is there, and has the digest of its row
    with OpenArchive(tmp_path, policy) as archive:
        kept: dict[str, set[str]] = defaultdict(set)
        for uid, data in archive.contents():
            kept[uid].add(hashlib.sha256(data).hexdigest())
        files = len(archive.objects())
    assert kept.keys() == sent.keys()
    if policy in (Duplicates.REPLACE, Duplicates.IGNORE):
        assert all(len(kept[uid]) == 1 and kept[uid] <= sent[uid] for uid in sent)
    else:
        assert kept == acknowledged
    assert files == sum(map(len, kept.values()))
    versions = Counter(len(each) for each in kept.values())
    assert set(versions) == ({1, 2} if policy is Duplicates.KEEP_BOTH else {1})
