"""Receives objects for storescp, getscu and movescu: names their files, logs and counts them.

The library writes the bytes into the files.
"""

from __future__ import annotations

import argparse
import logging
import os
import threading
from argparse import ArgumentParser, Namespace
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

    Attributes
    ----------
    receive_to : ReceiveTo
        For `AE.start_server` and associations: where the bytes of an object go.
    handlers : list
        For these, too: they log and count the objects.
    """

    def __init__(self, options: Namespace, logger: logging.Logger) -> None:
        self._logger = logger
        self._is_kept = not options.ignore
        self._count = self._size = 0
        # Guards both counts: several threads serve associations.
        self._lock = threading.Lock()
        self.receive_to: ReceiveTo = _discard
        if self._is_kept:
            folder = writable_folder(options)
            remove_leftovers(folder)
            logger.info("Files go to %s", escaped(folder))
            self.receive_to = _Namer(folder, logger)
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
        if self._logger.isEnabledFor(logging.INFO):
            kept = f"{size} bytes" if self._is_kept else "not kept"
            self._logger.info("Received Store Request: %s, %s", _about(event), kept)
        return 0x0000

    def __str__(self) -> str:
        kept = f"{self._size / _MB:.1f} MB" if self._is_kept else "not kept"
        return f"{self._count} received, {kept}"


class _Namer:
    """Returns the path for the object of a C-STORE request."""

    def __init__(self, folder: str, logger: logging.Logger) -> None:
        self._folder = os.path.join(folder, "")
        self._logger = logger
        self._warns = logger.isEnabledFor(logging.WARNING)

    def __call__(self, request: Any) -> str:
        name = file_name(request.AffectedSOPClassUID, request.AffectedSOPInstanceUID)
        path = self._folder + name
        if self._warns and os.path.exists(path):
            self._logger.warning("DICOM file already exists, overwriting: %s", name)
        return path


def _discard(request: Any) -> DiscardSink:
    return DiscardSink()


def _about(event: evt.Event) -> str:
    request = event.request
    name = file_name(request.AffectedSOPClassUID, request.AffectedSOPInstanceUID)
    title = event.assoc.remote["ae_title"]
    return f"MsgID {event.message_id}, {name}, from {escaped(title)}"
