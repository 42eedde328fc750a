"""The configuration of a node: every key with its default, its allowed values and an explanation.

The fields of the dataclasses are the one list of keys; the TOML file, its commented template, the
options of the command line, the environment variables and the documentation are made from it.
pydantic checks the values.
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from enum import Enum, StrEnum
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Annotated, Any, NamedTuple, get_args, get_origin, get_type_hints

from annotated_types import Ge, GroupedMetadata, Gt, Le, Len
from pydantic import (
    AfterValidator,
    ConfigDict,
    PlainValidator,
    Strict,
    TypeAdapter,
    ValidationError,
    ValidationInfo,
    with_config,
)
from pydantic_core import ErrorDetails

from dicomwire.tls import Profile
from dicomwire.utils import set_title

LOGGER = logging.getLogger("dicomwire.node")

Network = IPv4Network | IPv6Network
_LONGEST_GRACE = 3600
"""In seconds; an hour is far more than any association needs to end."""
_has_no_password = re.compile(
    r"postgresql(\+psycopg)?://([^:/?#@]*@)?[^/?#@]*(/[^?#]*)?(\?((?!password=)[^#&]+&?)*)?"
).fullmatch
"""Whether a text is a URL of PostgreSQL without a password, which would be visible to others in the
list of processes, in logs and in copies of the file."""
_LONGEST_FILE = 1 << 20
"""In bytes; thousands of peers and destinations need less."""
_PREFIX = "DICOMWIRE_"
"""The beginning of the names of the environment variables."""

_is_bucket = re.compile(r"(s3|gs|az)://[^/?#@\s\0]+(/[^?#\s\0]*)?").fullmatch


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


class Acknowledge(StrEnum):
    """When an object is acknowledged."""

    STORED = "stored"
    SPOOLED = "spooled"


# --- Types of values --------------------------------------------------------------------------


class Allowed(GroupedMetadata):
    """The allowed values of a type: in words, for errors, and as pydantic's checks."""

    def __init__(self, text: str, *checks: object) -> None:
        self.text = text
        self._checks = checks

    def __iter__(self) -> Iterator[object]:
        return iter(self._checks)


def _whole(noun: str, least: int, most: int) -> Allowed:
    return Allowed(f"{noun}, {least} to {most}", Strict(), Ge(least), Le(most))


def _one_of(values: type[Enum]) -> Allowed:
    return Allowed(" or ".join(f'"{each.value}"' for each in values))


def _text(text: str) -> str:
    if "\0" in text:
        raise ValueError("a null character")
    return text


def _path(path: object, info: ValidationInfo) -> Path:
    if not path or not isinstance(path, str | Path):
        raise ValueError("no path")
    try:
        return (info.context or Path()) / Path(_text(str(path))).expanduser()
    except RuntimeError:  # "~name", and there is no such user
        raise ValueError("no such user") from None


def _file(path: str, info: ValidationInfo) -> str:
    return str(_path(path, info)) if path else ""


def _database(text: str) -> str:
    # Not more: the configuration is read without SQLAlchemy, which checks the rest.
    if text and not _has_no_password(text):
        raise ValueError("not a URL of PostgreSQL")
    return text


def _objects_url(url: str, info: ValidationInfo) -> str:
    if url.startswith("file://"):
        return f"file://{_path(url.removeprefix('file://'), info)}"
    if url and not _is_bucket(url):
        raise ValueError("no URL of a bucket")
    return url


def _network(value: object) -> Network:
    return ip_network(str(value))


TITLE = Allowed(
    "an AE title, 1 to 16 ASCII characters",
    AfterValidator(lambda text: set_title(text, "title").strip()),
)
FLAG = Allowed("true or false", Strict())
SECONDS = Allowed("a number of seconds above 0, or inf", Strict(), Gt(0))
GRACE = Allowed(f"a number of seconds, 0 to {_LONGEST_GRACE}", Strict(), Ge(0), Le(_LONGEST_GRACE))
_SECONDS_OF_REQUESTS = Allowed("a number of seconds, 1 to 3600", Strict(), Ge(1), Le(3600))
PORT = _whole("a port number", 1, 65535)
HOST = Allowed("a host name or an address", Len(1), AfterValidator(_text))
ADDRESS = Allowed('an address of this machine, or "" for all', AfterValidator(_text))
INDEX = Allowed(
    'postgresql+psycopg://USER@HOST/DATABASE without a password, or "" for SQLite in the folder',
    AfterValidator(_database),
)
FOLDER = Allowed("a path", PlainValidator(_path))
PLACE = Allowed(
    '"" for the folder, or a URL: s3://bucket/prefix, gs://…, az://… or file:///folder',
    AfterValidator(_objects_url),
)
FILE = Allowed('a path, or "" for none', AfterValidator(_file))

Title = Annotated[str, TITLE]


# --- The keys ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Access:
    """The rights of peers; see `access.Guard`."""

    called_title: Annotated[
        bool, FLAG, "Reject associations that do not call the node by its AE title."
    ] = False
    titles: Annotated[
        tuple[Title, ...],
        Allowed("a list of AE titles"),
        "Calling AE titles of known peers; an empty list allows any.",
    ] = ()
    networks: Annotated[
        tuple[Annotated[Network, PlainValidator(_network)], ...],
        Allowed('a list of networks, such as "10.1.0.0/16"'),
        "Networks of known peers; an empty list allows any.",
    ] = (IPv4Network("127.0.0.0/8"), IPv6Network("::1/128"))
    strangers: Annotated[
        tuple[Right, ...],
        Allowed("a list of " + ", ".join(f'"{each}"' for each in Right)),
        "What peers that are not known may do; with an empty list they may not associate.",
    ] = (Right.ECHO, Right.STORE)


@dataclass(frozen=True, slots=True)
class TLS:
    """How the node speaks TLS (PS3.15 Annex B)."""

    cert: Annotated[
        str, FILE, "The node's certificate (PEM). If it is set, the node accepts only TLS."
    ] = ""
    key: Annotated[str, FILE, "The certificate's key, if it is in another file."] = ""
    key_password_file: Annotated[str, FILE, "A file with the key's password in its first line."] = (
        ""
    )
    ca: Annotated[
        str,
        FILE,
        "Trusted authorities (PEM): peers and TLS destinations need a certificate of one of them.",
    ] = ""
    profile: Annotated[
        Profile, _one_of(Profile), "The TLS profile, which defines versions and cipher suites."
    ] = Profile.BCP195
    no_verify: Annotated[
        bool,
        FLAG,
        "Do not check certificates of destinations: others could read and change the data sent.",
    ] = False


@dataclass(frozen=True, slots=True)
class Destination:
    """A destination of C-MOVE; the key is its AE title."""

    host: Annotated[str, HOST, "Host name or address."]
    port: Annotated[int, PORT, "Port."]
    tls: Annotated[bool, FLAG, "Whether to use TLS, as configured in [tls]."] = False


STORESCP = Destination("127.0.0.1", 11113)
"""A Storage SCP on this machine, such as that of `dicomwire movescu --store`, or pynetdicom's."""


@with_config(ConfigDict(extra="forbid"))
@dataclass(frozen=True, slots=True)
class Configuration:
    """The configuration of a node. Relative paths count from the current folder."""

    ae_title: Annotated[str, TITLE, "The AE title of the node."] = "DICOMWIRE"
    address: Annotated[
        str,
        ADDRESS,
        'The address to listen on; "" is all. If others can reach it, set [access] and [tls].',
    ] = "127.0.0.1"
    port: Annotated[
        int, _whole("a port number", 0, 65535), "The port to listen on; 0 is any free one."
    ] = 11112
    folder: Annotated[
        Path,
        FOLDER,
        "The folder of objects and index, made if needed. A relative path counts from this file.",
    ] = Path("archive")
    index: Annotated[
        str,
        INDEX,
        "The index, for several nodes; the password comes from PGPASSWORD, .pgpass or a service.",
    ] = ""
    objects: Annotated[
        str, PLACE, "Where new objects go. A bucket needs the extra objects (obstore)."
    ] = ""
    old_objects: Annotated[
        str, PLACE, "Where older objects are, until `dicomwire node move-objects` has moved them."
    ] = ""
    objects_variables: Annotated[
        str,
        FILE,
        "A file with environment variables of the bucket: endpoint, credentials, … (NAME=VALUE).",
    ] = ""
    objects_timeout: Annotated[
        float,
        _SECONDS_OF_REQUESTS,
        "Seconds that a request to the bucket may take, its repetitions included.",
    ] = 30.0
    cache: Annotated[
        str, FILE, "A folder for copies of a bucket's objects that are sent often."
    ] = ""
    cache_size: Annotated[
        int, _whole("a number of bytes", 2**20, 2**63 - 1), "The size of the cache."
    ] = 10 * 2**30
    acknowledge: Annotated[
        Acknowledge,
        _one_of(Acknowledge),
        "Success means that an object is stored, or spooled: on this disk, to be uploaded.",
    ] = Acknowledge.STORED
    duplicates: Annotated[
        Duplicates,
        _one_of(Duplicates),
        "What to do with different data that has the UID of a stored object.",
    ] = Duplicates.KEEP_FIRST
    strict_queries: Annotated[
        bool,
        FLAG,
        "Require the unique keys of all levels above, unless relational operation is negotiated.",
    ] = False
    workers: Annotated[
        int,
        _whole("a number", 1, 256),
        "The processes that serve, to use several processors; 1 is the node's own process.",
    ] = 1
    max_associations: Annotated[
        int, _whole("a number", 1, 100_000), "The most associations at a time."
    ] = 64
    max_per_address: Annotated[
        int,
        _whole("a number", 0, 100_000),
        "The most of them from one address; 0 means three quarters. Raise it for a gateway.",
    ] = 0
    max_per_title: Annotated[
        int,
        _whole("a number", 0, 100_000),
        "The most of them by one calling AE title; 0 means three quarters.",
    ] = 0
    max_pdu: Annotated[
        int,
        _whole("a length in bytes", 0, 2**32 - 1),
        "The longest PDU that peers may send; 0 means no limit.",
    ] = 131_072
    max_object: Annotated[
        int,
        _whole("a length in bytes", 0, 2**63 - 1),
        "The longest object to store; longer ones are refused with 0xA700. 0 means no limit.",
    ] = 16 * 2**30
    acse_timeout: Annotated[
        float, SECONDS, "Seconds to wait for the negotiation or release of an association."
    ] = 30.0
    dimse_timeout: Annotated[float, SECONDS, "Seconds to wait for a DIMSE message."] = 60.0
    network_timeout: Annotated[
        float, SECONDS, "Seconds to wait for data on an idle association."
    ] = 60.0
    stop_timeout: Annotated[
        float, GRACE, "Seconds that open associations have to end when the node stops."
    ] = 5.0
    access: Access = Access()
    tls: TLS = TLS()
    destinations: Mapping[Title, Destination] = field(
        default_factory=lambda: {"STORESCP": STORESCP}, hash=False
    )


class Key(NamedTuple):
    """A key of the configuration, with its table and name in the file."""

    table: str
    name: str
    type: Any
    allowed: str
    default: Any
    meaning: str

    @property
    def option(self) -> str:
        """The option of the command line that sets this key."""
        return "--" + "-".join(filter(None, (self.table, self.name))).replace("_", "-")

    @property
    def variable(self) -> str:
        """The environment variable that sets this key."""
        return _PREFIX + "__".join(filter(None, (self.table, self.name))).upper()

    @property
    def is_list(self) -> bool:
        """Whether the key has several values."""
        return get_origin(get_args(self.type)[0]) is tuple

    @property
    def is_flag(self) -> bool:
        """Whether the key is true or false."""
        return get_args(self.type)[0] is bool

    def read(self, *texts: str) -> Any:
        """Return the value that is told outside of a file; ConfigurationError if it is not allowed.

        A list has one text for each item; an empty one is no item.
        """
        checked: TypeAdapter[Any] = TypeAdapter(self.type)
        try:
            if self.is_list:
                return checked.validate_python([text for text in texts if text])
            return checked.validate_strings(texts[0])
        except ValidationError:
            shown = _without_password(",".join(texts))
            raise ConfigurationError(f"{shown!r} is not {self.allowed}") from None


def _keys_of(table: str, owner: type) -> Iterator[Key]:
    hints = get_type_hints(owner, include_extras=True)
    for each in fields(owner):
        kind = hints[each.name]
        if get_origin(kind) is Annotated:
            *_, allowed, meaning = get_args(kind)
            yield Key(table, each.name, kind, allowed.text, each.default, meaning)


_TABLES: dict[str, type] = {"": Configuration, "access": Access, "tls": TLS}
KEYS = tuple(key for table, owner in _TABLES.items() for key in _keys_of(table, owner))
"""All keys except those of destinations, in the order of the file."""
DESTINATION_KEYS = {key.name: key for key in _keys_of("destinations", Destination)}
"""The keys of a destination, by name."""
_BY_NAME = {(key.table, key.name): key for key in (*KEYS, *DESTINATION_KEYS.values())}
_CHECKED = TypeAdapter(Configuration)


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
    return merged(Configuration(), values, f"{path}: ", path.parent)


def merged(
    base: Configuration, values: Mapping[str, Any], where: str = "", folder: Path | None = None
) -> Configuration:
    """Return `base` changed by `values`, which is structured like the file.

    If `values` has destinations, they replace all those of `base`. Relative paths in both count
    from `folder`. Errors begin with `where`.
    """
    changed = {**_values_of(base), **values}
    for name in filter(None, _TABLES):
        if isinstance(values.get(name), Mapping):
            changed[name] = {**_values_of(getattr(base, name)), **values[name]}
    try:
        return _CHECKED.validate_python(changed, context=folder)
    except ValidationError as error:
        # A key with a wrong name makes another one missing; the name is the problem then.
        first = min(error.errors(), key=lambda problem: problem["type"] == "missing")
        raise ConfigurationError(where + _explained(first, values)) from None


def _values_of(table: Any) -> dict[str, Any]:
    return {each.name: getattr(table, each.name) for each in fields(table)}


def _explained(problem: ErrorDetails, values: Mapping[str, Any]) -> str:
    """Say what is wrong with `values`: pydantic's texts name neither key nor allowed values."""
    path = [*map(str, problem["loc"])]
    name = ".".join(path)
    if problem["type"] == "unexpected_keyword_argument":
        return _unknown(path)
    if problem["type"] == "missing":
        return f"{name} is missing"
    if problem["type"] in ("dataclass_type", "dict_type", "mapping_type"):
        return f"{name} must be a table: [{name}]"
    if path[-1] == "[key]":
        name = f"the name of [{'.'.join(path[:-1])}]"
        return f"{name} must be {TITLE.text}, not {_shown(path[-2])}"
    depth = {"destinations": 3, **dict.fromkeys(_TABLES, 2)}.get(path[0], 1)  # below: list items
    name = ".".join(path[:depth])
    value: Any = values
    for each in path[:depth]:
        value = value[each]
    return f"{name} must be {_BY_NAME[_place(path[:depth])].allowed}, not {_shown(value)}"


def _place(path: Sequence[str]) -> tuple[str, str]:
    """Return the table and the name of a key; all destinations have the same keys."""
    return path[0] if len(path) > 1 else "", path[-1]


def _unknown(path: Sequence[str]) -> str:
    table, name = _place(path)
    within = f"in [{'.'.join(path[:-1])}]" if table else "in a configuration"
    tables = [] if table else [f"[{each}]" for each in (*filter(None, _TABLES), "destinations")]
    known = [each.name for each in _BY_NAME.values() if each.table == table]
    return f"there is no key {name!r} {within}; allowed are {', '.join((*known, *tables))}"


def _without_password(text: str) -> str:
    """Return a text for errors: of a URL only the beginning, since the rest may have a password."""
    scheme, separator, _ = text.partition("://")
    return f"{scheme}://…" if separator else text


def _shown(value: Any) -> str:
    if isinstance(value, str):
        value = _without_password(value)
    for show in (toml, str):  # str is for a date, or a table in a list
        # Both fail for numbers with too many digits, and for lists that are nested too deep.
        with contextlib.suppress(TypeError, ValueError, RecursionError):
            return show(value)
    return f"this {type(value).__name__}"


def environment(variables: Mapping[str, str]) -> dict[str, Any]:
    """Return the values of environment variables, structured like the file.

    Commas separate the items of a list, and destinations. A variable with our prefix that is no
    key is ignored, since Kubernetes sets some for a service of this name.
    """
    known = {key.variable: key for key in KEYS}
    values: dict[str, Any] = {}
    for name, text in variables.items():
        try:
            if name == f"{_PREFIX}DESTINATIONS":
                values["destinations"] = dict(map(destination, text.split(",")))
            elif key := known.get(name):
                place(values, key, key.read(*text.split(",") if key.is_list else [text]))
            elif name.startswith(_PREFIX):
                LOGGER.warning("The environment variable %s is no key of the configuration", name)
        except ConfigurationError as error:
            raise ConfigurationError(f"{name}: {error}") from None
    return values


def place(values: dict[str, Any], key: Key, value: Any) -> None:
    """Set the value of a key in `values`, which is structured like the file."""
    (values.setdefault(key.table, {}) if key.table else values)[key.name] = value


def destination(text: str) -> tuple[str, dict[str, Any]]:
    """Return AE title and values of a destination NAME=HOST:PORT or NAME=tls:HOST:PORT."""
    title, equals, where = text.partition("=")
    over_tls = where.startswith("tls:")
    host, colon, port = where.removeprefix("tls:").rpartition(":")
    if not (title and equals and host and colon and port.isascii() and port.isdigit()):
        raise ConfigurationError(f"{text!r} is not NAME=HOST:PORT, or NAME=tls:HOST:PORT")
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
            lines += ["", f"# {key.meaning}", f"# Allowed: {key.allowed}."]
            lines.append(f"{key.name} = {toml(key.default)}")
    lines += ["", "# The destinations of C-MOVE: a table for each AE title."]
    for title, known in Configuration().destinations.items():
        lines.append(f"[destinations.{title}]")
        for key in DESTINATION_KEYS.values():
            lines += [f"# {key.meaning} Allowed: {key.allowed}."]
            lines.append(f"{key.name} = {toml(getattr(known, key.name))}")
    return "\n".join(lines) + "\n"
