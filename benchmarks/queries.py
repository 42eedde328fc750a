"""How long queries take in large indexes: `python -m benchmarks.queries [COUNT] [FOLDER]`.

It fills an index of SQLite and one of PostgreSQL with the rows of up to COUNT instances, in bulk:
50 per study, in two series, and two studies per patient. At each stage it prints the median times
of study-level queries as the handler of C-FIND makes them, up to their last answer, and in
parentheses the number of answers. No network is between.
"""

from __future__ import annotations

import resource
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator
from datetime import date, timedelta
from pathlib import Path
from time import perf_counter
from typing import Any

from pydicom.dataset import Dataset
from sqlalchemy import Insert, String, cast, insert, literal, select, union_all

from benchmarks.archives import DISK
from benchmarks.postgres import postgres
from dicomwire.node.index.opening import open_database
from dicomwire.node.index.schema import instance, patient, series, study
from dicomwire.node.index.writer import Index, Writer
from dicomwire.node.names import fold_name
from dicomwire.node.query import STUDY_ROOT, find

STAGES = (10_000, 100_000, 1_000_000)
PER_SERIES = 25
PER_STUDY = 2 * PER_SERIES
REPETITIONS = 25
_ROOT = "1.2.826.0.1.3680043.8.498.7"
_FIRST_DAY = date(2010, 1, 1)
_DAYS = 5000
_MODALITIES = ("CT", "MR", "US", "CR", "PT")
_RETURNED = (
    *("PatientName", "PatientID", "StudyDate", "StudyTime", "AccessionNumber"),
    *("StudyDescription", "ModalitiesInStudy", "NumberOfStudyRelatedInstances"),
)
_SURNAMES = ("Schmidt", "Garcia", "Li", "Nowak", "Okafor", "Dubois", "Rossi", "Jensen", "Haddad")
_FILLER = {f"{tag:08X}": {"vr": "LO", "Value": ["Some usual value"]} for tag in range(14)}
"""Attributes, so that a row has a thousand bytes, as that of a usual object has."""


def main() -> int:
    most = int(sys.argv[1]) if len(sys.argv) > 1 else STAGES[1]
    parent = Path(sys.argv[2]) if len(sys.argv) > 2 else DISK
    with tempfile.TemporaryDirectory(prefix="dicomwire-queries-", dir=parent) as name:
        folder = Path(name)
        folder.chmod(0o755)  # PostgreSQL runs as another user
        _measure("SQLite", "", folder, most)
        with postgres(folder / "postgres") as url:
            _measure("PostgreSQL", url, folder, most)
    return 0


def _measure(title: str, url: str, folder: Path, most: int) -> None:
    print(f"\n{title}: ms (answers)\n")
    print(f"| instances | {' | '.join(_QUERIES)} | first of all | all | memory, MB |")
    print("|" + "--:|" * (len(_QUERIES) + 4))
    with Index(open_database(url, folder)) as index:
        studies = 0
        for stage in (each for each in STAGES if each <= most):
            _fill(index, studies, stage // PER_STUDY)
            studies = stage // PER_STUDY
            cells = [_median(index, query, studies) for query in _QUERIES.values()]
            print(f"| {stage:,} | {' | '.join([*cells, *_everything(index)])} |", flush=True)


# --- Rows -------------------------------------------------------------------------------------


def _fill(index: Index, first: int, end: int) -> None:
    """Add studies with these numbers, and all that belongs to them."""
    for start in range(first, end, 1000):
        with index.writing() as writer:
            _add_studies(writer, range(start, min(start + 1000, end)))
    with index.writing(is_alone=True) as writer:
        # As the database does by itself, sooner or later.
        writer.connection.exec_driver_sql("ANALYZE")


def _add_studies(writer: Writer, numbers: range) -> None:
    execute = writer.connection.execute
    patients = [_patient(number) for number in numbers if number % 2 == 0]
    execute(insert(patient), patients)
    execute(insert(study), [_study(number) for number in numbers])
    execute(insert(series), [_series(number, part) for number in numbers for part in (0, 1)])
    execute(_instances(2 * numbers.start + 1, 2 * numbers.stop))


def _name(number: int) -> str:
    return f"{_SURNAMES[number % len(_SURNAMES)]}{number % 977}^Maria"


def _patient(number: int) -> dict[str, Any]:
    name = _name(number)
    return {
        "id": number // 2 + 1,
        "patient_id": f"P{number // 2:07d}",
        "patient_name": name,
        "patient_name_key": fold_name(name),
        "attributes": _FILLER,
    }


def _study(number: int) -> dict[str, Any]:
    return {
        "id": number + 1,
        "patient": number // 2 + 1,
        "study_instance_uid": f"{_ROOT}.{number}",
        "study_date": _day(number),
        "study_time": "101500",
        "accession_number": f"A{number:07d}",
        "study_description": "Chest",
        "attributes": _FILLER,
    }


def _day(number: int) -> str:
    """Return the date of a study: each day has as many."""
    return f"{_FIRST_DAY + timedelta(days=number % _DAYS):%Y%m%d}"


def _series(number: int, part: int) -> dict[str, Any]:
    return {
        "id": 2 * number + part + 1,
        "study": number + 1,
        "series_instance_uid": f"{_ROOT}.{number}.{part}",
        "modality": _MODALITIES[number // _DAYS % len(_MODALITIES)],
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
        "sop_class_uid": literal("1.2.840.10008.5.1.4.1.1.2"),
        "instance_number": cast(parts.c.part, String),
        "transfer_syntax_uid": literal("1.2.840.10008.1.2.1"),
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


# --- Queries ----------------------------------------------------------------------------------


def _identifier(**keys: str) -> Dataset:
    identifier = Dataset()
    identifier.QueryRetrieveLevel = "STUDY"
    identifier.StudyInstanceUID = ""
    for keyword in _RETURNED:
        setattr(identifier, keyword, keys.get(keyword, ""))
    return identifier


def _week(number: int) -> str:
    first = _FIRST_DAY + timedelta(days=number % _DAYS)
    return f"{first:%Y%m%d}-{first + timedelta(days=6):%Y%m%d}"


_QUERIES: dict[str, Callable[[int], Dataset]] = {
    "UID": lambda number: _with_uid(f"{_ROOT}.{number}"),
    "Patient ID": lambda number: _identifier(PatientID=f"P{number // 2:07d}"),
    "Accession Number": lambda number: _identifier(AccessionNumber=f"A{number:07d}"),
    "name prefix": lambda number: _identifier(
        PatientName=_patient(number)["patient_name"][:7] + "*"
    ),
    "name wildcard": lambda number: _identifier(PatientName=f"*{number % 977}^M*"),
    "one day": lambda number: _identifier(StudyDate=_day(number)),
    "a week, CT": lambda number: _identifier(StudyDate=_week(number), ModalitiesInStudy="CT"),
}


def _with_uid(uid: str) -> Dataset:
    identifier = _identifier()
    identifier.StudyInstanceUID = uid
    return identifier


def _answers(index: Index, identifier: Dataset) -> Iterator[Any]:
    return find(index, STUDY_ROOT, identifier, ae_title="BENCHMARK")


def _median(index: Index, query: Callable[[int], Dataset], studies: int) -> str:
    """Return the median time of a query with different values, and of the numbers of answers."""
    times, counts = [], []
    for repetition in range(REPETITIONS):
        identifier = query(repetition * studies // REPETITIONS)
        began = perf_counter()
        counts.append(sum(1 for _ in _answers(index, identifier)))
        times.append(perf_counter() - began)
    return f"{statistics.median(times) * 1e3:.1f} ({statistics.median(counts):.0f})"


def _everything(index: Index) -> Iterator[str]:
    """Return the times until the first and the last one of all studies, and the peak of memory."""
    firsts = []
    for _ in range(REPETITIONS):
        began = perf_counter()
        next(_answers(index, _identifier()))
        firsts.append(perf_counter() - began)
    yield f"{statistics.median(firsts) * 1e3:.1f}"
    began = perf_counter()
    count = sum(1 for _ in _answers(index, _identifier()))
    yield f"{(perf_counter() - began) * 1e3:.0f} ({count})"
    yield str(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)


if __name__ == "__main__":
    sys.exit(main())
