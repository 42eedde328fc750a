"""Every key of the configuration of a node: its default, its allowed values and an explanation.

The fields of the dataclasses are the one list of keys; the TOML file, its commented template, the
options of the command line, the environment variables and the documentation are made from it.
pydantic checks the values.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from enum import StrEnum
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Annotated, Any, NamedTuple, get_args, get_origin, get_type_hints

from annotated_types import Ge, Le
from pydantic import ConfigDict, PlainValidator, Strict, TypeAdapter, ValidationError, with_config

from dicomwire.node.configuration.allowed import (
    ADDRESS,
    DAYS,
    FILE,
    FLAG,
    FOLDER,
    GRACE,
    HOST,
    INDEX,
    PLACE,
    PORT,
    SECONDS,
    SECONDS_OF_REQUESTS,
    TITLE,
    WEB,
    Allowed,
    ConfigurationError,
    Network,
    Title,
    network,
    one_of,
    whole,
    without_password,
)
from dicomwire.node.configuration.notices import Notice
from dicomwire.node.configuration.routes import Route, compiled_conditions
from dicomwire.tls import Profile

PREFIX = "DICOMWIRE_"
"""The beginning of the names of the environment variables."""


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
        tuple[Annotated[Network, PlainValidator(network)], ...],
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
        Profile, one_of(Profile), "The TLS profile, which defines versions and cipher suites."
    ] = Profile.BCP195
    no_verify: Annotated[
        bool,
        FLAG,
        "Do not check certificates of destinations: others could read and change the data sent.",
    ] = False


@dataclass(frozen=True, slots=True)
class Retention:
    """Which studies are deleted by themselves; see `node.retention`."""

    max_age: Annotated[
        float, DAYS, "Delete a study so many days after its last object has arrived."
    ] = math.inf
    max_unused: Annotated[
        float, DAYS, "Delete a study so many days after it has arrived or was retrieved last."
    ] = math.inf
    max_size: Annotated[
        int,
        whole("a number of bytes", 0, 2**63 - 1),
        "If all objects have more bytes, delete the studies unused for longest. 0 means no limit.",
    ] = 0
    min_free: Annotated[
        int,
        whole("a number of bytes", 0, 2**63 - 1),
        "If the disk has less free space, delete the studies unused for longest. 0: never.",
    ] = 0
    every: Annotated[
        float,
        Allowed("a number of seconds, 300 to 86400", Strict(), Ge(300), Le(86_400)),
        "Seconds between two looks for studies to delete.",
    ] = 3600.0
    keep: Annotated[
        Any,
        Allowed("a table of conditions", PlainValidator(compiled_conditions)),
        "Never delete studies whose first object matches; conditions as those of routes.",
    ] = ()

    @property
    def has_limits(self) -> bool:
        """Whether studies are deleted at all."""
        return min(self.max_age, self.max_unused) < math.inf or bool(self.max_size or self.min_free)


@dataclass(frozen=True, slots=True)
class Destination:
    """A destination of routes and of C-MOVE; the key is its AE title."""

    host: Annotated[str, HOST, "Host name or address."]
    port: Annotated[int, PORT, "Port."]
    tls: Annotated[bool, FLAG, "Whether to use TLS, as configured in [tls]."] = False
    associations: Annotated[
        int,
        whole("a number", 1, 16),
        "For routes: the most associations at a time; the objects of a series use one of them.",
    ] = 1
    window: Annotated[
        int,
        whole("a number", 1, 64),
        "For routes: the most objects sent on an association before the first is answered.",
    ] = 1
    retry_for: Annotated[
        float, SECONDS, "For routes: seconds for which an object that cannot be sent is repeated."
    ] = 259_200.0
    url: Annotated[
        str,
        WEB,
        "For routes: the root of its DICOMweb, to which objects are sent by STOW-RS instead of "
        "C-STORE.",
    ] = ""
    token_file: Annotated[
        str, FILE, "A file with the bearer token for the URL in its first line."
    ] = ""
    report_timeout: Annotated[
        float,
        SECONDS,
        "Seconds to wait for the report of a storage commitment, before it is requested again.",
    ] = 3600.0


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
        int, whole("a port number", 0, 65535), "The port to listen on; 0 is any free one."
    ] = 11112
    http: Annotated[
        int,
        whole("a port number, or -1 for none", -1, 65535),
        "The port of DICOMweb; 0 is any free one, and -1 none. It needs the extra web (starlette).",
    ] = -1
    http_address: Annotated[
        str,
        ADDRESS,
        'The address of DICOMweb to listen on; "" is all. Others than this machine need users.',
    ] = "127.0.0.1"
    http_connections: Annotated[
        int, whole("a number", 1, 100_000), "The most connections of HTTP at a time."
    ] = 256
    http_threads: Annotated[
        int,
        whole("a number", 1, 1000),
        "The most requests of HTTP that read the index or the objects at the same moment.",
    ] = 8
    http_proxies: Annotated[
        tuple[Annotated[Network, PlainValidator(network)], ...],
        Allowed('a list of networks, such as "10.1.0.0/16"'),
        "Networks of reverse proxies, which tell the addresses of clients (X-Forwarded-For).",
    ] = ()
    users: Annotated[
        str, FILE, "The file with the users of HTTP; without a path, users.json in the folder."
    ] = ""
    viewer: Annotated[
        str, FILE, "A folder with the files of OHIF (`dist` of its npm package), for the page."
    ] = ""
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
        SECONDS_OF_REQUESTS,
        "Seconds that a request to the bucket may take, its repetitions included.",
    ] = 30.0
    cache: Annotated[
        str, FILE, "A folder for copies of a bucket's objects that are sent often."
    ] = ""
    cache_size: Annotated[
        int, whole("a number of bytes", 2**20, 2**63 - 1), "The size of the cache."
    ] = 10 * 2**30
    acknowledge: Annotated[
        Acknowledge,
        one_of(Acknowledge),
        "Success means that an object is stored, or spooled: on this disk, to be uploaded.",
    ] = Acknowledge.STORED
    duplicates: Annotated[
        Duplicates,
        one_of(Duplicates),
        "What to do with different data that has the UID of a stored object.",
    ] = Duplicates.KEEP_FIRST
    strict_queries: Annotated[
        bool,
        FLAG,
        "Require the unique keys of all levels above, unless relational operation is negotiated.",
    ] = False
    workers: Annotated[
        int,
        whole("a number", 1, 256),
        "The processes that serve, to use several processors; 1 is the node's own process.",
    ] = 1
    max_associations: Annotated[
        int, whole("a number", 1, 100_000), "The most associations at a time."
    ] = 64
    max_per_address: Annotated[
        int,
        whole("a number", 0, 100_000),
        "The most of them from one address; 0 means three quarters. Raise it for a gateway.",
    ] = 0
    max_per_title: Annotated[
        int,
        whole("a number", 0, 100_000),
        "The most of them by one calling AE title; 0 means three quarters.",
    ] = 0
    max_pdu: Annotated[
        int,
        whole("a length in bytes", 0, 2**32 - 1),
        "The longest PDU that peers may send; 0 means no limit.",
    ] = 131_072
    max_object: Annotated[
        int,
        whole("a length in bytes", 0, 2**63 - 1),
        "The longest object to store; longer ones are refused with 0xA700. 0 means no limit.",
    ] = 16 * 2**30
    min_free_space: Annotated[
        int,
        whole("a number of bytes", 0, 2**63 - 1),
        "Objects are refused with 0xA700 while the disk has less free space; 0 means no limit.",
    ] = 256 * 2**20
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
    retention: Retention = Retention()
    destinations: Mapping[Title, Destination] = field(
        default_factory=lambda: {"STORESCP": STORESCP}, hash=False
    )
    routes: tuple[Route, ...] = ()
    notices: tuple[Notice, ...] = ()


class ConfigurationKey(NamedTuple):
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
        return PREFIX + "__".join(filter(None, (self.table, self.name))).upper()

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
            shown = without_password(",".join(texts))
            raise ConfigurationError(f"{shown!r} is not {self.allowed}") from None


def _keys_of(table: str, cls: type) -> Iterator[ConfigurationKey]:
    hints = get_type_hints(cls, include_extras=True)
    for each in fields(cls):
        kind = hints[each.name]
        if get_origin(kind) is Annotated:
            *_, allowed, meaning = get_args(kind)
            yield ConfigurationKey(table, each.name, kind, allowed.text, each.default, meaning)


TABLES: dict[str, type] = {
    "": Configuration,
    "access": Access,
    "tls": TLS,
    "retention": Retention,
}
_OF_TABLES = tuple(key for table, cls in TABLES.items() for key in _keys_of(table, cls))
_HAS_NO_OPTION = "keep"  # it is a table within a table
KEYS = tuple(key for key in _OF_TABLES if key.name != _HAS_NO_OPTION)
"""All keys except those of destinations, in the order of the file."""
DESTINATION_KEYS = {key.name: key for key in _keys_of("destinations", Destination)}
"""The keys of a destination, by name."""
ROUTE_KEYS = {key.name: key for key in _keys_of("routes", Route)}
"""The keys of a route, by name."""
NOTICE_KEYS = {key.name: key for key in _keys_of("notices", Notice)}
"""The keys of a notice, by name."""
LISTS = {"routes": ROUTE_KEYS, "notices": NOTICE_KEYS}
"""The tables that a configuration may have several times, and their keys."""
BY_NAME = {
    (key.table, key.name): key
    for keys in (_OF_TABLES, DESTINATION_KEYS.values(), ROUTE_KEYS.values(), NOTICE_KEYS.values())
    for key in keys
}
