"""What may stand behind a node: which kinds of index, with which kinds of store.

A test that has the fixture `backend`, `pair` or `every_pair` runs once for each of several; other
tests run over SQLite and the folder. ``TEST_PAIR=postgres-bucket`` puts that pair behind all nodes:
what a test does not say of index and store is said by `of_folder`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from buckets import new_url

from dicomwire.node.configuration import Configuration
from dicomwire.node.index.database import Database
from dicomwire.node.index.opening import INDEX, open_database
from dicomwire.node.index.schema import metadata
from dicomwire.node.index.writer import Index
from dicomwire.node.maintenance import Finding, Reconciled, check, reindex
from dicomwire.node.objects.bucket import Bucket, variables_in
from dicomwire.node.objects.folder import FolderObjects
from dicomwire.node.objects.opening import open_objects
from dicomwire.node.objects.places import BUCKET, FOLDER, Place, Places
from dicomwire.node.objects.port import Objects
from dicomwire.node.objects.remote import RemoteObjects
from dicomwire.node.objects.spool import Spool


class Backend(NamedTuple):
    """The keys of a configuration that name index and store, for one test."""

    index: str = ""
    objects: str = ""
    variables: str = ""
    """The file of the environment of the bucket, if `objects` is one."""

    def store(self, folder: Path, spool: Spool) -> Objects:
        """Return the store of a node with this folder."""
        if not self.objects:
            return FolderObjects(folder)
        place = Place(BUCKET, RemoteObjects(self.bucket, None, spool))
        return Places([place, Place(FOLDER, FolderObjects(folder))])

    @property
    def bucket(self) -> Bucket:
        """The bucket, if there is one."""
        return Bucket(self.objects, variables_in(Path(self.variables)))

    @property
    def keys(self) -> dict[str, str]:
        """The keys of a configuration."""
        return {
            "index": self.index,
            "objects": self.objects,
            "objects_variables": self.variables,
        }

    def configuration(self, folder: Path, **keys: Any) -> Configuration:
        """Return the configuration of a node with this folder, on any free port."""
        return Configuration(**{"port": 0, "folder": folder} | self.keys | keys)

    def database(self, folder: Path) -> Database:
        """Return the database of a node with this folder."""
        return open_database(self.index, folder)

    def stored_objects(self, folder: Path) -> Objects:
        """Return the store of a node with this folder, for reading."""
        return open_objects(self.configuration(folder))

    def contents(self, folder: Path) -> dict[str, bytes]:
        """Return all objects in the store of a node, by name."""
        objects = self.stored_objects(folder)
        found = {}
        for name in objects.names():
            with objects.open(name) as file:
                found[name] = file.read()
        return found

    def edit(self, folder: Path, name: str, change: Callable[[Path], object]) -> None:
        """Change the file of an object without the knowledge of the archive."""
        objects = self.stored_objects(folder)
        with objects.local(name) as path:
            change(path)
            if objects.path(name) is None:
                digits = name.removeprefix(BUCKET).removesuffix(".dcm").replace("/", "")
                assert objects.copy(path, digits) == name

    def rewrite(self, folder: Path, name: str, content: bytes) -> None:
        """Give an object in the store another content."""
        self.edit(folder, name, lambda path: path.write_bytes(content))

    def lose(self, folder: Path, name: str) -> None:
        """Remove an object from the store without the knowledge of the archive."""
        self.stored_objects(folder).remove([name])

    def findings(self, folder: Path) -> list[Finding]:
        """Return what `node check` finds."""
        return [*check(folder, index=self.index, objects=self.stored_objects(folder))]

    def reindex(self, folder: Path, *args: Any) -> Reconciled:
        """Make the index of a stopped node again."""
        return reindex(folder, *args, index=self.index, objects=self.stored_objects(folder))

    def forget_index(self, folder: Path) -> None:
        """Remove all that the index of a stopped node has."""
        if not self.index:
            for path in folder.glob(f"{INDEX}*"):
                path.unlink()
            return
        with Index(self.database(folder)) as index, index.writing() as writer:
            for table in reversed(metadata.sorted_tables):
                writer.connection.execute(table.delete())


EMBEDDED = Backend()
"""SQLite and the folder."""


@contextmanager
def _embedded(request: pytest.FixtureRequest) -> Iterator[Backend]:
    yield EMBEDDED


@contextmanager
def _postgres(request: pytest.FixtureRequest) -> Iterator[Backend]:
    server = request.getfixturevalue("postgres_server")
    url = server.new_database()
    yield Backend(index=url)
    server.drop(url)


@contextmanager
def _sqlite_and_bucket(request: pytest.FixtureRequest) -> Iterator[Backend]:
    yield Backend(objects=new_url(), variables=request.getfixturevalue("seaweedfs_variables"))


@contextmanager
def _postgres_and_bucket(request: pytest.FixtureRequest) -> Iterator[Backend]:
    with _postgres(request) as database, _sqlite_and_bucket(request) as bucket:
        yield bucket._replace(index=database.index)


Opener = Callable[[pytest.FixtureRequest], AbstractContextManager[Backend]]
BACKENDS: dict[str, Opener] = {
    "sqlite-folder": _embedded,
    "postgres-folder": _postgres,
}
"""The indexes, with the folder: for tests in which the store of objects does not matter."""
PAIRS = {**BACKENDS, "postgres-bucket": _postgres_and_bucket}
EVERY_PAIR = {**PAIRS, "sqlite-bucket": _sqlite_and_bucket}
"""All pairs: for tests that change both together."""

PAIR = os.environ.get("TEST_PAIR", "")
"""The pair to run all tests with; "" for SQLite and the folder, and each test's own list."""


class Chosen:
    """The pair of `PAIR`, empty for each folder that a node uses."""

    def __init__(self) -> None:
        self._open: Callable[[], AbstractContextManager[Backend]] | None = None
        self._of_folders: dict[Path, Backend] = {}
        self._opened = ExitStack()

    @contextmanager
    def available(self, request: pytest.FixtureRequest) -> Iterator[None]:
        """Have what the pair needs run in this block."""
        if PAIR in ("", "sqlite-folder"):
            yield
            return
        self._open = lambda: EVERY_PAIR[PAIR](request)
        with self._open(), self._opened:  # the first one starts the servers
            yield

    @contextmanager
    def removed(self) -> Iterator[None]:
        """Remove at the end what was made for folders in this block."""
        before, outer = self._of_folders.copy(), self._opened
        with ExitStack() as self._opened:
            yield
        self._of_folders, self._opened = before, outer

    def of_folder(self, folder: Path) -> Backend:
        """Return what is behind the nodes with this folder."""
        if self._open is None:
            return EMBEDDED
        if folder not in self._of_folders:
            self._of_folders[folder] = self._opened.enter_context(self._open())
        return self._of_folders[folder]


CHOSEN = Chosen()
of_folder = CHOSEN.of_folder


def configuration_of(folder: Path, **keys: Any) -> Configuration:
    """Return the configuration of a node with this folder, on any free port."""
    return of_folder(folder).configuration(folder, **keys)


def options_of(folder: Path, **keys: Any) -> list[str]:
    """Return the options of a command for a node with this folder."""
    keys = {"folder": folder} | of_folder(folder).keys | keys
    return [f"--{name.replace('_', '-')}={value}" for name, value in keys.items() if value]
