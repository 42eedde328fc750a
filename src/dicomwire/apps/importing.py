"""`node import`: brings files of folders and ZIPs into the archive."""

from __future__ import annotations

import json
import logging
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from dicomwire.apps.archive import needing_extra
from dicomwire.apps.arguments import count
from dicomwire.apps.console import Console, Misuse, Stop
from dicomwire.apps.deleting import archive_beside
from dicomwire.logs import counted, escaped
from dicomwire.node.configuration import Configuration

if TYPE_CHECKING:
    from dicomwire.node.archive import Archive
    from dicomwire.node.importing.progress import ImportCounts
    from dicomwire.node.importing.sources import Candidate

LOGGER = logging.getLogger("dicomwire.node")
_THREADS = 4


def add_import(parser: ArgumentParser) -> None:
    """Add the arguments of `import`."""
    parser.add_argument(
        "sources", nargs="+", metavar="SOURCE", help="a folder, with all below it; a ZIP; or a file"
    )
    parser.add_argument(
        "--move", action="store_true", help="remove each file when the archive has its object"
    )
    parser.add_argument(
        "--parallel",
        metavar="N",
        type=count,
        default=_THREADS,
        help="threads that read files; for a bucket, each uploads an object at a time (default: 4)",
    )
    parser.add_argument(
        "--from-start", action="store_true", help="do not go on where an import was ended"
    )
    parser.add_argument(
        "--report", metavar="FILE", help="append to this file why files failed: lines of JSON"
    )


def run_import(configuration: Configuration, options: Namespace, console: Console) -> int:
    """Import files; return the exit code."""
    with needing_extra("node"):
        from dicomwire.node.importing.progress import ImportCounts

    total = ImportCounts()
    ended = 0
    with (
        _report_in(options.report) as report,
        archive_beside(configuration, makes=True) as archive,
    ):
        for name in options.sources:
            done = _import_one(archive, Path(name), options, console, report)
            ended += done is None
            total.add(done or ImportCounts())
    console.clear()
    if options.json:
        print(json.dumps({**asdict(total), "sources_failed": ended}))
    else:
        moved = f", {total.removed} removed from their folders" if options.move else ""
        print(
            f"{counted(total.stored, 'object')} stored, {total.known} known already, "
            f"{counted(total.passed_over, 'file')} passed over, {total.failed} failed{moved}"
        )
    return 1 if total.failed or ended else 0


def _import_one(
    archive: Archive, path: Path, options: Namespace, console: Console, report: TextIO | None
) -> ImportCounts | None:
    """Import one source; None if it cannot be read."""
    from dicomwire.node.importing.progress import Progress
    from dicomwire.node.importing.sources import Failure, Zip, open_source
    from dicomwire.node.importing.work import CannotStore, Import

    folders = [archive.configuration.folder, archive.spool.folder]
    try:
        source = open_source(path, folders)
    except Failure as error:
        console.clear()
        LOGGER.error("%s", escaped(str(error)))
        return None
    if options.move and isinstance(source, Zip):
        raise Misuse(f"{path} is a ZIP: only files of folders can be moved")
    progress = Progress(archive.configuration.folder, source.identity)
    if options.from_start:
        progress.forget()
    progress.load()
    if progress.position is not None:
        done = counted(progress.counts.seen, "file")
        LOGGER.warning("%s: %s done before", escaped(str(path)), done)

    def tell(candidate: Candidate, reason: str) -> None:
        console.clear()
        LOGGER.error("%s: %s", escaped(candidate.label), escaped(reason))
        if report is not None:
            line = {"file": candidate.label, "reason": reason}
            report.write(json.dumps(line) + "\n")
            report.flush()

    try:
        for counts in Import(archive, source, progress, tell, options.move).run(options.parallel):
            console.follow(lambda counts=counts: _line(counts))  # type: ignore[misc]
    except CannotStore as error:
        done = counted(progress.counts.seen, "file")
        text = f"{path}: {error}. {done} done; repeat it to go on"
        raise Stop(text) from None
    except KeyboardInterrupt:
        console.clear()
        done = counted(progress.counts.seen, "file")
        LOGGER.error("%s done; repeat the command to go on", done)
        raise
    finally:
        source.close()
    return progress.counts


def _line(counts: ImportCounts) -> str:
    return f"{counted(counts.seen, 'file')}, {counts.stored} stored, {counts.failed} failed"


@contextmanager
def _report_in(name: str | None) -> Iterator[TextIO | None]:
    if name is None:
        yield None
        return
    with ExitStack() as opened:
        try:
            file = opened.enter_context(Path(name).open("a", encoding="utf-8"))
        except OSError as error:
            raise Stop(f"Cannot write {name}: {error.strerror}") from None
        yield file
