"""Servers that several modules of tests use: each is started once, by the first test that asks."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import nullcontext, suppress
from functools import partial
from pathlib import Path
from threading import get_ident
from typing import Any

import cloud_services
import pytest
from backends import BACKENDS, CHOSEN, EVERY_PAIR, PAIR, PAIRS, Backend, Opener
from buckets import moto, seaweedfs, write_variables
from chromium import Chromium
from cloud_services import SERVICES, Service
from forking import OF_NODES, OF_PIXELS, QuickSubprocess
from postgres_server import PostgresServer
from sqlalchemy import create_engine
from sqlalchemy.engine import Dialect
from sqlalchemy.util import LRUCache

from dicomwire.node import processes, server
from dicomwire.node.index import postgres, sqlite
from dicomwire.node.index.sqlite import Sqlite
from dicomwire.node.index.writer import Index
from dicomwire.node.tasks import process


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    """A browser; each page of it is like that of another person."""
    with Chromium(tmp_path_factory.mktemp("chromium")) as chromium:
        yield chromium


@pytest.fixture(scope="session")
def seaweedfs_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of a SeaweedFS; see `buckets.variables` and `buckets.new_url`."""
    with seaweedfs(tmp_path_factory.mktemp("seaweedfs")) as server:
        yield server.port


@pytest.fixture(scope="session")
def seaweedfs_variables(seaweedfs_port: int, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The file for the key `objects_variables`."""
    return write_variables(tmp_path_factory.mktemp("variables") / "file", seaweedfs_port)


@pytest.fixture(scope="session")
def moto_port() -> Iterator[int]:
    """The port of a moto."""
    with moto() as port:
        yield port


@pytest.fixture(scope="session")
def google() -> Iterator[Service]:
    """What stands for Google Cloud Storage."""
    with cloud_services.google() as service:
        yield service


@pytest.fixture(scope="session")
def azure() -> Iterator[Service]:
    """An emulator of Azure Blob Storage."""
    with cloud_services.azure() as service:
        yield service


@pytest.fixture(params=SERVICES)
def service(request: pytest.FixtureRequest) -> Service:
    """Each service that has buckets."""
    return SERVICES[request.param](request)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """A PostgreSQL that runs."""
    server = PostgresServer()
    try:
        server.start()
        yield server
    finally:
        server.remove()


@pytest.fixture(scope="session", autouse=True)
def _no_origin_is_left() -> Iterator[None]:
    """End the processes that others are forked from, if there are some."""
    yield
    OF_NODES.end()
    OF_PIXELS.end()


@pytest.fixture(scope="session", autouse=True)
def _quick_processes() -> Iterator[None]:
    """Fork the processes that work with pixels: to import what they do takes 0.4 s each time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(processes, "subprocess", QuickSubprocess)
        yield


@pytest.fixture
def real_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Start the processes that work with pixels as a node does."""
    monkeypatch.setattr(processes, "subprocess", subprocess)


@pytest.fixture(scope="session", autouse=True)
def _empty_index(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Copy new indexes from one that was made before: to make the tables takes 30 ms each time."""
    folder = tmp_path_factory.mktemp("empty")
    Index(Sqlite(folder / "empty")).close()

    def prepare(database: Sqlite) -> None:
        copied = Path(shutil.copyfile(folder / "empty", folder / f"copy-{get_ident()}"))
        copied.chmod(0o600)
        with suppress(FileExistsError):
            database.path.hardlink_to(copied)
        copied.unlink()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Sqlite, "prepare", prepare)
        yield


@pytest.fixture(scope="session", autouse=True)
def _statements_are_compiled_once() -> Iterator[None]:
    """Let all indexes share the statements that SQLAlchemy has compiled, each for a database.

    Otherwise each index compiles them anew, which takes longer than all else that opens a node.
    """
    compiled = LRUCache(1000)

    def kind_of(dialect: Any) -> tuple[Any, ...]:
        return type(dialect), getattr(dialect, "server_version_info", None)

    with pytest.MonkeyPatch.context() as patch:
        # What is compiled is looked up by dialect and statement. Each engine has its own dialect.
        patch.setattr(Dialect, "__eq__", lambda self, other: kind_of(self) == kind_of(other))
        patch.setattr(Dialect, "__hash__", lambda self: hash(kind_of(self)))
        for module in (sqlite, postgres):
            options = {"execution_options": {"compiled_cache": compiled}}
            patch.setattr(module, "create_engine", partial(create_engine, **options))
        yield


def _each_backend(request: pytest.FixtureRequest) -> Iterator[Backend]:
    """Each pair of index and store, empty."""
    with EVERY_PAIR[request.param](request) as opened:
        yield opened


def _fixture(pairs: dict[str, Opener], **options: Any) -> Any:
    return pytest.fixture(params=[PAIR] if PAIR else pairs, **options)(_each_backend)


backend = _fixture(BACKENDS)
pair = _fixture(PAIRS)
every_pair = _fixture(EVERY_PAIR)
module_backend = _fixture(BACKENDS, scope="module", name="module_backend")


@pytest.fixture(scope="session", autouse=True)
def _chosen_pair(request: pytest.FixtureRequest) -> Iterator[None]:
    """Have the servers of TEST_PAIR run.

    A client of a bucket is useless in a fork of a process that has used one, as this has. So nodes
    in it run their tasks in threads then; `node_processes.node_process` is as it always is.
    """
    with CHOSEN.available(request), pytest.MonkeyPatch.context() as patch:
        if "bucket" in PAIR:
            patch.setattr(server, "TaskProcess", lambda run: nullcontext())
        yield


@pytest.fixture(autouse=True)
def _chosen_pair_of_test(request: pytest.FixtureRequest) -> Iterator[None]:
    """Leave out what knows SQLite or the folder, if that is not in TEST_PAIR."""
    for marker in request.node.iter_markers("only_with"):
        part, reason = marker.args
        if PAIR and part not in PAIR:
            pytest.skip(f"only with {part}: {reason}")
    with CHOSEN.removed():
        yield


def pytest_configure(config: pytest.Config) -> None:
    """Declare the marker."""
    text = 'only_with(part, reason): a test of "sqlite" or the "folder"'
    config.addinivalue_line("markers", f"{text}; with other pairs TEST_PAIR leaves it out")


@pytest.fixture(autouse=True)
def _as_quick_as_the_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    """The process that runs the tasks has the priority of the tests, which wait for it."""
    monkeypatch.setattr(process, "NICENESS", 0)
