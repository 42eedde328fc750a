"""The DIMSE messages that events show to programs.

There is one class for all of them, whose `command` says which one it is. Nothing is made here.
"""

from __future__ import annotations

from dicomwire.protocol.command import Command, Message

__all__ = ["Command", "Message"]
