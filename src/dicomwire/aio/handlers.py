"""Calls a program's handlers from the event loop: awaits coroutines, runs others on a thread.

The services choose the handler, and interpret its result.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import inspect
import time
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, TypeVar

from dicomwire.events import Handlers, NotificationEvent, log_failed_handler
from dicomwire.services.port import END

T = TypeVar("T")

_OF_COROUTINES = inspect.CO_COROUTINE | inspect.CO_GENERATOR | inspect.CO_ASYNC_GENERATOR
_AT_ONCE = 64
_NOT_LONGER = 0.0005
"""Up to `_AT_ONCE` results are fetched from a plain handler in one change of threads, within
`_NOT_LONGER` seconds: a change for each would take longer than most results."""


class AsyncHandlers(Handlers):
    """Handlers that may be coroutine functions.

    Notifications keep their order: plain handlers run on the event loop, at once; coroutines run
    one after the other in tasks of the association.
    """

    __slots__ = ()

    def notify(
        self, assoc: Any, event: NotificationEvent, attrs: dict[str, Any] | None = None
    ) -> None:
        """Call the handlers of `event`, if there are any, and log their exceptions."""
        bound = self.live.get(event)
        if bound is None:
            return
        what = self.event_class(assoc, event, attrs)
        for handler, args in bound:
            try:
                answer = handler(what, *(args or ()))
            except Exception:
                log_failed_handler(event, handler)
            else:
                if inspect.iscoroutine(answer):
                    assoc.run_notification(answer, partial(log_failed_handler, event, handler))


def in_thread(call: Callable[[], T]) -> asyncio.Future[T]:
    """Call `call` on a thread of the loop's executor; return a future of its result."""
    context = contextvars.copy_context()
    loop = asyncio.get_running_loop()
    return loop.run_in_executor(None, partial(context.run, call))


async def ask(question: partial[Any]) -> Any:
    """Call a handler, by awaiting it or on a thread, and return its result."""
    answer = question() if _returns_at_once(question.func) else await in_thread(question)
    if inspect.isawaitable(answer):
        return await answer
    return answer


def _returns_at_once(handler: Any) -> bool:
    """Whether calling the handler only makes a coroutine or a generator, which cannot block."""
    while isinstance(handler, partial):
        handler = handler.func
    if not (inspect.isfunction(handler) or inspect.ismethod(handler)):
        handler = getattr(handler, "__call__", handler)  # noqa: B004  # the method itself
    code = getattr(handler, "__code__", None)
    if code is not None and code.co_flags & _OF_COROUTINES:
        return True
    return inspect.iscoroutinefunction(handler)  # also one that is only marked as such


class PlainResults:
    """The results of a handler that yields without awaiting, fetched on a thread.

    Parameters
    ----------
    many : bool
        Whether several may be fetched before the first of them is sent.
    """

    def __init__(self, results: Iterator[Any], many: bool) -> None:
        self._results = results
        self._many = many
        self._fetched: deque[Any] = deque()
        self._error: BaseException | None = None
        self._loop = asyncio.get_running_loop()
        self._fetching: asyncio.Future[None] | None = None
        self._arrival: asyncio.Future[None] | None = None

    async def next(self) -> Any:
        """Return the next result, or END; an exception of the handler is raised in its order."""
        while not self._fetched:
            if self._error is not None:
                error, self._error = self._error, None
                raise error
            await self._wait()
        return self._fetched.popleft()

    async def _wait(self) -> None:
        """Wait for all results that take little time, or for one that takes longer.

        The end of `_fetch` ends the wait, or `_arrived` after one result.
        """
        if self._fetching is None:
            self._fetching = in_thread(self._fetch)
        fetching = self._fetching
        await asyncio.wait([fetching], timeout=_NOT_LONGER)
        if not (fetching.done() or self._fetched):
            self._arrival = self._loop.create_future()
            if not self._fetched:
                await asyncio.wait([fetching, self._arrival], return_when=asyncio.FIRST_COMPLETED)
            self._arrival = None
        if fetching.done():
            self._fetching = None
            fetching.result()

    def _fetch(self) -> None:
        until = time.perf_counter() + _NOT_LONGER
        try:
            for _ in range(_AT_ONCE if self._many else 1):
                result = next(self._results, END)
                self._fetched.append(result)
                if self._arrival is not None:
                    self._loop.call_soon_threadsafe(self._arrived)
                if result is END or time.perf_counter() > until:
                    return
        except Exception as error:
            self._error = error

    def _arrived(self) -> None:
        if self._arrival is not None and not self._arrival.done():
            self._arrival.set_result(None)

    async def close(self) -> None:
        """Close the handler's generator once it yields: a running thread cannot be stopped.

        A task that is being cancelled does not wait for that.
        """
        close = getattr(self._results, "close", None)
        fetching, task = self._fetching, asyncio.current_task()
        try:
            if fetching is not None:
                if task is not None and task.cancelling():
                    raise asyncio.CancelledError
                await asyncio.wait([fetching])
        except asyncio.CancelledError:
            if close is not None and fetching is not None:
                fetching.add_done_callback(partial(_close_late, close))
            raise
        if close is not None:
            await in_thread(close)


def _close_late(close: Callable[[], Any], _: object) -> None:
    with contextlib.suppress(RuntimeError):  # the loop's executor has been shut down
        in_thread(close)
