"""storescp: receives objects by C-STORE, and keeps each as a DICOM file (PS3.4 Annex B).

The library writes the files as the bytes come in; here is decided what they are called.
"""

from __future__ import annotations

import logging
import os
from argparse import ArgumentParser, Namespace
from typing import Any

from dicomwire import (
    AllStoragePresentationContexts,
    StoragePresentationContexts,
    VerificationPresentationContexts,
    evt,
)
from dicomwire.apps.arguments import (
    add_server,
    add_supported_syntax,
    new_parser,
    supported_syntaxes,
)
from dicomwire.apps.console import Console, run
from dicomwire.apps.files import file_name
from dicomwire.apps.serving import log_echo, serve, supporting
from dicomwire.logs import escaped
from dicomwire.payloads import DiscardSink

LOGGER = logging.getLogger("dicomwire.storescp")

_EPILOG = """\
A file is called <prefix>.<SOP Instance UID>, in which prefix is CT, MR, US and the like, or UN,
and what cannot be in a UID is an underscore. It holds the dataset byte for byte as it was sent.
A file of that name that is there already is replaced.

exit codes: 0 after Ctrl-C, 1 if the port or the folder cannot be had, 2 for wrong arguments"""


def _parser() -> ArgumentParser:
    parser = new_parser("storescp", "Receive DICOM files (C-STORE) until Ctrl-C.", _EPILOG)
    add_server(parser, "STORESCP")
    add_supported_syntax(parser)
    group = parser.add_argument_group("what is received")
    group.add_argument(
        "-od",
        "--output-directory",
        metavar="FOLDER",
        default=os.curdir,
        help="write files into this folder, made if needed (default: the current one)",
    )
    group.add_argument("--ignore", action="store_true", help="answer with success, keep nothing")
    group.add_argument("--no-echo", action="store_true", help="do not answer C-ECHO requests")
    return parser


def main(args: list[str] | None = None) -> int:
    """Run storescp and return its exit code; see ``dicomwire storescp --help``."""
    return run(_parser().parse_args(args), _serve)


def _serve(options: Namespace, console: Console) -> int:
    syntaxes = supported_syntaxes(options)
    contexts = supporting(
        [*AllStoragePresentationContexts, *StoragePresentationContexts],  # also the retired ones
        syntaxes,
    )
    handlers: list[evt.EventHandlerType] = []
    if not options.no_echo:
        contexts += supporting(VerificationPresentationContexts, syntaxes)
        handlers.append((evt.EVT_C_ECHO, log_echo, [LOGGER]))
    hints = [
        "Send to it with: dicomwire storescu {address} {port} FILES",
        "or with DCMTK:   storescu {address} {port} FILES",
    ]
    wants_news = LOGGER.isEnabledFor(logging.INFO)
    if options.ignore:
        if wants_news:
            handlers.append((evt.EVT_C_STORE, _log_ignored))
        return serve(options, LOGGER, contexts, handlers, hints, lambda request: DiscardSink())
    folder = os.path.abspath(options.output_directory)
    try:
        os.makedirs(folder, exist_ok=True)
    except OSError as error:
        LOGGER.error("Cannot make the folder %s: %s", escaped(folder), error.strerror)
        return 1
    if not os.access(folder, os.W_OK | os.X_OK):
        LOGGER.error("Cannot write into the folder %s", escaped(folder))
        return 1
    if wants_news:
        handlers.append((evt.EVT_C_STORE, _log_stored))
    LOGGER.info("Files go to %s", escaped(folder))
    return serve(options, LOGGER, contexts, handlers, hints, _Namer(folder))


class _Namer:
    """Says where the file of a C-STORE request goes."""

    def __init__(self, folder: str) -> None:
        self._folder = os.path.join(folder, "")
        self._warns = LOGGER.isEnabledFor(logging.WARNING)

    def __call__(self, request: Any) -> str:
        name = file_name(request.AffectedSOPClassUID, request.AffectedSOPInstanceUID)
        path = self._folder + name
        if self._warns and os.path.exists(path):
            LOGGER.warning("DICOM file already exists, overwriting: %s", name)
        return path


def _log_ignored(event: evt.Event) -> int:
    LOGGER.info("Received Store Request: %s, not kept", _about(event))
    return 0x0000


def _log_stored(event: evt.Event) -> int:
    size = event.payload.size if event.payload is not None else 0
    LOGGER.info("Received Store Request: %s, %d bytes", _about(event), size)
    return 0x0000


def _about(event: evt.Event) -> str:
    request = event.request
    name = file_name(request.AffectedSOPClassUID, request.AffectedSOPInstanceUID)
    title = event.assoc.requestor.ae_title
    return f"MsgID {event.message_id}, {name}, from {escaped(title)}"
