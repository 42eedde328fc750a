"""An index in a file of SQLite: nothing to install, for processes on one machine."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import URL

BUSY_TIMEOUT = 5.0
"""Seconds to wait while another program has locked the database."""
_PRAGMAS = (
    "journal_mode = WAL",  # readers need not wait for the writer
    "synchronous = FULL",  # a committed transaction is on the disk
    "foreign_keys = ON",
)


class Sqlite:
    """A database in a file; see `database.Database`.

    Its locks admit one transaction that writes at a time, of all processes.
    """

    begin_reading = "BEGIN"  # Python's driver begins one only before a change
    begin_writing = begin_alone = "BEGIN IMMEDIATE"

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path).absolute()

    def engine(self, is_reader: bool) -> Engine:
        engine = create_engine(
            URL.create("sqlite", database=str(self.path)),
            connect_args={"timeout": BUSY_TIMEOUT, "isolation_level": None},
            hide_parameters=True,  # keep patient data out of error texts
        )

        @event.listens_for(engine, "connect")
        def prepare(connection: Any, _record: object) -> None:
            for pragma in ("query_only = ON",) if is_reader else _PRAGMAS:
                connection.execute(f"PRAGMA {pragma}").close()

        return engine

    def prepare(self) -> None:
        """Make an empty database that only its owner may read, if there is none."""
        with contextlib.suppress(FileExistsError):
            os.close(os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))

    def check(self, connection: Connection) -> None:
        """Accept it: every file that can be opened will do."""

    def identity(self) -> tuple[int, int] | None:
        """Return device and inode of the file: SQLite does not notice a deleted file."""
        try:
            status = os.stat(self.path)
        except OSError:
            return None
        return status.st_dev, status.st_ino

    def clear_replaced(self) -> None:
        """Remove the logs of the old file, which SQLite would apply to the new one."""
        for log in logs_of(self.path):
            log.unlink(missing_ok=True)

    def changes_of_others(self, connection: Connection) -> int:
        """Return the version of the data that others have written.

        SQLite gives the id of a removed row to a new one if it was the highest.
        """
        driver: Any = connection.connection.driver_connection
        (version,) = driver.execute("PRAGMA data_version").fetchone()
        return int(version)

    def lock(self, connection: Connection, names: Sequence[str]) -> None:
        """Do nothing: there is only one transaction that writes."""


def logs_of(path: Path) -> list[Path]:
    """Return the paths of the log files that SQLite keeps beside a database in use."""
    return [path.with_name(f"{path.name}{suffix}") for suffix in ("-wal", "-shm", "-journal")]
