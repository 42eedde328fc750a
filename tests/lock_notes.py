"""Notes which lock of the library a thread takes while it holds another.

A lock has the name of its attribute: "Link._turn", or "watcher._creation" in a module.
"""

from __future__ import annotations

import ast
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "src" / "dicomwire"
_KINDS = ("Lock", "RLock", "Condition")
_MAKERS = [f"threading.{kind}" for kind in _KINDS]
SIGNALS = {"Flag._lock", "Group.wake"}
"""Those that one thread takes for another, which waits until they are free."""


def locks_of(paths: list[Path]) -> dict[tuple[str, int], str]:
    """Return the names of the locks that these modules make, by file and line."""
    found = {}
    for path in paths:
        text = path.read_text()
        if not any(maker in text for maker in _MAKERS):  # which is found sooner than read
            continue
        for owner, call in _calls_in(ast.parse(text), path.stem):
            if ast.unparse(call.func) in _MAKERS:
                found[str(path), call.lineno] = owner
    return found


def _calls_in(node: ast.AST, scope: str, name: str = "") -> Iterator[tuple[str, ast.Call]]:
    """Yield the calls in `node`, each with the attribute that its result is assigned to."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.ClassDef):
            yield from _calls_in(child, child.name)
        elif isinstance(child, ast.Assign | ast.AnnAssign) and child.value is not None:
            target = child.targets[0] if isinstance(child, ast.Assign) else child.target
            for attribute, value in _pairs(target, child.value):
                yield from _calls_in(ast.Expr(value), scope, attribute)
        else:
            if isinstance(child, ast.Call):
                yield f"{scope}.{name}", child
            yield from _calls_in(child, scope, name)


def _pairs(target: ast.expr, value: ast.expr) -> Iterator[tuple[str, ast.expr]]:
    if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
        for one, other in zip(target.elts, value.elts, strict=False):
            yield from _pairs(one, other)
    else:
        yield ast.unparse(target).rpartition(".")[2], value


class LockNotes:
    """What threads have done with the locks that were made meanwhile.

    Attributes
    ----------
    taken : set of str
        The locks that were taken.
    nested : set of (str, str)
        The locks that were held, each with one that was taken meanwhile.
    """

    def __init__(self) -> None:
        self.taken: set[str] = set()
        self.nested: set[tuple[str, str]] = set()
        self._of_thread = threading.local()

    @property
    def held(self) -> list[NotedLock]:
        """The locks that the calling thread holds, in the order of taking them."""
        held: list[NotedLock] = self._of_thread.__dict__.setdefault("held", [])
        return held

    def note(self, name: str) -> None:
        """Note that the calling thread takes a lock, or waits."""
        self.taken.add(name)
        self.nested |= {(other.name, name) for other in self.held}


class NotedLock:
    """A lock with its name."""

    def __init__(self, notes: LockNotes, lock: Any, name: str) -> None:
        self._notes = notes
        self._lock = lock
        self.name = name

    def acquire(self, *args: Any, **options: Any) -> bool:
        if self not in self._notes.held:  # else it is only entered once more
            self._notes.note(self.name)
        is_taken: bool = self._lock.acquire(*args, **options)
        if is_taken:
            self._notes.held.append(self)
        return is_taken

    def release(self) -> None:
        self._lock.release()
        held = self._notes.held
        del held[len(held) - 1 - held[::-1].index(self)]

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(self, *_: object) -> None:
        self.release()


class NotedSignal(NotedLock):
    """A lock that no thread holds for itself: only waiting for it is of interest."""

    def acquire(self, *args: Any, **options: Any) -> bool:
        if self._lock.acquire(blocking=False):
            return True
        self._notes.note(self.name)
        return bool(self._lock.acquire(*args, **options))

    def release(self) -> None:
        self._lock.release()


def note_locks(patch: pytest.MonkeyPatch, names: dict[tuple[str, int], str]) -> LockNotes:
    """Note the locks that are made from now on in the lines of `names`."""
    notes = LockNotes()

    def noting(make: Callable[..., Any]) -> Callable[..., Any]:
        def made(*args: Any) -> Any:
            caller = sys._getframe(1)
            name = names.get((caller.f_code.co_filename, caller.f_lineno))
            if name is None:
                return make(*args)
            if make is make_condition:
                return make(*(args or [NotedLock(notes, make_lock(), name)]))
            return (NotedSignal if name in SIGNALS else NotedLock)(notes, make(), name)

        return made

    make_lock, make_condition = threading.Lock, threading.Condition
    for kind in _KINDS:
        patch.setattr(threading, kind, noting(getattr(threading, kind)))
    return notes
