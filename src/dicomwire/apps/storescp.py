"""storescp: receives objects by C-STORE, and writes each into a DICOM file (PS3.4 Annex B).

The files are written in `receiving`; the server is started and stopped in `serving`.
"""

from __future__ import annotations

import logging
from argparse import ArgumentParser, Namespace

from dicomwire import events as evt
from dicomwire.apps.arguments import (
    add_server,
    add_supported_syntax,
    new_parser,
    supported_syntaxes,
)
from dicomwire.apps.console import Console, run
from dicomwire.apps.receiving import NAMES, Receiver, add_output
from dicomwire.apps.serving import add_workers, log_echo, serve, supporting
from dicomwire.plain import listed_contexts

LOGGER = logging.getLogger("dicomwire.storescp")

_EPILOG = f"""\
{NAMES}

exit codes: 0 after Ctrl-C, 1 if it cannot listen on the port or write into the folder, 2 for wrong
arguments"""
_EXAMPLES = ("storescp 11112 -v -od received", "storescp 11112 --ignore --workers 4")


def _parser() -> ArgumentParser:
    parser = new_parser(
        "storescp", "Receive DICOM files (C-STORE) until Ctrl-C.", _EPILOG, _EXAMPLES
    )
    group = add_output(parser)
    group.add_argument("--no-echo", action="store_true", help="do not answer C-ECHO requests")
    add_supported_syntax(parser)
    add_workers(parser)
    add_server(parser, "STORESCP")
    return parser


def main(args: list[str] | None = None) -> int:
    """Run storescp and return its exit code; see ``dicomwire storescp --help``."""
    return run(_parser().parse_args(args), _serve)


def _serve(options: Namespace, console: Console) -> int:
    syntaxes = supported_syntaxes(options)
    contexts = supporting(
        [*listed_contexts("AllStorage"), *listed_contexts("Storage")],  # also the retired ones
        syntaxes,
    )
    handlers: list[evt.EventHandlerType] = []
    if not options.no_echo:
        contexts += supporting(listed_contexts("Verification"), syntaxes)
        handlers.append((evt.EVT_C_ECHO, log_echo, [LOGGER]))
    hints = [
        "Send to it with: dicomwire storescu {address} {port} FILES",
        "or with DCMTK:   storescu {address} {port} FILES",
    ]
    receiver = Receiver(options, LOGGER)
    if LOGGER.isEnabledFor(logging.INFO):
        handlers += receiver.handlers
    return serve(options, LOGGER, contexts, handlers, hints, receiver.receive_to)
