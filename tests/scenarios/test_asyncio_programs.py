"""What programs can do on an event loop alone: handlers, sinks, back-pressure, draining, many."""

from __future__ import annotations

import asyncio
import gc
import logging
import threading
import time
import tracemalloc
from collections.abc import AsyncIterator
from typing import Any

import pytest
from on_a_loop import LOCAL, at_rest, on_a_loop, open_files, pair, until
from pydicom.dataset import Dataset
from scenario import Outstanding, make_ct

from dicomwire import AssociationFailure, Settings, aio, build_role, evt
from dicomwire.aio.port import AioOperation
from dicomwire.data.payloads import MemoryPayload
from dicomwire.sop_class import PatientRootQueryRetrieveInformationModelFind as FIND
from dicomwire.sop_class import PatientRootQueryRetrieveInformationModelGet as GET
from raw_peer import CT, EXPLICIT, VERIFICATION, WAIT

QUERY = Dataset()
QUERY.QueryRetrieveLevel = "PATIENT"
QUERY.PatientID = ""


# --- Handlers -----------------------------------------------------------------------------------


@on_a_loop
async def test_handlers_that_are_coroutine_functions_and_asynchronous_generators() -> None:
    async def echo(event: evt.Event) -> int:
        await asyncio.sleep(0)
        return 0

    async def find(event: evt.Event) -> AsyncIterator[tuple[int, Dataset]]:
        for number in range(3):
            await asyncio.sleep(0)
            answer = Dataset()
            answer.PatientID = str(number)
            yield 0xFF00, answer

    handlers = [(evt.EVT_C_ECHO, echo), (evt.EVT_C_FIND, find)]
    async with pair(handlers, (VERIFICATION, FIND)) as (assoc, _):
        assert (await assoc.send_c_echo()).Status == 0
        found = [each async for _, each in assoc.send_c_find(QUERY, FIND)]
        assert [each and each.PatientID for each in found] == ["0", "1", "2", None]


@on_a_loop
async def test_a_retrieval_by_asynchronous_generators() -> None:
    stored = []

    async def get(event: evt.Event) -> AsyncIterator[Any]:
        yield 3
        for number in range(3):
            await asyncio.sleep(0)
            yield 0xFF00, make_ct(5000, f"1.2.{number}")

    async def store(event: evt.Event) -> int:
        await asyncio.sleep(0)
        stored.append(event.dataset.SOPInstanceUID)
        return 0

    ae, client = aio.AE("SCP"), aio.AE()
    ae.add_supported_context(GET)
    ae.add_supported_context(CT, scu_role=True, scp_role=True)
    client.add_requested_context(GET)
    client.add_requested_context(CT)
    async with (
        ae.start_server(LOCAL, evt_handlers=[(evt.EVT_C_GET, get)]) as server,
        client.associate(
            "127.0.0.1",
            server.server_address[1],
            ext_neg=[build_role(CT, scp_role=True)],
            evt_handlers=[(evt.EVT_C_STORE, store)],
        ) as assoc,
    ):
        *_, (status, _) = [each async for each in assoc.send_c_get(QUERY, GET)]
    assert status.NumberOfCompletedSuboperations == 3
    assert stored == ["1.2.0", "1.2.1", "1.2.2"]


@on_a_loop
async def test_notifications_are_told_in_their_order() -> None:
    """Also where their handlers wait, and the last before the association counts as over."""
    told: list[str] = []

    async def note(event: evt.Event) -> None:
        await asyncio.sleep(0.003 if len(told) % 2 else 0)
        told.append(event.event.name)

    plain: list[str] = []
    events = [evt.EVT_REQUESTED, evt.EVT_ACCEPTED, evt.EVT_ESTABLISHED, evt.EVT_DIMSE_SENT]
    events += [evt.EVT_DIMSE_RECV, evt.EVT_RELEASED, evt.EVT_CONN_CLOSE]
    handlers = [(event, note) for event in events]
    handlers += [(event, lambda event: plain.append(event.event.name)) for event in events]
    async with pair([]) as (_, server):
        client = aio.AE()
        client.add_requested_context(VERIFICATION)
        port = server.server_address[1]
        async with client.associate("127.0.0.1", port, evt_handlers=handlers) as assoc:
            await assoc.send_c_echo()
    assert told == plain
    assert told[-1] == "EVT_CONN_CLOSE"


@on_a_loop
async def test_an_established_association_is_used_by_the_handler_that_is_told() -> None:
    statuses = []

    async def use(event: evt.Event) -> None:
        statuses.append((await event.assoc.send_c_echo()).Status)

    async with pair([]) as (_, server):
        client = aio.AE()
        client.add_requested_context(VERIFICATION)
        handlers = [(evt.EVT_ESTABLISHED, use)]
        port = server.server_address[1]
        async with client.associate("127.0.0.1", port, evt_handlers=handlers):
            await until(lambda: statuses)
    assert statuses == [0]


@on_a_loop
async def test_plain_handlers_do_not_hold_the_loop_up() -> None:
    go_on = threading.Event()
    async with pair([(evt.EVT_C_ECHO, lambda event: 0 * go_on.wait(WAIT))]) as (assoc, _):
        waiting = asyncio.ensure_future(assoc.send_c_echo())
        for _ in range(20):
            await asyncio.sleep(0.001)
        assert not waiting.done()
        go_on.set()
        assert (await waiting).Status == 0


# --- One association, many tasks and threads ----------------------------------------------------


@on_a_loop
async def test_tasks_share_an_association() -> None:
    async with pair([(evt.EVT_C_STORE, lambda event: 0)]) as (assoc, _):
        outstanding = Outstanding(assoc)

        async def work(number: int) -> list[int]:
            return [
                (await assoc.send_c_echo(msg_id=number * 100 + 1)).Status,
                (
                    await assoc.send_c_store(
                        make_ct(300_000, f"1.2.{number}"), msg_id=number * 100 + 2
                    )
                ).Status,
            ]

        assert await asyncio.gather(*(work(number) for number in range(20))) == [[0, 0]] * 20
        assert outstanding.most == 1  # no more were agreed on
        # A release waits for what others are doing.
        storing = asyncio.ensure_future(assoc.send_c_store(make_ct(8 << 20)))
        await asyncio.sleep(0)
        await assoc.release()
        assert (await storing).Status == 0
        assert assoc.is_released


@on_a_loop
async def test_an_abort_by_another_thread() -> None:
    async def slow(event: evt.Event) -> int:
        await until(lambda: event.assoc.peer_gone)
        return 0

    async with pair([(evt.EVT_C_ECHO, slow)]) as (assoc, _):
        waiting = asyncio.ensure_future(assoc.send_c_echo())
        await asyncio.sleep(0.01)
        await asyncio.to_thread(assoc.abort)
        with pytest.raises(AssociationFailure, match="aborted by the program"):
            await waiting
        await assoc.join()
        assert assoc.is_aborted


# --- Back-pressure ------------------------------------------------------------------------------


@on_a_loop
async def test_a_slow_handler_holds_a_flood_back() -> None:
    """A peer that sends on without waiting is not read while more is there than can be served."""
    go_on = asyncio.Event()
    served = []

    async def store(event: evt.Event) -> int:
        await go_on.wait()
        served.append(event.request.MessageID)
        return 0

    async with pair([(evt.EVT_C_STORE, store)], operations_window=200, write_timeout=None) as (
        _,
        server,
    ):
        client = aio.AE()
        client.add_requested_context(CT)
        tracemalloc.start()
        port = server.server_address[1]
        async with client.associate("127.0.0.1", port, window=200) as assoc:
            ct = make_ct(1 << 20)

            async def send() -> int:
                return sum([each.is_stored async for each in assoc.send_c_stores([ct] * 100)])

            sending = asyncio.ensure_future(send())
            acceptor = next(each for each in server.active_associations if each is not None)
            await until(lambda: any(each._port._requests for each in server.active_associations))
            for _ in range(50):
                await asyncio.sleep(0.002)
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            assert peak < 24 << 20
            go_on.set()
            assert await sending == 100
        del acceptor
    assert len(served) == 100


@on_a_loop
async def test_a_slow_reader_holds_the_sender_back() -> None:
    """Matches are asked of a handler as they leave, not all at once."""
    asked = 0

    async def find(event: evt.Event) -> AsyncIterator[tuple[int, Dataset]]:
        nonlocal asked
        answer = Dataset()
        answer.add_new(0x00420011, "OB", bytes(50_000))
        for _ in range(2000):
            asked += 1
            yield 0xFF00, answer

    async with pair([(evt.EVT_C_FIND, find)], (FIND,)) as (assoc, _):
        responses = assoc.send_c_find(QUERY, FIND)
        await anext(responses)
        before = -1
        while before != asked:
            before = asked
            await asyncio.sleep(0.05)
        assert asked < 1000
        assert len([each async for each in responses]) == 2000


# --- Sinks --------------------------------------------------------------------------------------


class SlowSink:
    """Takes its time, and may fail."""

    def __init__(self, fails: str = "") -> None:
        self.data = bytearray()
        self.calls: list[str] = []
        self.fails = fails

    async def write(self, chunks: list[memoryview]) -> None:
        self.calls.append("write")
        await asyncio.sleep(0.001)
        for chunk in chunks:
            self.data += chunk
        if self.fails == "write":
            raise OSError(28, "No space left on device")

    async def finish(self) -> MemoryPayload:
        self.calls.append("finish")
        await asyncio.sleep(0)
        if self.fails == "finish":
            raise ValueError("of the program's own")
        return MemoryPayload(self.data)

    async def discard(self) -> None:
        self.calls.append("discard")
        await asyncio.sleep(0)


@pytest.mark.parametrize("fails", ["", "write", "finish"])
@on_a_loop
async def test_a_sink_that_is_awaited(fails: str) -> None:
    sinks: list[SlowSink] = []

    def receive_to(request: Any) -> SlowSink:
        sinks.append(SlowSink(fails))
        return sinks[-1]

    ae, client = aio.AE("SCP"), aio.AE()
    ae.add_supported_context(CT)
    client.add_requested_context(CT)
    async with ae.start_server(LOCAL, receive_to=receive_to) as server:
        port = server.server_address[1]
        async with client.associate("127.0.0.1", port) as assoc:
            status = await assoc.send_c_store(make_ct(3 << 20))
            assert status.Status == {"": 0, "write": 0xA700, "finish": 0xC211}[fails]
            assert (await assoc.send_c_store(make_ct(100))).Status == status.Status
        await at_rest(server)
    assert [sink.calls[-1] for sink in sinks] == (["discard"] if fails else ["finish"]) * 2
    if not fails:
        assert len(sinks[0].data) > 3 << 20
        assert sinks[0].calls.count("write") > 3


@on_a_loop
async def test_a_sink_whose_peer_is_gone() -> None:
    sinks: list[SlowSink] = []

    def receive_to(request: Any) -> SlowSink:
        sinks.append(SlowSink())
        return sinks[-1]

    ae, client = aio.AE("SCP"), aio.AE()
    ae.add_supported_context(CT)
    client.add_requested_context(CT)
    async with ae.start_server(LOCAL, receive_to=receive_to) as server:
        assoc = await client.associate("127.0.0.1", server.server_address[1])
        sending = asyncio.ensure_future(assoc.send_c_store(make_ct(32 << 20)))
        await until(lambda: sinks and sinks[0].calls)
        sending.cancel()
        await asyncio.wait([sending])
        await at_rest(server)
    assert sinks[0].calls[-1] == "discard"


# --- The end of a server ------------------------------------------------------------------------


@on_a_loop
async def test_a_server_drains() -> None:
    """What is going on may end, what is idle ends, and nobody else is let in."""
    began, go_on = asyncio.Event(), asyncio.Event()

    async def slow(event: evt.Event) -> int:
        began.set()
        await go_on.wait()
        return 0

    async with pair([(evt.EVT_C_ECHO, slow)]) as (assoc, server):
        port = server.server_address[1]
        client = aio.AE()
        client.add_requested_context(VERIFICATION)
        idle = await client.associate("127.0.0.1", port)
        echoing = asyncio.ensure_future(assoc.send_c_echo())
        await began.wait()
        closing = asyncio.ensure_future(server.close(WAIT))
        await idle.join()
        assert idle.is_aborted
        with pytest.raises(AssociationFailure):
            await client.associate("127.0.0.1", port)
        assert not closing.done()
        go_on.set()
        assert (await echoing).Status == 0
        await closing
        await server.close()
        assert not server.active_associations


@on_a_loop
async def test_serving_forever_until_it_is_cancelled() -> None:
    ae = aio.AE("SCP")
    ae.add_supported_context(VERIFICATION)
    server = await ae.start_server(LOCAL)
    serving = asyncio.ensure_future(server.serve_forever())
    client = aio.AE()
    client.add_requested_context(VERIFICATION)
    async with client.associate("127.0.0.1", server.server_address[1]) as assoc:
        await assoc.send_c_echo()
    serving.cancel()
    await asyncio.wait([serving])
    assert serving.cancelled()
    assert server.socket.fileno() == -1


# --- Many ---------------------------------------------------------------------------------------


@on_a_loop
async def test_a_hundred_associations_at_once() -> None:
    ae = aio.AE("SCP", Settings(maximum_associations=200, network_timeout=None))
    ae.add_supported_context(VERIFICATION)
    client = aio.AE(settings=Settings(acse_timeout=60, dimse_timeout=60, network_timeout=None))
    client.add_requested_context(VERIFICATION)
    async with ae.start_server(LOCAL) as server:
        port = server.server_address[1]
        held = asyncio.Semaphore(30)  # as many connect at a time

        async def open_one() -> aio.Association:
            async with held:
                return await client.associate("127.0.0.1", port)

        associations = await asyncio.gather(*(open_one() for _ in range(100)))
        assert len(server.active_associations) == 100
        statuses = await asyncio.gather(*(each.send_c_echo() for each in associations))
        assert {each.Status for each in statuses} == {0}
        await asyncio.gather(*(each.release() for each in associations))
        await at_rest(server)


@on_a_loop
async def test_soak(caplog: pytest.LogCaptureFixture) -> None:
    """Tasks, files and memory return to where they began."""
    caplog.set_level(logging.ERROR, "dicomwire")  # what it keeps is not the library's
    async with pair([(evt.EVT_C_STORE, lambda event: 0)]) as (_, server):
        client = aio.AE()
        client.add_requested_context(VERIFICATION)
        client.add_requested_context(CT)
        port = server.server_address[1]

        image = make_ct(20_000)

        async def use(number: int) -> None:
            assoc = await client.associate("127.0.0.1", port)
            await assoc.send_c_echo()
            await assoc.send_c_store(image)
            if number % 2:
                await assoc.release()
            else:
                assoc.abort()
                await assoc.join()

        async def rest() -> None:
            await until(lambda: server._connections == 1)
            gc.collect()

        for number in range(10):
            await use(number)
        await rest()
        files, tasks = open_files(), len(asyncio.all_tasks())
        tracemalloc.start()
        try:
            for number in range(10):
                await use(number)
            await rest()
            before = tracemalloc.get_traced_memory()[0]
            for number in range(30):
                await use(number)
            await rest()
            # One association that stays in memory takes far more than 3 KB.
            assert tracemalloc.get_traced_memory()[0] - before < 100_000
        finally:
            tracemalloc.stop()
        assert open_files() <= files
        assert len(asyncio.all_tasks()) <= tasks


@on_a_loop
async def test_idle_associations_wake_nobody() -> None:
    async with pair([]) as (assoc, _):
        await assoc.send_c_echo()
        loop: Any = asyncio.get_running_loop()
        turns = 0
        select = loop._selector.select

        def count(timeout: float | None) -> Any:
            nonlocal turns
            turns += 1
            return select(timeout)

        loop._selector.select = count
        began = time.monotonic()
        await asyncio.sleep(0.3)
        assert time.monotonic() - began >= 0.3
        assert turns <= 3


@on_a_loop
async def test_an_object_that_is_ready_does_not_wait_for_the_next() -> None:
    arrived = asyncio.Semaphore(0)

    async def arrive(event: evt.Event) -> int:
        arrived.release()
        return 0x0000

    async def one_after_the_other() -> AsyncIterator[Dataset]:
        for number in range(3):
            yield make_ct(instance=f"1.2.{number}")
            await asyncio.wait_for(arrived.acquire(), WAIT)

    scp = aio.AE(settings=Settings(operations_window=8))
    scp.add_supported_context(CT, EXPLICIT)
    scu = aio.AE()
    scu.add_requested_context(CT, EXPLICIT)
    async with scp.start_server(LOCAL, evt_handlers=[(evt.EVT_C_STORE, arrive)]) as server:
        port = server.server_address[1]
        async with scu.associate("127.0.0.1", port, window=8) as assoc:
            assert assoc.operations_window == 8
            sent = [each.is_stored async for each in assoc.send_c_stores(one_after_the_other())]
    assert sent == [True] * 3


@on_a_loop
async def test_tasks_that_send_the_same_message_id_take_turns() -> None:
    async with pair([]) as (association, _), asyncio.timeout(WAIT):
        for _ in range(20):  # it is by chance which of the two is woken first
            statuses = await asyncio.gather(association.send_c_echo(), association.send_c_echo())
            assert [each.Status for each in statuses] == [0x0000] * 2


@on_a_loop
async def test_a_task_sends_just_when_another_gets_a_response(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tasks: list[asyncio.Future[Dataset]] = []
    add = AioOperation.add

    def add_and_send(operation: AioOperation, incoming: Any) -> bool:
        if not tasks:  # this one runs before the task that has waited for the response
            tasks.append(asyncio.ensure_future(association.send_c_echo(2)))
        return add(operation, incoming)

    monkeypatch.setattr(AioOperation, "add", add_and_send)
    answers = [(evt.EVT_C_ECHO, lambda event: event.request.MessageID)]  # no usual status
    async with pair(answers) as (association, _), asyncio.timeout(WAIT):
        assert (await association.send_c_echo(1)).Status == 1
        assert (await tasks[0]).Status == 2
