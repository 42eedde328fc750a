"""storescp: receives objects by C-STORE, and writes each into a DICOM file (PS3.4 Annex B).

The files are written in `receiving`; the server is started and stopped in `serving`.
"""

from __future__ import annotations

import logging
import os
import threading
from argparse import ArgumentParser, Namespace
from collections import Counter

from dicomwire import events as evt
from dicomwire.apps.arguments import (
    add_server,
    add_supported_syntax,
    new_parser,
    supported_syntaxes,
)
from dicomwire.apps.commands import Command, Runner, filled, harmless, needs
from dicomwire.apps.console import Console, Misuse, run
from dicomwire.apps.files import safe_uid
from dicomwire.apps.receiving import NAMES, Receiver, add_output
from dicomwire.apps.serving import add_workers, serve, supporting
from dicomwire.plain import listed_contexts

LOGGER = logging.getLogger("dicomwire.storescp")

_LEVELS = ("patient", "study", "series")
_PEER = ("calling", "called", "address")
_OF_OBJECT = ("path", "folder", "study", "instance", *_PEER)
_OF_ASSOCIATION = ("folder", "count", *_PEER)

_EPILOG = f"""\
{NAMES}

With --sort, files go into folders: PATIENT, PATIENT/STUDY or PATIENT/STUDY/SERIES. The names are
the Patient ID, with %XX for characters other than letters, digits, "_" and "-", and the UIDs; or
"unknown", if the object has none.

--exec runs a command for each object, when its file is complete, and --exec-end one for each
association that stored objects. No shell is used: the command is split into words once, and a
value stays within its word. {{path}} is absolute, {{folder}} is that of -od, and {{study}} and
{{instance}} are UIDs. In titles, characters other than letters, digits and "_.:-" become "_".
Up to 4 commands run at a time, for up to 10 minutes each. If one fails, that is logged and no
more: the object was acknowledged, and stays.

exit codes: 0 after Ctrl-C, 1 if it cannot listen on the port or write into the folder, 2 for wrong
arguments"""
_EXAMPLES = (
    "storescp 11112 -od received",
    "storescp 11112 -od received --sort series",
    "storescp 11112 -od received --exec 'python look.py {{path}} --from {{calling}}'",
    "storescp 11112 --ignore --workers 4",
)


def _parser(verbose: bool) -> ArgumentParser:
    parser = new_parser(
        "storescp",
        "Receive DICOM files (C-STORE) until Ctrl-C.",
        _EPILOG.replace("{{", "{").replace("}}", "}"),
        [example.replace("{{", "{").replace("}}", "}") for example in _EXAMPLES],
    )
    group = add_output(parser)
    group.add_argument(
        "--sort",
        metavar="LEVEL",
        choices=_LEVELS,
        help="sort files into folders by patient; by patient and study; or by patient, study and "
        f"series ({', '.join(_LEVELS)})",
    )
    group.add_argument(
        "--exec",
        metavar="COMMAND",
        type=Command(_OF_OBJECT),
        help="run this command for each object; placeholders: "
        + " ".join(f"{{{name}}}" for name in _OF_OBJECT),
    )
    group.add_argument(
        "--exec-end",
        metavar="COMMAND",
        type=Command(_OF_ASSOCIATION),
        help="run this command at the end of each association that stored objects; placeholders: "
        + " ".join(f"{{{name}}}" for name in _OF_ASSOCIATION),
    )
    group.add_argument("--no-echo", action="store_true", help="do not answer C-ECHO requests")
    add_supported_syntax(parser)
    add_workers(parser)
    add_server(parser, "STORESCP", verbose=verbose)
    return parser


def main(args: list[str] | None = None, verbose: bool = True) -> int:
    """Run storescp and return its exit code; see ``dicomwire storescp --help``.

    `verbose` says whether it logs at INFO without -v.
    """
    return run(_parser(verbose).parse_args(args), _serve)


def _serve(options: Namespace, console: Console) -> int:
    syntaxes = supported_syntaxes(options)
    contexts = supporting(
        [*listed_contexts("AllStorage"), *listed_contexts("Storage")],  # also the retired ones
        syntaxes,
    )
    if not options.no_echo:
        contexts += supporting(listed_contexts("Verification"), syntaxes)
    hints = [
        "Send to it with: {dicomwire} storescu {address} {port} FILES",
        "or with DCMTK:   storescu {address} {port} FILES",
    ]
    handlers: list[evt.EventHandlerType] = []
    depth = 0 if options.sort is None else _LEVELS.index(options.sort) + 1
    is_watched = depth or options.exec or options.exec_end
    if options.ignore and is_watched:
        raise Misuse("--sort, --exec and --exec-end need the objects: leave out --ignore")
    commands = _Commands(options)
    receiver = Receiver(options, LOGGER, depth, commands.stored)
    if is_watched:
        handlers += [*receiver.handlers, *commands.handlers]
    try:
        return serve(options, LOGGER, contexts, handlers, hints, receiver.receive_to)
    finally:
        commands.close()


class _Commands:
    """Runs the commands of --exec and --exec-end."""

    def __init__(self, options: Namespace) -> None:
        self._of_object: list[str] | None = options.exec
        self._of_end: list[str] | None = options.exec_end
        self._folder = os.path.abspath(options.output_directory)
        self._runner = Runner(LOGGER)
        # Guards `_counts`, the objects of each association: several threads serve them.
        self._lock = threading.Lock()
        self._counts: Counter[int] = Counter()
        self.handlers: list[evt.EventHandlerType] = []
        if self._of_end is not None:
            self.handlers += [(evt.EVT_RELEASED, self._ended), (evt.EVT_ABORTED, self._ended)]

    def stored(self, event: evt.Event, path: str) -> None:
        """Run the command for an object."""
        if self._of_end is not None:
            with self._lock:
                self._counts[id(event.assoc)] += 1
        if self._of_object is None:
            return
        study = ""
        if needs(self._of_object, "study"):
            from dicomwire.apps.sorting import identifiers

            study = safe_uid(identifiers(path)[1])
        values = {
            "path": path,
            "folder": self._folder,
            "study": study,
            "instance": safe_uid(str(event.request.AffectedSOPInstanceUID)),
            **_peer(event),
        }
        self._runner.submit(filled(self._of_object, values))

    def _ended(self, event: evt.Event) -> None:
        """Run the command for an association."""
        with self._lock:
            count = self._counts.pop(id(event.assoc), 0)
        if count and self._of_end is not None:
            values = {"folder": self._folder, "count": str(count), **_peer(event)}
            self._runner.submit(filled(self._of_end, values))

    def close(self) -> None:
        """Wait for the commands."""
        self._runner.close()


def _peer(event: evt.Event) -> dict[str, str]:
    requestor = event.assoc.requestor
    return {
        "calling": harmless(requestor.ae_title),
        "called": harmless(event.assoc.acceptor.ae_title),
        "address": requestor.address,
    }
