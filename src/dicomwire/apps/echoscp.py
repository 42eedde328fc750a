"""echoscp: answers C-ECHO requests (PS3.4 Annex A).

The server is started and stopped in `serving`.
"""

from __future__ import annotations

import logging
from argparse import ArgumentParser, Namespace

from dicomwire.apps.arguments import (
    add_server,
    add_supported_syntax,
    new_parser,
    supported_syntaxes,
)
from dicomwire.apps.console import Console, run
from dicomwire.apps.serving import add_workers, serve, supporting
from dicomwire.plain import listed_contexts

LOGGER = logging.getLogger("dicomwire.echoscp")

_EXIT_CODES = "exit codes: 0 after Ctrl-C, 1 if it cannot listen on the port, 2 for wrong arguments"
_EXAMPLES = ("echoscp 11112", "echoscp 11112 -ba 127.0.0.1 -aet ECHOSCP")


def _parser(verbose: bool) -> ArgumentParser:
    parser = new_parser("echoscp", "Answer C-ECHO requests until Ctrl-C.", _EXIT_CODES, _EXAMPLES)
    add_supported_syntax(parser)
    add_workers(parser)
    add_server(parser, "ECHOSCP", verbose=verbose)
    return parser


def main(args: list[str] | None = None, verbose: bool = True) -> int:
    """Run echoscp and return its exit code; see ``dicomwire echoscp --help``.

    `verbose` says whether it logs at INFO without -v.
    """
    return run(_parser(verbose).parse_args(args), _serve)


def _serve(options: Namespace, console: Console) -> int:
    return serve(
        options,
        LOGGER,
        supporting(listed_contexts("Verification"), supported_syntaxes(options)),
        [],
        ["Try it with: {dicomwire} echoscu {address} {port}"],
    )
