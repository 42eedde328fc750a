"""The interface of all matchers, and the conversion of values to text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from sqlalchemy import ColumnElement

Column = ColumnElement[str]
Condition = ColumnElement[bool]


class Matcher(Protocol):
    """Decides which attributes match a key."""

    def matches(self, values: Sequence[Any]) -> bool:
        """Return whether an attribute with these values matches: at least one of them has to.

        The values are those of the DICOM JSON model (PS3.18 F.2), or text.
        """

    def prefilter(self, column: Column) -> Condition | None:
        """Return a condition on the column of the values as text, true for all that match.

        None if there is no such condition. For names, the column contains their `fold_name`.
        """


def text_of(value: Any) -> str:
    """Return a value of the DICOM JSON model as text, without leading and trailing spaces."""
    if isinstance(value, str):
        return value.strip(" \0")
    if value is None:
        return ""
    if isinstance(value, dict):
        groups = (value.get(name, "") for name in ("Alphabetic", "Ideographic", "Phonetic"))
        return "=".join(groups).rstrip("=")
    return str(value)


class ByText:
    """Base of matchers that check each value as text; empty values never match."""

    def matches(self, values: Sequence[Any]) -> bool:
        return any(self.accepts(text) for text in map(text_of, values) if text)

    def accepts(self, text: str) -> bool:
        raise NotImplementedError
