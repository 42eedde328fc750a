"""`node users`: adds and removes the users of an archive over HTTP, with passwords and tokens.

The file is written by `dicomwire.node.users`; `node` runs this for its first argument `users`.
"""

from __future__ import annotations

import argparse
import getpass
import json
import os
import sys
import time
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from dicomwire.apps.archive import needing_extra
from dicomwire.apps.arguments import add_logging, new_parser
from dicomwire.apps.console import Console, Stop
from dicomwire.logs import escaped
from dicomwire.node.configuration import (
    Configuration,
    ConfigurationError,
    environment,
    load,
    merged,
)

if TYPE_CHECKING:
    from dicomwire.node.users import Users

_EPILOG = """\
While there are no users, programs on this machine may do everything over HTTP, and others nothing.
With the first user, everybody has to log in, or to send a token. Changes take effect at once.

Rights: see (find and retrieve), store, send (to other systems), delete, administer (tasks,
destinations, the log), watch (numbers for monitoring). With --studies, it is to the user as if the
archive had only the studies that meet the condition. Conditions with one attribute are
alternatives, those with several must all be met: PatientID=A17, AccessionNumber=X*,
StudyDate=20250101-20251231, ModalitiesInStudy=CT.

A password is asked for on a terminal, and otherwise read from standard input. A token is for
programs, which send "Authorization: Bearer TOKEN"; it is shown once.

exit codes: 0, 1 if the file, the name or the password cannot be used, 2 for wrong arguments"""
_EXAMPLES = (
    "node users add jane --rights see,send",
    "node users add ai --rights see,store --studies ModalitiesInStudy=CT --no-password",
    "node users token ai --days 365",
)
_DAY = 24 * 3600.0


def _rights(text: str) -> tuple[str, ...]:
    from dicomwire.node.users import UserRight

    known = [each.value for each in UserRight]
    if text == "all":
        return tuple(known)
    rights = tuple(dict.fromkeys(text.split(",")))
    unknown = [each for each in rights if each not in known]
    if unknown:
        raise ArgumentTypeError(f"{unknown[0]!r} is not one of {', '.join(known)}, or all")
    return rights


def _days(text: str) -> float:
    if not (text.isascii() and text.isdigit() and 0 < int(text[:9]) <= 3650):
        raise ArgumentTypeError(f"{text!r} is not a number of days, 1 to 3650")
    return int(text) * _DAY


def parser_of_users() -> ArgumentParser:
    """Return the parser of ``dicomwire node users``."""
    parser = new_parser(
        "node users", "Manage the users of an archive over HTTP.", _EPILOG, _EXAMPLES
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("-c", "--config", metavar="FILE", type=Path, help="its configuration")
    shared.add_argument("--folder", metavar="PATH", type=Path, help="the folder of the archive")
    shared.add_argument("--users", metavar="FILE", help="the file of the users")
    add_logging(shared)
    named = argparse.ArgumentParser(add_help=False, parents=[shared])
    named.add_argument("name", help="name of the user")
    add = commands.add_parser(
        "add", parents=[named], help="add a user, or change rights and studies of one"
    )
    add.add_argument(
        "--rights",
        metavar="RIGHTS",
        type=_rights,
        default=("see",),
        help="the rights of the user, with commas between, or all (default: see)",
    )
    add.add_argument(
        "--studies",
        metavar="ATTRIBUTE=VALUE",
        action="append",
        default=[],
        help="only these studies; may be repeated (default: all)",
    )
    add.add_argument(
        "--no-password", action="store_true", help="ask for no password: a new user has tokens only"
    )
    commands.add_parser("password", parents=[named], help="set the password of a user")
    commands.add_parser("remove", parents=[named], help="remove a user and all tokens of it")
    token = commands.add_parser("token", parents=[named], help="make a token, and print it")
    token.add_argument(
        "--days", type=_days, default=90 * _DAY, help="for how long it is valid (default: 90)"
    )
    commands.add_parser("revoke", parents=[named], help="remove all tokens of a user")
    listing = commands.add_parser("list", parents=[shared], help="list all users")
    listing.add_argument("--json", action="store_true", help="write JSON")
    return parser


def act(options: Namespace, console: Console) -> int:
    """Perform the command of the options; return the exit code."""
    with needing_extra("node"):
        from dicomwire.node.users import UsersFailure

    try:
        _change(_users_of(options), options)
    except UsersFailure as error:
        raise Stop(escaped(str(error))) from None
    return 0


def _users_of(options: Namespace) -> Users:
    from dicomwire.node.users import Users, file_of

    try:
        base = load(options.config) if options.config is not None else Configuration()
        told = {"folder": options.folder, "users": options.users}
        values = {name: value for name, value in told.items() if value is not None}
        return Users(file_of(merged(merged(base, environment(os.environ)), values)))
    except ConfigurationError as error:
        raise Stop(str(error)) from None


def _change(users: Users, options: Namespace) -> None:
    from dicomwire.node.users import UserRight

    name = getattr(options, "name", "")
    match options.command:
        case "add":
            password = "" if options.no_password else _password()
            rights = tuple(map(UserRight, options.rights))
            users.add(name, rights, tuple(options.studies), password)
        case "password":
            users.set_password(name, _password())
        case "remove":
            users.remove(name)
        case "token":
            print(users.add_token(name, options.days))
        case "revoke":
            print(f"{users.revoke(name)} tokens were removed")
        case "list":
            _list(users, options)


def _password() -> str:
    if not sys.stdin.isatty():
        password = sys.stdin.readline().rstrip("\r\n")
    else:
        password = getpass.getpass("Password: ")
        if getpass.getpass("Again: ") != password:
            raise Stop("The two passwords differ")
    if not password:
        raise Stop("The password is empty; with --no-password, none is asked for")
    return password


def _list(users: Users, options: Namespace) -> None:
    now = time.time()
    for name, account in users.accounts.items():
        tokens = [each.expires for each in account.tokens if each.expires > now]
        facts = {
            "name": name,
            "rights": [str(each) for each in account.rights],
            "studies": list(account.studies),
            "password": bool(account.password),
            "tokens": [time.strftime("%Y-%m-%d", time.gmtime(each)) for each in tokens],
        }
        if options.json:
            print(json.dumps(facts))
            continue
        rights = ", ".join(account.rights) or "no rights"
        studies = "; ".join(account.studies) or "all studies"
        has = "a password" if account.password else "no password"
        print(f"{escaped(name)}: {rights}; {escaped(studies)}; {has}, {len(tokens)} tokens")
    if not users and not options.json:
        print("no users: programs on this machine may do everything over HTTP, others nothing")
