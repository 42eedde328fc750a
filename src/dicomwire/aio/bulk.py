"""Sends many objects to one peer, over several associations at a time, on an event loop.

`bulk.dispatcher` spreads the objects over the associations, and repeats them if necessary.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from functools import partial
from typing import Any, Self

from dicomwire.aio.ae import ApplicationEntity, Opening
from dicomwire.aio.association import Association
from dicomwire.bulk.dispatcher import Dispatcher, Face, Retry
from dicomwire.bulk.ledger import Ledger
from dicomwire.bulk.pipeline import Items, Sent
from dicomwire.bulk.tasks import ContextKey, Feed, SendingAssociation, TaskPipeline
from dicomwire.session.contexts import build_context


def send_many(
    ae: ApplicationEntity,
    address: tuple[Any, int],
    items: Items,
    *,
    associations: int = 1,
    window: int = 1,
    priority: int = 2,
    retry: Retry | None = None,
    ledger: str | os.PathLike[str] | None = None,
    transfer_syntax: str | None = None,
    ae_title: str = "ANY-SCP",
    **options: Any,
) -> SendMany:
    """Send any number of objects to a peer, in parallel, and again after temporary failures.

    Like `dicomwire.send_many`; `items` may also be an asynchronous iterable. Call it while an
    event loop runs.
    """
    if associations < 1:
        raise ValueError(f"associations is 1 or more, not {associations}")
    host, port = address
    options |= {"ae_title": ae_title, "window": window}
    face = _Associations(partial(ae.associate, host, port, **options))
    record = Ledger(ledger, f"{ae_title} at {host}:{port}") if ledger is not None else None
    dispatcher = Dispatcher(face, items, associations, priority, retry, record, transfer_syntax)
    return SendMany(dispatcher, associations, record)


class SendMany(AsyncIterator[Sent]):
    """An iterator over the results of sent objects; an async context manager that stops sending.

    Tasks of their own send the objects, beginning with the first call of `anext`. If you stop
    before the last result, call `aclose` or leave the context.
    """

    def __init__(self, dispatcher: Dispatcher, senders: int, ledger: Ledger | None) -> None:
        self._dispatcher = dispatcher
        self._senders = senders
        self._ledger = ledger
        self._tasks: list[asyncio.Task[None]] = []
        self._is_closed = False

    async def __anext__(self) -> Sent:
        if self._is_closed:
            raise StopAsyncIteration
        if not self._tasks:
            self._tasks = [
                asyncio.create_task(self._dispatcher.run()) for _ in range(self._senders)
            ]
        try:
            sent = self._dispatcher.at_hand() or await self._dispatcher.next()
        except BaseException:
            await self.aclose(0)
            raise
        if sent is None:
            await self.aclose()
            raise StopAsyncIteration
        return sent

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: Any, error: Any, trace: Any) -> None:
        await self.aclose(2.0 if kind is None else 0)

    async def aclose(self, timeout: float = 2.0) -> None:
        """Send no more objects; after `timeout` seconds, abort associations with outstanding ones.

        The ledger has every answered object, also if its result has not been taken.
        """
        if self._is_closed:
            return
        self._is_closed = True
        try:
            if self._tasks:
                await self._dispatcher.stop()
                await asyncio.wait(self._tasks, timeout=timeout)
        finally:
            for task in self._tasks:
                task.cancel()  # this aborts the association of the sender
            await asyncio.gather(*self._tasks, return_exceptions=True)
            if self._ledger is not None:
                await asyncio.to_thread(self._ledger.close)  # on a thread: it waits for the disk


class _Monitor:
    """An `asyncio.Condition` with a timeout for `wait`."""

    def __init__(self) -> None:
        self._condition = asyncio.Condition()

    async def __aenter__(self) -> Self:
        await self._condition.acquire()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._condition.release()

    async def wait(self, timeout: float | None = None) -> None:
        try:
            async with asyncio.timeout(timeout):
                await self._condition.wait()
        except TimeoutError:
            pass

    def notify_all(self) -> None:
        self._condition.notify_all()


class _Associations(Face):
    """Associations, waiting and the clock of the asyncio face."""

    monitor = _Monitor

    def __init__(self, associate: partial[Opening[Association]]) -> None:
        self._associate = associate
        self.now = asyncio.get_running_loop().time

    async def associate(
        self, keys: list[ContextKey], feed: Feed, priority: int
    ) -> SendingAssociation:
        association = await self._associate([build_context(*key) for key in keys])
        return TaskPipeline(association, feed, priority)

    async def note(self, ledger: Ledger, sent: Sent) -> None:
        if ledger.waits_next:
            await asyncio.to_thread(ledger.note, sent)
        else:
            ledger.note(sent)
