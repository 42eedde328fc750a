"""users: prints a line for a file of users, which the option --users of servers reads.

Lines are read and passcodes are checked in `identity`.
"""

from __future__ import annotations

import getpass
import sys
from argparse import ArgumentParser, Namespace

from dicomwire.apps.arguments import add_logging, new_parser
from dicomwire.apps.console import Console, Stop, run
from dicomwire.apps.identity import user_line

_EPILOG = """\
users asks for the passcode on a terminal, and otherwise reads it from standard input. The line goes
to standard output. The passcode cannot be computed from it.

exit codes: 0, 1 if the name or the passcode cannot be used, 2 for wrong arguments"""
_EXAMPLES = ("users jane >> users.txt", "storescp 11112 --users users.txt")


def _parser() -> ArgumentParser:
    parser = new_parser("users", "Print a line for a file of users.", _EPILOG, _EXAMPLES)
    parser.add_argument("name", help="name of the user")
    add_logging(parser)
    return parser


def main(args: list[str] | None = None) -> int:
    """Run users and return its exit code; see ``dicomwire users --help``."""
    return run(_parser().parse_args(args), _add)


def _add(options: Namespace, console: Console) -> int:
    name = options.name
    if not name.isprintable() or name.startswith("#") or name != name.strip():
        raise Stop(
            "A name cannot have control characters, begin with #, or have spaces at its ends"
        )
    if sys.stdin.isatty():
        passcode = getpass.getpass("Passcode: ")
        if getpass.getpass("Again: ") != passcode:
            raise Stop("The two passcodes differ")
    else:
        passcode = sys.stdin.readline().rstrip("\r\n")
    if not passcode:
        raise Stop("The passcode is empty")
    print(user_line(name, passcode))
    return 0
