"""The configuration of a node: its keys, and how it is read and written."""

from dicomwire.node.configuration.allowed import ConfigurationError, Network
from dicomwire.node.configuration.keys import (
    DESTINATION_KEYS,
    KEYS,
    STORESCP,
    TLS,
    Access,
    Acknowledge,
    Configuration,
    Destination,
    Duplicates,
    Key,
    Right,
)
from dicomwire.node.configuration.reading import (
    destination,
    environment,
    load,
    merged,
    place,
    read,
)
from dicomwire.node.configuration.writing import template, toml

__all__ = [
    "DESTINATION_KEYS",
    "KEYS",
    "STORESCP",
    "TLS",
    "Access",
    "Acknowledge",
    "Configuration",
    "ConfigurationError",
    "Destination",
    "Duplicates",
    "Key",
    "Network",
    "Right",
    "destination",
    "environment",
    "load",
    "merged",
    "place",
    "read",
    "template",
    "toml",
]
