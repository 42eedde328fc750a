"""What an archive has, in numbers: by modality, by day, and its largest studies.

One statement adds up the instances of each series, from an index of the database alone: rows are
wide, and a million of them would have to be read from the disk.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import func, select

from dicomwire.node.index.reader import IndexReader
from dicomwire.node.index.schema import instance, patient, series, study

LARGEST = 10
DAYS = 30
_OF_SERIES = (
    select(
        instance.c.series,
        func.count().label("instances"),
        func.sum(instance.c.size).label("bytes"),
    )
    .group_by(instance.c.series)
    .subquery()
)
"""All instances, added up for each series: these columns are in one index, in its order."""


def totals(index: IndexReader) -> dict[str, int]:
    """Return the numbers of patients, studies, series and instances, and the bytes of all."""
    with index.reading() as connection:
        found = {
            name: int(connection.execute(select(func.count()).select_from(table)).scalar() or 0)
            for name, table in (("patients", patient), ("studies", study), ("series", series))
        }
        query = select(func.sum(_OF_SERIES.c.instances), func.sum(_OF_SERIES.c.bytes))
        count, size = connection.execute(query).one()
    return {**found, "instances": int(count or 0), "bytes": int(size or 0)}


def statistics(index: IndexReader) -> dict[str, Any]:
    """Return the numbers for JSON: totals, by modality, by day of receipt, the largest studies."""
    own = _OF_SERIES
    count, size = func.sum(own.c.instances), func.sum(own.c.bytes)
    day = func.substr(instance.c.received, 1, 10)
    by_modality = (
        select(
            series.c.modality,
            func.count(func.distinct(series.c.study)),
            func.count(),
            count,
            size,
        )
        .join(own, own.c.series == series.c.id)
        .group_by(series.c.modality)
        .order_by(size.desc())
    )
    by_day = (
        select(day, func.count(), func.sum(instance.c.size))
        .group_by(day)
        .order_by(day.desc())
        .limit(DAYS)
    )
    largest = (
        select(study.c.study_instance_uid, count, size)
        .select_from(study.join(series).join(own, own.c.series == series.c.id))
        .group_by(study.c.study_instance_uid)
        .order_by(size.desc(), study.c.study_instance_uid)
        .limit(LARGEST)
    )
    found: dict[str, Any] = totals(index)
    with index.reading() as connection:
        found["modalities"] = [
            _named(row, "modality", "studies", "series", "instances", "bytes")
            for row in connection.execute(by_modality)
        ]
        found["days"] = [
            _named(row, "day", "instances", "bytes") for row in connection.execute(by_day)
        ]
        found["largest_studies"] = [
            _named(row, "study", "instances", "bytes") for row in connection.execute(largest)
        ]
    return found


def _named(row: Any, first: str, *names: str) -> dict[str, Any]:
    return {first: row[0], **{name: int(value) for name, value in zip(names, row[1:], strict=True)}}
