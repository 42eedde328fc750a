"""SQL conditions for prefilters: true for each row that matches, and maybe for others.

`matching` and `patterns` have the rules. Values become parameters, never part of a statement.
"""

from __future__ import annotations

import re

from sqlalchemy import ColumnElement, and_, false

from dicomwire.node.index.dialects import indexed

_LONGEST = 64
"""The most characters of a text in a condition: databases refuse patterns that are too long."""
_ESCAPED = re.compile(r"([\\%_])")
_LIKE = {"*": "%", "?": "_"}


def equals(column: ColumnElement[str], text: str) -> ColumnElement[bool]:
    """Return the condition that a column is `text`, or begins with it if it is long."""
    if "\0" in text:
        return false()  # the index contains no such character, and PostgreSQL refuses it
    return indexed(column) == text if len(text) <= _LONGEST else begins_with(column, text)


def between(column: ColumnElement[str], first: str, last: str | None) -> ColumnElement[bool]:
    """Return the condition that a column is in a range; without `last` it has no end."""
    lower = indexed(column) >= first
    return and_(lower, indexed(column) <= last) if last else lower


def begins_with(column: ColumnElement[str], prefix: str) -> ColumnElement[bool]:
    """Return the condition that a column begins with `prefix`, as a range an index can serve."""
    prefix = _shortened(prefix)
    after = _next(prefix)
    lower = indexed(column) >= prefix
    return and_(lower, indexed(column) < after) if after else lower


def _next(prefix: str) -> str | None:
    """Return the first text after all those that begin with `prefix`, by code points.

    None if there is no such text.
    """
    stem = prefix.rstrip("\U0010ffff")
    if not stem:
        return None
    code = ord(stem[-1]) + 1
    return stem[:-1] + chr(0xE000 if code == 0xD800 else code)


def contains(column: ColumnElement[str], piece: str) -> ColumnElement[bool]:
    """Return the condition that a column contains `piece`."""
    return column.like(f"%{_escaped(_shortened(piece))}%", escape="\\")


def like(column: ColumnElement[str], pattern: str) -> ColumnElement[bool]:
    """Return the condition that a column matches a pattern with * and ?."""
    shortened = _shortened(pattern)
    text = re.sub(r"[*?]", lambda sign: _LIKE[sign[0]], _escaped(shortened))
    return column.like(text if shortened == pattern else f"{text}%", escape="\\")


def _escaped(text: str) -> str:
    return _ESCAPED.sub(r"\\\1", text)


def _shortened(text: str) -> str:
    return text[:_LONGEST].split("\0")[0]
