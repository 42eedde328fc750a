"""A configuration that is read again while the node serves: routes, access and destinations.

SIGHUP to the node's own process starts it, which passes the signal on to the workers.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields, replace
from typing import Any, NamedTuple

from dicomwire.logs import escaped
from dicomwire.node.configuration import Configuration
from dicomwire.node.failures import log_unexpected

LOGGER = logging.getLogger("dicomwire.node")

_IN_USE = ("access", "destinations", "routes")
"""The keys whose values are used at once; others are used when the node starts."""


class Renewed(NamedTuple):
    """What has become of a configuration that was read again."""

    configuration: Configuration
    """With the new values of the keys that are used at once, and the old ones of all others."""
    changed: list[str]
    """What has changed, for people."""
    waiting: list[str]
    """The keys that have changed, and need a restart."""


def renewed(old: Configuration, new: Configuration) -> Renewed:
    """Return a configuration with the new values that can be used at once."""
    values = {name: getattr(new, name) for name in _IN_USE}
    configuration = replace(old, **values)
    waiting = [
        name
        for name in _names(Configuration)
        if name not in _IN_USE and getattr(old, name) != getattr(new, name)
    ]
    return Renewed(configuration, [*_changes(old, new)], waiting)


def _names(kind: Any) -> list[str]:
    return [each.name for each in fields(kind)]


def _changes(old: Configuration, new: Configuration) -> Iterator[str]:
    for name in _names(old.access):
        if getattr(old.access, name) != getattr(new.access, name):
            yield f"access.{name}"
    for title in sorted({*old.destinations, *new.destinations}):
        before, after = old.destinations.get(title), new.destinations.get(title)
        if before != after:
            how = "changed" if before and after else "added" if after else "removed"
            yield f"destination {title} {how}"
    if old.routes != new.routes:
        yield f"routes (now {len(new.routes)})"


def tell(found: Renewed) -> None:
    """Log what has changed, and what needs a restart."""
    changed = escaped(", ".join(found.changed)) or "nothing that is used at once"
    LOGGER.warning("The configuration is read again; changed: %s", changed)
    if found.waiting:
        LOGGER.warning("Restart the node to change: %s", ", ".join(found.waiting))


@contextmanager
def on_hangup(call: Callable[[], object]) -> Iterator[None]:
    """Call a function on a thread for each SIGHUP during the block.

    Only the main thread can handle signals; from another one, and on Windows, this does nothing.
    """
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "SIGHUP"):
        yield
        return
    reader, writer = os.pipe()

    def wait() -> None:
        while os.read(reader, 1) == b"h":  # a signal wakes it, or the end of the block
            try:
                call()
            except Exception as error:  # whatever it is, the thread must go on
                log_unexpected(LOGGER, error, "The configuration cannot be read again")

    thread = threading.Thread(target=wait, name="reloading", daemon=True)
    # A handler runs in the middle of anything, so it may take no lock.
    before = signal.signal(signal.SIGHUP, lambda *_: os.write(writer, b"h"))
    thread.start()
    try:
        yield
    finally:
        signal.signal(signal.SIGHUP, before)
        os.write(writer, b"e")
        thread.join()
        os.close(reader)
        os.close(writer)
