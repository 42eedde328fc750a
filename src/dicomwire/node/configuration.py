"""The configuration of a node: every key with its default, its allowed values and an explanation.

The fields of the dataclasses are the one list of keys; the TOML file, its commented template, the
options of the command line and the documentation are made from it.
"""

from __future__ import annotations

import contextlib
import json
import math
import tomllib
from argparse import ArgumentTypeError
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from enum import Enum, StrEnum
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Annotated, Any, NamedTuple, get_args, get_origin, get_type_hints

from dicomwire.tls import Profile
from dicomwire.utils import set_title

Network = IPv4Network | IPv6Network
_LONGEST_GRACE = 3600
"""In seconds; an hour is far more than any association needs to end."""
_LONGEST_FILE = 1 << 20
"""In bytes; thousands of peers and destinations need less."""


class ConfigurationError(ValueError):
    """An invalid configuration; the text names the file, the key and the allowed values."""


class Right(StrEnum):
    """A service that a peer may use."""

    ECHO = "echo"
    STORE = "store"
    QUERY = "query"
    RETRIEVE = "retrieve"


class Duplicates(StrEnum):
    """What to do with different data that has the UID of a stored object."""

    KEEP_FIRST = "keep-first"
    REPLACE = "replace"
    KEEP_BOTH = "keep-both"
    IGNORE = "ignore"


# --- Kinds of values --------------------------------------------------------------------------


class Kind(NamedTuple):
    """The values that a key allows.

    Attributes
    ----------
    allowed : str
        The allowed values in words, for errors and help texts.
    check : callable
        Converts a value from TOML to the one that the configuration holds; raises ValueError or
        TypeError if it is not allowed.
    read : callable
        Converts an argument of the command line to the value as in TOML.
    is_list, is_flag : bool
        Whether the option takes several arguments, or none.
    """

    allowed: str
    check: Callable[[Any], Any]
    read: Callable[[str], Any] = str
    is_list: bool = False
    is_flag: bool = False


def _exactly(kind: type) -> Callable[[Any], Any]:
    def check(value: Any) -> Any:
        if type(value) is not kind:
            raise TypeError
        return value

    return check


_string = _exactly(str)


def _title(value: Any) -> str:
    return set_title(_string(value), "title").strip()


def _whole(least: int, most: int, noun: str) -> Kind:
    def check(value: Any) -> int:
        number: int = _exactly(int)(value)
        if not least <= number <= most:
            raise ValueError
        return number

    return Kind(f"{noun}, {least} to {most}", check, int)


def _timeout(value: Any) -> float:
    if type(value) not in (int, float) or not value > 0:
        raise ValueError
    try:
        return float(value)
    except OverflowError:
        raise ValueError from None


def _grace(value: Any) -> float:
    if type(value) not in (int, float) or not 0 <= value <= _LONGEST_GRACE:
        raise ValueError
    return float(value)


def _text(value: Any) -> str:
    if "\0" in _string(value):
        raise ValueError
    return str(value)


def _filled(value: Any) -> str:
    text = _text(value)
    if not text:
        raise ValueError
    return text


def _folder(value: Any) -> Path:
    try:
        return Path(_filled(value)).expanduser()
    except RuntimeError:  # "~name", and there is no such user
        raise ValueError from None


def _file(value: Any) -> str:
    return str(_folder(value)) if _string(value) else ""


def _one_of(values: type[Enum]) -> Kind:
    allowed = " or ".join(f'"{each.value}"' for each in values)
    return Kind(allowed, lambda value: values(_string(value)))


def _several(kind: Kind, noun: str) -> Kind:
    def check(value: Any) -> tuple[Any, ...]:
        return tuple(map(kind.check, _exactly(list)(value)))

    return Kind(f"a list of {noun}", check, is_list=True)


_TITLE = Kind("an AE title, 1 to 16 ASCII characters", _title)
_PORT = _whole(1, 65535, "a port number")
_FLAG = Kind("true or false", _exactly(bool), is_flag=True)
_GRACE = Kind(f"a number of seconds, 0 to {_LONGEST_GRACE}", _grace, float)
_SECONDS = Kind("a number of seconds above 0, or inf", _timeout, float)
_HOST = Kind("a host name or an address", _filled)
_FILE = Kind('a path, or "" for none', _file)
_ADDRESS = Kind('an address of this machine, or "" for all', _text)
_NETWORK = Kind("a network", lambda value: ip_network(_string(value)))


# --- The keys ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Access:
    """The rights of peers; see `access.Guard`."""

    called_title: Annotated[
        bool, _FLAG, "Reject associations that do not call the node by its AE title."
    ] = False
    titles: Annotated[
        tuple[str, ...],
        _several(_TITLE, "AE titles"),
        "Calling AE titles of known peers; an empty list allows any.",
    ] = ()
    networks: Annotated[
        tuple[Network, ...],
        _several(_NETWORK, 'networks, such as "10.1.0.0/16"'),
        "Networks of known peers; an empty list allows any.",
    ] = (IPv4Network("127.0.0.0/8"), IPv6Network("::1/128"))
    strangers: Annotated[
        tuple[Right, ...],
        _several(_one_of(Right), ", ".join(f'"{each}"' for each in Right)),
        "What peers that are not known may do; with an empty list they may not associate.",
    ] = (Right.ECHO, Right.STORE)


@dataclass(frozen=True, slots=True)
class TLS:
    """How the node speaks TLS (PS3.15 Annex B)."""

    cert: Annotated[
        str, _FILE, "The node's certificate (PEM). If it is set, the node accepts only TLS."
    ] = ""
    key: Annotated[str, _FILE, "The certificate's key, if it is in another file."] = ""
    key_password_file: Annotated[
        str, _FILE, "A file with the key's password in its first line."
    ] = ""
    ca: Annotated[
        str,
        _FILE,
        "Trusted authorities (PEM): peers and TLS destinations need a certificate of one of them.",
    ] = ""
    profile: Annotated[
        Profile, _one_of(Profile), "The TLS profile, which defines versions and cipher suites."
    ] = Profile.BCP195
    no_verify: Annotated[
        bool,
        _FLAG,
        "Do not check certificates of destinations: others could read and change the data sent.",
    ] = False


@dataclass(frozen=True, slots=True)
class Destination:
    """A destination of C-MOVE; the key is its AE title."""

    host: Annotated[str, _HOST, "Host name or address."]
    port: Annotated[int, _PORT, "Port."]
    tls: Annotated[bool, _FLAG, "Whether to use TLS, as configured in [tls]."] = False


STORESCP = Destination("127.0.0.1", 11113)
"""A Storage SCP on this machine, such as that of `dicomwire movescu --store`, or pynetdicom's."""


@dataclass(frozen=True, slots=True)
class Configuration:
    """The configuration of a node. Relative paths count from the current folder."""

    ae_title: Annotated[str, _TITLE, "The AE title of the node."] = "DICOMWIRE"
    address: Annotated[
        str,
        _ADDRESS,
        'The address to listen on; "" is all. If others can reach it, set [access] and [tls].',
    ] = "127.0.0.1"
    port: Annotated[
        int, _whole(0, 65535, "a port number"), "The port to listen on; 0 is any free one."
    ] = 11112
    folder: Annotated[
        Path,
        Kind("a path", _folder),
        "The folder of objects and index, made if needed. A relative path counts from this file.",
    ] = Path("archive")
    duplicates: Annotated[
        Duplicates,
        _one_of(Duplicates),
        "What to do with different data that has the UID of a stored object.",
    ] = Duplicates.KEEP_FIRST
    strict_queries: Annotated[
        bool,
        _FLAG,
        "Require the unique keys of all levels above, unless relational operation is negotiated.",
    ] = False
    max_associations: Annotated[
        int, _whole(1, 100_000, "a number"), "The most associations at a time."
    ] = 64
    max_per_address: Annotated[
        int,
        _whole(0, 100_000, "a number"),
        "The most of them from one address; 0 means three quarters. Raise it for a gateway.",
    ] = 0
    max_per_title: Annotated[
        int,
        _whole(0, 100_000, "a number"),
        "The most of them by one calling AE title; 0 means three quarters.",
    ] = 0
    max_pdu: Annotated[
        int,
        _whole(0, 2**32 - 1, "a length in bytes"),
        "The longest PDU that peers may send; 0 means no limit.",
    ] = 131_072
    max_object: Annotated[
        int,
        _whole(0, 2**63 - 1, "a length in bytes"),
        "The longest object to store; longer ones are refused with 0xA700. 0 means no limit.",
    ] = 16 * 2**30
    acse_timeout: Annotated[
        float, _SECONDS, "Seconds to wait for the negotiation or release of an association."
    ] = 30.0
    dimse_timeout: Annotated[float, _SECONDS, "Seconds to wait for a DIMSE message."] = 60.0
    network_timeout: Annotated[
        float, _SECONDS, "Seconds to wait for data on an idle association."
    ] = 60.0
    stop_timeout: Annotated[
        float, _GRACE, "Seconds that open associations have to end when the node stops."
    ] = 5.0
    access: Access = Access()
    tls: TLS = TLS()
    destinations: Mapping[str, Destination] = field(
        default_factory=lambda: {"STORESCP": STORESCP}, hash=False
    )


class Key(NamedTuple):
    """A key of the configuration, with its table and name in the file."""

    table: str
    name: str
    kind: Kind
    default: Any
    meaning: str

    @property
    def option(self) -> str:
        """The option of the command line that sets this key."""
        return "--" + "-".join(filter(None, (self.table, self.name))).replace("_", "-")


def _keys_of(table: str, owner: type) -> Iterator[Key]:
    hints = get_type_hints(owner, include_extras=True)
    for each in fields(owner):
        if get_origin(hints[each.name]) is Annotated:
            _, kind, meaning = get_args(hints[each.name])
            yield Key(table, each.name, kind, each.default, meaning)


_TABLES: dict[str, type] = {"": Configuration, "access": Access, "tls": TLS}
KEYS = tuple(key for table, owner in _TABLES.items() for key in _keys_of(table, owner))
"""All keys except those of destinations, in the order of the file."""
_BY_NAME = {(key.table, key.name): key for key in KEYS}
DESTINATION_KEYS = {key.name: key for key in _keys_of("destinations", Destination)}
"""The keys of a destination, by name."""


# --- Reading ----------------------------------------------------------------------------------


def read(path: Path) -> str:
    """Return the text of a configuration file; ConfigurationError if it cannot be read."""
    try:
        with path.open("rb") as file:
            data = file.read(_LONGEST_FILE + 1)
        if len(data) > _LONGEST_FILE:
            raise ValueError(f"the file has more than {_LONGEST_FILE} bytes")
        return data.decode()
    except OSError as error:
        raise ConfigurationError(f"{path}: {error.strerror}") from None
    except ValueError as error:  # no UTF-8, or too long
        raise ConfigurationError(f"{path}: {error}") from None


def load(path: Path) -> Configuration:
    """Return the configuration in a file; ConfigurationError if it cannot be read or is invalid."""
    text = read(path)
    try:
        values = tomllib.loads(text)
    except RecursionError:
        raise ConfigurationError(f"{path}: lists or tables are nested too deep") from None
    except ValueError as error:
        raise ConfigurationError(f"{path}: {error}") from None
    return _relative_to(path.parent, merged(Configuration(), values, f"{path}: "))


def _relative_to(folder: Path, configuration: Configuration) -> Configuration:
    """Return `configuration` with its relative paths resolved against `folder`."""

    def found(path: str) -> str:
        return str(folder / path) if path else ""

    tls = configuration.tls
    return replace(
        configuration,
        folder=folder / configuration.folder,
        tls=replace(
            tls,
            cert=found(tls.cert),
            key=found(tls.key),
            key_password_file=found(tls.key_password_file),
            ca=found(tls.ca),
        ),
    )


def merged(base: Configuration, values: Mapping[str, Any], where: str = "") -> Configuration:
    """Return `base` changed by `values`, which is structured like the file.

    If `values` has destinations, they replace all those of `base`.
    """
    changes: dict[str, Any] = {}
    for name, value in values.items():
        if name == "destinations":
            changes[name] = _destinations(_table(value, name, where), where)
        elif name in _TABLES:
            table = _table(value, name, where)
            own = {each: _checked(name, each, table[each], where) for each in table}
            changes[name] = replace(getattr(base, name), **own)
        else:
            changes[name] = _checked("", name, value, where)
    return replace(base, **changes)


def _table(value: Any, name: str, where: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ConfigurationError(f"{where}{name} must be a table: [{name}]")
    return value


def _checked(table: str, name: str, value: Any, where: str) -> Any:
    key = _BY_NAME.get((table, name))
    if key is None:
        raise _unknown(name, table, [each.name for each in KEYS if each.table == table], where)
    return _converted(key.kind, value, where + ".".join(filter(None, (table, name))))


def _converted(kind: Kind, value: Any, name: str) -> Any:
    try:
        return kind.check(value)
    except (TypeError, ValueError):
        text = f"{name} must be {kind.allowed}, not {_shown(value)}"
        raise ConfigurationError(text) from None


def _shown(value: Any) -> str:
    for show in (toml, str):  # str is for a date, or a table in a list
        # Both fail for numbers with too many digits, and for lists that are nested too deep.
        with contextlib.suppress(TypeError, ValueError, RecursionError):
            return show(value)
    return f"this {type(value).__name__}"


def _unknown(name: str, table: str, known: list[str], where: str) -> ConfigurationError:
    within = f"in [{table}]" if table else "in a configuration"
    tables = [] if table else [f"[{each}]" for each in (*filter(None, _TABLES), "destinations")]
    allowed = ", ".join((*known, *tables))
    return ConfigurationError(f"{where}there is no key {name!r} {within}; allowed are {allowed}")


def _destinations(tables: Mapping[str, Any], where: str) -> dict[str, Destination]:
    found = {}
    for title, values in tables.items():
        name = f"destinations.{title}"
        known = _converted(_TITLE, title, f"{where}the name of [{name}]")
        own = {}
        for each, value in _table(values, name, where).items():
            if each not in DESTINATION_KEYS:
                raise _unknown(each, name, [*DESTINATION_KEYS], where)
            own[each] = _converted(DESTINATION_KEYS[each].kind, value, f"{where}{name}.{each}")
        for needed in ("host", "port"):
            if needed not in own:
                raise ConfigurationError(f"{where}{name}.{needed} is missing")
        found[known] = Destination(**own)
    return found


def destination(text: str) -> tuple[str, dict[str, Any]]:
    """Return AE title and values of a destination NAME=HOST:PORT or NAME=tls:HOST:PORT."""
    title, equals, place = text.partition("=")
    over_tls = place.startswith("tls:")
    host, colon, port = place.removeprefix("tls:").rpartition(":")
    if not (title and equals and host and colon and port.isascii() and port.isdigit()):
        raise ArgumentTypeError(f"{text!r} is not NAME=HOST:PORT, or NAME=tls:HOST:PORT")
    values = {"host": host.removeprefix("[").removesuffix("]"), "port": int(port)}
    return title, {**values, "tls": True} if over_tls else values


# --- Writing ----------------------------------------------------------------------------------


def toml(value: Any) -> str:
    """Return a value of a configuration in TOML."""
    if isinstance(value, tuple | list):
        return "[" + ", ".join(map(toml, value)) + "]"
    if isinstance(value, Enum):
        return toml(value.value)
    if isinstance(value, bool | int):
        return json.dumps(value)
    if isinstance(value, float):
        return "inf" if math.isinf(value) else str(value)
    if isinstance(value, str | Path | IPv4Network | IPv6Network):
        return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007F")
    raise TypeError(type(value).__name__)


def template() -> str:
    """Return the text of a file with all keys: meaning, allowed values and default of each."""
    lines = ["# The configuration of a dicomwire node, with the default of every key."]
    for table in _TABLES:
        lines += ["", f"[{table}]"] if table else []
        for key in (each for each in KEYS if each.table == table):
            lines += ["", f"# {key.meaning}", f"# Allowed: {key.kind.allowed}."]
            lines.append(f"{key.name} = {toml(key.default)}")
    lines += ["", "# The destinations of C-MOVE: a table for each AE title."]
    for title, place in Configuration().destinations.items():
        lines.append(f"[destinations.{title}]")
        for key in DESTINATION_KEYS.values():
            lines += [f"# {key.meaning} Allowed: {key.kind.allowed}."]
            lines.append(f"{key.name} = {toml(getattr(place, key.name))}")
    return "\n".join(lines) + "\n"
