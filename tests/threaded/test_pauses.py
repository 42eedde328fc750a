"""While a program sends one request after the other, the watcher does not watch the socket."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from fake_peer import Acceptor, pdus_of
from simulation import FakeSocket, World

from dicomwire import AE, Association, Settings, build_context, evt
from dicomwire.protocol.command import Command, Message, decode_command
from dicomwire.protocol.pdu import Abort, PDataTF, ReleaseRP, ReleaseRQ
from dicomwire.threaded.link import LINGER
from raw_peer import VERIFICATION, message_pdu

MANY = 10
"""Requests after which watching has paused."""


class Busy:
    """An association on which a program has just sent many requests."""

    def __init__(self, world: World, **options: Any) -> None:
        self.world = world
        self.socket = FakeSocket(world)
        self.peer = Acceptor(self.socket)
        world.next_socket = lambda: self.socket
        ae = AE("SCU", Settings(network_timeout=10))
        ae.add_supported_context(VERIFICATION)
        context = build_context(VERIFICATION)
        self.association: Association = ae.associate("peer", 104, [context], **options)
        self.send(MANY)

    def send(self, count: int) -> None:
        for _ in range(count):
            assert self.association.send_c_echo().Status == 0x0000
            self.world.run()

    def rest(self) -> None:
        """Let the time pass after which the socket is watched again."""
        for _ in range(2):
            self.world.pass_time(LINGER / 2)

    @property
    def is_watched(self) -> bool:
        return self.association._port in self.world.selector.owners


@pytest.fixture
def busy(world: World) -> Iterator[Busy]:
    busy = Busy(world)
    assert not busy.is_watched
    yield busy
    busy.association.abort()
    world.pass_time(100)
    assert world.selector.owners == []
    assert not world.watcher._paused


def test_a_socket_is_watched_again_soon_after_the_last_call(world: World, busy: Busy) -> None:
    busy.rest()
    assert busy.is_watched
    assert busy.association._port._buffer is None


def test_a_pause_lasts_as_long_as_calls_follow_one_another(world: World, busy: Busy) -> None:
    for _ in range(10):
        world.pass_time(LINGER / 3)
        busy.send(1)
        assert not busy.is_watched


def test_calls_at_longer_intervals_cause_no_pause(world: World) -> None:
    busy = Busy(world)
    busy.rest()
    for _ in range(MANY):
        world.pass_time(LINGER)
        busy.send(1)
        assert busy.is_watched
    busy.association.release()


def test_what_the_peer_does_is_noticed_soon(world: World, busy: Busy) -> None:
    busy.socket.arrive(Abort(0, 0).encode())
    busy.rest()
    assert busy.association.is_aborted


def test_a_release_by_the_peer_is_answered_soon(world: World, busy: Busy) -> None:
    del busy.socket.outgoing[:]
    busy.socket.arrive(ReleaseRQ().encode())
    busy.rest()
    assert busy.association.is_released
    assert [type(pdu) for pdu in pdus_of(busy.socket.outgoing)[0]] == [ReleaseRP]


def test_a_request_of_the_peer_is_served_soon(world: World, busy: Busy) -> None:
    request = Message(Command.C_ECHO_RQ, MessageID=7, AffectedSOPClassUID=VERIFICATION)
    del busy.socket.outgoing[:]
    busy.socket.arrive(message_pdu(1, request))
    busy.rest()
    sent = [pdu for pdu in pdus_of(busy.socket.outgoing)[0] if isinstance(pdu, PDataTF)]
    assert [decode_command(each.values[0][2]).MessageIDBeingRespondedTo for each in sent] == [7]


def test_the_network_timeout_runs_from_the_last_call(world: World, busy: Busy) -> None:
    busy.rest()
    world.pass_time(9.9)
    assert busy.association.is_established
    world.pass_time(0.1 + LINGER)
    assert busy.association.is_aborted


def test_no_thread_waits_for_the_end_of_a_pause(world: World, busy: Busy) -> None:
    with busy.association._port:  # another thread has the turn when the pause ends
        world.elsewhere(lambda: world.pass_time(LINGER))
    assert not busy.is_watched
    busy.rest()
    assert busy.is_watched


def test_a_pause_with_a_handler_of_messages(world: World) -> None:
    log: list[evt.Event] = []
    busy = Busy(world, evt_handlers=[(evt.EVT_DIMSE_RECV, log.append)])
    assert not busy.is_watched
    assert len(log) == MANY
    busy.rest()
    assert busy.is_watched
    busy.association.release()


def test_a_release_ends_a_pause(world: World) -> None:
    busy = Busy(world)
    busy.association.release()
    assert not world.watcher._paused
    world.pass_time(100)
    assert busy.socket.closed == 1


def test_entries_of_ended_pauses_do_not_fill_the_heap(world: World, busy: Busy) -> None:
    most = world.watcher._most_entries
    for _ in range(2 * most // MANY):
        for _ in range(MANY):
            world.watcher.pause(busy.association._port, world.now + LINGER)
            world.watcher.add(busy.association._port, world.now + 1000)
            world.watcher.remove(busy.association._port)
            world.now += 0.001
    assert len(world.watcher._heap) <= most
