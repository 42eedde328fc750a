"""Statements that are executed for each batch of objects."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeVar

from sqlalchemy import bindparam, insert, literal_column, select

from dicomwire.node.index.schema import instance, rejection

_MOST_VARIABLES = 500
"""The most values in one statement; SQLite allows 32,766, and old versions 999."""
_T = TypeVar("_T")

STORED = select(
    instance.c.id,
    instance.c.sop_instance_uid,
    instance.c.copy,
    instance.c.file,
    instance.c.digest,
    instance.c.received,
)
"""The values of `reader.Stored`."""
BY_UID = STORED.where(instance.c.sop_instance_uid == bindparam("uid"))
_UID = rejection.c.sop_instance_uid
REJECTED = select(literal_column("0"), _UID, literal_column("0"), *[literal_column("''")] * 3)
"""Such values, without a file, of instances that are rejected."""
ADD_INSTANCE = insert(instance)
NEW_TASK = ("kind", "key", "payload", "due", "created")
"""The columns of a task that is added; the others have defaults."""


def portions(values: Sequence[_T]) -> Iterator[Sequence[_T]]:
    """Yield the values in portions that fit into one statement."""
    for start in range(0, len(values), _MOST_VARIABLES):
        yield values[start : start + _MOST_VARIABLES]
