"""Prints what the names of pynetdicom are, as JSON: all, or those in a JSON file.

A name is "module:name" or "module:Class.name".
"""

from __future__ import annotations

import importlib
import inspect
import json
import sys
from functools import cache, cached_property
from pathlib import Path
from types import ModuleType
from typing import Any

from pynetdicom import AE, evt
from pynetdicom.association import Association, ServiceUser

MODULES = [
    "ae",
    "association",
    "events",
    "presentation",
    "sop_class",
    "status",
    "pdu_primitives",
    "dimse_primitives",
    "pdu",
    "dimse_messages",
    "dsutils",
    "utils",
    "service_class",
    "service_class_n",
    "transport",
    "_config",
    "_globals",
    "_validators",
]
INNER = ["acse", "dimse", "dul", "fsm", "timer", "pdu_items"]
"""Modules whose names are not documented."""


def plain(value: Any) -> Any:
    """Return a constant in a form that has no types of an implementation."""
    if isinstance(value, dict):
        return sorted(f"{plain(key)}: {plain(found)}" for key, found in value.items())
    if isinstance(value, (list, tuple)):
        return [plain(each) for each in value]
    if callable(value):
        return "function"
    if hasattr(value, "transfer_syntax"):
        return f"{value.abstract_syntax} {value.transfer_syntax}"
    return repr(value)


def of_value(name: str, value: Any) -> Any:
    """Return what a module has under `name`."""
    if inspect.isclass(value) or inspect.isroutine(value):
        return parameters(value)
    if name == "UID_dictionary":
        return "a table of pydicom"
    if name.endswith("_STATUS"):
        return sorted(f"{code} {category}" for code, (category, _) in value.items())
    if name.startswith("EVT_"):
        return [value.name, value.is_intervention, value.is_notification]
    return plain(value)


def parameters(call: Any) -> list[str]:
    """Return what a call takes: names and defaults."""
    try:
        found = inspect.signature(call).parameters.values()
    except (TypeError, ValueError):
        return []
    marks = {"KEYWORD_ONLY": "key ", "VAR_KEYWORD": "**", "VAR_POSITIONAL": "*"}
    return [
        marks.get(each.kind.name, "")
        + each.name
        + ("" if each.default is each.empty else f"={each.default!r}")
        for each in found
        if each.name not in ("self", "cls")
    ]


def of_member(cls: Any, name: str) -> Any:
    """Return what a class, or an object of it, has under `name`."""
    member = inspect.getattr_static(cls, name, None)
    if isinstance(member, cached_property):
        return "attribute"
    if isinstance(member, property):
        return "attribute" if member.fset else "attribute to be read"
    if name in dir(cls):
        value = getattr(cls, name)
        return parameters(value) if inspect.isroutine(value) else "attribute"
    return "attribute" if name in dir(example(cls)) else "missing"


@cache
def example(cls: Any) -> Any:
    """Return an object of `cls`, or None."""
    if cls is Association:
        return Association(AE(), "requestor")
    if cls is evt.Event:
        return evt.Event(None, evt.EVT_C_ECHO)
    if cls is ServiceUser:
        return ServiceUser(Association(AE(), "requestor"), "requestor")
    try:
        return cls()
    except TypeError:
        return None


def module_of(place: str) -> ModuleType | None:
    """Return a module of pynetdicom, if there is one."""
    try:
        return importlib.import_module(f"pynetdicom.{place}".rstrip("."))
    except ModuleNotFoundError:
        return None


def names() -> list[str]:
    """Return the names that pynetdicom has, but for those that a module has from elsewhere."""
    found = [f"{place}:" for place in INNER]
    for place in ("", *MODULES):
        module = module_of(place)
        found.append(f"{place}:")
        for name in dir(module):
            value = getattr(module, name)
            if name.startswith("_") or name in ("TYPE_CHECKING", "LOGGER") or name.endswith("Type"):
                continue
            if inspect.isclass(value) or inspect.isroutine(value):
                if is_at_home(value, module):
                    found.append(f"{place}:{name}")
                    found += members(value, f"{place}:{name}") if inspect.isclass(value) else ()
            elif isinstance(value, (int, float, str, tuple, list, dict, type(None))):
                found.append(f"{place}:{name}")
    return found


def is_at_home(value: Any, module: Any) -> bool:
    """Return whether a class or function is documented to be in `module`."""
    home = str(value.__module__)
    return home == module.__name__ or (module.__name__ == "pynetdicom" and home.startswith("pynet"))


def members(cls: Any, path: str) -> list[str]:
    """Return the names of the members of a class that are pynetdicom's, and none of its bases'."""
    inherited = {
        name
        for base in cls.__mro__
        if not base.__module__.startswith("pynetdicom")
        for name in dir(base)
    }
    own = {*dir(cls), *dir(example(cls))} - inherited
    return [f"{path}.{name}" for name in sorted(own) if not name.startswith("_")]


def described(path: str) -> Any:
    """Return what has the name `path`."""
    place, _, name = path.partition(":")
    owner, _, member = name.partition(".")
    module = module_of(place)
    if module is None or (owner and not hasattr(module, owner)):
        return "missing"
    if not owner:
        return "module"
    value = getattr(module, owner)
    return of_member(value, member) if member else of_value(owner, value)


if __name__ == "__main__":
    asked = json.loads(Path(sys.argv[1]).read_text()) if len(sys.argv) > 1 else names()
    print(json.dumps({path: described(path) for path in asked}))
