"""What is no idleness on an event loop, what a peer may not do, and handlers that never return."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager

import pytest
from on_a_loop import LOCAL, on_a_loop, pair, until
from pydicom.dataset import Dataset
from scenario import make_ct

from dicomwire import (
    AssociationAborted,
    AssociationFailure,
    AssociationTimeout,
    ConnectionLost,
    Settings,
    Stream,
    aio,
    evt,
)
from dicomwire.protocol.command import Command, Message
from dicomwire.protocol.pdu import Abort, ReleaseRQ
from dicomwire.sop_class import PatientRootQueryRetrieveInformationModelFind as FIND
from raw_peer import CT, EXPLICIT, VERIFICATION, WAIT, RawPeer, RawServer, message_pdu

QUERY = Dataset()
QUERY.QueryRetrieveLevel = "PATIENT"
QUERY.PatientID = ""


@asynccontextmanager
async def raw_pair(**settings: object) -> AsyncIterator[tuple[aio.Association, RawPeer]]:
    """Give an association with a raw peer, and the peer."""
    ae = aio.AE(settings=Settings(**settings))
    ae.add_requested_context(CT, EXPLICIT)
    ae.add_requested_context(VERIFICATION)
    ae.add_requested_context(FIND)
    with RawServer() as listener:

        async def associate() -> aio.Association:
            return await ae.associate("127.0.0.1", listener.port)

        task = asyncio.create_task(associate())
        with await asyncio.to_thread(listener.take) as peer:
            await asyncio.to_thread(peer.accept)
            assoc = await task
            yield assoc, peer
            assoc.abort()
            await assoc.join()


def answer(request: Message, status: int = 0, message_id: int | None = None) -> Message:
    return Message(
        Command(request.command | 0x8000),
        MessageIDBeingRespondedTo=message_id or request.MessageID,
        AffectedSOPClassUID=request.AffectedSOPClassUID,
        Status=status,
    )


# --- Deadlines ---


@on_a_loop
async def test_a_dataset_that_is_long_in_coming_is_not_idle() -> None:
    async def chunks() -> AsyncIterator[bytes]:
        assoc.network_timeout = 0.2
        for _ in range(5):
            await asyncio.sleep(0.1)
            yield bytes.fromhex("10002000 4c4f0400 41424344")

    async with raw_pair() as (assoc, peer):
        stream = Stream(CT, "1.2.3", EXPLICIT, chunks())
        sending = asyncio.create_task(assoc.send_c_store(stream))
        request, _ = await asyncio.to_thread(peer.receive_message)
        peer.send_message(answer(request))
        assert (await sending).Status == 0


@on_a_loop
async def test_a_response_that_may_take_any_time_is_not_idleness() -> None:
    async with raw_pair(dimse_timeout=None) as (assoc, peer):
        sending = asyncio.create_task(assoc.send_c_echo())
        request, _ = await asyncio.to_thread(peer.receive_message)
        assoc.network_timeout = 0.1
        await asyncio.sleep(0.4)
        peer.send_message(answer(request))
        assert (await sending).Status == 0
        await assoc.join()  # then it is
        assert isinstance(assoc.failure, AssociationTimeout)


@on_a_loop
async def test_one_who_does_not_read_is_not_idle() -> None:
    """The peer has sent more than is taken, so that nothing is read any more."""
    async with raw_pair() as (assoc, peer):
        responses = assoc.send_c_find(QUERY, FIND)
        taking = asyncio.create_task(anext(responses))
        request, _ = await asyncio.to_thread(peer.receive_message)
        pending = message_pdu(5, answer(request, 0xFF00))
        peer.send(pending * 100)
        await taking
        assoc.network_timeout = 0.1
        await asyncio.sleep(0.4)
        peer.send(message_pdu(5, answer(request)))
        assert len([each async for each in responses]) == 100


@on_a_loop
async def test_a_release_that_is_not_answered(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        async with raw_pair() as (assoc, peer):
            assoc.network_timeout_response = "A-RELEASE"
            assoc.acse_timeout = 0.3
            assoc.network_timeout = 0.05
            assert await asyncio.to_thread(peer.receive) == ReleaseRQ()
            assert await asyncio.to_thread(peer.receive) == Abort(0, 0)
            await assoc.join()
            assert assoc.failure.stage == "release"
    assert len([text for text in caplog.messages if "nothing for" in text]) == 1


# --- Peers ---


@on_a_loop
async def test_a_pending_response_to_what_has_one() -> None:
    async with raw_pair() as (assoc, peer):
        sending = assoc.send_c_stores([make_ct(), make_ct()])
        first = asyncio.create_task(anext(sending))
        request, _ = await asyncio.to_thread(peer.receive_message)
        peer.send(message_pdu(1, answer(request, 0xFF00)) * 2)
        assert (await first).code == 0xFF00
        await assoc.join()
        assert isinstance(assoc.failure, AssociationAborted)
        assert "unexpected C-STORE-RSP" in str(assoc.failure)


@on_a_loop
async def test_responses_that_nobody_takes_while_another_is_awaited() -> None:
    async with raw_pair() as (assoc, peer):
        responses = assoc.send_c_find(QUERY, FIND, msg_id=7)
        taking = asyncio.create_task(anext(responses))
        request, _ = await asyncio.to_thread(peer.receive_message)
        pending = message_pdu(5, answer(request, 0xFF00))
        peer.send(pending)
        await taking
        echo = asyncio.create_task(assoc.send_c_echo())
        await asyncio.to_thread(peer.receive_message)
        peer.send(pending * 1100)
        with pytest.raises(AssociationAborted, match="too many responses"):
            await echo


@on_a_loop
async def test_a_peer_that_goes_while_its_release_has_to_wait() -> None:
    """It is a message that is being sent, for which the release waits."""
    async with raw_pair() as (assoc, peer):
        sending = asyncio.create_task(assoc.send_c_store(make_ct(32 << 20)))
        await asyncio.to_thread(peer.receive)
        peer.send(ReleaseRQ())
        await until(lambda: assoc._port._is_release_postponed)
        peer.reset()
        with pytest.raises(ConnectionLost):
            await sending
        assert assoc.is_aborted


# --- Handlers and their end ---


@pytest.mark.parametrize("event", [evt.EVT_ESTABLISHED, evt.EVT_ABORTED])
@on_a_loop
async def test_handlers_of_notifications_that_never_return(event: evt.NotificationEvent) -> None:
    async def hang(event: evt.Event) -> None:
        await asyncio.Event().wait()

    handlers = [(event, hang), (evt.EVT_CONN_CLOSE, hang)]
    async with pair(handlers) as (_, server), asyncio.timeout(WAIT):
        await server.close(0.05)


@on_a_loop
async def test_a_thread_is_not_waited_for_when_the_server_is_closed() -> None:
    asked, go_on = threading.Event(), threading.Event()

    def find(event: evt.Event) -> Iterator[tuple[int, Dataset]]:
        asked.set()
        go_on.wait(WAIT)
        yield 0xFF00, QUERY

    async with pair([(evt.EVT_C_FIND, find)], (FIND,)) as (assoc, server):
        taking = asyncio.create_task(anext(assoc.send_c_find(QUERY, FIND)))
        await asyncio.to_thread(asked.wait, WAIT)
        assoc.abort()
        await until(lambda: not server.active_associations)
        async with asyncio.timeout(WAIT / 2):
            await server.close(0.05)
        go_on.set()
        await asyncio.wait([taking])
        assert isinstance(taking.exception(), AssociationFailure)


class EndlessSink:
    """Does not come to an end of what it was given, until it is to let go of that."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    async def write(self, chunks: list[memoryview]) -> None:
        self.calls.append("write")

    async def finish(self) -> None:
        self.calls.append("finish")
        await asyncio.Event().wait()

    async def discard(self) -> None:
        self.calls.append("discard")


@on_a_loop
async def test_a_sink_lets_go_when_the_server_cannot_wait_for_it() -> None:
    sink = EndlessSink()
    ae, client = aio.AE("SCP"), aio.AE()
    ae.add_supported_context(CT)
    client.add_requested_context(CT)
    server = await ae.start_server(LOCAL, receive_to=lambda request: sink)
    assoc = await client.associate("127.0.0.1", server.server_address[1])
    storing = asyncio.create_task(assoc.send_c_store(make_ct()))
    await until(lambda: "finish" in sink.calls)
    await server.close(0)
    await asyncio.wait([storing])
    assert isinstance(storing.exception(), AssociationFailure)
    await until(lambda: sink.calls == ["write", "finish", "discard"])


@on_a_loop
async def test_a_release_that_is_cancelled_ends_the_association() -> None:
    async with raw_pair() as (assoc, peer):
        ending = asyncio.create_task(assoc.end())
        assert await asyncio.to_thread(peer.receive) == ReleaseRQ()
        ending.cancel()
        await asyncio.wait([ending])
        assert assoc.is_aborted


@on_a_loop
async def test_a_deadline_while_many_are_sent() -> None:
    """The peer does not read: it is the deadline that is raised, and not what comes of it."""
    async with raw_pair() as (assoc, _):
        sending = assoc.send_c_stores([make_ct(32 << 20)])
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await anext(sending)
        assert assoc.is_aborted


@on_a_loop
async def test_a_ledger_is_closed_where_nothing_is_sent(tmp_path) -> None:
    def opened() -> Iterable[str]:
        links = [f"/proc/self/fd/{number}" for number in os.listdir("/proc/self/fd")]
        return [os.readlink(link) for link in links if os.path.islink(link)]

    ledger = tmp_path / "ledger"
    aio.send_many(aio.AE(), ("127.0.0.1", 104), [], ledger=ledger)
    with pytest.raises(TypeError):
        aio.send_many(aio.AE(), ("127.0.0.1", 104), 5, ledger=ledger)
    assert str(ledger) not in opened()
