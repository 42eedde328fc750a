"""Compares a package with the names and call signatures in public_surface.txt.

Run as a script, for a package that the test process should not import, it prints what differs as
JSON.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import json
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import MemberDescriptorType, ModuleType
from typing import Any, NamedTuple

SURFACE = Path(__file__).with_name("public_surface.txt")

_EMPTY = inspect.Parameter.empty
_LINE = re.compile(r"(?P<name>\w+)(\((?P<parameters>.*)\)|: (?P<kind>.+)| = (?P<value>.+))?")


class Entry(NamedTuple):
    """A line of the file: one name, and what is known of it."""

    module: str
    owner: str
    name: str
    parameters: str | None
    kind: str | None
    value: str | None

    @property
    def key(self) -> str:
        """How the entry is called in lists of differences: "module:Class.member"."""
        return f"{self.module}:{self.owner}{'.' if self.owner else ''}{self.name}"


def entries() -> Iterator[Entry]:
    """Read the file."""
    module = owner = ""
    for line in SURFACE.read_text().splitlines():
        if not line or line.startswith("#"):
            continue
        if line.startswith("["):
            module = line[1:-1]
            continue
        match = _LINE.fullmatch(line.strip())
        assert match, line
        if line.startswith(" "):
            yield Entry(module, owner, **match.groupdict())
        else:
            owner = match["name"]
            yield Entry(module, "", **match.groupdict())


def differences(package: str) -> dict[str, str]:
    """Return how `package` differs from the file, by the keys of the entries."""
    found = {}
    for entry in entries():
        difference = _difference(package, entry)
        if difference:
            found[entry.key] = difference
    return found


def _difference(package: str, entry: Entry) -> str:
    try:
        holder: Any = importlib.import_module(f"{package}.{entry.module}".rstrip("."))
    except ModuleNotFoundError:
        return "no such module"
    if entry.owner:
        holder = getattr(holder, entry.owner, None)
        if holder is None:
            return "no such class"
        if entry.parameters is None:
            return _member_difference(holder, entry.name, entry.kind or "")
    if not hasattr(holder, entry.name):
        return "no such name"
    thing = getattr(holder, entry.name)
    if entry.parameters is not None:
        return _signature_difference(thing, entry.parameters, is_method=bool(entry.owner))
    if entry.value is not None:
        return _value_difference(thing, entry.value)
    expected = _KINDS.get(entry.kind or "value")
    return "" if expected is None or expected(thing) else f"is a {type(thing).__name__}"


_KINDS: dict[str, Callable[[Any], bool]] = {
    "module": lambda thing: isinstance(thing, ModuleType),
    "notification event": lambda thing: thing.is_notification and not thing.is_intervention,
    "intervention event": lambda thing: thing.is_intervention and not thing.is_notification,
}


def _member_difference(cls: type, name: str, kind: str) -> str:
    """Compare what is read (and perhaps set) of an object: property, slot or plain attribute."""
    member = inspect.getattr_static(cls, name, None)
    if isinstance(member, property):
        writeable = member.fset is not None
        return "" if writeable or kind != "settable property" else "cannot be set"
    if member is not None or isinstance(member, MemberDescriptorType):
        return ""
    annotated = any(name in getattr(base, "__annotations__", ()) for base in cls.__mro__)
    return "" if annotated or _assigns(cls, name) else "no such attribute"


def _assigns(cls: type, name: str) -> bool:
    """Return whether an `__init__` of the class sets the attribute."""
    assignment = re.compile(rf"\bself\.{name}(: [^=\n]+)? = |\bself\.{name}, |, self\.{name} = ")
    initializers = [vars(base).get("__init__") for base in cls.__mro__]
    return any(
        assignment.search(inspect.getsource(each))
        for each in initializers
        if inspect.isfunction(each) and each.__code__.co_filename != "<string>"
    )


def _signature_difference(thing: Any, expected: str, is_method: bool) -> str:
    try:
        parameters = list(inspect.signature(thing).parameters.values())
    except (TypeError, ValueError) as error:
        return f"cannot be called: {error}"
    if is_method and parameters and parameters[0].name == "self":
        del parameters[0]
    ours = [(each.name, each.kind.name, each.default) for each in parameters]
    theirs = list(_parsed(expected))
    if ours == theirs:
        return ""
    more = ours[len(theirs) :]
    if ours[: len(theirs)] == theirs and all(default is not _EMPTY for *_, default in more):
        return f"also takes {', '.join(name for name, *_ in more)}"
    return f"takes {inspect.signature(thing)}"


def _parsed(parameters: str) -> Iterator[tuple[str, str, Any]]:
    """Yield name, kind and default of what a call takes."""
    function = ast.parse(f"def f({parameters}): pass").body[0]
    assert isinstance(function, ast.FunctionDef)
    arguments = function.args
    defaults: list[ast.expr | None] = [*arguments.defaults]
    defaults[:0] = [None] * (len(arguments.args) - len(defaults))
    for argument, default in zip(arguments.args, defaults, strict=True):
        yield argument.arg, "POSITIONAL_OR_KEYWORD", _literal(default)
    for argument, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True):
        yield argument.arg, "KEYWORD_ONLY", _literal(default)
    if arguments.kwarg:
        yield arguments.kwarg.arg, "VAR_KEYWORD", _EMPTY


def _literal(node: ast.expr | None) -> Any:
    return _EMPTY if node is None else ast.literal_eval(node)


def _value_difference(thing: Any, expected: str) -> str:
    count = re.fullmatch(r"(\d+) entries", expected)
    if count:
        return "" if len(thing) == int(count[1]) else f"has {len(thing)} entries"
    return "" if thing == ast.literal_eval(expected) else f"is {thing!r}"


if __name__ == "__main__":
    json.dump(differences(sys.argv[1]), sys.stdout)
