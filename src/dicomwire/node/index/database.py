"""The database of the index: what its kinds have in common, its migrations, and its errors.

`sqlite` and `postgres` are the kinds; `reader` and `writer` have the statements.
"""

from __future__ import annotations

import contextlib
from collections.abc import Hashable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from sqlalchemy import Connection, Engine, inspect
from sqlalchemy.exc import ProgrammingError, SQLAlchemyError

from dicomwire.node.index.schema import REVISION, VERSION_TABLE

_MIGRATIONS = Path(__file__).parent / "migrations"

IndexFailure = SQLAlchemyError
"""The error of a database that cannot be read or written: away, locked, full or damaged."""


class WrongRevision(IndexFailure):
    """The tables are not those of this version of the program; the text says what to do."""


class Unusable(IndexFailure):
    """The database cannot hold an index; the text says why."""


class InDoubt(IndexFailure):
    """The connection was lost while a transaction was committed: it may be committed, or not."""


class Numbers(NamedTuple):
    """What a process has to know of the transactions of others before it writes."""

    changes: int
    """Another one means that a remembered series may be gone, or its id that of a new one, or that
    its study may have another patient."""
    last: int | None
    """The number of the last batch; None if each transaction is durable by itself. See
    `Writer.number`."""


class Database(Protocol):
    """A database, of any kind.

    Attributes
    ----------
    begin_reading, begin_alone : str
        The statements that begin a transaction. One that is `alone` waits for all others that
        write, of all processes, and keeps new ones from beginning.
    """

    begin_reading: str
    begin_alone: str

    def engine(self, is_reader: bool) -> Engine:
        """Return an engine; with `is_reader`, it cannot change the database.

        Its connections begin no transaction by themselves; see `transaction`.
        """

    def prepare(self) -> None:
        """Make the database if it is missing and can be made; OSError if that fails."""

    def check(self, connection: Connection) -> None:
        """Raise Unusable if the database cannot hold an index."""

    def identity(self) -> Hashable:
        """Return what changes if the database is replaced by another one; None if it is gone."""

    def clear_replaced(self) -> None:
        """Remove what belongs to a database that was replaced by another one."""

    def lock(self, connection: Connection, names: Sequence[str]) -> None:
        """Wait until no other transaction holds one of these names; hold them to its end."""

    # --- What is done for each batch ---

    def writing(
        self, connection: Connection, *, is_alone: bool, is_journaled: bool
    ) -> AbstractContextManager[None]:
        """Return a transaction that writes; see `transaction`, which this is like.

        One that `is_journaled` need not be durable before `sync`.
        """

    def find(
        self, connection: Connection, uids: Sequence[str], with_rejected: bool = False
    ) -> Iterable[Sequence[Any]]:
        """Return the values of `reader.Stored` for all copies of instances.

        With `with_rejected`, also a row without a file for each of the UIDs that is rejected.
        """

    def add(self, connection: Connection, rows: list[dict[str, Any]]) -> None:
        """Add instances; their attributes are JSON in ASCII."""

    def add_tasks(self, connection: Connection, rows: list[dict[str, Any]]) -> None:
        """Add tasks: rows with kind, key, payload, due and created."""

    def owned(self, connection: Connection, owner: str, tasks: Iterable[int]) -> int:
        """Return how many of these tasks an owner has."""

    def numbers(self, connection: Connection) -> Numbers:
        """Return the numbers that there are; asked once for each transaction that writes."""

    def note_change(self, connection: Connection) -> None:
        """Change `Numbers.changes`, before instances are removed; `last` never goes back."""

    def sync(self, engine: Engine) -> None:
        """Make all committed transactions durable; IndexFailure or OSError if that fails."""


@contextlib.contextmanager
def transaction(connection: Connection, begin: str) -> Iterator[None]:
    """Run the block in a transaction, which is committed at its end.

    Raises
    ------
    InDoubt
        When the connection is lost during the commit.
    """
    with connection.begin() as current:
        # Without parameters, the driver of PostgreSQL sends both statements of `begin` at once.
        connection.exec_driver_sql(begin, execution_options={"no_parameters": True})
        yield
        try:
            current.commit()
        except SQLAlchemyError as error:
            if getattr(error, "connection_invalidated", False):
                raise InDoubt(f"the commit was interrupted: {reason_of(error)}") from error
            raise


def reason_of(error: BaseException) -> str:
    """Return why the database failed, in one line.

    Statements, parameters and details of the database are left out, since they have values of
    objects.
    """
    cause = getattr(error, "orig", None) or error
    return next(iter(str(cause).splitlines()), type(cause).__name__)


def check_revision(connection: Connection) -> None:
    """Raise WrongRevision unless the tables are those of this version of the program."""
    found = _revision(connection)
    if found != REVISION:
        raise WrongRevision(
            f"the index has revision {found}, not {REVISION}: start the node to bring an older "
            "one up to date, or make a new one (reindex)"
        )


def migrate(database: Database, connection: Connection) -> None:
    """Bring the tables up to date, or make them; WrongRevision if a later program made them."""
    # To be alone would hold up all nodes: each process begins with this, and waits for the
    # longest transaction of any, while no other can begin one.
    with transaction(connection, database.begin_reading):
        database.check(connection)
        if _revision(connection) == REVISION:
            return
    try:
        with transaction(connection, database.begin_alone):
            if _revision(connection) != REVISION:  # another process may have done it meanwhile
                _upgrade(connection)
    except ProgrammingError as error:
        raise Unusable(f"the tables cannot be made: {reason_of(error)}") from None


def _revision(connection: Connection) -> str | None:
    """Return the revision of the tables; None if there are none."""
    if not inspect(connection).has_table(VERSION_TABLE):
        return None
    revision: str | None = connection.exec_driver_sql(
        f"SELECT version_num FROM {VERSION_TABLE}"
    ).scalar()
    return revision


def _upgrade(connection: Connection) -> None:
    """Run the migrations that the tables have not had yet."""
    # Here, since few starts need it: the import takes 0.1 s and 8 MB.
    from alembic import command
    from alembic.config import Config
    from alembic.util import CommandError

    config = Config()
    # Alembic interpolates it as in an INI file, where % has a meaning.
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, "head")
    except CommandError as error:  # a later version of the program made it
        raise WrongRevision(
            f"a newer version of dicomwire has made the index: use that version, or make a new "
            f"index with this one (reindex) ({error})"
        ) from None
