"""The configuration of a node: its keys, and how it is read and written."""

from dicomwire.node.configuration.allowed import ConfigurationError, Network
from dicomwire.node.configuration.keys import (
    DESTINATION_KEYS,
    KEYS,
    NOTICE_KEYS,
    ROUTE_KEYS,
    STORESCP,
    TLS,
    Access,
    Acknowledge,
    Configuration,
    Destination,
    Duplicates,
    Key,
    Retention,
    Right,
)
from dicomwire.node.configuration.notices import Notice, Of
from dicomwire.node.configuration.reading import (
    check_notices,
    check_routes,
    destination,
    environment,
    load,
    merged,
    place,
    read,
    route_label,
)
from dicomwire.node.configuration.routes import Route, Then, When
from dicomwire.node.configuration.writing import template, toml

__all__ = [
    "DESTINATION_KEYS",
    "KEYS",
    "NOTICE_KEYS",
    "ROUTE_KEYS",
    "STORESCP",
    "TLS",
    "Access",
    "Acknowledge",
    "Configuration",
    "ConfigurationError",
    "check_notices",
    "check_routes",
    "Destination",
    "Duplicates",
    "Key",
    "Network",
    "Notice",
    "Of",
    "Retention",
    "Right",
    "Route",
    "Then",
    "When",
    "destination",
    "environment",
    "load",
    "merged",
    "place",
    "read",
    "route_label",
    "template",
    "toml",
]
