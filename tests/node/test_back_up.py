"""The commands by which the documentation backs up an archive and restores it: all are run.

The node serves and stores meanwhile. Then index and objects are destroyed.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from buckets import FaultProxy, new_url, variables, write_variables
from node_processes import Senders, node_process, retrieve
from postgres_server import PostgresServer, binaries

from dicomwire.__main__ import main
from dicomwire.node.configuration import toml
from dicomwire.node.objects.bucket import Bucket

PAGE = Path(__file__).resolve().parents[2] / "docs" / "howto" / "grow.md"
BACK_UP = "Back up and restore"
SQLITE, POSTGRES, FOLDER, BUCKET = "SQLite", "PostgreSQL", "a folder", "a bucket"
SPOOLED = 'acknowledge = "spooled"'
"""What the comments of the page call the parts of an archive that a command is for."""

pytestmark = pytest.mark.only_with("sqlite-folder", "each test names its pair")


def commands(section: str, number: int, *parts: str) -> list[str]:
    """Return the commands in a block of a section: those for all archives, and for these parts."""
    text = PAGE.read_text().partition(f"\n## {section}\n")[2].partition("\n## ")[0]
    block = re.findall(r"^```console\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)[number]
    found = []
    for line in block.splitlines():
        command, _, part = line.removeprefix("$ ").partition("  # ")
        if not part or part in parts:
            found.append(command.strip())
    assert found
    return found


def run(lines: list[str]) -> None:
    for line in lines:
        program, *arguments = shlex.split(line)
        if program == "dicomwire":
            assert main(arguments) == 0, line
        else:
            subprocess.run([program, *arguments], check=True, timeout=60)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, in which the commands are run."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def database(postgres_server: PostgresServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The URL of a database that the commands of the page have made."""
    folder = binaries()
    assert folder is not None
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setenv("PGHOST", str(postgres_server.folder))
    monkeypatch.setenv("PGUSER", "postgres")
    _, *made = commands("The index in PostgreSQL", 0)  # the first one installs the package
    run(made)
    yield f"postgresql+psycopg://dicomwire@/archive?host={postgres_server.folder}"
    run(["dropdb archive", "dropuser dicomwire"])


def write_configuration(here: Path, keys: dict[str, Any]) -> None:
    values = {"folder": str(here / "archive"), **keys}
    (here / "node.toml").write_text("".join(f"{k} = {toml(v)}\n" for k, v in values.items()))


def back_up(here: Path, keys: dict[str, Any], *parts: str) -> dict[str, str]:
    """Back up a node that stores meanwhile; return what it had acknowledged before."""
    with (
        node_process(here / "archive", **keys) as node,
        Senders([node.port], "1.2", 3, pause=0.02) as senders,
    ):
        senders.wait(40)
        acknowledged = senders.acknowledged.copy()
        run(commands(BACK_UP, 0, *parts))
        if BUCKET in parts:
            copy_bucket(keys)
        senders.wait(1)
    return acknowledged


def copy_bucket(keys: dict[str, Any]) -> None:
    """Copy all objects to another prefix, as a service would, and name that as the bucket."""
    origin = Bucket(keys["objects"])
    keys["objects"] = new_url()
    copy = Bucket(keys["objects"])
    for name in [*origin.names()]:
        path = Path("copied")
        path.write_bytes(origin.open(name).read())
        copy.upload(path, name.replace("/", "").removesuffix(".dcm"))
    origin.remove([*origin.names()])


def assert_restored(here: Path, keys: dict[str, Any], acknowledged: dict[str, str]) -> None:
    """Assert that a node serves what was acknowledged, and that nothing is wrong in the archive."""
    with node_process(here / "archive", **keys) as node:
        received = retrieve(node.port)
        assert received is not None
        assert acknowledged.items() <= dict(received).items()
        node.terminate()
        assert node.process.wait(30) == 0
    run(commands(BACK_UP, 2))


def test_sqlite_and_a_folder(here: Path) -> None:
    if shutil.which("sqlite3") is None:
        missing = pytest.fail if os.environ.get("CI") else pytest.skip
        missing("sqlite3 is not installed")
    parts = SQLITE, FOLDER
    write_configuration(here, {})
    acknowledged = back_up(here, {}, *parts)
    shutil.rmtree(here / "archive")
    run(commands(BACK_UP, 1, *parts))
    assert_restored(here, {}, acknowledged)


def test_postgresql_and_a_folder(here: Path, database: str) -> None:
    parts, keys = (POSTGRES, FOLDER), {"index": database}
    write_configuration(here, keys)
    acknowledged = back_up(here, keys, *parts)
    shutil.rmtree(here / "archive")
    run(["dropdb archive", *commands(BACK_UP, 1, *parts)])
    assert_restored(here, keys, acknowledged)


@pytest.fixture
def bucket(here: Path, seaweedfs_port: int, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The configuration of a node with a bucket."""
    for name, value in variables(seaweedfs_port).items():
        monkeypatch.setenv(name, value)
    file = write_variables(here / "variables", seaweedfs_port)
    return {"objects": new_url(), "objects_variables": file}


def test_postgresql_and_a_bucket(here: Path, database: str, bucket: dict[str, Any]) -> None:
    parts = POSTGRES, BUCKET
    bucket["index"] = database
    acknowledged = back_up(here, bucket, *parts)
    write_configuration(here, bucket)
    shutil.rmtree(here / "archive")
    run(["dropdb archive", *commands(BACK_UP, 1, *parts)])
    assert_restored(here, bucket, acknowledged)


def test_a_bucket_alone_is_enough(here: Path, database: str, bucket: dict[str, Any]) -> None:
    bucket["index"] = database
    acknowledged = back_up(here, bucket, BUCKET)
    write_configuration(here, bucket)
    shutil.rmtree(here / "archive")
    run(["dropdb archive", commands("The index in PostgreSQL", 0)[-1]])
    run(commands(BACK_UP, 1, BUCKET))
    assert_restored(here, bucket, acknowledged)


def test_objects_that_wait_for_their_upload(
    here: Path, bucket: dict[str, Any], seaweedfs_port: int
) -> None:
    parts = SQLITE, BUCKET, SPOOLED
    with FaultProxy(seaweedfs_port) as proxy:
        write_variables(here / "variables", proxy.server_port)
        bucket["acknowledge"] = "spooled"
        proxy.fail_always("503", method="PUT")
        acknowledged = back_up(here, bucket, *parts)
        proxy.fail_always(None)
        write_configuration(here, bucket)
        shutil.rmtree(here / "archive")
        run(commands(BACK_UP, 1, *parts))
        assert len([*(here / "archive" / "spooled").glob("**/*.dcm")]) >= len(acknowledged)
        assert_restored(here, bucket, acknowledged)
