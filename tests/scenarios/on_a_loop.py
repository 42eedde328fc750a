"""What tests of the asyncio face alone share: an event loop each, of either kind, in debug mode."""

from __future__ import annotations

import asyncio
import functools
import gc
import os
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

from dicomwire import Settings, aio
from raw_peer import CT, VERIFICATION, WAIT

LOCAL = ("127.0.0.1", 0)


def on_a_loop(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run a test on a loop of its own; fail if a task or a complaint is left."""

    @functools.wraps(test)
    def run(*args: Any, **options: Any) -> None:
        complaints: list[Any] = []

        async def whole() -> None:
            loop = asyncio.get_running_loop()
            loop.set_exception_handler(lambda _, context: complaints.append(context))
            await test(*args, **options)
            others = asyncio.all_tasks() - {asyncio.current_task()}
            if others:
                _, others = await asyncio.wait(others, timeout=WAIT)
            assert not others, others
            gc.collect()

        asyncio.run(whole(), debug=True)
        assert not complaints, complaints

    return run


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


async def until(condition: Callable[[], object]) -> None:
    """Wait until `condition` holds."""
    async with asyncio.timeout(WAIT):
        while not condition():
            await asyncio.sleep(0.002)


async def at_rest(server: aio.AssociationServer) -> None:
    """Wait until nothing of past associations is left at a server but what listens."""

    def is_at_rest() -> bool:
        others = asyncio.all_tasks() - {asyncio.current_task(), server._accepting}
        return not (others or server._connections or server.active_associations)

    await until(is_at_rest)


@asynccontextmanager
async def pair(
    handlers: list[Any], supported: tuple[str, ...] = (VERIFICATION, CT), **settings: Any
) -> AsyncIterator[tuple[aio.Association, aio.AssociationServer]]:
    """Give an association with a server, and this; they are ended at the end of the block."""
    ae = aio.AE("SCP", Settings(**settings))
    client = aio.AE("SCU", Settings(**settings))
    for uid in supported:
        ae.add_supported_context(uid)
        client.add_requested_context(uid)
    server = await ae.start_server(LOCAL, evt_handlers=handlers)
    try:
        assoc = await client.associate("127.0.0.1", server.server_address[1])
        try:
            yield assoc, server
        finally:
            assoc.abort()
            await assoc.join()
    finally:
        await server.close(0.05)
