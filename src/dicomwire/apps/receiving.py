"""Where the objects that an application receives go: into files, as they came, or nowhere.

The library writes the files as the bytes come in; here is decided what they are called.
"""

from __future__ import annotations

import argparse
import logging
import os
import threading
from argparse import ArgumentParser, Namespace
from typing import Any

from dicomwire import evt
from dicomwire.apps.console import Stop
from dicomwire.apps.files import file_name
from dicomwire.association import ReceiveTo
from dicomwire.data.sinks import DiscardSink
from dicomwire.leftovers import remove_leftovers
from dicomwire.logs import escaped

NAMES = """\
A file is called <prefix>.<SOP Instance UID>, in which prefix is CT, MR, US and the like, or UN,
and what cannot be in a UID is an underscore. It holds the dataset byte for byte as it was sent.
A file of that name that is there already is replaced.
While it comes, it is called .<32 hex digits>.part. Such a file of a process that was killed is
removed by the next one that starts, when it is an hour old."""
"""What people should know of the files."""

_MB = 1_000_000


def add_output(parser: ArgumentParser) -> argparse._ArgumentGroup:
    """Add what says where received objects go, and return its group; see `Receiver`."""
    group = parser.add_argument_group("what is received")
    add_folder(group)
    group.add_argument("--ignore", action="store_true", help="answer with success, keep nothing")
    return group


def add_folder(group: argparse._ArgumentGroup) -> None:
    """Add the option for the folder that files go to; see `writable_folder`."""
    group.add_argument(
        "-od",
        "--output-directory",
        metavar="FOLDER",
        default=os.curdir,
        help="write files into this folder, made if needed (default: the current one)",
    )


def writable_folder(options: Namespace) -> str:
    """Return the folder that files go to, which is there and can be written to."""
    folder: str = os.path.abspath(options.output_directory)
    try:
        os.makedirs(folder, exist_ok=True)
    except OSError as error:
        raise Stop(f"Cannot make the folder {folder}: {error.strerror}") from None
    if not os.access(folder, os.W_OK | os.X_OK):
        raise Stop(f"Cannot write into the folder {folder}")
    return folder


class Receiver:
    """Takes objects received by C-STORE, from any number of associations.

    Attributes
    ----------
    receive_to : ReceiveTo
        For servers and associations.
    handlers : list
        For them too, to log and count what is received.
    """

    def __init__(self, options: Namespace, logger: logging.Logger) -> None:
        self._logger = logger
        self._is_kept = not options.ignore
        self._count = self._size = 0
        self._lock = threading.Lock()  # for the two of them
        self.receive_to: ReceiveTo = _discard
        if self._is_kept:
            folder = writable_folder(options)
            remove_leftovers(folder)
            logger.info("Files go to %s", escaped(folder))
            self.receive_to = _Namer(folder, logger)
        self.handlers: list[evt.EventHandlerType] = [(evt.EVT_C_STORE, self._stored)]

    @property
    def count(self) -> int:
        """How many objects have been received."""
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
    """Says where the file of a C-STORE request goes."""

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
