"""Whatever happens at whichever turn of the loop: an association ends as it has to, once.

Each test lives through a whole association to count the turns of the loop, and then again for each
of them, with the same thing happening in that turn.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from clock_loop import FakeTransport, on_a_clock, the_loop
from fake_peer import Acceptor, pdus_of
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID

from dicomwire import AssociationFailure, Settings, aio, build_context, evt
from dicomwire.protocol.command import Command, Message
from dicomwire.protocol.pdu import Abort, ReleaseRQ
from raw_peer import (
    CT,
    EXPLICIT,
    IMPLICIT,
    VERIFICATION,
    context,
    message_pdu,
    request_pdu,
    store_request,
)

SETTINGS = Settings(network_timeout=60, dimse_timeout=30, acse_timeout=30, close_timeout=2)
NOTICES = [each for each in vars(evt).values() if isinstance(each, evt.NotificationEvent)]
OF_MESSAGES = {
    *(evt.EVT_DIMSE_SENT, evt.EVT_DIMSE_RECV, evt.EVT_PDU_SENT, evt.EVT_PDU_RECV),
    *(evt.EVT_DATA_SENT, evt.EVT_DATA_RECV, evt.EVT_FSM_TRANSITION),
}
LONG = 10_000.0
"""Seconds after which every deadline has passed."""
AT_ONCE = SETTINGS.close_timeout + 1


def image(size: int) -> Dataset:
    ds = Dataset()
    ds.SOPClassUID, ds.SOPInstanceUID = CT, "1.2.3"
    ds.add_new("PixelData", "OW", bytes(size))
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = UID(EXPLICIT)
    return ds


class Life:
    """An association, from before its beginning until after its end."""

    ae: aio.AE

    def __init__(self) -> None:
        self.loop = the_loop()
        self.transport = FakeTransport(self.loop)
        self.log: list[evt.Event] = []
        self.handlers: list[Any] = [(event, self.log.append) for event in NOTICES]
        self.ended: list[aio.Association] = []

    async def live(self) -> None:
        raise NotImplementedError

    async def close(self) -> None:
        """End what is there besides the association."""

    def abort(self) -> None:
        for association in self.ae.active_associations:
            association.abort()

    def take_some(self) -> bool:
        """Have the system take some bytes if sending is blocked, and return whether it was."""
        if not self.transport.get_write_buffer_size():
            return False
        self.transport.take(30_000)
        return True


class Requestor(Life):
    """Requests an association, echoes, stores a small and a large object, and releases."""

    def __init__(self) -> None:
        super().__init__()
        self.ae = aio.AE("SCU", SETTINGS)
        self.peer = Acceptor(self.transport)
        self.transport.room = 30_000
        self.loop.next_transport = lambda: self.transport

    async def live(self) -> None:
        contexts = [build_context(VERIFICATION), build_context(CT, EXPLICIT)]
        try:
            opening = self.ae.associate("192.0.2.1", 104, contexts, evt_handlers=self.handlers)
            association = await opening
        except AssociationFailure:
            return
        self.ended.append(association)
        with suppress(AssociationFailure, RuntimeError):  # it is over, or was before
            assert (await association.send_c_echo()).Status == 0
            assert (await association.send_c_store(image(1000))).Status == 0
            assert (await association.send_c_store(image(100_000))).Status == 0
        with suppress(AssociationFailure):
            await association.release()


class Served(Life):
    """Serves a peer that requests an association, echoes, stores and releases, in pieces."""

    server: aio.AssociationServer

    def __init__(self) -> None:
        super().__init__()
        self.ae = aio.AE("SCP", SETTINGS)
        for uid in (VERIFICATION, CT):
            self.ae.add_supported_context(uid)
        self.handlers.append((evt.EVT_C_STORE, self._store))
        self.handlers.append((evt.EVT_REQUESTED, lambda event: self.ended.append(event.assoc)))

    async def _store(self, event: evt.Event) -> int:
        await asyncio.sleep(0)
        return 0

    async def live(self) -> None:
        echo = Message(Command.C_ECHO_RQ, MessageID=1, AffectedSOPClassUID=VERIFICATION)
        store = store_request(number=2)
        request = request_pdu(context(1, VERIFICATION), context(3, CT, IMPLICIT)).encode()
        stored = message_pdu(3, store, bytes(2000))
        pieces = [request[:50], request[50:], message_pdu(1, echo), stored[:9], stored[9:200]]
        pieces += [stored[200:], message_pdu(1, echo) * 2 + ReleaseRQ().encode()]
        self.server = await self.ae.start_server(("127.0.0.1", 0), evt_handlers=self.handlers)
        self.server.add_connection(self.transport, ("192.0.2.3", 40_000))
        for piece in pieces:
            await turns(8)
            self.transport.arrive(piece)
        await turns(8)
        self.transport.end()
        await turns(8)

    async def close(self) -> None:
        await self.server.close(0)


class RequestorOfUsual(Requestor):
    """Does the same, and nobody looks at its messages."""

    def __init__(self) -> None:
        super().__init__()
        self.handlers = [each for each in self.handlers if each[0] not in OF_MESSAGES]


class ServedAtOnce(Served):
    """Serves the same, and refuses what is to be stored; nobody looks at its messages."""

    def __init__(self) -> None:
        super().__init__()
        left_out = {*OF_MESSAGES, evt.EVT_C_STORE}
        self.handlers = [each for each in self.handlers if each[0] not in left_out]


async def turns(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


# --- What happens to them ---


def aborted(life: Life) -> None:
    life.abort()


def aborted_elsewhere(life: Life) -> None:
    """As by another thread, which asks the loop to do it."""
    for association in life.ae.active_associations:
        port = association._port
        port._abort_wanted = True
        life.loop.call_soon_threadsafe(port._abort_now)


def closed_by_peer(life: Life) -> None:
    life.transport.end()


def reset_by_peer(life: Life) -> None:
    life.transport.reset()


def aborted_by_peer(life: Life) -> None:
    life.transport.arrive(Abort(0, 0).encode())
    life.transport.end()


def time_passes(life: Life) -> None:
    life.loop.now += LONG


def silence(life: Life) -> None:
    """The peer neither answers nor reads any more."""
    if isinstance(life, Requestor):
        life.peer.is_silent = True
        life.transport.room = 0
        life.loop.idle = lambda: False


PROMPT = [aborted, aborted_elsewhere, closed_by_peer, reset_by_peer, aborted_by_peer]
"""What ends an association at once, but for the close timeout."""


@pytest.mark.parametrize("happens", [*PROMPT, time_passes, silence], ids=lambda each: each.__name__)
@pytest.mark.parametrize("kind", [Requestor, RequestorOfUsual, Served, ServedAtOnce])
def test_at_every_turn(kind: type[Life], happens: Callable[[Life], None], caplog: Any) -> None:
    count = [0]
    play(kind, lambda life: None, 0, count)
    for number in range(1, count[0] + 1):
        try:
            play(kind, happens, number, count)
        except AssertionError as error:
            raise AssertionError(f"{happens.__name__} in turn {number}") from error
    assert not [each for each in caplog.messages if "internal error" in each]


def play(kind: type[Life], happens: Callable[[Life], None], number: int, count: list[int]) -> None:
    """Live through an association; something happens in the turn with this number."""

    @on_a_clock
    async def whole() -> None:
        life = kind()
        loop = life.loop
        # Sending is unblocked whenever nothing else can go on.
        loop.idle = life.take_some
        loop.at_step(number, lambda: happens(life))
        began = loop.now
        await life.live()
        if not number:
            count[0] = loop.steps
            assert [each.is_released for each in life.ended] == [True]
        if happens in PROMPT:
            assert loop.now < began + AT_ONCE
        await asyncio.sleep(AT_ONCE if happens in PROMPT else LONG)
        check(life)
        await life.close()

    whole()


def check(life: Life) -> None:
    """The association is over, told of once, and nothing is left of it."""
    if life.transport._protocol is not None:
        assert life.transport.closed == 1
    assert not life.ae.active_associations
    if isinstance(life, Served):
        assert life.server._connections == 0
        assert not life.server._new_connections
    names = [each.event.name.removeprefix("EVT_") for each in life.log]
    assert names.count("CONN_OPEN") == names.count("CONN_CLOSE")
    for association in life.ended:
        outcome = [association.is_released, association.is_aborted, association.is_rejected]
        assert outcome.count(True) == 1, outcome
        assert not association.is_established
        assert (association.failure is None) == association.is_released
        told = [names.count("RELEASED"), names.count("ABORTED"), names.count("REJECTED")]
        assert told == [int(each) for each in outcome]
        assert association._port._timer is None
        assert not association._port._waiters
    sent, _ = pdus_of(life.transport.outgoing)
    assert not any(isinstance(each, Abort) for each in sent[:-1])
