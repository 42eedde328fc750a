"""users: makes a line of a file of users, for the option --users of applications that serve.

How such lines are read and passcodes checked is in `identity`.
"""

from __future__ import annotations

import getpass
import sys
from argparse import ArgumentParser, Namespace

from dicomwire.apps.arguments import new_parser
from dicomwire.apps.console import Console, Stop, run
from dicomwire.apps.identity import user_line

_EPILOG = """\
The passcode is asked for on a terminal, else read from standard input. It cannot be got back from
the line, which goes to standard output:

  dicomwire users jane >> users.txt
  dicomwire storescp 11112 --users users.txt

exit codes: 0, 1 if the name or the passcode will not do, 2 for wrong arguments"""


def _parser() -> ArgumentParser:
    parser = new_parser("users", "Make a line of a file of users.", _EPILOG)
    parser.add_argument("name", help="name of the user")
    return parser


def main(args: list[str] | None = None) -> int:
    """Run users and return its exit code; see ``dicomwire users --help``."""
    return run(_parser().parse_args(args), _add)


def _add(options: Namespace, console: Console) -> int:
    name = options.name
    if not name.isprintable() or name.startswith("#") or name != name.strip():
        raise Stop("A name has no control characters, no # before it, and no spaces around it")
    if sys.stdin.isatty():
        passcode = getpass.getpass("Passcode: ")
        if getpass.getpass("Again: ") != passcode:
            raise Stop("That was not the same passcode")
    else:
        passcode = sys.stdin.readline().rstrip("\r\n")
    if not passcode:
        raise Stop("There is no passcode")
    print(user_line(name, passcode))
    return 0
