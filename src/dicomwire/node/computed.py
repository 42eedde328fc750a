"""Attributes that are counted or collected from the levels below (PS3.4 C.6.1.1).

This module only makes SQL expressions; a statement includes them if the query has the key.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, FromClause, String, exists, func, select

from dicomwire.node.index.dialects import distinct_texts
from dicomwire.node.index.schema import instance, patient, series, study
from dicomwire.node.values import Condition, Matcher

_LONGEST = 64
"""The most characters of a collected value. A UID has at most 64 (PS3.5 6.2); a study may have
thousands of values, so that longer invalid ones would cost much memory."""


class Computed(NamedTuple):
    """An attribute that is computed from the index; no stored object contains it.

    Attributes
    ----------
    column : ColumnElement
        The expression to select together with the row of the level above.
    values : callable
        Converts the content of that column to the values of the attribute.
    prefilter : callable
        Like `Matcher.prefilter`, for the rows of the level above.
    """

    column: ColumnElement[Any]
    values: Callable[[Any], Sequence[Any]]
    prefilter: Callable[[Matcher], Condition | None]


def _count(above: FromClause, below: FromClause, *related: Condition) -> Computed:
    column = select(func.count()).select_from(below).where(*related).correlate(above)
    return Computed(column.scalar_subquery(), lambda count: (count,), lambda matcher: None)


def _collection(
    above: FromClause, below: FromClause, related: Condition, attribute: ColumnElement[str]
) -> Computed:
    collected = func.substr(attribute, 1, _LONGEST, type_=String)
    column = select(distinct_texts(collected)).select_from(below).where(related).correlate(above)

    def prefilter(matcher: Matcher) -> Condition | None:
        # concat("") keeps SQLite from using the index of this column: each row above has few rows
        # below it, so that finding those first is faster.
        condition = matcher.prefilter(collected.concat(""))
        if condition is None:
            return None
        return exists().select_from(below).where(related, condition).correlate(above)

    return Computed(column.scalar_subquery(), _collected, prefilter)


@lru_cache(maxsize=64)
def _collected(text: str) -> tuple[str, ...]:
    return tuple(sorted(filter(None, json.loads(text))))


_IN_SERIES = instance.c.series == series.c.id
_IN_STUDY = series.c.study == study.c.id
_IN_PATIENT = study.c.patient == patient.c.id
_SERIES_INSTANCES = series.join(instance)
_STUDY_INSTANCES = study.join(_SERIES_INSTANCES)


def of_patient(*visible: Condition) -> dict[str, Computed]:
    """Return the attributes of a patient that count the studies for which `visible` holds."""
    return {
        "NumberOfPatientRelatedStudies": _count(patient, study, _IN_PATIENT, *visible),
        "NumberOfPatientRelatedSeries": _count(patient, study.join(series), _IN_PATIENT, *visible),
        "NumberOfPatientRelatedInstances": _count(patient, _STUDY_INSTANCES, _IN_PATIENT, *visible),
    }


COMPUTED = {
    **of_patient(),
    "NumberOfStudyRelatedSeries": _count(study, series, _IN_STUDY),
    "NumberOfStudyRelatedInstances": _count(study, _SERIES_INSTANCES, _IN_STUDY),
    "NumberOfSeriesRelatedInstances": _count(series, instance, _IN_SERIES),
    "ModalitiesInStudy": _collection(study, series, _IN_STUDY, series.c.modality),
    "SOPClassesInStudy": _collection(study, _SERIES_INSTANCES, _IN_STUDY, instance.c.sop_class_uid),
}
"""The computed attributes by keyword. Others of the standard are not supported."""
