"""Finds the database of a node by its configuration."""

from __future__ import annotations

import os
from pathlib import Path

from dicomwire.node.index.database import Database
from dicomwire.node.index.postgres import Postgres
from dicomwire.node.index.sqlite import Sqlite

INDEX = "index.sqlite"
"""The name of the index in a node's folder."""


def open_database(index: str, folder: str | os.PathLike[str]) -> Database:
    """Return the database that the key `index` of the configuration names.

    Parameters
    ----------
    index : str
        A URL of PostgreSQL; "" for a file of SQLite in the node's folder.
    folder : Path
        The node's folder.
    """
    return Postgres(index) if index else Sqlite(Path(folder) / INDEX)


def open_existing(index: str, folder: str | os.PathLike[str]) -> Database:
    """Return that database; FileNotFoundError if it is a file that does not exist."""
    database = open_database(index, folder)
    if isinstance(database, Sqlite) and not database.path.exists():
        raise FileNotFoundError(f"there is no index {database.path}")
    return database
