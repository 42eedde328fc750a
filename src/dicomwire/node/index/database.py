"""The database of the index: its engines, its file and its migrations.

`reader` and `writer` have the statements.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import URL
from sqlalchemy.exc import SQLAlchemyError

BUSY_TIMEOUT = 5.0
"""Seconds to wait while another program has locked the database."""
PRAGMAS = (
    "journal_mode = WAL",  # readers need not wait for the writer
    "synchronous = FULL",  # a committed transaction is on the disk
    "foreign_keys = ON",
)
_MIGRATIONS = Path(__file__).parent / "migrations"

IndexFailure = SQLAlchemyError
"""The error of a database that cannot be read or written: locked, full or damaged."""


class WrongRevision(IndexFailure):
    """The tables are not those of this version of the program; the text says what to do."""


def check_revision(connection: Connection) -> None:
    """Raise WrongRevision unless the tables are those of this version of the program."""
    found = MigrationContext.configure(connection).get_current_revision()
    needed = ScriptDirectory.from_config(_migrations()).get_current_head()
    if found != needed:
        raise WrongRevision(
            f"the index has revision {found}, not {needed}: start the node to bring an older "
            "one up to date, or make a new one (reindex)"
        )


def migrate(connection: Connection) -> None:
    """Bring the tables up to date, or make them; WrongRevision if a later program made them."""
    config = _migrations()
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, "head")
    except CommandError as error:  # a later version of the program made it
        raise WrongRevision(f"the index cannot be brought up to date: {error}") from None
    connection.commit()


def _migrations() -> Config:
    config = Config()
    # Alembic interpolates it as in an INI file, where % has a meaning.
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    return config


def logs_of(path: Path) -> list[Path]:
    """Return the paths of the log files that SQLite keeps beside a database in use."""
    return [path.with_name(f"{path.name}{suffix}") for suffix in ("-wal", "-shm", "-journal")]


def identity_of(path: Path) -> tuple[int, int] | None:
    """Return device and inode of a file; None if there is none."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def create_file(path: Path) -> None:
    """Make an empty database that only its owner may read, if there is none."""
    with contextlib.suppress(FileExistsError):
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))


def new_engine(path: Path, begin: str, pragmas: Sequence[str]) -> Engine:
    """Return an engine whose transactions begin with the statement `begin`.

    Python's driver begins one only before a change; a reader would not see one state.
    """
    engine = create_engine(
        URL.create("sqlite", database=str(path)),
        connect_args={"timeout": BUSY_TIMEOUT, "isolation_level": None},
        hide_parameters=True,  # keep patient data out of error texts
    )

    @event.listens_for(engine, "connect")
    def prepare(connection: Any, _record: object) -> None:
        for pragma in pragmas:
            connection.execute(f"PRAGMA {pragma}").close()

    @event.listens_for(engine, "begin")
    def start(connection: Connection) -> None:
        connection.exec_driver_sql(begin)

    return engine
