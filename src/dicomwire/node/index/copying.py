"""Copies an index into another database, which may be of the other kind."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from sqlalchemy import Connection, Table, delete, func, insert, select

from dicomwire.node.index.database import Database, Unusable
from dicomwire.node.index.reader import IndexReader
from dicomwire.node.index.schema import instance, metadata, protection, rejection, study_use, task
from dicomwire.node.index.writer import Index

_PORTION = 1000
"""The most rows in memory; with their attributes, they have a thousand bytes each."""
_NOT_IN_FILES = (task, protection, rejection, study_use)
"""The tables that cannot be made again from the files of objects."""


def copy_index(source: Database, target: Database, progress: Callable[[int], None]) -> int:
    """Copy all rows of an index into one that is empty; return the number of instances.

    The source is read in one state. The target has all rows after that, or none.

    Parameters
    ----------
    progress : callable
        Called with the number of instances copied so far.

    Raises
    ------
    WrongRevision
        When another version of the program made the source.
    Unusable
        When the target has objects already.
    IndexFailure
        When one of them cannot be used.
    """
    copied = 0
    with IndexReader(source) as index, Index(target) as empty:
        if empty.last_id():
            raise Unusable("the target has objects already: it must be an empty database")
        with index.reading() as reading, empty.writing(is_alone=True) as writer:
            for table in reversed(metadata.sorted_tables):
                writer.connection.execute(delete(table))
            for table in metadata.sorted_tables:
                for rows in _portions(reading, table):
                    writer.connection.execute(insert(table), rows)
                    if table is instance:
                        copied += len(rows)
                        progress(copied)
                _continue_numbers(writer.connection, table)
            writer.connection.exec_driver_sql("ANALYZE")  # for good plans from the first query on
    return copied


def keep_rows(source: IndexReader, target: Index) -> None:
    """Copy to a new index what cannot be made from files; running tasks wait for their leases."""
    with source.reading() as reading, target.writing() as writer:
        for table in _NOT_IN_FILES:
            for rows in _portions(reading, table):
                writer.connection.execute(insert(table), rows)


def _portions(reading: Connection, table: Table) -> Iterator[list[dict[str, Any]]]:
    query = select(table).order_by(*table.primary_key)
    with reading.execute(query, execution_options={"yield_per": _PORTION}) as result:
        for rows in result.mappings().partitions():
            yield [dict(row) for row in rows]


def _continue_numbers(connection: Connection, table: Table) -> None:
    """Let new rows have numbers after those of the rows that were copied."""
    column = table.autoincrement_column
    if column is None or connection.dialect.name != "postgresql":
        return
    highest = connection.execute(select(func.max(column))).scalar()
    if highest is not None:
        sequence = func.pg_get_serial_sequence(table.name, column.name)
        connection.execute(select(func.setval(sequence, highest)))
