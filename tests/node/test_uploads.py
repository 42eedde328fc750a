"""What a dead node was uploading is removed by another one, which leaves the living ones alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from backends import Backend
from living_archive import LivingArchive
from spooling import CT, EXPLICIT, encoded, spooled
from sqlalchemy import func, select

from dicomwire.node import uploads
from dicomwire.node.carrying import GRACE, digits_of
from dicomwire.node.configuration import Duplicates
from dicomwire.node.heads import Origin
from dicomwire.node.index.schema import task
from dicomwire.node.nodes import Membership
from dicomwire.node.statuses import OUT_OF_RESOURCES, SUCCESS
from dicomwire.node.tasks.queue import LEASE, counts, is_empty, listed
from dicomwire.node.uploads import BEGUN

pytestmark = pytest.mark.parametrize("pair", ["postgres-bucket"], indirect=True)


class Nodes:
    """Two nodes on one index and one bucket, in this process: `one` and `other`."""

    def __init__(self, folder: Path, pair: Backend, opened: ExitStack) -> None:
        self.one, self.other = (
            opened.enter_context(LivingArchive(pair.configuration(folder / name), name))
            for name in ("one", "other")
        )
        self._registered = [
            opened.enter_context(Membership(each.queue, ("127.0.0.1", 0), "NODE"))
            for each in (self.one, self.other)
        ]

    def let_one_be_silent(self) -> None:
        """Let the other one see that the first has no heartbeat any more."""
        self.other.now += LEASE + 1
        self._registered[1].beat()


@pytest.fixture
def nodes(tmp_path: Path, pair: Backend) -> Iterator[Nodes]:
    with ExitStack() as opened:
        yield Nodes(tmp_path, pair, opened)


def upload(archive: LivingArchive, uid: str) -> None:
    """Upload an object, as a process that dies before it is in the index."""
    archive.objects.keep(spooled(archive.spool, encoded(uid)), Origin(CT, uid, EXPLICIT))


def begun(archive: LivingArchive) -> int:
    """Return the number of tasks that have names of uploads."""
    query = select(func.count()).where(task.c.kind == BEGUN)
    with archive.index.reading() as connection:
        return connection.execute(query).scalar_one()


def test_what_a_dead_node_was_uploading_another_one_removes(nodes: Nodes) -> None:
    assert nodes.one.put(1) == SUCCESS
    upload(nodes.one, "1.2.3.1.2")
    nodes.other.run_tasks()
    assert nodes.other.files() == 2  # it lives
    nodes.let_one_be_silent()
    nodes.other.run_tasks()
    assert nodes.other.files() == 1
    assert nodes.other.uids() == {"1.2.3.1.1"}
    assert nodes.other.is_whole()


def test_what_a_bucket_completes_later_is_removed_too(nodes: Nodes) -> None:
    upload(nodes.one, "1.2.3.1.1")
    (name,) = nodes.one.objects.names()
    with nodes.one.objects.open(name) as file:
        content = file.read()
    nodes.one.objects.remove([name])  # it is on its way
    nodes.let_one_be_silent()
    nodes.other.run_tasks()
    late = nodes.other.spool.make_file()
    late.write_bytes(content)
    nodes.other.objects.copy(late, digits_of(name))
    assert nodes.other.files() == 1
    nodes.other.run_tasks(after=GRACE)
    assert nodes.other.files() == 0


def test_uploads_of_living_nodes_stay(nodes: Nodes) -> None:
    upload(nodes.other, "1.2.3.1.1")
    nodes.let_one_be_silent()
    nodes.other.run_tasks(after=GRACE)
    assert nodes.other.files() == 1


def test_a_node_that_was_taken_for_dead_acknowledges_nothing_that_is_removed(nodes: Nodes) -> None:
    keep = nodes.one.objects.keep

    def keep_late(*arguments: object) -> None:
        keep(*arguments)
        nodes.let_one_be_silent()
        nodes.other.run_tasks()
        nodes.one.objects.keep = keep

    nodes.one.objects.keep = keep_late
    assert nodes.one.put(1) == OUT_OF_RESOURCES
    assert nodes.other.files() == 0
    assert nodes.one.put(1) == SUCCESS
    assert nodes.other.is_whole()


def test_the_names_of_ended_uploads_are_forgotten(
    nodes: Nodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploads, "PORTION", 2)
    for number in range(4):
        assert nodes.one.put(number) == SUCCESS
    assert begun(nodes.one) == 1
    # There is nothing to run, and an operator sees nothing.
    assert is_empty(nodes.one.index)
    assert not [*listed(nodes.one.index)]
    assert not counts(nodes.one.index)
    upload(nodes.one, "1.2.3.1.9")
    assert begun(nodes.one) == 1
    assert nodes.one.uploads is not None
    nodes.one.uploads.close()
    assert begun(nodes.other) == 1  # what has not ended stays, for others to remove
    nodes.let_one_be_silent()
    nodes.other.run_tasks()
    assert nodes.other.is_whole()


def test_duplicates_and_their_names_go_together(tmp_path: Path, pair: Backend) -> None:
    configuration = pair.configuration(tmp_path, duplicates=Duplicates.KEEP_FIRST)
    with LivingArchive(configuration) as archive:
        assert [archive.put(1), archive.put(1), archive.put(2)] == [SUCCESS] * 3
        assert archive.files() == 2
    with LivingArchive(configuration) as archive:
        assert begun(archive) == 0
