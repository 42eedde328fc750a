"""All that changes an archive at once, in two processes that are to be killed.

One stores objects, deletes studies and applies retention, the other one imports the files of a
folder. They print facts:

- ``+UID``: the instance is acknowledged.
- ``?STUDY`` and ``-STUDY``: the deletion of the study begins, and is done.
- ``<NUMBER`` and ``>NUMBER``: retention begins, and has ended, to delete all studies up to this
  number, those of earlier rounds included, except for those that `is_kept`.
- ``!TEXT``: something that must not be.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import count
from pathlib import Path
from queue import Queue as Line

from living_archive import LivingArchive

from dicomwire.node.archive import Archive
from dicomwire.node.configuration import Configuration, Retention, merged
from dicomwire.node.deletion import delete, protect
from dicomwire.node.importing import work
from dicomwire.node.importing.progress import Progress
from dicomwire.node.importing.sources import open_source
from dicomwire.node.keys import Level
from dicomwire.node.retention import Retaining
from dicomwire.node.statuses import NOT_AUTHORIZED, SUCCESS
from dicomwire.node.tasks.queue import Queue

DAY = 24 * 3600.0
KEPT = "TEACHING FILE"
"""The Study Description of studies that retention keeps."""
INSTANCES = 4
_writing = threading.Lock()  # keeps lines whole


def is_protected(number: int) -> bool:
    """Return whether a study is protected from deletion."""
    return number % 16 == 1


def is_kept(number: int) -> bool:
    """Return whether retention leaves a study."""
    return is_protected(number) or number % 16 == 2


def tell(text: str) -> None:
    with _writing:
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()


def store(archive: LivingArchive, prefix: str) -> Iterator[tuple[int, float]]:
    """Store studies; yield the number of each complete one, and a time before the next one."""
    for number in count():
        study = f"{prefix}.{number}"
        description = KEPT if is_kept(number) else ""
        for instance in range(INSTANCES):
            pixels = 200_000 if instance == 3 else 0  # one that is a file of the spool first
            status = archive.put(instance, study, pixels=pixels, StudyDescription=description)
            assert status == SUCCESS, hex(status)
            tell(f"+{study}.1.{instance}")
            if is_protected(number) and instance == 0:
                protect(archive.index, [study])
        yield number, time.time()


def remove(archive: LivingArchive, prefix: str, complete: Line[int]) -> None:
    """Delete every fourth study, and reject half of these; remove the files."""
    while True:
        number = complete.get()  # the thread that stores puts them there
        study, rejects = f"{prefix}.{number}", number % 8 == 4
        tell(f"?{study}")
        done = delete(archive.queue, Level.STUDY, [study], rejects=rejects, delay=0.0)
        tell(f"-{study}")
        uids = [f"{study}.1.{instance}" for instance in range(INSTANCES)]
        assert archive.index.find(uids) == {}
        if rejects and done.instances:  # retention may have been first
            assert archive.put(0, study) == NOT_AUTHORIZED
        archive.run_tasks()


def retain(archive: LivingArchive, complete: Line[tuple[int, float]]) -> None:
    """Delete all studies that were complete at a time, as if it was a day ago."""
    clock = [0.0]
    queue = Queue(archive.index, "retention", lambda: clock[0] + DAY)
    rules = merged(
        Configuration(), {"retention": {"max_age": 1, "keep": {"StudyDescription": KEPT}}}
    ).retention
    assert isinstance(rules, Retention)
    retaining = Retaining(rules, queue, archive.objects, archive.configuration.folder)
    while True:
        number, clock[0] = complete.get()  # the thread that stores puts them there
        tell(f"<{number}")
        retaining.look()
        tell(f">{number}")


def live(configuration: Configuration, prefix: str) -> None:
    with LivingArchive(configuration) as archive:
        archive.queue.clock = time.time
        to_delete: Line[int] = Line()
        old: Line[tuple[int, float]] = Line()
        for task in (
            lambda: remove(archive, prefix, to_delete),
            lambda: retain(archive, old),
        ):
            threading.Thread(target=telling, args=(task,), daemon=True).start()
        waiting: deque[tuple[int, float]] = deque()
        for number, moment in store(archive, prefix):
            waiting.append((number, moment))
            if len(waiting) > 3:
                number, moment = waiting.popleft()
                if number % 4 == 0:
                    to_delete.put(number)
                elif number % 4 == 3:
                    old.put((number, moment))


def bring(configuration: Configuration, path: Path) -> None:
    """Import the files that are left, or all of them again."""
    work._GROUP = 8
    with Archive(configuration, "import", is_first=False) as archive:
        source = open_source(path)
        progress = Progress(configuration.folder, source.identity)
        progress.load()
        with suppress(work.CannotStore):  # the other process has the index; it goes on later
            for tally in work.Import(archive, source, progress, lambda *_: None).run(2):
                assert tally.failed == 0


def telling(task: Callable[[], None]) -> None:
    """Run a task, and tell of its failure."""
    try:
        task()
    except BaseException as error:
        tell(f"!{error!r}")
        os._exit(1)


def main(keys: str, source: str, prefix: str) -> None:
    """Import a folder, or store studies whose UIDs have a prefix."""
    configuration = merged(Configuration(port=0), json.loads(keys))
    if source:
        telling(lambda: bring(configuration, Path(source)))
    else:
        telling(lambda: live(configuration, prefix))
