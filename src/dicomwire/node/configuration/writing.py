"""Writes a configuration: values in TOML, and the commented file with every key."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from enum import Enum
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Any

from dicomwire.node.configuration.keys import (
    DESTINATION_KEYS,
    KEYS,
    NOTICE_KEYS,
    ROUTE_KEYS,
    TABLES,
    Configuration,
)


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
    for table in TABLES:
        lines += ["", f"[{table}]"] if table else []
        for key in (each for each in KEYS if each.table == table):
            lines += ["", f"# {key.meaning}", f"# Allowed: {key.allowed}."]
            lines.append(f"{key.name} = {toml(key.default)}")
    lines += ["", "# Studies whose first object matches these conditions are never deleted:"]
    lines += ["# [retention.keep]", '# StudyDescription = "*TEACHING*"']
    lines += ["", "# The destinations of routes and of C-MOVE: a table for each AE title."]
    for title, known in Configuration().destinations.items():
        lines.append(f"[destinations.{title}]")
        for key in DESTINATION_KEYS.values():
            lines += [f"# {key.meaning} Allowed: {key.allowed}."]
            lines.append(f"{key.name} = {toml(getattr(known, key.name))}")
    lines += [
        "",
        "# What is sent where, without a request: none by default. An example:",
        "",
    ]
    lines += [f"# {line}" for line in _example_of_route()]
    lines += ["", "# Who is told of complete studies: nobody by default. An example:", ""]
    lines += [f"# {line}" for line in _example_of_notice()]
    return "\n".join(lines) + "\n"


def _example_of_route() -> Iterator[str]:
    yield "[[routes]]"
    for key in ROUTE_KEYS.values():
        yield f"# {key.meaning} Allowed: {key.allowed}."
        if key.name == "conditions":
            yield "[routes.conditions]"
            yield 'Modality = ["CT", "MR"]  # one of them'
            yield 'StudyDescription = "*THORAX*"'
            yield 'PatientID = {not = "TEST*"}'
            yield 'StudyDate = {from = "20260101"}'
            yield 'network = "10.1.0.0/16"  # of the peer; its AE title is calling_title'
        else:
            value = ("STORESCP",) if key.name == "to" else key.default
            yield f"{key.name} = {toml(value)}"


def _example_of_notice() -> Iterator[str]:
    yield "[[notices]]"
    examples = {
        "name": "ai",
        "command": ("/usr/local/bin/analyse", "--study={study}"),
        "webhook": "https://ris.example.org/studies",
        "secret_file": "webhook.secret",
        "available_to": ("STORESCP",),
    }
    for key in NOTICE_KEYS.values():
        yield f"# {key.meaning} Allowed: {key.allowed}."
        if key.name == "conditions":
            yield "[notices.conditions]"
            yield 'Modality = "CT"'
        else:
            yield f"{key.name} = {toml(examples.get(key.name, key.default))}"
