"""A request that we sent, and the queue of its received responses.

The port of each face waits for responses in its own way.
"""

from __future__ import annotations

from collections import deque
from typing import Any, Protocol, Self

from dicomwire.logs import LOGGER
from dicomwire.protocol.command import Command, Message
from dicomwire.services import scu
from dicomwire.services.port import Incoming
from dicomwire.status import STATUS_WARNING, code_to_category


class Waiting(Protocol):
    """The port, as its operations see it."""

    async def wait_for_response(self, operation: Any) -> None:
        """Wait until `operation` has a response, within the DIMSE timeout."""


class Operation:
    """A request that we sent, and the queue of its received responses.

    Several requests with one response each may share one queue (see `join`).

    Attributes
    ----------
    responses : deque of Incoming
        The received responses that the program has not taken.
    deadline : float or None
        When the next response must be there, if that was awaited before and other bytes arrived.
    """

    __slots__ = ("_open", "_port", "_request", "_wanted", "deadline", "responses")

    def __init__(self, port: Waiting, request: Message) -> None:
        self._port = port
        self._request = request
        self.responses: deque[Incoming] = deque()
        self.deadline: float | None = None
        self._wanted = True
        self._open = 1  # requests whose last response has not arrived

    def join(self) -> Self:
        """Add one more request of the same kind, whose response comes to this queue."""
        self._open += 1
        return self

    def withdraw(self) -> None:
        """Remove one request, since it was not sent."""
        self._open -= 1

    @property
    def is_over(self) -> bool:
        """Whether the last response has arrived."""
        return not self._open

    def add(self, incoming: Incoming) -> bool:
        """Add a received response; return whether no other can follow it.

        A warning is the last response to a C-FIND, but some providers send more after it.
        """
        response = incoming.message
        request = self._request
        is_last = request.command not in scu.OF_MANY_RESPONSES or scu.is_last(request, response)
        if not self._open:
            LOGGER.warning("A %s after the last response is ignored", response.name)
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

    async def response(self) -> Incoming:
        """Return the next response, within the DIMSE timeout."""
        if not self.responses:
            await self._port.wait_for_response(self)
        return self.take()

    def take(self) -> Incoming:
        """Remove and return the first response."""
        self.deadline = None
        return self.responses.popleft()

    def abandon(self) -> None:
        """Discard the responses in the queue, and all that arrive from now on."""
        self._wanted = False
        while self.responses:
            self.responses.popleft().discard()
