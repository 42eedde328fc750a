"""What a node is told: every key with its default, what it may be, and a line that explains it.

The TOML file, its commented template and the options of the command line are made from the one list
that the dataclasses are. What a key brings about is not here.
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
_LONGEST_FILE = 1 << 20
"""In bytes; thousands of peers and destinations need less."""


class ConfigurationError(ValueError):
    """A configuration that cannot be used; the text names file, key and what is allowed."""


class Right(StrEnum):
    """What a peer may ask of the node."""

    ECHO = "echo"
    STORE = "store"
    QUERY = "query"
    RETRIEVE = "retrieve"


class Duplicates(StrEnum):
    """What becomes of an object whose UID is there already, with other contents."""

    KEEP_FIRST = "keep-first"
    REPLACE = "replace"
    KEEP_BOTH = "keep-both"
    IGNORE = "ignore"


# --- What values may be -----------------------------------------------------------------------


class Kind(NamedTuple):
    """What the value of a key may be.

    Attributes
    ----------
    allowed : str
        In words, for errors and help texts.
    check : callable
        Returns what the configuration holds for a value from TOML; ValueError, TypeError or
        KeyError if it is not allowed.
    read : callable
        Returns the value in TOML for a text from the command line.
    is_list, is_flag : bool
        Whether it takes several texts there, or none.
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


def _whole(least: int, most: int, what: str) -> Kind:
    def check(value: Any) -> int:
        number: int = _exactly(int)(value)
        if not least <= number <= most:
            raise ValueError
        return number

    return Kind(f"{what}, {least} to {most}", check, int)


def _wait(value: Any) -> float:
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
    except RuntimeError:  # nobody has such a home folder
        raise ValueError from None


def _file(value: Any) -> str:
    return str(_folder(value)) if _string(value) else ""


def _one_of(values: type[Enum]) -> Kind:
    allowed = " or ".join(f'"{each.value}"' for each in values)
    return Kind(allowed, lambda value: values(_string(value)))


def _several(kind: Kind, what: str) -> Kind:
    def check(value: Any) -> tuple[Any, ...]:
        return tuple(map(kind.check, _exactly(list)(value)))

    return Kind(f"a list of {what}", check, is_list=True)


_TITLE = Kind("an AE title, 1 to 16 ASCII characters", _title)
_PORT = _whole(1, 65535, "a port number")
_FLAG = Kind("true or false", _exactly(bool), is_flag=True)
_GRACE = Kind(f"a number of seconds, 0 to {_LONGEST_GRACE}", _grace, float)
_SECONDS = Kind("a number of seconds above 0, or inf", _wait, float)
_HOST = Kind("a host name or an address", _filled)
_FILE = Kind('a path, or "" for none', _file)
_ADDRESS = Kind('an address of this machine, or "" for all', _text)
_NETWORK = Kind("a network", lambda value: ip_network(_string(value)))


# --- The keys ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Access:
    """Who may do what; see `access.Guard`."""

    called_title: Annotated[
        bool, _FLAG, "Reject requests that do not call the node by its AE title."
    ] = False
    titles: Annotated[
        tuple[str, ...],
        _several(_TITLE, "AE titles"),
        "Calling AE titles of known peers; none means any.",
    ] = ()
    networks: Annotated[
        tuple[Network, ...],
        _several(_NETWORK, 'networks, such as "10.1.0.0/16"'),
        "Networks of known peers; none means any.",
    ] = (IPv4Network("127.0.0.0/8"), IPv6Network("::1/128"))
    strangers: Annotated[
        tuple[Right, ...],
        _several(_one_of(Right), ", ".join(f'"{each}"' for each in Right)),
        "What peers that are not known may do; with none they are turned away.",
    ] = (Right.ECHO, Right.STORE)


@dataclass(frozen=True, slots=True)
class TLS:
    """How the node speaks TLS (PS3.15 Annex B)."""

    cert: Annotated[
        str, _FILE, "The node's certificate (PEM); with one it speaks TLS, and nothing else."
    ] = ""
    key: Annotated[str, _FILE, "The certificate's key, if that is in another file."] = ""
    key_password_file: Annotated[
        str, _FILE, "The file that has the key's password as its first line."
    ] = ""
    ca: Annotated[
        str,
        _FILE,
        "Authorities: peers without a certificate of theirs are not let in, nor sent to over TLS.",
    ] = ""
    profile: Annotated[
        Profile, _one_of(Profile), "The profile: which versions and ciphers are used."
    ] = Profile.BCP195
    no_verify: Annotated[
        bool,
        _FLAG,
        "Check no destination's certificate: anybody may read and change what is sent there.",
    ] = False


@dataclass(frozen=True, slots=True)
class Destination:
    """Where C-MOVE may send to; the key is its AE title."""

    host: Annotated[str, _HOST, "Host name or address."]
    port: Annotated[int, _PORT, "Port."]
    tls: Annotated[bool, _FLAG, "Whether over TLS, with what [tls] says."] = False


STORESCP = Destination("127.0.0.1", 11113)
"""A receiver on this machine, such as that of `dicomwire movescu --store` and pynetdicom's."""


@dataclass(frozen=True, slots=True)
class Configuration:
    """All that a node is told. Relative paths count from the current folder."""

    ae_title: Annotated[str, _TITLE, "The AE title of the node."] = "DICOMWIRE"
    address: Annotated[
        str,
        _ADDRESS,
        'The address to listen on; "" is all. Beyond this machine, think of [access] and [tls].',
    ] = "127.0.0.1"
    port: Annotated[
        int, _whole(0, 65535, "a port number"), "The port to listen on; 0 is any free one."
    ] = 11112
    folder: Annotated[
        Path,
        Kind("a path", _folder),
        "The folder of objects and index, made if needed. Relative, it is beside this file.",
    ] = Path("archive")
    duplicates: Annotated[
        Duplicates,
        _one_of(Duplicates),
        "What becomes of an object whose UID is there already, with other contents.",
    ] = Duplicates.KEEP_FIRST
    strict_queries: Annotated[
        bool,
        _FLAG,
        "Refuse what lacks a unique key of a level above, unless relational is negotiated.",
    ] = False
    max_associations: Annotated[
        int, _whole(1, 100_000, "a number"), "How many associations are served at a time."
    ] = 64
    max_per_address: Annotated[
        int,
        _whole(0, 100_000, "a number"),
        "How many of them one address may have; 0 is three quarters. Raise it for a gateway.",
    ] = 0
    max_per_title: Annotated[
        int,
        _whole(0, 100_000, "a number"),
        "How many of them one calling AE title may have; 0 is three quarters.",
    ] = 0
    max_pdu: Annotated[
        int,
        _whole(0, 2**32 - 1, "a length in bytes"),
        "The longest PDU that peers may send; 0 is unlimited.",
    ] = 131_072
    max_object: Annotated[
        int,
        _whole(0, 2**63 - 1, "a length in bytes"),
        "The longest object that is stored, others are answered with 0xA700; 0 is unlimited.",
    ] = 16 * 2**30
    acse_timeout: Annotated[
        float, _SECONDS, "Seconds to wait for an association to be agreed on or released."
    ] = 30.0
    dimse_timeout: Annotated[float, _SECONDS, "Seconds to wait for a DIMSE message."] = 60.0
    network_timeout: Annotated[
        float, _SECONDS, "Seconds to wait for anything on an idle association."
    ] = 60.0
    stop_timeout: Annotated[
        float, _GRACE, "Seconds that associations have to end in when the node is stopped."
    ] = 5.0
    access: Access = Access()
    tls: TLS = TLS()
    destinations: Mapping[str, Destination] = field(
        default_factory=lambda: {"STORESCP": STORESCP}, hash=False
    )


class Key(NamedTuple):
    """A key as files and command lines name it."""

    table: str
    name: str
    kind: Kind
    default: Any
    meaning: str

    @property
    def option(self) -> str:
        """The option of the same meaning."""
        return "--" + "-".join(filter(None, (self.table, self.name))).replace("_", "-")


def _keys_of(table: str, owner: type) -> Iterator[Key]:
    hints = get_type_hints(owner, include_extras=True)
    for each in fields(owner):
        if get_origin(hints[each.name]) is Annotated:
            _, kind, meaning = get_args(hints[each.name])
            yield Key(table, each.name, kind, each.default, meaning)


_TABLES: dict[str, type] = {"": Configuration, "access": Access, "tls": TLS}
KEYS = tuple(key for table, owner in _TABLES.items() for key in _keys_of(table, owner))
"""Every key but those of destinations, in the order of the file."""
_BY_NAME = {(key.table, key.name): key for key in KEYS}
DESTINATION_KEYS = {key.name: key for key in _keys_of("destinations", Destination)}
"""Those of a destination."""


# --- Reading ----------------------------------------------------------------------------------


def read(path: Path) -> str:
    """Return the text of a configuration file; ConfigurationError if it cannot be read."""
    try:
        with path.open("rb") as file:
            data = file.read(_LONGEST_FILE + 1)
        if len(data) > _LONGEST_FILE:
            raise ValueError(f"this has more than {_LONGEST_FILE} bytes")
        return data.decode()
    except OSError as error:
        raise ConfigurationError(f"{path}: {error.strerror}") from None
    except ValueError as error:  # no UTF-8, or too long
        raise ConfigurationError(f"{path}: {error}") from None


def load(path: Path) -> Configuration:
    """Return what a file says; ConfigurationError if it cannot be read or says what is wrong."""
    text = read(path)
    try:
        values = tomllib.loads(text)
    except RecursionError:
        raise ConfigurationError(f"{path}: lists or tables are nested too deep") from None
    except ValueError as error:
        raise ConfigurationError(f"{path}: {error}") from None
    return _beside(path.parent, merged(Configuration(), values, f"{path}: "))


def _beside(folder: Path, configuration: Configuration) -> Configuration:
    """Return `configuration` with its relative paths counting from `folder`."""

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
    """Return `base` with what `values`, shaped like the file, says otherwise.

    Destinations are taken together: where `values` has any, those of `base` are gone.
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
        raise ConfigurationError(f"{where}{name} is a table: [{name}]")
    return value


def _checked(table: str, name: str, value: Any, where: str) -> Any:
    key = _BY_NAME.get((table, name))
    if key is None:
        raise _unknown(name, table, [each.name for each in KEYS if each.table == table], where)
    return _taken(key.kind, value, where + ".".join(filter(None, (table, name))))


def _taken(kind: Kind, value: Any, name: str) -> Any:
    try:
        return kind.check(value)
    except (TypeError, ValueError):
        raise ConfigurationError(f"{name} is {kind.allowed}, not {_shown(value)}") from None


def _shown(value: Any) -> str:
    for show in (toml, str):  # which is for a date, or a table in a list
        # Numbers may have too many digits, and lists be nested too deep.
        with contextlib.suppress(TypeError, ValueError, RecursionError):
            return show(value)
    return f"this {type(value).__name__}"


def _unknown(name: str, table: str, known: list[str], where: str) -> ConfigurationError:
    within = f"in [{table}]" if table else "in a configuration"
    tables = [] if table else [f"[{each}]" for each in (*filter(None, _TABLES), "destinations")]
    there_is = ", ".join((*known, *tables))
    return ConfigurationError(f"{where}there is no {name!r} {within}, but {there_is}")


def _destinations(tables: Mapping[str, Any], where: str) -> dict[str, Destination]:
    found = {}
    for title, values in tables.items():
        name = f"destinations.{title}"
        known = _taken(_TITLE, title, f"{where}the name of [{name}]")
        own = {}
        for each, value in _table(values, name, where).items():
            if each not in DESTINATION_KEYS:
                raise _unknown(each, name, [*DESTINATION_KEYS], where)
            own[each] = _taken(DESTINATION_KEYS[each].kind, value, f"{where}{name}.{each}")
        for needed in ("host", "port"):
            if needed not in own:
                raise ConfigurationError(f"{where}{name}.{needed} is missing")
        found[known] = Destination(**own)
    return found


def destination(text: str) -> tuple[str, dict[str, Any]]:
    """Return title and values of a destination written NAME=HOST:PORT or NAME=tls:HOST:PORT."""
    title, equals, place = text.partition("=")
    over_tls = place.startswith("tls:")
    host, colon, port = place.removeprefix("tls:").rpartition(":")
    if not (title and equals and host and colon and port.isascii() and port.isdigit()):
        raise ArgumentTypeError(f"{text!r} is not NAME=HOST:PORT, or NAME=tls:HOST:PORT")
    values = {"host": host.removeprefix("[").removesuffix("]"), "port": int(port)}
    return title, {**values, "tls": True} if over_tls else values


# --- Writing ----------------------------------------------------------------------------------


def toml(value: Any) -> str:
    """Return a value of a configuration as TOML has it."""
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
    """Return a file that says of every key what it means, what it may be, and its default."""
    lines = ["# The configuration of a dicomwire node, with the default of every key."]
    for table in _TABLES:
        lines += ["", f"[{table}]"] if table else []
        for key in (each for each in KEYS if each.table == table):
            lines += ["", f"# {key.meaning}", f"# Allowed: {key.kind.allowed}."]
            lines.append(f"{key.name} = {toml(key.default)}")
    lines += ["", "# Where C-MOVE may send to: a table for each AE title."]
    for title, place in Configuration().destinations.items():
        lines.append(f"[destinations.{title}]")
        for key in DESTINATION_KEYS.values():
            lines += [f"# {key.meaning} Allowed: {key.kind.allowed}."]
            lines.append(f"{key.name} = {toml(getattr(place, key.name))}")
    return "\n".join(lines) + "\n"
