"""A request of ours, and its responses: those that have come and have not been taken.

How a program waits for them is each face's own.
"""

from __future__ import annotations

from collections import deque
from typing import Self

from dicomwire.logs import LOGGER
from dicomwire.protocol.command import Command, Message
from dicomwire.services import scu
from dicomwire.services.port import Incoming
from dicomwire.status import STATUS_WARNING, code_to_category


class Pending:
    """A request of ours, and the responses to it that have come and not been taken.

    Several requests that have one response each may share it (see `join`).

    Attributes
    ----------
    responses : deque of Incoming
        Those that have come and have not been taken.
    """

    __slots__ = ("_open", "_request", "_wanted", "responses")

    def __init__(self, request: Message) -> None:
        self._request = request
        self.responses: deque[Incoming] = deque()
        self._wanted = True
        self._open = 1  # requests whose last response has not come

    def join(self) -> Self:
        """Take the responses to one more request, which is like the first, too."""
        self._open += 1
        return self

    def part(self) -> None:
        """Undo `join`, or the first request: it was not sent."""
        self._open -= 1

    @property
    def is_over(self) -> bool:
        """Whether the last response has come."""
        return not self._open

    def add(self, incoming: Incoming) -> bool:
        """Take a response that came in; return whether none can come after it.

        A warning is the last one of a C-FIND, and yet there are providers that go on.
        """
        response = incoming.message
        request = self._request
        is_last = request.command not in scu.OF_MANY_RESPONSES or scu.is_last(request, response)
        if not self._open:
            LOGGER.warning("%s after the last one is ignored", response.name)
            incoming.discard()
        else:
            self._open -= is_last
            if self._wanted:
                self.responses.append(incoming)
            else:
                incoming.discard()
        return is_last and not (
            response.command is Command.C_FIND_RSP
            and code_to_category(response.Status or 0) == STATUS_WARNING
        )

    @property
    def has_response(self) -> bool:
        """Whether there is a response to take."""
        return bool(self.responses)

    def take(self) -> Incoming:
        """Return a response that has come."""
        return self.responses.popleft()

    def abandon(self) -> None:
        """Let all responses pass by that have not been taken."""
        self._wanted = False
        while self.responses:
            self.responses.popleft().discard()
