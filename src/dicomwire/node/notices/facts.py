"""What a notice tells of its series or study, from the index."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

from sqlalchemy import Select, func, select

from dicomwire.node.configuration import Of
from dicomwire.node.index.reader import IndexReader
from dicomwire.node.index.schema import instance, series, study

_PORTION = 1000
"""The instances of one notification."""


class Series(NamedTuple):
    """A series, as far as a notice tells of it."""

    series: str
    """Its Series Instance UID."""
    modality: str
    instances: int
    """The number of instances."""


class Subject(NamedTuple):
    """The series or study of a notice, and which of its posts or calls this is."""

    notice: str
    """The name of the notice."""
    of: str
    """What it tells of: "series" or "study"."""
    uid: str
    """The UID of that."""
    id: str
    """The same each time that the notice of this event is repeated."""

    def described(self, index: IndexReader, ae_title: str) -> Described | None:
        """Return what is told of it; None if the archive does not have it any more."""
        columns = (study.c.study_instance_uid, series.c.series_instance_uid, series.c.modality)
        query = self._within(select(*columns, func.count())).group_by(*columns)
        with index.reading() as connection:
            rows = connection.execute(query.order_by(*columns)).all()
        if not rows:
            return None
        return Described(self, rows[0][0], [Series(*row[1:]) for row in rows], ae_title)

    def references(self, index: IndexReader) -> Iterator[list[tuple[str, str, str]]]:
        """Yield series, class and instance UIDs of its instances, in portions."""
        columns = (instance.c.id, series.c.series_instance_uid, instance.c.sop_class_uid)
        query = self._within(select(*columns, instance.c.sop_instance_uid))
        last = 0
        while True:
            after = query.where(instance.c.id > last).order_by(instance.c.id).limit(_PORTION)
            with index.reading() as connection:
                rows = connection.execute(after).all()
            if not rows:
                return
            last = rows[-1][0]
            yield [(own_series, own_class, uid) for _, own_series, own_class, uid in rows]

    def _within(self, query: Select[Any]) -> Select[Any]:
        column = study.c.study_instance_uid if self.of == Of.STUDY else series.c.series_instance_uid
        return query.select_from(instance.join(series.join(study))).where(column == self.uid)


class Described(NamedTuple):
    """What a notice tells. There is nothing of the patient in it."""

    subject: Subject
    study: str
    series: list[Series]
    ae_title: str

    @property
    def body(self) -> bytes:
        """The notice as JSON: always the same bytes for the same facts."""
        facts = {
            "id": self.subject.id,
            "notice": self.subject.notice,
            "of": self.subject.of,
            "study": self.study,
            "series": [each._asdict() for each in self.series],
            "instances": sum(each.instances for each in self.series),
            "archive": self.ae_title,
        }
        return json.dumps(facts).encode()

    def filled(self, argument: str) -> str:
        """Return an argument of a command, with UIDs and names in place of {study} and others."""
        values = {
            "{study}": self.study,
            "{series}": self.series[0].series if self.subject.of == Of.SERIES else "",
            "{name}": self.subject.notice,
            "{id}": self.subject.id,
        }
        for placeholder, value in values.items():
            argument = argument.replace(placeholder, value)
        return argument
