"""`check` and `reindex` of PostgreSQL and a bucket: what they say, and how they end."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from backends import Backend
from postgres_server import PostgresServer
from running_node import STUDY, make_object, running, store
from sqlalchemy import select

from dicomwire.apps.node import main
from dicomwire.node.index.opening import open_database
from dicomwire.node.index.reader import IndexReader
from dicomwire.node.index.schema import instance, patient, series, study

Capture = pytest.CaptureFixture[str]
pytestmark = pytest.mark.parametrize("pair", ["postgres-bucket"], indirect=True)


class Stopped:
    """An archive of five objects that no node serves; `run` runs a command on it."""

    def __init__(self, folder: Path, pair: Backend, capsys: Capture) -> None:
        self.folder = folder
        self.bucket = pair.bucket
        self.index = pair.index
        self._capsys = capsys
        self.keys: dict[str, Any] = {"folder": folder, **pair.keys}
        with running(**self.keys) as node:
            objects = [make_object(number, PatientName="Müller^Jörg") for number in range(1, 5)]
            objects.append(make_object(1, study="1.2.7", PatientID="P2", StudyTime="1200"))
            assert store(node, *objects) == [0x0000] * 5

    def run(self, command: str) -> tuple[int, dict[str, Any]]:
        """Return exit code and result of a command."""
        options = [f"--{name.replace('_', '-')}={value}" for name, value in self.keys.items()]
        code = main([command, "--json", *options])
        return code, json.loads(self._capsys.readouterr().out)

    def name_of(self, number: int) -> str:
        """Return the name of an object in the bucket."""
        uid = f"{STUDY}.1.{number}"
        with IndexReader(open_database(self.keys["index"], self.folder)) as index:
            (stored,) = index.find([uid])[uid]
        return stored.file.removeprefix("bucket:")

    def content(self, number: int) -> bytes:
        return self.bucket.open(self.name_of(number)).read()

    def change(self, number: int, change: Callable[[bytes], bytes]) -> str:
        """Put other bytes in the place of an object; return its name."""
        name = self.name_of(number)
        self.bucket.upload([change(self.content(number))], name.replace("/", "")[:32])
        return name

    def rows(self) -> list[tuple[Any, ...]]:
        """Return all that the index has of all objects, without the numbers of its rows."""
        tables = (patient, study, series, instance)
        columns = [
            column
            for table in tables
            for column in table.columns
            if not column.primary_key and not column.foreign_keys
        ]
        joined = instance.join(series).join(study).join(patient)
        chosen = select(*columns).select_from(joined).order_by(instance.c.sop_instance_uid)
        with (
            IndexReader(open_database(self.keys["index"], self.folder)) as index,
            index.reading() as connection,
        ):
            return [tuple(row) for row in connection.execute(chosen)]


@pytest.fixture
def archive(tmp_path: Path, pair: Backend, capsys: Capture) -> Stopped:
    return Stopped(tmp_path / "node", pair, capsys)


def test_check_says_which_objects_are_wrong(archive: Stopped) -> None:
    missing = archive.name_of(1)
    archive.bucket.remove([missing])
    other_bytes = archive.change(2, lambda content: content[:-2] + b"9 ")
    other_object = archive.change(3, lambda content: archive.content(4))
    half = archive.change(4, lambda content: content[: len(content) // 2])
    unknown = archive.bucket.upload([archive.bucket.open(other_object).read()])
    code, told = archive.run("check")
    assert (code, told["files"]) == (1, 6)
    found = {
        each["file"]: (each["problem"], each["object"] and each["object"]["sop_instance_uid"])
        for each in told["findings"]
    }
    assert found == {
        f"bucket:{missing}": ("missing", f"{STUDY}.1.1"),
        f"bucket:{other_bytes}": ("damaged", f"{STUDY}.1.2"),
        f"bucket:{other_object}": ("damaged", f"{STUDY}.1.3"),
        f"bucket:{half}": ("damaged", f"{STUDY}.1.4"),
        f"bucket:{unknown}": ("unknown", None),
    }


def test_the_bucket_alone_makes_an_equal_index(
    archive: Stopped, postgres_server: PostgresServer
) -> None:
    before = archive.rows()
    shutil.rmtree(archive.folder)
    archive.keys["index"] = postgres_server.new_database()
    result = {"indexed": 5, "dropped": 0, "removed": 0, "unreadable": 0}
    assert archive.run("reindex") == (0, result)
    assert archive.rows() == before
    assert archive.run("check") == (0, {"files": 5, "findings": []})
    postgres_server.drop(archive.keys["index"])


def test_reindex_takes_what_the_bucket_has(archive: Stopped) -> None:
    archive.bucket.remove([archive.name_of(1)])
    half = archive.change(2, lambda content: content[: len(content) // 2])
    unknown = archive.bucket.upload([archive.content(3)])
    archive.bucket.remove([archive.name_of(3)])
    result = {"indexed": 3, "dropped": 0, "removed": 0, "unreadable": 1}
    assert archive.run("reindex") == (1, result)
    assert archive.name_of(3) == unknown
    code, told = archive.run("check")
    assert code == 1
    assert [(each["problem"], each["file"]) for each in told["findings"]] == [
        ("damaged", f"bucket:{half}")
    ]
