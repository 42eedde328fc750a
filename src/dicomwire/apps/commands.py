"""Runs the commands that storescp is told to run for each object and association.

A command is a list of arguments and no line for a shell. What a peer sent gets into an argument
only if it cannot be taken for an option or a path.
"""

from __future__ import annotations

import logging
import re
import shlex
from argparse import ArgumentTypeError
from collections.abc import Mapping
from threading import BoundedSemaphore
from typing import TYPE_CHECKING

from dicomwire.logs import escaped

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

AT_A_TIME = 4
"""Commands that run at a time in a process."""
WAITING = 10_000
"""Commands that wait for their turn; when there are more, a command is not run."""
LONGEST = 600.0
"""Seconds after which a command is killed."""

_FIELD = re.compile(r"\{(\w*)\}")
_UNSAFE = re.compile(r"[^A-Za-z0-9_.:-]")


class Command:
    """Reads a command: words as in a shell, with placeholders such as {path}."""

    def __init__(self, names: tuple[str, ...]) -> None:
        self._names = names

    def __call__(self, text: str) -> list[str]:
        try:
            words = shlex.split(text)
        except ValueError as error:
            raise ArgumentTypeError(f"{text!r}: {error}") from None
        if not words:
            raise ArgumentTypeError("a command has at least one word")
        unknown = [name for word in words for name in _FIELD.findall(word)]
        unknown = [name for name in unknown if name not in self._names]
        if unknown:
            known = ", ".join(f"{{{name}}}" for name in self._names)
            raise ArgumentTypeError(f"there is no {{{unknown[0]}}}; there are {known}")
        return words


def filled(words: list[str], values: Mapping[str, str]) -> list[str]:
    """Return the arguments of a command, with the values in place of the placeholders.

    A value stays within its argument, whatever characters it has.
    """
    return [_FIELD.sub(lambda match: values[match[1]], word) for word in words]


def needs(words: list[str] | None, name: str) -> bool:
    """Return whether a command has the placeholder `name`."""
    return any(name in _FIELD.findall(word) for word in words or ())


def harmless(text: str) -> str:
    """Return text of a peer for an argument: other characters become `_`, a first `-` too."""
    tamed = _UNSAFE.sub("_", text)
    return f"_{tamed[1:]}" if tamed.startswith("-") else tamed


class Runner:
    """Runs commands on threads, a few at a time; its errors are only logged."""

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger
        self._pool: ThreadPoolExecutor | None = None  # made in the process that runs commands
        self._room = BoundedSemaphore(WAITING)

    def submit(self, arguments: list[str]) -> None:
        """Run a command soon."""
        if not self._room.acquire(blocking=False):
            text = "Not run, since %d commands wait: %s"
            self._logger.error(text, WAITING, _shown(arguments))
            return
        if self._pool is None:
            from concurrent.futures import ThreadPoolExecutor

            self._pool = ThreadPoolExecutor(AT_A_TIME, "storescp-exec")
        self._pool.submit(self._run, arguments)

    def _run(self, arguments: list[str]) -> None:
        import subprocess

        self._room.release()
        try:
            done = subprocess.run(arguments, stdin=subprocess.DEVNULL, timeout=LONGEST, check=False)
        except (OSError, ValueError, subprocess.TimeoutExpired) as error:
            self._logger.error("Command failed: %s: %s", _shown(arguments), escaped(str(error)))
            return
        if done.returncode:
            text = "Command failed with exit code %d: %s"
            self._logger.error(text, done.returncode, _shown(arguments))
        else:
            self._logger.info("Command done: %s", _shown(arguments))

    def close(self) -> None:
        """Wait for the commands that run or wait for their turn."""
        if self._pool is not None:
            self._pool.shutdown()


def _shown(arguments: list[str]) -> str:
    return escaped(shlex.join(arguments))
