"""What is common to all matchers of attributes: how they are asked, and values as text.

No rule of matching is here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from sqlalchemy import ColumnElement

Column = ColumnElement[str]
Condition = ColumnElement[bool]


class Matcher(Protocol):
    """What matches a key that is not universal."""

    def matches(self, values: Sequence[Any]) -> bool:
        """Return whether an attribute matches, of which these are the values.

        They are as the DICOM JSON model has them (PS3.18 F.2), or text; one that matches is enough.
        """

    def prefilter(self, column: Column) -> Condition | None:
        """Return a condition on a column of the values as text; None where all are to be seen.

        For names the column has `fold_name` of them.
        """


def text_of(value: Any) -> str:
    """Return a value of the DICOM JSON model as text, without the spaces around it."""
    if isinstance(value, str):
        return value.strip(" \0")
    if value is None:
        return ""
    if isinstance(value, dict):
        groups = (value.get(name, "") for name in ("Alphabetic", "Ideographic", "Phonetic"))
        return "=".join(groups).rstrip("=")
    return str(value)


class ByText:
    """Looks at one value after the other, as text; empty ones never match."""

    def matches(self, values: Sequence[Any]) -> bool:
        return any(self.accepts(text) for text in map(text_of, values) if text)

    def accepts(self, text: str) -> bool:
        raise NotImplementedError
