"""echoscp: answers C-ECHO requests (PS3.4 Annex A).

How it listens and when it ends is in `serving`.
"""

from __future__ import annotations

import logging
from argparse import ArgumentParser, Namespace

from dicomwire import VerificationPresentationContexts, evt
from dicomwire.apps.arguments import (
    add_server,
    add_supported_syntax,
    new_parser,
    supported_syntaxes,
)
from dicomwire.apps.console import Console, run
from dicomwire.apps.serving import add_workers, log_echo, serve, supporting

LOGGER = logging.getLogger("dicomwire.echoscp")

_EXIT_CODES = "exit codes: 0 after Ctrl-C, 1 if the port cannot be had, 2 for wrong arguments"


def _parser() -> ArgumentParser:
    parser = new_parser("echoscp", "Answer C-ECHO requests until Ctrl-C.", _EXIT_CODES)
    add_server(parser, "ECHOSCP")
    add_supported_syntax(parser)
    add_workers(parser)
    return parser


def main(args: list[str] | None = None) -> int:
    """Run echoscp and return its exit code; see ``dicomwire echoscp --help``."""
    return run(_parser().parse_args(args), _serve)


def _serve(options: Namespace, console: Console) -> int:
    return serve(
        options,
        LOGGER,
        supporting(VerificationPresentationContexts, supported_syntaxes(options)),
        [(evt.EVT_C_ECHO, log_echo, [LOGGER])],
        ["Try it with: dicomwire echoscu {address} {port}"],
    )
