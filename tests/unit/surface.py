"""Compares a package with the names and call signatures in public_surface.txt."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
from collections.abc import Callable, Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

SURFACE = Path(__file__).with_name("public_surface.txt")

_LINE = re.compile(r"(?P<name>\w+)(\((?P<parameters>.*)\)|: (?P<kind>.+)| = (?P<value>.+))?")
_REQUIRED = inspect.Parameter.empty


class Entry(NamedTuple):
    """A line of the file: one name, and what is known of it."""

    module: str
    owner: str
    name: str
    parameters: str | None
    kind: str | None
    value: str | None

    @property
    def path(self) -> str:
        """How the entry is called in lists of differences: "module:Class.member"."""
        return f"{self.module}:{self.owner}{'.' if self.owner else ''}{self.name}"


def entries() -> Iterator[Entry]:
    """Read the file."""
    module = owner = ""
    for line in SURFACE.read_text().splitlines():
        if line.startswith("["):
            module = line[1:-1]
        elif line and not line.startswith("#"):
            match = _LINE.fullmatch(line.strip())
            assert match, line
            if line.startswith(" "):
                yield Entry(module, owner, **match.groupdict())
            else:
                owner = match["name"]
                yield Entry(module, "", **match.groupdict())


def differences(package: str) -> dict[str, str]:
    """Return how `package` differs from the file, by the paths of the entries.

    What is not there at all, a module or a class, is told once and not for each of its members.
    """
    found: dict[str, str] = {}
    for entry in entries():
        whole = (f"{entry.module}:", f"{entry.module}:{entry.owner}")
        if any(found.get(path) == "missing" for path in whole):
            continue
        try:
            module = importlib.import_module(f"{package}.{entry.module}".rstrip("."))
        except ModuleNotFoundError:
            found[f"{entry.module}:"] = "missing"
            continue
        difference = _difference(module, entry)
        if difference:
            found[entry.path] = difference
    return found


def unexplained(found: dict[str, str], intended: dict[str, str]) -> dict[str, str]:
    """Return what of `found` no pattern of `intended` covers, and what of that is not found."""
    rest = {
        path: text
        for path, text in found.items()
        if not any(fnmatchcase(path, pattern) for pattern in intended)
    }
    for pattern in intended:
        if not any(fnmatchcase(path, pattern) for path in found):
            rest[pattern] = "is no difference"
    return rest


def _difference(module: ModuleType, entry: Entry) -> str:
    holder: Any = module
    if entry.owner:
        holder = getattr(module, entry.owner)
        if entry.parameters is None:
            return _member_difference(holder, entry.name, entry.kind == "settable property")
    if not hasattr(holder, entry.name):
        return "missing"
    thing = getattr(holder, entry.name)
    if entry.parameters is not None:
        return _signature_difference(thing, entry.parameters, is_method=bool(entry.owner))
    if entry.value is not None:
        return _value_difference(thing, entry.value)
    is_kind = _KINDS.get(entry.kind or "", lambda _: True)
    return "" if is_kind(thing) else f"is a {type(thing).__name__}"


_KINDS: dict[str, Callable[[Any], bool]] = {
    "module": lambda thing: isinstance(thing, ModuleType),
    "notification event": lambda thing: thing.is_notification and not thing.is_intervention,
    "intervention event": lambda thing: thing.is_intervention and not thing.is_notification,
}


def _member_difference(cls: type, name: str, is_set: bool) -> str:
    """Compare what objects of `cls` are asked for: a property, a slot, a plain attribute."""
    member = inspect.getattr_static(cls, name, None)
    if isinstance(member, property):
        return "cannot be set" if is_set and member.fset is None else ""
    annotated = any(name in vars(base).get("__annotations__", ()) for base in cls.__mro__)
    there = member is not None or annotated or name in dir(_example_of(cls))
    return "" if there else "missing"


def _example_of(cls: type) -> object:
    """Return an object of those classes whose `__init__` sets attributes that are public."""
    package = importlib.import_module(cls.__module__.partition(".")[0])
    if cls.__name__ == "Association":
        return cls(package.AE(), "requestor")
    if cls.__name__ == "ServiceUser":
        return cls(package.Association(package.AE(), "requestor"), "requestor")
    return cls() if cls.__name__ == "A_ASSOCIATE" else None


def _signature_difference(thing: Any, expected: str, is_method: bool) -> str:
    if not callable(thing):
        return "cannot be called"
    parameters = list(inspect.signature(thing).parameters.values())
    if is_method and parameters and parameters[0].name == "self":
        del parameters[0]
    ours = [(each.name, each.kind.name, each.default) for each in parameters]
    theirs = list(_parsed(expected))
    more = ours[len(theirs) :]
    needs_more = any(default is _REQUIRED and kind != "VAR_KEYWORD" for _, kind, default in more)
    if needs_more or ours[: len(theirs)] != theirs:
        return f"takes ({', '.join(map(str, parameters))})"
    return f"also takes {', '.join(name for name, *_ in more)}" if more else ""


def _parsed(parameters: str) -> Iterator[tuple[str, str, Any]]:
    """Yield name, kind and default of all that a call takes."""
    function = ast.parse(f"def f({parameters}): pass").body[0]
    assert isinstance(function, ast.FunctionDef)
    known = function.args
    defaults = [None] * (len(known.args) - len(known.defaults)) + known.defaults
    for argument, default in zip(known.args, defaults, strict=True):
        yield argument.arg, "POSITIONAL_OR_KEYWORD", _literal(default)
    for argument, default in zip(known.kwonlyargs, known.kw_defaults, strict=True):
        yield argument.arg, "KEYWORD_ONLY", _literal(default)
    if known.kwarg:
        yield known.kwarg.arg, "VAR_KEYWORD", _REQUIRED


def _literal(node: ast.expr | None) -> Any:
    return _REQUIRED if node is None else ast.literal_eval(node)


def _value_difference(thing: Any, expected: str) -> str:
    count = re.fullmatch(r"(\d+) entries", expected)
    if count:
        return "" if len(thing) == int(count[1]) else f"has {len(thing)} entries"
    return "" if thing == ast.literal_eval(expected) else f"is {thing!r}"
