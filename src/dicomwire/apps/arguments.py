"""The arguments that several applications share, and the checks of their values.

The arguments of a single application are in its own module.
"""

from __future__ import annotations

import argparse
import math
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Sequence
from typing import NoReturn

from dicomwire import __version__
from dicomwire.apps.console import USAGE
from dicomwire.apps.identity import add_user_options, add_users_option
from dicomwire.apps.security import Role, add_tls_options
from dicomwire.registry.tables import ALL_TRANSFER_SYNTAXES
from dicomwire.registry.uids import (
    DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
    EXPLICIT_VR_BIG_ENDIAN,
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
)
from dicomwire.settings import Settings
from dicomwire.utils import set_title

LEVELS = ("critical", "error", "warn", "info", "debug")
_LONGEST_PDU = 2**32 - 1
_REQUESTED = [
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
    DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
    EXPLICIT_VR_BIG_ENDIAN,
]


EXIT_CODES = """\
exit codes: 0 if everything was done, 1 if anything failed, 2 for wrong arguments, 3 if there was no
association, 130 after Ctrl-C. With --lenient 0 if there was an association, and 1 if not."""
"""The exit codes of the applications that request associations; docs/reference/exit_codes.md."""


# --- Values -----------------------------------------------------------------------------------


def ae_title(text: str) -> str:
    """Return an AE title, as PS3.5 Section 6.2 allows it."""
    try:
        return set_title(text, "AE title")
    except ValueError as error:
        raise ArgumentTypeError(str(error)) from None


def port_number(text: str) -> int:
    """Return the port number of a peer."""
    return _number(text, "a port number", 1, 65535)


def listening_port(text: str) -> int:
    """Return a port number to listen on; with 0 the system chooses a free port."""
    return _number(text, "a port number", 0, 65535)


def pdu_length(text: str) -> int:
    """Return a maximum length of PDUs in bytes; 0 means unlimited (PS3.8 Annex D.1)."""
    return _number(text, "a length in bytes", 0, _LONGEST_PDU)


def count(text: str) -> int:
    """Return a number, at least 1."""
    return _number(text, "a number", 1, _LONGEST_PDU)


def window(text: str) -> int:
    """Return a number of outstanding operations (PS3.7 Annex D.3.3.3)."""
    return _number(text, "a number", 1, 65535)


def seconds(text: str) -> float | None:
    """Return a timeout in seconds; for "inf" it is None, with which the library waits forever."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not value >= 0:
        raise ArgumentTypeError(f"{text!r} is not a number of seconds")
    return None if math.isinf(value) else value


def _number(text: str, what: str, least: int, most: int) -> int:
    try:
        value = int(text)
    except ValueError:
        value = -1
    if not least <= value <= most:
        raise ArgumentTypeError(f"{text!r} is not {what} ({least} to {most})")
    return value


# --- Parsers ----------------------------------------------------------------------------------


class Parser(ArgumentParser):
    """Reports wrong arguments in one line, which names the option that was probably meant."""

    def error(self, message: str) -> NoReturn:
        """Print the line on standard error, and exit with 2."""
        self.exit(USAGE, f"{self.prog}: {self._explained(message)}; see {self.prog} --help\n")

    def _explained(self, message: str) -> str:
        """Return the message of argparse, in other words if an argument is unknown."""
        _, is_unknown, arguments = message.partition("unrecognized arguments: ")
        if not is_unknown:
            return message
        option = next((each for each in arguments.split() if each.startswith("-")), None)
        if option is None:
            return f"too many arguments: {arguments}"
        from difflib import get_close_matches

        option = option.partition("=")[0]
        known = [name for action in self._actions for name in action.option_strings]
        meant = get_close_matches(option, known, n=1)
        advice = f" (did you mean {meant[0]}?)" if meant else ""
        return f"there is no option {option}{advice}"


def new_parser(app: str, description: str, notes: str, examples: Sequence[str]) -> ArgumentParser:
    """Return the parser of an application, with the options ``--help`` and ``--version``.

    Add the groups of options in the order in which the help shall list them: those of the
    application itself, and then `add_peer`, `add_server` or `add_logging`.

    Parameters
    ----------
    notes : str
        The help has these after the options.
    examples : sequence of str
        Command lines without ``dicomwire``, which end the help.
    """
    lines = "".join(f"\n  dicomwire {example}" for example in examples)
    parser = Parser(
        prog=f"dicomwire {app}",
        description=description,
        epilog=f"{notes}\n\nexamples:{lines}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"dicomwire {__version__}")
    return parser


def add_logging(
    parser: ArgumentParser,
    *,
    verbose: bool = False,
    levels: Sequence[str] = LEVELS,
    by_default: str = "",
) -> None:
    """Add the options for the log.

    Parameters
    ----------
    verbose : bool
        Whether the level is INFO by default.
    levels : sequence of str
        The values of ``--log-level``.
    by_default : str
        The default level in words, if it depends on other arguments.
    """
    by_default = by_default or ("info" if verbose else "error")
    group = parser.add_argument_group("log, on standard error")
    one = group.add_mutually_exclusive_group()
    one.add_argument("-q", "--quiet", action="store_true", help="log nothing, not even errors")
    one.add_argument("-v", "--verbose", action="store_true", help="log each step (level info)")
    one.add_argument("-d", "--debug", action="store_true", help="log PDUs and messages, too")
    group.add_argument(
        "-ll",
        "--log-level",
        choices=levels,
        help=f"log this level and those above it (default: {by_default})",
    )
    group.add_argument(
        "--log-file",
        metavar="FILE",
        help="log to this file, too, with times, and with -q at level info; at 10 MB it becomes "
        "FILE.1, and 5 older ones are kept",
    )
    group.add_argument(
        "--log-json", action="store_true", help="log a JSON object for each line, with its values"
    )
    parser.set_defaults(verbose=verbose, log_times=False)


def add_peer(
    parser: ArgumentParser,
    title: str,
    role: Role = "client",
    *,
    verbose: bool = False,
    levels: Sequence[str] = LEVELS,
) -> None:
    """Add the peer's address, and the options for the association, the log, the user and TLS.

    Parameters
    ----------
    title : str
        The default of the calling AE title.
    role : str
        The end that uses the options for TLS; see `add_tls_options`.
    verbose, levels
        See `add_logging`.
    """
    parser.add_argument("addr", help="host name or address of the peer")
    parser.add_argument("port", type=port_number, help="port of the peer")
    group = _network_group(parser)
    _add_title(group, "-aet", "--calling-aet", title, "my AE title")
    _add_title(group, "-aec", "--called-aet", "ANY-SCP", "the AE title of the peer")
    _add_timeout(group, "-tc", "--connection-timeout", "the TCP connection")
    _add_limits(group)
    add_logging(parser, verbose=verbose, levels=levels)
    add_user_options(parser)
    add_tls_options(parser, role)


def add_server(parser: ArgumentParser, title: str, *, verbose: bool = True) -> None:
    """Add the port, and the options for associations, processes, the log, users and TLS.

    Parameters
    ----------
    title : str
        The default of the AE title.
    verbose : bool
        Whether the level of the log is INFO by default, with the time in each line.
    """
    parser.add_argument(
        "port", type=listening_port, help="port to listen on; with 0 the system chooses one"
    )
    group = _network_group(parser)
    _add_title(group, "-aet", "--ae-title", title, "my AE title")
    _add_limits(group)
    group.add_argument(
        "-ba",
        "--bind-address",
        metavar="ADDRESS",
        default="",
        help="address of the network interface to listen on (default: all interfaces)",
    )
    group.add_argument(
        "--max-associations",
        metavar="N",
        type=count,
        default=Settings().maximum_associations,
        help="serve at most n associations at a time (default: %(default)s)",
    )
    group.add_argument(
        "--window",
        metavar="N",
        type=window,
        default=Settings().operations_window,
        help="let a peer that asks for it have n operations outstanding (default: %(default)s)",
    )
    add_logging(parser, verbose=verbose)
    parser.set_defaults(log_times=verbose)
    add_users_option(parser)
    add_tls_options(parser, "server")


def _network_group(parser: ArgumentParser) -> argparse._ArgumentGroup:
    return parser.add_argument_group("network")


def _add_title(
    group: argparse._ArgumentGroup, short: str, long: str, default: str, meaning: str
) -> None:
    group.add_argument(
        short,
        long,
        metavar="TITLE",
        type=ae_title,
        default=default,
        help=f"{meaning} (default: %(default)s)",
    )


def _add_limits(group: argparse._ArgumentGroup) -> None:
    for short, long, awaited in (
        ("-ta", "--acse-timeout", "the answer to an association or release request"),
        ("-td", "--dimse-timeout", "each DIMSE message"),
        ("-tn", "--network-timeout", "data on an idle association"),
    ):
        _add_timeout(group, short, long, awaited)
    group.add_argument(
        "-pdu",
        "--max-pdu",
        metavar="N",
        type=pdu_length,
        default=16382,
        help="receive PDUs of up to n bytes (default: 16382, unlimited: 0)",
    )


def _add_timeout(group: argparse._ArgumentGroup, short: str, long: str, awaited: str) -> None:
    group.add_argument(
        short,
        long,
        metavar="S",
        type=seconds,
        default=30.0,
        help=f"seconds to wait for {awaited} (default: 30, forever: inf)",
    )


def add_exit_code(group: argparse._ArgumentGroup) -> None:
    """Add the options for the exit code; see `requesting.exit_code`."""
    group.add_argument(
        "--lenient",
        action="store_true",
        help="exit with 0 if the association was established, even if something failed then",
    )
    group.add_argument(
        "--strict",
        dest="lenient",
        action="store_false",
        default=False,
        help="exit with 1 if anything failed (default)",
    )


def add_requested_syntax(parser: ArgumentParser) -> None:
    """Add the options for the transfer syntax to propose: `request_syntax`, None without them."""
    group = parser.add_argument_group("transfer syntax").add_mutually_exclusive_group()
    for short, long, syntax, name in (
        ("-xe", "--request-little", EXPLICIT_VR_LITTLE_ENDIAN, "Explicit VR Little Endian"),
        ("-xb", "--request-big", EXPLICIT_VR_BIG_ENDIAN, "Explicit VR Big Endian"),
        ("-xi", "--request-implicit", IMPLICIT_VR_LITTLE_ENDIAN, "Implicit VR Little Endian"),
    ):
        group.add_argument(
            short,
            long,
            dest="request_syntax",
            action="store_const",
            const=syntax,
            help=f"propose {name} only",
        )


def requested_syntaxes(options: Namespace) -> list[str]:
    """Return the transfer syntaxes to propose for messages without compressed data."""
    return _REQUESTED if options.request_syntax is None else [options.request_syntax]


def add_supported_syntax(parser: ArgumentParser) -> None:
    """Add the options for the transfer syntaxes to accept; see `supported_syntaxes`."""
    group = parser.add_argument_group("transfer syntax").add_mutually_exclusive_group()
    for short, long, meaning in (
        ("-x=", "--prefer-uncompr", "prefer explicit VR to Implicit VR Little Endian"),
        ("-xe", "--prefer-little", "prefer Explicit VR Little Endian"),
        ("-xb", "--prefer-big", "prefer Explicit VR Big Endian"),
        ("-xi", "--implicit", "accept Implicit VR Little Endian only"),
    ):
        group.add_argument(short, long, action="store_true", help=meaning)


def supported_syntaxes(options: Namespace) -> list[str]:
    """Return the transfer syntaxes to accept, in the order of preference."""
    if options.implicit:
        return [IMPLICIT_VR_LITTLE_ENDIAN]
    syntaxes = list(ALL_TRANSFER_SYNTAXES)
    if options.prefer_uncompr:
        syntaxes.remove(IMPLICIT_VR_LITTLE_ENDIAN)
        return [*syntaxes, IMPLICIT_VR_LITTLE_ENDIAN]
    preferred = EXPLICIT_VR_LITTLE_ENDIAN if options.prefer_little else None
    preferred = EXPLICIT_VR_BIG_ENDIAN if options.prefer_big else preferred
    if preferred is None:
        return syntaxes
    syntaxes.remove(preferred)
    return [preferred, *syntaxes]
