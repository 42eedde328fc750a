"""Kill -9 while objects are stored, deleted and retained: no file is left without an entry.

``TEST_CRASHES=200`` asks for more than the few of every day.
"""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest
from forking import Forked
from living_archive import LivingArchive

from dicomwire.node.carrying import GRACE
from dicomwire.node.configuration import Configuration

CRASHES = int(os.environ.get("TEST_CRASHES", "2"))

pytestmark = pytest.mark.timeout(60 + 60 * CRASHES)


def facts_until_killed(folder: Path, crash: int) -> list[str]:
    """Run everything at once, kill it, and return the facts that were told before."""
    with Forked("crashing_life", str(folder), str(crash + 1)) as process:
        least = random.Random(crash).randrange(30, 70)
        told = [process.stdout.readline() for _ in range(least)]
        process.kill()
        told += process.stdout.readlines()
    return [line.strip() for line in told if line.endswith("\n")]


def test_nothing_is_half_there_whenever_it_is_killed(tmp_path: Path) -> None:
    folder = tmp_path / "archive"
    stored: set[str] = set()
    deleted: list[str] = []
    for crash in range(CRASHES):
        facts = facts_until_killed(folder, crash)
        assert any(each.startswith("-") for each in facts)
        stored |= {each[1:] for each in facts if each.startswith("+")}
        deleted += [each[1:] for each in facts if each.startswith("-")]
        gone = {uid for uid in stored if uid.rpartition(".1.")[0] in deleted}
        with LivingArchive(Configuration(folder=folder)) as archive:
            found = archive.uids()
            assert not found & gone
            # Of each run, one deletion may have been done but not told.
            missing = {uid.rpartition(".1.")[0] for uid in stored - gone - found}
            assert len(missing) <= crash + 1
            deleted += sorted(missing)
            archive.run_tasks(after=GRACE + 1)
            assert archive.files() == len(found)
            assert archive.is_whole()
