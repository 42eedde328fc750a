"""The tasks of a dispatcher, and how they get to the association that sends them."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

from dicomwire.bulk.pipeline import ItemReader, Pipeline, Sent
from dicomwire.data.storable import Opened
from dicomwire.services.port import END

ContextKey: TypeAlias = tuple[str, str]
"""SOP class and transfer syntax."""


@dataclass(slots=True)
class Task:
    """An object to send."""

    number: int  # no other task has it
    item: Any
    uid: str
    key: ContextKey
    opened: Opened | None = None  # the data of a small file, until the first attempt
    attempts: int = 0


class SendingAssociation(Protocol):
    """An association, and the tasks that are sent on it."""

    async def next(self) -> Sent | None:
        """Return the next result, whose item is the task; None when there are no more."""

    def at_hand(self) -> Sent | None:
        """Return the next result if there is one now."""

    async def end(self) -> None:
        """Release the association."""

    def abort(self) -> None:
        """Abort the association."""


class Tasks(Protocol):
    """Where the tasks of an association come from: the dispatcher, or its process."""

    @property
    def may_wait(self) -> bool:
        """Whether taking the next task may block."""

    @property
    def is_stopped(self) -> bool:
        """Whether no more objects are to be sent."""

    async def take(self, sender: Any) -> deque[Task]:
        """Return the next tasks; none if there are none now."""


class Feed(ItemReader):
    """The tasks of a sender, for its association.

    Attributes
    ----------
    tasks : deque of Task
        Those that were taken from the dispatcher, and not sent.
    """

    def __init__(self, source: Tasks, sender: Any = None) -> None:
        super().__init__(())
        self.may_wait = source.may_wait
        self.reads_ahead = False  # the next task may be that of another sender
        self.tasks: deque[Task] = deque()
        self.iterator = iter(lambda: self.tasks.popleft(), END)  # while `is_at_hand`
        self._source = source
        self._sender = sender

    @property
    def is_at_hand(self) -> bool:
        """Whether a task was taken from the dispatcher that is to be sent."""
        return bool(self.tasks) and not self._source.is_stopped

    async def take(self) -> Any:
        """Return the next task, or END if there is none now."""
        if self._source.is_stopped:
            return END
        if not self.tasks:
            self.tasks = await self._source.take(self._sender)
        return self.tasks.popleft() if self.tasks else END


class TaskPipeline(Pipeline):
    """Sends the items of tasks on an association of this process."""

    def storable_of(self, item: Task) -> Any:
        opened, item.opened = item.opened, None
        return item.item if opened is None else opened

    async def end(self) -> None:
        """Release the association."""
        await self._association.end()

    def abort(self) -> None:
        """Abort the association."""
        self.port.abort()
