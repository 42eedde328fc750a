"""The DIMSE messages as classes to know a `Message` of dicomwire by, with `isinstance`.

There are no objects of these classes.
"""

from __future__ import annotations

from typing import Any

from dicomwire.dimse_primitives import Command, Message


class _Kind(type):
    """The class of the messages that have one command."""

    commands: frozenset[Command]

    def __instancecheck__(cls, instance: Any) -> bool:
        return isinstance(instance, Message) and instance.command in cls.commands


class DIMSEMessage(metaclass=_Kind):
    """Any message."""

    commands = frozenset(Command)


globals().update(
    (command.name, _Kind(command.name, (DIMSEMessage,), {"commands": {command}}))
    for command in Command
)
