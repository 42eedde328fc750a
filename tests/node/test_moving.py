"""An archive moves from its folder to a bucket while it stores, sends and deletes.

The command that moves it is killed once, and started again.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from buckets import new_url, write_variables
from forking import forked
from node_processes import Readers, Senders, eventually, node_process, retrieve
from sqlalchemy import func, select

from dicomwire.apps.node import main
from dicomwire.node.configuration import toml
from dicomwire.node.index.opening import open_database
from dicomwire.node.index.reader import IndexReader
from dicomwire.node.index.schema import instance

MANY = 150
"""Objects in the folder: some portions of those that are moved together."""

pytestmark = [
    pytest.mark.timeout(120),
    pytest.mark.only_with("sqlite-folder", "it moves from the folder to a bucket"),
]


def test_an_archive_moves_while_it_serves(tmp_path: Path, seaweedfs_port: int) -> None:
    folder = tmp_path / "archive"
    with node_process(folder) as node, Senders([node.port], "1.2", 3) as before:
        before.wait(MANY)
    keys = {
        "objects": new_url(),
        "objects_variables": write_variables(tmp_path / "variables", seaweedfs_port),
    }
    command = configured(tmp_path / "node.toml", folder=str(folder), **keys)
    uids = [*before.acknowledged]
    deleted = uids[::10]
    kept = {uid: before.acknowledged[uid] for uid in uids if uid not in deleted}
    with (
        node_process(folder, **keys) as node,
        IndexReader(open_database("", folder)) as index,
    ):
        with (
            Senders([node.port], "1.3", 2, pause=0.05) as senders,
            Readers([node.port], kept, 1, pause=0.1) as readers,
        ):
            with forked("commanding", "move-objects", *command) as moving:
                assert moving.stdout.readline()
                moving.stdin.write("\n")
                moving.stdin.flush()
                moving.kill()  # in its second portion
                moving.wait(30)
            delete(command, deleted[::2])
            assert 0 < in_folder(index) < len(uids) - len(deleted[::2])
            with forked("commanding", "move-objects", *command) as moving:
                assert moving.stdout.readline()
                delete(command, deleted[1::2])
                moving.stdin.close()
                assert moving.wait(60) == 0
            readers.wait(5)
            senders.wait(5)
        assert in_folder(index) == 0
        node.terminate()
        assert node.process.wait(30) == 0
    # The files would be removed a minute after their objects were moved.
    assert main(["tasks", "retry", "--kind=delete", "--state=waiting", *command]) == 0
    with node_process(folder, **keys) as node:
        assert eventually(lambda: not [*folder.rglob("*.dcm")])
        shutil.rmtree(folder / "objects")
        received = retrieve(node.port)
        assert received is not None
        assert dict(received) == kept | senders.acknowledged
        assert len(received) == len(kept) + len(senders.acknowledged)
    assert main(["check", *command]) == 0


def configured(path: Path, **keys: Any) -> list[str]:
    """Write the configuration of a node; return the options by which a command reads it."""
    path.write_text("".join(f"{name} = {toml(value)}\n" for name, value in keys.items()))
    return ["--config", str(path)]


def in_folder(index: IndexReader) -> int:
    """Return how many objects have their file in the folder, by the index."""
    counted = select(func.count()).where(instance.c.file.startswith("objects/"))
    with index.reading() as connection:
        return int(connection.execute(counted).scalar_one())


def delete(command: list[str], uids: list[str]) -> None:
    assert main(["delete", "--yes", *(f"--instance={uid}" for uid in uids), *command]) == 0
