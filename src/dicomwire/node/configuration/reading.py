"""Reads a configuration from a file, environment variables and options; explains mistakes."""

from __future__ import annotations

import contextlib
import logging
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from dicomwire.node.configuration.allowed import TITLE, ConfigurationError, without_password
from dicomwire.node.configuration.keys import (
    BY_NAME,
    KEYS,
    LISTS,
    PREFIX,
    TABLES,
    Configuration,
    ConfigurationKey,
)
from dicomwire.node.configuration.routes import InvalidCondition, Then
from dicomwire.node.configuration.writing import toml

LOGGER = logging.getLogger("dicomwire.node")

_LONGEST_FILE = 1 << 20
"""In bytes; thousands of peers and destinations need less."""
_CHECKED = TypeAdapter(Configuration)


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
    for name in filter(None, TABLES):
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
    if path[0] in LISTS:
        return _of_item(problem, path[0], values[path[0]])
    if problem["type"] == "unexpected_keyword_argument":
        return _unknown(path)
    if problem["type"] == "missing":
        return f"{name} is missing"
    if problem["type"] in ("dataclass_type", "dict_type", "mapping_type"):
        return f"{name} must be a table: [{name}]"
    if path[-1] == "[key]":
        name = f"the name of [{'.'.join(path[:-1])}]"
        return f"{name} must be {TITLE.text}, not {_shown(path[-2])}"
    depth = {"destinations": 3, **dict.fromkeys(TABLES, 2)}.get(path[0], 1)  # below: list items
    name = ".".join(path[:depth])
    reason = problem.get("ctx", {}).get("error")
    if isinstance(reason, InvalidCondition):
        return f"{name}: {reason}"
    value: Any = values
    for each in path[:depth]:
        value = value[each]
    return f"{name} must be {BY_NAME[_place(path[:depth])].allowed}, not {_shown(value)}"


def _of_item(problem: ErrorDetails, table: str, items: Any) -> str:
    """Say what is wrong with a route or a notice, which is named, or else told by its number."""
    if len(problem["loc"]) < 3:
        return f"{table} must be tables: [[{table}]], not {_shown(items)}"
    _, number, *path = problem["loc"]
    item, keys = items[int(number)], LISTS[table]
    label, key = item_label(table, item.get("name"), int(number)), str(path[0])
    if problem["type"] == "unexpected_keyword_argument":
        return f"{label} has no key {key!r}; allowed are {', '.join(keys)}"
    if problem["type"] == "missing":
        return f"{label}: {key} is missing"
    reason = problem.get("ctx", {}).get("error")
    if isinstance(reason, InvalidCondition):
        return f"{label}: conditions: {reason}"
    return f"{label}: {key} must be {keys[key].allowed}, not {_shown(item[key])}"


def item_label(table: str, name: object, number: int) -> str:
    """Return what to call a route or a notice; `number` counts from 0."""
    noun = table.removesuffix("s")
    return f"the {noun} {name!r}" if name else f"the {noun} {number + 1}"


def route_label(name: object, number: int) -> str:
    """Return what to call a route; `number` counts from 0."""
    return item_label("routes", name, number)


def check_routes(configuration: Configuration) -> None:
    """Raise ConfigurationError if a route and the rest of the configuration do not agree."""
    for number, route in enumerate(configuration.routes):
        label = route_label(route.name, number)
        if route.then is Then.DELETE and not route.commit:
            raise ConfigurationError(f'{label}: then = "delete" needs commit = true')
        _check_titles(configuration, f"{label}: to", route.to)


def check_notices(configuration: Configuration) -> None:
    """Raise ConfigurationError if a notice tells nobody, or cannot be told from another one."""
    names: set[str] = set()
    for number, notice in enumerate(configuration.notices):
        label = item_label("notices", notice.name, number)
        _check_titles(configuration, f"{label}: available_to", notice.available_to)
        if notice.name in names:
            raise ConfigurationError(f"{label}: there are two of this name")
        if not (notice.command or notice.webhook or notice.available_to):
            raise ConfigurationError(f"{label} has no command, webhook or available_to")
        if notice.secret_file and not notice.webhook:
            raise ConfigurationError(f"{label} has a secret_file, but no webhook")
        names.add(notice.name)


def _check_titles(configuration: Configuration, where: str, titles: Sequence[str]) -> None:
    for title in titles:
        if title not in configuration.destinations:
            known = ", ".join(configuration.destinations) or "none"
            raise ConfigurationError(
                f"{where}: there is no [destinations.{title}]; there are: {known}"
            )


def _place(path: Sequence[str]) -> tuple[str, str]:
    """Return the table and the name of a key; all destinations have the same keys."""
    return path[0] if len(path) > 1 else "", path[-1]


def _unknown(path: Sequence[str]) -> str:
    table, name = _place(path)
    within = f"in [{'.'.join(path[:-1])}]" if table else "in a configuration"
    tables = (
        [] if table else [f"[{each}]" for each in (*filter(None, TABLES), "destinations", *LISTS)]
    )
    known = [each.name for each in BY_NAME.values() if each.table == table]
    return f"there is no key {name!r} {within}; allowed are {', '.join((*known, *tables))}"


def _shown(value: Any) -> str:
    if isinstance(value, str):
        value = without_password(value)
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
            if name == f"{PREFIX}DESTINATIONS":
                values["destinations"] = dict(map(destination, text.split(",")))
            elif key := known.get(name):
                place(values, key, key.read(*text.split(",") if key.is_list else [text]))
            elif name.startswith(PREFIX):
                LOGGER.warning("The environment variable %s is no key of the configuration", name)
        except ConfigurationError as error:
            raise ConfigurationError(f"{name}: {error}") from None
    return values


def place(values: dict[str, Any], key: ConfigurationKey, value: Any) -> None:
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
