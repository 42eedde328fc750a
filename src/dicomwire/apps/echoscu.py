"""echoscu: asks a peer whether it answers (PS3.4 Annex A).

How the association comes about is in `requesting`.
"""

from __future__ import annotations

import logging
from argparse import ArgumentParser, Namespace

from dicomwire import build_context
from dicomwire.apps.arguments import (
    add_peer,
    add_requested_syntax,
    count,
    new_parser,
    requested_syntaxes,
)
from dicomwire.apps.console import Console, run
from dicomwire.apps.requesting import associate, described, message_id
from dicomwire.sop_class import Verification

LOGGER = logging.getLogger("dicomwire.echoscu")

_EXIT_CODES = """\
exit codes: 0 if there was an association, 1 if there was none, 2 for wrong arguments"""


def _parser() -> ArgumentParser:
    parser = new_parser("echoscu", "Ask whether a DICOM peer answers (C-ECHO).", _EXIT_CODES)
    add_peer(parser, "ECHOSCU")
    add_requested_syntax(parser)
    group = parser.add_argument_group("what is sent")
    group.add_argument(
        "--repeat", metavar="N", type=count, default=1, help="send n C-ECHO requests (default: 1)"
    )
    group.add_argument("--abort", action="store_true", help="end with an abort, not a release")
    return parser


def main(args: list[str] | None = None) -> int:
    """Run echoscu and return its exit code; see ``dicomwire echoscu --help``."""
    return run(_parser().parse_args(args), _echo)


def _echo(options: Namespace, console: Console) -> int:
    context = build_context(Verification, list(requested_syntaxes(options)))
    with associate(options, [context], LOGGER) as association:
        if not association.is_established:
            return 1
        for number in range(options.repeat):
            LOGGER.info("Sending Echo Request: MsgID %d", message_id(number))
            status = association.send_c_echo(message_id(number))
            if "Status" not in status:
                LOGGER.error("No response: %s", association.failure)
                break
            LOGGER.info("Received Echo Response (Status: %s)", described(status.Status))
        if options.abort:
            association.abort()
    return 0
