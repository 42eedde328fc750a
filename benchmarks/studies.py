"""Studies that differ as those of a hospital do: as rows of an index, and as objects to store.

A study has 50 instances in two series, a patient two studies. All is given by the study's number.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import date, timedelta
from typing import Any

from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian
from sqlalchemy import Insert, String, cast, insert, literal, select, union_all

from benchmarks.workload import SMALL
from dicomwire.node.index.postgres import Postgres
from dicomwire.node.index.schema import instance, patient, series, study
from dicomwire.node.index.writer import Index, Writer
from dicomwire.node.names import fold_name

PER_SERIES = 25
PER_STUDY = 2 * PER_SERIES
_ROOT = "1.2.826.0.1.3680043.8.498.7"
_FIRST_DAY = date(2010, 1, 1)
_DAYS = 5000
_MODALITIES = ("CT", "MR", "US", "CR", "PT")
_SURNAMES = ("Schmidt", "Garcia", "Li", "Nowak", "Okafor", "Dubois", "Rossi", "Jensen", "Haddad")
_FILLER = {f"{tag:08X}": {"vr": "LO", "Value": ["Some usual value"]} for tag in range(14)}
"""Attributes, so that a row has a thousand bytes, as that of a usual object has."""
_PORTION = 1000
"""Studies whose rows are in memory at once."""


def study_uid(number: int) -> str:
    return f"{_ROOT}.{number}"


def patient_id(number: int) -> str:
    return f"P{number // 2:07d}"


def patient_name(number: int) -> str:
    patient = number // 2
    return f"{_SURNAMES[patient % len(_SURNAMES)]}{patient % 977}^Maria"


def accession_number(number: int) -> str:
    return f"A{number:07d}"


def day(number: int) -> str:
    """Return the date of a study: each day has as many."""
    return f"{_FIRST_DAY + timedelta(days=number % _DAYS):%Y%m%d}"


def week(number: int) -> str:
    """Return the range of dates that begins with that of a study."""
    first = _FIRST_DAY + timedelta(days=number % _DAYS)
    return f"{first:%Y%m%d}-{first + timedelta(days=6):%Y%m%d}"


def modality(number: int) -> str:
    return _MODALITIES[number // _DAYS % len(_MODALITIES)]


# --- Objects ----------------------------------------------------------------------------------


def objects(number: int) -> Iterator[tuple[str, bytes]]:
    """Yield the SOP Instance UID and the dataset of each object of a study; they have 4 KB."""
    ds = SMALL.dataset()
    ds.StudyInstanceUID = study_uid(number)
    ds.PatientID = patient_id(number)
    ds.PatientName = patient_name(number)
    ds.StudyDate = day(number)
    ds.StudyTime = "101500"
    ds.AccessionNumber = accession_number(number)
    ds.StudyDescription = "Chest"
    ds.Modality = modality(number)
    for part in (0, 1):
        ds.SeriesInstanceUID = f"{study_uid(number)}.{part}"
        ds.SeriesNumber = part + 1
        uids = [f"{ds.SeriesInstanceUID}.{10 + place}" for place in range(PER_SERIES)]
        ds.SOPInstanceUID = uids[0]
        encoded, first = _encode(ds), uids[0].encode()  # all UIDs of a series are of one length
        for uid in uids:
            yield uid, encoded.replace(first, uid.encode())


def _encode(ds: Dataset) -> bytes:
    buffer = DicomBytesIO()
    buffer.is_little_endian, buffer.is_implicit_VR = True, False
    write_dataset(buffer, ds)
    return buffer.getvalue()


# --- Rows -------------------------------------------------------------------------------------


def fill(index: Index, studies: int) -> None:
    """Add the rows of so many studies to an empty index, in bulk."""
    for start in range(0, studies, _PORTION):
        with index.writing() as writer:
            _add(writer, range(start, min(start + _PORTION, studies)))
    _settle(index)


def _settle(index: Index) -> None:
    """Do what the database and the system do by themselves, a minute or so after many changes.

    PostgreSQL and the kernel still write a million rows when they are committed, and whoever waits
    for the disk meanwhile, as each object does, waits for them. A user with the right to make
    checkpoints is needed.
    """
    if isinstance(index.database, Postgres):
        with index.database.engine(is_reader=False).connect() as connection:
            connection.exec_driver_sql("VACUUM (ANALYZE)")
            connection.exec_driver_sql("CHECKPOINT")
    else:
        with index.writing(is_alone=True) as writer:
            writer.connection.exec_driver_sql("ANALYZE")
        index.sync()
    os.sync()


def _add(writer: Writer, numbers: range) -> None:
    """Add studies; the index numbers rows by their order, which tells the row above each."""
    execute = writer.connection.execute
    execute(insert(patient), [_patient(number) for number in numbers if number % 2 == 0])
    execute(insert(study), [_study(number) for number in numbers])
    execute(insert(series), [_series(number, part) for number in numbers for part in (0, 1)])
    execute(_instances(2 * numbers.start + 1, 2 * numbers.stop))


def _patient(number: int) -> dict[str, Any]:
    name = patient_name(number)
    return {
        "patient_id": patient_id(number),
        "patient_name": name,
        "patient_name_key": fold_name(name),
        "attributes": _FILLER,
    }


def _study(number: int) -> dict[str, Any]:
    return {
        "patient": number // 2 + 1,
        "study_instance_uid": study_uid(number),
        "study_date": day(number),
        "study_time": "101500",
        "accession_number": accession_number(number),
        "study_description": "Chest",
        "attributes": _FILLER,
    }


def _series(number: int, part: int) -> dict[str, Any]:
    return {
        "study": number + 1,
        "series_instance_uid": f"{study_uid(number)}.{part}",
        "modality": modality(number),
        "series_number": str(part + 1),
        "attributes": _FILLER,
    }


def _instances(first: int, last: int) -> Insert:
    """Return the statement that adds the instances of the series with these ids."""
    parts = union_all(*(select(literal(part).label("part")) for part in range(PER_SERIES))).cte()
    uid = series.c.series_instance_uid + "." + cast(parts.c.part, String)
    row = {
        "series": series.c.id,
        "sop_instance_uid": uid,
        "sop_class_uid": literal(str(CTImageStorage)),
        "instance_number": cast(parts.c.part, String),
        "transfer_syntax_uid": literal(str(ExplicitVRLittleEndian)),
        "file": literal("objects/ab/cd/0123456789abcdef01234567/") + uid,
        "size": literal(4096),
        "digest": literal("0123456789abcdef" * 4),
        "received": literal("2025-01-01T00:00:00.000000+00:00"),
        "attributes": series.c.attributes,
    }
    chosen = select(*row.values()).where(series.c.id.between(first, last), literal(True))
    return insert(instance).from_select(
        [*row], chosen.select_from(series.join(parts, literal(True)))
    )
