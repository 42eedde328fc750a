"""The DIMSE messages that events show to programs.

One class represents all messages; its `command` is the kind. `protocol.command` defines it.
"""

from __future__ import annotations

from dicomwire.protocol.command import Command as Command
from dicomwire.protocol.command import Message as Message
