"""Which objects to export, with what a DICOMDIR says of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple, Protocol

from sqlalchemy import Connection, select

from dicomwire.node.index.schema import instance, patient, series, study
from dicomwire.node.index.statements import portions
from dicomwire.node.keys import Level

_UIDS = {
    Level.STUDY: study.c.study_instance_uid,
    Level.SERIES: series.c.series_instance_uid,
    Level.IMAGE: instance.c.sop_instance_uid,
}
_QUERY = select(
    patient.c.id.label("patient"),
    patient.c.patient_id,
    patient.c.patient_name,
    study.c.study_instance_uid,
    study.c.study_date,
    study.c.study_time,
    study.c.study_id,
    study.c.study_description,
    study.c.accession_number,
    series.c.series_instance_uid,
    series.c.modality,
    series.c.series_number,
    series.c.series_description,
    instance.c.sop_class_uid,
    instance.c.sop_instance_uid,
    instance.c.transfer_syntax_uid,
    instance.c.instance_number,
    instance.c.attributes,
    instance.c.file,
    instance.c.size,
    instance.c.digest,
    instance.c.copy,
).select_from(instance.join(series.join(study.join(patient))))


class Visible(Protocol):
    """The methods of an index that a selection uses: the whole of it, or what a user may see."""

    @property
    def visible(self) -> Sequence[Any]:
        """The conditions of studies."""

    def reading(self) -> AbstractContextManager[Connection]:
        """Yield a connection."""


class Exported(NamedTuple):
    """An object to export."""

    patient: int
    """What tells it from other patients, who may have the same Patient ID."""
    patient_id: str
    patient_name: str
    study_instance_uid: str
    study_date: str
    study_time: str
    study_id: str
    study_description: str
    accession_number: str
    series_instance_uid: str
    modality: str
    series_number: str
    series_description: str
    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    instance_number: str
    attributes: Mapping[str, Any]
    """Those of the instance, in the DICOM JSON model."""
    file: str
    """Its name in the store of objects."""
    size: int
    digest: str
    copy: int


def found(index: Any, level: Level, uids: Sequence[str], study_uid: str = "") -> list[Exported]:
    """Return the objects of studies, series or instances, in the order of a reader.

    Parameters
    ----------
    index : IndexReader, or one with the attribute `visible`
    study_uid : str
        Only those in this study; "" for any.
    """
    objects: list[Exported] = []
    visible = getattr(index, "visible", [])
    for some in portions([*dict.fromkeys(uids)]):
        query = _QUERY.where(_UIDS[level].in_(some), *visible)
        if study_uid:
            query = query.where(study.c.study_instance_uid == study_uid)
        with index.reading() as connection:
            objects += [Exported(*row) for row in connection.execute(query)]
    return sorted(objects, key=_place)


def _place(each: Exported) -> tuple[Any, ...]:
    return (
        each.patient,
        *(each.study_date, each.study_instance_uid),
        *(_number(each.series_number), each.series_instance_uid),
        *(_number(each.instance_number), each.sop_instance_uid, each.copy),
    )


def _number(text: str) -> int:
    """Return an Integer String as a number; 0 if it is none."""
    return int(text) if text.isascii() and text.lstrip("+-").isdigit() else 0
