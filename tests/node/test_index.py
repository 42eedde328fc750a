"""The index by itself: its schema, transactions, and what it does when the database goes."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from backends import Backend
from spooling import CT, EXPLICIT, encoded
from sqlalchemy import select, text
from sqlalchemy.exc import OperationalError

from dicomwire.node.heads import Origin
from dicomwire.node.index import database as database_module
from dicomwire.node.index import reader, sqlite
from dicomwire.node.index import writer as writer_module
from dicomwire.node.index.database import Database, IndexFailure, WrongRevision, transaction
from dicomwire.node.index.reader import IndexReader
from dicomwire.node.index.schema import REVISION, instance, metadata, patient, series, study
from dicomwire.node.index.sqlite import Sqlite, logs_of
from dicomwire.node.index.writer import Index, Placed, iso
from dicomwire.node.ingest import Entry


@pytest.fixture
def index(tmp_path: Path, backend: Backend):
    with Index(backend.database(tmp_path)) as opened:
        yield opened


@pytest.fixture
def embedded(tmp_path: Path):
    with Index(Sqlite(tmp_path / "index.sqlite")) as opened:
        yield opened


def placed(uid: str, file: str = "", copy: int = 0, **values: object) -> Placed:
    entry = Entry(Origin(CT, uid, EXPLICIT), memoryview(encoded(uid, **values)))
    return Placed(entry, file or f"objects/aa/bb/{uid}.dcm", 100, "d" * 64, 0, copy)


def rows(index: Index, table, *columns: str) -> list[tuple]:
    with index.reading() as connection:
        query = select(*(table.c[column] for column in columns)).order_by(table.c.id)
        return [tuple(row) for row in connection.execute(query)]


def test_migrations_make_what_the_schema_says(index: Index) -> None:
    with index.reading() as connection:
        migrations = MigrationContext.configure(connection)
        found = compare_metadata(migrations, metadata)
        assert migrations.get_current_revision() == REVISION
    # In PostgreSQL, some indexes have only the beginnings of texts: alembic sees other indexes.
    indexes = [each for each in found if each[0] in ("add_index", "remove_index")]
    assert [each for each in found if each not in indexes] == []
    names = Counter(each[1].name for each in indexes)
    if connection.dialect.name == "postgresql":
        assert names.pop("ix_patient_patient_name_key_parts") == 1
        assert set(names.values()) == {2}
    else:
        assert not names


def test_texts_of_any_characters_are_kept(index: Index) -> None:
    files = ['a"b', "a\\", "{a,b}", "NULL", "", " ", "\u00e9\u4e2d", "'; --"]
    with index.writing() as writer:
        writer.add([placed(f"1.{n}", f"objects/{file}") for n, file in enumerate(files)])
        found, rejected = writer.known([f"1.{n}" for n in range(len(files))] + ["1.99", '"', "}"])
    assert not rejected
    assert {uid: copies[0].file for uid, copies in found.items()} == {
        f"1.{n}": f"objects/{file}" for n, file in enumerate(files)
    }


def test_alembic_is_imported_only_to_change_tables(tmp_path: Path) -> None:
    path = tmp_path / "index.sqlite"
    Index(Sqlite(path)).close()
    program = (
        "import sys; from dicomwire.node.index.sqlite import Sqlite;"
        "from dicomwire.node.index.writer import Index;"
        f"Index(Sqlite({str(path)!r})).close(); sys.exit('alembic' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0


def test_opening_again_changes_nothing(index: Index) -> None:
    with index.writing() as writer:
        writer.add([placed("1.1")])
    with Index(index.database) as again:
        assert rows(again, instance, "sop_instance_uid") == [("1.1",)]


@pytest.mark.parametrize("revision", ["0001", "0002", "0003", "0004"])
def test_an_older_index_is_brought_up_to_date_with_its_rows(index: Index, revision: str) -> None:
    with index.writing() as writer:
        writer.add([placed("1.1"), placed("1.2", StudyInstanceUID="1.2.9", PatientID="P2")])
    tables = (patient, study, series, instance)
    before = [rows(index, table, *table.c.keys()) for table in tables]
    set_back(index.database, revision)
    with Index(index.database) as again:
        assert [rows(again, table, *table.c.keys()) for table in tables] == before
        with again.writing() as writer:
            writer.add([placed("1.3")])
        assert len(rows(again, instance, "id")) == 3


def set_back(database: Database, revision: str) -> None:
    """Make the tables those of an earlier version."""
    config = Config()
    folder = Path(database_module.__file__).parent / "migrations"
    config.set_main_option("script_location", str(folder))
    engine = database.engine(is_reader=False)
    with engine.connect() as connection:
        config.attributes["connection"] = connection
        with transaction(connection, database.begin_alone):
            command.downgrade(config, revision)
    engine.dispose()


def test_what_is_committed_is_synced(embedded: Index) -> None:
    with embedded.writing() as writer:
        connection = writer.connection
        assert connection.execute(text("PRAGMA journal_mode")).scalar() == "wal"
        assert connection.execute(text("PRAGMA synchronous")).scalar() == 2  # FULL


def test_objects_share_what_is_above_them(index: Index) -> None:
    with index.writing() as writer:
        writer.add([placed("1.1"), placed("1.2")])
    with index.writing() as writer:
        writer.add([placed("1.3"), placed("1.4", SeriesInstanceUID="1.2.3.5")])
        writer.add([placed("1.5", StudyInstanceUID="1.2.4", SeriesInstanceUID="1.2.4.1")])
        writer.add(
            [placed("1.6", PatientID="P2", StudyInstanceUID="1.2.5", SeriesInstanceUID="1.2.5.1")]
        )
    assert rows(index, patient, "patient_id") == [("P1",), ("P2",)]
    assert rows(index, study, "patient", "study_instance_uid") == [
        (1, "1.2.3"),
        (1, "1.2.4"),
        (2, "1.2.5"),
    ]
    assert rows(index, series, "study") == [(1,), (1,), (2,), (3,)]
    assert rows(index, instance, "series") == [(1,), (1,), (1,), (2,), (3,), (4,)]


def test_a_row_has_what_is_known_of_the_file(index: Index) -> None:
    with index.writing() as writer:
        writer.add([placed("1.1", "objects/aa/bb/x.dcm", ImageComments="hello")])
    columns = ("file", "size", "digest", "received", "transfer_syntax_uid", "sop_class_uid")
    assert rows(index, instance, *columns) == [
        ("objects/aa/bb/x.dcm", 100, "d" * 64, iso(0), EXPLICIT, CT)
    ]
    ((attributes,),) = rows(index, instance, "attributes")
    assert attributes["00204000"] == {"vr": "LT", "Value": ["hello"]}
    assert rows(index, patient, "patient_name_key") == [("doe^john",)]


def test_a_transaction_that_fails_leaves_nothing(index: Index) -> None:
    with pytest.raises(IndexFailure), index.writing() as writer:
        writer.add([placed("1.1"), placed("1.1")])
    assert rows(index, patient, "id") == rows(index, instance, "id") == []
    with index.writing() as writer:  # and nothing of it is remembered
        writer.add([placed("1.1")])
    assert rows(index, instance, "series") == rows(index, series, "id")


def test_what_has_nothing_below_it_goes_and_is_forgotten(index: Index) -> None:
    with index.writing() as writer:
        writer.add([placed("1.1"), placed("1.2", SeriesInstanceUID="1.2.3.5")])
    with index.writing() as writer:
        writer.remove([stored.id for stored in writer.find(["1.1"])["1.1"]])
        writer.prune()
    assert rows(index, series, "series_instance_uid") == [("1.2.3.5",)]
    with index.writing() as writer:
        writer.remove([stored.id for stored in writer.find(["1.2"])["1.2"]])
        writer.prune()
    assert rows(index, patient, "id") == rows(index, study, "id") == rows(index, series, "id") == []
    with index.writing() as writer:
        writer.add([placed("1.1")])
    assert rows(index, instance, "series") == rows(index, series, "id")


def test_a_replacement_changes_what_is_above_it(index: Index) -> None:
    with index.writing() as writer:
        writer.add([placed("1.1"), placed("1.2")])
    with index.writing() as writer:
        writer.remove([stored.id for stored in writer.find(["1.1"])["1.1"]])
        new = placed("1.1", PatientID="P2", PatientName="Roe^Jane", StudyDescription="New")
        writer.add([new._replace(replaces=True)])
        writer.prune()
    assert rows(index, patient, "patient_id", "patient_name") == [("P2", "Roe^Jane")]
    assert rows(index, study, "study_description") == [("New",)]
    assert len(rows(index, instance, "id")) == 2


def test_what_is_known_keeps_what_is_above_it(index: Index) -> None:
    with index.writing() as writer:
        writer.add([placed("1.1")])
    for uid, series_uid in (("1.2", "1.2.3.4"), ("1.3", "1.2.3.5")):
        other = placed(uid, PatientID="P2", SeriesInstanceUID=series_uid)
        with index.writing() as writer:  # whether the series is remembered or not
            assert writer.add([other, placed(f"{uid}.1")]) == [other]
    assert rows(index, patient, "patient_id") == [("P1",)]
    assert rows(index, study, "study_instance_uid", "patient") == [("1.2.3", 1)]
    assert rows(index, instance, "series") == [(1,), (1,), (1,), (2,), (1,)]


def test_a_series_of_the_same_uid_in_another_study_is_another_one(index: Index) -> None:
    of_two = [placed("1.1"), placed("1.2", PatientID="P2", StudyInstanceUID="1.2.4")]
    with index.writing() as writer:
        assert writer.add(of_two) == []
    with index.writing() as writer:
        assert writer.add([placed("1.3", PatientID="P2", StudyInstanceUID="1.2.4")]) == []
    assert rows(index, study, "study_instance_uid", "patient") == [("1.2.3", 1), ("1.2.4", 2)]
    assert rows(index, series, "study", "series_instance_uid") == [(1, "1.2.3.4"), (2, "1.2.3.4")]
    assert rows(index, instance, "series") == [(1,), (2,), (2,)]


def test_errors_do_not_show_values(index: Index) -> None:
    with pytest.raises(IndexFailure) as error, index.writing() as writer:
        writer.add([placed("1.1"), placed("1.1", PatientName="Secret^Name")])
    assert "unique constraint" in str(error.value).lower()
    assert "1.1" not in str(error.value)
    assert error.value.__cause__ is None


@pytest.mark.skipif(os.name == "nt", reason="has no such rights")
def test_nobody_else_may_read_it(embedded: Index) -> None:
    assert embedded.database.path.stat().st_mode & 0o777 == 0o600


def test_what_could_not_be_opened_again_is_lost_whatever_its_inode(
    index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(writer_module, "migrate", fail_to_migrate)
        with pytest.raises(IndexFailure):
            index.reopen()
    assert index.is_lost
    index.reopen()
    assert not index.is_lost


def fail_to_migrate(*_: object) -> None:
    raise OperationalError("", {}, Exception("disk I/O error"))


def set_revision(path: Path, revision: str) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE alembic_version SET version_num = ?", [revision])
    connection.close()


def test_a_reader_changes_nothing(index: Index) -> None:
    with index.writing() as writer:
        writer.add([placed("1.1")])
    with IndexReader(index.database) as reader:
        assert list(reader.find(["1.1"])) == ["1.1"]
        with pytest.raises(IndexFailure, match=r"read-?only"), reader.reading() as connection:
            connection.execute(text("DELETE FROM instance"))


@pytest.mark.parametrize("opened", [Index, IndexReader])
def test_an_index_of_a_later_version_is_refused(tmp_path: Path, opened: type[IndexReader]) -> None:
    path = tmp_path / "index.sqlite"
    Index(Sqlite(path)).close()
    set_revision(path, "9999")
    with pytest.raises(WrongRevision, match="9999"):
        opened(Sqlite(path))


def test_a_node_says_that_a_later_version_made_its_index(tmp_path: Path) -> None:
    path = tmp_path / "index.sqlite"
    Index(Sqlite(path)).close()
    set_revision(path, "9999")
    with pytest.raises(WrongRevision, match=r"a newer version of dicomwire .*reindex"):
        Index(Sqlite(path))


def test_an_empty_patient_id_is_nobodys(index: Index) -> None:
    with index.writing() as writer:
        for number, name in enumerate(["Doe^John", "Roe^Jane"]):
            study_uid = f"1.9.{number}"
            values = {"PatientID": "", "PatientName": name, "StudyInstanceUID": study_uid}
            for each in range(2):
                series_uid = f"{study_uid}.{each}"
                writer.add([placed(f"{series_uid}.1", SeriesInstanceUID=series_uid, **values)])
    assert rows(index, patient, "patient_name") == [("Doe^John",), ("Roe^Jane",)]
    assert rows(index, study, "patient") == [(1,), (2,)]
    with index.writing() as writer:
        new = placed(
            "1.9.1.0.1",
            PatientName="Roe^J",
            SeriesInstanceUID="1.9.1.0",
            PatientID="",
            StudyInstanceUID="1.9.1",
        )
        writer.remove([stored.id for stored in writer.find(["1.9.1.0.1"])["1.9.1.0.1"]])
        writer.add([new._replace(replaces=True)])
        writer.prune()
    assert rows(index, patient, "patient_name") == [("Doe^John",), ("Roe^J",)]


def test_series_are_forgotten_when_there_are_too_many(
    index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer_module, "_MOST_KNOWN", 2)
    for number in range(5):
        with index.writing() as writer:
            writer.add([placed(f"1.{number}", SeriesInstanceUID=f"1.2.3.{number % 3}")])
    assert rows(index, instance, "series") == [(1,), (2,), (3,), (1,), (2,)]


def test_many_uids_are_looked_for_in_portions(
    index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader, "_MOST_VARIABLES", 2)
    uids = [f"1.{number}" for number in range(5)]
    with index.writing() as writer:
        writer.add([placed(uid) for uid in uids])
    assert sorted(index.find([*uids, "2.1"])) == uids
    with index.writing() as writer:
        writer.remove([found[0].id for found in writer.find(uids).values()])
        writer.prune()
    assert rows(index, patient, "id") == []


def test_stored_goes_by_the_names_of_files(index: Index) -> None:
    with index.writing() as writer:
        writer.add([placed("1.1", "objects/b"), placed("1.2", "objects/a")])
    assert [stored.file for stored in index.stored()] == ["objects/a", "objects/b"]


def test_a_reader_sees_one_state(index: Index) -> None:
    with index.reading() as connection:
        count = text("SELECT count(*) FROM instance")
        assert connection.execute(count).scalar() == 0
        with index.writing() as writer:
            writer.add([placed("1.1")])
        assert connection.execute(count).scalar() == 0
    assert rows(index, instance, "id") == [(1,)]


def test_another_program_with_the_database_makes_it_fail_in_time(
    embedded: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "BUSY_TIMEOUT", 0.01)
    embedded.reopen()
    other = sqlite3.connect(embedded.database.path)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(IndexFailure, match="locked"), embedded.writing():
        pass
    other.close()
    with embedded.writing() as writer:
        writer.add([placed("1.1")])


def test_a_deleted_database_is_noticed_and_made_anew(embedded: Index) -> None:
    with embedded.writing() as writer:
        writer.add([placed("1.1")])
    assert not embedded.is_lost
    embedded.database.path.unlink()
    assert embedded.is_lost
    embedded.reopen()
    assert not embedded.is_lost
    assert rows(embedded, instance, "id") == []
    with embedded.writing() as writer:
        writer.add([placed("1.1")])


def test_another_database_in_its_place_is_noticed(embedded: Index, tmp_path: Path) -> None:
    with Index(Sqlite(tmp_path / "other")) as other, other.writing() as writer:
        writer.add([placed("2.2")])
    (tmp_path / "other").replace(embedded.database.path)
    assert embedded.is_lost
    embedded.reopen()
    assert rows(embedded, instance, "sop_instance_uid") == [("2.2",)]


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "index.sqlite"
    path.write_bytes(b"this is no database" * 100)
    with pytest.raises(IndexFailure, match="not a database"):
        Index(Sqlite(path))


def test_closing_leaves_one_file(tmp_path: Path) -> None:
    with Index(Sqlite(tmp_path / "index.sqlite")) as index, index.writing() as writer:
        writer.add([placed("1.1")])
    assert not any(path.exists() for path in logs_of(index.database.path))
