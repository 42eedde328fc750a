"""Receives objects for storescp, getscu and movescu: names their files, and counts them.

The library writes the bytes into the files.
"""

from __future__ import annotations

import argparse
import logging
import os
import threading
from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from functools import partial
from typing import Any

from dicomwire import events as evt
from dicomwire.apps.console import Stop
from dicomwire.apps.files import file_name
from dicomwire.data.sinks import DiscardSink
from dicomwire.leftovers import remove_leftovers
from dicomwire.logs import escaped
from dicomwire.plain import ReceiveTo

NAMES = """\
The name of a file is <prefix>.<SOP Instance UID>. The prefix is CT, MR, US or the like, or UN. A
character that a UID cannot have becomes an underscore. The file has the dataset byte for byte as it
was sent, and replaces a file of the same name. Until it is complete, its name is .<32 hex
digits>.part. If a process was killed, the next one removes such a file when it is an hour old."""
"""The notes about received files in the help of applications."""

_MB = 1_000_000
_OUT_OF_RESOURCES = 0xA700  # PS3.4 Table B.2-1


def add_output(parser: ArgumentParser) -> argparse._ArgumentGroup:
    """Add the options for received objects, and return their group; see `Receiver`."""
    group = parser.add_argument_group("received objects")
    add_folder(group)
    group.add_argument(
        "--ignore", action="store_true", help="answer with success, but do not keep the objects"
    )
    return group


def add_folder(group: argparse._ArgumentGroup) -> None:
    """Add the option for the folder of files; see `writable_folder`."""
    group.add_argument(
        "-od",
        "--output-directory",
        metavar="FOLDER",
        default=os.curdir,
        help="write files into this folder, which is made if needed (default: the current one)",
    )


def writable_folder(options: Namespace) -> str:
    """Make the folder of files if needed, and return it; raise Stop if it is not writable."""
    folder: str = os.path.abspath(options.output_directory)
    try:
        os.makedirs(folder, exist_ok=True)
    except OSError as error:
        raise Stop(f"Cannot make the folder {folder}: {error.strerror}") from None
    if not os.access(folder, os.W_OK | os.X_OK):
        raise Stop(f"Cannot write into the folder {folder}")
    return folder


class Receiver:
    """Receives objects by C-STORE, on any number of associations.

    Parameters
    ----------
    options : Namespace
        Those of `add_output`.
    depth : int
        The levels of folders that the objects are sorted into; see `sorting.Sorter`.
    then : callable, optional
        Called with the event and the path of each object that was kept.

    Attributes
    ----------
    receive_to : ReceiveTo
        For `AE.start_server` and associations: where the bytes of an object go.
    handlers : list
        For these, too: they count the objects, and sort them.
    """

    def __init__(
        self,
        options: Namespace,
        logger: logging.Logger,
        depth: int = 0,
        then: Callable[[evt.Event, str], None] | None = None,
    ) -> None:
        self._logger = logger
        self._is_kept = not options.ignore
        self._then = then
        self._place_of: Callable[[evt.Event], str] = lambda event: str(event.dataset_path)
        self._count = self._size = 0
        # Guards both counts: several threads serve associations.
        self._lock = threading.Lock()
        self.receive_to: ReceiveTo = _discard
        if self._is_kept:
            folder = writable_folder(options)
            remove_leftovers(folder)
            logger.info("Files go to %s", escaped(folder))
            self.receive_to = _Namer(folder, logger)
            if depth:
                from dicomwire.apps.sorting import Sorter

                sorter = Sorter(folder, depth, partial(warn_of_overwriting, logger=logger))
                self.receive_to, self._place_of = sorter.receive_to, sorter.place
        self.handlers: list[evt.EventHandlerType] = [(evt.EVT_C_STORE, self._stored)]

    @property
    def count(self) -> int:
        """The number of objects received."""
        return self._count

    def _stored(self, event: evt.Event) -> int:
        size = event.payload.size if event.payload is not None else 0
        with self._lock:
            self._count += 1
            self._size += size
        if self._is_kept:
            try:
                path = self._place_of(event)
            except OSError as error:
                about = escaped(str(event.request.AffectedSOPInstanceUID))
                self._logger.error("Cannot sort %s: %s", about, escaped(str(error)))
                return _OUT_OF_RESOURCES
            if self._then is not None:
                self._then(event, path)
        return 0x0000

    def __str__(self) -> str:
        kept = f"{self._size / _MB:.1f} MB" if self._is_kept else "not kept"
        return f"{self._count} received, {kept}"


def warn_of_overwriting(path: str, logger: logging.Logger) -> None:
    """Say that the file at `path` is about to be replaced, if there is one."""
    if os.path.exists(path):
        logger.warning("DICOM file already exists, overwriting: %s", escaped(path))


class _Namer:
    """Returns the path for the object of a C-STORE request."""

    def __init__(self, folder: str, logger: logging.Logger) -> None:
        self._folder = os.path.join(folder, "")
        self._logger = logger
        self._warns = logger.isEnabledFor(logging.WARNING)

    def __call__(self, request: Any) -> str:
        name = file_name(request.AffectedSOPClassUID, request.AffectedSOPInstanceUID)
        path = self._folder + name
        if self._warns:
            warn_of_overwriting(path, self._logger)
        return path


def _discard(request: Any) -> DiscardSink:
    return DiscardSink()
