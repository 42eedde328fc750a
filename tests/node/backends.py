"""What may stand behind a node: which kinds of index, with which kinds of store.

A test that has the fixture `backend` runs once for each; other tests run over SQLite and the
folder. This is the one list of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from dicomwire.node.index.database import Database
from dicomwire.node.index.opening import open_database


class Backend(NamedTuple):
    """The keys of a configuration that name index and store, for one test."""

    index: str = ""

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


BACKENDS: dict[str, Callable[[pytest.FixtureRequest], object]] = {
    "sqlite-folder": _embedded,
    "postgres-folder": _postgres,
}
