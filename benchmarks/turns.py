"""Whether an object takes longer in a larger archive: `python -m benchmarks.turns [COUNT]`.

It fills the indexes of two archives in bulk, with 5,000 instances and with COUNT - 5,000, and
stores 5,000 further objects in each, a study here and a study there. So the phases of the machine
and of its disk, which change rates by more than the size does, are those of both.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from benchmarks import growth, studies
from benchmarks.archives import empty_folder
from benchmarks.postgres import postgres
from dicomwire.node.archive import Archive
from dicomwire.node.configuration import Configuration

SMALL = 2 * growth.LAST


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.turns", description=__doc__)
    parser.add_argument("count", type=int, nargs="?", default=1_000_000)
    parser.add_argument("--postgres", action="store_true", help="the indexes are in PostgreSQL")
    arguments = parser.parse_args()
    number = growth.LAST // studies.PER_STUDY
    firsts = [count // studies.PER_STUDY - number for count in (SMALL, arguments.count)]
    seconds: list[list[float]] = [[], []]
    processor = [0.0, 0.0]
    with ExitStack() as opened:
        both = [opened.enter_context(_archive(first, arguments.postgres)) for first in firsts]
        for turn in range(number):
            for which in (0, 1) if turn % 2 else (1, 0):
                study = firsts[which] + turn
                took, used = growth.store(both[which], range(study, study + 1))
                seconds[which].append(took)
                processor[which] += used
    for which, count in enumerate((SMALL, arguments.count)):
        rate, used = growth.LAST / sum(seconds[which]), processor[which] / growth.LAST * 1e6
        print(f"{count:,} instances: {rate:,.0f} objects a second, {used:,.0f} µs of processor")
    pairs = [small / large for small, large in zip(*seconds, strict=True)]
    print(f"rate of the larger one, in those of the other: {sum(seconds[0]) / sum(seconds[1]):.2f}")
    print(f"median of the pairs of studies: {statistics.median(pairs):.2f}")
    return 0


@contextmanager
def _archive(first: int, is_in_postgres: bool) -> Iterator[Archive]:
    """Open an archive with the rows of so many studies."""
    with ExitStack() as opened:
        folder = opened.enter_context(empty_folder())
        url = opened.enter_context(postgres(folder / "postgres")) if is_in_postgres else ""
        configuration = Configuration(folder=folder / "archive", index=url)
        archive = opened.enter_context(Archive(configuration, "growth"))
        studies.fill(archive.index, first)
        yield archive


if __name__ == "__main__":
    sys.exit(main())
