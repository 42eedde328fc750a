"""How an archive's rates change as it grows: `python -m benchmarks.growth COUNT FOLDER [URL]`.

It fills the index of an archive in FOLDER (SQLite, or the PostgreSQL at URL) with the rows of
instances in bulk; the last 5,000 of COUNT are stored one after the other, as the handlers of
C-STORE do. Then come queries as the handler of C-FIND makes them, up to their last answer. No
network is between. With `--store-all`, every object is stored, so that the folder grows too.

The cells run this program in a process of its own, so that its memory is that of one archive.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from benchmarks import competitors as who
from benchmarks import studies
from benchmarks.archives import empty_folder
from benchmarks.cells import Cell, Run, Sample
from benchmarks.measure import RunFailedError
from benchmarks.postgres import postgres
from dicomwire.node.archive import Archive
from dicomwire.node.configuration import Configuration
from dicomwire.node.heads import Origin
from dicomwire.node.index.writer import Index
from dicomwire.node.query import STUDY_ROOT, find

LAST = 5_000
"""The objects that are stored one after the other."""
REPETITIONS = 25
_RETURNED = (
    *("PatientName", "PatientID", "StudyDate", "StudyTime", "AccessionNumber"),
    *("StudyDescription", "ModalitiesInStudy", "NumberOfStudyRelatedInstances"),
)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.growth", description=__doc__)
    parser.add_argument("count", type=int)
    parser.add_argument("folder", type=Path)
    parser.add_argument("url", nargs="?", default="")
    parser.add_argument("--store-all", action="store_true")
    arguments = parser.parse_args()
    configuration = Configuration(folder=arguments.folder, index=arguments.url)
    with Archive(configuration, "growth") as archive:
        end = arguments.count // studies.PER_STUDY
        first = end - LAST // studies.PER_STUDY
        if arguments.store_all:
            store(archive, range(first))
        else:
            studies.fill(archive.index, first)
        seconds, processor = store(archive, range(first, end))
        figures = dict(_query_times(archive.index, end))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found = {"seconds": seconds, "peak": peak, "processor": processor, "figures": figures}
    print(json.dumps(found))
    return 0


def store(archive: Archive, numbers: range) -> tuple[float, float]:
    """Store the objects of the studies with these numbers; return the seconds, and the processor's.

    The time to make the objects is not counted.
    """
    seconds = processor = 0.0
    for number in numbers:
        for uid, data in studies.objects(number):
            began, used = perf_counter(), process_time()
            sink = archive.spool.sink()
            sink.write([memoryview(data)])
            payload = sink.finish()
            origin = Origin(str(CTImageStorage), uid, str(ExplicitVRLittleEndian), "GROWTH")
            assert archive.committer.store(payload, origin) == 0
            payload.discard()
            seconds += perf_counter() - began
            processor += process_time() - used
    return seconds, processor


# --- Queries ----------------------------------------------------------------------------------


def _identifier(**keys: str) -> Dataset:
    identifier = Dataset()
    identifier.QueryRetrieveLevel = "STUDY"
    identifier.StudyInstanceUID = ""
    for keyword in _RETURNED:
        setattr(identifier, keyword, "")
    for keyword, value in keys.items():
        setattr(identifier, keyword, value)
    return identifier


_QUERIES: dict[str, Callable[[int], Dataset]] = {
    "UID": lambda number: _identifier(StudyInstanceUID=studies.study_uid(number)),
    "Patient ID": lambda number: _identifier(PatientID=studies.patient_id(number)),
    "Accession Number": lambda number: _identifier(
        AccessionNumber=studies.accession_number(number)
    ),
    "name prefix": lambda number: _identifier(PatientName=studies.patient_name(number)[:7] + "*"),
    "name wildcard": lambda number: _identifier(PatientName=f"*{number % 977}^M*"),
    "one day": lambda number: _identifier(StudyDate=studies.day(number)),
    "a week, CT": lambda number: _identifier(
        StudyDate=studies.week(number), ModalitiesInStudy="CT"
    ),
}


def _answers(index: Index, identifier: Dataset) -> Iterator[Any]:
    syntax = str(ImplicitVRLittleEndian)
    return find(index, STUDY_ROOT, identifier, ae_title="BENCHMARK", transfer_syntax=syntax)


def _query_times(index: Index, count: int) -> Iterator[tuple[str, float]]:
    """Yield the median milliseconds of each query, asked with different values, and of all."""
    for name, query in _QUERIES.items():
        times = []
        for repetition in range(REPETITIONS):
            identifier = query(repetition * count // REPETITIONS)
            began = perf_counter()
            found = sum(1 for _ in _answers(index, identifier))
            times.append(perf_counter() - began)
            assert found or name in ("name wildcard", "a week, CT")
        yield name, statistics.median(times) * 1e3
    firsts = []
    for _ in range(REPETITIONS):
        began = perf_counter()
        next(_answers(index, _identifier()))
        firsts.append(perf_counter() - began)
    yield "first of all", statistics.median(firsts) * 1e3
    began = perf_counter()
    assert sum(1 for _ in _answers(index, _identifier())) == count
    yield "all", (perf_counter() - began) * 1e3


# --- Cells ------------------------------------------------------------------------------------


def _grow(run: Run) -> Sample:
    """Run this program with an index of the kind that the competitor's name says."""
    with empty_folder() as folder:
        command = run.fill(run.command, 0, folder / "archive")
        if run.name.endswith("PostgreSQL"):
            with postgres(folder / "postgres") as url:
                return _sample([*command, url])
        return _sample(command)


def _sample(command: list[str]) -> Sample:
    done = subprocess.run(command, capture_output=True, text=True, cwd=who.HERE.parent)
    if done.returncode:
        raise RunFailedError(done.stderr.strip().rpartition("\n")[2])
    return Sample(LAST, **json.loads(done.stdout))


def growth_cells(*, quick: bool, with_million: bool) -> list[Cell]:
    """Return a cell for each size of an archive."""
    sizes = [10_000] if quick else [10_000, 100_000]
    command = (sys.executable, "-m", "benchmarks.growth", "{count}", "{folder}")
    return [
        Cell(
            f"growth-{count}",
            f"an archive with {count:,} instances, of which the last {LAST:,} are timed",
            count,
            {"dicomwire, SQLite": command, "dicomwire, PostgreSQL": command},
            _grow,
        )
        for count in (*sizes, *([1_000_000] if with_million else []))
    ]


if __name__ == "__main__":
    sys.exit(main())
