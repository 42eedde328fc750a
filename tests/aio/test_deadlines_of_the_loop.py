"""Deadlines of the asyncio face, by a clock that moves only when nothing else can."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from clock_loop import ClockLoop, FakeTransport, on_a_clock, the_loop
from fake_peer import Acceptor, answer_to, pdus_of
from pydicom.dataset import Dataset

from dicomwire import AssociationFailure, AssociationTimeout, Settings, aio, build_context, evt
from dicomwire.protocol.command import Command, Message, encode_command
from dicomwire.protocol.pdu import Abort, PDataTF, ReleaseRP, ReleaseRQ
from dicomwire.sop_class import PatientRootQueryRetrieveInformationModelFind as FIND
from raw_peer import CT, IMPLICIT, VERIFICATION, context, message_pdu, request_pdu

ECHO = Message(Command.C_ECHO_RQ, MessageID=1, AffectedSOPClassUID=VERIFICATION)


class Peer(Acceptor):
    """The peer that an association is requested of, and our end of the connection."""

    def __init__(self) -> None:
        self.loop = the_loop()
        self.transport = FakeTransport(self.loop)
        self.loop.next_transport = lambda: self.transport
        super().__init__(self.transport)

    async def associated(self, **settings: Any) -> aio.Association:
        contexts = [build_context(VERIFICATION), build_context(CT), build_context(FIND)]
        ae = aio.AE("SCU", Settings(**settings))
        return await ae.associate("192.0.2.1", 104, contexts)


class Client:
    """A peer of our server, which says what the test wants."""

    association: aio.Association

    def __init__(self, server: aio.AssociationServer) -> None:
        self.loop = the_loop()
        self.transport = FakeTransport(self.loop)
        server.add_connection(self.transport, ("192.0.2.3", 40_000))

    async def say(self, data: bytes) -> None:
        self.transport.arrive(data)
        await settled()

    async def associate(self) -> aio.Association:
        await settled()
        await self.say(request_pdu(context(1, VERIFICATION), context(3, CT, IMPLICIT)).encode())
        return self.association

    @property
    def heard(self) -> list[Any]:
        return pdus_of(self.transport.outgoing)[0]


async def settled() -> None:
    """Let everything be done that can be done without the clock."""
    for _ in range(30):
        await asyncio.sleep(0)


@asynccontextmanager
async def client_of(*handlers: Any, **settings: Any) -> AsyncIterator[Client]:
    """Give a peer that is connected to a server of ours."""
    ae = aio.AE("SCP", Settings(**settings))
    for uid in (VERIFICATION, CT):
        ae.add_supported_context(uid)

    def requested(event: evt.Event) -> None:
        client.association = event.assoc

    bound = [(evt.EVT_REQUESTED, requested), *handlers]
    async with ae.start_server(("127.0.0.1", 0), evt_handlers=bound) as server:
        client = Client(server)
        yield client
        client.transport.end()
        await settled()


def stage_of(association: aio.Association) -> str:
    assert isinstance(association.failure, AssociationTimeout)
    return str(association.failure.stage)


async def after(seconds: float) -> None:
    """Wait until that much time has passed."""
    await asyncio.sleep(seconds)
    await settled()


# --- The network timeout ---


@on_a_clock
async def test_a_message_begins_the_network_timeout_anew() -> None:
    async with client_of(network_timeout=60) as client:
        association = await client.associate()
        for _ in range(10):
            await after(50)
            await client.say(message_pdu(1, ECHO))
        await after(59)
        assert association.is_established
        await after(1)
        assert stage_of(association) == "idle"
        assert client.heard[-1] == Abort(0, 0)


@on_a_clock
async def test_a_part_of_a_message_does_not_put_the_network_timeout_off() -> None:
    async with client_of(network_timeout=60) as client:
        association = await client.associate()
        for byte in message_pdu(1, ECHO)[:65]:
            await after(1)
            if association.is_established:
                await client.say(bytes([byte]))
        assert stage_of(association) == "idle"


@on_a_clock
async def test_a_handler_that_takes_long_is_not_idle() -> None:
    async def handle(event: evt.Event) -> int:
        await asyncio.sleep(600)
        return 0

    async with client_of((evt.EVT_C_ECHO, handle), network_timeout=60) as client:
        association = await client.associate()
        await client.say(message_pdu(1, ECHO))
        await after(659)
        assert association.is_established
        assert len(client.heard) == 2
        await after(1)
        assert stage_of(association) == "idle"


@on_a_clock
async def test_a_longer_network_timeout_counts_for_those_who_wait() -> None:
    association = await Peer().associated(network_timeout=60)
    await after(50)
    association.network_timeout = 600
    await after(599)
    assert association.is_established
    association.network_timeout = 1
    await after(1)
    assert stage_of(association) == "idle"


@on_a_clock
async def test_a_network_timeout_may_release() -> None:
    def prefer_release(event: evt.Event) -> None:
        event.assoc.network_timeout_response = "A-RELEASE"

    async with client_of((evt.EVT_REQUESTED, prefer_release), network_timeout=60) as client:
        association = await client.associate()
        await after(60)
        assert client.heard[-1] == ReleaseRQ()
        await client.say(ReleaseRP().encode())
        assert association.is_released


@pytest.mark.parametrize("way", ["find", "stores"])
@on_a_clock
async def test_a_program_that_works_on_results_is_not_idle(way: str) -> None:
    peer = Peer()
    association = await peer.associated(network_timeout=60)
    if way == "find":
        peer.is_silent = True
        results: Any = association.send_c_find(Dataset(), FIND)
        await results.begin()
        match = message_pdu(5, pending(), b"\x10\0\x20\0\2\0\0\0" + b"1 ")
        last = Message(
            Command.C_FIND_RSP, MessageIDBeingRespondedTo=1, AffectedSOPClassUID=FIND, Status=0
        )
        peer.transport.arrive(match * 3 + message_pdu(5, last))
    else:
        results = association.send_c_stores([image(f"1.2.{each}") for each in range(4)])
    for _ in range(3):
        await anext(results)
        await after(50)
    assert len([each async for each in results]) == 1
    await after(59)
    assert association.is_established
    await after(1)
    assert stage_of(association) == "idle"


def pending() -> Message:
    return Message(
        Command.C_FIND_RSP,
        MessageIDBeingRespondedTo=1,
        AffectedSOPClassUID=FIND,
        Status=0xFF00,
        has_dataset=True,
    )


def image(instance: str) -> Dataset:
    from pydicom.dataset import FileMetaDataset
    from pydicom.uid import UID

    ds = Dataset()
    ds.SOPClassUID, ds.SOPInstanceUID = CT, instance
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = UID(IMPLICIT)
    return ds


@pytest.mark.parametrize(
    "message",
    [Message(Command.C_CANCEL_RQ, MessageIDBeingRespondedTo=7), ECHO],
    ids=["cancel", "no role"],
)
@on_a_clock
async def test_a_message_that_asks_for_nothing_does_not_put_the_network_timeout_off(
    message: Message,
) -> None:
    peer = Peer()
    association = await peer.associated(network_timeout=60)
    for _ in range(7):
        await after(10)
        if association.is_established:
            peer.transport.arrive(message_pdu(1, message))
    assert stage_of(association) == "idle"


# --- The response timeout ---


@on_a_clock
async def test_a_response_that_does_not_come() -> None:
    peer = Peer()
    association = await peer.associated(dimse_timeout=30)
    peer.is_silent = True
    began = peer.loop.now
    with pytest.raises(AssociationTimeout):
        await association.send_c_echo()
    assert peer.loop.now == began + 30
    assert stage_of(association) == "response"


def dripping(loop: ClockLoop, transport: FakeTransport, data: bytes) -> Iterator[Any]:
    for byte in data:

        def drip(byte: int = byte) -> None:
            loop.now += 1
            transport.arrive(bytes([byte]))

        yield drip


@on_a_clock
async def test_a_drip_does_not_put_the_response_timeout_off() -> None:
    peer = Peer()
    association = await peer.associated(dimse_timeout=30)
    peer.is_silent = True
    began = peer.loop.now
    response = message_pdu(1, answer_to(ECHO))[:-1]
    peer.loop.later.extend(dripping(peer.loop, peer.transport, response))
    with pytest.raises(AssociationTimeout):
        await association.send_c_echo()
    assert peer.loop.now == began + 30
    peer.loop.later.clear()


@on_a_clock
async def test_a_part_of_a_match_does_not_put_the_response_timeout_off() -> None:
    peer = Peer()
    association = await peer.associated(dimse_timeout=30)
    peer.is_silent = True

    def begin_match() -> None:
        peer.loop.now += 20
        peer.say(PDataTF([(5, 3, encode_command(pending()))]))
        peer.say(PDataTF([(5, 0, b"1234")]))

    peer.loop.later.append(begin_match)
    began = peer.loop.now
    with pytest.raises(AssociationTimeout):
        [each async for each in association.send_c_find(Dataset(), FIND)]
    assert peer.loop.now == began + 30


@on_a_clock
async def test_the_network_timeout_does_not_count_while_a_response_is_awaited() -> None:
    peer = Peer()
    association = await peer.associated(dimse_timeout=None, network_timeout=60)
    peer.is_silent = True

    def wait_long() -> None:
        peer.loop.now += 600

    def answer_then() -> None:
        peer.say(PDataTF([(1, 3, encode_command(answer_to(ECHO)))]))

    peer.loop.later.extend([wait_long, answer_then])
    assert (await association.send_c_echo()).Status == 0
    association.abort()


# --- The other deadlines ---


@on_a_clock
async def test_an_answer_to_the_request_that_does_not_come() -> None:
    peer = Peer()
    peer.is_silent = True
    began = peer.loop.now
    with pytest.raises(AssociationTimeout) as raised:
        await peer.associated(acse_timeout=30)
    assert raised.value.stage == "associate"
    assert peer.loop.now == began + 30


@on_a_clock
async def test_a_release_that_is_not_answered() -> None:
    peer = Peer()
    association = await peer.associated(acse_timeout=30)
    peer.is_silent = True
    began = peer.loop.now
    with pytest.raises(AssociationFailure):
        await association.release()
    assert peer.loop.now == began + 30
    assert stage_of(association) == "release"


@on_a_clock
async def test_a_request_that_drips_is_ended_at_its_deadline() -> None:
    async with client_of(acse_timeout=30) as client:
        for byte in request_pdu().encode()[:40]:
            await after(1)
            client.transport.arrive(bytes([byte]))
        assert client.transport.closed
        assert client.heard == []


@on_a_clock
async def test_sending_that_makes_no_progress() -> None:
    peer = Peer()
    association = await peer.associated(write_timeout=10)
    peer.transport.room = 0
    began = peer.loop.now
    with pytest.raises(AssociationTimeout):
        await association.send_c_echo()
    assert peer.loop.now == began + 10
    assert stage_of(association) == "write"


@on_a_clock
async def test_sending_that_makes_progress_may_take_any_time() -> None:
    peer = Peer()
    association = await peer.associated(write_timeout=10)
    peer.transport.room = 0

    def take_some() -> None:
        peer.loop.now += 9
        peer.transport.take(10)

    peer.loop.later.extend([take_some] * 80)
    began = peer.loop.now
    assert (await association.send_c_store(image("1.2.3"))).Status == 0
    assert peer.loop.now > began + 2 * association.network_timeout
    peer.loop.later.clear()
    association.abort()


@on_a_clock
async def test_a_peer_that_never_closes() -> None:
    async with client_of(close_timeout=2) as client:
        association = await client.associate()
        await client.say(ReleaseRQ().encode())
        assert association.is_released
        await after(1)
        assert not client.transport.closed
        await after(1)
        assert client.transport.closed
