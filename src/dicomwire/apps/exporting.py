"""`node export`: copies objects out of the archive, into a folder or a ZIP with a DICOMDIR."""

from __future__ import annotations

import json
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from dicomwire.apps.archive import needing_extra
from dicomwire.apps.console import Console, Stop
from dicomwire.apps.deleting import add_selection, archive_beside, selection_of
from dicomwire.apps.operating import human_size
from dicomwire.logs import counted
from dicomwire.node.configuration import Configuration

if TYPE_CHECKING:
    from dicomwire.node.exporting.selection import Exported


def add_export(parser: ArgumentParser) -> None:
    """Add the arguments of `export`."""
    add_selection(parser)
    parser.add_argument(
        "--to",
        metavar="PATH",
        type=Path,
        required=True,
        help="a new folder; a new ZIP if the name ends with .zip",
    )


def run_export(configuration: Configuration, options: Namespace, console: Console) -> int:
    """Export objects; return the exit code."""
    with needing_extra("node"):
        from dicomwire.node.exporting.files import write_folder, write_zip
        from dicomwire.node.exporting.selection import found

    level, uids, study_uid = selection_of(options)
    target: Path = options.to
    written = size = 0

    def done(each: Exported) -> None:
        nonlocal written, size
        written += 1
        size += each.size
        console.follow(lambda: f"{counted(written, 'object')}, {human_size(size)}")

    with archive_beside(configuration) as archive:
        objects = found(archive.index, level, uids, study_uid)
        if not objects:
            raise Stop("The archive has none of these objects; nothing is exported")
        write = write_zip if target.suffix.lower() == ".zip" else write_folder
        try:
            write(archive, objects, target, done)
        except FileExistsError:
            raise Stop(f"{target} exists already, and is not changed") from None
        except OSError as error:
            reason = error.strerror or error
            raise Stop(f"Nothing is exported to {target}: {reason}") from None
    console.clear()
    facts = {"objects": written, "bytes": size, "to": str(target)}
    told = f"Exported {counted(written, 'object')} ({human_size(size)}) to {target}"
    print(json.dumps(facts) if options.json else told)
    return 0
