"""An import that is there to be killed: it prints a line after each group of files."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from dicomwire.node.archive import Archive
from dicomwire.node.configuration import Configuration, merged
from dicomwire.node.importing import work
from dicomwire.node.importing.progress import Progress
from dicomwire.node.importing.sources import open_source
from dicomwire.node.importing.work import Import


def main(keys: str, path: str) -> None:
    configuration = merged(Configuration(), json.loads(keys))
    work._GROUP = 8
    source = open_source(Path(path))
    progress = Progress(configuration.folder, source.identity)
    progress.load()
    with Archive(configuration, "import", is_first=False) as archive:
        for _ in Import(archive, source, progress, lambda *_: None).run(2):
            sys.stdout.write("\n")
            sys.stdout.flush()
