"""The arguments that several applications take, and the checks of their values.

What an application alone takes is with the application.
"""

from __future__ import annotations

import argparse
import math
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Sequence

from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from dicomwire import ALL_TRANSFER_SYNTAXES, UID, Settings, __version__
from dicomwire.apps.identity import add_user_options, add_users_option
from dicomwire.apps.security import Role, add_tls_options
from dicomwire.utils import set_title

LEVELS = ("critical", "error", "warn", "info", "debug")
_LONGEST_PDU = 2**32 - 1
_REQUESTED = [
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
]


EXIT_CODES = """\
exit codes: 0 if everything was done, 1 if anything failed, 2 for wrong arguments, 3 if there was no
association, 130 after Ctrl-C. With --lenient 0 if there was an association, and 1 if not."""
"""The exit codes of the applications that request associations; docs/reference/exit_codes.md."""


# --- Values -----------------------------------------------------------------------------------


def ae_title(text: str) -> str:
    """Return an AE title (PS3.5 Section 6.2)."""
    try:
        return set_title(text, "AE title")
    except ValueError as error:
        raise ArgumentTypeError(str(error)) from None


def port_number(text: str) -> int:
    """Return the port of a peer."""
    return _number(text, "a port number", 1, 65535)


def listening_port(text: str) -> int:
    """Return a port to listen on; 0 is any free one."""
    return _number(text, "a port number", 0, 65535)


def pdu_length(text: str) -> int:
    """Return a maximum length of PDUs; 0 is unlimited (PS3.8 Annex D.1)."""
    return _number(text, "a length in bytes", 0, _LONGEST_PDU)


def count(text: str) -> int:
    """Return how many, at least one."""
    return _number(text, "a number", 1, _LONGEST_PDU)


def window(text: str) -> int:
    """Return how many operations may be outstanding (PS3.7 Annex D.3.3.3)."""
    return _number(text, "a number", 1, 65535)


def seconds(text: str) -> float | None:
    """Return a timeout; "inf" waits for ever, which is None to the library."""
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


def new_parser(
    app: str,
    description: str,
    epilog: str = "",
    *,
    verbose: bool = False,
    levels: Sequence[str] = LEVELS,
) -> ArgumentParser:
    """Return a parser with the arguments that every application takes.

    Parameters
    ----------
    verbose : bool
        Whether what is done is logged unless something else is asked for.
    levels : sequence of str
        What ``--log-level`` takes.
    """
    parser = ArgumentParser(
        prog=f"dicomwire {app}",
        description=description,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"{app}.py v{__version__}")
    group = parser.add_argument_group("what is logged, on standard error")
    one = group.add_mutually_exclusive_group()
    one.add_argument("-q", "--quiet", action="store_true", help="nothing, not even errors")
    one.add_argument("-v", "--verbose", action="store_true", help="what is done (level info)")
    one.add_argument("-d", "--debug", action="store_true", help="every PDU and message as well")
    group.add_argument(
        "-ll",
        "--log-level",
        choices=levels,
        help=f"this level and those above it (default: {'info' if verbose else 'error'})",
    )
    parser.set_defaults(verbose=verbose)
    return parser


def add_peer(parser: ArgumentParser, title: str, role: Role = "client") -> None:
    """Add what says whom to call, as whom (`title` if not said), how safely and how patiently."""
    parser.add_argument("addr", help="host name or address of the peer")
    parser.add_argument("port", type=port_number, help="port of the peer")
    group = _network_group(parser)
    _add_title(group, "-aet", "--calling-aet", title, "my AE title")
    _add_title(group, "-aec", "--called-aet", "ANY-SCP", "the AE title of the peer")
    _add_timeout(group, "-tc", "--connection-timeout", "the TCP connection")
    _add_limits(group)
    add_tls_options(parser, role)
    add_user_options(parser)


def add_server(parser: ArgumentParser, title: str) -> None:
    """Add what says where to listen, as whom (`title` if not said), how safely, how patiently."""
    parser.add_argument("port", type=listening_port, help="port to listen on, 0 for any free one")
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
    add_tls_options(parser, "server")
    add_users_option(parser)


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
        ("-ta", "--acse-timeout", "an association to be agreed on or released"),
        ("-td", "--dimse-timeout", "a DIMSE message"),
        ("-tn", "--network-timeout", "anything at all on an idle association"),
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
        help=f"seconds to wait for {awaited} (default: 30, for ever: inf)",
    )


def add_exit_code(group: argparse._ArgumentGroup) -> None:
    """Add the choice of what counts as a failure: `lenient`."""
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
    """Add the choice of one transfer syntax to propose: `request_syntax`, None for no choice."""
    group = parser.add_argument_group("transfer syntax").add_mutually_exclusive_group()
    for short, long, syntax in (
        ("-xe", "--request-little", ExplicitVRLittleEndian),
        ("-xb", "--request-big", ExplicitVRBigEndian),
        ("-xi", "--request-implicit", ImplicitVRLittleEndian),
    ):
        group.add_argument(
            short,
            long,
            dest="request_syntax",
            action="store_const",
            const=syntax,
            help=f"propose {syntax.name} only",
        )


def requested_syntaxes(options: Namespace) -> list[UID]:
    """Return what to propose for a SOP class that comes in any uncompressed transfer syntax."""
    return _REQUESTED if options.request_syntax is None else [options.request_syntax]


def add_supported_syntax(parser: ArgumentParser) -> None:
    """Add the choice of the transfer syntaxes to accept; see `supported_syntaxes`."""
    group = parser.add_argument_group("transfer syntax").add_mutually_exclusive_group()
    for short, long, meaning in (
        ("-x=", "--prefer-uncompr", "prefer explicit VR to Implicit VR Little Endian"),
        ("-xe", "--prefer-little", f"prefer {ExplicitVRLittleEndian.name}"),
        ("-xb", "--prefer-big", f"prefer {ExplicitVRBigEndian.name}"),
        ("-xi", "--implicit", f"accept {ImplicitVRLittleEndian.name} only"),
    ):
        group.add_argument(short, long, action="store_true", help=meaning)


def supported_syntaxes(options: Namespace) -> list[UID]:
    """Return what to accept; the first of them that a peer proposes is taken."""
    if options.implicit:
        return [ImplicitVRLittleEndian]
    syntaxes = list(ALL_TRANSFER_SYNTAXES)
    if options.prefer_uncompr:
        syntaxes.remove(ImplicitVRLittleEndian)
        return [*syntaxes, ImplicitVRLittleEndian]
    preferred = ExplicitVRLittleEndian if options.prefer_little else None
    preferred = ExplicitVRBigEndian if options.prefer_big else preferred
    if preferred is None:
        return syntaxes
    syntaxes.remove(preferred)
    return [preferred, *syntaxes]
