"""Tasks that are cancelled, at every await there is: the association ends, and nothing is left."""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from on_a_loop import at_rest, on_a_loop, open_files, pair
from pydicom.dataset import Dataset
from scenario import make_ct

from dicomwire import AssociationFailure, Settings, aio, evt
from dicomwire.sop_class import PatientRootQueryRetrieveInformationModelFind as FIND
from raw_peer import CT, VERIFICATION, WAIT, RawServer

QUERY = Dataset()
QUERY.QueryRetrieveLevel = "PATIENT"
QUERY.PatientID = ""


async def cancelled(task: asyncio.Task[object]) -> None:
    """Cancel a task; the cancellation goes on, whatever it was at."""
    task.cancel()
    await asyncio.wait([task], timeout=WAIT)
    assert task.cancelled(), task


def an_ae(**settings: object) -> aio.AE:
    ae = aio.AE(settings=Settings(**settings))
    for uid in (VERIFICATION, CT, FIND):
        ae.add_requested_context(uid)
    return ae


@on_a_loop
async def test_connecting() -> None:
    """To where nothing is accepted any more."""
    with RawServer() as listener:
        listener.socket.listen(0)
        ae = an_ae()
        opening = [asyncio.ensure_future(_associate(ae, listener.port)) for _ in range(8)]
        await asyncio.sleep(0)
        for task in opening:
            await cancelled(task)
        assert not ae.active_associations


async def _associate(ae: aio.AE, port: int, **options: object) -> aio.Association:
    return await ae.associate("127.0.0.1", port, **options)


@pytest.mark.parametrize("secure", [False, True], ids=["associate", "tls"])
@on_a_loop
async def test_waiting_for_an_answer(secure: bool) -> None:
    options = {"tls_args": (ssl.create_default_context(), "name")} if secure else {}
    with RawServer() as listener:
        ae = an_ae()
        task = asyncio.ensure_future(_associate(ae, listener.port, **options))
        with await asyncio.to_thread(listener.take) as peer:
            await asyncio.to_thread(peer.receive_bytes, 5)
            await cancelled(task)
            assert not ae.active_associations
            if not secure:
                await asyncio.to_thread(_drain, peer)


def _drain(peer: object) -> None:
    while peer.socket.recv(65536):
        pass


@on_a_loop
async def test_sending() -> None:
    """A large object to a peer that does not read it."""
    with RawServer() as listener:
        ae = an_ae()
        task = asyncio.ensure_future(_associate(ae, listener.port))
        with await asyncio.to_thread(listener.take) as peer:
            await asyncio.to_thread(peer.accept)
            assoc = await task
            sending = asyncio.ensure_future(assoc.send_c_store(make_ct(32 << 20)))
            await asyncio.to_thread(peer.receive_bytes, 1000)
            await cancelled(sending)
            assert assoc.is_aborted
            await assoc.join()


@pytest.mark.parametrize("what", ["echo", "find", "release"])
@on_a_loop
async def test_waiting_for_a_response(what: str) -> None:
    with RawServer() as listener:
        ae = an_ae()
        task = asyncio.ensure_future(_associate(ae, listener.port))
        with await asyncio.to_thread(listener.take) as peer:
            await asyncio.to_thread(peer.accept)
            assoc = await task
            calls: dict[str, Callable[[], Awaitable[object]]] = {
                "echo": assoc.send_c_echo,
                "find": lambda: anext(assoc.send_c_find(QUERY, FIND)),
                "release": assoc.release,
            }
            waiting = asyncio.ensure_future(calls[what]())
            await asyncio.to_thread(peer.receive)
            await cancelled(waiting)
            assert assoc.is_aborted
            await assoc.join()
            assert not ae.active_associations


@on_a_loop
async def test_a_deadline_of_the_program() -> None:
    """Which is a cancellation too."""
    asked, ended = asyncio.Event(), asyncio.Event()

    async def never(event: evt.Event) -> int:
        asked.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()
        return 0

    async with pair([(evt.EVT_C_ECHO, never)]) as (assoc, _):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await assoc.send_c_echo()
        assert assoc.is_aborted
        await asked.wait()
        assert not ended.is_set()  # a handler may complete what it is at …
    assert ended.is_set()  # … unless the server is closed


@on_a_loop
async def test_task_group() -> None:
    """One task fails, and the others are cancelled with their associations."""

    async def slow(event: evt.Event) -> int:
        await asyncio.Event().wait()
        return 0

    ae = aio.AE("SCP", Settings(maximum_associations=20))
    ae.add_supported_context(VERIFICATION)
    async with ae.start_server(("127.0.0.1", 0), evt_handlers=[(evt.EVT_C_ECHO, slow)]) as server:
        port = server.server_address[1]
        client = an_ae()

        async def echo() -> None:
            async with client.associate("127.0.0.1", port) as assoc:
                await assoc.send_c_echo()

        async def fail() -> None:
            while len(server.active_associations) < 10:
                await asyncio.sleep(0)
            raise LookupError

        with pytest.raises(ExceptionGroup) as raised:  # noqa: PT012
            async with asyncio.TaskGroup() as group:
                for _ in range(10):
                    group.create_task(echo())
                group.create_task(fail())
        assert [type(each) for each in raised.value.exceptions] == [LookupError]
        assert not client.active_associations
        await server.close(0)  # its handlers do not end by themselves


async def whole_program(port: int) -> None:
    ae = an_ae()
    async with ae.associate("127.0.0.1", port) as assoc:
        await assoc.send_c_echo()
        await assoc.send_c_store(make_ct(300_000))
        async for _ in assoc.send_c_find(QUERY, FIND):
            pass


@on_a_loop
async def test_at_every_step_of_the_loop() -> None:
    """Whichever step of a whole program it comes at, it goes on, and nothing is left."""

    async def found(event: evt.Event) -> AsyncIterator[tuple[int, Dataset | None]]:
        for _ in range(3):
            await asyncio.sleep(0)
            yield 0xFF00, QUERY

    async def stored(event: evt.Event) -> int:
        await asyncio.sleep(0)
        return 0

    ae = aio.AE("SCP", Settings(maximum_associations=1000))
    for uid in (VERIFICATION, CT, FIND):
        ae.add_supported_context(uid)
    handlers = [(evt.EVT_C_FIND, found), (evt.EVT_C_STORE, stored)]
    async with ae.start_server(("127.0.0.1", 0), evt_handlers=handlers) as server:
        port = server.server_address[1]
        await whole_program(port)
        await at_rest(server)
        files = open_files()
        completed = 0
        for step in range(400):
            task = asyncio.ensure_future(whole_program(port))
            for _ in range(step):
                if task.done():
                    break
                await asyncio.sleep(0)
            if task.done():
                task.result()
                completed += 1
                if completed > 3:
                    break
                continue
            task.cancel()
            await asyncio.wait([task], timeout=WAIT)
            assert task.cancelled(), (step, task)
        assert completed > 3
        await at_rest(server)
        assert open_files() <= files, os.listdir("/proc/self/fd")


@on_a_loop
async def test_a_handler_is_cancelled_when_the_server_cannot_wait_for_it() -> None:
    began, ended = asyncio.Event(), []

    async def hang(event: evt.Event) -> int:
        began.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise
        return 0

    async with pair([(evt.EVT_C_ECHO, hang)]) as (assoc, server):
        asking = asyncio.ensure_future(assoc.send_c_echo())
        await began.wait()
        await server.close(0.05)
        assert ended == ["cancelled"]
        assert not server.active_associations
        await asyncio.wait([asking])
        assert isinstance(asking.exception(), AssociationFailure)
