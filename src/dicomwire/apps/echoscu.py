"""echoscu: verifies that a peer answers C-ECHO requests (PS3.4 Annex A).

The association is requested in `requesting`.
"""

from __future__ import annotations

import logging
from argparse import ArgumentParser, Namespace

from dicomwire.apps.arguments import (
    EXIT_CODES,
    add_exit_code,
    add_peer,
    add_requested_syntax,
    count,
    new_parser,
    requested_syntaxes,
)
from dicomwire.apps.console import DONE, FAILED, NO_ASSOCIATION, Console, run
from dicomwire.apps.requesting import (
    associate,
    exit_code,
    explain_no_response,
    message_id,
)
from dicomwire.plain import build_context, send_echo
from dicomwire.registry.tables import Verification
from dicomwire.registry.uids import looked_up
from dicomwire.status import GENERAL_STATUS, described

LOGGER = logging.getLogger("dicomwire.echoscu")


_EXAMPLES = ("echoscu localhost 11112", "echoscu pacs.example.org 104 -aet ME -aec ARCHIVE -v")


def _parser() -> ArgumentParser:
    parser = new_parser(
        "echoscu", "Ask whether a DICOM peer answers (C-ECHO).", EXIT_CODES, _EXAMPLES
    )
    group = parser.add_argument_group("requests")
    group.add_argument(
        "--repeat", metavar="N", type=count, default=1, help="send n C-ECHO requests (default: 1)"
    )
    group.add_argument("--abort", action="store_true", help="abort the association at the end")
    add_requested_syntax(parser)
    add_exit_code(parser.add_argument_group("outcome"))
    add_peer(parser, "ECHOSCU")
    return parser


def main(args: list[str] | None = None) -> int:
    """Run echoscu and return its exit code; see ``dicomwire echoscu --help``."""
    return run(_parser().parse_args(args), _echo)


def _echo(options: Namespace, console: Console) -> int:
    context = build_context(Verification, list(requested_syntaxes(options)))
    with associate(options, [context], LOGGER) as association:
        if not association.is_established:
            if association.rejected_contexts:
                LOGGER.error("The peer does not accept %s", looked_up(Verification).name)
            return exit_code(options, NO_ASSOCIATION)
        code = DONE
        for number in range(options.repeat):
            LOGGER.info("Sending Echo Request: MsgID %d", message_id(number))
            response = send_echo(association, message_id(number))
            if response is None or response.Status is None:
                explain_no_response(association, LOGGER)
                code = FAILED
                break
            level = logging.INFO
            if response.Status != 0x0000:
                code, level = FAILED, logging.ERROR
            if LOGGER.isEnabledFor(level):
                status = described(response.Status, GENERAL_STATUS)
                LOGGER.log(level, "Received Echo Response (Status: %s)", status)
        if options.abort:
            association.abort()
    return exit_code(options, code)
