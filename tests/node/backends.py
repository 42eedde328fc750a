"""What may stand behind a node: which kinds of index, with which kinds of store.

A test that has the fixture `backend` runs once for each; other tests run over SQLite and the
folder. This is the one list of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import pytest
from buckets import new_url, variables

from dicomwire.node.configuration import Configuration
from dicomwire.node.index.database import Database
from dicomwire.node.index.opening import open_database
from dicomwire.node.objects.bucket import Bucket
from dicomwire.node.objects.folder import FolderObjects
from dicomwire.node.objects.places import BUCKET, FOLDER, Place, Places
from dicomwire.node.objects.port import Objects
from dicomwire.node.objects.remote import RemoteObjects
from dicomwire.node.objects.spool import Spool


class Backend(NamedTuple):
    """The keys of a configuration that name index and store, for one test."""

    index: str = ""
    objects: str = ""
    variables: Mapping[str, str] = MappingProxyType({})
    """The environment of the bucket, if `objects` is one."""

    def store(self, folder: Path, spool: Spool) -> Objects:
        """Return the store of a node with this folder."""
        if not self.objects:
            return FolderObjects(folder)
        bucket = Bucket(self.objects, self.variables)
        place = Place(BUCKET, RemoteObjects(bucket, None, spool))
        return Places([place, Place(FOLDER, FolderObjects(folder))])

    def configuration(self, folder: Path, **keys: Any) -> Configuration:
        """Return the configuration of a node with this folder, on any free port."""
        if self.objects:
            file = folder.with_suffix(".variables")
            file.write_text("".join(f"{name}={value}\n" for name, value in self.variables.items()))
            keys |= {"objects": self.objects, "objects_variables": str(file)}
        return Configuration(**{"port": 0, "folder": folder, "index": self.index} | keys)

    def database(self, folder: Path) -> Database:
        """Return the database of a node with this folder."""
        return open_database(self.index, folder)


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
def _postgres_and_bucket(request: pytest.FixtureRequest) -> Iterator[Backend]:
    port = request.getfixturevalue("seaweedfs_port")
    with _postgres(request) as backend:
        yield backend._replace(objects=new_url(), variables=variables(port))


@contextmanager
def _sqlite_and_bucket(request: pytest.FixtureRequest) -> Iterator[Backend]:
    port = request.getfixturevalue("seaweedfs_port")
    yield Backend(objects=new_url(), variables=variables(port))


BACKENDS: dict[str, Callable[[pytest.FixtureRequest], object]] = {
    "sqlite-folder": _embedded,
    "postgres-folder": _postgres,
}
"""The indexes, with the folder: for tests in which the store of objects does not matter."""
PAIRS = {**BACKENDS, "postgres-bucket": _postgres_and_bucket}
EVERY_PAIR = {**PAIRS, "sqlite-bucket": _sqlite_and_bucket}
"""All pairs: for tests that change both together."""
