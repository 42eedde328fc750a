"""Kill -9 while objects are stored, imported, deleted and retained: nothing is half there.

``TEST_CRASHES=100`` asks for more than the few of every day.
"""

from __future__ import annotations

import json
import os
import random
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from backends import Backend
from crashing_life import DAY, KEPT, is_kept
from forking import forked
from living_archive import LivingArchive
from spooling import CT, EXPLICIT, encoded

from dicomwire.node.carrying import GRACE
from dicomwire.node.configuration import Configuration
from dicomwire.node.heads import file_head
from dicomwire.node.importing.progress import Progress
from dicomwire.node.importing.sources import open_source
from dicomwire.node.importing.work import Import

CRASHES = int(os.environ.get("TEST_CRASHES", "2"))
IMPORTED = "1.9"
"""The study that is imported."""
FILES = 60

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork"),
    pytest.mark.timeout(120 + 20 * CRASHES),
]


def facts_until_killed(keys: str, source: Path, crash: int) -> list[str]:
    """Run everything at once, kill it, and return the facts that were told before."""
    with (
        forked("crashing_life", keys, "", f"1.2.{crash}") as first,
        forked("crashing_life", keys, str(source), "") as second,
    ):
        least = random.Random(crash).randrange(30, 150)
        told = [first.stdout.readline() for _ in range(least)]
        second.kill()
        first.kill()
        told += [*first.stdout.readlines(), *second.stdout.readlines()]
    return [line.strip() for line in told if line.endswith("\n")]


@dataclass
class Expected:
    """What the archive must have, and what it must not have, by the facts of one round."""

    number: int
    present: set[str]
    """What it had before; then, in addition, what it may have."""
    gone: set[str] = field(default_factory=set)
    doubtful: set[str] = field(default_factory=set)
    """What was being deleted."""

    def learn(self, facts: list[str]) -> None:
        for fact in facts:
            kind, text = fact[0], fact[1:]
            assert kind != "!", text
            if kind == "+":
                self.present.add(text)
            elif kind in "?-":
                affected = {uid for uid in self.present if uid.startswith(f"{text}.1.")}
                (self.gone if kind == "-" else self.doubtful).update(affected)
            else:
                affected = {uid for uid in self.present if self._is_old(uid, int(text))}
                (self.gone if kind == ">" else self.doubtful).update(affected)

    def _is_old(self, uid: str, last: int) -> bool:
        """Return whether retention deletes an instance with all studies up to a number."""
        if uid.startswith(IMPORTED):
            return False
        crash, number = map(int, uid.split(".")[2:4])
        return not is_kept(number) and (crash < self.number or number <= last)

    def compare(self, found: set[str]) -> None:
        again = found & self.gone
        assert not again
        assert self.present - self.doubtful <= found
        # What was being stored; the tests of imports count what is imported.
        more = {uid for uid in found - self.present if not uid.startswith(IMPORTED)}
        assert len(more) <= 1


def import_rest(archive: LivingArchive, path: Path) -> None:
    source = open_source(path)
    progress = Progress(archive.configuration.folder, source.identity)
    progress.load()
    for _ in Import(archive, source, progress, lambda *_: None).run(2):
        pass


def make_source(folder: Path) -> Path:
    folder.mkdir()
    values = {"StudyInstanceUID": IMPORTED, "StudyDescription": KEPT}
    for number in range(FILES):
        uid = f"{IMPORTED}.1.{number}"
        data = encoded(uid, SeriesInstanceUID=f"{IMPORTED}.1", **values)
        (folder / f"{number}.dcm").write_bytes(file_head(CT, uid, EXPLICIT) + data)
    return folder


def keys_of(configuration: Configuration) -> dict[str, Any]:
    """Return the keys of a configuration that name folder, index and objects."""
    names = "folder", "index", "objects", "objects_variables", "acknowledge"
    return {name: str(getattr(configuration, name)) for name in names}


def test_nothing_is_half_there_whenever_it_is_killed(tmp_path: Path, pair: Backend) -> None:
    kill_repeatedly(pair.configuration(tmp_path / "archive"))


@pytest.mark.parametrize("every_pair", ["sqlite-bucket"], indirect=True)
def test_nothing_is_half_there_when_uploads_are_killed(tmp_path: Path, every_pair: Backend) -> None:
    kill_repeatedly(every_pair.configuration(tmp_path / "archive", acknowledge="spooled"))


def kill_repeatedly(configuration: Configuration) -> None:
    source = make_source(configuration.folder.with_name("source"))
    present: set[str] = set()
    kinds: set[str] = set()
    keys = json.dumps(keys_of(configuration))
    for crash in range(CRASHES):
        facts = facts_until_killed(keys, source, crash)
        kinds |= {fact[0] for fact in facts}
        expected = Expected(crash, present)
        expected.learn(facts)
        with LivingArchive(configuration) as archive:
            present = archive.uids()
            expected.compare(present)
            archive.now = time.time() + 2 * DAY
            archive.run_tasks()
            archive.run_tasks(after=GRACE + 1)  # what the uploads have left
            assert archive.files() == len(present)
            assert archive.is_whole()
    assert kinds == {*"+?-<>"}
    with LivingArchive(configuration) as archive:
        import_rest(archive, source)
        assert {f"{IMPORTED}.1.{number}" for number in range(FILES)} <= archive.uids()
