"""Searches the index for the rows that match an identifier.

SQL statements select candidates, and the matchers decide which of them match. `identifier` reads
the request, `answers` makes the responses.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import Any, NamedTuple, Protocol

from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    Select,
    Table,
    bindparam,
    select,
)

from dicomwire.node.computed import COMPUTED, of_patient
from dicomwire.node.identifier import Identifier
from dicomwire.node.index.dialects import text_of_json
from dicomwire.node.index.schema import instance, patient, series, study
from dicomwire.node.keys import QUERY_KEYS, Level, QueryKey
from dicomwire.node.matching import UIDs
from dicomwire.node.ranges import combined
from dicomwire.node.values import Matcher
from dicomwire.node.visible import StudyFilter

_TABLES = {
    Level.PATIENT: patient,
    Level.STUDY: study,
    Level.SERIES: series,
    Level.IMAGE: instance,
}
_ATTRIBUTES = {level: text_of_json(table.c.attributes) for level, table in _TABLES.items()}
"""The columns `attributes` as JSON text; it is parsed only for rows that need it."""
_JOINED = {
    Level.PATIENT: patient,
    Level.STUDY: study.join(patient),
    Level.SERIES: series.join(study.join(patient)),
    Level.IMAGE: instance.join(series.join(study.join(patient))),
}
_ALIASES = {table: table.alias() for table in _TABLES.values()}
"""For subqueries: to make one takes as long as the rest of a statement."""
_INDEXED: dict[Any, Table] = {
    next(iter(index.columns)): table for table in _TABLES.values() for index in table.indexes
}
"""The tables of the columns with an index."""
_BELOW = {patient: study, study: series, series: instance}
_FIRST_PAGE = 50
"""Rows of the first page: few, so that the first responses are sent early."""
_LARGEST_PAGE = 1000
"""The most rows of a page: usual rows have a thousand bytes, so that is 1 MB."""
_PAGE_BYTES = 4 * 1024 * 1024
"""The most text of a page in memory; the row that exceeds it ends the page."""
_PATIENT_NAME = next(tag for tag, key in QUERY_KEYS.items() if key.keyword == "PatientName")
_DATES_AND_TIMES = [
    (key, other)
    for key in QUERY_KEYS.values()
    for other in QUERY_KEYS.values()
    if key.keyword.endswith("Date") and other.keyword == f"{key.keyword[:-4]}Time"
]


class Searched(Protocol):
    """What a search uses of an index."""

    @property
    def studies(self) -> StudyFilter | None:
        """The studies to search; None for all."""

    def reading_once(self) -> AbstractContextManager[Connection]:
        """Yield a connection, for one page."""


class _Condition(NamedTuple):
    """A rule, and functions that take the values to match from a row."""

    matches: Callable[..., bool]
    values: tuple[Callable[[Row[Any]], Sequence[Any]], ...]


class Search:
    """A search for the rows of one level that match an identifier, page by page.

    Each page is a statement of its own, which continues after the primary key of the last row. So
    no transaction stays open while responses are sent, however slowly the peer takes them.

    Parameters
    ----------
    request : Identifier
    fuzzy, combined_datetime : bool, optional
        Whether the peer negotiated these (PS3.4 C.5.1.1).
    selects : Level or None, optional
        The level of the rows, if it is not that of the identifier.
    """

    def __init__(
        self,
        request: Identifier,
        fuzzy: bool = False,
        combined_datetime: bool = False,
        selects: Level | None = None,
    ) -> None:
        level = selects or request.level
        self._table = _TABLES[level]
        self._level = level
        self._columns: dict[Any, int] = {}
        self._where: list[ColumnElement[bool]] = []
        self._conditions: list[_Condition] = []
        self._lists: list[tuple[UIDs, ColumnElement[str]]] = []
        self._parsed: dict[int, _Attributes] = {}
        self.add(self._table.c.id)
        matchers = {key: request.matcher(key, fuzzy) for key in request.keys}
        if combined_datetime:
            self._combine(matchers)
        for key, matcher in matchers.items():
            if matcher is not None:
                self._match(key, matcher)

    def add(self, column: ColumnElement[Any]) -> int:
        """Select a column; return its position in the rows."""
        return self._columns.setdefault(column, len(self._columns))

    def _combine(self, matchers: dict[QueryKey, Matcher | None]) -> None:
        """Replace the matchers of dates and their times by combined conditions where possible."""
        for date, time in _DATES_AND_TIMES:
            both = combined(matchers.get(date), matchers.get(time))
            if both is not None:
                values = self.value_of(date), self.value_of(time)
                self._conditions.append(_Condition(both.matches, values))
                self._restrict(date, both)
                del matchers[date], matchers[time]

    def _match(self, key: QueryKey, matcher: Matcher) -> None:
        self._conditions.append(_Condition(matcher.matches, (self.value_of(key),)))
        column = _prefilter_column(key)
        if isinstance(matcher, UIDs) and column is not None:
            self._lists.append((matcher, column))
        else:
            self._restrict(key, matcher)

    def _restrict(self, key: QueryKey, matcher: Any) -> None:
        column = _prefilter_column(key)
        if column is not None:
            condition = self._prefilter(column, matcher)
        else:
            expression = COMPUTED.get(key.keyword)
            condition = None if expression is None else expression.prefilter(matcher)
        if condition is not None:
            self._where.append(condition)

    def _prefilter(self, column: ColumnElement[str], matcher: Any) -> ColumnElement[bool] | None:
        """Return the condition on a column.

        If the column has an index, a subquery finds the ids by the index alone, also where it has
        to look at all entries. Otherwise, since the rows are wanted by id, SQLite would read the
        whole rows of both tables for it.
        """
        if column not in _INDEXED:
            condition: ColumnElement[bool] | None = matcher.prefilter(column)
            return condition
        table = _INDEXED[column]
        other = _ALIASES[table]
        condition = matcher.prefilter(other.c[column.name])
        if condition is None:
            return None
        below = _BELOW.get(table)
        own = table.c.id if below is None or table is self._table else below.c[table.name]
        return own.in_(select(other.c.id).where(condition))

    def value_of(self, key: QueryKey) -> Callable[[Row[Any]], Sequence[Any]]:
        """Return a function that takes the values of a key from a row."""
        if key.column is not None:
            at = self.add(_TABLES[key.level].c[key.column])
            return lambda row: (row[at],)
        expression = COMPUTED.get(key.keyword)
        if expression is not None:
            at = self.add(expression.column)
            return lambda row: expression.values(row[at])
        at = self.add(_ATTRIBUTES[key.level])
        return partial(self._parsed.setdefault(at, _Attributes(at)).values, key.json_tag)

    def accepts(self, row: Row[Any]) -> bool:
        """Return whether a row matches all keys."""
        return all(
            condition.matches(*[values(row) for values in condition.values])
            for condition in self._conditions
        )

    def pages(self, index: Searched) -> Iterator[Sequence[Row[Any]]]:
        """Yield pages of candidates, in the order in which they were stored."""
        columns, visible = _restricted(self._columns, self._level, index.studies)
        statement = (
            select(*columns)
            .select_from(_JOINED[self._level])
            .where(*self._where, *visible, self._table.c.id > bindparam("last"))
            .order_by(self._table.c.id)
            .limit(bindparam("most"))
        )
        for part in self._parts(statement):
            yield from _pages(index, part)

    def _parts(self, statement: Select[Any]) -> Iterable[Select[Any]]:
        """Split a statement into several if its longest list of UIDs is too long for one."""
        if not self._lists:
            return [statement]
        *others, (longest, column) = sorted(self._lists, key=lambda each: len(each[0].uids))
        for uids, other in others:
            condition = uids.prefilter(other)
            statement = statement if condition is None else statement.where(condition)
        return (statement.where(part) for part in longest.parts(column))


def _restricted(
    columns: Iterable[Any], level: Level, studies: StudyFilter | None
) -> tuple[list[Any], list[ColumnElement[bool]]]:
    """Return columns that count nothing but visible studies, and the conditions for these."""
    if studies is None:
        return [*columns], []
    counted = {
        COMPUTED[name].column: each.column
        for name, each in of_patient(*studies.conditions()).items()
    }
    return [counted.get(column, column) for column in columns], studies.conditions(level)


def _pages(index: Searched, statement: Select[Any]) -> Iterator[Sequence[Row[Any]]]:
    last, most = 0, _FIRST_PAGE
    while True:
        with (
            index.reading_once() as connection,
            connection.execute(statement, {"last": last, "most": most}) as result,
        ):
            rows, is_cut = _page_of(result)
        if rows:
            yield rows
        if len(rows) < most and not is_cut:
            return
        last = rows[-1][0]
        if not is_cut:
            most = min(most * 8, _LARGEST_PAGE)


def _page_of(result: Iterable[Row[Any]]) -> tuple[list[Row[Any]], bool]:
    """Return rows up to `_PAGE_BYTES` of text, and whether that limit ended the page."""
    rows: list[Row[Any]] = []
    room = _PAGE_BYTES
    for row in result:
        rows.append(row)
        room -= sum([len(value) for value in row if type(value) is str])
        if room < 0:
            return rows, True
    return rows, False


def _prefilter_column(key: QueryKey) -> ColumnElement[str] | None:
    """Return the column for prefilters of a key; None if there is none."""
    if key.tag == _PATIENT_NAME:
        return patient.c.patient_name_key
    if key.column is None or key.vr == "PN":
        return None
    return _TABLES[key.level].c[key.column]


class _Attributes:
    """Reads values from the JSON text of a level's attributes.

    The rows of one study or series mostly follow each other, so their text is parsed only once.
    """

    def __init__(self, at: int) -> None:
        self._at = at
        self._text = "{}"
        self._parsed: dict[str, Any] = {}

    def values(self, tag: str, row: Row[Any]) -> Sequence[Any]:
        """Return the values of an attribute."""
        text = row[self._at]
        if text != self._text:
            self._text, self._parsed = text, json.loads(text)
        values: Sequence[Any] = self._parsed.get(tag, {}).get("Value", ())
        return values
