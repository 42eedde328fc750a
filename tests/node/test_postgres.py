"""What only PostgreSQL has: a server that goes away, rights, a version; values that it refuses."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any

import psycopg
import pytest
from backends import Backend, configuration_of
from postgres_server import PostgresServer
from running_node import find, make_object, running, store, study_of
from spooling import OpenArchive, encoded
from sqlalchemy import select

from dicomwire.node.archive import FolderUnusable
from dicomwire.node.configuration import KEYS, Configuration, ConfigurationError, merged
from dicomwire.node.index import postgres
from dicomwire.node.index.database import IndexFailure, InDoubt, Unusable
from dicomwire.node.index.postgres import MOST_READING, Postgres
from dicomwire.node.index.schema import patient
from dicomwire.node.index.writer import Index, Writer
from dicomwire.node.server import Node
from dicomwire.node.statuses import OUT_OF_RESOURCES, SUCCESS

SECRET = "correct horse"


@pytest.fixture
def url(postgres_server: PostgresServer) -> Iterator[str]:
    url = postgres_server.new_database()
    yield url
    postgres_server.drop(url)


def execute(server: PostgresServer, statement: str, database: str = "postgres") -> None:
    with psycopg.connect(
        host=str(server.folder), user="postgres", dbname=database, autocommit=True
    ) as connection:
        connection.execute(statement)


def test_a_node_serves_again_when_the_server_is_back(
    tmp_path: Path, url: str, postgres_server: PostgresServer
) -> None:
    with running(tmp_path, index=url) as node:
        assert store(node, make_object(1)) == [SUCCESS]
        postgres_server.stop("immediate")
        try:
            assert store(node, make_object(2)) == [OUT_OF_RESOURCES]
            [(status, _)] = find(node, study_of())
            assert status.Status == OUT_OF_RESOURCES
            assert status.ErrorComment == "the index cannot be read"
        finally:
            postgres_server.start()
        assert store(node, make_object(2)) == [SUCCESS]
        assert len(find(node, study_of())) == 2


END_ALL = (
    "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
    " WHERE application_name = 'dicomwire'"
)


def test_connections_that_were_lost_are_made_again(
    tmp_path: Path, url: str, postgres_server: PostgresServer
) -> None:
    with OpenArchive(tmp_path, backend=Backend(url)) as archive:
        assert archive.store(encoded("1.1"), "1.1") == SUCCESS
        execute(postgres_server, END_ALL)
        assert archive.store(encoded("1.2"), "1.2") == SUCCESS
        assert set(archive.notes()) == {"1.1", "1.2"}


def test_no_reader_notices_that_connections_were_lost(
    url: str, postgres_server: PostgresServer
) -> None:
    with Index(Postgres(url)) as index:
        for _ in range(2):
            with index.reading(), index.reading_once() as connection:
                assert connection.exec_driver_sql("SELECT 1").scalar_one() == 1
            assert index.engine.pool.status().startswith("Pool size: 8  Connections in pool: 2")
            execute(postgres_server, END_ALL)
        assert index.last_id() == 0


def test_a_connection_for_reading_changes_nothing(url: str) -> None:
    with (
        Index(Postgres(url)) as index,
        index.reading_once() as connection,
        pytest.raises(IndexFailure, match="read-only"),
    ):
        connection.exec_driver_sql("DELETE FROM study")


def test_after_an_interrupted_commit_the_next_transaction_begins_anew(
    url: str, postgres_server: PostgresServer
) -> None:
    with Index(Postgres(url)) as index:
        with pytest.raises(InDoubt), index.writing() as writer:
            interrupt(postgres_server, writer)
        with index.writing() as writer:
            assert writer.find(["1.1"]) == {}


def test_the_statements_of_a_batch_are_there_after_a_failure(url: str) -> None:
    with Index(Postgres(url)) as index:
        for _ in range(10):  # so often that the driver prepares the other statement
            with index.writing() as writer:
                assert writer.known(["1.1"]) == ({}, ())
                writer.connection.execute(select(patient.c.id)).all()
        with pytest.raises(KeyError), index.writing():
            raise KeyError
        with index.writing() as writer:
            assert writer.known(["1.1"]) == ({}, ())


def test_a_batch_looks_for_its_uids_by_an_index_though_the_tables_were_empty(url: str) -> None:
    with Index(Postgres(url)) as index, index.writing() as writer:
        for _ in range(6):  # from then on, the server uses one plan for all
            writer.known(["1.1"])
        plan = writer.connection.exec_driver_sql("EXPLAIN EXECUTE known('{1.2}')").scalars().all()
    assert "Seq Scan" not in "".join(plan)


def test_what_the_server_refuses_is_known_at_the_end(url: str) -> None:
    task = {"kind": "a", "key": "", "payload": "{", "due": None, "created": 0.0}
    with Index(Postgres(url)) as index:
        with pytest.raises(IndexFailure, match="invalid input"), index.writing() as writer:
            writer.add_tasks([task])
        with pytest.raises(IndexFailure, match="invalid input"):
            add_and_look(index, task)
        with index.writing() as writer:
            assert writer.known(["1.1"]) == ({}, ())


def add_and_look(index: Index, task: dict[str, Any]) -> None:
    with index.writing() as writer:
        writer.add_tasks([task])
        writer.find(["1.1"])


def test_a_start_does_not_wait_for_a_transaction_of_another_node(url: str) -> None:
    with Index(Postgres(url)) as index, index.writing():
        Index(Postgres(url)).close()


def test_a_transaction_of_a_process_that_was_stopped_ends(url: str) -> None:
    with Index(Postgres(url)) as stopped, Index(Postgres(url)) as other:
        with pytest.raises(InDoubt):
            stop_while(stopped, other)
        with stopped.writing() as writer:
            assert writer.find(["1.1"]) == {}


def stop_while(stopped: Index, other: Index) -> None:
    """Let a transaction do nothing while another one waits for its end."""
    name = "idle_in_transaction_session_timeout"
    with stopped.writing() as writer:
        assert writer.connection.exec_driver_sql(f"SHOW {name}").scalar() == "1min"
        writer.connection.exec_driver_sql(f"SET {name} = '50ms'")
        with other.writing(is_alone=True):
            pass


def interrupt(server: PostgresServer, writer: Writer) -> None:
    """Let the server end the connection of a transaction, which its client notices later."""
    driver = writer.connection.connection.driver_connection
    assert driver is not None
    execute(server, f"SELECT pg_terminate_backend({driver.info.backend_pid}, 5000)")


def test_a_node_says_in_one_line_why_it_does_not_start(tmp_path: Path) -> None:
    index = "postgresql+psycopg://node@127.0.0.1:1/archive"
    node = Node(configuration_of(tmp_path, index=index))
    with pytest.raises(FolderUnusable, match="Connection refused") as error:
        node.start()
    assert "\n" not in str(error.value)


def test_a_missing_driver_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres, "find_spec", lambda name: None)
    with pytest.raises(Unusable, match=r"pip install 'dicomwire\[postgres\]'"):
        Postgres("postgresql://host/archive")


def test_no_right_to_make_tables(postgres_server: PostgresServer) -> None:
    execute(postgres_server, "CREATE ROLE guest LOGIN")
    execute(postgres_server, "CREATE DATABASE guarded")
    url = postgres_server.url("guarded").replace("postgres@", "guest@")
    with pytest.raises(Unusable, match="cannot be made: permission denied for schema public"):
        Index(Postgres(url))


def test_an_old_server_is_refused(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres, "OLDEST", 99)
    with pytest.raises(Unusable, match=r"PostgreSQL \d+ is too old: 99 or newer is needed"):
        Index(Postgres(url))


def test_a_password_comes_from_the_environment_and_is_never_shown(
    tmp_path: Path,
    url: str,
    postgres_server: PostgresServer,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("PGPASSWORD", SECRET)
    execute(postgres_server, "CREATE ROLE careful LOGIN")
    with pytest.raises(IndexFailure) as error:
        Index(Postgres(url.replace("postgres@", "nobody@")))
    assert SECRET not in str(error.value)
    Index(Postgres(url)).close()
    assert SECRET not in caplog.text


def test_a_password_comes_from_a_file(
    tmp_path: Path, postgres_server: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    execute(postgres_server, f"CREATE ROLE trusted LOGIN PASSWORD '{SECRET}'")
    execute(postgres_server, "CREATE DATABASE of_trusted OWNER trusted")
    rules = postgres_server.folder / "data" / "pg_hba.conf"
    rules.write_text(f"local all trusted scram-sha-256\n{rules.read_text()}")
    execute(postgres_server, "SELECT pg_reload_conf()")
    url = postgres_server.url("of_trusted").replace("postgres@", "trusted@")
    passwords = tmp_path / "pgpass"
    monkeypatch.setenv("PGPASSFILE", str(passwords))
    for password, is_right in (("wrong", False), (SECRET, True)):
        passwords.write_text(f"*:*:of_trusted:trusted:{password}\n")
        passwords.chmod(0o600)
        if is_right:
            Index(Postgres(url)).close()
        else:
            with pytest.raises(IndexFailure, match="password authentication failed") as error:
                Index(Postgres(url))
            assert password not in str(error.value).replace(str(passwords), "")


def test_connections_are_bounded_and_readers_wait_for_one(
    url: str, postgres_server: PostgresServer
) -> None:
    count = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'dicomwire'"
    with Index(Postgres(url)) as index, ThreadPoolExecutor(3 * MOST_READING) as threads:
        all_read = Barrier(MOST_READING)

        def read(_: int) -> int:
            with index.reading() as connection:
                all_read.wait(60)
                found = connection.exec_driver_sql(count).scalar_one()
                all_read.wait(60)
                return int(found)

        with index.writing():
            counts = [*threads.map(read, range(3 * MOST_READING))]
    assert max(counts) == MOST_READING + 1


@pytest.mark.parametrize(
    "index",
    [
        f"postgresql+psycopg://node:{SECRET}@host/archive",
        f"postgresql://node@host/archive?password={SECRET}",
        f"postgresql://node@host/archive?sslmode=require&password={SECRET}",
        "mysql://node@host/archive",
        "archive",
    ],
)
def test_a_configuration_has_no_password_and_no_other_database(index: str) -> None:
    with pytest.raises(ConfigurationError, match="without a password") as error:
        merged(Configuration(), {"index": index})
    assert SECRET not in str(error.value)
    with pytest.raises(ConfigurationError, match="without a password") as error:
        next(key for key in KEYS if key.name == "index").read(index)
    assert SECRET not in str(error.value)


@pytest.mark.parametrize(
    "index",
    [
        "postgresql+psycopg://node@host:5433/archive",
        "postgresql://host/archive?sslmode=verify-full",
        "postgresql://?service=archive",
        "postgresql+psycopg://node@/archive?host=/run/postgresql&port=5433",
        "",
    ],
)
def test_urls_of_a_configuration(index: str) -> None:
    assert merged(Configuration(), {"index": index}).index == index


def test_values_of_any_length_are_indexed(tmp_path: Path, url: str) -> None:
    long = "".join(map(str, range(2000)))  # does not become short when it is compressed
    values = {"PatientID": long, "AccessionNumber": long, "PatientName": long}
    with OpenArchive(tmp_path, backend=Backend(url)) as archive:
        assert archive.store(encoded("1.1", **values), "1.1") == SUCCESS
        assert archive.store(encoded("1.2", **values), "1.2") == SUCCESS
        assert archive.counts() == (1, 1, 1, 2)


def test_what_jsonb_refuses_is_replaced(url: str) -> None:
    value = {"a\0": ["\0", "\ud800", float("nan"), {"b": "\\u0000"}]}
    with Index(Postgres(url)) as index:
        with index.writing() as writer:
            row = {"patient_id": "1", "attributes": value}
            writer.connection.execute(patient.insert(), row)
        with index.reading() as connection:
            found = connection.execute(select(patient.c.attributes)).scalar()
    assert found == {"a\ufffd": ["\ufffd", "\ufffd", "nan", {"b": "\\u0000"}]}


def test_the_index_is_made_anew_in_one_transaction(tmp_path: Path, url: str) -> None:
    with OpenArchive(tmp_path, backend=Backend(url)) as archive:
        assert archive.store(encoded("1.1"), "1.1") == SUCCESS
        before = archive.counts()
        with pytest.raises(RuntimeError):
            empty_and_fail(archive.index)
        assert archive.counts() == before


def empty_and_fail(index: Index) -> None:
    with index.made_anew() as empty:
        assert empty.last_id() == 0
        raise RuntimeError
