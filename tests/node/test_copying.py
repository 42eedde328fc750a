"""An index is copied from SQLite to PostgreSQL and back."""

from __future__ import annotations

from pathlib import Path

import pytest
from backends import Backend
from postgres_server import PostgresServer
from spooling import OpenArchive, encoded
from sqlalchemy import select

from dicomwire.apps import node
from dicomwire.node.index import copying
from dicomwire.node.index.copying import copy_index
from dicomwire.node.index.database import Database, Unusable
from dicomwire.node.index.reader import IndexReader
from dicomwire.node.index.schema import metadata
from dicomwire.node.index.sqlite import Sqlite
from dicomwire.node.index.writer import Index
from dicomwire.node.maintenance import check
from dicomwire.node.statuses import SUCCESS
from dicomwire.node.tasks.queue import NewTask, Queue

OBJECTS = 7
pytestmark = pytest.mark.only_with("sqlite-folder", "each test names its pairs")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A node's folder with objects of several studies, and a task."""
    with OpenArchive(tmp_path / "node") as archive:
        for number in range(OBJECTS):
            uid = f"1.{number}"
            data = encoded(uid, StudyInstanceUID=f"1.2.{number % 3}", PatientName="Müller^Jörg")
            assert archive.store(data, uid) == SUCCESS
        with archive.index.writing() as writer:
            Queue(archive.index, "me").add(writer, [NewTask("delete", {"names": ["x"]})])
    return tmp_path / "node"


def content(database: Database) -> dict[str, list[dict]]:
    with IndexReader(database) as index, index.reading() as connection:
        return {
            table.name: [
                dict(row)
                for row in connection.execute(select(table).order_by(*table.primary_key)).mappings()
            ]
            for table in metadata.sorted_tables
        }


def test_there_and_back(
    folder: Path,
    tmp_path: Path,
    postgres_server: PostgresServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(copying, "_PORTION", 2)
    url = postgres_server.new_database()
    here, there = Backend().database(folder), Backend(url).database(folder)
    before, done = content(here), list[int]()
    assert copy_index(here, there, done.append) == OBJECTS
    assert done == [2, 4, 6, 7]
    assert content(there) == before
    assert list(check(folder, index=url)) == []
    back = Sqlite(tmp_path / "back.sqlite")
    assert copy_index(there, back, done.append) == OBJECTS
    assert content(back) == before
    with OpenArchive(folder, backend=Backend(url)) as archive:
        assert archive.store(encoded("1.9"), "1.9") == SUCCESS  # new rows have new numbers
        assert archive.counts()[-1] == OBJECTS + 1
    postgres_server.drop(url)


def test_an_index_with_objects_is_no_target(folder: Path, tmp_path: Path) -> None:
    other = Sqlite(tmp_path / "other.sqlite")
    copy_index(Backend().database(folder), other, lambda number: None)
    with pytest.raises(Unusable, match="must be an empty database"):
        copy_index(Backend().database(folder), other, lambda number: None)


def test_an_interrupted_copy_leaves_nothing(folder: Path, tmp_path: Path) -> None:
    other = Sqlite(tmp_path / "other.sqlite")

    def interrupt(number: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        copy_index(Backend().database(folder), other, interrupt)
    with Index(other) as index:
        assert index.last_id() == 0


def test_the_command(
    folder: Path, postgres_server: PostgresServer, capsys: pytest.CaptureFixture[str]
) -> None:
    url = postgres_server.new_database()
    arguments = ["migrate-index", "--folder", str(folder), "--index", url]
    assert node.main(arguments) == 0
    assert capsys.readouterr().out == f"Copied {OBJECTS} objects\n"
    assert node.main(arguments) == 1
    assert "must be an empty database" in capsys.readouterr().err
    (folder / "index.sqlite").unlink()
    assert node.main([*arguments, "--back", "--json"]) == 0
    assert capsys.readouterr().out == '{"objects": 7}\n'
    assert list(check(folder)) == []
    assert node.main(["migrate-index", "--folder", str(folder)]) == 1
    postgres_server.drop(url)
