"""Conditions in SQL that hold wherever a rule of matching does, and now and then elsewhere.

The rules are not here. Values go into statements as parameters only.
"""

from __future__ import annotations

import re

from sqlalchemy import ColumnElement, and_

_LONGEST = 64
"""How much of a text is looked for: databases refuse patterns that are too long."""
_ESCAPED = re.compile(r"([\\%_])")
_LIKE = {"*": "%", "?": "_"}


def begins_with(column: ColumnElement[str], prefix: str) -> ColumnElement[bool]:
    """Select what begins with a text, by ranges that an index can be used for."""
    prefix = _shortened(prefix)
    after = _next(prefix)
    lower = column >= prefix
    return and_(lower, column < after) if after else lower


def _next(prefix: str) -> str | None:
    """Return the least text above all that begin so, as code points are sorted."""
    stem = prefix.rstrip("\U0010ffff")
    if not stem:
        return None
    code = ord(stem[-1]) + 1
    return stem[:-1] + chr(0xE000 if code == 0xD800 else code)


def contains(column: ColumnElement[str], piece: str) -> ColumnElement[bool]:
    """Select what contains a text."""
    return column.like(f"%{_escaped(_shortened(piece))}%", escape="\\")


def like(column: ColumnElement[str], pattern: str) -> ColumnElement[bool]:
    """Select what a pattern with * and ? matches."""
    shortened = _shortened(pattern)
    text = re.sub(r"[*?]", lambda sign: _LIKE[sign[0]], _escaped(shortened))
    return column.like(text if shortened == pattern else f"{text}%", escape="\\")


def _escaped(text: str) -> str:
    return _ESCAPED.sub(r"\\\1", text)


def _shortened(text: str) -> str:
    return text[:_LONGEST].split("\0")[0]
