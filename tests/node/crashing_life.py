"""All that changes an archive at once, to be killed.

Three threads store objects, delete studies, and apply retention. Each line of the output is a fact
that is durable when it is printed: ``+UID`` is stored, ``-STUDY`` is deleted for ever.
"""

from __future__ import annotations

import sys
import threading
import time
from collections import deque
from itertools import count
from pathlib import Path
from queue import Queue

from living_archive import LivingArchive

from dicomwire.node.configuration import Configuration, Retention
from dicomwire.node.deletion import delete
from dicomwire.node.keys import Level
from dicomwire.node.retention import Retaining

WINDOW = 3
"""So many studies after it is complete, a study is deleted."""
_writing = threading.Lock()  # keeps lines whole


def tell(text: str) -> None:
    with _writing:
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()


def store(archive: LivingArchive, prefix: str, complete: Queue[str]) -> None:
    for number in count():
        study = f"{prefix}.{number}"
        for instance in range(4):
            pixels = 200_000 if instance == 3 else 0  # one that is a file of the spool first
            assert archive.put(instance, study, pixels=pixels) == 0
            tell(f"+{study}.1.{instance}")
        complete.put(study)


def remove(archive: LivingArchive, complete: Queue[str]) -> None:
    waiting: deque[str] = deque()
    for number in count():
        while len(waiting) <= WINDOW:
            waiting.append(complete.get())  # `store` puts them there
        study = waiting.popleft()
        delete(archive.queue, Level.STUDY, [study], rejects=number % 2 == 0, delay=0.0)
        tell(f"-{study}")
        archive.run_tasks()


def retain(archive: LivingArchive) -> None:
    folder = archive.configuration.folder
    while True:
        Retaining(Retention(max_age=3650.0), archive.queue, archive.objects, folder).look()


def main(folder: str, round_number: str) -> None:
    with LivingArchive(Configuration(folder=Path(folder))) as archive:
        archive.queue.clock = time.time
        complete: Queue[str] = Queue()
        for task in (
            lambda: remove(archive, complete),
            lambda: retain(archive),
        ):
            threading.Thread(target=task, daemon=True).start()
        store(archive, f"1.2.{round_number}", complete)
