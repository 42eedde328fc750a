"""node: runs an archive that receives, finds and sends objects; verifies and indexes its files.

Each key of the configuration in `dicomwire.node.configuration` is an option here.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
import time
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Callable, Container, Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from dicomwire.apps.archive import needing_extra, serve
from dicomwire.apps.arguments import add_logging, new_parser
from dicomwire.apps.console import Console, Misuse, Stop, run
from dicomwire.apps.operating import ACTIONS, STATES, explaining_index, run_tasks, show_status
from dicomwire.apps.verbs import VERBS, Verb
from dicomwire.logs import counted, escaped
from dicomwire.node.configuration import (
    KEYS,
    Configuration,
    ConfigurationError,
    ConfigurationKey,
    check_routes,
    destination,
    environment,
    load,
    merged,
    place,
    template,
    toml,
)

LOGGER = logging.getLogger("dicomwire.node")

_EPILOG = """\
An object that the archive acknowledged is on the disk, and the next query finds it. Objects are
kept byte for byte, in files with generated names; "reindex" makes the index again from these.

Peers on this machine may do anything. Other peers may only send objects, until [access] grants them
more. C-MOVE sends only to the configured destinations.

Options override environment variables, and these the file of --config. There, each option is a key
of the same name, in the table that its name begins with: --access-titles is titles in [access]. The
variable is DICOMWIRE_ACCESS__TITLES, with commas between items.

More commands, each with a help of its own:
{}
  node users    Add, list and remove the users of the archive over HTTP.

exit codes: 0 after Ctrl-C, or if check and reindex find no problem; 1 if they find one, if status
finds no node that runs, or if the address, the folder or the configuration cannot be used; 2 for
wrong arguments"""


_EXAMPLES = ("node --folder archive", "node --init node.toml", "node -c node.toml", "node check")


_OF_ARCHIVE = {
    *("folder", "index", "objects", "old_objects", "objects_variables", "objects_timeout"),
    *("acknowledge", "duplicates", "max_object"),
}
"""The keys of the configuration that the help of a verb names; it has the others, too."""


def _parser() -> ArgumentParser:
    parser = new_parser(
        "node",
        "Run an archive that receives, finds and sends objects until Ctrl-C.",
        _EPILOG.format(
            "\n".join(f"  node {name:<9}{verb.meaning}" for name, verb in VERBS.items())
        ),
        _EXAMPLES,
    )
    parser.add_argument(
        "action",
        nargs="?",
        type=_action,
        choices=("serve", *_ACTIONS),
        default="serve",
        help="serve (default); reindex: make the index again from the files; check: verify files "
        "and index; migrate-index: copy the index from SQLite to the database of --index; "
        "move-objects: move older objects to where new ones go, also while it serves; status: "
        "show the nodes, tasks and objects of the index; tasks: list tasks, or change them",
    )
    parser.add_argument(
        "tasks",
        nargs="?",
        choices=ACTIONS,
        help="with tasks: list them (default), retry or drop those that are dead",
    )
    parser.add_argument("--kind", metavar="NAME", help="with tasks: only those of this kind")
    parser.add_argument(
        "--state",
        choices=STATES,
        action="append",
        help="with tasks: only those in this state; may be repeated",
    )
    parser.add_argument(
        "--back", action="store_true", help="with migrate-index: copy it from there to SQLite"
    )
    parser.add_argument(
        "--json",
        action="store_true",
        help="write to standard output, as JSON, where the archive listens or what was found",
    )
    _add_configuration(parser, {key.name for key in KEYS})
    return parser


def _parser_of(name: str, verb: Verb) -> ArgumentParser:
    """Return the parser of a verb, which reads the configuration of the node."""
    parser = new_parser(f"node {name}", verb.meaning, verb.notes, verb.examples)
    verb.add(parser)
    parser.add_argument(
        "--json", action="store_true", help="write what was done to standard output, as JSON"
    )
    _add_configuration(parser, _OF_ARCHIVE)
    return parser


def _add_configuration(parser: ArgumentParser, shown: Container[str]) -> None:
    """Add the options for the configuration and the log; the help lists the keys in `shown`."""
    group = parser.add_argument_group("configuration")
    one = group.add_mutually_exclusive_group()
    one.add_argument("-c", "--config", metavar="FILE", type=Path, help="read this TOML file")
    one.add_argument(
        "--init",
        metavar="FILE",
        help="write a configuration with every key, its default and an explanation into a new "
        "file ('-': to standard output), and end",
    )
    for key in KEYS:
        _add(group, key, key.name in shown)
    group.add_argument(
        "--destination",
        metavar="NAME=HOST:PORT",
        type=_argument(destination),
        action="append",
        help="where C-MOVE may send to (NAME=tls:HOST:PORT over TLS); may be repeated, and takes "
        "the place of all in the file (default: STORESCP=127.0.0.1:11113)",
    )
    add_logging(parser, by_default="info for serve, otherwise error")


def _add(group: argparse._ArgumentGroup, key: ConfigurationKey, is_shown: bool) -> None:
    """Add the option for a key; its value is None if it is not given."""
    meaning = f"{key.meaning[0].lower()}{key.meaning[1:].rstrip('.')}"
    text = f"{meaning}: {key.allowed} (default: {toml(key.default)})".replace("%", "%%")
    if key.is_flag:
        how: dict[str, Any] = {"action": argparse.BooleanOptionalAction}
    elif key.is_list:
        text = f"{text}; may be repeated, '' alone is none"
        how = {"metavar": "TEXT", "action": "extend", "type": _argument(key.read)}
    else:
        how = {"metavar": key.name.upper(), "type": _argument(key.read)}
    shown = text if is_shown else argparse.SUPPRESS
    group.add_argument(key.option, dest=key.option, help=shown, **how)


def _action(text: str) -> str:
    """Return the name of an action; ArgumentTypeError, which lists them, if there is none."""
    others = (*VERBS, "users")
    if text in others:
        raise ArgumentTypeError(f"{text!r} has to come first: dicomwire node {text} ...")
    if text not in ("serve", *_ACTIONS):
        names = ", ".join(("serve", *_ACTIONS, *others))
        raise ArgumentTypeError(f"there is no command {text!r}; there are: {names}")
    return text


def _argument(read: Callable[[str], Any]) -> Callable[[str], Any]:
    """Return `read` as argparse needs it, which shows only the texts of its own exceptions."""

    def read_argument(text: str) -> Any:
        try:
            return read(text)
        except ConfigurationError as error:
            raise ArgumentTypeError(str(error)) from None

    return read_argument


def configuration_of(
    options: Namespace, variables: Mapping[str, str] = os.environ
) -> Configuration:
    """Return the configuration as it is now; Stop if it is invalid."""
    try:
        return _read_configuration(options, variables)
    except ConfigurationError as error:
        raise Stop(str(error)) from None


def _read_configuration(options: Namespace, variables: Mapping[str, str]) -> Configuration:
    """Return the configuration of the file, changed by environment variables, then by options.

    ConfigurationError if it is invalid: a node that reads it again keeps the one it has.
    """
    values: dict[str, Any] = {}
    for key in KEYS:
        value = getattr(options, key.option)
        if value is not None:
            place(values, key, value)
    if options.destination:
        values["destinations"] = dict(options.destination)
    base = load(options.config) if options.config is not None else Configuration()
    configuration = merged(merged(base, environment(variables)), values)
    check_routes(configuration)
    return configuration


def main(args: list[str] | None = None) -> int:
    """Run the node and return its exit code; see ``dicomwire node --help``."""
    args = sys.argv[1:] if args is None else args
    if args[:1] == ["users"]:
        from dicomwire.apps import node_users

        return run(node_users.parser_of_users().parse_args(args[1:]), node_users.act)
    verb = VERBS.get(args[0]) if args else None
    if verb is not None:
        options = _parser_of(args[0], verb).parse_args(args[1:])
        return run(options, partial(_act, verb))
    options = _parser().parse_args(args)
    if options.action == "serve" and options.init is None:
        options.verbose = options.log_times = True  # as servers log, unless -ll says otherwise
    return run(options, _run)


def _act(verb: Verb, options: Namespace, console: Console) -> int:
    if options.init is not None:
        _write_template(options.init)
        return 0
    return verb.act(configuration_of(options), options, console)


def _run(options: Namespace, console: Console) -> int:
    if options.init is not None:
        _write_template(options.init)
        return 0
    if options.action != "tasks" and (options.tasks or options.kind or options.state):
        raise Misuse(f"{options.action} takes no tasks")
    configuration = configuration_of(options)
    act = _ACTIONS.get(options.action)
    if act is not None:
        return act(configuration, options, console)
    reread = partial(_read_configuration, options, os.environ)
    return serve(configuration, options, LOGGER, "--address", reread)


def _without_console(
    act: Callable[[Configuration, Namespace], int],
) -> Callable[[Configuration, Namespace, Console], int]:
    return lambda configuration, options, console: act(configuration, options)


def _reindex(configuration: Configuration, options: Namespace, console: Console) -> int:
    with needing_extra("node"):
        from dicomwire.node.maintenance import reindex
        from dicomwire.node.objects.opening import open_objects

    with explaining_index():
        found = reindex(
            configuration.folder,
            lambda done: console.follow(lambda: counted(done, "file")),
            configuration.duplicates,
            configuration.index,
            open_objects(configuration),
        )
    console.clear()
    if options.json:
        print(json.dumps(asdict(found)))
    else:
        print(
            f"{counted(found.indexed, 'object')} in the index, "
            f"{counted(found.removed, 'superfluous file')} removed, "
            f"{counted(found.unreadable, 'file')} cannot be indexed"
        )
    return 1 if found.unreadable else 0


def _check(configuration: Configuration, options: Namespace, console: Console) -> int:
    with needing_extra("node"):
        from dicomwire.node.maintenance import check
        from dicomwire.node.objects.opening import open_objects

    done = 0

    def follow(number: int) -> None:
        nonlocal done
        done = number
        console.follow(lambda: counted(number, "file"))

    findings = []
    with explaining_index():
        objects = open_objects(configuration)
        for finding in check(configuration.folder, follow, configuration.index, objects):
            about = finding.object
            findings.append(finding._asdict() | {"object": about and about._asdict()})
            if not options.json:
                console.clear()
                print(f"{finding.problem}: {finding.file}: {escaped(finding.text)}")
                if about is not None:
                    patient, name, study, series, instance = map(escaped, about)
                    print(f"  patient {patient} ({name}), study {study}")
                    print(f"  series {series}, instance {instance}", flush=True)
    console.clear()
    if options.json:
        print(json.dumps({"files": done, "findings": findings}))
    else:
        print(f"{counted(done, 'file')}, {len(findings)} with a problem")
    return 1 if findings else 0


def _migrate_index(configuration: Configuration, options: Namespace, console: Console) -> int:
    with needing_extra("node"):
        from dicomwire.node.index.copying import copy_index
        from dicomwire.node.index.opening import open_database
        from dicomwire.node.objects.spool import Spool

    if not configuration.index:
        raise Stop("--index must name the database to copy to, or from")
    folder = configuration.folder
    with explaining_index(), Spool(folder, exclusive=True):
        both = [open_database(index, folder) for index in ("", configuration.index)]
        source, target = reversed(both) if options.back else both
        done = copy_index(
            source, target, lambda number: console.follow(lambda: counted(number, "object"))
        )
    console.clear()
    told = f"Copied {counted(done, 'object')}"
    print(json.dumps({"objects": done}) if options.json else told)
    return 0


def _move_objects(configuration: Configuration, options: Namespace, console: Console) -> int:
    with needing_extra("node"):
        from dicomwire.node.carrying import Moved, move_objects, settle
        from dicomwire.node.index.opening import open_database
        from dicomwire.node.index.writer import Index
        from dicomwire.node.nodes import registered
        from dicomwire.node.objects.opening import folder_of, open_objects
        from dicomwire.node.objects.places import Places
        from dicomwire.node.objects.spool import Spool
        from dicomwire.node.tasks.queue import Queue

    def report(stored: Any, error: OSError) -> None:
        console.clear()
        LOGGER.error("%s cannot be moved: %s", stored.file, escaped(error.strerror or str(error)))

    objects = open_objects(configuration)
    if not isinstance(objects, Places):
        raise Stop("There is only one place of objects: set objects, or old_objects")
    moved = Moved()
    with (
        explaining_index(),
        Spool(folder_of(configuration)) as spool,
        Index(open_database(configuration.index, configuration.folder)) as index,
    ):
        queue = Queue(index, "")
        settle(objects, index, queue, spool)
        for node in registered(index):
            if node.is_alive(time.time()) and node.facts.get("objects") != configuration.objects:
                where = f"{node.ae_title} on {node.host}, port {node.port},"
                raise Stop(f"{where} stores elsewhere: restart it with these keys first")
        for moved in move_objects(objects, index, queue, spool, report):
            seen = counted(moved.seen, "object")
            console.follow(partial(str, f"{seen}, {moved.moved} moved"))
    console.clear()
    if options.json:
        print(json.dumps(asdict(moved)))
    else:
        print(f"{seen}, {moved.moved} moved, {moved.failed} cannot be moved")
    return 1 if moved.failed else 0


_ACTIONS: dict[str, Callable[[Configuration, Namespace, Console], int]] = {
    "reindex": _reindex,
    "check": _check,
    "migrate-index": _migrate_index,
    "move-objects": _move_objects,
    "status": _without_console(show_status),
    "tasks": _without_console(run_tasks),
}
"""The actions other than to serve."""


def _write_template(name: str) -> None:
    if name == "-":
        sys.stdout.write(template())
        return
    try:
        with open(name, "x", encoding="utf-8") as file:
            file.write(template())
    except FileExistsError:
        raise Stop(f"{name} exists already, and is not changed") from None
    except OSError as error:
        raise Stop(f"Cannot write {name}: {error.strerror}") from None
    LOGGER.info("Wrote %s; use it with: dicomwire node -c %s", name, name)
