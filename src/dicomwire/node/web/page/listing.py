"""The studies of the index as a list for people: found by words, sorted, and paged by the database.

Queries of peers follow the rules of PS3.4, and come in the order of storing: see `node.query`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from sqlalchemy import ColumnElement, Connection, and_, func, or_, select

from dicomwire.node.index.schema import instance, patient, series, study
from dicomwire.node.names import words_of
from dicomwire.node.prefilters import between, contains, equals

PAGE = 50
"""Studies on one page: few enough to look through, and to count their objects for each view."""
_MOST_VARIABLES = 500
"""The most UIDs in one statement."""
_MOST_WORDS = 8
"""The most words of a search that count: each one is a condition on several columns."""
_SORTED: Mapping[str, tuple[ColumnElement[Any], ...]] = {
    "date": (study.c.study_date, study.c.study_time),
    "patient": (patient.c.patient_name_key,),
    "accession": (study.c.accession_number,),
    "received": (),
}
"""The columns by which a list can be sorted; the order of storing decides between equals."""
DEFAULT_SORT = "-date"


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which studies are searched for, and in which order.

    Attributes
    ----------
    words : str
        Each word is in the patient's name or ID, in the accession number or in the description, or
        it is the UID of the study.
    first, last : str
        The first and the last study date, as DICOM writes them; "" is any.
    modality : str
        A modality in the study; "" is any.
    sort : str
        A name of `_SORTED`, after "-" for the reverse order.
    """

    words: str = ""
    first: str = ""
    last: str = ""
    modality: str = ""
    sort: str = DEFAULT_SORT

    @property
    def is_restricted(self) -> bool:
        """Whether it is less than all studies."""
        return bool(self.words.strip() or self.first or self.last or self.modality)

    def conditions(self) -> list[ColumnElement[bool]]:
        """Return the conditions on `study`."""
        found = [_has_word(word) for word in self.words.split()[:_MOST_WORDS]]
        if self.first or self.last:
            found.append(between(study.c.study_date, self.first or "0", self.last or None))
        if self.modality:
            with_it = select(series.c.study).where(equals(series.c.modality, self.modality))
            found.append(study.c.id.in_(with_it))
        return found

    def order(self) -> list[ColumnElement[Any]]:
        """Return the columns to sort by."""
        columns = (*_SORTED.get(self.sort.lstrip("-"), ()), study.c.id)
        return [each.desc() if self.sort.startswith("-") else each.asc() for each in columns]


class Visible(Protocol):
    """An index as a user sees it."""

    @property
    def visible(self) -> Sequence[ColumnElement[bool]]:
        """Conditions on `study`, for each statement."""

    def reading(self) -> AbstractContextManager[Connection]:
        """Yield a connection."""


class ListedStudy(NamedTuple):
    """A study in a list."""

    study_instance_uid: str
    study_date: str
    study_time: str
    accession_number: str
    study_description: str
    patient_id: str
    patient_name: str
    patient_birth_date: str
    patient_sex: str
    modalities: tuple[str, ...]
    series: int
    instances: int


class Page(NamedTuple):
    """Some of the studies that were found, and how many there are."""

    studies: list[ListedStudy]
    total: int


_COLUMNS = (
    study.c.study_instance_uid,
    study.c.study_date,
    study.c.study_time,
    study.c.accession_number,
    study.c.study_description,
    patient.c.patient_id,
    patient.c.patient_name,
    patient.c.patient_birth_date,
    patient.c.patient_sex,
)


def studies(index: Visible, wanted: Wanted, start: int = 0, most: int = PAGE) -> Page:
    """Return `most` of the studies that are wanted, without the first `start`."""
    where = [*wanted.conditions(), *index.visible]
    number = select(func.count()).select_from(study).where(*where)
    query = select(study.c.id, *_COLUMNS).select_from(study.join(patient)).where(*where)
    if where:  # then all are looked at anyway; to count them again would take as long
        query = query.add_columns(func.count().over())
    with index.reading() as connection:
        rows = connection.execute(query.order_by(*wanted.order()).offset(start).limit(most)).all()
        if rows and where:
            total = rows[0][-1]
        else:
            total = connection.execute(number).scalar_one() if rows or start else 0
        numbers = _numbers(connection, [row.id for row in rows])
    found = [
        ListedStudy._make((*row[1 : 1 + len(_COLUMNS)], *numbers.get(row.id, ((), 0, 0))))
        for row in rows
    ]
    return Page(found, total)


def uids(index: Visible, wanted: Wanted, most: int) -> list[str]:
    """Return the UIDs of the first `most` studies that are wanted."""
    query = select(study.c.study_instance_uid).select_from(study.join(patient))
    query = query.where(*wanted.conditions(), *index.visible)
    with index.reading() as connection:
        return list(connection.execute(query.order_by(*wanted.order()).limit(most)).scalars())


def existing(index: Visible, wanted: Sequence[str]) -> list[str]:
    """Return those of the UIDs that are of studies which the user may see."""
    found: list[str] = []
    with index.reading() as connection:
        for start in range(0, len(wanted), _MOST_VARIABLES):
            part = wanted[start : start + _MOST_VARIABLES]
            query = select(study.c.study_instance_uid).where(*index.visible)
            query = query.where(study.c.study_instance_uid.in_(part))
            found += connection.execute(query).scalars()
    return found


def modalities(index: Visible) -> list[str]:
    """Return the modalities of all series that the user may see."""
    tables = series.join(study) if index.visible else series
    query = select(series.c.modality).distinct().select_from(tables)
    query = query.where(series.c.modality != "", *index.visible)
    with index.reading() as connection:
        return sorted(connection.execute(query).scalars())


def _has_word(word: str) -> ColumnElement[bool]:
    """Return the condition that a study has a word."""
    text = word.lower()
    of_patient = contains(func.lower(patient.c.patient_id), text)
    parts = sorted(words_of(word))
    if parts:
        of_name = and_(*[contains(patient.c.patient_name_key, part) for part in parts])
        of_patient = or_(of_name, of_patient)
    theirs = select(patient.c.id).where(of_patient)
    return or_(
        study.c.patient.in_(theirs),
        contains(func.lower(study.c.accession_number), text),
        contains(func.lower(study.c.study_description), text),
        equals(study.c.study_instance_uid, word),
    )


def _numbers(
    connection: Connection, ids: Sequence[int]
) -> dict[int, tuple[tuple[str, ...], int, int]]:
    """Return the modalities, and the numbers of series and of instances, of studies."""
    count = select(func.count()).where(instance.c.series == series.c.id).scalar_subquery()
    query = select(series.c.study, series.c.modality, count).where(series.c.study.in_(ids))
    found: dict[int, tuple[tuple[str, ...], int, int]] = {}
    for id, modality, instances in connection.execute(query):
        names, number, total = found.get(id, ((), 0, 0))
        both = tuple(sorted({*names, modality} - {""}))
        found[id] = both, number + 1, total + instances
    return found
