"""PostgreSQL crashes while objects are stored: nothing acknowledged is lost, and all agrees.

``TEST_CRASHES=200`` asks for more than the few of every day.
"""

from __future__ import annotations

import os
import random
import threading
from pathlib import Path

import pytest
from backends import Backend
from postgres_server import PostgresServer
from spooling import OpenArchive, encoded

from dicomwire.node.configuration import Duplicates
from dicomwire.node.maintenance import check
from dicomwire.node.statuses import OUT_OF_RESOURCES, SUCCESS

CRASHES = int(os.environ.get("TEST_CRASHES", "3"))
SENDERS = 6

pytestmark = pytest.mark.timeout(120 + 10 * CRASHES)


class Sender:
    """Stores objects until it is told to end, some of them anew with other content.

    Attributes
    ----------
    possible : dict of str to list of str
        By UID, the notes of the last acknowledged content and of those sent since: one of them
        must be found. Objects that were never acknowledged are in it, too.
    acknowledged : set of str
    """

    def __init__(self, archive: OpenArchive, number: int, count: threading.Semaphore) -> None:
        self.possible: dict[str, list[str]] = {}
        self.acknowledged: set[str] = set()
        self.statuses: set[int] = set()
        self._archive = archive
        self._number = number
        self._count = count
        self._is_ending = False
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def end(self) -> None:
        self._is_ending = True
        self._thread.join()

    def _run(self) -> None:
        chance = random.Random(self._number)
        for number in range(1_000_000):
            if self._is_ending:
                return
            uid = f"1.{self._number + 1}.{chance.randrange(number + 1)}"
            note = f"{number}"
            self.possible.setdefault(uid, []).append(note)
            study = f"1.2.{chance.randrange(20)}"
            data = encoded(uid, note, chance.choice([0, 0, 200_000]), StudyInstanceUID=study)
            status = self._archive.store(data, uid)
            self.statuses.add(status)
            if status in (SUCCESS, 0xB000):
                self.possible[uid] = [note]
                self.acknowledged.add(uid)
                self._count.release()


def test_nothing_is_lost_when_postgresql_crashes(
    tmp_path: Path, postgres_server: PostgresServer
) -> None:
    url = postgres_server.new_database()
    chance = random.Random(1)
    with OpenArchive(tmp_path, Duplicates.REPLACE, Backend(url)) as archive:
        count = threading.Semaphore(0)
        senders = [Sender(archive, number, count) for number in range(SENDERS)]
        try:
            for _ in range(CRASHES):
                for _ in range(chance.randrange(1, 60)):
                    assert count.acquire(timeout=60)
                postgres_server.kill()
                postgres_server.start()
            for _ in range(20):
                assert count.acquire(timeout=60)
        finally:
            for sender in senders:
                sender.end()
        notes = archive.notes()
        for sender in senders:
            assert sender.statuses <= {SUCCESS, OUT_OF_RESOURCES}
            for uid, possible in sender.possible.items():
                found = notes.pop(uid, [])
                assert len(found) == 1 if uid in sender.acknowledged else len(found) <= 1
                assert set(found) <= set(possible)
        assert notes == {}
        assert archive.spool() == []
        archive.datasets()  # compares each file with its digest
    with OpenArchive(tmp_path, Duplicates.REPLACE, Backend(url)):
        pass  # settles what a commit that was interrupted last may have left
    assert list(check(tmp_path, index=url)) == []
    postgres_server.drop(url)
