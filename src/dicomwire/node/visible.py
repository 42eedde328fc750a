"""Which studies a user may see: conditions on attributes, in SQL and for one object.

The conditions are exact in SQL, so that counts and joins need no second look in Python. `search`
adds them to each of its statements, and `commit` asks about objects to store.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from sqlalchemy import ColumnElement, Connection, exists, or_, select

from dicomwire.node.index.schema import instance, patient, series, study
from dicomwire.node.ingest import Entry
from dicomwire.node.keys import QUERY_KEYS, Level
from dicomwire.node.prefilters import begins_with, between, equals

_LONGEST = 64
"""The most characters of a value: conditions in SQL are exact up to this length."""
_MODALITIES = "ModalitiesInStudy"
_COLUMNS: dict[str, tuple[Level, str]] = {
    **{
        key.keyword: (key.level, key.column)
        for key in QUERY_KEYS.values()
        if key.level in (Level.PATIENT, Level.STUDY) and key.column is not None and key.vr != "PN"
    },
    _MODALITIES: (Level.SERIES, "modality"),
}
"""The level and column of each attribute that a condition may name. Names of people are none: they
are written in too many ways to decide by."""
_RANGES = frozenset({"PatientBirthDate", "StudyDate"})
ATTRIBUTES = tuple(sorted(_COLUMNS))
"""The attributes that a condition may name."""


class _Value(NamedTuple):
    """A text that a column has, or begins with, or a range of dates."""

    first: str
    last: str | None
    is_prefix: bool

    def matches(self, text: str) -> bool:
        if self.last is not None:
            return self.first <= text <= self.last
        return text.startswith(self.first) if self.is_prefix else text == self.first

    def condition(self, column: ColumnElement[str]) -> ColumnElement[bool]:
        if self.last is not None:
            return between(column, self.first, self.last)
        return begins_with(column, self.first) if self.is_prefix else equals(column, self.first)


@dataclass(frozen=True)
class StudyFilter:
    """The studies that a user may see: those that meet all conditions.

    Attributes
    ----------
    texts : tuple of str
        The conditions, as ATTRIBUTE=VALUE. Several with one attribute are alternatives. VALUE is
        a text, the beginning of one with ``*`` after it, or a range of dates: FROM-TO.
    """

    texts: tuple[str, ...]

    def __post_init__(self) -> None:
        if not self.texts:
            raise ValueError("no condition")
        _parsed(self.texts)

    def conditions(self, level: Level = Level.STUDY) -> list[ColumnElement[bool]]:
        """Return the conditions for a statement on patients, or one on studies and levels below.

        A patient is visible with a visible study.
        """
        if level is not Level.PATIENT:
            return list(_conditions(self.texts, study))
        own = study.alias()
        return [patient.c.id.in_(select(own.c.patient).where(*_conditions(self.texts, own)))]

    def admits(self, entry: Entry) -> bool:
        """Return whether an object with these attributes would make a visible study."""
        return all(
            any(value.matches(entry.row(level).columns[column]) for value in values)
            for (level, column), values in _parsed(self.texts).items()
        )

    def may_store(self, connection: Connection, entry: Entry) -> bool:
        """Return whether an object may be stored: in a visible study, or as the first of one.

        Nor may it take the place of an object that is not visible.
        """
        own = select(study.c.id).where(study.c.study_instance_uid == entry.study_uid)
        same = (
            select(study.c.id)
            .select_from(instance.join(series.join(study)))
            .where(instance.c.sop_instance_uid == entry.instance_uid)
        )
        concerned = set(connection.execute(own.union(same)).scalars())
        visible = select(study.c.id).where(study.c.id.in_(concerned), *self.conditions())
        if concerned:
            return concerned == set(connection.execute(visible).scalars())
        return self.admits(entry)


def _parsed(texts: Iterable[str]) -> dict[tuple[Level, str], list[_Value]]:
    """Return the values of each column; ValueError if a text is no condition."""
    values: dict[tuple[Level, str], list[_Value]] = {}
    for text in texts:
        name, equals_sign, value = text.partition("=")
        if name not in _COLUMNS or not equals_sign:
            raise ValueError(f"{text!r} is not ATTRIBUTE=VALUE with one of {', '.join(ATTRIBUTES)}")
        values.setdefault(_COLUMNS[name], []).append(_value(name, value))
    return values


def _value(name: str, text: str) -> _Value:
    first, dash, last = text.partition("-") if name in _RANGES else (text, "", "")
    if dash:
        if not (first.isdigit() and last.isdigit() and len(first) == len(last) == len("YYYYMMDD")):
            raise ValueError(f"{text!r} is not a range of dates: YYYYMMDD-YYYYMMDD")
        return _Value(first, last, False)
    stem = text.removesuffix("*")
    if not stem or len(stem) > _LONGEST or not stem.isprintable() or {*stem} & {*"*?\\"}:
        raise ValueError(
            f"{text!r} is not a value: up to {_LONGEST} characters, with * only at the end"
        )
    return _Value(stem, None, stem != text)


def _conditions(texts: Iterable[str], own: Any) -> Iterator[ColumnElement[bool]]:
    """Yield the conditions on `own`, the table of studies or an alias of it.

    The columns of patients are in a subquery of ids, which their index answers. Those of series
    are looked up for each study, which has few; concat("") keeps SQLite from using the index of
    the column instead, which may have thousands of series for a value.
    """
    for (level, column), values in _parsed(texts).items():
        table = {Level.PATIENT: patient.alias(), Level.SERIES: series.alias()}.get(level, own)
        text = table.c[column].concat("") if level is Level.SERIES else table.c[column]
        condition = or_(*[value.condition(text) for value in values])
        if level is Level.PATIENT:
            yield own.c.patient.in_(select(table.c.id).where(condition))
        elif level is Level.SERIES:
            yield exists().where(table.c.study == own.c.id, condition).correlate(own)
        else:
            yield condition


class Readable(Protocol):
    """The methods of an index that a `VisibleIndex` uses."""

    def reading(self) -> AbstractContextManager[Connection]:
        """Yield a connection; all its statements see the same state."""

    def reading_once(self) -> AbstractContextManager[Connection]:
        """Yield a connection, for one statement."""


class VisibleIndex:
    """An index as a user sees it.

    Attributes
    ----------
    studies : StudyFilter or None
        `Search` adds its conditions to each statement; None if the user sees all studies.
    """

    def __init__(self, index: Readable, studies: StudyFilter | None) -> None:
        self._index = index
        self.studies = studies

    def reading(self) -> AbstractContextManager[Connection]:
        """Yield a connection. Statements other than those of `Search` need `visible`."""
        return self._index.reading()

    def reading_once(self) -> AbstractContextManager[Connection]:
        """Yield a connection, for one statement; as `reading`."""
        return self._index.reading_once()

    @property
    def visible(self) -> list[ColumnElement[bool]]:
        """The conditions for a statement with the table of studies in its FROM; maybe none."""
        return [] if self.studies is None else self.studies.conditions()
