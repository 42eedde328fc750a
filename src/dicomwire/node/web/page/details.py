"""One study of the index with its series, and one series with its instances, for people."""

from __future__ import annotations

from typing import Any, NamedTuple

from sqlalchemy import func, select

from dicomwire.node.index.schema import instance, patient, series, study
from dicomwire.node.web.page.listing import Visible
from dicomwire.node.web.page.people import person_name

_WITHOUT_IMAGES = frozenset(
    ("SR", "KO", "PR", "DOC", "RTSTRUCT", "RTPLAN", "RTRECORD", "REG", "FID", "ECG", "HD", "AU")
)
"""Modalities whose objects are not shown as images."""
_MOST_INSTANCES = 100_000
"""The most instances of a series that are listed: 20 MB of JSON."""


class Series(NamedTuple):
    """A series of a study."""

    series_instance_uid: str
    modality: str
    series_number: str
    series_description: str
    body_part_examined: str
    series_date: str
    instances: int
    bytes: int

    @property
    def has_images(self) -> bool:
        """Whether its objects have pixels to show."""
        return self.modality not in _WITHOUT_IMAGES


class Study(NamedTuple):
    """A study with its patient and its series."""

    study_instance_uid: str
    study_date: str
    study_time: str
    accession_number: str
    study_id: str
    study_description: str
    referring_physician_name: str
    patient_id: str
    issuer_of_patient_id: str
    patient_name: str
    patient_birth_date: str
    patient_sex: str
    series: list[Series]

    @property
    def instances(self) -> int:
        """The number of its instances."""
        return sum(each.instances for each in self.series)

    @property
    def bytes(self) -> int:
        """The size of its files."""
        return sum(each.bytes for each in self.series)

    @property
    def title(self) -> str:
        """The patient's name, or the ID."""
        return person_name(self.patient_name).main or self.patient_id or "No name"


class Instance(NamedTuple):
    """An instance of a series, as a viewer needs it before it has the object."""

    sop_instance_uid: str
    sop_class_uid: str
    instance_number: str
    frames: int


def study_of(index: Visible, uid: str) -> Study | None:
    """Return a study; None if there is none that the user may see."""
    own = [getattr(study.c, name) for name in Study._fields[:7]]
    theirs = [getattr(patient.c, name) for name in Study._fields[7:12]]
    query = select(study.c.id, *own, *theirs).select_from(study.join(patient))
    with index.reading() as connection:
        query = query.where(study.c.study_instance_uid == uid, *index.visible)
        row = connection.execute(query).first()
        if row is None:
            return None
        columns = [getattr(series.c, name) for name in Series._fields[:6]]
        numbers = func.count(instance.c.id), func.coalesce(func.sum(instance.c.size), 0)
        listed = (
            select(*columns, *numbers)
            .select_from(series.outerjoin(instance))
            .where(series.c.study == row.id)
            .group_by(series.c.id)
        )
        found = [Series._make((*each[:-1], int(each[-1]))) for each in connection.execute(listed)]
    return Study._make((*row[1:], sorted(found, key=_in_order)))


def instances_of(index: Visible, study_uid: str, series_uid: str) -> list[Instance]:
    """Return the instances of a series in the order of their numbers."""
    frames = instance.c.attributes["00280008"]["Value"][0].as_integer()
    names = Instance._fields[:3]
    query = (
        select(*[getattr(instance.c, name) for name in names], func.coalesce(frames, 1))
        .select_from(instance.join(series.join(study.join(patient))))
        .where(
            study.c.study_instance_uid == study_uid,
            series.c.series_instance_uid == series_uid,
            instance.c.copy == 0,
            *index.visible,
        )
        .limit(_MOST_INSTANCES)
    )
    with index.reading() as connection:
        found = [Instance._make(row) for row in connection.execute(query)]
    return sorted(found, key=lambda each: (_number(each.instance_number), each.sop_instance_uid))


def _in_order(each: Series) -> tuple[Any, ...]:
    return _number(each.series_number), each.series_date, each.series_instance_uid


def _number(text: str) -> int:
    """Return an IS; those that are none come last."""
    try:
        return int(text)
    except ValueError:
        return 2**31
