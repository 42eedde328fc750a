"""How an archive's rates change as it grows: `python -m benchmarks.growth [COUNT] [FOLDER]`.

It stores small objects, 50 per study, in the folder of an archive, as the handlers of C-STORE do;
no network is between. At 10,000, 100,000, … objects it prints the rate of the last ones, the
processor time of each, and the time of a query for one study.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
from pathlib import Path
from time import perf_counter, process_time

from benchmarks.archives import DISK, empty_folder
from benchmarks.workload import FIRST_NUMBER, SMALL
from dicomwire.data.file_meta import parse_file_meta
from dicomwire.node.archive import Archive
from dicomwire.node.configuration import Configuration
from dicomwire.node.heads import Origin
from dicomwire.node.index.schema import study

STAGES = (10_000, 100_000, 200_000, 500_000, 1_000_000)
LAST = 5_000
"""The objects of a stage whose rate is measured."""
PER_STUDY = 50
QUERIES = 50


def main() -> int:
    most = int(sys.argv[1]) if len(sys.argv) > 1 else STAGES[1]
    parent = Path(sys.argv[2]) if len(sys.argv) > 2 else DISK
    with (
        empty_folder(parent) as folder,
        Archive(Configuration(folder=folder), "growth") as archive,
    ):
        _grow(archive, [stage for stage in STAGES if stage <= most])
    return 0


def _grow(archive: Archive, stages: list[int]) -> None:
    store = _Store(archive)
    print("| objects | objects/s | processor, us/object | query for a study, ms |")
    print("|--:|--:|--:|--:|")
    for stage in stages:
        store.up_to(stage - LAST)
        began, processor = perf_counter(), process_time()
        store.up_to(stage)
        seconds, processor = perf_counter() - began, process_time() - processor
        query = statistics.median(store.query(number) for number in range(QUERIES))
        microseconds = processor / LAST * 1e6
        print(f"| {stage:,} | {LAST / seconds:.0f} | {microseconds:.0f} | {query * 1e3:.2f} |")


class _Store:
    """Stores objects that differ in their UIDs: of instance, series and study."""

    def __init__(self, archive: Archive) -> None:
        self._archive = archive
        self._count = 0
        with tempfile.TemporaryDirectory() as root:
            (path,) = SMALL.folder(Path(root), 1).iterdir()
            content = path.read_bytes()
        head = parse_file_meta(content)
        self._dataset = content[head.offset :]
        self._instance = str(head.sop_instance_uid)
        self._class = str(head.sop_class_uid)
        self._syntax = str(head.transfer_syntax_uid)
        self._root = self._instance.removesuffix(str(FIRST_NUMBER))
        self._study, self._series = f"{self._root}1", f"{self._root}2"

    def up_to(self, count: int) -> None:
        """Store objects until there are so many."""
        while self._count < count:
            self._one(self._count)
            self._count += 1

    def _uids(self, number: int) -> tuple[str, str, str]:
        parent = number // PER_STUDY % 10 ** len("0000000")
        end = f"{parent:07d}"
        instance = f"{self._root}{FIRST_NUMBER + number}"
        return instance, f"{self._study}.{end}", f"{self._series}.{end}"

    def _one(self, number: int) -> None:
        instance, study_uid, series_uid = self._uids(number)
        data = self._dataset.replace(self._instance.encode(), instance.encode())
        for old, new in ((self._study, study_uid), (self._series, series_uid)):
            data = data.replace(_element(old), _element(new))
        sink = self._archive.spool.sink()
        sink.write([memoryview(data)])
        payload = sink.finish()
        origin = Origin(self._class, instance, self._syntax, "GROWTH")
        assert self._archive.committer.store(payload, origin) == 0
        payload.discard()

    def query(self, number: int) -> float:
        """Return the seconds that it takes to find the study of an object by its UID."""
        number = number * (self._count // QUERIES)
        began = perf_counter()
        with self._archive.index.reading() as connection:
            uid = self._uids(number)[1]
            assert connection.execute(study.select().where(study.c.study_instance_uid == uid)).one()
        return perf_counter() - began


def _element(uid: str) -> bytes:
    """Return VR, length and value of a UID in explicit VR."""
    value = uid.encode() + b"\0" * (len(uid) % 2)
    return b"UI" + len(value).to_bytes(2, "little") + value


if __name__ == "__main__":
    sys.exit(main())
