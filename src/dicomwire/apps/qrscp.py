"""qrscp: runs the archive with the options and the INI file of pynetdicom's qrscp.

The archive is the package `dicomwire.node`; `archive` starts and stops it.
"""

from __future__ import annotations

import logging
import math
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Mapping
from configparser import ConfigParser, Error
from pathlib import Path
from typing import Any

from dicomwire.apps.archive import clean, serve
from dicomwire.apps.arguments import (
    add_logging,
    ae_title,
    listening_port,
    new_parser,
    pdu_length,
    seconds,
)
from dicomwire.apps.console import Console, Stop, run
from dicomwire.node.configuration import Configuration, ConfigurationError, Right, merged, read

LOGGER = logging.getLogger("dicomwire.qrscp")

_DEFAULTS = {
    "ae_title": "QRSCP",
    "port": "11112",
    "max_pdu": "16382",
    "acse_timeout": "30",
    "dimse_timeout": "30",
    "network_timeout": "30",
    "bind_address": "",
    "instance_location": "instances",
    "database_location": "instances.sqlite",
}
"""The values of [DEFAULT] without a file."""
_DESTINATIONS: dict[str, dict[str, Any]] = {"STORESCP": {"host": "127.0.0.1", "port": 11113}}
_IGNORED = ("log_identifier",)
_OPTIONS = {
    "ae_title": "ae_title",
    "address": "bind_address",
    "port": "port",
    "max_pdu": "max_pdu",
    "acse_timeout": "acse_timeout",
    "dimse_timeout": "dimse_timeout",
    "network_timeout": "network_timeout",
    "folder": "instance_location",
}
"""The option that overrides the file, for each key of the configuration."""

_EPILOG = """\
The INI file has these keys in its section [DEFAULT]: ae_title, port, max_pdu, acse_timeout,
dimse_timeout, network_timeout, bind_address, instance_location, database_location. Every other
section is a destination of C-MOVE: its name is the AE title, its keys are address and port.
Relative paths start at the folder of the file. Without a file there is one destination, STORESCP at
127.0.0.1:11113, and instances go to the folder "instances" of the current one.

Every peer may do anything, so restrict who can reach the port; "dicomwire node" has access rules.

The folder of instances differs from pynetdicom's: files have generated names, and the database is
"index.sqlite" in that folder, with other tables and whatever database_location says. To take over
a folder of pynetdicom, send its files to this archive.

exit codes: 0 after Ctrl-C and for --clean, 1 if the port, the files or the configuration cannot be
used, 2 for wrong arguments"""


_EXAMPLES = ("qrscp -c qrscp.ini -v", "qrscp --port 11112 -ba 127.0.0.1")


def _parser() -> ArgumentParser:
    parser = new_parser(
        "qrscp", "Run an archive that receives, finds and sends objects.", _EPILOG, _EXAMPLES
    )
    parser.set_defaults(json=False)
    parser.add_argument("-c", "--config", metavar="FILE", type=Path, help="use this INI file")
    network = parser.add_argument_group("network, overrides the file")
    for short, long, kind, metavar, meaning in (
        ("", "--port", listening_port, "PORT", "port to listen on; with 0 the system chooses one"),
        ("-aet", "--ae-title", ae_title, "TITLE", "my AE title"),
        ("-ta", "--acse-timeout", _seconds, "S", "seconds to wait for ACSE messages"),
        ("-td", "--dimse-timeout", _seconds, "S", "seconds to wait for DIMSE messages"),
        ("-tn", "--network-timeout", _seconds, "S", "seconds to wait for the network"),
        ("-pdu", "--max-pdu", pdu_length, "N", "receive PDUs of up to n bytes, unlimited: 0"),
        ("-ba", "--bind-address", str, "ADDRESS", "address to listen on, '' for all interfaces"),
    ):
        names = [name for name in (short, long) if name]
        network.add_argument(*names, type=kind, metavar=metavar, help=meaning)
    database = parser.add_argument_group("database, overrides the file")
    database.add_argument(
        "--database-location",
        metavar="FILE",
        help="has no effect: the database is in the folder of instances",
    )
    database.add_argument("--instance-location", metavar="FOLDER", help="the folder of instances")
    database.add_argument(
        "--clean",
        action="store_true",
        help="remove all instances from the database and the folder, and exit",
    )
    add_logging(parser)
    return parser


def _seconds(text: str) -> float:
    value = seconds(text)
    if value == 0:
        raise ArgumentTypeError(f"{text!r} is not a number of seconds above 0")
    return math.inf if value is None else value


def main(args: list[str] | None = None) -> int:
    """Run qrscp and return its exit code; see ``dicomwire qrscp --help``."""
    return run(_parser().parse_args(args), _serve)


def _serve(options: Namespace, console: Console) -> int:
    configuration = configuration_of(options)
    if options.clean:
        return clean(configuration, LOGGER)
    if configuration.address in ("", "0.0.0.0", "::"):
        LOGGER.warning("Listening on all interfaces (-ba), where every peer may do anything")
    return serve(configuration, options, LOGGER, "-ba")


def configuration_of(options: Namespace) -> Configuration:
    """Return the configuration of the file, with the values of the options instead of its own."""
    file: Path | None = options.config
    values, destinations = _DEFAULTS, _DESTINATIONS
    if file is not None:
        values, destinations = _read(file)
    where = f"{file}: [DEFAULT]"
    folder = file.parent if file is not None else Path()
    told: dict[str, Any] = {
        "ae_title": values["ae_title"],
        "address": values["bind_address"],
        "port": _number(values, "port", where),
        "max_pdu": _number(values, "max_pdu", where),
        "folder": str(folder / values["instance_location"]),
        # Every peer may do anything, as with pynetdicom's qrscp.
        "access": {"networks": [], "strangers": [str(right) for right in Right]},
        "destinations": destinations,
    }
    for name in ("acse_timeout", "dimse_timeout", "network_timeout"):
        told[name] = _wait(values, name, where)
    for name, option in _OPTIONS.items():
        if getattr(options, option) is not None:
            told[name] = getattr(options, option)
    try:
        return merged(Configuration(), told, f"{file}: " if file is not None else "")
    except ConfigurationError as error:
        raise Stop(str(error)) from None


def _read(file: Path) -> tuple[dict[str, str], dict[str, dict[str, Any]]]:
    """Return the [DEFAULT] section of an INI file, and its destinations."""
    # ConfigParser would copy [DEFAULT] into every section, so it must not know that name.
    parser = ConfigParser(interpolation=None, default_section="\0")
    try:
        parser.read_string(read(file), str(file))
    except ConfigurationError as error:
        raise Stop(str(error)) from None
    except Error as error:
        raise Stop(f"{file}: {error}") from None
    sections = {name: dict(parser.items(name)) for name in parser.sections()}
    own = sections.pop("DEFAULT", {})
    _check_keys(own, [*_DEFAULTS, *_IGNORED], f"{file}: [DEFAULT]")
    destinations = {}
    for title, section in sections.items():
        where = f"{file}: [{title}]"
        _check_keys(section, ["address", "port"], where)
        destinations[title] = {
            **({"host": section["address"]} if "address" in section else {}),
            **({"port": _number(section, "port", where)} if "port" in section else {}),
        }
    return {**_DEFAULTS, **own}, destinations


def _check_keys(section: Mapping[str, str], known: list[str], where: str) -> None:
    for name in section:
        if name not in known:
            raise Stop(f"{where} has no {name!r}, but {', '.join(known)}")


def _number(section: Mapping[str, str], name: str, where: str) -> int:
    try:
        return int(section[name])
    except ValueError:
        raise Stop(f"{where} {name} is a number, not {section[name]!r}") from None


def _wait(section: Mapping[str, str], name: str, where: str) -> float:
    try:
        return _seconds(section[name])
    except ArgumentTypeError as error:
        raise Stop(f"{where} {name}: {error}") from None
